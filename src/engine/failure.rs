//! Why a command did not do what it was asked, and what to type next.

use crate::decide::gate::Reason;
use crate::decide::history::Conflict;
use crate::model::migration::FolderError;
use crate::model::problem::{Problem, Problems};
use crate::pg::error::PgError;
use crate::pg::lease::LeaseError;

/// The kinds of failure; each has an exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// 1: it failed, or a file cannot be understood.
    Failed,
    /// 2: wrong usage or configuration.
    Usage,
    /// 4: a safety check said no.
    Refused,
    /// 5: another runner has the lease.
    Busy,
    /// 6: the database cannot be reached or used.
    Environment,
}

/// A failure with everything a person needs.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) kind: Kind,
    pub(crate) message: String,
    /// More lines: rows in the way, sessions in the way.
    pub(crate) details: Vec<String>,
    /// The next command to type.
    pub(crate) next: Option<String>,
    pub(crate) problems: Vec<Problems>,
    /// Why the gate is closed.
    pub(crate) reasons: Vec<Reason>,
    /// What else came of the command: a document, and the text for people.
    pub(crate) beside: Option<(serde_json::Value, String)>,
}

/// The result of anything the engine does.
pub(crate) type Outcome<T> = Result<T, Failure>;

impl Failure {
    pub(crate) fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            details: Vec::new(),
            next: None,
            problems: Vec::new(),
            reasons: Vec::new(),
            beside: None,
        }
    }

    pub(crate) fn failed(message: impl Into<String>) -> Self {
        Self::new(Kind::Failed, message)
    }

    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(Kind::Usage, message)
    }

    pub(crate) fn refused(message: impl Into<String>) -> Self {
        Self::new(Kind::Refused, message)
    }

    pub(crate) fn environment(message: impl Into<String>) -> Self {
        Self::new(Kind::Environment, message)
    }

    pub(crate) fn next(mut self, command: impl Into<String>) -> Self {
        self.next = Some(command.into());
        self
    }

    pub(crate) fn details(mut self, details: Vec<String>) -> Self {
        self.details = details;
        self
    }

    /// A folder that does not fit the ledger.
    pub(crate) fn conflicts(conflicts: &[Conflict]) -> Self {
        let explained: Vec<(String, String)> = conflicts.iter().map(Conflict::explain).collect();
        let failure = Self::refused("the folder of migrations does not fit this database");
        let failure = failure.details(explained.iter().map(|(sentence, _)| sentence.clone()).collect());
        match explained.into_iter().next() {
            Some((_, next)) => failure.next(next),
            None => failure,
        }
    }
}

impl From<PgError> for Failure {
    fn from(error: PgError) -> Self {
        if error.is_lost() {
            return Self::environment(error.to_string())
                .next("run the same command again: it goes on where it stopped");
        }
        match &error {
            PgError::Overtaken(_) => {
                Self::new(Kind::Busy, error.to_string()).next("migrate status, then the same command again")
            }
            PgError::Unreachable { .. } | PgError::Lost(_) => Self::environment(error.to_string())
                .next("see that psql connects with the same URL, then the same command again"),
            PgError::Refused(refusal) if refusal.code == "42501" => Self::environment(error.to_string())
                .next("run migrate as the owner of the tables and of the ledger's schema"),
            PgError::Refused(refusal) if refusal.code == "25006" => {
                Self::environment(error.to_string()).next("connect to a server that takes writes")
            }
            PgError::Refused(_) | PgError::Answer(_) => Self::failed(error.to_string()),
        }
    }
}

impl From<LeaseError> for Failure {
    fn from(error: LeaseError) -> Self {
        match error {
            LeaseError::Held(_) => {
                Self::new(Kind::Busy, error.to_string()).next("wait for it, then run the same command again")
            }
            LeaseError::Gone(ref ledger) => Self::refused(error.to_string()).next(format!(
                "psql: INSERT INTO {ledger}.lease (epoch) SELECT coalesce(max(epoch), 0) + 1 FROM {ledger}.step"
            )),
            LeaseError::Pg(error) => error.into(),
        }
    }
}

impl From<Problems> for Failure {
    fn from(problems: Problems) -> Self {
        let mut failure = Self::failed(format!("`{}` cannot be planned", problems.source_file.path));
        let waits = |problem: &Problem| problem.rule == Problem::IN_FLIGHT;
        let next = match problems.problems.iter().all(waits) {
            true => "migrate status shows what has to finish first; the file may stay as it is",
            false => "correct the file, then migrate lint",
        };
        failure.problems = vec![problems];
        failure.next(next)
    }
}

impl From<FolderError> for Failure {
    fn from(error: FolderError) -> Self {
        match error {
            FolderError::Problems(problems) => problems.into(),
            FolderError::Missing(_) => {
                Self::usage(error.to_string()).next("migrate init, or name the folder: --migrations DIR")
            }
            FolderError::Read { ref source, .. } => Self::failed(format!("{error}: {source}")),
            FolderError::Name(_) => {
                Self::failed(error.to_string()).next("rename it, or move it out of the folder")
            }
            FolderError::Zero(_) => {
                Self::failed(error.to_string()).next("give it and those behind it a number one higher")
            }
            FolderError::Down(_) => Self::failed(error.to_string()).next(
                "move it out of the folder; `migrate abort` and `migrate reopen` take a migration back",
            ),
            FolderError::Duplicate { ref first, ref second, .. } => {
                let next = format!(
                    "migrate new --renumber {}; or {}, if the other is the one that `migrate status` names",
                    second.display(),
                    first.display()
                );
                Self::failed(error.to_string()).next(next)
            }
        }
    }
}
