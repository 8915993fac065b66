//! Databases with a past: histories of other tools, squashed files, drift, a long chain.

use super::support::shape::{leftovers, shape};
use super::support::{Database, Project, finish};

const FILE: (&str, &str) = ("20260102030405_x.sql", "CREATE TABLE a (id int);");

#[tokio::test]
async fn the_history_of_another_tool_becomes_the_baseline() {
    for (setup, says) in [
        (
            "CREATE TABLE flyway_schema_history (installed_rank int, version text, type text, success boolean); INSERT INTO flyway_schema_history VALUES (1, '9', 'SQL', true), (2, '12', 'SQL', true);",
            "the baseline is 0012, from public.flyway_schema_history",
        ),
        (
            "CREATE TABLE schema_migrations (version varchar PRIMARY KEY); INSERT INTO schema_migrations VALUES ('20250102030405');",
            "20250102030405, from public.schema_migrations",
        ),
        (
            "CREATE TABLE _sqlx_migrations (version bigint, success boolean, checksum bytea); INSERT INTO _sqlx_migrations VALUES (3, true, '');",
            "0003, from public._sqlx_migrations",
        ),
        (
            "CREATE TABLE schema_migrations (version bigint, dirty boolean); INSERT INTO schema_migrations VALUES (4, false);",
            "0004, from public.schema_migrations",
        ),
        (
            "CREATE TABLE knex_migrations (name text, migration_time timestamptz); INSERT INTO knex_migrations VALUES ('20240102030405_users.js', now());",
            "20240102030405, from public.knex_migrations",
        ),
    ] {
        let project = Project::new(setup, &[FILE]).await;
        project.migrate(&["baseline"]).await.expect(0).says(says);
        project.migrate(&["baseline"]).await.expect(0).says("already");
        project.migrate(&["expand"]).await.expect(0).says("20260102030405 is");
    }
    let dirty = "CREATE TABLE schema_migrations (version bigint, dirty boolean); INSERT INTO schema_migrations VALUES (4, true);";
    Project::new(dirty, &[]).await.migrate(&["baseline"]).await.expect(4).says("failed half way");
    let odd = "CREATE TABLE flyway_schema_history (installed_rank int, version text, type text, success boolean); INSERT INTO flyway_schema_history VALUES (1, '1', 'SQL', true), (2, '1.2', 'SQL', true);";
    Project::new(odd, &[]).await.migrate(&["baseline"]).await.expect(2).says("names no numbered migration");
    Project::new("", &[]).await.migrate(&["baseline"]).await.expect(2).says("migrate baseline VERSION");
}

#[tokio::test]
async fn files_up_to_the_baseline_are_applied_and_older_instances_are_not_let_in() {
    let files = [
        ("0001_a.sql", "CREATE TABLE a (id int);"),
        ("0005_b.sql", "CREATE TABLE b (id int);"),
        ("0006_c.sql", "CREATE TABLE c (id int);"),
    ];
    let project = Project::new("CREATE TABLE a (id int); CREATE TABLE b (id int);", &files).await;
    project.migrate(&["baseline", "5"]).await.expect(0).says("0005");
    project.migrate(&["status"]).await.expect(0).says("0006").hides("0001");
    // One that comes later would never run.
    project.write("0003_late.sql", "CREATE TABLE late (id int);");
    project
        .migrate(&["expand"])
        .await
        .expect(4)
        .says("not above the baseline 0005")
        .says("migrate new --renumber");
    let late = project.path("migrations/0003_late.sql");
    project.migrate(&["new", "--renumber", late.to_str().unwrap()]).await.expect(0).says("0007_late.sql");
    std::fs::remove_file(project.path("migrations/0007_late.sql")).unwrap();
    std::fs::rename(project.path("migrations/0006_c.sql"), project.path("0006_c.sql")).unwrap();
    project.migrate(&["new", "next one"]).await.expect(0).says("0006_next_one.sql");
    std::fs::rename(project.path("0006_c.sql"), project.path("migrations/0006_c.sql")).unwrap();
    project.migrate(&["status"]).await.expect(0).says("0006 is there twice").says("--renumber");
    std::fs::remove_file(project.path("migrations/0006_next_one.sql")).unwrap();
    project.migrate(&["expand"]).await.expect(0).says("0006 is");
    project.migrate(&["baseline", "4"]).await.expect(4).says("never goes back");
    project.migrate(&["baseline", "6"]).await.expect(4).says("migration 0006 is ready");
    let mut connection = project.database.connect().await;
    let refused =
        super::support::try_run(&mut connection, "SELECT pontoon.register('web', 'old', '4')").await;
    assert!(refused.is_err_and(|error| error.to_string().contains('5')));
    project.register("web-1", "6").await;
    project.migrate(&["contract"]).await.expect(0);
    project.register("slow", "5").await;
    project
        .migrate(&["baseline", "6"])
        .await
        .expect(4)
        .says("instances older than 0006 are alive")
        .says("web slow");
}

#[tokio::test]
async fn a_squashed_file_is_new_where_nothing_is_and_applied_where_all_is() {
    let old = [
        ("0001_a.sql", "CREATE TABLE a (id int);"),
        ("0002_b.sql", "ALTER TABLE a ADD COLUMN b int;"),
        ("0003_c.sql", "CREATE INDEX ON a (b);"),
    ];
    let squash = "-- migrate: replaces 1-3\nCREATE TABLE a (id int, b int);\nCREATE INDEX ON a (b);";
    let next = ("0004_d.sql", "ALTER TABLE a ADD COLUMN d int;");
    let project = Project::new("", &old).await;
    project.migrate(&["up"]).await.expect(0);
    for (name, _) in old {
        std::fs::remove_file(project.path("migrations").join(name)).unwrap();
    }
    project.write("0003_squash.sql", squash);
    project.write(next.0, next.1);
    project.migrate(&["up"]).await.expect(0);
    let fresh = Project::new("", &[("0003_squash.sql", squash), next]).await;
    fresh.migrate(&["up"]).await.expect(0);
    let (mut one, mut other) = (project.database.connect().await, fresh.database.connect().await);
    assert_eq!(shape(&mut one).await, shape(&mut other).await);
    // Half of what it stands in for is not enough.
    let half = Project::new("", &old[..2]).await;
    half.migrate(&["up"]).await.expect(0);
    half.write("0003_squash.sql", squash);
    half.migrate(&["expand"]).await.expect(4).says("whose file is still in the folder");
    for (name, _) in &old[..2] {
        std::fs::remove_file(half.path("migrations").join(name)).unwrap();
    }
    half.write("0003_squash.sql", squash);
    half.migrate(&["expand"]).await.expect(4).says("migration 0002 is as far as it went");
    // Where the first of them are the baseline, the others are what was applied.
    let adopted = Project::new("CREATE TABLE a (id int);", &old).await;
    adopted.migrate(&["baseline", "1"]).await.expect(0);
    adopted.migrate(&["up"]).await.expect(0).says("0003 is done");
    for (name, _) in old {
        std::fs::remove_file(adopted.path("migrations").join(name)).unwrap();
    }
    adopted.write("0003_squash.sql", squash);
    adopted.write(next.0, next.1);
    adopted.migrate(&["up"]).await.expect(0).says("0004 is done");
}

#[tokio::test]
async fn doctor_names_what_changed_behind_the_back_of_the_ledger() {
    let setup = "CREATE TABLE t (id int PRIMARY KEY, name text NOT NULL); INSERT INTO t VALUES (1, 'a b');";
    let file = "ALTER TABLE t ADD COLUMN first text; UPDATE t SET first = split_part(name, ' ', 1);
        -- migrate: down name = first\nALTER TABLE t DROP COLUMN name;";
    let project = Project::new(setup, &[("0001_x.sql", file)]).await;
    project.migrate(&["doctor"]).await.expect(4).says("not installed");
    project.migrate(&["expand"]).await.expect(0);
    project.migrate(&["doctor"]).await.expect(0).says("nothing is wrong");
    project.database.run("ALTER TABLE t RENAME COLUMN first TO given").await;
    project
        .migrate(&["doctor"])
        .await
        .expect(4)
        .says("migration 0001: public.t: column `first text` is now `given text`");
    project
        .database
        .run("ALTER TABLE t RENAME COLUMN given TO first; ALTER TABLE t DISABLE TRIGGER ALL")
        .await;
    project.migrate(&["doctor"]).await.expect(4).says("does not always fire");
    project.migrate(&["doctor", "--json"]).await.expect(4).says("\"findings\"");
    let again = "SELECT string_agg(format('ALTER TABLE t ENABLE ALWAYS TRIGGER %I', tgname), '; ') FROM pg_trigger WHERE tgrelid = 't'::regclass";
    project.database.run(&project.database.text(again).await).await;
    project.migrate(&["backfill"]).await.expect(0);
    project.migrate(&["doctor"]).await.expect(0);
    project.migrate(&["abort", "1"]).await.expect(0);
    project.database.run("CREATE FUNCTION pontoon.m9_1_up() RETURNS int LANGUAGE sql AS 'SELECT 1'").await;
    project.migrate(&["doctor"]).await.expect(4).says("function pontoon.m9_1_up()");
    project.database.run("ALTER TABLE t ADD COLUMN _pontoon_9_name text CONSTRAINT _pontoon_9_c CHECK (true); CREATE INDEX _pontoon_9_i ON t (_pontoon_9_name)").await;
    let doctor = project.migrate(&["doctor"]).await;
    doctor
        .expect(4)
        .says("column _pontoon_9_name of public.t")
        .says("constraint _pontoon_9_c of public.t")
        .says("index public._pontoon_9_i");
}

#[tokio::test]
async fn what_a_migration_made_and_somebody_took_away_is_named_by_doctor_and_by_the_next_phase() {
    let setup = "CREATE TABLE t (id int PRIMARY KEY, name text NOT NULL); INSERT INTO t VALUES (1, 'a b');";
    let file = "CREATE TABLE fresh (id int); CREATE VIEW seen AS SELECT id FROM t; ALTER TABLE t ADD COLUMN first text;
        UPDATE t SET first = split_part(name, ' ', 1); ALTER TABLE t ADD CONSTRAINT short CHECK (length(first) < 9); CREATE INDEX by_first ON t (first);
        -- migrate: down name = first\nALTER TABLE t DROP COLUMN name;";
    let project = Project::new(setup, &[("0001_x.sql", file)]).await;
    project.migrate(&["expand"]).await.expect(0);
    project.migrate(&["backfill"]).await.expect(0);
    project.register("web-1", "1").await;
    let database = &project.database;
    database
        .run("DROP TABLE fresh; DROP VIEW seen; DROP INDEX by_first; CREATE INDEX by_first ON t (id)")
        .await;
    for command in ["doctor", "contract"] {
        let ran = project.migrate(&[command]).await;
        ran.expect(if command == "doctor" { 4 } else { 0 });
        let said = format!("{}{}", ran.stdout, ran.stderr);
        for line in [
            "table public.fresh is gone",
            "view public.seen is gone",
            "index public.by_first is now `on public.t id`",
        ] {
            assert!(said.contains(line), "{command}: {line}\n{said}");
        }
    }
    database.run("ALTER TABLE t DROP CONSTRAINT short").await;
    project.migrate(&["doctor"]).await.expect(4).says("constraint short on public.t is gone");
    let functions = "DROP FUNCTION pontoon.m1_1_derive CASCADE";
    database.run(functions).await;
    project.migrate(&["doctor"]).await.expect(4).says("sync function pontoon.m1_1_derive is gone");
    let refused = project.migrate(&["contract", "--soak", "0s"]).await;
    refused
        .expect(4)
        .says("sync function pontoon.m1_1_derive is gone")
        .says("sync trigger \"~pontoon_m1_1_derive_update\" is gone");
}

#[tokio::test]
async fn what_somebody_changes_of_a_column_whose_type_is_changing_is_not_put_back_silently() {
    let setup = "CREATE TABLE t (id int PRIMARY KEY, qty int NOT NULL DEFAULT 3); INSERT INTO t VALUES (1);";
    let project = Project::new(setup, &[("0001_x.sql", "ALTER TABLE t ALTER COLUMN qty TYPE bigint;")]).await;
    let database = &project.database;
    project.migrate(&["expand"]).await.expect(0);
    project.migrate(&["backfill"]).await.expect(0);
    project.register("web-1", "1").await;
    let change = "ALTER TABLE t ALTER COLUMN qty SET DEFAULT 4, ALTER COLUMN qty DROP NOT NULL; COMMENT ON COLUMN t.qty IS 'how many'; GRANT SELECT (qty) ON t TO PUBLIC";
    database.run(change).await;
    for command in [&["doctor"][..], &["contract", "--check"], &["contract"]] {
        let ran = project.migrate(command).await;
        ran.expect(4);
        let said = format!("{}{}", ran.stdout, ran.stderr);
        for line in [
            "default of column public.t.qty is now `4`",
            "nullability of column public.t.qty is now `NULL`",
            "comment of column public.t.qty is now `how many`",
            "grants of column public.t.qty is now `SELECT to PUBLIC`",
        ] {
            assert!(said.contains(line), "{command:?}: {line}\n{said}");
        }
    }
    database
        .run("ALTER TABLE t ALTER COLUMN qty SET DEFAULT 3, ALTER COLUMN qty SET NOT NULL; COMMENT ON COLUMN t.qty IS NULL; REVOKE SELECT (qty) ON t FROM PUBLIC")
        .await;
    project.migrate(&["contract"]).await.expect(0).says("sealed");
    // From then on it is the new column, and anybody's.
    database.run("ALTER TABLE t ALTER COLUMN qty SET DEFAULT 5").await;
    project.migrate(&["contract", "--soak", "0s"]).await.expect(0).says("0001 is done");
}

#[tokio::test]
async fn what_was_written_while_somebody_had_taken_the_sync_triggers_away_survives_a_reopen() {
    let setup = "CREATE TABLE u (id int PRIMARY KEY, name text); INSERT INTO u SELECT i, 'N' || i FROM generate_series(1, 3) AS i;";
    let file = "ALTER TABLE u ADD COLUMN fn text; UPDATE u SET fn = lower(name);
        -- migrate: down name = upper(fn)\nALTER TABLE u DROP COLUMN name;";
    let project = Project::new(setup, &[("0001_x.sql", file)]).await;
    project.migrate(&["expand"]).await.expect(0);
    project.migrate(&["backfill"]).await.expect(0);
    project.register("web-1", "1").await;
    project.migrate(&["contract"]).await.expect(0);
    let database = &project.database;
    database.run("ALTER TABLE u DISABLE TRIGGER ALL; UPDATE u SET fn = 'changed' WHERE id = 1; INSERT INTO u (id, fn) VALUES (9, 'nine')").await;
    project.migrate(&["contract", "--soak", "0s"]).await.expect(4).says("does not always fire");
    project.migrate(&["reopen", "1"]).await.expect(0).says("2 rows that were written past the sync triggers");
    let rows = "SELECT string_agg(id || name || fn, ' ' ORDER BY id) FROM u";
    assert_eq!(database.text(rows).await, "1CHANGEDchanged 2N2n2 3N3n3 9NINEnine");
    project.migrate(&["backfill"]).await.expect(0);
    project.migrate(&["contract"]).await.expect(4).says("does not always fire");
    let again = "SELECT string_agg(format('ALTER TABLE u ENABLE ALWAYS TRIGGER %I', tgname), '; ') FROM pg_trigger WHERE tgrelid = 'u'::regclass";
    database.run(&database.text(again).await).await;
    project.migrate(&["contract", "--soak", "0s"]).await.expect(0);
    assert_eq!(database.text("SELECT string_agg(fn, ' ' ORDER BY id) FROM u").await, "changed n2 n3 nine");
}

/// Sixty pending migrations over a schema of 150 tables, as `up` runs them, killed on the way, and as a deployment does.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_chain_of_sixty_over_a_hundred_and_fifty_tables_ends_as_the_plain_sql_does() {
    let setup: String = (0..150)
        .map(|n| {
            let parent = if n > 0 { format!(", parent int REFERENCES t{}", n - 1) } else { String::new() };
            format!(
                "CREATE TABLE t{n} (id int GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY, name text NOT NULL, qty int NOT NULL DEFAULT 1{parent});
                 CREATE INDEX t{n}_name ON t{n} (name); INSERT INTO t{n} (name) SELECT 'F' || i || ' L' || i FROM generate_series(1, 20) AS i;\n"
            )
        })
        .collect();
    let files: Vec<(String, String)> = (0..60)
        .map(|n| {
            let (t, u) = (n * 2, n * 2 + 1);
            let sql = match n % 10 {
                0 => format!("ALTER TABLE t{t} ADD COLUMN first text; UPDATE t{t} SET first = split_part(name, ' ', 1);\n-- migrate: down name = first || ' ' || first\nALTER TABLE t{t} DROP COLUMN name;"),
                1 => format!("ALTER TABLE t{t} RENAME COLUMN name TO title; CREATE INDEX ON t{u} (qty);"),
                2 => format!("CREATE TABLE n{n} (id int PRIMARY KEY, t int REFERENCES t{t}); INSERT INTO n{n} VALUES (1, 1); CREATE VIEW v{n} AS SELECT id FROM n{n};"),
                3 => format!("ALTER TABLE t{t} ALTER COLUMN qty TYPE bigint; ALTER TABLE t{u} ADD CHECK (qty > 0);"),
                4 => format!("UPDATE t{t} SET qty = qty + 1 WHERE id % 2 = 0; DELETE FROM t149 WHERE id = {n};"),
                5 => format!("ALTER TABLE t{t} ADD COLUMN token text NOT NULL DEFAULT 'x' CHECK (token <> ''), ADD UNIQUE (name, id);"),
                6 => format!("ALTER TABLE t{t} RENAME TO r{n};"),
                7 => format!("DROP VIEW v{}; ALTER TABLE t{t} ALTER COLUMN qty DROP NOT NULL;", n - 5),
                8 => format!("CREATE TYPE mood{n} AS ENUM ('a'); ALTER TABLE t{t} ADD COLUMN mood mood{n}; DROP INDEX t{u}_name;"),
                _ => format!("INSERT INTO t149 (id, name) SELECT id + 1000 * {n}, name FROM t{u}; ALTER TABLE t{u} ADD COLUMN note text;"),
            };
            (format!("{:04}_x.sql", n + 1), sql)
        })
        .collect();
    let named: Vec<(&str, &str)> = files.iter().map(|(name, sql)| (name.as_str(), sql.as_str())).collect();
    let plain = Database::new().await;
    plain.run(&setup).await;
    for (_, sql) in &files {
        plain.run(sql).await;
    }
    let wanted = shape(&mut plain.connect().await).await;
    let rows = "SELECT count(*) || ' ' || sum(qty) FROM t149";
    // Nobody serves from it: one command, killed five times.
    let project = Project::new(&setup, &named).await;
    for fault in [
        "expand.stored@7",
        "step.before_commit@90",
        "backfill.updated@9",
        "contract.dropping@4",
        "step.after_commit@40",
    ] {
        let mut command = project.command(&["up"]);
        command.env("PONTOON_FAULT", fault);
        let ran = finish(command).await;
        assert_eq!(ran.code, None, "{fault} was not met\n{}{}", ran.stdout, ran.stderr);
    }
    project.migrate(&["up"]).await.expect(0);
    let mut connection = project.database.connect().await;
    assert_eq!(shape(&mut connection).await, wanted, "up");
    assert_eq!(project.database.text(rows).await, plain.text(rows).await);
    assert_eq!(leftovers(&mut connection).await, "");
    project.migrate(&["status", "--exit-code"]).await.expect(0);
    project.migrate(&["doctor"]).await.expect(0);
}
