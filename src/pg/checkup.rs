//! What `doctor` asks: what belongs to nobody, what is off, what is old.

use serde::Deserialize;

use crate::pg::error::PgError;
use crate::pg::ledger::Ledger;
use crate::pg::session::{Param, Session};
use crate::pg::statements::query;

impl Ledger {
    /// Triggers and functions of migrations that are not in flight; `known` are the beginnings of the names of those that
    /// are.
    pub(crate) async fn orphans(
        &self,
        session: &mut Session,
        known: &[String],
    ) -> Result<Vec<String>, PgError> {
        let schema = self.schema.as_str().into();
        self.lines(session, &query("orphans", &self.schema), &[Param::Texts(known.to_vec()), schema]).await
    }

    pub(crate) async fn invalid_indexes(&self, session: &mut Session) -> Result<Vec<String>, PgError> {
        self.lines(session, &query("invalid_indexes", &self.schema), &[]).await
    }

    /// Sync triggers that somebody disabled.
    pub(crate) async fn sync_triggers_off(&self, session: &mut Session) -> Result<Vec<String>, PgError> {
        self.lines(session, &query("sync_triggers_off", &self.schema), &[]).await
    }

    /// Transactions and prepared ones that are older than an hour.
    pub(crate) async fn old_transactions(&self, session: &mut Session) -> Result<Vec<String>, PgError> {
        self.lines(session, &query("old_transactions", &self.schema), &[]).await
    }

    /// Whether the role may see the transactions of other roles.
    pub(crate) async fn sees_others(&self, session: &mut Session) -> Result<bool, PgError> {
        session.one(&query("sees_others", &self.schema), &[]).await
    }

    pub(super) async fn lines(
        &self,
        session: &mut Session,
        sql: &str,
        params: &[Param<'_>],
    ) -> Result<Vec<String>, PgError> {
        #[derive(Deserialize)]
        struct Line {
            what: String,
        }
        let lines: Vec<Line> = session.rows(sql, params).await?;
        Ok(lines.into_iter().map(|line| line.what).collect())
    }
}
