//! The ledger: migrations and steps. Only this module and [`super::jobs`] write it.

use serde::{Deserialize, Serialize};

use crate::decide::gate::{Facts, GatePass, InstanceFact};
use crate::decide::plan::Plan;
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

/// The ledger in one schema.
#[derive(Debug, Clone)]
pub(crate) struct Ledger {
    pub(crate) schema: Ident,
}

#[derive(Deserialize)]
pub(super) struct Present {}

pub(super) type Done = Result<(), PgError>;

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

    /// The versions of the files that were there when the baseline was set; none if that was not noted.
    pub(crate) async fn baseline_files(&self, session: &mut Session) -> Result<Option<Vec<i64>>, PgError> {
        session.one(&query("baseline_files", &self.schema), &[]).await
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

    /// Forgets the steps that a finished undo took back: only one that was cut off leaves such records.
    pub(crate) async fn forget_undone(&self, session: &mut Session, version: Version, attempt: i64) -> Done {
        let params = [version.number().into(), attempt.into()];
        let _: Vec<Present> = session.rows(&query("forget_undone", &self.schema), &params).await?;
        Ok(())
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

    /// What the last abort of a migration left in place.
    pub(crate) async fn left_by_abort(
        &self,
        session: &mut Session,
        version: Version,
    ) -> Result<Vec<String>, PgError> {
        #[derive(Deserialize)]
        struct Left {
            value: String,
        }
        let left: Vec<Left> =
            session.rows(&query("left_by_abort", &self.schema), &[version.number().into()]).await?;
        Ok(left.into_iter().map(|left| left.value).collect())
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
        // That of a partition means nothing without its name.
        let place = "'ctid = ' || ctid::text || CASE WHEN (SELECT c.relispartition FROM pg_catalog.pg_class AS c WHERE c.oid = tableoid) THEN ' of ' || tableoid::regclass ELSE '' END";
        Ok(if parts.is_empty() { place.to_owned() } else { parts.join(" || ', ' || ") })
    }
}
