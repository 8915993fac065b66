//! Shape: ALTER COLUMN … DROP NOT NULL.
//! Phases: expand.
//! Locks: ACCESS EXCLUSIVE, catalog-only.
//! Undo: SET NOT NULL, proved by a check that is validated first; rows that are null by then are counted.
//! Limits: old code may read nulls from then on, which it never met before.

use std::ops::Range;

use crate::decide::change::constraint::lock;
use crate::decide::change::set_not_null::check_name;
use crate::decide::draft::{Draft, Phase, Touch, has_constraint, has_unproved, table_step, undo_only};
use crate::decide::plan::Loss;
use crate::model::problem::Problem;
use crate::words::ident::{Ident, QualifiedName};
use crate::words::lock_mode::LockMode;

pub(crate) fn plan(
    draft: &mut Draft<'_>,
    span: &Range<usize>,
    table: &QualifiedName,
    column: &Ident,
) -> Result<(), Problem> {
    let what = format!("DROP NOT NULL on {}.{}", table.plain(), column.as_str());
    if let Some(added) = draft.added(table, column) {
        added.column.not_null = false;
        draft.note(span, what, "with the column");
        return Ok(());
    }
    let Some(known) = draft.catalog.table_mut(table).and_then(|known| known.column_mut(column)) else {
        return Err(Problem::no_column(span.clone(), table, column, "named here"));
    };
    let was = std::mem::replace(&mut known.not_null, false);
    // Before anything is said of it: an earlier migration may be about to make it otherwise.
    draft.claim(Phase::Expand, Touch::Change, span, table, column)?;
    if !was {
        draft.note(span, what, "nothing: it may be null");
        return Ok(());
    }
    draft.note(span, what, "expand: run it; old code may then read nulls");
    draft.table(table);
    let check = check_name(draft, column);
    draft.losses.push(Loss {
        what: format!("rows of {} with no {}", table.plain(), column.as_str()),
        count: format!("SELECT count(*) FROM {table} WHERE {column} IS NULL"),
        blocks: true,
    });
    let place = format!("{}.{}", table.plain(), column.as_str());
    // Backwards the last of the three comes first: a check for new rows, for all rows, and NOT NULL by its proof.
    let not_null = undo_only(
        &format!("set {place} NOT NULL again"),
        has_constraint(table, &check),
        vec![
            format!("LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE"),
            format!("ALTER TABLE {table} ALTER COLUMN {column} SET NOT NULL"),
            format!("ALTER TABLE {table} DROP CONSTRAINT {check}"),
        ],
        lock(table, LockMode::AccessExclusive),
    );
    draft.push(Phase::Expand, not_null);
    draft.push(
        Phase::Expand,
        undo_only(
            &format!("prove that {place} holds no null"),
            has_unproved(table, &check),
            vec![format!("ALTER TABLE {table} VALIDATE CONSTRAINT {check}")],
            lock(table, LockMode::ShareUpdateExclusive),
        ),
    );
    let drop = format!("ALTER TABLE {table} ALTER COLUMN {column} DROP NOT NULL");
    let add = format!("ALTER TABLE {table} ADD CONSTRAINT {check} CHECK ({column} IS NOT NULL) NOT VALID");
    draft.push(Phase::Expand, table_step(table, format!("allow nulls in {place}"), vec![drop], vec![add]));
    Ok(())
}
