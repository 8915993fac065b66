//! Bad input of every sort: the documented exit code, a message that says what, where, why and what to type, and nothing
//! changed.

use super::support::{Project, finish, program, run};

const SETUP: &str = "CREATE TABLE users (id int PRIMARY KEY, name text NOT NULL);";

#[tokio::test]
async fn files_that_cannot_be_planned_name_the_place_and_change_nothing() {
    let cases = [
        ("ALTER TABEL users ADD COLUMN a int;", "0007_x.sql:1:"),
        ("ALTER TABLE users ADD COLUMN a int;\n\nTRUNCATE users;", "0007_x.sql:3:1"),
        ("-- migrate: dawn x = y\nALTER TABLE users ADD COLUMN a int;", "unknown directive `dawn`"),
        ("-- migrate: down name = 'x'\nALTER TABLE users ADD COLUMN a int;", "`down name` is not used"),
        ("ALTER TABLE users DROP COLUMN name;", "-- migrate: down name = <expression>"),
        ("ALTER TABLE users DROP COLUMN nmae;", "no column `nmae`"),
        ("ALTER TABLE user_s ADD COLUMN a int;", "no table `user_s`"),
        ("ALTER TABLE users DROP COLUMN id CASCADE;", "CASCADE"),
        ("ALTER TABLE users ADD COLUMN name text;", "already has a column"),
        ("ALTER TABLE users ADD COLUMN a int NOT NULL;", "nothing gives the rows that exist a value"),
        ("ALTER TABLE users ADD COLUMN a int GENERATED ALWAYS AS (id + 1) STORED;", "rewrite the table"),
        ("ALTER TABLE users ADD COLUMN a int GENERATED ALWAYS AS IDENTITY;", "rewrite the table"),
        (
            "ALTER TABLE users RENAME COLUMN name TO n; ALTER TABLE users ADD COLUMN name text;",
            "split the file",
        ),
        ("UPDATE users SET name = 'x' RETURNING id;", "RETURNING"),
        ("ALTER TABLE users ADD COLUMN a text; UPDATE users SET a = 'x', name = 'y';", "split it into two"),
        (
            "ALTER TABLE users ADD COLUMN a text; UPDATE users SET a = (SELECT 'x');",
            "a query inside a mapping",
        ),
        (
            "ALTER TABLE users ADD COLUMN a text; UPDATE users SET a = name || current_user;",
            "depends on the session",
        ),
        ("ALTER TABLE users ALTER COLUMN id TYPE bigint USING id * 100;", "may change what the value means"),
        ("ALTER TABLE users ALTER COLUMN name TYPE int;", "cannot be cast automatically"),
        (
            "ALTER TABLE users ALTER COLUMN name TYPE timestamptz USING name::timestamptz;",
            "depends on the session",
        ),
        ("ALTER TABLE seen_from ALTER COLUMN a TYPE bigint;", "view public.seen"),
        ("-- migrate: down id = name\nALTER TABLE users ALTER COLUMN id TYPE bigint;", "reads other columns"),
        ("ALTER TABLE users ADD EXCLUDE USING btree (id WITH =);", "exclusion constraint"),
        ("ALTER TABLE users ADD PRIMARY KEY (name);", "has a primary key already"),
        ("ALTER TABLE users ADD CHECK (nmae <> '');", "no column `nmae`"),
        ("ALTER TABLE users ADD FOREIGN KEY (id) REFERENCES nowhere;", "no table `nowhere`"),
        ("ALTER TABLE users ADD UNIQUE (name) WITH (fillfactor = 70);", "is not supported"),
        ("ALTER TABLE users DROP CONSTRAINT nothing;", "no constraint `nothing`"),
        ("ALTER TABLE users DROP CONSTRAINT users_pkey CASCADE;", "CASCADE"),
        ("ALTER TABLE child DROP CONSTRAINT x;", "inheritance"),
        ("ALTER TABLE pointed DROP CONSTRAINT pointed_pkey;", "foreign keys point at it: pointing_id_fkey"),
        (
            "ALTER TABLE users RENAME COLUMN name TO n; ALTER TABLE users ADD CHECK (n <> '');",
            "split the file",
        ),
        (
            "UPDATE users SET name = 'x', id = 1; ALTER TABLE users ADD CHECK (name = 'x');",
            "tells the rows apart",
        ),
        ("DROP SCHEMA s;", "DROP SCHEMA is not supported"),
        ("SET lock_timeout = '1s';", "session setting"),
        ("CREATE SCHEMA s; ROLLBACK;", "transaction control"),
        ("CREATE TEMPORARY TABLE p (a int);", "temporary"),
        ("ALTER TABLE parted_1 ADD COLUMN a int;", "it is a partition"),
        ("ALTER TABLE child ADD COLUMN a int;", "inheritance"),
        ("ALTER TABLE seen ADD COLUMN a int;", "it is a view"),
        ("ALTER TABLE users DROP COLUMN viewed;", "no column `viewed`"),
        ("ALTER TABLE seen_from DROP COLUMN a;", "view public.seen"),
    ];
    let setup = format!(
        "{SETUP} CREATE TABLE parted (id int) PARTITION BY LIST (id); CREATE TABLE parted_1 PARTITION OF parted FOR VALUES IN (1); CREATE TABLE parent (id int); CREATE TABLE child () INHERITS (parent);
         CREATE UNLOGGED TABLE quick (id int); CREATE TABLE seen_from (a int, b int); CREATE VIEW seen AS SELECT a FROM seen_from;
         CREATE TABLE pointed (id int PRIMARY KEY); CREATE TABLE pointing (id int REFERENCES pointed);"
    );
    let project = Project::new(&setup, &[]).await;
    for (sql, expected) in cases {
        project.write("0007_x.sql", sql);
        for command in ["plan", "expand"] {
            project.migrate(&[command]).await.expect(1).says(expected).says("0007_x.sql");
        }
        project.migrate(&["lint"]).await.expect(1).says(expected);
    }
    let json = project.migrate(&["expand", "--json"]).await;
    assert_eq!(json.json()["error"]["problems"][0]["line"], 1);
    assert_eq!(
        project.database.text("SELECT count(*)::text FROM pontoon.migration").await,
        "0",
        "something was stored"
    );
}

#[tokio::test]
async fn the_folder_and_the_ledger_must_fit() {
    let project = Project::new(SETUP, &[("0007_a.sql", "ALTER TABLE users ADD COLUMN a int;")]).await;
    project.migrate(&["expand"]).await.expect(0);
    project.write("0007_a.sql", "\u{feff}ALTER TABLE users ADD COLUMN a int;  \r\n");
    project.migrate(&["expand"]).await.expect(0).says("nothing to expand");
    project.write("0007_a.sql", "ALTER TABLE users ADD COLUMN a bigint;");
    project
        .migrate(&["expand"])
        .await
        .expect(4)
        .says("is not the file that was expanded")
        .says("migrate abort 0007");
    project.write("0007_a.sql", "ALTER TABLE users ADD COLUMN a int;");
    project.write("0006_late.sql", "ALTER TABLE users ADD COLUMN b int;");
    project
        .migrate(&["expand"])
        .await
        .expect(4)
        .says("older than migration 0007")
        .says("migrate new --renumber");
    let late = project.path("migrations/0006_late.sql");
    project.migrate(&["new", "--renumber", late.to_str().unwrap()]).await.expect(0).says("0008_late.sql");
    project.migrate(&["expand"]).await.expect(0).says("0008 is ready");
    std::fs::rename(project.path("migrations/0007_a.sql"), project.path("0007_a.sql")).unwrap();
    project.migrate(&["expand"]).await.expect(4).says("its file is gone");
    std::fs::rename(project.path("0007_a.sql"), project.path("migrations/0007_a.sql")).unwrap();
    std::fs::remove_file(project.path("migrations/0008_late.sql")).unwrap();
    project.migrate(&["expand"]).await.expect(0).says("newer than the folder");
    project.write("7_twice.sql", "");
    project.migrate(&["expand"]).await.expect(1).says("is there twice");
    std::fs::remove_file(project.path("migrations/7_twice.sql")).unwrap();
    project.write("notes.sql", "");
    project.migrate(&["expand"]).await.expect(1).says("is no migration");
}

#[tokio::test]
async fn a_first_step_that_fails_changes_nothing_and_the_file_may_be_corrected() {
    let project =
        Project::new(SETUP, &[("0007_a.sql", "ALTER TABLE users ADD COLUMN a no_such_type;")]).await;
    project.migrate(&["expand"]).await.expect(1).says("no_such_type").says("nothing was changed");
    project.write("0007_a.sql", "ALTER TABLE users ADD COLUMN a int;");
    project.migrate(&["expand"]).await.expect(0).says("0007 is ready");
}

#[tokio::test]
async fn a_reviewed_plan_is_the_only_one_that_runs() {
    let project = Project::new(SETUP, &[("0007_a.sql", "ALTER TABLE users ADD COLUMN a int;")]).await;
    let plan = project.migrate(&["plan", "--json", "--exit-code"]).await;
    plan.expect(3);
    let hash = plan.json()["plans"][0]["hash"].as_str().unwrap().to_owned();
    let brief = project.migrate(&["plan", "--brief"]).await;
    brief.expect(0).says("expand public.users (ACCESS EXCLUSIVE on public.users, briefly)").says(&hash);
    brief.hides("ALTER TABLE public.users");
    project.write("0007_a.sql", "ALTER TABLE users ADD COLUMN b int;");
    project.migrate(&["expand", "--plan", &hash]).await.expect(4).says("not the one that was reviewed");
    project.write("0007_a.sql", "ALTER TABLE users ADD COLUMN a int;");
    project.migrate(&["expand", "--plan", &hash]).await.expect(0);
    project.migrate(&["plan", "--exit-code"]).await.expect(0).says("nothing to expand");
}

#[tokio::test]
async fn columns_changed_behind_its_back_stop_the_next_phase() {
    let project =
        Project::new(SETUP, &[("0007_a.sql", "ALTER TABLE users RENAME COLUMN name TO full_name;")]).await;
    project.migrate(&["expand"]).await.expect(0);
    project.migrate(&["backfill"]).await.expect(0);
    project.register("web", "7").await;
    project.database.run("ALTER TABLE users RENAME COLUMN full_name TO fullname").await;
    project
        .migrate(&["contract"])
        .await
        .expect(4)
        .says("somebody changed")
        .says("full_name text")
        .says("fullname text");
}

#[tokio::test]
async fn databases_that_cannot_be_used() {
    let project = Project::new(SETUP, &[("0007_a.sql", "ALTER TABLE users ADD COLUMN a int;")]).await;
    let url = project.database.url.clone();
    let (head, tail) = url.split_once('@').unwrap();
    let wrong = format!("postgres://postgres:canary-Hunter2@{tail}");
    let nowhere = "postgres://postgres:canary-Hunter2@127.0.0.1:1/x?sslmode=disable".to_owned();
    let missing = format!("{head}@{}/no_such_database?sslmode=disable", tail.split('/').next().unwrap());
    for command in ["plan", "expand", "backfill", "contract", "status", "instances", "verify", "up"] {
        finish(project.command_at(&wrong, &[command])).await.expect(6).says("cannot connect").hides("canary");
        finish(project.command_at(&nowhere, &[command])).await.expect(6).says("127.0.0.1:1").hides("canary");
        finish(project.command_at(&missing, &[command])).await.expect(6).says("no_such_database");
        finish(project.command_at("mysql://root:canary-Hunter2@x/y", &[command]))
            .await
            .expect(2)
            .hides("canary");
        let mut none = program(project.path("").as_path());
        none.arg(command);
        finish(none).await.expect(2).says("DATABASE_URL");
    }
    for command in ["backfill", "contract", "instances", "verify"] {
        project.migrate(&[command]).await.expect(6).says("there is no ledger");
    }
    let role = format!("low_{}", project.database.name);
    project.database.run(&format!("CREATE ROLE {role} LOGIN PASSWORD 'canary-Hunter2'")).await;
    let low = format!("postgres://{role}:canary-Hunter2@{tail}");
    finish(project.command_at(&low, &["expand"]))
        .await
        .expect(6)
        .says("permission denied")
        .says("as the owner")
        .hides("canary");
    assert_eq!(
        project.database.text("SELECT to_regnamespace('pontoon')::text").await,
        "",
        "something was installed"
    );
    project.database.run(&format!("DROP ROLE {role}")).await;
}

#[tokio::test]
async fn wrong_usage_and_configuration() {
    let project = Project::new(SETUP, &[]).await;
    for arguments in [
        &["expnad"][..],
        &["expand", "--to", "x"],
        &["contract", "--wait", "5"],
        &["abort"],
        &["contract", "--override", "all", "--because", "x"],
    ] {
        project.migrate(arguments).await.expect(2);
    }
    project.migrate(&["abort", "7"]).await.expect(6);
    project.migrate(&["init"]).await.expect(0).says("installed the ledger");
    project.migrate(&["abort", "7"]).await.expect(2).says("migrate status");
    project.migrate(&["--migrations", "nowhere", "expand"]).await.expect(2).says("no folder of migrations");
    std::fs::write(project.path("migrate.toml"), "soak = \"1 fortnight\"\n").unwrap();
    project.migrate(&["status"]).await.expect(2).says("soak").says("24h");
    std::fs::write(project.path("migrate.toml"), "database_url = \"x\"\nsoka = \"1h\"\n").unwrap();
    project.migrate(&["status"]).await.expect(2).says("line 2");
}

#[tokio::test]
async fn up_redo_and_the_other_commands_of_a_developer() {
    let files = [
        (
            "0001_base.sql",
            "CREATE TABLE users (id int PRIMARY KEY, name text NOT NULL); INSERT INTO users VALUES (1, 'Ada Lovelace');",
        ),
        (
            "0002_split.sql",
            "ALTER TABLE users ADD COLUMN first text; UPDATE users SET first = split_part(name, ' ', 1);\n-- migrate: down name = first\nALTER TABLE users DROP COLUMN name;",
        ),
        ("0003_again.sql", "ALTER TABLE users RENAME COLUMN first TO given;"),
    ];
    let project = Project::new("", &files).await;
    project.migrate(&["up"]).await.expect(0).says("0003 is done");
    assert_eq!(project.database.text("SELECT given FROM users").await, "Ada");
    project.migrate(&["up"]).await.expect(0).says("nothing to do");
    project.migrate(&["status", "--exit-code"]).await.expect(0);
    project.migrate(&["new", "add age!"]).await.expect(0).says("0004_add_age.sql");
    project.write("0004_add_age.sql", "ALTER TABLE users ADD COLUMN age int;");
    project.migrate(&["status", "--exit-code"]).await.expect(3);
    project.migrate(&["expand"]).await.expect(0);
    project.write("0004_add_age.sql", "ALTER TABLE users ADD COLUMN age bigint;");
    project.migrate(&["redo"]).await.expect(0).says("0004 is ready");
    assert_eq!(project.database.text("SELECT pg_typeof(age)::text FROM users").await, "bigint");
    project.register("web", "4").await;
    project.migrate(&["up"]).await.expect(4).says("1 instances");
    project.migrate(&["completions", "bash"]).await.expect(0).says("_migrate");
    let mut connection = project.database.connect().await;
    run(&mut connection, "SELECT 1").await;
}

/// What stands behind a migration that was aborted is not served without it.
#[tokio::test]
async fn nothing_is_expanded_behind_an_aborted_one_whose_file_is_there() {
    let project = Project::new(SETUP, &[("0007_a.sql", "ALTER TABLE users ADD COLUMN a int;")]).await;
    project.migrate(&["expand"]).await.expect(0);
    project.migrate(&["abort", "7"]).await.expect(0);
    project.write("0008_b.sql", "ALTER TABLE users ADD COLUMN b int;");
    project
        .migrate(&["expand"])
        .await
        .expect(4)
        .says("0008 comes behind it")
        .says("migrate expand --to 0007");
    std::fs::remove_file(project.path("migrations/0007_a.sql")).unwrap();
    project.migrate(&["expand"]).await.expect(0).says("0008 is ready");
    // What was done before a failure is said, and what is in the database is shown whatever the files are.
    project.write("0009_c.sql", "ALTER TABLE users ADD COLUMN c int;");
    project.write("0010_d.sql", "ALTER TABLE users DROP COLUMN nosuch;");
    project.migrate(&["expand"]).await.expect(1).says("0009 is ready").says("nosuch");
    project.write("0010_d.sql", "ALTER TABEL users ADD COLUMN d int;");
    project.migrate(&["status"]).await.expect(0).says("0009").says("cannot be planned");
    project.migrate(&["doctor"]).await.says("cannot be planned");
}
