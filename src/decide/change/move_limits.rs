//! What a file with a move between tables may not do besides.

use std::collections::BTreeSet;

use crate::decide::draft::{Crossing, Draft};
use crate::model::catalog::Table;
use crate::model::problem::Problem;
use crate::model::sql::StatementKind;
use crate::words::ident::{Ident, QualifiedName};

/// Refuses what else the file does to the columns that a move needs, and two moves out of a table that goes.
pub(super) fn check_rest_of_file(
    draft: &Draft<'_>,
    crossing: &Crossing,
    others: usize,
    source_goes: bool,
) -> Result<(), Problem> {
    let span = &crossing.span;
    if source_goes && others > 0 {
        let title = format!(
            "two moves out of `{}`, which goes: what one side deletes the other would lose",
            crossing.source.plain()
        );
        return Err(Problem::new("order", span.clone(), title, "one of them")
            .help("drop the table in a migration after this one"));
    }
    if draft.hides_table(&crossing.target) {
        let title = format!("`{}` is dropped by the same file", crossing.target.plain());
        return Err(
            Problem::new("order", span.clone(), title, "moved there").help("take both statements out")
        );
    }
    let mut needed: BTreeSet<&Ident> =
        crossing.key.iter().flat_map(|(source, target)| [source, target]).collect();
    needed.extend(crossing.new.iter().flat_map(|new| new.reads.iter().chain([&new.column.name])));
    needed.extend(crossing.condition.iter().flat_map(|(_, reads)| reads));
    let works =
        draft.tables.iter().filter(|work| work.name == crossing.source || work.name == crossing.target);
    let changed = works
        .flat_map(|work| {
            let renamed = work.renamed.iter().map(|renamed| &renamed.from);
            renamed.chain(work.retyped.iter().map(|retyped| &retyped.column))
        })
        .find(|column| needed.contains(column));
    let Some(column) = changed else { return Ok(()) };
    let title = format!(
        "`{}` moves between tables, and is renamed or changes its type in the same file",
        column.as_str()
    );
    Err(Problem::new("order", span.clone(), title, "used here").help("split the file"))
}

/// A table that takes the place of another must take whatever that takes, and count its keys with it.
pub(super) fn check_replacement(
    draft: &Draft<'_>,
    crossing: &Crossing,
    known: &Table,
) -> Result<(), Problem> {
    let target = draft.catalog.table(&crossing.target);
    for (from, to) in &crossing.same {
        let strict = known.column(from).is_some_and(|column| column.not_null && column.default.is_none());
        let loose = target.and_then(|target| target.column(to)).is_some_and(|column| !column.not_null);
        if strict && loose {
            let title = format!(
                "`{}` may be null, and `{}.{}` may not",
                to.as_str(),
                known.name.plain(),
                from.as_str()
            );
            return Err(Problem::new(
                "not-null",
                crossing.span.clone(),
                title,
                "new code's row without it would have no place there",
            )
            .help(format!("declare `{to}` NOT NULL; drop that in a migration after this one")));
        }
    }
    for (from, to) in &crossing.key {
        let counts = known.column(from).is_some_and(|column| column.identity || column.default.is_some());
        if counts && counts_by_itself(draft, &crossing.target, to) {
            let title = format!(
                "`{}` and `{}.{}` count on their own, and would give one number to two rows",
                to.as_str(),
                known.name.plain(),
                from.as_str()
            );
            return Err(Problem::new(
                "two-sequences",
                crossing.span.clone(),
                title,
                "the key is taken over here",
            )
            .help("give the new column a DEFAULT that takes numbers from the old one's sequence"));
        }
    }
    Ok(())
}

/// Whether a column of a table that the file creates has a sequence of its own.
pub(super) fn counts_by_itself(draft: &Draft<'_>, table: &QualifiedName, column: &Ident) -> bool {
    draft.file.statements.iter().any(|statement| match &statement.kind {
        StatementKind::CreateTable { name, columns, .. } if &draft.new_name(name) == table => {
            columns.iter().any(|known| {
                &known.name == column
                    && (known.other.is_some() || base_type(&known.type_sql) != known.type_sql)
            })
        }
        _ => false,
    })
}

/// What a column of a serial type holds.
pub(super) fn base_type(type_sql: &str) -> &str {
    match type_sql.to_ascii_lowercase().as_str() {
        "serial" | "serial4" => "integer",
        "bigserial" | "serial8" => "bigint",
        "smallserial" | "serial2" => "smallint",
        _ => type_sql,
    }
}
