//! Foreign keys of a partitioned table, on servers that take none of them NOT VALID: each partition gets one of its own, which
//! is validated while everybody goes on; that of the whole then takes them over without reading a row.

use crate::decide::change::constraint::lock;
use crate::decide::change::partitioned::if_part;
use crate::decide::change::partitioned_index::SMALL;
use crate::decide::draft::{Draft, has_constraint, has_unproved, lock_tables, step, undo_only};
use crate::decide::plan::{Step, TableLock};
use crate::model::catalog::Constraint;
use crate::words::ident::{Ident, QualifiedName, literal};
use crate::words::lock_mode::LockMode;

/// The server version that takes NOT VALID foreign keys of partitioned tables.
const NOT_VALID_SINCE: i64 = 180_000;

pub(super) fn can_be_not_valid(draft: &Draft<'_>) -> bool {
    draft.catalog.server_version >= NOT_VALID_SINCE
}

/// The partitions that get a foreign key each, if the table needs that.
pub(super) fn parts(draft: &Draft<'_>, table: &QualifiedName) -> Option<Vec<QualifiedName>> {
    let partitions = draft.catalog.table(table)?.partitions.as_ref()?;
    let leaves = || partitions.leaves.iter().map(|leaf| leaf.name.clone()).collect();
    (!can_be_not_valid(draft)).then(leaves)
}

/// The steps that add one.
pub(super) fn add(
    table: &QualifiedName,
    leaves: &[QualifiedName],
    parent: &QualifiedName,
    name: &Ident,
    text: &str,
) -> Vec<Step> {
    let mut steps = Vec::new();
    for leaf in leaves {
        let (_, locks) = lock_tables(&[leaf, parent], LockMode::ShareRowExclusive);
        steps.push(step(
            format!("check {} for new rows of {}", name.as_str(), leaf.plain()),
            vec![not_valid(table, leaf, name, text)],
            vec![format!("ALTER TABLE IF EXISTS {leaf} DROP CONSTRAINT IF EXISTS {name}")],
            locks,
        ));
        steps.push(validate_step(table, leaf, name));
    }
    let (sql, locks) = attach(table, parent, name, text);
    let undo = vec![sql[0].clone(), format!("ALTER TABLE {table} DROP CONSTRAINT IF EXISTS {name}")];
    steps.push(step(format!("make them one foreign key of {}", table.plain()), sql, undo, locks));
    steps
}

/// The steps that bring one to its end which each partition has, NOT VALID. Backwards it is left so again.
pub(super) fn prove(
    table: &QualifiedName,
    leaves: &[QualifiedName],
    parent: &QualifiedName,
    known: &Constraint,
) -> Vec<Step> {
    let name = &known.name;
    let mut steps: Vec<Step> = leaves.iter().map(|leaf| validate_step(table, leaf, name)).collect();
    let (mut sql, locks) = attach(table, parent, name, &known.definition);
    let mut undo = vec![sql[0].clone(), format!("ALTER TABLE {table} DROP CONSTRAINT IF EXISTS {name}")];
    undo.push(on_parts(table, name, &known.definition));
    sql.extend(comment(table, known));
    steps.push(step(format!("make them one foreign key of {}", table.plain()), sql, undo, locks));
    steps
}

/// The steps that drop one. Backwards the last one comes first: it leaves one on each partition, NOT VALID.
pub(super) fn relax(
    table: &QualifiedName,
    leaves: &[QualifiedName],
    parent: &QualifiedName,
    known: &Constraint,
) -> Vec<Step> {
    let (name, definition) = (&known.name, &known.definition);
    let mut steps = again(table, leaves, parent, known);
    let (lock_both, locks) = lock_tables(&[table, parent], LockMode::AccessExclusive);
    let sql = vec![lock_both.clone(), format!("ALTER TABLE {table} DROP CONSTRAINT {name}")];
    let mut undo = vec![lock_both];
    undo.push(on_parts(table, name, definition));
    steps.push(step(format!("drop {} of {}", name.as_str(), table.plain()), sql, undo, locks));
    steps
}

/// The steps that do nothing, and make one again when they are taken back: from one on each partition that is NOT VALID.
pub(super) fn again(
    table: &QualifiedName,
    leaves: &[QualifiedName],
    parent: &QualifiedName,
    known: &Constraint,
) -> Vec<Step> {
    let name = &known.name;
    let (mut again, locks) = attach(table, parent, name, &known.definition);
    again.extend(comment(table, known));
    let title = format!("on the way back: make {} one foreign key again", name.as_str());
    let gone = format!("NOT {}", has_constraint(table, name));
    let mut steps = vec![Step { undo_when: Some(gone), ..step(title, Vec::new(), again, locks) }];
    steps.extend(leaves.iter().map(|leaf| {
        undo_only(
            &format!("validate {} of {} again", name.as_str(), leaf.plain()),
            has_unproved(leaf, name),
            vec![validate(table, leaf, name)],
            lock(leaf, LockMode::ShareUpdateExclusive),
        )
    }));
    steps
}

/// Gives those of the partitions that have one name another: the whole's new name does not reach them.
pub(super) fn rename_parts(table: &QualifiedName, from: &Ident, to: &Ident) -> String {
    format!(
        "DO $pontoon$\nDECLARE\n  part regclass;\nBEGIN\n  FOR part IN SELECT k.conrelid FROM pg_constraint AS k JOIN \
         pg_partition_tree({whole}::regclass) AS p ON p.relid = k.conrelid\n    \
         WHERE k.conname = {from} AND k.contype = 'f'\n      \
         AND NOT EXISTS (SELECT FROM pg_constraint AS o WHERE o.conrelid = k.conrelid AND o.conname = {to})\n  LOOP\n    \
         EXECUTE format('ALTER TABLE %s RENAME CONSTRAINT %I TO %I', part, {from}, {to});\n  END LOOP;\nEND\n$pontoon$",
        whole = literal(&table.to_string()),
        from = literal(from.as_str()),
        to = literal(to.as_str()),
    )
}

/// One of that name on each partition that there is by then, NOT VALID, in the place of what is there.
pub(super) fn on_parts(table: &QualifiedName, name: &Ident, text: &str) -> String {
    each_part(
        table,
        &format!(
            "EXECUTE format('ALTER TABLE %s DROP CONSTRAINT IF EXISTS %I', part, {name});\n    \
             EXECUTE format('ALTER TABLE %s ADD CONSTRAINT %I %s NOT VALID', part, {name}, {});",
            literal(text),
            name = literal(name.as_str())
        ),
    )
}

/// Takes those away.
pub(super) fn off_parts(table: &QualifiedName, name: &Ident) -> String {
    let act = format!(
        "EXECUTE format('ALTER TABLE %s DROP CONSTRAINT IF EXISTS %I', part, {});",
        literal(name.as_str())
    );
    each_part(table, &act)
}

fn each_part(table: &QualifiedName, act: &str) -> String {
    format!(
        "DO $pontoon$\nDECLARE\n  part regclass;\nBEGIN\n  \
         FOR part IN SELECT p.relid FROM pg_partition_tree({}::regclass) AS p WHERE p.isleaf\n  LOOP\n    {act}\n  \
         END LOOP;\nEND\n$pontoon$",
        literal(&table.to_string())
    )
}

/// One that points at a partitioned table consists of one for each partition of that, which the server names by the columns:
/// they get the names that they have by the columns' own.
pub(super) fn rename_by_columns(table: &QualifiedName, version: &str) -> String {
    format!(
        "DO $pontoon$\nDECLARE\n  part record;\n  wanted name;\n  number int;\nBEGIN\n  \
         FOR part IN SELECT k.conrelid::regclass AS of, k.conname AS name, regexp_replace(k.conname, '_pontoon_{version}_(new_)?', '', 'g') AS plain\n    \
         FROM pg_constraint AS k JOIN pg_constraint AS whole ON whole.oid = k.conparentid AND whole.conrelid = k.conrelid\n    \
         WHERE k.contype = 'f' AND k.conname ~ '_pontoon_{version}_'\n      \
         AND (k.conrelid = {whole}::regclass OR k.conrelid IN (SELECT p.relid FROM pg_partition_tree({whole}::regclass) AS p))\n    \
         ORDER BY k.conname DESC\n  LOOP\n    \
         wanted := part.plain;\n    number := 0;\n    \
         WHILE EXISTS (SELECT FROM pg_constraint AS o WHERE o.conrelid = part.of AND o.conname = wanted) LOOP\n      \
         number := number + 1;\n      wanted := part.plain || number;\n    END LOOP;\n    \
         EXECUTE format('ALTER TABLE %s RENAME CONSTRAINT %I TO %I', part.of, part.name, wanted);\n  \
         END LOOP;\nEND\n$pontoon$",
        whole = literal(&table.to_string()),
    )
}

/// A partition that was dropped or detached meanwhile needs none.
fn not_valid(table: &QualifiedName, leaf: &QualifiedName, name: &Ident, text: &str) -> String {
    if_part(table, leaf, None, &format!("ALTER TABLE {leaf} ADD CONSTRAINT {name} {text} NOT VALID"))
}

fn comment(table: &QualifiedName, known: &Constraint) -> Option<String> {
    let comment = known.comment.as_ref()?;
    Some(format!("COMMENT ON CONSTRAINT {} ON {table} IS {}", known.name, literal(comment)))
}

fn validate_step(table: &QualifiedName, leaf: &QualifiedName, name: &Ident) -> Step {
    let title = format!("validate {} for all rows of {}", name.as_str(), leaf.plain());
    let locks = vec![lock(leaf, LockMode::ShareUpdateExclusive)];
    Step { scans: true, ..step(title, vec![validate(table, leaf, name)], Vec::new(), locks) }
}

fn validate(table: &QualifiedName, leaf: &QualifiedName, name: &Ident) -> String {
    let validate = format!("ALTER TABLE {leaf} VALIDATE CONSTRAINT {name}");
    if_part(table, leaf, Some(has_constraint(leaf, name)), &validate)
}

/// The statements that make those of the partitions the whole's, and their locks: triggers of the partitions' own go from the
/// table that they point at. One that came late may be read under the lock if it is small.
fn attach(
    table: &QualifiedName,
    parent: &QualifiedName,
    name: &Ident,
    text: &str,
) -> (Vec<String>, Vec<TableLock>) {
    let (lock_both, locks) = lock_tables(&[table, parent], LockMode::AccessExclusive);
    // One that came late and has it already, as another one or not yet for all rows, would get a second one.
    let guard = format!(
        "DO $pontoon$\nDECLARE\n  late record;\nBEGIN\n  \
         FOR late IN SELECT p.relid::regclass AS part, k.oid AS key, pg_relation_size(p.relid) > {SMALL} AS large\n    \
         FROM pg_partition_tree({whole}::regclass) AS p\n    \
         LEFT JOIN pg_constraint AS k ON k.conrelid = p.relid AND k.conname = {plain} AND k.contype = 'f'\n    \
         WHERE p.isleaf AND NOT coalesce(k.convalidated, false)\n  LOOP\n    \
         IF late.large THEN\n      RAISE EXCEPTION 'partition % came after the plan was made and has no such foreign key', late.part\n      \
         USING HINT = CASE WHEN late.key IS NULL THEN format('ALTER TABLE %s ADD CONSTRAINT %I %s NOT VALID; then ', late.part, {plain}, {text}) ELSE '' END\n        \
         || format('ALTER TABLE %s VALIDATE CONSTRAINT %I, and run the same command again', late.part, {plain});\n    \
         ELSIF late.key IS NOT NULL THEN\n      EXECUTE format('ALTER TABLE %s VALIDATE CONSTRAINT %I', late.part, {plain});\n    \
         END IF;\n  END LOOP;\nEND\n$pontoon$",
        whole = literal(&table.to_string()),
        plain = literal(name.as_str()),
        text = literal(text),
    );
    (vec![lock_both, guard, format!("ALTER TABLE {table} ADD CONSTRAINT {name} {text}")], locks)
}
