//! Shape: CREATE POLICY, CREATE TRIGGER.
//! Phases: a permissive policy under a new name, expand; a restrictive one and what the file makes beside it, a trigger, or one
//! in the place of another, contract, because it changes what old code meets.
//! Locks: ACCESS EXCLUSIVE, catalog-only.
//! Undo: the matching DROP, or what was there before.
//! Limits: a permissive policy shows old code more rows from expand on; a policy for new code alone cannot be had.

use crate::decide::draft::{Draft, Phase, table_step};
use crate::model::catalog::ObjectRef;
use crate::model::problem::Problem;
use crate::model::sql::{CreateOnTable, Name, ObjectKind, Statement, StatementKind, Target};
use crate::words::ident::QualifiedName;

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
    let full = QualifiedName::new(table.schema.clone(), name.clone());
    draft.claim_moving(statement, false)?;
    if let Some(at) = draft.place_on(kind, &full, &table) {
        draft.note(&statement.span, what, "contract: in the place of the one that is dropped");
        draft.replace(at, statement.text.clone(), drop);
        return Ok(());
    }
    super::create_object::refuse_renamed(draft, statement)?;
    let new = ObjectRef {
        kind: kind.word().to_owned(),
        what: format!("{} {} on table {table}", kind.word(), name.as_str()),
        name: full,
        on_table: Some(table.clone()),
    };
    let named = Name { name: name.clone(), ..object.table.clone() };
    let target = Target { name: named, table: Some(object.table.clone()), signature: None };
    if let Some(old) = draft.object(kind, &target) {
        if !object.or_replace {
            let title = format!("{} exists already", old.what);
            return Err(Problem::new("exists", statement.span.clone(), title, "this statement"));
        }
        draft.note(&statement.span, what.clone(), "contract: it replaces one that old code meets");
        let undo = std::iter::once(drop).chain(old.definition.clone()).collect();
        draft.table(&table);
        draft.push_seal_first(table_step(&table, what, vec![statement.text.clone()], undo));
        draft.touch(old.reference(), &statement.span)?;
        draft.rewrite(old.what, None);
        return Ok(());
    }
    // A permissive policy without the restrictive one that belongs to it would open what both close.
    let restrictive = |other: &Statement| {
        matches!(&other.kind, StatementKind::CreateOnTable(other)
            if other.restrictive && other.table.name == object.table.name)
    };
    let relaxes = kind == ObjectKind::Policy && !draft.file.statements.iter().any(restrictive);
    let placed = table_step(&table, what.clone(), vec![statement.text.clone()], vec![drop]);
    draft.table(&table);
    if relaxes {
        draft.claim_words(statement)?;
        draft.note(&statement.span, what, "expand: run it; it only lets more through");
        draft.push(Phase::Expand, placed);
        draft.made.push(new);
    } else {
        draft.note(&statement.span, what, "contract: it changes what old code meets");
        draft.push_seal(placed);
        draft.touch(new, &statement.span)?;
    }
    Ok(())
}
