//! What was begun and not finished, or taken back, and what comes next.

use super::support::{Project, finish};

/// What an abort has yet to take away is nothing to build on.
#[tokio::test]
async fn nothing_is_expanded_beside_an_abort_that_was_cut_off() {
    let project = Project::new(
        "CREATE TABLE t (id int PRIMARY KEY);",
        &[("0001_x.sql", "ALTER TABLE t ADD COLUMN x int;")],
    )
    .await;
    project.migrate(&["expand"]).await.expect(0);
    let mut command = project.command(&["abort", "1"]);
    command.env("PONTOON_FAULT", "abort.started@1");
    assert_eq!(finish(command).await.code, None);
    project.write("0002_y.sql", "CREATE INDEX ON t (x);");
    project
        .migrate(&["expand"])
        .await
        .expect(4)
        .says("an abort of migration 0001 was begun")
        .says("migrate abort 0001");
    project.migrate(&["up"]).await.expect(4).says("migrate abort 0001");
    project.migrate(&["abort", "1"]).await.expect(0);
}

/// A baseline counts what it covers as applied, also what was aborted and then done by hand.
#[tokio::test]
async fn a_baseline_covers_what_was_aborted() {
    let project = Project::new(
        "CREATE TABLE t (id int PRIMARY KEY);",
        &[("0001_x.sql", "ALTER TABLE t ADD COLUMN x int;")],
    )
    .await;
    project.migrate(&["expand"]).await.expect(0);
    project.migrate(&["abort", "1"]).await.expect(0);
    project.database.run("ALTER TABLE t ADD COLUMN x int").await;
    project.migrate(&["baseline", "1"]).await.expect(0);
    let why = "SELECT coalesce(reason, 'none') FROM pontoon.register('shop', 'web-1', '1')";
    assert_eq!(project.database.text(why).await, "none");
    project.migrate(&["expand"]).await.expect(0);
    project.write("0002_y.sql", "ALTER TABLE t ADD COLUMN y int;");
    project.migrate(&["expand"]).await.expect(0).says("0002 is");
}

/// An index that became a constraint stays one through a reopen, and the next contract finds it so.
#[tokio::test]
async fn a_constraint_on_an_index_outlasts_a_reopen() {
    let file = "ALTER TABLE t ADD CONSTRAINT k UNIQUE USING INDEX ready; ALTER TABLE t DROP COLUMN old;";
    let setup =
        "CREATE TABLE t (id int PRIMARY KEY, code text, old text); CREATE UNIQUE INDEX ready ON t (code);";
    let project = Project::new(setup, &[("0001_x.sql", file)]).await;
    project.migrate(&["expand"]).await.expect(0);
    project.register("web-1", "1").await;
    project.migrate(&["contract"]).await.expect(0).says("sealed");
    project.migrate(&["reopen", "1"]).await.expect(0);
    project.migrate(&["contract", "--soak", "0s"]).await.expect(0).says("0001 is done");
}

/// Rows that a migration has yet to look at are not hidden from the owner who runs it.
#[tokio::test]
async fn forced_row_security_waits_for_what_reads_the_rows() {
    let project = Project::new("CREATE TABLE t (id int PRIMARY KEY, a text);", &[]).await;
    let (database, role) = (&project.database, format!("owner_{}", project.database.name));
    database
        .run(&format!(
            "CREATE ROLE {role} LOGIN PASSWORD 'secret'; ALTER DATABASE {} OWNER TO {role}; ALTER TABLE t OWNER TO {role};
            ALTER SCHEMA public OWNER TO {role}",
            database.name
        ))
        .await;
    let url = format!("postgres://{role}:secret@{}", database.url.split_once('@').unwrap().1);
    let as_owner = |arguments: &[&str]| finish(project.command_at(&url, arguments));
    let rename = "ALTER TABLE t RENAME COLUMN a TO b;";
    let force = "ALTER TABLE t ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;";
    let says = "hides them from the table's owner";
    project.write("0001_x.sql", &format!("{rename} {force}"));
    as_owner(&["plan"]).await.expect(1).says(says);
    project.migrate(&["plan"]).await.expect(0);
    project.write("0001_x.sql", rename);
    as_owner(&["expand"]).await.expect(0);
    project.write("0002_y.sql", force);
    as_owner(&["expand"]).await.expect(1).says(says).says("when the other is contracted");
}
