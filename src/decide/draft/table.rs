//! What a file does to one existing table.

use std::collections::BTreeSet;
use std::ops::Range;

use crate::decide::sync::Repair;
use crate::model::catalog::{Column, Conversion};
use crate::model::sql::{Expression, NewColumn};
use crate::words::ident::{Ident, QualifiedName};

/// Everything that happens to one existing table.
pub(crate) struct TableDraft {
    pub(crate) name: QualifiedName,
    /// The first statement on the table, and the last, after which its transaction runs.
    pub(super) first: usize,
    pub(super) position: usize,
    pub(crate) added: Vec<Added>,
    pub(crate) dropped: Vec<Dropped>,
    pub(crate) renamed: Vec<Renamed>,
    /// Columns that get another type by a swap.
    pub(crate) retyped: Vec<Retyped>,
    /// Columns that were there and become NOT NULL.
    pub(crate) not_null: Vec<Ident>,
    /// Names that constraints get in contract.
    pub(crate) renamed_constraints: Vec<Ident>,
    /// Columns whose default goes with a change of their type.
    pub(crate) default_dropped: Vec<Ident>,
    /// UPDATEs that bring existing columns within a rule.
    pub(crate) repairs: Vec<Repair>,
    /// Statements of its transaction in expand, each with the one that takes it back.
    pub(crate) expand: Vec<(String, String)>,
    /// The same for its seal.
    pub(crate) seal: Vec<(String, String)>,
}

impl TableDraft {
    /// Whether columns come, go or change.
    pub(crate) fn moves_columns(&self) -> bool {
        !(self.added.is_empty()
            && self.dropped.is_empty()
            && self.renamed.is_empty()
            && self.retyped.is_empty()
            && self.repairs.is_empty())
    }
}

/// A column that the file adds.
pub(crate) struct Added {
    pub(crate) column: NewColumn,
    pub(crate) span: Range<usize>,
    /// What an UPDATE of the file computes for it.
    pub(crate) filled: Option<Filled>,
    /// Whether an UPDATE … FROM of the file fills it from another table.
    pub(crate) from_elsewhere: bool,
    /// Whether the default came after ADD COLUMN, so that rows which exist do not get it.
    pub(crate) default_later: bool,
}

impl Added {
    /// Whether triggers give it its value until contract.
    pub(crate) fn is_filled(&self) -> bool {
        self.filled.is_some() || self.from_elsewhere
    }
}

/// The value that the UPDATEs of a file give a column, in terms of columns that exist before the file.
#[derive(Clone)]
pub(crate) struct Filled {
    pub(crate) expression: String,
    pub(crate) reads: BTreeSet<Ident>,
    pub(crate) may_raise: bool,
    /// A fill (given once where null) rather than a mapping; with the WHERE that limits it.
    pub(crate) fill: Option<Option<String>>,
}

/// A column that the file drops.
pub(crate) struct Dropped {
    pub(crate) column: Ident,
    pub(crate) down: Option<Expression>,
    /// The column as it is above the statement.
    pub(crate) known: Column,
    /// Whether columns of another table keep it current.
    pub(crate) kept_from_elsewhere: bool,
    /// Whether the server computes it.
    pub(crate) generated: bool,
    pub(crate) span: Range<usize>,
}

/// A column that the file renames.
pub(crate) struct Renamed {
    pub(crate) from: Ident,
    pub(crate) to: Ident,
}

/// A column whose type changes by a swap with a hidden one.
pub(crate) struct Retyped {
    pub(crate) column: Ident,
    /// ` COLLATE …` of the new type, or nothing.
    pub(crate) collation: String,
    /// What makes the new value.
    pub(crate) up: String,
    pub(crate) reads: BTreeSet<Ident>,
    /// What makes the old value, in terms of the column; the server's own cast if the author says nothing.
    pub(crate) down: Option<Expression>,
    /// Whether `up` fails for no value.
    pub(crate) is_safe: bool,
    pub(crate) conversion: Conversion,
}
