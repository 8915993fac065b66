//! What can go wrong between us and the server, sorted by what to do next.

use std::fmt;

/// A failed statement or connection.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PgError {
    /// No connection could be made.
    #[error("cannot connect to {target}: {reason}")]
    Unreachable { target: String, reason: String },
    /// The server refused a statement; nothing of it happened.
    #[error("{0}")]
    Refused(Refusal),
    /// The connection broke; whether the statement took effect is unknown.
    #[error("the connection to the server was lost: {0}")]
    Lost(String),
    /// Another runner was here: the ledger is not in the state that was expected.
    #[error("{0}")]
    Overtaken(String),
    /// The server's answer was not what the program expects.
    #[error("unexpected answer from the server: {0}")]
    Answer(String),
}

/// The server's own words on a refused statement.
#[derive(Debug, Clone)]
pub(crate) struct Refusal {
    /// The five characters of the SQLSTATE.
    pub(crate) code: String,
    pub(crate) message: String,
    pub(crate) detail: Option<String>,
    pub(crate) hint: Option<String>,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (SQLSTATE {})", self.message, self.code)?;
        for more in [&self.detail, &self.hint].into_iter().flatten() {
            write!(f, "; {more}")?;
        }
        Ok(())
    }
}

impl PgError {
    /// The SQLSTATE, if the server gave one.
    pub(crate) fn code(&self) -> Option<&str> {
        match self {
            Self::Refused(refusal) => Some(&refusal.code),
            Self::Unreachable { .. } | Self::Lost(_) | Self::Overtaken(_) | Self::Answer(_) => None,
        }
    }

    /// A lock was not to be had in time, or we were the victim of a deadlock: nothing happened, try again.
    pub(crate) fn is_lock_conflict(&self) -> bool {
        matches!(self.code(), Some("55P03" | "40P01" | "40001"))
    }

    /// The connection is gone.
    pub(crate) fn is_lost(&self) -> bool {
        matches!(self, Self::Lost(_))
            || matches!(self.code(), Some("57P01" | "57P02" | "57P03" | "57P05" | "25P03" | "25P04"))
    }

    /// The data does not fit the expression or the type (classes 21, 22 and 23).
    pub(crate) fn is_data(&self) -> bool {
        self.code().is_some_and(|code| ["21", "22", "23"].contains(&&code[..2]))
    }
}

impl From<sqlx::Error> for PgError {
    fn from(error: sqlx::Error) -> Self {
        match error {
            sqlx::Error::Database(database) => {
                let pg = database.try_downcast_ref::<sqlx::postgres::PgDatabaseError>();
                Self::Refused(Refusal {
                    code: database.code().unwrap_or_default().into_owned(),
                    message: database.message().to_owned(),
                    detail: pg.and_then(|pg| pg.detail()).map(str::to_owned),
                    hint: pg.and_then(|pg| pg.hint()).map(str::to_owned),
                })
            }
            sqlx::Error::Io(io) => Self::Lost(io.to_string()),
            sqlx::Error::Protocol(text) => Self::Lost(text),
            other => Self::Answer(other.to_string()),
        }
    }
}
