//! `docs/changes.md` is what the planner says on a real server. `PONTOON_WRITE_DOCS=1` writes it anew.

use std::fmt::Write;

use serde_json::Value;

use super::support::kinds::{KINDS, Kind};
use super::support::{Database, Project};

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/changes.md");

const HEAD: &str = "# What becomes of each kind of change

Written by a test from the planner's own words: first the head of each file in `src/decide/change`, then a plan for each kind
that the journeys run. Functions and triggers are only counted here; `migrate plan` prints everything.

";

/// The five headed lines of each kind's file.
fn heads() -> String {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/decide/change");
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let mut page = String::new();
    let mut kinds = 0;
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        if !text.starts_with("//! Shape: ") {
            continue;
        }
        kinds += 1;
        let mut lines: Vec<String> = Vec::new();
        for line in text.lines().map_while(|line| line.strip_prefix("//! ")) {
            let headed = ["Shape: ", "Phases: ", "Locks: ", "Undo: ", "Limits: "]
                .iter()
                .any(|head| line.starts_with(head));
            match lines.last_mut() {
                Some(last) if !headed => {
                    last.push(' ');
                    last.push_str(line);
                }
                _ => lines.push(line.to_owned()),
            }
        }
        assert_eq!(lines.len(), 5, "{}: a kind opens with five headed lines", file.display());
        let _ = writeln!(page, "### {}\n", file.file_stem().unwrap().to_str().unwrap().replace('_', " "));
        for line in lines {
            let (head, text) = line.split_once(": ").unwrap();
            let _ = writeln!(page, "- **{head}** {text}");
        }
        page.push('\n');
    }
    assert!(kinds > 20, "only {kinds} kinds were found");
    page
}

/// Statements that a reader of the page knows without reading them.
fn is_machinery(sql: &str) -> bool {
    let starts = [
        "CREATE FUNCTION",
        "CREATE OR REPLACE FUNCTION",
        "DROP FUNCTION",
        "GRANT EXECUTE",
        "REVOKE ALL ON FUNCTION",
        "CREATE TRIGGER",
        "DROP TRIGGER",
    ];
    starts.iter().any(|start| sql.starts_with(start))
        || [" ENABLE ALWAYS TRIGGER ", "'DROP TRIGGER %I"].iter().any(|part| sql.contains(part))
}

fn steps(page: &mut String, phase: &str, steps: &Value) {
    for step in steps.as_array().unwrap() {
        let locks: Vec<String> = step["locks"]
            .as_array()
            .unwrap()
            .iter()
            .map(|lock| {
                format!("{} {}", lock["mode"].as_str().unwrap(), lock["table"]["name"].as_str().unwrap())
            })
            .collect();
        let locks = if locks.is_empty() { String::new() } else { format!(" ({})", locks.join(", ")) };
        let _ = writeln!(page, "-- {phase}: {}{locks}", step["title"].as_str().unwrap());
        let mut machinery = 0;
        for sql in step["sql"].as_array().unwrap().iter().map(|sql| sql.as_str().unwrap()) {
            if is_machinery(sql) {
                machinery += 1;
            } else {
                let _ = writeln!(page, "{sql};");
            }
        }
        if machinery > 0 {
            let _ = writeln!(page, "-- and {machinery} statements for functions and triggers");
        }
    }
}

/// A statement of a batch, with a word for the rows it picks.
fn ranged(statement: &Value, rows: &str) -> String {
    let part = |name: &str| statement[name].as_str().unwrap();
    let table = &statement["rows_of"];
    let table = table["name"]
        .as_str()
        .map_or_else(String::new, |name| format!("{}.{name}", table["schema"].as_str().unwrap()));
    format!("{}{table}{}{rows}{}", part("head"), part("middle"), part("tail"))
}

async fn plan(kind: &Kind) -> String {
    let project = Project::new(kind.setup, &[("0007_change.sql", kind.migration)]).await;
    let plan = project.migrate(&["plan", "--json"]).await.expect(0).json()["plans"][0]["plan"].clone();
    let mut page = format!("### {}\n\n", kind.name);
    let migration: Vec<&str> = kind.migration.lines().map(str::trim).collect();
    let _ = writeln!(page, "```sql\n{}\n```\n", migration.join("\n"));
    for change in plan["changes"].as_array().unwrap() {
        let part = |name: &str| change[name].as_str().unwrap();
        let _ = writeln!(page, "- {}: {}", part("what"), part("becomes"));
    }
    for warning in plan["warnings"].as_array().unwrap() {
        let _ = writeln!(page, "- warning: {}", warning.as_str().unwrap());
    }
    page.push_str("\n```sql\n");
    steps(&mut page, "expand", &plan["expand"]);
    for job in plan["jobs"].as_array().unwrap() {
        page.push_str("-- backfill, in batches\n");
        let (convert, across) = (&job["work"]["convert"], &job["work"]["across"]);
        let once = if across.is_null() { &job["work"]["once"] } else { &across["copy"] };
        let part = |of: &Value, name: &str| of[name].as_str().unwrap().to_owned();
        if !once.is_null() && !once["lock"].is_null() {
            let _ = writeln!(page, "{};", ranged(&once["lock"], "<numbers>"));
        }
        if !across.is_null() && once.is_null() {
            for step in ["lock", "change"] {
                let _ = writeln!(page, "{};", ranged(&across[step], "<pages>"));
            }
        } else if once.is_null() {
            let table = job["table"]["name"].as_str().unwrap();
            let (set, need) = (part(convert, "set"), part(convert, "need"));
            let _ = writeln!(page, "UPDATE ONLY {table} SET {set} WHERE <pages> AND ({need});");
        } else {
            let _ = writeln!(page, "{};", once["make"][0].as_str().unwrap());
            let _ = writeln!(page, "{} WHERE <numbers>{};", part(once, "before"), part(once, "after"));
        }
    }
    for (phase, name) in
        [("backfill", "settle"), ("contract", "restrict"), ("seal", "seal"), ("drop", "drop")]
    {
        steps(&mut page, phase, &plan[name]);
    }
    page.push_str("```\n\n");
    page
}

#[tokio::test]
async fn the_page_of_changes_is_what_the_planner_says() {
    let mut page = HEAD.to_owned();
    let _ = writeln!(page, "## Kinds\n");
    page.push_str(&heads());
    let _ = writeln!(page, "## Plans\n");
    for kind in KINDS {
        page.push_str(&plan(kind).await);
    }
    let page = format!("{}\n", page.trim_end());
    if std::env::var_os("PONTOON_WRITE_DOCS").is_some() {
        std::fs::write(PAGE, &page).unwrap();
    }
    let written = std::fs::read_to_string(PAGE).unwrap_or_default();
    let version = Database::new().await.text("SHOW server_version_num").await;
    let is_newer = version.parse::<u32>().unwrap() >= 180_000;
    // The page shows the plans for servers before version 18, which takes some foreign keys NOT VALID that others do not.
    let compared = |page: &str| page.split("## Plans").next().unwrap_or_default().to_owned();
    let same = if is_newer { compared(&written) == compared(&page) } else { written == page };
    assert!(same, "docs/changes.md is out of date: run this test with PONTOON_WRITE_DOCS=1");
}

#[test]
fn every_symptom_names_tests_that_are_there() {
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/symptoms.md")).unwrap();
    let mut tests = String::new();
    for folder in ["tests/it", "tests/it/property"] {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
        for entry in std::fs::read_dir(folder).unwrap() {
            tests += &std::fs::read_to_string(entry.unwrap().path()).unwrap_or_default();
        }
    }
    let rows = page.lines().filter(|line| line.starts_with("| ") && line.contains('`'));
    let mut named = 0;
    for name in rows.flat_map(|row| row.split('`').skip(1).step_by(2).collect::<Vec<_>>()) {
        let there = tests.contains(&format!("fn {name}(")) || tests.contains(&format!("!({name}, "));
        assert!(there, "there is no test `{name}`");
        named += 1;
    }
    assert!(named > 30, "only {named} tests are named");
}
