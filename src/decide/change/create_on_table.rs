//! Shape: CREATE POLICY, CREATE TRIGGER.
//! Phases: a permissive policy under a new name, expand; a restrictive one, a trigger, or one in the place of another,
//! contract, because it changes what old code meets.
//! Locks: ACCESS EXCLUSIVE, catalog-only.
//! Undo: the matching DROP, or what was there before.
//! Limits: a permissive policy shows old code more rows from expand on; a policy for new code alone cannot be had.

use crate::decide::draft::{Draft, Phase, table_step};
use crate::model::problem::Problem;
use crate::model::sql::{CreateOnTable, ObjectKind, Statement, Target};

pub(crate) fn plan(
    draft: &mut Draft<'_>,
    statement: &Statement,
    object: &CreateOnTable,
) -> Result<(), Problem> {
    let table = draft.existing(&object.table)?;
    let (kind, name) = (object.kind, &object.name);
    let what = format!("CREATE {} {} on {}", kind.sql(), name.as_str(), table.plain());
    if draft.created.contains(&table) {
        return super::create_table::plan_later(draft, statement, &table, &format!("CREATE {}", kind.sql()));
    }
    super::supported(draft, &object.table, &table)?;
    let drop = format!("DROP {} IF EXISTS {name} ON {table}", kind.sql());
    let full = crate::words::ident::QualifiedName::new(table.schema.clone(), name.clone());
    let going = draft.going_named(kind, &full).filter(|going| going.on_table.as_ref() == Some(&table));
    if let Some(going) = going.map(|going| going.what.clone()) {
        draft.note(&statement.span, what, "contract: in the place of the one that is dropped");
        draft.replace(&going, statement.text.clone(), drop);
        return Ok(());
    }
    let named = crate::model::sql::Name { name: name.clone(), ..object.table.clone() };
    let target = Target { name: named, table: Some(object.table.clone()), signature: None };
    if let Some(old) = draft.object(kind, &target)? {
        if !object.or_replace {
            let title = format!("{} exists already", old.what);
            return Err(Problem::new("exists", statement.span.clone(), title, "this statement"));
        }
        draft.note(&statement.span, what.clone(), "contract: it replaces one that old code meets");
        let undo = std::iter::once(drop).chain(old.definition.clone()).collect();
        draft.table(&table);
        draft.push_seal_first(table_step(&table, what, vec![statement.text.clone()], undo));
        draft.rewrite(old.what, None);
        return Ok(());
    }
    let relaxes = kind == ObjectKind::Policy && !object.restrictive;
    let placed = table_step(&table, what.clone(), vec![statement.text.clone()], vec![drop]);
    draft.table(&table);
    if relaxes {
        draft.claim_words(statement)?;
        draft.note(&statement.span, what, "expand: run it; it only lets more through");
        draft.push(Phase::Expand, placed);
    } else {
        draft.note(&statement.span, what, "contract: it changes what old code meets");
        draft.push_seal(placed);
    }
    Ok(())
}
