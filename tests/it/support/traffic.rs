//! Writers that go on all the time, never retry, and account for every write that was acknowledged.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Executor, Row};

use super::kinds::Code;
use super::{connect, run, try_run};

/// What a writer knows must be in the database, and what went wrong.
#[derive(Debug, Default)]
pub(crate) struct Account {
    /// Key and value of each row whose last write was acknowledged.
    pub(crate) rows: BTreeMap<u64, u64>,
    pub(crate) writes: u64,
    pub(crate) errors: Vec<String>,
    pub(crate) slowest: Duration,
}

/// A writer at work.
pub(crate) struct Writer {
    stop: Arc<AtomicBool>,
    pub(crate) writes: Arc<AtomicU64>,
    task: tokio::task::JoinHandle<Account>,
}

/// How a client connects and what its transactions are.
#[derive(Debug, Clone, Default)]
pub(crate) struct Manner {
    /// Runs first on the connection.
    pub(crate) prepare: String,
    /// The isolation level; none for statements on their own.
    pub(crate) level: Option<&'static str>,
    /// Whether it deletes nothing.
    pub(crate) keeps_rows: bool,
    /// How long it waits after a statement, beside the 0 to 6 ms of all.
    pub(crate) pause: Duration,
}

impl Writer {
    /// Starts a writer of one version of the code; `number` gives it keys of its own.
    pub(crate) fn start(url: &str, code: &'static Code, number: u64) -> Self {
        Self::start_as(url, code, number, Manner::default())
    }

    pub(crate) fn start_as(url: &str, code: &'static Code, number: u64, manner: Manner) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let writes = Arc::new(AtomicU64::new(0));
        let write = write(url.to_owned(), code, number, manner, Arc::clone(&stop), Arc::clone(&writes));
        let task = tokio::spawn(write);
        Self { stop, writes, task }
    }

    /// Waits until it has done some more writes.
    pub(crate) async fn progress(&self, more: u64) {
        let (from, started) = (self.writes.load(Ordering::SeqCst), Instant::now());
        while self.writes.load(Ordering::SeqCst) < from + more {
            assert!(
                !self.task.is_finished() && started.elapsed() < Duration::from_secs(30),
                "a writer stands still"
            );
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    pub(crate) async fn stop(self) -> Account {
        self.stop.store(true, Ordering::SeqCst);
        self.task.await.unwrap()
    }
}

async fn write(
    url: String,
    code: &'static Code,
    number: u64,
    manner: Manner,
    stop: Arc<AtomicBool>,
    writes: Arc<AtomicU64>,
) -> Account {
    let mut connection = connect(&url).await;
    run(&mut connection, &manner.prepare).await;
    let mut account = Account::default();
    let base = 1_000_000 * (number + 1);
    let mut words = code.update.split_whitespace();
    let table = words.find(|word| ["UPDATE", "INTO"].contains(word)).and_then(|_| words.next()).unwrap();
    let delete = format!("DELETE FROM {table} WHERE id = {{id}}");
    let mut next = 0;
    let mut value = base;
    while !stop.load(Ordering::SeqCst) {
        value += 1;
        let known = account.rows.len();
        let (id, sql) = match fastrand::u8(0..10) {
            0..3 if known > 20 => {
                let id = *account.rows.keys().nth(fastrand::usize(0..known)).unwrap();
                (id, code.update)
            }
            3 if next > 20 && !manner.keeps_rows => {
                // Only rows of its own: an update of a row that was deleted would be acknowledged and change nothing.
                let Some(id) =
                    account.rows.keys().rev().nth(fastrand::usize(0..20)).copied().filter(|id| *id > base)
                else {
                    continue;
                };
                (id, delete.as_str())
            }
            // A row that was there before, which the backfill may not have reached.
            4..6 => (1 + number * 700 + fastrand::u64(0..700), code.update),
            _ => {
                next += 1;
                (base + next, code.insert)
            }
        };
        let statement = fill(sql, id, value);
        let started = Instant::now();
        match attempt(&mut connection, &manner, &statement).await {
            Ok(_) if sql.starts_with("DELETE") => drop(account.rows.remove(&id)),
            Ok(_) => drop(account.rows.insert(id, value)),
            Err(error) => {
                let detail = error
                    .as_database_error()
                    .and_then(|error| error.try_downcast_ref::<sqlx::postgres::PgDatabaseError>())
                    .and_then(sqlx::postgres::PgDatabaseError::detail)
                    .unwrap_or_default();
                account.errors.push(format!("{error} ({detail}): {statement}"));
            }
        }
        account.slowest = account.slowest.max(started.elapsed());
        account.writes += 1;
        writes.fetch_add(1, Ordering::SeqCst);
        tokio::time::sleep(manner.pause + Duration::from_micros(fastrand::u64(0..6_000))).await;
    }
    account
}

/// Runs a statement. Only a transaction of a higher level is repeated, where its client must be ready for that; gives how
/// often it was.
pub(crate) async fn attempt(
    connection: &mut PgConnection,
    manner: &Manner,
    statement: &str,
) -> Result<u64, sqlx::Error> {
    let Some(level) = manner.level else { return try_run(connection, statement).await.map(|()| 0) };
    let whole = format!("BEGIN ISOLATION LEVEL {level}; {statement}; COMMIT");
    let mut repeated = 0;
    loop {
        let Err(error) = try_run(connection, &whole).await else { return Ok(repeated) };
        run(connection, "ROLLBACK").await;
        repeated += 1;
        let conflict =
            error.as_database_error().is_some_and(|error| error.code().as_deref() == Some("40001"));
        if !conflict {
            return Err(error);
        }
    }
}

fn fill(sql: &str, id: u64, value: u64) -> String {
    sql.replace("{id}", &id.to_string()).replace("{v}", &value.to_string())
}

impl Account {
    #[track_caller]
    pub(crate) fn expect_no_errors(&self, who: &str) {
        assert!(self.errors.is_empty(), "{who}: {} errors, the first: {}", self.errors.len(), self.errors[0]);
        assert!(self.writes > 20, "{who} did only {} writes", self.writes);
    }

    /// The same where the time was too short to ask for a number of writes.
    #[track_caller]
    pub(crate) fn expect_no_errors_at_all(&self, who: &str) {
        assert!(self.errors.is_empty(), "{who}: {} errors, the first: {}", self.errors.len(), self.errors[0]);
    }

    /// Rows that do not hold what was acknowledged, as code of a version sees them.
    pub(crate) async fn wrong(&self, connection: &mut PgConnection, code: &Code) -> Vec<String> {
        let mut wrong = Vec::new();
        let rows: Vec<(&u64, &u64)> = self.rows.iter().collect();
        // Many in one message. A row that is not there gives nothing, which is not true either.
        for rows in rows.chunks(100) {
            let queries: Vec<String> = rows
                .iter()
                .map(|(id, value)| format!("SELECT coalesce(({}), false)", fill(code.sees, **id, **value)))
                .collect();
            let seen = connection
                .fetch_all(sqlx::raw_sql(AssertSqlSafe(queries.join(";"))))
                .await
                .unwrap_or_else(|error| panic!("{error}\n{}", queries[0]));
            assert_eq!(seen.len(), queries.len());
            wrong.extend(
                seen.iter().zip(queries).filter(|(row, _)| !row.get::<bool, _>(0)).map(|(_, query)| query),
            );
        }
        wrong
    }
}
