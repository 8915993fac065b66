//! An index, or the key it stands for, over a column that changes its type: built beside the old one, and put in its place by
//! the swap. On a partitioned table that is done on each partition.

use crate::decide::change::constraint::lock;
use crate::decide::change::create_index::concurrent;
use crate::decide::change::partitioned::{if_part, is_there};
use crate::decide::change::partitioned_index::{adopt, if_there, late, partitioned_index};
use crate::decide::change::retype::Names;
use crate::decide::draft::{has_constraint, undo_only};
use crate::decide::plan::Step;
use crate::model::catalog::{Constraint, Index, IndexPart, Table};
use crate::model::sql::rename_in_index;
use crate::words::ident::{Ident, QualifiedName, literal};
use crate::words::lock_mode::LockMode;

/// An index that the swap replaces.
pub(super) struct SwappedIndex<'a> {
    pub(super) names: &'a Names<'a>,
    pub(super) known: &'a Table,
    pub(super) index: &'a Index,
}

/// Statements of the swap, each with the one that takes it back; either may be missing.
type Swap = Vec<(Option<String>, Option<String>)>;

impl SwappedIndex<'_> {
    /// The steps that build the new one. A key's is left in parts until the swap: the whole takes no `USING INDEX`.
    pub(super) fn build(&self) -> Vec<Step> {
        let Some(tail) = rename_in_index(&self.index.definition, |column| self.names.beside(column)) else {
            return Vec::new();
        };
        self.build_as(&tail, self.index.constraint.is_some(), |name| self.names.fresh(name))
    }

    /// A second unique index on the old columns, so that a reopen has its primary key without building one.
    pub(super) fn keep_primary(&self) -> Vec<Step> {
        let Some(tail) = rename_in_index(&self.index.definition, Clone::clone) else { return Vec::new() };
        let mut steps = self.build_as(&tail, true, |name| self.names.hidden(name));
        let (names, key) = (self.names, self.key());
        // The whole first, as whoever writes takes them.
        let mut undo = vec![format!("LOCK TABLE {} IN ACCESS EXCLUSIVE MODE", names.table)];
        undo.extend(self.primary_back());
        steps.push(undo_only(
            &format!("make {} the primary key again", key.as_str()),
            format!("NOT {}", has_constraint(names.table, key)),
            undo,
            lock(names.table, LockMode::AccessExclusive),
        ));
        steps
    }

    /// What makes that index the primary key again.
    pub(super) fn primary_back(&self) -> Vec<String> {
        let Some(tail) = rename_in_index(&self.index.definition, Clone::clone) else { return Vec::new() };
        let names = self.names;
        let mut sql = self.attach(&tail, None, |name| names.hidden(name));
        sql.extend(self.comment());
        sql.extend(self.index.clustered.then(|| names.alter(&format!("CLUSTER ON {}", self.key()))));
        sql
    }

    /// What puts the new one in the place of the old one.
    pub(super) fn swap(&self) -> Swap {
        if self.index.constraint.is_some() { self.swap_key() } else { self.swap_plain() }
    }

    fn swap_plain(&self) -> Swap {
        let (names, name) = (self.names, &self.index.name);
        let (fresh, hidden) = (names.fresh(name), names.hidden(name));
        let mut swap = Swap::new();
        if self.known.partitions.is_some() {
            let exchange = Some(self.exchange_parts(name, &fresh));
            swap.push((exchange.clone(), exchange));
        }
        let rename =
            |from: &Ident, to: &Ident| Some(format!("ALTER INDEX {} RENAME TO {to}", names.in_schema(from)));
        swap.push((rename(name, &hidden), rename(&hidden, name)));
        swap.push((rename(&fresh, name), rename(name, &fresh)));
        if self.index.clustered {
            swap.push((Some(names.alter(&format!("CLUSTER ON {name}"))), None));
        }
        swap
    }

    fn swap_key(&self) -> Swap {
        let (names, key) = (self.names, self.key());
        let mut swap = Swap::new();
        if !self.index.primary {
            let hidden = names.hidden(&self.index.name);
            let rename =
                |from: &Ident, to: &Ident| Some(names.alter(&format!("RENAME CONSTRAINT {from} TO {to}")));
            swap.push((rename(key, &hidden), rename(&hidden, key)));
            swap.extend(self.index.parts.iter().map(|part| {
                let hidden = names.hidden(&part.index);
                let rename = |from: &Ident, to: &Ident| {
                    let from = QualifiedName::new(part.table.schema.clone(), from.clone());
                    Some(if_part(
                        names.table,
                        &part.table,
                        Some(is_there(&from)),
                        &format!("ALTER INDEX {from} RENAME TO {to}"),
                    ))
                };
                (rename(&part.index, &hidden), rename(&hidden, &part.index))
            }));
        }
        let tail = rename_in_index(&self.index.definition, |column| names.beside(column));
        // The columns have their names by then.
        let now = rename_in_index(&self.index.definition, Clone::clone);
        let attach = self.attach(&now.unwrap_or_default(), tail.as_deref(), |name| names.fresh(name));
        let mut attach = attach.into_iter().map(Some);
        let last = attach.next_back().flatten();
        swap.extend(attach.map(|sql| (sql, None)));
        swap.push((last, Some(names.alter(&format!("DROP CONSTRAINT {key}")))));
        if self.index.clustered {
            swap.push((Some(names.alter(&format!("CLUSTER ON {key}"))), None));
        }
        swap.extend(self.comment().map(|sql| (Some(sql), None)));
        swap
    }

    /// Steps that build an index like the old one; on a partitioned table one on each partition, and, unless they stay
    /// `apart`, the whole's.
    fn build_as(&self, tail: &str, apart: bool, named: impl Fn(&Ident) -> Ident) -> Vec<Step> {
        let (table, index) = (self.names.table, self.index);
        let whole = self.names.in_schema(&named(&index.name));
        let Some(partitions) = &self.known.partitions else {
            return vec![concurrent(table, &whole, index.unique, tail)];
        };
        let names = self.leaf_names(named);
        if !apart {
            return partitioned_index(table, partitions, &names, &whole, index.unique, tail);
        }
        let leaves = partitions.leaves.iter().zip(&names);
        leaves
            .map(|(leaf, name)| if_there(table, &leaf.name, concurrent(&leaf.name, name, true, tail)))
            .collect()
    }

    /// What the indexes of the partitions are called, in the order of the partitions.
    fn leaf_names(&self, named: impl Fn(&Ident) -> Ident) -> Vec<QualifiedName> {
        let leaves = self.known.partitions.iter().flat_map(|partitions| &partitions.leaves);
        let name = |leaf: &QualifiedName| {
            let part = self.index.parts.iter().find(|part| &part.table == leaf);
            let own = part.map_or_else(
                || Ident::derived(&[leaf.name.as_str(), self.index.name.as_str()]),
                |part| part.index.clone(),
            );
            QualifiedName::new(leaf.schema.clone(), named(&own))
        };
        leaves.map(|leaf| name(&leaf.name)).collect()
    }

    /// Statements that make what was built as `tail` says the constraint; on a partitioned table from the partitions upwards,
    /// so that each level takes over what is below it without reading a row.
    fn attach(&self, tail: &str, remedy: Option<&str>, built: impl Fn(&Ident) -> Ident) -> Vec<String> {
        let (names, key) = (self.names, self.key());
        let word = if self.index.primary { "PRIMARY KEY" } else { "UNIQUE" };
        let definition = self.constraint().map(|constraint| constraint.definition.as_str()).unwrap_or(word);
        let timing = definition.find(" DEFERRABLE").map_or("", |at| &definition[at..]);
        if self.known.partitions.is_none() {
            let index = built(&self.index.name);
            return vec![names.alter(&format!("ADD CONSTRAINT {key} {word} USING INDEX {index}{timing}"))];
        }
        let add = |part: &IndexPart, what: &str| {
            format!("ALTER TABLE {} ADD CONSTRAINT {} {what}", part.table, part.index)
        };
        let (leaves, branches): (Vec<_>, Vec<_>) = self.index.parts.iter().partition(|part| part.holds_rows);
        let mut sql = vec![late(names.table, true, tail, remedy)];
        sql.extend(leaves.into_iter().map(|part| {
            let index = QualifiedName::new(part.table.schema.clone(), built(&part.index));
            let attach = add(part, &format!("{word} USING INDEX {}{timing}", index.name));
            if_part(names.table, &part.table, Some(is_there(&index)), &attach)
        }));
        sql.push(adopt(names.table, tail, word, timing));
        sql.extend(
            branches.into_iter().map(|part| if_part(names.table, &part.table, None, &add(part, definition))),
        );
        sql.push(names.alter(&format!("ADD CONSTRAINT {key} {definition}")));
        sql
    }

    /// Exchanges the names of each partition's parts of two indexes. To do it again takes it back.
    fn exchange_parts(&self, one: &Ident, other: &Ident) -> String {
        let root = |name: &Ident| literal(&self.names.in_schema(name).to_string());
        format!(
            "DO $pontoon$\nDECLARE\n  part record;\nBEGIN\n  \
             FOR part IN SELECT o.oid::regclass AS one, o.relname AS one_name, n.oid::regclass AS other, n.relname AS other_name\n    \
             FROM pg_partition_tree({}::regclass) AS op JOIN pg_class AS o ON o.oid = op.relid JOIN pg_index AS oi ON oi.indexrelid = o.oid\n    \
             JOIN pg_index AS ni ON ni.indrelid = oi.indrelid JOIN pg_class AS n ON n.oid = ni.indexrelid\n    \
             JOIN pg_partition_tree({}::regclass) AS np ON np.relid = n.oid\n    \
             WHERE op.level > 0\n  LOOP\n    \
             EXECUTE format('ALTER INDEX %s RENAME TO %I', part.one, '_pontoon_{}_exchange');\n    \
             EXECUTE format('ALTER INDEX %s RENAME TO %I', part.other, part.one_name);\n    \
             EXECUTE format('ALTER INDEX %s RENAME TO %I', part.one, part.other_name);\n  END LOOP;\nEND\n$pontoon$",
            root(one),
            root(other),
            self.names.version,
        )
    }

    fn key(&self) -> &Ident {
        self.index.constraint.as_ref().unwrap_or(&self.index.name)
    }

    fn constraint(&self) -> Option<&Constraint> {
        self.known.constraint(self.key())
    }

    fn comment(&self) -> Option<String> {
        let constraint = self.constraint()?;
        let comment = literal(constraint.comment.as_ref()?);
        Some(format!("COMMENT ON CONSTRAINT {} ON {} IS {comment}", constraint.name, self.names.table))
    }
}
