//! Data that moves between two tables, as the statement that says so asks for it.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use crate::decide::draft::Draft;
use crate::decide::plan::Once;
use crate::decide::sync::Moved;
use crate::model::sql::StatementKind;
use crate::words::ident::{Ident, QualifiedName};

/// One `UPDATE … FROM`, or one `INSERT … SELECT` into a table of the file.
pub(crate) struct Crossing {
    pub(crate) span: Range<usize>,
    pub(crate) source: QualifiedName,
    pub(crate) target: QualifiedName,
    /// What the statement calls the target.
    pub(crate) target_alias: Ident,
    /// Columns of source and target that are equal in rows that belong together.
    pub(crate) key: Vec<(Ident, Ident)>,
    pub(crate) new: Vec<Moved>,
    /// Columns of the source that a column of the target takes over as they are.
    pub(crate) same: BTreeMap<Ident, Ident>,
    /// Which rows of the source take part, and the columns that it reads.
    pub(crate) condition: Option<(String, BTreeSet<Ident>)>,
    /// Columns of the target with values that come from no column.
    pub(crate) given: Vec<(Ident, String)>,
    /// Whether the key is unique in the target.
    pub(crate) one_to_one: bool,
    /// Whether computing a value can raise.
    pub(crate) may_raise: bool,
    /// The copy of the rows that are there, where rows of the source make those of the target.
    pub(crate) copy: Option<Once>,
}

impl Draft<'_> {
    /// Whether a table of the database, or one that the file creates, is partitioned.
    pub(crate) fn is_partitioned(&self, table: &QualifiedName) -> bool {
        let known = self.catalog.table(table).is_some_and(|known| known.partitions.is_some());
        known
            || self.file.statements.iter().any(|statement| match &statement.kind {
                StatementKind::CreateTable { name, is_partitioned, .. } => {
                    *is_partitioned && &self.new_name(name) == table
                }
                _ => false,
            })
    }
}
