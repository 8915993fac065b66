//! A complaint about a migration file: where, what, why and what to do.

use std::ops::Range;
use std::sync::Arc;

use crate::words::ident::{Ident, QualifiedName};
use crate::words::version::Version;

/// The text that positions point into.
#[derive(Debug, Clone)]
pub(crate) struct Source {
    /// The path as the user would type it.
    pub(crate) path: Arc<str>,
    /// The canonical text.
    pub(crate) text: Arc<str>,
}

impl Source {
    /// The line (from 1) of a byte position.
    pub(crate) fn line(&self, position: usize) -> usize {
        self.text[..position.min(self.text.len())].matches('\n').count() + 1
    }
}

/// A place in a file with what to say of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mark {
    /// Bytes in the canonical text.
    pub(crate) span: Range<usize>,
    pub(crate) label: String,
}

/// One complaint. The first mark is the place that is wrong, the others are what it clashes with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Problem {
    /// A stable name, as in `--json` and in `allow`.
    pub(crate) rule: &'static str,
    pub(crate) title: String,
    pub(crate) marks: Vec<Mark>,
    /// What to write or type instead.
    pub(crate) help: Option<String>,
}

impl Problem {
    pub(crate) fn new(
        rule: &'static str,
        span: Range<usize>,
        title: impl Into<String>,
        label: impl Into<String>,
    ) -> Self {
        Self { rule, title: title.into(), marks: vec![Mark { span, label: label.into() }], help: None }
    }

    /// Something that has to wait for an earlier migration, which may be sealed already.
    pub(crate) fn in_flight(
        span: Range<usize>,
        title: impl Into<String>,
        label: &str,
        version: Option<Version>,
    ) -> Self {
        let which = version.map(|version| format!(" {version}")).unwrap_or_default();
        Self::new(Self::IN_FLIGHT, span, title, label).help(format!(
            "let it finish first: `migrate contract{which}`; if it is sealed, when its soak is over or with `--soak 0s`"
        ))
    }

    /// The rule of what is right, but not yet.
    pub(crate) const IN_FLIGHT: &str = "in-flight";

    /// Something `PostgreSQL` accepts and Pontoon does not do yet, or will not do.
    pub(crate) fn unsupported(span: Range<usize>, what: &str) -> Self {
        let help = match what.split(' ').next().unwrap_or_default() {
            "VACUUM" | "ANALYZE" | "EXPLAIN" | "CHECKPOINT" | "CLUSTER" | "REINDEX" => {
                "it changes nothing that code sees, and goes with no phase: run it by hand"
            }
            "LOCK" => "take it out: each step takes the locks that it needs, for a moment",
            "TRUNCATE" => {
                "write DELETE, which goes in batches; or run it as written, see `-- migrate: phase contract`"
            }
            _ if what.ends_with(" DATABASE")
                || what.ends_with(" TABLESPACE")
                || what.ends_with(" SYSTEM") =>
            {
                "this is a matter of the whole server and not of the schema: do it where servers are set up"
            }
            _ => {
                "to run it as written, put `-- migrate: phase expand` or `-- migrate: phase contract` on the line above \
                 (it is then not analysed: whoever uses what it locks waits until it is done)"
            }
        };
        Self::new("unsupported", span, format!("{what} is not supported"), "this statement").help(help)
    }

    /// CASCADE, whatever it is attached to.
    pub(crate) fn cascade(span: Range<usize>) -> Self {
        Self::new("cascade", span, "CASCADE would take away what nobody named", "this statement")
            .help("take CASCADE out; what depends on it is listed if there is anything")
    }

    /// A column that the table does not have at this line.
    pub(crate) fn no_column(span: Range<usize>, table: &QualifiedName, column: &Ident, label: &str) -> Self {
        let title = format!("`{}` has no column `{}`", table.plain(), column.as_str());
        Self::new("unknown-name", span, title, label)
    }

    /// A constraint that the table does not have at this line.
    pub(crate) fn no_constraint(
        span: Range<usize>,
        table: &QualifiedName,
        name: &Ident,
        label: &str,
    ) -> Self {
        let title = format!("`{}` has no constraint `{}`", table.plain(), name.as_str());
        Self::new("unknown-name", span, title, label)
    }

    pub(crate) fn and(mut self, span: Range<usize>, label: impl Into<String>) -> Self {
        self.marks.push(Mark { span, label: label.into() });
        self
    }

    pub(crate) fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}

/// Complaints about one file.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{}: {} problem(s), the first: {}", source_file.path, problems.len(), problems.first().map_or("", |p| p.title.as_str()))]
pub(crate) struct Problems {
    pub(crate) source_file: Source,
    pub(crate) problems: Vec<Problem>,
}
