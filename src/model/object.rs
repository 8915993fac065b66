//! Objects besides tables and columns, as a picture of a database has them.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::model::sql::{Action, Name, NewName, Statement, StatementKind};
use crate::words::ident::{Ident, QualifiedName};

/// An object by its name.
#[derive(Debug, Clone, Deserialize, Serialize, PartialEq, Eq)]
pub(crate) struct ObjectRef {
    /// As [`ObjectKind::word`] says it, or `rights` or `row security` of a relation.
    pub(crate) kind: String,
    pub(crate) name: QualifiedName,
    /// The table of a policy or trigger.
    pub(crate) on_table: Option<QualifiedName>,
    /// As `pg_describe_object` names it.
    pub(crate) what: String,
}

impl ObjectRef {
    /// One that is told by its kind and name alone.
    pub(crate) fn new(kind: &str, name: &QualifiedName) -> Self {
        Self { kind: kind.to_owned(), name: name.clone(), on_table: None, what: format!("{kind} {name}") }
    }

    /// Whether a statement names it, in doubt yes.
    pub(crate) fn is_named_in(&self, statement: &Statement) -> bool {
        let relation = |wanted: &QualifiedName| {
            statement.objects.iter().any(|name| {
                name.name == wanted.name && name.schema.as_ref().is_none_or(|schema| *schema == wanted.schema)
            })
        };
        let word = || statement.words.contains(self.name.name.as_str());
        match (self.kind.as_str(), &self.on_table) {
            ("rights", _) => {
                // Taking more away is no matter.
                matches!(statement.kind, StatementKind::Describe("GRANT")) && relation(&self.name)
            }
            ("row security", _) => {
                let secures = |actions: &[(std::ops::Range<usize>, Action)]| {
                    actions
                        .iter()
                        .any(|(_, action)| matches!(action, Action::RowSecurity { relaxes: true, .. }))
                };
                matches!(&statement.kind, StatementKind::AlterTable { actions, .. } if secures(actions))
                    && relation(&self.name)
            }
            (_, Some(table)) => word() && relation(table),
            ("function" | "procedure", None) => {
                relation(&self.name)
                    || makes(statement, &self.name)
                    || statement.calls.contains(self.name.name.as_str())
            }
            ("table" | "view" | "materialized view", None) => {
                relation(&self.name) || makes(statement, &self.name)
            }
            (_, None) => word(),
        }
    }
}

/// Whether a statement makes a relation of that name.
fn makes(statement: &Statement, name: &QualifiedName) -> bool {
    let same = |made: &Name| {
        made.name == name.name && made.schema.as_ref().is_none_or(|schema| *schema == name.schema)
    };
    match &statement.kind {
        StatementKind::CreateObject(object) => object.name.as_ref().is_some_and(same),
        StatementKind::CreateTable { name, .. } => same(name),
        StatementKind::CreateIndex(index) => index.name.as_ref().is_some_and(same),
        StatementKind::Rename(rename) => {
            matches!(&rename.to, NewName::Name(new) if *new == name.name)
        }
        _ => false,
    }
}

/// A publication of logical replication.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Publication {
    pub(crate) name: Ident,
    /// Whether it publishes UPDATE or DELETE.
    pub(crate) changes: bool,
    pub(crate) all_tables: bool,
    /// The tables that it names, among those that the files speak of.
    pub(crate) listed: BTreeSet<QualifiedName>,
    /// Those that it publishes by their own names: partitions instead of what they are of, and those of a schema.
    pub(crate) tables: BTreeSet<QualifiedName>,
}

impl Publication {
    pub(crate) fn publishes(&self, table: &QualifiedName) -> bool {
        self.all_tables || self.listed.contains(table) || self.tables.contains(table)
    }
}

/// An object that a statement may rename, replace or drop.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Object {
    /// As [`ObjectKind::word`] says it.
    pub(crate) kind: String,
    /// As `pg_describe_object` names it.
    pub(crate) what: String,
    pub(crate) name: QualifiedName,
    /// The table of a policy or trigger.
    pub(crate) on_table: Option<QualifiedName>,
    /// Whether it is a partitioned table, or an index of one.
    pub(crate) partitioned: bool,
    /// The table of an index.
    pub(crate) index_of: Option<QualifiedName>,
    /// The types of a function's arguments in parentheses.
    pub(crate) arguments: String,
    /// The statements that make it again, where the server can say them.
    pub(crate) definition: Vec<String>,
    /// What it is an inseparable part of.
    pub(crate) part_of: Option<String>,
    /// The indexes of a materialized view.
    pub(crate) indexes: Vec<Ident>,
    /// What stands in the way of its end, each as `pg_describe_object` names it.
    pub(crate) dependants: Vec<String>,
}

impl Object {
    pub(crate) fn reference(&self) -> ObjectRef {
        ObjectRef {
            kind: self.kind.clone(),
            name: self.name.clone(),
            on_table: self.on_table.clone(),
            what: self.what.clone(),
        }
    }
}
