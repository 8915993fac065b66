//! Puts the changes of one table together: which columns form a mapping, what the table's transactions in expand,
//! seal and drop hold.

use std::collections::BTreeSet;

use crate::decide::change::create_index;
use crate::decide::draft::{Added, Draft, Filled, Renamed, Role, TableDraft, install, table_step};
use crate::decide::plan::{Job, Loss, Mode, SealedColumn, Step};
use crate::decide::sync::{DefaultKind, Down, Mapping, NewSide, OldSide, Other, Shape, Typed, Up};
use crate::model::catalog::{Catalog, Column, Table};
use crate::model::problem::Problem;
use crate::model::sql::{Expression, rename_in_index};
use crate::words::ident::{Ident, QualifiedName};

/// What one table adds to the plan.
pub(crate) struct Parts {
    pub(crate) expand: Step,
    pub(crate) settle: Vec<Step>,
    pub(crate) restrict: Vec<Step>,
    pub(crate) seal: Option<Step>,
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
    before: &Catalog,
    count: &mut usize,
) -> Result<Parts, Problem> {
    let table = &work.name;
    let known = before.table(table).cloned().unwrap_or_else(|| empty(table));
    check_downs(work, &known)?;
    let mappings = mappings(draft, work, &known, count);
    let mut expand = Vec::new();
    let mut columns = Vec::new();
    for added in &work.added {
        expand.extend(add_column(draft, table, added)?);
        let mut column = Column::added(&added.column);
        if added.filled.is_some() {
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
    let (create, remove) = install(&mappings);
    expand.extend(create);
    let mut undo = remove.clone();
    undo.extend(
        columns.iter().map(|column| format!("ALTER TABLE {table} DROP COLUMN IF EXISTS {}", column.name)),
    );
    let restrict = work
        .added
        .iter()
        .filter(|a| a.filled.is_some() && a.column.not_null)
        .flat_map(|a| not_null(draft, table, a))
        .collect();
    let seal = seal(draft, work, &mappings);
    draft.losses.extend(losses(work, &mappings));
    let mut drop_sql = remove;
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
    draft.warnings.extend(warnings);
    Ok(Parts {
        expand: table_step(table, format!("expand {}", table.plain()), expand, undo),
        settle,
        restrict,
        seal: step(format!("seal the old shape of {}", table.plain()), seal.sql, seal.undo),
        drop: step(format!("drop the old shape of {}", table.plain()), drop_sql, Vec::new()),
        job: job(draft, table, &mappings),
        sealed: seal.hidden,
        moving: moving(&mappings, work),
        columns,
    })
}

fn empty(name: &QualifiedName) -> Table {
    Table {
        oid: 0,
        name: name.clone(),
        kind: "r".to_owned(),
        persistence: "p".to_owned(),
        inherits: false,
        extension: None,
        row_security_forced: false,
        columns: Vec::new(),
        indexes: Vec::new(),
        dependants: Vec::new(),
        triggers: Vec::new(),
    }
}

/// ADD COLUMN as it may run while old code writes.
fn add_column(draft: &mut Draft<'_>, table: &QualifiedName, added: &Added) -> Result<Vec<String>, Problem> {
    let column = &added.column;
    let head =
        format!("ALTER TABLE {table} ADD COLUMN {} {}{}", column.name, column.type_sql, column.collation);
    let serial = ["serial", "bigserial", "smallserial", "serial2", "serial4", "serial8"];
    if serial.contains(&column.type_sql.to_ascii_lowercase().as_str()) {
        return Err(Problem::unsupported(added.span.clone(), &format!("ADD COLUMN … {}", column.type_sql)));
    }
    if added.filled.is_some() {
        return Ok(vec![head]);
    }
    let default = column.default.as_ref().map(|default| default.expression.text());
    if column.not_null && (default.is_none() || added.default_later) {
        return Err(Problem::new(
            "not-null-unfilled",
            added.span.clone(),
            format!("`{}` is NOT NULL, but nothing gives the rows that exist a value", column.name.as_str()),
            "this column",
        )
        .help(format!(
            "give ADD COLUMN a DEFAULT, or fill it: `UPDATE {table} SET {} = <expression>;`",
            column.name
        )));
    }
    let stored = default.map_or_else(
        || format!("{} IS NOT NULL", column.name),
        |default| {
            let differs =
                format!("ROW({0})::record *<> ROW(({default})::{1})::record", column.name, column.type_sql);
            // A default of the moment cannot be told from a value that was given.
            if column.default.as_ref().is_some_and(|default| default.expression.functions().is_empty()) {
                differs
            } else {
                "false".to_owned()
            }
        },
    );
    draft.losses.push(Loss {
        what: format!("values in {}.{}", table.plain(), column.name.as_str()),
        count: format!("SELECT count(*) FROM {table} WHERE {stored}"),
    });
    let not_null = if column.not_null { " NOT NULL" } else { "" };
    Ok(match default {
        Some(default) if added.default_later => {
            vec![head, format!("ALTER TABLE {table} ALTER COLUMN {} SET DEFAULT {default}", column.name)]
        }
        Some(default) => vec![format!("{head} DEFAULT {default}{not_null}")],
        None => vec![head],
    })
}

/// A `down` may read columns that stay, and new columns that something fills.
fn check_downs(work: &TableDraft, known: &Table) -> Result<(), Problem> {
    for dropped in &work.dropped {
        let Some(down) = &dropped.down else { continue };
        for column in down.columns() {
            let added = work.added.iter().find(|added| added.column.name == column);
            let gone = work.dropped.iter().any(|other| other.column == column);
            let gone = gone || work.renamed.iter().any(|renamed| renamed.from == column);
            let stays = known.column(&column).is_some_and(|known| !known.generated) && !gone;
            let title = match added {
                Some(added) if added.filled.is_none() => {
                    format!("`{}` is read by `down`, but nothing fills it", column.as_str())
                }
                None if !stays => {
                    format!("`down` reads `{}`, which is no column that stays", column.as_str())
                }
                _ => continue,
            };
            return Err(Problem::new("down-source", down.span.clone(), title, "read here")
                .and(dropped.span.clone(), "for this column")
                .help(format!(
                    "fill it from the old columns: `UPDATE {} SET {column} = <expression>;`",
                    work.name
                )));
        }
        if let Some(unknown) = down.qualifiers().into_iter().find(|qualifier| qualifier != &work.name.name) {
            return Err(Problem::new(
                "unknown-name",
                down.span.clone(),
                format!("`{}` is not this table", unknown.as_str()),
                "here",
            ));
        }
    }
    Ok(())
}

/// Groups the columns into mappings: new and old columns that compute each other belong together.
fn mappings(draft: &Draft<'_>, work: &TableDraft, known: &Table, count: &mut usize) -> Vec<Mapping> {
    let filled: Vec<(&Added, &Filled)> =
        work.added.iter().filter_map(|added| added.filled.as_ref().map(|filled| (added, filled))).collect();
    let mut groups: Vec<(BTreeSet<Ident>, BTreeSet<Ident>)> = Vec::new();
    for dropped in &work.dropped {
        let Some(down) = &dropped.down else { continue };
        let reads = down.columns();
        let mut group = (BTreeSet::new(), BTreeSet::from([dropped.column.clone()]));
        for (added, filled) in &filled {
            let computed = filled.fill.is_none();
            if computed && (reads.contains(&added.column.name) || filled.reads.contains(&dropped.column)) {
                group.0.insert(added.column.name.clone());
            }
        }
        // Merge with every group that shares a new column.
        let (shared, apart): (Vec<_>, Vec<_>) =
            groups.into_iter().partition(|other| !other.0.is_disjoint(&group.0));
        for other in shared {
            group.0.extend(other.0);
            group.1.extend(other.1);
        }
        groups = apart;
        groups.push(group);
    }
    for (added, _) in &filled {
        if !groups.iter().any(|group| group.0.contains(&added.column.name)) {
            groups.push((BTreeSet::from([added.column.name.clone()]), BTreeSet::new()));
        }
    }
    // An old column without `down` goes with whatever reads it, else it stands alone, for the evidence only.
    for dropped in work.dropped.iter().filter(|dropped| dropped.down.is_none()) {
        let mut read = false;
        for group in &mut groups {
            let reads = filled.iter().any(|(added, filled)| {
                group.0.contains(&added.column.name) && filled.reads.contains(&dropped.column)
            });
            if reads {
                group.1.insert(dropped.column.clone());
                read = true;
            }
        }
        if !read {
            groups.push((BTreeSet::new(), BTreeSet::from([dropped.column.clone()])));
        }
    }
    let version = draft.file.version.number().to_string();
    let mut mapping = |new: Vec<NewSide>, old: Vec<OldSide>| {
        *count += 1;
        let mut mapping = Mapping {
            id: format!("m{version}_{count}"),
            version: version.clone(),
            ledger: draft.settings.ledger.clone(),
            table: work.name.clone(),
            new,
            old,
            others: Vec::new(),
        };
        mapping.others = others(&mapping, work, known);
        mapping
    };
    let mut mappings = Vec::new();
    for (new, old) in groups {
        let new = filled
            .iter()
            .filter(|(added, _)| new.contains(&added.column.name))
            .map(|(added, filled)| new_side(added, filled))
            .collect();
        let old = work.dropped.iter().filter(|dropped| old.contains(&dropped.column)).filter_map(|dropped| {
            let column = known.column(&dropped.column)?;
            Some(OldSide {
                column: typed(column),
                down: dropped.down.as_ref().map(|down| down_of(down, known)),
                not_null: column.not_null,
                sealed_name: hidden_name(&version, &dropped.column),
                default: default_kind(column),
            })
        });
        mappings.push(mapping(new, old.collect()));
    }
    for renamed in &work.renamed {
        let Some(column) = known.column(&renamed.from) else { continue };
        let reads = |name: &Ident| BTreeSet::from([name.clone()]);
        let new = NewSide {
            column: Typed { name: renamed.to.clone(), type_sql: column.type_sql.clone() },
            up: Up::Computed {
                on_insert: None,
                expression: renamed.from.to_string(),
                reads: reads(&renamed.from),
                may_raise: false,
            },
            sealed_name: hidden_name(&version, &renamed.to),
        };
        let old = OldSide {
            column: typed(column),
            down: Some(Down {
                expression: renamed.to.to_string(),
                reads: reads(&renamed.to),
                may_raise: false,
            }),
            sealed_name: renamed.to.clone(),
            default: default_kind(column),
            not_null: column.not_null,
        };
        mappings.push(mapping(vec![new], vec![old]));
    }
    mappings
}

fn down_of(down: &Expression, known: &Table) -> Down {
    Down {
        expression: down.replaced(|column| known.collated(column)),
        reads: down.columns(),
        may_raise: down.may_raise(),
    }
}

fn new_side(added: &Added, filled: &Filled) -> NewSide {
    let up = match &filled.fill {
        None => Up::Computed {
            on_insert: added.column.default.as_ref().map(|default| default.expression.text().to_owned()),
            expression: filled.expression.clone(),
            reads: filled.reads.clone(),
            may_raise: filled.may_raise,
        },
        Some(condition) => Up::Fill {
            expression: filled.expression.clone(),
            reads: filled.reads.clone(),
            condition: condition.clone(),
            on_insert: added.column.default.as_ref().map(|default| default.expression.text().to_owned()),
            may_raise: filled.may_raise,
        },
    };
    let column = Typed { name: added.column.name.clone(), type_sql: added.column.type_sql.clone() };
    NewSide { sealed_name: column.name.clone(), column, up }
}

fn typed(column: &Column) -> Typed {
    Typed { name: column.name.clone(), type_sql: column.type_sql.clone() }
}

fn default_kind(column: &Column) -> DefaultKind {
    match &column.default {
        Some(default) if column.constant_default => DefaultKind::Constant(default.clone()),
        Some(_) => DefaultKind::Volatile,
        None if column.identity => DefaultKind::Volatile,
        None => DefaultKind::None,
    }
}

/// Columns that the mapping's expressions read and that belong to neither of its sides.
fn others(mapping: &Mapping, work: &TableDraft, known: &Table) -> Vec<Other> {
    let mut reads: BTreeSet<Ident> = mapping.new.iter().flat_map(|new| new.up.reads().clone()).collect();
    reads.extend(mapping.old.iter().filter_map(|old| old.down.as_ref()).flat_map(|down| down.reads.clone()));
    let own: BTreeSet<Ident> = mapping.columns().into_iter().map(|column| column.name).collect();
    reads
        .difference(&own)
        .filter_map(|name| {
            let added = work.added.iter().find(|added| &added.column.name == name);
            let added =
                added.map(|added| Typed { name: name.clone(), type_sql: added.column.type_sql.clone() });
            let column = known.column(name).map(typed).or(added)?;
            // Another mapping of the file may hide it.
            let dropped = work.dropped.iter().any(|dropped| &dropped.column == name);
            let sealed_name = if dropped { hidden_name(&mapping.version, name) } else { name.clone() };
            Some(Other { column, sealed_name })
        })
        .collect()
}

/// The name under which the seal hides a column.
fn hidden_name(version: &str, column: &Ident) -> Ident {
    Ident::derived(&["_pontoon", version, column.as_str()])
}

/// NOT NULL without a scan under a lock that anyone waits behind: a check proves it first.
fn not_null(draft: &Draft<'_>, table: &QualifiedName, added: &Added) -> Vec<Step> {
    let column = &added.column.name;
    let check = not_null_check(draft, column);
    let require = Step {
        id: String::new(),
        title: format!("see that {}.{} has no null", table.plain(), column.as_str()),
        mode: Mode::Require {
            table: table.clone(),
            predicate: format!("{column} IS NULL"),
            says: format!("{}.{} is to become NOT NULL and is null", table.plain(), column.as_str()),
        },
        sql: Vec::new(),
        undo: Vec::new(),
        locks: Vec::new(),
        scans: true,
    };
    let add = table_step(
        table,
        format!("check {}.{} for new rows", table.plain(), column.as_str()),
        vec![format!("ALTER TABLE {table} ADD CONSTRAINT {check} CHECK ({column} IS NOT NULL) NOT VALID")],
        vec![format!("ALTER TABLE {table} DROP CONSTRAINT IF EXISTS {check}")],
    );
    let validate = Step {
        id: String::new(),
        title: format!("validate it for all rows of {}", table.plain()),
        mode: Mode::Transaction,
        sql: vec![format!("ALTER TABLE {table} VALIDATE CONSTRAINT {check}")],
        undo: Vec::new(),
        locks: vec![crate::decide::plan::TableLock {
            table: table.clone(),
            mode: crate::words::lock_mode::LockMode::ShareUpdateExclusive,
        }],
        scans: true,
    };
    vec![require, add, validate]
}

fn not_null_check(draft: &Draft<'_>, column: &Ident) -> Ident {
    Ident::derived(&["_pontoon", &draft.file.version.number().to_string(), column.as_str(), "not_null"])
}

/// Defaults and NOT NULL of filled columns, the renames that hide the old shape, and triggers under the new names.
fn seal(draft: &Draft<'_>, work: &TableDraft, mappings: &[Mapping]) -> Seal {
    let table = &work.name;
    let mut seal = Seal::default();
    for added in work.added.iter().filter(|added| added.filled.is_some()) {
        let name = &added.column.name;
        if added.column.not_null {
            let check = not_null_check(draft, name);
            // Two statements: in one, the check would go first and SET NOT NULL would have to scan.
            seal.sql.push(format!("ALTER TABLE {table} ALTER COLUMN {name} SET NOT NULL"));
            seal.sql.push(format!("ALTER TABLE {table} DROP CONSTRAINT {check}"));
            seal.undo.push(format!("ALTER TABLE {table} ALTER COLUMN {name} DROP NOT NULL"));
        }
        if let Some(default) = &added.column.default {
            seal.sql.push(format!(
                "ALTER TABLE {table} ALTER COLUMN {name} SET DEFAULT {}",
                default.expression.text()
            ));
            seal.undo.push(format!("ALTER TABLE {table} ALTER COLUMN {name} DROP DEFAULT"));
        }
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
            kept_current: dropped.down.is_some(),
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
        });
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
            let name = Ident::derived(&["_pontoon", &version, index.name.as_str()]);
            let name = QualifiedName::new(known.name.schema.clone(), name);
            Some(create_index::concurrent(&known.name, &name, false, &tail))
        })
        .collect()
}

/// The batch UPDATE that brings all of the table's mappings up to date at once.
fn job(draft: &Draft<'_>, table: &QualifiedName, mappings: &[Mapping]) -> Option<Job> {
    let ups: Vec<&Mapping> = mappings.iter().filter(|mapping| mapping.has_up()).collect();
    (!ups.is_empty()).then(|| {
        let join = |parts: Vec<String>| parts.join(" OR ");
        Job {
            id: format!("m{}:{}", draft.file.version.number(), table.plain()),
            table: table.clone(),
            set: ups
                .iter()
                .flat_map(|mapping| mapping.batch_set(ups.len() == 1))
                .collect::<Vec<_>>()
                .join(", "),
            need: join(ups.iter().map(|mapping| mapping.batch_need()).collect()),
            wrong: join(ups.iter().map(|mapping| mapping.wrong(Shape::Open)).collect()),
            wrong_sealed: join(ups.iter().map(|mapping| mapping.wrong(Shape::Sealed)).collect()),
            skip: draft.file.version.number().to_string(),
        }
    })
}

/// What an abort would throw away: values of new columns that the old shape does not hold.
fn losses(work: &TableDraft, mappings: &[Mapping]) -> Vec<Loss> {
    mappings
        .iter()
        .filter(|mapping| mapping.has_up())
        .map(|mapping| {
            let names: Vec<&str> = mapping.new.iter().map(|new| new.column.name.as_str()).collect();
            Loss {
                what: format!(
                    "values in {} ({}) that the old columns do not hold",
                    work.name.plain(),
                    names.join(", ")
                ),
                count: format!("SELECT count(*) FROM {} WHERE {}", work.name, mapping.not_held()),
            }
        })
        .collect()
}

fn moving(mappings: &[Mapping], work: &TableDraft) -> Vec<(Ident, Role)> {
    let renamed = |name: &Ident| work.renamed.iter().any(|renamed| &renamed.to == name);
    mappings
        .iter()
        .flat_map(|mapping| {
            let new = mapping.new.iter().map(|new| {
                let role = if renamed(&new.column.name) { Role::Leaves } else { Role::Computed };
                (new.column.name.clone(), role)
            });
            let old = mapping.old.iter().map(|old| (old.column.name.clone(), Role::Leaves));
            let others = mapping.others.iter().map(|other| (other.column.name.clone(), Role::Read));
            new.chain(old).chain(others).collect::<Vec<_>>()
        })
        .collect()
}
