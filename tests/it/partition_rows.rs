//! Partitions that come and go beside statements about their rows: nothing meets rows that in psql it would not meet, and what
//! a reopen attaches is what was detached.

use super::late_rows::{backfilled, contract};
use super::support::Project;

const SETUP: &str = "
CREATE TABLE ev (at int NOT NULL, id bigint NOT NULL, qty int DEFAULT 1, PRIMARY KEY (at, id)) PARTITION BY RANGE (at);
CREATE TABLE ev_1 PARTITION OF ev FOR VALUES FROM (0) TO (100);
CREATE TABLE ev_2 PARTITION OF ev FOR VALUES FROM (100) TO (200);
CREATE TABLE ev_d PARTITION OF ev DEFAULT;
CREATE TABLE arch (at int, id bigint PRIMARY KEY);
CREATE VIEW seen AS SELECT id FROM ev;
INSERT INTO ev SELECT i % 300, i FROM generate_series(1, 300) AS i;";

const LOADED: &str = "CREATE TABLE loaded (LIKE ev INCLUDING ALL); INSERT INTO loaded SELECT 200 + i, i FROM generate_series(1, 9) AS i;";

const DETACH: &str = "ALTER TABLE ev DETACH PARTITION ev_1;";
#[tokio::test]
async fn rows_of_a_partition_that_goes_are_not_met_by_what_stands_below() {
    let about_rows = [
        "DELETE FROM ev;",
        "UPDATE ev SET qty = 0;",
        "INSERT INTO arch SELECT at, id FROM ev;",
        "UPDATE arch SET at = ev.at FROM ev WHERE ev.id = arch.id;",
        "DELETE FROM arch WHERE id IN (SELECT id FROM ev);",
        "DELETE FROM arch WHERE id IN (SELECT id FROM seen);",
        "INSERT INTO ev VALUES (7, 9999);",
        "CREATE TABLE events (at int, id bigint PRIMARY KEY); INSERT INTO events SELECT at, id FROM ev; DROP TABLE ev;",
    ];
    let project = Project::new(SETUP, &[]).await;
    for below in about_rows {
        project.write("0001_x.sql", &format!("{DETACH}\n{below}"));
        project
            .migrate(&["expand"])
            .await
            .expect(1)
            .says("error[order]")
            .says("a partition of `public.ev` is detached above");
    }
    // The same in two files, the second of which is there at once, or comes when the first is expanded.
    project.write("0001_x.sql", DETACH);
    for below in about_rows {
        project.write("0002_y.sql", below);
        project
            .migrate(&["plan"])
            .await
            .expect(1)
            .says("migration 0001 is to detach a partition of `public.ev`");
    }
    std::fs::remove_file(project.path("migrations/0002_y.sql")).unwrap();
    project.migrate(&["expand"]).await.expect(0);
    project.migrate(&["backfill"]).await.expect(0);
    for below in about_rows {
        project.write("0002_y.sql", below);
        project
            .migrate(&["expand", "--to", "2"])
            .await
            .expect(1)
            .says("migration 0001 is to detach a partition of `public.ev`");
    }
    project.migrate(&contract(&["--soak", "0s", "1"])).await.expect(0).says("0001 is done");
    // Then it is about the others.
    project.write("0002_y.sql", "DELETE FROM ev;");
    project.migrate(&["expand"]).await.expect(0);
    project.migrate(&["backfill"]).await.expect(0);
    let left = "SELECT concat_ws(' ', (SELECT count(*) FROM ev_1), (SELECT count(*) FROM ev))";
    assert_eq!(project.database.text(left).await, "100 0");
}

#[tokio::test]
async fn rows_that_come_with_a_partition_are_not_met_by_a_job_above() {
    let attach = "ALTER TABLE ev DETACH PARTITION ev_d; -- by hand, before";
    let project = Project::new(&format!("{SETUP} {LOADED} {attach}"), &[]).await;
    for job in
        ["DELETE FROM ev WHERE qty = 1;", "UPDATE ev SET qty = 0;", "INSERT INTO arch SELECT at, id FROM ev;"]
    {
        for brought in [
            "ALTER TABLE ev ATTACH PARTITION loaded FOR VALUES FROM (200) TO (300);",
            "CREATE TABLE ev_3 PARTITION OF ev FOR VALUES FROM (200) TO (300);\nINSERT INTO ev_3 VALUES (205, 1, 1);",
            "INSERT INTO ev_2 VALUES (105, 1, 1);",
        ] {
            project.write("0001_x.sql", &format!("{job}\n{brought}"));
            project
                .migrate(&["plan"])
                .await
                .expect(1)
                .says("error[order]")
                .says("a data job of the file runs later");
        }
    }
    // Above the job, or where nothing comes with it, it may stand.
    project.write(
        "0001_x.sql",
        "CREATE TABLE ev_3 PARTITION OF ev FOR VALUES FROM (300) TO (400); INSERT INTO ev_3 VALUES (305, 1, 1);
         ALTER TABLE ev ATTACH PARTITION loaded FOR VALUES FROM (200) TO (300);
         DELETE FROM ev WHERE qty = 1; CREATE TABLE ev_4 PARTITION OF ev FOR VALUES FROM (400) TO (500);",
    );
    project.migrate(&["expand"]).await.expect(0);
    // In a file behind it, rows wait for the job, and an empty partition does not.
    project.write("0002_y.sql", "CREATE TABLE ev_5 PARTITION OF ev FOR VALUES FROM (500) TO (600); INSERT INTO ev_5 VALUES (505, 1, 1);");
    project
        .migrate(&["expand"])
        .await
        .expect(1)
        .says("migration 0001 is to change or read the rows of `public.ev` first");
    project.write("0002_y.sql", "CREATE TABLE ev_5 PARTITION OF ev FOR VALUES FROM (500) TO (600);");
    project.migrate(&["expand"]).await.expect(0);
    project.migrate(&["backfill"]).await.expect(0);
    assert_eq!(project.database.text("SELECT count(*)::text FROM ev").await, "0");
}

#[tokio::test]
async fn rows_for_a_partition_are_not_filled_by_an_update_above() {
    let file = "ALTER TABLE ev ADD COLUMN twice int; UPDATE ev SET twice = qty * 2;
        CREATE TABLE ev_3 PARTITION OF ev FOR VALUES FROM (200) TO (300); INSERT INTO ev_3 VALUES (205, 1, 1);";
    let project = Project::new(&format!("{SETUP} DROP TABLE ev_d;"), &[("0001_x.sql", file)]).await;
    project.migrate(&["plan"]).await.expect(1).says("an UPDATE above changes `public.ev` in backfill");
}

#[tokio::test]
async fn a_reopen_attaches_what_was_detached_and_no_copy_of_it() {
    let project =
        backfilled(SETUP, "ALTER TABLE ev DETACH PARTITION ev_1; ALTER TABLE ev DETACH PARTITION ev_d;")
            .await;
    let database = &project.database;
    project.migrate(&contract(&[])).await.expect(0);
    database.run("ALTER TABLE ev_d RENAME TO ev_rest; CREATE TABLE ev_d (LIKE ev_rest); ALTER TABLE ev_1 RENAME TO ev_first; CREATE TABLE ev_1 (LIKE ev_first INCLUDING ALL)").await;
    project
        .migrate(&["reopen", "1"])
        .await
        .expect(4)
        .says("ev_first and ev_1 have the check of what was the partition public.ev_1")
        .says("ALTER TABLE … DROP CONSTRAINT \"_pontoon_1_public.ev_1\"");
    database.run("ALTER TABLE ev_1 DROP CONSTRAINT \"_pontoon_1_public.ev_1\"").await;
    project.migrate(&["reopen", "1"]).await.expect(0);
    let rows = "SELECT string_agg(name, ' ' ORDER BY name) FROM (SELECT tableoid::regclass || ':' || count(*) AS name FROM ev GROUP BY tableoid) AS x";
    assert_eq!(database.text(rows).await, "ev_2:100 ev_first:100 ev_rest:100");
    project.migrate(&contract(&["--soak", "0s"])).await.expect(0).says("0001 is done");
    assert_eq!(database.text(rows).await, "ev_2:100");
    let left = "SELECT count(*)::text FROM pg_constraint WHERE conname LIKE '\\_pontoon%'";
    assert_eq!(database.text(left).await, "0");
}

#[tokio::test]
async fn a_default_partition_that_has_another_one_in_its_place_is_not_left_out() {
    let project = backfilled(SETUP, "ALTER TABLE ev DETACH PARTITION ev_d;").await;
    let database = &project.database;
    project.migrate(&contract(&[])).await.expect(0);
    database.run("ALTER TABLE ev_d RENAME TO ev_rest; CREATE TABLE ev_d PARTITION OF ev DEFAULT").await;
    project.migrate(&["reopen", "1"]).await.expect(4).says("conflicts with existing default partition");
    database.run("DROP TABLE ev_d").await;
    project.migrate(&["reopen", "1"]).await.expect(0);
    assert_eq!(database.text("SELECT count(*)::text FROM ev").await, "300");
}

#[tokio::test]
async fn two_partitions_that_go_never_share_a_check() {
    let setup = "CREATE SCHEMA log; CREATE SCHEMA log_old; CREATE TABLE ev (at int NOT NULL, id bigint NOT NULL, PRIMARY KEY (at, id)) PARTITION BY RANGE (at);
        CREATE TABLE log.old_1 PARTITION OF ev FOR VALUES FROM (0) TO (100); CREATE TABLE log_old.\"1\" PARTITION OF ev FOR VALUES FROM (100) TO (200);
        INSERT INTO ev SELECT i, i FROM generate_series(0, 199) AS i;";
    let file = "ALTER TABLE ev DETACH PARTITION log.old_1; ALTER TABLE ev DETACH PARTITION log_old.\"1\";";
    let project = backfilled(setup, file).await;
    project.migrate(&contract(&[])).await.expect(0);
    project.migrate(&["reopen", "1"]).await.expect(0);
    assert_eq!(project.database.text("SELECT count(*)::text FROM ev").await, "200");
}
