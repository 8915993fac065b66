//! `up` and `redo`: all phases at once, for a database that nobody serves from.

use std::time::Duration;

use crate::decide::state::State;
use crate::engine::failure::{Failure, Outcome};
use crate::engine::{Engine, backfill, contract, expand};
use crate::pg::{install, session::Session};
use crate::words::version::Version;

impl Engine {
    /// Brings the database to the newest version: expand, backfill and contract, migration by migration, no soak.
    pub(crate) async fn up(&self) -> Outcome<Vec<(Version, State)>> {
        let mut session = self.writing_session("migrate up").await?;
        self.refuse_if_served(&mut session, "up").await?;
        let named: Vec<Version> = Vec::new();
        let mut done = Vec::new();
        // One that was killed while it expanded comes before everything else.
        if install::is_installed(&mut session, &self.ledger.schema).await? {
            let entries = self.ledger.entries(&mut session).await?;
            let half_way = entries.iter().find(|entry| entry.state == State::Expanding);
            if let Some(entry) = half_way {
                self.expand(&expand::Request { to: Some(entry.version), ..expand::Request::default() })
                    .await?;
            }
        }
        self.finish_all(&mut done).await?;
        loop {
            let situation = self
                .situation(&mut session, crate::model::migration::read_folder(&self.folder)?, &named)
                .await?;
            let Some(next) = situation.due.expand.first().copied() else {
                for version in &situation.due.aborted {
                    self.note_aborted(*version);
                }
                break;
            };
            self.expand(&expand::Request { to: Some(next), ..expand::Request::default() }).await?;
            self.finish_all(&mut done).await?;
        }
        session.close().await;
        Ok(done)
    }

    /// Takes the newest migration back and expands it again, for its author.
    pub(crate) async fn redo(&self) -> Outcome<Vec<(Version, State)>> {
        let mut session = self.session_with_ledger("migrate redo").await?;
        self.refuse_if_served(&mut session, "redo").await?;
        let entries = self.ledger.entries(&mut session).await?;
        session.close().await;
        let Some(newest) = entries.last() else {
            return Err(Failure::usage("there is nothing to redo").next("migrate expand"));
        };
        if matches!(newest.state, State::Closing | State::Sealed) {
            self.reopen(newest.version, true).await?;
        }
        if newest.state != State::Aborted {
            self.abort(newest.version, true).await?;
        }
        self.expand(&expand::Request { to: Some(newest.version), plan: None, again: true }).await
    }

    async fn finish_all(&self, done: &mut Vec<(Version, State)>) -> Outcome<()> {
        let mut session = self.writing_session("migrate up").await?;
        if !install::is_installed(&mut session, &self.ledger.schema).await? {
            return Ok(());
        }
        session.close().await;
        self.backfill(&backfill::Request { versions: Vec::new(), workers: 1 }).await?;
        let request =
            contract::Request { soak: Some(Duration::ZERO), private: true, ..contract::Request::default() };
        let (contracted, failed) = self.contract(&request).await?;
        if let Some(failure) = failed {
            return Err(failure);
        }
        for contracted in contracted {
            if !contracted.reasons.is_empty() {
                let details = contracted.reasons.iter().map(|reason| reason.explain().0).collect();
                return Err(Failure::refused(format!(
                    "migration {} cannot be contracted",
                    contracted.version
                ))
                .details(details)
                .next(format!("migrate contract {} says what to do", contracted.version)));
            }
            done.push((contracted.version, contracted.state));
        }
        Ok(())
    }

    async fn refuse_if_served(&self, session: &mut Session, command: &str) -> Outcome<()> {
        let instead =
            "migrate expand, then migrate backfill, roll the application out, then migrate contract";
        if self.limits.protected {
            return Err(Failure::refused(format!(
                "`{command}` is refused: migrate.toml says `protected = true`"
            ))
            .next(instead));
        }
        if !install::is_installed(session, &self.ledger.schema).await? {
            return Ok(());
        }
        let served = self.ledger.recently_registered(session).await?;
        if served == 0 {
            return Ok(());
        }
        Err(Failure::refused(format!(
            "`{command}` is refused: {served} instances were registered here within 24 hours"
        ))
        .next(instead))
    }
}
