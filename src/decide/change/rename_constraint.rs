//! Shape: ALTER TABLE … RENAME CONSTRAINT.
//! Phases: contract: code that upserts ON CONFLICT ON CONSTRAINT, or reads the name in an error, knows the old one.
//! Locks: ACCESS EXCLUSIVE, catalog-only.
//! Undo: the rename backwards.
//! Limits: until contract only the old name is there.

use std::ops::Range;

use crate::decide::change::names::{Space, take};
use crate::decide::draft::Draft;
use crate::model::problem::Problem;
use crate::words::ident::{Ident, QualifiedName};

pub(crate) fn plan(
    draft: &mut Draft<'_>,
    span: &Range<usize>,
    table: &QualifiedName,
    from: &Ident,
    to: &Ident,
) -> Result<(), Problem> {
    let Some(known) = draft.catalog.table(table) else { return Ok(()) };
    if known.constraint(from).is_none() {
        let title = format!("`{}` has no constraint `{}`", table.plain(), from.as_str());
        return Err(Problem::new("unknown-name", span.clone(), title, "renamed here"));
    }
    if known.constraint(to).is_some() {
        let title = format!("`{}` already has a constraint `{}`", table.plain(), to.as_str());
        return Err(Problem::new("exists", span.clone(), title, "renamed here"));
    }
    draft.note(
        span,
        format!("RENAME CONSTRAINT {} of {} to {}", from.as_str(), table.plain(), to.as_str()),
        "contract: code may know the old name",
    );
    let rename = |from: &Ident, to: &Ident| format!("ALTER TABLE {table} RENAME CONSTRAINT {from} TO {to}");
    draft.table(table).seal.push((rename(from, to), rename(to, from)));
    take(draft, table, to, Space::Constraint);
    if let Some(known) = draft.catalog.table_mut(table) {
        for constraint in known.constraints.iter_mut().filter(|constraint| &constraint.name == from) {
            constraint.name = to.clone();
        }
    }
    Ok(())
}
