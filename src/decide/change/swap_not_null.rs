//! NOT NULL on either side of a swap: it goes over to the new column, and on the way back to the old one, each proved by a check
//! that is validated before.

use crate::decide::change::constraint::lock;
use crate::decide::change::mapping::HIDDEN;
use crate::decide::change::retype::Names;
use crate::decide::change::sequence::{identity, keeping_count};
use crate::decide::change::set_not_null::check_name;
use crate::decide::draft::{Draft, has_constraint, has_unproved, undo_only};
use crate::decide::plan::Step;
use crate::model::catalog::Column;
use crate::words::ident::{Ident, QualifiedName, literal};
use crate::words::lock_mode::LockMode;

/// Behind the DROP NOT NULL of the whole: a partition may have made NOT NULL its own, by itself or by a key over the column
/// (since version 18 of the server). A block of PL/pgSQL.
pub(super) fn free_partitions(table: &QualifiedName, column: &Ident) -> String {
    format!(
        "DECLARE\n  part regclass;\nBEGIN\n  \
         FOR part IN SELECT p.relid FROM pg_partition_tree({}::regclass) AS p JOIN pg_attribute AS a ON a.attrelid = p.relid\n    \
         WHERE a.attname = {name} AND a.attnotnull AND p.level > 0 ORDER BY p.level\n  LOOP\n    \
         EXECUTE format('ALTER TABLE %s ALTER COLUMN %I DROP NOT NULL', part, {name});\n  END LOOP;\nEND",
        literal(&table.to_string()),
        name = literal(column.as_str())
    )
}

/// NOT NULL goes over from the old column, whose values `down` may fail to make, to the new one, which a check has proved.
/// In this order, because a server that names NOT NULL gives the name to one column only; and in statements of their own,
/// because in one the check would go first and SET NOT NULL would have to scan.
pub(super) fn swap_not_null(draft: &Draft<'_>, names: &Names<'_>, old: &Column) -> [String; 3] {
    let (name, proof) = (&old.name, check_name(draft, &names.fresh(&old.name)));
    [
        names.alter(&format!("ALTER COLUMN {} DROP NOT NULL", names.hidden(name))),
        names.alter(&format!("ALTER COLUMN {name} SET NOT NULL")),
        names.alter(&format!("DROP CONSTRAINT {proof}")),
    ]
}

/// Backwards the old column's NOT NULL begins as a check for new rows.
pub(super) fn back_not_valid(names: &Names<'_>, old: &Column) -> String {
    let (check, hidden) = (back_check(names, old), names.hidden(&old.name));
    names.alter(&format!("ADD CONSTRAINT {check} CHECK ({hidden} IS NOT NULL) NOT VALID"))
}

fn back_check(names: &Names<'_>, old: &Column) -> Ident {
    Ident::derived(&[HIDDEN, &names.version, "back", old.name.as_str()])
}

/// Backwards: the check that the swap's undo left is validated, proves NOT NULL, and goes; then the identity.
pub(super) fn back_to_not_null(names: &Names<'_>, old: &Column) -> [Step; 2] {
    let (name, check) = (&old.name, back_check(names, old));
    let mut undo = vec![
        format!("LOCK TABLE {} IN ACCESS EXCLUSIVE MODE", names.table),
        names.alter(&format!("ALTER COLUMN {name} SET NOT NULL")),
        names.alter(&format!("DROP CONSTRAINT {check}")),
    ];
    if let Some(sequence) = old.sequence.as_ref().filter(|_| old.identity) {
        let mut again = vec![
            names.alter(&format!("ALTER COLUMN {name} DROP DEFAULT")),
            format!("DROP SEQUENCE {sequence}"),
            identity(names.table, old, name, sequence),
        ];
        again.extend(old.sequence_also.clone());
        undo.push(keeping_count(sequence, &again, &old.type_sql));
    }
    let place = format!("{}.{}", names.table.plain(), name.as_str());
    let not_null = undo_only(
        &format!("set {place} NOT NULL again"),
        has_constraint(names.table, &check),
        undo,
        lock(names.table, LockMode::AccessExclusive),
    );
    let proof = undo_only(
        &format!("prove that {place} holds no null"),
        has_unproved(names.table, &check),
        vec![names.alter(&format!("VALIDATE CONSTRAINT {check}"))],
        lock(names.table, LockMode::ShareUpdateExclusive),
    );
    [not_null, proof]
}

/// Backwards, before the swap's own way back: the check that it makes is there and validated already.
pub(super) fn proof_first(names: &Names<'_>, old: &Column) -> [Step; 2] {
    let check = back_check(names, old);
    let place = format!("{}.{}", names.table.plain(), names.hidden(&old.name).as_str());
    let lock_all = format!("LOCK TABLE {} IN ACCESS EXCLUSIVE MODE", names.table);
    let proof = undo_only(
        &format!("prove that {place} holds no null"),
        has_unproved(names.table, &check),
        vec![names.alter(&format!("VALIDATE CONSTRAINT {check}"))],
        lock(names.table, LockMode::ShareUpdateExclusive),
    );
    let add = undo_only(
        &format!("check {place} for new rows"),
        format!("NOT {}", has_constraint(names.table, &check)),
        vec![lock_all, back_not_valid(names, old)],
        lock(names.table, LockMode::AccessExclusive),
    );
    [proof, add]
}
