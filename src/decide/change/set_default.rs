//! Shape: ALTER COLUMN … SET DEFAULT on a column that the same file adds.
//! Phases: with the column: in expand, or in contract if the file fills it.
//! Locks: ACCESS EXCLUSIVE, catalog-only.
//! Undo: goes with the column.
//! Limits: defaults of existing columns are not done yet.

use std::ops::Range;

use crate::decide::draft::Draft;
use crate::model::problem::Problem;
use crate::model::sql::{ColumnDefault, Expression};
use crate::words::ident::{Ident, QualifiedName};

pub(crate) fn plan(
    draft: &mut Draft<'_>,
    span: &Range<usize>,
    table: &QualifiedName,
    column: &Ident,
    default: &Expression,
) -> Result<(), Problem> {
    let Some(added) = draft.added(table, column) else {
        return Err(Problem::unsupported(
            span.clone(),
            "SET DEFAULT on a column that this file does not add",
        ));
    };
    if added.column.default.is_some() {
        return Err(Problem::new("default-twice", span.clone(), format!("`{}` is given two defaults", column.as_str()), "the second one")
            .help("rows that exist would get the first, new rows the second: write one of them in a migration of its own"));
    }
    added.column.default = Some(ColumnDefault { expression: default.clone() });
    added.default_later = true;
    draft.note(span, format!("SET DEFAULT on {}.{}", table.plain(), column.as_str()), "with the column");
    Ok(())
}
