//! Foreign keys on either side of a swap: the new ones are built beside the old ones and validated; just before the swaps the
//! old ones go and the new ones take their names. Integrity holds all the time, forwards and backwards.
//!
//! One that points at a partitioned table needs the key of the whole, which is there from the swap on only: it changes within
//! the parent's swap, holds for new rows from then on, and is validated behind the swaps.

use crate::decide::change::constraint::{lock, require};
use crate::decide::change::mapping::{hidden_name, new_name};
use crate::decide::change::{add_foreign_key, partitioned_foreign_key};
use crate::decide::draft::{Draft, TableDraft, has_unproved, lock_tables, step, undo_only, validate};
use crate::decide::plan::Step;
use crate::model::catalog::{Catalog, Constraint};
use crate::words::ident::{Ident, QualifiedName, literal};
use crate::words::lock_mode::LockMode;

/// A foreign key with a column on either side that is swapped.
pub(crate) struct HandedOver<'a> {
    pub(crate) child: &'a QualifiedName,
    pub(crate) parent: &'a QualifiedName,
    pub(crate) key: &'a Constraint,
    /// The columns of the new key, on both sides.
    own: Vec<Ident>,
    theirs: Vec<Ident>,
    /// Whether it changes within the parent's swap.
    pub(crate) in_swap: bool,
    /// Whether the child is partitioned; then the partitions that get one each, where the server needs that.
    is_partitioned: bool,
    leaves: Option<Vec<QualifiedName>>,
}

pub(crate) fn handed_over<'a>(
    draft: &Draft<'_>,
    tables: &[TableDraft],
    before: &'a Catalog,
) -> Vec<HandedOver<'a>> {
    let version = draft.file.version.number().to_string();
    let beside = |table: &QualifiedName, column: &Ident| {
        let swapped =
            tables.iter().any(|work| &work.name == table && work.retyped.iter().any(|r| &r.column == column));
        if swapped { new_name(&version, column) } else { column.clone() }
    };
    let mut keys = Vec::new();
    for child in &before.tables {
        for key in &child.constraints {
            let Some(parent) = &key.parent else { continue };
            let own: Vec<Ident> = key.columns.iter().map(|column| beside(&child.name, column)).collect();
            let theirs: Vec<Ident> = key.parent_columns.iter().map(|column| beside(parent, column)).collect();
            if own != key.columns || theirs != key.parent_columns {
                let leaves = partitioned_foreign_key::parts(draft, &child.name);
                let is_partitioned = child.partitions.is_some();
                let in_swap = theirs != key.parent_columns && draft.is_partitioned(parent);
                let child = &child.name;
                keys.push(HandedOver { child, parent, key, own, theirs, in_swap, is_partitioned, leaves });
            }
        }
    }
    keys
}

/// Steps that hand foreign keys over.
#[derive(Default)]
pub(crate) struct Steps {
    pub(crate) restrict: Vec<Step>,
    /// Just before the swaps.
    pub(crate) before: Vec<Step>,
    /// Behind them.
    pub(crate) behind: Vec<Step>,
}

pub(crate) fn foreign_keys(draft: &Draft<'_>, tables: &[TableDraft], before: &Catalog) -> Steps {
    let version = draft.file.version.number().to_string();
    let mut steps = Steps::default();
    for handed in handed_over(draft, tables, before) {
        let (child, name) = (handed.child, &handed.key.name);
        match &handed.leaves {
            Some(leaves) => {
                steps.restrict.extend(partitioned_foreign_key::again(
                    child,
                    leaves,
                    handed.parent,
                    handed.key,
                ));
            }
            None if handed.key.validated => steps.restrict.push(undo_only(
                &format!("validate {} again", name.as_str()),
                has_unproved(child, name),
                vec![format!("ALTER TABLE {child} VALIDATE CONSTRAINT {name}")],
                lock(child, LockMode::ShareUpdateExclusive),
            )),
            None => {}
        }
        if handed.in_swap {
            steps.restrict.extend(handed.key.validated.then(|| handed.look()));
            steps.behind.extend(handed.prove());
            continue;
        }
        let fresh = new_name(&version, name);
        let text = handed.definition(&handed.own, &handed.theirs);
        if let Some(leaves) = &handed.leaves {
            steps.restrict.extend(partitioned_foreign_key::add(child, leaves, handed.parent, &fresh, &text));
        } else {
            steps.restrict.push(add_foreign_key::add(child, handed.parent, &fresh, &text));
            steps.restrict.extend(handed.key.validated.then(|| validate(child, &fresh)));
        }
        steps.before.push(handed.hand_over(&fresh));
    }
    steps
}

impl HandedOver<'_> {
    /// The key's own definition, over other columns.
    fn definition(&self, own: &[Ident], theirs: &[Ident]) -> String {
        let list = |columns: &[Ident]| columns.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        // `FOREIGN KEY (…) REFERENCES parent(…) rest`
        let definition = self.key.definition.trim_end_matches(" NOT VALID");
        let rest = definition.rsplit_once(" REFERENCES ").map_or("", |(_, rest)| rest);
        let rest = closing(rest).map_or("", |at| &rest[at..]);
        format!("FOREIGN KEY ({}) REFERENCES {} ({}){rest}", list(own), self.parent, list(theirs))
    }

    fn hand_over(&self, fresh: &Ident) -> Step {
        let (child, name) = (self.child, &self.key.name);
        let (lock_both, locks) = lock_tables(&[child, self.parent], LockMode::AccessExclusive);
        let mut sql = vec![
            lock_both.clone(),
            format!("ALTER TABLE {child} DROP CONSTRAINT {name}"),
            format!("ALTER TABLE {child} RENAME CONSTRAINT {fresh} TO {name}"),
        ];
        if self.is_partitioned {
            sql.push(partitioned_foreign_key::rename_parts(child, fresh, name));
        }
        sql.extend(self.comment());
        let old = self.definition(&self.key.columns, &self.key.parent_columns);
        // The parent's own way back may have brought it already.
        let mut undo = vec![lock_both, format!("ALTER TABLE {child} DROP CONSTRAINT IF EXISTS {name}")];
        undo.extend(self.not_valid(&old));
        let title = format!("hand {} of {} over to the new columns", name.as_str(), child.plain());
        step(title, sql, undo, locks)
    }

    /// Within the parent's swap, behind everything else: the new key, for new rows. A child whose turn is still to come has
    /// its new column under the name that it has beside the old one.
    pub(crate) fn new_there(&self, tables: &[TableDraft]) -> Vec<String> {
        let place = |table: &QualifiedName| tables.iter().position(|work| &work.name == table);
        let own = if place(self.child) > place(self.parent) { &self.own } else { &self.key.columns };
        self.not_valid(&self.definition(own, &self.key.parent_columns))
    }

    /// What takes it away in the parent's way back, where it may be one on each partition already.
    pub(crate) fn new_gone(&self) -> Vec<String> {
        let parts = self.leaves.iter().filter(|_| self.in_swap);
        let parts = parts.map(|_| partitioned_foreign_key::off_parts(self.child, &self.key.name));
        let whole = format!("ALTER TABLE {} DROP CONSTRAINT IF EXISTS {}", self.child, self.key.name);
        parts.chain([whole]).collect()
    }

    /// Within the child's swap, if that comes behind the parent's, and in its way back, if before: the server has named
    /// what the key consists of by the columns' names of then.
    pub(crate) fn rename_parts(&self, version: &str) -> String {
        partitioned_foreign_key::rename_by_columns(self.child, version)
    }

    /// A row that the new key would not find is better known before the swap.
    fn look(&self) -> Step {
        let (child, name) = (self.child, self.key.name.as_str());
        let pairs = || self.own.iter().zip(&self.theirs);
        let given: Vec<String> = self.own.iter().map(|own| format!("{own} IS NOT NULL")).collect();
        let same: Vec<String> = pairs().map(|(own, theirs)| format!("p.{theirs} = {child}.{own}")).collect();
        require(
            child,
            format!("see that {} finds every row of {}", name, child.plain()),
            format!(
                "{} AND NOT EXISTS (SELECT FROM {} AS p WHERE {})",
                given.join(" AND "),
                self.parent,
                same.join(" AND ")
            ),
            format!("{name} does not hold for a row of {}", child.plain()),
        )
    }

    /// Looks at the rows that were there before the swap.
    fn prove(&self) -> Vec<Step> {
        let (child, key) = (self.child, self.key);
        match &self.leaves {
            Some(leaves) => partitioned_foreign_key::prove(child, leaves, self.parent, key),
            None if key.validated => vec![validate(child, &key.name)],
            None => Vec::new(),
        }
    }

    /// The old key, at the end of the parent's way back. A child that was swapped before its parent still is.
    pub(crate) fn old_back(&self, version: &str, tables: &[TableDraft]) -> Vec<String> {
        let place = |table: &QualifiedName| tables.iter().position(|work| &work.name == table);
        let child = tables.iter().find(|work| &work.name == self.child);
        let still = place(self.child) < place(self.parent);
        let own: Vec<Ident> = self
            .key
            .columns
            .iter()
            .map(|column| {
                let swapped = child.is_some_and(|work| work.retyped.iter().any(|r| &r.column == column));
                if still && swapped { hidden_name(version, column) } else { column.clone() }
            })
            .collect();
        let old = self.definition(&own, &self.key.parent_columns);
        self.not_valid(&old)
    }

    fn comment(&self) -> Option<String> {
        let comment = self.key.comment.as_ref()?;
        Some(format!("COMMENT ON CONSTRAINT {} ON {} IS {}", self.key.name, self.child, literal(comment)))
    }

    /// The key for new rows, or one on each partition.
    fn not_valid(&self, text: &str) -> Vec<String> {
        let (child, name) = (self.child, &self.key.name);
        if self.leaves.is_some() {
            return vec![partitioned_foreign_key::on_parts(child, name, text)];
        }
        let mut sql = vec![format!("ALTER TABLE {child} ADD CONSTRAINT {name} {text} NOT VALID")];
        sql.extend(self.comment());
        sql
    }
}

/// The place behind the parenthesis that closes the first one; names in quotes may hold any.
fn closing(text: &str) -> Option<usize> {
    let (mut quoted, mut open) = (false, false);
    for (at, letter) in text.char_indices() {
        match letter {
            '"' => quoted = !quoted,
            '(' if !quoted => open = true,
            ')' if !quoted && open => return Some(at + 1),
            _ => {}
        }
    }
    None
}
