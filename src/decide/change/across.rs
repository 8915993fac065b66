//! Data that moves between tables: what `UPDATE … FROM` and `INSERT … SELECT` into a new table have in common.

use std::collections::BTreeSet;

use crate::decide::change::mapping::hidden_name;
use crate::decide::change::move_limits::{
    base_type, check_keys_of_both, check_one_place, check_replacement, check_rest_of_file, check_shift,
    counts_by_itself,
};
use crate::decide::change::move_source::{no_key, renumbered, unique_of};
use crate::decide::change::move_steps::{drop, expand, jobs};
use crate::decide::change::partitioned;
use crate::decide::draft::{Crossing, Draft, Role, TableDraft};
use crate::decide::plan::{Job, Loss, Step};
use crate::decide::sync::{Across, Left, Shape, Typed};
use crate::model::catalog::{Catalog, Table};
use crate::model::problem::Problem;
use crate::model::sql::Expression;
use crate::words::ident::{Ident, QualifiedName};

/// What one move adds to the plan.
pub(crate) struct Parts {
    pub(crate) expand: Vec<Step>,
    pub(crate) drop: Vec<Step>,
    pub(crate) jobs: Vec<Job>,
    pub(crate) moving: Vec<(QualifiedName, Ident, Role)>,
}

/// Puts the file's moves together: triggers, batches, what goes.
pub(crate) fn assemble(draft: &mut Draft<'_>, before: &Catalog) -> Result<Vec<Parts>, Problem> {
    let crossings = std::mem::take(&mut draft.crossings);
    let numbered = crossings.iter().enumerate();
    numbered
        .map(|(at, crossing)| {
            let others = crossings.iter().enumerate().filter(|(other, _)| *other != at);
            let others: Vec<&Crossing> =
                others.map(|(_, other)| other).filter(|other| other.source == crossing.source).collect();
            one(draft, before, crossing, at + 1, &others)
        })
        .collect()
}

fn one(
    draft: &mut Draft<'_>,
    before: &Catalog,
    crossing: &Crossing,
    number: usize,
    others: &[&Crossing],
) -> Result<Parts, Problem> {
    let version = draft.file.version.number().to_string();
    let (source, target) = (&crossing.source, &crossing.target);
    let Some(known) = before.table(source).cloned() else {
        return Err(no_key(&crossing.span, source, "it is not known"));
    };
    let known_target = draft.catalog.table(target).cloned().unwrap_or_else(|| Table::new(target.clone()));
    let source_goes = draft.hides_table(source);
    check_rest_of_file(draft, crossing, others.len(), source_goes)?;
    if source_goes && crossing.copy.is_some() {
        check_replacement(draft, crossing, &known)?;
    }
    if source_goes && crossing.one_to_one {
        check_keys_of_both(crossing, &known, &known_target)?;
    }
    let key: BTreeSet<&Ident> = crossing.key.iter().map(|(source, _)| source).collect();
    let old = if source_goes {
        whole_source(crossing, &known)
    } else {
        dropped_columns(draft, crossing, &known_target, &version)?
    };
    let target_key: BTreeSet<&Ident> = crossing.key.iter().map(|(_, target)| target).collect();
    let tells = |work: &TableDraft, column: &Ident| {
        &work.name == source && key.contains(column) || &work.name == target && target_key.contains(column)
    };
    let dropped =
        draft.tables.iter().flat_map(|work| work.dropped.iter().map(move |dropped| (work, dropped)));
    if let Some((_, key)) = dropped.into_iter().find(|(work, dropped)| tells(work, &dropped.column)) {
        let title = format!("`{}` tells which rows belong together, and is dropped", key.column.as_str());
        return Err(Problem::new("key-changed", key.span.clone(), title, "dropped here")
            .help("drop it in a migration after this one, when the move is contracted"));
    }
    let sealed_source = if source_goes {
        QualifiedName::new(source.schema.clone(), hidden_name(&version, &source.name))
    } else {
        source.clone()
    };
    let mut reads: BTreeSet<Ident> = crossing.new.iter().flat_map(|new| new.reads.clone()).collect();
    reads.extend(crossing.condition.iter().flat_map(|(_, reads)| reads.clone()));
    let leaves = |column: &Ident| {
        let mut works = draft.tables.iter().filter(|work| &work.name == source);
        works.any(|work| work.dropped.iter().any(|dropped| &dropped.column == column))
    };
    let source_columns = known
        .columns
        .iter()
        .filter(|column| reads.contains(&column.name))
        .map(|column| {
            let sealed =
                if leaves(&column.name) { hidden_name(&version, &column.name) } else { column.name.clone() };
            (Typed { name: column.name.clone(), type_sql: column.type_sql.clone() }, sealed)
        })
        .collect();
    let target_columns = known_target
        .columns
        .iter()
        .map(|column| Typed { name: column.name.clone(), type_sql: base_type(&column.type_sql).to_owned() })
        .collect();
    let across = Across {
        id: format!("m{version}_a{number}"),
        version: version.clone(),
        ledger: draft.settings.ledger.clone(),
        search_path: draft.settings.search_path.clone(),
        source: source.clone(),
        sealed_source,
        target: target.clone(),
        key: crossing.key.clone(),
        source_unique: unique_of(&known, &key).unwrap_or_default().to_vec(),
        new: crossing.new.clone(),
        old,
        source_columns,
        target_columns,
        condition: crossing.condition.clone(),
        given: crossing.given.clone(),
        makes_rows: crossing.copy.is_some(),
        source_goes,
        one_to_one: crossing.one_to_one,
        renumbered: renumbered(&known_target, source, &crossing.key),
        source_is_partitioned: draft.is_partitioned(source),
        target_is_partitioned: draft.is_partitioned(target),
        may_fail: crossing.may_raise || crossing.copy.is_some() || !known_target.triggers.is_empty(),
        may_raise: crossing.may_raise,
    };
    warn(draft, &across, &known);
    check_one_place(draft, crossing, &across, others)?;
    check_shift(draft, crossing, &across)?;
    let jobs = jobs(&across, crossing, number);
    let fence = jobs.last().filter(|job| job.is_by_partition());
    let parted = fence.map_or(target, |job| &job.table);
    let name = if parted == source { &across.sealed_source } else { parted };
    let fence =
        fence.filter(|_| draft.is_partitioned(parted)).map(|job| partitioned::fence(draft, name, job));
    follow_the_seal(draft, &across, &known, fence.as_deref().filter(|_| parted == source));
    let held = |column: &Typed| {
        across.key.iter().any(|(_, target)| target == &column.name)
            || across.new.iter().any(|new| new.column.name == column.name)
            || counts_by_itself(draft, target, &column.name)
    };
    if across.makes_rows && across.target_columns.iter().all(held) {
        // Rows that the source holds as well are no loss.
        let all = format!("rows in {}", target.plain());
        draft.losses.retain(|loss| loss.what != all);
    }
    draft.losses.push(Loss {
        what: format!("values in {} that {} does not hold", target.plain(), source.plain()),
        count: across.not_held(),
        blocks: false,
    });
    let followed = |table: &QualifiedName, column: &Ident| (table.clone(), column.clone(), Role::Followed);
    let mut moving: Vec<_> =
        crossing.new.iter().map(|new| (target.clone(), new.column.name.clone(), Role::Computed)).collect();
    moving.extend(crossing.key.iter().flat_map(|(s, t)| [followed(source, s), followed(target, t)]));
    moving.extend(across.source_columns.iter().map(|(column, _)| followed(source, &column.name)));
    moving.extend(across.makes_rows.then(|| followed(source, &Ident::new(""))));
    Ok(Parts { expand: expand(draft, &across), drop: drop(&across, fence), jobs, moving })
}

fn warn(draft: &mut Draft<'_>, across: &Across, known: &Table) {
    let (source, target) = (across.source.plain(), across.target.plain());
    draft.warnings.push(format!(
        "a transaction that writes a row of {source} and one that writes the row of {target} which belongs to it wait for each \
         other's end; where each does both, in another order, PostgreSQL ends one of them (deadlock)"
    ));
    if !across.one_to_one {
        draft.warnings.push(format!(
            "a new row of {target} holds its row of {source} until its transaction ends: others that add rows there wait for it, and \
             two that add rows for the same two in opposite order deadlock"
        ));
    }
    if across.may_fail && !across.has_down() && !across.empties_what_is_refused() {
        draft.warnings.push(format!(
            "a value that old code gives a row of {source} and {target} refuses, or that cannot be computed, leaves what {target} had \
             before, and contract does not see it; with a `down` it would"
        ));
    }
    let leaves = |column: &Ident| across.old.iter().any(|old| &old.column.name == column);
    let stays = across.new.iter().filter(|new| !new.reads.is_empty() && !new.reads.iter().any(leaves));
    let stays: Vec<&str> = stays.map(|new| new.column.name.as_str()).collect();
    if across.has_down() && !across.source_goes && !stays.is_empty() {
        draft.warnings.push(format!(
            "{target}.{} comes from columns of {source} that stay: what is written to those when the row has been copied does not \
             follow, unless a column that goes is written too",
            stays.join(&format!(", {target}."))
        ));
    }
    let target_known = draft.catalog.table(&across.target).cloned();
    for (table, trigger) in [Some(known), target_known.as_ref()].into_iter().flatten().flat_map(|table| {
        table.triggers.iter().filter(|trigger| trigger.before_row).map(move |trigger| (table, trigger))
    }) {
        draft.warnings.push(format!(
            "trigger {} of {} comes before the sync triggers' writes: if it keeps a row that is deleted, or writes the other table, \
             the two will not agree, or the statement fails",
            trigger.name,
            table.name.plain()
        ));
    }
    if across.makes_rows && !across.source_goes {
        draft.warnings.push(format!(
            "a row of {source} to which nothing is given that moves makes no row of {target} from now on: new code makes its own"
        ));
    }
    if !across.has_down() && !across.old.is_empty() {
        draft.warnings.push(format!(
            "what new code writes to {target} does not come back to {source}: old code will not see it"
        ));
    }
    let needs = |work: &Table| {
        let given: BTreeSet<&Ident> =
            across.key.iter().map(|(s, _)| s).chain(across.old.iter().map(|old| &old.column.name)).collect();
        let missing = work.columns.iter().find(|column| {
            column.not_null && column.default.is_none() && !column.identity && !given.contains(&column.name)
        });
        missing.map(|column| column.name.clone())
    };
    if across.source_goes
        && let Some(column) = needs(known)
    {
        draft.warnings.push(format!(
            "{source}.{} must not be null and comes from nowhere in {target}: where {source} has no row yet, new code's write fails",
            column.as_str()
        ));
    }
}

/// The columns of a table that goes: those that the target takes over as they are.
fn whole_source(crossing: &Crossing, known: &Table) -> Vec<Left> {
    let key: BTreeSet<&Ident> = crossing.key.iter().map(|(source, _)| source).collect();
    let read: BTreeSet<&Ident> = crossing.new.iter().flat_map(|new| &new.reads).collect();
    let columns =
        known.columns.iter().filter(|column| read.contains(&column.name) && !key.contains(&column.name));
    columns
        .map(|column| Left {
            column: Typed { name: column.name.clone(), type_sql: column.type_sql.clone() },
            sealed_name: column.name.clone(),
            down: crossing
                .same
                .get(&column.name)
                .map(|name| (name.to_string(), BTreeSet::from([name.clone()]))),
            empty: column
                .default
                .clone()
                .filter(|_| column.constant_default)
                .unwrap_or_else(|| "NULL".to_owned()),
            not_null: column.not_null,
        })
        .collect()
}

/// The columns that go and that the target's are computed from.
fn dropped_columns(
    draft: &mut Draft<'_>,
    crossing: &Crossing,
    known_target: &Table,
    version: &str,
) -> Result<Vec<Left>, Problem> {
    let read: BTreeSet<&Ident> = crossing.new.iter().flat_map(|new| &new.reads).collect();
    let aliases = [&crossing.target_alias, &crossing.target.name];
    let mut old = Vec::new();
    let dropped = draft
        .tables
        .iter_mut()
        .filter(|work| work.name == crossing.source)
        .flat_map(|work| &mut work.dropped);
    for dropped in dropped.filter(|dropped| read.contains(&dropped.column)) {
        let qualified = dropped.down.as_ref().is_some_and(|down| {
            let qualifiers = down.qualifiers();
            !qualifiers.is_empty() && qualifiers.iter().all(|qualifier| aliases.contains(&qualifier))
        });
        let down = if qualified { dropped.down.take() } else { None };
        if let Some(unknown) =
            down.iter().flat_map(Expression::columns).find(|column| known_target.column(column).is_none())
        {
            return Err(Problem::no_column(
                dropped.span.clone(),
                &crossing.target,
                &unknown,
                "`down` reads it",
            ));
        }
        let implied = || {
            let name = crossing.same.get(&dropped.column).filter(|_| dropped.down.is_none())?;
            Some((known_target.collated(name), BTreeSet::from([name.clone()])))
        };
        let down = down
            .map(|down| (down.replaced(|column| known_target.collated(column)), down.columns()))
            .or_else(implied)
            .filter(|_| crossing.one_to_one);
        let known = &dropped.known;
        if known.not_null && known.default.is_none() {
            let title = format!(
                "`{}` is NOT NULL, and new code's rows get their value only when they are in `{}` too",
                dropped.column.as_str(),
                crossing.target.plain()
            );
            return Err(Problem::new("down-needed", dropped.span.clone(), title, "dropped here").help(format!(
                "if old code can live with a null there for that long, say so above: `ALTER TABLE {} ALTER COLUMN {} DROP NOT NULL;`",
                crossing.source, dropped.column
            )));
        }
        if known.identity || (known.default.is_some() && !known.constant_default) {
            let title = format!(
                "`{}` has a default that cannot be told from a value that was given",
                dropped.column.as_str()
            );
            return Err(Problem::new("volatile-default", dropped.span.clone(), title, "dropped here")
                .help("drop the default in a migration before"));
        }
        let held = |column: &Ident| {
            crossing.new.iter().any(|new| &new.column.name == column)
                || crossing.key.iter().any(|(_, target)| target == column)
        };
        if let Some(other) = down.iter().flat_map(|(_, reads)| reads).find(|column| !held(column)) {
            let title = format!("`down` reads `{}`, which does not move", other.as_str());
            return Err(Problem::new(
                "down-reads",
                dropped.span.clone(),
                title,
                "its changes would not reach old code",
            )
            .help("move it in the same statement, or compute the column from those that move"));
        }
        dropped.kept_from_elsewhere = down.is_some();
        old.push(Left {
            column: Typed { name: dropped.column.clone(), type_sql: known.type_sql.clone() },
            sealed_name: hidden_name(version, &dropped.column),
            down,
            empty: known.default.clone().unwrap_or_else(|| "NULL".to_owned()),
            not_null: known.not_null,
        });
    }
    let with = old.iter().filter(|old| old.down.is_some()).count();
    if with > 0 && with < old.len() && crossing.one_to_one {
        let title = "some of the columns that go are computed from the new ones, and some are not";
        return Err(Problem::new("down-needed", crossing.span.clone(), title, "they move together")
            .help(format!("give each of them a `down`, such as `-- migrate: down column = {}.column`, or move them apart", crossing.target.name)));
    }
    Ok(old)
}

/// The triggers go on with the names that the seal gives, in the transaction that gives them. Those of the user on a table that
/// is hidden stay behind: what they do may name it.
fn follow_the_seal(draft: &mut Draft<'_>, across: &Across, known: &Table, fence: Option<&str>) {
    let (mut sealed, mut open) =
        (across.trigger_functions(Shape::Sealed), across.trigger_functions(Shape::Open));
    if let Some(fence) = fence {
        sealed.push(fence.to_owned());
        open.push("SELECT".to_owned());
    }
    if across.source_goes {
        for trigger in &known.triggers {
            let word = match trigger.enabled.as_str() {
                "O" => "ENABLE",
                "A" => "ENABLE ALWAYS",
                "R" => "ENABLE REPLICA",
                _ => continue,
            };
            sealed.push(format!("ALTER TABLE {} DISABLE TRIGGER {}", across.sealed_source, trigger.name));
            open.push(format!("ALTER TABLE {} {word} TRIGGER {}", across.source, trigger.name));
        }
        draft.with_hidden_table(&across.source, &sealed, &open);
    } else if sealed != open
        && let Some(work) = draft.tables.iter_mut().find(|work| work.name == across.source)
    {
        work.seal.extend(sealed.into_iter().zip(open));
    }
}
