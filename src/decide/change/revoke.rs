//! Shape: REVOKE.
//! Phases: contract, as written, at the very end.
//! Locks: none that anyone waits behind.
//! Undo: none: it runs after the soak, when there is only forward.
//! Limits: a right that only new code needs to lose cannot be told from one that old code needs.

use crate::decide::draft::Draft;
use crate::model::problem::Problem;
use crate::model::sql::Statement;

pub(crate) fn plan(draft: &mut Draft<'_>, statement: &Statement) -> Result<(), Problem> {
    let on_new = draft.created.iter().any(|table| statement.words.contains(table.name.as_str()));
    if on_new {
        draft.note(&statement.span, "REVOKE", "expand: run it, the table is new");
        return draft.run_in_expand(statement, "revoke".to_owned(), Vec::new(), Vec::new());
    }
    draft.note(&statement.span, "REVOKE", "contract: old code may need the right");
    draft.run_in_contract(statement, "revoke".to_owned());
    Ok(())
}
