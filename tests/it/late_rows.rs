//! A data job that reads what the same file drops: nothing that old code writes there until contract is lost.

use super::support::{Project, finish};

const SETUP: &str = "
CREATE TABLE leads (id int PRIMARY KEY, name text, visits int NOT NULL DEFAULT 0);
CREATE TABLE contacts (id int PRIMARY KEY, name text);
INSERT INTO leads SELECT i, 'n' || i FROM generate_series(1, 3000) AS i;
CREATE TABLE users (id int PRIMARY KEY, nick text, alias text, phone text, gone_at timestamptz, level int NOT NULL DEFAULT 0);
CREATE TABLE phones (user_id int PRIMARY KEY, phone text);
INSERT INTO users SELECT i, 'n' || i, CASE WHEN i % 2 = 0 THEN 'a' || i END, 'p' || i, CASE WHEN i % 10 = 0 THEN now() END
    FROM generate_series(1, 3000) AS i;";

const COPY: &str = "INSERT INTO contacts (id, name) SELECT l.id, l.name FROM leads AS l; DROP TABLE leads;";

/// Contract as it is where nobody else lives; what psql writes here is evidence of old code.
pub(crate) fn contract<'a>(more: &[&'a str]) -> Vec<&'a str> {
    let mut arguments =
        vec!["contract", "--override", "no-new-instance", "--override", "old-writes", "--because", "a test"];
    arguments.extend(more);
    arguments
}

/// A project whose one file is backfilled: what is written from then on comes late.
pub(crate) async fn backfilled(setup: &str, file: &str) -> Project {
    let project = Project::new(setup, &[("0001_x.sql", file)]).await;
    project.migrate(&["expand"]).await.expect(0);
    project.migrate(&["backfill"]).await.expect(0);
    project
}

#[tokio::test]
async fn rows_that_come_late_to_a_table_that_goes_are_copied_behind_the_gate() {
    let project = backfilled(SETUP, COPY).await;
    let database = &project.database;
    database.run("INSERT INTO leads VALUES (3001, 'late'); UPDATE leads SET visits = 7").await;
    // Killed when most is done and before the table is hidden: what comes in between is done behind it.
    let mut command = project.command(&contract(&["--soak", "1h"]));
    command.env("PONTOON_FAULT", "contract.restricted@1");
    assert_eq!(finish(command).await.code, None);
    database.run("UPDATE leads SET visits = 8 WHERE id = 1; INSERT INTO leads VALUES (3002, 'last')").await;
    project.migrate(&contract(&["--soak", "1h"])).await.expect(0).says("0001 is sealed");
    let copied =
        "SELECT count(*) || ' ' || string_agg(name, ' ' ORDER BY id) FILTER (WHERE id > 3000) FROM contacts";
    assert_eq!(database.text(copied).await, "3002 late last");
    // And back, and once more.
    project.migrate(&["reopen", "1"]).await.expect(0);
    database.run("INSERT INTO leads VALUES (3003, 'later')").await;
    project.migrate(&contract(&["--soak", "1h"])).await.expect(0).says("0001 is sealed");
    project.migrate(&["doctor"]).await.expect(0);
    project.migrate(&["contract", "--soak", "0s"]).await.expect(0).says("0001 is done");
    assert_eq!(database.text("SELECT count(*) || ' ' || max(id) FROM contacts").await, "3003 3003");
    let left = "SELECT count(*)::text FROM pg_class AS c FULL JOIN pg_proc AS p ON false
        WHERE c.relname LIKE 'list%' AND c.relnamespace = 'pontoon'::regnamespace OR p.proname LIKE 'm1_%'";
    assert_eq!(database.text(left).await, "0");
}

#[tokio::test]
async fn a_row_that_changed_or_went_after_its_copy_stops_contract_until_somebody_has_seen_to_it() {
    let project = backfilled(SETUP, COPY).await;
    let database = &project.database;
    database.run("UPDATE leads SET name = 'changed' WHERE id = 17").await;
    let says = "rows of public.leads changed after the data job had read them";
    project.migrate(&contract(&["--check"])).await.expect(1).says(says);
    project
        .migrate(&contract(&[]))
        .await
        .expect(1)
        .says(says)
        .says("row with id = 17")
        .says("--override changed-source");
    // Nothing is closed, and a value that came back is no change.
    database.run("UPDATE leads SET name = 'n17' WHERE id = 17; DELETE FROM leads WHERE id = 18").await;
    project
        .migrate(&contract(&[]))
        .await
        .expect(1)
        .says("rows of public.leads were deleted after they had been copied to public.contacts")
        .says("row with id = 18");
    database.run("DELETE FROM contacts WHERE id = 18; UPDATE leads SET name = 'new' WHERE id = 19").await;
    database.run("UPDATE contacts SET name = 'new' WHERE id = 19").await;
    project
        .migrate(&contract(&["--override", "changed-source", "--soak", "0s"]))
        .await
        .expect(0)
        .says("0001 is done");
    let event =
        "SELECT string_agg(detail ->> 'reason', ' ' ORDER BY id) FROM pontoon.event WHERE detail ? 'because'";
    assert_eq!(database.text(event).await, "changed-source no-new-instance old-writes");
    assert_eq!(
        database.text("SELECT count(*) || ' ' || count(*) FILTER (WHERE name = 'new') FROM contacts").await,
        "2999 1"
    );
}

/// Old code's rows say something in the column; those of new code are left alone, whatever the statement would make of them.
#[tokio::test]
async fn of_a_column_that_goes_only_what_old_code_wrote_is_brought_over() {
    let late = "INSERT INTO users (id, nick, phone, gone_at) VALUES (4001, 'late', 'late', now());
        INSERT INTO users (id) VALUES (4002); INSERT INTO users (id, alias) VALUES (4003, 'new')";
    for (file, wrong) in [
        (
            "UPDATE users SET alias = nick WHERE alias IS NULL; ALTER TABLE users DROP COLUMN nick;",
            "SELECT count(*) FROM users WHERE alias IS DISTINCT FROM CASE
                WHEN id = 4001 THEN 'late' WHEN id = 4003 THEN 'new' WHEN id = 4002 THEN NULL WHEN id % 2 = 0 THEN 'a' || id ELSE 'n' || id END",
        ),
        (
            "INSERT INTO phones SELECT u.id, u.phone FROM users AS u; ALTER TABLE users DROP COLUMN phone;",
            "SELECT count(*) FROM phones FULL JOIN users ON user_id = id
                WHERE phone IS DISTINCT FROM CASE WHEN id = 4001 THEN 'late' WHEN id < 4000 THEN 'p' || id END",
        ),
        (
            "DELETE FROM users WHERE gone_at IS NOT NULL; ALTER TABLE users DROP COLUMN gone_at;",
            "SELECT count(*) - 2702 FROM users WHERE id % 10 > 0",
        ),
    ] {
        let project = backfilled(SETUP, file).await;
        project.database.run(late).await;
        project.migrate(&contract(&["--soak", "0s"])).await.expect(0).says("0001 is done");
        assert_eq!(project.database.text(&wrong.replacen("SELECT ", "SELECT (", 1).replacen(" FROM", ")::text FROM", 1)).await, "0", "{file}");
    }
}

#[tokio::test]
async fn a_rule_of_the_same_file_waits_for_the_late_rows() {
    let file = "UPDATE users SET alias = nick WHERE alias IS NULL;
        ALTER TABLE users ALTER COLUMN alias SET NOT NULL; ALTER TABLE users DROP COLUMN nick;";
    let project = backfilled(SETUP, file).await;
    project.database.run("INSERT INTO users (id, nick) VALUES (4001, 'late')").await;
    project.migrate(&contract(&["--soak", "0s"])).await.expect(0).says("0001 is done");
    assert_eq!(project.database.text("SELECT alias FROM users WHERE id = 4001").await, "late");
}

#[tokio::test]
async fn what_could_not_be_brought_over_is_refused() {
    for (file, says) in [
        (
            "UPDATE contacts SET name = l.name FROM leads AS l WHERE l.id = contacts.id; DROP TABLE leads;",
            "this reads `public.leads` once, and the file drops it",
        ),
        (
            "INSERT INTO phones SELECT u.id, l.name FROM users AS u JOIN leads AS l USING (id); DROP TABLE leads;",
            "put that table itself first in the FROM",
        ),
        (
            "DELETE FROM contacts WHERE id IN (SELECT id FROM leads); DROP TABLE leads;",
            "this reads `public.leads` once, and the file drops it",
        ),
        (
            "UPDATE users SET alias = 'x' WHERE level > 3; ALTER TABLE users DROP COLUMN level;",
            "`public.users.level` has a default",
        ),
        (
            "UPDATE users SET alias = nick WHERE alias IS NULL;\n-- migrate: down nick = alias\nALTER TABLE users DROP COLUMN nick;",
            "`public.users.nick` is computed for new code's rows",
        ),
        (
            "INSERT INTO phones SELECT u.id, v.name FROM users AS u JOIN people AS v ON v.id = u.id; DROP VIEW people; DROP TABLE leads;",
            "this reads `public.leads` once, and the file drops it",
        ),
        (
            "INSERT INTO contacts SELECT l.id, loud(l.name) FROM leads AS l; DROP FUNCTION loud; DROP TABLE leads;",
            "`loud` is gone when the rows that old code writes to `public.leads` after the backfill are done",
        ),
        (
            "INSERT INTO contacts (id, name) SELECT l.id, l.name FROM leads AS l; ALTER TABLE contacts RENAME COLUMN name TO title; DROP TABLE leads;",
            "rename it in a later migration",
        ),
        (
            "INSERT INTO contacts SELECT l.id, loud(l.name) FROM leads AS l; DROP TABLE leads; ALTER FUNCTION loud RENAME TO louder;",
            "rename it in a later migration",
        ),
        (
            "INSERT INTO contacts SELECT l.id, l.name FROM ONLY leads AS l; DROP TABLE leads;",
            "put it first behind FROM, without ONLY",
        ),
        (
            "INSERT INTO contacts SELECT l.id, l.name FROM /* all */ leads AS l; DROP TABLE leads;",
            "put it first behind FROM, without ONLY",
        ),
        (
            "INSERT INTO contacts SELECT l.id, (ROW(l.id, l.name, 3)::leads).name FROM leads AS l; DROP TABLE leads;",
            "and read it once",
        ),
        (
            "INSERT INTO contacts SELECT public.leads.id, name FROM leads; DROP TABLE leads;",
            "with an alias by which the rest calls it",
        ),
    ] {
        let setup = format!(
            "{SETUP} CREATE VIEW people AS SELECT id, name FROM leads; CREATE FUNCTION loud(text) RETURNS text LANGUAGE sql RETURN upper($1);"
        );
        let project = Project::new(&setup, &[("0001_x.sql", file)]).await;
        project.migrate(&["expand"]).await.expect(1).says(says);
    }
    let project =
        Project::new(SETUP, &[("0001_x.sql", "INSERT INTO contacts SELECT id, name FROM leads;")]).await;
    project
        .migrate(&["plan", "--brief"])
        .await
        .expect(0)
        .says("what is written to public.leads when the backfill has begun is not copied");
}

#[tokio::test]
async fn a_row_that_changes_when_the_gate_is_closed_is_found_behind_the_seal() {
    let project = backfilled(SETUP, COPY).await;
    let database = &project.database;
    let mut command = project.command(&contract(&[]));
    command.env("PONTOON_FAULT", "contract.restricted@1");
    assert_eq!(finish(command).await.code, None);
    database.run("UPDATE leads SET name = 'changed' WHERE id = 7; DELETE FROM leads WHERE id = 8").await;
    let refused = project.migrate(&contract(&[])).await;
    refused.expect(1).says("row with id = 7").says("migrate reopen 0001");
    project.migrate(&["reopen", "1"]).await.expect(0);
    project.migrate(&contract(&["--check"])).await.expect(1).says("row with id = 7").says("row with id = 8");
    project
        .migrate(&contract(&["--override", "changed-source", "--soak", "0s"]))
        .await
        .expect(0)
        .says("accepted:   row with id = 8")
        .says("0001 is done");
}

#[tokio::test]
async fn a_column_that_goes_is_closed_to_old_code_while_its_rows_are_done() {
    let file =
        "UPDATE users AS u SET alias = u.nick WHERE alias IS NULL; ALTER TABLE users DROP COLUMN nick;";
    let project = backfilled(SETUP, file).await;
    let database = &project.database;
    let mut command = project.command(&contract(&[]));
    command.env("PONTOON_FAULT", "contract.restricted@1");
    assert_eq!(finish(command).await.code, None);
    for write in
        ["INSERT INTO users (id, nick) VALUES (4001, 'x')", "UPDATE users SET nick = 'x' WHERE id = 1"]
    {
        let refused = super::support::try_run(&mut database.connect().await, write).await.unwrap_err();
        assert!(refused.to_string().contains("migration 1 is taking public.users.nick away"), "{refused}");
    }
    database
        .run("INSERT INTO users (id, alias) VALUES (4002, 'new'); UPDATE users SET phone = 'x' WHERE id = 1")
        .await;
    project.migrate(&contract(&["--soak", "0s"])).await.expect(0).says("0001 is done");
    let triggers = "SELECT count(*)::text FROM pg_trigger WHERE tgname LIKE '%pontoon%'";
    assert_eq!(database.text(triggers).await, "0");
}

/// Nothing is closed for a contract that would stop half way.
#[tokio::test]
async fn late_rows_that_cannot_be_done_are_found_before_anything_is_closed() {
    let project = backfilled(SETUP, COPY).await;
    let database = &project.database;
    database
        .run("INSERT INTO leads VALUES (3001, 'late'); INSERT INTO contacts VALUES (3001, 'taken')")
        .await;
    for arguments in [contract(&["--check"]), contract(&[])] {
        project
            .migrate(&arguments)
            .await
            .expect(1)
            .says("the rows that came late cannot be done")
            .says("contacts_pkey")
            .says("nothing is closed yet");
    }
    assert_eq!(database.text("SELECT pontoon.phase('1')").await, "ready");
}

#[tokio::test]
async fn a_row_is_read_as_a_whole_and_a_star_that_multiplies_reads_nothing() {
    let setup = format!("{SETUP} CREATE TABLE archive (id int PRIMARY KEY, what jsonb);");
    let copy = "INSERT INTO archive SELECT l.id, to_jsonb(l) FROM leads AS l; DROP TABLE leads;";
    let project = backfilled(&setup, copy).await;
    project.database.run("UPDATE leads SET visits = 1 WHERE id = 5").await;
    project.migrate(&contract(&[])).await.expect(1).says("row with id = 5");
    let times = "UPDATE leads SET visits = visits * 10; ALTER TABLE leads DROP COLUMN name;";
    let project = backfilled(&setup, times).await;
    project
        .database
        .run("UPDATE leads SET name = 'x' WHERE id = 5; INSERT INTO leads VALUES (3001, 'x', 1)")
        .await;
    project.migrate(&contract(&["--soak", "0s"])).await.expect(0);
    assert_eq!(project.database.text("SELECT visits::text FROM leads WHERE id = 3001").await, "1");
}

/// A composite value with a null in it is neither null nor `IS NOT NULL`.
#[tokio::test]
async fn a_composite_value_that_comes_late_is_no_null() {
    let setup = "CREATE TYPE address AS (street text, zip text); CREATE TABLE u (id int PRIMARY KEY, a address, street text);
        INSERT INTO u SELECT i, ROW('s', NULL)::address FROM generate_series(1, 3) AS i;";
    let file = "UPDATE u SET street = (a).street; ALTER TABLE u DROP COLUMN a;";
    let project = Project::new(setup, &[("0001_x.sql", file)]).await;
    project.migrate(&["expand"]).await.expect(0).says("has nothing in public.u.a");
    project.migrate(&["backfill"]).await.expect(0);
    project
        .database
        .run("INSERT INTO u VALUES (11, ROW('late', NULL)); INSERT INTO u (id, street) VALUES (12, 'new')")
        .await;
    project.migrate(&contract(&["--soak", "0s"])).await.expect(0).says("0001 is done");
    let streets = "SELECT string_agg(street, ' ' ORDER BY id) FROM u";
    assert_eq!(project.database.text(streets).await, "s s s late new");
}
