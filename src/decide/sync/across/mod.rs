//! Sync triggers across two tables: values of a source table that move to a target table, found by a key.
//!
//! A write of either side locks the source row first where it can, changes its own row, and then, in an AFTER trigger, the
//! other side's, only if the two do not agree: recursion ends by value. What is written to the other table is written with the
//! rights of the migration's role, as a foreign key does it, under the configured `search_path`.

mod batches;
mod functions;
mod on_source;
mod on_target;
mod triggers;

pub(crate) use triggers::ACROSS_SETTING;

use std::collections::BTreeSet;

use super::{Shape, Typed};
use crate::words::ident::{Ident, QualifiedName};

/// One connected set of columns that move from one table to another.
#[derive(Debug, Clone)]
pub(crate) struct Across {
    /// The prefix of every object made for it, such as `m7_a1`.
    pub(crate) id: String,
    /// The version, as the skip setting holds it.
    pub(crate) version: String,
    /// The schema that holds its functions.
    pub(crate) ledger: Ident,
    /// Under which the triggers of the user on the other table run.
    pub(crate) search_path: Vec<Ident>,
    pub(crate) source: QualifiedName,
    /// The name of the source while sealed; differs where contract takes the whole table away.
    pub(crate) sealed_source: QualifiedName,
    pub(crate) target: QualifiedName,
    /// Columns of the source and of the target that are equal in rows that belong together. Unique in the source.
    pub(crate) key: Vec<(Ident, Ident)>,
    /// Those columns of the source's key that tell its rows apart by themselves.
    pub(crate) source_unique: Vec<Ident>,
    pub(crate) new: Vec<Moved>,
    /// The columns, or those of the table, that contract takes away.
    pub(crate) old: Vec<Left>,
    /// Every column of the source that an expression reads, with its name while sealed.
    pub(crate) source_columns: Vec<(Typed, Ident)>,
    /// Every column of the target that an expression reads.
    pub(crate) target_columns: Vec<Typed>,
    /// Which rows of the source take part, and the columns that it reads.
    pub(crate) condition: Option<(String, BTreeSet<Ident>)>,
    /// Columns of the target whose value does not come from the source: given once, to a new row.
    pub(crate) given: Vec<(Ident, String)>,
    /// Whether rows of the source make rows of the target: `INSERT … SELECT`, not `UPDATE … FROM`.
    pub(crate) makes_rows: bool,
    /// Whether the source goes as a whole, so that rows of the target make rows of the source.
    pub(crate) source_goes: bool,
    /// Whether the key is unique in the target too.
    pub(crate) one_to_one: bool,
    /// The pairs of the key that a foreign key takes along, when a row of the source turns to another one.
    pub(crate) renumbered: Vec<(Ident, Ident)>,
    /// Whether an UPDATE of a key may take a row to another partition, which fires the triggers of a DELETE and an INSERT.
    pub(crate) source_is_partitioned: bool,
    pub(crate) target_is_partitioned: bool,
    /// Whether what old code writes can fail to arrive in the target.
    pub(crate) may_fail: bool,
    /// Whether computing a value can raise.
    pub(crate) may_raise: bool,
}

/// A column of the target.
#[derive(Debug, Clone)]
pub(crate) struct Moved {
    pub(crate) column: Typed,
    pub(crate) up: String,
    pub(crate) reads: BTreeSet<Ident>,
    /// Whether the target takes no null, so that a row of the source without a value makes none.
    pub(crate) not_null: bool,
}

/// A column of the source that goes.
#[derive(Debug, Clone)]
pub(crate) struct Left {
    pub(crate) column: Typed,
    pub(crate) sealed_name: Ident,
    /// What makes it from columns of the target, and which.
    pub(crate) down: Option<(String, BTreeSet<Ident>)>,
    /// What it holds where nothing was given: its default, or null.
    pub(crate) empty: String,
    pub(crate) not_null: bool,
}

impl Across {
    /// Whether new code's writes reach the source.
    pub(crate) fn has_down(&self) -> bool {
        self.one_to_one && !self.old.is_empty() && self.old.iter().all(|old| old.down.is_some())
    }

    /// Whether the target's old value gives way to null where it refuses the one that old code gave: without a down nothing else
    /// tells that the two do not agree. Of several columns some may be new code's.
    pub(crate) fn empties_what_is_refused(&self) -> bool {
        !self.has_down() && matches!(&self.new[..], [one] if !one.not_null)
    }

    /// Whether a row that new code deletes takes along, or empties, its row of the source. One row of many does not.
    pub(crate) fn takes_along(&self) -> bool {
        self.one_to_one && (self.source_goes || (self.makes_rows && !self.old.is_empty()))
    }

    /// Whether a row of the target whose key changes may leave its partition, and takes its row of the source with it.
    fn target_shifts(&self) -> bool {
        self.target_is_partitioned && self.source_goes && self.one_to_one
    }

    /// The same the other way.
    fn source_shifts(&self) -> bool {
        self.source_is_partitioned && self.makes_rows
    }

    /// Whether a foreign key takes rows of the target along with one of the source that goes to another partition: as with a row
    /// that comes, nothing tells which one it was.
    fn renumbers_across_partitions(&self) -> bool {
        self.source_is_partitioned && !self.renumbered.is_empty()
    }

    fn function(&self, parts: &[&str]) -> QualifiedName {
        let mut all = vec![self.id.as_str()];
        all.extend_from_slice(parts);
        QualifiedName::new(self.ledger.clone(), Ident::derived(&all))
    }

    /// The columns of the source among `reads`, always in the same order.
    fn read_from_source(&self, reads: &BTreeSet<Ident>) -> Vec<&(Typed, Ident)> {
        self.source_columns.iter().filter(|(column, _)| reads.contains(&column.name)).collect()
    }

    fn read_from_target(&self, reads: &BTreeSet<Ident>) -> Vec<&Typed> {
        self.target_columns.iter().filter(|column| reads.contains(&column.name)).collect()
    }

    /// The values of a row that [`Self::create_fetch`] gave.
    fn fetched(&self) -> (Vec<String>, Vec<String>) {
        let ups = (0..self.new.len()).map(|at| format!("s.up_{at}")).collect();
        (ups, (0..self.old.len()).map(|at| format!("s.old_{at}")).collect())
    }

    fn source_row(&self, reads: &BTreeSet<Ident>, row: &str, shape: Shape) -> Vec<String> {
        let name = |(column, sealed): &&(Typed, Ident)| {
            format!("{row}.{}", if shape == Shape::Open { &column.name } else { sealed })
        };
        self.read_from_source(reads).iter().map(name).collect()
    }

    fn of_source(&self, function: &[&str], reads: &BTreeSet<Ident>, row: &str, shape: Shape) -> String {
        format!("{}({})", self.function(function), self.source_row(reads, row, shape).join(", "))
    }

    fn up(&self, new: &Moved, row: &str, shape: Shape) -> String {
        self.of_source(&["up", new.column.name.as_str()], &new.reads, row, shape)
    }

    fn ups(&self, row: &str, shape: Shape) -> Vec<String> {
        self.new.iter().map(|new| self.up(new, row, shape)).collect()
    }

    fn downs(&self, row: &str) -> Vec<String> {
        self.old
            .iter()
            .filter_map(|old| {
                let (_, reads) = old.down.as_ref()?;
                let arguments: Vec<String> = self
                    .read_from_target(reads)
                    .iter()
                    .map(|column| format!("{row}.{}", column.name))
                    .collect();
                let function = self.function(&["down", old.column.name.as_str()]);
                Some(format!("{function}({})", arguments.join(", ")))
            })
            .collect()
    }

    fn old_names(&self, shape: Shape) -> Vec<&Ident> {
        let name = |old| if shape == Shape::Open { Self::open_name(old) } else { &old.sealed_name };
        self.old.iter().map(name).collect()
    }

    fn open_name(old: &Left) -> &Ident {
        &old.column.name
    }

    /// Columns of the source that decide on the target's values.
    fn up_reads(&self) -> BTreeSet<Ident> {
        let condition = self.condition.iter().flat_map(|(_, reads)| reads.clone());
        self.new.iter().flat_map(|new| new.reads.clone()).chain(condition).collect()
    }

    fn asks(&self, row: &str, shape: Shape) -> String {
        if !self.has_asks() {
            return "true".to_owned();
        }
        self.of_source(&["asks"], &self.up_reads(), row, shape)
    }

    fn has_asks(&self) -> bool {
        self.condition.is_some() || self.required().next().is_some()
    }

    /// The same whether or not the row gives what the target must have: to one that gives only some of it there is no row, and it
    /// must not go unnoticed.
    fn wanted(&self, row: &str, shape: Shape) -> String {
        match &self.condition {
            _ if self.required().next().is_none() => self.asks(row, shape),
            None => "true".to_owned(),
            Some((_, reads)) => self.of_source(&["wanted"], reads, row, shape),
        }
    }

    /// Columns of the target without which a row of the source makes none; of a source that goes, every row must.
    fn required(&self) -> impl Iterator<Item = &Moved> {
        self.new.iter().filter(|new| new.not_null && !self.source_goes)
    }

    /// True for rows of source and target that belong together.
    fn together(&self, target: &str, source: &str) -> String {
        let pairs = self.key.iter().map(|(s, t)| format!("{source}.{s} OPERATOR(pg_catalog.=) {target}.{t}"));
        pairs.collect::<Vec<_>>().join(" AND ")
    }

    /// The columns of the source that some `up` reads.
    fn read_by_ups(&self) -> BTreeSet<Ident> {
        self.new.iter().flat_map(|new| new.reads.clone()).collect()
    }

    /// The columns of the target that some `down` reads.
    fn read_by_downs(&self) -> BTreeSet<Ident> {
        self.old.iter().filter_map(|old| old.down.as_ref()).flat_map(|(_, reads)| reads.clone()).collect()
    }

    /// True where no row of the target has the key of `row`, which is one of it: a statement may delete a row and make it again,
    /// or give its key to another one.
    fn left_free(&self, row: &str) -> String {
        let pairs = self.key.iter().map(|(_, t)| format!("other.{t} OPERATOR(pg_catalog.=) {row}.{t}"));
        let at = pairs.collect::<Vec<_>>().join(" AND ");
        format!("NOT EXISTS (SELECT FROM {} AS other WHERE {at})", self.target)
    }

    /// `new = up(old)`; false where an expression raises.
    fn up_holds(&self, target: &str, source: &str, shape: Shape) -> String {
        let mut arguments = row(target, &self.new_names());
        arguments.extend(self.source_row(&self.read_by_ups(), source, shape));
        format!("{}({})", self.function(&["holds_up"]), arguments.join(", "))
    }

    /// `old = down(new)`.
    fn down_holds(&self, target: &str, source: &str, shape: Shape) -> String {
        let reads = self.read_by_downs();
        let names: Vec<&Ident> =
            self.read_from_target(&reads).into_iter().map(|column| &column.name).collect();
        let mut arguments = row(target, &names);
        arguments.extend(row(source, &self.old_names(shape)));
        format!("{}({})", self.function(&["holds_down"]), arguments.join(", "))
    }

    /// True for a pair of rows that agree.
    fn holds(&self, target: &str, source: &str, shape: Shape) -> String {
        let up = self.up_holds(target, source, shape);
        if !self.has_down() {
            return up;
        }
        format!("({} OR {up})", self.down_holds(target, source, shape))
    }

    /// True for a pair of rows of which the target's must be computed: what a write of new code left so stays.
    fn wrong(&self, target: &str, source: &str, shape: Shape) -> String {
        if !self.has_down() {
            return self.needed(target, source, shape);
        }
        let (holds, empty) = (self.holds(target, source, shape), self.empty(source, shape));
        format!("NOT ({holds} OR {empty})")
    }

    /// The same for the backfill, which computes a row that nobody has touched in any case: no new code is serving yet whose
    /// nulls could be meant.
    fn needed(&self, target: &str, source: &str, shape: Shape) -> String {
        let untouched = all_null(target, &self.new_names());
        let up = self.up_holds(target, source, shape);
        if !self.has_down() {
            return format!("({untouched} AND NOT {up})");
        }
        // In parentheses: the first THEN would end a condition of PL/pgSQL.
        format!("(CASE WHEN {untouched} THEN NOT {up} ELSE {} END)", self.wrong(target, source, shape))
    }

    /// True for a row of the source to which nothing was given that moves, so that it may be new code's. New code makes no row
    /// of a table that goes.
    fn empty(&self, row_name: &str, shape: Shape) -> String {
        if self.source_goes {
            return "false".to_owned();
        }
        let arguments = if self.old.is_empty() {
            self.source_row(&self.read_by_ups(), row_name, shape)
        } else {
            row(row_name, &self.old_names(shape))
        };
        format!("{}({})", self.function(&["empty"]), arguments.join(", "))
    }

    fn new_names(&self) -> Vec<&Ident> {
        self.new.iter().map(|new| &new.column.name).collect()
    }

    fn source_in(&self, shape: Shape) -> &QualifiedName {
        if shape == Shape::Open { &self.source } else { &self.sealed_source }
    }
}

fn row(of: &str, columns: &[&Ident]) -> Vec<String> {
    columns.iter().map(|column| format!("{of}.{column}")).collect()
}

fn alike(one: &[String], other: &[String]) -> String {
    // Not the operator `*=`: the server writes it down without the casts, and a restored dump would compare the members.
    format!("pg_catalog.record_image_eq(ROW({})::record, ROW({})::record)", one.join(", "), other.join(", "))
}

fn all_null(of: &str, columns: &[&Ident]) -> String {
    let null: Vec<String> = columns.iter().map(|column| format!("{of}.{column} IS NULL")).collect();
    format!("({})", null.join(" AND "))
}
