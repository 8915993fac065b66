//! Shape: ALTER TABLE … ADD [CONSTRAINT name] CHECK; the same behind a column that is added.
//! Phases: contract: NOT VALID, then VALIDATE; expand if its columns are added by the file and nothing fills them.
//! Locks: ACCESS EXCLUSIVE, catalog-only; SHARE UPDATE EXCLUSIVE while it is validated.
//! Undo: DROP CONSTRAINT.
//! Limits: rows that violate it are listed by key; an UPDATE of the file can bring them within it.

use std::ops::Range;

use crate::decide::change::constraint::{becomes, learn, name, phase, require};
use crate::decide::change::names::Space;
use crate::decide::draft::{Draft, Phase, table_step, validate};
use crate::model::problem::Problem;
use crate::model::sql::{Expression, NewConstraint};
use crate::words::ident::QualifiedName;

pub(crate) fn plan(
    draft: &mut Draft<'_>,
    span: &Range<usize>,
    table: &QualifiedName,
    constraint: &NewConstraint,
    expression: &Expression,
) -> Result<(), Problem> {
    let phase = phase(draft, span, table, &constraint.columns)?;
    let name = name(draft, span, table, constraint, "check", Space::Constraint)?;
    draft.note(span, format!("ADD CHECK {} on {}", name.as_str(), table.plain()), becomes(phase));
    if phase == Phase::Contract && !constraint.not_valid {
        let title = format!("see that every row of {} satisfies {}", table.plain(), name.as_str());
        let says = format!("rows of {} violate the check {}", table.plain(), name.as_str());
        draft.push(phase, require(table, title, format!("NOT ({})", expression.text()), says));
    }
    draft.push(
        phase,
        table_step(
            table,
            format!("check {} for new rows of {}", name.as_str(), table.plain()),
            vec![format!("ALTER TABLE {table} ADD CONSTRAINT {name} {} NOT VALID", constraint.text)],
            vec![format!("ALTER TABLE {table} DROP CONSTRAINT IF EXISTS {name}")],
        ),
    );
    if !constraint.not_valid {
        draft.push(phase, validate(table, &name));
    }
    learn(draft, table, &name, "c", constraint);
    Ok(())
}
