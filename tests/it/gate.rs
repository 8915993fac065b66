//! The gate and the registry, raced and tricked.

use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use super::support::{Project, finish, run, text, try_run};

const SETUP: &str = "CREATE TABLE users (id int PRIMARY KEY, name text); INSERT INTO users SELECT i, 'F L' FROM generate_series(1, 100) AS i;";

const RENAME: &str = "ALTER TABLE users RENAME COLUMN name TO full_name;";

/// A project whose migration is ready to be contracted.
async fn ready() -> Project {
    let project = Project::new(SETUP, &[("0007_rename.sql", RENAME)]).await;
    project.migrate(&["expand"]).await.expect(0);
    project.migrate(&["backfill"]).await.expect(0);
    project.register("web-new", "7").await;
    project
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn register_against_contract_two_hundred_rounds() {
    let project = ready().await;
    let mut connection = project.database.connect().await;
    let (mut closed, mut refused) = (0, 0);
    // How long a contract takes to reach its decision is found out on the way, so that both outcomes come.
    let mut offset_ms = 40.0;
    for round in 0..200 {
        let contract = tokio::spawn(finish(project.command(&["contract"])));
        tokio::time::sleep(Duration::from_secs_f64(offset_ms * fastrand::f64() * 2.0 / 1_000.0)).await;
        let register = format!("SELECT pontoon.register('web', 'old-{round}', '6', '1 minute')");
        let registered = try_run(&mut connection, &register).await.is_ok();
        let ran = contract.await.unwrap();
        match ran.code {
            Some(0) => {
                closed += 1;
                assert!(!registered, "round {round}: contract closed, and an old instance was accepted");
                offset_ms = f64::max(offset_ms * 0.9, 2.0);
                project.migrate(&["reopen", "7"]).await.expect(0);
            }
            Some(4) => {
                refused += 1;
                assert!(registered, "round {round}: refused without a reason\n{}", ran.stdout);
                offset_ms = f64::min(offset_ms * 1.1, 400.0);
                run(&mut connection, &format!("SELECT pontoon.deregister('web', 'old-{round}', incarnation) FROM pontoon.instance WHERE instance = 'old-{round}'")).await;
            }
            other => panic!("round {round}: exit {other:?}\n{}{}", ran.stdout, ran.stderr),
        }
    }
    println!("{closed} closed, {refused} refused");
    assert!(closed > 10 && refused > 10, "{closed} closed, {refused} refused: one outcome is missing");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_contracts_at_once_one_works() {
    let project = ready().await;
    let running: Vec<_> =
        (0..5).map(|_| tokio::spawn(finish(project.command(&["contract", "--soak", "0s"])))).collect();
    let mut worked = 0;
    for one in running {
        let ran = one.await.unwrap();
        assert!(matches!(ran.code, Some(0 | 5)), "exit {:?}\n{}", ran.code, ran.stderr);
        worked += usize::from(ran.stdout.contains("0007 is done"));
    }
    assert_eq!(worked, 1);
    project.migrate(&["contract"]).await.expect(0).says("nothing to contract");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_paused_old_instance_wakes_after_the_seal_to_errors() {
    let project = Project::new(SETUP, &[("0007_rename.sql", RENAME)]).await;
    project.migrate(&["init"]).await.expect(0);
    // Its connection is open all the time, like a pool's.
    let mut pool = project.database.connect().await;
    run(&mut pool, "PREPARE w AS UPDATE users SET name = 'lost?' WHERE id = 1").await;
    let mut command = project.command(&[
        "run",
        "--app",
        "web",
        "--instance",
        "old-1",
        "--schema-version",
        "0",
        "--ttl",
        "1s",
        "--",
        "sleep",
        "600",
    ]);
    let mut old = Killed(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
    wait_for(&project, "SELECT count(*)::text FROM pontoon.instance", "1").await;
    project.migrate(&["expand"]).await.expect(0);
    project.migrate(&["backfill"]).await.expect(0);
    project.register("web-new", "7").await;
    project.migrate(&["contract"]).await.expect(4).says("live-instance");
    let pid = nix::unistd::Pid::from_raw(i32::try_from(old.0.id()).unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGSTOP).unwrap();
    wait_for(&project, "SELECT count(*)::text FROM pontoon.instance WHERE instance = 'old-1' AND expires_at < clock_timestamp()", "1").await;
    project.migrate(&["contract"]).await.expect(4).says("expired-instance");
    // The grace is a minute at least; the stamps move instead of the clock.
    project.database.run("UPDATE pontoon.instance SET last_seen = last_seen - interval '2 minutes', expires_at = expires_at - interval '2 minutes' WHERE instance = 'old-1'").await;
    project.migrate(&["instances"]).await.expect(0).says("gone");
    project.migrate(&["contract"]).await.expect(0).says("sealed");
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGCONT).unwrap();
    assert!(try_run(&mut pool, "EXECUTE w").await.is_err(), "old code wrote to the sealed column");
    let ended = tokio::task::spawn_blocking(move || old.0.wait().unwrap()).await.unwrap();
    assert_eq!(ended.code(), Some(4), "it is told that its version is closed");
    let mut connection = project.database.connect().await;
    assert_eq!(
        text(&mut connection, "SELECT count(*)::text FROM users WHERE full_name = 'F L'").await,
        "100",
        "nothing is lost"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_that_is_in_the_way_is_named_at_once() {
    let project = ready().await;
    std::fs::write(project.path("migrate.toml"), "apps = [\"web\", \"billing\"]\n").unwrap();
    let mut writer = project.database.connect().await;
    run(&mut writer, "SET application_name = 'cron'; UPDATE users SET name = 'by cron' WHERE id = 3").await;
    project.register("web-old", "6").await;
    let mut reader = project.database.connect().await;
    run(&mut reader, "BEGIN; SELECT * FROM users").await;
    let mut preparer = project.database.connect().await;
    let gid = format!("p_{}", project.database.name);
    run(
        &mut preparer,
        &format!("BEGIN; UPDATE users SET full_name = 'x' WHERE id = 9; PREPARE TRANSACTION '{gid}'"),
    )
    .await;
    tokio::time::sleep(Duration::from_millis(1_200)).await;
    let mut command = project.command(&["contract", "--json"]);
    command.env("MIGRATE_QUIET", "1s");
    run(&mut writer, "SELECT set_config('pontoon_note.m7_1', '', false); UPDATE users SET name = 'cron again' WHERE id = 4").await;
    let ran = finish(command).await;
    ran.expect(4);
    let document = ran.json();
    let reasons: Vec<&str> = document["migrations"][0]["reasons"]
        .as_array()
        .unwrap()
        .iter()
        .map(|reason| reason["reason"].as_str().unwrap())
        .collect();
    for expected in ["live-instance", "missing-app", "old-writes", "long-transaction", "prepared-transaction"]
    {
        assert!(reasons.contains(&expected), "{expected} is not among {reasons:?}");
    }
    assert_eq!(document["version"], 1);
    assert_eq!(
        project.database.text("SELECT pontoon.phase('7')").await,
        "ready",
        "a refusal changes nothing"
    );
    run(&mut preparer, &format!("ROLLBACK PREPARED '{gid}'")).await;
    run(&mut reader, "ROLLBACK").await;
    project.database.run("SELECT pontoon.deregister(app, instance, incarnation) FROM pontoon.instance WHERE instance = 'web-old'").await;
    // One reason may be overlooked, with a word that is kept.
    project
        .migrate(&["contract", "--override", "missing-app", "--because", "billing is retired"])
        .await
        .expect(0);
    let kept =
        project.database.text("SELECT detail ->> 'because' FROM pontoon.event WHERE what = 'override'").await;
    assert_eq!(kept, "billing is retired");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn run_waits_until_it_may_serve_and_passes_the_exit_code_on() {
    let project = Project::new(SETUP, &[("0007_rename.sql", RENAME)]).await;
    let waiting = tokio::spawn(finish(project.command(&[
        "run",
        "--app",
        "web",
        "--schema-version",
        "7",
        "--",
        "sh",
        "-c",
        "exit 17",
    ])));
    project.migrate(&["expand"]).await.expect(0);
    wait_for(&project, "SELECT count(*)::text FROM pontoon.instance WHERE NOT may_serve", "1").await;
    assert!(!waiting.is_finished(), "it started before its columns were filled");
    project.migrate(&["backfill"]).await.expect(0);
    waiting.await.unwrap().expect(17);
    assert_ne!(project.database.text("SELECT deregistered_at::text FROM pontoon.instance").await, "");
    project
        .migrate(&["run", "--app", "web", "--schema-version", "9", "--wait", "1s", "--", "true"])
        .await
        .expect(4)
        .says("not expanded here");
    project.migrate(&["contract"]).await.expect(0);
    project
        .migrate(&["run", "--app", "web", "--schema-version", "6", "--", "true"])
        .await
        .expect(4)
        .says("oldest accepted version is 0007");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_client_registers_waits_serves_and_hears_of_its_end() {
    use pontoon::client::{ClientError, Options, Registration, Status};

    let project = Project::new(SETUP, &[("0007_rename.sql", RENAME)]).await;
    let options = |instance: &str, version: &str| {
        let mut options = Options::new(&project.database.url, "web", instance, version);
        options.ttl = Duration::from_secs(1);
        options
    };
    let new = Registration::start(options("new", "7")).unwrap();
    let old = Registration::start(options("old", "6")).unwrap();
    project.migrate(&["expand"]).await.expect(0);
    let mut watch = new.watch();
    watch
        .wait_for(|status| matches!(status, Status::Waiting(why) if why.contains("0007 is expanded")))
        .await
        .unwrap();
    project.migrate(&["backfill"]).await.expect(0);
    new.serving().await.unwrap();
    project.migrate(&["contract"]).await.expect(4).says("web old (schema 0006)").says("live-instance");
    old.leave().await;
    project.migrate(&["contract"]).await.expect(0).says("sealed");
    let late = Registration::start(options("late", "6")).unwrap();
    assert!(
        matches!(late.serving().await, Err(ClientError::Closed(why)) if why.contains("oldest accepted version is 0007"))
    );
    assert_eq!(new.status(), Status::Serving);
    assert!(matches!(Registration::start(options("odd", "x")), Err(ClientError::Options(_))));
    new.leave().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn abort_is_refused_while_new_code_serves() {
    let project = ready().await;
    project.migrate(&["abort", "7"]).await.expect(4).says("web web-new").says("roll the application back");
    project.database.run("SELECT pontoon.deregister(app, instance, incarnation) FROM pontoon.instance").await;
    project.migrate(&["abort", "7"]).await.expect(0).says("aborted");
    project.migrate(&["expand"]).await.expect(0).says("migrate expand --to 0007");
    project.migrate(&["expand", "--to", "7"]).await.expect(0).says("0007 is expanded");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_expand_behind_a_long_reader_stops_nobody_for_long() {
    let project = Project::new(SETUP, &[("0007_rename.sql", RENAME)]).await;
    let mut reader = project.database.connect().await;
    run(&mut reader, "BEGIN; SELECT count(*) FROM users").await;
    let expand = tokio::spawn(finish(project.command(&["expand"])));
    let mut client = project.database.connect().await;
    let (started, mut slowest) = (Instant::now(), Duration::ZERO);
    while started.elapsed() < Duration::from_secs(10) {
        let one = Instant::now();
        run(&mut client, "UPDATE users SET name = 'still here' WHERE id = 5").await;
        slowest = slowest.max(one.elapsed());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(!expand.is_finished(), "it did not wait for the reader");
    run(&mut reader, "COMMIT").await;
    expand.await.unwrap().expect(0).says("in the way: session");
    assert!(slowest < Duration::from_millis(1_300), "a statement waited {slowest:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn status_and_plan_wait_for_nobody() {
    for (arguments, point) in [
        (&["expand"][..], "step.before_commit@1"),
        (&["backfill"], "backfill.updated@1"),
        (&["contract"], "step.before_commit@1"),
        (&["contract"], "contract.before_close@1"),
    ] {
        let project = Project::new(
            SETUP,
            &[("0007_rename.sql", RENAME), ("0008_more.sql", "ALTER TABLE users ADD COLUMN age int;")],
        )
        .await;
        for command in ["expand", "backfill"] {
            if command != arguments[0] && !(arguments[0] == "backfill" && command == "backfill") {
                project.migrate(&[command]).await.expect(0);
            }
            if command == arguments[0] {
                break;
            }
        }
        if arguments[0] == "contract" {
            project.register("web", "8").await;
        }
        let pause = project.path("paused");
        let mut command = project.command(arguments);
        command.env("PONTOON_FAULT", point).env("PONTOON_FAULT_PAUSE", &pause);
        let running = tokio::spawn(finish(command));
        while !pause.exists() {
            assert!(!running.is_finished(), "{arguments:?} did not pass {point}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        for look in [&["status"][..], &["plan"], &["instances"], &["contract", "--check"]] {
            let started = Instant::now();
            let ran = project.migrate(look).await;
            assert!(matches!(ran.code, Some(0 | 4)), "{look:?}: {ran:?}");
            assert!(
                started.elapsed() < Duration::from_secs(2),
                "{look:?} took {:?} while {arguments:?} held its locks",
                started.elapsed()
            );
        }
        std::fs::remove_file(&pause).unwrap();
        running.await.unwrap().expect(0);
    }
}

/// A process that does not outlive a test that fails.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
    }
}

async fn wait_for(project: &Project, sql: &str, expected: &str) {
    let mut connection = project.database.connect().await;
    let started = Instant::now();
    while text(&mut connection, sql).await != expected {
        assert!(started.elapsed() < Duration::from_secs(20), "{sql} never became {expected}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn writes_to_a_table_that_is_dropped_close_the_gate_and_cascades_do_not() {
    let setup = "CREATE TABLE users (id int PRIMARY KEY);
        CREATE TABLE visits (id int PRIMARY KEY, user_id int REFERENCES users ON DELETE CASCADE);
        INSERT INTO users SELECT generate_series(1, 9); INSERT INTO visits SELECT i, i FROM generate_series(1, 9) AS i;";
    let project = Project::new(setup, &[("0001_x.sql", "DROP TABLE visits;")]).await;
    project.migrate(&["expand"]).await.expect(0);
    project.migrate(&["backfill"]).await.expect(0);
    project.register("web-1", "1").await;
    let evidence = "SELECT coalesce(string_agg(application, ' '), '') FROM pontoon.old_write";
    project.database.run("DELETE FROM users WHERE id = 1").await;
    assert_eq!(project.database.text(evidence).await, "", "a foreign key's action is no code");
    assert_eq!(project.database.text("SELECT count(*)::text FROM visits").await, "8");
    project.database.run("SET application_name = 'nightly'; TRUNCATE visits").await;
    assert_eq!(project.database.text(evidence).await, "nightly");
    let mut command = project.command(&["contract"]);
    command.env("MIGRATE_QUIET", "60s");
    finish(command).await.expect(4).says("nightly");
    project.migrate(&["contract", "--soak", "0s"]).await.expect(0);
    let left = "SELECT count(*)::text FROM pg_proc AS p JOIN pg_namespace AS n ON n.oid = p.pronamespace WHERE n.nspname = 'pontoon' AND p.proname LIKE 'm1%'";
    assert_eq!(project.database.text(left).await, "0");
}

#[tokio::test]
async fn a_write_that_names_a_partition_of_a_table_that_is_dropped_closes_the_gate() {
    let setup = "CREATE TABLE ev (id int) PARTITION BY RANGE (id); CREATE TABLE ev_1 PARTITION OF ev FOR VALUES FROM (0) TO (100);
        CREATE TABLE ev_2 PARTITION OF ev FOR VALUES FROM (100) TO (200);";
    let project = Project::new(setup, &[("0001_x.sql", "DROP TABLE ev;")]).await;
    let database = &project.database;
    project.migrate(&["expand"]).await.expect(0);
    project.migrate(&["abort", "1"]).await.expect(0);
    assert_eq!(database.text("SELECT count(*)::text FROM pg_trigger WHERE NOT tgisinternal").await, "0");
    project.migrate(&["expand", "--to", "1"]).await.expect(0);
    project.register("web-1", "1").await;
    database.run("SET application_name = 'loader'; INSERT INTO ev_1 VALUES (1)").await;
    let mut command = project.command(&["contract"]);
    command.env("MIGRATE_QUIET", "60s");
    finish(command).await.expect(4).says("loader");
    // A partition that leaves meanwhile lives on without the trigger.
    database.run("ALTER TABLE ev DETACH PARTITION ev_2").await;
    project.migrate(&["contract", "--soak", "0s"]).await.expect(0);
    assert_eq!(database.text("SELECT count(*)::text FROM pg_trigger WHERE NOT tgisinternal").await, "0");
    database.run("INSERT INTO ev_2 VALUES (150)").await;
}

/// What contract would stumble over later is found before it closes anything, and one migration hides no other.
#[tokio::test]
async fn rows_in_the_way_are_named_before_the_gate_closes() {
    let setup = "CREATE TABLE users (id int PRIMARY KEY, name text); INSERT INTO users VALUES (1, NULL);
        CREATE TABLE teams (id int PRIMARY KEY, label text); INSERT INTO teams VALUES (1, 'a');";
    let files = [
        ("0007_a.sql", "ALTER TABLE users ALTER COLUMN name SET NOT NULL;"),
        ("0008_b.sql", "ALTER TABLE teams RENAME COLUMN label TO title;"),
    ];
    let project = Project::new(setup, &files).await;
    for command in ["expand", "backfill"] {
        project.migrate(&[command]).await.expect(0);
    }
    project.register("web-1", "8").await;
    project
        .migrate(&["contract", "--check"])
        .await
        .expect(1)
        .says("row with id = 1")
        .says("0008: the gate is open");
    let contract = project.migrate(&["contract", "--json"]).await;
    contract.expect(1);
    assert_eq!(contract.json()["migrations"][0]["state"], "sealed");
    assert!(contract.json()["error"]["next"].as_str().unwrap().contains("nothing is closed yet"));
    assert_eq!(project.database.text("SELECT pontoon.phase('7')").await, "ready");
    project.database.run("UPDATE users SET name = 'a'").await;
    project.migrate(&["contract", "7"]).await.expect(0).says("0007 is done");
}

/// Neither an instance that has never served, nor drift that contract would stop at, opens the gate.
#[tokio::test]
async fn the_gate_is_not_opened_by_who_cannot_serve() {
    let project = Project::new(SETUP, &[("0007_rename.sql", RENAME)]).await;
    for command in ["expand", "backfill"] {
        project.migrate(&[command]).await.expect(0);
    }
    project.register("ghost", "99").await;
    project.migrate(&["contract", "--check"]).await.expect(4).says("no instance");
    project.register("web-1", "7").await;
    project.migrate(&["contract", "--check"]).await.expect(0).says("the gate is open");
    project.database.run("ALTER TABLE users DISABLE TRIGGER ALL").await;
    project.migrate(&["contract", "--check"]).await.expect(4).says("somebody changed");
}

#[tokio::test]
async fn a_lease_that_was_deleted_is_said_with_what_brings_it_back() {
    let project = ready().await;
    project.database.run("DELETE FROM pontoon.lease").await;
    project.register("web-1", "7").await;
    let refused = project.migrate(&["verify"]).await;
    refused.expect(4).says("the lease's row in pontoon.lease is gone");
    let sql = refused.stderr.split("next: psql: ").nth(1).unwrap().trim();
    project.database.run(sql).await;
    project.migrate(&["contract"]).await.expect(0).says("0007 is sealed");
}
