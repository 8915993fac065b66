//! The workers of a backfill: one batch after the other, each a transaction that holds its chunk, until no chunk is free.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::decide::plan::{Job, Plan};
use crate::engine::backfill::CHUNK_PAGES;
use crate::engine::batch::{batch_begin, batch_change, next_size};
use crate::engine::failure::{Failure, Outcome};
use crate::engine::step_runner::session_name;
use crate::engine::throttle::Looked;
use crate::engine::{Engine, Happening};
use crate::pg::error::PgError;
use crate::pg::jobs::Chunk;
use crate::pg::locks::blockers;
use crate::pg::session::Session;
use crate::words::fault;
use crate::words::version::Version;

/// Pages of the first batch, before anything is known of the table.
const FIRST_BATCH_PAGES: i64 = 16;

/// What a batch did.
enum Batch {
    /// Committed, data and marker.
    Done,
    /// No chunk is free.
    NothingFree,
    /// The table was rewritten: its pages mean nothing any more.
    Rewritten,
}

impl Engine {
    /// Runs workers until no chunk is free.
    pub(super) async fn work(&self, plan: &Plan, job: &Job, workers: usize) -> Outcome<()> {
        let looked = Arc::new(Looked::default());
        let mut running = tokio::task::JoinSet::new();
        for _ in 0..workers.max(1) {
            let (engine, plan, job) = (self.clone(), plan.clone(), job.clone());
            let looked = Arc::clone(&looked);
            running.spawn(async move { engine.worker(&plan, &job, &looked).await });
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
    async fn worker(&self, plan: &Plan, job: &Job, looked: &Looked) -> Outcome<()> {
        let version = plan.version;
        let mut session = self.writing_session(&session_name("backfill", version)).await?;
        let mut pages = FIRST_BATCH_PAGES;
        let mut stuck_since: Option<Instant> = None;
        let mut shown = Instant::now();
        let mut attempt = 0;
        loop {
            let paced = self.pace(&mut session, version, looked).await;
            let started = Instant::now();
            let batch = match paced {
                Ok(()) => self.batch(&mut session, plan, job, pages).await,
                Err(error) if error.is_lost() => Err(error),
                Err(error) => return Err(error.into()),
            };
            match batch {
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
                // Only shows; the next batch finds what is wrong.
                if let Err(failure) = self.progress(&mut session, version, job).await {
                    tracing::debug!(?failure, "progress");
                }
            }
        }
    }

    pub(super) async fn reconnected(&self, version: Version, since: Instant) -> Outcome<Session> {
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
        let found = match blockers(session, &self.ledger.schema, std::slice::from_ref(&job.table)).await {
            Ok(found) => found,
            // The next batch finds it lost too, and connects again.
            Err(error) if error.is_lost() => Vec::new(),
            Err(error) => return Err(error.into()),
        };
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
}
