//! Steps that cannot run in a transaction, such as an index that is built concurrently: settled by what the catalog shows.

use std::time::Duration;

use crate::decide::plan::Step;
use crate::engine::step_runner::{Running, StepError, path};
use crate::engine::{Happening, Runner};
use crate::pg::error::PgError;
use crate::pg::locks::waits_for;
use crate::pg::session::Session;
use crate::words::fault;

/// How long an index build or another step without a transaction may take.
const ALONE_DEADLINE: &str = "12h";

/// How often somebody looks whom such a step waits for.
const WATCH_EVERY: Duration = Duration::from_secs(2);

/// What to ask the catalog about a step without a transaction.
pub(super) struct Catalog<'a> {
    pub(super) verify: &'a str,
    pub(super) leftover: &'a str,
    /// Whether what it is done to is gone.
    pub(super) moot: &'a str,
}

impl Runner<'_> {
    /// A statement without a transaction: intent, what an earlier run left, the statement, what the catalog says.
    pub(super) async fn alone(
        &mut self,
        running: &Running<'_>,
        step: &Step,
        catalog: &Catalog<'_>,
        clean_up: &str,
    ) -> Result<(), StepError> {
        let begun = self.began(running, step).await?;
        // What is there before the first intent was made by somebody else, and may be something else. A step that is
        // never taken back makes nothing.
        let moot = self.ask(catalog.moot).await?;
        if !moot && !begun && !step.undo.is_empty() && self.ask(catalog.verify).await? {
            return Err(StepError::Foreign);
        }
        self.intent(running, step).await?;
        fault::point("step.before");
        if !moot && !self.ask(catalog.verify).await? {
            self.alone_settings(running).await?;
            let watcher = self.watch(step);
            let done = self.build(step, catalog, clean_up).await;
            watcher.abort();
            self.usual_settings(done).await?;
            fault::point("step.after_statement");
        }
        if !moot && !self.ask(catalog.verify).await? {
            return Err(PgError::Answer(format!(
                "`{}` ran, and the catalog does not show its effect",
                step.sql.join("; ")
            ))
            .into());
        }
        let (version, attempt, epoch) = (running.plan.version, running.attempt, self.lease.epoch);
        self.engine.ledger.step_end(&mut self.session, version, attempt, &step.id, epoch).await?;
        Ok(())
    }

    /// Whether an intent of the step is recorded that was not taken back.
    async fn began(&mut self, running: &Running<'_>, step: &Step) -> Result<bool, PgError> {
        let (version, attempt) = (running.plan.version, running.attempt);
        let records = self.engine.ledger.steps(&mut self.session, version, attempt).await?;
        Ok(records.iter().any(|record| record.id == step.id && record.state != "undone"))
    }

    async fn build(&mut self, step: &Step, catalog: &Catalog<'_>, clean_up: &str) -> Result<(), PgError> {
        if self.ask(catalog.leftover).await? {
            self.session.execute(clean_up).await?;
        }
        fault::point("step.statement");
        for statement in &step.sql {
            if let Err(error) = self.session.execute(statement).await {
                // A half-built unique index rejects writers: it goes before anything else happens.
                if !error.is_lost() && self.ask(catalog.leftover).await? {
                    self.session.execute(clean_up).await?;
                }
                return Err(error);
            }
        }
        Ok(())
    }

    pub(super) async fn undo_alone(
        &mut self,
        running: &Running<'_>,
        step: &Step,
        catalog: &Catalog<'_>,
    ) -> Result<(), StepError> {
        self.intent(running, step).await?;
        let ours = self.ask(catalog.verify).await? || self.ask(catalog.leftover).await?;
        if ours {
            self.alone_settings(running).await?;
            let watcher = self.watch(step);
            let mut done = Ok(());
            for statement in &step.undo {
                done = done.and(self.session.execute(statement).await.map(drop));
            }
            watcher.abort();
            self.usual_settings(done).await?;
        }
        self.undo_nothing(running, step).await
    }

    async fn ask(&mut self, question: &str) -> Result<bool, PgError> {
        self.session.one(&format!("{question} AS value"), &[]).await
    }

    /// For a statement that waits for others to end and blocks nobody meanwhile.
    async fn alone_settings(&mut self, running: &Running<'_>) -> Result<(), PgError> {
        let path = path(&running.plan.search_path);
        let set = format!(
            "SET lock_timeout = 0; SET statement_timeout = '{ALONE_DEADLINE}'; SET search_path = {path}"
        );
        self.session.execute(&set).await.map(drop)
    }

    /// Back to the session's own settings, whatever came of the statement.
    async fn usual_settings(&mut self, done: Result<(), PgError>) -> Result<(), PgError> {
        if !done.as_ref().is_err_and(PgError::is_lost) {
            let back = "SET lock_timeout = '300ms'; SET statement_timeout = 0; SET search_path = pg_catalog, pg_temp";
            self.session.execute(back).await?;
        }
        done
    }

    /// Reports, from a second session, whom a long statement waits for.
    pub(super) fn watch(&self, step: &Step) -> tokio::task::JoinHandle<()> {
        let (engine, pid, title) = (self.engine.clone(), self.session.pid, step.title.clone());
        tokio::spawn(async move {
            // Most are done before there is something to report.
            tokio::time::sleep(WATCH_EVERY).await;
            let Ok(mut session) = Session::connect(&engine.target, "migrate watch").await else { return };
            for attempt in 1.. {
                match waits_for(&mut session, &engine.ledger.schema, pid).await {
                    Ok(blockers) if blockers.is_empty() => {}
                    Ok(blockers) => {
                        engine.observer.saw(Happening::Waiting { title: title.clone(), blockers, attempt });
                    }
                    Err(_) => return,
                }
                tokio::time::sleep(WATCH_EVERY).await;
            }
        })
    }
}
