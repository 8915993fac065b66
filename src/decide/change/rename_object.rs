//! Shape: ALTER VIEW, SEQUENCE, FUNCTION, TYPE, DOMAIN, INDEX and their like … RENAME TO or SET SCHEMA; ALTER TYPE … RENAME VALUE,
//! RENAME ATTRIBUTE.
//! Phases: an index, expand, because no query names one; the rest, contract, because old code says the old name.
//! Locks: ACCESS EXCLUSIVE on a view, for a moment; otherwise none that anyone waits behind.
//! Undo: the rename backwards.
//! Limits: a type of the file takes the name of one that it drops in the transaction that hides that, if only one table leaves it
//! in that of the table's swap. Otherwise until contract only the old name works: new code must do with it until then.

use crate::decide::change::drop_object::unknown;
use crate::decide::draft::{Draft, Phase, step};
use crate::decide::plan::TableLock;
use crate::model::catalog::ObjectRef;
use crate::model::problem::Problem;
use crate::model::sql::{NewName, ObjectKind, RenameObject, Statement};
use crate::words::ident::QualifiedName;
use crate::words::lock_mode::LockMode;

pub(crate) fn plan(
    draft: &mut Draft<'_>,
    statement: &Statement,
    rename: &RenameObject,
) -> Result<(), Problem> {
    let kind = rename.kind;
    let object = draft.object(kind, &rename.target);
    // A domain may be renamed as a type, and the other way round.
    let object = match (object, kind) {
        (None, ObjectKind::Type) => draft.object(ObjectKind::Domain, &rename.target),
        (object, _) => object,
    };
    // A type that the file makes may take the name of one that it drops: PostgreSQL has no other way to take labels from an enum.
    let (reference, arguments) = match object {
        Some(object) => (object.reference(), object.arguments),
        None if kind == ObjectKind::Type && draft.makes(kind, &rename.target) => {
            (ObjectRef::new(kind.word(), &draft.new_name(&rename.target.name)), String::new())
        }
        None => return Err(unknown(kind, &rename.target)),
    };
    let (word, name) = (kind.sql(), &reference.name);
    let (what, now, back) = match &rename.to {
        NewName::Name(new) => (
            format!("RENAME {word} {name} to {new}"),
            QualifiedName::new(name.schema.clone(), new.clone()),
            format!("RENAME TO {}", name.name),
        ),
        NewName::Schema(schema) => (
            format!("SET SCHEMA of {name} to {schema}"),
            QualifiedName::new(schema.clone(), name.name.clone()),
            format!("SET SCHEMA {}", name.schema),
        ),
        NewName::Label(from, to) => (
            format!("RENAME VALUE {from} of {name} to {to}"),
            name.clone(),
            format!("RENAME VALUE {to} TO {from}"),
        ),
        NewName::Attribute(from, to) => (
            format!("RENAME ATTRIBUTE {from} of {name} to {to}"),
            name.clone(),
            format!("RENAME ATTRIBUTE {to} TO {from}"),
        ),
    };
    let taken = match kind {
        ObjectKind::Type | ObjectKind::Domain => ["type", "domain"]
            .iter()
            .any(|word| draft.catalog.objects.contains(&format!("{word}:{}", now.plain()))),
        ObjectKind::Function | ObjectKind::Procedure => false,
        _ => draft.catalog.relations.iter().any(|relation| relation.name == now),
    };
    let place = draft.place_of_renamed(rename);
    if taken && &now != name && place.is_none() {
        let title = format!("`{}` exists already", now.plain());
        return Err(Problem::new("exists", statement.span.clone(), title, "this name"));
    }
    let back = format!("ALTER {word} {now}{arguments} {back}");
    if let Some(at) = place {
        draft.note(&statement.span, what, "contract: when the name is free, in the same transaction");
        draft.replace(at, statement.text.clone(), back);
        return draft.touch(reference, &statement.span);
    }
    let lock = TableLock { table: name.clone(), mode: LockMode::AccessExclusive };
    let locks = if kind.is_view() { vec![lock] } else { Vec::new() };
    let done = step(what.clone(), vec![statement.text.clone()], vec![back], locks);
    if kind == ObjectKind::Index && matches!(rename.to, NewName::Name(_)) {
        draft.note(&statement.span, what, "expand: run it; no query names an index");
        draft.push(Phase::Expand, done);
    } else {
        draft.note(&statement.span, what, "contract: run it; until then only the old name works");
        draft.push_seal(done);
        if &now == name {
            draft.reserve_object(reference);
        } else {
            let renamed = ObjectRef::new(&reference.kind, &now);
            draft.touch(reference, &statement.span)?;
            draft.touch(renamed, &statement.span)?;
        }
    }
    Ok(())
}
