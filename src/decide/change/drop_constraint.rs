//! Shape: ALTER TABLE … DROP CONSTRAINT.
//! Phases: a check or a foreign key, expand; a key, contract, because old code may upsert on it.
//! Locks: ACCESS EXCLUSIVE, catalog-only; on both tables for a foreign key.
//! Undo: a check or a foreign key comes back NOT VALID and is validated; a key does not come back after contract.
//! Limits: never CASCADE: foreign keys that point at a key are listed and must go first.

use std::ops::Range;

use crate::decide::change::add_foreign_key::orphan;
use crate::decide::change::constraint::lock;
use crate::decide::change::partitioned_foreign_key;
use crate::decide::draft::{Draft, Phase, Touch, has_unproved, lock_tables, step, table_step, undo_only};
use crate::decide::plan::Loss;
use crate::model::catalog::Constraint;
use crate::model::problem::Problem;
use crate::model::sql::{Action, ConstraintKind, NewConstraint, Statement, StatementKind};
use crate::words::ident::{Ident, QualifiedName, literal};
use crate::words::lock_mode::LockMode;

pub(crate) fn plan(
    draft: &mut Draft<'_>,
    span: &Range<usize>,
    table: &QualifiedName,
    name: &Ident,
    if_exists: bool,
    cascade: bool,
) -> Result<(), Problem> {
    let what = format!("DROP CONSTRAINT {} of {}", name.as_str(), table.plain());
    let known = draft.catalog.table(table).and_then(|known| known.constraint(name)).cloned();
    let Some(known) = known else {
        let made =
            draft.catalog.constraint_names.contains(&format!("{}.{}", table.schema.as_str(), name.as_str()));
        if if_exists && made && draft.is_in_flight(table) {
            let title = format!("an earlier migration may be about to make `{}`", name.as_str());
            return Err(Problem::in_flight(span.clone(), title, "dropped here", None));
        }
        if if_exists {
            draft.note(span, what, "nothing: there is no such constraint");
            return Ok(());
        }
        return Err(Problem::no_constraint(span.clone(), table, name, "dropped here"));
    };
    if cascade {
        return Err(Problem::cascade(span.clone()));
    }
    if draft.table(table).renamed_constraints.contains(name) {
        let title = format!("`{}` gets that name in contract", name.as_str());
        return Err(Problem::new("order", span.clone(), title, "dropped here").help("split the file"));
    }
    let relaxes = ["c", "f"].contains(&known.kind.as_str());
    let phase = if relaxes { Phase::Expand } else { Phase::Contract };
    for column in &known.columns {
        draft.claim(phase, Touch::Change, span, table, column)?;
    }
    if !relaxes {
        refuse_dependants(draft, span, table, &known)?;
        draft.note(span, what, "contract: old code may upsert on it");
        let sql = format!("ALTER TABLE {table} DROP CONSTRAINT {name}");
        let title = format!("drop the key {} of {}", name.as_str(), table.plain());
        draft.push_drop(table_step(table, title, vec![sql], Vec::new()));
        // It is there until the drop, so its name is not free and its table has a primary key.
        return Ok(());
    }
    draft.note(span, what, "expand: run it");
    warn(draft, table, &known);
    relax(draft, table, &known);
    let plain = format!("{}.{}", table.schema.as_str(), name.as_str());
    draft.catalog.constraint_names.remove(&plain);
    draft.gone_constraints.insert(format!("constraint {} on table {table}", name.as_str()));
    if let Some(known) = draft.catalog.table_mut(table) {
        known.constraints.retain(|constraint| &constraint.name != name);
    }
    Ok(())
}

/// What old code meets from expand on that it did not before.
fn warn(draft: &mut Draft<'_>, table: &QualifiedName, known: &Constraint) {
    let name = known.name.as_str();
    let acts = ["CASCADE", "SET NULL", "SET DEFAULT"].iter().any(|action| known.definition.contains(action));
    if let Some(parent) = known.parent.as_ref().filter(|_| acts) {
        draft.warnings.push(format!(
            "{name} also changes rows of {}: from expand on, what old code deletes or renumbers in {} leaves them as they are",
            table.plain(),
            parent.plain()
        ));
    }
    let kind = |constraint: &NewConstraint| match constraint.kind {
        ConstraintKind::ForeignKey { .. } => "f",
        ConstraintKind::Check(_) => "c",
        ConstraintKind::Key { .. } | ConstraintKind::Exclude => "u",
    };
    let adds = |statement: &Statement| {
        match &statement.kind {
        StatementKind::AlterTable { table: named, actions, .. } => {
            draft.existing(named).is_ok_and(|named| &named == table)
                && actions.iter().any(|(_, action)| {
                    matches!(action, Action::AddConstraint(constraint) if kind(constraint) == known.kind)
                })
        }
        _ => false,
    }
    };
    if draft.at_hand().iter().any(adds) {
        draft.warnings.push(format!(
            "from expand to contract nothing stands in the place of {name}: rows that neither it nor the new one allows stop contract; to \
             go without a gap, add the new one under another name in this file, and drop {name} in one behind it"
        ));
    }
}

/// Backwards the second step comes first.
fn relax(draft: &mut Draft<'_>, table: &QualifiedName, known: &Constraint) {
    let name = &known.name;
    if let Some(violates) = violates(table, known).filter(|_| known.validated) {
        draft.losses.push(Loss {
            what: format!("rows of {} that violate {}", table.plain(), name.as_str()),
            count: format!("SELECT count(*) FROM {table} WHERE {violates}"),
            blocks: true,
        });
    }
    let parts = partitioned_foreign_key::parts(draft, table);
    if let (Some(parent), Some(leaves)) = (&known.parent, parts) {
        let steps = partitioned_foreign_key::relax(table, &leaves, parent, known);
        draft.push_together(Phase::Expand, &[table, parent], steps);
        return;
    }
    let definition = known.definition.trim_end_matches(" NOT VALID");
    if known.validated {
        draft.push(
            Phase::Expand,
            undo_only(
                &format!("validate {} again", name.as_str()),
                has_unproved(table, name),
                vec![format!("ALTER TABLE {table} VALIDATE CONSTRAINT {name}")],
                lock(table, LockMode::ShareUpdateExclusive),
            ),
        );
    }
    let title = format!("drop {} of {}", name.as_str(), table.plain());
    let both: Vec<&QualifiedName> = std::iter::once(table).chain(&known.parent).collect();
    let (lock_both, locks) = lock_tables(&both, LockMode::AccessExclusive);
    let sql = vec![lock_both.clone(), format!("ALTER TABLE {table} DROP CONSTRAINT {name}")];
    let mut undo =
        vec![lock_both, format!("ALTER TABLE {table} ADD CONSTRAINT {name} {definition} NOT VALID")];
    if let Some(comment) = &known.comment {
        undo.push(format!("COMMENT ON CONSTRAINT {name} ON {table} IS {}", literal(comment)));
    }
    draft.push(Phase::Expand, step(title, sql, undo, locks));
}

/// True for a row that the constraint would not allow.
fn violates(table: &QualifiedName, known: &Constraint) -> Option<String> {
    match &known.parent {
        Some(parent) => Some(orphan(table, &known.columns, parent, &known.parent_columns)),
        None => {
            let check = known.definition.strip_prefix("CHECK ")?;
            Some(format!("NOT ({})", check.trim_end_matches(" NOT VALID").trim_end_matches(" NO INHERIT")))
        }
    }
}

fn refuse_dependants(
    draft: &Draft<'_>,
    span: &Range<usize>,
    table: &QualifiedName,
    key: &Constraint,
) -> Result<(), Problem> {
    let pointing: Vec<String> = draft
        .catalog
        .tables
        .iter()
        .flat_map(|other| other.constraints.iter().map(move |constraint| (other, constraint)))
        .filter(|(_, constraint)| {
            constraint.parent.as_ref() == Some(table)
                && constraint.parent_columns.len() == key.columns.len()
                && constraint.parent_columns.iter().all(|column| key.columns.contains(column))
        })
        .map(|(other, constraint)| format!("{} of {}", constraint.name.as_str(), other.name.plain()))
        .collect();
    if pointing.is_empty() {
        return Ok(());
    }
    let title = format!(
        "`{}` cannot be dropped while foreign keys point at it: {}",
        key.name.as_str(),
        pointing.join(", ")
    );
    Err(Problem::new("dependants", span.clone(), title, "dropped here").help("drop those first"))
}
