//! Reopen: takes a seal back. One short transaction per table; the triggers went on computing the old columns.

use crate::decide::plan::{Plan, SealedColumn};
use crate::decide::state::{Event, State};
use crate::engine::failure::{Failure, Outcome};
use crate::engine::step_runner::Running;
use crate::engine::{Engine, Happening, RUNNER_WAIT, Runner};
use crate::words::fault;
use crate::words::ident::{Ident, QualifiedName};
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
        let changed = engine.changed(&mut self.session, &plan).await?;
        // One that was cut off has done that already, and left some functions as they are while open.
        let is_begun =
            engine.any_step_is("undone", &mut self.session, version, entry.attempt, &plan.seal).await?;
        if entry.state == State::Sealed
            && !is_begun
            && (!changed.sync.is_empty() || engine.has_new_parts(&mut self.session, &plan).await?)
        {
            for line in &changed.sync {
                engine.note(format!(
                    "{line}: make it again as `migrate plan` shows it, triggers ENABLE ALWAYS"
                ));
            }
            let rows = self.resync(&plan).await?;
            engine.note(format!(
                "{rows} rows that were written past the sync triggers have their old values again"
            ));
        }
        self.check_replaced(&plan).await?;
        if !accept_nulls {
            self.check_nulls(&plan).await?;
        }
        let running = Running { plan: &plan, attempt: entry.attempt };
        // What only counts backwards, and comes first, is the rest's proof.
        let again = |failure: Failure| {
            let next = format!("correct the cause, then migrate reopen {version}");
            Failure { next: failure.next.clone().or(Some(next)), ..failure }
        };
        let first = plan.seal.iter().rposition(|step| step.undo_when.is_none()).map_or(0, |at| at + 1);
        self.undo_steps(&running, plan.seal.get(first..).unwrap_or_default()).await.map_err(again)?;
        self.rehearse_reopen(&running).await?;
        self.undo_steps(&running, &plan.seal).await.map_err(again)?;
        fault::point("reopen.unsealed");
        self.undo_steps(&running, &plan.restrict).await.map_err(again)?;
        self.begin().await?;
        self.store_fingerprint(&plan).await?;
        engine.ledger.forget_undone(&mut self.session, version, entry.attempt).await?;
        let detail = serde_json::json!({ "accept_nulls": accept_nulls });
        engine.ledger.event(&mut self.session, Some(version), "reopen", detail).await?;
        let state =
            engine.ledger.advance(&mut self.session, version, entry.state, Event::Reopened, 0).await?;
        self.commit().await?;
        Ok(state)
    }

    /// What would stop a swap half way back: an old column that must not be null and is, and what was built on the new
    /// column meanwhile.
    async fn check_replaced(&mut self, plan: &Plan) -> Outcome<()> {
        let (mut rows, mut built) = (Vec::new(), Vec::new());
        for column in &plan.sealed {
            let Some(replaced) = &column.replaced else { continue };
            if !self.has_column(&column.table, &column.hidden).await? {
                continue;
            }
            built.extend(self.strangers(column).await?);
            let ledger = &self.engine.ledger;
            built.extend(ledger.dependants(&mut self.session, &column.table, &column.column, false).await?);
            if replaced.not_null {
                let nulls = self.count(&column.table, &format!("{} IS NULL", column.hidden)).await?;
                if nulls > 0 {
                    rows.push(format!("{}.{}: {nulls} rows", column.table.plain(), column.column.as_str()));
                }
            }
        }
        built.retain(|what| !plan.objects.iter().any(|object| &object.what == what));
        let version = plan.version;
        if !built.is_empty() {
            return Err(Failure::refused("something was built on a column whose type changed".to_owned())
                .details(built)
                .next(format!("drop or change those, then migrate reopen {version}")));
        }
        if !rows.is_empty() {
            return Err(Failure::refused(
                "the old type cannot hold what was written since the seal".to_owned(),
            )
            .details(rows)
            .next(format!(
                "delete or correct those rows, then migrate reopen {version}; or migrate contract {version}"
            )));
        }
        Ok(())
    }

    /// Old code would find nulls where nothing computed a value, and other values where the old type says less.
    async fn check_nulls(&mut self, plan: &Plan) -> Outcome<()> {
        let mut details = Vec::new();
        for SealedColumn { table, column, hidden, replaced, .. } in
            plan.sealed.iter().filter(|sealed| !sealed.kept_current)
        {
            if !self.has_column(table, hidden).await? {
                continue;
            }
            let (lost, what) = match replaced {
                Some(replaced) => {
                    (replaced.lost.clone(), "rows have another value, or none, in the old type")
                }
                None => (
                    format!("{hidden} IS NULL"),
                    "rows have no value: those that had none before, and those written since the seal",
                ),
            };
            let rows = self.count(table, &lost).await?;
            if rows > 0 {
                details.push(format!("{}.{}: {rows} {what}", table.plain(), column.as_str()));
            }
        }
        if details.is_empty() {
            return Ok(());
        }
        Err(Failure::refused("a column was not kept current while it was sealed".to_owned())
            .details(details)
            .next(format!("migrate reopen {} --accept-nulls", plan.version)))
    }

    async fn count(&mut self, table: &QualifiedName, predicate: &str) -> Outcome<i64> {
        let sql = format!("SELECT count(*) AS value FROM {table} WHERE {predicate}");
        Ok(self.session.one(&sql, &[]).await?)
    }

    async fn has_column(&mut self, table: &QualifiedName, column: &Ident) -> Outcome<bool> {
        let sql = "SELECT EXISTS (SELECT FROM pg_attribute AS a WHERE a.attrelid = to_regclass($1) AND a.attname = $2) AS value";
        Ok(self.session.one(sql, &[table.to_string().as_str().into(), column.as_str().into()]).await?)
    }
}
