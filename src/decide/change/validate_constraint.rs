//! Shape: ALTER TABLE … VALIDATE CONSTRAINT.
//! Phases: contract.
//! Locks: SHARE UPDATE EXCLUSIVE.
//! Undo: none; a constraint that was looked at stays so.
//! Limits: the server names one row that violates it, not all.

use std::ops::Range;

use crate::decide::draft::{Draft, Phase, validate};
use crate::model::problem::Problem;
use crate::words::ident::{Ident, QualifiedName};

pub(crate) fn plan(
    draft: &mut Draft<'_>,
    span: &Range<usize>,
    table: &QualifiedName,
    name: &Ident,
) -> Result<(), Problem> {
    if draft.catalog.table(table).is_some_and(|known| known.constraint(name).is_none()) {
        return Err(Problem::no_constraint(span.clone(), table, name, "named here"));
    }
    draft.note(span, format!("VALIDATE {} of {}", name.as_str(), table.plain()), "contract: run it");
    draft.table(table);
    draft.push(Phase::Contract, validate(table, name));
    Ok(())
}
