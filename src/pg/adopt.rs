//! The history tables of other migration tools, read to take their databases over.

use serde::Deserialize;

use crate::pg::error::PgError;
use crate::pg::session::Session;
use crate::words::ident::{Ident, QualifiedName};

/// What a tool's history table says.
#[derive(Debug)]
pub(crate) struct History {
    /// As people write it.
    pub(crate) table: String,
    /// The newest version that is applied, as text.
    pub(crate) newest: Option<String>,
    /// Whether a migration failed half way.
    pub(crate) broken: bool,
}

/// A tool's table, the column that only its table of that name has, the newest version, and what tells a failed one.
struct Tool {
    table: &'static str,
    column: &'static str,
    newest: &'static str,
    broken: &'static str,
}

/// Tools that number their migrations. Those that name them by hashes or per application say nothing about an order, and
/// goose keeps what it took back in the same table.
const TOOLS: [Tool; 8] = [
    // Flyway; what it took back is not told from what it did
    Tool {
        table: "flyway_schema_history",
        column: "installed_rank",
        newest: "CASE WHEN bool_and(version ~ '^[0-9]+$' AND type NOT LIKE 'UNDO%') \
                 THEN max(version::numeric) FILTER (WHERE version ~ '^[0-9]+$') END",
        broken: "bool_or(NOT success)",
    },
    // sqlx
    Tool {
        table: "_sqlx_migrations",
        column: "checksum",
        newest: "max(version)",
        broken: "bool_or(NOT success)",
    },
    // golang-migrate
    Tool { table: "schema_migrations", column: "dirty", newest: "max(version)", broken: "bool_or(dirty)" },
    // Rails, dbmate, Ecto
    Tool { table: "schema_migrations", column: "version", newest: NUMBERED, broken: "false" },
    // Refinery
    Tool { table: "refinery_schema_history", column: "version", newest: "max(version)", broken: "false" },
    // Diesel
    Tool { table: "__diesel_schema_migrations", column: "version", newest: NUMBERED, broken: "false" },
    // Knex
    Tool { table: "knex_migrations", column: "migration_time", newest: NAMED, broken: "false" },
    // node-pg-migrate
    Tool { table: "pgmigrations", column: "run_on", newest: NAMED, broken: "false" },
];

/// The newest of versions that should all be numbers.
const NUMBERED: &str = "CASE WHEN bool_and(version::text ~ '^[0-9]+$') \
                        THEN max(version::text::numeric) FILTER (WHERE version::text ~ '^[0-9]+$') END";

/// The same of names that begin with them.
const NAMED: &str = "max(substring(name FROM '^[0-9]+')::numeric)";

const HAS_COLUMN: &str = "SELECT EXISTS (SELECT FROM pg_attribute AS a
    WHERE a.attrelid = to_regclass($1) AND a.attname = $2 AND NOT a.attisdropped) AS value";

/// The histories that are kept in the schemas of the search path.
///
/// # Errors
/// Whatever the server says.
pub(crate) async fn histories(session: &mut Session, search_path: &[Ident]) -> Result<Vec<History>, PgError> {
    #[derive(Deserialize)]
    struct Row {
        newest: Option<String>,
        broken: Option<bool>,
    }
    let mut found: Vec<History> = Vec::new();
    for schema in search_path {
        for tool in &TOOLS {
            let table = QualifiedName::new(schema.clone(), Ident::new(tool.table));
            let quoted = table.to_string();
            let params = [quoted.as_str().into(), tool.column.into()];
            let there: bool = session.one(HAS_COLUMN, &params).await?;
            if !there || found.iter().any(|history| history.table == table.plain()) {
                continue;
            }
            let sql =
                format!("SELECT ({})::text AS newest, {} AS broken FROM {table}", tool.newest, tool.broken);
            let row: Option<Row> = session.optional(&sql, &[]).await?;
            let (newest, broken) = row.map_or((None, None), |row| (row.newest, row.broken));
            found.push(History { table: table.plain(), newest, broken: broken.unwrap_or(false) });
        }
    }
    Ok(found)
}
