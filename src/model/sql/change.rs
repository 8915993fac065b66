//! Data changes, as far as the planner knows them.

use std::collections::BTreeSet;
use std::ops::Range;

use super::expression::Expression;
use super::statement::Name;
use crate::words::ident::Ident;

/// What a data change does to rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verb {
    Update,
    Delete,
    Insert,
}

/// A data change by its clauses as written: what batches are made of.
#[derive(Debug, Clone)]
pub(crate) struct DataChange {
    pub(crate) verb: Verb,
    /// The table that is changed.
    pub(crate) table: Name,
    /// The table whose rows are counted out to batches: the same, or the first source of an INSERT.
    pub(crate) driving: Name,
    /// What the driving table is called.
    pub(crate) alias: Option<Ident>,
    /// `SET …` of an UPDATE; everything up to the list of an INSERT's SELECT, and that list.
    pub(crate) head: String,
    /// The other tables of an UPDATE or DELETE, all tables of an INSERT; may be empty.
    pub(crate) sources: String,
    pub(crate) condition: Option<Expression>,
    /// `ON CONFLICT …` of an INSERT.
    pub(crate) tail: String,
    /// The functions that an INSERT's list calls for each row.
    pub(crate) calls: BTreeSet<String>,
    /// The functions that its WHERE and its other tables call, which decide on the rows.
    pub(crate) decides: BTreeSet<String>,
    /// The same taken apart, where its rows come from one other table.
    pub(crate) apart: Option<Apart>,
    /// Whether it is an INSERT that names no columns.
    pub(crate) by_position: bool,
    /// What is not known of it, by name.
    pub(crate) unusual: Option<&'static str>,
}

/// A data change that takes its rows from one table, taken apart.
#[derive(Debug, Clone)]
pub(crate) struct Apart {
    pub(crate) source: Name,
    /// What the source is called.
    pub(crate) source_alias: Option<Ident>,
    /// The parts of the WHERE between its ANDs.
    pub(crate) conjuncts: Vec<Conjunct>,
    /// The columns of an INSERT, and the value of each.
    pub(crate) values: Vec<(Ident, Expression)>,
}

/// A part of a WHERE.
#[derive(Debug, Clone)]
pub(crate) struct Conjunct {
    pub(crate) whole: Expression,
    /// Its two sides, where it says that they are equal.
    pub(crate) equal: Option<(Expression, Expression)>,
}

/// `column = value` of an UPDATE.
#[derive(Debug, Clone)]
pub(crate) struct SetColumn {
    pub(crate) column: Ident,
    pub(crate) span: Range<usize>,
    pub(crate) value: SetValue,
}

/// The right-hand side of an assignment.
#[derive(Debug, Clone)]
pub(crate) enum SetValue {
    Expression(Expression),
    Default,
    /// A row or a query.
    Unusual,
}
