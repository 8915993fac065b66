//! What a plan declares is what happens: the locks of each step are those that `pg_locks` shows inside its transaction, and
//! the statements of a plan are those that the server logs, in that order and no others.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use pontoon::pg::local_server::LocalServer;
use serde_json::Value;

use super::support::kinds::{KINDS, Kind, chosen};
use super::support::{Project, Ran, finish, run, text};

/// The modes that a step must declare, weakest first; reading and locking rows stops nobody.
const MODES: [&str; 4] =
    ["ROW EXCLUSIVE", "SHARE UPDATE EXCLUSIVE", "SHARE ROW EXCLUSIVE", "ACCESS EXCLUSIVE"];

/// The strongest mode on each table.
type Locks = BTreeMap<String, String>;

/// What the runner's sessions hold on tables and views that others can see, outside the ledger.
const HELD: &str = "
SELECT coalesce(json_agg(json_build_object('table', n.nspname || '.' || c.relname, 'mode', l.mode, 'view', c.relkind IN ('v', 'm'))), '[]')::text
FROM pg_locks AS l JOIN pg_stat_activity AS a ON a.pid = l.pid
JOIN pg_class AS c ON c.oid = l.relation JOIN pg_namespace AS n ON n.oid = c.relnamespace
WHERE a.application_name LIKE 'migrate%' AND a.datname = current_database() AND l.granted
  AND c.relkind IN ('r', 'p', 'v', 'm') AND n.nspname NOT IN ('pontoon', 'pg_catalog')";

const STARTED: &str = "SELECT string_agg(id, ' ') FROM pontoon.step WHERE state = 'started'";

fn spelled(mode: &str) -> String {
    let mode = mode.trim_end_matches("Lock");
    let mut words = String::new();
    for letter in mode.chars() {
        if letter.is_uppercase() && !words.is_empty() {
            words.push(' ');
        }
        words.extend(letter.to_uppercase());
    }
    words
}

fn strongest(locks: impl Iterator<Item = (String, String)>) -> Locks {
    let rank = |mode: &str| MODES.iter().position(|known| *known == mode);
    let mut strongest = Locks::new();
    for (table, mode) in locks.filter(|(_, mode)| rank(mode).is_some()) {
        let known = strongest.entry(table).or_insert_with(|| mode.clone());
        if rank(&mode) > rank(known) {
            *known = mode;
        }
    }
    strongest
}

fn declared(step: &Value, fresh: &[&str]) -> Locks {
    let locks = step["locks"].as_array().unwrap().iter().map(|lock| {
        let part = |name: &str| lock["table"][name].as_str().unwrap().to_owned();
        (format!("{}.{}", part("schema"), part("name")), spelled(lock["mode"].as_str().unwrap()))
    });
    strongest(
        locks
            .filter(|(table, _)| !fresh.contains(&table.as_str()))
            .map(|(table, mode)| (unsealed(&table), mode)),
    )
}

/// A table that goes, or gets another name, has another one while it is sealed. A partition counts as its table.
fn unsealed(table: &str) -> String {
    let table = table.replace("_pontoon_7_", "").replace("public.people", "public.users");
    let whole = ["public.users", "public.logins", "public.profiles", "public.counts"]
        .into_iter()
        .find(|whole| table.starts_with(&format!("{whole}_")));
    whole.map_or(table, str::to_owned)
}

fn steps(plan: &Value) -> Vec<&Value> {
    ["expand", "settle", "restrict", "seal", "drop"]
        .iter()
        .flat_map(|phase| plan[*phase].as_array().unwrap())
        .collect()
}

/// Runs a command and looks at the locks before each COMMIT of a step. Gives how many steps were seen.
async fn watched(project: &Project, arguments: &[&str], undo: bool, kind: &Kind) -> usize {
    let pause = project.path("paused");
    let mut command = project.command(arguments);
    command.env("PONTOON_FAULT", "step.before_commit@*").env("PONTOON_FAULT_PAUSE", &pause);
    let running = tokio::spawn(finish(command));
    let mut connection = project.database.connect().await;
    let mut seen = 0;
    while until(&pause, &running).await {
        let plan = text(&mut connection, "SELECT plan::text FROM pontoon.migration").await;
        let plan: Value = serde_json::from_str(&plan).unwrap();
        let held: Vec<Value> = serde_json::from_str(&text(&mut connection, HELD).await).unwrap();
        let held = held
            .iter()
            // Taking back drops views that the seal made.
            .filter(|lock| !undo || lock["view"] == false)
            .map(|lock| (lock["table"].as_str().unwrap(), spelled(lock["mode"].as_str().unwrap())));
        // A table that the file itself creates is nobody's yet.
        let made = plan["adds"].as_array().unwrap().iter().filter_map(Value::as_str);
        let fresh: Vec<&str> = made.filter(|made| plan["before"].get(made).is_none()).collect();
        let held =
            held.filter(|(table, _)| !fresh.contains(table)).map(|(table, mode)| (unsealed(table), mode));
        let held = strongest(held);
        if undo {
            // What is taken back is one of several steps: none of them may hold more than it did.
            let all = strongest(steps(&plan).into_iter().flat_map(|step| declared(step, &fresh)));
            let rank =
                |mode: Option<&String>| MODES.iter().position(|known| mode.is_some_and(|mode| mode == known));
            for (table, mode) in &held {
                let allowed = rank(all.get(table));
                assert!(rank(Some(mode)) <= allowed, "{}: {arguments:?} {mode} on {table}", kind.name);
            }
        } else {
            let started = text(&mut connection, STARTED).await;
            let step = *steps(&plan).iter().find(|step| step["id"] == started.as_str()).unwrap();
            // One without statements only counts backwards.
            let counts = step["sql"] != serde_json::json!([]);
            if counts && !step["title"].as_str().unwrap().contains("not analysed") {
                assert_eq!(held, declared(step, &fresh), "{}: {}", kind.name, step["title"]);
            }
        }
        seen += 1;
        std::fs::remove_file(&pause).unwrap();
    }
    let ran: Ran = running.await.unwrap();
    ran.expect(0);
    seen
}

/// True when the program stands at a fault point, false when it has ended.
async fn until(pause: &Path, running: &tokio::task::JoinHandle<Ran>) -> bool {
    while !pause.exists() {
        if running.is_finished() {
            return false;
        }
        tokio::time::sleep(std::time::Duration::from_millis(2)).await;
    }
    true
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_step_holds_the_locks_that_it_declares() {
    let mut seen = 0;
    for kind in chosen() {
        let project = Project::new(kind.setup, &[("0007_change.sql", kind.migration)]).await;
        seen += watched(&project, &["expand"], false, kind).await;
        seen += watched(&project, &["backfill"], false, kind).await;
        project.register("web-1", "7").await;
        seen += watched(&project, &["contract"], false, kind).await;
        if project.database.text("SELECT pontoon.phase('7')").await == "sealed" {
            seen += watched(&project, &["reopen", "7", "--accept-nulls"], true, kind).await;
        }
        seen += watched(&project, &["contract", "--soak", "0s"], false, kind).await;
    }
    assert!(seen > chosen().count() * 4, "only {seen} steps were seen");
}

/// Statements of ours that are not part of a plan: settings, transactions, and queries on the ledger and the catalog.
fn is_ours(statement: &str) -> bool {
    let start = statement.trim_start();
    ["SET ", "BEGIN", "COMMIT", "ROLLBACK", "SELECT", "WITH q AS ("]
        .iter()
        .any(|word| start.starts_with(word))
}

/// The statements that the server logged for one program, in order, without the parameters.
fn logged(log: &str, application: &str) -> Vec<String> {
    let mut statements: Vec<String> = Vec::new();
    let mut ours = false;
    for line in log.lines() {
        if let Some(continued) = line.strip_prefix('\t') {
            if let Some(last) = statements.last_mut().filter(|_| ours) {
                last.push('\n');
                last.push_str(continued);
            }
            continue;
        }
        let statement = ["LOG:  statement: ", "LOG:  execute <unnamed>: "]
            .iter()
            .find_map(|mark| line.split_once(mark).map(|(_, statement)| statement));
        ours = line.starts_with(&format!("[{application}")) && statement.is_some();
        if let Some(statement) = statement.filter(|_| ours) {
            statements.push(statement.to_owned());
        }
    }
    statements
}

#[tokio::test]
async fn what_the_plan_prints_is_what_the_server_logs() {
    let settings = ["log_statement=all", "log_line_prefix=[%a] ", "log_min_messages=log"];
    let server = LocalServer::start(&settings, &|line| println!("{line}"))
        .expect("this test reads the log of a server of its own: install the server binaries");
    let kind = KINDS.iter().find(|kind| kind.name == "split one column into two").unwrap();
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("migrations")).unwrap();
    std::fs::write(folder.path().join("migrations/0007_change.sql"), kind.migration).unwrap();
    let url = server.url("postgres");
    let mut admin = super::support::connect(&url).await;
    run(&mut admin, kind.setup).await;
    let migrate = async |arguments: &[&str]| {
        let mut command = super::support::program(folder.path());
        command.args(arguments).env("DATABASE_URL", &url).env("MIGRATE_QUIET", "0s");
        finish(command).await
    };
    let plan = migrate(&["plan", "--json"]).await.json()["plans"][0]["plan"].clone();
    migrate(&["init"]).await.expect(0);
    let mark = server.log().len();
    migrate(&["expand"]).await.expect(0);
    migrate(&["backfill"]).await.expect(0);
    run(&mut admin, "SELECT pontoon.register('web', 'w', '7', '1 minute')").await;
    migrate(&["contract"]).await.expect(0);
    migrate(&["contract", "--soak", "0s"]).await.expect(0);
    let statements = logged(&server.log()[mark..], "migrate");
    let planned: Vec<&str> = steps(&plan)
        .into_iter()
        .flat_map(|step| step["sql"].as_array().unwrap())
        .map(|statement| statement.as_str().unwrap())
        .collect();
    assert!(planned.len() > 30, "only {} statements are planned", planned.len());
    let mut left = planned.iter().peekable();
    let job = &plan["jobs"][0];
    let batch = format!(
        "UPDATE ONLY public.users SET {} WHERE ctid",
        job["work"]["convert"]["set"].as_str().unwrap()
    );
    let mut batches = 0;
    let mut others = BTreeSet::new();
    for statement in &statements {
        if left.next_if(|next| **next == statement.as_str()).is_some() {
        } else if statement.starts_with(&batch) {
            batches += 1;
        } else if !is_ours(statement) && !planned.contains(&statement.as_str()) {
            // The drop is rehearsed, so its statements come twice.
            others.insert(statement.clone());
        }
    }
    assert_eq!(left.next(), None, "planned, and not logged in this order");
    assert!(batches > 0, "no batch was logged");
    assert_eq!(others, BTreeSet::new(), "logged, and not planned");
}
