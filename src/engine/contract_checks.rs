//! What contract looks at besides the gate, before it closes anything and before it drops anything.

use crate::decide::gate::CHANGED_SOURCE;
use crate::decide::plan::{Mode, Plan, Require, SealedColumn};
use crate::decide::state::State;
use crate::engine::failure::{Failure, Outcome};
use crate::engine::step_runner::settings;
use crate::engine::{Engine, Runner};
use crate::pg::ledger::Entry;
use crate::pg::session::Session;
use crate::words::lock_mode::LockMode;

impl Engine {
    /// What a contract looks at besides the gate, before it closes anything.
    pub(super) async fn check_rest(
        &self,
        session: &mut Session,
        entry: &Entry,
        overridden: &[String],
    ) -> Outcome<()> {
        if entry.state != State::Ready || !entry.has_contract {
            return Ok(());
        }
        let (plan, _) = self.stored_plan(session, entry.version).await?;
        self.check_drift(session, &plan).await?;
        self.check_rows(session, &plan, overridden).await?;
        Ok(())
    }

    /// Looks for rows that break a rule which contract is to bring, and tries what contract is to do to rows. Gives what an
    /// operator has taken upon themselves, with what makes those conditions hold.
    ///
    /// # Errors
    /// Every condition that rows break, unless it is overridden, with some of the rows.
    pub(super) async fn check_rows(
        &self,
        session: &mut Session,
        plan: &Plan,
        overridden: &[String],
    ) -> Outcome<Vec<(String, Vec<String>)>> {
        let version = plan.version;
        let is_taken = overridden.iter().any(|reason| reason == CHANGED_SOURCE);
        let (mut accepted, mut to_accept, mut first) = (Vec::new(), Vec::new(), Vec::new());
        for step in &plan.restrict {
            let Mode::Require(condition) = &step.mode else {
                if step.locks.iter().any(|lock| lock.mode == LockMode::RowExclusive) {
                    first.extend(step.sql.iter().map(String::as_str));
                    self.look_ahead(session, plan, &first, None).await?;
                }
                continue;
            };
            let mut rows = self.rows_in_the_way(session, plan, condition).await?;
            if !rows.is_empty() && !first.is_empty() {
                rows = self.look_ahead(session, plan, &first, Some(condition)).await?;
            }
            match &condition.accept {
                _ if rows.is_empty() => {}
                Some(accept) if is_taken => accepted.push((accept.clone(), lines(condition, rows))),
                Some(_) => to_accept.push((condition, rows)),
                None => {
                    return Err(Failure::failed(condition.says.clone()).details(rows).next(format!(
                        "correct those rows and run `migrate contract {version}` again; nothing is closed yet"
                    )));
                }
            }
        }
        let Some((first, _)) = to_accept.first() else { return Ok(accepted) };
        let message = first.says.clone();
        let details = match to_accept.len() {
            1 => to_accept.into_iter().flat_map(|(_, rows)| rows).collect(),
            _ => to_accept.into_iter().flat_map(|(condition, rows)| lines(condition, rows)).collect(),
        };
        Err(Failure::failed(message).details(details).next(format!(
            "bring over by hand what they say now, then `migrate contract {version} --override {CHANGED_SOURCE} --because '…'`; \
             nothing is closed yet"
        )))
    }

    /// Does what contract is to do to rows, looks at the condition that comes behind it, and takes it back. A look that somebody
    /// would have to wait for is none: contract finds it in its turn.
    async fn look_ahead(
        &self,
        session: &mut Session,
        plan: &Plan,
        first: &[&str],
        condition: Option<&Require>,
    ) -> Outcome<Vec<String>> {
        let begin = format!(
            "BEGIN; {}; SET LOCAL statement_timeout = '5s'",
            settings(&plan.search_path, self.limits.lock_timeout)
        );
        session.execute(&begin).await?;
        let looked = async {
            for statement in first {
                session.execute(statement).await?;
            }
            match condition {
                Some(condition) => self.first_rows(session, condition).await,
                None => Ok(Vec::new()),
            }
        }
        .await;
        session.rollback().await;
        match looked {
            Ok(rows) => Ok(rows),
            Err(error) if error.is_lost() => Err(error.into()),
            Err(error) if error.is_lock_conflict() || error.code() == Some(QUERY_CANCELED) => Ok(Vec::new()),
            Err(error) => Err(Failure::failed(format!("the rows that came late cannot be done: {error}"))
                .next(format!(
                    "correct the cause and run `migrate contract {}` again; nothing is closed yet",
                    plan.version
                ))),
        }
    }
}

/// What SQLSTATE a statement timeout has.
const QUERY_CANCELED: &str = "57014";

fn lines(condition: &Require, rows: Vec<String>) -> Vec<String> {
    let rows = rows.into_iter().map(|row| format!("  {row}"));
    [format!("{}:", condition.says)].into_iter().chain(rows).collect()
}

impl Runner<'_> {
    /// What somebody built on a column that is to go: a drop would stop half way.
    pub(super) async fn check_dependants(&mut self, plan: &Plan, sealed: bool) -> Outcome<()> {
        let mut details = Vec::new();
        for column in &plan.sealed {
            let goes = if sealed { &column.hidden } else { &column.going };
            // Foreign keys that point at a replaced column are replaced with it, before it is hidden.
            let constraints = sealed || column.replaced.is_none();
            if !sealed {
                details.extend(self.strangers(column).await?);
            }
            let ledger = &self.engine.ledger;
            details.extend(ledger.dependants(&mut self.session, &column.table, goes, constraints).await?);
        }
        let goes_along = |what: &String| {
            let generated = plan.sealed.iter().any(|column| {
                let name = if sealed { &column.hidden } else { &column.going };
                what == &format!("default value for column {} of table {}", name.as_str(), column.table)
            });
            generated
                || if sealed {
                    plan.hidden.values().any(|hidden| hidden == what)
                } else {
                    plan.objects.iter().any(|object| &object.what == what)
                }
        };
        details.retain(|what| !goes_along(what));
        if details.is_empty() {
            return Ok(());
        }
        let next = if sealed {
            format!(
                "drop or change those, then migrate contract {}; or migrate reopen {}",
                plan.version, plan.version
            )
        } else {
            format!("drop or change those, then migrate contract {}", plan.version)
        };
        Err(Failure::refused(format!(
            "migration {} would drop a column that other objects use",
            plan.version
        ))
        .details(details)
        .next(next))
    }

    /// What somebody built on a column after the plan was made that is to replace it: the swap would not take it along.
    pub(crate) async fn strangers(&mut self, column: &SealedColumn) -> Outcome<Vec<String>> {
        let Some(replaced) = &column.replaced else { return Ok(Vec::new()) };
        let ledger = &self.engine.ledger;
        let parts = ledger.column_parts(&mut self.session, &column.table, &column.column).await?;
        let strange = parts.into_iter().filter(|part| !replaced.known.contains(part));
        Ok(strange
            .map(|part| format!("{part}, on {}.{}", column.table.plain(), column.column.as_str()))
            .collect())
    }
}
