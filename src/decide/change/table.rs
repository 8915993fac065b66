//! Puts the changes of one table together: what the table's transactions in expand, seal and drop hold.

use crate::decide::change::mapping::{HIDDEN, check_downs, hidden_name, mappings};
use crate::decide::change::set_not_null::{check_name, prove};
use crate::decide::change::{add_column, create_index, partitioned, partitioned_index, publication, retype};
use crate::decide::draft::{Draft, Renamed, Role, TableDraft, install, lock_tables, table_step};
use crate::decide::plan::{Convert, Job, Loss, SealedColumn, Step, Work};
use crate::decide::sync::{Keep, Mapping, Repair, Shape};
use crate::model::catalog::{Catalog, Column, Table, Trigger};
use crate::model::problem::Problem;
use crate::model::sql::{Expression, rename_in_index};
use crate::words::ident::{Ident, QualifiedName};
use crate::words::lock_mode::LockMode;

/// What one table adds to the plan.
pub(crate) struct Parts {
    pub(crate) expand: Option<Step>,
    pub(crate) settle: Vec<Step>,
    pub(crate) restrict: Vec<Step>,
    pub(crate) seal: Option<Step>,
    /// Behind the seals of all tables.
    pub(crate) behind: Vec<Step>,
    pub(crate) drop: Option<Step>,
    pub(crate) job: Option<Job>,
    pub(crate) sealed: Vec<SealedColumn>,
    pub(crate) moving: Vec<(Ident, Role)>,
    /// The columns that expand adds.
    pub(crate) columns: Vec<Column>,
}

/// Statements of the seal, those that take it back, and what is hidden.
#[derive(Default)]
struct Seal {
    sql: Vec<String>,
    undo: Vec<String>,
    hidden: Vec<SealedColumn>,
}

pub(crate) fn assemble(
    draft: &mut Draft<'_>,
    work: &TableDraft,
    tables: &[TableDraft],
    before: &Catalog,
    count: &mut usize,
) -> Result<Parts, Problem> {
    let table = &work.name;
    let known = before.table(table).cloned().unwrap_or_else(|| Table::new(table.clone()));
    check_downs(work, &known)?;
    check_repairs(work)?;
    let mappings = mappings(draft, work, &known, count);
    let mut expand = Vec::new();
    let mut columns = Vec::new();
    for added in &work.added {
        expand.extend(add_column::statements(draft, table, added)?);
        let mut column = Column::added(&added.column);
        if added.is_filled() {
            (column.not_null, column.default) = (false, None);
        }
        columns.push(column);
    }
    let mut settle = Vec::new();
    for renamed in &work.renamed {
        let Some(original) = known.column(&renamed.from) else { continue };
        expand.push(format!(
            "ALTER TABLE {table} ADD COLUMN {} {}{}",
            renamed.to, original.type_sql, original.collation
        ));
        for (privilege, role) in &original.grants {
            expand.push(format!("GRANT {privilege} ({}) ON {table} TO {role}", renamed.to));
        }
        columns.push(Column {
            name: renamed.to.clone(),
            not_null: false,
            default: None,
            identity: false,
            ..original.clone()
        });
    }
    settle.extend(shadow_indexes(draft, &known, &work.renamed));
    let swap = retype::parts(draft, work, &known, tables, before);
    expand.extend(swap.expand.clone());
    columns.extend(swap.columns.clone());
    settle.extend(swap.settle.clone());
    let (mut create, mut remove) = install(&mappings, &work.repairs);
    let keep = keep(draft, work, &known, &mappings);
    create.extend(keep.iter().flat_map(Keep::create));
    remove.splice(0..0, keep.iter().flat_map(Keep::remove));
    expand.extend(create);
    expand.extend(work.expand.iter().map(|(sql, _)| sql.clone()));
    let mut undo: Vec<String> =
        work.expand.iter().rev().map(|(_, undo)| undo.clone()).filter(|undo| !undo.is_empty()).collect();
    undo.extend(remove.clone());
    undo.extend(
        columns.iter().map(|column| format!("ALTER TABLE {table} DROP COLUMN IF EXISTS {}", column.name)),
    );
    let mut restrict: Vec<Step> = not_null(work).flat_map(|column| prove(draft, table, column)).collect();
    restrict.extend(swap.restrict.clone());
    let behind = swap.behind.clone();
    let also_locked = swap.also_locked.clone();
    let mut seal = seal(draft, work, &mappings, swap);
    draft.losses.extend(losses(work, &mappings));
    let job = job(draft, work, &mappings, &work.repairs);
    let fence = job.as_ref().filter(|_| draft.is_partitioned(table));
    let fence = fence.map(|job| partitioned::fence(draft, table, job));
    if !seal.hidden.is_empty() {
        seal.sql.splice(0..0, fence.clone());
    }
    let mut drop_sql: Vec<String> = fence.filter(|_| !seal.hidden.is_empty()).into_iter().collect();
    drop_sql.extend(remove);
    drop_sql.extend(
        seal.hidden.iter().map(|hidden| format!("ALTER TABLE {table} DROP COLUMN {}", hidden.hidden)),
    );
    let step = |title: String, sql: Vec<String>, undo: Vec<String>| {
        (!sql.is_empty()).then(|| table_step(table, title, sql, undo))
    };
    let mut warnings = Vec::new();
    for trigger in known.triggers.iter().filter(|trigger| trigger.before_row && !mappings.is_empty()) {
        if trigger.name.as_str() > "~pontoon" {
            warnings.push(format!(
                "trigger {} sorts behind the sync triggers: what it changes is not carried over",
                trigger.name
            ));
        }
    }
    let fired: Vec<&str> = fired(work, &known, &mappings).map(|trigger| trigger.name.as_str()).collect();
    if !fired.is_empty() {
        warnings.push(format!(
            "the backfill updates each row of {}: its triggers ({}) fire then, and may refuse a row or write elsewhere, unless the \
             role that runs it may set session_replication_role (a superuser, or GRANT SET ON PARAMETER)",
            table.plain(),
            fired.join(", ")
        ));
    }
    draft.warnings.extend(warnings);
    let names: Vec<Ident> = columns.iter().map(|column| column.name.clone()).collect();
    let hidden: Vec<Ident> = seal.hidden.iter().map(|hidden| hidden.hidden.clone()).collect();
    publication::warn(draft, table, &names, &hidden);
    Ok(Parts {
        expand: step(format!("expand {}", table.plain()), expand, undo),
        settle,
        restrict,
        seal: step(format!("seal the old shape of {}", table.plain()), seal.sql, seal.undo)
            .map(|step| also_locking(step, &also_locked)),
        behind,
        drop: step(format!("drop the old shape of {}", table.plain()), drop_sql, Vec::new()),
        job,
        sealed: seal.hidden,
        moving: moving(&mappings, work),
        columns,
    })
}

/// Takes locks on other tables first: those who write there go on to this one.
fn also_locking(mut step: Step, tables: &[QualifiedName]) -> Step {
    if tables.is_empty() {
        return step;
    }
    let (lock, locks) = lock_tables(&tables.iter().collect::<Vec<_>>(), LockMode::AccessExclusive);
    step.sql.insert(0, lock.clone());
    step.undo.insert(0, lock);
    step.locks.extend(locks);
    step
}

/// Batches do everything of a file at once and triggers one after another, so nothing may read what an UPDATE brings within a
/// rule but that UPDATE itself.
fn check_repairs(work: &TableDraft) -> Result<(), Problem> {
    for (at, repair) in work.repairs.iter().enumerate() {
        for (column, _) in &repair.sets {
            let name = &column.name;
            let others = work.repairs.iter().enumerate().filter(|(other, _)| *other != at);
            let by_repair = others.flat_map(|(_, other)| &other.columns).any(|read| &read.name == name);
            let fills = work.added.iter().filter_map(|added| added.filled.as_ref());
            let by_fill = fills.flat_map(|filled| &filled.reads).any(|read| read == name);
            let downs = work.dropped.iter().filter_map(|dropped| dropped.down.as_ref());
            let by_down = downs.flat_map(Expression::columns).any(|read| &read == name);
            if by_repair || by_fill || by_down {
                let title =
                    format!("`{}` is set by this UPDATE and read by another of the file", name.as_str());
                return Err(Problem::new("repair-source", repair.span.clone(), title, "set here")
                    .help("split the file: one of them goes into a migration of its own"));
            }
        }
    }
    Ok(())
}

/// Columns that become NOT NULL in contract: those that the file fills, and those that were there.
fn not_null(work: &TableDraft) -> impl Iterator<Item = &Ident> {
    let filled = work.added.iter().filter(|added| added.is_filled() && added.column.not_null);
    filled.map(|added| &added.column.name).chain(&work.not_null)
}

/// Defaults and NOT NULL of filled columns, the renames that hide the old shape, and triggers under the new names.
fn seal(draft: &Draft<'_>, work: &TableDraft, mappings: &[Mapping], swap: retype::Parts) -> Seal {
    let table = &work.name;
    let mut seal = Seal::default();
    for name in not_null(work) {
        let check = check_name(draft, name);
        // Two statements: in one, the check would go first and SET NOT NULL would have to scan.
        seal.sql.push(format!("ALTER TABLE {table} ALTER COLUMN {name} SET NOT NULL"));
        seal.sql.push(format!("ALTER TABLE {table} DROP CONSTRAINT {check}"));
        seal.undo.push(format!("ALTER TABLE {table} ALTER COLUMN {name} DROP NOT NULL"));
    }
    for added in work.added.iter().filter(|added| added.is_filled()) {
        let name = &added.column.name;
        if let Some(default) = &added.column.default {
            seal.sql.push(format!(
                "ALTER TABLE {table} ALTER COLUMN {name} SET DEFAULT {}",
                default.expression.text()
            ));
            seal.undo.push(format!("ALTER TABLE {table} ALTER COLUMN {name} DROP DEFAULT"));
        }
    }
    for (sql, undo) in &work.seal {
        seal.sql.push(sql.clone());
        seal.undo.insert(0, undo.clone());
    }
    let version = draft.file.version.number().to_string();
    for dropped in &work.dropped {
        let hidden = hidden_name(&version, &dropped.column);
        seal.sql.push(format!("ALTER TABLE {table} RENAME COLUMN {} TO {hidden}", dropped.column));
        seal.undo.push(format!("ALTER TABLE {table} RENAME COLUMN {hidden} TO {}", dropped.column));
        seal.hidden.push(SealedColumn {
            table: table.clone(),
            column: dropped.column.clone(),
            going: dropped.column.clone(),
            hidden,
            kept_current: dropped.down.is_some() || dropped.generated || dropped.kept_from_elsewhere,
            replaced: None,
        });
    }
    for renamed in &work.renamed {
        let hidden = hidden_name(&version, &renamed.to);
        seal.sql.push(format!("ALTER TABLE {table} RENAME COLUMN {} TO {hidden}", renamed.to));
        seal.sql.push(format!("ALTER TABLE {table} RENAME COLUMN {} TO {}", renamed.from, renamed.to));
        seal.undo.push(format!("ALTER TABLE {table} RENAME COLUMN {} TO {}", renamed.to, renamed.from));
        seal.undo.push(format!("ALTER TABLE {table} RENAME COLUMN {hidden} TO {}", renamed.to));
        seal.hidden.push(SealedColumn {
            table: table.clone(),
            column: renamed.from.clone(),
            going: renamed.to.clone(),
            hidden,
            kept_current: true,
            replaced: None,
        });
    }
    seal.undo.splice(0..0, swap.swap.iter().rev().filter_map(|(_, undo)| undo.clone()));
    seal.sql.extend(swap.swap.into_iter().filter_map(|(sql, _)| sql));
    for mut hidden in swap.hidden {
        let swapped = |mapping: &&Mapping| mapping.new.iter().any(|new| new.sealed_name == hidden.column);
        let lost = mappings.iter().filter(|mapping| !mapping.evidence).find(swapped).map(Mapping::lost);
        if let (Some(replaced), Some(lost)) = (&mut hidden.replaced, lost) {
            replaced.lost = lost;
        }
        seal.hidden.push(hidden);
    }
    if !seal.hidden.is_empty() {
        for mapping in mappings {
            seal.sql.extend(mapping.trigger_functions(Shape::Sealed));
            seal.undo.extend(mapping.trigger_functions(Shape::Open));
        }
    }
    seal
}

/// New code searches by the new name from the day it serves: the shadow gets the original's indexes, not unique ones
/// though, which would turn a racing upsert on the old column into an error.
fn shadow_indexes(draft: &Draft<'_>, known: &Table, renamed: &[Renamed]) -> Vec<Step> {
    let version = draft.file.version.number().to_string();
    let new_name = |column: &Ident| {
        renamed
            .iter()
            .find(|renamed| &renamed.from == column)
            .map_or_else(|| column.clone(), |renamed| renamed.to.clone())
    };
    known
        .indexes
        .iter()
        .filter(|index| index.valid && renamed.iter().any(|renamed| index.columns.contains(&renamed.from)))
        .filter_map(|index| {
            let tail = rename_in_index(&index.definition, new_name)?;
            let name = |table: &QualifiedName, of: &[&str]| {
                let parts: Vec<&str> = [HIDDEN, &version].into_iter().chain(of.iter().copied()).collect();
                QualifiedName::new(table.schema.clone(), Ident::derived(&parts))
            };
            let whole = name(&known.name, &[index.name.as_str()]);
            let Some(partitions) = &known.partitions else {
                return Some(vec![create_index::concurrent(&known.name, &whole, false, &tail)]);
            };
            let leaves = partitions
                .leaves
                .iter()
                .map(|leaf| name(&leaf.name, &[index.name.as_str(), leaf.name.name.as_str()]));
            let names: Vec<QualifiedName> = leaves.collect();
            Some(partitioned_index::partitioned_index(&known.name, partitions, &names, &whole, false, &tail))
        })
        .flatten()
        .collect()
}

/// The batch UPDATE that brings all of the table's mappings up to date at once.
fn job(draft: &Draft<'_>, work: &TableDraft, mappings: &[Mapping], repairs: &[Repair]) -> Option<Job> {
    let table = &work.name;
    let quiet = is_quiet(work);
    let ups: Vec<&Mapping> = mappings.iter().filter(|mapping| mapping.has_up()).collect();
    let alone = ups.len() + repairs.len() == 1;
    (!ups.is_empty() || !repairs.is_empty()).then(|| {
        let with_repairs = |parts: Vec<String>| {
            parts.into_iter().chain(repairs.iter().map(Repair::need)).collect::<Vec<_>>().join(" OR ")
        };
        let sets = ups.iter().flat_map(|mapping| mapping.batch_set(alone));
        let sets = sets.chain(repairs.iter().flat_map(|repair| repair.batch_set(alone)));
        Job {
            id: format!("m{}:{}", draft.file.version.number(), table.plain()),
            table: table.clone(),
            work: Work::Convert(Convert {
                set: sets.collect::<Vec<_>>().join(", "),
                need: with_repairs(ups.iter().map(|mapping| mapping.batch_need()).collect()),
                wrong: with_repairs(ups.iter().map(|mapping| mapping.wrong(Shape::Open)).collect()),
                wrong_sealed: with_repairs(ups.iter().map(|mapping| mapping.wrong(Shape::Sealed)).collect()),
                resync: ups.iter().flat_map(|mapping| mapping.resync()).collect::<Vec<_>>().join(", "),
                need_resync: ups.iter().map(|mapping| mapping.need_resync()).collect::<Vec<_>>().join(" OR "),
                skip: draft.file.version.number().to_string(),
                quiet,
            }),
        }
    })
}

/// Whether no statement of the file updates rows of the table.
fn is_quiet(work: &TableDraft) -> bool {
    work.repairs.is_empty() && work.added.iter().all(|added| added.filled.is_none())
}

/// The user's triggers that a backfill would fire and psql would not.
fn fired<'a>(work: &TableDraft, known: &'a Table, mappings: &[Mapping]) -> impl Iterator<Item = &'a Trigger> {
    let fires = is_quiet(work) && mappings.iter().any(Mapping::has_up);
    known.triggers.iter().filter(move |trigger| fires && trigger.on_update && trigger.enabled == "O")
}

/// Keeps their hands off the rows.
fn keep(draft: &Draft<'_>, work: &TableDraft, known: &Table, mappings: &[Mapping]) -> Option<Keep> {
    let version = draft.file.version.number();
    fired(work, known, mappings).any(|trigger| trigger.before_row).then(|| Keep {
        id: format!("m{version}_k{}", known.oid),
        version: version.to_string(),
        ledger: draft.settings.ledger.clone(),
        table: work.name.clone(),
        columns: mappings
            .iter()
            .filter(|mapping| mapping.has_up())
            .flat_map(|mapping| mapping.new.iter().map(|new| new.column.name.clone()))
            .collect(),
    })
}

/// What an abort would throw away: values of new columns that the old shape does not hold.
fn losses(work: &TableDraft, mappings: &[Mapping]) -> Vec<Loss> {
    mappings
        .iter()
        .filter(|mapping| mapping.has_up() && (mapping.evidence || mapping.old.is_empty()))
        .map(|mapping| {
            let names: Vec<&str> = mapping.new.iter().map(|new| new.column.name.as_str()).collect();
            Loss {
                what: format!(
                    "values in {} ({}) that the old columns do not hold",
                    work.name.plain(),
                    names.join(", ")
                ),
                count: format!("SELECT count(*) FROM {} WHERE {}", work.name, mapping.not_held()),
                blocks: false,
            }
        })
        .collect()
}

fn moving(mappings: &[Mapping], work: &TableDraft) -> Vec<(Ident, Role)> {
    let renamed = |name: &Ident| work.renamed.iter().any(|renamed| &renamed.to == name);
    let repaired = work
        .repairs
        .iter()
        .flat_map(|repair| &repair.columns)
        .map(|column| (column.name.clone(), Role::Read));
    mappings
        .iter()
        .flat_map(|mapping| {
            let new = mapping.new.iter().map(|new| {
                let role = if renamed(&new.column.name) { Role::Shadow } else { Role::Computed };
                (new.column.name.clone(), role)
            });
            let old = mapping.old.iter().map(|old| (old.column.name.clone(), Role::Leaves));
            let others = mapping.others.iter().map(|other| (other.column.name.clone(), Role::Followed));
            new.chain(old).chain(others).collect::<Vec<_>>()
        })
        .chain(repaired)
        .collect()
}
