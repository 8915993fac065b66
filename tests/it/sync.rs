//! The rules of sync triggers, one by one, on the migration of the design: a name split into two.

use super::support::{Project, connect, finish, run, text, try_run};

const SPLIT: &str = "ALTER TABLE users ADD COLUMN first_name text, ADD COLUMN last_name text;
UPDATE users SET first_name = split_part(name, ' ', 1), last_name = split_part(name, ' ', 2);
-- migrate: down name = concat_ws(' ', first_name, last_name)
ALTER TABLE users DROP COLUMN name;";

const USERS: &str = "CREATE TABLE users (id int PRIMARY KEY, name text, touched int);
INSERT INTO users VALUES (1, 'Ada Lovelace'), (2, 'Alan Turing'), (3, NULL), (4, '');";

/// The expanded project, before any backfill.
async fn expanded(setup: &str, migration: &str) -> Project {
    let project = Project::new(setup, &[("0007_change.sql", migration)]).await;
    project.migrate(&["expand"]).await.expect(0);
    project
}

async fn row(project: &Project, id: i32) -> String {
    project.database.text(&format!("SELECT concat_ws('|', coalesce(name, '-'), coalesce(first_name, '-'), coalesce(last_name, '-')) FROM users WHERE id = {id}")).await
}

#[tokio::test]
async fn each_way_of_writing_leaves_both_shapes_right() {
    let project = expanded(USERS, SPLIT).await;
    let cases = [
        (
            "an old insert",
            "INSERT INTO users (id, name) VALUES (10, 'Grace Hopper')",
            10,
            "Grace Hopper|Grace|Hopper",
        ),
        (
            "a new insert",
            "INSERT INTO users (id, first_name, last_name) VALUES (11, 'Edith', 'Clarke')",
            11,
            "Edith Clarke|Edith|Clarke",
        ),
        ("a partial new insert", "INSERT INTO users (id, first_name) VALUES (12, 'Solo')", 12, "Solo|Solo|-"),
        (
            "both, agreeing",
            "INSERT INTO users (id, name, first_name, last_name) VALUES (13, 'A B', 'A', 'B')",
            13,
            "A B|A|B",
        ),
        (
            "both, disagreeing: new wins",
            "INSERT INTO users (id, name, first_name, last_name) VALUES (14, 'X Y', 'A', 'B')",
            14,
            "A B|A|B",
        ),
        ("nothing given", "INSERT INTO users (id) VALUES (15)", 15, "-|-|-"),
        (
            "a value that only the new shape holds",
            "INSERT INTO users (id, first_name, last_name) VALUES (16, 'Mary Ann', 'Evans')",
            16,
            "Mary Ann Evans|Mary Ann|Evans",
        ),
        (
            "an unrelated update keeps it",
            "UPDATE users SET touched = 1 WHERE id = 16",
            16,
            "Mary Ann Evans|Mary Ann|Evans",
        ),
        (
            "an old update",
            "UPDATE users SET name = 'George Eliot' WHERE id = 16",
            16,
            "George Eliot|George|Eliot",
        ),
        (
            "a partial write to an unconverted row",
            "UPDATE users SET first_name = 'Countess' WHERE id = 1",
            1,
            "Countess Lovelace|Countess|Lovelace",
        ),
        (
            "an unrelated update converts a row",
            "UPDATE users SET touched = 1 WHERE id = 2",
            2,
            "Alan Turing|Alan|Turing",
        ),
        ("null stays null", "UPDATE users SET touched = 1 WHERE id = 3", 3, "-|-|-"),
        (
            "update of both, disagreeing",
            "UPDATE users SET name = 'P Q', last_name = 'R' WHERE id = 2",
            2,
            "Alan R|Alan|R",
        ),
        (
            "an upsert by old code",
            "INSERT INTO users (id, name) VALUES (10, 'x') ON CONFLICT (id) DO UPDATE SET name = 'Rear Admiral'",
            10,
            "Rear Admiral|Rear|Admiral",
        ),
        ("old code renames to null", "UPDATE users SET name = NULL WHERE id = 11", 11, "-|-|-"),
    ];
    for (what, sql, id, expected) in cases {
        project.database.run(sql).await;
        assert_eq!(row(&project, id).await, expected, "{what}");
    }
    project.migrate(&["backfill"]).await.expect(0);
    assert_eq!(row(&project, 4).await, "||", "an empty text is converted as the plain UPDATE would");
}

#[tokio::test]
async fn constant_defaults_stay_out_of_the_way_until_the_seal() {
    let setup = "CREATE TABLE users (id int PRIMARY KEY, name text NOT NULL DEFAULT 'No Body', touched int);";
    let migration =
        "ALTER TABLE users ADD COLUMN first_name text NOT NULL DEFAULT 'New', ADD COLUMN last_name text;
        UPDATE users SET first_name = split_part(name, ' ', 1), last_name = split_part(name, ' ', 2);
        -- migrate: down name = concat_ws(' ', first_name, last_name)
        ALTER TABLE users DROP COLUMN name;";
    let project = expanded(setup, migration).await;
    project.database.run("INSERT INTO users (id) VALUES (1)").await;
    assert_eq!(row(&project, 1).await, "No Body|No|Body", "the old default counts");
    project.database.run("INSERT INTO users (id, first_name) VALUES (2, 'Given')").await;
    assert_eq!(row(&project, 2).await, "Given|Given|-");
    project.migrate(&["backfill"]).await.expect(0);
    project.register("web", "7").await;
    project.migrate(&["contract", "--soak", "0s"]).await.expect(0);
    project.database.run("INSERT INTO users (id) VALUES (3)").await;
    assert_eq!(
        project.database.text("SELECT first_name FROM users WHERE id = 3").await,
        "New",
        "now the new default counts"
    );
}

#[tokio::test]
async fn an_up_that_raises_never_fails_an_old_writer_and_names_the_row() {
    let setup =
        "CREATE TABLE users (id int PRIMARY KEY, age text); INSERT INTO users VALUES (1, '41'), (2, '42');";
    let migration = "ALTER TABLE users ADD COLUMN years int; UPDATE users SET years = age::int;
        -- migrate: down age = years::text
        ALTER TABLE users DROP COLUMN age;";
    let project = expanded(setup, migration).await;
    let mut connection = project.database.connect().await;
    run(&mut connection, "INSERT INTO users (id, age) VALUES (3, 'forty'), (4, '44')").await;
    run(&mut connection, "UPDATE users SET age = 'old' WHERE id = 1").await;
    run(&mut connection, "UPDATE users SET age = age WHERE id = 3").await;
    let seen =
        "SELECT string_agg(concat_ws('|', id, age, coalesce(years::text, '-')), ' ' ORDER BY id) FROM users";
    assert_eq!(text(&mut connection, seen).await, "1|old|- 2|42|- 3|forty|- 4|44|44");
    project
        .migrate(&["backfill"])
        .await
        .expect(1)
        .says("cannot be converted")
        .says("id = ")
        .says("22P02")
        .says("migrate abort 0007");
    // New code may repair such a row through the new column.
    run(&mut connection, "UPDATE users SET years = 40 WHERE id = 3").await;
    run(&mut connection, "UPDATE users SET age = '45' WHERE id = 1").await;
    project.migrate(&["backfill"]).await.expect(0).says("ready");
    assert_eq!(text(&mut connection, seen).await, "1|45|45 2|42|42 3|40|40 4|44|44");
    // A `down` that raises fails the new writer, and only it.
    assert!(try_run(&mut connection, "UPDATE users SET years = 46 WHERE id = 1").await.is_ok());
}

#[tokio::test]
async fn user_triggers_see_and_change_the_old_column_as_before() {
    let setup = "CREATE TABLE users (id int PRIMARY KEY, name text NOT NULL, touched int);
        CREATE TABLE log (entry text);
        CREATE FUNCTION tidy() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            IF NEW.name IS NULL THEN RAISE EXCEPTION 'a name is required'; END IF;
            NEW.name := initcap(NEW.name); RETURN NEW; END $$;
        CREATE TRIGGER tidy BEFORE INSERT OR UPDATE ON users FOR EACH ROW EXECUTE FUNCTION tidy();
        CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO log VALUES (NEW.name); RETURN NULL; END $$;
        CREATE TRIGGER note AFTER INSERT OR UPDATE ON users FOR EACH ROW EXECUTE FUNCTION note();";
    let project = expanded(setup, SPLIT).await;
    project.database.run("INSERT INTO users (id, first_name, last_name) VALUES (1, 'ada', 'lovelace')").await;
    assert_eq!(
        row(&project, 1).await,
        "Ada Lovelace|Ada|Lovelace",
        "new code's row went through the user's trigger"
    );
    project.database.run("INSERT INTO users (id, name) VALUES (2, 'alan turing')").await;
    assert_eq!(row(&project, 2).await, "Alan Turing|Alan|Turing");
    assert_eq!(
        project.database.text("SELECT string_agg(entry, ',') FROM log").await,
        "Ada Lovelace,Alan Turing"
    );
}

#[tokio::test]
async fn replicated_writes_prepared_statements_and_hostile_paths_are_synced_too() {
    let project = expanded(USERS, SPLIT).await;
    let mut connection = project.database.connect().await;
    run(&mut connection, "SET session_replication_role = replica").await;
    run(&mut connection, "INSERT INTO users (id, name) VALUES (20, 'Re Plica')").await;
    assert_eq!(row(&project, 20).await, "Re Plica|Re|Plica");
    let mut connection = project.database.connect().await;
    run(
        &mut connection,
        "CREATE SCHEMA evil;
         CREATE FUNCTION evil.split_part(text, text, int) RETURNS text LANGUAGE sql AS 'SELECT ''evil''';
         CREATE FUNCTION evil.concat_ws(text, text, text) RETURNS text LANGUAGE sql AS 'SELECT ''evil''';
         CREATE FUNCTION evil.eq(text, text) RETURNS boolean LANGUAGE sql AS 'SELECT false';
         CREATE OPERATOR evil.= (LEFTARG = text, RIGHTARG = text, FUNCTION = evil.eq);
         CREATE OPERATOR evil.<> (LEFTARG = text, RIGHTARG = text, FUNCTION = evil.eq);
         SET search_path = evil, public, pg_catalog",
    )
    .await;
    run(&mut connection, "INSERT INTO public.users (id, name) VALUES (21, 'Pa Th')").await;
    run(&mut connection, "UPDATE public.users SET last_name = 'Nice' WHERE id = 21").await;
    assert_eq!(row(&project, 21).await, "Pa Nice|Pa|Nice");
}

#[tokio::test]
async fn statements_prepared_before_the_migration_work_through_every_phase() {
    use sqlx::Executor;
    let project = Project::new(USERS, &[("0007_change.sql", SPLIT)]).await;
    let mut connection = connect(&project.database.url).await;
    run(&mut connection, "PREPARE ins AS INSERT INTO users (id, touched) VALUES ($1, 0); PREPARE sel AS SELECT touched FROM users WHERE id = $1").await;
    let mut id = 100;
    let mut works = async |when: &str, connection: &mut sqlx::PgConnection| {
        id += 1;
        let both = format!("EXECUTE ins({id}); EXECUTE sel({id})");
        connection
            .execute(sqlx::raw_sql(sqlx::AssertSqlSafe(both)))
            .await
            .unwrap_or_else(|error| panic!("{when}: {error}"));
    };
    works("before", &mut connection).await;
    project.migrate(&["expand"]).await.expect(0);
    works("after expand", &mut connection).await;
    project.migrate(&["backfill"]).await.expect(0);
    works("after backfill", &mut connection).await;
    project.register("web", "7").await;
    project.migrate(&["contract"]).await.expect(0);
    works("after the seal", &mut connection).await;
    project.migrate(&["contract", "--soak", "0s"]).await.expect(0);
    works("after the drop", &mut connection).await;
}

#[tokio::test]
async fn an_application_needs_no_rights_but_those_it_had() {
    let setup = format!(
        "{USERS} ALTER TABLE users ENABLE ROW LEVEL SECURITY; ALTER TABLE users FORCE ROW LEVEL SECURITY;
        CREATE POLICY low ON users USING (id < 1000);"
    );
    let project = Project::new(&setup, &[("0007_change.sql", SPLIT)]).await;
    let role = format!("app_{}", project.database.name);
    project.database.run(&format!("CREATE ROLE {role}; GRANT SELECT, INSERT, UPDATE, DELETE ON users TO {role}; ALTER DEFAULT PRIVILEGES REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC")).await;
    project.migrate(&["expand"]).await.expect(0);
    let mut connection = project.database.connect().await;
    run(&mut connection, &format!("SET ROLE {role}")).await;
    run(&mut connection, "INSERT INTO users (id, name) VALUES (30, 'Low Right')").await;
    run(&mut connection, "UPDATE users SET last_name = 'Rights' WHERE id = 30").await;
    assert_eq!(row(&project, 30).await, "Low Rights|Low|Rights");
    assert!(
        try_run(&mut connection, "INSERT INTO users (id, name) VALUES (2000, 'Too High')").await.is_err(),
        "the policy still holds"
    );
    assert!(
        try_run(&mut connection, "SELECT * FROM pontoon.migration").await.is_err(),
        "the ledger is closed"
    );
    assert_eq!(text(&mut connection, "SELECT pontoon.phase('7')").await, "expanded", "the registry is open");
    run(&mut connection, "RESET ROLE").await;
    let evidence = project.database.text("SELECT count(*)::text FROM pontoon.old_write").await;
    assert_ne!(evidence, "0", "the old write left evidence");
    project.migrate(&["backfill"]).await.expect(0);
    drop(project);
    let cleaner = Project::new("", &[]).await;
    cleaner.database.run(&format!("DROP ROLE {role}")).await;
}

#[tokio::test]
async fn odd_names_schemas_and_keys() {
    let long = "ü".repeat(31);
    let names = ["Name", "two words", "say \"hi\"", "semi;colon", "select", long.as_str(), "日本語"];
    for (at, name) in names.iter().enumerate() {
        let quoted = format!("\"{}\"", name.replace('"', "\"\""));
        let key = [
            "id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY",
            "a int, b uuid DEFAULT gen_random_uuid(), PRIMARY KEY (a, b)",
            "id uuid PRIMARY KEY DEFAULT gen_random_uuid()",
            "no_key int",
        ][at % 4];
        let key_value = if at % 4 == 1 { "INSERT INTO t.x_y (a, " } else { "INSERT INTO t.x_y (" };
        let table = format!("\"Schema {at}\".{quoted}");
        let a = if at % 4 == 1 { "1, " } else { "" };
        let insert =
            |value: &str| format!("{}{quoted}) VALUES ({a}'{value}');", key_value.replace("t.x_y", &table));
        let setup = format!(
            "CREATE SCHEMA \"Schema {at}\"; CREATE TABLE {table} ({key}, {quoted} text NOT NULL); {}",
            insert("one")
        );
        let new_name = format!("\"{} 2\"", name.replace('"', "\"\"").chars().take(20).collect::<String>());
        let migration = format!(
            "ALTER TABLE {table} ADD COLUMN {new_name} text; UPDATE {table} SET {new_name} = upper({quoted});
             -- migrate: down {quoted} = lower({new_name})\nALTER TABLE {table} DROP COLUMN {quoted};"
        );
        let project = Project::new(&setup, &[("0007_change.sql", &migration)]).await;
        project.migrate(&["expand"]).await.expect(0);
        project.database.run(&insert("two")).await;
        project.migrate(&["backfill"]).await.expect(0);
        project.register("web", "7").await;
        project.migrate(&["contract"]).await.expect(0);
        project.migrate(&["reopen", "7"]).await.expect(0);
        project.migrate(&["contract", "--soak", "0s"]).await.expect(0).says("done");
        let values = project
            .database
            .text(&format!("SELECT string_agg({new_name}, ' ' ORDER BY {new_name}) FROM {table}"))
            .await;
        assert_eq!(values, "ONE TWO", "{name}");
    }
}

/// In psql a column that gets another name or type fires no trigger of its table; where the role may say so, its backfill does not.
#[tokio::test]
async fn the_backfill_of_a_rename_or_of_a_type_fires_no_trigger_of_the_table() {
    let setup = "CREATE TABLE users (id int PRIMARY KEY, name text, touched int, at date NOT NULL DEFAULT '2020-01-01');
        INSERT INTO users SELECT i, 'n' || i, i FROM generate_series(1, 100) AS i; CREATE TABLE facts (id int PRIMARY KEY, n int);
        INSERT INTO facts VALUES (1, 1);
        CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN NEW.at = now(); RETURN NEW; END';
        CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION $$facts are facts$$; END';
        CREATE TRIGGER touch BEFORE UPDATE ON users FOR EACH ROW EXECUTE FUNCTION touch();
        CREATE TRIGGER refuse BEFORE UPDATE ON facts FOR EACH ROW EXECUTE FUNCTION refuse();";
    let files = [(
        "0001_x.sql",
        "ALTER TABLE facts ALTER COLUMN n TYPE bigint; ALTER TABLE users RENAME COLUMN name TO title;
        ALTER TABLE users ALTER COLUMN touched TYPE bigint;",
    )];
    let project = Project::new(setup, &files).await;
    let database = &project.database;
    let role = format!("owner_{}", database.name);
    database
        .run(&format!(
            "CREATE ROLE {role} LOGIN PASSWORD 'secret'; ALTER DATABASE {} OWNER TO {role};
            ALTER SCHEMA public OWNER TO {role}; ALTER TABLE users OWNER TO {role}; ALTER TABLE facts OWNER TO {role};",
            database.name
        ))
        .await;
    let url = format!("postgres://{role}:secret@{}", database.url.split_once('@').unwrap().1);
    let as_owner = |arguments: &[&str]| finish(project.command_at(&url, arguments));
    as_owner(&["expand"]).await.expect(0).says("its triggers (touch) fire then, and may");
    let refused = as_owner(&["backfill"]).await;
    refused.expect(1).says("facts are facts").says("let the role set session_replication_role");
    // Who may not keep triggers from firing keeps the rows as they are; who may is not even refused.
    database.run("ALTER TABLE facts DISABLE TRIGGER refuse").await;
    as_owner(&["backfill"]).await.expect(0).says("0001 is ready");
    let kept = "SELECT n || ' ' || count(DISTINCT at) || ' ' || count(title) FROM facts, users GROUP BY n";
    assert_eq!(database.text(kept).await, "1 1 100");
    let contract = ["contract", "--override", "no-new-instance", "--because", "a test"];
    as_owner(&contract).await.expect(0).says("0001 is sealed");
    as_owner(&["reopen", "1", "--accept-nulls"]).await.expect(0);
    as_owner(&["abort", "1"]).await.expect(0);
    database.run("ALTER TABLE facts ENABLE TRIGGER refuse").await;
    project.migrate(&["expand", "--to", "1"]).await.expect(0);
    project.migrate(&["backfill"]).await.expect(0).says("0001 is ready");
    assert_eq!(database.text(kept).await, "1 1 100");
    // It is the batches that are silent; the application's own writes are not.
    database.run("UPDATE users SET title = 'x' WHERE id = 7").await;
    assert_eq!(database.text("SELECT string_agg(name, ' ') FROM users WHERE at > '2020-01-01'").await, "x");
}
