//! Shape: ALTER COLUMN … SET DEFAULT.
//! Phases: with a column that the file adds; where there was none, expand; where it replaces one, contract.
//! Locks: ACCESS EXCLUSIVE, catalog-only.
//! Undo: the default that was there, or none.
//! Limits: until contract new code gets the default that is replaced.

use std::ops::Range;

use crate::decide::draft::{Draft, Phase};
use crate::model::catalog::Column;
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
    let what = format!("SET DEFAULT on {}.{}", table.plain(), column.as_str());
    if let Some(added) = draft.added(table, column) {
        if added.column.default.is_some() {
            return Err(Problem::new("default-twice", span.clone(), format!("`{}` is given two defaults", column.as_str()), "the second one")
                .help("rows that exist would get the first, new rows the second: write one of them in a migration of its own"));
        }
        added.column.default = Some(ColumnDefault { expression: default.clone() });
        added.default_later = true;
        draft.note(span, what, "with the column");
        return Ok(());
    }
    if let Some(retyped) = draft.retyped(table, column) {
        retyped.conversion.default = Some(default.text().to_owned());
        draft.note(span, what, "contract: with the change of its type");
        return Ok(());
    }
    let was = default_of(draft, span, table, column)?;
    let set = format!("ALTER TABLE {table} ALTER COLUMN {column} SET DEFAULT {}", default.text());
    let phase = if was.is_some() { Phase::Contract } else { Phase::Expand };
    draft.claim_default(phase, span, table, column)?;
    match &was {
        None => {
            draft.note(span, what, "expand: there was none");
            let undo = format!("ALTER TABLE {table} ALTER COLUMN {column} DROP DEFAULT");
            draft.table(table).expand.push((set, undo));
        }
        Some(was) => {
            draft.note(span, what, "contract: old code counts on the one that is there");
            let undo = format!("ALTER TABLE {table} ALTER COLUMN {column} SET DEFAULT {was}");
            draft.table(table).seal.push((set, undo));
        }
    }
    if let Some(known) = draft.catalog.table_mut(table).and_then(|known| known.column_mut(column)) {
        known.default = Some(default.text().to_owned());
        known.constant_default = default.functions().is_empty();
    }
    Ok(())
}

/// The default that a column has, if it is one whose default can be changed.
pub(crate) fn default_of(
    draft: &Draft<'_>,
    span: &Range<usize>,
    table: &QualifiedName,
    column: &Ident,
) -> Result<Option<String>, Problem> {
    let known: Option<&Column> = draft.catalog.table(table).and_then(|known| known.column(column));
    match known {
        None => Err(Problem::no_column(span.clone(), table, column, "named here")),
        Some(known) if known.generated || known.identity => {
            let title = format!("`{}` is generated or an identity", column.as_str());
            Err(Problem::new("generated-default", span.clone(), title, "named here")
                .help("PostgreSQL gives such a column no default"))
        }
        Some(known) => Ok(known.default.clone()),
    }
}
