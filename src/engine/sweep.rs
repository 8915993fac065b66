//! What one process does after the last chunk: the last sweep, late indexes and statistics, verification.

use crate::decide::plan::{Job, Plan, Work};
use crate::decide::state::{Event, State};
use crate::decide::sync::KEEP_SETTING;
use crate::engine::batch::{batch_begin, convert_rows, range, resync_rows};
use crate::engine::failure::{Failure, Outcome};
use crate::engine::step_runner::{self, Running};
use crate::engine::{Engine, Happening, RUNNER_WAIT, Runner};
use crate::pg::error::PgError;
use crate::pg::lease::hold;
use crate::pg::session::Session;
use crate::words::fault;
use crate::words::ident::{Ident, QualifiedName};
use crate::words::version::Version;

/// Pages read at once by the sweep and by verification: nearly all rows need nothing by then.
const SWEEP_PAGES: i64 = 1_024;

/// Tries at a range of pages whose table or rows somebody has locked, and the pause between two of them: three minutes.
const MAX_CONFLICTS: u32 = 600;
const CONFLICT_PAUSE: std::time::Duration = std::time::Duration::from_millis(300);

/// Sweeps before giving up. Each further one reads what the one before had to convert.
const MAX_SWEEPS: u32 = 10;

/// How many wrong rows are listed.
const LISTED_ROWS: i64 = 5;

/// The names that columns have: before or after the seal.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Names {
    Open,
    Sealed,
}

impl Engine {
    /// Takes the lease and brings a migration whose chunks are done to ready.
    pub(crate) async fn settle(&self, plan: &Plan) -> Outcome<State> {
        let session = self.writing_session("migrate backfill").await?;
        let mut runner = self.runner(session, "backfill", RUNNER_WAIT).await?;
        let settled = runner.settle_one(plan).await;
        runner.release().await;
        settled
    }

    /// Compares the columns of migrations that are ready or sealed again. Gives those that were clean.
    pub(crate) async fn verify(&self, versions: &[Version]) -> Outcome<Vec<Version>> {
        let session = self.session_with_ledger("migrate verify").await?;
        let mut runner = self.runner(session, "verify", RUNNER_WAIT).await?;
        let result = runner.verify_due(versions).await;
        runner.release().await;
        result
    }

    /// Whether a table of the plan has got a partition at whose rows nobody has looked.
    pub(crate) async fn has_new_parts(&self, session: &mut Session, plan: &Plan) -> Outcome<bool> {
        for job in plan.jobs.iter().filter(|job| job.is_by_partition()) {
            for part in self.ledger.parts(session, job).await? {
                if !self.ledger.job_exists(session, plan.version, &part.id).await? {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }
}

impl Runner<'_> {
    async fn settle_one(&mut self, plan: &Plan) -> Outcome<State> {
        let entry = self.engine.entry(&mut self.session, plan.version).await?;
        match entry.state {
            State::Backfilling => {}
            // Verification failed, or has not run since: convert what is left and look again.
            State::Ready => {
                for job in self.parts(plan).await? {
                    self.sweep(&plan.search_path, &job).await?;
                    self.engine.ledger.job_admit(&mut self.session, plan.version, &job).await?;
                }
                self.verify_plan(plan, Names::Open).await?;
                return Ok(State::Ready);
            }
            state => return Ok(state),
        }
        for job in plan.jobs.iter().filter(|job| !job.can_be_checked()) {
            self.engine.ledger.job_finish(&mut self.session, plan.version, &job.id, 0).await?;
        }
        for job in self.parts(plan).await? {
            let swept = self.sweep(&plan.search_path, &job).await?;
            self.engine.ledger.job_admit(&mut self.session, plan.version, &job).await?;
            self.engine.ledger.job_finish(&mut self.session, plan.version, &job.id, swept).await?;
            fault::point("backfill.swept");
        }
        let running = Running { plan, attempt: entry.attempt };
        self.run_steps(&running, &plan.settle).await?;
        self.verify_plan(plan, Names::Open).await?;
        fault::point("backfill.verified");
        self.begin().await?;
        self.store_fingerprint(plan).await?;
        let (ledger, session) = (&self.engine.ledger, &mut self.session);
        let state =
            ledger.advance(session, plan.version, State::Backfilling, Event::BackfillFinished, 0).await?;
        self.commit().await?;
        Ok(state)
    }

    /// The jobs that can be checked, one for each partition that there is now.
    async fn parts(&mut self, plan: &Plan) -> Outcome<Vec<Job>> {
        let mut parts = Vec::new();
        for job in plan.jobs.iter().filter(|job| job.can_be_checked()) {
            let mut conflicts = 0;
            loop {
                // To list partitions the server locks them.
                match self.engine.ledger.parts(&mut self.session, job).await {
                    Err(error) if error.is_lock_conflict() && conflicts < MAX_CONFLICTS => {
                        conflicts += 1;
                        self.wait_for(&job.table, conflicts).await;
                    }
                    Err(error) if error.is_lost() => self.reconnect(&error).await?,
                    found => {
                        parts.extend(found?);
                        break;
                    }
                }
            }
        }
        Ok(parts)
    }

    /// Reads the table until one reading finds nothing to convert. Gives the number of rows that were converted.
    async fn sweep(&mut self, path: &[Ident], job: &Job) -> Outcome<i64> {
        let mut total = 0;
        for _ in 0..MAX_SWEEPS {
            let found = self.sweep_once(path, job, Names::Open).await?;
            if found == 0 {
                return Ok(total);
            }
            total += found;
        }
        Err(Failure::failed(format!(
            "rows of {} keep being left unconverted after {MAX_SWEEPS} sweeps",
            job.table.plain()
        ))
        .next("look for a trigger that changes the mapped columns back, then run `migrate backfill` again"))
    }

    /// While sealed the new columns are right: brings the hidden old ones up to them where somebody wrote past the triggers,
    /// or a partition came from elsewhere.
    pub(crate) async fn resync(&mut self, plan: &Plan) -> Outcome<i64> {
        let mut total = 0;
        for job in self.parts(plan).await? {
            total += self.resync_one(&plan.search_path, &job).await?;
        }
        Ok(total)
    }

    async fn resync_one(&mut self, path: &[Ident], job: &Job) -> Outcome<i64> {
        match &job.work {
            Work::Convert(convert) if !convert.resync.is_empty() => {
                self.sweep_once(path, job, Names::Sealed).await
            }
            _ => Ok(0),
        }
    }

    async fn sweep_once(&mut self, path: &[Ident], job: &Job, names: Names) -> Outcome<i64> {
        let Some((table, _)) = job.check(names == Names::Sealed) else { return Ok(0) };
        let pages = self.pages(table).await?;
        let (mut first, mut size, mut converted, mut conflicts) = (0, SWEEP_PAGES, 0, 0);
        while first < pages {
            let end = (first + size).min(pages);
            match self.sweep_range(path, job, names, first, end).await {
                Ok(rows) => {
                    converted += i64::try_from(rows).unwrap_or(i64::MAX);
                    (first, size, conflicts) = (end, SWEEP_PAGES, 0);
                }
                Err(error) if error.is_lock_conflict() && conflicts < MAX_CONFLICTS => {
                    (size, conflicts) = ((size / 2).max(1), conflicts + 1);
                    tokio::time::sleep(CONFLICT_PAUSE).await;
                }
                Err(error) if error.is_lost() => self.reconnect(&error).await?,
                // A partition was dropped meanwhile.
                Err(_) if self.engine.ledger.pages(&mut self.session, table).await? == 0 => break,
                Err(error @ PgError::Refused(_)) => {
                    let failure = Failure::from(error);
                    let message = format!(
                        "rows of {}, among those of the last look, cannot be brought into step: {}",
                        table.plain(),
                        failure.message
                    );
                    let next = failure.next.clone().unwrap_or_else(|| {
                        "correct the rows that it speaks of, then migrate backfill".to_owned()
                    });
                    return Err(Failure { message, next: Some(next), ..failure });
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(converted)
    }

    async fn sweep_range(
        &mut self,
        path: &[Ident],
        job: &Job,
        names: Names,
        first: i64,
        end: i64,
    ) -> Result<u64, PgError> {
        let (ledger, epoch) = (self.engine.ledger.schema.clone(), self.lease.epoch);
        let session = &mut self.session;
        let done = async {
            session.execute(&batch_begin(job, path)).await?;
            if !hold(session, &ledger, epoch).await? {
                return Err(PgError::Overtaken("another runner has taken over".to_owned()));
            }
            let mut rows = 0;
            let statements = match names {
                Names::Open => convert_rows(job, |row| range(row, first, end)),
                // It sets other columns.
                Names::Sealed => [format!("SET LOCAL {KEEP_SETTING} = ''")]
                    .into_iter()
                    .chain(resync_rows(job, &range("", first, end)))
                    .collect(),
            };
            for statement in statements {
                rows = session.execute(&statement).await?;
            }
            session.execute("COMMIT").await?;
            Ok(rows)
        }
        .await;
        if done.is_err() {
            self.session.rollback().await;
        }
        done
    }

    async fn verify_due(&mut self, versions: &[Version]) -> Outcome<Vec<Version>> {
        let entries = self.engine.ledger.entries(&mut self.session).await?;
        let mut done = Vec::new();
        for wanted in versions {
            self.engine.entry(&mut self.session, *wanted).await?;
        }
        for entry in entries {
            let names = match entry.state {
                State::Ready | State::Closing => Names::Open,
                State::Sealed => Names::Sealed,
                _ => continue,
            };
            if versions.is_empty() || versions.contains(&entry.version) {
                let (plan, _) = self.engine.stored_plan(&mut self.session, entry.version).await?;
                let (session, version) = (&mut self.session, entry.version);
                if names == Names::Sealed
                    && self.engine.any_step_is("undone", session, version, entry.attempt, &plan.seal).await?
                {
                    let title = format!("a reopen of migration {version} was begun and not finished");
                    return Err(Failure::refused(title).next(format!("migrate reopen {version}")));
                }
                self.verify_plan(&plan, names).await?;
                done.push(entry.version);
            }
        }
        Ok(done)
    }

    /// Counts the rows that are not consistent. A failure is remembered until a later verification is clean.
    pub(crate) async fn verify_plan(&mut self, plan: &Plan, names: Names) -> Outcome<()> {
        self.engine.observer.saw(Happening::Note(format!("migration {}: verifying", plan.version)));
        for job in self.parts(plan).await? {
            let Some((table, wrong)) = job.check(names == Names::Sealed) else { continue };
            if names == Names::Sealed {
                if !self.engine.ledger.job_exists(&mut self.session, plan.version, &job.id).await? {
                    self.resync_one(&plan.search_path, &job).await?;
                } else if job.is_checked_closed() {
                    continue;
                }
            }
            let rows = match self.wrong_rows(&plan.search_path, table, wrong).await {
                Ok(rows) => rows,
                Err(failure) => {
                    self.engine.ledger.set_verified(&mut self.session, plan.version, false).await?;
                    return Err(failure);
                }
            };
            if !rows.is_empty() {
                self.engine.ledger.set_verified(&mut self.session, plan.version, false).await?;
                let next = match names {
                    Names::Open => format!("migrate backfill {}", plan.version),
                    Names::Sealed => {
                        format!("migrate reopen {}, then migrate verify {}", plan.version, plan.version)
                    }
                };
                return Err(Failure::failed(format!(
                    "verification of {} failed: old and new columns disagree",
                    job.table.plain()
                ))
                .details(rows.iter().map(|key| format!("row with {key}")).collect())
                .next(next));
            }
            self.engine.ledger.job_admit(&mut self.session, plan.version, &job).await?;
        }
        self.engine.ledger.set_verified(&mut self.session, plan.version, true).await?;
        Ok(())
    }

    /// Pages of a table, once nobody has it locked.
    async fn pages(&mut self, table: &QualifiedName) -> Outcome<i64> {
        let mut conflicts = 0;
        loop {
            match self.engine.ledger.pages(&mut self.session, table).await {
                Err(error) if error.is_lock_conflict() && conflicts < MAX_CONFLICTS => {
                    conflicts += 1;
                    self.wait_for(table, conflicts).await;
                }
                Err(error) if error.is_lost() => self.reconnect(&error).await?,
                pages => return Ok(pages?),
            }
        }
    }

    async fn wait_for(&self, table: &QualifiedName, conflicts: u32) {
        if conflicts == 1 {
            self.engine.note(format!("waiting: {} is locked", table.plain()));
        }
        tokio::time::sleep(CONFLICT_PAUSE).await;
    }

    async fn wrong_rows(
        &mut self,
        path: &[Ident],
        table: &QualifiedName,
        wrong: &str,
    ) -> Outcome<Vec<String>> {
        #[derive(serde::Deserialize)]
        struct Row {
            key: String,
        }
        let key = self.engine.ledger.row_key(&mut self.session, table).await?;
        let pages = self.pages(table).await?;
        let (mut first, mut conflicts) = (0, 0);
        while first < pages {
            let end = (first + SWEEP_PAGES).min(pages);
            let sql = format!(
                "SELECT {key} AS key FROM ONLY {table} AS r WHERE {} AND ({wrong}) LIMIT {LISTED_ROWS}",
                range("r.", first, end)
            );
            // Functions of the user find what they name without a schema.
            let begin = format!("BEGIN READ ONLY; SET LOCAL search_path = {}", step_runner::path(path));
            let found = match self.session.execute(&begin).await {
                Ok(_) => self.session.rows::<Row>(&sql, &[]).await,
                Err(error) => Err(error),
            };
            self.session.rollback().await;
            match found {
                Ok(rows) if rows.is_empty() => first = end,
                Ok(rows) => return Ok(rows.into_iter().map(|row| row.key).collect()),
                Err(error) if error.is_lost() => self.reconnect(&error).await?,
                Err(error) if error.is_lock_conflict() && conflicts < MAX_CONFLICTS => {
                    conflicts += 1;
                    self.wait_for(table, conflicts).await;
                }
                // A partition was dropped meanwhile.
                Err(_) if self.engine.ledger.pages(&mut self.session, table).await? == 0 => break,
                Err(error) => return Err(error.into()),
            }
        }
        Ok(Vec::new())
    }
}
