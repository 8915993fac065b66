//! Shape: ALTER TABLE … ADD [CONSTRAINT name] FOREIGN KEY; REFERENCES behind a column that is added.
//! Phases: contract: NOT VALID, then VALIDATE; expand if its columns are added by the file and nothing fills them.
//! Locks: SHARE ROW EXCLUSIVE on both tables, catalog-only; SHARE UPDATE EXCLUSIVE while it is validated. A partitioned table
//! before version 18 of the server: the same on each partition, then ACCESS EXCLUSIVE on both, catalog-only.
//! Undo: DROP CONSTRAINT, ACCESS EXCLUSIVE on both tables.
//! Limits: an UPDATE of the file cannot say how orphans come within it: correct them first.

use std::ops::Range;

use crate::decide::change::constraint::{becomes, learn, name, phase, require};
use crate::decide::change::names::Space;
use crate::decide::change::{partitioned_foreign_key, supported};
use crate::decide::draft::{Draft, Phase, Touch, lock_tables, step, validate};
use crate::decide::plan::Step;
use crate::model::problem::Problem;
use crate::model::sql::{Name, NewConstraint};
use crate::words::ident::{Ident, QualifiedName};
use crate::words::lock_mode::LockMode;

pub(crate) fn plan(
    draft: &mut Draft<'_>,
    span: &Range<usize>,
    table: &QualifiedName,
    constraint: &NewConstraint,
    parent_name: &Name,
    parent_columns: &[Ident],
    full: bool,
) -> Result<(), Problem> {
    let parent = draft.existing(parent_name)?;
    supported(draft, parent_name, &parent)?;
    let phase = phase(draft, span, table, &constraint.columns)?;
    let name = name(draft, span, table, constraint, "fkey", Space::Constraint)?;
    draft.note(
        span,
        format!("ADD FOREIGN KEY {} on {} to {}", name.as_str(), table.plain(), parent.plain()),
        becomes(phase),
    );
    let keys = keys(draft, &parent, parent_columns);
    for key in &keys {
        draft.claim(phase, Touch::Read, span, &parent, key)?;
    }
    if phase == Phase::Contract && !constraint.not_valid && !full && keys.len() == constraint.columns.len() {
        let title = format!("see that every row of {} has its row in {}", table.plain(), parent.plain());
        let says = format!("rows of {} point at no row of {}", table.plain(), parent.plain());
        draft.push(phase, require(table, title, orphan(table, &constraint.columns, &parent, &keys), says));
    }
    match partitioned_foreign_key::parts(draft, table) {
        Some(leaves) => {
            let steps = partitioned_foreign_key::add(table, &leaves, &parent, &name, &constraint.text);
            draft.push_together(phase, &[table, &parent], steps);
        }
        None => {
            draft.push(phase, add(table, &parent, &name, &constraint.text));
            if !constraint.not_valid {
                draft.push(phase, validate(table, &name));
            }
        }
    }
    learn(draft, table, &name, "f", constraint);
    Ok(())
}

/// The columns that are pointed at: those that are named, else the primary key.
fn keys(draft: &Draft<'_>, parent: &QualifiedName, named: &[Ident]) -> Vec<Ident> {
    if !named.is_empty() {
        return named.to_vec();
    }
    let known = draft.catalog.table(parent);
    let primary = known.and_then(|known| known.constraints.iter().find(|key| key.kind == "p"));
    primary.map(|key| key.columns.clone()).unwrap_or_default()
}

/// True for a row that points at nothing.
pub(crate) fn orphan(
    table: &QualifiedName,
    columns: &[Ident],
    parent: &QualifiedName,
    keys: &[Ident],
) -> String {
    let own = |column: &Ident| format!("{}.{column}", table.name);
    let given: Vec<String> = columns.iter().map(|column| format!("{} IS NOT NULL", own(column))).collect();
    let same: Vec<String> = columns
        .iter()
        .zip(keys)
        .map(|(column, key)| format!("pontoon_parent.{key} = {}", own(column)))
        .collect();
    format!(
        "{} AND NOT EXISTS (SELECT FROM {parent} AS pontoon_parent WHERE {})",
        given.join(" AND "),
        same.join(" AND ")
    )
}

/// The constraint for new rows. Both tables' locks are taken first.
pub(crate) fn add(table: &QualifiedName, parent: &QualifiedName, name: &Ident, text: &str) -> Step {
    let (lock_both, locks) = lock_tables(&[table, parent], LockMode::ShareRowExclusive);
    let (lock_alone, _) = lock_tables(&[table, parent], LockMode::AccessExclusive);
    step(
        format!("check {} for new rows of {}", name.as_str(), table.plain()),
        vec![lock_both, format!("ALTER TABLE {table} ADD CONSTRAINT {name} {text} NOT VALID")],
        vec![lock_alone, format!("ALTER TABLE {table} DROP CONSTRAINT IF EXISTS {name}")],
        locks,
    )
}
