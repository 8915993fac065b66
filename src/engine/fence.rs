//! What only the runner may write, and only on what nobody else has changed: transactions under the lease, and the
//! fingerprint of the columns that a plan touches.

use crate::decide::plan::Plan;
use crate::decide::state::{Event, State};
use crate::engine::Runner;
use crate::engine::failure::{Failure, Kind, Outcome};
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

    /// Stores the shape of the columns that the plan touches.
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
        let kept = keep(&full, touched);
        self.engine.ledger.set_fingerprint(&mut self.session, plan.version, kept).await?;
        Ok(())
    }

    /// Refuses to go on if somebody else changed the columns that the plan touches.
    pub(crate) async fn check_drift(&mut self, plan: &Plan) -> Outcome<()> {
        let Some(stored) = self.engine.ledger.stored(&mut self.session, plan.version).await?.fingerprint
        else {
            return Ok(());
        };
        let now = catalog::fingerprint(&mut self.session, &plan.tables).await?;
        let details = drift(&stored, &now);
        if details.is_empty() {
            return Ok(());
        }
        Err(Failure::refused(format!("somebody changed what migration {} is working on", plan.version))
            .details(details)
            .next("bring it back to what it was, then run the same command again"))
    }
}

/// Somebody else is the runner now.
pub(crate) fn overtaken() -> Failure {
    Failure::new(Kind::Busy, "another runner has taken over")
        .next("migrate status, then the same command again")
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
pub(crate) fn drift(stored: &serde_json::Value, now: &serde_json::Value) -> Vec<String> {
    let mut details = Vec::new();
    for (table, columns) in stored.as_object().into_iter().flatten() {
        for (attnum, was) in columns.as_object().into_iter().flatten() {
            let is = now.get(table).and_then(|columns| columns.get(attnum));
            if is == Some(was) {
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
