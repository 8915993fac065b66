//! Installs the ledger, and looks at the server before anything is done to it.

use serde::Deserialize;

use crate::pg::error::PgError;
use crate::pg::session::Session;
use crate::pg::statements::{in_schema, query};
use crate::words::ident::Ident;

const INSTALL: &str = include_str!("sql/install.sql");
const REGISTRY: &str = include_str!("sql/install_registry.sql");

/// The format of the tables that this program understands.
const FORMAT: i64 = 1;

/// What kind of server it is.
#[derive(Debug, Deserialize)]
pub(crate) struct Server {
    pub(crate) version: i64,
    pub(crate) in_recovery: bool,
    pub(crate) version_text: String,
}

/// Looks at the server.
///
/// # Errors
/// Whatever it says.
pub(crate) async fn server(session: &mut Session, ledger: &Ident) -> Result<Server, PgError> {
    let server = session.optional(&query("server", ledger), &[]).await?;
    server.ok_or_else(|| PgError::Answer("the server does not say its version".to_owned()))
}

/// Whether the ledger is installed, and in a format that this program understands.
///
/// # Errors
/// A ledger of another format.
pub(crate) async fn is_installed(session: &mut Session, ledger: &Ident) -> Result<bool, PgError> {
    if !session.one::<bool>(&query("installed", ledger), &[ledger.as_str().into()]).await? {
        return Ok(false);
    }
    let format: i64 = session.one(&query("format", ledger), &[]).await?;
    if format == FORMAT {
        return Ok(true);
    }
    Err(PgError::Answer(format!(
        "the ledger has format {format}, this program knows {FORMAT}; use the migrate that made it"
    )))
}

/// Installs the ledger if it is not there. Many may call it at once.
///
/// # Errors
/// Whatever the server says; nothing is left behind then.
pub(crate) async fn install(session: &mut Session, ledger: &Ident) -> Result<bool, PgError> {
    if is_installed(session, ledger).await? {
        return Ok(false);
    }
    let sql = format!("{}\n{}", in_schema(INSTALL, ledger), in_schema(REGISTRY, ledger));
    // Two installers at once: the second one finds the schema's objects there, and that they are the same.
    session
        .execute("BEGIN; SET LOCAL lock_timeout = '10s'; SELECT pg_advisory_xact_lock(7068374652)")
        .await?;
    let done = match is_installed(session, ledger).await {
        Ok(true) => Ok(false),
        Ok(false) => match foreign_schema(session, ledger).await {
            Ok(None) => session.execute(&sql).await.map(|_| true),
            Ok(Some(owner)) => Err(PgError::Answer(format!(
                "the schema {ledger} belongs to {owner}: name another one (setting `ledger`)"
            ))),
            Err(error) => Err(error),
        },
        Err(error) => Err(error),
    };
    match done {
        Ok(fresh) => session.execute("COMMIT").await.map(|_| fresh),
        Err(error) => {
            session.rollback().await;
            Err(error)
        }
    }
}

/// The owner of a schema of that name, if it is somebody else: what stands there could run with our rights.
async fn foreign_schema(session: &mut Session, ledger: &Ident) -> Result<Option<String>, PgError> {
    #[derive(Deserialize)]
    struct Owner {
        owner: String,
    }
    let sql = "SELECT pg_get_userbyid(n.nspowner) AS owner FROM pg_namespace AS n
               WHERE n.nspname = $1 AND NOT pg_has_role(n.nspowner, 'USAGE')";
    let owner: Option<Owner> = session.optional(sql, &[ledger.as_str().into()]).await?;
    Ok(owner.map(|owner| owner.owner))
}
