//! What a data job reads of what the same file drops is found however it is written, or refused.

use super::late_rows::{backfilled, contract};
use super::support::{Project, finish, run, try_run};

const SETUP: &str = "
CREATE TABLE codes (id int PRIMARY KEY, code text UNIQUE, label text, z text);
INSERT INTO codes VALUES (1, 'a', 'LA', 'z1'), (2, 'b', 'LB', 'z2');
CREATE TABLE users (id int PRIMARY KEY, code text, alias text, verified boolean NOT NULL DEFAULT false);
INSERT INTO users VALUES (1, 'a', 'x', true), (2, NULL, 'y', false);
CREATE TABLE labels (user_id int PRIMARY KEY, label text, z text);
CREATE VIEW called AS SELECT id, label AS name FROM codes;
CREATE TABLE par (id int, at int, code text, PRIMARY KEY (id, at)) PARTITION BY RANGE (at);
CREATE TABLE par_1 PARTITION OF par FOR VALUES FROM (0) TO (9);";

#[tokio::test]
async fn what_reads_columns_without_their_names_is_refused_where_they_go() {
    let project = Project::new(SETUP, &[]).await;
    let once = "once, and the file drops it";
    let list = "a list of columns behind the alias of a table";
    for (file, says) in [
        // Whose columns have other names there.
        ("ALTER TABLE labels ADD COLUMN code text; UPDATE labels SET code = u.alias FROM users AS u (id, alias, code) WHERE u.id = labels.user_id;
          ALTER TABLE users DROP COLUMN code;", list),
        ("CREATE TABLE nl (id int PRIMARY KEY, v text); INSERT INTO nl (id, v) SELECT u.id, u.alias FROM users AS u (id, alias, code);
          ALTER TABLE users DROP COLUMN code;", list),
        ("INSERT INTO labels SELECT u.id, u.c FROM users AS u (id, c); ALTER TABLE users DROP COLUMN code;", list),
        ("INSERT INTO labels SELECT u.id, c.l FROM users AS u JOIN codes AS c (i, k, l) ON c.i = u.id; DROP TABLE users;", list),
        // Of another table than the one that is counted out.
        ("INSERT INTO labels SELECT u.id, c.* FROM users AS u JOIN codes AS c ON c.id = u.id; ALTER TABLE codes DROP COLUMN label;", once),
        ("INSERT INTO labels SELECT u.id, to_jsonb(c) ->> 'label' FROM users AS u JOIN codes AS c ON c.id = u.id; ALTER TABLE codes DROP COLUMN z;", once),
        ("INSERT INTO labels SELECT u.id, c.label FROM users AS u NATURAL JOIN codes AS c; ALTER TABLE codes DROP COLUMN z;", once),
        ("UPDATE labels SET label = (SELECT to_jsonb(u) ->> 'code' FROM users AS u WHERE u.id = user_id); ALTER TABLE users DROP COLUMN alias;", once),
        ("INSERT INTO labels SELECT u.id, v.name FROM users AS u JOIN called AS v ON v.id = u.id; DROP VIEW called; ALTER TABLE codes DROP COLUMN label;", once),
        ("INSERT INTO labels SELECT u.id, p.code FROM users AS u JOIN par_1 AS p ON p.id = u.id; DROP TABLE par;", once),
        ("INSERT INTO labels SELECT u.id, p.code FROM users AS u JOIN par_1 AS p ON p.id = u.id; ALTER TABLE par DROP COLUMN code;", once),
        // Once, in expand.
        ("INSERT INTO labels VALUES (1, (SELECT label FROM codes WHERE id = 1)); DROP VIEW called; DROP TABLE codes;", once),
        ("INSERT INTO labels SELECT 1, (SELECT string_agg(code, ',') FROM users); ALTER TABLE users DROP COLUMN code;", once),
        // Read and cleared.
        ("UPDATE users SET alias = code, code = NULL WHERE code IS NOT NULL; ALTER TABLE users DROP COLUMN code;", "is read and set here"),
        // Gone without having been hidden.
        ("INSERT INTO labels SELECT u.id, u.code FROM users AS u;\n-- migrate: phase contract\nDROP TABLE users;", "goes as written"),
    ] {
        project.write("0001_x.sql", file);
        project.migrate(&["plan"]).await.expect(1).says(says).says("0001_x.sql:");
    }
    // What has nothing to do with what goes may stand.
    project.write(
        "0001_x.sql",
        "INSERT INTO labels SELECT u.id, c.label FROM users AS u JOIN codes AS c ON c.id = u.id; ALTER TABLE codes DROP COLUMN z;
         INSERT INTO labels SELECT v.id + 7, v.label FROM (VALUES (1, 'x')) AS v (id, label);
         UPDATE users SET alias = v.alias FROM (VALUES (1, 'x')) AS v (id, alias) WHERE users.id = v.id;",
    );
    let ran = project.migrate(&["plan"]).await;
    assert!(!ran.stderr.contains("late-rows") && !ran.stderr.contains(list), "{}", ran.stderr);
}

#[tokio::test]
async fn late_rows_are_found_behind_using_natural_and_long_names() {
    for select in [
        "SELECT u.id, c.label FROM users AS u JOIN codes AS c USING (code)",
        "SELECT n.id, c.label FROM users AS n JOIN (SELECT code, label FROM codes) AS c ON c.code = n.code",
        "SELECT u.id, c.label FROM users AS u NATURAL JOIN (SELECT code, label FROM codes) AS c",
        "SELECT public.users.id, 'L' || upper(public.users.code) FROM public.users",
    ] {
        let file =
            format!("INSERT INTO labels (user_id, label) {select};\nALTER TABLE users DROP COLUMN code;");
        let project = backfilled(SETUP, &file).await;
        let database = &project.database;
        database.run("DELETE FROM labels WHERE label IS NULL; INSERT INTO users VALUES (3, 'b'); UPDATE users SET code = 'b' WHERE id = 1").await;
        project.migrate(&contract(&[])).await.expect(1).says("rows of public.users changed").says("id = 1");
        database.run("UPDATE users SET code = 'a' WHERE id = 1").await;
        project.migrate(&contract(&["--soak", "0s"])).await.expect(0).says("0001 is done");
        let labels = "SELECT string_agg(user_id || label, ' ' ORDER BY user_id) FROM labels";
        assert_eq!(database.text(labels).await, "1LA 3LB", "{select}");
    }
}

#[tokio::test]
async fn a_key_that_was_deleted_and_came_back_is_deleted_again() {
    let setup = "CREATE TABLE carts (u int, p int, gone_at timestamptz, PRIMARY KEY (u, p));
        INSERT INTO carts SELECT i, 1, CASE WHEN i % 2 = 0 THEN now() END FROM generate_series(1, 6) AS i;";
    let file = "DELETE FROM carts WHERE gone_at IS NOT NULL; ALTER TABLE carts DROP COLUMN gone_at;";
    let project = backfilled(setup, file).await;
    project
        .database
        .run("INSERT INTO carts VALUES (2, 1), (4, 1); UPDATE carts SET gone_at = now() WHERE u IN (2, 3)")
        .await;
    project.migrate(&contract(&["--soak", "0s"])).await.expect(0).says("0001 is done");
    let left = "SELECT string_agg(u::text, ' ' ORDER BY u) FROM carts";
    assert_eq!(project.database.text(left).await, "1 4 5");
}

/// A foreign key that acts is let through; a trigger of the application's is not.
#[tokio::test]
async fn between_the_late_rows_and_the_seal_nobody_writes_through_a_trigger() {
    let setup = "CREATE TABLE teams (id int PRIMARY KEY); INSERT INTO teams VALUES (1), (2), (3);
        CREATE TABLE users (id int PRIMARY KEY, team int REFERENCES teams ON DELETE SET NULL); INSERT INTO users VALUES (1, 1), (2, NULL), (3, 3);
        CREATE TABLE members (user_id int, team int); CREATE TABLE orders (id int PRIMARY KEY, u int, t int);
        CREATE FUNCTION assign() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN UPDATE users SET team = NEW.t WHERE id = NEW.u; RETURN NULL; END';
        CREATE TRIGGER assign AFTER INSERT ON orders FOR EACH ROW EXECUTE FUNCTION assign();";
    let file = "INSERT INTO members SELECT u.id, u.team FROM users AS u WHERE u.team IS NOT NULL; ALTER TABLE users DROP COLUMN team;";
    let project = backfilled(setup, file).await;
    let mut command = project.command(&contract(&[]));
    command.env("PONTOON_FAULT", "contract.restricted@1");
    assert_eq!(finish(command).await.code, None);
    let mut connection = project.database.connect().await;
    let refused = try_run(&mut connection, "INSERT INTO orders VALUES (1, 2, 2)").await.unwrap_err();
    assert!(refused.to_string().contains("is taking public.users.team away"), "{refused}");
    run(&mut connection, "DELETE FROM teams WHERE id = 3").await;
    project
        .migrate(&contract(&["--override", "changed-source", "--soak", "0s"]))
        .await
        .expect(0)
        .says("0001 is done");
    let members = "SELECT string_agg(user_id || ':' || team, ' ' ORDER BY user_id) FROM members";
    assert_eq!(project.database.text(members).await, "1:1 3:3");
}
