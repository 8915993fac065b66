//! Shape: INSERT … VALUES, or … SELECT from no table: what it looks up in conditions is looked up once.
//! Phases: expand, as written.
//! Locks: ROW EXCLUSIVE on the table.
//! Undo: none; in a table that the file creates the rows go with the table.
//! Limits: abort leaves rows that were inserted into an existing table.

use crate::decide::change::{create_table, leaving};
use crate::decide::draft::{Added, Draft};
use crate::decide::plan::TableLock;
use crate::model::problem::Problem;
use crate::model::sql::{Name, Statement};
use crate::words::ident::QualifiedName;
use crate::words::lock_mode::LockMode;

pub(crate) fn plan(draft: &mut Draft<'_>, statement: &Statement, name: &Name) -> Result<(), Problem> {
    let table = draft.existing(name)?;
    let is_new = draft.created.contains(&table);
    let wholes = draft.wholes(name);
    for held_by in wholes.iter().chain((!is_new).then_some(&table)) {
        refuse_changed_before(draft, statement, held_by)?;
    }
    leaving::refuse_looked_up(draft, statement)?;
    if is_new {
        return create_table::plan_later(draft, statement, &table, "INSERT");
    }
    draft.note(
        &statement.span,
        format!("INSERT into {}", table.plain()),
        "expand: run it; abort leaves the rows",
    );
    draft.warnings.push(format!("abort leaves the rows inserted into {}", table.plain()));
    let locks = vec![TableLock { table: table.clone(), mode: LockMode::RowExclusive }];
    draft.run_in_expand(statement, format!("insert into {}", table.plain()), Vec::new(), locks)?;
    draft.stays(format!("the rows inserted into {}", table.plain()));
    Ok(())
}

/// Rows that expand or a data job inserts must not meet what a statement above does later, or has its triggers do.
pub(super) fn refuse_changed_before(
    draft: &Draft<'_>,
    statement: &Statement,
    table: &QualifiedName,
) -> Result<(), Problem> {
    let filled = draft
        .tables
        .iter()
        .filter(|work| &work.name == table)
        .any(|work| !work.repairs.is_empty() || work.added.iter().any(Added::is_filled));
    if filled {
        let title =
            format!("an UPDATE above changes `{}` in backfill, and these rows with it", table.plain());
        return Err(Problem::new("order", statement.span.clone(), title, "this would come first")
            .help("put the INSERT above the UPDATE, or into a migration of its own"));
    }
    draft.refuse_rows_before(&statement.span, table)
}
