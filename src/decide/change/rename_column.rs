//! Shape: ALTER TABLE … RENAME COLUMN.
//! Phases: expand adds a plain shadow column under the new name and sync triggers; backfill copies, then builds the
//! indexes that new code searches by; contract gives the original column the new name and hides the shadow.
//! Locks: ACCESS EXCLUSIVE, catalog-only.
//! Undo: the renames backwards, one short transaction.
//! Limits: generated columns are refused; the name may not be used again in the same file.

use std::ops::Range;

use crate::decide::draft::{Draft, Phase, Renamed, Touch};
use crate::model::problem::Problem;
use crate::model::sql::Expression;
use crate::words::ident::{Ident, QualifiedName};

pub(crate) fn plan(
    draft: &mut Draft<'_>,
    span: &Range<usize>,
    table: &QualifiedName,
    from: &Ident,
    to: &Ident,
) -> Result<(), Problem> {
    if draft.added(table, from).is_some() {
        return Err(Problem::new(
            "rename-new",
            span.clone(),
            format!("`{}` is added by this file", from.as_str()),
            "renamed here",
        )
        .help("add it under its final name"));
    }
    let Some(known) = draft.catalog.table(table) else { return Ok(()) };
    let Some(column) = known.column(from) else {
        return Err(Problem::no_column(span.clone(), table, from, "renamed here"));
    };
    if known.column(to).is_some() {
        let title = format!("`{}` already has a column `{}`", table.plain(), to.as_str());
        return Err(Problem::new("exists", span.clone(), title, "renamed here"));
    }
    if column.generated {
        return Err(Problem::unsupported(span.clone(), "renaming a generated column"));
    }
    let triggers: Vec<&str> = known
        .triggers
        .iter()
        .filter(|trigger| trigger.update_of.contains(from))
        .map(|t| t.name.as_str())
        .collect();
    if !triggers.is_empty() {
        draft.warnings.push(format!(
            "trigger {} is declared UPDATE OF {}: it does not fire when new code writes {}",
            triggers.join(", "),
            from.as_str(),
            to.as_str()
        ));
    }
    let keys = known
        .constraints
        .iter()
        .filter(|key| ["p", "u"].contains(&key.kind.as_str()) && key.columns.contains(from));
    let keys: Vec<&str> = keys.map(|key| key.name.as_str()).collect();
    if !keys.is_empty() {
        draft.warnings.push(format!(
            "until contract {} is a key under the name {} only: ON CONFLICT ({}) and GROUP BY of a primary key under the new name fail",
            keys.join(", "),
            from.as_str(),
            to.as_str()
        ));
    }
    let read = draft.tables.iter().filter(|work| &work.name == table).flat_map(|work| {
        let filled = work
            .added
            .iter()
            .filter_map(|added| added.filled.as_ref())
            .flat_map(|filled| filled.reads.clone());
        filled
            .chain(
                work.dropped.iter().filter_map(|dropped| dropped.down.as_ref()).flat_map(Expression::columns),
            )
            .collect::<Vec<_>>()
    });
    if read.collect::<Vec<_>>().contains(from) {
        let title = format!("`{}` is renamed here and read by a mapping of the same file", from.as_str());
        return Err(Problem::new("rename-source", span.clone(), title, "renamed here")
            .help("split the file: the rename goes into a migration of its own"));
    }
    draft.claim(Phase::Contract, Touch::Change, span, table, from)?;
    draft.claim(Phase::Contract, Touch::Change, span, table, to)?;
    draft.note(
        span,
        format!("RENAME COLUMN {}.{} to {}", table.plain(), from.as_str(), to.as_str()),
        "expand: shadow column kept in step; backfill: copy; contract: the original takes the new name",
    );
    draft.table(table).renamed.push(Renamed { from: from.clone(), to: to.clone() });
    if let Some(column) = draft.catalog.table_mut(table).and_then(|known| known.column_mut(from)) {
        column.name = to.clone();
    }
    Ok(())
}
