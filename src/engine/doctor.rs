//! Doctor: looks at everything that could be wrong with a database and its ledger. Reads only.

use serde::Serialize;

use crate::decide::plan::Plan;
use crate::decide::state::State;
use crate::engine::Engine;
use crate::engine::failure::Outcome;
use crate::pg::ledger::Entry;
use crate::pg::session::Session;
use crate::pg::{install, lease};

/// Something that somebody should look at.
#[derive(Debug, Serialize)]
pub(crate) struct Finding {
    pub(crate) what: String,
    pub(crate) next: String,
}

impl Engine {
    /// Everything that is found, the most urgent first.
    pub(crate) async fn doctor(&self) -> Outcome<Vec<Finding>> {
        let mut session = self.session("migrate doctor").await?;
        let mut findings = Vec::new();
        let mut find = |what: String, next: &str| findings.push(Finding { what, next: next.to_owned() });
        if !install::is_installed(&mut session, &self.ledger.schema).await? {
            find("the ledger is not installed".to_owned(), "migrate init, or migrate expand");
            return Ok(findings);
        }
        let (files, unread) = self.files_if_any();
        if !unread.is_empty() && self.folder.is_dir() {
            find(unread[0].clone(), "migrate lint");
        } else if self.folder.is_dir()
            && let Err(failure) = self.situation(&mut session, files, &[]).await
        {
            let next = failure.next.unwrap_or_else(|| "migrate status".to_owned());
            for line in std::iter::once(failure.message).chain(failure.details) {
                find(line, &next);
            }
        }
        let holder = lease::holder_of(&mut session, &self.ledger.schema).await?;
        let mut known = Vec::new();
        for entry in self.ledger.entries(&mut session).await? {
            if entry.state.is_in_flight() {
                known.push(format!("m{}_", entry.version.number()));
                let (plan, _) = self.stored_plan(&mut session, entry.version).await?;
                match self.cut_off(&mut session, &entry, &plan).await? {
                    Some(_) if holder.is_some() => {}
                    Some(command) => {
                        let next = format!("migrate {command}");
                        find(
                            format!("migration {}: a phase was begun and not finished", entry.version),
                            &next,
                        );
                    }
                    None => {
                        let changed = self.changed(&mut session, &plan).await?;
                        for line in changed.made {
                            let next = "make it again, or see that nobody needs it";
                            find(format!("not as migration {} made it: {line}", entry.version), next);
                        }
                        for line in changed.columns.into_iter().chain(changed.sync) {
                            let next =
                                "bring it back to what it was; its migration refuses to go on until then";
                            find(format!("migration {}: {line}", entry.version), next);
                        }
                    }
                }
            }
            if entry.verified == Some(false) {
                let command = if entry.state == State::Sealed { "reopen" } else { "backfill" };
                let next = format!("migrate {command} {}", entry.version);
                find(format!("migration {}: its last verification failed", entry.version), &next);
            }
            if entry.state == State::Sealed && entry.drop_due_in_seconds.is_some_and(|due| due <= 0) {
                let next = format!("migrate contract {}", entry.version);
                find(format!("migration {}: its drop is due", entry.version), &next);
            }
        }
        for orphan in self.ledger.orphans(&mut session, &known).await? {
            find(orphan, "no migration in flight has it: drop it");
        }
        for index in self.ledger.invalid_indexes(&mut session).await? {
            find(
                format!("the index {index} is invalid"),
                "drop it with DROP INDEX CONCURRENTLY, and build it again",
            );
        }
        for line in self.ledger.sync_triggers_off(&mut session).await? {
            find(line, "ALTER TABLE … ENABLE ALWAYS TRIGGER …, then migrate verify");
        }
        for line in self.ledger.old_transactions(&mut session).await? {
            find(line, "end it: it keeps locks, and dead rows alive");
        }
        if let Some(holder) = holder
            && holder.held_seconds > 3_600
        {
            let what = format!(
                "`migrate {}` of {} has run for {} s",
                holder.command, holder.holder, holder.held_seconds
            );
            find(what, "see what it waits for: `migrate status`, pg_stat_activity");
        }
        if !self.ledger.sees_others(&mut session).await? {
            find(
                "this role cannot see how old the transactions of others are".to_owned(),
                "GRANT pg_read_all_stats TO the role that runs migrate",
            );
        }
        session.close().await;
        Ok(findings)
    }

    /// What finishes a phase that was begun: until then nothing is as the last one left it.
    async fn cut_off(&self, session: &mut Session, entry: &Entry, plan: &Plan) -> Outcome<Option<String>> {
        let version = entry.version;
        Ok(match entry.state {
            State::Expanding => Some("expand".to_owned()),
            State::Closing | State::Dropping => Some(format!("contract {version}")),
            State::Aborting => Some(format!("abort {version}")),
            State::Sealed
                if self.any_step_is("undone", session, version, entry.attempt, &plan.seal).await? =>
            {
                Some(format!("reopen {version}"))
            }
            _ => None,
        })
    }
}
