//! Shape: UPDATE of existing columns that the same file then constrains (SET NOT NULL, CHECK).
//! Phases: expand installs a trigger that does to each written row what the UPDATE says; backfill runs it in batches.
//! Locks: ROW EXCLUSIVE, one short transaction per batch.
//! Undo: the trigger goes; what was changed stays, and the plan says so.
//! Limits: its own result must be something that it leaves alone, or it is refused at the first row; values of other tables
//! are not done yet.

use std::collections::BTreeSet;

use crate::decide::change::fill_column::{Resolved, resolve, session_dependent};
use crate::decide::draft::{Draft, Phase, Touch};
use crate::decide::sync::{Repair, Typed};
use crate::model::problem::Problem;
use crate::model::sql::{Action, SetColumn, SetValue, Statement, StatementKind};
use crate::words::ident::{Ident, QualifiedName};

/// Whether a statement below constrains the column.
pub(crate) fn is_constrained_below(draft: &Draft<'_>, table: &QualifiedName, column: &Ident) -> bool {
    draft.below().iter().any(|statement| {
        let StatementKind::AlterTable { table: name, actions, .. } = &statement.kind else { return false };
        draft.existing(name).is_ok_and(|named| &named == table)
            && actions.iter().any(|(_, action)| match action {
                Action::SetNotNull { column: constrained } => constrained == column,
                Action::AddConstraint(constraint) => constraint.columns.contains(column),
                _ => false,
            })
    })
}

pub(crate) fn plan(
    draft: &mut Draft<'_>,
    statement: &Statement,
    table: &QualifiedName,
    alias: &Ident,
    sets: &[SetColumn],
    condition: Option<&Resolved>,
) -> Result<(), Problem> {
    let mut reads: BTreeSet<Ident> = condition.map(|condition| condition.reads.clone()).unwrap_or_default();
    let mut values = Vec::new();
    for set in sets {
        let SetValue::Expression(expression) = &set.value else {
            return Err(Problem::unsupported(set.span.clone(), "this form of assignment")
                .help("write `column = expression`"));
        };
        let twice = draft.tables.iter().any(|work| {
            &work.name == table
                && work
                    .repairs
                    .iter()
                    .any(|repair| repair.sets.iter().any(|(typed, _)| typed.name == set.column))
        });
        if twice {
            let title = format!("`{}` is set by two UPDATEs", set.column.as_str());
            return Err(Problem::new("fill-twice", set.span.clone(), title, "the second time")
                .help("write one UPDATE"));
        }
        let resolved = resolve(draft, table, alias, expression)?;
        let Some(typed) = typed_column(draft, table, &set.column) else { continue };
        session_dependent(draft, table, expression, Some(&typed.type_sql))?;
        reads.extend(resolved.reads);
        reads.insert(set.column.clone());
        values.push((typed, resolved.text));
        draft.claim(Phase::Backfill, Touch::Change, &set.span, table, &set.column)?;
        draft.note(
            &set.span,
            format!("UPDATE {} SET {}", table.plain(), set.column.as_str()),
            "expand: done to each row that is written; backfill: to all; abort leaves what it changed",
        );
    }
    draft.warnings.push(format!(
        "abort leaves the rows of {} as the UPDATE in line {} made them",
        table.plain(),
        draft.file.source.line(statement.span.start)
    ));
    let columns = reads.iter().filter_map(|column| typed_column(draft, table, column)).collect();
    let version = draft.file.version.number().to_string();
    let count = draft.tables.iter().map(|work| work.repairs.len()).sum::<usize>() + 1;
    let repair = Repair {
        id: format!("m{version}_r{count}"),
        version,
        ledger: draft.settings.ledger.clone(),
        table: table.clone(),
        sets: values,
        condition: condition.map(|condition| condition.text.clone()),
        columns,
        span: statement.span.clone(),
    };
    draft.table(table).repairs.push(repair);
    Ok(())
}

fn typed_column(draft: &Draft<'_>, table: &QualifiedName, column: &Ident) -> Option<Typed> {
    let known = draft.catalog.table(table)?.column(column)?;
    Some(Typed { name: known.name.clone(), type_sql: known.type_sql.clone() })
}
