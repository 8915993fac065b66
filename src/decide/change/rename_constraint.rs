//! Shape: ALTER TABLE … RENAME CONSTRAINT.
//! Phases: contract: code that upserts ON CONFLICT ON CONSTRAINT, or reads the name in an error, knows the old one.
//! Locks: ACCESS EXCLUSIVE, catalog-only.
//! Undo: the rename backwards.
//! Limits: until contract only the old name is there.

use std::ops::Range;

use crate::decide::change::names::{Space, take};
use crate::decide::draft::{Draft, Phase, Touch};
use crate::model::catalog::Constraint;
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
        return Err(Problem::no_constraint(span.clone(), table, from, "renamed here"));
    }
    if known.constraint(to).is_some() {
        let title = format!("`{}` already has a constraint `{}`", table.plain(), to.as_str());
        return Err(Problem::new("exists", span.clone(), title, "renamed here"));
    }
    let columns = known.constraint(from).map(|known| known.columns.clone()).unwrap_or_default();
    for column in &columns {
        draft.claim(Phase::Contract, Touch::Change, span, table, column)?;
    }
    draft.note(
        span,
        format!("RENAME CONSTRAINT {} of {} to {}", from.as_str(), table.plain(), to.as_str()),
        "contract: code may know the old name",
    );
    let rename = |from: &Ident, to: &Ident| format!("ALTER TABLE {table} RENAME CONSTRAINT {from} TO {to}");
    let work = draft.table(table);
    if work.renamed_constraints.contains(from) {
        let title = format!("`{}` gets that name in contract", from.as_str());
        return Err(Problem::new("order", span.clone(), title, "renamed here").help("write one rename"));
    }
    work.seal.push((rename(from, to), rename(to, from)));
    work.renamed_constraints.push(to.clone());
    take(draft, table, to, Space::Constraint);
    // Both names are taken until the old one is gone.
    if let Some(known) = draft.catalog.table_mut(table)
        && let Some(constraint) = known.constraint(from).cloned()
    {
        known.constraints.push(Constraint { name: to.clone(), ..constraint });
    }
    Ok(())
}
