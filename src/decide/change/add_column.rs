//! Shape: ALTER TABLE … ADD COLUMN, nullable or with a default that is not volatile.
//! Phases: expand adds it. A column that an UPDATE of the file fills is added nullable and without default; its
//! default and NOT NULL come in contract.
//! Locks: ACCESS EXCLUSIVE, catalog-only.
//! Undo: DROP COLUMN; values that only the new column holds are counted first.
//! Limits: volatile defaults, identity, generated columns and inline constraints are not done yet.

use std::ops::Range;

use crate::decide::draft::{Added, Draft, Phase, Touch};
use crate::model::catalog::Column;
use crate::model::problem::Problem;
use crate::model::sql::NewColumn;
use crate::words::ident::QualifiedName;

pub(crate) fn plan(
    draft: &mut Draft<'_>,
    span: &Range<usize>,
    table: &QualifiedName,
    column: &NewColumn,
    if_not_exists: bool,
) -> Result<(), Problem> {
    let what = format!("ADD COLUMN {}.{}", table.plain(), column.name.as_str());
    let exists = draft.catalog.table(table).is_some_and(|known| known.column(&column.name).is_some());
    if exists && if_not_exists {
        draft.note(span, what, "nothing: it exists");
        return Ok(());
    }
    if exists {
        let title = format!("`{}` already has a column `{}`", table.plain(), column.name.as_str());
        return Err(Problem::new("exists", span.clone(), title, "this column"));
    }
    if let Some(other) = &column.other {
        return Err(Problem::unsupported(span.clone(), &format!("ADD COLUMN … {other}"))
            .help("add the plain column here, and the constraint in a migration of its own"));
    }
    if let Some(default) = &column.default {
        let volatile = default
            .expression
            .functions()
            .iter()
            .find(|name| draft.catalog.volatile_functions.contains(*name));
        if let Some(volatile) = volatile {
            return Err(Problem::new(
                "volatile-default",
                default.expression.span.clone(),
                format!(
                    "the default calls `{volatile}`, which is volatile: adding it would rewrite the table"
                ),
                "this default",
            )
            .help(format!(
                "add the column without it and fill it: `UPDATE {table} SET {} = {};`",
                column.name,
                default.expression.text()
            )));
        }
    }
    draft.claim(Phase::Expand, Touch::Change, span, table, &column.name)?;
    draft.note(span, what, "expand: add it");
    draft.table(table).added.push(Added {
        column: column.clone(),
        span: span.clone(),
        filled: None,
        default_later: false,
    });
    if let Some(known) = draft.catalog.table_mut(table) {
        known.columns.push(Column::added(column));
    }
    Ok(())
}

impl Column {
    /// The column as the catalog will have it.
    pub(crate) fn added(column: &NewColumn) -> Self {
        Self {
            name: column.name.clone(),
            type_sql: column.type_sql.clone(),
            collation: column.collation.clone(),
            not_null: column.not_null,
            default: column.default.as_ref().map(|default| default.expression.text().to_owned()),
            constant_default: column
                .default
                .as_ref()
                .is_some_and(|default| default.expression.functions().is_empty()),
            generated: false,
            identity: false,
            grants: Vec::new(),
        }
    }
}
