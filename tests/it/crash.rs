//! The fourth journey: every kind of change, every named fault point, under old and new writers. The process is killed,
//! its sessions are terminated, or a connection is lost after COMMIT was sent; then the same command is run again.
//!
//! A plain run hits each point of each kind once, at a passage and with a fault drawn from a printed seed. With
//! `PONTOON_FULL_MATRIX=1` it hits each point in each command, with each fault; `PONTOON_SEED` repeats a draw.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use sqlx::postgres::PgConnection;
use tokio::sync::Semaphore;

use super::journeys::{old_rows, plain};
use super::support::kinds::{KINDS, Kind, chosen, is_partial};
use super::support::proxy::Proxy;
use super::support::shape::{expect_same, leftovers, shape};
use super::support::traffic::{Manner, Writer};
use super::support::{Project, Ran, finish, register, text};

/// Commands that bring a migration to its end, through a reopen.
const FORWARD: [&[&str]; 5] = [
    &["expand"],
    &["backfill"],
    &["contract"],
    &["reopen", "7", "--accept-nulls"],
    &["contract", "--soak", "0s"],
];

/// The same without it, for a fault before the seal.
const STRAIGHT: [&[&str]; 3] = [&["expand"], &["backfill"], &["contract", "--soak", "0s"]];

/// Commands that end in an abort.
const BACKWARD: [&[&str]; 3] = [&["expand"], &["backfill"], &["abort", "7", "--discard-new-data"]];

/// How many runs go on at the same time.
const AT_ONCE: usize = 4;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    Kill,
    Terminate,
    CutCommit,
}

/// One run: the commands, which of them meets the fault, where and which.
#[derive(Clone)]
struct Case {
    kind: &'static Kind,
    commands: &'static [&'static [&'static str]],
    command: usize,
    /// A fault point with its passage, or the number of the COMMIT to cut.
    point: String,
    fault: Fault,
}

/// Fault points that are named in the source.
fn declared() -> BTreeSet<String> {
    let mut points = BTreeSet::new();
    let mut folders = vec![std::path::PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/src"))];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let text = std::fs::read_to_string(&path).unwrap();
                points.extend(
                    text.split("fault::point(\"")
                        .skip(1)
                        .filter_map(|rest| rest.split('"').next())
                        .map(str::to_owned),
                );
            }
        }
    }
    points
}

/// The points that each command of a script passes, in order, without any fault, and the COMMITs it sends.
async fn passages(kind: &'static Kind, commands: &[&[&str]]) -> Vec<(Vec<String>, usize)> {
    let project = Project::new(kind.setup, &[("0007_change.sql", kind.migration)]).await;
    let mut connection = project.database.connect().await;
    let mut all = Vec::new();
    for arguments in commands {
        if !prepare(&mut connection, arguments).await {
            all.push((Vec::new(), 0));
            continue;
        }
        let proxy = Proxy::start(&project.database.url, 0).await;
        let trace = project.path("trace");
        let mut command = project.command_at(&proxy.url, arguments);
        command.env("PONTOON_FAULT_TRACE", &trace);
        finish(command).await.expect(0);
        let text = std::fs::read_to_string(&trace).unwrap_or_default();
        let _ = std::fs::remove_file(&trace);
        all.push((text.lines().map(str::to_owned).collect(), proxy.commits()));
    }
    all
}

/// Contract wants to have seen the new version. False if there is nothing to reopen: a migration that seals nothing is
/// done at once.
async fn prepare(connection: &mut PgConnection, arguments: &[&str]) -> bool {
    if arguments[0] == "contract" {
        register(connection, "web-1", "7").await;
    }
    arguments[0] != "reopen" || text(connection, "SELECT pontoon.phase('7')").await != "done"
}

/// The cases of one kind.
async fn cases(kind: &'static Kind, rng: &mut Rng, full: bool) -> Vec<Case> {
    let mut cases = Vec::new();
    let mut all: Vec<Case> = Vec::new();
    for commands in [&FORWARD[..], &BACKWARD[..]] {
        for (command, (points, commits)) in passages(kind, commands).await.into_iter().enumerate() {
            let distinct: BTreeSet<&String> = points.iter().collect();
            let before_the_seal = commands == FORWARD && command < 2 && !full;
            let commands = if before_the_seal { &STRAIGHT[..] } else { commands };
            for point in distinct {
                let times = points.iter().filter(|passed| *passed == point).count();
                let point = format!("{point}@{}", rng.usize(1..=times));
                for fault in [Fault::Kill, Fault::Terminate] {
                    all.push(Case { kind, commands, command, point: point.clone(), fault });
                }
            }
            if commits > 0 {
                // Later ones depend on how fast the batches were.
                let point = rng.usize(1..=commits.min(3)).to_string();
                all.push(Case { kind, commands, command, point, fault: Fault::CutCommit });
            }
        }
    }
    if full {
        return all;
    }
    let name = |case: &Case| match case.fault {
        Fault::CutCommit => format!("commit of {}", case.commands[case.command][0]),
        Fault::Kill | Fault::Terminate => case.point.split('@').next().unwrap_or_default().to_owned(),
    };
    let names: BTreeSet<String> = all.iter().map(name).collect();
    for wanted in names {
        let of_point: Vec<&Case> = all.iter().filter(|case| name(case) == wanted).collect();
        cases.push(of_point[rng.usize(0..of_point.len())].clone());
    }
    cases
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_anywhere_the_same_command_finishes() {
    let seed: u64 = std::env::var("PONTOON_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok())
        .unwrap_or_else(|| fastrand::u64(..));
    let full = std::env::var_os("PONTOON_FULL_MATRIX").is_some();
    println!("PONTOON_SEED={seed}");
    let mut rng = Rng::with_seed(seed);
    let mut looked_at = tokio::task::JoinSet::new();
    let permits = Arc::new(Semaphore::new(AT_ONCE));
    for kind in chosen() {
        let (permits, mut rng) = (Arc::clone(&permits), Rng::with_seed(rng.u64(..)));
        looked_at.spawn(async move {
            let _permit = permits.acquire_owned().await.unwrap();
            cases(kind, &mut rng, full).await
        });
    }
    let all: Vec<Case> = looked_at.join_all().await.into_iter().flatten().collect();
    let hit: BTreeSet<String> = all
        .iter()
        .filter(|case| case.fault != Fault::CutCommit)
        .filter_map(|case| case.point.split('@').next().map(str::to_owned))
        .collect();
    assert!(is_partial() || hit == declared(), "a declared fault point is never passed");
    println!("{} cases, {} fault points", all.len(), hit.len());
    assert!(is_partial() || all.len() >= KINDS.len() * 15, "only {} cases", all.len());
    let mut running = tokio::task::JoinSet::new();
    for case in all {
        let permits = Arc::clone(&permits);
        running.spawn(async move {
            let _permit = permits.acquire_owned().await.unwrap();
            let label = format!(
                "{}: {:?} at {} in {}",
                case.kind.name,
                case.fault,
                case.point,
                case.commands[case.command].join(" ")
            );
            let done = tokio::spawn(async move { survive(&case).await }).await;
            (label, done.map_err(|error| error.to_string()))
        });
    }
    let mut failed = Vec::new();
    while let Some(done) = running.join_next().await {
        let (label, result) = done.unwrap();
        if let Err(error) = result {
            failed.push(format!("{label}: {error}"));
        }
    }
    assert!(failed.is_empty(), "{} cases failed:\n{}", failed.len(), failed.join("\n"));
}

async fn survive(case: &Case) {
    let kind = case.kind;
    let project = Project::new(kind.setup, &[("0007_change.sql", kind.migration)]).await;
    let url = project.database.url.clone();
    let mut connection = project.database.connect().await;
    let before = shape(&mut connection).await;
    // Slow ones: what many writers do to it the other journeys show.
    let manner = || Manner { pause: Duration::from_millis(10), ..Manner::default() };
    let mut old = Some(Writer::start_as(&url, &kind.old, 0, manner()));
    let mut new = None;
    for (at, arguments) in case.commands.iter().enumerate() {
        if arguments[0] == "contract"
            && let Some(writer) = old.take()
        {
            writer.stop().await.expect_no_errors_at_all("old code");
            new = Some(Writer::start_as(&url, &kind.new, 1, manner()));
        }
        if !prepare(&mut connection, arguments).await {
            continue;
        }
        if at == case.command {
            with_fault(&project, &mut connection, arguments, case).await;
            // Nobody else changed anything.
            let doctor = project.migrate(&["doctor"]).await;
            assert!(
                !doctor.stdout.contains("is another one") && !doctor.stdout.contains("is gone"),
                "{}",
                doctor.stdout
            );
        }
        project.migrate(arguments).await.expect(0);
    }
    if case.commands == BACKWARD {
        let account = old.take().unwrap().stop().await;
        account.expect_no_errors_at_all("old code");
        assert!(account.wrong(&mut connection, &kind.old).await.is_empty(), "rows of old code are wrong");
        if kind.abort_leaves.is_empty() {
            expect_same(&shape(&mut connection).await, &before, "abort leaves something");
        }
    } else {
        let account = new.unwrap().stop().await;
        account.expect_no_errors_at_all("new code");
        assert!(account.wrong(&mut connection, &kind.new).await.is_empty(), "rows of new code are wrong");
        let (plain_shape, plain_rows) = plain(kind).await;
        expect_same(&shape(&mut connection).await, &plain_shape, "not the shape that the plain SQL gives");
        let rows = old_rows(&mut connection).await;
        let quiet = |rows: &str| rows.lines().skip(WRITTEN).map(str::to_owned).collect::<Vec<_>>();
        assert!(quiet(&rows).len() > 1_000, "rows are lost");
        assert_eq!(quiet(&rows), quiet(&plain_rows), "not the data that the plain SQL gives");
    }
    assert_eq!(leftovers(&mut connection).await, "");
}

/// The first rows, which writers change.
const WRITTEN: usize = 1_400;

/// Runs the command so that it meets the fault, and asserts that it did.
async fn with_fault(project: &Project, connection: &mut PgConnection, arguments: &[&str], case: &Case) {
    match case.fault {
        Fault::Kill => {
            let mut command = project.command(arguments);
            command.env("PONTOON_FAULT", &case.point);
            let ran = finish(command).await;
            assert_eq!(ran.code, None, "the kill did not land\n{}{}", ran.stdout, ran.stderr);
        }
        Fault::Terminate => {
            let pause = project.path("paused");
            let mut command = project.command(arguments);
            command.env("PONTOON_FAULT", &case.point).env("PONTOON_FAULT_PAUSE", &pause);
            let running = tokio::spawn(finish(command));
            while !pause.exists() {
                assert!(!running.is_finished(), "the fault point was not reached");
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            let ended = text(
                connection,
                "SELECT count(pg_terminate_backend(pid))::text FROM pg_stat_activity
                 WHERE datname = current_database() AND application_name LIKE 'migrate%'",
            )
            .await;
            assert_ne!(ended, "0", "no session was terminated");
            std::fs::remove_file(&pause).unwrap();
            may_fail(&running.await.unwrap());
        }
        Fault::CutCommit => {
            let proxy = Proxy::start(&project.database.url, case.point.parse().unwrap()).await;
            let ran = finish(project.command_at(&proxy.url, arguments)).await;
            assert!(proxy.commits() >= case.point.parse().unwrap(), "the COMMIT was not sent");
            may_fail(&ran);
        }
    }
}

/// A lost connection may end a command, in an orderly way.
fn may_fail(ran: &Ran) {
    assert!(matches!(ran.code, Some(0 | 1 | 5 | 6)), "exit {:?}\n{}{}", ran.code, ran.stdout, ran.stderr);
    assert!(!ran.stderr.contains("panicked"), "{}", ran.stderr);
}
