//! The ledger: migrations, steps, jobs and chunks. The only module that writes them.

use serde::{Deserialize, Serialize};

use crate::decide::gate::{Facts, GatePass, InstanceFact};
use crate::decide::plan::{Job, Plan};
use crate::decide::state::{Event, State};
use crate::pg::error::PgError;
use crate::pg::session::{Param, Session};
use crate::pg::statements::query;
use crate::words::ident::{Ident, QualifiedName};
use crate::words::version::Version;

/// A migration as the ledger knows it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Entry {
    pub(crate) version: Version,
    pub(crate) name: String,
    pub(crate) checksum: String,
    pub(crate) plan_hash: String,
    pub(crate) state: State,
    pub(crate) attempt: i64,
    pub(crate) has_contract: bool,
    pub(crate) verified: Option<bool>,
    pub(crate) started_at: Option<String>,
    pub(crate) expanded_at: Option<String>,
    pub(crate) ready_at: Option<String>,
    pub(crate) closed_at: Option<String>,
    pub(crate) sealed_at: Option<String>,
    pub(crate) drop_due_at: Option<String>,
    pub(crate) done_at: Option<String>,
    pub(crate) aborted_at: Option<String>,
    pub(crate) drop_due_in_seconds: Option<i64>,
    /// Expanding, and no step has taken effect: the file may still be changed.
    #[serde(default, skip_serializing)]
    pub(crate) untouched: bool,
    /// Since the seal.
    #[serde(default, skip_serializing)]
    pub(crate) sealed_seconds: Option<i64>,
}

/// What was stored when the migration was expanded.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Stored {
    pub(crate) plan: serde_json::Value,
    pub(crate) fingerprint: Option<serde_json::Value>,
}

/// A step's record.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct StepRecord {
    pub(crate) id: String,
    /// started, done or undone.
    pub(crate) state: String,
}

/// How far a job is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Progress {
    pub(crate) id: String,
    pub(crate) pages: i64,
    pub(crate) pages_done: i64,
    pub(crate) converted: i64,
    /// Rows that only the last sweep found.
    pub(crate) swept: Option<i64>,
    pub(crate) finished: bool,
    pub(crate) seconds: f64,
}

impl Progress {
    /// What is counted: pages, or the rows of a data job.
    pub(crate) fn unit(&self) -> &'static str {
        if self.id.starts_with('d') { "rows" } else { "pages" }
    }
}

/// A claimed chunk, in pages.
#[derive(Debug, Clone, Copy, Deserialize)]
pub(crate) struct Chunk {
    pub(crate) first_page: i64,
    pub(crate) next_page: i64,
    pub(crate) end_page: i64,
}

/// The ledger in one schema.
#[derive(Debug, Clone)]
pub(crate) struct Ledger {
    pub(crate) schema: Ident,
}

#[derive(Deserialize)]
struct Present {}

type Done = Result<(), PgError>;

impl Ledger {
    pub(crate) fn new(schema: Ident) -> Self {
        Self { schema }
    }

    /// Every migration, oldest first.
    pub(crate) async fn entries(&self, session: &mut Session) -> Result<Vec<Entry>, PgError> {
        session.rows(&query("migrations", &self.schema), &[]).await
    }

    /// The stored plan with its file.
    pub(crate) async fn stored(&self, session: &mut Session, version: Version) -> Result<Stored, PgError> {
        let stored =
            session.optional(&query("migration_stored", &self.schema), &[version.number().into()]).await?;
        stored.ok_or_else(|| PgError::Answer(format!("the ledger has no migration {version}")))
    }

    /// Stores a plan before its first step. Gives the number of the attempt.
    pub(crate) async fn insert(
        &self,
        session: &mut Session,
        plan: &Plan,
        file_text: &str,
    ) -> Result<i64, PgError> {
        let text = serde_json::to_string(plan).map_err(|error| PgError::Answer(error.to_string()))?;
        let hash = plan.hash();
        let state = State::Pending
            .after(Event::ExpandStarted)
            .map_err(|illegal| PgError::Answer(illegal.to_string()))?;
        let params = [
            plan.version.number().into(),
            plan.name.as_str().into(),
            plan.checksum.as_str().into(),
            file_text.into(),
            text.as_str().into(),
            hash.as_str().into(),
            plan.has_contract().into(),
            plan.serve_expanded.into(),
            state.word().into(),
        ];
        session.one(&query("migration_insert", &self.schema), &params).await
    }

    /// Takes one transition of the state machine.
    ///
    /// # Errors
    /// An event that the state does not know; or another runner was faster.
    pub(crate) async fn advance(
        &self,
        session: &mut Session,
        version: Version,
        from: State,
        event: Event,
        soak_seconds: i64,
    ) -> Result<State, PgError> {
        let next = from
            .after(event)
            .map_err(|illegal| PgError::Answer(format!("migration {version}: {illegal}")))?;
        let params = [version.number().into(), from.word().into(), next.word().into(), soak_seconds.into()];
        let moved: Option<Present> =
            session.optional(&query("migration_move", &self.schema), &params).await?;
        moved.map(|_| next).ok_or_else(|| {
            PgError::Overtaken(format!("migration {version} is not {from} any more; another runner was here"))
        })
    }

    /// Closes a migration to old code. Only a gate that was open makes the pass.
    pub(crate) async fn close(
        &self,
        session: &mut Session,
        version: Version,
        _pass: GatePass,
    ) -> Result<State, PgError> {
        self.advance(session, version, State::Ready, Event::Closed, 0).await
    }

    pub(crate) async fn set_verified(&self, session: &mut Session, version: Version, verified: bool) -> Done {
        let _: bool = session
            .one(&query("migration_verified", &self.schema), &[version.number().into(), verified.into()])
            .await?;
        Ok(())
    }

    pub(crate) async fn set_fingerprint(
        &self,
        session: &mut Session,
        version: Version,
        fingerprint: serde_json::Value,
    ) -> Done {
        let params = [version.number().into(), Param::Json(fingerprint)];
        let _: bool = session.one(&query("migration_fingerprint", &self.schema), &params).await?;
        Ok(())
    }

    pub(crate) async fn highest_registered(&self, session: &mut Session) -> Result<Option<i64>, PgError> {
        session.one(&query("highest_registered", &self.schema), &[]).await
    }

    pub(crate) async fn baseline(&self, session: &mut Session) -> Result<i64, PgError> {
        session.one(&query("baseline", &self.schema), &[]).await
    }

    pub(crate) async fn recently_registered(&self, session: &mut Session) -> Result<i64, PgError> {
        session.one(&query("recently_registered", &self.schema), &[]).await
    }

    pub(crate) async fn steps(
        &self,
        session: &mut Session,
        version: Version,
        attempt: i64,
    ) -> Result<Vec<StepRecord>, PgError> {
        session.rows(&query("steps", &self.schema), &[version.number().into(), attempt.into()]).await
    }

    /// Records the intent of a step. False if the lease is somebody else's.
    pub(crate) async fn step_start(
        &self,
        session: &mut Session,
        version: Version,
        attempt: i64,
        id: &str,
        epoch: i64,
    ) -> Result<bool, PgError> {
        let params = [version.number().into(), attempt.into(), id.into(), epoch.into()];
        let started: Option<Present> = session.optional(&query("step_start", &self.schema), &params).await?;
        Ok(started.is_some())
    }

    pub(crate) async fn step_end(
        &self,
        session: &mut Session,
        version: Version,
        attempt: i64,
        id: &str,
        epoch: i64,
    ) -> Done {
        let params = [version.number().into(), attempt.into(), id.into(), "done".into(), epoch.into()];
        let ended: Option<Present> = session.optional(&query("step_end", &self.schema), &params).await?;
        ended.map(|_| ()).ok_or_else(|| PgError::Overtaken(format!("step {id} is another runner's now")))
    }

    pub(crate) async fn step_undone(
        &self,
        session: &mut Session,
        version: Version,
        attempt: i64,
        id: &str,
        epoch: i64,
    ) -> Done {
        let params = [version.number().into(), attempt.into(), id.into(), epoch.into()];
        let _: bool = session.one(&query("step_undone", &self.schema), &params).await?;
        Ok(())
    }

    /// Starts a job if it has not begun: freezes its pages and cuts them into chunks; `size` is the number of rows where
    /// it goes by a list of them. In the caller's transaction. True if it has begun now.
    pub(crate) async fn job_start(
        &self,
        session: &mut Session,
        version: Version,
        job: &Job,
        pages_per_chunk: i64,
        size: Option<i64>,
    ) -> Result<bool, PgError> {
        #[derive(Deserialize)]
        struct Pages {
            value: i64,
        }
        let table = job.counted().to_string();
        let params = [
            version.number().into(),
            job.id.as_str().into(),
            table.as_str().into(),
            size.unwrap_or(-1).into(),
        ];
        let fresh: Option<Pages> = session.optional(&query("job_start", &self.schema), &params).await?;
        let begun = fresh.is_some();
        if fresh.is_some_and(|pages| pages.value > 0) {
            let params = [version.number().into(), job.id.as_str().into(), pages_per_chunk.into()];
            let _: Vec<Present> = session.rows(&query("job_chunks", &self.schema), &params).await?;
        }
        Ok(begun)
    }

    /// Whether nobody else is making this list of rows. Held until the transaction ends.
    pub(crate) async fn list_lock(
        &self,
        session: &mut Session,
        list: &QualifiedName,
    ) -> Result<bool, PgError> {
        session.one(&query("list_lock", &self.schema), &[list.to_string().as_str().into()]).await
    }

    pub(crate) async fn job_exists(
        &self,
        session: &mut Session,
        version: Version,
        job: &str,
    ) -> Result<bool, PgError> {
        session.one(&query("job_exists", &self.schema), &[version.number().into(), job.into()]).await
    }

    pub(crate) async fn job_reset(&self, session: &mut Session, version: Version, job: &str) -> Done {
        let _: Vec<Present> =
            session.rows(&query("job_reset", &self.schema), &[version.number().into(), job.into()]).await?;
        Ok(())
    }

    pub(crate) async fn jobs_drop(&self, session: &mut Session, version: Version) -> Done {
        let _: Vec<Present> =
            session.rows(&query("jobs_drop", &self.schema), &[version.number().into()]).await?;
        Ok(())
    }

    /// Whether the table was not rewritten since the job was cut into chunks.
    pub(crate) async fn job_is_current(
        &self,
        session: &mut Session,
        version: Version,
        job: &str,
    ) -> Result<bool, PgError> {
        session.one(&query("job_filenode", &self.schema), &[version.number().into(), job.into()]).await
    }

    pub(crate) async fn pages(&self, session: &mut Session, table: &QualifiedName) -> Result<i64, PgError> {
        session.one(&query("job_pages", &self.schema), &[table.to_string().as_str().into()]).await
    }

    pub(crate) async fn job_finish(
        &self,
        session: &mut Session,
        version: Version,
        job: &str,
        swept: i64,
    ) -> Done {
        let params = [version.number().into(), job.into(), swept.into()];
        let _: bool = session.one(&query("job_finish", &self.schema), &params).await?;
        Ok(())
    }

    pub(crate) async fn chunk_claim(
        &self,
        session: &mut Session,
        version: Version,
        job: &str,
    ) -> Result<Option<Chunk>, PgError> {
        session.optional(&query("chunk_claim", &self.schema), &[version.number().into(), job.into()]).await
    }

    pub(crate) async fn chunk_advance(
        &self,
        session: &mut Session,
        version: Version,
        job: &str,
        chunk: i64,
        next: i64,
        rows: i64,
    ) -> Done {
        let params = [version.number().into(), job.into(), chunk.into(), next.into(), rows.into()];
        let _: bool = session.one(&query("chunk_advance", &self.schema), &params).await?;
        Ok(())
    }

    pub(crate) async fn chunks_left(
        &self,
        session: &mut Session,
        version: Version,
        job: &str,
    ) -> Result<i64, PgError> {
        session.one(&query("chunks_left", &self.schema), &[version.number().into(), job.into()]).await
    }

    pub(crate) async fn progress(
        &self,
        session: &mut Session,
        version: Version,
    ) -> Result<Vec<Progress>, PgError> {
        session.rows(&query("progress", &self.schema), &[version.number().into()]).await
    }

    /// Takes the gate's row alone, in the caller's transaction.
    pub(crate) async fn gate_lock(&self, session: &mut Session) -> Done {
        let _: bool = session.one(&query("gate_lock", &self.schema), &[]).await?;
        Ok(())
    }

    pub(crate) async fn gate_facts(
        &self,
        session: &mut Session,
        version: Version,
        tables: &[QualifiedName],
        quiet_seconds: i64,
        apps: &[String],
    ) -> Result<Facts, PgError> {
        let tables = tables.iter().map(ToString::to_string).collect();
        let params = [
            version.number().into(),
            Param::Texts(tables),
            quiet_seconds.into(),
            Param::Texts(apps.to_vec()),
        ];
        let facts = session.optional(&query("gate_facts", &self.schema), &params).await?;
        facts.ok_or_else(|| PgError::Answer(format!("the ledger has no migration {version}")))
    }

    /// What would stop a column from being dropped; foreign keys only if `constraints` says so.
    pub(crate) async fn dependants(
        &self,
        session: &mut Session,
        table: &QualifiedName,
        column: &Ident,
        constraints: bool,
    ) -> Result<Vec<String>, PgError> {
        #[derive(Deserialize)]
        struct Dependant {
            what: String,
        }
        let table = table.to_string();
        let params = [table.as_str().into(), column.as_str().into(), constraints.into()];
        let found: Vec<Dependant> = session.rows(&query("hidden_dependants", &self.schema), &params).await?;
        Ok(found.into_iter().map(|dependant| dependant.what).collect())
    }

    /// The indexes and constraints that name a column, and foreign keys that point at it, but for those of migrations.
    pub(crate) async fn column_parts(
        &self,
        session: &mut Session,
        table: &QualifiedName,
        column: &Ident,
    ) -> Result<Vec<String>, PgError> {
        #[derive(Deserialize)]
        struct Part {
            what: String,
        }
        let table = table.to_string();
        let params = [table.as_str().into(), column.as_str().into()];
        let found: Vec<Part> = session.rows(&query("column_parts", &self.schema), &params).await?;
        Ok(found.into_iter().map(|part| part.what).collect())
    }

    pub(crate) async fn set_baseline(&self, session: &mut Session, version: Version) -> Done {
        let _: bool = session.one(&query("set_baseline", &self.schema), &[version.number().into()]).await?;
        Ok(())
    }

    /// Instances that are alive and older than a version, for people.
    pub(crate) async fn instances_below(
        &self,
        session: &mut Session,
        version: Version,
    ) -> Result<Vec<String>, PgError> {
        self.lines(session, &query("instances_below", &self.schema), &[version.number().into()]).await
    }

    /// Triggers and functions of migrations that are not in flight; `known` are the beginnings of the names of those that
    /// are.
    pub(crate) async fn orphans(
        &self,
        session: &mut Session,
        known: &[String],
    ) -> Result<Vec<String>, PgError> {
        let schema = self.schema.as_str().into();
        self.lines(session, &query("orphans", &self.schema), &[Param::Texts(known.to_vec()), schema]).await
    }

    pub(crate) async fn invalid_indexes(&self, session: &mut Session) -> Result<Vec<String>, PgError> {
        self.lines(session, &query("invalid_indexes", &self.schema), &[]).await
    }

    /// Sync triggers that somebody disabled.
    pub(crate) async fn sync_triggers_off(&self, session: &mut Session) -> Result<Vec<String>, PgError> {
        self.lines(session, &query("sync_triggers_off", &self.schema), &[]).await
    }

    /// Transactions and prepared ones that are older than an hour.
    pub(crate) async fn old_transactions(&self, session: &mut Session) -> Result<Vec<String>, PgError> {
        self.lines(session, &query("old_transactions", &self.schema), &[]).await
    }

    /// Whether the role may see the transactions of other roles.
    pub(crate) async fn sees_others(&self, session: &mut Session) -> Result<bool, PgError> {
        session.one(&query("sees_others", &self.schema), &[]).await
    }

    async fn lines(
        &self,
        session: &mut Session,
        sql: &str,
        params: &[Param<'_>],
    ) -> Result<Vec<String>, PgError> {
        #[derive(Deserialize)]
        struct Line {
            what: String,
        }
        let lines: Vec<Line> = session.rows(sql, params).await?;
        Ok(lines.into_iter().map(|line| line.what).collect())
    }

    pub(crate) async fn serving_instances(
        &self,
        session: &mut Session,
        version: Version,
    ) -> Result<Vec<InstanceFact>, PgError> {
        session.rows(&query("serving_instances", &self.schema), &[version.number().into()]).await
    }

    pub(crate) async fn event(
        &self,
        session: &mut Session,
        version: Option<Version>,
        what: &str,
        detail: serde_json::Value,
    ) -> Done {
        let params = [Param::MaybeInt(version.map(Version::number)), what.into(), Param::Json(detail)];
        let _: i64 = session.one(&query("event", &self.schema), &params).await?;
        Ok(())
    }

    pub(crate) async fn backend_is_gone(&self, session: &mut Session, pid: i32) -> Result<bool, PgError> {
        session.one(&query("backend_gone", &self.schema), &[i64::from(pid).into()]).await
    }

    /// An expression that names a row of the table for people: its key, or its place if it has none.
    pub(crate) async fn row_key(
        &self,
        session: &mut Session,
        table: &QualifiedName,
    ) -> Result<String, PgError> {
        #[derive(Deserialize)]
        struct Column {
            name: String,
        }
        let columns: Vec<Column> =
            session.rows(&query("key_columns", &self.schema), &[table.to_string().as_str().into()]).await?;
        let parts: Vec<String> = columns
            .iter()
            .map(|Column { name }| format!("'{} = ' || {name}::text", name.replace('\'', "''")))
            .collect();
        Ok(if parts.is_empty() { "'ctid = ' || ctid::text".to_owned() } else { parts.join(" || ', ' || ") })
    }
}
