//! Shape: UPDATE … FROM one other table, that sets only columns which the same file adds.
//! Phases: expand installs sync triggers on both tables; backfill copies in batches, the source rows locked first; contract
//! goes with DROP COLUMN or DROP TABLE of the source.
//! Locks: SHARE ROW EXCLUSIVE on both tables for a moment; ROW EXCLUSIVE, one short transaction per batch.
//! Undo: the triggers go; values that only the target holds are counted first.
//! Limits: the WHERE says by `=` which row of the source belongs to a row of the target, by a key of the source; where it is no
//! key of the target too, what new code writes does not come back. A row of the source that is deleted leaves its value in the
//! target, unless the file drops the source. TRUNCATE fires no trigger.

use std::collections::{BTreeMap, BTreeSet};

use crate::decide::change::move_source::{check_key_pair, from_source, is_unique, no_key, tells_apart};
use crate::decide::change::supported;
use crate::decide::draft::{Crossing, Draft, Phase, Touch};
use crate::decide::sync::Moved;
use crate::model::problem::Problem;
use crate::model::sql::{Apart, Conjunct, DataChange, Expression, SetColumn, SetValue, Statement};
use crate::words::ident::{Ident, QualifiedName};

pub(crate) fn plan(
    draft: &mut Draft<'_>,
    statement: &Statement,
    sets: &[SetColumn],
    change: &DataChange,
) -> Result<(), Problem> {
    let span = &statement.span;
    let Some(apart) = &change.apart else {
        return Err(Problem::unsupported(span.clone(), "UPDATE … FROM more than one plain table")
            .help("one source table at a time; a column of the same file can be filled from one only"));
    };
    let (target, source) = (draft.existing(&change.table)?, draft.existing(&apart.source)?);
    if draft.created.contains(&source) || source == target {
        return Err(Problem::unsupported(
            span.clone(),
            "UPDATE … FROM a table of the same file, or the same table",
        ));
    }
    supported(draft, &apart.source, &source)?;
    let alias = change.alias.clone().unwrap_or_else(|| target.name.clone());
    let source_alias = apart.source_alias.clone().unwrap_or_else(|| source.name.clone());
    let names = Names { target: &target, alias: &alias, source: &source, source_alias: &source_alias };
    let (key, conditions) = parts_of_where(draft, apart, &names)?;
    let condition = condition(draft, &source, &source_alias, &conditions)?;
    let one_to_one = check_key(draft, statement, &names, &key)?;
    draft.plan_data_order(statement, &target)?;
    for (s, t) in &key {
        draft.claim(Phase::Backfill, Touch::Read, span, &source, s)?;
        draft.claim(Phase::Backfill, Touch::Read, span, &target, t)?;
    }
    let (mut new, mut same) = (Vec::new(), BTreeMap::new());
    let mut may_raise = condition.as_ref().is_some_and(|(_, _, may_raise)| *may_raise);
    for set in sets {
        let moved = moved(draft, &names, set)?;
        may_raise |= moved.1;
        let SetValue::Expression(expression) = &set.value else { continue };
        if let Some((_, column)) = expression.as_column() {
            same.insert(column.clone(), set.column.clone());
        }
        let what = format!("UPDATE {} SET {} from {}", target.plain(), set.column.as_str(), source.plain());
        draft.claim(Phase::Backfill, Touch::Change, span, &target, &set.column)?;
        draft.note(span, what, "expand: kept in step with the other table by triggers; backfill: copy");
        new.push(moved.0);
    }
    draft.table(&source);
    draft.table(&target);
    for set in sets {
        if let Some(added) = draft.added(&target, &set.column) {
            added.from_elsewhere = true;
        }
    }
    draft.crossings.push(Crossing {
        span: span.clone(),
        source,
        target,
        target_alias: alias,
        key,
        new,
        same,
        condition: condition.map(|(text, reads, _)| (text, reads)),
        given: Vec::new(),
        one_to_one,
        may_raise,
        copy: None,
    });
    Ok(())
}

/// The two tables, and what the statement calls them.
struct Names<'a> {
    target: &'a QualifiedName,
    alias: &'a Ident,
    source: &'a QualifiedName,
    source_alias: &'a Ident,
}

/// The side of a reference to a column.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Source,
    Target,
}

fn side(draft: &Draft<'_>, names: &Names<'_>, used: (Option<&Ident>, &Ident)) -> Option<Side> {
    let has = |table| draft.catalog.table(table).is_some_and(|known| known.column(used.1).is_some());
    match used.0 {
        Some(qualifier) if qualifier == names.source_alias => Some(Side::Source),
        Some(qualifier) if qualifier == names.alias => Some(Side::Target),
        Some(_) => None,
        None => match (has(names.source), has(names.target)) {
            (true, false) => Some(Side::Source),
            (false, true) => Some(Side::Target),
            _ => None,
        },
    }
}

type Key = Vec<(Ident, Ident)>;

/// Tells the pairs of equal columns from conditions on the source.
fn parts_of_where<'a>(
    draft: &Draft<'_>,
    apart: &'a Apart,
    names: &Names<'_>,
) -> Result<(Key, Vec<&'a Expression>), Problem> {
    let (mut key, mut conditions) = (Vec::new(), Vec::new());
    for Conjunct { whole, equal } in &apart.conjuncts {
        let sides = equal.as_ref().and_then(|(left, right)| Some((left.as_column()?, right.as_column()?)));
        let pair =
            sides.and_then(|(left, right)| match (side(draft, names, left)?, side(draft, names, right)?) {
                (Side::Source, Side::Target) => Some((left.1.clone(), right.1.clone())),
                (Side::Target, Side::Source) => Some((right.1.clone(), left.1.clone())),
                _ => None,
            });
        match pair {
            Some(pair) if key.iter().any(|(source, target)| source == &pair.0 || target == &pair.1) => {
                return Err(Problem::unsupported(whole.span.clone(), "a second condition on the same key"));
            }
            Some(pair) => key.push(pair),
            None if whole.uses().all(|used| side(draft, names, used) == Some(Side::Source)) => {
                conditions.push(whole);
            }
            None => {
                return Err(Problem::unsupported(whole.span.clone(), "this condition in a move between tables").help(
                    "a part of the WHERE says which rows belong together, `target.column = source.column`, or speaks of the source alone",
                ));
            }
        }
    }
    Ok((key, conditions))
}

/// The condition on the source, the columns that it reads, and whether it may raise.
pub(super) fn condition(
    draft: &mut Draft<'_>,
    source: &QualifiedName,
    alias: &Ident,
    conditions: &[&Expression],
) -> Result<Option<(String, BTreeSet<Ident>, bool)>, Problem> {
    let (mut texts, mut reads, mut may_raise) = (Vec::new(), BTreeSet::new(), false);
    for condition in conditions {
        let read = from_source(draft, source, alias, None, condition)?;
        texts.push(format!("({})", read.text));
        reads.extend(read.reads);
        may_raise |= read.may_raise;
    }
    Ok((!texts.is_empty()).then(|| (texts.join(" AND "), reads, may_raise)))
}

/// The key must tell the rows of the source apart. Gives whether it does so in the target as well.
fn check_key(
    draft: &Draft<'_>,
    statement: &Statement,
    names: &Names<'_>,
    key: &[(Ident, Ident)],
) -> Result<bool, Problem> {
    let span = &statement.span;
    let in_source: BTreeSet<&Ident> = key.iter().map(|(source, _)| source).collect();
    let in_target: BTreeSet<&Ident> = key.iter().map(|(_, target)| target).collect();
    let unique = |table, columns| draft.catalog.table(table).is_some_and(|known| is_unique(known, columns));
    if key.is_empty() || !unique(names.source, &in_source) {
        return Err(no_key(span, names.source, "the WHERE does not name a key of it that is never null"));
    }
    let known = draft.catalog.table(names.target);
    let constrained = known.is_some_and(|known| tells_apart(known, &in_target));
    for (source, target) in key {
        check_key_pair(draft, span, (names.source, source), (names.target, target), false)?;
    }
    let searched = known.is_some_and(|known| {
        known
            .indexes
            .iter()
            .any(|index| index.valid && index.columns.iter().any(|column| in_target.contains(column)))
    });
    if !searched {
        let title = format!(
            "no index of `{}` finds the rows that belong to one of `{}`",
            names.target.plain(),
            names.source.plain()
        );
        return Err(Problem::new(
            "no-index",
            span.clone(),
            title,
            "the sync triggers would read the whole table for each write",
        )
        .help("create an index on the columns of the WHERE in a migration before"));
    }
    Ok(constrained)
}

fn moved(draft: &mut Draft<'_>, names: &Names<'_>, set: &SetColumn) -> Result<(Moved, bool), Problem> {
    let SetValue::Expression(expression) = &set.value else {
        return Err(Problem::unsupported(set.span.clone(), "this form of assignment")
            .help("write `column = expression`"));
    };
    for used in expression.uses() {
        if side(draft, names, used) != Some(Side::Source) {
            let title = format!("`{}` is not a column of `{}` alone", used.1.as_str(), names.source.plain());
            return Err(Problem::new(
                "unknown-name",
                expression.span.clone(),
                title,
                "what moves is computed from the source alone",
            )
            .help(format!(
                "write `{}.{}`, or compute it in an UPDATE of its own",
                names.source_alias, used.1
            )));
        }
    }
    if expression.columns().is_empty() {
        return Err(Problem::unsupported(
            set.span.clone(),
            "a value that reads nothing in a move between tables",
        )
        .help("give it in an UPDATE of its own, without FROM"));
    }
    let Some(added) = draft.added(names.target, &set.column) else {
        return Err(Problem::no_column(set.span.clone(), names.target, &set.column, "set here"));
    };
    if added.is_filled() || added.column.default.is_some() {
        let title =
            format!("`{}` has a default, or is filled by another UPDATE as well", set.column.as_str());
        return Err(Problem::new("fill-twice", set.span.clone(), title, "set here")
            .help("fill it from one place only, and set its default in a migration of its own"));
    }
    let type_sql = added.column.type_sql.clone();
    let read = from_source(draft, names.source, names.source_alias, Some(&type_sql), expression)?;
    let column = crate::decide::sync::Typed { name: set.column.clone(), type_sql };
    Ok((Moved { column, up: read.text, reads: read.reads, not_null: false }, read.may_raise))
}
