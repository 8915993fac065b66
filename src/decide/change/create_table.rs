//! Shape: CREATE TABLE, and every later statement on a table that the same file creates.
//! Phases: expand, as written.
//! Locks: none on existing tables, except SHARE ROW EXCLUSIVE on those that a foreign key points at.
//! Undo: DROP TABLE; rows that the application wrote are counted first.
//! Limits: inherited and temporary tables are not done yet.

use crate::decide::change::partition;
use crate::decide::draft::Draft;
use crate::decide::plan::Loss;
use crate::model::catalog::{Column, Relation, Table};
use crate::model::problem::Problem;
use crate::model::sql::{Statement, StatementKind};
use crate::words::ident::QualifiedName;

pub(crate) fn plan(draft: &mut Draft<'_>, statement: &Statement) -> Result<(), Problem> {
    let StatementKind::CreateTable { name, if_not_exists, columns, special, partition_of, .. } =
        &statement.kind
    else {
        return Ok(());
    };
    if let Some(special) = special {
        return Err(Problem::new(
            "unsupported-table",
            statement.span.clone(),
            format!("a {special} table is not supported yet"),
            "this table",
        )
        .help("to create it as written, put `-- migrate: phase expand` on the line above"));
    }
    let table = draft.new_name(name);
    if draft.catalog.relations.iter().any(|relation| relation.name == table) {
        if *if_not_exists {
            draft.note(&statement.span, format!("CREATE TABLE {}", table.plain()), "nothing: it exists");
            return Ok(());
        }
        return Err(Problem::new(
            "exists",
            name.span.clone(),
            format!("`{}` exists already", table.plain()),
            "this name",
        ));
    }
    let locks = match partition_of {
        Some(parent) => partition::locks_of_new(draft, statement, parent)?,
        None => Vec::new(),
    };
    draft.note(&statement.span, format!("CREATE TABLE {}", table.plain()), "expand: run it");
    draft.run_in_expand(
        statement,
        format!("create {}", table.plain()),
        vec![format!("DROP TABLE IF EXISTS {table}")],
        locks,
    )?;
    draft.losses.push(Loss {
        what: format!("rows in {}", table.plain()),
        count: format!("SELECT count(*) FROM {table}"),
        blocks: false,
    });
    draft.catalog.relations.push(Relation { name: table.clone() });
    draft
        .catalog
        .tables
        .push(Table { columns: columns.iter().map(Column::added).collect(), ..Table::new(table.clone()) });
    draft.created.insert(table);
    Ok(())
}

/// A later statement on a table that the same file creates: nobody uses the table yet.
pub(crate) fn plan_later(
    draft: &mut Draft<'_>,
    statement: &Statement,
    table: &QualifiedName,
    what: &str,
) -> Result<(), Problem> {
    draft.note(&statement.span, format!("{what} on {}", table.plain()), "expand: run it, the table is new");
    draft.run_in_expand(
        statement,
        format!("{} on {}", what.to_lowercase(), table.plain()),
        Vec::new(),
        Vec::new(),
    )
}
