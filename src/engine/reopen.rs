//! Reopen: takes a seal back. One short transaction per table; the triggers went on computing the old columns.

use crate::decide::plan::{Plan, SealedColumn};
use crate::decide::state::{Event, State};
use crate::engine::failure::{Failure, Outcome};
use crate::engine::step_runner::Running;
use crate::engine::{Engine, Happening, RUNNER_WAIT, Runner};
use crate::words::fault;
use crate::words::version::Version;

impl Engine {
    /// Brings the old shape of a closing or sealed migration back. `accept_nulls` takes it that rows written since the
    /// seal may have no value in columns without a `down`.
    pub(crate) async fn reopen(&self, version: Version, accept_nulls: bool) -> Outcome<State> {
        let session = self.session_with_ledger("migrate reopen").await?;
        let mut runner = self.runner(session, "reopen", RUNNER_WAIT).await?;
        let result = runner.reopen(version, accept_nulls).await;
        runner.release().await;
        result
    }
}

impl Runner<'_> {
    async fn reopen(&mut self, version: Version, accept_nulls: bool) -> Outcome<State> {
        let engine = self.engine;
        let entry = engine.entry(&mut self.session, version).await?;
        match entry.state {
            State::Closing | State::Sealed => {}
            State::Ready => return Ok(State::Ready),
            State::Dropping | State::Done => {
                return Err(Failure::refused(format!(
                    "migration {version} is {}: the old shape is gone for good",
                    entry.state
                ))
                .next("write a new migration that adds what is missing"));
            }
            state => {
                return Err(Failure::refused(format!(
                    "migration {version} is {state}: there is nothing to reopen"
                ))
                .next("migrate status"));
            }
        }
        let (plan, _) = engine.stored_plan(&mut self.session, version).await?;
        engine.observer.saw(Happening::Phase { version, name: plan.name.clone(), what: "reopen" });
        if !accept_nulls {
            self.check_nulls(&plan).await?;
        }
        let running = Running { plan: &plan, attempt: entry.attempt };
        self.undo_steps(&running, &plan.seal).await?;
        fault::point("reopen.unsealed");
        self.undo_steps(&running, &plan.restrict).await?;
        self.begin().await?;
        self.store_fingerprint(&plan).await?;
        let detail = serde_json::json!({ "accept_nulls": accept_nulls });
        engine.ledger.event(&mut self.session, Some(version), "reopen", detail).await?;
        let state =
            engine.ledger.advance(&mut self.session, version, entry.state, Event::Reopened, 0).await?;
        self.commit().await?;
        Ok(state)
    }

    /// Old code would find nulls where nothing computed a value.
    async fn check_nulls(&mut self, plan: &Plan) -> Outcome<()> {
        let mut details = Vec::new();
        for SealedColumn { table, column, hidden, replaced, .. } in
            plan.sealed.iter().filter(|sealed| !sealed.kept_current)
        {
            let hidden_now = self.has_column(table, hidden).await?;
            if !hidden_now {
                continue;
            }
            // A value that the old type cannot hold.
            let lost = if *replaced { format!(" AND {column} IS NOT NULL") } else { String::new() };
            let nulls: i64 = self
                .session
                .one(&format!("SELECT count(*) AS value FROM {table} WHERE {hidden} IS NULL{lost}"), &[])
                .await?;
            if nulls > 0 {
                details.push(format!(
                    "{}.{}: {nulls} rows have no value; those written since the seal are among them",
                    table.plain(),
                    column.as_str()
                ));
            }
        }
        if details.is_empty() {
            return Ok(());
        }
        Err(Failure::refused("a column without `down` was not kept current while it was sealed".to_owned())
            .details(details)
            .next(format!("migrate reopen {} --accept-nulls", plan.version)))
    }

    async fn has_column(
        &mut self,
        table: &crate::words::ident::QualifiedName,
        column: &crate::words::ident::Ident,
    ) -> Outcome<bool> {
        let sql = "SELECT EXISTS (SELECT FROM pg_attribute AS a WHERE a.attrelid = to_regclass($1) AND a.attname = $2) AS value";
        Ok(self.session.one(sql, &[table.to_string().as_str().into(), column.as_str().into()]).await?)
    }
}
