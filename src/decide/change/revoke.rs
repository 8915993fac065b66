//! Shape: REVOKE.
//! Phases: contract, with the drops; on what the file itself makes, expand.
//! Locks: none that anyone waits behind.
//! Undo: none: it runs after the soak, when there is only forward.
//! Limits: a GRANT on the same object goes into a migration of its own.

use crate::decide::draft::{Draft, step};
use crate::model::catalog::ObjectRef;
use crate::model::problem::Problem;
use crate::model::sql::{Name, Statement};
use crate::words::ident::QualifiedName;

pub(crate) fn plan(draft: &mut Draft<'_>, statement: &Statement) -> Result<(), Problem> {
    let path = draft.settings.search_path.clone();
    let full = |name: &Name| {
        let known = draft.catalog.resolve(name, &path);
        known.unwrap_or_else(|| draft.new_name(name))
    };
    let objects: Vec<QualifiedName> = statement.objects.iter().map(full).collect();
    let is_new = |name: &QualifiedName| {
        draft.created.contains(name) || draft.made.iter().any(|made| &made.name == name)
    };
    if !objects.is_empty() && objects.iter().all(is_new) {
        draft.note(&statement.span, "REVOKE", "expand: run it, the object is new");
        return draft.run_in_expand(statement, "revoke".to_owned(), Vec::new(), Vec::new());
    }
    draft.note(&statement.span, "REVOKE", "contract: old code may need the right");
    let revoked = step("revoke".to_owned(), vec![statement.text.clone()], Vec::new(), Vec::new());
    draft.run_with_drops(statement, revoked);
    for name in &objects {
        draft.touch(ObjectRef::new("rights", name), &statement.span)?;
    }
    Ok(())
}
