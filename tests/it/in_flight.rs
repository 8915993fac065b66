//! Three migrations of one table in flight at once, under writers of four versions; contracted in another order than expanded.

use super::support::kinds::Code;
use super::support::shape::{leftovers, shape};
use super::support::traffic::Writer;
use super::support::{Database, Project};

const SETUP: &str = "
CREATE TABLE users (id bigint PRIMARY KEY, name text NOT NULL, email text NOT NULL, visits int);
CREATE INDEX by_email ON users (email);
INSERT INTO users SELECT i, 'F' || i || ' L' || i, 'E' || i, CASE WHEN i % 2 = 0 THEN i END FROM generate_series(1, 3000) AS i;";

const FILES: [(&str, &str); 3] = [
    (
        "0007_split.sql",
        "ALTER TABLE users ADD COLUMN first_name text, ADD COLUMN last_name text;
         UPDATE users SET first_name = split_part(name, ' ', 1), last_name = split_part(name, ' ', 2);
         -- migrate: down name = concat_ws(' ', first_name, last_name)
         ALTER TABLE users DROP COLUMN name;",
    ),
    ("0008_mail.sql", "ALTER TABLE users RENAME COLUMN email TO mail;"),
    (
        "0009_visits.sql",
        "UPDATE users SET visits = 0 WHERE visits IS NULL;
         ALTER TABLE users ALTER COLUMN visits SET NOT NULL, ADD CHECK (visits >= 0);",
    ),
];

static V6: Code = Code {
    insert: "INSERT INTO users (id, name, email) VALUES ({id}, 'F{v} L{v}', 'E{v}')",
    update: "UPDATE users SET name = 'F{v} L{v}', email = 'E{v}', visits = NULL WHERE id = {id}",
    sees: "SELECT name = 'F{v} L{v}' AND email = 'E{v}' FROM users WHERE id = {id}",
};

static V7: Code = Code {
    insert: "INSERT INTO users (id, first_name, last_name, email) VALUES ({id}, 'F{v}', 'L{v}', 'E{v}')",
    update: "UPDATE users SET first_name = 'F{v}', last_name = 'L{v}', email = 'E{v}' WHERE id = {id}",
    sees: "SELECT first_name = 'F{v}' AND last_name = 'L{v}' AND email = 'E{v}' FROM users WHERE id = {id}",
};

static V8: Code = Code {
    insert: "INSERT INTO users (id, first_name, last_name, mail) VALUES ({id}, 'F{v}', 'L{v}', 'E{v}')",
    update: "UPDATE users SET first_name = 'F{v}', last_name = 'L{v}', mail = 'E{v}' WHERE id = {id}",
    sees: "SELECT first_name = 'F{v}' AND last_name = 'L{v}' AND mail = 'E{v}' FROM users WHERE id = {id}",
};

static V9: Code = Code {
    insert: "INSERT INTO users (id, first_name, last_name, mail, visits) VALUES ({id}, 'F{v}', 'L{v}', 'E{v}', 1)",
    update: "UPDATE users SET first_name = 'F{v}', last_name = 'L{v}', mail = 'E{v}', visits = 2 WHERE id = {id}",
    sees: "SELECT first_name = 'F{v}' AND last_name = 'L{v}' AND mail = 'E{v}' AND visits >= 0 FROM users WHERE id = {id}",
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_on_one_table_under_writers_of_four_versions() {
    let project = Project::new(SETUP, &[]).await;
    let url = &project.database.url;
    let mut writers = vec![Writer::start(url, &V6, 0)];
    for ((name, text), code) in FILES.iter().zip([&V7, &V8, &V9]) {
        project.write(name, text);
        project.migrate(&["expand"]).await.expect(0);
        writers.push(Writer::start(url, code, u64::try_from(writers.len()).unwrap()));
        for writer in &writers {
            writer.progress(10).await;
        }
    }
    project.write("0010_late.sql", "ALTER TABLE users ALTER COLUMN mail SET DEFAULT 'none';");
    project
        .migrate(&["expand"])
        .await
        .expect(1)
        .says("migration 0008 is still moving")
        .says("migrate contract 0008");
    // It may be null now, and will not be when 0009 is done.
    project.write("0010_late.sql", "ALTER TABLE users ALTER COLUMN visits DROP NOT NULL;");
    project.migrate(&["expand"]).await.expect(1).says("migration 0009 is still moving");
    std::fs::remove_file(project.path("migrations/0010_late.sql")).unwrap();
    project.migrate(&["backfill", "--workers", "2"]).await.expect(0);
    for version in ["0007", "0008", "0009"] {
        project.migrate(&["status"]).await.expect(0).says(version);
    }
    project.register("old", "8").await;
    project.migrate(&["contract", "9"]).await.expect(4).says("no-new-instance").says("live-instance");

    // Every version has been right all along.
    let mut connection = project.database.connect().await;
    let mut codes = vec![&V6, &V7, &V8, &V9];
    let (mut rest, mut accounts) = (writers.split_off(2), Vec::new());
    for (writer, code) in writers.into_iter().zip(codes.drain(..2)) {
        let account = writer.stop().await;
        account.expect_no_errors("old code");
        assert_eq!(account.wrong(&mut connection, code).await, [""; 0]);
        accounts.push(account);
    }
    // The second first.
    project.migrate(&["contract", "8", "--soak", "0s"]).await.expect(0).says("0008 is done");
    for writer in &rest {
        writer.progress(10).await;
    }
    let account = rest.remove(0).stop().await;
    account.expect_no_errors("code of version 8");
    accounts.push(account);
    project.database.run("UPDATE pontoon.instance SET deregistered_at = now() WHERE instance = 'old'").await;
    project.register("new", "9").await;
    project.migrate(&["contract", "9"]).await.expect(0).says("0009 is done");
    project.migrate(&["contract", "7"]).await.expect(0).says("sealed");
    rest[0].progress(10).await;
    project.migrate(&["contract", "--soak", "0s"]).await.expect(0).says("0007 is done");
    rest[0].progress(10).await;
    let account = rest.remove(0).stop().await;
    account.expect_no_errors("new code");
    accounts.push(account);
    for account in &accounts {
        assert_eq!(account.wrong(&mut connection, &V9).await, [""; 0]);
    }
    let plain = Database::new().await;
    plain.run(SETUP).await;
    for (_, text) in FILES {
        plain.run(text).await;
    }
    let mut connection = project.database.connect().await;
    assert_eq!(shape(&mut connection).await, shape(&mut plain.connect().await).await);
    assert_eq!(leftovers(&mut connection).await, "");
}
