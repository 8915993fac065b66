//! Shape: ALTER TABLE … DROP COLUMN, with or without `-- migrate: down`.
//! Phases: expand installs the trigger that computes it by `down`; contract seals it, lets it soak, drops it.
//! Locks: ACCESS EXCLUSIVE, catalog-only.
//! Undo: while sealed, the rename backwards; nothing after the drop.
//! Limits: never CASCADE: what depends on the column is listed and must go first, in the same file or before.

use std::ops::Range;

use crate::decide::change::let_go;
use crate::decide::draft::{Draft, Dropped, Phase, Touch};
use crate::model::directive::Directive;
use crate::model::problem::Problem;
use crate::model::sql::{Action, Expression, Statement};
use crate::words::ident::{Ident, QualifiedName};

pub(crate) fn plan(
    draft: &mut Draft<'_>,
    statement: &Statement,
    span: &Range<usize>,
    table: &QualifiedName,
    action: &Action,
) -> Result<(), Problem> {
    let Action::DropColumn { column, if_exists, cascade } = action else { return Ok(()) };
    let what = format!("DROP COLUMN {}.{}", table.plain(), column.as_str());
    if draft.added(table, column).is_some() {
        return Err(Problem::new(
            "drop-new",
            span.clone(),
            format!("`{}` is added by this file", column.as_str()),
            "dropped here",
        )
        .help("take both statements out"));
    }
    let Some(known) = draft.catalog.table(table) else { return Ok(()) };
    let Some(old) = known.column(column) else {
        if *if_exists {
            draft.note(span, what, "nothing: there is no such column");
            return Ok(());
        }
        return Err(Problem::no_column(span.clone(), table, column, "dropped here"));
    };
    if *cascade {
        return Err(Problem::cascade(span.clone()));
    }
    let blocking: Vec<&str> = known
        .dependants
        .iter()
        .filter(|d| &d.column == column && !d.goes_silently && !draft.is_out_of_the_way(d))
        .map(|d| d.what.as_str())
        .collect();
    if !blocking.is_empty() {
        let title = format!(
            "`{}` cannot be dropped while other objects use it: {}",
            column.as_str(),
            blocking.join(", ")
        );
        return Err(Problem::new("dependants", span.clone(), title, "dropped here")
            .help("drop or replace those above in the same file, or in a migration before"));
    }
    let down = down_directive(draft, statement, column)?;
    if old.generated && down.is_some() {
        let title = format!("`{}` is generated: the server computes it", column.as_str());
        return Err(Problem::new("directive", span.clone(), title, "dropped here").help("take `down` out"));
    }
    let (generated, old) = (old.generated, old.clone());
    if down.is_none() && old.not_null && !generated && old.default.is_none() && !old.identity {
        return Err(Problem::new(
            "down-needed",
            span.clone(),
            format!("`{}` is NOT NULL and has no default, so new code cannot insert rows while it is there", column.as_str()),
            "dropped here",
        )
        .help(format!(
            "say how old code's column follows from the new ones, on the line above the statement: `-- migrate: down {column} = <expression>`"
        )));
    }
    let silent: Vec<String> = known
        .dependants
        .iter()
        .filter(|d| &d.column == column && d.goes_silently && d.names_others)
        .map(|d| format!("dropping {}.{} also drops {}", table.plain(), column.as_str(), d.what))
        .collect();
    draft.warnings.extend(silent);
    let with_it = known.constraints.iter().filter(|constraint| constraint.columns.contains(column));
    let gone: Vec<String> = with_it
        .map(|constraint| format!("constraint {} on table {table}", constraint.name.as_str()))
        .collect();
    draft.gone_constraints.extend(gone);
    draft.claim(Phase::Contract, Touch::Change, span, table, column)?;
    let_go::plan(draft, table, Some(column));
    let becomes = match &down {
        Some(_) => "expand: kept in step by `down`; contract: seal, soak, drop",
        None => "contract: seal, soak, drop",
    };
    if down.is_none() && !generated {
        draft.warnings.push(format!(
            "rows that new code writes have no {}.{}: old code reads {} there until the drop",
            table.plain(),
            column.as_str(),
            old.default.as_deref().unwrap_or("null")
        ));
    }
    draft.note(span, what, becomes);
    draft.table(table).dropped.push(Dropped {
        column: column.clone(),
        down,
        known: old,
        kept_from_elsewhere: false,
        generated,
        span: span.clone(),
    });
    if let Some(known) = draft.catalog.table_mut(table) {
        known.columns.retain(|known| &known.name != column);
    }
    Ok(())
}

pub(super) fn down_directive(
    draft: &Draft<'_>,
    statement: &Statement,
    wanted: &Ident,
) -> Result<Option<Expression>, Problem> {
    for placed in &statement.directives {
        let Directive::Down { column, expression } = &placed.directive else { continue };
        if column != wanted {
            continue;
        }
        let text = &draft.file.source.text[expression.clone()];
        let parsed = Expression::parse(text, expression.start).map_err(|error| {
            Problem::new("directive", expression.clone(), "this is not an expression", error)
                .help("write it as on the right-hand side of an UPDATE's SET")
        })?;
        if parsed.has_query() || parsed.has_parameter_or_star() {
            return Err(Problem::new(
                "directive",
                expression.clone(),
                "`down` holds a query or a `*`",
                "here",
            )
            .help("it may read other columns of the same row only"));
        }
        return Ok(Some(parsed));
    }
    Ok(None)
}
