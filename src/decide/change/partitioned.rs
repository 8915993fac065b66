//! What is another matter on a partitioned table: what cannot be done to one, and how its indexes are built.

use std::ops::Range;

use crate::decide::change::create_index::concurrent;
use crate::decide::change::names::{Space, choose};
use crate::decide::change::partitioned_foreign_key;
use crate::decide::draft::{Draft, step};
use crate::decide::plan::{Job, Mode, Step, TableLock};
use crate::model::catalog::{Constraint, Partitions};
use crate::model::problem::Problem;
use crate::model::sql::{Action, ConstraintKind, IndexTail, KeyIndex, NewConstraint};
use crate::words::ident::{Ident, QualifiedName, literal};
use crate::words::lock_mode::LockMode;

/// A partition that came after the plan was made may be read under a lock if it has no more bytes than this.
pub(super) const SMALL: i64 = 8 * 1024 * 1024;

/// Refuses a change that the server or the protocol cannot do to a partitioned table.
pub(super) fn check(
    draft: &Draft<'_>,
    span: &Range<usize>,
    table: &QualifiedName,
    action: &Action,
) -> Result<(), Problem> {
    let Some(partitions) = draft.catalog.table(table).and_then(|known| known.partitions.as_ref()) else {
        return Ok(());
    };
    draft.refuse_while_detaching(span, table)?;
    match action {
        Action::RenameColumn { from: column, .. }
        | Action::DropColumn { column, .. }
        | Action::AlterType { column, .. }
            if partitions.key.contains(column) =>
        {
            let title =
                format!("`{}` decides in which partition of `{}` a row is", column.as_str(), table.plain());
            Err(refused(
                span,
                title,
                "create a table that is partitioned by the new column, and move the rows there",
            ))
        }
        Action::AddConstraint(constraint) => check_constraint(draft, span, constraint),
        Action::AddColumn { column, .. } => {
            column.constraints.iter().try_for_each(|constraint| check_constraint(draft, span, constraint))
        }
        Action::SetNotNull { column } | Action::DropNotNull { column }
            if partitions.not_null.contains(column)
                && draft
                    .catalog
                    .table(table)
                    .and_then(|known| known.column(column))
                    .is_some_and(|known| !known.not_null) =>
        {
            let title = format!(
                "`{}` is NOT NULL in a partition of `{}`, and not in the whole",
                column.as_str(),
                table.plain()
            );
            Err(refused(
                span,
                title,
                "a reopen could not bring that back: change the partition as written first, `-- migrate: phase expand`",
            ))
        }
        Action::SetDefault { column, .. } | Action::DropDefault { column }
            if partitions.own_defaults.contains(column) =>
        {
            let title = format!(
                "a partition of `{}` has a default of its own for `{}`",
                table.plain(),
                column.as_str()
            );
            Err(refused(span, title, "it would be overwritten: drop it before"))
        }
        Action::Setting { column: None, text, .. } if !text.to_ascii_uppercase().starts_with("OWNER") => {
            Err(refused(
                span,
                "this is a matter of each partition, not of the whole",
                "write it for the partitions",
            ))
        }
        _ => Ok(()),
    }
}

fn check_constraint(
    draft: &Draft<'_>,
    span: &Range<usize>,
    constraint: &NewConstraint,
) -> Result<(), Problem> {
    match &constraint.kind {
        ConstraintKind::Key { index: KeyIndex::Existing(_), .. } => Err(refused(
            span,
            "a partitioned table takes no USING INDEX",
            "write the columns: the partitions' indexes are built one by one",
        )),
        ConstraintKind::ForeignKey { .. }
            if constraint.not_valid && !partitioned_foreign_key::can_be_not_valid(draft) =>
        {
            Err(refused(
                span,
                "before PostgreSQL 18 a partitioned table takes no NOT VALID foreign key",
                "leave it out",
            ))
        }
        ConstraintKind::Check(_) if constraint.text.to_ascii_uppercase().contains("NO INHERIT") => {
            Err(refused(span, "a partitioned table takes no NO INHERIT", "leave it out"))
        }
        _ => Ok(()),
    }
}

/// Refuses a change of type by a swap where what hangs on the column could not be put in its place.
pub(super) fn check_swap(
    draft: &Draft<'_>,
    span: &Range<usize>,
    table: &QualifiedName,
    column: &Ident,
) -> Result<(), Problem> {
    let Some(known) = draft.catalog.table(table) else { return Ok(()) };
    let Some(partitions) = &known.partitions else { return Ok(()) };
    let foreign = known.constraints.iter().any(|key| key.kind == "f" && key.columns.contains(column));
    let points = |key: &Constraint| key.parent.as_ref() == Some(table) && key.parent_columns.contains(column);
    let pointed = draft.catalog.tables.iter().any(|other| other.constraints.iter().any(points));
    let own = partitions.own.contains(column) || partitions.own_defaults.contains(column);
    let what = match (own, partitions.apart.contains(column), foreign || pointed) {
        (true, ..) => "has an index, a constraint or a default that only a partition has",
        (_, true, _) => {
            "has a NOT NULL, a right, a comment, statistics or an option that only a partition has"
        }
        (.., true) => "is part of a foreign key",
        (false, false, false) => return Ok(()),
    };
    let title = format!("`{}` of the partitioned table `{}` {what}", column.as_str(), table.plain());
    Err(refused(span, title, "drop it in a migration before, and make it again in one behind"))
}

/// Refuses a partitioned table for something that is done to ordinary ones only.
pub(super) fn refuse(
    draft: &Draft<'_>,
    span: &Range<usize>,
    table: &QualifiedName,
    what: &str,
) -> Result<(), Problem> {
    let partitioned = draft.catalog.table(table).is_some_and(|known| known.partitions.is_some());
    if !partitioned {
        return Ok(());
    }
    let title = format!("{what} is not done yet for `{}`, which is partitioned", table.plain());
    Err(refused(span, title, "do it by hand in the steps of the classic recipe, each a migration"))
}

pub(super) fn refused(span: &Range<usize>, title: impl Into<String>, help: &str) -> Problem {
    Problem::new("partitioned", span.clone(), title.into(), "asked here").help(help.to_owned())
}

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

/// A statement about a partition that may have been dropped, made again or detached meanwhile: then what hangs on it is its
/// own. It may need something else to be so.
pub(super) fn if_part(
    whole: &QualifiedName,
    part: &QualifiedName,
    needs: Option<String>,
    sql: &str,
) -> String {
    let needs = needs.map_or_else(String::new, |needs| format!("\n    AND {needs}"));
    format!(
        "DO $pontoon$\nBEGIN\n  IF {}{needs} THEN\n    {sql};\n  END IF;\nEND\n$pontoon$",
        is_part(whole, part)
    )
}

/// A condition: something of that name is there.
pub(super) fn is_there(name: &QualifiedName) -> String {
    format!("to_regclass({}) IS NOT NULL", literal(&name.to_string()))
}

/// A condition: one table is among the partitions of the other, at whatever level.
pub(super) fn is_part(whole: &QualifiedName, part: &QualifiedName) -> String {
    format!(
        "EXISTS (SELECT FROM pg_partition_tree({}::regclass) AS p WHERE p.relid = to_regclass({}))",
        literal(&whole.to_string()),
        literal(&part.to_string())
    )
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

/// A statement that stops a step where a partition came in the last moment: nobody has looked at its rows.
pub(super) fn fence(draft: &Draft<'_>, table: &QualifiedName, job: Option<&Job>) -> Option<String> {
    let partitioned = draft.catalog.table(table).is_some_and(|known| known.partitions.is_some());
    let job = job.filter(|_| partitioned)?;
    let ledger = &draft.settings.ledger;
    let version = draft.file.version.number();
    Some(format!(
        "DO $pontoon$\nDECLARE\n  late regclass;\nBEGIN\n  SELECT p.relid INTO late FROM pg_partition_tree({table}::regclass) AS p\n  \
         WHERE p.isleaf\n    AND NOT EXISTS (SELECT FROM {ledger}.job AS j WHERE j.version = {version} AND j.relid = p.relid AND starts_with(j.id, {id}))\n    \
         AND EXISTS (SELECT FROM {ledger}.migration AS m WHERE m.version = {version} AND m.state IN ('closing', 'sealed', 'dropping')) LIMIT 1;\n  \
         IF FOUND THEN\n    RAISE EXCEPTION 'partition % came in the last moment, and nobody has looked at its rows', late USING HINT = 'run the same command again';\n  \
         END IF;\nEND\n$pontoon$",
        table = literal(&table.to_string()),
        id = literal(&job.id),
    ))
}
