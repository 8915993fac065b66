//! From the statements of a file to a plan: each kind of change adds its part to the draft, the draft orders the parts
//! into phases and steps.

mod claims;
mod crossing;
mod data_order;
mod finish;
mod objects;
mod phases;
mod steps;
mod table;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use claims::Claim;
pub(crate) use crossing::Crossing;
pub(crate) use steps::{
    has_constraint, has_unproved, install, lock_tables, step, table_step, undo_only, validate,
};
pub(crate) use table::{Added, Dropped, Filled, Renamed, Retyped, TableDraft};

use crate::decide::change;
use crate::decide::plan::{ChangeLine, Job, Loss, Plan, Step};
use crate::model::catalog::{Catalog, ObjectRef};
use crate::model::migration::MigrationFile;
use crate::model::problem::{Problem, Problems};
use crate::model::sql::{Name, Statement, StatementKind};
use crate::words::ident::{Ident, QualifiedName};
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
    /// It has the new name of a column that is being renamed, and gives way to that.
    Shadow,
    /// It is computed by sync triggers.
    Computed,
    /// It is only read.
    Read,
    /// No column, but all rows of the table: a data job or a move has yet to read or change them.
    Rows,
    /// The same of an UPDATE that has yet to fill a new column of them.
    Fills,
    /// Others are computed from it; without a column, its rows make those of another table.
    Followed,
    /// No column, but a partition that a reopen puts back as it was, or the table that it leaves.
    Apart,
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
    /// Columns whose types change, as `schema.table.column`, and whether by a swap.
    pub(crate) retyped_columns: Vec<(String, bool)>,
    /// Tables that the file itself creates.
    pub(crate) created: BTreeSet<QualifiedName>,
    expand: Vec<Placed>,
    pub(crate) tables: Vec<TableDraft>,
    settle: Vec<Step>,
    restrict: Vec<Step>,
    /// Reversible steps of contract that belong to no table's seal.
    seal: Vec<Step>,
    /// Irreversible steps of contract that belong to no table's drop, each with the statement that asks for it.
    drop: Vec<(usize, Step)>,
    as_written_contract: Vec<Step>,
    /// Reversible steps of contract that come before any table's seal.
    seal_first: Vec<Step>,
    /// Those that come behind everything that is sealed.
    seal_last: Vec<Step>,
    objects: Vec<objects::Going>,
    /// Everything that contract makes, changes or takes away.
    touched: Vec<ObjectRef>,
    /// The same, of which this file may say more.
    reserved: Vec<ObjectRef>,
    /// What expand makes.
    pub(crate) made: Vec<ObjectRef>,
    /// Statements that run as written at the end of contract.
    late: Vec<Statement>,
    /// Views that contract makes or takes away in the place of a table: before the seal, and while sealed.
    stand_ins: BTreeMap<String, String>,
    /// Constraints that expand drops, as the server describes them.
    pub(crate) gone_constraints: BTreeSet<String>,
    /// Objects that a statement defines anew, with the columns that they then name; none for all of them.
    rewritten: Vec<(String, Option<BTreeSet<Ident>>)>,
    pub(crate) losses: Vec<Loss>,
    claims: Vec<Claim>,
    /// Data changes that run once for each row.
    pub(crate) data_jobs: Vec<Job>,
    /// Tables that get or lose a partition.
    pub(crate) repartitioned: BTreeSet<QualifiedName>,
    /// Those that lose one in contract.
    pub(crate) detaching: BTreeSet<QualifiedName>,
    /// The partitions themselves.
    pub(crate) apart: Vec<QualifiedName>,
    /// Data that moves between tables.
    pub(crate) crossings: Vec<Crossing>,
    planned_jobs: Vec<data_order::Planned>,
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
        retyped_columns: Vec::new(),
        created: BTreeSet::new(),
        expand: Vec::new(),
        tables: Vec::new(),
        settle: Vec::new(),
        restrict: Vec::new(),
        seal: Vec::new(),
        drop: Vec::new(),
        as_written_contract: Vec::new(),
        seal_first: Vec::new(),
        seal_last: Vec::new(),
        objects: Vec::new(),
        touched: Vec::new(),
        reserved: Vec::new(),
        made: Vec::new(),
        late: Vec::new(),
        stand_ins: BTreeMap::new(),
        gone_constraints: BTreeSet::new(),
        rewritten: Vec::new(),
        losses: Vec::new(),
        claims: Vec::new(),
        data_jobs: Vec::new(),
        repartitioned: BTreeSet::new(),
        detaching: BTreeSet::new(),
        apart: Vec::new(),
        crossings: Vec::new(),
        planned_jobs: Vec::new(),
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

    /// Whether the file changes the columns of a table that a condition picks.
    pub(crate) fn file_changes(&self, which: impl Fn(&QualifiedName) -> bool) -> bool {
        self.tables.iter().any(|work| which(&work.name))
    }

    /// Refuses a change of a table that gets or loses a partition by the same file: which of both comes first decides on what
    /// the partition looks like.
    pub(crate) fn refuse_with_partitions(
        &self,
        span: &Range<usize>,
        table: &QualifiedName,
    ) -> Result<(), Problem> {
        if !self.repartitioned.contains(table) {
            return Ok(());
        }
        let title = format!("the file attaches or detaches a partition of `{}` as well", table.plain());
        Err(Problem::new(
            "partitioned",
            span.clone(),
            title,
            "this would not be the same before and after it",
        )
        .help("split the file"))
    }

    /// The statements below the one that is being planned.
    pub(crate) fn below(&self) -> &[Statement] {
        self.file.statements.get(self.at + 1..).unwrap_or_default()
    }

    /// The statement that is being planned and those below.
    pub(crate) fn at_hand(&self) -> &[Statement] {
        self.file.statements.get(self.at..).unwrap_or_default()
    }

    /// The swap that gives the column another type.
    pub(crate) fn retyped(&mut self, table: &QualifiedName, column: &Ident) -> Option<&mut Retyped> {
        let table = self.tables.iter_mut().find(|draft| &draft.name == table)?;
        table.retyped.iter_mut().find(|retyped| &retyped.column == column)
    }

    /// Whether an UPDATE below sets the column.
    pub(crate) fn is_filled_below(&self, table: &QualifiedName, column: &Ident) -> bool {
        self.below().iter().any(|statement| match &statement.kind {
            StatementKind::Update { sets, change } => {
                self.existing(&change.table).is_ok_and(|named| &named == table)
                    && sets.iter().any(|set| &set.column == column)
            }
            _ => false,
        })
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
                retyped: Vec::new(),
                not_null: Vec::new(),
                renamed_constraints: Vec::new(),
                default_dropped: Vec::new(),
                repairs: Vec::new(),
                expand: Vec::new(),
                seal: Vec::new(),
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
}
