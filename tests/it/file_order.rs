//! Files that are in flight together: what a later one does gives what psql gives, file by file, or has to wait.

use super::support::Project;

const SETUP: &str = "
CREATE TABLE users (id bigint PRIMARY KEY, email text, deleted bool NOT NULL DEFAULT false);
INSERT INTO users VALUES (1, 'a', true), (2, 'b', false);
CREATE TABLE p (id bigint PRIMARY KEY, price int, name text);
INSERT INTO p VALUES (1, 100, 'a'), (2, 200, 'b');
CREATE TABLE cfg (id bigint PRIMARY KEY, n bigint);";

const ARCHIVE: &str = "CREATE TABLE archive (id bigint PRIMARY KEY, email text);
INSERT INTO archive (id, email) SELECT id, email FROM users WHERE deleted;";

const SAVE: &str = "ALTER TABLE p ADD COLUMN old_price int; UPDATE p SET old_price = price;";

const FILL: &str = "ALTER TABLE p ADD COLUMN loud text; UPDATE p SET loud = upper(name);";

/// Rows that were copied stay when those that they were copied from are deleted or changed by a later file.
#[tokio::test]
async fn what_an_earlier_file_copied_stays_as_it_was() {
    let archived = "SELECT string_agg(id || email, ' ') FROM archive";
    let saved = "SELECT string_agg(price || '/' || old_price, ' ' ORDER BY id) FROM p";
    for (first, second, says, query, gives) in [
        (ARCHIVE, "DELETE FROM users WHERE deleted;", "rows of another table follow", archived, "1a"),
        (ARCHIVE, "UPDATE users SET email = NULL WHERE deleted;", "something else follows", archived, "1a"),
        (SAVE, "UPDATE p SET price = price * 2;", "something else follows", saved, "200/100 400/200"),
        (
            SAVE,
            "-- migrate: phase expand\nUPDATE p SET price = price * 2;",
            "something else follows",
            saved,
            "200/100 400/200",
        ),
    ] {
        let project = Project::new(SETUP, &[("0001_x.sql", first), ("0002_y.sql", second)]).await;
        project.migrate(&["plan"]).await.expect(1).says(says).says("0001");
        for command in [&["expand", "--to", "1"][..], &["backfill"]] {
            project.migrate(command).await.expect(0);
            project.migrate(&["expand", "--to", "2"]).await.expect(1).says(says);
        }
        project.register("web-1", "1").await;
        project.migrate(&["contract"]).await.expect(0).says("0001 is done");
        project.migrate(&["expand"]).await.expect(0);
        project.migrate(&["backfill"]).await.expect(0);
        assert_eq!(project.database.text(query).await, gives, "{first}\n{second}");
    }
}

/// What reads rows when it is expanded waits for those that an earlier file, or a statement above, has yet to fill or to copy.
#[tokio::test]
async fn nothing_reads_rows_that_are_not_filled_yet() {
    let view = "CREATE MATERIALIZED VIEW m AS SELECT id, loud FROM p;";
    let counted = "INSERT INTO cfg VALUES (1, (SELECT count(loud) FROM p));";
    let mended = "UPDATE p SET name = 'none' WHERE name IS NULL; ALTER TABLE p ALTER name SET NOT NULL;";
    let project = Project::new(SETUP, &[]).await;
    for file in [
        format!("{FILL} {view}"),
        format!("{FILL} {counted}"),
        format!("{mended} CREATE MATERIALIZED VIEW m AS SELECT name FROM p;"),
    ] {
        project.write("0001_x.sql", &file);
        project.migrate(&["expand"]).await.expect(1).says("error[order]").says("split the file");
    }
    project.write("0001_x.sql", FILL);
    project.write("0002_y.sql", view);
    let says = "migration 0001 is to change or read the rows of `public.p` first";
    project.migrate(&["plan"]).await.expect(1).says(says);
    project.migrate(&["expand", "--to", "1"]).await.expect(0);
    project.migrate(&["expand"]).await.expect(1).says(says).says("migrate backfill 0001");
    project.migrate(&["backfill"]).await.expect(0);
    project.migrate(&["expand"]).await.expect(0);
    let seen = "SELECT string_agg(loud, ' ' ORDER BY id) FROM m";
    assert_eq!(project.database.text(seen).await, "A B");

    let project = Project::new(SETUP, &[("0001_x.sql", ARCHIVE)]).await;
    project.write("0002_y.sql", "CREATE MATERIALIZED VIEW m AS SELECT count(*) AS n FROM users;");
    project.migrate(&["plan"]).await.expect(1).says("migration 0001 is to change or read the rows");
}

/// A data job waits for what an earlier file fills, also where it is asked for by its number.
#[tokio::test]
async fn a_data_job_runs_behind_what_an_earlier_file_fills() {
    let second = "UPDATE p SET loud = 'none' WHERE loud IS NULL;";
    let project = Project::new(SETUP, &[("0001_x.sql", FILL), ("0002_y.sql", second)]).await;
    project.migrate(&["expand"]).await.expect(0);
    project
        .migrate(&["backfill", "2"])
        .await
        .expect(4)
        .says("migration 0001 is to change or read the rows of public.p first");
    project.migrate(&["backfill"]).await.expect(0);
    let filled = "SELECT string_agg(loud, ' ' ORDER BY id) FROM p";
    assert_eq!(project.database.text(filled).await, "A B");

    // Of a rename too: its new column is empty until then.
    let rename = "ALTER TABLE p RENAME COLUMN name TO title;";
    let clean = "DELETE FROM p WHERE title IS NULL;";
    let project = Project::new(SETUP, &[("0001_x.sql", rename), ("0002_y.sql", clean)]).await;
    project.migrate(&["expand"]).await.expect(0);
    project.migrate(&["backfill", "2"]).await.expect(4).says("migrate backfill 0001");
    project.migrate(&["backfill"]).await.expect(0);
    assert_eq!(project.database.text("SELECT count(*)::text FROM p").await, "2");
}

/// An INSERT that names no columns counts on their order, in which one that is to go still has its place.
#[tokio::test]
async fn values_by_position_wait_for_a_column_to_go() {
    let setup = "CREATE TABLE copy (id int PRIMARY KEY, legacy text, note text); CREATE TABLE src (id int PRIMARY KEY, note text);
        INSERT INTO src VALUES (1, 'a');";
    let gone = "ALTER TABLE copy DROP COLUMN legacy;";
    for insert in ["INSERT INTO copy VALUES (1, 'a');", "INSERT INTO copy SELECT id, note FROM src;"] {
        let project = Project::new(setup, &[("0001_x.sql", &format!("{gone} {insert}"))]).await;
        project.migrate(&["plan"]).await.expect(1).says("error[order]");
        project.write("0001_x.sql", gone);
        project.write("0002_y.sql", insert);
        project.migrate(&["expand", "--to", "1"]).await.expect(0);
        project
            .migrate(&["expand"])
            .await
            .expect(1)
            .says("columns of `public.copy` have another order until migration 0001");
        project.register("web-1", "1").await;
        project.migrate(&["contract", "--soak", "1h"]).await.expect(0).says("0001 is sealed");
        project.migrate(&["expand"]).await.expect(1).says("name the columns: `INSERT INTO public.copy (…)`");
        project.write("0002_y.sql", &insert.replace("copy ", "copy (id, note) "));
        project.migrate(&["expand"]).await.expect(0);
        project.migrate(&["backfill"]).await.expect(0);
        let note = "SELECT string_agg(note, ' ') FROM copy";
        assert_eq!(project.database.text(note).await, "a");
    }
    // Whatever is not one too many, or has nothing behind it, is in nobody's way; nor is what looks like a star.
    let setup = "CREATE TABLE copy (id int DEFAULT 7, note text, legacy text); CREATE TABLE all_of (id int PRIMARY KEY, note text, legacy text);";
    for (first, second) in [
        (
            "ALTER TABLE copy DROP COLUMN legacy;",
            "INSERT INTO copy VALUES (1, 'a'); INSERT INTO copy DEFAULT VALUES;",
        ),
        ("ALTER TABLE copy DROP COLUMN id;", "INSERT INTO copy DEFAULT VALUES;"),
        (
            "ALTER TABLE all_of DROP COLUMN legacy;",
            "UPDATE all_of SET note = regexp_replace(note, 'a.*$', 'b');",
        ),
    ] {
        let project = Project::new(setup, &[("0001_x.sql", first), ("0002_y.sql", second)]).await;
        project.migrate(&["expand"]).await.expect(0);
    }
    let setup = "CREATE TABLE copy (id int PRIMARY KEY, legacy text, note text);";
    let behind = "ALTER TABLE copy ADD COLUMN extra text; INSERT INTO copy VALUES (1, 'l', 'a', 'x');";
    let rename = "ALTER TABLE copy RENAME COLUMN legacy TO old;";
    let project = Project::new(setup, &[("0001_x.sql", rename), ("0002_y.sql", behind)]).await;
    project.migrate(&["expand"]).await.expect(1).says("another order until migration 0001");
    // A column that is renamed stays where it is.
    let files = [
        ("0001_x.sql", "ALTER TABLE copy RENAME COLUMN legacy TO old;"),
        ("0002_y.sql", "INSERT INTO copy VALUES (1, 'l', 'a');"),
    ];
    let project = Project::new(setup, &files).await;
    project.migrate(&["expand"]).await.expect(0);
    project.migrate(&["backfill"]).await.expect(0);
    assert_eq!(project.database.text("SELECT legacy || old || note FROM copy").await, "lla");
}
