//! Reads the catalog snapshot and fingerprints.

use crate::model::catalog::Catalog;
use crate::pg::error::PgError;
use crate::pg::session::{Param, Session};
use crate::words::ident::{Ident, QualifiedName};

const SNAPSHOT: &str = include_str!("sql/catalog.sql");
const FINGERPRINT: &str = include_str!("sql/fingerprint.sql");

/// The snapshot of every table whose name is among `words`, with index definitions of those among `renamed`.
///
/// # Errors
/// Whatever the server says.
pub(crate) async fn snapshot(
    session: &mut Session,
    words: Vec<String>,
    renamed: Vec<String>,
    ledger: &Ident,
) -> Result<Catalog, PgError> {
    let catalog = session
        .optional(SNAPSHOT, &[Param::Texts(words), ledger.as_str().into(), Param::Texts(renamed)])
        .await?;
    catalog.ok_or_else(|| PgError::Answer("no catalog snapshot".to_owned()))
}

/// The columns of tables by attnum, as JSON that is equal exactly if nobody changed them.
///
/// # Errors
/// Whatever the server says.
pub(crate) async fn fingerprint(
    session: &mut Session,
    tables: &[QualifiedName],
) -> Result<serde_json::Value, PgError> {
    let names = tables.iter().map(ToString::to_string).collect();
    session.one(FINGERPRINT, &[Param::Texts(names)]).await
}
