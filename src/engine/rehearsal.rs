//! Runs short steps in a transaction that is rolled back: what would stop half way is found before anything is changed.

use std::time::Instant;

use crate::decide::plan::{Mode, Plan, Step, Work};
use crate::engine::Runner;
use crate::engine::failure::{Failure, Outcome};
use crate::engine::step_runner::{Running, settings};
use crate::model::migration::MigrationFile;
use crate::model::problem::{Problem, Problems};
use crate::pg::error::PgError;

/// A statement that failed, and the step that it belongs to.
struct Stumble<'a> {
    step: &'a Step,
    sql: String,
    error: PgError,
}

impl Runner<'_> {
    /// Tries the drops. From there on there is only forward.
    pub(crate) async fn rehearse_drop(&mut self, running: &Running<'_>) -> Outcome<()> {
        let version = running.plan.version;
        let steps: Vec<(&Step, Vec<String>)> =
            running.plan.drop.iter().filter_map(|step| Some((step, short(step)?))).collect();
        self.rehearse(running.plan, &steps).await?.map_or(Ok(()), |stumble| {
            Err(Failure::refused(format!("{} would fail: {}", stumble.step.title, stumble.error)).next(
                format!("correct the cause, then migrate contract {version}; or migrate reopen {version}"),
            ))
        })
    }

    /// Tries to take the seal back.
    pub(crate) async fn rehearse_reopen(&mut self, running: &Running<'_>) -> Outcome<()> {
        let version = running.plan.version;
        let mut steps = Vec::new();
        for step in running.plan.seal.iter().rev() {
            let done = self.is_done(running, &step.id).await?;
            if done && step.mode == Mode::Transaction && step.undo_when.is_none() {
                steps.push((step, step.undo.clone()));
            }
        }
        self.rehearse(running.plan, &steps).await?.map_or(Ok(()), |stumble| {
            Err(Failure::refused(format!(
                "taking back `{}` would fail: {}",
                stumble.step.title, stumble.error
            ))
            .next(format!("correct the cause, then migrate reopen {version}")))
        })
    }

    /// Tries a plan that takes objects away or changes them, from the first step to the drop, and the seal backwards: whether
    /// such statements fit together only the server knows.
    pub(crate) async fn rehearse_plan(&mut self, file: &MigrationFile, plan: &Plan) -> Outcome<()> {
        if plan.objects.is_empty() && plan.jobs.iter().all(|job| matches!(job.work, Work::Convert(_))) {
            return Ok(());
        }
        // A change of type needs its indexes and its data first.
        let replaced = |step: &&Step| {
            plan.sealed
                .iter()
                .filter(|column| column.replaced.is_some())
                .any(|column| step.locks.iter().any(|lock| lock.table == column.table))
        };
        let ahead = plan.expand.iter();
        let seal: Vec<&Step> = plan.seal.iter().filter(|step| !replaced(step)).collect();
        let drop = plan.drop.iter().filter(|step| !replaced(step));
        let mut steps: Vec<(&Step, Vec<String>)> =
            ahead.filter_map(|step| Some((step, short(step)?))).collect();
        // NOT NULL has its proof only when the data is there; without it the server would read the whole table.
        let proved = |sql: &String| {
            let proof =
                sql.rsplit_once(" DROP CONSTRAINT ").map(|(_, name)| format!(" ADD CONSTRAINT {name} "));
            let made = |proof: &String| {
                plan.restrict.iter().flat_map(|step| &step.sql).any(|sql| sql.contains(proof.as_str()))
            };
            sql.ends_with(" SET NOT NULL") || proof.as_ref().is_some_and(made)
        };
        let unproved = |mut sql: Vec<String>| {
            sql.retain(|sql| !proved(sql));
            sql
        };
        let sealed = || seal.iter().filter_map(|step| Some((*step, unproved(short(step)?))));
        steps.extend(sealed());
        steps.extend(seal.iter().rev().map(|step| (*step, step.undo.clone())));
        steps.extend(sealed());
        steps.extend(drop.filter_map(|step| Some((step, short(step)?))));
        let Some(stumble) = self.rehearse(plan, &steps).await? else { return Ok(()) };
        // What a step of expand needs may be an index that is built concurrently: no rehearsal then.
        let is_ahead = plan.expand.iter().any(|step| step.id == stumble.step.id);
        if is_ahead && plan.expand.iter().any(|step| short(step).is_none()) {
            return Ok(());
        }
        // A type is hidden and freed by the swap that is left out; before the drop all of it is rehearsed once more.
        let swaps = plan.sealed.iter().any(|column| column.replaced.is_some());
        let drops = plan.drop.iter().any(|step| step.id == stumble.step.id);
        if swaps && drops && matches!(stumble.error.code(), Some("2BP01" | "42704")) {
            return Ok(());
        }
        let says = format!("{} would fail: {}", stumble.step.title, stumble.error);
        let sql = stumble.sql.strip_prefix("EXPLAIN ").unwrap_or(&stumble.sql);
        if stumble.error.code() == Some("42P16") && sql.starts_with("CREATE OR REPLACE VIEW") {
            return Err(Failure::failed(format!(
                "{says}: a reopen could not take the new columns of the view away"
            ))
            .next("nothing was changed: write DROP VIEW and CREATE VIEW instead of OR REPLACE"));
        }
        match file.statements.iter().find(|statement| statement.text == sql) {
            Some(statement) => {
                let problem = Problem::new("refused", statement.span.clone(), says, "the server says so of this")
                    .help("nothing was changed: correct the file");
                Err(Problems { source_file: file.source.clone(), problems: vec![problem] }.into())
            }
            None => Err(Failure::failed(says)
                .details(vec![format!("statement: {}", stumble.sql)])
                .next("nothing was changed: correct the cause, in the file or in the database, and run `migrate expand` again")),
        }
    }

    /// Runs the statements one after the other and takes all of them back. Gives the one that failed.
    async fn rehearse<'a>(
        &mut self,
        plan: &Plan,
        steps: &[(&'a Step, Vec<String>)],
    ) -> Outcome<Option<Stumble<'a>>> {
        let (started, mut conflicts) = (Instant::now(), 0);
        loop {
            let stumble = self.try_all(plan, steps).await;
            self.session.rollback().await;
            match stumble {
                Err(error) if error.is_lost() => self.reconnect(&error).await?,
                Err(error) => return Err(error.into()),
                Ok(Some(stumble)) if stumble.error.is_lock_conflict() => {
                    conflicts += 1;
                    self.wait_for_lock(stumble.step, conflicts, started, &stumble.error).await?;
                }
                Ok(Some(stumble)) if stumble.error.is_lost() => self.reconnect(&stumble.error).await?,
                Ok(stumble) => return Ok(stumble),
            }
        }
    }

    async fn try_all<'a>(
        &mut self,
        plan: &Plan,
        steps: &[(&'a Step, Vec<String>)],
    ) -> Result<Option<Stumble<'a>>, PgError> {
        let settings = settings(&plan.search_path, self.engine.limits.lock_timeout);
        self.session.execute(&format!("BEGIN; {settings}")).await?;
        for (step, statements) in steps {
            for sql in statements {
                if let Err(error) = self.session.execute(sql).await {
                    return Ok(Some(Stumble { step, sql: sql.clone(), error }));
                }
            }
        }
        Ok(None)
    }
}

/// A step's statements as they may run in a transaction for a moment; none if it reads whole tables.
fn short(step: &Step) -> Option<Vec<String>> {
    match &step.mode {
        Mode::Transaction if !step.scans => Some(step.sql.iter().map(|sql| without_data(sql)).collect()),
        // The same index goes, for a moment under a stronger lock.
        Mode::Alone { .. } if step.undo.is_empty() => {
            Some(step.sql.iter().map(|sql| sql.replacen("INDEX CONCURRENTLY", "INDEX", 1)).collect())
        }
        _ => None,
    }
}

/// A materialized view is not filled for a rehearsal.
fn without_data(sql: &str) -> String {
    let upper = sql.to_uppercase();
    let fills = upper.starts_with("CREATE MATERIALIZED VIEW")
        && !upper.trim_end().ends_with("WITH DATA")
        && !upper.trim_end().ends_with("WITH NO DATA");
    if fills { format!("{sql} WITH NO DATA") } else { sql.to_owned() }
}
