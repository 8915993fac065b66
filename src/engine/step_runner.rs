//! Runs one step and records it: never twice, never by guessing whether it took effect.
//!
//! A transactional step commits together with its record, so after a lost connection the record is the answer. A step
//! that cannot run in a transaction is settled by its verify query. Locks that others queue behind are waited for
//! briefly, and again after a pause that is several times as long.

use std::time::{Duration, Instant};

use crate::decide::plan::{Mode, Plan, Require, Step};
use crate::engine::failure::{Failure, Outcome};
use crate::engine::fence::overtaken;
use crate::engine::step_alone::Catalog;
use crate::engine::{Engine, Happening, Runner};
use crate::pg::error::PgError;
use crate::pg::lease;
use crate::pg::locks::blockers;
use crate::pg::session::Session;
use crate::words::fault;
use crate::words::ident::{Ident, QualifiedName};
use crate::words::version::Version;

/// How long a lost server may take to come back.
const RECONNECT_BUDGET: Duration = Duration::from_secs(60);

/// How many rows in the way are listed.
const LISTED_ROWS: usize = 5;

/// The migration whose steps run.
pub(crate) struct Running<'a> {
    pub(crate) plan: &'a Plan,
    pub(crate) attempt: i64,
}

/// Whether a step is done or taken back.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Direction {
    Do,
    Undo,
}

impl Engine {
    /// Names the first rows of a table that a predicate finds, each in a line.
    pub(super) async fn rows_in_the_way(
        &self,
        session: &mut Session,
        plan: &Plan,
        condition: &Require,
    ) -> Outcome<Vec<String>> {
        // The predicate may be the author's.
        session.execute(&format!("BEGIN; SET LOCAL search_path = {}", path(&plan.search_path))).await?;
        let found = self.first_rows(session, condition).await;
        session.rollback().await;
        Ok(found?)
    }

    /// The same within a transaction.
    pub(super) async fn first_rows(
        &self,
        session: &mut Session,
        condition: &Require,
    ) -> Result<Vec<String>, PgError> {
        #[derive(serde::Deserialize)]
        struct Row {
            value: String,
        }
        let Require { table, predicate, .. } = condition;
        let key = match &condition.named {
            Some(named) => named.clone(),
            None => self.ledger.row_key(session, table).await?,
        };
        let query = format!("SELECT {key} AS value FROM {table} WHERE {predicate} LIMIT {}", LISTED_ROWS + 1);
        let rows = session.rows::<Row>(&query, &[]).await?;
        let mut details: Vec<String> =
            rows.iter().take(LISTED_ROWS).map(|row| format!("row with {}", row.value)).collect();
        if rows.len() > LISTED_ROWS {
            let count = format!("SELECT count(*) AS value FROM {table} WHERE {predicate}");
            details.push(format!("{} rows in all", session.one::<i64>(&count, &[]).await?));
        }
        Ok(details)
    }
}

impl Runner<'_> {
    /// Runs the steps that have no record yet.
    pub(crate) async fn run_steps(&mut self, running: &Running<'_>, steps: &[Step]) -> Outcome<()> {
        for step in steps {
            if !self.is_done(running, &step.id).await? {
                self.run_step(running, step, Direction::Do).await?;
            }
        }
        Ok(())
    }

    /// Takes back the steps that took effect, last first. A transaction that has only been started had none.
    pub(crate) async fn undo_steps(&mut self, running: &Running<'_>, steps: &[Step]) -> Outcome<()> {
        for step in steps.iter().rev() {
            let state = self.record(running, &step.id).await?;
            match (state.as_deref(), &step.mode) {
                (Some("done"), _) | (Some("started"), Mode::Alone { .. }) => {
                    self.run_step(running, step, Direction::Undo).await?;
                }
                _ => {}
            }
        }
        Ok(())
    }

    pub(super) async fn is_done(&mut self, running: &Running<'_>, id: &str) -> Outcome<bool> {
        Ok(self.record(running, id).await?.as_deref() == Some("done"))
    }

    async fn record(&mut self, running: &Running<'_>, id: &str) -> Outcome<Option<String>> {
        let records =
            self.engine.ledger.steps(&mut self.session, running.plan.version, running.attempt).await?;
        Ok(records.into_iter().find(|record| record.id == id).map(|record| record.state))
    }

    async fn run_step(&mut self, running: &Running<'_>, step: &Step, direction: Direction) -> Outcome<()> {
        let started = Instant::now();
        let mut conflicts = 0;
        loop {
            let result = match (&step.mode, direction) {
                (Mode::Transaction, _) => self.transaction(running, step, direction).await,
                (Mode::Alone { verify, leftover, clean_up, moot }, Direction::Do) => {
                    self.alone(running, step, &Catalog { verify, leftover, moot }, clean_up).await
                }
                (Mode::Alone { verify, leftover, moot, .. }, Direction::Undo) => {
                    self.undo_alone(running, step, &Catalog { verify, leftover, moot }).await
                }
                (Mode::Require(_), Direction::Undo) => self.undo_nothing(running, step).await,
                (Mode::Require(condition), Direction::Do) => {
                    self.require(running, step, condition).await?;
                    Ok(())
                }
            };
            match result {
                Ok(()) => break,
                Err(StepError::LeaseLost) => return Err(StepError::LeaseLost.failure()),
                Err(StepError::Foreign) => {
                    let failure = StepError::Foreign.failure();
                    let message = format!("step {} ({}): {}", step.id, step.title, failure.message);
                    return Err(Failure { message, ..failure });
                }
                Err(StepError::Pg(error)) if error.is_lock_conflict() => {
                    conflicts += 1;
                    self.wait_for_lock(step, conflicts, started, &error).await?;
                }
                Err(StepError::Pg(error)) if error.is_lost() => {
                    self.reconnect(&error).await?;
                    let wanted = if direction == Direction::Do { "done" } else { "undone" };
                    if self.record(running, &step.id).await?.as_deref() == Some(wanted) {
                        break;
                    }
                }
                Err(StepError::Pg(error)) => {
                    let failure = Failure::from(error);
                    let message = format!("step {} ({}): {}", step.id, step.title, failure.message);
                    return Err(Failure { message, ..failure });
                }
            }
        }
        fault::point("step.done");
        // A step that only counts in the other direction is nothing to look at.
        let silent = match direction {
            Direction::Do => step.sql.is_empty() && !matches!(step.mode, Mode::Require(_)),
            Direction::Undo => step.undo.is_empty(),
        };
        if silent {
            return Ok(());
        }
        let what = if direction == Direction::Do || step.sql.is_empty() {
            step.title.clone()
        } else {
            format!("take back: {}", step.title)
        };
        self.engine.observer.saw(Happening::Step { title: what, elapsed: started.elapsed() });
        Ok(())
    }

    /// One transaction: the lease, the statements, the record.
    async fn transaction(
        &mut self,
        running: &Running<'_>,
        step: &Step,
        direction: Direction,
    ) -> Result<(), StepError> {
        let (version, attempt) = (running.plan.version, running.attempt);
        if direction == Direction::Do {
            self.intent(running, step).await?;
        }
        fault::point("step.before");
        let briefly = step.locks.iter().any(|lock| lock.mode.blocks_traffic()) || step.locks.is_empty();
        let timeout = if briefly { self.engine.limits.lock_timeout } else { self.engine.limits.lock_total };
        // Who waits briefly says after each try who was in the way.
        let watcher = (!briefly).then(|| self.watch(step));
        let session = &mut self.session;
        let done = async {
            session.execute("BEGIN").await?;
            session.execute(&settings(&running.plan.search_path, timeout)).await?;
            if !lease::hold(session, &self.engine.ledger.schema, self.lease.epoch).await? {
                return Err(StepError::LeaseLost);
            }
            let sql = match (direction, &step.undo_when) {
                (Direction::Do, _) => step.sql.as_slice(),
                (Direction::Undo, Some(when)) if !holds(session, when).await? => &[],
                (Direction::Undo, _) => step.undo.as_slice(),
            };
            for statement in sql {
                session.execute(statement).await?;
                fault::point("step.statement");
            }
            session.execute("SET LOCAL search_path = pg_catalog, pg_temp").await?;
            match direction {
                Direction::Do => {
                    self.engine
                        .ledger
                        .step_end(session, version, attempt, &step.id, self.lease.epoch)
                        .await?;
                }
                Direction::Undo => {
                    self.engine
                        .ledger
                        .step_undone(session, version, attempt, &step.id, self.lease.epoch)
                        .await?;
                }
            }
            fault::point("step.before_commit");
            session.execute("COMMIT").await?;
            fault::point("step.after_commit");
            Ok(())
        }
        .await;
        if let Some(watcher) = watcher {
            watcher.abort();
        }
        if done.is_err() {
            self.session.rollback().await;
        }
        done
    }

    pub(super) async fn intent(&mut self, running: &Running<'_>, step: &Step) -> Result<(), StepError> {
        let ledger = &self.engine.ledger;
        let held = ledger
            .step_start(&mut self.session, running.plan.version, running.attempt, &step.id, self.lease.epoch)
            .await?;
        if held { Ok(()) } else { Err(StepError::LeaseLost) }
    }

    pub(super) async fn undo_nothing(&mut self, running: &Running<'_>, step: &Step) -> Result<(), StepError> {
        let (version, attempt) = (running.plan.version, running.attempt);
        self.engine
            .ledger
            .step_undone(&mut self.session, version, attempt, &step.id, self.lease.epoch)
            .await?;
        Ok(())
    }

    /// A condition on the data; rows in the way are listed by key.
    async fn require(&mut self, running: &Running<'_>, step: &Step, condition: &Require) -> Outcome<()> {
        let version = running.plan.version;
        let details = self.engine.rows_in_the_way(&mut self.session, running.plan, condition).await?;
        if details.is_empty() {
            self.intent(running, step).await.map_err(StepError::failure)?;
            let (attempt, epoch) = (running.attempt, self.lease.epoch);
            self.engine.ledger.step_end(&mut self.session, version, attempt, &step.id, epoch).await?;
            return Ok(());
        }
        let next = match condition.accept {
            Some(_) => format!("migrate reopen {version}, then migrate contract {version} says what to do"),
            None => format!(
                "correct those rows and run `migrate contract {version}` again, or `migrate reopen {version}`"
            ),
        };
        Err(Failure::failed(condition.says.clone()).details(details).next(next))
    }

    /// Says who is in the way, and pauses for several times the lock timeout: shorter pauses only cost throughput.
    pub(super) async fn wait_for_lock(
        &mut self,
        step: &Step,
        attempt: u32,
        started: Instant,
        error: &PgError,
    ) -> Outcome<()> {
        let tables: Vec<QualifiedName> = step.locks.iter().map(|lock| lock.table.clone()).collect();
        let found = blockers(&mut self.session, &self.engine.ledger.schema, &tables).await?;
        self.engine.observer.saw(Happening::Waiting {
            title: step.title.clone(),
            blockers: found.clone(),
            attempt,
        });
        if started.elapsed() > self.engine.limits.lock_total {
            return Err(Failure::failed(format!("step {} ({}) got no lock for {} s: {error}", step.id, step.title, started.elapsed().as_secs()))
                .details(found.iter().map(|blocker| format!("in the way: {blocker}")).collect())
                .next("end those sessions, for instance with SELECT pg_terminate_backend(pid), and run the same command again"));
        }
        let pause = self.engine.limits.lock_timeout.as_secs_f64() * (3.0 + 2.0 * fastrand::f64());
        tokio::time::sleep(Duration::from_secs_f64(pause)).await;
        Ok(())
    }

    /// A new session after a lost one, once the old backend is certainly gone.
    pub(crate) async fn reconnect(&mut self, error: &PgError) -> Outcome<()> {
        self.engine.observer.saw(Happening::Reconnecting { reason: error.to_string() });
        let (old, deadline) = (self.session.pid, Instant::now() + RECONNECT_BUDGET);
        loop {
            match self.engine.writing_session("migrate").await {
                Ok(mut session) => {
                    // The server may be slow to notice that the old connection broke.
                    if self.engine.ledger.backend_is_gone(&mut session, old).await? {
                        self.session = session;
                        return Ok(());
                    }
                }
                Err(failure) if Instant::now() > deadline => return Err(failure),
                Err(_) => {}
            }
            if Instant::now() > deadline {
                return Err(Failure::environment(format!(
                    "backend {old} of the lost connection is still at work"
                ))
                .next("run the same command again"));
            }
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
    }
}

/// Whether a condition on the catalog is true.
async fn holds(session: &mut Session, condition: &str) -> Result<bool, PgError> {
    session.one(&format!("SELECT {condition} AS value"), &[]).await
}

/// Why a try of a step did not succeed.
pub(super) enum StepError {
    LeaseLost,
    /// What the step would make is there, and not of our making.
    Foreign,
    Pg(PgError),
}

impl StepError {
    fn failure(self) -> Failure {
        match self {
            Self::LeaseLost => overtaken(),
            Self::Foreign => Failure::refused("an index of that name was made by somebody else".to_owned())
                .next("drop or rename it, and run the same command again"),
            Self::Pg(error) => error.into(),
        }
    }
}

impl From<PgError> for StepError {
    fn from(error: PgError) -> Self {
        Self::Pg(error)
    }
}

/// The search path of the author's statements, as SQL.
pub(super) fn path(search_path: &[Ident]) -> String {
    let mut names: Vec<String> = search_path.iter().map(ToString::to_string).collect();
    names.push("pg_temp".to_owned());
    names.join(", ")
}

pub(super) fn settings(search_path: &[Ident], lock_timeout: Duration) -> String {
    format!(
        "SET LOCAL search_path = {}; SET LOCAL lock_timeout = '{}ms'",
        path(search_path),
        lock_timeout.as_millis()
    )
}

/// The name under which a session of ours appears in the activity view.
pub(crate) fn session_name(command: &str, version: Version) -> String {
    format!("migrate {command} {version}")
}
