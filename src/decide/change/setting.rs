//! Shape: OWNER TO, SET or RESET of storage parameters, SET STATISTICS, STORAGE, COMPRESSION, REPLICA IDENTITY, CLUSTER ON.
//! Phases: expand: no query sees it.
//! Locks: SHARE UPDATE EXCLUSIVE, or ACCESS EXCLUSIVE for the length of a catalog change.
//! Undo: none.
//! Limits: abort leaves it in place, and the plan says so.

use std::ops::Range;

use crate::decide::change::constraint::lock;
use crate::decide::change::publication;
use crate::decide::draft::{Draft, Phase, step};
use crate::model::problem::Problem;
use crate::words::ident::{Ident, QualifiedName};
use crate::words::lock_mode::LockMode;

pub(crate) fn plan(
    draft: &mut Draft<'_>,
    span: &Range<usize>,
    table: &QualifiedName,
    text: &str,
    column: Option<&Ident>,
    exclusive: bool,
) -> Result<(), Problem> {
    if let Some(column) = column
        && draft.catalog.table(table).is_some_and(|known| known.column(column).is_none())
    {
        return Err(Problem::no_column(span.clone(), table, column, "named here"));
    }
    replica_identity(draft, span, table, text)?;
    draft.note(span, format!("{text} on {}", table.plain()), "expand: run it; no query sees it");
    if column.is_none_or(|column| draft.added(table, column).is_none()) {
        draft.warnings.push(format!("abort leaves this in place: ALTER TABLE {} {text}", table.plain()));
    }
    draft.table(table);
    let mode = if exclusive { LockMode::AccessExclusive } else { LockMode::ShareUpdateExclusive };
    let sql = vec![format!("LOCK TABLE {table} IN {mode} MODE"), format!("ALTER TABLE {table} {text}")];
    draft.push(
        Phase::Expand,
        step(format!("{text} on {}", table.plain()), sql, Vec::new(), vec![lock(table, mode)]),
    );
    Ok(())
}

/// Whether rows can still be told from each other: the server lets nobody update published rows that cannot.
fn replica_identity(
    draft: &mut Draft<'_>,
    span: &Range<usize>,
    table: &QualifiedName,
    text: &str,
) -> Result<(), Problem> {
    let words: Vec<String> = text.split_whitespace().map(str::to_uppercase).collect();
    let [first, second, how, ..] = words.as_slice() else { return Ok(()) };
    let Some(known) = draft.catalog.table_mut(table).filter(|_| first == "REPLICA" && second == "IDENTITY")
    else {
        return Ok(());
    };
    let index = text.split_whitespace().nth(4).map(Ident::from_sql);
    if let Some(index) =
        index.filter(|index| how == "USING" && !known.indexes.iter().any(|own| &own.name == index))
    {
        let title = format!("`{}` has no index {} yet when this runs", table.plain(), index.as_str());
        return Err(Problem::new("order", span.clone(), title, "run in expand")
            .help("put it into a migration after the one that builds the index"));
    }
    known.replica_identity = match how.as_str() {
        "NOTHING" => false,
        "DEFAULT" => known.indexes.iter().any(|index| index.primary && index.plain),
        _ => true,
    };
    publication::check_writable(draft, span, table)
}
