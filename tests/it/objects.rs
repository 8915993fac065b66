//! Views, functions, types, policies and their like: what is refused before anything runs, and what a reopen brings back.

use super::support::shape::shape;
use super::support::{Project, connect, text};

const SETUP: &str = "
CREATE TYPE mood AS ENUM ('sad', 'ok');
CREATE TABLE t (id int PRIMARY KEY, name text NOT NULL DEFAULT '', mood mood, gen text GENERATED ALWAYS AS (name || '!') STORED);
CREATE TABLE u (id int PRIMARY KEY, t_id int CONSTRAINT points REFERENCES t);
CREATE VIEW v AS SELECT id, name FROM t;
CREATE VIEW w AS SELECT * FROM v;
CREATE FUNCTION f(who int) RETURNS text LANGUAGE sql STABLE BEGIN ATOMIC SELECT name FROM t WHERE id = who; END;
CREATE FUNCTION f(who text) RETURNS text LANGUAGE sql STABLE AS 'SELECT who';
INSERT INTO t (id) SELECT generate_series(1, 10);";

#[tokio::test]
async fn what_stands_in_the_way_is_listed_before_anything_runs() {
    for (file, says) in [
        ("DROP VIEW v;", "view public.w"),
        ("DROP TYPE mood;", "column mood of table public.t"),
        ("DROP TABLE t;", "constraint points on table public.u"),
        ("DROP TABLE t CASCADE;", "CASCADE"),
        ("ALTER TABLE t DROP COLUMN name;", "column gen of table public.t"),
        ("ALTER TABLE t ALTER COLUMN id TYPE bigint;", "function public.f(integer)"),
        ("DROP VIEW nothing;", "there is no view `nothing`"),
        ("DROP FUNCTION f;", "there is no function `f`, or more than one"),
        ("DROP INDEX t_pkey;", "part of constraint t_pkey"),
        ("DROP POLICY p ON t;", "there is no policy `p`"),
        (
            "DROP VIEW w; CREATE VIEW w AS SELECT 1 AS one; UPDATE t SET name = (SELECT max(one)::text FROM w);",
            "split the file",
        ),
        (
            "CREATE OR REPLACE VIEW w AS SELECT id, name FROM t; ALTER TABLE t DROP COLUMN name;",
            "view public.v",
        ),
        ("DROP TYPE mood; CREATE TYPE mood AS ENUM ('new');", "dependants"),
        ("ALTER VIEW v RENAME TO w;", "`public.w` exists already"),
    ] {
        let project = Project::new(SETUP, &[("0001_x.sql", file)]).await;
        let ran = project.migrate(&["expand"]).await;
        ran.expect(1);
        assert!(ran.stderr.contains(says), "{file}\n{}", ran.stderr);
    }
}

#[tokio::test]
async fn what_a_migration_in_flight_replaces_is_left_alone_until_it_is_contracted() {
    let files = [
        ("0001_x.sql", "DROP VIEW w; CREATE VIEW w AS SELECT id FROM v;"),
        (
            "0002_x.sql",
            "CREATE OR REPLACE FUNCTION f(who text) RETURNS text LANGUAGE sql STABLE AS 'SELECT upper(who)';",
        ),
    ];
    let project = Project::new(SETUP, &files).await;
    project.migrate(&["expand"]).await.expect(0);
    project.write("0003_x.sql", "DROP VIEW w;");
    project
        .migrate(&["expand"])
        .await
        .expect(1)
        .says("migration 0001 is to take away or replace the view public.w");
    project.write("0003_x.sql", "DROP FUNCTION f(text);");
    project.migrate(&["expand"]).await.expect(1).says("migration 0002 is to take away or replace");
    project.write("0003_x.sql", "DROP FUNCTION f(int);");
    project.migrate(&["expand"]).await.expect(0);
    project.register("web-1", "3").await;
    project.migrate(&["contract", "--soak", "0s"]).await.expect(0);
    assert_eq!(project.database.text("SELECT f('a')").await, "A");
}

#[tokio::test]
async fn another_overload_is_a_new_function() {
    let file =
        "CREATE OR REPLACE FUNCTION f(who bigint) RETURNS text LANGUAGE sql STABLE AS 'SELECT ''big''';";
    let project = Project::new(SETUP, &[("0001_x.sql", file)]).await;
    project.migrate(&["expand"]).await.expect(0);
    assert_eq!(project.database.text("SELECT f(1::bigint)").await, "big");
    project.migrate(&["abort", "1"]).await.expect(0);
    assert_eq!(project.database.text("SELECT count(*)::text FROM pg_proc WHERE proname = 'f'").await, "2");
}

/// A view that somebody built on a hidden one stops the drop before it begins, and the reopen still works.
#[tokio::test]
async fn a_late_dependant_stops_the_drop_and_not_the_reopen() {
    let project = Project::new(SETUP, &[("0001_x.sql", "DROP VIEW w; DROP VIEW v; DROP FUNCTION f(int); ALTER TABLE t DROP COLUMN gen; ALTER TABLE t DROP COLUMN name;")]).await;
    let mut connection = connect(&project.database.url).await;
    project.migrate(&["expand"]).await.expect(0);
    let before = shape(&mut connection).await;
    project.register("web-1", "1").await;
    project.migrate(&["contract"]).await.expect(0).says("sealed");
    project.database.run("CREATE VIEW late AS SELECT * FROM _pontoon_1_w").await;
    project
        .migrate(&["contract", "--soak", "0s"])
        .await
        .expect(4)
        .says("drop view public.w would fail")
        .says("migrate reopen 0001");
    project.database.run("DROP VIEW late").await;
    project.migrate(&["reopen", "1", "--accept-nulls"]).await.expect(0);
    assert_eq!(shape(&mut connection).await, before);
    project.migrate(&["contract", "--soak", "0s"]).await.expect(0);
    assert_eq!(text(&mut connection, "SELECT string_agg(relname, ' ') FROM pg_class WHERE relkind = 'v' AND relnamespace = 'public'::regnamespace").await, "");
}

#[tokio::test]
async fn a_virtual_column_needs_a_server_that_has_them() {
    let file = "ALTER TABLE t ADD COLUMN loud text GENERATED ALWAYS AS (upper(name)) VIRTUAL;";
    let project = Project::new(SETUP, &[("0001_x.sql", file)]).await;
    let version: u32 = project.database.text("SHOW server_version_num").await.parse().unwrap();
    if version < 180_000 {
        project.migrate(&["expand"]).await.expect(1).says("before PostgreSQL 18");
        return;
    }
    project.migrate(&["expand"]).await.expect(0);
    project.database.run("UPDATE t SET name = 'a'").await;
    assert_eq!(project.database.text("SELECT DISTINCT loud FROM t").await, "A");
    project.migrate(&["abort", "1"]).await.expect(0);
}
