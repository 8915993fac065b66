//! What only the runner may write, and only on what nobody else has changed: transactions under the lease, and the
//! fingerprint of the columns that a plan touches.

use crate::decide::plan::{Plan, Step};
use crate::decide::state::{Event, State};
use crate::engine::failure::{Failure, Kind, Outcome};
use crate::engine::{Engine, Runner};
use crate::pg::session::Session;
use crate::pg::{catalog, lease};
use crate::words::version::Version;

impl Runner<'_> {
    /// Opens a transaction that only the runner can commit: the lease is held to its end.
    pub(crate) async fn begin(&mut self) -> Outcome<()> {
        self.session.execute("BEGIN").await?;
        if lease::hold(&mut self.session, &self.engine.ledger.schema, self.lease.epoch).await? {
            return Ok(());
        }
        self.session.rollback().await;
        Err(overtaken())
    }

    pub(crate) async fn commit(&mut self) -> Outcome<()> {
        self.session.execute("COMMIT").await?;
        Ok(())
    }

    /// One transition, fenced.
    pub(crate) async fn advance(
        &mut self,
        version: Version,
        from: State,
        event: Event,
        soak: i64,
    ) -> Outcome<State> {
        self.begin().await?;
        let state = self.engine.ledger.advance(&mut self.session, version, from, event, soak).await?;
        self.commit().await?;
        Ok(state)
    }

    /// Stores the shape of the columns that the plan touches, and what it has made so far.
    pub(crate) async fn store_fingerprint(&mut self, plan: &Plan) -> Outcome<()> {
        let full = catalog::fingerprint(&mut self.session, &plan.tables).await?;
        let stored = self.engine.ledger.stored(&mut self.session, plan.version).await?.fingerprint;
        let touched = |table: &str, attnum: &str, name: &str| match &stored {
            Some(stored) => stored.get(table).is_some_and(|columns| columns.get(attnum).is_some()),
            None => plan.touches.iter().any(|(of, column)| {
                column.as_str() == name
                    && plan.tables.iter().any(|known| &known.plain() == of && known.to_string() == table)
            }),
        };
        let mut kept = keep(&full, touched);
        let things = self.engine.things(&mut self.session, plan).await?;
        kept[THINGS] = with_sync(things, stored.as_ref().and_then(|stored| stored.get(THINGS)));
        self.engine.ledger.set_fingerprint(&mut self.session, plan.version, kept).await?;
        Ok(())
    }
}

impl Engine {
    /// What a plan has made and is there.
    async fn things(&self, session: &mut Session, plan: &Plan) -> Outcome<serde_json::Value> {
        let names = plan.names.iter().chain(&plan.adds).cloned().collect();
        let prefix = format!("m{}_", plan.version.number());
        let replaced: Vec<_> = plan.sealed.iter().filter(|column| column.replaced.is_some()).collect();
        Ok(catalog::things(session, names, &self.ledger.schema, &prefix, &replaced).await?)
    }

    /// What somebody changed since the last phase of what a plan works on or has made.
    pub(crate) async fn changed(&self, session: &mut Session, plan: &Plan) -> Outcome<Changed> {
        let Some(stored) = self.ledger.stored(session, plan.version).await?.fingerprint else {
            return Ok(Changed::default());
        };
        let now = catalog::fingerprint(session, &plan.tables).await?;
        let mut changed = Changed { columns: drift(&stored, &now), ..Changed::default() };
        let now = self.things(session, plan).await?;
        for (what, was) in stored.get(THINGS).and_then(serde_json::Value::as_object).into_iter().flatten() {
            let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
            let line = match now.get(what) {
                Some(is) if is == was => continue,
                Some(is) if what.starts_with("sync trigger") => {
                    format!("{what} does not always fire (`{}`)", text(is))
                }
                Some(_) if what.starts_with("sync function") => format!("{what} is another one"),
                Some(is) => format!("{what} is now `{}`", text(is)),
                None => format!("{what} is gone"),
            };
            let list = match what {
                _ if what.starts_with("sync ") => &mut changed.sync,
                _ if what.contains(" of column ") => &mut changed.columns,
                _ => &mut changed.made,
            };
            list.push(line);
        }
        Ok(changed)
    }

    /// Whether some of the steps are in a state. Of those of a seal: "undone" where an undo was cut off.
    pub(crate) async fn any_step_is(
        &self,
        state: &str,
        session: &mut Session,
        version: Version,
        attempt: i64,
        steps: &[Step],
    ) -> Outcome<bool> {
        let records = self.ledger.steps(session, version, attempt).await?;
        let is = |step: &Step| records.iter().any(|record| record.id == step.id && record.state == state);
        Ok(steps.iter().any(is))
    }

    /// Refuses to go on if somebody else changed the columns that the plan touches, or what keeps them in step; says what else
    /// is not as it was.
    pub(crate) async fn check_drift(&self, session: &mut Session, plan: &Plan) -> Outcome<()> {
        let changed = self.changed(session, plan).await?;
        for line in &changed.made {
            self.note(format!("not as migration {} made it: {line}", plan.version));
        }
        let refused = |details: Vec<String>, next: &str| {
            let title = format!("somebody changed what migration {} is working on", plan.version);
            Err(Failure::refused(title).details(details).next(next))
        };
        if !changed.columns.is_empty() {
            return refused(changed.columns, "bring it back to what it was, then run the same command again");
        }
        if !changed.sync.is_empty() {
            let next = "make it again as `migrate plan` shows it, triggers ENABLE ALWAYS; what was written meanwhile is not in step";
            return refused(changed.sync, next);
        }
        Ok(())
    }
}

/// The key of a fingerprint that holds what was made; the others are tables.
const THINGS: &str = "things";

/// What is not as a migration left it.
#[derive(Debug, Default)]
pub(crate) struct Changed {
    pub(crate) columns: Vec<String>,
    /// Of what keeps old and new columns in step.
    pub(crate) sync: Vec<String>,
    /// Of everything else that it made.
    pub(crate) made: Vec<String>,
}

/// Somebody else is the runner now.
pub(crate) fn overtaken() -> Failure {
    Failure::new(Kind::Busy, "another runner has taken over")
        .next("migrate status, then the same command again")
}

/// What was made, and what keeps columns in step as it was and must be: until the drop none of that goes.
fn with_sync(mut things: serde_json::Value, was: Option<&serde_json::Value>) -> serde_json::Value {
    for (what, value) in was.and_then(serde_json::Value::as_object).into_iter().flatten() {
        let is_trigger = what.starts_with("sync trigger");
        if is_trigger || what.starts_with("sync function") && things.get(what).is_none() {
            things[what] = value.clone();
        }
    }
    things
}

/// The part of a fingerprint whose columns satisfy `touched` (table, attnum, name).
fn keep(full: &serde_json::Value, touched: impl Fn(&str, &str, &str) -> bool) -> serde_json::Value {
    let mut tables = serde_json::Map::new();
    for (table, columns) in full.as_object().into_iter().flatten() {
        let kept: serde_json::Map<String, serde_json::Value> = columns
            .as_object()
            .into_iter()
            .flatten()
            .filter(|(attnum, column)| touched(table, attnum, column[0].as_str().unwrap_or_default()))
            .map(|(attnum, column)| (attnum.clone(), column.clone()))
            .collect();
        tables.insert(table.clone(), kept.into());
    }
    tables.into()
}

/// What differs between the stored columns and the present ones.
fn drift(stored: &serde_json::Value, now: &serde_json::Value) -> Vec<String> {
    let mut details = Vec::new();
    let tables = stored.as_object().into_iter().flatten().filter(|(table, _)| *table != THINGS);
    for (table, columns) in tables {
        for (attnum, was) in columns.as_object().into_iter().flatten() {
            let present = now.get(table);
            let is = present.and_then(|columns| columns.get(attnum));
            // A restored dump numbers the columns anew where one was dropped before.
            let columns = present.and_then(serde_json::Value::as_object);
            if is == Some(was) || columns.is_some_and(|columns| columns.values().any(|column| column == was))
            {
                continue;
            }
            let text = |column: &serde_json::Value| {
                format!(
                    "`{} {}`",
                    column[0].as_str().unwrap_or_default(),
                    column[1].as_str().unwrap_or_default()
                )
            };
            let is = is.map_or_else(|| "is gone".to_owned(), |is| format!("is now {}", text(is)));
            details.push(format!("{table}: column {} {is}", text(was)));
        }
    }
    details
}
