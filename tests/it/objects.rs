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
    let project = Project::new(SETUP, &[]).await;
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
        (
            "ALTER TYPE mood RENAME TO mood_old; CREATE TYPE mood AS ENUM ('ok');",
            "let the new one take its name",
        ),
        ("ALTER VIEW v RENAME TO w;", "`public.w` exists already"),
    ] {
        project.write("0001_x.sql", file);
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
        .says("migration 0001 is to change or take away the view public.w");
    project.write("0003_x.sql", "DROP FUNCTION f(text);");
    project.migrate(&["expand"]).await.expect(1).says("migration 0002 is to change or take away");
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

/// What psql takes and what it refuses, and what would end half way: nothing of it gets beyond planning.
#[tokio::test]
async fn files_that_would_end_half_way_or_wrong_are_refused_before_anything_runs() {
    let setup = format!(
        "{SETUP} CREATE TABLE o (id int); CREATE SEQUENCE s; CREATE INDEX by_name ON t (name); CREATE UNIQUE INDEX by_both ON t (id, name);
         CREATE POLICY p ON t USING (name <> ''); CREATE FUNCTION norm(x text) RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT x';
         CREATE FUNCTION typed(x t.name%TYPE) RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT x';"
    );
    let project = Project::new(&setup, &[]).await;
    let mut connection = project.database.connect().await;
    let before = shape(&mut connection).await;
    for file in [
        "REVOKE ALL ON o FROM PUBLIC; DROP TABLE o;",
        "REVOKE ALL ON w FROM PUBLIC; ALTER VIEW w RENAME TO x;",
        "REVOKE SELECT (name) ON t FROM PUBLIC; ALTER TABLE t RENAME COLUMN name TO title;",
        "REVOKE ALL ON o FROM PUBLIC; GRANT SELECT ON o TO PUBLIC;",
        "DROP INDEX by_both; CREATE TABLE n (a int, b text, FOREIGN KEY (a, b) REFERENCES t (id, name));",
        "CREATE OR REPLACE VIEW w AS SELECT id, name, 1 AS more FROM v;",
        "CREATE OR REPLACE VIEW w AS SELECT id FROM v;",
        "CREATE OR REPLACE FUNCTION norm(y text) RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT y';",
        "CREATE OR REPLACE FUNCTION typed(x t.name%TYPE) RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT x || x';",
        "CREATE OR REPLACE FUNCTION norm(x text) RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT upper(x)'; ALTER TABLE t ADD COLUMN n text; UPDATE t SET n = norm(name);",
        "DROP TABLE o; CREATE TABLE IF NOT EXISTS o (id bigint);",
        "DROP INDEX by_name; CREATE INDEX IF NOT EXISTS by_name ON t (id);",
        "CREATE VIEW nv AS SELECT 1 AS x; DROP VIEW IF EXISTS nv;",
        "ALTER TABLE t ENABLE ROW LEVEL SECURITY; ALTER TABLE t DISABLE ROW LEVEL SECURITY;",
        "ALTER VIEW w RENAME TO x; CREATE OR REPLACE VIEW w AS SELECT id, name FROM v;",
        "ALTER VIEW w RENAME TO x; GRANT SELECT ON x TO PUBLIC;",
        "ALTER TABLE t RENAME COLUMN name TO title; CREATE OR REPLACE VIEW v AS SELECT id, title AS name FROM t;",
        "CREATE VIEW x AS SELECT * FROM w; DROP VIEW w;",
        "CREATE TABLE n (m mood); ALTER TABLE t DROP COLUMN mood; DROP TYPE mood;",
        "DROP VIEW w; CREATE VIEW w AS SELECT name FROM t; ALTER TABLE t DROP COLUMN gen; DROP VIEW v; DROP FUNCTION f(int); DROP POLICY p ON t; ALTER TABLE t DROP COLUMN name;",
        "ALTER FUNCTION f(int) SET SCHEMA nowhere;",
        "ALTER TYPE mood RENAME VALUE 'happy' TO 'glad';",
        "DROP VIEW w; CREATE MATERIALIZED VIEW w AS SELECT 1 AS one;",
        "ALTER TABLE u RENAME TO us; ALTER TABLE us ADD COLUMN x int;",
        "ALTER TABLE u RENAME TO us; CREATE INDEX ON u (t_id);",
        "ALTER TABLE u RENAME TO us; INSERT INTO us VALUES (1, 1);",
    ] {
        project.write("0001_x.sql", file);
        let ran = project.migrate(&["expand"]).await;
        assert_eq!(ran.code, Some(1), "{file}\n{}{}", ran.stdout, ran.stderr);
        assert_eq!(shape(&mut connection).await, before, "{file}");
    }
}

#[tokio::test]
async fn what_an_earlier_migration_makes_or_takes_away_later_is_not_named_by_the_next() {
    for (first, second) in [
        ("ALTER VIEW w RENAME TO x;", "DROP VIEW IF EXISTS x;"),
        ("ALTER VIEW w RENAME TO x;", "CREATE VIEW x AS SELECT 1 AS one;"),
        ("DROP VIEW w;", "CREATE VIEW x AS SELECT * FROM w;"),
        ("DROP VIEW w; CREATE VIEW w AS SELECT id FROM t;", "GRANT SELECT ON w TO PUBLIC;"),
        ("ALTER TABLE t ENABLE ROW LEVEL SECURITY;", "ALTER TABLE t DISABLE ROW LEVEL SECURITY;"),
        ("CREATE POLICY q ON t AS RESTRICTIVE USING (true);", "DROP POLICY IF EXISTS q ON t;"),
        ("REVOKE ALL ON u FROM PUBLIC;", "GRANT SELECT ON u TO PUBLIC;"),
        ("ALTER TABLE u DROP COLUMN t_id;", "DROP VIEW w; CREATE VIEW w AS SELECT * FROM u;"),
        ("ALTER TABLE u DROP COLUMN t_id;", "DROP VIEW w; CREATE VIEW w AS SELECT t_id FROM u;"),
        ("ALTER TABLE u RENAME COLUMN t_id TO tid;", "DROP VIEW w; CREATE VIEW w AS SELECT id, tid FROM u;"),
        ("DROP TABLE u;", "ALTER TABLE u ADD COLUMN x int;"),
        ("ALTER TABLE u RENAME TO us;", "INSERT INTO us VALUES (1, 1);"),
        ("ALTER TABLE u RENAME TO us;", "CREATE VIEW x AS SELECT * FROM us;"),
    ] {
        let project = Project::new(SETUP, &[("0001_x.sql", first)]).await;
        project.migrate(&["expand"]).await.expect(0);
        project.write("0002_x.sql", second);
        let ran = project.migrate(&["expand"]).await;
        assert!(
            ran.code == Some(1) && ran.stderr.contains("let it finish first"),
            "{first} {second}\n{}",
            ran.stderr
        );
        project.register("web-1", "1").await;
        project.migrate(&["contract", "--soak", "0s"]).await.expect(0);
    }
}

/// Old and new objects of one name change in one transaction, indexes of a materialized view with it; policies and triggers
/// of one name are told apart by their tables.
#[tokio::test]
async fn what_is_replaced_together_is_replaced_in_one_step() {
    let setup = format!(
        "{SETUP} CREATE MATERIALIZED VIEW m AS SELECT id FROM t; CREATE UNIQUE INDEX by_id ON m (id);
         CREATE POLICY p ON t USING (true); CREATE POLICY p ON u USING (true);"
    );
    let file = "DROP VIEW w; DROP VIEW v; CREATE VIEW v AS SELECT id FROM t; CREATE VIEW w AS SELECT id FROM v;
        DROP MATERIALIZED VIEW m; CREATE MATERIALIZED VIEW m AS SELECT id + 1 AS id FROM t; CREATE UNIQUE INDEX by_id ON m (id);
        DROP POLICY p ON t; DROP POLICY p ON u; CREATE POLICY p ON t USING (id > 0); CREATE POLICY p ON u USING (id > 1);";
    let project = Project::new(&setup, &[("0001_x.sql", file)]).await;
    let mut connection = project.database.connect().await;
    project.migrate(&["expand"]).await.expect(0);
    let before = shape(&mut connection).await;
    project.register("web-1", "1").await;
    let sealed = project.migrate(&["contract"]).await;
    sealed.expect(0).says("hide or replace view public.w, view public.v, materialized view public.m");
    project.database.run("CREATE VIEW late AS SELECT * FROM w").await;
    project.migrate(&["reopen", "1"]).await.expect(4).says("would fail");
    project.database.run("DROP VIEW late").await;
    project.migrate(&["reopen", "1"]).await.expect(0);
    assert_eq!(shape(&mut connection).await, before);
    project.migrate(&["contract", "--soak", "0s"]).await.expect(0);
    assert_eq!(project.database.text("SELECT count(*)::text FROM pg_policy WHERE polname = 'p'").await, "2");
}

/// A policy and a trigger on a column that changes its name or type change with it, in the transaction of its table.
#[tokio::test]
async fn policies_and_triggers_change_with_their_column() {
    let setup = "CREATE TABLE t (id int PRIMARY KEY, qty int NOT NULL, name text NOT NULL DEFAULT ''); INSERT INTO t SELECT i, i FROM generate_series(1, 50) AS i;
        ALTER TABLE t ENABLE ROW LEVEL SECURITY; CREATE POLICY p ON t USING (qty > 0); CREATE POLICY named ON t USING (name <> 'x');
        CREATE FUNCTION stamp() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
        CREATE TRIGGER s BEFORE UPDATE OF qty ON t FOR EACH ROW WHEN (NEW.qty > 5) EXECUTE FUNCTION stamp();";
    let file = "DROP POLICY p ON t; DROP TRIGGER s ON t; DROP POLICY named ON t;
        ALTER TABLE t ALTER COLUMN qty TYPE bigint; ALTER TABLE t RENAME COLUMN name TO title;
        CREATE POLICY p ON t USING (qty > 1); CREATE POLICY named ON t USING (title <> 'x');
        CREATE TRIGGER s BEFORE UPDATE OF qty ON t FOR EACH ROW WHEN (NEW.qty > 6) EXECUTE FUNCTION stamp();";
    let project = Project::new(setup, &[("0001_x.sql", file)]).await;
    let mut connection = project.database.connect().await;
    project.migrate(&["expand"]).await.expect(0);
    project.migrate(&["backfill"]).await.expect(0);
    let open = shape(&mut connection).await;
    project.register("web-1", "1").await;
    project.migrate(&["contract"]).await.expect(0).says("sealed");
    project.migrate(&["reopen", "1"]).await.expect(0);
    assert_eq!(shape(&mut connection).await, open);
    project.migrate(&["contract", "--soak", "0s"]).await.expect(0);
    let plain = Project::new(setup, &[]).await;
    plain.database.run(file).await;
    assert_eq!(shape(&mut connection).await, shape(&mut plain.database.connect().await).await);
}

/// Files as teams write them are not refused.
#[tokio::test]
async fn ordinary_files_about_objects_go_through() {
    for file in [
        "CREATE OR REPLACE FUNCTION f(who text) RETURNS text LANGUAGE sql STABLE AS 'SELECT who || who';
         COMMENT ON FUNCTION f(text) IS 'twice'; GRANT EXECUTE ON FUNCTION f(text) TO PUBLIC;",
        "CREATE FUNCTION stamp() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
         CREATE TRIGGER stamp BEFORE UPDATE ON t FOR EACH ROW EXECUTE FUNCTION stamp();",
        "CREATE FUNCTION locked() RETURNS int LANGUAGE sql SECURITY DEFINER AS 'SELECT 1';
         REVOKE ALL ON FUNCTION locked() FROM PUBLIC; GRANT EXECUTE ON FUNCTION locked() TO CURRENT_USER;",
        "CREATE INDEX by_both ON t (id, name); ALTER TABLE t CLUSTER ON by_both; DROP VIEW w;",
        "DROP VIEW v, w; DROP FUNCTION f(int); DROP TABLE t, u;",
        "REVOKE ALL ON u FROM PUBLIC; REVOKE SELECT ON u, t FROM PUBLIC; REVOKE ALL ON t FROM PUBLIC;",
        "ALTER TABLE u ENABLE ROW LEVEL SECURITY; CREATE POLICY mine ON u USING (t_id > 0);",
        "CREATE TYPE size AS ENUM ('s'); ALTER TABLE t ADD COLUMN size size; CREATE VIEW sizes AS SELECT size FROM t; COMMENT ON VIEW sizes IS 'x';",
        "DROP VIEW w; CREATE VIEW w AS SELECT id FROM v; COMMENT ON COLUMN w.id IS 'key'; CREATE INDEX ON u (t_id); ALTER TABLE u ADD COLUMN x int;",
        "DROP VIEW w; DROP VIEW v; DROP FUNCTION f(int); ALTER TABLE t ALTER COLUMN id TYPE bigint;
         CREATE VIEW v AS SELECT id, name FROM t; CREATE VIEW w AS SELECT * FROM v;
         CREATE FUNCTION f(who int) RETURNS text LANGUAGE sql STABLE BEGIN ATOMIC SELECT name FROM t WHERE id = who; END;",
    ] {
        let project = Project::new(SETUP, &[("0001_x.sql", file)]).await;
        project.migrate(&["up"]).await.expect(0);
        let plain = Project::new(SETUP, &[]).await;
        plain.database.run(file.replace("ALTER COLUMN id TYPE bigint;", "ALTER COLUMN id TYPE bigint; ALTER TABLE u ALTER COLUMN t_id TYPE bigint;").as_str()).await;
        let (mut one, mut other) = (project.database.connect().await, plain.database.connect().await);
        assert_eq!(shape(&mut one).await, shape(&mut other).await, "{file}");
    }
}

const PUBLISHED: &str = "
CREATE TABLE t (id int PRIMARY KEY, name text);
CREATE TABLE log (id int NOT NULL UNIQUE, name text);
CREATE PUBLICATION feed FOR TABLE t;
CREATE PUBLICATION inserts FOR TABLE log WITH (publish = 'insert');
INSERT INTO t SELECT i, 'A' FROM generate_series(1, 10) AS i; INSERT INTO log SELECT i, 'A' FROM generate_series(1, 10) AS i;";

#[tokio::test]
async fn a_publication_that_would_stop_old_code_is_refused() {
    for (file, says) in [
        ("CREATE PUBLICATION p FOR TABLE log;", "`public.log` has no replica identity"),
        ("ALTER PUBLICATION feed ADD TABLE log;", "`public.log` has no replica identity"),
        ("ALTER TABLE log ADD PRIMARY KEY (id); CREATE PUBLICATION p FOR TABLE log;", "no replica identity"),
        ("CREATE PUBLICATION p FOR TABLE t (name);", "only a part of `public.t` is published"),
        ("ALTER TABLE t REPLICA IDENTITY NOTHING;", "publication feed publishes it"),
        ("CREATE PUBLICATION feed;", "publication feed exists already"),
        ("ALTER PUBLICATION feed ADD TABLE t;", "lists `public.t` already"),
        ("ALTER PUBLICATION feed DROP TABLE log;", "does not list `public.log`"),
        ("ALTER PUBLICATION nothing ADD TABLE t;", "there is no publication nothing"),
        ("DROP PUBLICATION nothing;", "there is no publication nothing"),
        ("CREATE PUBLICATION p FOR ALL TABLES;", "CREATE PUBLICATION is not supported"),
        ("ALTER PUBLICATION feed SET (publish = 'insert');", "ALTER PUBLICATION is not supported"),
        ("ALTER PUBLICATION feed DROP TABLE t; DROP TABLE t;", "split the file"),
        ("ALTER PUBLICATION feed DROP TABLE t; ALTER TABLE t RENAME TO u;", "under its new name"),
        (
            "ALTER TABLE log ADD COLUMN n text; UPDATE log SET n = upper(name); ALTER TABLE log DROP COLUMN name;",
            "",
        ),
    ] {
        let project = Project::new(PUBLISHED, &[("0001_x.sql", file)]).await;
        let ran = project.migrate(&["expand"]).await;
        ran.expect(i32::from(!says.is_empty()));
        assert!(ran.stderr.contains(says), "{file}\n{}", ran.stderr);
    }
}

#[tokio::test]
async fn rows_that_nobody_can_update_are_not_backfilled() {
    let setup = format!("{PUBLISHED} ALTER PUBLICATION inserts SET (publish = 'insert, delete');");
    let file = "ALTER TABLE log ADD COLUMN n text; UPDATE log SET n = upper(name);";
    let project = Project::new(&setup, &[("0001_x.sql", file)]).await;
    let refused = project.migrate(&["plan"]).await;
    refused.expect(1);
    assert!(refused.stderr.contains("publication inserts publishes it"), "{}", refused.stderr);
    project.write("0001_x.sql", &format!("ALTER TABLE log REPLICA IDENTITY FULL; {file}"));
    project.migrate(&["up"]).await.expect(0);
}

#[tokio::test]
async fn the_plan_says_which_columns_the_subscribers_of_a_table_need() {
    let file = "ALTER TABLE t ADD COLUMN label text; UPDATE t SET label = upper(name); ALTER TABLE t DROP COLUMN name;";
    let project = Project::new(PUBLISHED, &[("0001_x.sql", file)]).await;
    let plan = project.migrate(&["plan"]).await;
    plan.expect(0);
    let says = "public.t is published by feed: a subscription stops where the subscriber's table has not label from expand on";
    assert!(plan.stdout.contains(says), "{}", plan.stdout);
}

#[tokio::test]
async fn a_publication_that_a_migration_takes_away_is_left_alone_until_then() {
    let project = Project::new(PUBLISHED, &[("0001_x.sql", "DROP PUBLICATION feed;")]).await;
    project.migrate(&["expand"]).await.expect(0);
    project.write("0002_x.sql", "ALTER PUBLICATION feed DROP TABLE t;");
    let refused = project.migrate(&["plan"]).await;
    refused.expect(1);
    assert!(refused.stderr.contains("migrate contract 0001"), "{}", refused.stderr);
    let contract = ["contract", "--soak", "0s", "--override", "no-new-instance", "--because", "test"];
    project.migrate(&contract).await.expect(0);
    project.write("0002_x.sql", "CREATE PUBLICATION feed FOR TABLE t;");
    project.write("0003_x.sql", "ALTER PUBLICATION feed DROP TABLE t;");
    project.migrate(&["up"]).await.expect(0);
}

#[tokio::test]
async fn an_enum_of_two_tables_changes_and_comes_back_with_what_was_written() {
    let setup = "CREATE TYPE mood AS ENUM ('sad', 'bad', 'ok');
        CREATE TABLE a (id int PRIMARY KEY, m mood, n mood); INSERT INTO a VALUES (1, 'sad', 'ok');
        CREATE TABLE b (id int PRIMARY KEY, m mood DEFAULT 'ok'); INSERT INTO b VALUES (1, 'sad');";
    let file = "CREATE TYPE new_mood AS ENUM ('sad', 'ok', 'glad');
        ALTER TABLE a ALTER COLUMN m TYPE new_mood USING m::text::new_mood, ALTER COLUMN n TYPE new_mood USING n::text::new_mood;
        ALTER TABLE b ALTER COLUMN m DROP DEFAULT, ALTER COLUMN m TYPE new_mood USING m::text::new_mood, ALTER COLUMN m SET DEFAULT 'ok';
        DROP TYPE mood; ALTER TYPE new_mood RENAME TO mood;";
    let project = Project::new(setup, &[("0001_x.sql", file)]).await;
    project.migrate(&["expand"]).await.expect(0);
    project.migrate(&["backfill"]).await.expect(0);
    project.register("web-1", "1").await;
    project.migrate(&["contract"]).await.expect(0);
    project
        .database
        .run("UPDATE a SET m = 'ok'; INSERT INTO b (id) VALUES (2); INSERT INTO b (id, m) VALUES (3, 'glad')")
        .await;
    project.migrate(&["reopen", "1"]).await.expect(4).says("1 rows have another value");
    project.database.run("DELETE FROM b WHERE id = 3").await;
    project.migrate(&["reopen", "1"]).await.expect(0);
    project.database.run("UPDATE a SET m = 'bad'").await;
    assert_eq!(project.database.text("SELECT string_agg(m::text, ' ' ORDER BY id) FROM b").await, "sad ok");
    project.database.run("UPDATE a SET m = 'sad'").await;
    project.migrate(&["contract", "--soak", "0s"]).await.expect(0);
    let labels = "SELECT string_agg(enumlabel, ' ' ORDER BY enumsortorder) FROM pg_enum WHERE enumtypid = 'mood'::regtype";
    assert_eq!(project.database.text(labels).await, "sad ok glad");
    assert_eq!(project.database.text("SELECT m || ' ' || n FROM a").await, "sad ok");
}

#[tokio::test]
async fn a_function_that_names_what_is_gone_is_replaced_and_comes_back_as_it_was() {
    let setup = "CREATE TABLE p (id int PRIMARY KEY, a text, b text); INSERT INTO p VALUES (1, 'a', 'b');
        CREATE FUNCTION g(i int) RETURNS text LANGUAGE sql STABLE AS 'SELECT a FROM p WHERE id = i';";
    let files = [
        ("0001_x.sql", "ALTER TABLE p DROP COLUMN a;"),
        (
            "0002_x.sql",
            "CREATE OR REPLACE FUNCTION g(i int) RETURNS text LANGUAGE sql STABLE AS 'SELECT b FROM p WHERE id = i';",
        ),
    ];
    let project = Project::new(setup, &files).await;
    project.migrate(&["up"]).await.expect(0);
    assert_eq!(project.database.text("SELECT g(1)").await, "b");
}

#[tokio::test]
async fn an_index_that_comes_later_is_no_replica_identity_yet() {
    let file = "CREATE UNIQUE INDEX tu ON u (t_id); ALTER TABLE u REPLICA IDENTITY USING INDEX tu;";
    let project = Project::new(SETUP, &[("0001_x.sql", file)]).await;
    project.migrate(&["plan"]).await.expect(1).says("has no index tu yet");
}

#[tokio::test]
async fn indexes_of_materialized_views_and_columns_of_unlogged_tables() {
    let setup = format!(
        "{SETUP} CREATE MATERIALIZED VIEW old AS SELECT id, name FROM t; CREATE UNLOGGED TABLE quick (id int PRIMARY KEY, name text); INSERT INTO quick VALUES (1, 'a b');"
    );
    let file = "CREATE UNIQUE INDEX old_id ON old (id); CREATE MATERIALIZED VIEW fresh AS SELECT id FROM u; CREATE UNIQUE INDEX fresh_id ON fresh (id);
        ALTER TABLE quick ADD COLUMN first text; UPDATE quick SET first = split_part(name, ' ', 1);
        -- migrate: down name = first\nALTER TABLE quick DROP COLUMN name;";
    let project = Project::new(&setup, &[("0001_x.sql", file)]).await;
    project.migrate(&["up"]).await.expect(0);
    project
        .database
        .run("REFRESH MATERIALIZED VIEW CONCURRENTLY old; REFRESH MATERIALIZED VIEW CONCURRENTLY fresh")
        .await;
    assert_eq!(project.database.text("SELECT first FROM quick").await, "a");
    project.write("0002_x.sql", "DROP TABLE quick;");
    project.migrate(&["up"]).await.expect(0);
}

#[tokio::test]
async fn a_view_that_gets_a_column_must_be_dropped_and_created() {
    let file = "CREATE OR REPLACE VIEW w AS SELECT id, name, 1 AS one FROM v;";
    let project = Project::new(SETUP, &[("0001_x.sql", file)]).await;
    project.migrate(&["expand"]).await.expect(1).says("write DROP VIEW and CREATE VIEW instead");
}

/// While a table or a column is sealed its foreign key stops nobody: in psql it would be gone.
#[tokio::test]
async fn a_sealed_foreign_key_stops_no_new_code_and_comes_back() {
    let setup = "CREATE TABLE users (id int PRIMARY KEY); INSERT INTO users SELECT generate_series(1, 5);
        CREATE TABLE notes (id int PRIMARY KEY, who int CONSTRAINT noted REFERENCES users); INSERT INTO notes SELECT i, i FROM generate_series(1, 3) AS i;
        COMMENT ON CONSTRAINT noted ON notes IS 'who wrote it';";
    for file in ["DROP TABLE notes;", "ALTER TABLE notes DROP COLUMN who;"] {
        let project = Project::new(setup, &[("0001_x.sql", file)]).await;
        let database = &project.database;
        let key = "SELECT string_agg(pg_get_constraintdef(oid) || coalesce(obj_description(oid), ''), ' ') FROM pg_constraint WHERE conname = 'noted'";
        let before = database.text(key).await;
        project.migrate(&["expand"]).await.expect(0);
        project.register("web-1", "1").await;
        project.migrate(&["contract"]).await.expect(0).says("sealed");
        database.run("DELETE FROM users WHERE id = 5").await;
        project.migrate(&["reopen", "1"]).await.expect(0);
        assert_eq!(database.text(key).await, before);
        project.migrate(&["contract"]).await.expect(0).says("sealed");
        database.run("DELETE FROM users WHERE id = 1").await;
        // A row that points at nothing now: the key holds for new ones.
        project.migrate(&["reopen", "1"]).await.expect(0);
        assert!(database.text(key).await.contains("NOT VALID"));
        project.migrate(&["contract", "--soak", "0s"]).await.expect(0).says("0001 is done");
    }
}
