//! One connection to the server, with every setting of its own.

use std::str::FromStr;
use std::time::Duration;

use serde::de::DeserializeOwned;
use sqlx::postgres::{PgArguments, PgConnectOptions, PgConnection, PgSslMode};
use sqlx::query::Query;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Executor, Postgres, Row};

use crate::pg::error::PgError;

/// How long a connection attempt may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Settings that a role or a database may have changed, brought to known values. The timeouts of statements and transactions are
/// off because each long statement has a bound of its own; the idle limit ends a session whose process is frozen in a transaction; to
/// compile a query of the catalog takes longer than to run it.
const SETTINGS: &str = "
SET search_path = pg_catalog, pg_temp;
SET statement_timeout = 0;
SET lock_timeout = '300ms';
SET idle_in_transaction_session_timeout = '60s';
SET idle_session_timeout = 0;
SET synchronous_commit = on;
SET default_transaction_read_only = off;
SET default_transaction_isolation = 'read committed';
SET default_transaction_deferrable = off;
SET row_security = off;
SET standard_conforming_strings = on;
SET DateStyle = 'ISO, MDY';
SET IntervalStyle = 'postgres';
SET bytea_output = 'hex';
SET client_min_messages = warning;
SET default_tablespace = '';
SET check_function_bodies = on;
SET jit = off;
SELECT set_config('transaction_timeout', '0', false) WHERE current_setting('server_version_num')::int >= 170000;
";

/// A database to connect to. Its password is never shown.
#[derive(Clone)]
pub(crate) struct Target {
    options: PgConnectOptions,
}

impl Target {
    /// Reads a URL such as `postgres://user@host:5432/database`.
    ///
    /// # Errors
    /// A text that is no such URL. The message does not repeat it: it may hold a password.
    pub(crate) fn parse(url: &str) -> Result<Self, String> {
        if !url.starts_with("postgres://") && !url.starts_with("postgresql://") {
            return Err("a database URL begins with `postgres://`".to_owned());
        }
        let options = PgConnectOptions::from_str(url).map_err(|_| {
            "the database URL cannot be read; it looks like `postgres://user:password@host:5432/database`, and special \
             characters in the password are percent-encoded"
                .to_owned()
        })?;
        let named =
            url.contains("sslmode=") || url.contains("ssl-mode=") || std::env::var_os("PGSSLMODE").is_some();
        let host = options.get_host();
        let local = options.get_socket().is_some()
            || host.starts_with('/')
            || ["localhost", "127.0.0.1", "::1"].contains(&host);
        // Across a network an unverified server could be anybody.
        let options = if named || local { options } else { options.ssl_mode(PgSslMode::VerifyFull) };
        Ok(Self { options: options.disable_statement_logging() })
    }

    /// The same server, another database.
    #[cfg(test)]
    pub(crate) fn database(&self, name: &str) -> Self {
        Self { options: self.options.clone().database(name) }
    }

    /// Host, port and database, without user and password.
    pub(crate) fn place(&self) -> String {
        let host = self
            .options
            .get_socket()
            .map_or_else(|| self.options.get_host().to_owned(), |socket| socket.display().to_string());
        format!(
            "{host}:{}/{}",
            self.options.get_port(),
            self.options.get_database().unwrap_or(self.options.get_username())
        )
    }
}

/// A value for a placeholder.
#[derive(Debug, Clone)]
pub(crate) enum Param<'a> {
    Text(&'a str),
    Int(i64),
    MaybeInt(Option<i64>),
    Bool(bool),
    Json(serde_json::Value),
    Texts(Vec<String>),
}

impl<'a> From<&'a str> for Param<'a> {
    fn from(text: &'a str) -> Self {
        Self::Text(text)
    }
}

impl From<i64> for Param<'_> {
    fn from(number: i64) -> Self {
        Self::Int(number)
    }
}

impl From<bool> for Param<'_> {
    fn from(flag: bool) -> Self {
        Self::Bool(flag)
    }
}

/// One connection.
pub(crate) struct Session {
    connection: PgConnection,
    /// The backend's process id.
    pub(crate) pid: i32,
    /// Whether a transaction was begun and is not over.
    begun: bool,
}

impl Session {
    /// Connects and brings every setting to a known value.
    ///
    /// # Errors
    /// [`PgError::Unreachable`] with the server's reason.
    pub(crate) async fn connect(target: &Target, name: &str) -> Result<Self, PgError> {
        let mut session = Self::connect_plain(target, name).await?;
        let set = session.execute(SETTINGS).await;
        set.map_err(|error| PgError::Unreachable { target: target.place(), reason: error.to_string() })?;
        Ok(session)
    }

    /// Connects and changes no setting: for a client of the registry, whose connection may be a pooler's.
    ///
    /// # Errors
    /// As [`Self::connect`].
    pub(crate) async fn connect_plain(target: &Target, name: &str) -> Result<Self, PgError> {
        let unreachable = |reason: String| PgError::Unreachable { target: target.place(), reason };
        let options = target.options.clone().application_name(name);
        let connecting = tokio::time::timeout(CONNECT_TIMEOUT, PgConnection::connect_with(&options)).await;
        let connection = match connecting {
            Ok(Ok(connection)) => connection,
            Ok(Err(sqlx::Error::Database(error))) => return Err(unreachable(error.message().to_owned())),
            Ok(Err(error)) => return Err(unreachable(error.to_string())),
            Err(_) => return Err(unreachable(format!("no answer within {} s", CONNECT_TIMEOUT.as_secs()))),
        };
        let mut session = Self { connection, pid: 0, begun: false };
        session.pid = session.one("SELECT pg_backend_pid() AS value", &[]).await?;
        Ok(session)
    }

    /// Runs statements without parameters. Gives the number of rows affected.
    ///
    /// # Errors
    /// The server's refusal of the first statement that fails, or a lost connection.
    pub(crate) async fn execute(&mut self, sql: &str) -> Result<u64, PgError> {
        tracing::debug!(pid = self.pid, sql, "execute");
        // Whatever follows a BEGIN in one message may fail and leave it open.
        self.begun |= sql.starts_with("BEGIN");
        let done = self.connection.execute(raw(sql)).await?;
        self.begun &= sql != "COMMIT" && sql != "ROLLBACK";
        Ok(done.rows_affected())
    }

    /// The rows of a query, each read from its JSON form.
    ///
    /// # Errors
    /// As [`Self::execute`]; and rows that do not have the expected form.
    pub(crate) async fn rows<T: DeserializeOwned>(
        &mut self,
        sql: &str,
        params: &[Param<'_>],
    ) -> Result<Vec<T>, PgError> {
        let sql = format!("WITH q AS (\n{}\n) SELECT to_jsonb(q) FROM q", sql.trim().trim_end_matches(';'));
        tracing::debug!(pid = self.pid, sql, "query");
        let rows = self.connection.fetch_all(bound(&sql, params)).await?;
        rows.iter()
            .map(|row| {
                let value: serde_json::Value = row.try_get(0)?;
                serde_json::from_value(value).map_err(|error| PgError::Answer(error.to_string()))
            })
            .collect()
    }

    /// The first row, if there is one.
    ///
    /// # Errors
    /// As [`Self::rows`].
    pub(crate) async fn optional<T: DeserializeOwned>(
        &mut self,
        sql: &str,
        params: &[Param<'_>],
    ) -> Result<Option<T>, PgError> {
        Ok(self.rows(sql, params).await?.into_iter().next())
    }

    /// The column `value` of the only row.
    ///
    /// # Errors
    /// As [`Self::rows`]; and no row.
    pub(crate) async fn one<T: DeserializeOwned>(
        &mut self,
        sql: &str,
        params: &[Param<'_>],
    ) -> Result<T, PgError> {
        #[derive(serde::Deserialize)]
        struct Value<T> {
            value: T,
        }
        let row: Option<Value<T>> = self.optional(sql, params).await?;
        row.map(|row| row.value).ok_or_else(|| PgError::Answer("a row was expected".to_owned()))
    }

    /// Takes back what the open transaction did; a broken connection has done so already.
    pub(crate) async fn rollback(&mut self) {
        if !self.begun {
            return;
        }
        if let Err(error) = self.execute("ROLLBACK").await {
            tracing::debug!(%error, "rollback");
        }
    }

    /// Says goodbye to the server.
    pub(crate) async fn close(self) {
        if let Err(error) = self.connection.close().await {
            tracing::debug!(%error, "close");
        }
    }

    /// Prepares a statement, to see whether the server understands it.
    ///
    /// # Errors
    /// The server's refusal.
    #[cfg(test)]
    pub(crate) async fn prepare(&mut self, sql: &str) -> Result<(), PgError> {
        use sqlx::SqlSafeStr;
        self.connection.prepare(AssertSqlSafe(sql.to_owned()).into_sql_str()).await?;
        Ok(())
    }
}

/// The text of a plan or of an `.sql` file. Everything that reaches the server passes here or in [`bound`]; names are
/// quoted by `Ident`, values are parameters, the author's text is the author's.
fn raw(sql: &str) -> sqlx::RawSql {
    sqlx::raw_sql(AssertSqlSafe(sql.to_owned()))
}

fn bound<'q>(sql: &str, params: &[Param<'_>]) -> Query<'q, Postgres, PgArguments> {
    let mut query = sqlx::query(AssertSqlSafe(sql.to_owned())).persistent(false);
    for param in params {
        query = match param {
            Param::Text(text) => query.bind((*text).to_owned()),
            Param::Int(number) => query.bind(*number),
            Param::MaybeInt(number) => query.bind(*number),
            Param::Bool(flag) => query.bind(*flag),
            Param::Json(value) => query.bind(value.clone()),
            Param::Texts(texts) => query.bind(texts.clone()),
        };
    }
    query
}
