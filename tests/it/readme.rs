//! Every block of the README is run, or is the text of a file that is.

use super::support::{Project, finish};

const README: &str = include_str!("../../README.md");

/// The fenced blocks of a language.
fn blocks(language: &str) -> Vec<&'static str> {
    README
        .split("```")
        .skip(1)
        .step_by(2)
        .filter_map(|block| block.strip_prefix(language))
        .filter_map(|block| block.strip_prefix('\n'))
        .collect()
}

fn example(name: &str) -> String {
    std::fs::read_to_string(format!("{}/migrations-example/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

const EXAMPLES: [&str; 3] = ["0001_shop.sql", "0002_split_name.sql", "0003_rename_email.sql"];

#[tokio::test]
async fn the_tour_runs_as_it_is_printed() {
    let files: Vec<(&str, String)> = EXAMPLES.iter().map(|name| (*name, example(name))).collect();
    let files: Vec<(&str, &str)> = files.iter().map(|(name, text)| (*name, text.as_str())).collect();
    let project = Project::new("", &files).await;
    let shell = blocks("sh");
    assert_eq!(shell.len(), 2, "a block was added: run it here");
    let mut lines = 0;
    for line in shell[1].lines() {
        let (command, comment) = line.split_once('#').unwrap_or((line, ""));
        let arguments: Vec<&str> = command.split_whitespace().collect();
        assert_eq!(arguments[0], "migrate");
        let code = comment.trim().strip_prefix("exit ").map_or(0, |rest| rest[..1].parse().unwrap());
        finish(project.command(&arguments[1..])).await.expect(code);
        lines += 1;
    }
    assert_eq!(lines, 11);
    project.migrate(&["status", "--exit-code"]).await.expect(0).says("0003");
}

#[test]
fn the_first_block_is_what_the_check_runs() {
    let check = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/.ci/run")).unwrap();
    for command in blocks("sh")[0].lines() {
        assert!(check.lines().any(|line| line == command), "`{command}` is not run by .ci/run");
    }
}

#[test]
fn the_sql_is_that_of_the_example() {
    let sql = blocks("sql");
    assert_eq!(sql.len(), 1);
    assert!(example("0002_split_name.sql").contains(sql[0].trim()));
}

/// The other story of the demo; the check runs the first.
#[tokio::test]
async fn the_demo_of_keys_loses_nothing() {
    let project = Project::new("", &[]).await;
    let mut command = project.command(&["demo", "--customers", "20000", "--story", "bigint"]);
    // It never looks at this: there is no such server.
    command.env("DATABASE_URL", "postgres://nobody@127.0.0.1:1/none");
    let ran = finish(command).await;
    assert!(
        ran.stderr.contains("live-instance") || ran.stdout.contains("live-instance"),
        "{}{}",
        ran.stdout,
        ran.stderr
    );
    // While other tests run, the seconds may not suffice for the number of statements that a demo asks for, so its exit
    // code may be 1; nothing may fail or be lost though.
    assert!(matches!(ran.code, Some(0 | 1)), "{}{}", ran.stdout, ran.stderr);
    for version in ["v1", "v2"] {
        let start = format!("│ {version} ");
        let row = ran
            .stdout
            .lines()
            .find(|line| line.starts_with(&start))
            .unwrap_or_else(|| panic!("no row for {version}"));
        let counts: Vec<u64> = row.split_whitespace().filter_map(|word| word.parse().ok()).collect();
        assert!(counts[0] > 500, "{row}");
        assert_eq!(counts[1..], [0, 0], "errors or lost rows: {row}\n{}", ran.stdout);
    }
}
