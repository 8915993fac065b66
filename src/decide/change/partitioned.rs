//! What is another matter on a partitioned table: what cannot be done to one, and what may have become of its partitions.

use std::ops::Range;

use crate::decide::change::partitioned_foreign_key;
use crate::decide::draft::Draft;
use crate::decide::plan::Job;
use crate::model::problem::Problem;
use crate::model::sql::{Action, ConstraintKind, KeyIndex, NewConstraint};
use crate::words::ident::{Ident, QualifiedName, literal};

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
            Err(decides(span, table, column))
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
    // One that follows another by its foreign key comes here too.
    if partitions.key.contains(column) {
        return Err(decides(span, table, column));
    }
    let own = partitions.own.contains(column) || partitions.own_defaults.contains(column);
    let what = match (own, partitions.apart.contains(column)) {
        (true, _) => "has an index, a constraint or a default that only a partition has",
        (_, true) => {
            "has a NOT NULL, a right, a comment, statistics, an option or a foreign key that points at it, of one partition alone"
        }
        (false, false) => return Ok(()),
    };
    let title = format!("`{}` of the partitioned table `{}` {what}", column.as_str(), table.plain());
    Err(refused(span, title, "drop it in a migration before, and make it again in one behind"))
}

fn decides(span: &Range<usize>, table: &QualifiedName, column: &Ident) -> Problem {
    let title = format!("`{}` decides in which partition of `{}` a row is", column.as_str(), table.plain());
    refused(span, title, "create a table that is partitioned by the new column, and move the rows there")
}

pub(super) fn refused(span: &Range<usize>, title: impl Into<String>, help: &str) -> Problem {
    Problem::new("partitioned", span.clone(), title.into(), "asked here").help(help.to_owned())
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

/// A statement that stops a step where a partition came in the last moment: nobody has looked at its rows.
pub(super) fn fence(draft: &Draft<'_>, table: &QualifiedName, job: &Job) -> String {
    let ledger = &draft.settings.ledger;
    let version = draft.file.version.number();
    format!(
        "DO $pontoon$\nDECLARE\n  late regclass;\nBEGIN\n  SELECT p.relid INTO late FROM pg_partition_tree({table}::regclass) AS p\n  \
         WHERE p.isleaf\n    AND NOT EXISTS (SELECT FROM {ledger}.job AS j WHERE j.version = {version} AND j.relid = p.relid AND starts_with(j.id, {id}))\n    \
         AND EXISTS (SELECT FROM {ledger}.migration AS m WHERE m.version = {version} AND m.state IN ('closing', 'sealed', 'dropping')) LIMIT 1;\n  \
         IF FOUND THEN\n    RAISE EXCEPTION 'partition % came in the last moment, and nobody has looked at its rows', late USING HINT = 'run the same command again';\n  \
         END IF;\nEND\n$pontoon$",
        table = literal(&table.to_string()),
        id = literal(&job.id),
    )
}
