//! Shape: UPDATE that sets only columns which the same file adds.
//! Phases: expand installs the sync triggers; backfill runs the UPDATE in batches.
//! Locks: ROW EXCLUSIVE, one short transaction per batch.
//! Undo: goes with the column.
//! Limits: an UPDATE of columns that the file constrains is a repair, of others a data job; values of another table are moved
//! from there.

use std::collections::BTreeSet;

use crate::decide::change::repair::is_constrained_below;
use crate::decide::change::{data_job, leaving, move_columns, repair, supported};
use crate::decide::draft::{Draft, Filled, Phase, Touch};
use crate::model::problem::Problem;
use crate::model::sql::{Expression, SetColumn, SetValue, Statement, StatementKind};
use crate::words::ident::{Ident, QualifiedName};

pub(crate) fn plan(draft: &mut Draft<'_>, statement: &Statement) -> Result<(), Problem> {
    let StatementKind::Update { sets, change } = &statement.kind else { return Ok(()) };
    let name = &change.table;
    let table = draft.existing(name)?;
    if draft.created.contains(&table) {
        return super::create_table::plan_later(draft, statement, &table, "UPDATE");
    }
    supported(draft, name, &table)?;
    let kind = classify(draft, &table, sets)?;
    // Old writers cannot be brought within a rule by what other rows say: contract lists what they did meanwhile.
    let asks = |set: &SetColumn| matches!(&set.value, SetValue::Expression(value) if value.has_query());
    let queries = change.condition.as_ref().is_some_and(Expression::has_query)
        || sets.iter().any(asks)
        || !change.sources.is_empty();
    // Nor can what goes be read once it is sealed.
    if kind == Kind::DataJob
        || kind == Kind::Repair
            && (queries
                || leaving::goes_below(
                    draft,
                    statement,
                    &table,
                    change.alias.as_ref().unwrap_or(&table.name),
                ))
    {
        return data_job::plan(draft, statement, change);
    }
    if let Some(unusual) = change.unusual {
        return Err(Problem::unsupported(statement.span.clone(), unusual));
    }
    if !change.sources.is_empty() {
        return move_columns::plan(draft, statement, sets, change);
    }
    let alias = change.alias.as_ref().unwrap_or(&table.name);
    let condition = match &change.condition {
        Some(condition) => Some(resolve(draft, &table, alias, condition)?),
        None => None,
    };
    if kind == Kind::Repair {
        return repair::plan(draft, statement, &table, alias, sets, condition.as_ref());
    }
    let mut filled = Vec::new();
    for set in sets {
        filled.push((set.column.clone(), value(draft, &table, alias, set, condition.as_ref())?));
    }
    // Every expression of one UPDATE sees the row as it was before it.
    for (column, value) in filled {
        let span = statement.span.clone();
        let what = format!("UPDATE {} SET {}", table.plain(), column.as_str());
        let becomes = match value.fill {
            Some(_) => "expand: filled where null by trigger; backfill: fill",
            None => "expand: kept in step by trigger; backfill: convert",
        };
        draft.claim(Phase::Backfill, Touch::Change, &span, &table, &column)?;
        draft.note(&span, what, becomes);
        draft.table(&table);
        if let Some(added) = draft.added(&table, &column) {
            added.filled = Some(value);
        }
    }
    Ok(())
}

/// What an UPDATE is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Mapping,
    /// It brings existing columns within a rule of the same file.
    Repair,
    DataJob,
}

/// Tells them apart; a statement that is more than one of them is refused.
fn classify(draft: &mut Draft<'_>, table: &QualifiedName, sets: &[SetColumn]) -> Result<Kind, Problem> {
    let (mut ours, mut others) = (Vec::new(), Vec::new());
    for set in sets {
        if draft.catalog.table(table).is_some_and(|known| known.column(&set.column).is_none()) {
            return Err(Problem::no_column(set.span.clone(), table, &set.column, "set here"));
        }
        if draft.added(table, &set.column).is_some() { ours.push(set) } else { others.push(set) }
    }
    match (ours.first(), others.first()) {
        (Some(new), Some(other)) => Err(Problem::new(
            "mixed-update",
            other.span.clone(),
            "one UPDATE fills a new column and changes an existing one",
            "this column exists already",
        )
        .and(new.span.clone(), "this one is added by the file")
        .help("split it into two statements: the first is a mapping, the second a data job")),
        (None, Some(_)) if others.iter().all(|set| is_constrained_below(draft, table, &set.column)) => {
            Ok(Kind::Repair)
        }
        (None, Some(_)) => Ok(Kind::DataJob),
        _ => Ok(Kind::Mapping),
    }
}

/// An expression in terms of columns that exist before the file.
pub(crate) struct Resolved {
    pub(crate) text: String,
    pub(crate) reads: BTreeSet<Ident>,
    may_raise: bool,
}

pub(crate) fn resolve(
    draft: &mut Draft<'_>,
    table: &QualifiedName,
    alias: &Ident,
    expression: &Expression,
) -> Result<Resolved, Problem> {
    let span = expression.span.clone();
    if expression.has_query() {
        return Err(Problem::unsupported(span, "a query inside a mapping")
            .help("a mapping may read other columns of the same row only"));
    }
    if expression.has_parameter_or_star() {
        return Err(Problem::unsupported(span, "a parameter or `*` in a mapping"));
    }
    if let Some(unknown) = expression.qualifiers().iter().find(|qualifier| *qualifier != alias) {
        return Err(Problem::new(
            "unknown-name",
            span,
            format!("`{}` is not the table that is updated", unknown.as_str()),
            "used here",
        ));
    }
    if let Some(aggregate) =
        expression.functions().iter().find(|name| draft.catalog.aggregates.contains(*name))
    {
        return Err(Problem::unsupported(span, &format!("the aggregate `{aggregate}` in a mapping")));
    }
    let mut resolved =
        Resolved { text: String::new(), reads: BTreeSet::new(), may_raise: expression.may_raise() };
    for column in expression.columns() {
        let Some(known) = draft.catalog.table(table).and_then(|known| known.column(&column)) else {
            return Err(Problem::no_column(span, table, &column, "named here"));
        };
        if known.generated {
            let title = format!("`{}` is generated, and triggers run before it is computed", column.as_str());
            return Err(Problem::new("generated-source", span, title, "read here")
                .help("write out its expression instead"));
        }
        if draft.added(table, &column).is_some_and(|added| added.from_elsewhere) {
            let title = format!("`{}` is filled from another table", column.as_str());
            return Err(Problem::new("fill-source", span, title, "read here").help("split the file"));
        }
        match draft.added(table, &column).map(|added| added.filled.clone()) {
            None => {
                draft.claim(Phase::Backfill, Touch::Read, &expression.span, table, &column)?;
                resolved.reads.insert(column);
            }
            Some(Some(earlier)) if earlier.fill.is_some() => {
                let title = format!(
                    "`{}` is given its value once, so nothing can be computed from it here",
                    column.as_str()
                );
                return Err(Problem::new("fill-source", span, title, "read here").help("split the file"));
            }
            Some(Some(earlier)) => {
                resolved.reads.extend(earlier.reads);
                resolved.may_raise |= earlier.may_raise;
            }
            Some(None) => {}
        }
    }
    session_dependent(draft, table, expression, None)?;
    resolved.text = expression.replaced(|column| prior(draft, table, column));
    Ok(resolved)
}

/// What a column holds before this statement, as SQL.
fn prior(draft: &Draft<'_>, table: &QualifiedName, column: &Ident) -> String {
    let added = draft
        .tables
        .iter()
        .find(|draft| &draft.name == table)
        .and_then(|draft| draft.added.iter().find(|added| &added.column.name == column));
    match added {
        None => draft.catalog.table(table).map_or_else(|| column.to_string(), |known| known.collated(column)),
        Some(added) => match (&added.filled, &added.column.default) {
            (Some(filled), _) => format!("(({})::{})", filled.expression, added.column.type_sql),
            (None, Some(default)) if !added.default_later => {
                format!("(({})::{})", default.expression.text(), added.column.type_sql)
            }
            (None, _) => format!("NULL::{}", added.column.type_sql),
        },
    }
}

fn value(
    draft: &mut Draft<'_>,
    table: &QualifiedName,
    alias: &Ident,
    set: &SetColumn,
    condition: Option<&Resolved>,
) -> Result<Filled, Problem> {
    let expression = match &set.value {
        SetValue::Expression(expression) => expression,
        SetValue::Default => {
            return Err(Problem::unsupported(set.span.clone(), "SET … = DEFAULT").help("write the value"));
        }
        SetValue::Unusual => {
            return Err(Problem::unsupported(set.span.clone(), "this form of assignment")
                .help("write `column = expression`"));
        }
    };
    let resolved = resolve(draft, table, alias, expression)?;
    let Some(added) = draft.added(table, &set.column) else {
        return Ok(Filled { expression: resolved.text, reads: resolved.reads, may_raise: true, fill: None });
    };
    let (earlier, type_sql) = (added.filled.clone(), added.column.type_sql.clone());
    let volatile = expression.functions().iter().any(|name| draft.catalog.volatile_functions.contains(name));
    // A constant that a WHERE limits follows the columns which that reads.
    let limited = condition.is_some_and(|condition| !condition.reads.is_empty());
    let fill = volatile || (resolved.reads.is_empty() && !limited);
    let may_raise =
        resolved.may_raise || type_sql != "text" || condition.is_some_and(|condition| condition.may_raise);
    if fill {
        if earlier.is_some() {
            return Err(filled_twice(set));
        }
        let mut reads = resolved.reads;
        let Some(condition) = condition else {
            return Ok(Filled { expression: resolved.text, reads, may_raise, fill: Some(None) });
        };
        reads.extend(condition.reads.clone());
        let has_default = draft
            .added(table, &set.column)
            .is_some_and(|added| added.column.default.is_some() && !added.default_later);
        if has_default {
            // Rows that the WHERE leaves out have the default.
            let otherwise = prior(draft, table, &set.column);
            let expression =
                format!("CASE WHEN {} THEN {} ELSE {otherwise} END", condition.text, resolved.text);
            return Ok(Filled { expression, reads, may_raise, fill: Some(None) });
        }
        return Ok(Filled {
            expression: resolved.text,
            reads,
            may_raise,
            fill: Some(Some(condition.text.clone())),
        });
    }
    if earlier.as_ref().is_some_and(|earlier| earlier.fill.is_some()) {
        return Err(filled_twice(set));
    }
    session_dependent(draft, table, expression, Some(&type_sql))?;
    let Some(condition) = condition else {
        return Ok(Filled { expression: resolved.text, reads: resolved.reads, may_raise, fill: None });
    };
    let mut reads = resolved.reads;
    reads.extend(condition.reads.clone());
    reads.extend(earlier.iter().flat_map(|earlier| earlier.reads.clone()));
    let otherwise = prior(draft, table, &set.column);
    Ok(Filled {
        expression: format!("CASE WHEN {} THEN {} ELSE {otherwise} END", condition.text, resolved.text),
        reads,
        may_raise: may_raise || earlier.is_some_and(|earlier| earlier.may_raise),
        fill: None,
    })
}

fn filled_twice(set: &SetColumn) -> Problem {
    let title = format!("`{}` is filled twice, and one of the values is given once", set.column.as_str());
    Problem::new("fill-twice", set.span.clone(), title, "the second time").help("write one UPDATE")
}

/// Stable functions whose result does not depend on the session for the types that mappings use.
const NOT_REALLY_STABLE: &[&str] = &[
    "array_to_string",
    "concat",
    "concat_ws",
    "format",
    "json_build_array",
    "json_build_object",
    "jsonb_build_array",
    "jsonb_build_object",
    "quote_literal",
    "quote_nullable",
    "to_json",
    "to_jsonb",
];

/// Refuses what gives another result in another session: the trigger runs in the application's, the backfill in ours.
pub(crate) fn session_dependent(
    draft: &Draft<'_>,
    table: &QualifiedName,
    expression: &Expression,
    target: Option<&str>,
) -> Result<(), Problem> {
    if expression.columns().is_empty() {
        return Ok(());
    }
    let refuse = |why: String| {
        Err(Problem::new(
            "session-dependent",
            expression.span.clone(),
            why,
            "another session may compute another value",
        )
        .help("say it without the session: for instance `created_at AT TIME ZONE 'UTC'`"))
    };
    let stable = expression.functions().iter().find(|name| {
        let keyword = [
            "current_date",
            "current_time",
            "current_timestamp",
            "localtime",
            "localtimestamp",
            "current_user",
            "session_user",
            "user",
            "current_schema",
            "current_role",
        ];
        keyword.contains(&name.as_str())
            || (draft.catalog.stable_functions.contains(*name) && !NOT_REALLY_STABLE.contains(&name.as_str()))
    });
    if let Some(name) = stable {
        return refuse(format!("`{name}` depends on the session"));
    }
    let temporal = |type_sql: &str| {
        let type_sql = type_sql.to_ascii_lowercase();
        ["date", "time", "interval"].iter().any(|word| type_sql.starts_with(word))
    };
    let types: Vec<String> = expression
        .columns()
        .iter()
        .filter_map(|column| draft.catalog.table(table).and_then(|known| known.column(column)))
        .map(|known| known.type_sql.to_ascii_lowercase())
        .collect();
    let text = expression.text().to_ascii_lowercase().split_whitespace().collect::<Vec<_>>().join(" ");
    let casts = text.contains("::") || text.contains("cast(");
    let mentions = types.iter().any(|type_sql| temporal(type_sql))
        || (casts && ["date", "time", "interval"].iter().any(|word| text.contains(word)));
    let target_differs = target.is_some_and(|target| {
        let target = target.to_ascii_lowercase();
        (temporal(&target) || types.iter().any(|type_sql| temporal(type_sql)))
            && types.iter().any(|type_sql| *type_sql != target && !same_temporal(type_sql, &target))
    });
    let converts =
        casts || expression.functions().iter().any(|name| NOT_REALLY_STABLE.contains(&name.as_str()));
    if ((mentions && converts) || target_differs) && !text.contains("at time zone") {
        return refuse(
            "a conversion between times, dates and texts depends on the session's TimeZone and DateStyle"
                .to_owned(),
        );
    }
    Ok(())
}

/// Two spellings of one type.
fn same_temporal(one: &str, other: &str) -> bool {
    let long = |type_sql: &str| match type_sql {
        "timestamptz" => "timestamp with time zone".to_owned(),
        "timestamp" => "timestamp without time zone".to_owned(),
        "timetz" => "time with time zone".to_owned(),
        "time" => "time without time zone".to_owned(),
        other => other.to_owned(),
    };
    long(one) == long(other)
}
