//! The statements of a migration, as far as the planner knows them.

use std::collections::BTreeSet;
use std::fmt;
use std::ops::Range;

use super::change::{DataChange, SetColumn};
use super::expression::Expression;
use super::publication::PublicationChange;
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
    /// The relations, functions, types and schemas that it names as such.
    pub(crate) objects: Vec<Name>,
    /// The functions that it calls, without their schemas.
    pub(crate) calls: BTreeSet<String>,
    /// All of its expressions together.
    pub(crate) expressions: Expression,
}

impl Statement {
    /// The functions that it names with their types, as `to_regprocedure` takes them.
    pub(crate) fn signatures(&self) -> Vec<&str> {
        match &self.kind {
            StatementKind::CreateObject(object) => object.signature.as_deref().into_iter().collect(),
            StatementKind::Rename(rename) => rename.target.signature.as_deref().into_iter().collect(),
            StatementKind::DropObjects(objects) => {
                objects.targets.iter().filter_map(|target| target.signature.as_deref()).collect()
            }
            _ => Vec::new(),
        }
    }

    /// The tables of which the planner must know how indexes and constraints are defined.
    pub(crate) fn needs_definitions_of(&self) -> Vec<&Ident> {
        if matches!(&self.kind, StatementKind::Data(_) | StatementKind::Update { .. }) {
            return self.objects.iter().map(|object| &object.name).collect();
        }
        if let StatementKind::DropObjects(dropped) = &self.kind {
            return dropped.targets.iter().map(|target| &target.name.name).collect();
        }
        let StatementKind::AlterTable { table, actions, .. } = &self.kind else { return Vec::new() };
        let named = actions.iter().flat_map(|(_, action)| match action {
            Action::RenameColumn { .. }
            | Action::AlterType { .. }
            | Action::DropColumn { .. }
            | Action::DropConstraint { .. } => {
                vec![&table.name]
            }
            Action::AttachPartition { partition, .. } | Action::DetachPartition { partition } => {
                vec![&table.name, &partition.name]
            }
            _ => Vec::new(),
        });
        named.collect()
    }
}

/// A name as written: one part, or schema and name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Name {
    pub(crate) schema: Option<Ident>,
    pub(crate) name: Ident,
    pub(crate) span: Range<usize>,
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.schema {
            Some(schema) => write!(f, "{schema}.{}", self.name),
            None => write!(f, "{}", self.name),
        }
    }
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
        /// Those of the table, not those that stand with a column.
        constraints: Vec<NewConstraint>,
        /// The table that it is a partition of.
        partition_of: Option<Name>,
        is_partitioned: bool,
        special: Option<&'static str>,
    },
    CreateIndex(CreateIndex),
    Update {
        sets: Vec<SetColumn>,
        change: Box<DataChange>,
    },
    /// `DELETE`, or `INSERT … SELECT`.
    Data(Box<DataChange>),
    InsertValues {
        table: Name,
        /// Whether it names no columns.
        by_position: bool,
    },
    /// A new object of its own: `CREATE TYPE`, `VIEW` and so on.
    CreateObject(CreateObject),
    /// A new policy or trigger.
    CreateOnTable(CreateOnTable),
    AddEnumValue,
    /// A new name or schema for an object, a label of an enum, or an attribute of a composite.
    Rename(RenameObject),
    DropObjects(DropObjects),
    Publication(PublicationChange),
    /// `COMMENT`, or `GRANT`.
    Describe(&'static str),
    /// `REVOKE`.
    Revoke,
    /// Anything else, by the name people know it under.
    Other(String),
}

/// The kinds of object that are known by a name of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ObjectKind {
    Table,
    Index,
    View,
    MaterializedView,
    Sequence,
    Type,
    Domain,
    Function,
    Procedure,
    Policy,
    Trigger,
    Schema,
    Extension,
}

impl ObjectKind {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Table => "table",
            Self::Index => "index",
            Self::View => "view",
            Self::MaterializedView => "materialized view",
            Self::Sequence => "sequence",
            Self::Type => "type",
            Self::Domain => "domain",
            Self::Function => "function",
            Self::Procedure => "procedure",
            Self::Policy => "policy",
            Self::Trigger => "trigger",
            Self::Schema => "schema",
            Self::Extension => "extension",
        }
    }

    pub(crate) fn is_view(self) -> bool {
        matches!(self, Self::View | Self::MaterializedView)
    }

    /// The same as SQL writes it.
    pub(crate) fn sql(self) -> String {
        self.word().to_uppercase()
    }
}

/// `CREATE` of an object of its own.
#[derive(Debug, Clone)]
pub(crate) struct CreateObject {
    pub(crate) kind: ObjectKind,
    pub(crate) name: Option<Name>,
    pub(crate) or_replace: bool,
    pub(crate) if_not_exists: bool,
    /// The parameters of a function, without their defaults: what DROP FUNCTION wants to tell it from its namesakes.
    pub(crate) arguments: Option<String>,
    /// A function's name and types, as `to_regprocedure` takes them.
    pub(crate) signature: Option<String>,
    /// The columns that its body names; none if a `*` stands for all of them.
    pub(crate) reads: Option<BTreeSet<Ident>>,
}

impl CreateObject {
    /// It as something to look for.
    pub(crate) fn target(&self) -> Option<Target> {
        let name = self.name.clone()?;
        Some(Target { name, table: None, signature: self.signature.clone() })
    }
}

/// `CREATE POLICY` or `CREATE TRIGGER`.
#[derive(Debug, Clone)]
pub(crate) struct CreateOnTable {
    pub(crate) kind: ObjectKind,
    pub(crate) name: Ident,
    pub(crate) table: Name,
    pub(crate) or_replace: bool,
    pub(crate) restrictive: bool,
}

/// One object that a statement names.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    pub(crate) name: Name,
    /// The table of a policy or trigger.
    pub(crate) table: Option<Name>,
    /// A function's name and types, as `to_regprocedure` takes them; none if only its name is given.
    pub(crate) signature: Option<String>,
}

/// `DROP` of objects.
#[derive(Debug, Clone)]
pub(crate) struct DropObjects {
    pub(crate) kind: ObjectKind,
    pub(crate) targets: Vec<Target>,
    pub(crate) if_exists: bool,
    pub(crate) cascade: bool,
}

/// What an object is called from now on.
#[derive(Debug, Clone)]
pub(crate) enum NewName {
    Name(Ident),
    Schema(Ident),
    /// A label of an enum, both as written.
    Label(String, String),
    /// An attribute of a composite type.
    Attribute(Ident, Ident),
}

/// A rename that one statement takes back.
#[derive(Debug, Clone)]
pub(crate) struct RenameObject {
    pub(crate) kind: ObjectKind,
    pub(crate) target: Target,
    pub(crate) to: NewName,
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
    /// `RENAME TO` or `SET SCHEMA`.
    RenameTable(NewName),
    /// `ENABLE ROW LEVEL SECURITY` and its like, as written, with what takes it back.
    RowSecurity {
        text: String,
        back: &'static str,
        relaxes: bool,
    },
    /// `ATTACH PARTITION`, with its bound as written.
    AttachPartition {
        partition: Name,
        bound: String,
    },
    DetachPartition {
        partition: Name,
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
    /// What a virtual generated column computes, in parentheses.
    pub(crate) computed: Option<Expression>,
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
