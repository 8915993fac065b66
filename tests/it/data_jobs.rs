//! Data jobs: each row that was there at the start exactly once, whoever dies and however many work.

use super::support::{Project, finish};

const SETUP: &str = "
CREATE TABLE t (id int PRIMARY KEY, n int NOT NULL DEFAULT 0, name text, touched int);
CREATE TABLE copy (id int PRIMARY KEY, n int);
CREATE TABLE keyless (a int, b int);
CREATE TABLE tree (id int PRIMARY KEY, parent int REFERENCES tree, place int CONSTRAINT place_once UNIQUE DEFERRABLE);
CREATE TABLE gone (id int PRIMARY KEY); INSERT INTO gone SELECT generate_series(1, 20000);
CREATE TABLE gone_too (id int PRIMARY KEY, n int); INSERT INTO gone_too SELECT i, i FROM generate_series(1, 200) AS i;
INSERT INTO t SELECT i, 0, 'N' || i, i FROM generate_series(1, 20000) AS i;
CREATE VIEW numbers AS SELECT n FROM t; CREATE VIEW least_of_all AS SELECT min(n) AS s FROM numbers;
CREATE TABLE parts (id int PRIMARY KEY, n int) PARTITION BY RANGE (id); CREATE TABLE parts_1 PARTITION OF parts DEFAULT;
CREATE TABLE heads (id int PRIMARY KEY); CREATE TABLE tails (id int PRIMARY KEY, head int REFERENCES heads ON DELETE CASCADE, next int);
CREATE SCHEMA archive; CREATE TABLE archive.gone (id int PRIMARY KEY);";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_row_once_whoever_is_killed_and_later_rows_never() {
    let files = [(
        "0001_x.sql",
        "UPDATE t SET n = n * 10 + 1; DELETE FROM gone WHERE id > 19000; INSERT INTO copy (id, n) SELECT id, n FROM gone_too WHERE id <= 100;",
    )];
    let project = Project::new(SETUP, &files).await;
    project.migrate(&["expand"]).await.expect(0);
    // Two processes with two workers each, killed now and then at places that lose what is not committed with its marker.
    let faults =
        ["backfill.listed@1", "backfill.updated@3", "backfill.before_commit@7", "backfill.batch_done@11"];
    let mut killed = 0;
    for fault in faults {
        let one = |fault: &str| {
            let mut command = project.command(&["backfill", "--workers", "2"]);
            command.env("PONTOON_FAULT", fault);
            finish(command)
        };
        let (first, second) = tokio::join!(one(fault), one("backfill.updated@9"));
        killed += [first, second].iter().filter(|ran| ran.code.is_none()).count();
        project.database.run("INSERT INTO t (id, n) SELECT max(id) + 1, 0 FROM t").await;
    }
    assert!(killed >= 3, "only {killed} processes were killed");
    project.migrate(&["backfill"]).await.expect(0);
    let database = &project.database;
    let listed = "SELECT string_agg(DISTINCT n::text, ' ') FROM t WHERE id <= 20000";
    assert_eq!(database.text(listed).await, "1", "some rows were changed twice, or not at all");
    assert_eq!(database.text("SELECT string_agg(DISTINCT n::text, ' ') FROM t WHERE id > 20000").await, "0");
    assert_eq!(database.text("SELECT count(*) || ' ' || max(id) FROM gone").await, "19000 19000");
    assert_eq!(database.text("SELECT count(*) || ' ' || sum(n) FROM copy").await, "100 5050");
    assert_eq!(
        database.text("SELECT count(*)::text FROM pg_class WHERE relname LIKE 'list%' AND relnamespace = 'pontoon'::regnamespace").await,
        "0"
    );
}

#[tokio::test]
async fn what_cannot_be_counted_out_is_refused() {
    let project = Project::new(SETUP, &[]).await;
    for (file, says) in [
        ("UPDATE keyless SET a = 1;", "no primary key"),
        ("UPDATE t SET id = id + 1;", "tells the rows apart"),
        ("DELETE FROM t WHERE id > 5 RETURNING id;", "RETURNING"),
        ("INSERT INTO copy SELECT id, count(*) FROM t GROUP BY id;", "GROUP BY"),
        ("INSERT INTO copy SELECT * FROM copy AS c;", "names of columns"),
        ("INSERT INTO copy (id) SELECT max(id) FROM t;", "the aggregate `max`"),
        ("UPDATE t SET nothing = 1;", "no column `nothing`"),
        ("INSERT INTO copy (id) SELECT id FROM t UNION SELECT 1;", "SELECT … UNION"),
        (
            "DELETE FROM tree WHERE id > 10;",
            "tree_parent_fkey of `public.tree` may hold only when all rows are done",
        ),
        ("INSERT INTO tree (id, parent) SELECT id, id - 1 FROM t;", "tree_parent_fkey of `public.tree`"),
        ("UPDATE tree SET place = place + 1;", "place_once of `public.tree`"),
        ("INSERT INTO copy (id) SELECT v.id FROM (VALUES (1)) AS v (id), t;", "does not begin with a table"),
        ("WITH w AS (DELETE FROM t RETURNING id) INSERT INTO copy (id) SELECT 1;", "a WITH clause"),
        (
            "UPDATE t SET n = 1 WHERE id = 1; INSERT INTO copy (id) SELECT 1 WHERE EXISTS (SELECT FROM t WHERE n = 1);",
            "split the file",
        ),
        ("UPDATE t SET n = n + (SELECT sum(n) FROM t);", "reads other rows of it"),
        ("UPDATE t SET n = o.n FROM t AS o WHERE o.id = t.id - 1;", "reads other rows of it"),
        ("DELETE FROM t WHERE ctid NOT IN (SELECT min(ctid) FROM t GROUP BY n);", "reads other rows of it"),
        (
            "INSERT INTO copy SELECT t.id, t.n FROM t RIGHT JOIN copy AS c ON c.id = t.id;",
            "RIGHT or FULL JOIN",
        ),
        ("INSERT INTO copy (id) SELECT \"count\"(*) FROM t;", "the aggregate `count`"),
        ("INSERT INTO copy (id) SELECT id FROM gone; DELETE FROM gone;", "split the file"),
        ("DELETE FROM t; INSERT INTO t (id) VALUES (1);", "split the file"),
        (
            "CREATE TABLE z (a int PRIMARY KEY); INSERT INTO z VALUES (1); UPDATE t SET n = z.a FROM z WHERE z.a = t.id; DELETE FROM z;",
            "split the file",
        ),
        (
            "DELETE FROM t WHERE name IS NULL; ALTER TABLE t ADD COLUMN num int; UPDATE t SET num = name::int;",
            "split the file",
        ),
        (
            "DELETE FROM t WHERE name IS NULL; ALTER TABLE t ALTER COLUMN name TYPE int USING name::int;",
            "split the file",
        ),
        ("UPDATE t SET n = 1; CREATE MATERIALIZED VIEW m AS SELECT sum(n) FROM t;", "split the file"),
        (
            "CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'; CREATE TRIGGER tr BEFORE UPDATE ON t FOR EACH ROW EXECUTE FUNCTION f(); UPDATE t SET n = n;",
            "split the file",
        ),
        (
            "ALTER TABLE t ADD COLUMN k int; UPDATE t SET k = 5; INSERT INTO t (id) VALUES (30001);",
            "put the INSERT above",
        ),
        (
            "ALTER TABLE t ADD COLUMN k int; UPDATE t SET k = 5; INSERT INTO t (id) SELECT id FROM gone;",
            "put the INSERT above",
        ),
        ("ALTER TABLE copy DROP COLUMN n; INSERT INTO copy SELECT id FROM t;", "split the file"),
        (
            "ALTER TABLE gone_too DROP COLUMN n; INSERT INTO copy SELECT g.* FROM gone_too AS g;",
            "split the file",
        ),
        (
            "UPDATE t SET n = touched; UPDATE t SET touched = 1 WHERE touched IS NULL; ALTER TABLE t ALTER touched SET NOT NULL;",
            "split the file",
        ),
        (
            "ALTER TABLE t ADD COLUMN loud text; UPDATE t SET loud = upper(name); UPDATE t SET name = 'x';",
            "split the file",
        ),
        ("CREATE TABLE fresh (id int); INSERT INTO fresh SELECT id FROM t;", "a move between tables"),
        (
            "INSERT INTO copy (id) WITH t AS (SELECT * FROM gone WHERE id < 10) SELECT id FROM t;",
            "a WITH clause",
        ),
        ("INSERT INTO copy (id) SELECT id FROM t FETCH FIRST 5 ROWS ONLY;", "FETCH FIRST"),
        ("INSERT INTO copy (id) SELECT id FROM t TABLESAMPLE BERNOULLI (50);", "TABLESAMPLE"),
        ("DELETE FROM ONLY parts;", "ONLY a table"),
        ("UPDATE ONLY parts SET n = 0;", "ONLY a table"),
        ("DELETE FROM t WHERE random() < 0.5;", "`random` decides on the rows"),
        ("UPDATE t SET n = s FROM least_of_all;", "reads other rows of it"),
        ("UPDATE parts SET n = n - (SELECT min(n) FROM parts_1);", "reads other rows of it"),
        ("DELETE FROM heads WHERE id IN (SELECT next FROM tails);", "reads other rows of it"),
    ] {
        project.write("0001_x.sql", file);
        let ran = project.migrate(&["expand"]).await;
        ran.expect(1);
        assert!(ran.stderr.contains(says), "{file}\n{}", ran.stderr);
    }
}

#[tokio::test]
async fn a_statement_that_the_server_refuses_fails_in_expand_and_a_row_that_it_refuses_is_named() {
    let project = Project::new(SETUP, &[("0001_x.sql", "UPDATE t SET n = 1 WHERE nothing > 0;")]).await;
    project.migrate(&["expand"]).await.expect(1).says("\"nothing\" does not exist");
    project.write("0001_x.sql", "UPDATE t SET touched = 10 / (id - 17);");
    project.migrate(&["expand"]).await.expect(0);
    project
        .migrate(&["backfill"])
        .await
        .expect(1)
        .says("a row of public.t cannot be changed")
        .says("row with id = 17");
    project.database.run("DELETE FROM t WHERE id = 17").await;
    project.migrate(&["backfill"]).await.expect(0);
    assert_eq!(project.database.text("SELECT sum(touched - 10 / (id - 17))::text FROM t").await, "0");
}

/// Old and new code see what a data job changed through the sync triggers of its own and of other migrations.
#[tokio::test]
async fn a_data_job_writes_through_sync_triggers() {
    let files = [
        ("0001_x.sql", "ALTER TABLE t RENAME COLUMN name TO title;"),
        (
            "0002_x.sql",
            "ALTER TABLE t ADD COLUMN loud text; UPDATE t SET title = lower(title) WHERE id <= 10;",
        ),
    ];
    let project = Project::new(SETUP, &files).await;
    project.migrate(&["expand"]).await.expect(0);
    project.migrate(&["backfill"]).await.expect(0);
    assert_eq!(
        project.database.text("SELECT count(*)::text FROM t WHERE name = title AND name LIKE 'n%'").await,
        "10"
    );
    project.register("web-1", "2").await;
    project.write("0003_x.sql", "ALTER TABLE t DROP COLUMN title;");
    project.migrate(&["expand"]).await.expect(1).says("still moving");
    project.migrate(&["contract", "--soak", "0s"]).await.expect(0);
    assert_eq!(project.database.text("SELECT count(*)::text FROM t WHERE title LIKE 'n%'").await, "10");
    project.migrate(&["expand"]).await.expect(0);
}

#[tokio::test]
async fn abort_forgets_the_list_and_says_what_stays() {
    let project =
        Project::new(SETUP, &[("0001_x.sql", "UPDATE t SET n = n + 1; ALTER TABLE t ADD COLUMN x int;")])
            .await;
    project
        .migrate(&["plan"])
        .await
        .expect(0)
        .says("abort leaves this in place: what UPDATE public.t changed");
    project.migrate(&["expand"]).await.expect(0);
    let mut command = project.command(&["backfill"]);
    command.env("PONTOON_FAULT", "backfill.batch_done@5");
    assert_eq!(finish(command).await.code, None);
    project.migrate(&["abort", "1"]).await.expect(0);
    let left = "SELECT count(*)::text FROM pg_class WHERE relname LIKE 'list%' AND relnamespace = 'pontoon'::regnamespace";
    assert_eq!(project.database.text(left).await, "0");
}

/// An UPDATE that asks other rows how to come within a rule is done once; what old code does meanwhile is listed.
#[tokio::test]
async fn orphans_are_mended_once_and_those_that_come_later_are_listed() {
    let setup = "CREATE TABLE teams (id int PRIMARY KEY); INSERT INTO teams VALUES (1), (2);
        CREATE TABLE people (id int PRIMARY KEY, team int); INSERT INTO people SELECT i, i % 5 FROM generate_series(1, 500) AS i;";
    let file = "UPDATE people SET team = NULL WHERE team NOT IN (SELECT id FROM teams);
        ALTER TABLE people ADD FOREIGN KEY (team) REFERENCES teams;";
    let project = Project::new(setup, &[("0001_x.sql", file)]).await;
    project.migrate(&["expand"]).await.expect(0);
    project.migrate(&["backfill"]).await.expect(0);
    assert_eq!(project.database.text("SELECT count(*)::text FROM people WHERE team IS NULL").await, "300");
    project.database.run("INSERT INTO people VALUES (501, 9)").await;
    project.register("web-1", "1").await;
    project.migrate(&["contract"]).await.expect(1).says("row with id = 501");
    project.database.run("UPDATE people SET team = 1 WHERE id = 501").await;
    project.migrate(&["contract"]).await.expect(0).says("0001 is done");
}

/// The usual three statements of a column that gets a default and becomes NOT NULL, in the usual order.
#[tokio::test]
async fn a_default_may_stand_below_the_update_of_the_rows_that_have_none() {
    let file = "UPDATE t SET name = 'none' WHERE name IS NULL;
        ALTER TABLE t ALTER COLUMN name SET DEFAULT 'none', ALTER COLUMN name SET NOT NULL;";
    let project = Project::new(SETUP, &[("0001_x.sql", file)]).await;
    project.database.run("UPDATE t SET name = NULL WHERE id % 2 = 0").await;
    project.migrate(&["expand"]).await.expect(0);
    project
        .database
        .run("INSERT INTO t (id) VALUES (30001); INSERT INTO t (id, name) VALUES (30002, NULL)")
        .await;
    project.migrate(&["up"]).await.expect(0).says("0001 is done");
    assert_eq!(project.database.text("SELECT count(*)::text FROM t WHERE name = 'none'").await, "10002");
}

/// What a job still needs is not taken away by a migration that comes after it, and a rewrite of its list means nothing.
#[tokio::test]
async fn what_a_job_needs_is_held_and_its_list_may_be_rewritten() {
    let files = [("0001_x.sql", "UPDATE t SET n = t.n * 10 + g.n FROM gone_too AS g WHERE g.id = t.id;")];
    let project = Project::new(SETUP, &files).await;
    project.migrate(&["expand"]).await.expect(0);
    for file in [
        "ALTER TABLE gone_too DROP COLUMN n;",
        "DROP TABLE gone_too;",
        "ALTER TABLE gone_too RENAME TO others;",
    ] {
        project.write("0002_x.sql", file);
        project.migrate(&["expand"]).await.expect(1).says("migrate contract");
    }
    std::fs::remove_file(project.path("migrations/0002_x.sql")).unwrap();
    let mut command = project.command(&["backfill"]);
    command.env("PONTOON_FAULT", "backfill.batch_done@3");
    assert_eq!(finish(command).await.code, None);
    project.database.run("VACUUM FULL pontoon.list_1_1").await;
    project.migrate(&["backfill"]).await.expect(0);
    assert_eq!(project.database.text("SELECT sum(n - id)::text FROM t WHERE id <= 200").await, "0");
}

/// What a later migration writes or reads comes after the rows of a job, as it stands after them.
#[tokio::test]
async fn a_later_migration_waits_for_the_rows_of_a_job() {
    let project =
        Project::new(SETUP, &[("0001_x.sql", "UPDATE copy SET n = t.n + 1 FROM t WHERE t.id = copy.id;")])
            .await;
    project.database.run("INSERT INTO copy SELECT id FROM t WHERE id < 6").await;
    project.migrate(&["expand"]).await.expect(0);
    for file in [
        "INSERT INTO copy VALUES (0, 1);",
        "INSERT INTO t VALUES (0);",
        "CREATE MATERIALIZED VIEW m AS SELECT sum(n) FROM copy;",
        "-- migrate: phase expand\nUPDATE copy SET n = 0;",
    ] {
        project.write("0002_x.sql", file);
        project.migrate(&["expand"]).await.expect(1).says("migrate backfill 0001");
    }
    project.write("0002_x.sql", "UPDATE copy SET n = n * 2;");
    project.migrate(&["expand"]).await.expect(0);
    project.migrate(&["backfill", "2"]).await.expect(4).says("migrate backfill 0001");
    project.migrate(&["backfill"]).await.expect(0);
    assert_eq!(project.database.text("SELECT sum(n)::text FROM copy").await, "10");
    project.write("0003_x.sql", "INSERT INTO copy VALUES (0, 7);");
    project.migrate(&["expand"]).await.expect(0);
}

/// Tables of one name in two schemas are two tables.
#[tokio::test]
async fn rows_go_to_the_archive() {
    let files = [
        ("0001_x.sql", "INSERT INTO archive.gone (id) SELECT id FROM public.gone WHERE id < 50;"),
        ("0002_x.sql", "DELETE FROM gone USING archive.gone AS g WHERE g.id = gone.id;"),
    ];
    let project = Project::new(SETUP, &files).await;
    project.migrate(&["up"]).await.expect(0);
    let left = "SELECT (SELECT count(*) FROM archive.gone) || ' ' || (SELECT count(*) FROM gone)";
    assert_eq!(project.database.text(left).await, "49 19951");
}

#[tokio::test]
async fn abort_counts_new_columns_of_types_without_a_schema() {
    let file = "CREATE TYPE mood AS ENUM ('a', 'b'); CREATE SCHEMA arch; ALTER TABLE t ADD COLUMN mood mood NOT NULL DEFAULT 'a';";
    let project = Project::new(SETUP, &[("0001_x.sql", file)]).await;
    project.migrate(&["expand"]).await.expect(0);
    project.migrate(&["abort", "1"]).await.expect(0);
    project.migrate(&["expand", "--to", "1"]).await.expect(0);
}

#[tokio::test]
async fn rows_that_stand_in_the_statement_are_there_from_expand_on() {
    let file = "INSERT INTO copy (id) SELECT 1 WHERE NOT EXISTS (SELECT FROM copy WHERE id = 1);
        INSERT INTO copy (id) SELECT 1 WHERE NOT EXISTS (SELECT FROM copy WHERE id = 1);
        INSERT INTO copy (id) (SELECT 2 UNION ALL (SELECT v.id FROM (VALUES (3)) AS v (id)));
        INSERT INTO copy (id, n) SELECT i, i FROM generate_series(3, 6) AS i ON CONFLICT DO NOTHING RETURNING id;";
    let project = Project::new(SETUP, &[("0001_x.sql", file)]).await;
    project.migrate(&["expand"]).await.expect(0);
    let rows = project
        .database
        .text("SELECT string_agg(id || coalesce(':' || n, ''), ' ' ORDER BY id) FROM copy")
        .await;
    assert_eq!(rows, "1 2 3 4:4 5:5 6:6");
}

/// An abort takes back no data; to do to them once more what it left takes a word.
#[tokio::test]
async fn what_an_abort_left_is_not_done_a_second_time_without_a_word() {
    let file = "CREATE TYPE other AS ENUM ('x'); ALTER TYPE mood ADD VALUE 'b' BEFORE 'z';
        INSERT INTO copy VALUES (9, 9); UPDATE t SET n = n + 100 WHERE id <= 20;";
    let setup = format!("{SETUP} CREATE TYPE mood AS ENUM ('a', 'z');");
    let project = Project::new(&setup, &[("0001_x.sql", file)]).await;
    let database = &project.database;
    let sum = "SELECT sum(n)::text FROM t";
    project.migrate(&["expand"]).await.expect(0);
    project.migrate(&["backfill"]).await.expect(0);
    project
        .migrate(&["abort", "1"])
        .await
        .expect(0)
        .says("left in place: the rows inserted into public.copy")
        .says("left in place: 20 rows that the data job on public.t changed");
    project.migrate(&["status"]).await.expect(0).says("migrate expand --to 0001");
    project.migrate(&["up"]).await.expect(0).says("to try it again: migrate expand --to 0001");
    project
        .migrate(&["expand", "--to", "1"])
        .await
        .expect(4)
        .says("what it had done to the data is still there")
        .says("20 rows that the data job on public.t changed")
        .says("--again");
    assert_eq!(database.text(sum).await, "2000");
    // An author may redo; everybody else says so. The label is there, which is no error.
    database.run("DELETE FROM copy; UPDATE t SET n = 0").await;
    project.migrate(&["expand", "--to", "1", "--again"]).await.expect(0);
    // What the first try left is there although the second had not begun.
    project
        .migrate(&["abort", "1"])
        .await
        .expect(0)
        .says("20 rows")
        .says("abort leaves the added enum value in place");
    project.migrate(&["expand", "--to", "1"]).await.expect(4);
    database.run("DELETE FROM copy").await;
    project.migrate(&["expand", "--to", "1", "--again"]).await.expect(0);
    project.migrate(&["up"]).await.expect(0).says("0001 is done");
    assert_eq!(database.text(sum).await, "2000");
    assert_eq!(database.text("SELECT array_to_string(enum_range(NULL::mood), ' ')").await, "a b z");
    // Where nothing had been done yet, there is nothing to ask about.
    project.write("0002_x.sql", "UPDATE t SET n = n + 1;");
    project.migrate(&["expand"]).await.expect(0);
    project.migrate(&["abort", "2"]).await.expect(0);
    project.migrate(&["expand", "--to", "2"]).await.expect(0);
}
