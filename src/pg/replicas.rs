//! What `backfill` asks before it goes on: how far behind the standbys are, and what the configuration wants to know.

use serde::Deserialize;

use crate::pg::error::PgError;
use crate::pg::ledger::Ledger;
use crate::pg::session::{Param, Session};
use crate::pg::statements::query;

/// A physical standby that is connected.
#[derive(Debug, Deserialize)]
pub(crate) struct Replica {
    /// Its application name and address.
    pub(crate) name: String,
    /// `streaming`, `catchup` and so on; none where the role may not see it.
    pub(crate) state: Option<String>,
    /// How far behind it was when it last answered.
    pub(crate) seconds: f64,
}

impl Ledger {
    /// The standbys, but those with an application name in `ignored`.
    pub(crate) async fn replicas(
        &self,
        session: &mut Session,
        ignored: &[String],
    ) -> Result<Vec<Replica>, PgError> {
        session.rows(&query("replicas", &self.schema), &[Param::Texts(ignored.to_vec())]).await
    }

    /// What somebody's own query gives as reasons to pause. It writes nothing, and has five seconds.
    pub(crate) async fn own_reasons(&self, session: &mut Session, own: &str) -> Result<Vec<String>, PgError> {
        let own = own.trim().trim_end_matches(';');
        let sql = format!(
            "SELECT p.why::text AS what FROM unnest(ARRAY(\n{own}\n)) AS p (why) WHERE p.why IS NOT NULL LIMIT 3"
        );
        session.execute("BEGIN READ ONLY; SET LOCAL statement_timeout = '5s'").await?;
        let lines = self.lines(session, &sql, &[]).await;
        session.rollback().await;
        lines
    }
}
