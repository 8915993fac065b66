//! Shape: a data job that reads what the same file drops: old code goes on writing there until contract.
//! Phases: backfill keeps the list of rows and notes what each one held when its turn came; contract, behind the gate, closes
//! the source to writers, refuses to go on over rows that changed or went after their turn, and does those that came late;
//! the list goes with the drop.
//! Locks: ACCESS EXCLUSIVE on the source for a moment; then it is read, and nobody waits.
//! Undo: the source is open again; rows that were done stay done.
//! Limits: what goes must be the table that is counted out, or columns of it; a column that goes must tell old code's rows from
//! new code's, so it may have no default of its own and no `down`. Late rows are done in one transaction.

use std::ops::Range;

use crate::decide::change::constraint::require_of;
use crate::decide::change::data_job::Rows;
use crate::decide::draft::{Draft, Phase, step, table_step};
use crate::decide::plan::{Once, Ranged, Require, Step, TableLock};
use crate::decide::sync::Freeze;
use crate::model::catalog::{Column, Table};
use crate::model::directive::Directive;
use crate::model::problem::Problem;
use crate::model::sql::{Action, DataChange, ObjectKind, Statement, StatementKind, Verb};
use crate::words::ident::{Ident, QualifiedName};
use crate::words::lock_mode::LockMode;

/// What a row held when its turn came, in the list.
const SEEN: &str = "_pontoon_seen";

/// What a data job reads of the table that it counts out, and that goes.
pub(super) struct Leaving {
    /// Columns of which the job must have seen the last value.
    columns: Vec<Ident>,
    /// What new code's rows hold in the columns that go; none where the table goes, to which new code does not write.
    untouched: Option<Vec<(Ident, Option<String>)>>,
}

/// Something that a statement below drops.
struct Gone {
    table: QualifiedName,
    /// None for the whole table.
    column: Option<Ident>,
    span: Range<usize>,
    has_down: bool,
}

/// What the file drops of the things that a data job reads.
///
/// # Errors
/// Something of which nobody could say in contract what old code wrote there meanwhile.
pub(super) fn find(
    draft: &Draft<'_>,
    statement: &Statement,
    change: &DataChange,
    target: &QualifiedName,
    driving: &Table,
) -> Result<Option<Leaving>, Problem> {
    let path = &draft.settings.search_path;
    let reads: Vec<QualifiedName> =
        statement.objects.iter().filter_map(|name| draft.catalog.resolve(name, path)).collect();
    let all = statement.text.contains('*');
    let names = |column: &Ident| all || statement.words.contains(column.as_str());
    let sets = |column: &Ident| match &statement.kind {
        StatementKind::Update { sets, .. } => sets.iter().any(|set| &set.column == column),
        _ => false,
    };
    let gone: Vec<Gone> = gone_below(draft)
        .into_iter()
        // What goes with its own rows needs nothing.
        .filter(|gone| reads.contains(&gone.table) && (gone.column.is_some() || &gone.table != target))
        .filter(|gone| gone.column.as_ref().is_none_or(&names))
        .filter(|gone| !(&gone.table == target && gone.column.as_ref().is_some_and(sets)))
        .collect();
    if let Some(other) = gone.iter().find(|gone| gone.table != driving.name) {
        return Err(refuse_other(statement, change, other));
    }
    if gone.is_empty() {
        return Ok(None);
    }
    if gone.iter().any(|gone| gone.column.is_none()) {
        let columns = driving.columns.iter().map(|column| column.name.clone()).filter(names).collect();
        return Ok(Some(Leaving { columns, untouched: None }));
    }
    let mut untouched = Vec::new();
    for gone in &gone {
        let Some(column) = gone.column.as_ref().and_then(|column| driving.column(column)) else { continue };
        refuse_ambiguous(statement, change, gone, column)?;
        untouched.push((column.name.clone(), column.default.clone()));
    }
    let columns = untouched.iter().map(|(column, _)| column.clone()).collect();
    Ok(Some(Leaving { columns, untouched: Some(untouched) }))
}

/// Whether a statement names a column of the table that one below drops.
pub(super) fn goes_below(draft: &Draft<'_>, statement: &Statement, table: &QualifiedName) -> bool {
    let named = |column: &Ident| statement.words.contains(column.as_str());
    gone_below(draft).iter().any(|gone| &gone.table == table && gone.column.as_ref().is_some_and(named))
}

/// Tables and columns that statements below the one at hand drop.
fn gone_below(draft: &Draft<'_>) -> Vec<Gone> {
    let mut gone = Vec::new();
    for statement in draft.below() {
        match &statement.kind {
            StatementKind::DropObjects(objects) if objects.kind == ObjectKind::Table => {
                let tables = objects.targets.iter().filter_map(|target| {
                    let table = draft.existing(&target.name).ok()?;
                    Some(Gone { table, column: None, span: target.name.span.clone(), has_down: false })
                });
                gone.extend(tables);
            }
            StatementKind::AlterTable { table, actions, .. } => {
                let Ok(table) = draft.existing(table) else { continue };
                for (span, action) in actions {
                    let Action::DropColumn { column, .. } = action else { continue };
                    let has_down = statement.directives.iter().any(
                        |placed| matches!(&placed.directive, Directive::Down { column: of, .. } if of == column),
                    );
                    gone.push(Gone {
                        table: table.clone(),
                        column: Some(column.clone()),
                        span: span.clone(),
                        has_down,
                    });
                }
            }
            _ => {}
        }
    }
    gone
}

fn what(gone: &Gone) -> String {
    match &gone.column {
        Some(column) => format!("{}.{}", gone.table.plain(), column.as_str()),
        None => gone.table.plain(),
    }
}

/// Late rows are found by the table that is counted out.
fn refuse_other(statement: &Statement, change: &DataChange, gone: &Gone) -> Problem {
    let title = format!(
        "this reads `{}` once, and the file drops it: what old code writes there afterwards would be lost",
        what(gone)
    );
    let help = match change.verb {
        Verb::Insert => {
            "put that table first in the FROM, so that its rows are counted out; or drop it in a later migration, once no code \
             writes to it"
        }
        Verb::Update => {
            "let the file add the column that is set here: then it is kept in step until contract; or drop the other in a later \
             migration, once no code writes to it"
        }
        Verb::Delete => "drop it in a later migration, once no code writes to it",
    };
    Problem::new("late-rows", statement.span.clone(), title, "read here")
        .and(gone.span.clone(), "dropped here")
        .help(help)
}

/// What old code writes to a column must be told from what new code's rows hold there.
fn refuse_ambiguous(
    statement: &Statement,
    change: &DataChange,
    gone: &Gone,
    column: &Column,
) -> Result<(), Problem> {
    let computed = gone.has_down || column.generated || column.identity;
    let default = match change.verb {
        // A row that holds the default is left alone.
        Verb::Delete => column.default.is_some() && !column.constant_default,
        Verb::Insert | Verb::Update => column.default.is_some(),
    };
    if !computed && !default {
        return Ok(());
    }
    let why = if computed { "is computed for new code's rows" } else { "has a default" };
    let title = format!(
        "`{}` {why}, so a row that old code writes after the backfill cannot be told from one of new code",
        what(gone)
    );
    Err(Problem::new("late-rows", statement.span.clone(), title, "read here, once for each row")
        .and(gone.span.clone(), "dropped here")
        .help(
            "let the file add the column or table that takes the value over: then both are kept in step until contract; or drop the \
             column in a later migration, once no code writes to it",
        ))
}

/// Makes a data job keep its list and note what it saw, and adds to contract what finds the late rows.
pub(super) fn plan(draft: &mut Draft<'_>, rows: &Rows<'_>, leaving: &Leaving, once: &mut Once) {
    let (driving, target, verb) = (&rows.known.name, rows.target, rows.change.verb);
    let list = once.list.clone();
    let held = |row: &str| {
        let columns: Vec<String> = leaving.columns.iter().map(|column| format!("{row}.{column}")).collect();
        // The binary form depends on no setting of the session.
        format!("md5(record_send(ROW({})))", columns.join(", "))
    };
    let written = leaving.untouched.as_ref().map(|untouched| {
        let any: Vec<String> = untouched
            .iter()
            .map(|(column, default)| match default {
                Some(default) => format!("{}.{column}::text IS DISTINCT FROM ({default})::text", rows.row()),
                None => format!("{}.{column} IS NOT NULL", rows.row()),
            })
            .collect();
        format!(" AND ({})", any.join(" OR "))
    });
    let (matches, condition) = (rows.matches(), rows.condition());
    let both = format!("{matches}{condition}");
    once.make.push(format!("ALTER TABLE {list} ADD COLUMN {SEEN} text"));
    once.make.push(format!("CREATE INDEX ON {list} ({})", rows.numbered_keys().join(", ")));
    once.lock = Some(rows.lock(once));
    once.mark = Some(Ranged {
        head: format!(
            "UPDATE {list} AS {} SET {SEEN} = {} FROM {} WHERE ",
            Rows::LIST,
            held(&rows.row().to_string()),
            rows.all()
        ),
        rows_of: None,
        middle: String::new(),
        tail: both,
    });
    let freeze = Freeze {
        id: format!("m{}_freeze_{}", draft.file.version.number(), draft.data_jobs.len() + 1),
        version: draft.file.version.number().to_string(),
        ledger: draft.settings.ledger.clone(),
        table: driving.clone(),
        columns: leaving.columns.clone(),
        untouched: leaving.untouched.clone(),
    };
    let title = format!("close {} to writers of what goes", driving.plain());
    draft.push(Phase::Contract, table_step(driving, title, freeze.create(), freeze.remove()));
    if verb != Verb::Delete {
        let row = &driving.name;
        let own: Vec<String> = once
            .key
            .iter()
            .enumerate()
            .map(|(at, column)| format!("{}._pontoon_k{at} = {row}.{column}", Rows::LIST))
            .collect();
        let own = own.join(" AND ");
        let seen = format!("{}.{SEEN}", Rows::LIST);
        let changed = format!(
            "EXISTS (SELECT FROM {list} AS {} WHERE {own} AND {seen} <> {})",
            Rows::LIST,
            held(&row.to_string())
        );
        let says = format!("rows of {} changed after the data job had read them", driving.plain());
        let accept = format!(
            "UPDATE {list} AS {} SET {SEEN} = {now} FROM {driving} WHERE {own} AND {seen} <> {now}",
            Rows::LIST,
            now = held(&row.to_string())
        );
        let title = format!("see that the data job on {} read the last value of each row", target.plain());
        let condition =
            Require { table: driving.clone(), predicate: changed, says, named: None, accept: Some(accept) };
        draft.push(Phase::Contract, require_of(title, condition));
        if leaving.untouched.is_none() {
            let missing = format!("{SEEN} IS NOT NULL AND NOT EXISTS (SELECT FROM {driving} WHERE {own})")
                .replace(&format!("{}.", Rows::LIST), &format!("{}.", list.name));
            let says = format!(
                "rows of {} were deleted after they had been copied to {}",
                driving.plain(),
                target.plain()
            );
            let title = format!("see that no row of {} went after it was copied", driving.plain());
            let accept = Some(format!("DELETE FROM {list} WHERE {missing}"));
            let condition = Require {
                table: list.clone(),
                predicate: missing,
                says,
                named: Some(once.named_key()),
                accept,
            };
            draft.push(Phase::Contract, require_of(title, condition));
        }
    }
    let late = late(rows, once, &written.unwrap_or_default());
    let locks = vec![TableLock { table: target.clone(), mode: LockMode::RowExclusive }];
    let title = format!("do the rows of {} that came late", driving.plain());
    let late = step(title, late, Vec::new(), locks);
    draft.push(Phase::Contract, Step { scans: true, ..late });
    if leaving.untouched.is_some() {
        // Under the name that the column has while sealed, nobody writes it.
        draft.table(driving).seal.extend(freeze.let_go().into_iter().map(|sql| (sql, String::new())));
    }
    let forget = vec![freeze.forget(), format!("DROP TABLE IF EXISTS {list}")];
    draft.push_drop_last(step(
        format!("forget which rows of {} there were", driving.plain()),
        forget,
        Vec::new(),
        Vec::new(),
    ));
}

/// Lists what came since, and does all rows that were listed and not done.
fn late(rows: &Rows<'_>, once: &Once, written: &str) -> Vec<String> {
    let list = &once.list;
    let keys = rows.numbered_keys();
    let known: Vec<String> = keys.iter().map(|key| format!("{}.{key} = keys.{key}", Rows::LIST)).collect();
    let append = format!(
        "INSERT INTO {list} ({number}, {0}) SELECT (SELECT coalesce(max({number}), -1) FROM {list}) + row_number() OVER (ORDER BY \
         {0}), {0} FROM (SELECT DISTINCT {1} FROM {2} WHERE true{3}{written}) AS keys WHERE NOT EXISTS (SELECT FROM {list} AS {4} \
         WHERE {5})",
        keys.join(", "),
        rows.keys().join(", "),
        rows.all(),
        rows.condition(),
        Rows::LIST,
        known.join(" AND "),
        number = Rows::NUMBER,
    );
    let open = format!("{}.{SEEN} IS NULL{written}", Rows::LIST);
    let lock = once.lock.iter().map(|lock| lock.at(&open));
    [append].into_iter().chain(lock).chain([once.change(&open)]).collect()
}
