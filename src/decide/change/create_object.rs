//! Shape: CREATE TYPE, DOMAIN, SEQUENCE, SCHEMA, EXTENSION, FUNCTION, VIEW; ALTER TYPE … ADD VALUE.
//! Phases: expand, as written; OR REPLACE of what exists changes old behaviour and runs in contract.
//! Locks: none that anyone waits behind.
//! Undo: the matching DROP; an added enum value stays.
//! Limits: reopen does not bring back what OR REPLACE replaced.

use crate::decide::draft::Draft;
use crate::model::problem::Problem;
use crate::model::sql::{ObjectKind, Statement, StatementKind};

pub(crate) fn plan(draft: &mut Draft<'_>, statement: &Statement) -> Result<(), Problem> {
    let StatementKind::CreateObject { kind, name, or_replace, if_not_exists, arguments } = &statement.kind
    else {
        return Ok(());
    };
    let name = name.as_ref().map(|name| draft.new_name(name));
    let what = match &name {
        Some(name) => format!("CREATE {} {}", kind.word().to_uppercase(), name.plain()),
        None => format!("CREATE {}", kind.word().to_uppercase()),
    };
    let object = name.as_ref().map(|name| format!("{}:{}", kind.word(), name.plain()));
    let exists = object.as_ref().is_some_and(|object| draft.catalog.objects.contains(object));
    if exists && *or_replace {
        draft.note(
            &statement.span,
            what.clone(),
            "contract: it exists, so replacing it changes what old code gets",
        );
        draft.run_in_contract(statement, what.to_lowercase());
        return Ok(());
    }
    if exists && *if_not_exists {
        draft.note(&statement.span, what, "nothing: it exists");
        return Ok(());
    }
    // Functions may share a name; anything else may not.
    if exists && *kind != ObjectKind::Function {
        return Err(Problem::new(
            "exists",
            statement.span.clone(),
            format!("{what}: it exists already"),
            "this statement",
        ));
    }
    let undo = match (&name, *if_not_exists) {
        (Some(name), false) => vec![format!(
            "DROP {} IF EXISTS {name}{}",
            kind.word().to_uppercase(),
            arguments.as_deref().unwrap_or_default()
        )],
        _ => {
            draft.warnings.push(format!("abort leaves this in place: {what}"));
            Vec::new()
        }
    };
    draft.note(&statement.span, what.clone(), "expand: run it");
    draft.run_in_expand(statement, what.to_lowercase(), undo, Vec::new())?;
    draft.catalog.objects.extend(object);
    if let Some(name) = name.filter(|_| *kind == ObjectKind::Domain) {
        draft.catalog.checked_domains.extend([name.plain(), name.name.as_str().to_owned()]);
    }
    Ok(())
}

pub(crate) fn plan_enum_value(draft: &mut Draft<'_>, statement: &Statement) -> Result<(), Problem> {
    draft.note(
        &statement.span,
        "ALTER TYPE … ADD VALUE",
        "expand: run it; PostgreSQL cannot take an enum value away",
    );
    draft.warnings.push("abort leaves the added enum value in place".to_owned());
    draft.run_in_expand(statement, "add an enum value".to_owned(), Vec::new(), Vec::new())
}
