//! The sequence behind a column whose type changes: it goes on counting where it stood.

use crate::model::catalog::Column;
use crate::words::ident::{Ident, QualifiedName, literal};

/// Whether a sequence can count in the type.
pub(super) fn counts(type_sql: &str) -> bool {
    ["smallint", "integer", "bigint"].contains(&type_sql)
}

/// How the column's sequence counts, as CREATE SEQUENCE takes it.
pub(super) fn options(old: &Column) -> &str {
    old.sequence_options.as_deref().unwrap_or_default()
}

/// Makes a column an identity, with a sequence of that name that counts as the old one does.
pub(super) fn identity(
    table: &QualifiedName,
    old: &Column,
    column: &Ident,
    sequence: &QualifiedName,
) -> String {
    let when = if old.identity_kind == "a" { "ALWAYS" } else { "BY DEFAULT" };
    format!(
        "ALTER TABLE {table} ALTER COLUMN {column} ADD GENERATED {when} AS IDENTITY (SEQUENCE NAME {sequence} {})",
        options(old)
    )
}

/// Statements that drop a sequence and make it again, which then goes on where it stood.
pub(super) fn keeping_count(sequence: &QualifiedName, statements: &[String], type_sql: &str) -> String {
    let last: i64 = match type_sql {
        "smallint" => i16::MAX.into(),
        "integer" => i32::MAX.into(),
        _ => i64::MAX,
    };
    let body: String = statements.iter().map(|statement| format!("  {statement};\n")).collect();
    format!(
        "DO $pontoon$\nDECLARE\n  stood bigint;\n  called boolean;\nBEGIN\n  \
         SELECT s.last_value, s.is_called INTO stood, called FROM {sequence} AS s;\n{body}  \
         PERFORM setval({}, least(stood, {last}), called);\nEND\n$pontoon$",
        literal(&sequence.to_string())
    )
}
