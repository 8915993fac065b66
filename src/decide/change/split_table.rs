//! Shape: INSERT INTO a table that the file creates, SELECT FROM one that exists.
//! Phases: expand installs sync triggers on both tables; backfill copies each row that is there once, in batches, the source
//! rows locked first; contract goes with DROP COLUMN or DROP TABLE of the source.
//! Locks: SHARE ROW EXCLUSIVE on both tables for a moment; ROW EXCLUSIVE, one short transaction per batch.
//! Undo: the triggers and the table go; values that only the new table holds are counted first.
//! Limits: the columns are named, and among them is a key of the new table that takes over a key of the other as it is. A row
//! to which nothing was given that moves makes no row while both sides live; a row that goes takes the other's along, or
//! empties it. Code that writes both tables must upsert. TRUNCATE fires no trigger.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use crate::decide::change::data_job::Rows;
use crate::decide::change::move_columns::condition;
use crate::decide::change::move_source::{
    check_key_pair, from_source, is_unique, keys_of_created, no_key, points_at,
};
use crate::decide::change::{data_job, supported};
use crate::decide::draft::{Crossing, Draft, Phase, Touch};
use crate::decide::plan::Once;
use crate::decide::sync::{Moved, Typed};
use crate::model::catalog::Table;
use crate::model::problem::Problem;
use crate::model::sql::{DataChange, Expression, Statement};
use crate::words::ident::{Ident, QualifiedName};

pub(crate) fn plan(draft: &mut Draft<'_>, statement: &Statement, change: &DataChange) -> Result<(), Problem> {
    let span = &statement.span;
    if let Some(unusual) = change.unusual {
        return Err(Problem::unsupported(span.clone(), unusual));
    }
    let Some(apart) = &change.apart else {
        return Err(Problem::unsupported(span.clone(), "a move between tables in this form").help(
            "INSERT INTO new (columns) SELECT values FROM one_table WHERE …, every column with its name",
        ));
    };
    if !change.tail.is_empty() {
        return Err(Problem::unsupported(span.clone(), "ON CONFLICT in a move between tables")
            .help("take it out: a key tells the rows apart, and each is copied once"));
    }
    let (target, source) = (draft.existing(&change.table)?, draft.existing(&change.driving)?);
    supported(draft, &change.driving, &source)?;
    let alias = apart.source_alias.clone().unwrap_or_else(|| source.name.clone());
    let key = choose_key(draft, statement, &target, &source, &alias, &apart.values)?;
    for (from, to) in &key {
        check_key_pair(draft, span, (&source, from), (&target, to), true)?;
    }
    refuse_self_reference(draft, span, &target)?;
    draft.plan_data_order(statement, &target)?;
    draft.claim_data_words(statement)?;
    for (column, _) in &key {
        draft.claim(Phase::Backfill, Touch::Read, span, &source, column)?;
    }
    let conditions: Vec<&Expression> = apart.conjuncts.iter().map(|conjunct| &conjunct.whole).collect();
    let condition = condition(draft, &source, &alias, &conditions)?;
    let mut crossing = Crossing {
        span: span.clone(),
        source: source.clone(),
        target_alias: target.name.clone(),
        new: Vec::new(),
        same: BTreeMap::new(),
        may_raise: condition.as_ref().is_some_and(|(_, _, may_raise)| *may_raise),
        condition: condition.map(|(text, reads, _)| (text, reads)),
        given: Vec::new(),
        one_to_one: true,
        copy: None,
        key,
        target,
    };
    for (column, value) in &apart.values {
        moved(draft, &mut crossing, &alias, column, value)?;
    }
    if crossing.new.is_empty() {
        return Err(Problem::unsupported(span.clone(), "a move between tables of nothing but the key").help(
            "new code's rows could not be told from those that old code's make; create the table in a migration before, and copy \
             the rows in one of their own",
        ));
    }
    let Some(known) = draft.catalog.table(&source).cloned() else { return Ok(()) };
    let listed_by = data_job::key(&known, span)?;
    crossing.copy = Some(copy(draft, change, &crossing, &known, &listed_by));
    let what = format!("INSERT INTO {} from {}", crossing.target.plain(), source.plain());
    draft.note(
        span,
        what,
        "expand: kept in step with the other table by triggers; backfill: copy each row once",
    );
    draft.table(&source);
    draft.crossings.push(crossing);
    Ok(())
}

/// The key of the new table whose every column takes over one of the source, which together are a key there.
fn choose_key(
    draft: &Draft<'_>,
    statement: &Statement,
    target: &QualifiedName,
    source: &QualifiedName,
    alias: &Ident,
    values: &[(Ident, Expression)],
) -> Result<Vec<(Ident, Ident)>, Problem> {
    let taken = |column: &Ident| {
        let (_, value) = values.iter().find(|(name, _)| name == column)?;
        let (qualifier, from) = value.as_column()?;
        (qualifier.is_none_or(|qualifier| qualifier == alias)).then(|| (from.clone(), column.clone()))
    };
    let known = draft.catalog.table(source);
    let fits = |key: &Vec<(Ident, Ident)>| {
        known
            .is_some_and(|known| is_unique(known, &key.iter().map(|(from, _)| from).collect::<BTreeSet<_>>()))
    };
    let keys = keys_of_created(draft, target);
    let mut chosen =
        keys.iter().filter_map(|key| key.iter().map(taken).collect::<Option<Vec<_>>>()).filter(fits);
    chosen.next().ok_or_else(|| {
        let why = format!("no PRIMARY KEY or UNIQUE of `{}` takes over a key of it", target.plain());
        no_key(&statement.span, source, &why)
    })
}

/// Rows that point at rows of their own table would have to be copied in an order that nobody knows.
fn refuse_self_reference(
    draft: &Draft<'_>,
    span: &Range<usize>,
    target: &QualifiedName,
) -> Result<(), Problem> {
    if points_at(draft, target, target).is_empty() {
        return Ok(());
    }
    Err(Problem::unsupported(span.clone(), "a move into a table whose rows point at each other")
        .help("add the foreign key in the migration after this one"))
}

fn moved(
    draft: &mut Draft<'_>,
    crossing: &mut Crossing,
    alias: &Ident,
    column: &Ident,
    value: &Expression,
) -> Result<(), Problem> {
    if crossing.key.iter().any(|(_, target)| target == column) {
        return Ok(());
    }
    let known = draft.catalog.table(&crossing.target).and_then(|known| known.column(column));
    let Some((type_sql, not_null)) = known.map(|known| (known.type_sql.clone(), known.not_null)) else {
        return Err(Problem::no_column(value.span.clone(), &crossing.target, column, "for this value"));
    };
    if value.columns().is_empty() {
        if value.has_query() || value.has_parameter_or_star() {
            return Err(Problem::unsupported(
                value.span.clone(),
                "a query or a parameter in a move between tables",
            ));
        }
        crossing.given.push((column.clone(), value.text().to_owned()));
        return Ok(());
    }
    let read = from_source(draft, &crossing.source, alias, Some(&type_sql), value)?;
    crossing.may_raise |= read.may_raise;
    if let Some((_, from)) = value.as_column() {
        crossing.same.insert(from.clone(), column.clone());
    }
    let column = Typed { name: column.clone(), type_sql };
    crossing.new.push(Moved { column, up: read.text, reads: read.reads, not_null });
    Ok(())
}

/// The copy of the rows that are there: as written, but for a row that its source made meanwhile.
fn copy(
    draft: &Draft<'_>,
    change: &DataChange,
    crossing: &Crossing,
    known: &Table,
    listed_by: &[Ident],
) -> Once {
    let key: Vec<String> = crossing.key.iter().map(|(_, target)| target.to_string()).collect();
    let change =
        DataChange { tail: format!("ON CONFLICT ({}) DO NOTHING", key.join(", ")), ..change.clone() };
    let rows = Rows { change: &change, target: &crossing.target, known, key: listed_by, hidden: None };
    let once = rows.once(draft);
    // What the copy reads must not change until it is committed.
    Once { lock: Some(rows.lock(&once)), ..once }
}
