//! Shape: CREATE PUBLICATION with or without tables, ALTER PUBLICATION … ADD or DROP TABLE, DROP PUBLICATION.
//! Phases: what publishes more goes to expand; what publishes less to the drop, because subscribers may count on it.
//! Locks: SHARE UPDATE EXCLUSIVE on the tables.
//! Undo: expand's by the matching DROP; what contract took away stays gone.
//! Limits: a table without a replica identity is refused where UPDATE or DELETE are published: the server would refuse those to
//! old code. So are lists of columns and conditions on rows there, FOR ALL TABLES, FOR TABLES IN SCHEMA, SET and RENAME.

use std::ops::Range;

use crate::decide::draft::{Draft, step};
use crate::decide::plan::TableLock;
use crate::model::catalog::{ObjectRef, Publication};
use crate::model::problem::Problem;
use crate::model::sql::{
    Action, PublicationChange, PublicationVerb, PublishedTable, Statement, StatementKind,
};
use crate::words::ident::{Ident, QualifiedName, literal};
use crate::words::lock_mode::LockMode;

pub(crate) fn plan(
    draft: &mut Draft<'_>,
    statement: &Statement,
    change: &PublicationChange,
) -> Result<(), Problem> {
    if let PublicationVerb::Drop { if_exists, cascade } = change.verb {
        return drop(draft, statement, change, if_exists, cascade);
    }
    let Some((name, span)) = change.names.first() else { return Ok(()) };
    let list: Vec<String> = change.tables.iter().map(|table| table.name.to_string()).collect();
    let list = list.join(", ");
    let undo = match change.verb {
        PublicationVerb::DropTables => {
            let listed = known(draft, name, span)?.listed.clone();
            let tables = tables(draft, change)?;
            for (table, written) in tables.iter().zip(&change.tables) {
                if !listed.contains(table) {
                    let title = format!("publication {name} does not list `{}`", table.plain());
                    return Err(Problem::new("unknown-name", written.name.span.clone(), title, "here"));
                }
                if let Some(below) = renamed_below(draft, table) {
                    let title = format!("`{}` would leave the publication under its new name", table.plain());
                    return Err(Problem::new(
                        "order",
                        written.name.span.clone(),
                        title,
                        "this comes with the drop",
                    )
                    .and(below, "this comes with the seal before")
                    .help("split the file"));
                }
            }
            let what = format!("ALTER PUBLICATION {name} DROP TABLE {list}");
            draft.note(&statement.span, what, "contract: with the drop; subscribers may count on it");
            take_away(draft, statement, name, &tables);
            return Ok(());
        }
        PublicationVerb::AddTables => {
            let (listed, changes) = {
                let publication = known(draft, name, span)?;
                (publication.listed.clone(), publication.changes)
            };
            let added = publishable(draft, change, changes)?;
            for (table, written) in added.iter().zip(&change.tables) {
                if listed.contains(table) {
                    let title = format!("publication {name} lists `{}` already", table.plain());
                    return Err(Problem::new("exists", written.name.span.clone(), title, "here"));
                }
            }
            draft.note(
                &statement.span,
                format!("ALTER PUBLICATION {name} ADD TABLE {list}"),
                "expand: run it",
            );
            if let Some(publication) = draft.catalog.publications.iter_mut().find(|known| &known.name == name)
            {
                publication.listed.extend(added.iter().cloned());
            }
            added.iter().map(|table| unlist(name, table)).collect()
        }
        PublicationVerb::Create { inserts_only } => {
            if draft.catalog.publications.iter().any(|known| &known.name == name) {
                let title = format!("publication {name} exists already, or a migration before makes it");
                return Err(Problem::new("exists", span.clone(), title, "this name"));
            }
            let listed = publishable(draft, change, !inserts_only)?.into_iter().collect();
            draft.note(&statement.span, format!("CREATE PUBLICATION {name}"), "expand: run it");
            let (name, changes) = (name.clone(), !inserts_only);
            let made = Publication { name, changes, all_tables: false, listed, tables: Default::default() };
            draft.catalog.publications.push(made);
            vec![format!("DROP PUBLICATION IF EXISTS {}", change.names[0].0)]
        }
        PublicationVerb::Drop { .. } => return Ok(()),
    };
    let locks = locks(draft, &tables(draft, change)?);
    let title = format!("publication {name}: publish more");
    draft.run_in_expand(statement, title, undo, locks)
}

/// Refuses work on a table whose rows the server lets nobody update, because they are published without a replica identity.
pub(crate) fn check_writable(
    draft: &Draft<'_>,
    span: &Range<usize>,
    table: &QualifiedName,
) -> Result<(), Problem> {
    let identified = draft.catalog.table(table).is_none_or(|known| known.replica_identity);
    let by = draft.catalog.publications.iter().find(|known| known.changes && known.publishes(table));
    let Some(by) = by.filter(|_| !identified) else { return Ok(()) };
    let title =
        format!("`{}` has no replica identity, and publication {} publishes it", table.plain(), by.name);
    Err(no_identity(span, title, table))
}

/// What the subscribers of a table's publications must know of columns that come, and of names of columns that are sealed.
pub(crate) fn warn(draft: &mut Draft<'_>, table: &QualifiedName, added: &[Ident], hidden: &[Ident]) {
    let by: Vec<String> = draft
        .catalog
        .publications
        .iter()
        .filter(|known| known.publishes(table))
        .map(|known| known.name.to_string())
        .collect();
    if by.is_empty() || added.is_empty() && hidden.is_empty() {
        return;
    }
    let list = |columns: &[Ident]| columns.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let mut when = Vec::new();
    when.extend((!added.is_empty()).then(|| format!("{} from expand on", list(added))));
    when.extend((!hidden.is_empty()).then(|| format!("{} while sealed", list(hidden))));
    draft.warnings.push(format!(
        "{} is published by {}: a subscription stops where the subscriber's table has not {}",
        table.plain(),
        by.join(", "),
        when.join(", and ")
    ));
}

fn drop(
    draft: &mut Draft<'_>,
    statement: &Statement,
    change: &PublicationChange,
    if_exists: bool,
    cascade: bool,
) -> Result<(), Problem> {
    if cascade {
        return Err(Problem::cascade(statement.span.clone()));
    }
    for (name, span) in &change.names {
        let what = format!("DROP PUBLICATION {name}");
        match known(draft, name, span) {
            Ok(_) => {
                draft.note(&statement.span, what, "contract: with the drop; subscribers may count on it");
                take_away(draft, statement, name, &[]);
            }
            Err(_) if if_exists => {
                draft.note(&statement.span, what, "nothing: there is no such publication");
            }
            Err(problem) => return Err(problem),
        }
    }
    Ok(())
}

fn take_away(draft: &mut Draft<'_>, statement: &Statement, name: &Ident, tables: &[QualifiedName]) {
    let title = format!("publication {name}: publish less");
    let sql = match tables {
        [] => vec![format!("DROP PUBLICATION IF EXISTS {name}")],
        _ => tables.iter().map(|table| unlist(name, table)).collect(),
    };
    let locks = locks(draft, tables);
    draft.run_with_drops(statement, step(title, sql, Vec::new(), locks));
    draft.reserve_object(ObjectRef {
        kind: "publication".to_owned(),
        name: QualifiedName::new(Ident::new(""), name.clone()),
        on_table: None,
        what: format!("publication {name}"),
    });
}

/// The statement below that gives a table another name.
fn renamed_below(draft: &Draft<'_>, table: &QualifiedName) -> Option<Range<usize>> {
    let renames = |statement: &&Statement| match &statement.kind {
        StatementKind::AlterTable { table: name, actions, .. } => {
            draft.existing(name).is_ok_and(|named| &named == table)
                && actions.iter().any(|(_, action)| matches!(action, Action::RenameTable(_)))
        }
        _ => false,
    };
    draft.at_hand().iter().find(renames).map(|statement| statement.span.clone())
}

/// Takes a table out of a publication, if it is in it: somebody else may have done so.
fn unlist(name: &Ident, table: &QualifiedName) -> String {
    format!(
        "DO $pontoon$\nBEGIN\n  IF EXISTS (SELECT FROM pg_publication_rel AS r JOIN pg_publication AS p ON p.oid = r.prpubid\n             \
         WHERE p.pubname = {} AND r.prrelid = to_regclass({})) THEN\n    ALTER PUBLICATION {name} DROP TABLE {table};\n  END IF;\nEND\n$pontoon$",
        literal(name.as_str()),
        literal(&table.to_string())
    )
}

fn known<'a>(draft: &'a Draft<'_>, name: &Ident, span: &Range<usize>) -> Result<&'a Publication, Problem> {
    draft.catalog.publications.iter().find(|known| &known.name == name).ok_or_else(|| {
        Problem::new("unknown-name", span.clone(), format!("there is no publication {name}"), "named here")
    })
}

fn tables(draft: &Draft<'_>, change: &PublicationChange) -> Result<Vec<QualifiedName>, Problem> {
    change.tables.iter().map(|table| draft.existing(&table.name)).collect()
}

/// The tables, if the server goes on taking what old code does to them.
fn publishable(
    draft: &Draft<'_>,
    change: &PublicationChange,
    changes: bool,
) -> Result<Vec<QualifiedName>, Problem> {
    let tables = tables(draft, change)?;
    for (table, PublishedTable { name, narrowed }) in tables.iter().zip(&change.tables) {
        if !changes || draft.created.contains(table) {
            continue;
        }
        super::supported(draft, name, table)?;
        if *narrowed {
            let title = format!("only a part of `{}` is published", table.plain());
            return Err(Problem::new("publication", name.span.clone(), title, "here").help(
                "the server refuses old code's UPDATE and DELETE unless that part holds the replica identity; if it does, put \
                 `-- migrate: phase expand` on the line above the statement (it is then not analysed)",
            ));
        }
        if draft.catalog.table(table).is_some_and(|known| !known.replica_identity) {
            let title = format!("`{}` has no replica identity", table.plain());
            return Err(no_identity(&name.span, title, table));
        }
    }
    Ok(tables)
}

fn no_identity(span: &Range<usize>, title: String, table: &QualifiedName) -> Problem {
    Problem::new("publication", span.clone(), title, "the server would refuse every UPDATE and DELETE of it").help(format!(
        "give it a primary key in a migration before this one, or put `ALTER TABLE {} REPLICA IDENTITY FULL` above",
        table.plain()
    ))
}

/// Nobody else uses those that the file makes.
fn locks(draft: &Draft<'_>, tables: &[QualifiedName]) -> Vec<TableLock> {
    let mut others: Vec<&QualifiedName> =
        tables.iter().filter(|table| !draft.created.contains(*table)).collect();
    others.sort();
    let mode = LockMode::ShareUpdateExclusive;
    others.into_iter().map(|table| TableLock { table: table.clone(), mode }).collect()
}
