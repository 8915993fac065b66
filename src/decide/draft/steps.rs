//! Steps that several kinds of change need.

use crate::decide::plan::{Mode, Step, TableLock};
use crate::decide::sync::{Mapping, Repair, Shape};
use crate::words::ident::{Ident, QualifiedName, literal};
use crate::words::lock_mode::LockMode;

/// New columns have no statistics until someone looks at them.
pub(super) fn analyze(table: &QualifiedName) -> Step {
    let title = format!("refresh the statistics of {}", table.plain());
    let lock = TableLock { table: table.clone(), mode: LockMode::ShareUpdateExclusive };
    Step { scans: true, ..step(title, vec![format!("ANALYZE {table}")], Vec::new(), vec![lock]) }
}

/// A step of one transaction.
pub(crate) fn step(title: String, sql: Vec<String>, undo: Vec<String>, locks: Vec<TableLock>) -> Step {
    Step {
        id: String::new(),
        title,
        mode: Mode::Transaction,
        sql,
        undo,
        undo_when: None,
        locks,
        scans: false,
        stays: None,
    }
}

/// A step that only counts backwards: it brings to its end, in a transaction of its own, what taking back a later step left.
/// `when` tells from the catalog whether it did.
pub(crate) fn undo_only(title: &str, when: String, undo: Vec<String>, lock: TableLock) -> Step {
    let scans = lock.mode == LockMode::ShareUpdateExclusive;
    let title = format!("on the way back: {title}");
    Step { undo_when: Some(when), scans, ..step(title, Vec::new(), undo, vec![lock]) }
}

/// A condition: the table has a constraint of that name.
pub(crate) fn has_constraint(table: &QualifiedName, name: &Ident) -> String {
    format!(
        "EXISTS (SELECT FROM pg_constraint AS k WHERE k.conrelid = to_regclass({}) AND k.conname = {})",
        literal(&table.to_string()),
        literal(name.as_str())
    )
}

/// A condition: it has one that was not validated.
pub(crate) fn has_unproved(table: &QualifiedName, name: &Ident) -> String {
    let any = has_constraint(table, name);
    format!("{} AND NOT k.convalidated)", any.trim_end_matches(')'))
}

/// Looks at every row for a constraint that so far holds for new ones only. Writers go on meanwhile.
pub(crate) fn validate(table: &QualifiedName, constraint: &Ident) -> Step {
    let title = format!("validate {} for all rows of {}", constraint.as_str(), table.plain());
    let sql = vec![format!("ALTER TABLE {table} VALIDATE CONSTRAINT {constraint}")];
    let lock = TableLock { table: table.clone(), mode: LockMode::ShareUpdateExclusive };
    Step { scans: true, ..step(title, sql, Vec::new(), vec![lock]) }
}

/// Takes the locks of several tables at once, always in the order of their names; with what it declares.
pub(crate) fn lock_tables(tables: &[&QualifiedName], mode: LockMode) -> (String, Vec<TableLock>) {
    let mut tables = tables.to_vec();
    tables.sort();
    tables.dedup();
    let names: Vec<String> = tables.iter().map(ToString::to_string).collect();
    let locks = tables.into_iter().map(|table| TableLock { table: table.clone(), mode }).collect();
    (format!("LOCK TABLE {} IN {mode} MODE", names.join(", ")), locks)
}

/// A step that changes one table in one transaction, with the table's lock taken first.
pub(crate) fn table_step(
    table: &QualifiedName,
    title: String,
    mut sql: Vec<String>,
    mut undo: Vec<String>,
) -> Step {
    let lock = format!("LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE");
    sql.insert(0, lock.clone());
    if !undo.is_empty() {
        undo.insert(0, lock);
    }
    let lock = TableLock { table: table.clone(), mode: LockMode::AccessExclusive };
    step(title, sql, undo, vec![lock])
}

/// The statements that bring functions and triggers of mappings and repairs into being, and those that take them away.
pub(crate) fn install(mappings: &[Mapping], repairs: &[Repair]) -> (Vec<String>, Vec<String>) {
    let mut create = Vec::new();
    for mapping in mappings {
        create.extend(mapping.create_functions());
        create.extend(mapping.trigger_functions(Shape::Open));
        create.extend(mapping.close_trigger_functions());
        create.extend(mapping.create_triggers());
    }
    create.extend(repairs.iter().flat_map(Repair::create));
    let mut remove: Vec<String> = mappings.iter().flat_map(Mapping::drop_triggers).collect();
    remove.extend(repairs.iter().flat_map(Repair::remove));
    remove.extend(mappings.iter().flat_map(Mapping::drop_functions));
    (create, remove)
}
