//! Random pairs of tables, random chains of migrations, several in flight, processes killed at random, code of every version that
//! may live writing all the time: the end is that of the plain SQL, and nothing that was acknowledged is lost.
//!
//! A plain run plays a few chains from a printed seed; `PONTOON_CHAINS=n` plays n, `PONTOON_MINUTES=n` as many as go into
//! that time, `PONTOON_SEED` repeats one.

mod schema;
mod writers;

use std::sync::Arc;
use std::time::{Duration, Instant};

use fastrand::Rng;
use tokio::sync::RwLock;

use self::schema::History;
use self::writers::{Live, Writer};
use super::support::shape::{expect_same, leftovers, shape};
use super::support::traffic::Manner;
use super::support::{Database, Project, finish};

/// Chains of a plain run.
const CHAINS: u64 = 8;

/// Points at which a command may be killed; not every command passes each.
const POINTS: [&str; 10] = [
    "step.before",
    "step.statement",
    "step.before_commit",
    "step.after_commit",
    "step.done",
    "backfill.updated",
    "backfill.before_commit",
    "contract.closed",
    "contract.dropping",
    "expand.stored",
];

/// The rows that no writer touches.
const ROWS: &str = "SELECT string_agg((to_jsonb(t) || to_jsonb(u))::text, E'\\n' ORDER BY id) FROM t JOIN u USING (id) WHERE id <= 200";

/// What stands around the tables: a trigger of the user, row security, a role that owns nothing.
fn surroundings(role: &str) -> String {
    format!(
        "CREATE FUNCTION stamp() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
         CREATE TRIGGER stamp BEFORE INSERT OR UPDATE ON t FOR EACH ROW EXECUTE FUNCTION stamp();
         GRANT SELECT, INSERT, UPDATE, DELETE ON t, u TO {role};
         ALTER TABLE u ENABLE ROW LEVEL SECURITY; CREATE POLICY own ON u TO {role} USING (id > 0) WITH CHECK (id > 0);
         ALTER TABLE t ENABLE ROW LEVEL SECURITY; CREATE POLICY own ON t TO {role} USING (id > 0) WITH CHECK (id > 0);"
    )
}

/// Runs a command, now and then killed before.
async fn run(project: &Project, rng: &mut Rng, arguments: &[&str]) -> i32 {
    if rng.u8(0..3) == 0 {
        let point = format!("{}@{}", POINTS[rng.usize(0..POINTS.len())], rng.usize(1..5));
        let mut command = project.command(arguments);
        command.env("PONTOON_FAULT", point);
        finish(command).await;
    }
    let ran = project.migrate(arguments).await;
    let waits = ran.stderr.contains("error[in-flight]");
    assert!(ran.code == Some(0) || waits, "{arguments:?}\n{}{}", ran.stdout, ran.stderr);
    ran.code.unwrap()
}

async fn backfill_all(project: &Project, rng: &mut Rng, live: &Live, newest: usize) {
    run(project, rng, &["backfill"]).await;
    let mut live = live.write().await;
    let oldest = live.first().copied().unwrap_or_default();
    *live = (oldest..=newest).collect();
}

async fn contract_all(project: &Project, rng: &mut Rng, live: &Live, newest: usize) {
    backfill_all(project, rng, live, newest).await;
    *live.write().await = vec![newest];
    project.database.run("UPDATE pontoon.instance SET deregistered_at = now()").await;
    project.register("new", &newest.to_string()).await;
    run(project, rng, &["contract", "--soak", "0s"]).await;
}

/// A shape without the names of the indexes and keys of partitions: a change of type keeps them, where the plain SQL takes the
/// names that the columns give by then.
fn without_part_names(shape: &str) -> String {
    let of_partition =
        |line: &str| [" on t_", " ON public.t_", " ON ONLY public.t_"].iter().any(|on| line.contains(on));
    let lines = shape.lines().filter(|line| !(line.starts_with("relation t_") && line.contains(" kind I ")));
    let lines = lines.map(|line| match line.split_once(" on t_").or_else(|| line.split_once("INDEX ")) {
        Some((_, rest)) if of_partition(line) && line.starts_with("constraint") => format!("key on t_{rest}"),
        Some((_, rest)) if of_partition(line) && line.starts_with("index") => {
            format!("index {}", rest.split_once(" ON ").map_or(rest, |(_, on)| on))
        }
        _ => line.to_owned(),
    });
    let mut lines: Vec<String> = lines.collect();
    lines.sort();
    lines.join("\n")
}

/// Plays one chain; gives how many statements the writers ran, and how many of them twice.
async fn chain(seed: u64, history: History) -> (u64, u64) {
    let mut rng = Rng::with_seed(seed ^ 1);
    let role = format!("pontoon_writer_{seed:x}");
    let (mut setup, mut prepares) = (history.setup.clone(), [String::new(), String::new()]);
    let surrounded = rng.bool();
    let plain = Database::new().await;
    if surrounded {
        plain.run(&format!("CREATE ROLE {role}")).await;
        setup += &surroundings(&role);
        prepares =
            [format!("SET ROLE {role}"), format!("SET ROLE {role}; SET search_path = pg_temp, public")];
    }
    if rng.u8(0..4) == 0 {
        prepares[0].insert_str(0, "SET session_replication_role = replica;");
    }
    let levels = [None, Some("REPEATABLE READ"), Some("SERIALIZABLE")];
    plain.run(&setup).await;
    for file in &history.files {
        plain.run(file).await;
    }
    let project = Project::new(&setup, &[]).await;
    let (history, live) = (Arc::new(history), Arc::new(RwLock::new(vec![0])));
    let writers = prepares.into_iter().zip(0_u64..).map(|(prepare, number)| {
        let level = levels[rng.usize(0..levels.len())];
        let manner = Manner { prepare, level, ..Manner::default() };
        Writer::start(&project.database.url, number, Arc::clone(&history), Arc::clone(&live), manner)
    });
    let writers: Vec<Writer> = writers.collect();
    for (at, file) in history.files.iter().enumerate() {
        let version = at + 1;
        project.write(&format!("{version:04}_x.sql"), file);
        while run(&project, &mut rng, &["expand"]).await != 0 {
            // What it changes is still moved by one that came before.
            contract_all(&project, &mut rng, &live, version - 1).await;
        }
        match rng.u8(0..4) {
            0 => backfill_all(&project, &mut rng, &live, version).await,
            1 => contract_all(&project, &mut rng, &live, version).await,
            _ => {}
        }
    }
    let newest = history.files.len();
    contract_all(&project, &mut rng, &live, newest).await;
    let mut connection = project.database.connect().await;
    let (mut statements, mut repeated, mut rows) = (0, 0, 400);
    for writer in writers {
        let account = writer.stop().await;
        for id in account.rows() {
            let wrong = account.wrong(&mut connection, &history, id, newest).await;
            assert_eq!(wrong, None, "after the last contract");
            rows += usize::from(id > 400);
        }
        (statements, repeated) = (statements + account.statements, repeated + account.repeated);
    }
    project.migrate(&["status", "--exit-code"]).await.expect(0);
    for table in ["t", "u"] {
        let count = project.database.text(&format!("SELECT count(*)::text FROM {table}")).await;
        assert_eq!(count, rows.to_string(), "rows of {table}");
    }
    assert_eq!(project.database.text(ROWS).await, plain.text(ROWS).await, "not the data of the plain SQL");
    let plain_shape = without_part_names(&shape(&mut plain.connect().await).await);
    let is = without_part_names(&shape(&mut connection).await);
    expect_same(&is, &plain_shape, "not the shape of the plain SQL");
    assert_eq!(leftovers(&mut connection).await, "");
    if surrounded {
        for database in [&project.database, &plain] {
            database.run(&format!("DROP OWNED BY {role}")).await;
        }
        plain.run(&format!("DROP ROLE {role}")).await;
    }
    (statements, repeated)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_chains_end_as_the_plain_sql_does() {
    let read = |name: &str| std::env::var(name).ok().and_then(|value| value.parse::<u64>().ok());
    let (repeated, started) = (read("PONTOON_SEED"), Instant::now());
    let limit = read("PONTOON_MINUTES").map(|minutes| Duration::from_secs(60 * minutes));
    let chains = match repeated {
        Some(_) => 1,
        None => read("PONTOON_CHAINS").unwrap_or(CHAINS),
    };
    let (mut played, mut statements, mut twice) = (0, 0, 0);
    while limit.map_or(played < chains, |limit| started.elapsed() < limit) {
        let seed = repeated.unwrap_or_else(|| fastrand::u64(..));
        let history = History::random(seed);
        println!("PONTOON_SEED={seed}\n{}", history.setup);
        for file in &history.files {
            println!("-- file\n{file}");
        }
        let (ran, again) = chain(seed, history).await;
        (played, statements, twice) = (played + 1, statements + ran, twice + again);
        println!(
            "chain {played} done: {statements} statements so far, {twice} serialization failures repeated"
        );
    }
    assert!(statements > 20 * played, "the writers stood still: {statements} statements in {played} chains");
}
