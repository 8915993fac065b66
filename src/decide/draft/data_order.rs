//! Data jobs run after every conversion and after what runs as written in expand; a statement that would mean something
//! else there than where it stands is refused.

use std::ops::Range;

use super::claims::{Claim, out_of_order};
use super::{Draft, Moving, Phase, Role, Touch};
use crate::decide::change::mapping::HIDDEN;
use crate::decide::plan::Plan;
use crate::model::catalog::Table;
use crate::model::problem::Problem;
use crate::model::sql::{Action, Name, ObjectKind, Statement, StatementKind};
use crate::words::ident::{Ident, QualifiedName};
use crate::words::version::Version;

/// A data job of the file, as far as the order of statements goes.
pub(super) struct Planned {
    span: Range<usize>,
    target: Ident,
    names: Vec<Ident>,
}

impl Moving {
    pub(super) fn of_rows(version: Version, table: &QualifiedName, role: Role) -> Self {
        Self { version, table: table.clone(), column: Ident::new(""), role }
    }

    /// What later migrations must know of the rows that a plan has yet to come to.
    pub(crate) fn rows(plan: &Plan) -> Vec<Self> {
        let jobs = plan.tables_of_jobs();
        let jobs = jobs.iter().map(|table| Self::of_rows(plan.version, table, Role::Rows));
        jobs.chain(plan.filled().map(|table| Self::of_rows(plan.version, table, Role::Fills))).collect()
    }

    /// Partitions that a reopen of the plan puts back as they were.
    pub(crate) fn apart(plan: &Plan) -> impl Iterator<Item = Self> {
        plan.apart.iter().map(|table| Self::of_rows(plan.version, table, Role::Apart))
    }

    /// Whether it is no column that is in flight, but rows of the table.
    pub(crate) fn is_about_rows(&self) -> bool {
        self.column.as_str().is_empty()
    }
}

impl Draft<'_> {
    /// Refuses a statement below a data job that reads or writes the same rows and would come first. A partition that is attached
    /// brings rows.
    pub(crate) fn check_data_order(&self, statement: &Statement) -> Result<(), Problem> {
        let target = match &statement.kind {
            StatementKind::InsertValues { table, .. } => Some(table),
            StatementKind::Update { change, .. } | StatementKind::Data(change) => Some(&change.table),
            StatementKind::AlterTable { table, actions, .. }
                if actions.iter().any(|(_, action)| {
                    matches!(action, Action::AlterType { .. } | Action::AttachPartition { .. })
                }) =>
            {
                Some(table)
            }
            StatementKind::CreateObject(object) if object.kind == ObjectKind::MaterializedView => None,
            _ => return Ok(()),
        };
        let concerned = |name: &Name| -> Vec<Ident> {
            let tables = self.rows_of(name).into_iter().map(|table| table.name);
            std::iter::once(name.name.clone()).chain(tables).collect()
        };
        let named: Vec<Ident> = statement.objects.iter().flat_map(concerned).collect();
        let targets = target.map(concerned).unwrap_or_default();
        let clash = self.planned_jobs.iter().find(|job| {
            named.contains(&job.target) || targets.iter().any(|target| job.names.contains(target))
        });
        let Some(job) = clash else { return Ok(()) };
        Err(Problem::new(
            "order",
            statement.span.clone(),
            "a data job of the file runs later than this and concerns the same rows",
            "this stands below it",
        )
        .and(job.span.clone(), "this is done in batches, when its turn comes")
        .help("split the file: what stands below the data job goes into a migration of its own"))
    }

    /// Refuses what reads rows in expand of which an UPDATE above has yet to fill or mend a column.
    pub(crate) fn refuse_before_fills(&self, statement: &Statement) -> Result<(), Problem> {
        let own = match &statement.kind {
            StatementKind::CreateObject(_) => None,
            StatementKind::InsertValues { table, .. } => Some(table),
            _ => return Ok(()),
        };
        let others = statement.objects.iter().filter(|name| Some(*name) != own);
        let read: Vec<QualifiedName> = others.flat_map(|name| self.rows_of(name)).collect();
        let fills = |claim: &&Claim| {
            claim.phase == Phase::Backfill && claim.touch == Touch::Change && read.contains(&claim.table)
        };
        self.claims.iter().find(fills).map_or(Ok(()), |fill| Err(out_of_order(&statement.span, &fill.span)))
    }

    /// Refuses a statement of which something else follows until an earlier migration is contracted: what was computed from a
    /// column that it sets, rows of another table that are made from those it inserts or deletes. In psql that was done once.
    pub(crate) fn refuse_followed(&self, statement: &Statement) -> Result<(), Problem> {
        let (table, set): (_, Option<Vec<&Ident>>) = match &statement.kind {
            StatementKind::Update { sets, change } => {
                (&change.table, Some(sets.iter().map(|set| &set.column).collect()))
            }
            StatementKind::Data(change) => (&change.table, None),
            StatementKind::InsertValues { table, .. } => (table, None),
            _ => return Ok(()),
        };
        let rows = self.rows_of(table);
        let followed = |moving: &&Moving| {
            let says = set.as_ref().map_or(moving.is_about_rows(), |set| set.contains(&&moving.column));
            moving.role == Role::Followed && says && rows.contains(&moving.table)
        };
        let Some(other) = self.moving.iter().find(followed) else { return Ok(()) };
        let (version, table) = (other.version, other.table.plain());
        let title = if other.is_about_rows() {
            format!("rows of another table follow those of `{table}` until migration {version} is contracted")
        } else {
            let column = other.column.as_str();
            format!("something else follows `{table}.{column}` until migration {version} is contracted")
        };
        let label = "that would go along, which in psql it would not";
        Err(Problem::in_flight(statement.span.clone(), title, label, Some(version)))
    }

    /// Refuses an INSERT that counts on the order of columns, while an earlier migration still has one there that psql would not,
    /// with others behind it.
    pub(crate) fn refuse_by_position(&self, statement: &Statement) -> Result<(), Problem> {
        let table = match &statement.kind {
            StatementKind::InsertValues { table, by_position: true } => table,
            StatementKind::Data(change) if change.by_position => &change.table,
            _ => return Ok(()),
        };
        for table in &self.rows_of(table) {
            let of = |role: Role| {
                self.moving.iter().filter(move |moving| moving.role == role && &moving.table == table)
            };
            // A column that is renamed stays where it is, and its shadow is one too many.
            let renames = of(Role::Shadow).count() == of(Role::Leaves).count();
            let extra = if renames { of(Role::Shadow) } else { of(Role::Leaves) };
            let columns = self.catalog.table(table).map(|known| known.columns.as_slice()).unwrap_or_default();
            let is_extra = |name: &Ident| {
                name.as_str().starts_with(HIDDEN) || extra.clone().any(|moving| &moving.column == name)
            };
            let stands_before = columns
                .iter()
                .skip_while(|column| !is_extra(&column.name))
                .any(|column| !is_extra(&column.name));
            let Some(other) = extra.clone().next().filter(|_| stands_before) else { continue };
            let (version, table) = (other.version, &other.table);
            let title = format!(
                "the columns of `{}` have another order until migration {version} is contracted",
                table.plain()
            );
            return Err(Problem::new("in-flight", statement.span.clone(), title, "this names none")
                .help(format!("name the columns: `INSERT INTO {table} (…)`")));
        }
        Ok(())
    }

    /// The tables whose rows are meant by a name: the table, those that a view reads, and those that they are partitions of.
    fn rows_of(&self, name: &Name) -> Vec<QualifiedName> {
        let mut tables = self.wholes(name);
        if let Some(named) = self.catalog.resolve(name, &self.settings.search_path) {
            let read = self.catalog.tables.iter().filter(|known| known.read_by.contains(&named));
            tables.extend(read.map(|known| known.name.clone()));
            tables.push(named);
        }
        tables
    }

    /// The partitioned tables that hold the rows of a table too, by the catalog and by what stands above in the file.
    pub(crate) fn wholes(&self, name: &Name) -> Vec<QualifiedName> {
        let resolved = |name: &Name| self.existing(name).ok();
        let Some(part) = resolved(name) else { return Vec::new() };
        let holds = |known: &&Table| {
            known.partitions.as_ref().is_some_and(|parts| parts.leaves.iter().any(|leaf| leaf.name == part))
        };
        let mut wholes: Vec<QualifiedName> =
            self.catalog.tables.iter().filter(holds).map(|known| known.name.clone()).collect();
        for above in self.file.statements.iter().take(self.at) {
            match &above.kind {
                StatementKind::CreateTable { name, partition_of: Some(whole), .. }
                    if resolved(name).as_ref() == Some(&part) =>
                {
                    wholes.extend(resolved(whole));
                    wholes.extend(self.wholes(whole));
                }
                StatementKind::AlterTable { table: whole, actions, .. }
                    if actions.iter().any(|(_, action)| {
                        matches!(action, Action::AttachPartition { partition, .. } if resolved(partition).as_ref() == Some(&part))
                    }) =>
                {
                    wholes.extend(resolved(whole));
                }
                _ => {}
            }
        }
        wholes
    }

    /// Refuses a statement about the rows of a table that loses a partition above it, in the file or in a migration that is not
    /// done: the partition goes only in contract, and its rows would be among them.
    pub(crate) fn refuse_behind_detach(&self, statement: &Statement) -> Result<(), Problem> {
        if !is_about_rows(statement) {
            return Ok(());
        }
        for table in statement.objects.iter().flat_map(|name| self.rows_of(name)) {
            self.refuse_while_detaching(&statement.span, &table)?;
            let detaches = |above: &&Statement| {
                matches!(&above.kind, StatementKind::AlterTable { table: whole, actions, .. }
                    if self.existing(whole).is_ok_and(|whole| whole == table)
                        && actions.iter().any(|(_, action)| matches!(action, Action::DetachPartition { .. })))
            };
            if let Some(detach) = self.file.statements.iter().take(self.at).find(detaches) {
                let title = format!(
                    "a partition of `{}` is detached above, which is done in contract: its rows would be among these",
                    table.plain()
                );
                return Err(Problem::new("order", statement.span.clone(), title, "this would come first")
                    .and(detach.span.clone(), "this runs in contract")
                    .help(
                        "put it above the DETACH, if it means the same there; or into a migration of its own",
                    ));
            }
        }
        Ok(())
    }

    /// Notes a data job. Refused below a trigger that the file makes or drops on one of its tables: that changes in contract.
    pub(crate) fn plan_data_order(
        &mut self,
        statement: &Statement,
        target: &QualifiedName,
    ) -> Result<(), Problem> {
        let names: Vec<Ident> = statement.objects.iter().map(|object| object.name.clone()).collect();
        let trigger = self.file.statements.iter().take(self.at).find(|above| {
            let table = match &above.kind {
                StatementKind::CreateOnTable(made) if made.kind == ObjectKind::Trigger => Some(&made.table),
                StatementKind::DropObjects(gone) if gone.kind == ObjectKind::Trigger => {
                    gone.targets.first().and_then(|target| target.table.as_ref())
                }
                _ => None,
            };
            table.is_some_and(|table| names.contains(&table.name))
        });
        if let Some(trigger) = trigger {
            let title = "a trigger that changes in contract would fire for this data job in psql, or not fire any more";
            return Err(Problem::new("order", statement.span.clone(), title, "this comes before contract")
                .and(trigger.span.clone(), "the trigger")
                .help("split the file: the data job goes into a migration of its own"));
        }
        self.planned_jobs.push(Planned { span: statement.span.clone(), target: target.name.clone(), names });
        Ok(())
    }

    /// Refuses a statement of expand that reads or writes rows which the data job of an earlier migration has yet to come to.
    pub(crate) fn refuse_before_jobs(&self, statement: &Statement) -> Result<(), Problem> {
        let fills = !matches!(statement.kind, StatementKind::InsertValues { .. });
        let named = |moving: &&Moving| {
            (moving.role == Role::Rows || fills && moving.role == Role::Fills)
                && statement.objects.iter().any(|name| self.rows_of(name).contains(&moving.table))
        };
        let other = self.moving.iter().find(named).filter(|_| is_about_rows(statement));
        let Some(other) = other else { return Ok(()) };
        let title = format!(
            "migration {} is to change or read the rows of `{}` first",
            other.version,
            other.table.plain()
        );
        Err(Problem::new("in-flight", statement.span.clone(), title, "this would run before it")
            .help(format!("let it finish first: `migrate backfill {}`", other.version)))
    }
}

/// Whether a statement reads or writes rows when it runs.
fn is_about_rows(statement: &Statement) -> bool {
    match &statement.kind {
        StatementKind::CreateObject(object) => object.kind == ObjectKind::MaterializedView,
        StatementKind::InsertValues { .. }
        | StatementKind::Update { .. }
        | StatementKind::Data(_)
        | StatementKind::Other(_) => true,
        _ => false,
    }
}
