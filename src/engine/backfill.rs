//! Backfill: the data work, in batches, by as many workers as are started, on as many machines.
//!
//! A job is cut into chunks of pages once, when the sync triggers are in place; rows that come later are the triggers'
//! business. A worker holds a chunk by locking its row in the transaction of each batch, and the chunk's marker commits
//! with the batch's data: a kill loses nothing and repeats nothing. No clock is trusted and nobody coordinates.

use std::time::{Duration, Instant};

use crate::decide::plan::{Job, Once, Plan};
use crate::decide::state::{Event, State};
use crate::engine::batch::batch_begin;
use crate::engine::failure::{Failure, Kind, Outcome};
use crate::engine::{Engine, Happening};
use crate::pg::error::PgError;
use crate::pg::ledger::Entry;
use crate::pg::session::Session;
use crate::words::fault;
use crate::words::version::Version;

/// Pages of a chunk: 64 MB, seconds of work, small enough that many workers find something to do.
pub(super) const CHUNK_PAGES: i64 = 8_192;

/// What to do.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    /// Only these; all that are due if empty.
    pub(crate) versions: Vec<Version>,
    pub(crate) workers: usize,
}

impl Engine {
    /// Backfills everything that is due. Gives the versions, with what became of them.
    pub(crate) async fn backfill(&self, request: &Request) -> Outcome<Vec<(Version, State)>> {
        let mut session = self.session_with_ledger("migrate backfill").await?;
        let entries = self.ledger.entries(&mut session).await?;
        for wanted in &request.versions {
            self.entry(&mut session, *wanted).await?;
        }
        let mut done = Vec::new();
        for listed in entries {
            // Others may have finished it, or aborted it, while this process worked on the one before.
            let entry = self.entry(&mut session, listed.version).await?;
            let named = request.versions.is_empty() || request.versions.contains(&entry.version);
            match entry.state {
                State::Expanded | State::Backfilling if named => {
                    self.check_order(&mut session, &entry).await?;
                    let state =
                        self.backfill_one(&mut session, entry.version, entry.state, request.workers).await?;
                    done.push((entry.version, state));
                }
                State::Ready if named => {
                    let (plan, _) = self.stored_plan(&mut session, entry.version).await?;
                    if entry.verified == Some(true) && !self.has_new_parts(&mut session, &plan).await? {
                        continue;
                    }
                    done.push((entry.version, self.settle(&plan).await?));
                }
                State::Expanding if named => {
                    return Err(Failure::refused(format!("migration {} is not expanded yet", entry.version))
                        .next("migrate expand"));
                }
                _ => {}
            }
        }
        session.close().await;
        Ok(done)
    }

    /// Data jobs and moves on the same rows are done, and behind what fills them, in the order in which they were written.
    async fn check_order(&self, session: &mut Session, entry: &Entry) -> Outcome<()> {
        let (plan, _) = self.stored_plan(session, entry.version).await?;
        let tables = plan.tables_of_jobs();
        for earlier in self.ledger.entries(session).await? {
            if tables.is_empty() || earlier.version >= entry.version || !earlier.state.has_jobs_to_do() {
                continue;
            }
            let (other, _) = self.stored_plan(session, earlier.version).await?;
            let mut rows = other.tables_of_jobs();
            // Those of a rename too: until then its new column is empty.
            rows.extend(other.jobs.iter().map(|job| job.table.clone()));
            if let Some(table) = rows.iter().find(|table| tables.contains(table)) {
                let (version, table) = (earlier.version, table.plain());
                let title = format!("migration {version} is to change or read the rows of {table} first");
                return Err(Failure::refused(title).next(format!("migrate backfill {version}")));
            }
        }
        Ok(())
    }

    async fn backfill_one(
        &self,
        session: &mut Session,
        version: Version,
        state: State,
        workers: usize,
    ) -> Outcome<State> {
        let (plan, _) = self.stored_plan(session, version).await?;
        self.observer.saw(Happening::Phase { version, name: plan.name.clone(), what: "backfill" });
        self.check_drift(session, &plan).await?;
        self.check_throttles(session).await?;
        self.start_jobs(session, &plan, state).await?;
        fault::point("backfill.started");
        for job in &plan.jobs {
            if let Some(once) = job.once() {
                self.list_rows(session, &plan, job, once).await?;
            }
            for part in self.ledger.parts(session, job).await? {
                if !self.work_through(session, &plan, &part, workers).await? {
                    return self.stopped(session, version).await;
                }
            }
        }
        fault::point("backfill.chunks_done");
        loop {
            match self.settle(&plan).await {
                Err(failure) if failure.kind == Kind::Busy => {
                    // Another process settles; its result is ours.
                    if self.state_of(session, version).await? != State::Backfilling {
                        return self.stopped(session, version).await;
                    }
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
                Ok(State::Aborting | State::Aborted) => return self.stopped(session, version).await,
                settled => return settled,
            }
        }
    }

    /// Works until no page or row of a job is left, here or in another process. False if the migration left its backfill
    /// state.
    async fn work_through(
        &self,
        session: &mut Session,
        plan: &Plan,
        job: &Job,
        workers: usize,
    ) -> Outcome<bool> {
        let version = plan.version;
        while self.left(session, version, job).await? > 0 {
            self.work(plan, job, workers).await?;
            if self.left(session, version, job).await? == 0 {
                break;
            }
            if self.state_of(session, version).await? != State::Backfilling {
                return Ok(false);
            }
            // The rest is held by workers of another process.
            self.progress(session, version, job).await?;
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        self.progress(session, version, job).await?;
        self.observer.saw(Happening::ProgressDone);
        Ok(true)
    }

    /// Chunks with work left. The session has been idle while the workers worked: it may be lost.
    async fn left(&self, session: &mut Session, version: Version, job: &Job) -> Outcome<i64> {
        loop {
            match self.ledger.chunks_left(session, version, &job.id).await {
                Err(error) if error.is_lost() => {
                    self.observer.saw(Happening::Reconnecting { reason: error.to_string() });
                    *session = self.reconnected(version, Instant::now()).await?;
                }
                left => return Ok(left?),
            }
        }
    }

    async fn state_of(&self, session: &mut Session, version: Version) -> Outcome<State> {
        Ok(self.entry(session, version).await?.state)
    }

    /// The migration left its backfill state under us: finished by another process, or aborted.
    async fn stopped(&self, session: &mut Session, version: Version) -> Outcome<State> {
        match self.state_of(session, version).await? {
            State::Aborting | State::Aborted => {
                Err(Failure::refused(format!("migration {version} was aborted meanwhile"))
                    .next("migrate status"))
            }
            state => Ok(state),
        }
    }

    /// Freezes the set of rows of every job. Many processes may call it at once.
    async fn start_jobs(&self, session: &mut Session, plan: &Plan, state: State) -> Outcome<()> {
        session.execute("BEGIN").await?;
        let started = async {
            if state == State::Expanded {
                match self.ledger.advance(session, plan.version, state, Event::BackfillStarted, 0).await {
                    // Another process was faster, which is just as well.
                    Ok(_) | Err(PgError::Overtaken(_)) => {}
                    Err(error) => return Err(error),
                }
            }
            for job in plan.jobs.iter().filter(|job| job.once().is_none()) {
                for part in self.ledger.parts(session, job).await? {
                    self.ledger.job_start(session, plan.version, &part, CHUNK_PAGES, None).await?;
                }
            }
            session.execute("COMMIT").await
        }
        .await;
        if started.is_err() {
            session.rollback().await;
        }
        started?;
        Ok(())
    }

    /// Lists the rows of a data job, and starts it in the same transaction; only one of many processes does.
    async fn list_rows(&self, session: &mut Session, plan: &Plan, job: &Job, once: &Once) -> Outcome<()> {
        loop {
            session.execute(&batch_begin(job, &plan.search_path)).await?;
            let listed = async {
                if !self.ledger.list_lock(session, &once.list).await? {
                    return Ok(false);
                }
                if self.ledger.job_exists(session, plan.version, &job.id).await? {
                    return Ok(true);
                }
                for statement in &once.make {
                    session.execute(statement).await?;
                }
                fault::point("backfill.listed");
                let count = format!("SELECT count(*) AS value FROM {}", once.list);
                let rows: i64 = session.one(&count, &[]).await?;
                if self.ledger.job_start(session, plan.version, job, CHUNK_PAGES, Some(rows)).await? {
                    session.execute("COMMIT").await?;
                }
                Ok::<bool, PgError>(true)
            }
            .await;
            session.rollback().await;
            match listed {
                Ok(true) => return Ok(()),
                // Another process lists them; it takes as long as reading the table.
                Ok(false) => tokio::time::sleep(Duration::from_millis(300)).await,
                Err(error) if error.is_lock_conflict() => {
                    self.note(format!("waiting: {} is locked", job.table.plain()));
                    tokio::time::sleep(Duration::from_millis(300)).await;
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    pub(crate) async fn progress(&self, session: &mut Session, version: Version, job: &Job) -> Outcome<()> {
        let all = self.ledger.progress(session, version).await?;
        if let Some(progress) = all.into_iter().find(|progress| progress.id == job.id) {
            self.observer.saw(Happening::Progress {
                job: job.table.plain(),
                unit: progress.unit(),
                pages: progress.pages,
                pages_done: progress.pages_done,
                converted: progress.converted,
            });
        }
        Ok(())
    }
}
