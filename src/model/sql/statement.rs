//! The statements of a migration, as far as the planner knows them.

use std::collections::BTreeSet;
use std::ops::Range;

use super::expression::Expression;
use crate::model::directive::Placed;
use crate::words::ident::Ident;

/// One statement of a file.
#[derive(Debug, Clone)]
pub(crate) struct Statement {
    /// Bytes in the canonical text, without the semicolon.
    pub(crate) span: Range<usize>,
    /// As written, without the semicolon.
    pub(crate) text: String,
    pub(crate) kind: StatementKind,
    pub(crate) directives: Vec<Placed>,
    /// Every identifier in it, folded: what it could depend on by name.
    pub(crate) words: BTreeSet<String>,
    /// The tables that its foreign keys point at.
    pub(crate) references: Vec<Name>,
}

impl Statement {
    /// The table of which the planner must know how indexes and constraints are defined.
    pub(crate) fn needs_definitions_of(&self) -> Option<&Ident> {
        match &self.kind {
            StatementKind::AlterTable { table, actions, .. } => {
                let needs = actions.iter().any(|(_, action)| {
                    matches!(
                        action,
                        Action::RenameColumn { .. }
                            | Action::AlterType { .. }
                            | Action::DropConstraint { .. }
                    )
                });
                needs.then_some(&table.name)
            }
            _ => None,
        }
    }
}

/// A name as written: one part, or schema and name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Name {
    pub(crate) schema: Option<Ident>,
    pub(crate) name: Ident,
    pub(crate) span: Range<usize>,
}

/// What a statement does.
#[derive(Debug, Clone)]
pub(crate) enum StatementKind {
    Begin,
    Commit,
    AlterTable {
        table: Name,
        if_exists: bool,
        actions: Vec<(Range<usize>, Action)>,
    },
    CreateTable {
        name: Name,
        if_not_exists: bool,
        columns: Vec<NewColumn>,
        special: Option<&'static str>,
    },
    CreateIndex(CreateIndex),
    Update {
        table: Name,
        alias: Option<Ident>,
        sets: Vec<SetColumn>,
        condition: Option<Expression>,
        unusual: Option<&'static str>,
    },
    InsertValues {
        table: Name,
    },
    /// A new object of its own: `CREATE TYPE`, `VIEW` and so on.
    CreateObject {
        kind: ObjectKind,
        name: Option<Name>,
        or_replace: bool,
        if_not_exists: bool,
        arguments: Option<String>,
    },
    AddEnumValue,
    /// A new name for an index, a type, a label of an enum, or an attribute of a composite.
    Rename(RenameObject),
    /// `COMMENT`, or `GRANT`.
    Describe(&'static str),
    /// Anything else, by the name people know it under.
    Other(String),
}

/// The kinds of object that a migration can create besides tables and indexes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ObjectKind {
    Type,
    Domain,
    Sequence,
    Schema,
    Extension,
    Function,
    View,
}

impl ObjectKind {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Type => "type",
            Self::Domain => "domain",
            Self::Sequence => "sequence",
            Self::Schema => "schema",
            Self::Extension => "extension",
            Self::Function => "function",
            Self::View => "view",
        }
    }
}

/// A rename that one statement takes back.
#[derive(Debug, Clone)]
pub(crate) struct RenameObject {
    /// For people.
    pub(crate) what: String,
    pub(crate) is_index: bool,
    /// The statement that takes it back.
    pub(crate) back: String,
}

/// One subcommand of ALTER TABLE.
#[derive(Debug, Clone)]
pub(crate) enum Action {
    AddColumn {
        column: NewColumn,
        if_not_exists: bool,
    },
    DropColumn {
        column: Ident,
        if_exists: bool,
        cascade: bool,
    },
    RenameColumn {
        from: Ident,
        to: Ident,
    },
    SetDefault {
        column: Ident,
        default: Expression,
    },
    DropDefault {
        column: Ident,
    },
    SetNotNull {
        column: Ident,
    },
    DropNotNull {
        column: Ident,
    },
    AlterType {
        column: Ident,
        /// As written.
        type_sql: String,
        /// ` COLLATE …` as written, or nothing.
        collation: String,
        using: Option<Expression>,
    },
    AddConstraint(NewConstraint),
    DropConstraint {
        name: Ident,
        if_exists: bool,
        cascade: bool,
    },
    ValidateConstraint {
        name: Ident,
    },
    RenameConstraint {
        from: Ident,
        to: Ident,
    },
    /// Something that no query can see: an owner, storage, statistics, replica identity.
    Setting {
        /// The subcommand as written.
        text: String,
        column: Option<Ident>,
        /// Whether it takes ACCESS EXCLUSIVE.
        exclusive: bool,
    },
    /// Any other, by the name people know it under.
    Other(String),
}

/// A column that is added.
#[derive(Debug, Clone)]
pub(crate) struct NewColumn {
    pub(crate) name: Ident,
    /// The type as written.
    pub(crate) type_sql: String,
    /// ` COLLATE …` as written, or nothing.
    pub(crate) collation: String,
    pub(crate) not_null: bool,
    pub(crate) default: Option<ColumnDefault>,
    /// Its constraints, as constraints of the table.
    pub(crate) constraints: Vec<NewConstraint>,
    /// What is not known of it, by name.
    pub(crate) other: Option<String>,
}

/// A constraint that is added.
#[derive(Debug, Clone)]
pub(crate) struct NewConstraint {
    pub(crate) name: Option<Ident>,
    pub(crate) kind: ConstraintKind,
    /// The columns that it constrains.
    pub(crate) columns: Vec<Ident>,
    /// As written, without its name and without NOT VALID.
    pub(crate) text: String,
    pub(crate) not_valid: bool,
}

/// What a constraint demands.
#[derive(Debug, Clone)]
pub(crate) enum ConstraintKind {
    Check(Expression),
    ForeignKey {
        parent: Name,
        /// Empty where the parent's primary key is meant.
        parent_columns: Vec<Ident>,
        /// `MATCH FULL`.
        full: bool,
    },
    Key {
        primary: bool,
        index: KeyIndex,
        /// `DEFERRABLE` and its like, with a blank before it.
        timing: String,
    },
    Exclude,
}

/// The index of a key.
#[derive(Debug, Clone)]
pub(crate) enum KeyIndex {
    New {
        included: Vec<Ident>,
        nulls_not_distinct: bool,
    },
    /// `USING INDEX`.
    Existing(Name),
}

/// A column's default.
#[derive(Debug, Clone)]
pub(crate) struct ColumnDefault {
    pub(crate) expression: Expression,
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

/// `CREATE INDEX`.
#[derive(Debug, Clone)]
pub(crate) struct CreateIndex {
    pub(crate) name: Option<Name>,
    pub(crate) if_not_exists: bool,
    pub(crate) unique: bool,
    pub(crate) table: Name,
    pub(crate) only: bool,
    pub(crate) tail: IndexTail,
}

/// Everything of an index from `USING` or the opening parenthesis on.
#[derive(Debug, Clone)]
pub(crate) struct IndexTail {
    pub(crate) text: String,
    /// The columns it names anywhere.
    pub(crate) columns: BTreeSet<Ident>,
    /// The key columns, `None` where one is an expression: for the name `PostgreSQL` would choose.
    pub(crate) key: Vec<Option<Ident>>,
    /// The parts of the name that the server would choose: key and included columns, a function's name for its call;
    /// `None` where that is not known.
    pub(crate) names: Vec<Option<Ident>>,
}
