//! The fourth journey: every kind of change, every named fault point, under old and new writers. The process is killed,
//! its sessions are terminated, or a connection is lost after COMMIT was sent; then the same command is run again.
//!
//! A plain run hits each point of each kind once, in a command, at a passage and with a fault drawn from a printed seed. With
//! `PONTOON_FULL_MATRIX=1` it hits each point in each command, with each fault; `PONTOON_SEED` repeats a draw. A migration lives
//! through several: each of its commands is killed at one point after the other, and goes on from there.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use sqlx::Connection;
use sqlx::postgres::PgConnection;
use tokio::sync::Semaphore;

use super::journeys::{old_rows, plain};
use super::support::kinds::{KINDS, Kind, chosen, is_partial};
use super::support::proxy::Proxy;
use super::support::shape::{expect_same, leftovers, shape};
use super::support::traffic::{Manner, Writer};
use super::support::{Project, Ran, finish, register, text};

type Command = &'static [&'static str];

/// Commands that bring a migration to its end, through a reopen.
const FORWARD: [Command; 5] = [
    &["expand"],
    &["backfill"],
    &["contract"],
    &["reopen", "7", "--accept-nulls"],
    &["contract", "--soak", "0s"],
];

/// The same without it, where no fault is left behind the seal.
const STRAIGHT: [Command; 3] = [&["expand"], &["backfill"], &["contract", "--soak", "0s"]];

/// Commands that end in an abort.
const BACKWARD: [Command; 3] = [&["expand"], &["backfill"], &["abort", "7", "--discard-new-data"]];

/// How many runs go on at the same time.
const AT_ONCE: usize = 3;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    Kill,
    Terminate,
    CutCommit,
}

/// Where a command meets which fault.
#[derive(Debug, Clone)]
struct Hit {
    /// A fault point with its passage, or the number of the COMMIT to cut.
    point: String,
    fault: Fault,
    /// Where the command meets it, and comes by: one that goes on behind an earlier point still does.
    place: usize,
    places: Vec<usize>,
}

impl Hit {
    /// The fault point without its passage.
    fn name(&self) -> &str {
        self.point.split('@').next().unwrap_or_default()
    }
}

/// One run: the commands, and what each meets, one after the other.
struct Life {
    kind: &'static Kind,
    commands: Vec<(Command, Vec<Hit>)>,
}

impl fmt::Display for Life {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.kind.name)?;
        for (command, hits) in &self.commands {
            for Hit { point, fault, .. } in hits {
                write!(f, ", {fault:?} at {point} in {}", command.join(" "))?;
            }
        }
        Ok(())
    }
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

/// What a command comes by without a fault: its points, in order, and how many COMMITs it sends.
struct Passage {
    command: Command,
    points: Vec<String>,
    commits: usize,
}

/// What each command passes. Nobody writes meanwhile, so that nothing is tried twice and counted.
async fn passages(kind: &'static Kind) -> Vec<Passage> {
    let files = [("0007_change.sql", kind.migration)];
    let project = Project::new(kind.setup, &files).await;
    let mut all = Vec::new();
    for (at, command) in FORWARD.into_iter().enumerate() {
        if command == FORWARD[2] {
            let copy = Project::on(project.database.copy().await, &files);
            all.push(pass(&copy, BACKWARD[at]).await);
        }
        all.push(pass(&project, command).await);
    }
    all
}

async fn pass(project: &Project, command: Command) -> Passage {
    let mut connection = project.database.connect().await;
    let mut passage = Passage { command, points: Vec::new(), commits: 0 };
    if prepare(&mut connection, command).await {
        let proxy = Proxy::start(&project.database.url, 0).await;
        let trace = project.path("trace");
        let mut traced = project.command_at(&proxy.url, command);
        traced.env("PONTOON_FAULT_TRACE", &trace);
        finish(traced).await.expect(0);
        let passed = std::fs::read_to_string(&trace).unwrap_or_default();
        let _ = std::fs::remove_file(&trace);
        passage.points = passed.lines().map(str::to_owned).collect();
        passage.commits = proxy.commits();
    }
    connection.close().await.unwrap();
    passage
}

/// Contract wants to have seen the new version. False if there is nothing to reopen: a migration that seals nothing is
/// done at once.
async fn prepare(connection: &mut PgConnection, arguments: &[&str]) -> bool {
    if arguments[0] == "contract" {
        register(connection, "web-1", "7").await;
    }
    arguments[0] != "reopen" || text(connection, "SELECT pontoon.phase('7')").await != "done"
}

/// The faults that the commands of a kind are to meet.
fn draw(passages: &[Passage], rng: &mut Rng, full: bool) -> BTreeMap<Command, Vec<Hit>> {
    let mut all: Vec<(Command, Hit)> = Vec::new();
    for Passage { command, points, commits } in passages {
        let distinct: BTreeSet<&String> = points.iter().collect();
        for point in distinct {
            let places: Vec<usize> = (0..points.len()).filter(|place| &points[*place] == point).collect();
            let passage = rng.usize(0..places.len());
            let point = format!("{point}@{}", passage + 1);
            // Who is killed can meet more in the same life.
            let faults = [Fault::Kill, Fault::Terminate, Fault::Kill];
            for fault in faults.into_iter().take(if full { 2 } else { 3 }) {
                let (point, places) = (point.clone(), places.clone());
                all.push((command, Hit { point, fault, place: places[passage], places }));
            }
        }
        if *commits > 0 {
            // Later ones depend on how fast the batches were.
            let point = rng.usize(1..=*commits.min(&3)).to_string();
            all.push((command, Hit { point, fault: Fault::CutCommit, place: 0, places: Vec::new() }));
        }
    }
    rng.shuffle(&mut all);
    let mut drawn = BTreeSet::new();
    let mut hits: BTreeMap<Command, Vec<Hit>> = BTreeMap::new();
    for (command, hit) in all {
        let name = match hit.fault {
            Fault::CutCommit => format!("commit of {}", command[0]),
            Fault::Kill | Fault::Terminate => hit.name().to_owned(),
        };
        if full || drawn.insert(name) {
            hits.entry(command).or_default().push(hit);
        }
    }
    hits
}

/// Puts what one command meets in rows. Who is killed goes on from there; who loses its sessions or a COMMIT may do so by itself.
fn rows(mut hits: Vec<Hit>) -> Vec<Vec<Hit>> {
    hits.sort_by_key(|hit| (hit.fault == Fault::CutCommit, hit.place));
    let mut rows: Vec<Vec<Hit>> = Vec::new();
    for hit in hits {
        let next = |row: &mut Vec<Hit>| {
            let last = row.last().filter(|last| last.fault == Fault::Kill)?;
            if hit.fault == Fault::CutCommit {
                return Some(Hit { point: "1".to_owned(), ..hit.clone() });
            }
            let place = *hit.places.iter().find(|place| **place > last.place)?;
            Some(Hit { point: format!("{}@1", hit.name()), place, ..hit.clone() })
        };
        match rows.iter_mut().find_map(|row| next(row).map(|next| (row, next))) {
            Some((row, next)) => row.push(next),
            None => rows.push(vec![hit]),
        }
    }
    rows
}

/// As few lives as meet all of them.
fn lives(kind: &'static Kind, hits: BTreeMap<Command, Vec<Hit>>) -> Vec<Life> {
    let mut hits: BTreeMap<Command, Vec<Vec<Hit>>> =
        hits.into_iter().map(|(command, hits)| (command, rows(hits))).collect();
    let mut lives = Vec::new();
    while !hits.is_empty() {
        let script = match () {
            () if hits.contains_key(BACKWARD[2]) => &BACKWARD[..],
            () if FORWARD[2..].iter().any(|command| hits.contains_key(command)) => &FORWARD,
            () => &STRAIGHT,
        };
        let mut meet =
            |command: &Command| (*command, hits.get_mut(command).and_then(Vec::pop).unwrap_or_default());
        lives.push(Life { kind, commands: script.iter().map(&mut meet).collect() });
        hits.retain(|_, left| !left.is_empty());
    }
    lives
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
            lives(kind, draw(&passages(kind).await, &mut rng, full))
        });
    }
    let all: Vec<Life> = looked_at.join_all().await.into_iter().flatten().collect();
    let hits: Vec<&Hit> = all.iter().flat_map(|life| &life.commands).flat_map(|(_, hits)| hits).collect();
    let named = hits.iter().filter(|hit| hit.fault != Fault::CutCommit).map(|hit| hit.name().to_owned());
    let points: BTreeSet<String> = named.collect();
    assert!(is_partial() || points == declared(), "a declared fault point is never passed");
    println!("{} faults at {} points and commits, in {} lives", hits.len(), points.len(), all.len());
    assert!(is_partial() || hits.len() >= KINDS.len() * 15, "only {} faults", hits.len());
    let missed = live(all, &permits).await;
    println!("{} more lives, of what was not met in a row", missed.len());
    assert!(live(missed, &permits).await.is_empty(), "what comes first in a life is met");
}

/// Lives through them, and gives lives that meet what was not met: a command that goes on may have a point behind it.
async fn live(all: Vec<Life>, permits: &Arc<Semaphore>) -> Vec<Life> {
    let mut running = tokio::task::JoinSet::new();
    for life in all {
        let permits = Arc::clone(permits);
        running.spawn(async move {
            let _permit = permits.acquire_owned().await.unwrap();
            let (label, kind) = (life.to_string(), life.kind);
            let done = tokio::spawn(async move { survive(&life).await }).await;
            (label, kind, done.map_err(|error| error.to_string()))
        });
    }
    let (mut failed, mut missed) = (Vec::new(), Vec::new());
    while let Some(done) = running.join_next().await {
        match done.unwrap() {
            (label, _, Err(error)) => failed.push(format!("{label}: {error}")),
            (_, kind, Ok(hits)) => {
                let alone = hits.into_iter().map(|(command, hit)| BTreeMap::from([(command, vec![hit])]));
                missed.extend(alone.flat_map(|hits| lives(kind, hits)));
            }
        }
    }
    assert!(failed.is_empty(), "{} lives failed:\n{}", failed.len(), failed.join("\n"));
    missed
}

/// Gives what was not met.
async fn survive(life: &Life) -> Vec<(Command, Hit)> {
    let kind = life.kind;
    let project = Project::new(kind.setup, &[("0007_change.sql", kind.migration)]).await;
    let url = project.database.url.clone();
    let mut connection = project.database.connect().await;
    let before = shape(&mut connection).await;
    // Slow ones: what many writers do to it the other journeys show.
    let manner = || Manner { pause: Duration::from_millis(40), ..Manner::default() };
    let mut old = Some(Writer::start_as(&url, &kind.old, 0, manner()));
    let (mut new, mut missed) = (None, Vec::new());
    for (arguments, hits) in &life.commands {
        if arguments[0] == "contract"
            && let Some(writer) = old.take()
        {
            writer.stop().await.expect_no_errors_at_all("old code");
            new = Some(Writer::start_as(&url, &kind.new, 1, manner()));
        }
        if !prepare(&mut connection, arguments).await {
            continue;
        }
        for (at, hit) in hits.iter().enumerate() {
            if !with_fault(&project, &mut connection, arguments, hit, at == 0).await {
                missed.extend(hits[at..].iter().map(|hit| (*arguments, hit.clone())));
                break;
            }
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
    if let Some(old) = old {
        let account = old.stop().await;
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
    missed
}

/// The first rows, which writers change.
const WRITTEN: usize = 1_400;

/// Runs the command so that it meets the fault. False if it did not, and need not: then it has come to its end.
async fn with_fault(
    project: &Project,
    connection: &mut PgConnection,
    arguments: &[&str],
    hit: &Hit,
    must: bool,
) -> bool {
    match hit.fault {
        Fault::Kill => {
            let mut command = project.command(arguments);
            command.env("PONTOON_FAULT", &hit.point);
            let ran = finish(command).await;
            if !must && ran.code == Some(0) {
                return false;
            }
            assert_eq!(ran.code, None, "the kill did not land\n{}{}", ran.stdout, ran.stderr);
        }
        Fault::Terminate => {
            let pause = project.path("paused");
            let mut command = project.command(arguments);
            command.env("PONTOON_FAULT", &hit.point).env("PONTOON_FAULT_PAUSE", &pause);
            let running = tokio::spawn(finish(command));
            while !pause.exists() {
                if running.is_finished() {
                    let ran = running.await.unwrap();
                    assert!(!must && ran.code == Some(0), "the fault point was not reached: {ran:?}");
                    return false;
                }
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
            let proxy = Proxy::start(&project.database.url, hit.point.parse().unwrap()).await;
            let ran = finish(project.command_at(&proxy.url, arguments)).await;
            may_fail(&ran);
            if proxy.commits() < hit.point.parse().unwrap() {
                assert!(!must && ran.code == Some(0), "the COMMIT was not sent: {ran:?}");
                return false;
            }
        }
    }
    true
}

/// A lost connection may end a command, in an orderly way.
fn may_fail(ran: &Ran) {
    assert!(matches!(ran.code, Some(0 | 1 | 5 | 6)), "exit {:?}\n{}{}", ran.code, ran.stdout, ran.stderr);
    assert!(!ran.stderr.contains("panicked"), "{}", ran.stderr);
}
