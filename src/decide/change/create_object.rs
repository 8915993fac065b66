//! Shape: CREATE TYPE, DOMAIN, SEQUENCE, SCHEMA, EXTENSION, FUNCTION, PROCEDURE, VIEW, MATERIALIZED VIEW; ALTER TYPE … ADD VALUE.
//! Phases: expand, as written; OR REPLACE of what exists, or the name of what the file drops, changes old behaviour: contract.
//! Locks: none that anyone waits behind.
//! Undo: the matching DROP, or what was there before; an added enum value stays.
//! Limits: reopen cannot bring back a view that others use and that got more columns.

use crate::decide::draft::{Draft, step};
use crate::model::catalog::Object;
use crate::model::problem::Problem;
use crate::model::sql::{CreateObject, ObjectKind, Statement};
use crate::words::ident::QualifiedName;

pub(crate) fn plan(
    draft: &mut Draft<'_>,
    statement: &Statement,
    object: &CreateObject,
) -> Result<(), Problem> {
    let kind = object.kind;
    let name = object.name.as_ref().map(|name| draft.new_name(name));
    let what = match &name {
        Some(name) => format!("CREATE {} {}", kind.sql(), name.plain()),
        None => format!("CREATE {}", kind.sql()),
    };
    if let Some(name) = &name
        && let Some(going) = draft.going_named(kind, name).map(|going| going.what.clone())
    {
        in_place_of(draft, statement, object, name, &going);
        return Ok(());
    }
    let key = name.as_ref().map(|name| format!("{}:{}", kind.word(), name.plain()));
    let exists = key.as_ref().is_some_and(|key| draft.catalog.objects.contains(key));
    if let Some(target) = object.target().filter(|_| exists && object.or_replace)
        && let Some(old) = draft.object(kind, &target)?
    {
        replace(draft, statement, &what, &old, object);
        return Ok(());
    }
    if exists && object.if_not_exists {
        draft.note(&statement.span, what, "nothing: it exists");
        return Ok(());
    }
    // Functions of other arguments may share a name; anything else may not.
    if exists && !matches!(kind, ObjectKind::Function | ObjectKind::Procedure) {
        return Err(Problem::new(
            "exists",
            statement.span.clone(),
            format!("{what}: it exists already, or a migration before makes it"),
            "this statement",
        ));
    }
    let undo = match (&name, object.if_not_exists) {
        (Some(name), false) => vec![drop_sql(object, name)],
        _ => {
            draft.warnings.push(format!("abort leaves this in place: {what}"));
            Vec::new()
        }
    };
    draft.note(&statement.span, what.clone(), "expand: run it");
    draft.run_in_expand(statement, what.to_lowercase(), undo, Vec::new())?;
    draft.catalog.objects.extend(key);
    if let Some(name) = name.filter(|_| kind == ObjectKind::Domain) {
        draft.catalog.checked_domains.extend([name.plain(), name.name.as_str().to_owned()]);
    }
    Ok(())
}

/// The file drops an object of that name: until contract old and new code use the old one.
fn in_place_of(
    draft: &mut Draft<'_>,
    statement: &Statement,
    object: &CreateObject,
    name: &QualifiedName,
    going: &str,
) {
    draft.note(
        &statement.span,
        format!("CREATE {} {}", object.kind.sql(), name.plain()),
        "contract: in the place of the one that is dropped, in the same transaction",
    );
    draft.replace(going, statement.text.clone(), drop_sql(object, name));
}

/// OR REPLACE keeps what hangs on the object; it comes before the columns that it no longer names are sealed.
fn replace(draft: &mut Draft<'_>, statement: &Statement, what: &str, old: &Object, object: &CreateObject) {
    let undo = match (object.kind, old.dependants.is_empty()) {
        // With fewer columns than before it can only be made anew.
        (ObjectKind::View, true) => {
            let drop = format!("DROP VIEW {}", old.name);
            std::iter::once(drop).chain(old.definition.clone()).collect()
        }
        (ObjectKind::View, false) => {
            let first = old.definition.iter().take(1);
            first.map(|sql| sql.replacen("CREATE VIEW", "CREATE OR REPLACE VIEW", 1)).collect()
        }
        _ => old.definition.clone(),
    };
    draft.note(&statement.span, what, "contract: it exists, so replacing it changes what old code gets");
    draft.push_seal_first(step(what.to_lowercase(), vec![statement.text.clone()], undo, Vec::new()));
    draft.rewrite(old.what.clone(), object.reads.clone());
}

/// The DROP that takes it back.
pub(super) fn drop_sql(object: &CreateObject, name: &QualifiedName) -> String {
    format!("DROP {} IF EXISTS {name}{}", object.kind.sql(), object.arguments.as_deref().unwrap_or_default())
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
