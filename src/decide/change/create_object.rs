//! Shape: CREATE TYPE, DOMAIN, SEQUENCE, SCHEMA, EXTENSION, FUNCTION, PROCEDURE, VIEW, MATERIALIZED VIEW; ALTER TYPE … ADD VALUE.
//! Phases: expand, as written; OR REPLACE of what exists, or the name of what the file drops, changes old behaviour: contract.
//! Locks: ACCESS EXCLUSIVE on a view that is replaced, for a moment; otherwise none that anyone waits behind.
//! Undo: the matching DROP, or what was there before; an added enum value stays.
//! Limits: OR REPLACE of a view that adds columns is refused, because reopen could not take them away: DROP and CREATE it.

use crate::decide::draft::{Draft, step};
use crate::decide::plan::TableLock;
use crate::model::catalog::{Object, ObjectRef, Relation};
use crate::model::problem::Problem;
use crate::model::sql::{CreateObject, Name, ObjectKind, Statement};
use crate::words::ident::{Ident, QualifiedName};
use crate::words::lock_mode::LockMode;

pub(crate) fn plan(
    draft: &mut Draft<'_>,
    statement: &Statement,
    object: &CreateObject,
) -> Result<(), Problem> {
    let kind = object.kind;
    if let (ObjectKind::Schema, Some(name), false) = (kind, &object.name, object.if_not_exists) {
        return schema(draft, statement, name);
    }
    let name = object.name.as_ref().map(|name| draft.new_name(name));
    let what = match &name {
        Some(name) => format!("CREATE {} {}", kind.sql(), name.plain()),
        None => format!("CREATE {}", kind.sql()),
    };
    if let Some(at) = draft.place_of(object)
        && let Some(name) = &name
    {
        check_names(draft, statement, object)?;
        let becomes = "contract: in the place of the one that is dropped, in the same transaction";
        draft.note(&statement.span, what, becomes);
        draft.replace(at, statement.text.clone(), drop_sql(object, name));
        return Ok(());
    }
    let key = name.as_ref().map(|name| format!("{}:{}", kind.word(), name.plain()));
    let exists = key.as_ref().is_some_and(|key| draft.catalog.objects.contains(key));
    if let Some(target) = object.target().filter(|_| exists && object.or_replace) {
        // One that the search path finds further on is another one.
        let old = draft.object(kind, &target).filter(|old| Some(&old.name) == name.as_ref());
        if let Some(old) = old {
            return replace(draft, statement, &what, &old, object);
        }
        if object.signature.as_ref().is_some_and(|signature| signature.contains('%')) {
            return Err(Problem::unsupported(statement.span.clone(), "OR REPLACE of a function with %TYPE")
                .help("write the type that is meant"));
        }
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
    draft.made.extend(name.as_ref().map(|name| ObjectRef::new(kind.word(), name)));
    if let Some(name) = name.clone().filter(|_| kind == ObjectKind::MaterializedView) {
        draft.catalog.relations.push(Relation { name: name.clone() });
        draft.created.insert(name);
    }
    if let Some(name) = name.filter(|_| kind == ObjectKind::Domain) {
        draft.catalog.checked_domains.extend([name.plain(), name.name.as_str().to_owned()]);
    }
    Ok(())
}

/// OR REPLACE keeps what hangs on the object; it comes before the columns that it no longer names are sealed.
fn replace(
    draft: &mut Draft<'_>,
    statement: &Statement,
    what: &str,
    old: &Object,
    object: &CreateObject,
) -> Result<(), Problem> {
    refuse_renamed(draft, statement)?;
    check_names(draft, statement, object)?;
    let becomes = "contract: it exists, so replacing it changes what old code gets";
    draft.note(&statement.span, what, becomes);
    // What it was may name what is gone, and is then brought back as it was.
    let unchecked = matches!(object.kind, ObjectKind::Function | ObjectKind::Procedure);
    let unchecked = unchecked.then(|| "SET LOCAL check_function_bodies = off".to_owned());
    let undo = unchecked.into_iter().chain(old.definition.clone()).collect();
    let lock = TableLock { table: old.name.clone(), mode: LockMode::AccessExclusive };
    let locks = if object.kind == ObjectKind::View { vec![lock] } else { Vec::new() };
    draft.push_seal_first(step(what.to_lowercase(), vec![statement.text.clone()], undo, locks));
    draft.touch(old.reference(), &statement.span)?;
    draft.rewrite(old.what.clone(), object.reads.clone());
    Ok(())
}

/// What contract makes may name no column that is on its way: of a migration in flight, or by `*`, which while a table is sealed
/// means hidden columns as well.
pub(super) fn check_names(
    draft: &Draft<'_>,
    statement: &Statement,
    object: &CreateObject,
) -> Result<(), Problem> {
    let star = object.kind.is_view() && object.reads.is_none();
    draft.claim_moving(statement, star)?;
    let named = |table: &QualifiedName| statement.objects.iter().any(|name| name.name == table.name);
    if !star || !draft.file_changes(named) {
        return Ok(());
    }
    let title = "`*` would take in columns that are only there until the drop";
    Err(Problem::new("star", statement.span.clone(), title, "this view").help("name the columns"))
}

/// Until the seal the new name of a column belongs to its shadow, which goes.
pub(super) fn refuse_renamed(draft: &Draft<'_>, statement: &Statement) -> Result<(), Problem> {
    let named = |ident: &Ident| statement.words.contains(ident.as_str());
    let renamed = draft
        .tables
        .iter()
        .filter(|work| named(&work.name.name))
        .flat_map(|work| &work.renamed)
        .find(|renamed| named(&renamed.from) || named(&renamed.to));
    let Some(renamed) = renamed else { return Ok(()) };
    let title = format!("this names `{}`, which the file renames", renamed.to.as_str());
    Err(Problem::new("rename-source", statement.span.clone(), title, "this statement")
        .help("split the file: the rename goes into a migration of its own"))
}

/// A schema has no schema of its own. What somebody else put into it stops the abort.
fn schema(draft: &mut Draft<'_>, statement: &Statement, name: &Name) -> Result<(), Problem> {
    let what = format!("CREATE SCHEMA {}", name.name.as_str());
    if !draft.catalog.objects.insert(format!("schema:{}", name.name.as_str())) {
        let title = format!("{what}: it exists already, or a migration before makes it");
        return Err(Problem::new("exists", statement.span.clone(), title, "this statement"));
    }
    draft.note(&statement.span, what.clone(), "expand: run it");
    let undo = vec![format!("DROP SCHEMA IF EXISTS {}", name.name)];
    draft.run_in_expand(statement, what.to_lowercase(), undo, Vec::new())
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
    // An aborted try leaves it.
    let text = if_not_exists(&statement.text);
    draft.run_in_expand(
        &Statement { text, ..statement.clone() },
        "add an enum value".to_owned(),
        Vec::new(),
        Vec::new(),
    )
}

/// The statement for a label that may be there.
fn if_not_exists(text: &str) -> String {
    let upper = text.to_ascii_uppercase();
    let behind = upper.match_indices("ADD").find_map(|(at, add)| {
        let rest = upper.get(at + add.len()..)?;
        let value = rest.trim_start().strip_prefix("VALUE")?;
        value.starts_with(char::is_whitespace).then(|| text.len() - value.len())
    });
    match behind {
        Some(at) if !upper[at..].trim_start().starts_with("IF") => {
            format!("{} IF NOT EXISTS{}", &text[..at], &text[at..])
        }
        _ => text.to_owned(),
    }
}
