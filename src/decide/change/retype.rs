//! The swap of a column with one of another type, and of everything that hangs on it: indexes, keys, checks, foreign keys,
//! default, sequence, comment. All of it is built beside the old one first; the swap itself only changes names.
//!
//! What undoes the swap is complete but for what needs a look at every row: NOT NULL, a primary key and foreign keys of the
//! old column come back NOT VALID, or without their mark, and steps that only count backwards bring them to their end.

use std::collections::{BTreeMap, BTreeSet};

use crate::decide::change::constraint::lock;
use crate::decide::change::hand_over::{HandedOver, handed_over};
use crate::decide::change::mapping::{hidden_name, new_name};
use crate::decide::change::sequence::{counts, identity, keeping_count, options};
use crate::decide::change::set_not_null::prove;
use crate::decide::change::swap_index::SwappedIndex;
use crate::decide::change::swap_not_null::{
    back_not_valid, back_to_not_null, free_partitions, proof_first, swap_not_null,
};
use crate::decide::draft::{Draft, Retyped, TableDraft, has_unproved, table_step, undo_only, validate};
use crate::decide::plan::{Replaced, SealedColumn, Step};
use crate::model::catalog::{Catalog, Column, Constraint, Index, Table};
use crate::model::sql::Expression;
use crate::words::ident::{Ident, QualifiedName, literal};
use crate::words::lock_mode::LockMode;

/// What the swaps of one table add to the plan.
#[derive(Default)]
pub(crate) struct Parts {
    /// Statements of the table's transaction in expand.
    pub(crate) expand: Vec<String>,
    pub(crate) columns: Vec<Column>,
    pub(crate) settle: Vec<Step>,
    pub(crate) restrict: Vec<Step>,
    /// Statements of the swap, each with the one that takes it back; either may be missing.
    pub(crate) swap: Vec<(Option<String>, Option<String>)>,
    /// Other tables that the swap locks.
    pub(crate) also_locked: Vec<QualifiedName>,
    /// Steps behind all swaps.
    pub(crate) behind: Vec<Step>,
    /// Old columns whose way back to NOT NULL begins before the swap's.
    proved_first: BTreeSet<Ident>,
    pub(crate) hidden: Vec<SealedColumn>,
}

/// The names of one table's columns while both are there.
pub(super) struct Names<'a> {
    pub(super) version: String,
    pub(super) table: &'a QualifiedName,
    columns: BTreeMap<Ident, Ident>,
}

impl Names<'_> {
    fn touches<'b>(&self, mut columns: impl Iterator<Item = &'b Ident>) -> bool {
        columns.any(|column| self.columns.contains_key(column))
    }

    /// A column's name beside the old one.
    pub(super) fn beside(&self, column: &Ident) -> Ident {
        self.columns.get(column).cloned().unwrap_or_else(|| column.clone())
    }

    pub(super) fn fresh(&self, name: &Ident) -> Ident {
        new_name(&self.version, name)
    }

    pub(super) fn hidden(&self, name: &Ident) -> Ident {
        hidden_name(&self.version, name)
    }

    pub(super) fn alter(&self, what: &str) -> String {
        format!("ALTER TABLE {} {what}", self.table)
    }

    pub(super) fn in_schema(&self, name: &Ident) -> QualifiedName {
        QualifiedName::new(self.table.schema.clone(), name.clone())
    }
}

fn names<'a>(draft: &Draft<'_>, work: &'a TableDraft) -> Names<'a> {
    let version = draft.file.version.number().to_string();
    let columns = work.retyped.iter().map(|r| (r.column.clone(), new_name(&version, &r.column))).collect();
    Names { version, table: &work.name, columns }
}

pub(crate) fn parts(
    draft: &Draft<'_>,
    work: &TableDraft,
    known: &Table,
    tables: &[TableDraft],
    before: &Catalog,
) -> Parts {
    let mut parts = Parts::default();
    if work.retyped.is_empty() {
        return parts;
    }
    let names = names(draft, work);
    // Backwards this comes last: the old foreign keys, when the old columns have their names again.
    let handed = handed_over(draft, tables, before);
    let pointing: Vec<&HandedOver<'_>> = handed.iter().filter(|key| key.parent == &work.name).collect();
    let back = pointing.iter().flat_map(|key| key.old_back(&names.version, tables).into_iter().rev());
    parts.swap.extend(back.map(|sql| (None, Some(sql))));
    for key in pointing.iter().filter(|key| key.in_swap) {
        let (child, name) = (key.child, &key.key.name);
        parts.swap.push((Some(format!("ALTER TABLE {child} DROP CONSTRAINT {name}")), None));
        parts.also_locked.extend((child != &work.name).then(|| child.clone()));
    }
    let indexes: Vec<&Index> =
        known.indexes.iter().filter(|index| index.valid && names.touches(index.columns.iter())).collect();
    let swaps = || indexes.iter().map(|index| SwappedIndex { names: &names, known, index });
    let primary = swaps().find(|swap| swap.index.primary);
    parts.restrict.extend(primary.iter().flat_map(SwappedIndex::keep_primary));
    // What foreign keys point at must be there again when they are.
    if let Some(primary) = primary.filter(|_| pointing.iter().any(|key| key.in_swap)) {
        parts.swap.extend(primary.primary_back().into_iter().rev().map(|sql| (None, Some(sql))));
        for retyped in work.retyped.iter().filter(|retyped| primary.index.columns.contains(&retyped.column)) {
            let Some(old) = known.column(&retyped.column) else { continue };
            parts.behind.extend(proof_first(&names, old));
            parts.proved_first.insert(old.name.clone());
        }
    }
    for retyped in &work.retyped {
        let Some(old) = known.column(&retyped.column) else { continue };
        parts.add_column(&names, retyped, old);
        if old.not_null {
            parts.restrict.extend(back_to_not_null(&names, old));
            parts.restrict.extend(prove(draft, &work.name, &names.fresh(&old.name)));
        }
    }
    for swap in swaps() {
        let phase = if swap.index.unique { &mut parts.restrict } else { &mut parts.settle };
        phase.extend(swap.build());
    }
    let checks: Vec<&Constraint> = known
        .constraints
        .iter()
        .filter(|constraint| constraint.kind == "c" && names.touches(constraint.columns.iter()))
        .collect();
    for check in &checks {
        parts.restrict.extend(new_check(&names, check));
    }
    parts.swap_columns(draft, &names, work, known, before, &indexes);
    for check in checks {
        parts.swap_check(&names, check);
    }
    for swap in swaps() {
        parts.swap.extend(swap.swap());
    }
    // Backwards this comes first: the new foreign keys hold the new keys.
    for key in &pointing {
        if key.in_swap {
            parts.swap.extend(key.new_there(tables).into_iter().map(|sql| (Some(sql), None)));
        }
        parts.swap.extend(key.new_gone().into_iter().map(|sql| (None, Some(sql))));
        if !key.in_swap {
            parts.swap.push((None, Some(format!("LOCK TABLE {} IN ACCESS EXCLUSIVE MODE", key.child))));
        }
    }
    for key in handed.iter().filter(|key| key.in_swap && key.child == &work.name && key.parent != &work.name)
    {
        let rename = Some(key.rename_parts(&names.version));
        parts.swap.push((rename.clone(), rename));
    }
    parts
}

impl Parts {
    fn push(&mut self, sql: String, undo: String) {
        self.swap.push((Some(sql), Some(undo)));
    }

    /// A statement that nothing takes back.
    fn one_way(&mut self, sql: String) {
        self.swap.push((Some(sql), None));
    }

    fn add_column(&mut self, names: &Names<'_>, retyped: &Retyped, old: &Column) {
        let fresh = names.fresh(&old.name);
        let type_sql = &retyped.conversion.type_sql;
        self.expand.push(names.alter(&format!("ADD COLUMN {fresh} {type_sql}{}", retyped.collation)));
        for (privilege, role) in &old.grants {
            self.expand.push(format!("GRANT {privilege} ({fresh}) ON {} TO {role}", names.table));
        }
        let mut set =
            |what: String| self.expand.push(names.alter(&format!("ALTER COLUMN {fresh} SET {what}")));
        if let Some(target) = old.statistics.filter(|target| *target >= 0) {
            set(format!("STATISTICS {target}"));
        }
        if let Some(storage) = &old.storage {
            set(format!("STORAGE {storage}"));
        }
        if let Some(compression) = &old.compression {
            set(format!("COMPRESSION {compression}"));
        }
        if !old.options.is_empty() {
            set(format!("({})", old.options.join(", ")));
        }
        self.columns.push(Column {
            name: fresh,
            type_sql: type_sql.clone(),
            collation: retyped.collation.clone(),
            not_null: false,
            default: None,
            identity: false,
            ..old.clone()
        });
    }

    /// NOT NULL, the names of the columns, their defaults and sequences.
    fn swap_columns(
        &mut self,
        draft: &Draft<'_>,
        names: &Names<'_>,
        work: &TableDraft,
        known: &Table,
        before: &Catalog,
        indexes: &[&Index],
    ) {
        let olds: Vec<(&Retyped, &Column)> =
            work.retyped.iter().filter_map(|r| known.column(&r.column).map(|old| (r, old))).collect();
        for key in indexes.iter().filter(|index| index.primary) {
            let name = key.constraint.as_ref().unwrap_or(&key.name);
            self.one_way(names.alter(&format!("DROP CONSTRAINT {name}")));
        }
        for (retyped, old) in &olds {
            let (name, fresh, hidden) = (&old.name, names.fresh(&old.name), names.hidden(&old.name));
            let rename = |from: &Ident, to: &Ident| names.alter(&format!("RENAME COLUMN {from} TO {to}"));
            let proved_first = self.proved_first.contains(name);
            if proved_first {
                self.swap.push((None, Some(names.alter(&format!("ALTER COLUMN {name} SET NOT NULL")))));
            }
            self.push(rename(name, &hidden), rename(&hidden, name));
            self.push(rename(&fresh, name), rename(name, &fresh));
            let free_block = |column: &Ident| {
                let block = known.partitions.is_some().then(|| free_partitions(names.table, column));
                block.filter(|_| old.not_null)
            };
            let free_parts =
                |column: &Ident| free_block(column).map(|block| format!("DO $pontoon$\n{block}\n$pontoon$"));
            if old.identity {
                self.swap.push((None, free_parts(name)));
                self.swap_identity(draft, names, retyped, old, free_block(&hidden));
            } else {
                let set = |column: &Ident, default: &str| {
                    names.alter(&format!("ALTER COLUMN {column} SET DEFAULT {default}"))
                };
                let drop = |column: &Ident| names.alter(&format!("ALTER COLUMN {column} DROP DEFAULT"));
                self.swap_owner(names, retyped, old);
                if let Some(default) = &old.default {
                    self.push(drop(&hidden), set(&hidden, default));
                }
                if let Some(default) = &retyped.conversion.default {
                    self.push(set(name, default), drop(name));
                }
            }
            if old.not_null && !old.identity {
                let [free, set, done] = swap_not_null(draft, names, old);
                self.swap.push((Some(free), (!proved_first).then(|| back_not_valid(names, old))));
                self.swap.push((free_parts(&hidden), free_parts(name)));
                self.push(set, names.alter(&format!("ALTER COLUMN {name} DROP NOT NULL")));
                self.one_way(done);
            }
            if let Some(comment) = &old.comment {
                let said = |comment: &str| format!("COMMENT ON COLUMN {}.{name} IS {comment}", names.table);
                self.push(said(&literal(comment)), said("NULL"));
            }
            self.hidden.push(SealedColumn {
                table: names.table.clone(),
                column: name.clone(),
                going: name.clone(),
                hidden,
                kept_current: false,
                replaced: Some(Replaced {
                    lost: String::new(),
                    not_null: old.not_null,
                    known: parts_of(known, &old.name, before),
                }),
            });
        }
    }

    /// A sequence that belongs to the column goes over to the new one, and counts in its type.
    fn swap_owner(&mut self, names: &Names<'_>, retyped: &Retyped, old: &Column) {
        let Some(sequence) = &old.sequence else { return };
        let (name, hidden) = (&old.name, names.hidden(&old.name));
        let new_type = &retyped.conversion.type_sql;
        if counts(new_type) && counts(&old.type_sql) {
            // Backwards it stays as it is: it may stand beyond what the old type holds.
            self.one_way(format!("ALTER SEQUENCE {sequence} AS {new_type}"));
        }
        let own = |column: &Ident| format!("ALTER SEQUENCE {sequence} OWNED BY {}.{column}", names.table);
        self.push(own(name), own(&hidden));
    }

    /// An identity cannot be handed over: its sequence is made again under its name, where it stood. Backwards the old
    /// column, which is not NOT NULL yet, gets a plain default first; see [`back_to_not_null`].
    fn swap_identity(
        &mut self,
        draft: &Draft<'_>,
        names: &Names<'_>,
        retyped: &Retyped,
        old: &Column,
        free_block: Option<String>,
    ) {
        let Some(sequence) = &old.sequence else { return };
        let (name, hidden) = (&old.name, names.hidden(&old.name));
        let [free, set, done] = swap_not_null(draft, names, old);
        let mut there = vec![
            format!("ALTER SEQUENCE {sequence} AS {}", retyped.conversion.type_sql),
            names.alter(&format!("ALTER COLUMN {hidden} DROP IDENTITY")),
            free,
        ];
        there.extend(free_block);
        there.extend([set, done, identity(names.table, old, name, sequence)]);
        let mut back = vec![
            names.alter(&format!("ALTER COLUMN {name} DROP IDENTITY")),
            names.alter(&format!("ALTER COLUMN {name} DROP NOT NULL")),
        ];
        back.extend((!self.proved_first.contains(name)).then(|| back_not_valid(names, old)));
        back.extend([
            format!("CREATE SEQUENCE {sequence} AS {} {}", old.type_sql, options(old)),
            names.alter(&format!(
                "ALTER COLUMN {hidden} SET DEFAULT nextval({}::regclass)",
                literal(&sequence.to_string())
            )),
        ]);
        there.extend(old.sequence_also.clone());
        back.extend(old.sequence_also.clone());
        let forward = keeping_count(sequence, &there, &retyped.conversion.type_sql);
        self.push(forward, keeping_count(sequence, &back, &old.type_sql));
    }

    /// The old check goes: what `down` makes of a new value need not satisfy it.
    fn swap_check(&mut self, names: &Names<'_>, check: &Constraint) {
        let (name, fresh) = (&check.name, names.fresh(&check.name));
        let definition = check.definition.trim_end_matches(" NOT VALID");
        self.swap
            .insert(0, (None, Some(names.alter(&format!("ADD CONSTRAINT {name} {definition} NOT VALID")))));
        let rename = |from: &Ident, to: &Ident| names.alter(&format!("RENAME CONSTRAINT {from} TO {to}"));
        self.one_way(names.alter(&format!("DROP CONSTRAINT {name}")));
        self.push(rename(&fresh, name), rename(name, &fresh));
        self.comment(names, check);
    }

    fn comment(&mut self, names: &Names<'_>, constraint: &Constraint) {
        if let Some(comment) = &constraint.comment {
            let name = &constraint.name;
            self.one_way(format!("COMMENT ON CONSTRAINT {name} ON {} IS {}", names.table, literal(comment)));
        }
    }
}

/// Names of the indexes and constraints that name a column; of foreign keys that point at it, with their tables.
fn parts_of(known: &Table, column: &Ident, before: &Catalog) -> BTreeSet<String> {
    let indexes =
        known.indexes.iter().filter(|index| index.columns.contains(column)).map(|index| &index.name);
    let constraints = known
        .constraints
        .iter()
        .filter(|key| key.columns.contains(column))
        .map(|constraint| &constraint.name);
    let own = indexes.chain(constraints).map(|name| name.as_str().to_owned());
    let pointing = before.tables.iter().flat_map(|child| {
        let points = |key: &&Constraint| {
            key.parent.as_ref() == Some(&known.name) && key.parent_columns.contains(column)
        };
        let keys = child.constraints.iter().filter(points);
        keys.map(|key| format!("{} of {}", key.name.as_str(), child.name.plain()))
    });
    own.chain(pointing).collect()
}

/// The check on the new columns, as the server itself would write it after a plain ALTER TYPE.
fn new_check(names: &Names<'_>, check: &Constraint) -> Vec<Step> {
    let definition = check.definition.trim_end_matches(" NOT VALID");
    let (definition, inherit) = match definition.strip_suffix(" NO INHERIT") {
        Some(definition) => (definition, " NO INHERIT"),
        None => (definition, ""),
    };
    let text = definition.strip_prefix("CHECK ").unwrap_or(definition);
    let Ok(expression) = Expression::parse(text, 0) else { return Vec::new() };
    let text = expression.replaced(|column| names.beside(column).to_string());
    let name = names.fresh(&check.name);
    let add = table_step(
        names.table,
        format!("check {} for new rows of {}", name.as_str(), names.table.plain()),
        vec![names.alter(&format!("ADD CONSTRAINT {name} CHECK {text}{inherit} NOT VALID"))],
        vec![names.alter(&format!("DROP CONSTRAINT IF EXISTS {name}"))],
    );
    if !check.validated {
        return vec![add];
    }
    let again = undo_only(
        &format!("validate {} again", check.name.as_str()),
        has_unproved(names.table, &check.name),
        vec![names.alter(&format!("VALIDATE CONSTRAINT {}", check.name))],
        lock(names.table, LockMode::ShareUpdateExclusive),
    );
    vec![again, add, validate(names.table, &name)]
}
