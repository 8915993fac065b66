//! A table that gets another name: a view stands in for it on either side of the seal.

use std::time::Duration;

use super::support::{Project, finish, run, try_run};

#[tokio::test]
async fn what_is_granted_on_either_name_of_a_renamed_table_counts_for_the_table() {
    let role = format!("pontoon_reader_{:x}", fastrand::u64(..));
    let setup = format!(
        "CREATE TABLE users (id int PRIMARY KEY, name text); CREATE ROLE {role}; GRANT SELECT ON users TO {role};"
    );
    let project = Project::new(&setup, &[("0001_x.sql", "ALTER TABLE users RENAME TO people;")]).await;
    let database = &project.database;
    project.migrate(&["expand"]).await.expect(0);
    database.run(&format!("GRANT INSERT ON people TO {role}; GRANT UPDATE (name) ON users TO {role}")).await;
    project.register("web-1", "1").await;
    project.migrate(&["contract"]).await.expect(0).says("sealed");
    let rights = |table: &str| {
        format!(
            "SELECT concat_ws(' ', has_table_privilege('{role}', '{table}', 'SELECT'), has_table_privilege('{role}', '{table}', 'INSERT'),
             has_column_privilege('{role}', '{table}', 'name', 'UPDATE'), has_table_privilege('{role}', '{table}', 'DELETE'))"
        )
    };
    for table in ["users", "people"] {
        assert_eq!(database.text(&rights(table)).await, "t t t f", "{table}");
    }
    database.run(&format!("GRANT DELETE ON users TO {role}")).await;
    project.migrate(&["reopen", "1"]).await.expect(0);
    for table in ["users", "people"] {
        assert_eq!(database.text(&rights(table)).await, "t t t t", "{table}");
    }
    project.migrate(&["contract", "--soak", "0s"]).await.expect(0).says("0001 is done");
    database.run(&format!("DROP OWNED BY {role}; DROP ROLE {role}")).await;
}

/// Default privileges are for new tables, and a view that stands in for one is none.
#[tokio::test]
async fn default_privileges_give_nobody_a_renamed_table() {
    let role = format!("pontoon_reader_{:x}", fastrand::u64(..));
    let setup = format!(
        "CREATE TABLE secrets (id int PRIMARY KEY); CREATE ROLE {role};
        ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT SELECT ON TABLES TO {role} WITH GRANT OPTION;"
    );
    let project = Project::new(&setup, &[("0001_x.sql", "ALTER TABLE secrets RENAME TO vault;")]).await;
    let database = &project.database;
    let reads = format!(
        "SELECT string_agg(c.relname, ' ') FROM pg_class AS c WHERE c.relname IN ('secrets', 'vault') AND has_table_privilege('{role}', c.oid, 'SELECT')"
    );
    let nobody = format!("SELECT coalesce(({reads}), 'none')");
    project.migrate(&["expand"]).await.expect(0);
    assert_eq!(database.text(&nobody).await, "none");
    project.register("web-1", "1").await;
    project.migrate(&["contract"]).await.expect(0).says("sealed");
    assert_eq!(database.text(&nobody).await, "none");
    project.migrate(&["reopen", "1"]).await.expect(0);
    assert_eq!(database.text(&nobody).await, "none");
    database.run(&format!("DROP OWNED BY {role}; DROP ROLE {role}")).await;
}

/// The seal, and a reopen, lock the view before its table, as its readers do: one that comes meanwhile waits, and nobody is ended.
#[tokio::test]
async fn a_reader_of_the_view_and_the_seal_do_not_wait_for_each_other() {
    let setup = "CREATE TABLE users (id int PRIMARY KEY); INSERT INTO users VALUES (1);";
    let project = Project::new(setup, &[("0001_x.sql", "ALTER TABLE users RENAME TO people;")]).await;
    project.migrate(&["expand"]).await.expect(0);
    project.register("web-1", "1").await;
    let database = &project.database;
    for (command, table, view) in [("contract", "users", "people"), ("reopen", "people", "users")] {
        let mut holder = database.connect().await;
        run(&mut holder, &format!("BEGIN; LOCK TABLE ONLY {table} IN ACCESS SHARE MODE")).await;
        let mut sealing = project.command(&[command, "1"]);
        sealing.env("MIGRATE_LOCK_TIMEOUT", "20s");
        let sealing = tokio::spawn(finish(sealing));
        let waiting = |more: &str| {
            format!(
                "SELECT count(*)::text FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock' AND {more}"
            )
        };
        until(&project, &waiting("query LIKE 'LOCK TABLE%'"), "1").await;
        let mut reader = database.connect().await;
        let read = format!("SELECT * FROM {view}");
        let reading = tokio::spawn(async move { try_run(&mut reader, &read).await });
        until(&project, &waiting("query LIKE 'SELECT * FROM%'"), "1").await;
        run(&mut holder, "ROLLBACK").await;
        reading.await.unwrap().unwrap();
        sealing.await.unwrap().expect(0);
    }
}

async fn until(project: &Project, query: &str, gives: &str) {
    for _ in 0..200 {
        if project.database.text(query).await == gives {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("{query} never gave {gives}");
}
