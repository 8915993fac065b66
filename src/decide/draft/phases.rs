//! Where a change puts its steps: into which phase, and where in it.

use std::collections::BTreeSet;

use super::{Draft, Phase, Placed, step};
use crate::decide::plan::{Mode, Step, TableLock};
use crate::model::problem::Problem;
use crate::model::sql::Statement;
use crate::words::ident::{Ident, QualifiedName};
use crate::words::lock_mode::LockMode;

impl Draft<'_> {
    /// Runs a statement as written in expand.
    pub(crate) fn run_in_expand(
        &mut self,
        statement: &Statement,
        title: String,
        undo: Vec<String>,
        mut locks: Vec<TableLock>,
    ) -> Result<(), Problem> {
        self.claim_words(statement)?;
        self.refuse_before_jobs(statement)?;
        self.refuse_before_fills(statement)?;
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
            undo_when: None,
            locks,
            scans: false,
            stays: None,
        };
        self.expand.push(Placed { at: self.at, words: statement.words.clone(), step });
        self.mentions.extend(statement.words.iter().cloned());
        Ok(())
    }

    /// Says what an abort leaves of the statement that runs in expand last.
    pub(crate) fn stays(&mut self, what: String) {
        if let Some(placed) = self.expand.last_mut() {
            placed.step.stays = Some(what);
        }
    }

    /// Runs a statement as written at the end of contract. Nobody knows what it reads.
    pub(crate) fn run_in_contract(&mut self, statement: &Statement, title: String) {
        let written = step(title, vec![statement.text.clone()], Vec::new(), Vec::new());
        self.as_written_contract.push(Step { scans: true, ..written });
        self.late.push(statement.clone());
    }

    /// Runs a step among the drops, which names what the statement names.
    pub(crate) fn run_with_drops(&mut self, statement: &Statement, step: Step) {
        self.push_drop(step);
        self.late.push(statement.clone());
    }

    /// Adds a step to a phase. In expand it runs after the columns of its tables were added.
    pub(crate) fn push(&mut self, phase: Phase, step: Step) {
        match phase {
            Phase::Expand => {
                let words = step.locks.iter().map(|lock| lock.table.name.as_str().to_owned()).collect();
                self.expand.push(Placed { at: self.at, words, step });
            }
            Phase::Backfill => self.settle.push(step),
            Phase::Contract => self.restrict.push(step),
        }
    }

    /// Adds steps to a phase that stay in their order; in expand behind the columns of all these tables.
    pub(crate) fn push_together(&mut self, phase: Phase, tables: &[&QualifiedName], steps: Vec<Step>) {
        let words: BTreeSet<String> = tables.iter().map(|table| table.name.as_str().to_owned()).collect();
        let at = self.at;
        match phase {
            Phase::Expand => {
                self.expand.extend(steps.into_iter().map(|step| Placed { at, words: words.clone(), step }));
            }
            Phase::Backfill => self.settle.extend(steps),
            Phase::Contract => self.restrict.extend(steps),
        }
    }

    /// Adds a step to contract that can be taken back.
    pub(crate) fn push_seal(&mut self, step: Step) {
        self.seal.push(step);
    }

    /// The same before any table is sealed, under the old names of columns.
    pub(crate) fn push_seal_first(&mut self, step: Step) {
        self.seal_first.push(step);
    }

    /// The same when everything is sealed.
    pub(crate) fn push_seal_last(&mut self, step: Step) {
        self.seal_last.push(step);
    }

    /// Notes that contract defines an object anew, and what columns it then names; none for all of them.
    pub(crate) fn rewrite(&mut self, what: String, reads: Option<BTreeSet<Ident>>) {
        self.rewritten.push((what, reads));
    }

    /// Adds a step to contract that cannot be taken back.
    pub(crate) fn push_drop(&mut self, step: Step) {
        self.drop.push((self.at, step));
    }

    /// The same behind all that the file drops.
    pub(crate) fn push_drop_last(&mut self, step: Step) {
        self.drop.push((self.file.statements.len(), step));
    }
}
