//! Shape: ALTER COLUMN … SET NOT NULL on a column that the same file adds.
//! Phases: contract, by a NOT VALID check that is validated first; with a default and no UPDATE, expand.
//! Locks: ACCESS EXCLUSIVE, catalog-only; SHARE UPDATE EXCLUSIVE while the check is validated.
//! Undo: DROP NOT NULL.
//! Limits: NOT NULL on existing columns is not done yet.

use std::ops::Range;

use crate::decide::draft::Draft;
use crate::model::problem::Problem;
use crate::words::ident::{Ident, QualifiedName};

pub(crate) fn plan(
    draft: &mut Draft<'_>,
    span: &Range<usize>,
    table: &QualifiedName,
    column: &Ident,
) -> Result<(), Problem> {
    let Some(added) = draft.added(table, column) else {
        return Err(Problem::unsupported(
            span.clone(),
            "SET NOT NULL on a column that this file does not add",
        ));
    };
    added.column.not_null = true;
    draft.note(span, format!("SET NOT NULL on {}.{}", table.plain(), column.as_str()), "with the column");
    Ok(())
}
