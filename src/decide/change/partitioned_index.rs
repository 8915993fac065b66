//! How the indexes and keys of a partitioned table are built: one after the other on its partitions, and then taken over.

use std::ops::Range;

use crate::decide::change::create_index::concurrent;
use crate::decide::change::names::{Space, choose};
use crate::decide::change::partitioned::{if_part, is_part, is_there, refused};
use crate::decide::draft::{Draft, step};
use crate::decide::plan::{Mode, Step, TableLock};
use crate::model::catalog::Partitions;
use crate::model::problem::Problem;
use crate::model::sql::IndexTail;
use crate::words::ident::{Ident, QualifiedName, literal};
use crate::words::lock_mode::LockMode;

/// A partition that came after the plan was made may be read under a lock if it has no more bytes than this.
pub(super) const SMALL: i64 = 8 * 1024 * 1024;

/// A unique index must know in which partition an equal row would be.
pub(super) fn check_unique(
    draft: &Draft<'_>,
    span: &Range<usize>,
    table: &QualifiedName,
    tail: &IndexTail,
) -> Result<(), Problem> {
    let Some(partitions) = draft.catalog.table(table).and_then(|known| known.partitions.as_ref()) else {
        return Ok(());
    };
    let missing = partitions.key.iter().find(|column| !tail.key.iter().flatten().any(|key| &key == column));
    let Some(missing) = missing else { return Ok(()) };
    let title = format!(
        "a unique index of `{}` must hold `{}`, by which it is partitioned",
        table.plain(),
        missing.as_str()
    );
    Err(refused(span, title, "add the column to the index"))
}

/// Refuses an index on columns on which a partition has something of its own.
fn check_own<'a>(
    span: &Range<usize>,
    table: &QualifiedName,
    partitions: &Partitions,
    columns: impl IntoIterator<Item = &'a Ident>,
) -> Result<(), Problem> {
    let Some(column) = columns.into_iter().find(|column| partitions.own.contains(*column)) else {
        return Ok(());
    };
    let title = format!(
        "a partition of `{}` has an index or a constraint of its own on `{}`",
        table.plain(),
        column.as_str()
    );
    Err(refused(span, title, "drop it before: an equal one would be taken over, and be lost with an abort"))
}

/// The steps that build an index, of whatever table, while everybody goes on writing.
pub(super) fn build_index(
    draft: &mut Draft<'_>,
    span: &Range<usize>,
    table: &QualifiedName,
    name: &QualifiedName,
    unique: bool,
    tail: &IndexTail,
) -> Result<Vec<Step>, Problem> {
    let partitions = draft.catalog.table(table).and_then(|known| known.partitions.clone());
    let Some(partitions) = partitions else { return Ok(vec![concurrent(table, name, unique, &tail.text)]) };
    check_own(span, table, &partitions, &tail.columns)?;
    let Some(columns) =
        tail.names.iter().map(|name| name.as_ref().map(Ident::as_str)).collect::<Option<Vec<_>>>()
    else {
        let title = "the names that PostgreSQL would give to the partitions' indexes are not certain";
        return Err(refused(span, title, "index plain columns and calls of functions only"));
    };
    let columns = columns.join("_");
    let names: Vec<QualifiedName> = partitions
        .leaves
        .iter()
        .map(|leaf| {
            QualifiedName::new(
                leaf.name.schema.clone(),
                choose(draft, &leaf.name, &columns, "idx", Space::Index),
            )
        })
        .collect();
    Ok(partitioned_index(table, &partitions, &names, name, unique, &tail.text))
}

/// One index after the other on the partitions, then that of the whole, which takes them over without reading a row. It takes
/// SHARE for a moment: ATTACH PARTITION of each index would take ACCESS EXCLUSIVE on it, which a reader can hold up.
pub(super) fn partitioned_index(
    table: &QualifiedName,
    partitions: &Partitions,
    names: &[QualifiedName],
    name: &QualifiedName,
    unique: bool,
    tail: &str,
) -> Vec<Step> {
    let leaves = || partitions.leaves.iter().zip(names);
    let mut steps: Vec<Step> = leaves()
        .map(|(leaf, index)| if_there(table, &leaf.name, concurrent(&leaf.name, index, unique, tail)))
        .collect();
    let word = if unique { "UNIQUE " } else { "" };
    let guard = late(table, unique, tail, None);
    let sql = vec![
        format!("LOCK TABLE {table} IN SHARE MODE"),
        guard,
        format!("CREATE {word}INDEX {} ON {table} {tail}", name.name),
    ];
    let lock = TableLock { table: table.clone(), mode: LockMode::Share };
    let title = format!("make them one index {} of {}", name.name.as_str(), table.plain());
    let undo =
        vec![format!("LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE"), format!("DROP INDEX IF EXISTS {name}")];
    steps.push(step(title, sql, undo, vec![lock]));
    steps
}

/// The name of an index that is taken back at once.
const LIKE: &str = "_pontoon_like";

/// A block that puts into `make` how the server itself writes down an index of the whole table: from its method on.
fn makes(table: &QualifiedName, unique: bool, tail: &str) -> String {
    let word = if unique { "UNIQUE " } else { "" };
    format!(
        "  BEGIN\n    EXECUTE {};\n    make := regexp_replace(pg_get_indexdef({}::regclass), '^.*? USING ', '');\n    \
         RAISE EXCEPTION USING ERRCODE = 'PN001';\n  EXCEPTION WHEN SQLSTATE 'PN001' THEN\n    NULL;\n  END;\n",
        literal(&format!("CREATE {word}INDEX {LIKE} ON ONLY {table} {tail}")),
        literal(&QualifiedName::new(table.schema.clone(), Ident::new(LIKE)).to_string())
    )
}

/// True for an index `i` of that make.
const OF_THAT_MAKE: &str =
    "i.indisvalid AND regexp_replace(pg_get_indexdef(i.indexrelid), '^.*? USING ', '') = make";

/// A statement that stops a step which would read a partition under its lock: one that came late, or again, and is neither
/// small nor has such an index. `remedy` is what makes it, behind the name of the table, where columns change their names in
/// the same step.
pub(super) fn late(table: &QualifiedName, unique: bool, tail: &str, remedy: Option<&str>) -> String {
    let word = if unique { "UNIQUE " } else { "" };
    let remedy = remedy.map_or_else(|| "'USING ' || make".to_owned(), literal);
    format!(
        "DO $pontoon$\nDECLARE\n  late regclass;\n  make text;\nBEGIN\n{}  \
         SELECT p.relid INTO late FROM pg_partition_tree({}::regclass) AS p\n  \
         WHERE p.isleaf AND pg_relation_size(p.relid) > {SMALL}\n    \
         AND NOT EXISTS (SELECT FROM pg_index AS i WHERE i.indrelid = p.relid AND i.indisunique = {unique} AND {OF_THAT_MAKE})\n  \
         LIMIT 1;\n  IF FOUND THEN\n    RAISE EXCEPTION 'partition % came after the plan was made and has no such index', late\n    \
         USING HINT = format('CREATE {word}INDEX CONCURRENTLY ON %s %s; then run the same command again', late, {remedy});\n  \
         END IF;\nEND\n$pontoon$",
        makes(table, unique, tail),
        literal(&table.to_string())
    )
}

/// A statement that makes such indexes of late partitions constraints, which the key of the whole then takes over.
pub(super) fn adopt(table: &QualifiedName, tail: &str, word: &str, timing: &str) -> String {
    format!(
        "DO $pontoon$\nDECLARE\n  late record;\n  make text;\nBEGIN\n{}  \
         FOR late IN SELECT DISTINCT ON (p.relid) p.relid::regclass AS part, c.relname AS index\n    \
         FROM pg_partition_tree({}::regclass) AS p JOIN pg_index AS i ON i.indrelid = p.relid JOIN pg_class AS c ON c.oid = i.indexrelid\n    \
         WHERE p.isleaf AND i.indisunique AND {OF_THAT_MAKE}\n      \
         AND NOT EXISTS (SELECT FROM pg_constraint AS k JOIN pg_index AS o ON o.indexrelid = k.conindid\n        \
         WHERE k.conrelid = p.relid AND k.contype IN ('p', 'u') AND o.indkey::text = i.indkey::text)\n  LOOP\n    \
         EXECUTE format('ALTER TABLE %s ADD CONSTRAINT %I {word} USING INDEX %I{timing}', late.part, late.index, late.index);\n  \
         END LOOP;\nEND\n$pontoon$",
        makes(table, true, tail),
        literal(&table.to_string())
    )
}

/// A key that a partitioned table gets.
pub(super) struct NewKey<'a> {
    pub(super) columns: &'a [Ident],
    pub(super) included: &'a [Ident],
    /// `UNIQUE` or `PRIMARY KEY`, and what comes before the columns.
    pub(super) word: String,
    /// What its index is made of.
    pub(super) tail: &'a str,
    /// `DEFERRABLE` and its like, with a blank before it.
    pub(super) timing: &'a str,
    /// The end of the names that the server gives: `key` or `pkey`.
    pub(super) label: &'a str,
}

/// The steps that build a unique index on each partition, and the statements that make each a constraint and then the whole's,
/// which takes them over without reading a row.
pub(super) fn key(
    draft: &mut Draft<'_>,
    span: &Range<usize>,
    table: &QualifiedName,
    name: &Ident,
    key: &NewKey<'_>,
) -> Result<(Vec<Step>, Vec<String>), Problem> {
    let partitions = draft.catalog.table(table).and_then(|known| known.partitions.clone());
    let Some(partitions) = partitions else { return Ok((Vec::new(), Vec::new())) };
    draft.refuse_with_partitions(span, table)?;
    if let Some(missing) = partitions.key.iter().find(|column| !key.columns.contains(column)) {
        let title = format!(
            "a key of `{}` must hold `{}`, by which it is partitioned",
            table.plain(),
            missing.as_str()
        );
        return Err(refused(span, title, "add the column to the key"));
    }
    check_own(span, table, &partitions, key.columns)?;
    let primary = key.label == "pkey";
    let named: Vec<&str> =
        key.columns.iter().chain(key.included).filter(|_| !primary).map(Ident::as_str).collect();
    let names: Vec<QualifiedName> = partitions
        .leaves
        .iter()
        .map(|leaf| {
            let name = choose(draft, &leaf.name, &named.join("_"), key.label, Space::Both);
            QualifiedName::new(leaf.name.schema.clone(), name)
        })
        .collect();
    let leaves = || partitions.leaves.iter().zip(&names);
    let steps = leaves()
        .map(|(leaf, index)| if_there(table, &leaf.name, concurrent(&leaf.name, index, true, key.tail)));
    let (word, timing) = (&key.word, key.timing);
    let plain = word.split_once(" NULLS").map_or(word.as_str(), |(plain, _)| plain);
    let mut sql = vec![late(table, true, key.tail, None)];
    sql.extend(leaves().map(|(leaf, index)| {
        let attach = format!(
            "ALTER TABLE {} ADD CONSTRAINT {name} {plain} USING INDEX {name}{timing}",
            leaf.name,
            name = index.name
        );
        if_part(table, &leaf.name, Some(is_there(index)), &attach)
    }));
    sql.push(adopt(table, key.tail, plain, timing));
    let list = |columns: &[Ident]| columns.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let included =
        if key.included.is_empty() { String::new() } else { format!(" INCLUDE ({})", list(key.included)) };
    sql.push(format!(
        "ALTER TABLE {table} ADD CONSTRAINT {name} {word} ({}){included}{timing}",
        list(key.columns)
    ));
    Ok((steps.collect(), sql))
}

/// A partition that was dropped or detached meanwhile needs no index.
pub(super) fn if_there(whole: &QualifiedName, leaf: &QualifiedName, step: Step) -> Step {
    let gone = format!("NOT {}", is_part(whole, leaf));
    let mode = match step.mode {
        Mode::Alone { verify, leftover, clean_up, .. } => {
            Mode::Alone { verify, leftover, clean_up, moot: format!("SELECT {gone}") }
        }
        other => other,
    };
    Step { mode, ..step }
}
