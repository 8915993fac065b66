//! Shape: ALTER COLUMN … DROP DEFAULT.
//! Phases: contract: old code that leaves the column out counts on it.
//! Locks: ACCESS EXCLUSIVE, catalog-only.
//! Undo: SET DEFAULT to what it was.
//! Limits: until contract new code that leaves the column out gets the default as well.

use std::ops::Range;

use crate::decide::change::alter_type::is_retyped;
use crate::decide::change::set_default::default_of;
use crate::decide::draft::{Draft, Phase, Touch};
use crate::model::problem::Problem;
use crate::words::ident::{Ident, QualifiedName};

pub(crate) fn plan(
    draft: &mut Draft<'_>,
    span: &Range<usize>,
    table: &QualifiedName,
    column: &Ident,
) -> Result<(), Problem> {
    let what = format!("DROP DEFAULT on {}.{}", table.plain(), column.as_str());
    if draft.added(table, column).is_some() {
        let title = format!("the default of `{}` is given and taken by one file", column.as_str());
        return Err(Problem::new("default-twice", span.clone(), title, "taken here")
            .help("take it away in a migration of its own, after this one is done"));
    }
    let Some(was) = default_of(draft, span, table, column)? else {
        draft.claim(Phase::Contract, Touch::Change, span, table, column)?;
        draft.note(span, what, "nothing: there is none");
        return Ok(());
    };
    if let Some(retyped) = draft.retyped(table, column) {
        retyped.conversion.default = None;
        draft.note(span, what, "contract: with the change of its type");
        return Ok(());
    }
    if is_retyped(draft, table, column) {
        draft.table(table).default_dropped.push(column.clone());
        draft.note(span, what, "contract: with the change of its type");
        if let Some(known) = draft.catalog.table_mut(table).and_then(|known| known.column_mut(column)) {
            known.default = None;
        }
        return Ok(());
    }
    draft.claim(Phase::Contract, Touch::Change, span, table, column)?;
    draft.note(span, what, "contract: old code counts on it");
    let sql = format!("ALTER TABLE {table} ALTER COLUMN {column} DROP DEFAULT");
    let undo = format!("ALTER TABLE {table} ALTER COLUMN {column} SET DEFAULT {was}");
    draft.table(table).seal.push((sql, undo));
    if let Some(known) = draft.catalog.table_mut(table).and_then(|known| known.column_mut(column)) {
        known.default = None;
    }
    Ok(())
}
