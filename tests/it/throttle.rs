//! What a backfill pauses for, and what replicas of either sort see of a migration.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

use pontoon::pg::local_server::LocalServer;
use sqlx::postgres::PgConnection;
use tokio::task::JoinHandle;

use super::support::{Project, Ran, connect, finish, program, run, text};

const SETUP: &str = "CREATE TABLE users (id int PRIMARY KEY, name text NOT NULL);
    INSERT INTO users SELECT n, 'Ada ' || n FROM generate_series(1, 5000) AS n;";

const SPLIT: &str = "ALTER TABLE users ADD COLUMN first_name text;
    UPDATE users SET first_name = split_part(name, ' ', 1);";

/// A command whose words can be read while it runs.
struct Running {
    stderr: PathBuf,
    ended: JoinHandle<Ran>,
}

impl Running {
    fn start(mut command: std::process::Command, folder: &Path) -> Self {
        let stderr = folder.join(format!("stderr-{:x}", fastrand::u64(..)));
        command.stderr(File::create(&stderr).unwrap());
        Self { stderr, ended: tokio::spawn(finish(command)) }
    }

    fn said(&self) -> String {
        std::fs::read_to_string(&self.stderr).unwrap()
    }

    async fn until_it_says(&self, part: &str) {
        while !self.said().contains(part) {
            assert!(!self.ended.is_finished(), "it ended without `{part}`: {}", self.said());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn end(self) -> Ran {
        let said = self.stderr;
        let ran = self.ended.await.unwrap();
        Ran { stderr: std::fs::read_to_string(said).unwrap(), ..ran }
    }
}

/// Waits until a query gives `true`.
async fn until(connection: &mut PgConnection, sql: &str) {
    for _ in 0..1_000 {
        if text(connection, sql).await == "true" {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("never true: {sql}");
}

fn own_server(settings: &[&str]) -> LocalServer {
    LocalServer::start(settings, &|line| println!("{line}"))
        .expect("this test needs a server of its own: install the server binaries")
}

/// A folder of migrations, and its `migrate.toml`.
fn folder(files: &[(&str, &str)], config: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("migrations")).unwrap();
    for (name, sql) in files {
        std::fs::write(folder.path().join("migrations").join(name), sql).unwrap();
    }
    std::fs::write(folder.path().join("migrate.toml"), config).unwrap();
    folder
}

fn command(folder: &tempfile::TempDir, url: &str, arguments: &[&str]) -> std::process::Command {
    let mut command = program(folder.path());
    command.args(arguments).env("DATABASE_URL", url).env("MIGRATE_QUIET", "0s");
    command
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backfill_pauses_while_a_standby_is_behind() {
    let primary = own_server(&[]);
    let url = primary.url("postgres");
    let mut connection = connect(&url).await;
    run(&mut connection, &format!("{SETUP} CHECKPOINT")).await;
    let standby = primary.standby(&["wal_receiver_status_interval=1s"], &|line| println!("{line}")).unwrap();
    let mut replica = connect(&standby.url("postgres")).await;
    until(&mut connection, "SELECT (count(*) = 1)::text FROM pg_stat_replication WHERE state = 'streaming'")
        .await;
    let folder = folder(
        &[
            ("0001_split.sql", SPLIT),
            ("0002_upper.sql", "ALTER TABLE users ADD COLUMN u text; UPDATE users SET u = upper(name);"),
        ],
        "max_replica_lag = \"1s\"",
    );
    finish(command(&folder, &url, &["expand"])).await.expect(0);
    run(&mut replica, "SELECT pg_wal_replay_pause()").await;
    run(&mut connection, "UPDATE users SET name = name WHERE id = 1").await;
    until(&mut connection, "SELECT (replay_lag > '2 s')::text FROM pg_stat_replication").await;
    let running = Running::start(command(&folder, &url, &["backfill", "1", "--workers", "3"]), folder.path());
    running.until_it_says("paused: standby walreceiver at 127.0.0.1 is ").await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    // The row that was written since has been converted by its trigger.
    let converted = "SELECT count(first_name)::text FROM users";
    assert_eq!(text(&mut connection, converted).await, "1");
    // Not its looks at the standby, which take milliseconds: what is open since before the pause.
    let holds = "SELECT count(*)::text FROM pg_stat_activity WHERE application_name LIKE 'migrate%' AND xact_start < now() - interval '1 s'";
    assert_eq!(text(&mut connection, holds).await, "0", "a pause holds a transaction open");
    run(&mut replica, "SELECT pg_wal_replay_resume()").await;
    let ran = running.end().await;
    ran.expect(0).says("s behind (max_replica_lag = 1 s)").says("goes on after a pause of");
    assert_eq!(ran.stderr.matches("paused:").count(), 1, "{}", ran.stderr);
    assert_eq!(text(&mut connection, converted).await, "5000");

    run(&mut replica, "SELECT pg_wal_replay_pause()").await;
    run(&mut connection, "UPDATE users SET name = name WHERE id = 1").await;
    until(&mut connection, "SELECT (replay_lag > '2 s')::text FROM pg_stat_replication").await;
    // A delayed standby is behind for good.
    let config = "max_replica_lag = \"1s\"\nignored_replicas = [\"walreceiver\"]";
    std::fs::write(folder.path().join("migrate.toml"), config).unwrap();
    finish(command(&folder, &url, &["backfill"])).await.expect(0);
    assert_eq!(text(&mut connection, "SELECT count(u)::text FROM users").await, "5000");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lag_that_cannot_be_seen_stops_whoever_asked_for_a_limit() {
    let primary = own_server(&[]);
    let mut connection = connect(&primary.url("postgres")).await;
    run(&mut connection, "CHECKPOINT").await;
    let _standby = primary.standby(&[], &|line| println!("{line}")).unwrap();
    until(&mut connection, "SELECT (count(*) = 1)::text FROM pg_stat_replication WHERE state = 'streaming'")
        .await;
    run(&mut connection, "CREATE ROLE owner LOGIN PASSWORD 'secret'").await;
    run(&mut connection, "CREATE DATABASE app OWNER owner").await;
    let url = primary.url("app");
    let url = format!("postgres://owner:secret@{}", url.split_once('@').unwrap().1);
    run(&mut connect(&url).await, SETUP).await;
    let folder = folder(&[("0001_split.sql", SPLIT)], "");
    finish(command(&folder, &url, &["expand"])).await.expect(0);
    let mut asked = command(&folder, &url, &["backfill"]);
    asked.env("MIGRATE_MAX_REPLICA_LAG", "5s");
    finish(asked).await.expect(4).says("cannot see how far behind").says("GRANT pg_read_all_stats");
    finish(command(&folder, &url, &["backfill"])).await.expect(0).says("GRANT pg_read_all_stats");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backfill_pauses_while_its_own_query_says_so_and_notices_an_abort() {
    let project = Project::new(
        &format!("{SETUP} CREATE TABLE hold (why text); INSERT INTO hold VALUES ('the nightly report')"),
        &[("0001_split.sql", SPLIT)],
    )
    .await;
    let config = |query: &str| {
        std::fs::write(project.path("migrate.toml"), format!("pause_query = \"{query}\"")).unwrap();
    };
    project.migrate(&["expand"]).await.expect(0);
    for broken in ["SELECT", "SELECT why FROM nowhere", "SELECT 1, 2", "DELETE FROM public.hold"] {
        config(broken);
        project.migrate(&["backfill"]).await.expect(2).says("pause_query").says("one column");
    }
    config("SELECT why FROM public.hold -- until it is done");
    let running = Running::start(project.command(&["backfill", "--workers", "2"]), &project.path(""));
    running.until_it_says("paused: the nightly report (pause_query)").await;
    project.migrate(&["abort", "1"]).await.expect(0);
    running.end().await.expect(4).says("was aborted meanwhile");

    project.migrate(&["expand", "--to", "1"]).await.expect(0);
    let running = Running::start(project.command(&["backfill"]), &project.path(""));
    running.until_it_says("paused:").await;
    project.database.run("DELETE FROM hold").await;
    running.end().await.expect(0).says("goes on after a pause");

    // What cannot be asked counts as a reason.
    project.write("0002_upper.sql", "ALTER TABLE users ADD COLUMN u text; UPDATE users SET u = upper(name);");
    project.migrate(&["expand"]).await.expect(0);
    project.database.run("CREATE TABLE rate (per int); INSERT INTO rate VALUES (0)").await;
    config("SELECT 'busy' FROM public.rate WHERE 100 / per > 50");
    let running = Running::start(project.command(&["backfill"]), &project.path(""));
    running.until_it_says("paused: pause_query fails").await;
    project.database.run("UPDATE rate SET per = 100").await;
    running.end().await.expect(0);
    assert_eq!(project.database.text("SELECT count(u)::text FROM users").await, "5000");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_logical_subscriber_that_has_the_columns_goes_on_through_every_phase() {
    let server = own_server(&["wal_level=logical"]);
    let mut admin = connect(&server.url("postgres")).await;
    run(&mut admin, "CREATE DATABASE pub").await;
    run(&mut admin, "CREATE DATABASE sub").await;
    let url = server.url("pub");
    let mut publisher = connect(&url).await;
    let mut subscriber = connect(&server.url("sub")).await;
    run(&mut publisher, &format!("{SETUP} CREATE PUBLICATION p FOR TABLE users")).await;
    run(&mut publisher, "SELECT pg_create_logical_replication_slot('s', 'pgoutput')").await;
    run(
        &mut subscriber,
        "CREATE TABLE users (id int PRIMARY KEY, name text, first_name text, last_name text)",
    )
    .await;
    let source = url.split_once("//").unwrap().1;
    let (login, place) = source.split_once('@').unwrap();
    let (user, password) = login.split_once(':').unwrap();
    let (host, port) = place.split_once('/').unwrap().0.split_once(':').unwrap();
    run(&mut publisher, "INSERT INTO users SELECT n, 'Bob ' || n FROM generate_series(5001, 5100) AS n")
        .await;
    run(
        &mut subscriber,
        &format!(
            "CREATE SUBSCRIPTION s CONNECTION 'host={host} port={port} user={user} password={password} dbname=pub'
             PUBLICATION p WITH (create_slot = false, copy_data = false)"
        ),
    )
    .await;
    let folder = folder(
        &[(
            "0001_split.sql",
            "ALTER TABLE users ADD COLUMN first_name text, ADD COLUMN last_name text;
             UPDATE users SET first_name = split_part(name, ' ', 1), last_name = split_part(name, ' ', 2);
             -- migrate: down name = concat_ws(' ', first_name, last_name)
             ALTER TABLE users DROP COLUMN name;",
        )],
        "",
    );
    let caught_up = "SELECT (confirmed_flush_lsn >= pg_current_wal_lsn())::text FROM pg_replication_slots";
    finish(command(&folder, &url, &["expand"])).await.expect(0);
    run(&mut publisher, "UPDATE users SET name = 'Old Way' WHERE id = 7; UPDATE users SET first_name = 'New' WHERE id = 8; DELETE FROM users WHERE id = 9")
        .await;
    finish(command(&folder, &url, &["backfill"])).await.expect(0);
    let same =
        "SELECT md5(string_agg(concat_ws('/', id, first_name, last_name), ' ' ORDER BY id)) FROM users";
    until(&mut publisher, caught_up).await;
    // The first rows were there before the subscription, and come with the batches that convert them.
    assert_eq!(text(&mut subscriber, "SELECT count(*)::text FROM users").await, "100");
    let behind = format!("{same} WHERE id > 5000");
    assert_eq!(text(&mut publisher, &behind).await, text(&mut subscriber, &behind).await);
    finish(command(
        &folder,
        &url,
        &["contract", "--soak", "0s", "--override", "no-new-instance", "--because", "a test"],
    ))
    .await
    .expect(0);
    run(&mut publisher, "INSERT INTO users VALUES (6000, 'Eve', 'Last')").await;
    until(&mut publisher, caught_up).await;
    assert_eq!(text(&mut publisher, &behind).await, text(&mut subscriber, &behind).await);
    run(
        &mut subscriber,
        "ALTER SUBSCRIPTION s DISABLE; ALTER SUBSCRIPTION s SET (slot_name = NONE); DROP SUBSCRIPTION s",
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backfill_takes_no_end_by_others_for_drift() {
    let project = Project::new(
        &format!("{SETUP} CREATE TABLE t (id int PRIMARY KEY, a text); CREATE TABLE hold (why text); INSERT INTO hold VALUES ('wait')"),
        &[("0001_split.sql", SPLIT), ("0002_name.sql", "ALTER TABLE t RENAME COLUMN a TO b;")],
    )
    .await;
    project.migrate(&["expand"]).await.expect(0);
    let mut waits = project.command(&["backfill"]);
    waits.env("MIGRATE_PAUSE_QUERY", "SELECT why FROM public.hold");
    let running = Running::start(waits, &project.path(""));
    running.until_it_says("paused: wait").await;
    project.migrate(&["abort", "2"]).await.expect(0);
    project.database.run("DELETE FROM hold").await;
    running.end().await.expect(0).says("0001 is ready");
}
