//! Shape: ALTER TABLE … ENABLE, DISABLE, FORCE or NO FORCE ROW LEVEL SECURITY.
//! Phases: what lets more through, expand; what hides rows, contract.
//! Locks: ACCESS EXCLUSIVE, catalog-only.
//! Undo: the opposite.
//! Limits: FORCE is refused beside anything that has yet to read the table, unless the role bypasses row security.

use std::ops::Range;

use crate::decide::draft::{Draft, Phase, table_step};
use crate::model::catalog::ObjectRef;
use crate::model::problem::Problem;
use crate::model::sql::Action;
use crate::words::ident::QualifiedName;

pub(crate) fn plan(
    draft: &mut Draft<'_>,
    span: &Range<usize>,
    table: &QualifiedName,
    action: &Action,
) -> Result<(), Problem> {
    let Action::RowSecurity { text, back, relaxes } = action else { return Ok(()) };
    let what = format!("{text} on {}", table.plain());
    let Some(known) = draft.catalog.table_mut(table) else { return Ok(()) };
    let forces = back.contains("FORCE");
    let state = if forces { &mut known.row_security_forced } else { &mut known.row_security };
    if *state != *relaxes {
        draft.note(span, what, "nothing: it is so already");
        return Ok(());
    }
    *state = !relaxes;
    let hides = known.row_security && known.row_security_forced && !draft.catalog.bypasses_row_security;
    if hides && draft.has_rows_to_see(table) {
        let title = format!(
            "rows of `{}` are still to be looked at when this hides them from the table's owner",
            table.plain()
        );
        return Err(Problem::new("row-security", span.clone(), title, "this would come first").help(
            "run migrate as a role with BYPASSRLS; or put this into a migration of its own, when the other is contracted",
        ));
    }
    let done = table_step(
        table,
        what.clone(),
        vec![format!("ALTER TABLE {table} {text}")],
        vec![format!("ALTER TABLE {table} {back}")],
    );
    draft.table(table);
    if *relaxes {
        draft.note(span, what, "expand: run it; it only lets more through");
        draft.push(Phase::Expand, done);
    } else {
        draft.note(span, what, "contract: it hides rows from old code");
        draft.push_seal(done);
        draft.touch(ObjectRef::new("row security", table), span)?;
    }
    Ok(())
}
