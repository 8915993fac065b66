//! Reads the catalog snapshot and fingerprints.

use serde_json::{Map, Value};

use crate::decide::plan::SealedColumn;
use crate::model::catalog::{Catalog, Conversion};
use crate::pg::error::PgError;
use crate::pg::session::{Param, Session};
use crate::words::ident::{Ident, QualifiedName};

const SNAPSHOT: &str = include_str!("sql/catalog.sql");
const FINGERPRINT: &str = include_str!("sql/fingerprint.sql");
const THINGS: &str = include_str!("sql/things.sql");
const THINGS_OF_COLUMNS: &str = include_str!("sql/things_of_columns.sql");

/// The snapshot of every table whose name is among `words`, with the definitions of indexes and constraints of those among `defined`.
///
/// # Errors
/// Whatever the server says.
pub(crate) async fn snapshot(
    session: &mut Session,
    words: Vec<String>,
    defined: Vec<String>,
    ledger: &Ident,
) -> Result<Catalog, PgError> {
    let catalog = session
        .optional(SNAPSHOT, &[Param::Texts(words), ledger.as_str().into(), Param::Texts(defined)])
        .await?;
    catalog.ok_or_else(|| PgError::Answer("no catalog snapshot".to_owned()))
}

/// The columns of tables by attnum, as JSON that is equal exactly if nobody changed them.
///
/// # Errors
/// Whatever the server says.
pub(crate) async fn fingerprint(session: &mut Session, tables: &[QualifiedName]) -> Result<Value, PgError> {
    let names = tables.iter().map(ToString::to_string).collect();
    session.one(FINGERPRINT, &[Param::Texts(names)]).await
}

/// What a migration has made, as JSON from what it is to what can be said of it: its sync functions, whose names begin with
/// `prefix`, their triggers, and whatever has one of the names; of columns that are still to be `replaced`, default, NOT NULL,
/// comment and grants.
///
/// # Errors
/// Whatever the server says.
pub(crate) async fn things(
    session: &mut Session,
    names: Vec<String>,
    ledger: &Ident,
    prefix: &str,
    replaced: &[&SealedColumn],
) -> Result<Value, PgError> {
    let params = [Param::Texts(names), ledger.as_str().into(), prefix.into()];
    let mut things: Map<String, Value> = session.one(THINGS, &params).await?;
    if !replaced.is_empty() {
        let texts = |text: fn(&SealedColumn) -> String| {
            Param::Texts(replaced.iter().map(|sealed| text(sealed)).collect())
        };
        let params = [
            texts(|sealed| sealed.table.to_string()),
            texts(|sealed| sealed.column.as_str().to_owned()),
            texts(|sealed| sealed.hidden.as_str().to_owned()),
        ];
        let of_columns: Map<String, Value> = session.one(THINGS_OF_COLUMNS, &params).await?;
        things.extend(of_columns);
    }
    Ok(Value::Object(things))
}

/// The function that a name with types means, as `pg_describe_object` names it; none if there is no such function or type.
///
/// # Errors
/// A lost connection.
pub(crate) async fn function(
    session: &mut Session,
    search_path: &[Ident],
    signature: &str,
) -> Result<Option<String>, PgError> {
    let path: Vec<String> = search_path.iter().map(ToString::to_string).collect();
    session.execute(&format!("BEGIN; SET LOCAL search_path = {}", path.join(", "))).await?;
    let asked = "SELECT coalesce(to_regprocedure($1)::oid::bigint, 0) AS value";
    let found: Result<i64, PgError> = session.one(asked, &[signature.into()]).await;
    session.rollback().await;
    match found {
        Ok(0) => Ok(None),
        Ok(oid) => {
            let described = "SELECT pg_describe_object('pg_proc'::regclass, $1::oid, 0) AS value";
            session.one(described, &[oid.into()]).await.map(Some)
        }
        Err(error) if error.is_lost() => Err(error),
        // A type that does not exist.
        Err(_) => Ok(None),
    }
}

/// Tries a change of a column's type on an empty copy of the table, which is then rolled back: the server's own rules say
/// whether it rewrites. `before` makes what the change may name and is not there yet. Takes ACCESS SHARE on the table.
///
/// # Errors
/// Whatever the server says of the copy; what it says of the change is part of the result.
pub(crate) async fn conversion(
    session: &mut Session,
    search_path: &[Ident],
    before: &[&str],
    table: &QualifiedName,
    column: &Ident,
    asked: &str,
) -> Result<Conversion, PgError> {
    let tried = try_conversion(session, search_path, before, table, column, asked).await;
    session.rollback().await;
    tried
}

/// Storage of the copy and its indexes: another number is a rewrite.
const FILES: &str = "SELECT coalesce(string_agg(pg_relation_filenode(c.oid)::text, ' ' ORDER BY pg_relation_filenode(c.oid)), '') AS value
FROM pg_class AS c WHERE c.oid = 'pg_temp.pontoon_probe'::regclass
   OR c.oid IN (SELECT i.indexrelid FROM pg_index AS i WHERE i.indrelid = 'pg_temp.pontoon_probe'::regclass)";

/// What became of the column. A cast that the server applies by itself, to a type without a length, loses nothing.
const RESULT: &str = "SELECT format_type(a.atttypid, a.atttypmod) AS type_sql, pg_get_expr(d.adbin, 0) AS default,
       a.atttypmod = -1 AND (a.atttypid = o.atttypid OR EXISTS (
           SELECT FROM pg_cast AS c WHERE c.castsource = o.atttypid AND c.casttarget = a.atttypid AND c.castcontext = 'i')) AS is_safe
FROM pg_attribute AS a LEFT JOIN pg_attrdef AS d ON (d.adrelid, d.adnum) = (a.attrelid, a.attnum)
JOIN pg_attribute AS o ON o.attrelid = to_regclass($1) AND o.attname = $2
WHERE a.attrelid = 'pg_temp.pontoon_probe'::regclass AND a.attname = $2";

const TYPE: &str = "SELECT format_type(a.atttypid, a.atttypmod) AS value FROM pg_attribute AS a
WHERE a.attrelid = to_regclass($1) AND a.attname = $2";

/// Whether two types, as `format_type` writes them, are enums.
const ENUMS: &str = "SELECT count(*) = 2 AS value FROM pg_type AS t WHERE t.oid IN (to_regtype($1), to_regtype($2)) AND t.typtype = 'e'";

async fn try_conversion(
    session: &mut Session,
    search_path: &[Ident],
    before: &[&str],
    table: &QualifiedName,
    column: &Ident,
    asked: &str,
) -> Result<Conversion, PgError> {
    #[derive(serde::Deserialize)]
    struct Changed {
        type_sql: String,
        default: Option<String>,
        is_safe: bool,
    }
    let path: Vec<String> = search_path.iter().map(ToString::to_string).collect();
    session
        .execute(&format!(
            "BEGIN; SET LOCAL search_path = {}, pg_temp; CREATE TEMP TABLE pontoon_probe (LIKE {table} INCLUDING ALL)",
            path.join(", ")
        ))
        .await?;
    for statement in before {
        session.execute("SAVEPOINT made").await?;
        // It may need more than is there; then the change says what is missing.
        match session.execute(statement).await {
            Err(error) if error.is_lost() => return Err(error),
            Err(_) => session.execute("ROLLBACK TO SAVEPOINT made").await?,
            Ok(done) => done,
        };
    }
    let before: String = session.one(FILES, &[]).await?;
    let drop_default = format!("ALTER TABLE pg_temp.pontoon_probe ALTER COLUMN {column} DROP DEFAULT");
    let change = format!("ALTER TABLE pg_temp.pontoon_probe ALTER COLUMN {column} TYPE {asked}");
    session.execute("SAVEPOINT before").await?;
    let mut tried = session.execute(&change).await;
    let without_default = matches!(&tried, Err(error) if error.code() == Some("42804"));
    if without_default {
        session.execute("ROLLBACK TO SAVEPOINT before").await?;
        session.execute(&drop_default).await?;
        tried = session.execute(&change).await;
    }
    if let Err(error) = tried {
        let PgError::Refused(refusal) = error else { return Err(error) };
        return Ok(Conversion {
            rewrites: true,
            type_sql: asked.to_owned(),
            default: None,
            without_default,
            is_safe: false,
            leads_back: false,
            by_label: false,
            refused: Some(refusal.to_string()),
        });
    }
    session.execute("SET LOCAL search_path = pg_catalog, pg_temp").await?;
    let after: String = session.one(FILES, &[]).await?;
    let table = table.to_string();
    let changed: Option<Changed> =
        session.optional(RESULT, &[table.as_str().into(), column.as_str().into()]).await?;
    let Changed { type_sql, default, is_safe } =
        changed.ok_or_else(|| PgError::Answer("the copy has lost its column".to_owned()))?;
    let old: String = session.one(TYPE, &[table.as_str().into(), column.as_str().into()]).await?;
    let by_label: bool = session.one(ENUMS, &[old.as_str().into(), type_sql.as_str().into()]).await?;
    let leads_back = session.execute(&format!("SELECT (NULL::{type_sql})::{old}")).await.is_ok();
    let rewrites = before != after;
    Ok(Conversion {
        rewrites,
        type_sql,
        default,
        without_default,
        is_safe,
        leads_back,
        by_label,
        refused: None,
    })
}
