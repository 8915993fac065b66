//! Backfill: the data work, in batches, by as many workers as are started, on as many machines.
//!
//! A job is cut into chunks of pages once, when the sync triggers are in place; rows that come later are the triggers'
//! business. A worker holds a chunk by locking its row in the transaction of each batch, and the chunk's marker commits
//! with the batch's data: a kill loses nothing and repeats nothing. No clock is trusted and nobody coordinates.

use std::time::{Duration, Instant};

use crate::decide::plan::{Job, Once, Plan};
use crate::decide::state::{Event, State};
use crate::engine::batch::{batch_begin, batch_change, next_size};
use crate::engine::failure::{Failure, Kind, Outcome};
use crate::engine::step_runner::session_name;
use crate::engine::{Engine, Happening};
use crate::pg::error::PgError;
use crate::pg::jobs::Chunk;
use crate::pg::locks::blockers;
use crate::pg::session::Session;
use crate::words::fault;
use crate::words::version::Version;

/// Pages of a chunk: 64 MB, seconds of work, small enough that many workers find something to do.
const CHUNK_PAGES: i64 = 8_192;

/// Pages of the first batch, before anything is known of the table.
const FIRST_BATCH_PAGES: i64 = 16;

/// What to do.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    /// Only these; all that are due if empty.
    pub(crate) versions: Vec<Version>,
    pub(crate) workers: usize,
}

/// What a batch did.
pub(crate) enum Batch {
    /// Committed, data and marker.
    Done,
    /// No chunk is free.
    NothingFree,
    /// The table was rewritten: its pages mean nothing any more.
    Rewritten,
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
        for entry in entries {
            let named = request.versions.is_empty() || request.versions.contains(&entry.version);
            match entry.state {
                State::Expanded | State::Backfilling if named => {
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
        while self.ledger.chunks_left(session, version, &job.id).await? > 0 {
            self.work(plan, job, workers).await?;
            if self.ledger.chunks_left(session, version, &job.id).await? == 0 {
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

    /// Runs workers until no chunk is free.
    async fn work(&self, plan: &Plan, job: &Job, workers: usize) -> Outcome<()> {
        let mut running = tokio::task::JoinSet::new();
        for _ in 0..workers.max(1) {
            let (engine, plan, job) = (self.clone(), plan.clone(), job.clone());
            running.spawn(async move { engine.worker(&plan, &job).await });
        }
        let mut failure = None;
        while let Some(ended) = running.join_next().await {
            match ended {
                Ok(Ok(())) => {}
                Ok(Err(error)) => failure = failure.or(Some(error)),
                Err(error) => {
                    failure =
                        failure.or_else(|| Some(Failure::failed(format!("a worker ended badly: {error}"))));
                }
            }
        }
        failure.map_or(Ok(()), Err)
    }

    /// One worker: batch after batch, sized so that each takes the target time.
    async fn worker(&self, plan: &Plan, job: &Job) -> Outcome<()> {
        let version = plan.version;
        let mut session = self.writing_session(&session_name("backfill", version)).await?;
        let mut pages = FIRST_BATCH_PAGES;
        let mut stuck_since: Option<Instant> = None;
        let mut shown = Instant::now();
        let mut attempt = 0;
        loop {
            let started = Instant::now();
            match self.batch(&mut session, plan, job, pages).await {
                Ok(Batch::Done) => {
                    pages = next_size(pages, started.elapsed(), self.limits.batch_target);
                    stuck_since = None;
                    fault::point("backfill.batch_done");
                }
                Ok(Batch::NothingFree) => {
                    session.close().await;
                    return Ok(());
                }
                Ok(Batch::Rewritten) => self.recut(&mut session, version, job).await?,
                Err(error) if error.is_lock_conflict() => {
                    pages = (pages / 2).max(1);
                    attempt += 1;
                    let since = *stuck_since.get_or_insert(started);
                    self.stuck(&mut session, job, since, attempt, &error).await?;
                }
                Err(error) if error.is_lost() => {
                    self.observer.saw(Happening::Reconnecting { reason: error.to_string() });
                    session = self.reconnected(version, started).await?;
                }
                Err(error) if pages > 1 => {
                    tracing::debug!(%error, pages, "batch failed, halving");
                    pages = (pages / 2).max(1);
                }
                Err(error)
                    if job.once().is_some() && error.code().is_some_and(|code| code.starts_with("42")) =>
                {
                    return Err(Failure::failed(format!("the data job on {} cannot go on: {error}", job.table.plain()))
                        .next(format!("bring back what is missing and run `migrate backfill {version}` again, or `migrate abort {version}`")));
                }
                Err(error) => return Err(self.name_the_row(&mut session, plan, job, error).await),
            }
            if shown.elapsed() > Duration::from_millis(200) {
                shown = Instant::now();
                self.progress(&mut session, version, job).await?;
            }
        }
    }

    async fn reconnected(&self, version: Version, since: Instant) -> Outcome<Session> {
        loop {
            match self.writing_session(&session_name("backfill", version)).await {
                Ok(session) => return Ok(session),
                Err(failure) if since.elapsed() > Duration::from_secs(60) => return Err(failure),
                Err(_) => tokio::time::sleep(Duration::from_millis(500)).await,
            }
        }
    }

    /// One transaction: a chunk, its next pages, the marker.
    async fn batch(
        &self,
        session: &mut Session,
        plan: &Plan,
        job: &Job,
        pages: i64,
    ) -> Result<Batch, PgError> {
        let version = plan.version;
        session.execute(&batch_begin(job, &plan.search_path)).await?;
        let result = async {
            let Some(chunk) = self.ledger.chunk_claim(session, version, &job.id).await? else {
                return Ok(Batch::NothingFree);
            };
            let Chunk { first_page, next_page, end_page } = chunk;
            let next = (next_page + pages).min(end_page);
            let mut rows = 0;
            for statement in batch_change(job, next_page, next) {
                rows = session.execute(&statement).await?;
            }
            fault::point("backfill.updated");
            // Looked at behind the UPDATE, whose lock keeps a rewrite out until we commit.
            // A list of numbers is the same after a rewrite.
            if job.once().is_none() && !self.ledger.job_is_current(session, version, &job.id).await? {
                return Ok(Batch::Rewritten);
            }
            let rows = i64::try_from(rows).unwrap_or(i64::MAX);
            self.ledger.chunk_advance(session, version, &job.id, first_page, next, rows).await?;
            fault::point("backfill.before_commit");
            session.execute("COMMIT").await?;
            Ok(Batch::Done)
        }
        .await;
        if !matches!(result, Ok(Batch::Done)) {
            session.rollback().await;
        }
        result
    }

    /// A rewrite moved every row: the job begins anew on the new pages. What is converted is skipped by its predicate.
    async fn recut(&self, session: &mut Session, version: Version, job: &Job) -> Outcome<()> {
        self.note(format!(
            "{} was rewritten (VACUUM FULL or CLUSTER): reading it from the start",
            job.table.plain()
        ));
        let recut = async {
            session.execute("BEGIN").await?;
            if !self.ledger.job_is_current(session, version, &job.id).await? {
                self.ledger.job_reset(session, version, &job.id).await?;
                self.ledger.job_start(session, version, job, CHUNK_PAGES, None).await?;
            }
            session.execute("COMMIT").await.map(drop)
        }
        .await;
        match recut {
            Ok(()) => Ok(()),
            // Another worker is in the middle of a batch: the next one of ours finds the table rewritten again.
            Err(error) if error.is_lock_conflict() => {
                session.rollback().await;
                Ok(())
            }
            Err(error) => Err(error.into()),
        }
    }

    /// A row or the table is held by somebody: say by whom, pause, give up after the total.
    async fn stuck(
        &self,
        session: &mut Session,
        job: &Job,
        since: Instant,
        attempt: u32,
        error: &PgError,
    ) -> Outcome<()> {
        let found = blockers(session, &self.ledger.schema, std::slice::from_ref(&job.table)).await?;
        if since.elapsed() > self.limits.lock_total {
            return Err(Failure::failed(format!(
                "the backfill of {} got no lock for {} s: {error}",
                job.table.plain(),
                since.elapsed().as_secs()
            ))
            .details(found.iter().map(|blocker| format!("in the way: {blocker}")).collect())
            .next("end those sessions, and run `migrate backfill` again: it goes on where it stopped"));
        }
        self.observer.saw(Happening::Waiting {
            title: format!("backfill of {}", job.table.plain()),
            blockers: found,
            attempt,
        });
        tokio::time::sleep(Duration::from_millis(u64::from(fastrand::u32(200..600)))).await;
        Ok(())
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
