//! Shape: UPDATE of existing columns, DELETE, INSERT … SELECT into an existing table.
//! Phases: expand sees that the server takes it; backfill lists the keys of the rows that are there, then changes each of
//! them exactly once, in batches.
//! Locks: ROW EXCLUSIVE, one short transaction per batch.
//! Undo: none: abort leaves what was changed, and the plan says so.
//! Limits: the table whose rows are counted out needs a primary key, or a unique one that is never null, which nobody
//! changes; a row that no longer fits the WHERE when its turn comes is left out, and one that came later too; no RETURNING,
//! WITH, aggregates, outer joins to the table that is counted out, or LIMIT, and nothing that reads other rows of the table it
//! changes; functions that do so are not seen. `now()` is that of each batch.

use std::ops::Range;

use crate::decide::change::{create_table, insert_values, late_rows, leaving, split_table, supported};
use crate::decide::draft::{Draft, Phase, step};
use crate::decide::plan::{Job, Once, Ranged, TableLock, Work};
use crate::model::catalog::{Column, Constraint, Table};
use crate::model::problem::Problem;
use crate::model::sql::{DataChange, Statement, StatementKind, Verb};
use crate::words::ident::{Ident, QualifiedName};
use crate::words::lock_mode::LockMode;

pub(crate) fn plan(draft: &mut Draft<'_>, statement: &Statement, change: &DataChange) -> Result<(), Problem> {
    let span = &statement.span;
    let target = draft.existing(&change.table)?;
    let driving = draft.existing(&change.driving)?;
    if draft.created.contains(&target) {
        if change.verb == Verb::Insert && !draft.created.contains(&driving) {
            return split_table::plan(draft, statement, change);
        }
        return create_table::plan_later(draft, statement, &target, &first_word(statement));
    }
    if let Some(unusual) = change.unusual {
        return Err(Problem::unsupported(span.clone(), unusual).help(
            "batches need one row after the other; to run it as written, in one transaction, put `-- migrate: phase expand` on the \
             line above",
        ));
    }
    supported(draft, &change.table, &target)?;
    supported(draft, &change.driving, &driving)?;
    let aggregate = change.calls.iter().find(|name| draft.catalog.aggregates.contains(*name));
    if let Some(aggregate) = aggregate {
        return Err(Problem::unsupported(
            span.clone(),
            &format!("the aggregate `{aggregate}` in a data job"),
        ));
    }
    let volatile = change.decides.iter().find(|name| draft.catalog.volatile_functions.contains(*name));
    if let Some(volatile) = volatile {
        let title = format!("`{volatile}` decides on the rows, and may say something else each time");
        return Err(Problem::new(
            "volatile",
            span.clone(),
            title,
            "a batch asks once more than one statement would",
        )
        .help("to run it as written, in one transaction, put `-- migrate: phase expand` on the line above"));
    }
    if reads_itself(draft, statement, change, &target) {
        let title = format!("this changes `{}` and reads other rows of it", target.plain());
        return Err(Problem::new(
            "reads-itself",
            span.clone(),
            title,
            "a batch would see what the one before did",
        )
        .help("to run it as written, in one transaction, put `-- migrate: phase expand` on the line above"));
    }
    one_by_one(draft, statement, change, &target)?;
    if change.verb == Verb::Insert {
        for held_by in draft.wholes(&change.table).iter().chain([&target]) {
            insert_values::refuse_changed_before(draft, statement, held_by)?;
        }
    }
    let Some(known) = draft.catalog.table(&driving).cloned() else { return Ok(()) };
    draft.plan_data_order(statement, &target)?;
    let key = key(&known, &change.driving.span)?;
    claim(draft, statement, &target, &key)?;
    let what = format!("{} {}", first_word(statement), target.plain());
    let leaving = leaving::find(draft, statement, change, &target, &known)?;
    let becomes = match &leaving {
        Some(_) => "backfill: each row that is there then, once, in batches; contract: those that came since",
        None => "backfill: each row that is there then, once, in batches",
    };
    draft.note(span, what.clone(), becomes);
    draft.warnings.push(format!("abort leaves this in place: what {what} changed"));
    if let Some(untouched) = leaving.as_ref().and_then(|leaving| leaving.untouched.as_ref()) {
        let nothing = if untouched.iter().any(|(_, default)| default.is_some()) {
            "nothing, or the default,"
        } else {
            "nothing"
        };
        let columns: Vec<&str> = untouched.iter().map(|(column, _)| column.as_str()).collect();
        draft.warnings.push(format!(
            "a row that comes after the backfill and has {nothing} in {}.{} is taken for new code's, and left alone",
            driving.plain(),
            columns.join(", ")
        ));
    }
    if change.verb == Verb::Insert && leaving.is_none() {
        draft.warnings.push(format!(
            "what is written to {} when the backfill has begun is not copied; only a file that drops it as well brings that over, \
             in contract",
            driving.plain()
        ));
    }
    let rows = Rows { change, target: &target, known: &known, key: &key, hidden: None };
    let listed = rows.listed();
    let mut once = rows.once(draft);
    if let Some(leaving) = leaving {
        late_rows::plan(draft, &rows, &leaving, &mut once);
    }
    let checked = step(
        format!("see that the server takes {what}"),
        vec![format!("EXPLAIN {}", statement.text), format!("EXPLAIN {listed}")],
        Vec::new(),
        vec![TableLock { table: target.clone(), mode: LockMode::RowExclusive }],
    );
    draft.table(&target);
    draft.push(Phase::Expand, checked);
    let work = Work::Once(Box::new(once));
    let number = draft.data_jobs.len() + 1;
    let id = format!("d{}_{number}:{}", draft.file.version.number(), target.plain());
    draft.data_jobs.push(Job { id, table: target, work });
    Ok(())
}

/// Whether a statement reads rows that it changes, directly, through a view, in a partition, or where a foreign key takes the
/// change along. Batches see what the ones before them did; one statement would see everything as it was.
fn reads_itself(
    draft: &Draft<'_>,
    statement: &Statement,
    change: &DataChange,
    target: &QualifiedName,
) -> bool {
    let path = &draft.settings.search_path;
    let named: Vec<QualifiedName> =
        statement.objects.iter().filter_map(|name| draft.catalog.resolve(name, path)).collect();
    let again = named.iter().filter(|name| *name == target).count() > 1;
    let Some(known) = draft.catalog.table(target) else { return again };
    let partition = |name: &&QualifiedName| {
        let leaves = known.partitions.iter().flat_map(|partitions| &partitions.leaves);
        leaves.into_iter().any(|leaf| &leaf.name == *name)
    };
    let reads =
        named.iter().any(|name| known.read_by.contains(name)) || named.iter().any(|name| partition(&name));
    let event = match change.verb {
        Verb::Delete => " ON DELETE ",
        Verb::Update => " ON UPDATE ",
        Verb::Insert => return again || reads,
    };
    // Tables that follow the change.
    let mut follow = vec![target.clone()];
    let mut at = 0;
    while let Some(parent) = follow.get(at).cloned() {
        let moves = |key: &Constraint| {
            change.verb == Verb::Delete
                || &parent != target
                || key.parent_columns.iter().any(|column| is_set(statement, column))
        };
        let points = |table: &&Table| {
            table.constraints.iter().any(|key| {
                key.parent.as_ref() == Some(&parent) && key.definition.contains(event) && moves(key)
            })
        };
        for child in draft.catalog.tables.iter().filter(points) {
            if !follow.contains(&child.name) {
                follow.push(child.name.clone());
            }
        }
        at += 1;
    }
    again || reads || named.iter().any(|name| name != target && follow.contains(name))
}

/// Refuses what only holds again when all rows are done, and is checked at the end of each batch.
fn one_by_one(
    draft: &Draft<'_>,
    statement: &Statement,
    change: &DataChange,
    target: &QualifiedName,
) -> Result<(), Problem> {
    let Some(known) = draft.catalog.table(target) else { return Ok(()) };
    let itself = known.constraints.iter().find(|key| key.kind == "f" && key.parent.as_ref() == Some(target));
    let sets = match &statement.kind {
        StatementKind::Update { sets, .. } => sets.as_slice(),
        _ => &[],
    };
    let late =
        known.indexes.iter().filter(|index| index.unique && !index.plain && index.constraint.is_some());
    let late = late.into_iter().find(|index| sets.iter().any(|set| index.columns.contains(&set.column)));
    let name = match (change.verb, itself, late) {
        (Verb::Delete | Verb::Insert, Some(key), _) => &key.name,
        (Verb::Update, _, Some(index)) => &index.name,
        _ => return Ok(()),
    };
    let title = format!("{} of `{}` may hold only when all rows are done", name.as_str(), target.plain());
    Err(Problem::new(
        "in-batches",
        statement.span.clone(),
        title,
        "done in batches, each of which must obey it",
    )
    .help("to run it as written, in one transaction, put `-- migrate: phase expand` on the line above"))
}

fn first_word(statement: &Statement) -> String {
    statement.text.split_whitespace().next().unwrap_or_default().to_uppercase()
}

/// Columns that tell each row from all others and are never null.
pub(super) fn key(known: &Table, span: &Range<usize>) -> Result<Vec<Ident>, Problem> {
    let never_null =
        |column: &Ident| known.column(column).is_some_and(|column| column.not_null && !column.generated);
    let keys = known.constraints.iter().filter(|constraint| {
        ["p", "u"].contains(&constraint.kind.as_str()) && constraint.columns.iter().all(never_null)
    });
    let best = keys.min_by_key(|constraint| (constraint.kind != "p", constraint.columns.len()));
    best.map(|constraint| constraint.columns.clone()).ok_or_else(|| {
        let title = format!("`{}` has no primary key, so its rows cannot be counted out", known.name.plain());
        Problem::new("no-key", span.clone(), title, "this table").help(
            "add one in a migration before; or run the statement as written: `-- migrate: phase expand`",
        )
    })
}

/// Batches of mappings come before data jobs, so nothing may depend on the other order.
fn claim(
    draft: &mut Draft<'_>,
    statement: &Statement,
    target: &QualifiedName,
    key: &[Ident],
) -> Result<(), Problem> {
    draft.claim_data_words(statement)?;
    let Some(known) = draft.catalog.table(target).cloned() else { return Ok(()) };
    let sets = match &statement.kind {
        StatementKind::Update { sets, .. } => sets.as_slice(),
        _ => &[],
    };
    for set in sets {
        if known.column(&set.column).is_none() {
            return Err(Problem::no_column(set.span.clone(), target, &set.column, "set here"));
        }
        if key.contains(&set.column) {
            let title = format!("`{}` tells the rows apart, and is changed here", set.column.as_str());
            return Err(Problem::new("key-changed", set.span.clone(), title, "set here").help(
                "a row could be changed twice; run the statement as written: `-- migrate: phase expand`",
            ));
        }
        draft.claim_once(&set.span, target, &set.column, true)?;
    }
    hold(draft, statement, target)?;
    for column in key {
        draft.claim_once(&statement.span, target, column, false)?;
    }
    Ok(())
}

/// Nobody may take away what the job still needs: whatever the statement could mean of the tables that it names.
fn hold(draft: &mut Draft<'_>, statement: &Statement, target: &QualifiedName) -> Result<(), Problem> {
    let path = draft.settings.search_path.clone();
    for name in &statement.objects {
        let Some(table) = draft.catalog.resolve(name, &path) else { continue };
        let Some(known) = draft.catalog.table(&table).cloned() else { continue };
        if draft.created.contains(&table) {
            continue;
        }
        draft.table(&table);
        let named = |column: &&Column| statement.words.contains(column.name.as_str());
        for column in known.columns.iter().filter(named) {
            let changes = &table == target && is_set(statement, &column.name);
            if !changes {
                draft.claim_once(&statement.span, &table, &column.name, false)?;
            }
        }
        // Whoever renames or drops the table changes all of its columns.
        if let Some(first) = known.columns.first().filter(|first| !is_set(statement, &first.name)) {
            draft.claim_once(&statement.span, &table, &first.name, false)?;
        }
    }
    Ok(())
}

fn is_set(statement: &Statement, column: &Ident) -> bool {
    matches!(&statement.kind, StatementKind::Update { sets, .. } if sets.iter().any(|set| &set.column == column))
}

/// The tables of a batch and its list. A query has no system columns that could be meant.
fn with_list(sources: &str, list: &QualifiedName) -> String {
    let comma = if sources.is_empty() { "" } else { ", " };
    format!("{sources}{comma}(SELECT * FROM {list}) AS {}", Rows::LIST)
}

/// The rows that a data job counts out, as its statements name them.
pub(super) struct Rows<'a> {
    pub(super) change: &'a DataChange,
    pub(super) target: &'a QualifiedName,
    /// The table that is counted out.
    pub(super) known: &'a Table,
    pub(super) key: &'a [Ident],
    /// What the table is called while it is hidden, for statements that run then.
    pub(super) hidden: Option<QualifiedName>,
}

impl Rows<'_> {
    /// What the list of keys is called inside a batch.
    pub(super) const LIST: &'static str = "_pontoon_list";

    /// Its numbering, from 0.
    pub(super) const NUMBER: &'static str = "_pontoon_n";

    /// What a row of the table is called.
    pub(super) fn row(&self) -> &Ident {
        self.change.alias.as_ref().unwrap_or(&self.known.name.name)
    }

    fn aliased(&self) -> String {
        match &self.change.alias {
            Some(alias) => format!("{} AS {alias}", self.known.name),
            None => self.known.name.to_string(),
        }
    }

    /// What the table that is counted out is called now.
    pub(super) fn table(&self) -> &QualifiedName {
        self.hidden.as_ref().unwrap_or(&self.known.name)
    }

    /// The other tables of an UPDATE or DELETE, all tables of an INSERT.
    fn sources(&self) -> String {
        let sources = &self.change.sources;
        let Some(hidden) = &self.hidden else { return sources.clone() };
        // It comes first there.
        let rest = sources.get(self.change.driving.span.len()..).unwrap_or_default();
        match &self.change.alias {
            Some(_) => format!("{hidden}{rest}"),
            None => format!("{hidden} AS {}{rest}", self.row()),
        }
    }

    /// All tables of the statement.
    pub(super) fn all(&self) -> String {
        let sources = self.sources();
        match (self.change.verb, sources.as_str()) {
            (Verb::Insert, _) => sources,
            (_, "") => self.aliased(),
            (_, _) => format!("{}, {sources}", self.aliased()),
        }
    }

    /// The columns of the key in the list.
    pub(super) fn numbered_keys(&self) -> Vec<String> {
        (0..self.key.len()).map(|at| format!("_pontoon_k{at}")).collect()
    }

    /// The key of a row, under these names.
    pub(super) fn keys(&self) -> Vec<String> {
        let names = self.numbered_keys();
        let row = self.row();
        self.key.iter().zip(names).map(|(column, name)| format!("{row}.{column} AS {name}")).collect()
    }

    /// A row is the one of the list, after an AND.
    pub(super) fn matches(&self) -> String {
        let row = self.row();
        let names = self.numbered_keys();
        let one = |(column, name): (&Ident, String)| format!(" AND {row}.{column} = {}.{name}", Self::LIST);
        self.key.iter().zip(names).map(one).collect()
    }

    /// The WHERE, after an AND.
    pub(super) fn condition(&self) -> String {
        let condition = self.change.condition.as_ref();
        condition.map(|condition| format!(" AND ({})", condition.text())).unwrap_or_default()
    }

    /// The query that the list is made of.
    fn listed(&self) -> String {
        format!(
            "SELECT row_number() OVER (ORDER BY {0}) - 1 AS {1}, {0} FROM (SELECT DISTINCT {2} FROM {3} WHERE true{4}) AS keys",
            self.numbered_keys().join(", "),
            Self::NUMBER,
            self.keys().join(", "),
            self.all(),
            self.condition()
        )
    }

    /// Locks the rows of a batch, in the order of the list.
    pub(super) fn lock(&self, once: &Once) -> Ranged {
        Ranged {
            head: format!("SELECT FROM {}", with_list(&self.all(), &once.list)),
            rows_of: None,
            middle: " WHERE ".to_owned(),
            tail: format!(
                "{}{} ORDER BY {} FOR NO KEY UPDATE OF {}",
                self.matches(),
                self.condition(),
                once.number,
                self.row()
            ),
        }
    }

    /// The list of keys and the batch.
    pub(super) fn once(&self, draft: &Draft<'_>) -> Once {
        let (change, version) = (self.change, draft.file.version.number());
        let number = draft.data_jobs.len() + draft.crossings.len() + 1;
        let name = Ident::new(format!("list_{version}_{number}"));
        let list = QualifiedName::new(draft.settings.ledger.clone(), name);
        let from = with_list(&self.sources(), &list);
        let before = match change.verb {
            Verb::Update => format!("UPDATE {} {} FROM {from}", self.aliased(), change.head),
            Verb::Delete => format!("DELETE FROM {} USING {from}", self.aliased()),
            Verb::Insert => format!("{} FROM {from}", change.head),
        };
        let after = format!("{}{} {}", self.matches(), self.condition(), change.tail);
        Once {
            make: vec![
                format!("CREATE TABLE {list} AS {}", self.listed()),
                format!("ALTER TABLE {list} ADD PRIMARY KEY ({})", Self::NUMBER),
                format!("ANALYZE {list}"),
            ],
            number: format!("{}.{}", Self::LIST, Self::NUMBER),
            key: self.key.to_vec(),
            lock: None,
            mark: None,
            list,
            before,
            after: after.trim_end().to_owned(),
        }
    }
}
