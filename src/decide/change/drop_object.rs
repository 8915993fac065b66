//! Shape: DROP TABLE, VIEW, MATERIALIZED VIEW, SEQUENCE, FUNCTION, PROCEDURE, TYPE, DOMAIN, INDEX, POLICY, TRIGGER.
//! Phases: contract: a new name out of reach, soak, drop; a policy or trigger goes with the seal, an index with the drop.
//! Locks: ACCESS EXCLUSIVE, catalog-only; on the tables that a dropped table's foreign keys point at too.
//! Undo: while sealed, the old name again, or the policy or trigger as it was; an index and what was dropped stay gone.
//! Limits: never CASCADE: what depends on the object is listed and must go first, in the same file or before. A name may be
//! used again in the file for a view, function, policy or trigger: both change in one transaction, which readers of a
//! materialized view wait for. Writes to a table that goes are evidence for the gate, from a trigger that expand makes.

use std::ops::Range;

use crate::decide::change::let_go;
use crate::decide::change::supported_table;
use crate::decide::draft::{Draft, Phase, Touch, step, table_step};
use crate::decide::plan::{Mode, Step, TableLock};
use crate::decide::sync::Watch;
use crate::model::catalog::Object;
use crate::model::problem::Problem;
use crate::model::sql::{DropObjects, ObjectKind, Statement, StatementKind, Target};
use crate::words::ident::literal;
use crate::words::lock_mode::LockMode;

pub(crate) fn plan(
    draft: &mut Draft<'_>,
    statement: &Statement,
    objects: &DropObjects,
) -> Result<(), Problem> {
    if objects.cascade {
        return Err(Problem::cascade(statement.span.clone()));
    }
    // What one statement drops does not stand in each other's way.
    let together: Vec<String> = objects
        .targets
        .iter()
        .filter_map(|target| draft.object(objects.kind, target))
        .map(|object| object.what)
        .collect();
    for target in in_order(draft, objects) {
        one(draft, statement, objects, target, &together)?;
    }
    Ok(())
}

/// What a statement drops, that which uses other things of it before those.
fn in_order<'a>(draft: &Draft<'_>, objects: &'a DropObjects) -> Vec<&'a Target> {
    let mut left: Vec<_> =
        objects.targets.iter().map(|target| (target, draft.object(objects.kind, target))).collect();
    let mut order = Vec::new();
    while !left.is_empty() {
        // A foreign key is named with its table.
        let uses = |object: &Object, other: &Object| {
            object.what != other.what && other.dependants.iter().any(|what| what.ends_with(&object.what))
        };
        let used = |(_, object): &(&Target, Option<Object>)| {
            object.as_ref().is_some_and(|object| {
                left.iter().filter_map(|(_, other)| other.as_ref()).any(|other| uses(other, object))
            })
        };
        let first = left.iter().position(|one| !used(one)).unwrap_or_default();
        order.push(left.remove(first).0);
    }
    order
}

fn one(
    draft: &mut Draft<'_>,
    statement: &Statement,
    objects: &DropObjects,
    target: &Target,
    together: &[String],
) -> Result<(), Problem> {
    let (kind, span) = (objects.kind, &target.name.span);
    let what = format!("DROP {} {}", kind.sql(), target.name);
    let Some(object) = draft.object(kind, target) else {
        let new_table = draft.created.iter().any(|table| table.name == target.name.name);
        if new_table || draft.makes(kind, target) {
            return Err(Problem::new("drop-new", span.clone(), "this file creates it", "dropped here")
                .help("take both statements out"));
        }
        if objects.if_exists {
            draft.note(&statement.span, what, "nothing: there is no such object");
            return Ok(());
        }
        return Err(unknown(kind, target));
    };
    if let Some(whole) = &object.part_of {
        let title = format!("`{}` is part of {whole}", target.name.name.as_str());
        return Err(Problem::new("dependants", span.clone(), title, "dropped here").help("drop that instead"));
    }
    refuse_dependants(draft, span, &object, together)?;
    if let Some(table) = &object.on_table {
        supported_table(draft, span, table)?;
    }
    if matches!(kind, ObjectKind::Function | ObjectKind::Procedure) {
        refuse_with_its_table(draft, span, &object)?;
    }
    match kind {
        ObjectKind::Table => table(draft, span, &object)?,
        ObjectKind::Index => {
            index(draft, &object, span)?;
            let how = if object.partitioned { "contract: dropped" } else { "contract: dropped concurrently" };
            draft.note(&statement.span, what, how);
            return Ok(());
        }
        _ => draft.hide_object(&object, kind, span, Vec::new())?,
    }
    if let Some(on) = &object.on_table {
        draft.table(on);
    }
    let becomes = if object.on_table.is_some() {
        "contract: taken away"
    } else {
        "contract: hidden by a new name, soak, drop"
    };
    draft.note(&statement.span, what, becomes);
    Ok(())
}

/// While the table is hidden, so is the type by which the function is told from others.
fn refuse_with_its_table(draft: &Draft<'_>, span: &Range<usize>, object: &Object) -> Result<(), Problem> {
    let takes = |target: &&Target| {
        let table = draft.existing(&target.name).ok();
        table.is_some_and(|table| object.arguments.contains(&table.to_string()))
    };
    let mut tables = draft.file.statements.iter().filter_map(|other| match &other.kind {
        StatementKind::DropObjects(objects) if objects.kind == ObjectKind::Table => Some(&objects.targets),
        _ => None,
    });
    let Some(table) = tables.find_map(|targets| targets.iter().find(takes)) else { return Ok(()) };
    Err(Problem::unsupported(
        span.clone(),
        "a function that goes together with the table whose rows it takes",
    )
    .and(table.name.span.clone(), "the table is dropped here")
    .help("drop the function in a migration before"))
}

/// A name that means nothing of its kind.
pub(super) fn unknown(kind: ObjectKind, target: &Target) -> Problem {
    let title = format!("there is no {} `{}`, or more than one", kind.word(), target.name);
    Problem::new("unknown-name", target.name.span.clone(), title, "named here")
        .help("names without a schema are looked up by the setting `search_path`; a function may need its argument types")
}

fn refuse_dependants(
    draft: &Draft<'_>,
    span: &Range<usize>,
    object: &Object,
    together: &[String],
) -> Result<(), Problem> {
    let in_the_way: Vec<&str> = object
        .dependants
        .iter()
        .map(String::as_str)
        .filter(|what| !draft.takes_away(what) && !together.iter().any(|other| other == what))
        .collect();
    if in_the_way.is_empty() {
        return Ok(());
    }
    let title = format!(
        "`{}` cannot be dropped while other objects use it: {}",
        object.name.name.as_str(),
        in_the_way.join(", ")
    );
    Err(Problem::new("dependants", span.clone(), title, "dropped here")
        .help("drop or change those first, above in the same file or in a migration before"))
}

/// Nobody may change the table until it is gone, and the tables it points at are locked for a moment when it goes.
fn table(draft: &mut Draft<'_>, span: &Range<usize>, object: &Object) -> Result<(), Problem> {
    let table = &object.name;
    let Some(known) = draft.catalog.table(table).cloned() else { return Ok(()) };
    if known.inherits {
        let title = format!("`{}` is a partition, or has parents or children by inheritance", table.plain());
        return Err(Problem::new("unsupported-table", span.clone(), title, "dropped here").help(format!(
            "take it out, `ALTER TABLE … DETACH PARTITION {table}`, and drop it in a migration after that one"
        )));
    }
    supported_table(draft, span, table)?;
    for column in &known.columns {
        draft.claim(Phase::Contract, Touch::Change, span, table, &column.name)?;
    }
    let gone = let_go::plan(draft, table, None);
    let stay = known.constraints.iter().filter(|constraint| !gone.contains(&constraint.name));
    let parents = stay.filter_map(|constraint| constraint.parent.clone());
    let mut locks: Vec<TableLock> = parents
        .filter(|parent| parent != table)
        .map(|table| TableLock { table, mode: LockMode::AccessExclusive })
        .collect();
    locks.sort_by(|a, b| a.table.cmp(&b.table));
    locks.dedup();
    let version = draft.file.version.number().to_string();
    let watch = Watch {
        id: format!("m{version}_w{}", known.oid),
        version,
        ledger: draft.settings.ledger.clone(),
        table: table.clone(),
        is_partitioned: known.partitions.is_some(),
    };
    draft.table(table).expand.extend(watch.create());
    draft.hide_object(object, ObjectKind::Table, span, locks)?;
    draft.with_dropped_table(table, watch.remove());
    Ok(())
}

fn index(draft: &mut Draft<'_>, object: &Object, span: &Range<usize>) -> Result<(), Problem> {
    let index = &object.name;
    let gone = format!("SELECT to_regclass({}) IS NULL", literal(&index.to_string()));
    if let Some(table) = object.index_of.as_ref().filter(|_| object.partitioned) {
        // The server does not do it concurrently.
        draft.push_drop(table_step(
            table,
            format!("drop {}", object.what),
            vec![format!("DROP INDEX IF EXISTS {index}")],
            Vec::new(),
        ));
        return draft.touch(object.reference(), span);
    }
    let lock = object.index_of.clone().map(|table| TableLock { table, mode: LockMode::ShareUpdateExclusive });
    let dropped = step(
        format!("drop {}", object.what),
        vec![format!("DROP INDEX CONCURRENTLY IF EXISTS {index}")],
        Vec::new(),
        lock.into_iter().collect(),
    );
    let mode = Mode::Alone {
        verify: gone,
        leftover: "SELECT false".to_owned(),
        clean_up: String::new(),
        moot: "SELECT false".to_owned(),
    };
    draft.push_drop(Step { mode, ..dropped });
    draft.touch(object.reference(), span)
}
