//! Shape: ALTER INDEX … RENAME TO; ALTER TYPE … RENAME TO, RENAME VALUE, RENAME ATTRIBUTE.
//! Phases: an index, expand, because no query names one; the rest, contract, because old code says the old name.
//! Locks: none that anyone waits behind.
//! Undo: the rename backwards.
//! Limits: until contract only the old name of a type, label or attribute works: new code must do with it until then.

use crate::decide::draft::{Draft, Phase, step};
use crate::model::problem::Problem;
use crate::model::sql::{RenameObject, Statement};

pub(crate) fn plan(
    draft: &mut Draft<'_>,
    statement: &Statement,
    rename: &RenameObject,
) -> Result<(), Problem> {
    let done = step(rename.what.clone(), vec![statement.text.clone()], vec![rename.back.clone()], Vec::new());
    if rename.is_index {
        draft.note(&statement.span, rename.what.clone(), "expand: run it; no query names an index");
        draft.push(Phase::Expand, done);
    } else {
        draft.note(
            &statement.span,
            rename.what.clone(),
            "contract: run it; until then only the old name works",
        );
        draft.push_seal(done);
    }
    Ok(())
}
