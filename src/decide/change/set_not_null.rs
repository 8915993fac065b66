//! Shape: ALTER COLUMN … SET NOT NULL.
//! Phases: contract, by a NOT VALID check that is validated first; on a column that the file adds with a default and does
//! not fill, expand. An UPDATE of the file says how rows come within the rule: see `repair`.
//! Locks: ACCESS EXCLUSIVE, catalog-only; SHARE UPDATE EXCLUSIVE while the check is validated.
//! Undo: DROP NOT NULL.
//! Limits: rows that are null are listed by key.

use std::ops::Range;

use crate::decide::change::constraint::{phase, require};
use crate::decide::change::mapping::HIDDEN;
use crate::decide::draft::{Draft, table_step, validate};
use crate::decide::plan::Step;
use crate::model::problem::Problem;
use crate::words::ident::{Ident, QualifiedName};

pub(crate) fn plan(
    draft: &mut Draft<'_>,
    span: &Range<usize>,
    table: &QualifiedName,
    column: &Ident,
) -> Result<(), Problem> {
    let what = format!("SET NOT NULL on {}.{}", table.plain(), column.as_str());
    if let Some(added) = draft.added(table, column) {
        added.column.not_null = true;
        draft.note(span, what, "with the column");
        return Ok(());
    }
    phase(draft, span, table, std::slice::from_ref(column))?;
    let known = draft.catalog.table_mut(table).and_then(|known| known.column_mut(column));
    if let Some(known) = known {
        if known.not_null {
            draft.note(span, what, "nothing: it is NOT NULL");
            return Ok(());
        }
        known.not_null = true;
    }
    draft.note(span, what, "contract: proved by a check that is validated first");
    draft.table(table).not_null.push(column.clone());
    Ok(())
}

/// The name of the check that proves it.
pub(crate) fn check_name(draft: &Draft<'_>, column: &Ident) -> Ident {
    Ident::derived(&[HIDDEN, &draft.file.version.number().to_string(), column.as_str(), "not_null"])
}

/// NOT NULL without a scan under a lock that anyone waits behind: a check proves it first. What then makes use of the
/// proof drops the check, in a statement of its own.
pub(crate) fn prove(draft: &Draft<'_>, table: &QualifiedName, column: &Ident) -> Vec<Step> {
    let check = check_name(draft, column);
    let title = format!("see that {}.{} has no null", table.plain(), column.as_str());
    let says = format!("{}.{} is to become NOT NULL and is null", table.plain(), column.as_str());
    let add = table_step(
        table,
        format!("check {}.{} for new rows", table.plain(), column.as_str()),
        vec![format!("ALTER TABLE {table} ADD CONSTRAINT {check} CHECK ({column} IS NOT NULL) NOT VALID")],
        vec![format!("ALTER TABLE {table} DROP CONSTRAINT IF EXISTS {check}")],
    );
    vec![require(table, title, format!("{column} IS NULL"), says), add, validate(table, &check)]
}
