//! Groups the columns that a file fills, drops and renames into mappings.

use std::collections::BTreeSet;

use crate::decide::draft::{Added, Draft, Filled, Retyped, TableDraft};
use crate::decide::sync::{DefaultKind, Down, Mapping, NewSide, OldSide, Other, Typed, Up};
use crate::model::catalog::{Column, Table};
use crate::model::problem::Problem;
use crate::model::sql::Expression;
use crate::words::ident::Ident;

/// How the names of columns and objects begin that contract hides.
pub(crate) const HIDDEN: &str = "_pontoon";

/// A `down` may read columns that stay, and new columns that something fills.
pub(crate) fn check_downs(work: &TableDraft, known: &Table) -> Result<(), Problem> {
    for dropped in &work.dropped {
        let Some(down) = &dropped.down else { continue };
        for column in down.columns() {
            let added = work.added.iter().find(|added| added.column.name == column);
            let gone = work.dropped.iter().any(|other| other.column == column);
            let gone = gone || work.renamed.iter().any(|renamed| renamed.from == column);
            let stays = known.column(&column).is_some_and(|known| !known.generated) && !gone;
            let title = match added {
                Some(added) if added.filled.is_none() => {
                    format!("`{}` is read by `down`, but nothing fills it", column.as_str())
                }
                None if !stays => {
                    format!("`down` reads `{}`, which is no column that stays", column.as_str())
                }
                _ => continue,
            };
            return Err(Problem::new("down-source", down.span.clone(), title, "read here")
                .and(dropped.span.clone(), "for this column")
                .help(format!(
                    "fill it from the old columns: `UPDATE {} SET {column} = <expression>;`",
                    work.name
                )));
        }
        if let Some(unknown) = down.qualifiers().into_iter().find(|qualifier| qualifier != &work.name.name) {
            return Err(Problem::new(
                "unknown-name",
                down.span.clone(),
                format!("`{}` is not this table", unknown.as_str()),
                "here",
            ));
        }
    }
    Ok(())
}

/// Groups the columns into mappings: new and old columns that compute each other belong together.
pub(crate) fn mappings(
    draft: &Draft<'_>,
    work: &TableDraft,
    known: &Table,
    count: &mut usize,
) -> Vec<Mapping> {
    let filled: Vec<(&Added, &Filled)> =
        work.added.iter().filter_map(|added| added.filled.as_ref().map(|filled| (added, filled))).collect();
    let mut groups: Vec<(BTreeSet<Ident>, BTreeSet<Ident>)> = Vec::new();
    for dropped in &work.dropped {
        let Some(down) = &dropped.down else { continue };
        let reads = down.columns();
        let mut group = (BTreeSet::new(), BTreeSet::from([dropped.column.clone()]));
        for (added, filled) in &filled {
            let computed = filled.fill.is_none();
            if computed && (reads.contains(&added.column.name) || filled.reads.contains(&dropped.column)) {
                group.0.insert(added.column.name.clone());
            }
        }
        // Merge with every group that shares a new column.
        let (shared, apart): (Vec<_>, Vec<_>) =
            groups.into_iter().partition(|other| !other.0.is_disjoint(&group.0));
        for other in shared {
            group.0.extend(other.0);
            group.1.extend(other.1);
        }
        groups = apart;
        groups.push(group);
    }
    for (added, _) in &filled {
        if !groups.iter().any(|group| group.0.contains(&added.column.name)) {
            groups.push((BTreeSet::from([added.column.name.clone()]), BTreeSet::new()));
        }
    }
    // An old column without `down` goes with whatever reads it, else it stands alone, for the evidence only.
    for dropped in work.dropped.iter().filter(|dropped| dropped.down.is_none() && !dropped.generated) {
        let mut read = false;
        for group in &mut groups {
            let reads = filled.iter().any(|(added, filled)| {
                group.0.contains(&added.column.name) && filled.reads.contains(&dropped.column)
            });
            if reads {
                group.1.insert(dropped.column.clone());
                read = true;
            }
        }
        if !read {
            groups.push((BTreeSet::new(), BTreeSet::from([dropped.column.clone()])));
        }
    }
    let version = draft.file.version.number().to_string();
    let mut mapping = |new: Vec<NewSide>, old: Vec<OldSide>, evidence: bool| {
        *count += 1;
        let mut mapping = Mapping {
            id: format!("m{version}_{count}"),
            version: version.clone(),
            ledger: draft.settings.ledger.clone(),
            table: work.name.clone(),
            new,
            old,
            others: Vec::new(),
            evidence,
            moves_by: moves_by(known),
        };
        mapping.others = others(&mapping, work, known);
        mapping
    };
    let mut mappings = Vec::new();
    for (new, old) in groups {
        let new = filled
            .iter()
            .filter(|(added, _)| new.contains(&added.column.name))
            .map(|(added, filled)| new_side(added, filled))
            .collect();
        let old = work.dropped.iter().filter(|dropped| old.contains(&dropped.column)).filter_map(|dropped| {
            let column = known.column(&dropped.column)?;
            Some(OldSide {
                column: typed(column),
                down: dropped.down.as_ref().map(|down| down_of(down, known)),
                not_null: column.not_null,
                sealed_name: hidden_name(&version, &dropped.column),
                default: default_kind(column),
            })
        });
        mappings.push(mapping(new, old.collect(), true));
    }
    for renamed in &work.renamed {
        let Some(column) = known.column(&renamed.from) else { continue };
        let reads = |name: &Ident| BTreeSet::from([name.clone()]);
        let new = NewSide {
            column: Typed { name: renamed.to.clone(), type_sql: column.type_sql.clone() },
            up: Up::Computed {
                on_insert: None,
                expression: renamed.from.to_string(),
                reads: reads(&renamed.from),
                may_raise: false,
            },
            sealed_name: hidden_name(&version, &renamed.to),
        };
        let old = OldSide {
            column: typed(column),
            down: Some(Down {
                expression: renamed.to.to_string(),
                reads: reads(&renamed.to),
                may_raise: false,
                guarded: false,
            }),
            sealed_name: renamed.to.clone(),
            default: default_kind(column),
            not_null: column.not_null,
        };
        mappings.push(mapping(vec![new], vec![old], true));
    }
    for retyped in &work.retyped {
        let Some(column) = known.column(&retyped.column) else { continue };
        let (new, old) = sides(&version, retyped, column, known);
        // All code writes the one name that there is: nothing tells old from new.
        mappings.push(mapping(vec![new], vec![old], false));
    }
    mappings
}

/// A hidden column of the new type, which takes the old one's name at the swap.
fn sides(version: &str, retyped: &Retyped, column: &Column, known: &Table) -> (NewSide, OldSide) {
    // Where two new values could become one old value, a unique index over it would refuse what new code writes.
    let unique = known.indexes.iter().any(|index| index.unique && index.columns.contains(&column.name));
    let leads_back = retyped.conversion.leads_back
        && (!unique || keeps_apart(&retyped.conversion.type_sql, &column.type_sql));
    let fresh = new_name(version, &column.name);
    let itself = || BTreeSet::from([fresh.clone()]);
    let (expression, reads) = match &retyped.down {
        Some(down) => (down.replaced(|_| fresh.to_string()), itself()),
        None if leads_back => (format!("({fresh})::{}", column.type_sql), itself()),
        None if retyped.conversion.by_label => (format!("({fresh})::text::{}", column.type_sql), itself()),
        None => (format!("NULL::{}", column.type_sql), BTreeSet::new()),
    };
    let new = NewSide {
        column: Typed { name: fresh, type_sql: retyped.conversion.type_sql.clone() },
        up: Up::Computed {
            on_insert: None,
            expression: retyped.up.clone(),
            reads: retyped.reads.clone(),
            may_raise: !retyped.is_safe,
        },
        sealed_name: column.name.clone(),
    };
    let old = OldSide {
        column: typed(column),
        down: Some(Down { expression, reads, may_raise: false, guarded: true }),
        sealed_name: hidden_name(version, &column.name),
        default: default_kind(column),
        not_null: false,
    };
    (new, old)
}

/// Whether a cast gives different values for different ones, or none.
fn keeps_apart(from: &str, to: &str) -> bool {
    let whole = |type_sql: &str| ["smallint", "integer", "bigint"].contains(&type_sql);
    ["text", "character varying"].contains(&to) || (whole(from) && whole(to))
}

/// The name of what is built beside something, until it takes its name.
pub(crate) fn new_name(version: &str, name: &Ident) -> Ident {
    Ident::derived(&[HIDDEN, version, "new", name.as_str()])
}

fn down_of(down: &Expression, known: &Table) -> Down {
    Down {
        expression: down.replaced(|column| known.collated(column)),
        reads: down.columns(),
        may_raise: down.may_raise(),
        guarded: false,
    }
}

fn new_side(added: &Added, filled: &Filled) -> NewSide {
    let up = match &filled.fill {
        None => Up::Computed {
            on_insert: added.column.default.as_ref().map(|default| default.expression.text().to_owned()),
            expression: filled.expression.clone(),
            reads: filled.reads.clone(),
            may_raise: filled.may_raise,
        },
        Some(condition) => Up::Fill {
            expression: filled.expression.clone(),
            reads: filled.reads.clone(),
            condition: condition.clone(),
            on_insert: added.column.default.as_ref().map(|default| default.expression.text().to_owned()),
            may_raise: filled.may_raise,
        },
    };
    let column = Typed { name: added.column.name.clone(), type_sql: added.column.type_sql.clone() };
    NewSide { sealed_name: column.name.clone(), column, up }
}

/// The columns by which a row goes to another partition, and those by which it is known; none of an ordinary table.
fn moves_by(known: &Table) -> Vec<Ident> {
    let Some(partitions) = &known.partitions else { return Vec::new() };
    let primary = known.indexes.iter().find(|index| index.primary);
    let key =
        primary.iter().flat_map(|index| &index.columns).filter(|column| !partitions.key.contains(*column));
    partitions.key.iter().chain(key).cloned().collect()
}

fn typed(column: &Column) -> Typed {
    Typed { name: column.name.clone(), type_sql: column.type_sql.clone() }
}

fn default_kind(column: &Column) -> DefaultKind {
    match &column.default {
        Some(default) if column.constant_default => DefaultKind::Constant(default.clone()),
        Some(_) => DefaultKind::Volatile,
        None if column.identity => DefaultKind::Volatile,
        None => DefaultKind::None,
    }
}

/// Columns that the mapping's expressions read and that belong to neither of its sides.
fn others(mapping: &Mapping, work: &TableDraft, known: &Table) -> Vec<Other> {
    let mut reads: BTreeSet<Ident> = mapping.new.iter().flat_map(|new| new.up.reads().clone()).collect();
    reads.extend(mapping.old.iter().filter_map(|old| old.down.as_ref()).flat_map(|down| down.reads.clone()));
    let own: BTreeSet<Ident> = mapping.columns().into_iter().map(|column| column.name).collect();
    reads
        .difference(&own)
        .filter_map(|name| {
            let added = work.added.iter().find(|added| &added.column.name == name);
            let added =
                added.map(|added| Typed { name: name.clone(), type_sql: added.column.type_sql.clone() });
            let column = known.column(name).map(typed).or(added)?;
            // Another mapping of the file may hide it.
            let dropped = work.dropped.iter().any(|dropped| &dropped.column == name)
                || work.retyped.iter().any(|retyped| &retyped.column == name);
            let sealed_name = if dropped { hidden_name(&mapping.version, name) } else { name.clone() };
            Some(Other { column, sealed_name })
        })
        .collect()
}

/// The name under which the seal hides a column.
pub(crate) fn hidden_name(version: &str, column: &Ident) -> Ident {
    Ident::derived(&[HIDDEN, version, column.as_str()])
}
