//! From the statements of a file to a plan: each kind of change adds its part to the draft, the draft orders the parts
//! into phases and steps.

use std::collections::BTreeSet;
use std::ops::Range;

use crate::decide::change;
use crate::decide::plan::{ChangeLine, FORMAT, Job, Loss, Mode, Plan, Step, TableLock};
use crate::decide::sync::{Mapping, Shape};
use crate::model::catalog::Catalog;
use crate::model::migration::MigrationFile;
use crate::model::problem::{Problem, Problems};
use crate::model::sql::{Expression, Name, NewColumn, Statement};
use crate::words::ident::{Ident, QualifiedName};
use crate::words::lock_mode::LockMode;
use crate::words::version::Version;

/// What the planner is told besides the file and the catalog.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    /// The schema of the ledger.
    pub(crate) ledger: Ident,
    pub(crate) search_path: Vec<Ident>,
}

/// A column that an earlier migration, expanded and not yet contracted, is still moving.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Moving {
    pub(crate) version: Version,
    pub(crate) table: QualifiedName,
    pub(crate) column: Ident,
    pub(crate) role: Role,
}

/// What a migration in flight does with a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// It goes away or changes its name.
    Leaves,
    /// It is computed by sync triggers.
    Computed,
    /// It is only read.
    Read,
}

/// What a change does with a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Touch {
    /// Builds an index on it.
    Index,
    /// Computes another column from it.
    Read,
    /// Adds, fills, renames or drops it.
    Change,
}

/// The phase a change ends in, in the order the phases run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    Expand,
    Backfill,
    Contract,
}

/// A plan in the making.
pub(crate) struct Draft<'a> {
    pub(crate) file: &'a MigrationFile,
    pub(crate) settings: &'a Settings,
    /// The catalog as the file sees it at this line.
    pub(crate) catalog: Catalog,
    moving: &'a [Moving],
    changes: Vec<ChangeLine>,
    pub(crate) warnings: Vec<String>,
    /// Tables that the file itself creates.
    pub(crate) created: BTreeSet<QualifiedName>,
    expand: Vec<Placed>,
    pub(crate) tables: Vec<TableDraft>,
    settle: Vec<Step>,
    restrict: Vec<Step>,
    as_written_contract: Vec<Step>,
    pub(crate) losses: Vec<Loss>,
    claims: Vec<Claim>,
    /// Identifiers in statements that run as written.
    mentions: BTreeSet<String>,
    at: usize,
}

/// A step of expand with the statement it stands for and the names it mentions.
struct Placed {
    at: usize,
    words: BTreeSet<String>,
    step: Step,
}

/// What one change touches, to find statements that would run in another order than they were written.
struct Claim {
    phase: Phase,
    span: Range<usize>,
    table: QualifiedName,
    column: Ident,
}

/// Everything that happens to one existing table.
pub(crate) struct TableDraft {
    pub(crate) name: QualifiedName,
    /// The first statement on the table, and the last, after which its transaction runs.
    first: usize,
    position: usize,
    pub(crate) added: Vec<Added>,
    pub(crate) dropped: Vec<Dropped>,
    pub(crate) renamed: Vec<Renamed>,
}

/// A column that the file adds.
pub(crate) struct Added {
    pub(crate) column: NewColumn,
    pub(crate) span: Range<usize>,
    /// What an UPDATE of the file computes for it.
    pub(crate) filled: Option<Filled>,
    /// Whether the default came after ADD COLUMN, so that rows which exist do not get it.
    pub(crate) default_later: bool,
}

/// The value that the UPDATEs of a file give a column, in terms of columns that exist before the file.
#[derive(Clone)]
pub(crate) struct Filled {
    pub(crate) expression: String,
    pub(crate) reads: BTreeSet<Ident>,
    pub(crate) may_raise: bool,
    /// A fill (given once where null) rather than a mapping; with the WHERE that limits it.
    pub(crate) fill: Option<Option<String>>,
}

/// A column that the file drops.
pub(crate) struct Dropped {
    pub(crate) column: Ident,
    pub(crate) down: Option<Expression>,
    pub(crate) span: Range<usize>,
}

/// A column that the file renames.
pub(crate) struct Renamed {
    pub(crate) from: Ident,
    pub(crate) to: Ident,
}

/// Compiles a file into a plan. Gives the catalog as it is after the plan's expand, for the file that comes next.
///
/// # Errors
/// Every statement that is not supported, would run in another order than written, or does not fit the catalog.
pub(crate) fn compile(
    file: &MigrationFile,
    catalog: &Catalog,
    moving: &[Moving],
    settings: &Settings,
) -> Result<(Plan, Catalog, Vec<Moving>), Problems> {
    let mut draft = Draft {
        file,
        settings,
        catalog: catalog.clone(),
        moving,
        changes: Vec::new(),
        warnings: Vec::new(),
        created: BTreeSet::new(),
        expand: Vec::new(),
        tables: Vec::new(),
        settle: Vec::new(),
        restrict: Vec::new(),
        as_written_contract: Vec::new(),
        losses: Vec::new(),
        claims: Vec::new(),
        mentions: BTreeSet::new(),
        at: 0,
    };
    let mut problems = Vec::new();
    for (at, statement) in file.statements.iter().enumerate() {
        draft.at = at;
        if let Err(found) = change::plan(&mut draft, statement) {
            problems.extend(found);
        }
    }
    if problems.is_empty() {
        match draft.finish(catalog) {
            Ok(done) => return Ok(done),
            Err(problem) => problems.push(problem),
        }
    }
    Err(Problems { source_file: file.source.clone(), problems })
}

impl Draft<'_> {
    /// Resolves a name that must exist.
    pub(crate) fn existing(&self, name: &Name) -> Result<QualifiedName, Problem> {
        self.catalog.resolve(name, &self.settings.search_path).ok_or_else(|| {
            let path: Vec<&str> = self.settings.search_path.iter().map(Ident::as_str).collect();
            Problem::new(
                "unknown-name",
                name.span.clone(),
                format!("there is no table `{}`", name.name.as_str()),
                "here",
            )
            .help(format!(
                "names without a schema are looked up in: {} (setting `search_path`)",
                path.join(", ")
            ))
        })
    }

    /// The full name of an object that the file creates.
    pub(crate) fn new_name(&self, name: &Name) -> QualifiedName {
        let first = || self.settings.search_path.first().cloned().unwrap_or_else(|| Ident::new("public"));
        QualifiedName::new(name.schema.clone().unwrap_or_else(first), name.name.clone())
    }

    /// Records what becomes of a change.
    pub(crate) fn note(&mut self, span: &Range<usize>, what: impl Into<String>, becomes: impl Into<String>) {
        let line = self.file.source.line(span.start);
        self.changes.push(ChangeLine { line, what: what.into(), becomes: becomes.into() });
    }

    /// Records that a change touches a column in a phase. A later statement must not run in an earlier phase than
    /// one it shares a name with, and nobody touches what another migration is still moving.
    pub(crate) fn claim(
        &mut self,
        phase: Phase,
        touch: Touch,
        span: &Range<usize>,
        table: &QualifiedName,
        column: &Ident,
    ) -> Result<(), Problem> {
        let in_the_way = |role: Role| match (touch, role) {
            (Touch::Index, Role::Leaves)
            | (Touch::Read, Role::Leaves | Role::Computed)
            | (Touch::Change, _) => true,
            (Touch::Index, Role::Computed | Role::Read) | (Touch::Read, Role::Read) => false,
        };
        let other = self
            .moving
            .iter()
            .find(|moving| &moving.table == table && &moving.column == column && in_the_way(moving.role));
        if let Some(other) = other {
            return Err(in_flight(span, other));
        }
        // Two changes of one name in contract would meet each other's names: drop and rename to it, rename twice.
        let clash = self.claims.iter().find(|claim| {
            let twice = phase == Phase::Contract && claim.phase == Phase::Contract && touch == Touch::Change;
            (claim.phase > phase || twice) && &claim.table == table && &claim.column == column
        });
        if let Some(clash) = clash {
            return Err(out_of_order(span, &clash.span));
        }
        self.claims.push(Claim { phase, span: span.clone(), table: table.clone(), column: column.clone() });
        Ok(())
    }

    /// The same for a statement that is run as written: it is held against the names in its text.
    fn claim_words(&self, statement: &Statement) -> Result<(), Problem> {
        // `SELECT *` names every column.
        let star = statement.text.contains('*');
        let names = |table: &QualifiedName, column: &Ident| {
            statement.words.contains(table.name.as_str())
                && (star || statement.words.contains(column.as_str()))
        };
        let leaves = |moving: &&Moving| moving.role == Role::Leaves && names(&moving.table, &moving.column);
        if let Some(other) = self.moving.iter().find(leaves) {
            return Err(in_flight(&statement.span, other));
        }
        let clash = self
            .claims
            .iter()
            .find(|claim| claim.phase > Phase::Backfill && names(&claim.table, &claim.column));
        clash.map_or(Ok(()), |clash| Err(out_of_order(&statement.span, &clash.span)))
    }

    /// Runs a statement as written in expand.
    pub(crate) fn run_in_expand(
        &mut self,
        statement: &Statement,
        title: String,
        undo: Vec<String>,
        mut locks: Vec<TableLock>,
    ) -> Result<(), Problem> {
        self.claim_words(statement)?;
        // The triggers of a foreign key are made on both tables.
        for name in &statement.references {
            let Some(table) = self.catalog.resolve(name, &self.settings.search_path) else { continue };
            if !self.created.contains(&table) {
                locks.push(TableLock { table, mode: LockMode::ShareRowExclusive });
            }
        }
        let step = Step {
            id: String::new(),
            title,
            mode: Mode::Transaction,
            sql: vec![statement.text.clone()],
            undo,
            locks,
            scans: false,
        };
        self.expand.push(Placed { at: self.at, words: statement.words.clone(), step });
        self.mentions.extend(statement.words.iter().cloned());
        Ok(())
    }

    /// Runs a statement as written at the end of contract.
    pub(crate) fn run_in_contract(&mut self, statement: &Statement, title: String) {
        self.as_written_contract.push(Step {
            id: String::new(),
            title,
            mode: Mode::Transaction,
            sql: vec![statement.text.clone()],
            undo: Vec::new(),
            locks: Vec::new(),
            scans: false,
        });
    }

    /// Adds a step that builds an index in a phase.
    pub(crate) fn build_index(&mut self, phase: Phase, step: Step) {
        match phase {
            Phase::Expand => {
                let words = step.locks.iter().map(|lock| lock.table.name.as_str().to_owned()).collect();
                self.expand.push(Placed { at: self.at, words, step });
            }
            Phase::Backfill => self.settle.push(step),
            Phase::Contract => self.restrict.push(step),
        }
    }

    /// The part of the draft for a table, which its first transaction follows this statement at the earliest.
    pub(crate) fn table(&mut self, name: &QualifiedName) -> &mut TableDraft {
        let at = self.at;
        let found = self.tables.iter().position(|table| &table.name == name);
        let index = found.unwrap_or_else(|| {
            let fresh = TableDraft {
                name: name.clone(),
                first: at,
                position: at,
                added: Vec::new(),
                dropped: Vec::new(),
                renamed: Vec::new(),
            };
            self.tables.push(fresh);
            self.tables.len() - 1
        });
        let table = &mut self.tables[index];
        table.position = at;
        table
    }

    /// The column of that name which this file adds to the table.
    pub(crate) fn added(&mut self, table: &QualifiedName, column: &Ident) -> Option<&mut Added> {
        let table = self.tables.iter_mut().find(|draft| &draft.name == table)?;
        table.added.iter_mut().find(|added| &added.column.name == column)
    }

    /// Puts everything in order.
    fn finish(mut self, before: &Catalog) -> Result<(Plan, Catalog, Vec<Moving>), Problem> {
        let version = self.file.version;
        let (mut seal, mut drop, mut jobs, mut sealed) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let mut added = Vec::new();
        let (mut after, mut moving) = (before.clone(), Vec::new());
        let mut count = 0;
        let tables = std::mem::take(&mut self.tables);
        for table in &tables {
            let parts = change::table::assemble(&mut self, table, before, &mut count)?;
            // What stands between the table's first and last statement and speaks of the table needs its columns.
            for placed in
                self.expand.iter_mut().filter(|placed| placed.words.contains(table.name.name.as_str()))
            {
                if placed.at >= table.first {
                    placed.at = placed.at.max(table.position + 1);
                }
            }
            self.expand.push(Placed { at: table.position, words: BTreeSet::new(), step: parts.expand });
            self.settle.extend(parts.settle);
            self.restrict.extend(parts.restrict);
            seal.extend(parts.seal);
            drop.extend(parts.drop);
            jobs.extend(parts.job);
            sealed.extend(parts.sealed);
            moving.extend(parts.moving.into_iter().map(|(column, role)| Moving {
                version,
                table: table.name.clone(),
                column,
                role,
            }));
            added.extend(
                parts.columns.iter().map(|column| format!("{}.{}", table.name.plain(), column.name.as_str())),
            );
            if let Some(model) = after.table_mut(&table.name) {
                model.columns.extend(parts.columns);
            }
        }
        for table in self.catalog.tables.iter().filter(|table| self.created.contains(&table.name)) {
            after.tables.push(table.clone());
        }
        after.relations.extend(
            self.catalog
                .relations
                .iter()
                .filter(|r| !before.relations.iter().any(|b| b.name == r.name))
                .cloned(),
        );
        after.objects.extend(self.catalog.objects.iter().cloned());
        if !jobs.is_empty() {
            for job in &jobs {
                let job: &Job = job;
                self.settle.push(analyze(&job.table));
            }
        }
        drop.extend(std::mem::take(&mut self.as_written_contract));
        self.expand.sort_by_key(|placed| placed.at);
        let expand = self.expand.into_iter().map(|placed| placed.step).collect();
        let mut adds: Vec<String> = self.created.iter().map(QualifiedName::plain).collect();
        let objects = self.catalog.objects.difference(&before.objects);
        adds.extend(objects.filter_map(|object| object.split_once(':')).map(|(_, name)| name.to_owned()));
        let uses = self
            .claims
            .iter()
            .map(|claim| format!("{}.{}", claim.table.plain(), claim.column.as_str()))
            .collect();
        let mentions = std::mem::take(&mut self.mentions);
        adds.extend(added);
        let touches = moving.iter().map(|moving| (moving.table.plain(), moving.column.clone())).collect();
        let names: Vec<QualifiedName> = tables.iter().map(|table| table.name.clone()).collect();
        let plan = Plan {
            format: FORMAT,
            version,
            name: self.file.name.clone(),
            checksum: self.file.checksum.clone(),
            search_path: self.settings.search_path.clone(),
            serve_expanded: self.file.options.serve_expanded,
            soak_seconds: self.file.options.soak.map(|soak| soak.as_secs()),
            changes: self.changes,
            warnings: self.warnings,
            before: before.shape(&names),
            tables: names,
            touches,
            adds,
            uses,
            mentions,
            expand: numbered("expand", expand),
            jobs,
            settle: numbered("settle", self.settle),
            restrict: numbered("restrict", self.restrict),
            seal: numbered("seal", seal),
            drop: numbered("drop", drop),
            sealed,
            losses: self.losses,
        };
        Ok((plan, after, moving))
    }
}

fn numbered(phase: &str, steps: Vec<Step>) -> Vec<Step> {
    steps
        .into_iter()
        .enumerate()
        .map(|(at, step)| Step { id: format!("{phase}-{}", at + 1), ..step })
        .collect()
}

fn in_flight(span: &Range<usize>, other: &Moving) -> Problem {
    let version = other.version;
    let title =
        format!("migration {version} is still moving `{}.{}`", other.table.plain(), other.column.as_str());
    Problem::new("in-flight", span.clone(), title, "this would change it under its feet")
        .help(format!("contract it first: `migrate contract {version}`"))
}

fn out_of_order(later: &Range<usize>, earlier: &Range<usize>) -> Problem {
    Problem::new(
        "order",
        later.clone(),
        "this statement would run in an earlier phase than one it depends on",
        "this would run first",
    )
    .and(earlier.clone(), "this runs in a later phase")
    .help("split the file: what stands below the second mark goes into a migration of its own")
}

/// New columns have no statistics until someone looks at them.
fn analyze(table: &QualifiedName) -> Step {
    Step {
        id: String::new(),
        title: format!("refresh the statistics of {}", table.plain()),
        mode: Mode::Transaction,
        sql: vec![format!("ANALYZE {table}")],
        undo: Vec::new(),
        locks: vec![TableLock { table: table.clone(), mode: LockMode::ShareUpdateExclusive }],
        scans: true,
    }
}

/// A step that changes one table in one transaction, with the table's lock taken first.
pub(crate) fn table_step(
    table: &QualifiedName,
    title: String,
    mut sql: Vec<String>,
    mut undo: Vec<String>,
) -> Step {
    let lock = format!("LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE");
    sql.insert(0, lock.clone());
    if !undo.is_empty() {
        undo.insert(0, lock);
    }
    Step {
        id: String::new(),
        title,
        mode: Mode::Transaction,
        sql,
        undo,
        locks: vec![TableLock { table: table.clone(), mode: LockMode::AccessExclusive }],
        scans: false,
    }
}

/// The statements that bring a mapping's functions and triggers into being, and those that take them away.
pub(crate) fn install(mappings: &[Mapping]) -> (Vec<String>, Vec<String>) {
    let mut create = Vec::new();
    for mapping in mappings {
        create.extend(mapping.create_functions());
        create.extend(mapping.trigger_functions(Shape::Open));
        create.extend(mapping.close_trigger_functions());
        create.extend(mapping.create_triggers());
    }
    let mut remove: Vec<String> = mappings.iter().flat_map(Mapping::drop_triggers).collect();
    remove.extend(mappings.iter().flat_map(Mapping::drop_functions));
    (create, remove)
}
