//! What a partition's bound says of its rows, as a condition: a check that says so, once it is validated, spares the server
//! reading them under a lock.

use std::ops::Range;

use crate::decide::change::partitioned;
use crate::decide::draft::{Draft, lock_tables, step};
use crate::decide::plan::{Step, TableLock};
use crate::model::catalog::{Column, Table};
use crate::model::problem::Problem;
use crate::words::ident::{Ident, QualifiedName, literal};
use crate::words::lock_mode::LockMode;

/// A check that says of the rows of a table what the bound says, or the opposite for the default partition.
pub(super) fn prove(
    whole: &QualifiedName,
    on: &QualifiedName,
    check: &Ident,
    bound: &str,
    is_default: bool,
) -> Step {
    let not = if is_default { "NOT " } else { "" };
    let act = format!(
        "EXECUTE format('ALTER TABLE %s ADD CONSTRAINT %I CHECK ({not}(%s)) NOT VALID', {}, {}, coalesce(rule, 'true'));",
        literal(&on.to_string()),
        literal(check.as_str())
    );
    let (lock, mut locks) = lock_tables(&[on], LockMode::AccessExclusive);
    locks.push(TableLock { table: whole.clone(), mode: LockMode::AccessShare });
    let undo = vec![lock.clone(), format!("ALTER TABLE {on} DROP CONSTRAINT IF EXISTS {check}")];
    let sql = vec![lock, with_rule(whole, bound, "", "", &act)];
    let title = format!("prepare {} for its place in {}", on.plain(), whole.plain());
    let there = format!("to_regclass({}) IS NOT NULL", literal(&on.to_string()));
    Step { undo_when: Some(there), ..step(title, sql, undo, locks) }
}

/// Looks whether the default partition holds rows that belong into the new one, before a check would reject them.
pub(super) fn look(whole: &QualifiedName, default: &QualifiedName, bound: &str) -> Step {
    let act = format!(
        "EXECUTE format('SELECT EXISTS (SELECT FROM %s WHERE %s)', {}, coalesce(rule, 'true')) INTO found_some;\n  \
         IF found_some THEN\n    RAISE EXCEPTION 'rows of % belong into the new partition', {} USING HINT = 'move them out of the default partition first';\n  END IF;",
        literal(&default.to_string()),
        literal(&default.plain())
    );
    let title = format!("see that no row of {} belongs into the new partition", default.plain());
    let share = |table: &QualifiedName| TableLock { table: table.clone(), mode: LockMode::AccessShare };
    let sql = vec![with_rule(whole, bound, "  found_some boolean;\n", "", &act)];
    Step { scans: true, ..step(title, sql, Vec::new(), vec![share(default), share(whole)]) }
}

/// A block that acts on the rule which a bound means. The server itself puts it into words, on an empty copy; what a default
/// partition takes depends on all the others.
pub(super) fn with_rule(
    whole: &QualifiedName,
    bound: &str,
    declare: &str,
    before: &str,
    act: &str,
) -> String {
    let others = if bound.eq_ignore_ascii_case("DEFAULT") {
        format!(
            "  FOR other IN SELECT row_number() OVER () AS number, pg_get_expr(c.relpartbound, c.oid) AS bound\n    \
             FROM pg_inherits AS i JOIN pg_class AS c ON c.oid = i.inhrelid WHERE i.inhparent = {}::regclass\n  LOOP\n    \
             EXECUTE format('CREATE TEMP TABLE %I PARTITION OF pontoon_whole %s', 'pontoon_part_' || other.number, other.bound);\n  \
             END LOOP;\n",
            literal(&whole.to_string())
        )
    } else {
        String::new()
    };
    // That of a hash names the partitioned table.
    let of_whole = if is_hash(bound) {
        format!(
            "  rule := replace(rule, format('%L::oid', 'pg_temp.pontoon_whole'::regclass::oid), format('%L::regclass::oid', {}));\n",
            literal(&whole.to_string())
        )
    } else {
        String::new()
    };
    format!(
        "DO $pontoon$\nDECLARE\n  rule text;\n  other record;\n{declare}BEGIN\n{before}  \
         EXECUTE format('CREATE TEMP TABLE pontoon_whole (LIKE %s) PARTITION BY %s', {whole}, pg_get_partkeydef({whole}::regclass));\n{others}  \
         EXECUTE 'CREATE TEMP TABLE pontoon_part PARTITION OF pontoon_whole ' || {bound};\n  \
         rule := pg_get_partition_constraintdef('pg_temp.pontoon_part'::regclass);\n{of_whole}  \
         DROP TABLE pg_temp.pontoon_whole;\n  {act}\nEND\n$pontoon$",
        whole = literal(&whole.to_string()),
        bound = literal(bound),
    )
}

fn is_hash(bound: &str) -> bool {
    bound.to_ascii_uppercase().starts_with("FOR VALUES WITH")
}

/// A check that says the hash of a text is, to the server, another one than its own: the one names a collation.
pub(super) fn check_hash(
    draft: &Draft<'_>,
    span: &Range<usize>,
    table: &QualifiedName,
    bound: &str,
) -> Result<(), Problem> {
    let known = draft.catalog.table(table).filter(|_| is_hash(bound));
    let keys = known.iter().flat_map(|known| known.columns.iter().filter(|column| is_key(known, column)));
    let plain =
        ["smallint", "integer", "bigint", "numeric", "uuid", "oid", "date", "time", "boolean", "bytea"];
    let text = keys.into_iter().find(|column| !plain.iter().any(|plain| column.type_sql.starts_with(plain)));
    let Some(text) = text else { return Ok(()) };
    let title = format!(
        "a partition by the hash of `{}`, which is {}, cannot be proved to hold the right rows",
        text.name.as_str(),
        text.type_sql
    );
    Err(partitioned::refused(
        span,
        title,
        "as written, `-- migrate: phase expand` or `contract`, the server reads all of it under the lock",
    ))
}

fn is_key(table: &Table, column: &Column) -> bool {
    table.partitions.as_ref().is_some_and(|partitions| partitions.key.contains(&column.name))
}
