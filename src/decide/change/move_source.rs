//! What a move between tables may read, and the keys that tell its rows apart.

use std::collections::BTreeSet;
use std::ops::Range;

use crate::decide::change::fill_column::session_dependent;
use crate::decide::change::move_limits::base_type;
use crate::decide::draft::{Draft, Phase, Touch};
use crate::model::catalog::{Index, Table};
use crate::model::problem::Problem;
use crate::model::sql::{Action, ConstraintKind, Expression, NewConstraint, StatementKind};
use crate::words::ident::{Ident, QualifiedName};

/// An expression in terms of the source.
pub(super) struct FromSource {
    pub(super) text: String,
    pub(super) reads: BTreeSet<Ident>,
    pub(super) may_raise: bool,
}

/// Reads an expression that may name columns of the source only, under the name that the statement gives it.
pub(super) fn from_source(
    draft: &mut Draft<'_>,
    source: &QualifiedName,
    alias: &Ident,
    target_type: Option<&str>,
    expression: &Expression,
) -> Result<FromSource, Problem> {
    let span = expression.span.clone();
    if expression.has_query() || expression.has_parameter_or_star() {
        return Err(Problem::unsupported(span, "a query, a parameter or `*` in a move between tables"));
    }
    let functions = expression.functions();
    if let Some(aggregate) = functions.iter().find(|name| draft.catalog.aggregates.contains(*name)) {
        let what = format!("the aggregate `{aggregate}` in a move between tables");
        return Err(Problem::unsupported(span, &what));
    }
    let volatile = functions.iter().find(|name| draft.catalog.volatile_functions.contains(*name));
    if let Some(volatile) = volatile.filter(|_| !expression.columns().is_empty()) {
        let what = format!("`{volatile}`, which gives another value each time, in a move between tables");
        return Err(Problem::unsupported(span, &what));
    }
    for (qualifier, column) in expression.uses() {
        let known = draft.catalog.table(source).and_then(|known| known.column(column));
        if qualifier.is_some_and(|qualifier| qualifier != alias) || known.is_none() {
            let title = format!("`{}` is no column of `{}`", column.as_str(), source.plain());
            return Err(Problem::new(
                "unknown-name",
                span,
                title,
                "what moves is computed from the source alone",
            ));
        }
        if known.is_some_and(|known| known.generated) || draft.added(source, column).is_some() {
            let title = format!("`{}` is generated, or added by this file", column.as_str());
            return Err(Problem::new("generated-source", span, title, "read here").help("split the file"));
        }
        let column = column.clone();
        draft.claim(Phase::Backfill, Touch::Read, &expression.span, source, &column)?;
    }
    session_dependent(draft, source, expression, target_type)?;
    let known = draft.catalog.table(source);
    let text = expression
        .replaced(|column| known.map_or_else(|| column.to_string(), |known| known.collated(column)));
    let same_type = expression.as_column().is_some_and(|(_, column)| {
        let known =
            known.and_then(|known| known.column(column)).map(|known| known.type_sql.to_ascii_lowercase());
        target_type.is_none_or(|target| known == Some(target.to_ascii_lowercase()))
    });
    let may_raise =
        expression.may_raise() || !(same_type || target_type.is_none_or(|target| target == "text"));
    Ok(FromSource { text, reads: expression.columns(), may_raise })
}

/// Whether a table of the database has a key over some of these columns, none of which may be null.
pub(super) fn is_unique(known: &Table, columns: &BTreeSet<&Ident>) -> bool {
    let not_null =
        |column: &Ident| known.column(column).is_some_and(|column| column.not_null && !column.generated);
    tells_apart(known, columns) && columns.iter().all(|column| not_null(column))
}

/// Whether a unique index of a table tells rows apart by some of these columns.
pub(super) fn tells_apart(known: &Table, columns: &BTreeSet<&Ident>) -> bool {
    unique_of(known, columns).is_some()
}

/// The columns of a unique index that are all among some.
pub(super) fn unique_of<'a>(known: &'a Table, columns: &BTreeSet<&Ident>) -> Option<&'a [Ident]> {
    let of = |index: &&Index| {
        index.unique
            && index.plain
            && index.valid
            && index.columns.iter().all(|column| columns.contains(column))
    };
    known.indexes.iter().find(of).map(|index| index.columns.as_slice())
}

/// The pairs of the key that foreign keys take along, when a row of the source turns to another one.
pub(super) fn renumbered(
    target: &Table,
    source: &QualifiedName,
    key: &[(Ident, Ident)],
) -> Vec<(Ident, Ident)> {
    let follows = |pair: &&(Ident, Ident)| {
        target.constraints.iter().any(|constraint| {
            let mut pairs = constraint.parent_columns.iter().zip(&constraint.columns);
            constraint.parent.as_ref() == Some(source)
                && constraint.definition.contains(" ON UPDATE CASCADE")
                && pairs.any(|(parent, child)| (parent, child) == (&pair.0, &pair.1))
        })
    };
    key.iter().filter(follows).cloned().collect()
}

/// Types whose values are compared by the server's own `=`: with another one, equal keys would not be found.
const KEY_TYPES: &[&str] = &[
    "bigint",
    "bigserial",
    "boolean",
    "bytea",
    "character",
    "date",
    "decimal",
    "inet",
    "int",
    "int2",
    "int4",
    "int8",
    "integer",
    "numeric",
    "serial",
    "smallint",
    "text",
    "timestamp",
    "timestamptz",
    "uuid",
    "varchar",
    "char",
];

/// Refuses a key of a type that brings an equality of its own.
fn check_key_type(
    draft: &Draft<'_>,
    span: &Range<usize>,
    table: &QualifiedName,
    column: &Ident,
) -> Result<(), Problem> {
    let known = draft.catalog.table(table).and_then(|known| known.column(column));
    let type_sql = known.map(|known| known.type_sql.to_ascii_lowercase()).unwrap_or_default();
    let word: String = type_sql.chars().take_while(|c| c.is_ascii_alphanumeric()).collect();
    if KEY_TYPES.contains(&word.as_str()) && !type_sql.ends_with(']') {
        return Ok(());
    }
    let title = format!(
        "`{}.{}` is of type {type_sql}, whose equality is not the server's own",
        table.plain(),
        column.as_str()
    );
    Err(no_key(span, table, &title))
}

/// Refuses a pair of key columns of which one could hold a value that the other takes for another one, or not at all.
pub(super) fn check_key_pair(
    draft: &Draft<'_>,
    span: &Range<usize>,
    (source, from): (&QualifiedName, &Ident),
    (target, to): (&QualifiedName, &Ident),
    makes_rows: bool,
) -> Result<(), Problem> {
    check_key_type(draft, span, source, from)?;
    check_key_type(draft, span, target, to)?;
    let type_of = |table, column| {
        let known = draft.catalog.table(table).and_then(|known| known.column(column));
        base_type(known.map_or("", |known| known.type_sql.as_str())).to_ascii_lowercase()
    };
    let (one, other) = (type_of(source, from), type_of(target, to));
    let size = |type_sql: &str| match type_sql {
        "smallint" | "int2" => Some(2),
        "integer" | "int" | "int4" => Some(4),
        "bigint" | "int8" => Some(8),
        _ => None,
    };
    let is_text = |type_sql: &str| {
        ["text", "varchar", "character varying"].iter().any(|text| type_sql.starts_with(text))
    };
    let fits = match (size(&one), size(&other)) {
        (Some(one), Some(other)) => !makes_rows || one <= other,
        _ => is_text(&one) && is_text(&other) || same_type(&one, &other),
    };
    if fits {
        return Ok(());
    }
    let title = format!(
        "`{}` is of type {one}, and `{}` of type {other}: two keys could become one, or none",
        from.as_str(),
        to.as_str()
    );
    Err(no_key(span, source, &title))
}

/// Whether two names mean one type, as somebody may write it and as the server does.
fn same_type(one: &str, other: &str) -> bool {
    let full = |type_sql: &str| match type_sql {
        "timestamptz" => "timestamp with time zone".to_owned(),
        "timestamp" => "timestamp without time zone".to_owned(),
        "bool" => "boolean".to_owned(),
        "decimal" => "numeric".to_owned(),
        _ => type_sql.replace("char(", "character(").replace("varcharacter(", "character varying("),
    };
    full(one) == full(other)
}

/// A source whose rows the key does not tell apart.
pub(super) fn no_key(span: &Range<usize>, source: &QualifiedName, why: &str) -> Problem {
    let title = format!("rows cannot be moved from `{}`: {why}", source.plain());
    Problem::new("no-key", span.clone(), title, "this statement").help(
        "a primary key or unique constraint must tell which row of one table belongs to which of the other; to move the data once, \
         without keeping old and new code in step, put this into a migration after the one that makes the columns or the table",
    )
}

/// The keys of a table that the file creates, as its CREATE TABLE and later statements say.
pub(super) fn keys_of_created(draft: &Draft<'_>, table: &QualifiedName) -> Vec<Vec<Ident>> {
    let constraints = constraints_of_created(draft, table).into_iter();
    let keys = constraints.filter_map(|constraint| match &constraint.kind {
        ConstraintKind::Key { timing, .. } if !timing.to_ascii_uppercase().contains("DEFERRABLE") => {
            Some(constraint.columns.clone())
        }
        _ => None,
    });
    let indexes = draft.file.statements.iter().filter_map(|statement| match &statement.kind {
        StatementKind::CreateIndex(index)
            if index.unique
                && &draft.new_name(&index.table) == table
                && !index.tail.text.to_ascii_uppercase().contains("WHERE") =>
        {
            index.tail.key.iter().cloned().collect::<Option<Vec<_>>>()
        }
        _ => None,
    });
    keys.chain(indexes).collect()
}

/// The constraints of a table that the file creates, wherever the file says so.
pub(super) fn constraints_of_created<'a>(
    draft: &'a Draft<'_>,
    table: &QualifiedName,
) -> Vec<&'a NewConstraint> {
    let mut found = Vec::new();
    for statement in &draft.file.statements {
        match &statement.kind {
            StatementKind::CreateTable { name, columns, constraints, .. }
                if &draft.new_name(name) == table =>
            {
                found.extend(columns.iter().flat_map(|column| &column.constraints).chain(constraints));
            }
            StatementKind::AlterTable { table: name, actions, .. } if &draft.new_name(name) == table => {
                found.extend(actions.iter().filter_map(|(_, action)| match action {
                    Action::AddConstraint(constraint) => Some(constraint),
                    _ => None,
                }));
            }
            _ => {}
        }
    }
    found
}

/// The foreign keys of a table that the file creates that point at another one.
pub(super) fn points_at<'a>(
    draft: &'a Draft<'_>,
    table: &QualifiedName,
    parent: &QualifiedName,
) -> Vec<&'a NewConstraint> {
    let path = &draft.settings.search_path;
    let mut keys = constraints_of_created(draft, table);
    keys.retain(|constraint| match &constraint.kind {
        ConstraintKind::ForeignKey { parent: named, .. } => {
            draft.catalog.resolve(named, path).as_ref() == Some(parent)
        }
        _ => false,
    });
    keys
}
