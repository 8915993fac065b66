//! What contract looks at besides the gate, before it closes anything and before it drops anything.

use crate::decide::gate::CHANGED_SOURCE;
use crate::decide::plan::{Mode, Plan, SealedColumn};
use crate::decide::state::State;
use crate::engine::failure::{Failure, Outcome};
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

    /// Looks for rows that break a rule which contract is to bring. Gives what makes those conditions hold that break
    /// nothing but what an operator has taken upon themselves.
    pub(super) async fn check_rows(
        &self,
        session: &mut Session,
        plan: &Plan,
        overridden: &[String],
    ) -> Outcome<Vec<String>> {
        let version = plan.version;
        let (mut accepted, mut rows_to_come) = (Vec::new(), Vec::new());
        for step in &plan.restrict {
            let Mode::Require(condition) = &step.mode else {
                // It may be what makes the conditions below hold.
                rows_to_come.extend(step.locks.iter().filter(|lock| lock.mode == LockMode::RowExclusive));
                continue;
            };
            if rows_to_come.iter().any(|lock| lock.table == condition.table) {
                continue;
            }
            let details = self.rows_in_the_way(session, plan, condition).await?;
            if details.is_empty() {
                continue;
            }
            let next = match &condition.accept {
                Some(accept) if overridden.iter().any(|reason| reason == CHANGED_SOURCE) => {
                    accepted.push(accept.clone());
                    continue;
                }
                Some(_) => format!(
                    "bring over by hand what they say now, then `migrate contract {version} --override {CHANGED_SOURCE} --because \
                     '…'`; nothing is closed yet"
                ),
                None => format!(
                    "correct those rows and run `migrate contract {version}` again; nothing is closed yet"
                ),
            };
            return Err(Failure::failed(condition.says.clone()).details(details).next(next));
        }
        Ok(accepted)
    }
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
