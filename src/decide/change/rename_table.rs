//! Shape: ALTER TABLE … RENAME TO, SET SCHEMA.
//! Phases: expand puts an updatable view under the new name; contract takes the view away, gives the table its new name and
//! leaves a view under the old one for the soak, then drops that.
//! Locks: ACCESS EXCLUSIVE, catalog-only.
//! Undo: the view goes; while sealed, all of it backwards.
//! Limits: until contract new code has a view, which takes no COPY, TRUNCATE, MERGE before version 17, ON CONFLICT ON CONSTRAINT,
//! or GROUP BY the primary key alone; nothing else may happen to the table until then.

use std::ops::Range;

use crate::decide::draft::{Draft, Phase, Touch, step};
use crate::decide::plan::TableLock;
use crate::model::catalog::{Relation, Table};
use crate::model::problem::Problem;
use crate::model::sql::NewName;
use crate::words::ident::{QualifiedName, literal};
use crate::words::lock_mode::LockMode;

/// The first server version whose views can take the rights of whoever asks.
const INVOKER_SINCE: i64 = 150_000;

pub(crate) fn plan(
    draft: &mut Draft<'_>,
    span: &Range<usize>,
    table: &QualifiedName,
    to: &NewName,
) -> Result<(), Problem> {
    let (new, change, back) = match to {
        NewName::Name(name) => (
            QualifiedName::new(table.schema.clone(), name.clone()),
            format!("RENAME TO {name}"),
            format!("RENAME TO {}", table.name),
        ),
        NewName::Schema(schema) => (
            QualifiedName::new(schema.clone(), table.name.clone()),
            format!("SET SCHEMA {schema}"),
            format!("SET SCHEMA {}", table.schema),
        ),
        NewName::Label(..) | NewName::Attribute(..) => return Ok(()),
    };
    let Some(known) = draft.catalog.table(table).cloned() else { return Ok(()) };
    refuse(draft, span, &known, &new)?;
    for column in &known.columns {
        draft.claim(Phase::Contract, Touch::Change, span, table, &column.name)?;
    }
    draft.note(
        span,
        format!("ALTER TABLE {} {change}", table.plain()),
        "expand: an updatable view has the new name; contract: the table takes it, a view has the old one for the soak",
    );
    draft.warnings.push(format!(
        "until contract {} is a view: no COPY, TRUNCATE, MERGE before version 17, ON CONFLICT ON CONSTRAINT, GROUP BY the primary \
         key alone",
        new.plain()
    ));
    let invoker = draft.catalog.server_version >= INVOKER_SINCE;
    let made = view(&known, table, &new, invoker);
    draft.push(
        Phase::Expand,
        step(
            format!("a view {} on {}", new.plain(), table.plain()),
            made.clone(),
            vec![format!("DROP VIEW IF EXISTS {new}")],
            Vec::new(),
        ),
    );
    // As whoever reads the view does: the view first, then what it stands for.
    let mut swap = vec![
        format!("LOCK TABLE {new} IN ACCESS EXCLUSIVE MODE"),
        copy_grants(&new, table),
        format!("DROP VIEW {new}"),
        format!("ALTER TABLE {table} {change}"),
    ];
    swap.extend(view(&known, &new, table, invoker));
    let mut undo = vec![
        format!("LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE"),
        copy_grants(table, &new),
        format!("DROP VIEW {table}"),
        format!("ALTER TABLE {new} {back}"),
    ];
    undo.extend(made);
    let lock = |table: &QualifiedName| TableLock { table: table.clone(), mode: LockMode::AccessExclusive };
    let title = format!("{} becomes {}", table.plain(), new.plain());
    draft.push_seal(step(title, swap, undo, vec![lock(&new), lock(table)]));
    let title = format!("drop the view {}", table.plain());
    draft.push_drop(step(title, vec![format!("DROP VIEW {table}")], Vec::new(), vec![lock(table)]));
    draft.table(table);
    draft.stands_in(&new, table);
    draft.catalog.relations.push(Relation { name: new });
    Ok(())
}

fn refuse(draft: &Draft<'_>, span: &Range<usize>, known: &Table, new: &QualifiedName) -> Result<(), Problem> {
    let table = &known.name;
    if draft.catalog.relations.iter().any(|relation| &relation.name == new)
        || draft.catalog.objects.contains(&format!("type:{}", new.plain()))
    {
        let title = format!("`{}` exists already", new.plain());
        return Err(Problem::new("exists", span.clone(), title, "this name"));
    }
    if draft.is_in_flight(table) {
        let title = format!("an earlier migration is still moving columns of `{}`", table.plain());
        return Err(Problem::in_flight(span.clone(), title, "this would take its table away", None));
    }
    if draft.tables.iter().any(|work| &work.name == table) {
        let title = format!("the file does more to `{}` than to rename it", table.plain());
        return Err(Problem::new("order", span.clone(), title, "renamed here")
            .help("split the file: the rename goes into a migration of its own"));
    }
    if known.row_security && draft.catalog.server_version < INVOKER_SINCE {
        return Err(Problem::unsupported(
            span.clone(),
            "renaming a table with row security before version 15 of the server",
        )
        .help("a view there would show all rows to everybody"));
    }
    Ok(())
}

/// The statements that make a view of one name on a table of another, with the table's grants.
fn view(known: &Table, on: &QualifiedName, name: &QualifiedName, invoker: bool) -> Vec<String> {
    let option = if invoker { " WITH (security_invoker = true)" } else { "" };
    let columns: Vec<String> = known.columns.iter().map(|column| column.name.to_string()).collect();
    let mut sql = vec![
        format!("CREATE VIEW {name}{option} AS SELECT {} FROM {on}", columns.join(", ")),
        format!("ALTER VIEW {name} OWNER TO {}", known.owner),
    ];
    // Default privileges may have given it more than the table has.
    sql.push(each_grant(
        name,
        &format!("format('REVOKE ALL ON %s FROM %s', {}, made.grantee)", literal(&name.to_string())),
    ));
    sql.push(copy_grants(on, name));
    sql
}

/// A block that grants on one relation what is granted on another, by whom and whenever.
fn copy_grants(from: &QualifiedName, to: &QualifiedName) -> String {
    let to = literal(&to.to_string());
    each_grant(from, &format!("format('GRANT %s ON %s TO %s%s', made.what, {to}, made.grantee, made.option)"))
}

/// A block that executes something for each grant on a relation, but for those of its owner.
fn each_grant(on: &QualifiedName, execute: &str) -> String {
    format!(
        "DO $pontoon$\nDECLARE\n  made record;\nBEGIN\n  \
         FOR made IN SELECT g.privilege_type || coalesce(' (' || quote_ident(a.attname) || ')', '') AS what, coalesce(quote_ident(r.rolname), 'PUBLIC') AS grantee,\n      \
         CASE WHEN g.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END AS option\n    \
         FROM (SELECT c.relacl AS acl, c.relowner, NULL::name AS attname FROM pg_class AS c WHERE c.oid = {name}::regclass\n      \
         UNION ALL SELECT a.attacl, c.relowner, a.attname FROM pg_attribute AS a JOIN pg_class AS c ON c.oid = a.attrelid\n      \
         WHERE a.attrelid = {name}::regclass AND NOT a.attisdropped) AS a\n    \
         CROSS JOIN LATERAL aclexplode(a.acl) AS g LEFT JOIN pg_roles AS r ON r.oid = g.grantee\n    \
         WHERE g.grantee <> a.relowner\n  LOOP\n    \
         EXECUTE {execute};\n  \
         END LOOP;\nEND\n$pontoon$",
        name = literal(&on.to_string()),
    )
}
