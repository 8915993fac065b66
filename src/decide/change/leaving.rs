//! What a data job reads that the same file drops: old code goes on writing there until contract.

use std::collections::BTreeSet;
use std::ops::Range;

use crate::decide::draft::Draft;
use crate::model::catalog::{Column, Table};
use crate::model::directive::Directive;
use crate::model::problem::Problem;
use crate::model::sql::{Action, DataChange, NewName, ObjectKind, Statement, StatementKind, Verb};
use crate::words::ident::{Ident, QualifiedName};

/// What it reads of the table that it counts out.
pub(super) struct Leaving {
    /// Columns of which it must have seen the last value.
    pub(super) columns: Vec<Ident>,
    /// What new code's rows hold in the columns that go; none where the table goes, to which new code does not write.
    pub(super) untouched: Option<Vec<(Ident, Option<String>)>>,
}

/// Something that a statement below drops.
struct Gone {
    table: QualifiedName,
    /// None for the whole table.
    column: Option<Ident>,
    span: Range<usize>,
    has_down: bool,
    /// Whether it is dropped as it is written, at the end of contract.
    as_written: bool,
}

impl Gone {
    fn what(&self) -> String {
        match &self.column {
            Some(column) => format!("{}.{}", self.table.plain(), column.as_str()),
            None => self.table.plain(),
        }
    }
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
    let named = named(draft, statement);
    let row = change.alias.as_ref().unwrap_or(&driving.name.name);
    let names = |column: &Ident| reads_column(statement, row, column);
    let sets = |column: &Ident| match &statement.kind {
        StatementKind::Update { sets, .. } => sets.iter().any(|set| &set.column == column),
        _ => false,
    };
    let gone: Vec<Gone> = gone_below(draft)
        .into_iter()
        // What goes with its own rows needs nothing.
        .filter(|gone| gone.column.is_some() || &gone.table != target)
        .filter(|gone| match &gone.column {
            Some(column) if gone.table == driving.name && named.contains(&gone.table) => names(column),
            _ => reads(draft, statement, &named, gone),
        })
        .collect();
    if let Some(written) = gone.iter().find(|gone| gone.as_written) {
        let title =
            format!("`{}` goes as written, and what old code writes there meanwhile is lost", written.what());
        return Err(Problem::new("late-rows", statement.span.clone(), title, "read here, once for each row")
            .and(written.span.clone(), "dropped here")
            .help("take the directive away, so that it is hidden first; or drop it in a later migration"));
    }
    let set = |gone: &&Gone| &gone.table == target && gone.column.as_ref().is_some_and(sets);
    if let Some(set) = gone.iter().find(set) {
        let title = format!(
            "`{}` is read and set here, so what old code writes there afterwards cannot be told",
            set.what()
        );
        return Err(Problem::new("late-rows", statement.span.clone(), title, "read and set here")
            .and(set.span.clone(), "dropped here")
            .help("do not set it: it goes in any case; or drop it in a later migration"));
    }
    let times = named.iter().filter(|name| **name == driving.name).count();
    let other = |gone: &&Gone| gone.table != driving.name || !named.contains(&gone.table);
    if let Some(other) = gone.iter().find(other) {
        return Err(refuse_other(statement, change.verb, other));
    }
    let Some(first) = gone.first() else { return Ok(None) };
    refuse_dropped_with_it(draft, statement, first)?;
    if let Some(whole) = gone.iter().find(|gone| gone.column.is_none()) {
        if times > 1 || !has_only_its_place(draft, statement, change) {
            let title = format!(
                "`{}` has another name when the rows that come late are read, and is named more than once here",
                whole.what()
            );
            return Err(Problem::new("late-rows", statement.span.clone(), title, "read here")
                .and(whole.span.clone(), "dropped here")
                .help("put it first behind FROM, without ONLY, with an alias by which the rest calls it; and read it once"));
        }
        refuse_renamed_with_it(draft, statement, &named, whole)?;
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

/// Refuses rows that an INSERT looks up once, in expand, in what the file drops.
pub(super) fn refuse_looked_up(draft: &Draft<'_>, statement: &Statement) -> Result<(), Problem> {
    let named = named(draft, statement);
    let gone = gone_below(draft).into_iter().find(|gone| reads(draft, statement, &named, gone));
    gone.map_or(Ok(()), |gone| Err(refuse_other(statement, Verb::Insert, &gone)))
}

/// The tables and views that a statement names.
fn named(draft: &Draft<'_>, statement: &Statement) -> Vec<QualifiedName> {
    let path = &draft.settings.search_path;
    statement.objects.iter().filter_map(|name| draft.catalog.resolve(name, path)).collect()
}

/// Whether a statement reads what goes, directly, through a view, or in a partition; for sure not where it says so.
fn reads(draft: &Draft<'_>, statement: &Statement, named: &[QualifiedName], gone: &Gone) -> bool {
    let known = draft.catalog.table(&gone.table);
    let part = |name: &QualifiedName| {
        known
            .and_then(|known| known.partitions.as_ref())
            .is_some_and(|parts| parts.leaves.iter().any(|leaf| &leaf.name == name))
    };
    // A view may call the column by another name.
    if known.is_some_and(|known| named.iter().any(|name| known.read_by.contains(name))) {
        return true;
    }
    let Some(column) = &gone.column else { return named.contains(&gone.table) || named.iter().any(part) };
    let is_column = |name: &Ident| {
        let tables = named.iter().filter_map(|name| draft.catalog.table(name));
        tables.into_iter().any(|known| known.column(name).is_some())
    };
    // What is no column is a row as a whole.
    let whole =
        || statement.expressions.uses().any(|(qualifier, name)| qualifier.is_none() && !is_column(name));
    (named.contains(&gone.table) || named.iter().any(part))
        && (statement.words.contains(column.as_str())
            || statement.expressions.has_parameter_or_star()
            || whole())
}

/// Whether the name of the table that is counted out stands at the beginning of the FROM, and nowhere else but before columns.
fn has_only_its_place(draft: &Draft<'_>, statement: &Statement, change: &DataChange) -> bool {
    let written = draft.file.source.text.get(change.driving.span.clone()).unwrap_or_default();
    let behind = change.sources.strip_prefix(written);
    let stands_alone = behind.is_some_and(|behind| {
        let next = behind.trim_start();
        behind.is_empty()
            || behind.starts_with(',')
            || behind.starts_with(char::is_whitespace) && !next.starts_with('*')
    });
    let word = |c: char| c.is_alphanumeric() || c == '_' || c == '$';
    let name = change.driving.name.as_str();
    let mut elsewhere = 0;
    for (at, found) in statement.text.to_ascii_lowercase().match_indices(&name.to_ascii_lowercase()) {
        let before = statement.text.get(..at).and_then(|before| before.chars().next_back());
        let after = statement.text.get(at + found.len()..).unwrap_or_default().trim_start_matches('"');
        let whole = !before.is_some_and(word) && !after.chars().next().is_some_and(word);
        let qualifies = after.starts_with('.') && before != Some('.') && change.alias.is_none();
        if whole && !qualifies {
            elsewhere += 1;
        }
    }
    stands_alone && elsewhere == 1
}

/// Whether a statement names a column of the table that one below drops.
pub(super) fn goes_below(
    draft: &Draft<'_>,
    statement: &Statement,
    table: &QualifiedName,
    row: &Ident,
) -> bool {
    let named = |column: &Ident| reads_column(statement, row, column);
    gone_below(draft).iter().any(|gone| &gone.table == table && gone.column.as_ref().is_some_and(named))
}

/// Whether a statement reads a column of the rows that are called `row`: by its name, or with the whole row.
fn reads_column(statement: &Statement, row: &Ident, column: &Ident) -> bool {
    statement.expressions.has_parameter_or_star()
        || statement.expressions.uses().any(|(qualifier, name)| {
            let whole = qualifier.is_none() && name == row;
            whole || name == column && qualifier.is_none_or(|qualifier| qualifier == row)
        })
}

/// Tables and columns that statements below the one at hand drop.
fn gone_below(draft: &Draft<'_>) -> Vec<Gone> {
    let mut gone = Vec::new();
    for statement in draft.below() {
        let as_written =
            statement.directives.iter().any(|placed| matches!(placed.directive, Directive::Phase(_)));
        match &statement.kind {
            StatementKind::DropObjects(objects) if objects.kind == ObjectKind::Table => {
                let tables = objects.targets.iter().filter_map(|target| {
                    let table = draft.existing(&target.name).ok()?;
                    let span = target.name.span.clone();
                    Some(Gone { table, column: None, span, has_down: false, as_written })
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
                    let (table, column, span) = (table.clone(), Some(column.clone()), span.clone());
                    gone.push(Gone { table, column, span, has_down, as_written });
                }
            }
            _ => {}
        }
    }
    gone
}

/// Late rows are done when everything else that the file drops is out of reach.
fn refuse_dropped_with_it(draft: &Draft<'_>, statement: &Statement, gone: &Gone) -> Result<(), Problem> {
    let dropped = draft.below().iter().find_map(|below| {
        let StatementKind::DropObjects(objects) = &below.kind else { return None };
        let used = |name: &Ident| {
            objects.kind != ObjectKind::Table
                && (statement.objects.iter().any(|object| &object.name == name)
                    || statement.calls.contains(name.as_str()))
        };
        objects.targets.iter().find(|target| used(&target.name.name))
    });
    let Some(dropped) = dropped else { return Ok(()) };
    let title = format!(
        "`{}` is gone when the rows that old code writes to `{}` after the backfill are done",
        dropped.name.name.as_str(),
        gone.what()
    );
    Err(Problem::new("late-rows", statement.span.clone(), title, "used here")
        .and(dropped.name.span.clone(), "dropped here")
        .help("drop it in a later migration"))
}

/// The last rows of a table that goes are done when everything that the file renames has its new name.
fn refuse_renamed_with_it(
    draft: &Draft<'_>,
    statement: &Statement,
    named: &[QualifiedName],
    gone: &Gone,
) -> Result<(), Problem> {
    let renamed = draft.below().iter().find_map(|below| match &below.kind {
        StatementKind::AlterTable { table, actions, .. }
            if draft.existing(table).is_ok_and(|table| named.contains(&table)) =>
        {
            actions.iter().find_map(|(span, action)| match action {
                Action::RenameColumn { from, .. } if statement.words.contains(from.as_str()) => Some(span),
                _ => None,
            })
        }
        StatementKind::Rename(rename) if rename.kind != ObjectKind::Index => {
            let used = match &rename.to {
                NewName::Label(from, _) => statement.text.contains(from),
                NewName::Attribute(from, _) => statement.words.contains(from.as_str()),
                NewName::Name(_) | NewName::Schema(_) => {
                    statement.words.contains(rename.target.name.name.as_str())
                }
            };
            used.then_some(&below.span)
        }
        _ => None,
    });
    let Some(renamed) = renamed else { return Ok(()) };
    let title = format!(
        "a name in this is another one when the last rows that old code writes to `{}` are done",
        gone.what()
    );
    Err(Problem::new("late-rows", statement.span.clone(), title, "named here")
        .and(renamed.clone(), "renamed here")
        .help("rename it in a later migration"))
}

/// Late rows are found by the table that is counted out.
fn refuse_other(statement: &Statement, verb: Verb, gone: &Gone) -> Problem {
    let title = format!(
        "this reads `{}` once, and the file drops it: what old code writes there afterwards would be lost",
        gone.what()
    );
    let help = match verb {
        Verb::Insert => {
            "put that table itself first in the FROM, so that its rows are counted out; or drop it in a later migration, once no \
             code writes to it"
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
        gone.what()
    );
    Err(Problem::new("late-rows", statement.span.clone(), title, "read here, once for each row")
        .and(gone.span.clone(), "dropped here")
        .help(
            "let the file add the column or table that takes the value over: then both are kept in step until contract; or drop the \
             column in a later migration, once no code writes to it",
        ))
}

/// Foreign keys over the columns that act by themselves: what they do is no word of old code's.
pub(super) fn has_acting_keys(known: &Table, columns: &[Ident]) -> bool {
    let columns: BTreeSet<&Ident> = columns.iter().collect();
    known.constraints.iter().any(|key| {
        key.kind == "f"
            && (key.definition.contains(" ON DELETE ") || key.definition.contains(" ON UPDATE "))
            && key.columns.iter().any(|column| columns.contains(column))
    })
}
