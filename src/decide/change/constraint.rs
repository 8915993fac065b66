//! What the kinds of constraint have in common: where they go, and how they come without a long lock.

use std::ops::Range;

use crate::decide::change::names::{Space, choose, take};
use crate::decide::change::{add_check, add_foreign_key, add_key};
use crate::decide::draft::{Draft, Phase, Touch, step};
use crate::decide::plan::{Mode, Require, Step, TableLock};
use crate::model::catalog::Constraint;
use crate::model::problem::Problem;
use crate::model::sql::{ConstraintKind, NewConstraint};
use crate::words::ident::{Ident, QualifiedName};
use crate::words::lock_mode::LockMode;

pub(crate) fn plan(
    draft: &mut Draft<'_>,
    span: &Range<usize>,
    table: &QualifiedName,
    constraint: &NewConstraint,
) -> Result<(), Problem> {
    match &constraint.kind {
        ConstraintKind::Check(expression) => add_check::plan(draft, span, table, constraint, expression),
        ConstraintKind::ForeignKey { parent, parent_columns, full } => {
            add_foreign_key::plan(draft, span, table, constraint, parent, parent_columns, *full)
        }
        ConstraintKind::Key { primary, index, timing } => {
            add_key::plan(draft, span, table, constraint, *primary, index, timing)
        }
        ConstraintKind::Exclude => {
            Err(Problem::unsupported(span.clone(), "an exclusion constraint on an existing table").help(
                "PostgreSQL can only build it while nobody writes; `-- migrate: phase contract` above the statement does \
                 that, in a maintenance window",
            ))
        }
    }
}

/// Where a constraint goes. Old code knows nothing of columns that the file adds and nothing fills: all their values are
/// null. Whatever else it is, it could reject what old code writes.
pub(crate) fn phase(
    draft: &mut Draft<'_>,
    span: &Range<usize>,
    table: &QualifiedName,
    columns: &[Ident],
) -> Result<Phase, Problem> {
    let mut untouched = !columns.is_empty();
    for column in columns {
        let Some(known) = draft.catalog.table(table) else { continue };
        if known.column(column).is_none() {
            return Err(Problem::no_column(span.clone(), table, column, "named here"));
        }
        if draft.tables.iter().any(|work| &work.name == table && work.renamed.iter().any(|r| &r.to == column))
        {
            let title = format!("`{}` is renamed by this file", column.as_str());
            return Err(Problem::new("rename-source", span.clone(), title, "constrained here")
                .help("split the file: the rename goes into a migration of its own"));
        }
        untouched &= !draft.is_filled_below(table, column);
        untouched &= draft.added(table, column).is_some_and(|added| !added.is_filled());
    }
    let phase = if untouched { Phase::Expand } else { Phase::Contract };
    for column in columns {
        draft.claim(phase, Touch::Read, span, table, column)?;
    }
    draft.table(table);
    Ok(phase)
}

/// The name as written, or the one that the server would choose.
pub(crate) fn name(
    draft: &mut Draft<'_>,
    span: &Range<usize>,
    table: &QualifiedName,
    constraint: &NewConstraint,
    label: &str,
    space: Space,
) -> Result<Ident, Problem> {
    let Some(name) = &constraint.name else {
        let columns: Vec<&str> = constraint.columns.iter().map(Ident::as_str).collect();
        let columns = match (&constraint.kind, columns.as_slice()) {
            (ConstraintKind::Check(_), [only]) => (*only).to_owned(),
            (ConstraintKind::Check(_), _) | (ConstraintKind::Key { primary: true, .. }, _) => String::new(),
            _ => columns.join("_"),
        };
        return Ok(choose(draft, table, &columns, label, space));
    };
    if draft.catalog.table(table).is_some_and(|known| known.constraint(name).is_some()) {
        let title = format!("`{}` already has a constraint `{}`", table.plain(), name.as_str());
        return Err(Problem::new("exists", span.clone(), title, "this constraint").help(
            "a name that the file itself takes away is free when the migration is done: use another one, or split the file",
        ));
    }
    take(draft, table, name, space);
    Ok(name.clone())
}

/// The model of the catalog learns of it.
pub(crate) fn learn(
    draft: &mut Draft<'_>,
    table: &QualifiedName,
    name: &Ident,
    kind: &str,
    of: &NewConstraint,
) {
    if let Some(known) = draft.catalog.table_mut(table) {
        known.constraints.push(Constraint {
            name: name.clone(),
            kind: kind.to_owned(),
            validated: true,
            columns: of.columns.clone(),
            parent: None,
            parent_columns: Vec::new(),
            comment: None,
            definition: of.text.clone(),
        });
    }
}

/// Refuses to go on while rows are in the way, and lists them by key.
pub(crate) fn require(table: &QualifiedName, title: String, predicate: String, says: String) -> Step {
    require_of(title, Require { table: table.clone(), predicate, says, named: None, accept: None })
}

/// The same with more said of the rows.
pub(super) fn require_of(title: String, condition: Require) -> Step {
    Step { mode: Mode::Require(condition), scans: true, ..step(title, Vec::new(), Vec::new(), Vec::new()) }
}

/// A lock on one table.
pub(crate) fn lock(table: &QualifiedName, mode: LockMode) -> TableLock {
    TableLock { table: table.clone(), mode }
}

/// What becomes of a constraint, for people.
pub(crate) fn becomes(phase: Phase) -> &'static str {
    match phase {
        Phase::Expand => "expand: old code writes none of its columns",
        Phase::Backfill => "backfill: after the data",
        Phase::Contract => "contract: looks for rows in the way, then for new rows, then validated for all",
    }
}
