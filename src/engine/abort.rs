//! Abort: undoes an expand. Refused while new code is serving, while a later migration builds on it, and while it would
//! throw away what the old shape does not hold.

use crate::decide::gate::Reason;
use crate::decide::plan::{Plan, Work};
use crate::decide::state::{Event, State};
use crate::engine::failure::{Failure, Kind, Outcome};
use crate::engine::step_runner::{Running, path};
use crate::engine::{Engine, Happening, RUNNER_WAIT, Runner};
use crate::pg::ledger::Entry;
use crate::words::fault;
use crate::words::version::Version;

impl Engine {
    /// Undoes the expand of a migration.
    pub(crate) async fn abort(&self, version: Version, discard_new_data: bool) -> Outcome<State> {
        let session = self.session_with_ledger("migrate abort").await?;
        let mut runner = self.runner(session, "abort", RUNNER_WAIT).await?;
        let result = runner.abort(version, discard_new_data).await;
        runner.release().await;
        result
    }
}

impl Runner<'_> {
    pub(crate) async fn abort(&mut self, version: Version, discard_new_data: bool) -> Outcome<State> {
        let engine = self.engine;
        let entry = engine.entry(&mut self.session, version).await?;
        match entry.state {
            State::Expanding | State::Expanded | State::Backfilling | State::Ready | State::Aborting => {}
            State::Aborted => return Ok(State::Aborted),
            State::Closing | State::Sealed => {
                return Err(Failure::refused(format!(
                    "migration {version} is {}: reopen it first",
                    entry.state
                ))
                .next(format!("migrate reopen {version}")));
            }
            State::Dropping => {
                return Err(Failure::refused(format!(
                    "migration {version} is dropping: it can only go forward"
                ))
                .next(format!("migrate contract {version}")));
            }
            State::Done | State::Pending => {
                return Err(Failure::refused(format!(
                    "migration {version} is {}: there is nothing to abort",
                    entry.state
                ))
                .next("migrate status"));
            }
        }
        let (plan, _) = engine.stored_plan(&mut self.session, version).await?;
        engine.observer.saw(Happening::Phase { version, name: plan.name.clone(), what: "abort" });
        if entry.state != State::Aborting {
            self.check_later(&plan).await?;
            if entry.state != State::Expanding {
                self.check_losses(&plan, discard_new_data).await?;
            }
            self.start_abort(&entry).await?;
            fault::point("abort.started");
        }
        let running = Running { plan: &plan, attempt: entry.attempt };
        let again = |failure: Failure| {
            let next = format!("correct the cause, then migrate abort {version}");
            Failure { next: failure.next.clone().or(Some(next)), ..failure }
        };
        self.undo_steps(&running, &plan.settle).await.map_err(again)?;
        self.undo_steps(&running, &plan.expand).await.map_err(again)?;
        fault::point("abort.undone");
        self.begin().await?;
        let left = self.left_in_place(&plan, entry.attempt).await?;
        for left in &left {
            engine.note(format!("left in place: {left}"));
        }
        // Those that say what it is, of what may be done again.
        let others = |warning: &&String| {
            warning.starts_with("abort leaves ")
                && !warning.contains("inserted into")
                && !warning.contains("in place: what")
        };
        for warning in plan.warnings.iter().filter(others) {
            engine.note(warning.clone());
        }
        let detail = serde_json::json!({ "left": left });
        engine.ledger.event(&mut self.session, Some(version), "aborted", detail).await?;
        engine.ledger.jobs_drop(&mut self.session, version).await?;
        for job in &plan.jobs {
            if let Some(once) = job.once() {
                self.session.execute(&format!("DROP TABLE IF EXISTS {}", once.list)).await?;
            }
        }
        let (from, event) = (State::Aborting, Event::AbortFinished);
        let state = engine.ledger.advance(&mut self.session, version, from, event, 0).await?;
        self.commit().await?;
        Ok(state)
    }

    /// What the migration did to data that were there, and that nothing takes back.
    async fn left_in_place(&mut self, plan: &Plan, attempt: i64) -> Outcome<Vec<String>> {
        let ledger = &self.engine.ledger;
        // What earlier tries left is still there.
        let mut left = ledger.left_by_abort(&mut self.session, plan.version).await?;
        let records = ledger.steps(&mut self.session, plan.version, attempt).await?;
        let ran = |id: &str| {
            records.iter().any(|record| record.id == id && matches!(record.state.as_str(), "done" | "undone"))
        };
        left.extend(plan.expand.iter().filter(|step| ran(&step.id)).filter_map(|step| step.stays.clone()));
        let progress = ledger.progress(&mut self.session, plan.version).await?;
        for job in plan.jobs.iter().filter(|job| matches!(job.work, Work::Once(_))) {
            let changed = progress
                .iter()
                .find(|progress| progress.id == job.id)
                .map_or(0, |progress| progress.converted);
            if changed > 0 {
                left.push(format!("{changed} rows that the data job on {} changed", job.table.plain()));
            }
        }
        Ok(left)
    }

    /// The mirror of closing: under the gate's lock nobody can begin to serve the new schema.
    async fn start_abort(&mut self, entry: &Entry) -> Outcome<()> {
        let engine = self.engine;
        self.begin().await?;
        let started = async {
            self.lock_gate(&format!("migrate abort {}", entry.version)).await?;
            let serving = engine.ledger.serving_instances(&mut self.session, entry.version).await?;
            if !serving.is_empty() {
                let reasons: Vec<Reason> =
                    serving.into_iter().map(|instance| Reason::LiveInstance { instance }).collect();
                let details = reasons
                    .iter()
                    .map(|reason| match reason {
                        Reason::LiveInstance { instance } => {
                            format!(
                                "{} {} (schema {}) is serving and needs the new schema",
                                instance.app,
                                instance.instance,
                                Version::from(instance.schema_version)
                            )
                        }
                        other => other.explain().0,
                    })
                    .collect();
                let mut failure =
                    Failure::new(Kind::Refused, format!("migration {} is in use", entry.version));
                failure.reasons = reasons;
                return Err(failure.details(details).next("roll the application back first"));
            }
            engine
                .ledger
                .advance(&mut self.session, entry.version, entry.state, Event::AbortStarted, 0)
                .await?;
            engine
                .ledger
                .event(&mut self.session, Some(entry.version), "abort", serde_json::json!({}))
                .await?;
            self.session.execute("COMMIT").await?;
            Ok(())
        }
        .await;
        if started.is_err() {
            self.session.rollback().await;
        }
        started
    }

    async fn check_later(&mut self, plan: &Plan) -> Outcome<()> {
        let entries = self.engine.ledger.entries(&mut self.session).await?;
        for entry in
            entries.iter().filter(|entry| entry.version > plan.version && entry.state != State::Aborted)
        {
            let (later, _) = self.engine.stored_plan(&mut self.session, entry.version).await?;
            if let Some(used) = plan.adds.iter().find(|added| builds_on(&later, added)) {
                return Err(Failure::refused(format!(
                    "migration {} builds on {used}, which {} added",
                    entry.version, plan.version
                ))
                .next(format!("migrate abort {}", entry.version)));
            }
        }
        Ok(())
    }

    /// What the old schema does not allow has to be corrected; what it merely does not hold may be discarded.
    async fn check_losses(&mut self, plan: &Plan, discard_new_data: bool) -> Outcome<()> {
        let (mut lost, mut in_the_way) = (Vec::new(), Vec::new());
        for loss in &plan.losses {
            if discard_new_data && !loss.blocks {
                continue;
            }
            let sql = loss.count.replacen("count(*)", "count(*) AS value", 1);
            // The text has the author's names of types.
            let path = path(&plan.search_path);
            self.session.execute(&format!("BEGIN; SET LOCAL search_path = {path}")).await?;
            let counted = self.session.one::<i64>(&sql, &[]).await;
            self.session.rollback().await;
            // Somebody dropped the table by hand.
            let count = match counted {
                Err(error) if error.code() == Some("42P01") => 0,
                counted => counted?,
            };
            if count > 0 {
                let line = format!("{count} {}", loss.what);
                if loss.blocks { in_the_way.push(line) } else { lost.push(line) }
            }
        }
        let version = plan.version;
        if !in_the_way.is_empty() {
            return Err(Failure::refused(format!(
                "aborting migration {version} would bring rules back that rows do not obey"
            ))
            .details(in_the_way)
            .next(format!("correct those rows, then migrate abort {version}")));
        }
        if lost.is_empty() {
            return Ok(());
        }
        Err(Failure::refused(format!("aborting migration {version} would throw data away"))
            .details(lost)
            .next(format!("migrate abort {version} --discard-new-data")))
    }
}

/// Whether a plan names something, as `schema.table`, `schema.table.column` or `schema.object`.
fn builds_on(later: &Plan, added: &str) -> bool {
    let named = added.split('.').skip(1).all(|part| later.mentions.contains(part));
    named
        || later.uses.contains(added)
        || later.uses.iter().any(|used| used.strip_prefix(added).is_some_and(|rest| rest.starts_with('.')))
        || later.tables.iter().any(|table| table.plain() == added)
}
