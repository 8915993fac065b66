//! Shape: ALTER TABLE … ADD [CONSTRAINT name] UNIQUE or PRIMARY KEY; the same behind a column that is added.
//! Phases: contract, because a unique index rejects old writers from the moment it is ready; a UNIQUE over columns that
//! the file adds comes in backfill, after their data.
//! Locks: SHARE UPDATE EXCLUSIVE while the index is built; ACCESS EXCLUSIVE, catalog-only, to attach it.
//! Undo: DROP CONSTRAINT, and DROP NOT NULL for what a primary key made so.
//! Limits: duplicates are listed by key; storage parameters and tablespaces are not read. Where new code upserts on it before
//! contract: `-- migrate: phase expand`, openly.

use std::ops::Range;

use crate::decide::change::constraint::{learn, name, phase, require};
use crate::decide::change::create_index::concurrent;
use crate::decide::change::names::Space;
use crate::decide::change::partitioned_index::{self, NewKey};
use crate::decide::change::set_not_null::{check_name, prove};
use crate::decide::draft::{Draft, Phase, has_constraint, table_step};
use crate::model::problem::Problem;
use crate::model::sql::{KeyIndex, Name, NewConstraint};
use crate::words::ident::{Ident, QualifiedName};

pub(crate) fn plan(
    draft: &mut Draft<'_>,
    span: &Range<usize>,
    table: &QualifiedName,
    constraint: &NewConstraint,
    primary: bool,
    index: &KeyIndex,
    timing: &str,
) -> Result<(), Problem> {
    let word = if primary { "PRIMARY KEY" } else { "UNIQUE" };
    let known = draft.catalog.table(table);
    if primary && known.is_some_and(|known| known.constraints.iter().any(|key| key.kind == "p")) {
        let title = format!("`{}` has a primary key already", table.plain());
        return Err(Problem::new("exists", span.clone(), title, "the second one")
            .help("drop the present one in a migration of its own first"));
    }
    let (included, nulls_not_distinct) = match index {
        KeyIndex::New { included, nulls_not_distinct } => (included, *nulls_not_distinct),
        KeyIndex::Existing(index) => return attach(draft, span, table, constraint, word, index, timing),
    };
    // What fills a column, old code writes: through the sync triggers.
    let all_new = constraint.columns.iter().all(|column| {
        draft.added(table, column).is_some_and(|added| !added.is_filled())
            && !draft.is_filled_below(table, column)
    });
    phase(draft, span, table, &constraint.columns)?;
    let phase = if all_new && !primary { Phase::Backfill } else { Phase::Contract };
    let label = if primary { "pkey" } else { "key" };
    let named = NewConstraint {
        columns: constraint.columns.iter().chain(included).cloned().collect(),
        ..constraint.clone()
    };
    let name = name(draft, span, table, &named, label, Space::Both)?;
    let becomes = match phase {
        Phase::Backfill => "backfill: the index is built concurrently, after the data, and attached",
        _ => "contract: duplicates are listed, the index is built concurrently and attached",
    };
    draft.note(span, format!("ADD {word} {} on {}", name.as_str(), table.plain()), becomes);
    let title = format!("see that no two rows of {} share {}", table.plain(), list(&constraint.columns));
    let says = format!("rows of {} share {}", table.plain(), list(&constraint.columns));
    draft.push(phase, require(table, title, duplicate(table, &constraint.columns, nulls_not_distinct), says));
    let mut proved = Vec::new();
    for column in constraint.columns.iter().filter(|_| primary) {
        let known = draft.catalog.table(table).and_then(|known| known.column(column));
        if known.is_some_and(|known| !known.not_null) {
            for step in prove(draft, table, column) {
                draft.push(phase, step);
            }
            proved.push(column.clone());
        }
    }
    let mut tail = format!("({})", list(&constraint.columns));
    if !included.is_empty() {
        tail.push_str(&format!(" INCLUDE ({})", list(included)));
    }
    if nulls_not_distinct {
        tail.push_str(" NULLS NOT DISTINCT");
    }
    let index = QualifiedName::new(table.schema.clone(), name.clone());
    let distinct = if nulls_not_distinct { " NULLS NOT DISTINCT" } else { "" };
    let new = NewKey {
        columns: &constraint.columns,
        included,
        word: format!("{word}{distinct}"),
        tail: &tail,
        timing,
        label,
    };
    let (mut steps, attach) = partitioned_index::key(draft, span, table, &name, &new)?;
    if attach.is_empty() {
        steps.push(concurrent(table, &index, true, &tail));
    }
    draft.push_together(phase, &[table], steps);
    let mut sql = Vec::new();
    let mut undo = vec![format!("ALTER TABLE {table} DROP CONSTRAINT IF EXISTS {name}")];
    for column in &proved {
        sql.push(format!("ALTER TABLE {table} ALTER COLUMN {column} SET NOT NULL"));
        sql.push(format!("ALTER TABLE {table} DROP CONSTRAINT {}", check_name(draft, column)));
        undo.push(format!("ALTER TABLE {table} ALTER COLUMN {column} DROP NOT NULL"));
        if let Some(known) = draft.catalog.table_mut(table).and_then(|known| known.column_mut(column)) {
            known.not_null = true;
        }
    }
    if attach.is_empty() {
        sql.push(format!("ALTER TABLE {table} ADD CONSTRAINT {name} {word} USING INDEX {name}{timing}"));
    }
    sql.extend(attach);
    let title = format!("make the index {} a constraint of {}", name.as_str(), table.plain());
    draft.push(phase, table_step(table, title, sql, undo));
    learn(draft, table, &name, if primary { "p" } else { "u" }, constraint);
    Ok(())
}

/// USING INDEX: the author has built it.
fn attach(
    draft: &mut Draft<'_>,
    span: &Range<usize>,
    table: &QualifiedName,
    constraint: &NewConstraint,
    word: &str,
    index: &Name,
    timing: &str,
) -> Result<(), Problem> {
    let known = draft.catalog.table(table);
    let built = known.and_then(|known| known.indexes.iter().find(|known| known.name == index.name)).cloned();
    let Some(built) = built else {
        let title = format!("`{}` has no index `{}`", table.plain(), index.name.as_str());
        return Err(Problem::new("unknown-name", index.span.clone(), title, "named here"));
    };
    let nullable = word == "PRIMARY KEY"
        && built.columns.iter().any(|column| {
            known.is_some_and(|known| known.column(column).is_some_and(|column| !column.not_null))
        });
    if nullable {
        let title = format!("`{}` holds columns that are not NOT NULL", index.name.as_str());
        return Err(Problem::new("not-null-unfilled", index.span.clone(), title, "this index")
            .help("set them NOT NULL in a migration of their own first"));
    }
    draft.table(table);
    let name = constraint.name.clone().unwrap_or_else(|| index.name.clone());
    draft.note(
        span,
        format!("ADD {word} {} on {} USING INDEX", name.as_str(), table.plain()),
        "contract: the index is attached",
    );
    let title = format!("make the index {} a constraint of {}", index.name.as_str(), table.plain());
    let sql = format!("ALTER TABLE {table} ADD CONSTRAINT {name} {word} USING INDEX {}{timing}", index.name);
    // The index cannot be had back alone: taking the constraint away would take it along. So a reopen leaves it.
    let once = format!(
        "DO $pontoon$\nBEGIN\n  IF NOT {} THEN\n    {sql};\n  END IF;\nEND\n$pontoon$",
        has_constraint(table, &name)
    );
    draft.push(Phase::Contract, table_step(table, title, vec![once], Vec::new()));
    draft.warnings.push(format!("reopen leaves the constraint {} in place", name.as_str()));
    learn(draft, table, &name, if word == "UNIQUE" { "u" } else { "p" }, constraint);
    Ok(())
}

fn list(columns: &[Ident]) -> String {
    columns.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// True for a row that another one equals in these columns.
fn duplicate(table: &QualifiedName, columns: &[Ident], nulls_not_distinct: bool) -> String {
    if nulls_not_distinct {
        // By sorting: no hash finds nulls that are not distinct.
        return format!(
            "(tableoid, ctid) IN (SELECT d.tableoid, d.ctid FROM (SELECT o.tableoid, o.ctid, count(*) OVER (PARTITION BY {}) AS rows FROM {table} AS o) AS d \
             WHERE d.rows > 1)",
            list(columns)
        );
    }
    let same: Vec<String> =
        columns.iter().map(|column| format!("pontoon_other.{column} = {}.{column}", table.name)).collect();
    format!(
        "EXISTS (SELECT FROM {table} AS pontoon_other WHERE {} AND (pontoon_other.tableoid, pontoon_other.ctid) <> ({own}.tableoid, {own}.ctid))",
        same.join(" AND "),
        own = table.name
    )
}
