//! The registry of instances: the operator's view of it, and a client of the public protocol.

use serde::{Deserialize, Serialize};

use crate::pg::error::PgError;
use crate::pg::session::{Param, Session};
use crate::pg::statements::{in_schema, query};
use crate::words::ident::Ident;

/// A row of the registry.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Instance {
    pub(crate) app: String,
    pub(crate) instance: String,
    pub(crate) schema_version: i64,
    pub(crate) still_uses: Vec<i64>,
    pub(crate) may_serve: bool,
    pub(crate) role: String,
    pub(crate) application_name: String,
    pub(crate) address: Option<String>,
    pub(crate) seen_seconds_ago: i64,
    /// live, expired, gone or left.
    pub(crate) state: String,
}

/// The answer to a registration.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Registered {
    pub(crate) incarnation: i64,
    pub(crate) may_serve: bool,
    pub(crate) reason: Option<String>,
}

/// The answer to a heartbeat.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Beat {
    /// live, expired, closed or unknown.
    pub(crate) state: String,
    pub(crate) may_serve: bool,
    pub(crate) reason: Option<String>,
}

/// Every instance that ever registered.
///
/// # Errors
/// Whatever the server says.
pub(crate) async fn instances(session: &mut Session, ledger: &Ident) -> Result<Vec<Instance>, PgError> {
    session.rows(&query("instances", ledger), &[]).await
}

/// Calls `register` of the public protocol.
///
/// # Errors
/// SQLSTATE PT004 if the version is closed.
pub(crate) async fn register(
    session: &mut Session,
    ledger: &Ident,
    app: &str,
    instance: &str,
    schema_version: &str,
    ttl_seconds: u64,
    still_uses: &[String],
) -> Result<Registered, PgError> {
    let sql = "SELECT r.incarnation, r.may_serve, r.reason FROM pontoon.register($1, $2, $3, $4::text::interval, $5) AS r";
    let ttl = format!("{ttl_seconds} seconds");
    let params = [
        app.into(),
        instance.into(),
        schema_version.into(),
        ttl.as_str().into(),
        Param::Texts(still_uses.to_vec()),
    ];
    let row = session.optional(&in_schema(sql, ledger), &params).await?;
    row.ok_or_else(|| PgError::Answer("register gave no row".to_owned()))
}

/// Calls `heartbeat`.
///
/// # Errors
/// Whatever the server says.
pub(crate) async fn heartbeat(
    session: &mut Session,
    ledger: &Ident,
    app: &str,
    instance: &str,
    incarnation: i64,
) -> Result<Beat, PgError> {
    let sql = "SELECT h.state, h.may_serve, h.reason FROM pontoon.heartbeat($1, $2, $3) AS h";
    let row =
        session.optional(&in_schema(sql, ledger), &[app.into(), instance.into(), incarnation.into()]).await?;
    row.ok_or_else(|| PgError::Answer("heartbeat gave no row".to_owned()))
}

/// Calls `deregister`.
///
/// # Errors
/// Whatever the server says.
pub(crate) async fn deregister(
    session: &mut Session,
    ledger: &Ident,
    app: &str,
    instance: &str,
    incarnation: i64,
) -> Result<bool, PgError> {
    let sql = "SELECT pontoon.deregister($1, $2, $3) AS value";
    session.one(&in_schema(sql, ledger), &[app.into(), instance.into(), incarnation.into()]).await
}
