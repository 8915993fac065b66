//! A picture of a database: the tables that migrations speak of, as plain values.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

pub(crate) use crate::model::object::{Object, ObjectRef, Publication};
use crate::model::sql::{Name, ObjectKind, Target};
use crate::words::ident::{Ident, QualifiedName};
use crate::words::version::Version;

/// What the planner knows of a database. The planner applies each change to it, so that a name means what it means
/// at that line.
#[derive(Debug, Clone, Default, Deserialize)]
pub(crate) struct Catalog {
    /// Every relation.
    pub(crate) relations: Vec<Relation>,
    /// Tables by name: those the files speak of.
    #[serde(default)]
    pub(crate) tables: Vec<Table>,
    /// Names of functions that are volatile in every or some overload.
    pub(crate) volatile_functions: BTreeSet<String>,
    /// Names of functions whose result depends on session settings, in every overload.
    pub(crate) stable_functions: BTreeSet<String>,
    /// Names of aggregates and window functions.
    pub(crate) aggregates: BTreeSet<String>,
    /// Schemas, types and functions that exist, as `kind:schema.name`.
    pub(crate) objects: BTreeSet<String>,
    /// Objects whose names occur in the files, with what is known of them.
    #[serde(default)]
    pub(crate) known_objects: Vec<Object>,
    #[serde(default)]
    pub(crate) publications: Vec<Publication>,
    /// What a function's name and types mean, as the server describes it.
    #[serde(default, skip)]
    pub(crate) signatures: BTreeMap<String, String>,
    /// Objects that migrations in flight are to make, change or take away.
    #[serde(default, skip)]
    pub(crate) busy_objects: Vec<(ObjectRef, Version)>,
    /// Names of constraints that are taken, as `schema.name`.
    #[serde(default)]
    pub(crate) constraint_names: BTreeSet<String>,
    /// Domains with constraints, by name and with their schema: a column of such a type is added by a rewrite.
    #[serde(default)]
    pub(crate) checked_domains: BTreeSet<String>,
    /// What the server says of type changes that the files ask for, by [`Conversion::key`].
    #[serde(default, skip)]
    pub(crate) conversions: BTreeMap<String, Conversion>,
    /// `server_version_num`.
    #[serde(default)]
    pub(crate) server_version: i64,
    /// Whether the runner's role is exempt from row security.
    pub(crate) bypasses_row_security: bool,
}

/// Any relation: a table, a view, an index, a sequence.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Relation {
    pub(crate) name: QualifiedName,
}

/// A table with what is known of it.
#[derive(Debug, Clone, Deserialize, Serialize, PartialEq, Eq)]
pub(crate) struct Table {
    pub(crate) oid: i64,
    pub(crate) name: QualifiedName,
    /// `pg_class.relkind`.
    pub(crate) kind: String,
    /// `pg_class.relpersistence`.
    pub(crate) persistence: String,
    /// Whether it has parents or children by inheritance, or is a partition.
    pub(crate) inherits: bool,
    /// Where it is partitioned, and no partition itself.
    pub(crate) partitions: Option<Partitions>,
    /// The views that read its rows, directly or through other views.
    pub(crate) read_by: Vec<QualifiedName>,
    /// The extension that owns it.
    pub(crate) extension: Option<String>,
    /// Quoted.
    pub(crate) owner: String,
    /// Grants on the whole table to others than its owner, as `PRIVILEGE` and `role`.
    pub(crate) grants: Vec<(String, String)>,
    pub(crate) row_security: bool,
    /// Whether row security, where it is enabled, counts for the owner too.
    pub(crate) row_security_forced: bool,
    /// Whether logical replication can tell its rows, of each partition, from each other.
    pub(crate) replica_identity: bool,
    pub(crate) columns: Vec<Column>,
    pub(crate) indexes: Vec<Index>,
    pub(crate) constraints: Vec<Constraint>,
    /// What hangs on single columns and would stop or go with a DROP COLUMN.
    pub(crate) dependants: Vec<Dependant>,
    pub(crate) triggers: Vec<Trigger>,
}

/// What a partitioned table consists of, at every level.
#[derive(Debug, Clone, Deserialize, Serialize, PartialEq, Eq)]
pub(crate) struct Partitions {
    /// The columns that decide where a row goes.
    pub(crate) key: BTreeSet<Ident>,
    /// The partition for rows that fit no other.
    pub(crate) default_leaf: Option<QualifiedName>,
    /// Whether a partition is being detached, or was left half detached.
    pub(crate) leaving: bool,
    /// Columns with an index or a constraint that only some partition has.
    pub(crate) own: BTreeSet<Ident>,
    /// Columns with a default that only some partition has.
    pub(crate) own_defaults: BTreeSet<Ident>,
    /// Columns of which some partition has a right, a comment, statistics, an option, NOT NULL or a foreign key that points at it
    /// of its own.
    pub(crate) apart: BTreeSet<Ident>,
    /// Columns that must not be null in some partition.
    pub(crate) not_null: BTreeSet<Ident>,
    /// The tables that hold the rows.
    pub(crate) leaves: Vec<Leaf>,
}

/// A partition that holds rows.
#[derive(Debug, Clone, Deserialize, Serialize, PartialEq, Eq)]
pub(crate) struct Leaf {
    pub(crate) name: QualifiedName,
    /// `pg_class.relkind`.
    pub(crate) kind: String,
    /// `pg_class.relpersistence`.
    pub(crate) persistence: String,
    /// Quoted.
    pub(crate) owner: String,
    /// Whether row security counts for its owner too.
    pub(crate) row_security_forced: bool,
    /// What rows it takes, as ATTACH PARTITION says it; none where its parent is a partition itself.
    pub(crate) bound: Option<String>,
}

/// A column.
#[derive(Debug, Clone, Deserialize, Serialize, PartialEq, Eq)]
pub(crate) struct Column {
    pub(crate) name: Ident,
    /// As `format_type` writes it.
    pub(crate) type_sql: String,
    /// ` COLLATE …` where it is not the type's own, or nothing.
    pub(crate) collation: String,
    pub(crate) not_null: bool,
    pub(crate) default: Option<String>,
    /// Whether the default is a constant.
    pub(crate) constant_default: bool,
    /// `GENERATED ALWAYS AS (…)`.
    pub(crate) generated: bool,
    pub(crate) identity: bool,
    /// `pg_attribute.attidentity`.
    pub(crate) identity_kind: String,
    /// The sequence that belongs to it.
    pub(crate) sequence: Option<QualifiedName>,
    /// How that sequence counts, as CREATE SEQUENCE takes it, without its type's own bounds.
    pub(crate) sequence_options: Option<String>,
    /// What an identity's sequence needs to be as it was once it is made again: grants, a comment.
    pub(crate) sequence_also: Vec<String>,
    pub(crate) comment: Option<String>,
    /// The statistics target; none or negative for the default.
    pub(crate) statistics: Option<i64>,
    /// Where it is not the type's own.
    pub(crate) storage: Option<String>,
    pub(crate) compression: Option<String>,
    /// Such as `n_distinct=5`.
    pub(crate) options: Vec<String>,
    /// Grants on this column alone, as `PRIVILEGE` and `role`.
    pub(crate) grants: Vec<(String, String)>,
}

/// An index.
#[derive(Debug, Clone, Deserialize, Serialize, PartialEq, Eq)]
pub(crate) struct Index {
    pub(crate) name: Ident,
    pub(crate) definition: String,
    pub(crate) valid: bool,
    pub(crate) unique: bool,
    /// Whether it holds every row, by plain columns, and is checked at once.
    pub(crate) plain: bool,
    pub(crate) primary: bool,
    /// The constraint that it stands for.
    pub(crate) constraint: Option<Ident>,
    pub(crate) replica_identity: bool,
    pub(crate) clustered: bool,
    pub(crate) columns: Vec<Ident>,
    /// Those of the partitions that belong to it, the lowest level first.
    pub(crate) parts: Vec<IndexPart>,
}

/// The part of a partitioned table's index that belongs to one partition.
#[derive(Debug, Clone, Deserialize, Serialize, PartialEq, Eq)]
pub(crate) struct IndexPart {
    pub(crate) table: QualifiedName,
    /// In the schema of its table.
    pub(crate) index: Ident,
    /// Whether the partition is not partitioned itself.
    pub(crate) holds_rows: bool,
}

/// A constraint that is no NOT NULL.
#[derive(Debug, Clone, Deserialize, Serialize, PartialEq, Eq)]
pub(crate) struct Constraint {
    pub(crate) name: Ident,
    /// `pg_constraint.contype`: `c`, `f`, `p`, `u` or `x`.
    pub(crate) kind: String,
    pub(crate) validated: bool,
    pub(crate) columns: Vec<Ident>,
    /// The table that a foreign key points at.
    pub(crate) parent: Option<QualifiedName>,
    pub(crate) parent_columns: Vec<Ident>,
    pub(crate) comment: Option<String>,
    /// As `pg_get_constraintdef` writes it, where it was asked for.
    pub(crate) definition: String,
}

/// A change of a column's type, tried on an empty copy of its table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Conversion {
    /// Whether the server rewrites the table or an index for it.
    pub(crate) rewrites: bool,
    /// The new type as the server writes it.
    pub(crate) type_sql: String,
    /// The default that the column then has.
    pub(crate) default: Option<String>,
    /// Whether the server takes the change only after the default is dropped.
    pub(crate) without_default: bool,
    /// Whether it cannot fail for any value.
    pub(crate) is_safe: bool,
    /// Whether the new type casts to the old one.
    pub(crate) leads_back: bool,
    /// Whether both are enums, whose labels lead from one to the other.
    pub(crate) by_label: bool,
    /// Why the server refuses it.
    pub(crate) refused: Option<String>,
}

impl Conversion {
    /// The key in [`Catalog::conversions`].
    pub(crate) fn key(table: &QualifiedName, column: &Ident, asked: &str) -> String {
        format!("{}.{} {asked}", table.plain(), column.as_str())
    }
}

/// Something that depends on a column.
#[derive(Debug, Clone, Deserialize, Serialize, PartialEq, Eq)]
pub(crate) struct Dependant {
    pub(crate) column: Ident,
    /// The catalog that it stands in, such as `pg_constraint`.
    pub(crate) kind: String,
    /// As `pg_describe_object` names it.
    pub(crate) what: String,
    /// Whether a plain DROP COLUMN takes it away silently; otherwise it refuses.
    pub(crate) goes_silently: bool,
    /// Whether it names other columns too.
    pub(crate) names_others: bool,
}

/// A trigger of the user.
#[derive(Debug, Clone, Deserialize, Serialize, PartialEq, Eq)]
pub(crate) struct Trigger {
    pub(crate) name: Ident,
    pub(crate) before_row: bool,
    pub(crate) on_update: bool,
    /// `pg_trigger.tgenabled`.
    pub(crate) enabled: String,
    /// The columns of `UPDATE OF`.
    pub(crate) update_of: Vec<Ident>,
}

impl Table {
    /// A plain table of which nothing is known but the name.
    pub(crate) fn new(name: QualifiedName) -> Self {
        Self {
            oid: 0,
            name,
            kind: "r".to_owned(),
            persistence: "p".to_owned(),
            inherits: false,
            partitions: None,
            read_by: Vec::new(),
            extension: None,
            owner: String::new(),
            grants: Vec::new(),
            row_security: false,
            row_security_forced: false,
            replica_identity: true,
            columns: Vec::new(),
            indexes: Vec::new(),
            constraints: Vec::new(),
            dependants: Vec::new(),
            triggers: Vec::new(),
        }
    }

    pub(crate) fn constraint(&self, name: &Ident) -> Option<&Constraint> {
        self.constraints.iter().find(|constraint| &constraint.name == name)
    }

    pub(crate) fn column(&self, name: &Ident) -> Option<&Column> {
        self.columns.iter().find(|column| &column.name == name)
    }

    pub(crate) fn column_mut(&mut self, name: &Ident) -> Option<&mut Column> {
        self.columns.iter_mut().find(|column| &column.name == name)
    }

    /// A reference to a column as an expression must write it outside its table: with its collation.
    pub(crate) fn collated(&self, name: &Ident) -> String {
        match self.column(name) {
            Some(column) if !column.collation.is_empty() => format!("({name}{})", column.collation),
            _ => name.to_string(),
        }
    }

    /// Why migrations do not work on this kind of table yet.
    pub(crate) fn unsupported(&self) -> Option<String> {
        if let Some(extension) = &self.extension {
            return Some(format!("it belongs to the extension {extension}"));
        }
        let why = match (self.kind.as_str(), self.persistence.as_str(), self.inherits) {
            ("f", _, _) => "it is a foreign table",
            ("v" | "m", _, _) => "it is a view",
            (_, "t", _) => "it is temporary",
            (_, _, true) => "it is a partition, or has parents or children by inheritance",
            _ => return self.unsupported_partition(),
        };
        Some(why.to_owned())
    }

    fn unsupported_partition(&self) -> Option<String> {
        let partitions = self.partitions.as_ref()?;
        if partitions.leaving {
            return Some(
                "a partition of it is being detached: `ALTER TABLE … DETACH PARTITION … FINALIZE` ends that"
                    .to_owned(),
            );
        }
        partitions.leaves.iter().find_map(|leaf| {
            let why = match (leaf.kind.as_str(), leaf.persistence.as_str()) {
                ("f", _) => "a foreign table",
                (_, "t") => "temporary",
                _ if leaf.owner != self.owner => "owned by another role",
                _ if leaf.row_security_forced => "under row security that is forced",
                _ => return None,
            };
            Some(format!("its partition {} is {why}", leaf.name.plain()))
        })
    }
}

impl Catalog {
    /// Whether a type, as written or as the server writes it, is a domain with constraints.
    pub(crate) fn is_checked_domain(&self, type_sql: &str) -> bool {
        self.checked_domains.contains(&type_sql.replace('"', ""))
            || self.checked_domains.contains(&type_sql.to_ascii_lowercase())
    }

    /// Takes names for something that an earlier migration is still to make.
    pub(crate) fn reserve(&mut self, names: &BTreeSet<String>) {
        for name in names {
            self.constraint_names.insert(name.clone());
            if let Some((schema, name)) = name.split_once('.') {
                let name = QualifiedName::new(Ident::new(schema), Ident::new(name));
                self.relations.push(Relation { name });
            }
        }
    }

    /// Resolves a name as written, by the configured search path.
    pub(crate) fn resolve(&self, name: &Name, search_path: &[Ident]) -> Option<QualifiedName> {
        self.schemas(name, search_path)
            .map(|schema| QualifiedName::new(schema.clone(), name.name.clone()))
            .find(|qualified| self.relations.iter().any(|relation| &relation.name == qualified))
    }

    fn schemas<'a>(&self, name: &'a Name, search_path: &'a [Ident]) -> impl Iterator<Item = &'a Ident> {
        name.schema.iter().chain(search_path.iter().filter(|_| name.schema.is_none()))
    }

    /// The object of a kind that a name means, by the configured search path.
    pub(crate) fn object(&self, kind: ObjectKind, target: &Target, search_path: &[Ident]) -> Option<&Object> {
        let of_kind = || self.known_objects.iter().filter(|object| object.kind == kind.word());
        if let Some(signature) = &target.signature {
            let what = self.signatures.get(signature)?;
            return of_kind().find(|object| &object.what == what);
        }
        let table = target.table.as_ref();
        // A relation of another kind in an earlier schema hides it.
        let relation = match kind {
            ObjectKind::View | ObjectKind::MaterializedView | ObjectKind::Sequence | ObjectKind::Index => {
                Some(self.resolve(&target.name, search_path)?)
            }
            _ => None,
        };
        let found = |schema: &Ident| {
            if relation.as_ref().is_some_and(|relation| relation.schema != *schema) {
                return None;
            }
            let mut all = of_kind().filter(|object| {
                &object.name.schema == schema
                    && object.name.name == target.name.name
                    && object.on_table.as_ref().map(|on| &on.name) == table.map(|table| &table.name)
            });
            // A function's bare name must be its only one.
            all.next().filter(|_| all.next().is_none())
        };
        self.schemas(&target.name, search_path).find_map(found)
    }

    pub(crate) fn table(&self, name: &QualifiedName) -> Option<&Table> {
        self.tables.iter().find(|table| &table.name == name)
    }

    pub(crate) fn table_mut(&mut self, name: &QualifiedName) -> Option<&mut Table> {
        self.tables.iter_mut().find(|table| &table.name == name)
    }

    /// The columns of each table, by name: what a fingerprint is taken of.
    pub(crate) fn shape(&self, tables: &[QualifiedName]) -> BTreeMap<String, Vec<String>> {
        tables
            .iter()
            .filter_map(|name| self.table(name))
            .map(|table| {
                let columns = table.columns.iter().map(|column| {
                    let null = if column.not_null { " not null" } else { "" };
                    format!("{} {}{null}", column.name, column.type_sql)
                });
                (table.name.plain(), columns.collect())
            })
            .collect()
    }
}
