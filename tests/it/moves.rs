//! Moves between tables: both sides written by many at once, and what cannot be moved.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use sqlx::{AssertSqlSafe, Executor};

use super::support::{Project, connect, text};

/// Rows that all sessions write.
const ROWS: u64 = 2_000;

const SESSIONS: u64 = 40;

/// A move, and how both versions write and remove a value of one row.
struct Move {
    setup: &'static str,
    migration: &'static str,
    writes: &'static [&'static str],
    removes: &'static [&'static str],
    /// Gives the value of a row on each side, empty where there is none.
    sides: [&'static str; 2],
    /// The values of all rows, also of those that only the source has.
    values: &'static str,
}

const SPLIT: Move = Move {
    setup: "CREATE TABLE people (id bigint PRIMARY KEY, street text);
        INSERT INTO people SELECT i, '0:' || i FROM generate_series(1, 2000) AS i;",
    migration: "CREATE TABLE addresses (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, person bigint UNIQUE REFERENCES people ON DELETE CASCADE, road text NOT NULL);
        INSERT INTO addresses (person, road) SELECT id, street FROM people WHERE street IS NOT NULL;
        ALTER TABLE people DROP COLUMN street;",
    writes: &[
        "UPDATE people SET street = '{v}' WHERE id = {id}",
        "INSERT INTO people (id, street) VALUES ({id}, '{v}') ON CONFLICT (id) DO UPDATE SET street = EXCLUDED.street",
        "INSERT INTO addresses (person, road) VALUES ({id}, '{v}') ON CONFLICT (person) DO UPDATE SET road = EXCLUDED.road",
        "INSERT INTO addresses (person, road) VALUES ({id}, '{v}') ON CONFLICT (person) DO UPDATE SET road = EXCLUDED.road",
    ],
    removes: &["UPDATE people SET street = NULL WHERE id = {id}", "DELETE FROM addresses WHERE person = {id}"],
    sides: [
        "SELECT string_agg(id || '=' || coalesce(street, ''), ' ' ORDER BY id) FROM people WHERE street IS NOT NULL",
        "SELECT string_agg(person || '=' || road, ' ' ORDER BY person) FROM addresses",
    ],
    values: "SELECT string_agg(id || '=' || street, ' ') FROM people",
};

const MOVE: Move = Move {
    setup: "CREATE TABLE people (id bigint PRIMARY KEY, email text);
        CREATE TABLE profiles (id int PRIMARY KEY, person bigint UNIQUE REFERENCES people, seen int);
        INSERT INTO people SELECT i, '0:' || i FROM generate_series(1, 2000) AS i; INSERT INTO profiles SELECT id, id FROM people;",
    migration: "ALTER TABLE profiles ADD COLUMN email text;
        UPDATE profiles SET email = people.email FROM people WHERE people.id = person;
        ALTER TABLE people DROP COLUMN email;",
    writes: &[
        "UPDATE people SET email = '{v}' WHERE id = {id}",
        "UPDATE profiles SET email = '{v}' WHERE person = {id}",
        "UPDATE profiles SET email = '{v}', seen = 1 WHERE id = {id}",
    ],
    removes: &[
        "UPDATE people SET email = NULL WHERE id = {id}",
        "UPDATE profiles SET email = NULL WHERE id = {id}",
        "WITH gone AS (DELETE FROM profiles WHERE id = {id} RETURNING id) UPDATE people SET email = NULL WHERE id = {id}",
        "INSERT INTO profiles (id, person) SELECT id, id FROM people WHERE id = {id} AND email IS NULL ON CONFLICT DO NOTHING",
    ],
    sides: [
        "SELECT string_agg(id || '=' || email, ' ' ORDER BY id) FROM people WHERE email IS NOT NULL AND id IN (SELECT person FROM profiles)",
        "SELECT string_agg(person || '=' || email, ' ' ORDER BY person) FROM profiles WHERE email IS NOT NULL",
    ],
    values: "SELECT string_agg(id || '=' || email, ' ') FROM people",
};

/// What a session did: its last acknowledged write of each row, and how its statements ended.
#[derive(Default)]
struct Session {
    last: BTreeMap<u64, Option<String>>,
    done: u64,
    deadlocks: u64,
    errors: Vec<String>,
}

async fn session(url: String, number: u64, moved: &'static Move, stop: Arc<AtomicBool>) -> Session {
    let mut connection = connect(&url).await;
    let mut account = Session::default();
    let mut count = 0;
    while !stop.load(Ordering::SeqCst) {
        let id = fastrand::u64(1..=ROWS);
        count += 1;
        let value = format!("{number}:{count}");
        let write = fastrand::u8(0..8) > 0;
        let list = if write { moved.writes } else { moved.removes };
        let sql =
            list[fastrand::usize(0..list.len())].replace("{id}", &id.to_string()).replace("{v}", &value);
        match connection.execute(sqlx::raw_sql(AssertSqlSafe(sql.clone()))).await {
            Ok(done) if done.rows_affected() > 0 => drop(account.last.insert(id, write.then_some(value))),
            Ok(_) => {}
            Err(error) => match error.as_database_error().and_then(|error| error.code()).as_deref() {
                Some("40P01") => account.deadlocks += 1,
                _ => account.errors.push(format!("{error}: {sql}")),
            },
        }
        account.done += 1;
        tokio::time::sleep(Duration::from_millis(fastrand::u64(0..40))).await;
    }
    account
}

/// Both sides agree in the end, each row holds the last write of some session, and hardly anything deadlocks.
async fn agree(moved: &'static Move) {
    let project = Project::new(moved.setup, &[("0001_move.sql", moved.migration)]).await;
    let stop = Arc::new(AtomicBool::new(false));
    project.migrate(&["expand"]).await.expect(0);
    let sessions: Vec<_> = (1..=SESSIONS)
        .map(|number| tokio::spawn(session(project.database.url.clone(), number, moved, Arc::clone(&stop))))
        .collect();
    tokio::time::sleep(Duration::from_secs(1)).await;
    project.migrate(&["backfill", "--workers", "2"]).await.expect(0);
    tokio::time::sleep(Duration::from_secs(5)).await;
    stop.store(true, Ordering::SeqCst);
    let mut accounts = Vec::new();
    for session in sessions {
        accounts.push(session.await.unwrap());
    }
    let errors: Vec<&String> = accounts.iter().flat_map(|account| &account.errors).collect();
    assert!(errors.is_empty(), "{} errors, the first: {}", errors.len(), errors[0]);
    let done: u64 = accounts.iter().map(|account| account.done).sum();
    let deadlocks: u64 = accounts.iter().map(|account| account.deadlocks).sum();
    println!("{done} statements of {SESSIONS} sessions on {ROWS} rows, {deadlocks} deadlocks");
    assert!(done > 3_000, "only {done} statements");
    assert!(deadlocks * 1_000 <= done, "{deadlocks} deadlocks in {done} statements");
    let mut connection = project.database.connect().await;
    let (old, new) =
        (text(&mut connection, moved.sides[0]).await, text(&mut connection, moved.sides[1]).await);
    let differ: Vec<(&str, &str)> =
        old.split(' ').zip(new.split(' ')).filter(|(old, new)| old != new).take(5).collect();
    assert_eq!(old, new, "the sides differ: {differ:?}");
    let values = text(&mut connection, moved.values).await;
    let found: BTreeMap<u64, &str> = values
        .split(' ')
        .filter_map(|row| row.split_once('='))
        .map(|(id, value)| (id.parse().unwrap(), value))
        .collect();
    for id in 1..=ROWS {
        let untouched = format!("0:{id}");
        let mut last: BTreeSet<Option<&str>> =
            accounts.iter().filter_map(|account| account.last.get(&id)).map(Option::as_deref).collect();
        if last.is_empty() {
            last.insert(Some(&untouched));
        }
        let value = found.get(&id).copied();
        assert!(last.contains(&value), "row {id} holds {value:?}, the last writes were {last:?}");
    }
    project.migrate(&["verify"]).await.expect(0);
    project.register("web-1", "1").await;
    project.migrate(&["contract", "--soak", "0s"]).await.expect(0).says("0001 is done");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn forty_sessions_that_write_both_sides_of_a_split_table_agree_in_the_end() {
    agree(&SPLIT).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn forty_sessions_that_write_both_sides_of_a_moved_column_agree_in_the_end() {
    agree(&MOVE).await;
}
