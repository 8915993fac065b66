//! Sync triggers: what keeps the old and the new shape of a table equal while code of both versions writes.
//!
//! A [`Mapping`] says which columns are computed from which. [`functions`] and [`triggers`] render it. The protocol
//! is two passes of BEFORE row triggers: a first pass, sorting before any trigger of the user, computes the old shape
//! from what new code gave; a last pass, sorting after them, computes the new shape where the row is still
//! inconsistent.

mod across;
mod freeze;
mod functions;
mod keep;
mod moved;
mod repair;
mod triggers;
mod watch;

use std::collections::BTreeSet;

pub(crate) use across::{Across, Left, Moved};
pub(crate) use freeze::Freeze;
pub(crate) use keep::Keep;
pub(crate) use repair::Repair;
pub(crate) use watch::Watch;

use crate::words::ident::{Ident, QualifiedName};

/// The session setting whose value, a migration's version, makes that migration's sync triggers skip a write.
pub(crate) const SKIP_SETTING: &str = "pontoon_sync.skip";

/// The session setting that keeps rows as they are in the batches of a migration, which it names.
pub(crate) const KEEP_SETTING: &str = "pontoon_sync.keep";

/// One connected set of columns that are computed from each other.
#[derive(Debug, Clone)]
pub(crate) struct Mapping {
    /// The prefix of every object made for it, such as `m7_1`.
    pub(crate) id: String,
    /// The version, as the skip setting holds it.
    pub(crate) version: String,
    /// The schema that holds its functions.
    pub(crate) ledger: Ident,
    pub(crate) table: QualifiedName,
    pub(crate) new: Vec<NewSide>,
    pub(crate) old: Vec<OldSide>,
    /// Columns that neither side owns but an expression reads, with their types.
    pub(crate) others: Vec<Other>,
    /// Whether writes of its old columns show that old code is alive.
    pub(crate) evidence: bool,
    /// Of a partitioned table, the columns that decide where a row is and those of its primary key.
    pub(crate) moves_by: Vec<Ident>,
}

/// A column that is only read.
#[derive(Debug, Clone)]
pub(crate) struct Other {
    pub(crate) column: Typed,
    /// Its name while sealed; differs where another mapping of the file hides it.
    pub(crate) sealed_name: Ident,
}

/// A column with its type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Typed {
    pub(crate) name: Ident,
    pub(crate) type_sql: String,
}

impl Typed {
    /// How many characters a value of a type of characters may have, where that is limited.
    pub(crate) fn length(&self) -> Option<u32> {
        let type_sql = self.type_sql.to_ascii_lowercase();
        let (name, rest) = type_sql.split_once('(')?;
        let of_characters = ["varchar", "character varying", "char", "character", "bpchar"];
        of_characters.contains(&name.trim()).then(|| rest.strip_suffix(')')?.trim().parse().ok())?
    }
}

/// A new column.
#[derive(Debug, Clone)]
pub(crate) struct NewSide {
    pub(crate) column: Typed,
    pub(crate) up: Up,
    /// Its name while sealed; differs only for the shadow of a rename.
    pub(crate) sealed_name: Ident,
}

/// How a new column gets its value.
#[derive(Debug, Clone)]
pub(crate) enum Up {
    /// Computed from other columns; a new row for which that gives null gets `on_insert`, the column's default.
    Computed { expression: String, reads: BTreeSet<Ident>, on_insert: Option<String>, may_raise: bool },
    /// Given once, where null: `expression` reads no column or is volatile. `condition` limits the rows;
    /// `on_insert` is what a new row gets instead.
    Fill {
        expression: String,
        reads: BTreeSet<Ident>,
        condition: Option<String>,
        on_insert: Option<String>,
        may_raise: bool,
    },
}

/// An old column: one that contract takes away, or the original of a rename.
#[derive(Debug, Clone)]
pub(crate) struct OldSide {
    pub(crate) column: Typed,
    pub(crate) down: Option<Down>,
    /// Its name while sealed.
    pub(crate) sealed_name: Ident,
    /// Whether it must not be null, so that new code's rows need a value in it.
    pub(crate) not_null: bool,
    /// Its default, where a write of the default is no sign of old code.
    pub(crate) default: DefaultKind,
}

/// How an old column is computed from the new ones.
#[derive(Debug, Clone)]
pub(crate) struct Down {
    pub(crate) expression: String,
    pub(crate) reads: BTreeSet<Ident>,
    pub(crate) may_raise: bool,
    /// Whether a value that it cannot make is null instead of an error.
    pub(crate) guarded: bool,
}

/// What a column gets that an INSERT does not name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum DefaultKind {
    None,
    Constant(String),
    /// Cannot be told from a value that was given.
    Volatile,
}

/// Which names the columns have: before the seal or after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    Open,
    Sealed,
}

/// An expression as a function's result. A bare literal has no type of its own and would be a text.
fn typed_result(expression: &str, type_sql: &str) -> String {
    let cut_off = Typed { name: Ident::new(""), type_sql: type_sql.to_owned() }.length().is_some();
    if is_bare(expression.trim()) && !cut_off {
        return format!("({})::{type_sql}", expression.trim());
    }
    expression.to_owned()
}

/// Whether an expression is nothing but NULL or one string, in whatever quotes and parentheses.
fn is_bare(text: &str) -> bool {
    if let Some(inner) = text.strip_prefix('(').and_then(|rest| rest.strip_suffix(')')) {
        return is_bare(inner.trim());
    }
    if let Some(rest) = text.strip_prefix('$') {
        let Some((tag, rest)) = rest.split_once('$') else { return false };
        let end = format!("${tag}$");
        return rest.find(&end).is_some_and(|at| at + end.len() == rest.len());
    }
    let plain = text.strip_prefix(['e', 'E']).unwrap_or(text);
    let escaped = if plain.len() < text.len() {
        plain.replace("\\\\", "").replace("\\'", "")
    } else {
        plain.to_owned()
    };
    let inner = escaped.strip_prefix('\'').and_then(|rest| rest.strip_suffix('\''));
    text.eq_ignore_ascii_case("null") || inner.is_some_and(|inner| !inner.replace("''", "").contains('\''))
}

impl Mapping {
    /// Old columns that `down` computes.
    fn computed_old(&self) -> impl Iterator<Item = (&OldSide, &Down)> {
        self.old.iter().filter_map(|old| old.down.as_ref().map(|down| (old, down)))
    }

    pub(crate) fn has_down(&self) -> bool {
        self.computed_old().next().is_some()
    }

    /// Whether rows are filled or converted, so that there is work for the backfill.
    pub(crate) fn has_up(&self) -> bool {
        !self.new.is_empty()
    }

    /// Every column that any expression of the mapping can name, with its type: the parameters of its functions.
    pub(crate) fn columns(&self) -> Vec<Typed> {
        let new = self.new.iter().map(|new| new.column.clone());
        new.chain(self.old.iter().map(|old| old.column.clone()))
            .chain(self.others.iter().map(|other| other.column.clone()))
            .collect()
    }

    /// The name a column has in a shape.
    fn name_in(&self, column: &Ident, shape: Shape) -> Ident {
        if shape == Shape::Open {
            return column.clone();
        }
        let new = self.new.iter().find(|new| &new.column.name == column).map(|new| &new.sealed_name);
        let old = self.old.iter().find(|old| &old.column.name == column).map(|old| &old.sealed_name);
        let other =
            self.others.iter().find(|other| &other.column.name == column).map(|other| &other.sealed_name);
        new.or(old).or(other).unwrap_or(column).clone()
    }

    /// The qualified name of one of the mapping's functions.
    fn function(&self, parts: &[&str]) -> QualifiedName {
        let mut all = vec![self.id.as_str()];
        all.extend_from_slice(parts);
        QualifiedName::new(self.ledger.clone(), Ident::derived(&all))
    }

    fn up_function(&self, column: &Ident) -> QualifiedName {
        self.function(&["up", column.as_str()])
    }

    fn down_function(&self, column: &Ident) -> QualifiedName {
        self.function(&["down", column.as_str()])
    }

    fn unguarded_function(&self, column: &Ident) -> QualifiedName {
        self.function(&["unguarded", column.as_str()])
    }

    fn consistent_function(&self) -> QualifiedName {
        self.function(&["consistent"])
    }

    /// A call of one of the mapping's functions with the named columns, each written by `prefix` and its name in
    /// the shape.
    fn call(&self, function: &QualifiedName, reads: &BTreeSet<Ident>, prefix: &str, shape: Shape) -> String {
        let arguments: Vec<String> = self
            .columns_of(reads)
            .iter()
            .map(|c| format!("{prefix}{}", self.name_in(&c.name, shape)))
            .collect();
        format!("{function}({})", arguments.join(", "))
    }

    /// The mapping's columns among `reads`, always in the same order.
    fn columns_of(&self, reads: &BTreeSet<Ident>) -> Vec<Typed> {
        self.columns().into_iter().filter(|column| reads.contains(&column.name)).collect()
    }

    fn all_reads(&self) -> BTreeSet<Ident> {
        self.columns().into_iter().map(|column| column.name).collect()
    }

    /// Columns that some `up` reads: when one of them changes, the new shape follows.
    fn up_reads(&self) -> BTreeSet<Ident> {
        self.new.iter().flat_map(|new| new.up.reads().clone()).collect()
    }

    fn may_raise(&self) -> bool {
        self.new.iter().any(|new| new.up.may_raise()) || self.computed_old().any(|(_, down)| down.may_raise)
    }
}

impl Up {
    pub(crate) fn reads(&self) -> &BTreeSet<Ident> {
        match self {
            Self::Computed { reads, .. } | Self::Fill { reads, .. } => reads,
        }
    }

    /// What a new row gets for which nothing else gives a value.
    fn on_insert(&self) -> Option<&String> {
        match self {
            Self::Computed { on_insert, .. } | Self::Fill { on_insert, .. } => on_insert.as_ref(),
        }
    }

    fn may_raise(&self) -> bool {
        match self {
            Self::Computed { may_raise, .. } | Self::Fill { may_raise, .. } => *may_raise,
        }
    }
}
