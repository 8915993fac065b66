//! What a migration costs, as ratios against plain statements on the same server in the same run.
//!
//! `cargo bench` prints them; `PONTOON_BENCH_ROWS` sets the size of the table (default 500 000).

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a benchmark that cannot go on has nothing to print"
)]

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use pontoon::pg::local_server::LocalServer;
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection, Executor};

const MIGRATION: &str = "ALTER TABLE users ADD COLUMN first_name text, ADD COLUMN last_name text;
UPDATE users SET first_name = split_part(name, ' ', 1), last_name = split_part(name, ' ', 2);
-- migrate: down name = concat_ws(' ', first_name, last_name)
ALTER TABLE users DROP COLUMN name;";

/// Single-row statements of an application that are timed.
const STATEMENTS: u32 = 5_000;

#[tokio::main]
async fn main() {
    let rows: u32 =
        std::env::var("PONTOON_BENCH_ROWS").ok().and_then(|rows| rows.parse().ok()).unwrap_or(500_000);
    let server = LocalServer::start(&["max_wal_size=4GB"], &|line| println!("{line}")).unwrap();
    println!("{rows} rows, {STATEMENTS} single-row statements, {}\n", server.described);

    let mut plain = database(&server, "plain", rows).await;
    let add = MIGRATION.split_once("\nUPDATE").unwrap().0;
    run(&mut plain, add).await;
    let update =
        "UPDATE users SET first_name = split_part(name, ' ', 1), last_name = split_part(name, ' ', 2)";
    let one_statement = timed(run(&mut plain, update)).await;
    let plain_writes = writes(&mut plain, rows).await;

    let mut piecemeal = database(&server, "piecemeal", rows).await;
    run(&mut piecemeal, add).await;
    let in_batches = timed(by_key(&mut piecemeal, update, rows)).await;

    let mut ours = database(&server, "ours", rows).await;
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("migrations")).unwrap();
    std::fs::write(folder.path().join("migrations/0001_split.sql"), MIGRATION).unwrap();
    let migrate = |arguments: &[&str]| {
        let started = Instant::now();
        let status = Command::new(env!("CARGO_BIN_EXE_migrate"))
            .args(arguments)
            .current_dir(folder.path())
            .env("DATABASE_URL", server.url("ours"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .unwrap();
        assert!(status.success(), "{arguments:?}");
        started.elapsed()
    };
    migrate(&["expand"]);
    let synced_writes = writes(&mut ours, rows).await;
    let backfill = migrate(&["backfill"]);

    println!("backfill, with its sweep and verification    {:>8.2} s", backfill.as_secs_f64());
    println!(
        "  against one UPDATE of everything           {:>8.2} s   ratio {:.2}",
        one_statement.as_secs_f64(),
        ratio(backfill, one_statement)
    );
    println!(
        "  against batches of 1000 keys by hand       {:>8.2} s   ratio {:.2}",
        in_batches.as_secs_f64(),
        ratio(backfill, in_batches)
    );
    let each = |took: Duration| took.as_secs_f64() * 1e6 / f64::from(STATEMENTS);
    println!("a write of old code under sync triggers      {:>8.0} µs", each(synced_writes));
    println!(
        "  against the same write without them        {:>8.0} µs   ratio {:.2}",
        each(plain_writes),
        ratio(synced_writes, plain_writes)
    );
}

fn ratio(one: Duration, other: Duration) -> f64 {
    one.as_secs_f64() / other.as_secs_f64()
}

async fn timed(work: impl Future<Output = ()>) -> Duration {
    let started = Instant::now();
    work.await;
    started.elapsed()
}

async fn database(server: &LocalServer, name: &str, rows: u32) -> PgConnection {
    let mut admin = PgConnection::connect(&server.url("postgres")).await.unwrap();
    run(&mut admin, &format!("CREATE DATABASE {name}")).await;
    let mut connection = PgConnection::connect(&server.url(name)).await.unwrap();
    let setup = format!(
        "CREATE TABLE users (id bigint PRIMARY KEY, name text NOT NULL);
         INSERT INTO users SELECT i, 'First' || i || ' Last' || i FROM generate_series(1, {rows}) AS i;
         VACUUM ANALYZE users; CHECKPOINT"
    );
    for statement in setup.split(';') {
        run(&mut connection, statement).await;
    }
    connection
}

async fn run(connection: &mut PgConnection, sql: &str) {
    connection.execute(sqlx::raw_sql(AssertSqlSafe(sql.to_owned()))).await.unwrap();
}

/// What one writes by hand: keys in steps of a thousand, each its own transaction.
async fn by_key(connection: &mut PgConnection, update: &str, rows: u32) {
    for first in (1..=rows).step_by(1_000) {
        run(connection, &format!("{update} WHERE id BETWEEN {first} AND {}", first + 999)).await;
    }
}

/// Writes of old code to rows all over the table.
async fn writes(connection: &mut PgConnection, rows: u32) -> Duration {
    let started = Instant::now();
    for at in 0..STATEMENTS {
        let id = 1 + at * 7_919 % rows;
        run(connection, &format!("UPDATE users SET name = 'Given{at} Family{at}' WHERE id = {id}")).await;
    }
    started.elapsed()
}
