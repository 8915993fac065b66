//! What a file with a move between tables may not do besides.

use std::collections::BTreeSet;

use crate::decide::change::move_source::{constraints_of_created, points_at};
use crate::decide::draft::{Crossing, Draft};
use crate::decide::sync::Across;
use crate::model::catalog::{Index, Table};
use crate::model::problem::Problem;
use crate::model::sql::{NewConstraint, StatementKind};
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

/// Refuses a column that goes and of which something else is computed too, where new code's writes come back to it: what they say of
/// one place would reach the other.
pub(super) fn check_one_place(
    draft: &Draft<'_>,
    crossing: &Crossing,
    across: &Across,
    others: &[&Crossing],
) -> Result<(), Problem> {
    if across.source_goes || !(across.has_down() || across.takes_along()) {
        return Ok(());
    }
    let moved = others.iter().flat_map(|other| {
        let condition = other.condition.iter().flat_map(|(_, reads)| reads);
        other.new.iter().flat_map(|new| &new.reads).chain(condition)
    });
    let works = draft.tables.iter().filter(|work| work.name == crossing.source);
    let filled = works.flat_map(|work| &work.added).filter_map(|added| added.filled.as_ref());
    let read: BTreeSet<&Ident> = moved.chain(filled.flat_map(|filled| &filled.reads)).collect();
    let Some(left) = across.old.iter().find(|left| read.contains(&left.column.name)) else { return Ok(()) };
    let title = format!(
        "`{}` moves to `{}`, and something else of this file is computed from it",
        left.column.name.as_str(),
        crossing.target.plain()
    );
    Err(Problem::new("two-places", crossing.span.clone(), title, "new code's writes here would change that")
        .help("drop the column in the migration after this one"))
}

/// Refuses keys of which one cannot follow the other, where rows of the target make, renumber and take away rows of a source that
/// goes: the target's must be its own, not the name of another row; the source's must take what it is given.
pub(super) fn check_keys_of_both(crossing: &Crossing, known: &Table, target: &Table) -> Result<(), Problem> {
    let key: BTreeSet<&Ident> = crossing.key.iter().map(|(_, target)| target).collect();
    let own = |index: &Index| index.primary && index.columns.iter().all(|column| key.contains(column));
    if crossing.copy.is_none() && !target.indexes.iter().any(own) {
        let title = format!(
            "`{}` goes, and rows of `{}` name theirs by something else than their own primary key",
            crossing.source.plain(),
            crossing.target.plain()
        );
        let label = "a row that names another one would take it over";
        return Err(Problem::new("no-key", crossing.span.clone(), title, label)
            .help("drop the table in the migration after this one"));
    }
    let fixed = |column: &&Ident| known.column(column).is_some_and(|column| column.identity_kind == "a");
    let Some(column) = crossing.key.iter().map(|(source, _)| source).find(fixed) else { return Ok(()) };
    let title = format!(
        "`{}.{}` is GENERATED ALWAYS, and cannot follow a key that new code changes",
        crossing.source.plain(),
        column.as_str()
    );
    Err(Problem::new("identity", crossing.span.clone(), title, "its rows move here").help(format!(
        "in a migration before, with `-- migrate: phase expand`: `ALTER TABLE {} ALTER COLUMN {column} SET GENERATED BY DEFAULT;`",
        crossing.source
    )))
}

/// A row of a partitioned source that goes to another partition takes its row of the target along, before it has the new key
/// itself: a foreign key that is checked at once would stop that.
pub(super) fn check_shift(draft: &Draft<'_>, crossing: &Crossing, across: &Across) -> Result<(), Problem> {
    let deferred = |key: &&NewConstraint| key.text.to_ascii_uppercase().contains("INITIALLY DEFERRED");
    let home = points_at(draft, &crossing.target, &crossing.source);
    let late = constraints_of_created(draft, &crossing.target)
        .into_iter()
        .find(|key| deferred(key) && !home.iter().any(|home| std::ptr::eq(*home, *key)));
    if late.filter(|_| across.makes_rows).is_some() {
        let title = format!(
            "a rule of `{}` that is checked when a transaction ends would fail old code's",
            crossing.target.plain()
        );
        return Err(Problem::new("deferred", crossing.span.clone(), title, "old code's rows go there")
            .help("leave INITIALLY DEFERRED out, or add the constraint in the migration after this one"));
    }
    if !across.source_is_partitioned || !across.makes_rows {
        return Ok(());
    }
    if points_at(draft, &crossing.target, &crossing.source).iter().all(deferred) {
        return Ok(());
    }
    let title = format!(
        "a row of `{}` that goes to another partition could not take its row of `{}` along",
        crossing.source.plain(),
        crossing.target.plain()
    );
    Err(Problem::new("partitioned", crossing.span.clone(), title, "its foreign key is checked at once")
        .help("declare the key DEFERRABLE INITIALLY DEFERRED, or add it in the migration after this one"))
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
            .help(
                "in a migration before, `ALTER SEQUENCE … OWNED BY NONE` (`-- migrate: phase expand`), so that the sequence outlives its \
                 table; then give the new column a DEFAULT that takes numbers from it",
            ));
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
