//! The kinds of change, one file each. Every file has a `plan` function that reads one statement or subcommand, says
//! what becomes of it, and adds its part to the draft; [`table`] then puts the parts of one table together.
//!
//! To add a kind: give the statement a type in `model::sql`, write its file here, name it in the match below.

pub(crate) mod across;
pub(crate) mod add_check;
pub(crate) mod add_column;
pub(crate) mod add_foreign_key;
pub(crate) mod add_key;
pub(crate) mod alter_type;
pub(crate) mod as_written;
pub(crate) mod constraint;
pub(crate) mod create_index;
pub(crate) mod create_object;
pub(crate) mod create_on_table;
pub(crate) mod create_table;
pub(crate) mod data_job;
pub(crate) mod describe;
pub(crate) mod drop_column;
pub(crate) mod drop_constraint;
pub(crate) mod drop_default;
pub(crate) mod drop_not_null;
pub(crate) mod drop_object;
pub(crate) mod fill_column;
pub(crate) mod hand_over;
pub(crate) mod insert_values;
mod late_rows;
mod leaving;
mod let_go;
pub(crate) mod mapping;
pub(crate) mod move_columns;
pub(crate) mod move_limits;
pub(crate) mod move_source;
mod move_steps;
pub(crate) mod names;
pub(crate) mod partition;
mod partition_rule;
pub(crate) mod partitioned;
pub(crate) mod partitioned_foreign_key;
pub(crate) mod partitioned_index;
pub(crate) mod publication;
pub(crate) mod rename_column;
pub(crate) mod rename_constraint;
pub(crate) mod rename_object;
pub(crate) mod rename_table;
pub(crate) mod repair;
pub(crate) mod retype;
pub(crate) mod revoke;
pub(crate) mod row_security;
pub(crate) mod sequence;
pub(crate) mod set_default;
pub(crate) mod set_not_null;
pub(crate) mod setting;
pub(crate) mod split_table;
pub(crate) mod swap_index;
mod swap_not_null;
pub(crate) mod table;
pub(crate) mod validate_constraint;

use std::ops::Range;

use crate::decide::draft::Draft;
use crate::model::catalog::ObjectRef;
use crate::model::directive::{Directive, Placed};
use crate::model::problem::Problem;
use crate::model::sql::{Action, Name, Statement, StatementKind};
use crate::words::ident::QualifiedName;

/// Plans one statement.
///
/// # Errors
/// Everything about it that is unknown, unsupported or does not fit.
pub(crate) fn plan(draft: &mut Draft<'_>, statement: &Statement) -> Result<(), Vec<Problem>> {
    let phase = statement.directives.iter().find_map(|placed| match placed.directive {
        Directive::Phase(phase) => Some(phase),
        Directive::Down { .. } | Directive::Allow { .. } => None,
    });
    draft
        .check_objects(statement)
        .and_then(|()| draft.check_data_order(statement))
        .and_then(|()| draft.refuse_followed(statement))
        .and_then(|()| draft.refuse_by_position(statement))
        .map_err(|problem| vec![problem])?;
    if let Some(phase) = phase {
        return as_written::plan(draft, statement, phase).map_err(|problem| vec![problem]);
    }
    draft.refuse_behind_detach(statement).map_err(|problem| vec![problem])?;
    let unused = unused_directives(statement);
    if !unused.is_empty() {
        return Err(unused);
    }
    let one = |result: Result<(), Problem>| result.map_err(|problem| vec![problem]);
    if let Some(at) = draft.in_place(statement) {
        return one(in_place(draft, statement, at));
    }
    match &statement.kind {
        StatementKind::AlterTable { table, if_exists, actions } => {
            alter_table(draft, statement, table, *if_exists, actions)
        }
        StatementKind::CreateTable { .. } => one(create_table::plan(draft, statement)),
        StatementKind::CreateIndex(index) => one(create_index::plan(draft, statement, index)),
        StatementKind::Update { .. } => one(fill_column::plan(draft, statement)),
        StatementKind::Data(change) => one(data_job::plan(draft, statement, change)),
        StatementKind::InsertValues { table, .. } => one(insert_values::plan(draft, statement, table)),
        StatementKind::CreateObject(object) => one(create_object::plan(draft, statement, object)),
        StatementKind::CreateOnTable(object) => one(create_on_table::plan(draft, statement, object)),
        StatementKind::DropObjects(objects) => one(drop_object::plan(draft, statement, objects)),
        StatementKind::Publication(change) => one(publication::plan(draft, statement, change)),
        StatementKind::Revoke => one(revoke::plan(draft, statement)),
        StatementKind::AddEnumValue => one(create_object::plan_enum_value(draft, statement)),
        StatementKind::Rename(rename) => one(rename_object::plan(draft, statement, rename)),
        StatementKind::Describe(what) => one(describe::plan(draft, statement, what)),
        StatementKind::Other(what) => one(Err(Problem::unsupported(statement.span.clone(), what))),
        StatementKind::Begin | StatementKind::Commit => Ok(()),
    }
}

/// A statement that speaks of what the file puts in the place of something: it means that, and comes with it.
fn in_place(draft: &mut Draft<'_>, statement: &Statement, at: usize) -> Result<(), Problem> {
    let undo = match &statement.kind {
        StatementKind::CreateObject(object) => {
            let name = object.name.as_ref().map(|name| draft.new_name(name));
            create_object::check_names(draft, statement, object)?;
            if let Some(name) = &name {
                draft.touch(ObjectRef::new(object.kind.word(), name), &statement.span)?;
            }
            name.map_or_else(String::new, |name| create_object::drop_sql(object, &name))
        }
        // A grant, a comment or an index goes with what it is on.
        _ => String::new(),
    };
    let what: Vec<&str> = statement.text.split_whitespace().take(2).collect();
    let becomes = "contract: with what stands in the place of the one that is dropped";
    draft.note(&statement.span, what.join(" ").to_uppercase(), becomes);
    draft.replace(at, statement.text.clone(), undo);
    Ok(())
}

fn alter_table(
    draft: &mut Draft<'_>,
    statement: &Statement,
    name: &Name,
    if_exists: bool,
    actions: &[(Range<usize>, Action)],
) -> Result<(), Vec<Problem>> {
    let table = match draft.existing(name) {
        Ok(table) => table,
        Err(_) if if_exists => {
            draft.note(&statement.span, "ALTER TABLE IF EXISTS", "nothing: there is no such table");
            return Ok(());
        }
        Err(problem) => return Err(vec![problem]),
    };
    if draft.created.contains(&table) {
        return create_table::plan_later(draft, statement, &table, "ALTER TABLE")
            .map_err(|problem| vec![problem]);
    }
    supported(draft, name, &table).map_err(|problem| vec![problem])?;
    let mut problems = Vec::new();
    for (span, action) in actions {
        if let Err(problem) = partitioned::check(draft, span, &table, action) {
            problems.push(problem);
            continue;
        }
        let planned = match action {
            Action::AddColumn { column, if_not_exists } => {
                add_column::plan(draft, span, &table, column, *if_not_exists)
            }
            Action::DropColumn { .. } => drop_column::plan(draft, statement, span, &table, action),
            Action::RenameColumn { from, to } => rename_column::plan(draft, span, &table, from, to),
            Action::SetDefault { column, default } => set_default::plan(draft, span, &table, column, default),
            Action::DropDefault { column } => drop_default::plan(draft, span, &table, column),
            Action::SetNotNull { column } => set_not_null::plan(draft, span, &table, column),
            Action::DropNotNull { column } => drop_not_null::plan(draft, span, &table, column),
            Action::AlterType { .. } => alter_type::plan(draft, statement, span, &table, action),
            Action::AddConstraint(constraint) => constraint::plan(draft, span, &table, constraint),
            Action::DropConstraint { name, if_exists, cascade } => {
                drop_constraint::plan(draft, span, &table, name, *if_exists, *cascade)
            }
            Action::ValidateConstraint { name } => validate_constraint::plan(draft, span, &table, name),
            Action::RenameConstraint { from, to } => rename_constraint::plan(draft, span, &table, from, to),
            Action::Setting { text, column, exclusive } => {
                setting::plan(draft, span, &table, text, column.as_ref(), *exclusive)
            }
            Action::RenameTable(to) => rename_table::plan(draft, span, &table, to),
            Action::RowSecurity { .. } => row_security::plan(draft, span, &table, action),
            Action::AttachPartition { partition, bound } => {
                partition::attach(draft, span, &table, partition, bound)
            }
            Action::DetachPartition { partition } => partition::detach(draft, span, &table, partition),
            Action::Other(what) => Err(Problem::unsupported(span.clone(), &format!("ALTER TABLE … {what}"))),
        };
        problems.extend(planned.err());
    }
    if problems.is_empty() { Ok(()) } else { Err(problems) }
}

/// Refuses the kinds of table that are not done yet.
fn supported(draft: &Draft<'_>, name: &Name, table: &QualifiedName) -> Result<(), Problem> {
    supported_table(draft, &name.span, table)
}

/// The same for a table that the file does not name.
fn supported_table(draft: &Draft<'_>, span: &Range<usize>, table: &QualifiedName) -> Result<(), Problem> {
    let Some(known) = draft.catalog.table(table) else { return Ok(()) };
    if known.partitions.is_none() {
        draft.refuse_while_detaching(span, table)?;
    }
    let refuse = |why: &str, help: &str| {
        Err(Problem::new(
            "unsupported-table",
            span.clone(),
            format!("`{}` cannot be migrated: {why}", table.plain()),
            "this table",
        )
        .help(help.to_owned()))
    };
    if let Some(why) = known.unsupported() {
        return refuse(
            &why,
            "ordinary tables are supported, and partitioned ones all of whose partitions are of one owner; a partition changes with the \
             whole; to run this as written, put `-- migrate: phase expand` on the line above (it is then not analysed)",
        );
    }
    if known.row_security && known.row_security_forced && !draft.catalog.bypasses_row_security {
        return refuse(
            "its row security is forced and would hide rows from the backfill",
            "run migrate as a role with BYPASSRLS",
        );
    }
    Ok(())
}

/// `down` directives that no DROP COLUMN of the statement asks for.
fn unused_directives(statement: &Statement) -> Vec<Problem> {
    let drops = |wanted: &crate::words::ident::Ident| {
        match &statement.kind {
        StatementKind::AlterTable { actions, .. } => actions
            .iter()
            .any(|(_, action)| matches!(action, Action::DropColumn { column, .. } | Action::AlterType { column, .. } if column == wanted)),
        _ => false,
    }
    };
    let twice = |wanted: &crate::words::ident::Ident| {
        let same = |placed: &&Placed| matches!(&placed.directive, Directive::Down { column, .. } if column == wanted);
        statement.directives.iter().filter(same).count() > 1
    };
    statement
        .directives
        .iter()
        .filter_map(|Placed { span, directive }| match directive {
            Directive::Down { column, .. } if !drops(column) || twice(column) => Some(
                Problem::new(
                    "directive",
                    span.clone(),
                    format!("`down {}` is not used, or given twice", column.as_str()),
                    "this directive",
                )
                .help("it belongs directly above the statement that drops the column or changes its type"),
            ),
            Directive::Down { .. } | Directive::Phase(_) | Directive::Allow { .. } => None,
        })
        .collect()
}
