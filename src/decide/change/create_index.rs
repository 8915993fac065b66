//! Shape: CREATE [UNIQUE] INDEX.
//! Phases: expand; on a column that the file fills, backfill, after the data; unique on columns that old code
//! writes, itself or through the sync triggers, contract, because it rejects their writes from the moment it is ready.
//! Locks: SHARE UPDATE EXCLUSIVE: always built CONCURRENTLY, whatever was written.
//! Undo: DROP INDEX CONCURRENTLY.
//! Limits: an index on a column that the same file renames goes into a migration of its own.

use crate::decide::change::names::{Space, choose, take};
use crate::decide::change::partitioned_index;
use crate::decide::change::{create_table, supported};
use crate::decide::draft::{Draft, Phase, Touch};
use crate::decide::plan::{Mode, Step, TableLock};
use crate::model::problem::Problem;
use crate::model::sql::{CreateIndex, Statement};
use crate::words::ident::{Ident, QualifiedName, literal};
use crate::words::lock_mode::LockMode;

pub(crate) fn plan(draft: &mut Draft<'_>, statement: &Statement, index: &CreateIndex) -> Result<(), Problem> {
    let table = draft.existing(&index.table)?;
    if draft.created.contains(&table) {
        return create_table::plan_later(draft, statement, &table, "CREATE INDEX");
    }
    let is_view = draft.catalog.table(&table).is_some_and(|known| known.kind == "m");
    if !is_view {
        supported(draft, &index.table, &table)?;
    }
    if index.only {
        return Err(Problem::unsupported(statement.span.clone(), "CREATE INDEX … ON ONLY"));
    }
    let name = index_name(draft, statement, index, &table)?;
    let what = format!("CREATE INDEX {} on {}", name.name.as_str(), table.plain());
    let named = index.name.is_some();
    if named && draft.catalog.relations.iter().any(|relation| relation.name == name) {
        if !index.if_not_exists {
            let title = format!("`{}` exists already", name.plain());
            return Err(Problem::new("exists", statement.span.clone(), title, "this index"));
        }
        let broken = draft
            .catalog
            .table(&table)
            .is_some_and(|known| known.indexes.iter().any(|known| known.name == name.name && !known.valid));
        if !broken {
            draft.note(&statement.span, what, "nothing: the name exists");
            return Ok(());
        }
    }
    let mut filled = 0;
    for column in &index.tail.columns {
        if draft.catalog.table(&table).is_none_or(|known| known.column(column).is_none()) {
            return Err(Problem::no_column(statement.span.clone(), &table, column, "named here"));
        }
        filled += usize::from(draft.added(&table, column).is_some_and(|added| added.is_filled()));
    }
    let all_new = index
        .tail
        .key
        .iter()
        .all(|key| key.as_ref().is_some_and(|column| draft.added(&table, column).is_some()));
    // What fills a column, old code writes: through the sync triggers.
    let by_old_code = !all_new
        || filled > 0
        || index.tail.columns.iter().any(|column| draft.is_filled_below(&table, column));
    let (phase, becomes) = if index.unique && by_old_code && !is_view {
        (Phase::Contract, "contract: a unique index would reject what old code may still write")
    } else if filled > 0 {
        (Phase::Backfill, "backfill: built concurrently, after the data")
    } else {
        (Phase::Expand, "expand: built concurrently")
    };
    for column in &index.tail.columns {
        draft.claim(phase, Touch::Index, &statement.span, &table, column)?;
    }
    draft.note(&statement.span, what, becomes);
    draft.refuse_with_partitions(&statement.span, &table)?;
    if index.unique {
        partitioned_index::check_unique(draft, &statement.span, &table, &index.tail)?;
    }
    let steps =
        partitioned_index::build_index(draft, &statement.span, &table, &name, index.unique, &index.tail)?;
    draft.push_together(phase, &[&table], steps);
    if index.name.is_some() {
        take(draft, &table, &name.name, Space::Index);
    }
    Ok(())
}

/// The step that builds an index concurrently. A half-built one, which even rejects writers when it is unique, is
/// dropped first.
pub(crate) fn concurrent(table: &QualifiedName, name: &QualifiedName, unique: bool, tail: &str) -> Step {
    let unique = if unique { "UNIQUE " } else { "" };
    let index = |flags: String| {
        format!(
            "SELECT EXISTS (\n  SELECT FROM pg_index AS i JOIN pg_class AS c ON c.oid = i.indexrelid \
             JOIN pg_namespace AS n ON n.oid = c.relnamespace\n  WHERE n.nspname = {} AND c.relname = {} AND \
             i.indrelid = to_regclass({}) AND {flags})",
            literal(name.schema.as_str()),
            literal(name.name.as_str()),
            literal(&table.to_string()),
        )
    };
    let verify = index(format!("i.indisvalid AND i.indisready AND i.indisunique = {}", !unique.is_empty()));
    let leftover = index("NOT (i.indisvalid AND i.indisready)".to_owned());
    Step {
        id: String::new(),
        title: format!("build the index {} on {}", name.name.as_str(), table.plain()),
        mode: Mode::Alone {
            verify,
            leftover,
            clean_up: format!("DROP INDEX CONCURRENTLY IF EXISTS {name}"),
            moot: "SELECT false".to_owned(),
        },
        sql: vec![format!("CREATE {unique}INDEX CONCURRENTLY {} ON {table} {tail}", name.name)],
        undo: vec![format!("DROP INDEX CONCURRENTLY IF EXISTS {name}")],
        undo_when: None,
        locks: vec![TableLock { table: table.clone(), mode: LockMode::ShareUpdateExclusive }],
        scans: true,
        stays: None,
    }
}

/// The name as written, or the one that `PostgreSQL` would choose.
fn index_name(
    draft: &mut Draft<'_>,
    statement: &Statement,
    index: &CreateIndex,
    table: &QualifiedName,
) -> Result<QualifiedName, Problem> {
    if let Some(name) = &index.name {
        return Ok(QualifiedName::new(table.schema.clone(), name.name.clone()));
    }
    if !index.tail.names.iter().all(Option::is_some) {
        return Err(Problem::new(
            "index-name",
            statement.span.clone(),
            "this index needs a name",
            "it has none",
        )
        .help("write `CREATE INDEX name ON …`: the name that PostgreSQL would choose is not certain"));
    }
    let keys: Vec<&str> = index.tail.names.iter().flatten().map(Ident::as_str).collect();
    Ok(QualifiedName::new(table.schema.clone(), choose(draft, table, &keys.join("_"), "idx", Space::Index)))
}
