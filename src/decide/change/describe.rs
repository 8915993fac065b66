//! Shape: COMMENT, GRANT.
//! Phases: expand, as written.
//! Locks: SHARE UPDATE EXCLUSIVE at most.
//! Undo: none; on an object that the file creates it goes with the object.
//! Limits: abort leaves a comment or a grant on an existing object in place, and the plan says so.

use crate::decide::draft::Draft;
use crate::decide::plan::TableLock;
use crate::model::problem::Problem;
use crate::model::sql::Statement;
use crate::words::lock_mode::LockMode;

pub(crate) fn plan(draft: &mut Draft<'_>, statement: &Statement, what: &str) -> Result<(), Problem> {
    let on_new = draft.created.iter().any(|table| statement.words.contains(table.name.as_str()));
    if !on_new {
        draft.warnings.push(format!(
            "abort leaves this in place: {}",
            statement.text.lines().next().unwrap_or_default()
        ));
    }
    draft.note(&statement.span, what, "expand: run it");
    let spoken_of = draft.catalog.tables.iter().filter(|table| {
        what == "COMMENT"
            && !draft.created.contains(&table.name)
            && statement.words.contains(table.name.name.as_str())
    });
    let mode = LockMode::ShareUpdateExclusive;
    let locks = spoken_of.map(|table| TableLock { table: table.name.clone(), mode }).collect();
    draft.run_in_expand(statement, what.to_lowercase(), Vec::new(), locks)
}
