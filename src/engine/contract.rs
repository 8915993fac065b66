//! Contract: check and close, restrict, seal, verify, soak, drop. Each part is resumable; a refusal changes nothing.

use std::time::{Duration, Instant};

use crate::decide::gate::{self, Facts, GatePass, Reason, Verdict};
use crate::decide::plan::{Job, Plan};
use crate::decide::state::{Event, State};
use crate::engine::failure::{Failure, Kind, Outcome};
use crate::engine::step_runner::{Running, session_name};
use crate::engine::sweep::Names;
use crate::engine::{Engine, Happening, RUNNER_WAIT, Runner};
use crate::pg::ledger::Entry;
use crate::pg::session::Session;
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
    /// Reasons to overlook.
    pub(crate) overridden: Vec<String>,
    /// Why.
    pub(crate) because: Option<String>,
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
    /// Contracts everything that is due, each migration decided alone. The first failure is given when all have had their
    /// turn, beside what came of the others.
    pub(crate) async fn contract(&self, request: &Request) -> Outcome<(Vec<Contracted>, Option<Failure>)> {
        let mut session = self.session_with_ledger("migrate contract").await?;
        for wanted in &request.versions {
            let entry = self.entry(&mut session, *wanted).await?;
            check_named(&entry)?;
        }
        for entry in self.ledger.entries(&mut session).await? {
            if request.versions.is_empty() && matches!(entry.state, State::Expanded | State::Backfilling) {
                self.note(format!("migration {0} is {1}: migrate backfill {0}", entry.version, entry.state));
            }
        }
        let (mut done, mut failed) = (Vec::new(), None);
        let deadline = Instant::now() + request.wait;
        for entry in self.due(&mut session, request).await? {
            let (version, state, due) = (entry.version, entry.state, entry.drop_due_in_seconds);
            // Waiting holds nothing: new instances may need an expand to come up.
            let reasons = self.wait_for_gate(&mut session, &entry, request, deadline).await?;
            if request.check
                && let Err(failure) = self.check_rest(&mut session, &entry, &request.overridden).await
            {
                failed = failed.or(Some(failure));
                if reasons.is_empty() {
                    continue;
                }
            }
            if request.check || !reasons.is_empty() {
                done.push(Contracted { version, state, reasons, drop_due_in_seconds: due });
                continue;
            }
            match self.contract_entry(entry, request).await {
                Ok(contracted) => done.extend(contracted),
                Err(failure) if failure.kind == Kind::Busy => return Err(failure),
                Err(failure) => failed = failed.or(Some(failure)),
            }
        }
        session.close().await;
        Ok((done, failed))
    }

    /// Contracts one migration as the only runner; none if another one has finished it meanwhile.
    async fn contract_entry(&self, entry: Entry, request: &Request) -> Outcome<Option<Contracted>> {
        let session = self.writing_session(&session_name("contract", entry.version)).await?;
        let mut runner = self.runner(session, "contract", RUNNER_WAIT).await?;
        let result = match self.entry(&mut runner.session, entry.version).await {
            Ok(entry) if is_due(&entry) => runner.contract_one(entry, request).await.map(Some),
            Ok(_) => Ok(None),
            Err(failure) => Err(failure),
        };
        runner.release().await;
        result
    }

    /// Looks at the gate until it is open or the wait is over.
    async fn wait_for_gate(
        &self,
        session: &mut Session,
        entry: &Entry,
        request: &Request,
        deadline: Instant,
    ) -> Outcome<Vec<Reason>> {
        loop {
            let reasons = self.look(session, entry, request).await?;
            let left = deadline.saturating_duration_since(Instant::now());
            if reasons.is_empty() || left.is_zero() || request.check {
                return Ok(reasons);
            }
            let (why, _) = reasons.first().map(Reason::explain).unwrap_or_default();
            self.note(format!("migration {}: waiting: {why}", entry.version));
            tokio::time::sleep(LOOK_EVERY.min(left)).await;
        }
    }

    async fn due(&self, session: &mut Session, request: &Request) -> Outcome<Vec<Entry>> {
        let entries = self.ledger.entries(session).await?;
        Ok(entries
            .into_iter()
            .filter(|entry| request.versions.is_empty() || request.versions.contains(&entry.version))
            .filter(is_due)
            .collect())
    }

    /// The gate's reasons, without closing anything.
    async fn look(&self, session: &mut Session, entry: &Entry, request: &Request) -> Outcome<Vec<Reason>> {
        if entry.state != State::Ready || !entry.has_contract {
            return Ok(Vec::new());
        }
        let (plan, _) = self.stored_plan(session, entry.version).await?;
        let facts = self.facts(session, &plan, request).await?;
        Ok(match gate::decide(&facts, &request.overridden) {
            Verdict::Open(_) => Vec::new(),
            Verdict::Closed(reasons) => reasons,
        })
    }

    async fn facts(&self, session: &mut Session, plan: &Plan, request: &Request) -> Outcome<Facts> {
        let quiet = i64::try_from(self.limits.quiet.as_secs()).unwrap_or(i64::MAX);
        let facts =
            self.ledger.gate_facts(session, plan.version, &plan.tables, quiet, &self.limits.apps).await?;
        if !request.private {
            return Ok(facts);
        }
        Ok(Facts { new_seen: 1, missing_apps: Vec::new(), old_writes: Vec::new(), ..facts })
    }
}

/// Whether there is nothing that could be needed again while it is sealed.
fn hides_nothing(plan: &Plan) -> bool {
    plan.sealed.is_empty() && plan.hidden.is_empty()
}

fn is_due(entry: &Entry) -> bool {
    matches!(entry.state, State::Ready | State::Closing | State::Sealed | State::Dropping)
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
    async fn contract_one(&mut self, entry: Entry, request: &Request) -> Outcome<Contracted> {
        let engine = self.engine;
        let (plan, _) = engine.stored_plan(&mut self.session, entry.version).await?;
        let version = entry.version;
        let running = Running { plan: &plan, attempt: entry.attempt };
        let mut state = entry.state;
        let contracted =
            |state, reasons, due| Contracted { version, state, reasons, drop_due_in_seconds: due };
        if state == State::Ready && !plan.has_contract() {
            state = self.advance(version, state, Event::NothingToContract, 0).await?;
            return Ok(contracted(state, Vec::new(), None));
        }
        engine.observer.saw(Happening::Phase { version, name: plan.name.clone(), what: "contract" });
        if state == State::Ready {
            engine.check_drift(&mut self.session, &plan).await?;
            self.check_dependants(&plan, false).await?;
            // Rows may have become inconsistent since the backfill; nothing is closed for a seal that would fail.
            self.verify_plan(&plan, Names::Open).await?;
            self.accept_rows(&plan, request).await?;
            match self.try_close(&plan, request).await? {
                Ok(closed) => state = closed,
                Err(reasons) => return Ok(contracted(state, reasons, None)),
            }
            fault::point("contract.closed");
        }
        if state == State::Closing {
            let begun =
                engine.any_step_is("done", &mut self.session, version, entry.attempt, &plan.seal).await?;
            // A partition may have come since the gate was closed, and old code may have written until then.
            if !begun
                && (plan.jobs.iter().any(Job::is_checked_closed)
                    || engine.has_new_parts(&mut self.session, &plan).await?)
            {
                self.verify_plan(&plan, Names::Open).await.map_err(|failure| {
                    let back = format!("migrate reopen {version}, then migrate backfill {version}");
                    Failure { next: Some(back), ..failure }
                })?;
            }
            self.seal(&running, request).await.map_err(|failure| {
                let back = format!(
                    "correct the cause, then migrate contract {version}; or go back with migrate reopen {version}"
                );
                Failure { next: failure.next.clone().or(Some(back)), ..failure }
            })?;
            state = State::Sealed;
            fault::point("contract.sealed");
        } else if state == State::Sealed {
            if engine.any_step_is("undone", &mut self.session, version, entry.attempt, &plan.seal).await? {
                return Err(Failure::refused(format!(
                    "a reopen of migration {version} was begun and not finished"
                ))
                .next(format!("migrate reopen {version}")));
            }
            engine.check_drift(&mut self.session, &plan).await?;
        }
        if state == State::Sealed {
            let entry = engine.entry(&mut self.session, version).await?;
            // Whatever was verified before the seal says nothing about it.
            if entry.verified != Some(true) || engine.has_new_parts(&mut self.session, &plan).await? {
                self.verify_plan(&plan, Names::Sealed).await?;
            }
            let due = self.due_in(&plan, &entry, request);
            if due > 0 {
                return Ok(contracted(state, Vec::new(), Some(due)));
            }
            self.check_dependants(&plan, true).await?;
            self.rehearse_drop(&running).await?;
            // Recorded before the first irreversible statement runs.
            state = self.advance(version, State::Sealed, Event::DropStarted, 0).await?;
            fault::point("contract.dropping");
        }
        if state == State::Dropping {
            if engine.has_new_parts(&mut self.session, &plan).await? {
                self.verify_plan(&plan, Names::Sealed).await.map_err(|failure| {
                    let way = format!(
                        "ALTER TABLE … DETACH PARTITION what came so late, then migrate contract {version}; attach it again with the \
                         new columns"
                    );
                    Failure { next: Some(way), ..failure }
                })?;
            }
            self.run_steps(&running, &plan.drop).await?;
            fault::point("contract.dropped");
            state = self.advance(version, State::Dropping, Event::DropFinished, 0).await?;
        }
        Ok(contracted(state, Vec::new(), None))
    }

    /// Seconds until the drop is due: by the soak that was set at the seal, or by the one that is asked for now.
    fn due_in(&self, plan: &Plan, entry: &Entry, request: &Request) -> i64 {
        if hides_nothing(plan) {
            return 0;
        }
        let due = match request.soak {
            Some(soak) => {
                let soak = i64::try_from(soak.as_secs()).unwrap_or(i64::MAX);
                soak.saturating_sub(entry.sealed_seconds.unwrap_or_default())
            }
            None => entry.drop_due_in_seconds.unwrap_or_default(),
        };
        due.max(0)
    }

    /// How long the old shape stays sealed. Where nothing is hidden there is nothing to wait for.
    fn soak(&self, plan: &Plan, asked: Option<Duration>) -> i64 {
        if hides_nothing(plan) {
            return 0;
        }
        let soak = asked
            .map(|soak| soak.as_secs())
            .or(plan.soak_seconds)
            .unwrap_or(self.engine.limits.soak.as_secs());
        i64::try_from(soak).unwrap_or(i64::MAX)
    }

    /// One transaction: the gate's lock, the facts, the verdict, and the new state only if it is open.
    async fn try_close(&mut self, plan: &Plan, request: &Request) -> Outcome<Result<State, Vec<Reason>>> {
        self.begin().await?;
        let closed = self.close_in_transaction(plan, request).await;
        match &closed {
            Ok(Ok(_)) => {
                fault::point("contract.before_close");
                self.commit().await?;
            }
            Ok(Err(_)) | Err(_) => self.session.rollback().await,
        }
        closed
    }

    /// Looks at the rows, and believes the operator of those that they have seen to.
    async fn accept_rows(&mut self, plan: &Plan, request: &Request) -> Outcome<()> {
        let engine = self.engine;
        let accepted = engine.check_rows(&mut self.session, plan, &request.overridden).await?;
        if accepted.is_empty() {
            return Ok(());
        }
        let rows: Vec<&String> = accepted.iter().flat_map(|(_, rows)| rows).collect();
        for row in &rows {
            engine.note(format!("accepted: {row}"));
        }
        self.begin().await?;
        let done = async {
            for (statement, _) in &accepted {
                self.session.execute(statement).await?;
            }
            self.note_override(plan, request, gate::CHANGED_SOURCE, &rows).await
        }
        .await;
        match done {
            Ok(()) => self.commit().await,
            Err(failure) => {
                self.session.rollback().await;
                Err(failure)
            }
        }
    }

    async fn note_override(
        &mut self,
        plan: &Plan,
        request: &Request,
        reason: &str,
        rows: &[&String],
    ) -> Outcome<()> {
        let mut detail = serde_json::json!({ "reason": reason, "because": request.because });
        if !rows.is_empty() {
            detail["rows"] = rows.iter().map(|row| row.as_str()).collect();
        }
        self.engine.ledger.event(&mut self.session, Some(plan.version), "override", detail).await?;
        Ok(())
    }

    async fn close_in_transaction(
        &mut self,
        plan: &Plan,
        request: &Request,
    ) -> Outcome<Result<State, Vec<Reason>>> {
        let engine = self.engine;
        self.lock_gate(&format!("migrate contract {}", plan.version)).await?;
        let facts = engine.facts(&mut self.session, plan, request).await?;
        let pass: GatePass = match gate::decide(&facts, &request.overridden) {
            Verdict::Open(pass) => pass,
            Verdict::Closed(reasons) => return Ok(Err(reasons)),
        };
        for reason in request.overridden.iter().filter(|reason| *reason != gate::CHANGED_SOURCE) {
            self.note_override(plan, request, reason, &[]).await?;
        }
        engine.ledger.event(&mut self.session, Some(plan.version), "close", serde_json::json!({})).await?;
        Ok(Ok(engine.ledger.close(&mut self.session, plan.version, pass).await?))
    }

    /// Constraints first, which may fail on data; then the short reversible transactions.
    async fn seal(&mut self, running: &Running<'_>, request: &Request) -> Outcome<()> {
        let plan = running.plan;
        // A reopen that was cut off: what it left is taken back before anything is done anew.
        let taken_back = [plan.seal.as_slice(), &plan.restrict].concat();
        let engine = self.engine;
        if engine.any_step_is("undone", &mut self.session, plan.version, running.attempt, &taken_back).await?
        {
            self.undo_steps(running, &plan.seal).await?;
            self.undo_steps(running, &plan.restrict).await?;
        }
        self.run_steps(running, &plan.restrict).await?;
        fault::point("contract.restricted");
        self.run_steps(running, &plan.seal).await?;
        let soak = self.soak(plan, request.soak);
        self.begin().await?;
        self.store_fingerprint(plan).await?;
        let (ledger, session) = (&self.engine.ledger, &mut self.session);
        ledger.advance(session, plan.version, State::Closing, Event::SealFinished, soak).await?;
        self.commit().await
    }
}
