//! Foreign keys on either side of a swap: the new ones are built beside the old ones and validated; just before the swaps the
//! old ones go and the new ones take their names. Integrity holds all the time, forwards and backwards.

use crate::decide::change::constraint::lock;
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
                keys.push(HandedOver {
                    child: &child.name,
                    parent,
                    key,
                    own,
                    theirs,
                    is_partitioned,
                    leaves,
                });
            }
        }
    }
    keys
}

/// Steps that hand foreign keys over: the new ones are built beside the old ones and validated; just before the swaps the
/// old ones go and the new ones take their names.
pub(crate) fn foreign_keys(
    draft: &Draft<'_>,
    tables: &[TableDraft],
    before: &Catalog,
) -> (Vec<Step>, Vec<Step>) {
    let version = draft.file.version.number().to_string();
    let (mut restrict, mut seal) = (Vec::new(), Vec::new());
    for handed in handed_over(draft, tables, before) {
        let (child, name) = (handed.child, &handed.key.name);
        let fresh = new_name(&version, name);
        let text = handed.definition(&handed.own, &handed.theirs);
        if let Some(leaves) = &handed.leaves {
            restrict.extend(partitioned_foreign_key::again(child, leaves, handed.parent, handed.key));
            restrict.extend(partitioned_foreign_key::add(child, leaves, handed.parent, &fresh, &text));
            seal.push(handed.hand_over(&fresh));
            continue;
        }
        if handed.key.validated {
            restrict.push(undo_only(
                format!("validate {} again", name.as_str()),
                has_unproved(child, name),
                vec![format!("ALTER TABLE {child} VALIDATE CONSTRAINT {name}")],
                lock(child, LockMode::ShareUpdateExclusive),
            ));
        }
        restrict.push(add_foreign_key::add(child, handed.parent, &fresh, &text));
        if handed.key.validated {
            restrict.push(validate(child, &fresh));
        }
        seal.push(handed.hand_over(&fresh));
    }
    (restrict, seal)
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
        if let Some(comment) = &self.key.comment {
            sql.push(format!("COMMENT ON CONSTRAINT {name} ON {child} IS {}", literal(comment)));
        }
        let old = self.definition(&self.key.columns, &self.key.parent_columns);
        // The parent's own way back may have brought it already.
        let mut undo = vec![lock_both, format!("ALTER TABLE {child} DROP CONSTRAINT IF EXISTS {name}")];
        undo.extend(self.not_valid(&old));
        let title = format!("hand {} of {} over to the new columns", name.as_str(), child.plain());
        step(title, sql, undo, locks)
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

    /// The key for new rows, or one on each partition.
    fn not_valid(&self, text: &str) -> Vec<String> {
        let (child, name) = (self.child, &self.key.name);
        match &self.leaves {
            Some(leaves) => partitioned_foreign_key::on_parts(child, leaves, name, text),
            None => vec![format!("ALTER TABLE {child} ADD CONSTRAINT {name} {text} NOT VALID")],
        }
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
