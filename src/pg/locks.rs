//! Who is in the way.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::pg::error::PgError;
use crate::pg::session::{Param, Session};
use crate::pg::statements::query;
use crate::words::ident::{Ident, QualifiedName};

/// A session that holds a lock on a table we want.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Blocker {
    pub(crate) pid: i32,
    pub(crate) application: String,
    pub(crate) role: String,
    pub(crate) age_seconds: Option<i64>,
    /// Whether it runs nothing, and keeps its transaction open.
    pub(crate) idle: bool,
    pub(crate) query: Option<String>,
}

impl fmt::Display for Blocker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "session {} of {}", self.pid, self.role)?;
        if !self.application.is_empty() {
            write!(f, " ({})", self.application)?;
        }
        if let Some(age) = self.age_seconds {
            let idle = if self.idle { "idle " } else { "" };
            write!(f, ", {idle}in a transaction for {age} s")?;
        }
        let last = if self.idle { ", its last statement" } else { "" };
        match self.query.as_deref().map(str::trim) {
            Some(query) if !query.is_empty() => write!(f, "{last}: {}", query.replace('\n', " ")),
            _ => Ok(()),
        }
    }
}

/// The sessions that hold locks on the tables, oldest transaction first, three at most.
///
/// # Errors
/// Whatever the server says.
pub(crate) async fn blockers(
    session: &mut Session,
    ledger: &Ident,
    tables: &[QualifiedName],
) -> Result<Vec<Blocker>, PgError> {
    let names = tables.iter().map(ToString::to_string).collect();
    session.rows(&query("blockers", ledger), &[Param::Texts(names)]).await
}

/// The sessions that a backend waits for.
///
/// # Errors
/// Whatever the server says.
pub(crate) async fn waits_for(
    session: &mut Session,
    ledger: &Ident,
    pid: i32,
) -> Result<Vec<Blocker>, PgError> {
    session.rows(&query("waits_for", ledger), &[i64::from(pid).into()]).await
}
