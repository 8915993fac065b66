//! Shape: COMMENT, GRANT.
//! Phases: expand, as written.
//! Locks: SHARE UPDATE EXCLUSIVE at most.
//! Undo: none; on an object that the file creates it goes with the object.
//! Limits: abort leaves a comment or a grant on an existing object in place, and the plan says so.

use crate::decide::draft::Draft;
use crate::model::problem::Problem;
use crate::model::sql::Statement;

pub(crate) fn plan(draft: &mut Draft<'_>, statement: &Statement, what: &str) -> Result<(), Problem> {
    let on_new = draft.created.iter().any(|table| statement.words.contains(table.name.as_str()));
    if !on_new {
        draft.warnings.push(format!(
            "abort leaves this in place: {}",
            statement.text.lines().next().unwrap_or_default()
        ));
    }
    draft.note(&statement.span, what, "expand: run it");
    draft.run_in_expand(statement, what.to_lowercase(), Vec::new(), Vec::new())
}
