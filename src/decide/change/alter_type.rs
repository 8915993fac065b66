//! Shape: ALTER COLUMN … TYPE … [USING …].
//! Phases: what the server does without rewriting, expand, directly. Anything else: expand adds a hidden column and the
//! trigger that converts, backfill converts, contract builds what hangs on the column again and swaps the two. Columns
//! whose foreign keys point at it change with it.
//! Locks: ACCESS EXCLUSIVE, catalog-only.
//! Undo: while sealed, the swap backwards; a direct change stays.
//! Limits: the new type is seen from the swap on, so old and new code must both accept both; a USING that changes what the
//! value means needs another name. Views, policies, generated columns and triggers over the column are refused.

use std::collections::BTreeSet;
use std::ops::Range;

use crate::decide::change::add_column::refuse_checked_domain;
use crate::decide::change::fill_column::{resolve, session_dependent};
use crate::decide::change::{partitioned, supported_table};
use crate::decide::draft::{Draft, Phase, Retyped, Touch};
use crate::model::catalog::{Catalog, Constraint, Conversion, Index, Table};
use crate::model::directive::Directive;
use crate::model::problem::Problem;
use crate::model::sql::{Action, Expression, ObjectKind, Statement, StatementKind};
use crate::words::ident::{Ident, QualifiedName};

/// The changes that a statement asks for, and those that follow from it, as the server must be asked about them: table,
/// column, and what stands behind TYPE.
pub(crate) fn asked(
    statement: &Statement,
    catalog: &Catalog,
    search_path: &[Ident],
) -> Vec<(QualifiedName, Ident, String)> {
    let StatementKind::AlterTable { table: name, actions, .. } = &statement.kind else { return Vec::new() };
    let Some(table) = catalog.resolve(name, search_path) else { return Vec::new() };
    let mut all = Vec::new();
    for (_, action) in actions {
        let Action::AlterType { column, type_sql, collation, using } = action else { continue };
        if catalog.table(&table).is_none_or(|known| known.column(column).is_none()) {
            continue;
        }
        all.push((table.clone(), column.clone(), what(type_sql, collation, using.as_ref())));
        let followers = followers(catalog, &table, column);
        all.extend(
            followers.into_iter().map(|(table, column)| (table, column, what(type_sql, collation, None))),
        );
    }
    all
}

/// Whether a change of a type further down may name what the statement makes.
pub(crate) fn may_need(statement: &Statement) -> bool {
    let kinds = [ObjectKind::Schema, ObjectKind::Type, ObjectKind::Domain, ObjectKind::Function];
    matches!(&statement.kind, StatementKind::CreateObject(object) if kinds.contains(&object.kind))
}

fn what(type_sql: &str, collation: &str, using: Option<&Expression>) -> String {
    let using = using.map(|using| format!(" USING {}", using.text())).unwrap_or_default();
    format!("{type_sql}{collation}{using}")
}

/// Columns of the same type that point at this one by foreign keys, directly or through each other.
fn followers(catalog: &Catalog, table: &QualifiedName, column: &Ident) -> Vec<(QualifiedName, Ident)> {
    let type_of = |table: &QualifiedName, column: &Ident| {
        catalog.table(table).and_then(|known| known.column(column)).map(|known| known.type_sql.clone())
    };
    let wanted = type_of(table, column);
    let mut found = vec![(table.clone(), column.clone())];
    let mut at = 0;
    while let Some((parent, key)) = found.get(at).cloned() {
        at += 1;
        for child in &catalog.tables {
            for constraint in child.constraints.iter().filter(|k| k.parent.as_ref() == Some(&parent)) {
                let pairs = constraint.columns.iter().zip(&constraint.parent_columns);
                for (own, _) in pairs.filter(|(_, theirs)| **theirs == key) {
                    let next = (child.name.clone(), own.clone());
                    if type_of(&next.0, &next.1) == wanted && !found.contains(&next) {
                        found.push(next);
                    }
                }
            }
        }
    }
    found.split_off(1)
}

/// Whether the statement at hand or one below changes the type of the column.
pub(crate) fn is_retyped(draft: &Draft<'_>, table: &QualifiedName, column: &Ident) -> bool {
    draft.at_hand().iter().any(|statement| {
        let StatementKind::AlterTable { table: name, actions, .. } = &statement.kind else { return false };
        draft.existing(name).is_ok_and(|named| &named == table)
            && actions
                .iter()
                .any(|(_, action)| matches!(action, Action::AlterType { column: c, .. } if c == column))
    })
}

/// The complaint about a USING that gives the value another meaning.
pub(crate) fn meaning(using: &Expression) -> Option<Problem> {
    (!using.converts_only()).then(|| {
        Problem::new(
            "meaning",
            using.span.clone(),
            "this USING may change what the value means",
            "old and new code write one column until the swap",
        )
        .help(
            "give the new meaning a new name (ADD COLUMN, UPDATE, DROP COLUMN), or, if both codes read both alike, say so above \
             the statement: `-- migrate: allow meaning because <reason>`",
        )
    })
}

pub(crate) fn plan(
    draft: &mut Draft<'_>,
    statement: &Statement,
    span: &Range<usize>,
    table: &QualifiedName,
    action: &Action,
) -> Result<(), Problem> {
    let Action::AlterType { column, type_sql, collation, using } = action else { return Ok(()) };
    if draft.added(table, column).is_some() {
        let title = format!("`{}` is added by this file", column.as_str());
        return Err(Problem::new("retype-new", span.clone(), title, "changed here")
            .help("add it with its final type"));
    }
    let asked = what(type_sql, collation, using.as_ref());
    let (known, mut conversion) = tried(draft, span, table, column, &asked)?;
    let Some(old) = known.column(column).cloned() else { return Ok(()) };
    if conversion.without_default && old.default.is_some() {
        let title = format!("the default of `{}` does not convert by itself", column.as_str());
        return Err(Problem::new("refused", span.clone(), title, "changed here").help(format!(
            "write `ALTER COLUMN {column} DROP DEFAULT` before it and `ALTER COLUMN {column} SET DEFAULT …` behind it"
        )));
    }
    if old.default.is_none() {
        conversion.default = None;
    }
    let title = format!("ALTER COLUMN {}.{} TYPE {}", table.plain(), column.as_str(), conversion.type_sql);
    if !conversion.rewrites && conversion.type_sql == old.type_sql && using.is_none() {
        draft.claim(Phase::Expand, Touch::Change, span, table, column)?;
        draft.note(span, title, "nothing: it has that type");
        return Ok(());
    }
    refuse_dependants(draft, span, &known, column)?;
    refuse_checked_domain(draft, span, &conversion.type_sql)?;
    // Another type may compare in another way, though the server keeps the bytes.
    let direct = !conversion.rewrites && same_family(&old.type_sql, &conversion.type_sql);
    let checked = known.constraints.iter().any(|k| k.kind == "c" && k.columns.contains(column));
    let dropped =
        draft.tables.iter().any(|work| &work.name == table && work.default_dropped.contains(column));
    if direct && !checked && dropped {
        let title =
            format!("`{}` changes its type in expand and loses its default in contract", column.as_str());
        return Err(Problem::new("order", span.clone(), title, "changed here").help("split the file"));
    }
    if direct && !checked {
        draft.claim(Phase::Expand, Touch::Change, span, table, column)?;
        draft.note(span, title.clone(), "expand: directly, the server rewrites nothing");
        draft.warnings.push(format!("abort leaves this in place: {title}"));
        draft.retyped_columns.push((format!("{}.{}", table.plain(), column.as_str()), false));
        let sql = format!("ALTER TABLE {table} ALTER COLUMN {column} TYPE {asked}");
        draft.table(table).expand.push((sql, String::new()));
        if let Some(known) = draft.catalog.table_mut(table).and_then(|known| known.column_mut(column)) {
            known.type_sql = conversion.type_sql;
        }
        return Ok(());
    }
    let allowed = statement
        .directives
        .iter()
        .any(|placed| matches!(&placed.directive, Directive::Allow { rule, .. } if rule == "meaning"));
    if let Some(problem) = using.as_ref().and_then(meaning).filter(|_| !allowed) {
        return Err(problem);
    }
    let up = match using {
        Some(using) => {
            session_dependent(draft, table, using, Some(&conversion.type_sql))?;
            let resolved = resolve(draft, table, &table.name, using)?;
            (resolved.text, resolved.reads)
        }
        None => {
            let itself = Expression::parse(&column.to_string(), span.start)
                .map_err(|error| Problem::new("syntax", span.clone(), "this column cannot be read", error))?;
            session_dependent(draft, table, &itself, Some(&conversion.type_sql)).map_err(|problem| {
                problem.help(format!("say it without the session: `USING {column} AT TIME ZONE 'UTC'`"))
            })?;
            (known.collated(column), BTreeSet::from([column.clone()]))
        }
    };
    let down = down(draft, statement, column)?;
    draft.note(
        span,
        title,
        "expand: a hidden column of the new type, kept in step; backfill: convert; contract: swap",
    );
    retype(
        draft,
        span,
        table,
        column,
        Retyped {
            column: column.clone(),
            collation: collation.clone(),
            up: up.0,
            reads: up.1,
            down,
            is_safe: conversion.is_safe && using.is_none(),
            conversion,
        },
    )?;
    for (child, follower) in followers(&draft.catalog.clone(), table, column) {
        // The file says itself what becomes of it.
        let said = draft
            .tables
            .iter()
            .any(|work| work.name == child && work.retyped.iter().any(|r| r.column == follower));
        if said || is_retyped(draft, &child, &follower) {
            continue;
        }
        let asked = what(type_sql, collation, None);
        let (known, conversion) = tried(draft, span, &child, &follower, &asked)?;
        supported_table(draft, span, &child)?;
        refuse_dependants(draft, span, &known, &follower)?;
        draft.note(
            span,
            format!("{}.{} TYPE {}", child.plain(), follower.as_str(), conversion.type_sql),
            "the same, because its foreign key points there",
        );
        retype(
            draft,
            span,
            &child,
            &follower,
            Retyped {
                column: follower.clone(),
                collation: collation.clone(),
                up: known.collated(&follower),
                reads: BTreeSet::from([follower.clone()]),
                down: None,
                is_safe: conversion.is_safe,
                conversion,
            },
        )?;
    }
    Ok(())
}

fn retype(
    draft: &mut Draft<'_>,
    span: &Range<usize>,
    table: &QualifiedName,
    column: &Ident,
    retyped: Retyped,
) -> Result<(), Problem> {
    if draft.tables.iter().any(|work| &work.name == table && work.retyped.iter().any(|r| &r.column == column))
    {
        return Ok(());
    }
    draft.claim(Phase::Contract, Touch::Change, span, table, column)?;
    draft.retyped_columns.push((format!("{}.{}", table.plain(), column.as_str()), true));
    refuse_what_cannot_be_swapped(draft, span, table, column)?;
    partitioned::check_swap(draft, span, table, column)?;
    draft.table(table).retyped.push(retyped);
    // Tables whose foreign keys are made anew take part, though nothing of them changes.
    let points_here =
        |key: &Constraint| key.parent.as_ref() == Some(table) && key.parent_columns.contains(column);
    let mut others: Vec<QualifiedName> = draft
        .catalog
        .tables
        .iter()
        .filter(|child| child.constraints.iter().any(points_here))
        .map(|child| child.name.clone())
        .collect();
    let own = draft.catalog.table(table).map(|known| known.constraints.clone()).unwrap_or_default();
    others.extend(own.into_iter().filter(|key| key.columns.contains(column)).filter_map(|key| key.parent));
    for other in others {
        draft.table(&other);
    }
    Ok(())
}

/// What would refuse new code's rows while the old column is hidden, and what cannot be said of another column.
fn refuse_what_cannot_be_swapped(
    draft: &Draft<'_>,
    span: &Range<usize>,
    table: &QualifiedName,
    column: &Ident,
) -> Result<(), Problem> {
    let Some(known) = draft.catalog.table(table) else { return Ok(()) };
    let special = |index: &&Index| {
        index.unique
            && index.columns.contains(column)
            && ["NULLS NOT DISTINCT", " WHERE "].iter().any(|words| index.definition.contains(words))
    };
    let indexes =
        known.indexes.iter().filter(special).map(|index| format!("the unique index {}", index.name.as_str()));
    let keys = known.constraints.iter().filter(|key| {
        let late = key.kind == "p" && key.definition.contains(" DEFERRABLE");
        let listed = key.kind == "f"
            && ["SET NULL (", "SET DEFAULT ("].iter().any(|words| key.definition.contains(words));
        (late || listed) && key.columns.contains(column)
    });
    let found: Vec<String> = indexes
        .chain(keys.map(|key| format!("the constraint {}: {}", key.name.as_str(), key.definition)))
        .collect();
    if found.is_empty() {
        return Ok(());
    }
    let title = format!("`{}` cannot change its type by a swap under {}", column.as_str(), found.join(", "));
    Err(Problem::new("dependants", span.clone(), title, "changed here")
        .help("drop it, and make it again afterwards"))
}

/// What clients have to know of columns whose types change.
pub(crate) fn warnings(columns: &[(String, bool)]) -> Vec<String> {
    let list = |all: &[&str]| all.join(", ");
    let every: Vec<&str> = columns.iter().map(|(column, _)| column.as_str()).collect();
    let swapped: Vec<&str> =
        columns.iter().filter(|(_, swapped)| *swapped).map(|(column, _)| column.as_str()).collect();
    let mut warnings = Vec::new();
    if !every.is_empty() {
        warnings.push(format!(
            "statements that were prepared before the type changed and return it fail until they are prepared again ({}): \
             restart connection pools then",
            list(&every)
        ));
    }
    if !swapped.is_empty() {
        warnings.push(format!(
            "INSERT and COPY without a column list fail while both columns are there, and then fill other columns than before: a \
             column of a new type stands at the end of its table ({})",
            list(&swapped)
        ));
    }
    warnings
}

/// What the server said of the change.
fn tried(
    draft: &Draft<'_>,
    span: &Range<usize>,
    table: &QualifiedName,
    column: &Ident,
    asked: &str,
) -> Result<(Table, Conversion), Problem> {
    let known = draft.catalog.table(table).filter(|known| known.column(column).is_some());
    let Some(known) = known else {
        return Err(Problem::no_column(span.clone(), table, column, "changed here"));
    };
    let Some(conversion) = draft.catalog.conversions.get(&Conversion::key(table, column, asked)) else {
        return Err(Problem::new(
            "retype-new",
            span.clone(),
            format!(
                "`{}` gets its name or its place from a migration that is not expanded yet",
                column.as_str()
            ),
            "changed here",
        )
        .help("expand what comes before it first: `migrate expand --to VERSION`"));
    };
    match &conversion.refused {
        Some(refused) => {
            let new_type = draft.made.iter().any(|made| ["type", "domain"].contains(&made.kind.as_str()));
            let help = match new_type {
                true => "a type that the file makes is not there yet: make it in a migration before",
                false => {
                    "psql would say the same; if the file drops a constraint or an index that stands in the way, drop it in a migration \
                     before"
                }
            };
            Err(Problem::new("refused", span.clone(), refused.clone(), "the server says so of this")
                .help(help))
        }
        None => Ok((known.clone(), conversion.clone())),
    }
}

/// What the server itself refuses, and what would follow the old column instead of the new one.
fn refuse_dependants(
    draft: &Draft<'_>,
    span: &Range<usize>,
    known: &Table,
    column: &Ident,
) -> Result<(), Problem> {
    let mut found: Vec<String> = known
        .dependants
        .iter()
        .filter(|d| &d.column == column && !["pg_constraint", "pg_class"].contains(&d.kind.as_str()))
        .filter(|d| !draft.takes_away(&d.what))
        .map(|d| d.what.clone())
        .collect();
    found.extend(
        known
            .indexes
            .iter()
            .filter(|index| index.replica_identity && index.columns.contains(column))
            .map(|index| format!("the replica identity {}", index.name.as_str())),
    );
    found.extend(
        known
            .constraints
            .iter()
            .filter(|constraint| constraint.kind == "x" && constraint.columns.contains(column))
            .map(|constraint| format!("the exclusion constraint {}", constraint.name.as_str())),
    );
    if known.column(column).is_some_and(|column| column.generated) {
        found.push("its own expression: it is generated".to_owned());
    }
    if found.is_empty() {
        return Ok(());
    }
    let title = format!(
        "`{}` cannot change its type while other objects use it: {}",
        column.as_str(),
        found.join(", ")
    );
    Err(Problem::new("dependants", span.clone(), title, "changed here")
        .help("drop or change those above in the same file, or in a migration before"))
}

/// How the old type follows from the new one, where the author says so.
fn down(draft: &Draft<'_>, statement: &Statement, column: &Ident) -> Result<Option<Expression>, Problem> {
    let down = super::drop_column::down_directive(draft, statement, column)?;
    if let Some(down) = &down
        && down.columns() != BTreeSet::from([column.clone()])
    {
        return Err(Problem::new(
            "down-source",
            down.span.clone(),
            "`down` of a type change reads other columns",
            "here",
        )
        .help(format!("it may read `{column}` only, which means the value of the new type")));
    }
    Ok(down)
}

/// Whether two types are one but for its length, or both plain text.
fn same_family(one: &str, other: &str) -> bool {
    let bare = |type_sql: &str| {
        let name = type_sql.split('(').next().unwrap_or_default().trim().to_owned();
        let rest = type_sql.split(')').nth(1).unwrap_or_default().to_owned();
        let text = ["text", "character varying"].contains(&name.as_str());
        (if text { "text".to_owned() } else { name }, rest)
    };
    bare(one) == bare(other)
}
