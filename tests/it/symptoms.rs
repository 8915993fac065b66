//! Mistakes that were made once, each a test named after its symptom. The data is compared with what the plain SQL gives.

use super::support::{Database, Project, finish, run, text, try_run};

/// Runs a migration to its end, with `meanwhile` between expand and backfill, and compares a query with the plain SQL.
async fn same_as_plain(setup: &str, migration: &str, look: &str) {
    let plain = Database::new().await;
    plain.run(setup).await;
    plain.run(migration).await;
    let project = Project::new(setup, &[("0001_x.sql", migration)]).await;
    project.migrate(&["expand"]).await.expect(0);
    project.migrate(&["backfill"]).await.expect(0);
    project.register("web", "1").await;
    project.migrate(&["contract"]).await.expect(0);
    project.migrate(&["contract", "--soak", "0s"]).await.expect(0);
    assert_eq!(project.database.text(look).await, plain.text(look).await, "{migration}");
}

async fn refused(setup: &str, migration: &str, says: &str) {
    let project = Project::new(setup, &[("0001_x.sql", migration)]).await;
    project.migrate(&["plan"]).await.expect(1).says(says);
}

const ALL: &str = "SELECT string_agg((to_jsonb(u) - 'tok')::text, ' ' ORDER BY id) FROM u";

#[tokio::test]
async fn an_index_of_another_table_survives_if_not_exists() {
    let setup = "CREATE TABLE u (id int PRIMARY KEY, a text); CREATE TABLE t2 (a text); CREATE UNIQUE INDEX i ON t2 (a);";
    let project = Project::new(setup, &[("0001_x.sql", "CREATE INDEX IF NOT EXISTS i ON u (a);")]).await;
    project.migrate(&["expand"]).await.expect(0);
    assert_eq!(
        project
            .database
            .text("SELECT indrelid::regclass::text FROM pg_index WHERE indexrelid = 'i'::regclass")
            .await,
        "t2"
    );
}

#[tokio::test]
async fn abort_after_a_failed_expand_takes_nothing_that_was_there() {
    let setup = "CREATE TABLE u (id int PRIMARY KEY); CREATE FUNCTION stop() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'no'; END $$;";
    let files = [("0001_x.sql", "ALTER TABLE u ADD COLUMN a int;\nCREATE TABLE foo (id int);")];
    let project = Project::new(setup, &files).await;
    let mut blocker = project.database.connect().await;
    run(&mut blocker, "BEGIN; LOCK TABLE u IN SHARE MODE").await;
    let expanding = tokio::spawn(finish(project.command(&["expand"])));
    tokio::time::sleep(std::time::Duration::from_millis(700)).await;
    project.database.run("CREATE TABLE foo (id int); INSERT INTO foo VALUES (1)").await;
    run(&mut blocker, "COMMIT").await;
    expanding.await.unwrap().expect(1).says("already exists");
    project.migrate(&["abort", "1"]).await.expect(0);
    assert_eq!(
        project.database.text("SELECT count(*)::text FROM foo").await,
        "1",
        "somebody else's table is gone"
    );
}

#[tokio::test]
async fn names_used_twice_in_one_file_are_refused() {
    let setup = "CREATE TABLE u (id int PRIMARY KEY, a text, b text);";
    for migration in [
        "ALTER TABLE u DROP COLUMN a; ALTER TABLE u RENAME COLUMN b TO a;",
        "ALTER TABLE u RENAME COLUMN a TO x; ALTER TABLE u RENAME COLUMN x TO y;",
        "ALTER TABLE u RENAME COLUMN a TO x; ALTER TABLE u DROP COLUMN x;",
        "ALTER TABLE u RENAME COLUMN a TO x; ALTER TABLE u DROP COLUMN b; CREATE VIEW v AS SELECT * FROM u;",
        "ALTER TABLE u ADD COLUMN c text; UPDATE u SET c = a; ALTER TABLE u RENAME COLUMN a TO x;",
    ] {
        refused(setup, migration, "split the file").await;
    }
    refused(
        setup,
        "ALTER TABLE u ADD COLUMN d int DEFAULT 1; ALTER TABLE u ALTER COLUMN d SET DEFAULT 2;",
        "two defaults",
    )
    .await;
    refused(
        setup,
        "-- migrate: down a = 'x'\n-- migrate: down a = 'y'\nALTER TABLE u DROP COLUMN a;",
        "given twice",
    )
    .await;
    refused(setup, "ALTER TABLE u ADD COLUMN c text; UPDATE u SET c = max(a);", "aggregate `max`").await;
    refused(setup, "ALTER TABLE u ADD COLUMN t uuid, ADD COLUMN c text; UPDATE u SET t = gen_random_uuid(); UPDATE u SET c = t::text;", "given its value once").await;
    refused(setup, "-- migrate: phase contract\nVACUUM u;", "cannot run in a transaction").await;
}

#[tokio::test]
async fn a_view_over_what_is_leaving_stops_contract_before_anything_is_dropped() {
    let files = [
        ("0001_x.sql", "ALTER TABLE u DROP COLUMN z;"),
        ("0002_v.sql", "CREATE VIEW v AS SELECT id, z FROM u;"),
    ];
    let project = Project::new("CREATE TABLE u (id int PRIMARY KEY, z text);", &files[..1]).await;
    project.migrate(&["expand"]).await.expect(0);
    project.write(files[1].0, files[1].1);
    project.migrate(&["expand"]).await.expect(1).says("migration 0001 is still moving");
    std::fs::remove_file(project.path("migrations/0002_v.sql")).unwrap();
    project.register("web", "1").await;
    project.migrate(&["contract"]).await.expect(0).says("sealed");
    project.database.run("CREATE VIEW hand AS SELECT * FROM u").await;
    project
        .migrate(&["contract", "--soak", "0s"])
        .await
        .expect(4)
        .says("view public.hand")
        .says("migrate reopen 0001");
    project.migrate(&["reopen", "1", "--accept-nulls"]).await.expect(0);
}

#[tokio::test]
async fn values_that_the_plain_update_gives() {
    let setup = "CREATE TABLE u (id int PRIMARY KEY, blocked bool NOT NULL DEFAULT false, price numeric(12,4), qty int, name text);
        INSERT INTO u VALUES (1, true, 1.2345, 1, ''), (2, false, 2.5, 3, 'b b');";
    for migration in [
        "ALTER TABLE u ADD COLUMN status text NOT NULL DEFAULT 'active'; UPDATE u SET status = 'blocked' WHERE blocked;",
        "ALTER TABLE u ADD COLUMN status text; UPDATE u SET status = 'blocked' WHERE blocked;",
        "ALTER TABLE u ADD COLUMN cents numeric(10,2), ADD COLUMN twice numeric; UPDATE u SET cents = price; UPDATE u SET twice = cents * 2;",
        "ALTER TABLE u ADD COLUMN q numeric, ADD COLUMN half numeric; UPDATE u SET q = qty; UPDATE u SET half = q / 2;",
        "ALTER TABLE u ADD COLUMN c int; UPDATE u SET c = NULL WHERE blocked; UPDATE u SET c = qty WHERE NOT blocked;",
        "ALTER TABLE u ADD COLUMN first text; UPDATE u SET first = split_part(name, ' ', 1);\n-- migrate: down name = concat_ws(' ', first)\nALTER TABLE u DROP COLUMN name;",
        "ALTER TABLE u ADD COLUMN flag bool; UPDATE u SET flag = blocked;\n-- migrate: down blocked = coalesce(flag, false)\nALTER TABLE u DROP COLUMN blocked;",
        "ALTER TABLE u ADD COLUMN a text; COMMENT ON COLUMN u.a IS 'x'; CREATE INDEX ia ON u (a); UPDATE u SET a = upper(name); ALTER TABLE u ADD COLUMN b text;",
        "ALTER TABLE u ADD COLUMN meta json DEFAULT '{}';",
    ] {
        same_as_plain(setup, migration, ALL).await;
    }
}

#[tokio::test]
async fn old_and_new_writes_are_followed_where_they_were_not() {
    let setup = "CREATE TABLE u (id int PRIMARY KEY, f text, l text, email text); INSERT INTO u VALUES (1, 'Ann', 'Lee'), (2, 'Bo', 'Ek');";
    let migration = "ALTER TABLE u ADD COLUMN full_name text; UPDATE u SET full_name = concat_ws(' ', f, l);
        -- migrate: down f = split_part(full_name, ' ', 1)
        ALTER TABLE u DROP COLUMN f;
        ALTER TABLE u DROP COLUMN l;";
    let project = Project::new(setup, &[("0001_x.sql", migration)]).await;
    project.migrate(&["expand"]).await.expect(0);
    project.migrate(&["backfill"]).await.expect(0);
    project.database.run("UPDATE u SET l = 'Smith' WHERE id = 1").await;
    assert_eq!(
        project.database.text("SELECT full_name FROM u WHERE id = 1").await,
        "Ann Smith",
        "`down` still held, the write was lost"
    );

    let setup = "CREATE TABLE u (id int PRIMARY KEY, name text NOT NULL, email text);";
    let migration = "ALTER TABLE u ADD COLUMN first text, ADD COLUMN last text; UPDATE u SET first = split_part(name, ' ', 1), last = split_part(name, ' ', 2);
        -- migrate: down name = concat_ws(' ', first, last)
        ALTER TABLE u DROP COLUMN name;";
    let project = Project::new(setup, &[("0001_x.sql", migration)]).await;
    project.migrate(&["expand"]).await.expect(0);
    project.database.run("INSERT INTO u (id, email) VALUES (4, 'x')").await;
    project.database.run("INSERT INTO u (id, name) VALUES (5, '')").await;
    assert_eq!(
        project.database.text("SELECT first FROM u WHERE id = 5").await,
        "",
        "an old value that equals `down` of nulls"
    );
    assert_eq!(project.database.text("SELECT (first IS NULL)::text FROM u WHERE id = 5").await, "false");
}

#[tokio::test]
async fn expressions_that_raise_fail_no_old_writer() {
    let setup = "CREATE TABLE u (id int PRIMARY KEY, code text, y bool, x text, price numeric, qty numeric);";
    let migration =
        "ALTER TABLE u ADD COLUMN flag text, ADD COLUMN a text, ADD COLUMN total numeric, ADD COLUMN t text;
        UPDATE u SET flag = 'x' WHERE code::int > 5;
        UPDATE u SET a = concat(x::int);
        UPDATE u SET a = code WHERE y;
        UPDATE u SET total = price * qty;
        -- migrate: down price = total / qty
        ALTER TABLE u DROP COLUMN price;";
    let project = Project::new(setup, &[("0001_x.sql", migration)]).await;
    project.migrate(&["expand"]).await.expect(0);
    let mut connection = project.database.connect().await;
    run(
        &mut connection,
        "INSERT INTO u (id, code, y, x) VALUES (2, 'abc', true, '5'), (3, '1', false, 'zz')",
    )
    .await;
    run(&mut connection, "INSERT INTO u (id, price, qty) VALUES (4, 6, 2)").await;
    run(&mut connection, "UPDATE u SET qty = 0 WHERE id = 4").await;
    run(&mut connection, "UPDATE u SET price = NULL WHERE id = 4").await;
    run(&mut connection, "UPDATE u SET price = 7, qty = 3 WHERE id = 4").await;
    assert_eq!(text(&mut connection, "SELECT total::text FROM u WHERE id = 4").await, "21");
    project.migrate(&["backfill"]).await.expect(1).says("row with id = ");
}

#[tokio::test]
async fn the_session_of_the_writer_decides_nothing() {
    let setup = "CREATE TABLE u (id int PRIMARY KEY, ts timestamp, txt text, dd date);";
    for set in [
        "timestamptz; UPDATE u SET c = ts",
        "date; UPDATE u SET c = txt::date",
        "text; UPDATE u SET c = dd::text",
        "text; UPDATE u SET c = concat(dd, txt)",
    ] {
        refused(setup, &format!("ALTER TABLE u ADD COLUMN c {set};"), "depends on the session").await;
    }
    let fine = "ALTER TABLE u ADD COLUMN c timestamptz; UPDATE u SET c = ts AT TIME ZONE 'UTC';";
    same_as_plain(&format!("{setup} INSERT INTO u VALUES (1, '2024-01-02', 'x', '2024-01-02');"), fine, ALL)
        .await;
}

#[tokio::test]
async fn collations_go_with_the_column() {
    let setup = "CREATE COLLATION ci (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
        CREATE TABLE u (id int PRIMARY KEY, name text COLLATE ci); INSERT INTO u VALUES (1, 'ADMIN');";
    let role = "ALTER TABLE u ADD COLUMN role text; UPDATE u SET role = CASE WHEN name = 'admin' THEN 'root' ELSE 'user' END;";
    same_as_plain(setup, role, ALL).await;
    let project = Project::new(setup, &[("0001_x.sql", "ALTER TABLE u RENAME COLUMN name TO login;")]).await;
    project.migrate(&["expand"]).await.expect(0);
    project.migrate(&["backfill"]).await.expect(0);
    assert_eq!(project.database.text("SELECT (login = lower(login))::text FROM u").await, "true");
}

#[tokio::test]
async fn abort_looks_at_what_later_migrations_built() {
    let files = [
        (
            "0001_x.sql",
            "ALTER TABLE u ADD COLUMN a text; CREATE TABLE pt (id int PRIMARY KEY); CREATE FUNCTION f(x int) RETURNS int LANGUAGE sql AS 'SELECT 1';",
        ),
        ("0002_i.sql", "CREATE INDEX ia ON u (a);"),
    ];
    let project = Project::new("CREATE TABLE u (id int PRIMARY KEY);", &files).await;
    project.migrate(&["expand"]).await.expect(0);
    project.migrate(&["abort", "1"]).await.expect(4).says("0002 builds on");
    project.migrate(&["abort", "2"]).await.expect(0);
    project.database.run("CREATE FUNCTION f(x text) RETURNS int LANGUAGE sql AS 'SELECT 2'").await;
    project.migrate(&["abort", "1"]).await.expect(0);
    assert_eq!(project.database.text("SELECT f('x'::text)::text").await, "2", "a namesake was dropped");
}

#[tokio::test]
async fn an_index_gets_the_name_that_psql_gives_and_two_renames_share_theirs() {
    let setup = "CREATE TABLE u (id int PRIMARY KEY, a text, b text, UNIQUE (a, b));";
    let names = "SELECT string_agg(c.relname, ' ' ORDER BY c.relname) FROM pg_index AS i JOIN pg_class AS c ON c.oid = i.indexrelid WHERE indrelid = 'u'::regclass";
    same_as_plain(setup, "CREATE INDEX ON u (lower(a)); CREATE INDEX ON u (a) INCLUDE (b);", names).await;
    let project = Project::new(
        setup,
        &[("0001_x.sql", "ALTER TABLE u RENAME COLUMN a TO aa; ALTER TABLE u RENAME COLUMN b TO bb;")],
    )
    .await;
    project.migrate(&["expand"]).await.expect(0);
    project.migrate(&["backfill"]).await.expect(0);
    let both = "SELECT count(*)::text FROM pg_indexes WHERE tablename = 'u' AND indexdef LIKE '%(aa, bb)'";
    assert_eq!(project.database.text(both).await, "1");
}

#[tokio::test]
async fn an_unverified_seal_never_drops_and_a_bad_row_stops_contract_before_it() {
    let setup = "CREATE TABLE u (id int PRIMARY KEY, age text); INSERT INTO u VALUES (1, '41');";
    let migration =
        "ALTER TABLE u ADD COLUMN years int; UPDATE u SET years = age::int; ALTER TABLE u DROP COLUMN age;";
    let project = Project::new(setup, &[("0001_x.sql", migration)]).await;
    project.migrate(&["expand"]).await.expect(0);
    project.migrate(&["backfill"]).await.expect(0);
    project.register("web", "1").await;
    project.database.run("INSERT INTO u (id, age) VALUES (2, 'abc')").await;
    project.migrate(&["contract", "--soak", "0s"]).await.expect(1).says("id = 2");
    project.migrate(&["contract", "--soak", "0s"]).await.expect(4).says("not-verified");
    assert_eq!(project.database.text("SELECT age FROM u WHERE id = 2").await, "abc");
    project.migrate(&["backfill"]).await.expect(1).says("22P02");
    project.database.run("UPDATE u SET age = '42' WHERE id = 2").await;
    project.migrate(&["backfill"]).await.expect(0).says("0001 is ready");
    project.migrate(&["contract", "--soak", "0s"]).await.expect(0).says("0001 is done");
}

#[tokio::test]
async fn registrations_cannot_slip_past_a_decision() {
    let project = Project::new(
        "CREATE TABLE u (id int PRIMARY KEY, a text);",
        &[("0007_x.sql", "ALTER TABLE u RENAME COLUMN a TO b;")],
    )
    .await;
    project.migrate(&["expand"]).await.expect(0);
    project.migrate(&["backfill"]).await.expect(0);
    project.register("new", "7").await;
    // A second process under the name of a live old one does not hide it.
    project.register("same-name", "6").await;
    project.register("same-name", "7").await;
    project.migrate(&["contract", "--check"]).await.expect(4).says("same-name (schema 0006)");
    // Nor one that still uses the old schema and says so.
    project.database.run("SELECT pontoon.register('web', 'both', '7', '1 minute', '{7}')").await;
    project.register("both", "7").await;
    project.migrate(&["contract", "--check"]).await.expect(4).says("both (schema 0007)");
    project
        .database
        .run("UPDATE pontoon.instance SET deregistered_at = now() WHERE still_uses <> '{}'")
        .await;
    project
        .database
        .run("UPDATE pontoon.instance SET deregistered_at = now() WHERE schema_version = 6")
        .await;
    // An older snapshot does not see the closing, and fails instead.
    let mut old = project.database.connect().await;
    run(&mut old, "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1").await;
    project.migrate(&["contract"]).await.expect(0).says("sealed");
    assert!(
        try_run(&mut old, "SELECT pontoon.register('web', 'late', '6')").await.is_err(),
        "an old version was accepted after the seal"
    );
}

#[tokio::test]
async fn default_privileges_do_not_open_the_ledger_and_a_misplaced_url_hides_its_password() {
    let project = Project::new("CREATE TABLE u (id int);", &[]).await;
    let role = format!("app_{}", project.database.name);
    project
        .database
        .run(&format!("CREATE ROLE {role}; ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO {role}"))
        .await;
    project.migrate(&["init"]).await.expect(0);
    assert_eq!(
        project
            .database
            .text(&format!("SELECT has_table_privilege('{role}', 'pontoon.lease', 'UPDATE')::text"))
            .await,
        "false"
    );
    project.database.run(&format!("DROP OWNED BY {role}; DROP ROLE {role}")).await;
    project.migrate(&["postgres://u:sekret@h/db"]).await.expect(2).hides("sekret");
}

#[tokio::test]
async fn an_aborted_migration_that_was_replaced_stops_nobody() {
    let project = Project::new(
        "CREATE TABLE u (id int PRIMARY KEY);",
        &[("0005_x.sql", "ALTER TABLE u ADD COLUMN a int;")],
    )
    .await;
    project.migrate(&["expand"]).await.expect(0);
    project.migrate(&["abort", "5"]).await.expect(0);
    std::fs::remove_file(project.path("migrations/0005_x.sql")).unwrap();
    project.write("0006_y.sql", "ALTER TABLE u ADD COLUMN b int;");
    project.migrate(&["expand"]).await.expect(0);
    assert_eq!(
        project.database.text("SELECT may_serve::text FROM pontoon.register('web', 'w', '6')").await,
        "true"
    );
}

const T: &str = "CREATE TABLE t (id int PRIMARY KEY, a int, b text, qty int, price int, total int, CONSTRAINT ck CHECK (a < 1000), CONSTRAINT q UNIQUE (qty));
    CREATE DOMAIN pos AS int CHECK (VALUE > 0);
    INSERT INTO t VALUES (1, 1, 'x', 0, 10, NULL), (2, 2, 'y', 3, 5, NULL);";

#[tokio::test]
async fn two_changes_of_one_thing_in_one_file_are_refused_before_anything_runs() {
    for migration in [
        "ALTER TABLE t DROP CONSTRAINT q; ALTER TABLE t ADD CONSTRAINT q UNIQUE (price);",
        "ALTER TABLE t DROP CONSTRAINT t_pkey; ALTER TABLE t ADD PRIMARY KEY (a);",
        "ALTER TABLE t RENAME CONSTRAINT q TO q2; ALTER TABLE t DROP CONSTRAINT q2;",
        "ALTER TABLE t RENAME CONSTRAINT q TO q2; ALTER TABLE t ADD CONSTRAINT q CHECK (a > 0);",
        "ALTER TABLE t ALTER a TYPE bigint; ALTER TABLE t ADD CHECK (a > 0);",
        "ALTER TABLE t ALTER a TYPE bigint; ALTER TABLE t ALTER a SET NOT NULL;",
        "CREATE INDEX foo ON t (a); ALTER TABLE t ALTER a TYPE bigint;",
        "ALTER TABLE t ALTER a SET DEFAULT 7; ALTER TABLE t ALTER a TYPE bigint;",
        "ALTER TABLE t DROP CONSTRAINT ck; ALTER TABLE t ALTER a TYPE bigint;",
        "ALTER TABLE t RENAME CONSTRAINT ck TO ck2; ALTER TABLE t ALTER a TYPE bigint;",
        "UPDATE t SET qty = 1 WHERE qty = 0; UPDATE t SET total = qty * price WHERE total IS NULL; ALTER TABLE t ADD CHECK (qty > 0), ALTER total SET NOT NULL;",
        "ALTER TABLE t ADD COLUMN c int; UPDATE t SET qty = 1 WHERE qty = 0; UPDATE t SET c = qty * price; ALTER TABLE t ADD CHECK (qty > 0);",
        "ALTER TABLE t ALTER a TYPE pos;",
        "ALTER TABLE t ADD COLUMN p pos;",
    ] {
        let project = Project::new(T, &[("0001_x.sql", migration)]).await;
        let ran = project.migrate(&["expand"]).await;
        assert_eq!(ran.code, Some(1), "{migration}\n{}{}", ran.stdout, ran.stderr);
        assert_eq!(
            project.database.text("SELECT count(*)::text FROM pontoon.migration").await,
            "0",
            "{migration}"
        );
    }
}

#[tokio::test]
async fn an_index_that_somebody_else_made_under_the_name_is_not_adopted() {
    let project =
        Project::new(T, &[("0001_x.sql", "ALTER TABLE t ADD CONSTRAINT late UNIQUE (price);")]).await;
    project.migrate(&["expand"]).await.expect(0);
    project.register("web", "1").await;
    project.database.run("CREATE UNIQUE INDEX late ON t (id, price)").await;
    project.migrate(&["contract"]).await.expect(4).says("made by somebody else");
    project.database.run("DROP INDEX late").await;
    project.migrate(&["contract"]).await.expect(0).says("0001 is done");
    assert_eq!(
        project
            .database
            .text("SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE conname = 'late'")
            .await,
        "UNIQUE (price)"
    );
}

#[tokio::test]
async fn what_was_built_on_a_changing_column_meanwhile_is_not_lost() {
    let project = Project::new(T, &[("0001_x.sql", "ALTER TABLE t ALTER a TYPE bigint;")]).await;
    project.migrate(&["expand"]).await.expect(0);
    project.migrate(&["backfill"]).await.expect(0);
    project.register("web", "1").await;
    project.database.run("CREATE INDEX hand ON t (a); ALTER TABLE t ADD CONSTRAINT hc CHECK (a < 900)").await;
    project.migrate(&["contract"]).await.expect(4).says("hand, on public.t.a").says("hc, on public.t.a");
    project.database.run("DROP INDEX hand; ALTER TABLE t DROP CONSTRAINT hc").await;
    project.migrate(&["contract"]).await.expect(0).says("sealed");
    project.database.run("CREATE VIEW seen AS SELECT a FROM t").await;
    project.migrate(&["reopen", "1"]).await.expect(4).says("view public.seen");
    project.database.run("DROP VIEW seen").await;
    project.migrate(&["reopen", "1"]).await.expect(0);
    project.database.run("UPDATE pontoon.instance SET deregistered_at = now()").await;
    project.migrate(&["abort", "1"]).await.expect(0);
}

#[tokio::test]
async fn keys_beyond_int_are_written_after_the_seal_and_stop_a_reopen_before_its_first_step() {
    let setup = "CREATE TABLE p (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, v text); CREATE TABLE k (id serial PRIMARY KEY, p int REFERENCES p);
        INSERT INTO p (v) VALUES ('x'); INSERT INTO k (p) VALUES (1);";
    let project = Project::new(setup, &[("0001_x.sql", "ALTER TABLE p ALTER COLUMN id TYPE bigint;")]).await;
    project.migrate(&["expand"]).await.expect(0);
    project.migrate(&["backfill"]).await.expect(0);
    project.register("web", "1").await;
    project.migrate(&["contract"]).await.expect(0).says("sealed");
    project
        .database
        .run("SELECT setval('p_id_seq', 3000000000); INSERT INTO p (v) VALUES ('big'); INSERT INTO k (p) VALUES (3000000001)")
        .await;
    project.migrate(&["reopen", "1", "--accept-nulls"]).await.expect(4).says("cannot hold");
    project.database.run("DELETE FROM k WHERE p > 2147483647; DELETE FROM p WHERE id > 2147483647").await;
    project.migrate(&["reopen", "1"]).await.expect(0);
    project.database.run("SELECT setval('p_id_seq', 5); INSERT INTO p (v) VALUES ('old')").await;
    assert_eq!(project.database.text("SELECT max(id)::text FROM p").await, "6");
    project.migrate(&["contract", "--soak", "0s"]).await.expect(0).says("0001 is done");
    project.database.run("INSERT INTO p (v) VALUES ('new')").await;
    assert_eq!(project.database.text("SELECT max(id)::text FROM p").await, "7");
}

#[tokio::test]
async fn the_hidden_old_column_refuses_nothing_that_new_code_writes() {
    let setup = "CREATE TABLE t (id int PRIMARY KEY, a int UNIQUE, c int CHECK (c IS NOT NULL AND c > 0), d numeric(4,1) CHECK (d < 100));
        INSERT INTO t VALUES (1, 1, 1, 1);";
    let migration =
        "ALTER TABLE t ALTER a TYPE numeric(10,2), ALTER c TYPE bigint, ALTER d TYPE numeric(6,3);";
    let project = Project::new(setup, &[("0001_x.sql", migration)]).await;
    project.migrate(&["expand"]).await.expect(0);
    project.migrate(&["backfill"]).await.expect(0);
    project.register("web", "1").await;
    project.migrate(&["contract"]).await.expect(0).says("sealed");
    project
        .database
        .run("INSERT INTO t (id, a, c, d) VALUES (2, 50.10, 3000000000, 99.999), (3, 50.20, 5, 2)")
        .await;
    project.migrate(&["reopen", "1"]).await.expect(4).says("another value, or none");
    project.database.run("DELETE FROM t WHERE id > 1").await;
    project.migrate(&["reopen", "1"]).await.expect(0);
    project.migrate(&["contract", "--soak", "0s"]).await.expect(0);
}

#[tokio::test]
async fn abort_waits_for_rows_that_a_dropped_rule_would_refuse() {
    let migration = "ALTER TABLE t DROP CONSTRAINT ck, ALTER COLUMN b DROP NOT NULL;";
    let setup = format!("{T} ALTER TABLE t ALTER COLUMN b SET NOT NULL;");
    let project = Project::new(&setup, &[("0001_x.sql", migration)]).await;
    project.migrate(&["expand"]).await.expect(0);
    project.database.run("UPDATE t SET a = 5000, b = NULL WHERE id = 1").await;
    project
        .migrate(&["abort", "1", "--discard-new-data"])
        .await
        .expect(4)
        .says("1 rows of public.t that violate ck")
        .says("with no b");
    project.database.run("UPDATE t SET a = 5, b = 'z' WHERE id = 1").await;
    project.migrate(&["abort", "1"]).await.expect(0);
    assert_eq!(
        project.database.text("SELECT convalidated::text FROM pg_constraint WHERE conname = 'ck'").await,
        "true"
    );
}

#[tokio::test]
async fn an_update_that_changes_its_own_result_is_refused_at_the_first_row() {
    let migration = "UPDATE t SET price = price + 1; ALTER TABLE t ADD CHECK (price > 0);";
    let project = Project::new(T, &[("0001_x.sql", migration)]).await;
    project.migrate(&["expand"]).await.expect(0);
    project.migrate(&["backfill"]).await.expect(1).says("would change its own result again").says("id = 1");
    assert_eq!(project.database.text("SELECT sum(price)::text FROM t").await, "15");
    project.migrate(&["abort", "1"]).await.expect(0);
}

/// Some tools open a connection for each table, or look at each of them again and again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_hundred_tables_take_a_handful_of_connections_and_no_more_statements_than_one_table() {
    let table = "CREATE TABLE users (id int PRIMARY KEY, name text);
        INSERT INTO users SELECT n, 'Ada Byron' FROM generate_series(1, 1000) AS n;";
    let many: String = (0..500)
        .map(|n| format!("CREATE TABLE t{n} (id int PRIMARY KEY, name text UNIQUE, u int REFERENCES users);"))
        .collect();
    let file = "ALTER TABLE users ADD COLUMN first_name text;
        UPDATE users SET first_name = split_part(name, ' ', 1);
        ALTER TABLE users DROP COLUMN name;";
    let mut statements = Vec::new();
    for setup in [table.to_owned(), format!("{table}{many}")] {
        let project = Project::new(&setup, &[("0007_split.sql", file)]).await;
        let mut sent = 0;
        for command in [&["expand"][..], &["backfill"], &["contract", "--soak", "0s"]] {
            if command[0] == "contract" {
                project.register("web-1", "7").await;
            }
            let mut watch = project.database.connect().await;
            let mut watched = project.command(command);
            watched.env("MIGRATE_LOG", "pontoon=debug");
            let running = tokio::spawn(finish(watched));
            let mut most = 0;
            while !running.is_finished() {
                let count = "SELECT count(*)::text FROM pg_stat_activity WHERE datname = current_database() AND application_name LIKE 'migrate%'";
                most = most.max(text(&mut watch, count).await.parse().unwrap());
            }
            let ran = running.await.unwrap();
            let logged = ran.expect(0).stderr.split("DEBUG").skip(1);
            let by_clock = |statement: &&str| {
                ["-- Purpose: stay the runner.", "-- Purpose: how far each job is"]
                    .iter()
                    .any(|purpose| statement.contains(purpose))
            };
            sent += logged.filter(|statement| !by_clock(statement)).count();
            // The one that counts, that of a worker, which may still be ending when the runner has its two.
            assert!((1..=4).contains(&most), "{command:?}: {most} connections");
        }
        statements.push(sent);
    }
    assert!(statements[0] > 20, "{statements:?}");
    assert_eq!(statements[0], statements[1]);
}

#[tokio::test]
async fn triggers_and_checks_that_name_things_without_a_schema_work_in_every_phase() {
    let setup = "CREATE TABLE audit (op text, id int); CREATE TABLE t (id int PRIMARY KEY, a text, b int); INSERT INTO t SELECT n, 'N' || n, n FROM generate_series(1, 3) AS n;
        CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO audit VALUES (TG_OP, NEW.id); RETURN NULL; END $$;
        CREATE TRIGGER note AFTER INSERT OR UPDATE ON t FOR EACH ROW EXECUTE FUNCTION note();
        CREATE FUNCTION strip(text) RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN RETURN trim($1); END $$;
        CREATE FUNCTION norm(text) RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN RETURN lower(strip($1)); END $$;
        ALTER TABLE t ADD CHECK (norm(a) <> 'x'); CREATE TABLE u (id int PRIMARY KEY, c text); INSERT INTO u VALUES (1, 'one'), (2, 'two');";
    for file in [
        "ALTER TABLE t RENAME COLUMN b TO c;",
        "ALTER TABLE t ALTER COLUMN b TYPE bigint;",
        "ALTER TABLE t ADD COLUMN n text; UPDATE t SET n = norm(a); ALTER TABLE t DROP COLUMN b;",
        "UPDATE t SET b = 0 WHERE b IS NULL; ALTER TABLE t ALTER COLUMN b SET NOT NULL;",
        "ALTER TABLE t ADD COLUMN c text; UPDATE t SET c = u.c FROM u WHERE u.id = t.id; DROP TABLE u;",
        "UPDATE t SET b = b + 1;",
    ] {
        same_as_plain(setup, file, "SELECT string_agg(to_jsonb(t)::text, ' ' ORDER BY id) FROM t").await;
    }
}

#[tokio::test]
async fn rows_are_not_inserted_before_what_decides_on_them() {
    let setup = "CREATE TABLE t (id int PRIMARY KEY, old_price int, price int, n int DEFAULT 0);
        CREATE FUNCTION up() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.n := 9; RETURN NEW; END $$;";
    for above in [
        "ALTER TABLE t DROP COLUMN old_price;",
        "ALTER TABLE t ALTER COLUMN n SET DEFAULT 4;",
        "CREATE TRIGGER up BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION up();",
        "ALTER TABLE t ALTER COLUMN n TYPE bigint;",
        "ALTER TABLE t ENABLE ROW LEVEL SECURITY;",
    ] {
        refused(setup, &format!("{above} INSERT INTO t VALUES (2, 250);"), "error[order]").await;
    }
    let setup = format!("{setup} CREATE TRIGGER up BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION up();");
    for above in [
        "DROP TRIGGER up ON t;",
        "CREATE OR REPLACE FUNCTION up() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.n := 8; RETURN NEW; END $$;",
    ] {
        refused(&setup, &format!("{above} INSERT INTO t VALUES (2, 250);"), "error[order]").await;
    }
}

#[tokio::test]
async fn a_type_goes_after_the_columns_that_leave_it_whatever_stands_below() {
    let setup = "CREATE TYPE st AS ENUM ('a', 'b', 'c'); CREATE TABLE t (id int PRIMARY KEY, u int, s st); INSERT INTO t VALUES (1, 1, 'a');";
    let change = "CREATE TYPE st2 AS ENUM ('a', 'b'); ALTER TABLE t ALTER COLUMN s TYPE st2 USING s::text::st2; DROP TYPE st; ALTER TYPE st2 RENAME TO st;";
    for below in [
        "ALTER TABLE t ADD COLUMN z int;",
        "ALTER TABLE t DROP COLUMN u;",
        "ALTER TABLE t RENAME COLUMN u TO v;",
    ] {
        let look = "SELECT string_agg(to_jsonb(t)::text, ' ') FROM t";
        same_as_plain(setup, &format!("{change} {below}"), look).await;
        same_as_plain(setup, &format!("ALTER TABLE t ALTER COLUMN s TYPE text; DROP TYPE st; {below}"), look)
            .await;
    }
}

#[tokio::test]
async fn a_publication_that_somebody_changed_meanwhile_stops_neither_abort_nor_contract() {
    let setup = "CREATE TABLE a (id int PRIMARY KEY, n int); CREATE TABLE b (id int PRIMARY KEY); CREATE PUBLICATION p FOR TABLE b; INSERT INTO a VALUES (1, 1);";
    let project = Project::new(
        setup,
        &[("0001_x.sql", "ALTER PUBLICATION p ADD TABLE a; ALTER TABLE a ALTER COLUMN n SET NOT NULL;")],
    )
    .await;
    project.migrate(&["expand"]).await.expect(0);
    project.database.run("ALTER PUBLICATION p DROP TABLE a").await;
    project.migrate(&["abort", "1"]).await.expect(0);
    project.write("0001_x.sql", "ALTER PUBLICATION p DROP TABLE b;");
    project.migrate(&["expand"]).await.expect(0);
    project.database.run("DROP PUBLICATION p").await;
    project.register("web-1", "1").await;
    project.migrate(&["backfill"]).await.expect(0);
    project.migrate(&["contract"]).await.expect(0).says("0001 is done");
}

#[tokio::test]
async fn the_plan_says_what_is_without_a_rule_until_contract() {
    let setup = "CREATE TABLE users (id int PRIMARY KEY); CREATE TABLE o (id int PRIMARY KEY, uid int CONSTRAINT fk REFERENCES users ON DELETE CASCADE);";
    let file = "ALTER TABLE o DROP CONSTRAINT fk, ADD CONSTRAINT fk FOREIGN KEY (uid) REFERENCES users ON DELETE SET NULL;";
    let project = Project::new(setup, &[("0001_x.sql", file)]).await;
    let plan = project.migrate(&["plan"]).await;
    plan.expect(0).says("nothing stands in the place of fk").says("fk also changes rows of public.o");
}

#[tokio::test]
async fn a_data_job_that_reads_its_own_table_through_a_view_is_refused() {
    let setup = "CREATE TABLE t (id int PRIMARY KEY, name text); CREATE VIEW v AS SELECT * FROM t; CREATE TABLE d (id serial PRIMARY KEY, name text); CREATE VIEW dv AS SELECT * FROM d;";
    for file in [
        "DELETE FROM t WHERE EXISTS (SELECT FROM v WHERE v.name = t.name AND v.id <> t.id);",
        "INSERT INTO d (name) SELECT t.name FROM t WHERE NOT EXISTS (SELECT FROM dv WHERE dv.name = t.name);",
    ] {
        refused(setup, file, "error[reads-itself]").await;
    }
}

#[tokio::test]
async fn a_contract_after_a_finished_reopen_goes_on_where_it_stopped() {
    let setup =
        "CREATE TABLE t (id int PRIMARY KEY, a text, e int, f int); INSERT INTO t VALUES (1, 'x', 1, 1);";
    let file = "ALTER TABLE t RENAME COLUMN a TO b; ALTER TABLE t ADD CONSTRAINT e UNIQUE (e); ALTER TABLE t ADD CONSTRAINT f UNIQUE (f);";
    let project = Project::new(setup, &[("0001_x.sql", file)]).await;
    for command in ["expand", "backfill"] {
        project.migrate(&[command]).await.expect(0);
    }
    project.register("web-1", "1").await;
    project.migrate(&["contract"]).await.expect(0);
    project.migrate(&["reopen", "1"]).await.expect(0);
    let killed = || {
        let mut command = project.command(&["contract"]);
        command.env("PONTOON_FAULT", "contract.restricted");
        finish(command)
    };
    let made = "SELECT coalesce(max(oid)::text, 'none') FROM pg_constraint WHERE conname = 'e' AND conrelid = 't'::regclass";
    assert_eq!(killed().await.code, None);
    let first = project.database.text(made).await;
    assert_ne!(first, "none");
    assert_eq!(killed().await.code, None);
    assert_eq!(project.database.text(made).await, first);
    project.migrate(&["contract", "--soak", "0s"]).await.expect(0).says("0001 is done");
}

#[tokio::test]
async fn a_reopen_that_was_cut_off_is_no_failed_verification() {
    let setup = "CREATE TABLE t (id int PRIMARY KEY, a text); INSERT INTO t VALUES (1, 'x'); CREATE TABLE u (id int PRIMARY KEY, a text); INSERT INTO u VALUES (1, 'x');";
    let file = "ALTER TABLE t RENAME COLUMN a TO b; ALTER TABLE u RENAME COLUMN a TO b;";
    let project = Project::new(setup, &[("0001_x.sql", file)]).await;
    for command in ["expand", "backfill"] {
        project.migrate(&[command]).await.expect(0);
    }
    project.register("web-1", "1").await;
    project.migrate(&["contract"]).await.expect(0);
    let mut killed = project.command(&["reopen", "1"]);
    killed.env("PONTOON_FAULT", "step.after_commit@1");
    assert_eq!(finish(killed).await.code, None);
    project.migrate(&["verify"]).await.expect(4).says("migrate reopen 0001");
    project.migrate(&["doctor"]).await.expect(4).says("migrate reopen 0001");
    project.migrate(&["reopen", "1"]).await.expect(0);
    project.migrate(&["contract", "--soak", "0s"]).await.expect(0).says("0001 is done");
}

#[tokio::test]
async fn a_restored_backfill_begins_its_tables_anew() {
    let setup = "CREATE TABLE t (id int PRIMARY KEY, a text); INSERT INTO t SELECT n, repeat('x', 500) FROM generate_series(1, 3000) AS n;";
    let project = Project::new(setup, &[("0001_x.sql", "ALTER TABLE t RENAME COLUMN a TO b;")]).await;
    project.migrate(&["expand"]).await.expect(0);
    let mut killed = project.command(&["backfill"]);
    killed.env("PONTOON_FAULT", "backfill.batch_done@2");
    assert_eq!(finish(killed).await.code, None);
    // A restored dump has other numbers.
    project.database.run("UPDATE pontoon.job SET relid = 1").await;
    project.migrate(&["backfill"]).await.expect(0).says("0001 is ready");
    assert_eq!(project.database.text("SELECT count(b)::text FROM t").await, "3000");
}
