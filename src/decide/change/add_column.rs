//! Shape: ALTER TABLE … ADD COLUMN.
//! Phases: expand adds it. A column that an UPDATE of the file fills, or whose default is volatile, is added nullable and
//! without default; its default and NOT NULL come in contract. Constraints behind it are planned like those of a table.
//! Locks: ACCESS EXCLUSIVE, catalog-only.
//! Undo: DROP COLUMN; values that only the new column holds are counted first.
//! Limits: identity and stored generated columns would rewrite the table, and are refused with the alternative; virtual ones
//! need version 18 of the server.

use std::collections::BTreeSet;
use std::ops::Range;

use crate::decide::change::constraint;
use crate::decide::draft::{Added, Draft, Filled, Phase, Touch};
use crate::decide::plan::Loss;
use crate::model::catalog::Column;
use crate::model::problem::Problem;
use crate::model::sql::NewColumn;
use crate::words::ident::{Ident, QualifiedName};

/// The server version that brought virtual generated columns.
const VIRTUAL_SINCE: i64 = 180_000;

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
        draft.claim(Phase::Expand, Touch::Change, span, table, &column.name)?;
        draft.note(span, what, "nothing: it exists");
        return Ok(());
    }
    if exists {
        draft.refuse_leaving(span, table, &column.name)?;
        let title = format!("`{}` already has a column `{}`", table.plain(), column.name.as_str());
        return Err(Problem::new("exists", span.clone(), title, "this column"));
    }
    if let Some(other) = &column.other {
        let help = if other.starts_with("GENERATED") {
            format!(
                "PostgreSQL would rewrite the table; add the plain column and fill it instead: `UPDATE {table} SET {} = \
                 <expression>;` keeps it in step until contract",
                column.name
            )
        } else {
            "add the plain column here, and the rest in a migration of its own".to_owned()
        };
        return Err(Problem::unsupported(span.clone(), &format!("ADD COLUMN … {other}")).help(help));
    }
    if let Some(computed) = &column.computed {
        let ready = draft.catalog.server_version >= VIRTUAL_SINCE
            && !column.not_null
            && column.constraints.is_empty();
        if !ready {
            let what =
                "a virtual generated column before PostgreSQL 18, or with a rule that rows must be read for";
            return Err(Problem::unsupported(span.clone(), what)
                .help("a view can compute it; a rule on it goes into a migration of its own"));
        }
        for read in computed.columns() {
            if draft.catalog.table(table).is_some_and(|known| known.column(&read).is_none()) {
                return Err(Problem::no_column(computed.span.clone(), table, &read, "read here"));
            }
            draft.claim(Phase::Expand, Touch::Read, &computed.span, table, &read)?;
        }
    }
    refuse_checked_domain(draft, span, &column.type_sql)?;
    // Each row gets a value of its own, as the server would give it: a fill.
    let filled = column.default.as_ref().map(|default| &default.expression).filter(|default| {
        default.functions().iter().any(|name| draft.catalog.volatile_functions.contains(name))
    });
    let filled = filled.map(|default| Filled {
        expression: default.text().to_owned(),
        reads: BTreeSet::new(),
        may_raise: default.may_raise(),
        fill: Some(None),
    });
    draft.claim(Phase::Expand, Touch::Change, span, table, &column.name)?;
    let becomes = match filled {
        Some(_) => "expand: add it, filled where null by trigger; backfill: fill; contract: its default",
        None => "expand: add it",
    };
    draft.note(span, what, becomes);
    draft.table(table).added.push(Added {
        column: column.clone(),
        span: span.clone(),
        filled,
        from_elsewhere: false,
        default_later: false,
    });
    if let Some(known) = draft.catalog.table_mut(table) {
        known.columns.push(Column::added(column));
    }
    for constraint in &column.constraints {
        constraint::plan(draft, span, table, constraint)?;
    }
    Ok(())
}

/// The server evaluates a domain's constraints for every row that exists, by a rewrite.
pub(crate) fn refuse_checked_domain(
    draft: &Draft<'_>,
    span: &Range<usize>,
    type_sql: &str,
) -> Result<(), Problem> {
    if !draft.catalog.is_checked_domain(type_sql) {
        return Ok(());
    }
    let title = format!("`{type_sql}` is a domain with constraints: the table would be rewritten for it");
    Err(Problem::new("domain", span.clone(), title, "this column")
        .help("use the domain's base type, and a CHECK that says the same"))
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
            generated: column.computed.is_some(),
            identity: false,
            identity_kind: String::new(),
            sequence: None,
            sequence_options: None,
            sequence_also: Vec::new(),
            comment: None,
            statistics: None,
            storage: None,
            compression: None,
            options: Vec::new(),
            grants: Vec::new(),
        }
    }
}

/// ADD COLUMN as it may run while old code writes.
pub(super) fn statements(
    draft: &mut Draft<'_>,
    table: &QualifiedName,
    added: &Added,
) -> Result<Vec<String>, Problem> {
    let column = &added.column;
    let head =
        format!("ALTER TABLE {table} ADD COLUMN {} {}{}", column.name, column.type_sql, column.collation);
    let serial = ["serial", "bigserial", "smallserial", "serial2", "serial4", "serial8"];
    if serial.contains(&column.type_sql.to_ascii_lowercase().as_str()) {
        let sequence = Ident::new(format!("{}_{}_seq", table.name.as_str(), column.name.as_str()));
        let counted = match column.type_sql.to_ascii_lowercase().as_str() {
            "bigserial" | "serial8" => "bigint",
            "smallserial" | "serial2" => "smallint",
            _ => "int",
        };
        return Err(Problem::unsupported(added.span.clone(), &format!("ADD COLUMN … {}", column.type_sql)).help(format!(
            "say what it stands for: `CREATE SEQUENCE {sequence} AS {counted}; ALTER TABLE {table} ADD COLUMN {} {counted} NOT NULL DEFAULT \
             nextval('{sequence}');`",
            column.name
        )));
    }
    if added.is_filled() {
        return Ok(vec![head]);
    }
    if let Some(computed) = &column.computed {
        return Ok(vec![format!("{head} GENERATED ALWAYS AS ({}) VIRTUAL", computed.text())]);
    }
    let default = column.default.as_ref().map(|default| default.expression.text());
    if column.not_null && (default.is_none() || added.default_later) {
        return Err(Problem::new(
            "not-null-unfilled",
            added.span.clone(),
            format!("`{}` is NOT NULL, but nothing gives the rows that exist a value", column.name.as_str()),
            "this column",
        )
        .help(format!(
            "give ADD COLUMN a DEFAULT, or fill it: `UPDATE {table} SET {} = <expression>;`",
            column.name
        )));
    }
    let stored = default.map_or_else(
        || format!("{} IS NOT NULL", column.name),
        |default| {
            let differs =
                format!("ROW({0})::record *<> ROW(({default})::{1})::record", column.name, column.type_sql);
            // A default of the moment cannot be told from a value that was given.
            if column.default.as_ref().is_some_and(|default| default.expression.functions().is_empty()) {
                differs
            } else {
                "false".to_owned()
            }
        },
    );
    draft.losses.push(Loss {
        what: format!("values in {}.{}", table.plain(), column.name.as_str()),
        count: format!("SELECT count(*) FROM {table} WHERE {stored}"),
        blocks: false,
    });
    let not_null = if column.not_null { " NOT NULL" } else { "" };
    Ok(match default {
        Some(default) if added.default_later => {
            vec![head, format!("ALTER TABLE {table} ALTER COLUMN {} SET DEFAULT {default}", column.name)]
        }
        Some(default) => vec![format!("{head} DEFAULT {default}{not_null}")],
        None => vec![head],
    })
}
