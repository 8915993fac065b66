//! Puts the parts of a draft in order: the plan, and the catalog as it is after the plan's expand.

use std::collections::BTreeSet;
use std::ops::Range;

use super::objects::ObjectSteps;
use super::steps::{analyze, step};
use super::{Draft, Moving, Placed, Role, TableDraft};
use crate::decide::change;
use crate::decide::plan::{FORMAT, Job, Plan, Step};
use crate::model::catalog::Catalog;
use crate::model::problem::Problem;
use crate::model::sql::Statement;
use crate::words::ident::QualifiedName;

impl Draft<'_> {
    /// Puts everything in order.
    pub(super) fn finish(mut self, before: &Catalog) -> Result<(Plan, Catalog, Vec<Moving>), Problem> {
        self.check_retyped()?;
        for work in self.tables.iter().filter(|work| work.moves_columns()) {
            let span = self.file.statements.get(work.position).map(|statement| statement.span.clone());
            self.refuse_with_partitions(&span.unwrap_or_default(), &work.name)?;
        }
        self.check_late()?;
        let version = self.file.version;
        let (mut seal, mut behind, mut jobs, mut sealed) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let mut drop: Vec<(usize, Step)> = Vec::new();
        let crossings = change::across::assemble(&mut self, before)?;
        let hidden = self.hidden_objects();
        let ObjectSteps { mut by_table, last, drops, drops_last } = self.object_steps();
        let mut added = Vec::new();
        let (mut after, mut moving) = (before.clone(), Vec::new());
        let mut count = 0;
        let tables = std::mem::take(&mut self.tables);
        for table in &tables {
            let parts = change::table::assemble(&mut self, table, &tables, before, &mut count)?;
            // What stands between the table's first and last statement and speaks of the table needs its columns.
            for placed in
                self.expand.iter_mut().filter(|placed| placed.words.contains(table.name.name.as_str()))
            {
                if placed.at >= table.first {
                    placed.at = placed.at.max(table.position + 1);
                }
            }
            if let Some(step) = parts.expand {
                self.expand.push(Placed { at: table.position, words: BTreeSet::new(), step });
            }
            behind.extend(parts.behind);
            self.settle.extend(parts.settle);
            self.restrict.extend(parts.restrict);
            let objects = by_table.remove(&table.name);
            seal.extend(match (parts.seal, objects) {
                (Some(seal), Some(objects)) => Some(objects.around(seal)),
                (seal, objects) => seal.or_else(|| objects.map(|objects| objects.step(&table.name))),
            });
            drop.extend(parts.drop.map(|step| (self.drops_at(table), step)));
            jobs.extend(parts.job);
            sealed.extend(parts.sealed);
            let held = self.held(&table.name).map(|column| (column.clone(), Role::Read));
            let all: Vec<_> = parts.moving.into_iter().chain(held).collect();
            moving.extend(all.into_iter().map(|(column, role)| Moving {
                version,
                table: table.name.clone(),
                column,
                role,
            }));
            added.extend(
                parts.columns.iter().map(|column| format!("{}.{}", table.name.plain(), column.name.as_str())),
            );
            if let Some(model) = after.table_mut(&table.name) {
                model.replica_identity =
                    self.catalog.table(&table.name).is_none_or(|known| known.replica_identity);
                model.columns.extend(parts.columns);
            }
        }
        seal.extend(by_table.into_iter().map(|(table, objects)| objects.step(&table)));
        for parts in crossings {
            let placed =
                parts.expand.into_iter().map(|step| Placed { at: usize::MAX, words: BTreeSet::new(), step });
            self.expand.extend(placed);
            // Before what goes: the triggers name it.
            drop.extend(parts.drop.into_iter().map(|step| (0, step)));
            jobs.extend(parts.jobs);
            moving.extend(parts.moving.into_iter().map(|(table, column, role)| Moving {
                version,
                table,
                column,
                role,
            }));
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
        let mut made: BTreeSet<String> =
            self.catalog.constraint_names.difference(&before.constraint_names).cloned().collect();
        after.constraint_names.extend(made.iter().cloned());
        made.extend(
            after.relations.iter().skip(before.relations.len()).map(|relation| relation.name.plain()),
        );
        after.objects.extend(self.catalog.objects.iter().cloned());
        after.publications.clone_from(&self.catalog.publications);
        jobs.append(&mut self.data_jobs);
        for job in &jobs {
            if let Some(once) = job.once().filter(|once| once.mark.is_none()) {
                self.settle.push(step(
                    format!("forget which rows of {} there were", job.table.plain()),
                    vec![format!("DROP TABLE IF EXISTS {}", once.list)],
                    Vec::new(),
                    Vec::new(),
                ));
            }
        }
        let worked: BTreeSet<QualifiedName> = jobs.iter().map(|job: &Job| job.table.clone()).collect();
        for table in &worked {
            let named = |statement: &&Statement| statement.words.contains(table.name.as_str());
            let span = self.file.statements.iter().find(named).map(|statement| statement.span.clone());
            change::publication::check_writable(&self, &span.unwrap_or_default(), table)?;
        }
        self.settle.extend(worked.iter().map(analyze));
        let keys = change::hand_over::foreign_keys(&self, &tables, before);
        self.restrict.extend(keys.restrict);
        self.touched.append(&mut self.reserved);
        after.busy_objects.extend(self.touched.iter().map(|object| (object.clone(), version)));
        seal.splice(0..0, keys.before);
        seal.splice(0..0, std::mem::take(&mut self.seal_first));
        seal.extend(std::mem::take(&mut self.seal));
        seal.extend(last);
        seal.extend(keys.behind);
        seal.extend(behind);
        seal.extend(std::mem::take(&mut self.seal_last));
        // What goes is dropped in the order in which the file says so: the one above may stand in the way of the next.
        let tables_last = drop.iter().map(|(at, _)| *at).max().unwrap_or_default();
        drop.extend(drops);
        drop.extend(drops_last.into_iter().map(|(at, step)| (at.max(tables_last), step)));
        drop.extend(std::mem::take(&mut self.drop));
        drop.sort_by_key(|(at, _)| *at);
        let mut drop: Vec<Step> = drop.into_iter().map(|(_, step)| step).collect();
        drop.extend(std::mem::take(&mut self.as_written_contract));
        self.expand.sort_by_key(|placed| placed.at);
        let expand = self.expand.into_iter().map(|placed| placed.step).collect();
        moving.extend(self.detaching.iter().map(|table| Moving::of_rows(version, table, Role::Apart)));
        let apart = std::mem::take(&mut self.apart);
        let followed = moving.iter().filter(|moving| moving.role == Role::Followed);
        let followed = followed.map(|moving| (moving.table.clone(), moving.column.clone())).collect();
        let mut adds: Vec<String> =
            self.created.iter().chain(&self.repartitioned).map(QualifiedName::plain).collect();
        let made_objects = self.catalog.objects.difference(&before.objects);
        adds.extend(
            made_objects.filter_map(|object| object.split_once(':')).map(|(_, name)| name.to_owned()),
        );
        let uses = self
            .claims
            .iter()
            .map(|claim| format!("{}.{}", claim.table.plain(), claim.column.as_str()))
            .collect();
        let mentions = std::mem::take(&mut self.mentions);
        adds.extend(added);
        let mut touches: Vec<_> =
            moving.iter().map(|moving| (moving.table.plain(), moving.column.clone())).collect();
        let mut seen = BTreeSet::new();
        touches.retain(|touched| seen.insert(touched.clone()));
        let mut said = BTreeSet::new();
        self.warnings.extend(change::alter_type::warnings(&self.retyped_columns));
        self.warnings.retain(|warning| said.insert(warning.clone()));
        // One that the file makes counts where old code's rows go there.
        let made_for =
            moving.iter().map(|moving| &moving.table).filter(|table| self.created.contains(*table));
        let made_for: BTreeSet<QualifiedName> = made_for.cloned().collect();
        let names: Vec<QualifiedName> =
            tables.iter().map(|table| table.name.clone()).chain(made_for).collect();
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
            apart,
            followed,
            adds,
            uses,
            mentions,
            names: made,
            expand: numbered("expand", expand),
            jobs,
            settle: numbered("settle", self.settle),
            restrict: numbered("restrict", self.restrict),
            seal: numbered("seal", seal),
            drop: numbered("drop", drop),
            sealed,
            hidden,
            objects: self.touched,
            losses: self.losses,
        };
        moving.extend(Moving::rows(&plan));
        moving.extend(Moving::apart(&plan));
        Ok((plan, after, moving))
    }

    /// The last statement that takes something of the table away.
    fn drops_at(&self, table: &TableDraft) -> usize {
        let says = |span: &Range<usize>| {
            self.file.statements.iter().position(|statement| statement.span.contains(&span.start))
        };
        let dropped = table.dropped.iter().filter_map(|dropped| says(&dropped.span)).max();
        dropped.filter(|_| table.retyped.is_empty()).unwrap_or(table.position)
    }
}

fn numbered(phase: &str, steps: Vec<Step>) -> Vec<Step> {
    steps
        .into_iter()
        .enumerate()
        .map(|(at, step)| Step { id: format!("{phase}-{}", at + 1), ..step })
        .collect()
}
