//! Floor 4: acting. Each phase is a file; [`step_runner`] runs and records single steps. Nothing here prints: what a
//! person may want to see goes to the [`Observer`].

pub(crate) mod abort;
pub(crate) mod backfill;
pub(crate) mod baseline;
pub(crate) mod batch;
pub mod client;
pub(crate) mod contract;
mod contract_checks;
pub(crate) mod culprit;
pub(crate) mod doctor;
pub(crate) mod expand;
pub(crate) mod failure;
pub(crate) mod fence;
pub(crate) mod overview;
pub(crate) mod presence;
pub(crate) mod rehearsal;
pub(crate) mod reopen;
pub(crate) mod run;
pub(crate) mod step_alone;
pub(crate) mod step_runner;
pub(crate) mod sweep;
pub(crate) mod throttle;
pub(crate) mod up;
pub(crate) mod worker;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::decide::draft::{Moving, Role, Settings};
use crate::decide::plan::{FORMAT, Plan, SealedColumn};
use crate::engine::failure::{Failure, Outcome};
use crate::engine::throttle::Throttles;
use crate::pg::install::{self, Server};
use crate::pg::lease::Lease;
use crate::pg::ledger::{Entry, Ledger, Stored};
use crate::pg::locks::Blocker;
use crate::pg::session::{Session, Target};
use crate::words::version::Version;

/// How long `expand` waits for another runner: ten pods may start at once.
pub(crate) const EXPAND_WAIT: Duration = Duration::from_secs(60);

/// How long other commands wait for it: the server may take a moment to notice that a runner was killed.
pub(crate) const RUNNER_WAIT: Duration = Duration::from_secs(2);

/// The oldest server that is supported.
const OLDEST_SERVER: i64 = 140_000;

/// Bounds on what the engine may do to a database that others use.
#[derive(Debug, Clone)]
pub(crate) struct Limits {
    /// How long a statement waits for a lock that others queue behind.
    pub(crate) lock_timeout: Duration,
    /// How long a step keeps trying.
    pub(crate) lock_total: Duration,
    /// How long there must have been no old write, and how old a transaction may be, for the gate.
    pub(crate) quiet: Duration,
    /// How long the old shape stays sealed, unless the file or the command says otherwise.
    pub(crate) soak: Duration,
    /// The time that one batch should take.
    pub(crate) batch_target: Duration,
    /// What a backfill pauses for.
    pub(crate) throttles: Throttles,
    /// Applications that must have shown the new version before contract.
    pub(crate) apps: Vec<String>,
    /// Whether `up` and `redo` are refused.
    pub(crate) protected: bool,
}

/// Something a person may want to see.
#[derive(Debug, Clone)]
pub(crate) enum Happening {
    /// A phase of a migration begins.
    Phase { version: Version, name: String, what: &'static str },
    /// A step took effect.
    Step { title: String, elapsed: Duration },
    /// A step waits for a lock, or for sessions that must end.
    Waiting { title: String, blockers: Vec<Blocker>, attempt: u32 },
    /// A backfill waits until it is no burden.
    Paused { reason: String },
    /// The connection broke and is made again.
    Reconnecting { reason: String },
    /// A backfill went on; sums over all workers on all machines.
    Progress { job: String, unit: &'static str, pages: i64, pages_done: i64, converted: i64 },
    /// A backfill's job is through.
    ProgressDone,
    /// Anything else.
    Note(String),
}

/// Takes what happens; must not block for long.
pub(crate) trait Observer: Send + Sync {
    fn saw(&self, happening: Happening);
}

/// Everything a command needs to act on one database.
#[derive(Clone)]
pub(crate) struct Engine {
    pub(crate) target: Target,
    pub(crate) ledger: Ledger,
    pub(crate) settings: Settings,
    pub(crate) limits: Limits,
    pub(crate) folder: PathBuf,
    pub(crate) observer: Arc<dyn Observer>,
}

/// The only runner, while it lives.
pub(crate) struct Runner<'a> {
    pub(crate) engine: &'a Engine,
    pub(crate) session: Session,
    pub(crate) lease: Lease,
}

impl Engine {
    pub(crate) fn note(&self, text: impl Into<String>) {
        self.observer.saw(Happening::Note(text.into()));
    }

    /// A session on a server that can be worked with.
    pub(crate) async fn session(&self, name: &str) -> Outcome<Session> {
        Ok(self.session_on(name).await?.0)
    }

    /// The same, with what the server is.
    async fn session_on(&self, name: &str) -> Outcome<(Session, Server)> {
        let mut session = Session::connect(&self.target, name).await?;
        let server = install::server(&mut session, &self.ledger.schema).await?;
        if server.version < OLDEST_SERVER {
            return Err(Failure::environment(format!(
                "PostgreSQL {} is too old; 14 is the oldest that works",
                server.version_text
            )));
        }
        Ok((session, server))
    }

    /// A session on a server that can be written to.
    pub(crate) async fn writing_session(&self, name: &str) -> Outcome<Session> {
        let (session, server) = self.session_on(name).await?;
        if server.in_recovery {
            return Err(Failure::environment(format!(
                "{} is a standby and takes no writes",
                self.target.place()
            ))
            .next("connect to the primary: --database-url or DATABASE_URL"));
        }
        Ok(session)
    }

    /// A session for a command that needs the ledger to be there.
    pub(crate) async fn session_with_ledger(&self, name: &str) -> Outcome<Session> {
        let mut session = self.writing_session(name).await?;
        self.require_ledger(&mut session).await?;
        Ok(session)
    }

    pub(crate) async fn require_ledger(&self, session: &mut Session) -> Outcome<()> {
        if install::is_installed(session, &self.ledger.schema).await? {
            return Ok(());
        }
        Err(Failure::environment(format!("there is no ledger in {}", self.target.place()))
            .next("migrate init --database-url … (or migrate expand)"))
    }

    /// Becomes the only runner.
    pub(crate) async fn runner(
        &self,
        session: Session,
        command: &str,
        wait: Duration,
    ) -> Outcome<Runner<'_>> {
        let lease = Lease::take(&self.target, &self.ledger.schema, command, wait).await?;
        Ok(Runner { engine: self, session, lease })
    }

    /// The entry of a version.
    pub(crate) async fn entry(&self, session: &mut Session, version: Version) -> Outcome<Entry> {
        let entries = self.ledger.entries(session).await?;
        entries.into_iter().find(|entry| entry.version == version).ok_or_else(|| {
            Failure::usage(format!("migration {version} is not in the ledger of {}", self.target.place()))
                .next("migrate status")
        })
    }

    /// The stored plan of a version.
    pub(crate) async fn stored_plan(
        &self,
        session: &mut Session,
        version: Version,
    ) -> Outcome<(Plan, Stored)> {
        let stored = self.ledger.stored(session, version).await?;
        let format = stored.plan.get("format").and_then(serde_json::Value::as_u64);
        if format != Some(u64::from(FORMAT)) {
            return Err(Failure::failed(format!(
                "the plan of migration {version} has a format that this program does not know"
            ))
            .next("use the version of migrate that expanded it"));
        }
        let plan = serde_json::from_value(stored.plan.clone()).map_err(|error| {
            Failure::failed(format!("the plan of migration {version} cannot be read: {error}"))
        })?;
        Ok((plan, stored))
    }

    /// Columns that migrations in flight are moving.
    pub(crate) async fn moving(&self, session: &mut Session, entries: &[Entry]) -> Outcome<Vec<Moving>> {
        let mut moving = Vec::new();
        for entry in entries.iter().filter(|entry| entry.state.is_in_flight()) {
            let (plan, _) = self.stored_plan(session, entry.version).await?;
            moving.extend(moving_columns(&plan));
            moving.extend(Moving::apart(&plan));
            if entry.state.has_jobs_to_do() {
                moving.extend(Moving::rows(&plan));
            }
        }
        Ok(moving)
    }
}

/// The columns that a stored plan moves.
pub(crate) fn moving_columns(plan: &Plan) -> Vec<Moving> {
    plan.touches
        .iter()
        .filter_map(|(table, column)| {
            let table = plan.tables.iter().find(|name| &name.plain() == table)?.clone();
            let sealed = |sealed: &SealedColumn| sealed.table == table && &sealed.column == column;
            let new = plan.adds.contains(&format!("{}.{}", table.plain(), column.as_str()));
            let shadow = |sealed: &SealedColumn| {
                sealed.table == table && &sealed.going == column && &sealed.column != column
            };
            let followed = plan.followed.iter().any(|(of, name)| of == &table && name == column);
            let role = if plan.sealed.iter().any(shadow) {
                Role::Shadow
            } else if plan.sealed.iter().any(sealed) {
                Role::Leaves
            } else if new {
                Role::Computed
            } else if followed {
                Role::Followed
            } else if column.as_str().is_empty() {
                Role::Apart
            } else {
                Role::Read
            };
            Some(Moving { version: plan.version, table, column: column.clone(), role })
        })
        .collect()
}

impl Runner<'_> {
    /// Locks the gate until the transaction ends. A registration in an open transaction holds it, and must end before anything
    /// can be decided.
    pub(crate) async fn lock_gate(&mut self, command: &str) -> Outcome<()> {
        match self.engine.ledger.gate_lock(&mut self.session).await {
            Err(error) if error.is_lock_conflict() => {
                let title = "an instance is registering in a transaction that is still open".to_owned();
                Err(Failure::refused(title).next(format!("let it end, then {command}")))
            }
            locked => Ok(locked?),
        }
    }

    /// Ends the runner's right in an orderly way.
    pub(crate) async fn release(mut self) {
        // An error may have left a transaction open.
        self.session.rollback().await;
        self.lease.release(&mut self.session, &self.engine.ledger.schema).await;
        self.session.close().await;
    }
}
