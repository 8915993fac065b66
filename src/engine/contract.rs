//! Contract: check and close, restrict, seal, verify, soak, drop. Each part is resumable; a refusal changes nothing.

use std::time::{Duration, Instant};

use crate::decide::gate::{self, Facts, GatePass, Reason, Verdict};
use crate::decide::plan::Plan;
use crate::decide::state::{Event, State};
use crate::engine::failure::{Failure, Kind, Outcome};
use crate::engine::step_runner::Running;
use crate::engine::sweep::Names;
use crate::engine::{Engine, Happening, Runner};
use crate::pg::ledger::Entry;
use crate::words::fault;
use crate::words::version::Version;

/// Between two looks at a gate that is waited for.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// What to do.
#[derive(Debug, Clone, Default)]
pub(crate) struct Request {
    /// Only these; all that are due if empty.
    pub(crate) versions: Vec<Version>,
    /// Look at the gate only.
    pub(crate) check: bool,
    /// How long to wait for the gate to open.
    pub(crate) wait: Duration,
    /// Overrides every other soak.
    pub(crate) soak: Option<Duration>,
    /// A reason to overlook, and why.
    pub(crate) overridden: Option<(String, String)>,
    /// The database serves nobody: only sessions that hold locks count.
    pub(crate) private: bool,
}

/// What became of one migration.
#[derive(Debug)]
pub(crate) struct Contracted {
    pub(crate) version: Version,
    pub(crate) state: State,
    /// Why the gate is closed.
    pub(crate) reasons: Vec<Reason>,
    /// Seconds until the drop is due, while sealed.
    pub(crate) drop_due_in_seconds: Option<i64>,
}

impl Engine {
    /// Contracts everything that is due, each migration decided alone.
    pub(crate) async fn contract(&self, request: &Request) -> Outcome<Vec<Contracted>> {
        let mut session = self.session_with_ledger("migrate contract").await?;
        for wanted in &request.versions {
            let entry = self.entry(&mut session, *wanted).await?;
            check_named(&entry)?;
        }
        if request.check {
            let mut runner_less = Vec::new();
            for entry in self.due(&mut session, request).await? {
                let reasons = self.look(&mut session, &entry, request).await?;
                runner_less.push(Contracted {
                    version: entry.version,
                    state: entry.state,
                    reasons,
                    drop_due_in_seconds: entry.drop_due_in_seconds,
                });
            }
            return Ok(runner_less);
        }
        let mut runner = self.runner(session, "contract", Duration::ZERO).await?;
        let result = runner.contract_due(request).await;
        runner.release().await;
        result
    }

    async fn due(&self, session: &mut crate::pg::session::Session, request: &Request) -> Outcome<Vec<Entry>> {
        let entries = self.ledger.entries(session).await?;
        Ok(entries
            .into_iter()
            .filter(|entry| request.versions.is_empty() || request.versions.contains(&entry.version))
            .filter(|entry| {
                matches!(entry.state, State::Ready | State::Closing | State::Sealed | State::Dropping)
            })
            .collect())
    }

    /// The gate's reasons, without closing anything.
    async fn look(
        &self,
        session: &mut crate::pg::session::Session,
        entry: &Entry,
        request: &Request,
    ) -> Outcome<Vec<Reason>> {
        if entry.state != State::Ready || !entry.has_contract {
            return Ok(Vec::new());
        }
        let (plan, _) = self.stored_plan(session, entry.version).await?;
        let facts = self.facts(session, &plan, request).await?;
        Ok(match gate::decide(&facts, overridden(request)) {
            Verdict::Open(_) => Vec::new(),
            Verdict::Closed(reasons) => reasons,
        })
    }

    async fn facts(
        &self,
        session: &mut crate::pg::session::Session,
        plan: &Plan,
        request: &Request,
    ) -> Outcome<Facts> {
        let quiet = i64::try_from(self.limits.quiet.as_secs()).unwrap_or(i64::MAX);
        let facts =
            self.ledger.gate_facts(session, plan.version, &plan.tables, quiet, &self.limits.apps).await?;
        if !request.private {
            return Ok(facts);
        }
        Ok(Facts {
            new_seen: 1,
            missing_apps: Vec::new(),
            old_writes: Vec::new(),
            live: Vec::new(),
            expired: Vec::new(),
            ..facts
        })
    }
}

fn overridden(request: &Request) -> Option<&str> {
    request.overridden.as_ref().map(|(reason, _)| reason.as_str())
}

fn check_named(entry: &Entry) -> Outcome<()> {
    let version = entry.version;
    match entry.state {
        State::Ready | State::Closing | State::Sealed | State::Dropping | State::Done => Ok(()),
        State::Expanded | State::Backfilling => {
            Err(Failure::refused(format!("migration {version} is {}, not ready", entry.state))
                .next(format!("migrate backfill {version}")))
        }
        State::Pending | State::Expanding => {
            Err(Failure::refused(format!("migration {version} is {}", entry.state)).next("migrate expand"))
        }
        State::Aborting | State::Aborted => {
            Err(Failure::refused(format!("migration {version} is {}", entry.state))
                .next(format!("migrate expand --to {version}")))
        }
    }
}

impl Runner<'_> {
    pub(crate) async fn contract_due(&mut self, request: &Request) -> Outcome<Vec<Contracted>> {
        let mut done = Vec::new();
        for entry in self.engine.due(&mut self.session, request).await? {
            done.push(self.contract_one(entry, request).await?);
        }
        Ok(done)
    }

    async fn contract_one(&mut self, entry: Entry, request: &Request) -> Outcome<Contracted> {
        let engine = self.engine;
        let (plan, _) = engine.stored_plan(&mut self.session, entry.version).await?;
        let version = entry.version;
        let running = Running { plan: &plan, attempt: entry.attempt };
        let mut state = entry.state;
        let contracted =
            |state, reasons, due| Contracted { version, state, reasons, drop_due_in_seconds: due };
        if state == State::Ready && !plan.has_contract() {
            state =
                engine.ledger.advance(&mut self.session, version, state, Event::NothingToContract, 0).await?;
            return Ok(contracted(state, Vec::new(), None));
        }
        engine.observer.saw(Happening::Phase { version, name: plan.name.clone(), what: "contract" });
        if state == State::Ready {
            self.check_drift(&plan).await?;
            match self.check_and_close(&plan, request).await? {
                Ok(closed) => state = closed,
                Err(reasons) => return Ok(contracted(state, reasons, None)),
            }
            fault::point("contract.closed");
        }
        if state == State::Closing {
            self.seal(&running, request).await?;
            state = State::Sealed;
            fault::point("contract.sealed");
            self.verify_plan(&plan, Names::Sealed).await?;
        } else if state == State::Sealed {
            // A reopen may have been cut off half way.
            self.run_steps(&running, &plan.restrict).await?;
            self.run_steps(&running, &plan.seal).await?;
            self.check_drift(&plan).await?;
        }
        if state == State::Sealed {
            let entry = engine.entry(&mut self.session, version).await?;
            let due = self.due_in(&entry, &plan, request);
            if due > 0 {
                return Ok(contracted(state, Vec::new(), Some(due)));
            }
            if entry.verified != Some(true) {
                self.verify_plan(&plan, Names::Sealed).await?;
            }
            // Recorded before the first irreversible statement runs.
            state = engine
                .ledger
                .advance(&mut self.session, version, State::Sealed, Event::DropStarted, 0)
                .await?;
            fault::point("contract.dropping");
        }
        if state == State::Dropping {
            self.run_steps(&running, &plan.drop).await?;
            fault::point("contract.dropped");
            state = engine
                .ledger
                .advance(&mut self.session, version, State::Dropping, Event::DropFinished, 0)
                .await?;
        }
        Ok(contracted(state, Vec::new(), None))
    }

    /// Seconds until the drop is due.
    fn due_in(&self, entry: &Entry, plan: &Plan, request: &Request) -> i64 {
        let stored = entry.drop_due_in_seconds.unwrap_or_default();
        match request.soak {
            // The stored moment is the seal's plus the soak of that time.
            Some(soak) => stored - self.soak(plan, None) + i64::try_from(soak.as_secs()).unwrap_or(i64::MAX),
            None => stored,
        }
        .max(0)
    }

    /// How long the old shape stays sealed. Where nothing is hidden there is nothing to wait for.
    fn soak(&self, plan: &Plan, asked: Option<Duration>) -> i64 {
        if plan.sealed.is_empty() {
            return 0;
        }
        let soak = asked
            .map(|soak| soak.as_secs())
            .or(plan.soak_seconds)
            .unwrap_or(self.engine.limits.soak.as_secs());
        i64::try_from(soak).unwrap_or(i64::MAX)
    }

    /// Looks at the gate until it is open or the wait is over.
    async fn check_and_close(
        &mut self,
        plan: &Plan,
        request: &Request,
    ) -> Outcome<Result<State, Vec<Reason>>> {
        let deadline = Instant::now() + request.wait;
        loop {
            match self.try_close(plan, request).await? {
                Ok(state) => return Ok(Ok(state)),
                Err(reasons) if Instant::now() >= deadline => return Ok(Err(reasons)),
                Err(reasons) => {
                    let (why, _) = reasons.first().map(Reason::explain).unwrap_or_default();
                    self.engine.note(format!("migration {}: waiting: {why}", plan.version));
                    tokio::time::sleep(LOOK_EVERY.min(deadline.saturating_duration_since(Instant::now())))
                        .await;
                }
            }
        }
    }

    /// One transaction: the gate's lock, the facts, the verdict, and the new state only if it is open.
    async fn try_close(&mut self, plan: &Plan, request: &Request) -> Outcome<Result<State, Vec<Reason>>> {
        self.session.execute("BEGIN").await?;
        let closed = self.close_in_transaction(plan, request).await;
        match &closed {
            Ok(Ok(_)) => {
                fault::point("contract.before_close");
                self.session.execute("COMMIT").await?;
            }
            Ok(Err(_)) | Err(_) => self.session.rollback().await,
        }
        closed
    }

    async fn close_in_transaction(
        &mut self,
        plan: &Plan,
        request: &Request,
    ) -> Outcome<Result<State, Vec<Reason>>> {
        let engine = self.engine;
        let held = crate::pg::lease::hold(&mut self.session, &engine.ledger.schema, self.lease.epoch).await?;
        if !held {
            return Err(Failure::new(Kind::Busy, "another runner has taken over").next("migrate status"));
        }
        engine.ledger.gate_lock(&mut self.session).await?;
        let facts = engine.facts(&mut self.session, plan, request).await?;
        let pass: GatePass = match gate::decide(&facts, overridden(request)) {
            Verdict::Open(pass) => pass,
            Verdict::Closed(reasons) => return Ok(Err(reasons)),
        };
        if let Some((reason, because)) = &request.overridden {
            let detail = serde_json::json!({ "reason": reason, "because": because });
            engine.ledger.event(&mut self.session, Some(plan.version), "override", detail).await?;
        }
        engine.ledger.event(&mut self.session, Some(plan.version), "close", serde_json::json!({})).await?;
        Ok(Ok(engine.ledger.close(&mut self.session, plan.version, pass).await?))
    }

    /// Constraints first, which may fail on data; then the short reversible transactions.
    async fn seal(&mut self, running: &Running<'_>, request: &Request) -> Outcome<()> {
        let plan = running.plan;
        self.run_steps(running, &plan.restrict).await?;
        fault::point("contract.restricted");
        self.run_steps(running, &plan.seal).await?;
        self.store_fingerprint(plan).await?;
        let soak = self.soak(plan, request.soak);
        self.engine
            .ledger
            .advance(&mut self.session, plan.version, State::Closing, Event::SealFinished, soak)
            .await?;
        Ok(())
    }
}
