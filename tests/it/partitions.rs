//! Partitioned tables: partitions that come and go, what is refused, and who is in the way.

use super::support::{Project, finish, run, text};

const SETUP: &str = "
CREATE TABLE teams (id bigint PRIMARY KEY);
CREATE TABLE ev (at int NOT NULL, id bigint NOT NULL, name text NOT NULL, qty int CHECK (qty > 0), PRIMARY KEY (at, id)) PARTITION BY RANGE (at);
CREATE TABLE ev_1 PARTITION OF ev FOR VALUES FROM (0) TO (100); CREATE TABLE ev_2 PARTITION OF ev FOR VALUES FROM (100) TO (200);
CREATE INDEX ev_name_idx ON ev (name);
INSERT INTO ev SELECT i % 200, i, 'F' || i || ' L' || i, 1 FROM generate_series(1, 2000) AS i;";

const SPLIT: &str = "ALTER TABLE ev ADD COLUMN first text; UPDATE ev SET first = split_part(name, ' ', 1);
    -- migrate: down name = first || ' L'
    ALTER TABLE ev DROP COLUMN name;";

const LATE: &str = "CREATE TABLE ev_3 (LIKE ev INCLUDING ALL); INSERT INTO ev_3 (at, id, name) SELECT 200, i, 'F' || i || ' L' || i FROM generate_series(1, 50) AS i;
    ALTER TABLE ev ATTACH PARTITION ev_3 FOR VALUES FROM (200) TO (300);";

async fn project(file: &str) -> Project {
    Project::new(SETUP, &[("0001_x.sql", file)]).await
}

#[tokio::test]
async fn a_partition_that_is_attached_after_the_backfill_is_converted_before_contract() {
    let project = project(SPLIT).await;
    let database = &project.database;
    for command in ["expand", "backfill"] {
        project.migrate(&[command]).await.expect(0);
    }
    project.register("web-1", "1").await;
    database.run(LATE).await;
    project.migrate(&["contract"]).await.expect(1).says("public.ev_3").says("migrate backfill 0001");
    project.migrate(&["backfill"]).await.expect(0);
    assert_eq!(
        database
            .text("SELECT count(*)::text FROM ev WHERE first IS DISTINCT FROM split_part(name, ' ', 1)")
            .await,
        "0"
    );
    // One that comes while the old shape is sealed, without its values, stops the drop and not the reopen.
    project.migrate(&["contract"]).await.expect(0).says("sealed");
    database.run("CREATE TABLE ev_4 PARTITION OF ev FOR VALUES FROM (300) TO (400)").await;
    database.run("CREATE TABLE ev_5 (LIKE ev INCLUDING ALL); INSERT INTO ev_5 (at, id, _pontoon_1_name) VALUES (400, 1, 'F L');
                  ALTER TABLE ev ATTACH PARTITION ev_5 FOR VALUES FROM (400) TO (500)").await;
    project.migrate(&["contract", "--soak", "0s"]).await.expect(1).says("public.ev_5").says("reopen");
    project.migrate(&["reopen", "1"]).await.expect(0);
    project.migrate(&["backfill"]).await.expect(0);
    project.migrate(&["contract", "--soak", "0s"]).await.expect(0).says("0001 is done");
    assert_eq!(database.text("SELECT first FROM ev WHERE at = 400").await, "F");
}

#[tokio::test]
async fn a_partition_that_comes_late_to_a_move_gets_its_values_before_contract() {
    let setup = "CREATE TABLE users (id int PRIMARY KEY, mail text); INSERT INTO users SELECT i, 'M' || i FROM generate_series(1, 50) AS i;
        CREATE INDEX ON ev (qty);";
    let file = "ALTER TABLE ev ADD COLUMN mail text; UPDATE ev SET mail = u.mail FROM users AS u WHERE u.id = ev.qty; ALTER TABLE users DROP COLUMN mail;";
    let project = Project::new(&format!("{SETUP} {setup}"), &[("0001_x.sql", file)]).await;
    let database = &project.database;
    for command in ["expand", "backfill"] {
        project.migrate(&[command]).await.expect(0);
    }
    project.register("web-1", "1").await;
    let late = LATE.replace("(at, id, name)", "(at, id, name, qty)").replace("|| i FROM", "|| i, i FROM");
    database.run(&late).await;
    project.migrate(&["contract"]).await.expect(1).says("public.ev_3").says("migrate backfill 0001");
    project.migrate(&["backfill"]).await.expect(0);
    let right = "SELECT count(*)::text FROM ev WHERE mail IS DISTINCT FROM 'M' || qty";
    assert_eq!(database.text(right).await, "0");
    project.migrate(&["contract"]).await.expect(0).says("sealed");
    database.run(&late.replace("ev_3", "ev_4").replace("200", "300").replace("TO (300)", "TO (400)")).await;
    project.migrate(&["contract", "--soak", "0s"]).await.expect(1).says("public.ev_4").says("reopen");
    project.migrate(&["reopen", "1"]).await.expect(0);
    project.migrate(&["backfill"]).await.expect(0);
    project.migrate(&["contract", "--soak", "0s"]).await.expect(0).says("0001 is done");
    assert_eq!(database.text(right).await, "0");
}

#[tokio::test]
async fn a_partition_that_comes_late_to_a_table_that_is_replaced_has_its_rows_copied() {
    let file = "CREATE TABLE events (at int, id bigint, name text NOT NULL, PRIMARY KEY (at, id)) PARTITION BY RANGE (at); CREATE TABLE events_all PARTITION OF events DEFAULT;
        INSERT INTO events (at, id, name) SELECT at, id, name FROM ev; DROP TABLE ev;";
    let project = project(file).await;
    let database = &project.database;
    for command in ["expand", "backfill"] {
        project.migrate(&[command]).await.expect(0);
    }
    project.register("web-1", "1").await;
    database.run(LATE).await;
    project.migrate(&["contract"]).await.expect(1).says("public.ev_3").says("migrate backfill 0001");
    project.migrate(&["backfill"]).await.expect(0);
    let missing = |ev: &str| {
        format!(
            "SELECT count(*)::text FROM {ev} AS e WHERE NOT EXISTS (SELECT FROM events AS n WHERE n.at = e.at AND n.id = e.id AND n.name = e.name)"
        )
    };
    assert_eq!(database.text(&missing("ev")).await, "0");
    project.migrate(&["contract"]).await.expect(0).says("sealed");
    let later = LATE.replace("ev_3", "ev_4").replace("200", "300").replace("TO (300)", "TO (400)");
    database
        .run(&later.replace("TABLE ev ", "TABLE _pontoon_1_ev ").replace("LIKE ev ", "LIKE _pontoon_1_ev "))
        .await;
    project.migrate(&["contract", "--soak", "0s"]).await.expect(1).says("public.ev_4").says("reopen");
    project.migrate(&["reopen", "1"]).await.expect(0);
    project.migrate(&["backfill"]).await.expect(0);
    let copied =
        database.text("SELECT (SELECT count(*) FROM ev) || ' ' || (SELECT count(*) FROM events)").await;
    project.migrate(&["contract", "--soak", "0s"]).await.expect(0).says("0001 is done");
    let (ev, events) = copied.split_once(' ').unwrap();
    assert_eq!(ev, events, "rows are lost");
}

#[tokio::test]
async fn a_partition_of_the_last_moment_stops_the_transaction_that_would_lose_it() {
    let project = project(SPLIT).await;
    let database = &project.database;
    for command in ["expand", "backfill"] {
        project.migrate(&[command]).await.expect(0);
    }
    project.register("web-1", "1").await;
    let pause = project.path("paused");
    let mut command = project.command(&["contract", "--soak", "0s"]);
    command.env("PONTOON_FAULT", "step.before@2").env("PONTOON_FAULT_PAUSE", &pause);
    let running = tokio::spawn(finish(command));
    while !pause.exists() {
        assert!(!running.is_finished(), "{:?}", running.await.unwrap());
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    database.run("CREATE TABLE ev_3 (LIKE ev INCLUDING ALL); INSERT INTO ev_3 (at, id, _pontoon_1_name) VALUES (200, 1, 'F L');
                  ALTER TABLE ev ATTACH PARTITION ev_3 FOR VALUES FROM (200) TO (300)").await;
    std::fs::remove_file(&pause).unwrap();
    running.await.unwrap().expect(1).says("ev_3 came in the last moment");
    assert_eq!(database.text("SELECT _pontoon_1_name FROM ev_3").await, "F L");
    // An empty one is let in; one with rows has to go out again first.
    project.migrate(&["contract"]).await.expect(1).says("DETACH PARTITION");
    database.run("ALTER TABLE ev DETACH PARTITION ev_3; CREATE TABLE ev_4 PARTITION OF ev FOR VALUES FROM (200) TO (300)").await;
    project.migrate(&["contract"]).await.expect(0).says("0001 is done");
}

#[tokio::test]
async fn partitions_are_made_attached_and_detached_without_reading_under_a_lock() {
    let files = "CREATE TABLE ev_3 PARTITION OF ev FOR VALUES FROM (200) TO (300);
        CREATE TABLE ev_4 (LIKE ev INCLUDING ALL); ALTER TABLE ev ATTACH PARTITION ev_4 FOR VALUES FROM (300) TO (400);
        ALTER TABLE ev ATTACH PARTITION loaded FOR VALUES FROM (400) TO (500);
        ALTER TABLE ev DETACH PARTITION ev_1;
        CREATE TABLE new_ev (id int, at date) PARTITION BY LIST (id); CREATE TABLE new_ev_1 PARTITION OF new_ev FOR VALUES IN (1);";
    let project = project(files).await;
    let database = &project.database;
    database.run("CREATE TABLE loaded (LIKE ev INCLUDING ALL); INSERT INTO loaded SELECT 400 + i % 100, i, 'n', 1 FROM generate_series(1, 500) AS i").await;
    let bounds = "SELECT string_agg(c.relname || ' ' || pg_get_expr(c.relpartbound, c.oid), ', ' ORDER BY c.relname) FROM pg_inherits AS i JOIN pg_class AS c ON c.oid = i.inhrelid WHERE i.inhparent = 'ev'::regclass";
    let before = database.text(bounds).await;
    project.migrate(&["expand"]).await.expect(0);
    assert_eq!(database.text("SELECT count(*)::text FROM ev").await, "2500");
    project.migrate(&["abort", "1", "--discard-new-data"]).await.expect(0);
    assert_eq!(database.text(bounds).await, before);
    assert_eq!(
        database.text("SELECT count(*)::text FROM pg_constraint WHERE conname LIKE '%pontoon%'").await,
        "0"
    );
    project.migrate(&["expand", "--to", "1"]).await.expect(0);
    project.register("web-1", "1").await;
    project.migrate(&["contract"]).await.expect(0);
    assert_eq!(database.text("SELECT count(*)::text FROM ev_1").await, "1000");
    assert_eq!(database.text("SELECT count(*)::text FROM ev").await, "1500");
    project.migrate(&["reopen", "1"]).await.expect(0);
    assert_eq!(database.text("SELECT count(*)::text FROM ev").await, "2500");
    project.migrate(&["contract", "--soak", "0s"]).await.expect(0);
    project.migrate(&["contract", "--soak", "0s"]).await.expect(0);
    assert_eq!(
        database.text("SELECT count(*)::text FROM pg_constraint WHERE conname LIKE '%pontoon%'").await,
        "0"
    );
    assert_eq!(database.text("SELECT count(*)::text FROM ev").await, "1500");
}

const POINTING: &str = "CREATE TABLE p (id int, k int, PRIMARY KEY (id, k)) PARTITION BY LIST (k); CREATE TABLE p_all PARTITION OF p DEFAULT;
    CREATE TABLE d (id int, pid int, k int, CONSTRAINT d_fk FOREIGN KEY (pid, k) REFERENCES p ON DELETE CASCADE) PARTITION BY RANGE (id);
    CREATE TABLE d1 PARTITION OF d FOR VALUES FROM (0) TO (1000); CREATE TABLE c (id int, k int, FOREIGN KEY (id, k) REFERENCES p);
    INSERT INTO p SELECT i, i % 3 FROM generate_series(1, 500) AS i; INSERT INTO d SELECT i, i, i % 3 FROM generate_series(1, 500) AS i;";

/// Runs a command that stops before each step, and looks each time for partitions whose rows may point nowhere.
async fn never_without_key(project: &Project, arguments: &[&str]) {
    let pause = project.path("paused");
    let mut command = project.command(arguments);
    command.env("PONTOON_FAULT", "step.before@*").env("PONTOON_FAULT_PAUSE", &pause);
    let running = tokio::spawn(finish(command));
    let bare = "SELECT coalesce(string_agg(c.relname, ' '), '') FROM pg_class AS c WHERE c.relname IN ('d1', 'd2', 'd3') AND c.relispartition
        AND NOT EXISTS (SELECT FROM pg_constraint AS k WHERE k.conrelid = c.oid AND k.contype = 'f' AND k.confrelid = 'p'::regclass)";
    while !running.is_finished() {
        if pause.exists() {
            assert_eq!(project.database.text(bare).await, "", "{arguments:?}");
            std::fs::remove_file(&pause).unwrap();
        }
        tokio::time::sleep(std::time::Duration::from_millis(2)).await;
    }
    running.await.unwrap().expect(0);
}

#[tokio::test]
async fn a_late_partition_of_a_table_that_points_at_a_swapped_key_is_never_without_its_own() {
    let project =
        Project::new(POINTING, &[("0001_x.sql", "ALTER TABLE p ALTER COLUMN id TYPE bigint;")]).await;
    let database = &project.database;
    let late = |name: &str, from: i32| {
        format!(
            "CREATE TABLE {name} PARTITION OF d FOR VALUES FROM ({from}) TO ({from} + 1000); INSERT INTO d (id, pid, k) SELECT {from} + i, i, i % 3 FROM generate_series(1, 500) AS i"
        )
    };
    project.migrate(&["expand"]).await.expect(0);
    database.run(&late("d2", 1000)).await;
    project.migrate(&["backfill"]).await.expect(0);
    project.register("web-1", "1").await;
    never_without_key(&project, &["contract"]).await;
    database.run(&late("d3", 2000)).await;
    never_without_key(&project, &["reopen", "1"]).await;
    project.migrate(&["backfill"]).await.expect(0);
    never_without_key(&project, &["contract", "--soak", "0s"]).await;
    project.migrate(&["doctor"]).await.expect(0).says("nothing is wrong");
    database.run("DELETE FROM p WHERE id = 7").await;
    assert_eq!(database.text("SELECT count(*)::text FROM d").await, "1497");
    let names = "SELECT count(*)::text FROM pg_constraint WHERE conname LIKE '%pontoon%' OR (conparentid = 0 AND NOT convalidated)";
    assert_eq!(database.text(names).await, "0");
}

#[tokio::test]
async fn a_reopen_that_was_killed_while_a_foreign_key_was_cut_into_parts_goes_on() {
    let project =
        Project::new(POINTING, &[("0001_x.sql", "ALTER TABLE p ALTER COLUMN id TYPE bigint;")]).await;
    for command in ["expand", "backfill"] {
        project.migrate(&[command]).await.expect(0);
    }
    project.register("web-1", "1").await;
    for step in 1..8 {
        project.migrate(&["contract"]).await.expect(0);
        let mut command = project.command(&["reopen", "1"]);
        command.env("PONTOON_FAULT", format!("step.after_commit@{step}"));
        finish(command).await;
        project.migrate(&["reopen", "1"]).await.expect(0);
    }
}

#[tokio::test]
async fn a_key_and_what_points_at_it_may_each_say_how_they_change() {
    let setup = "CREATE TABLE p (id text PRIMARY KEY); CREATE TABLE c (pid text REFERENCES p);
        INSERT INTO p SELECT gen_random_uuid() FROM generate_series(1, 50); INSERT INTO c SELECT id FROM p;";
    let [parent, child] = [
        "ALTER TABLE p ALTER COLUMN id TYPE uuid USING id::uuid;",
        "ALTER TABLE c ALTER COLUMN pid TYPE uuid USING pid::uuid;",
    ];
    for file in [format!("{parent} {child}"), format!("{child} {parent}")] {
        let project = Project::new(setup, &[("0001_x.sql", &file)]).await;
        project.migrate(&["up"]).await.expect(0);
        let joined =
            "SELECT count(*)::text FROM p JOIN c ON c.pid = p.id WHERE pg_typeof(p.id) = 'uuid'::regtype";
        assert_eq!(project.database.text(joined).await, "50");
    }
}

#[tokio::test]
async fn hash_partitions_leave_and_come_back() {
    let setup = "CREATE TABLE ev (id int PRIMARY KEY) PARTITION BY HASH (id); CREATE TABLE ev_0 PARTITION OF ev FOR VALUES WITH (MODULUS 2, REMAINDER 0);
        CREATE TABLE ev_1 PARTITION OF ev FOR VALUES WITH (MODULUS 2, REMAINDER 1); INSERT INTO ev SELECT generate_series(1, 500);
        CREATE TABLE names (name text) PARTITION BY HASH (name); CREATE TABLE names_0 PARTITION OF names FOR VALUES WITH (MODULUS 1, REMAINDER 0);";
    let leave = "ALTER TABLE ev DETACH PARTITION ev_1;";
    let project = Project::new(setup, &[("0001_x.sql", leave)]).await;
    let database = &project.database;
    let rows = database.text("SELECT count(*)::text FROM ev_1").await;
    project.migrate(&["expand"]).await.expect(0);
    project.register("web-1", "1").await;
    project.migrate(&["contract"]).await.expect(0).says("sealed");
    // The check that stands there meanwhile asks for the right hash.
    let moved = "WITH gone AS (DELETE FROM ev_1 RETURNING id) INSERT INTO ev_1 SELECT id FROM gone";
    database.run(moved).await;
    project.migrate(&["reopen", "1"]).await.expect(0);
    assert_eq!(database.text("SELECT count(*)::text FROM ev").await, "500");
    project.migrate(&["contract", "--soak", "0s"]).await.expect(0).says("0001 is done");
    project.write(
        "0002_y.sql",
        "ALTER TABLE ev ATTACH PARTITION ev_1 FOR VALUES WITH (MODULUS 2, REMAINDER 1);",
    );
    project.migrate(&["expand"]).await.expect(0);
    assert_eq!(database.text("SELECT count(*)::text FROM ev").await, "500");
    assert_eq!(database.text("SELECT count(*)::text FROM ev_1").await, rows);
    project.write("0003_z.sql", "ALTER TABLE names DETACH PARTITION names_0;");
    project.migrate(&["expand"]).await.expect(1).says("by the hash of `name`, which is text");
}

#[tokio::test]
async fn what_a_partitioned_table_cannot_have_is_refused_by_name() {
    for (file, says) in [
        ("ALTER TABLE ev RENAME COLUMN at TO happened;", "decides in which partition"),
        ("ALTER TABLE ev DROP COLUMN at;", "decides in which partition"),
        ("ALTER TABLE ev ALTER COLUMN at TYPE bigint;", "decides in which partition"),
        ("ALTER TABLE own ALTER COLUMN c TYPE bigint;", "that only a partition has"),
        ("ALTER TABLE followed ALTER COLUMN id TYPE bigint;", "`fid` decides in which partition of `public.by_key` a row is"),
        ("ALTER TABLE cut ALTER COLUMN b TYPE bigint;", "a foreign key that points at it, of one partition alone"),
        ("CREATE UNIQUE INDEX ON ev (id);", "must hold `at`"),
        ("ALTER TABLE ev ADD UNIQUE (name);", "a key of `public.ev` must hold `at`"),
        ("ALTER TABLE ev ADD CONSTRAINT k UNIQUE USING INDEX ev_name_idx;", "no USING INDEX"),
        ("ALTER TABLE ev ADD CHECK (qty > 1) NO INHERIT;", "NO INHERIT"),
        ("ALTER TABLE ev SET (fillfactor = 70);", "matter of each partition"),
        ("ALTER TABLE ev_1 ADD COLUMN x int;", "it is a partition"),
        ("DROP INDEX ev_1_name_idx;", "is part of index"),
        ("ALTER TABLE ev DETACH PARTITION ev_1; DROP TABLE ev_1;", "in a migration after that one"),
        (
            "CREATE TABLE news (at int, id bigint, qty int, PRIMARY KEY (at, id), FOREIGN KEY (at, id) REFERENCES ev);
             INSERT INTO news (at, id, qty) SELECT at, id, qty FROM ev; ALTER TABLE ev DROP COLUMN qty;",
            "its foreign key is checked at once",
        ),
        ("ALTER TABLE ev DETACH PARTITION teams;", "is no partition of"),
        ("ALTER TABLE teams DETACH PARTITION ev_1;", "is not partitioned"),
        (
            "ALTER TABLE ev DETACH PARTITION ev_1; ALTER TABLE ev ATTACH PARTITION other FOR VALUES FROM (0) TO (100);",
            "would come before that",
        ),
        (
            "ALTER TABLE ev DETACH PARTITION ev_1; ALTER TABLE ev ADD COLUMN x int;",
            "attaches or detaches a partition",
        ),
        (
            "ALTER TABLE ev ATTACH PARTITION other FOR VALUES FROM (500) TO (600); CREATE INDEX ON ev (qty);",
            "builds an index",
        ),
        (
            "ALTER TABLE ev ATTACH PARTITION other FOR VALUES FROM (500) TO (600);",
            "has no index like ev_name_idx",
        ),
        (
            "ALTER TABLE ev ATTACH PARTITION teams FOR VALUES FROM (500) TO (600);",
            "has no column at integer NOT NULL",
        ),
        ("CREATE INDEX ON own (c);", "has an index or a constraint of its own"),
        ("ALTER TABLE own DETACH PARTITION own_1;", "foreign keys of `public.points` point at"),
    ] {
        let more = "CREATE TABLE other (LIKE ev INCLUDING CONSTRAINTS); ALTER TABLE other ADD PRIMARY KEY (at, id);
            CREATE TABLE others (id int PRIMARY KEY);
            CREATE TABLE followed (id int PRIMARY KEY); CREATE TABLE by_key (fid int REFERENCES followed) PARTITION BY HASH (fid);
            CREATE TABLE cut (a int, b int, PRIMARY KEY (a, b)) PARTITION BY LIST (a); CREATE TABLE cut_1 PARTITION OF cut FOR VALUES IN (1);
            CREATE TABLE at_one (a int, b int, FOREIGN KEY (a, b) REFERENCES cut_1);
            CREATE TABLE own (a int PRIMARY KEY, c int, k int, UNIQUE (a, k)) PARTITION BY RANGE (a); CREATE TABLE own_1 PARTITION OF own FOR VALUES FROM (0) TO (10);
            CREATE INDEX ON own_1 (c); CREATE TABLE points (a int REFERENCES own, k int, FOREIGN KEY (a, k) REFERENCES own (a, k));";
        let project = Project::new(&format!("{SETUP} {more}"), &[("0001_x.sql", file)]).await;
        project.migrate(&["plan"]).await.expect(1).says(says);
    }
}

#[tokio::test]
async fn a_reader_of_one_partition_is_named_by_what_waits_for_the_whole() {
    let project = project(SPLIT).await;
    let mut reader = project.database.connect().await;
    run(&mut reader, "SET application_name = 'long report'; BEGIN; SELECT count(*) FROM ev_2").await;
    let mut command = project.command(&["expand"]);
    command.env("MIGRATE_LOCK_TOTAL", "2s");
    finish(command).await.expect(1).says("long report");
    run(&mut reader, "COMMIT").await;
    project.migrate(&["expand"]).await.expect(0);
    assert_eq!(text(&mut reader, "SELECT count(first)::text FROM ev").await, "0");
}

#[tokio::test]
async fn partitions_that_are_dropped_or_missing_stop_nothing() {
    let split = "ALTER TABLE ev ADD COLUMN first text; UPDATE ev SET first = split_part(name, ' ', 1); CREATE INDEX ON ev (first);";
    let project = project(split).await;
    let database = &project.database;
    project.migrate(&["expand"]).await.expect(0);
    database.run("DROP TABLE ev_1").await;
    project.migrate(&["backfill"]).await.expect(0);
    project.register("web-1", "1").await;
    database.run("DROP TABLE ev_2").await;
    project.migrate(&["contract", "--soak", "0s"]).await.expect(0);
    // A tree without a leaf, and one with a generated column.
    project.write("0002_x.sql", "ALTER TABLE ev ADD COLUMN last text; UPDATE ev SET last = split_part(name, ' ', 2); ALTER TABLE made ADD COLUMN n int;");
    database.run("CREATE TABLE made (a int, g int GENERATED ALWAYS AS (a + 1) STORED) PARTITION BY RANGE (a); CREATE TABLE made_1 PARTITION OF made DEFAULT").await;
    project.migrate(&["expand"]).await.expect(0);
    project.migrate(&["backfill"]).await.expect(0);
}

#[tokio::test]
async fn an_attached_partition_can_be_taken_back_whatever_was_done_by_hand() {
    let project = project("ALTER TABLE ev ATTACH PARTITION loaded FOR VALUES FROM (400) TO (500);").await;
    let database = &project.database;
    database.run("CREATE TABLE loaded (LIKE ev INCLUDING ALL)").await;
    project.migrate(&["expand"]).await.expect(0);
    project.write("0002_x.sql", "ALTER TABLE ev ADD COLUMN x int;");
    project.migrate(&["expand"]).await.expect(0);
    project.migrate(&["abort", "1"]).await.expect(4).says("builds on public.ev");
    project.migrate(&["abort", "2"]).await.expect(0);
    database.run("ALTER TABLE ev DETACH PARTITION loaded; DROP TABLE loaded").await;
    project.migrate(&["abort", "1"]).await.expect(0);
}

#[tokio::test]
async fn rows_in_the_default_partition_are_found_before_anybody_is_stopped() {
    let project = project("ALTER TABLE ev ATTACH PARTITION loaded FOR VALUES FROM (400) TO (500);").await;
    let database = &project.database;
    database.run("CREATE TABLE loaded (LIKE ev INCLUDING ALL); CREATE TABLE ev_rest PARTITION OF ev DEFAULT; INSERT INTO ev VALUES (450, 1, 'n', 1)").await;
    project.migrate(&["expand"]).await.expect(1).says("rows of public.ev_rest belong into the new partition");
    database.run("INSERT INTO ev VALUES (451, 1, 'n', 1); DELETE FROM ev_rest").await;
    project.migrate(&["expand"]).await.expect(0);
    assert_eq!(
        database.text("SELECT count(*)::text FROM pg_constraint WHERE conname LIKE '%pontoon%'").await,
        "0"
    );
}

#[tokio::test]
async fn a_table_that_loses_a_partition_changes_only_after_that() {
    let project = project("ALTER TABLE ev DETACH PARTITION ev_1;").await;
    project.migrate(&["expand"]).await.expect(0);
    project.write("0002_x.sql", SPLIT);
    project.migrate(&["expand"]).await.expect(1).says("migrate contract 0001");
}

#[tokio::test]
async fn a_partition_that_is_detached_or_dropped_meanwhile_keeps_its_key_and_stops_nobody() {
    let project = project("ALTER TABLE ev ALTER COLUMN id TYPE numeric, ALTER COLUMN qty TYPE bigint;").await;
    let database = &project.database;
    database
        .run("CREATE TABLE ev_3 PARTITION OF ev FOR VALUES FROM (200) TO (300); CREATE TABLE ev_4 PARTITION OF ev FOR VALUES FROM (300) TO (400);
              CREATE TABLE ev_5 PARTITION OF ev FOR VALUES FROM (400) TO (500);")
        .await;
    project.migrate(&["expand"]).await.expect(0);
    database.run("ALTER TABLE ev DETACH PARTITION ev_2; DROP TABLE ev_3").await;
    project.migrate(&["backfill"]).await.expect(0);
    project.register("web-1", "1").await;
    database.run("ALTER TABLE ev DETACH PARTITION ev_4").await;
    project.migrate(&["contract"]).await.expect(0).says("sealed");
    let keys = "SELECT string_agg(conrelid::regclass || ' ' || conname || ' ' || pg_get_constraintdef(oid), ', ' ORDER BY conrelid::regclass::text)
                FROM pg_constraint WHERE contype = 'p' AND conrelid::regclass::text LIKE 'ev%'";
    let each = |names: &[&str]| {
        let key = |name: &&str| format!("{name} {name}_pkey PRIMARY KEY (at, id)");
        names.iter().map(key).collect::<Vec<_>>().join(", ")
    };
    assert_eq!(database.text(keys).await, each(&["ev", "ev_1", "ev_2", "ev_4", "ev_5"]));
    database.run("DROP TABLE ev_5").await;
    project.migrate(&["reopen", "1"]).await.expect(0);
    assert_eq!(database.text(keys).await, each(&["ev", "ev_1", "ev_2", "ev_4"]));
    project.migrate(&["contract", "--soak", "0s"]).await.expect(0).says("0001 is done");
    assert_eq!(database.text("SELECT pg_typeof(id)::text FROM ev LIMIT 1").await, "numeric");
    assert_eq!(database.text("SELECT pg_typeof(id)::text FROM ev_2 LIMIT 1").await, "bigint");
}

#[tokio::test]
async fn a_partition_that_goes_may_be_gone_already_or_have_another_name() {
    let detached = "SELECT count(*)::text FROM pg_inherits WHERE inhparent = 'ev'::regclass";
    let checks = "SELECT count(*)::text FROM pg_constraint WHERE conname LIKE '%pontoon%'";
    for (before, sealed, reopens) in [
        ("", "ALTER TABLE ev_1 RENAME TO archive_1", true),
        ("", "DROP TABLE ev_1", false),
        ("ALTER TABLE ev_1 RENAME TO older", "", true),
        ("ALTER TABLE ev DETACH PARTITION ev_1", "", false),
        ("DROP TABLE ev_1", "", false),
    ] {
        let project = project("ALTER TABLE ev DETACH PARTITION ev_1;").await;
        let database = &project.database;
        project.migrate(&["expand"]).await.expect(0);
        database.run(before).await;
        project.register("web-1", "1").await;
        project.migrate(&["contract"]).await.expect(0);
        assert_eq!(database.text(detached).await, "1", "{before}");
        database.run(sealed).await;
        project.migrate(&["reopen", "1"]).await.expect(0);
        assert_eq!(database.text(detached).await, if reopens { "2" } else { "1" }, "{before} {sealed}");
        assert_eq!(database.text(checks).await, "0", "{before} {sealed}");
        project.migrate(&["contract"]).await.expect(0);
        project.migrate(&["contract", "--soak", "0s"]).await.expect(0);
        assert_eq!(database.text(detached).await, "1", "{before} {sealed}");
        assert_eq!(database.text(checks).await, "0", "{before} {sealed}");
    }
}

#[tokio::test]
async fn a_partition_that_is_made_again_is_looked_at_again() {
    let again = "DROP TABLE ev_2; CREATE TABLE ev_2 PARTITION OF ev FOR VALUES FROM (100) TO (200)";
    for file in [
        "ALTER TABLE ev ALTER COLUMN id TYPE numeric, ALTER COLUMN qty TYPE bigint;",
        "ALTER TABLE ev ADD UNIQUE (qty, id, at);",
        SPLIT,
    ] {
        let project = project(file).await;
        project.migrate(&["expand"]).await.expect(0);
        project.migrate(&["backfill"]).await.expect(0);
        project.register("web-1", "1").await;
        project.database.run(again).await;
        project.database.run("INSERT INTO ev (at, id, name, qty) VALUES (150, 9001, 'again', 1)").await;
        project.migrate(&["contract"]).await.expect(0);
        project.database.run(again).await;
        project.migrate(&["contract", "--soak", "0s"]).await;
        project.migrate(&["contract", "--soak", "0s"]).await.expect(0);
    }
}

#[tokio::test]
async fn a_late_partition_gets_its_index_by_the_statement_that_the_error_gives() {
    let big = "CREATE TABLE ev_9 PARTITION OF ev FOR VALUES FROM (900) TO (1000);
        INSERT INTO ev SELECT 950, i, repeat('x', 500), i FROM generate_series(100000, 120000) AS i";
    for (file, command) in [
        ("ALTER TABLE ev ADD UNIQUE (qty, id, at);", "contract"),
        ("ALTER TABLE ev ALTER COLUMN id TYPE numeric;", "contract"),
        (
            "ALTER TABLE ev ADD COLUMN more bigint; UPDATE ev SET more = qty; CREATE INDEX ON ev (more);",
            "backfill",
        ),
    ] {
        let project = project(file).await;
        let database = &project.database;
        database.run("DROP TABLE ev_1").await;
        project.migrate(&["expand"]).await.expect(0);
        if command == "contract" {
            project.migrate(&["backfill"]).await.expect(0);
            project.register("web-1", "1").await;
        }
        database.run(&format!("DROP TABLE ev_2; {big}")).await;
        let run = [command, "--soak", "0s"];
        let run = if command == "contract" { &run[..] } else { &run[..1] };
        let stopped = project.migrate(run).await;
        stopped.expect(1).says("came after the plan was made");
        let hint =
            stopped.stderr.split("CREATE ").nth(1).and_then(|hint| hint.split("; then").next()).unwrap();
        database.run(&format!("CREATE {hint}")).await;
        project.migrate(run).await.expect(0);
        let twins = "SELECT count(*)::text FROM (SELECT indkey::text FROM pg_index WHERE indrelid = 'ev_9'::regclass GROUP BY 1 HAVING count(*) > 1) AS t";
        assert_eq!(database.text(twins).await, "0", "{file}");
    }
}

#[tokio::test]
async fn a_partition_that_was_detached_meanwhile_gets_no_key_and_points_nowhere() {
    let project = project(
        "ALTER TABLE ev ADD UNIQUE (qty, id, at); ALTER TABLE ev ADD FOREIGN KEY (qty) REFERENCES p;",
    )
    .await;
    let database = &project.database;
    database.run("CREATE TABLE p (id int PRIMARY KEY); INSERT INTO p SELECT DISTINCT qty FROM ev").await;
    project.migrate(&["expand"]).await.expect(0);
    project.migrate(&["backfill"]).await.expect(0);
    database.run("ALTER TABLE ev DETACH PARTITION ev_2").await;
    project.register("web-1", "1").await;
    project.migrate(&["contract", "--soak", "0s"]).await.expect(0);
    let own = "SELECT string_agg(conname, ' ') FROM pg_constraint WHERE conrelid = 'ev_2'::regclass AND contype <> 'n'";
    assert_eq!(database.text(own).await, "ev_2_pkey ev_qty_check");
}

#[tokio::test]
async fn a_default_partition_is_attached_by_what_the_others_leave_to_it() {
    let project = project("ALTER TABLE ev ATTACH PARTITION loaded DEFAULT;").await;
    let database = &project.database;
    database
        .run("CREATE TABLE loaded (LIKE ev INCLUDING ALL); INSERT INTO loaded VALUES (1, 50, 'n', 1)")
        .await;
    project.migrate(&["expand"]).await.expect(1).says("is violated by some row");
    database.run("UPDATE loaded SET at = 5000").await;
    project.migrate(&["expand"]).await.expect(0);
    assert_eq!(database.text("SELECT count(*)::text FROM ev WHERE at = 5000").await, "1");
}

#[tokio::test]
async fn what_only_a_partition_has_is_not_lost_silently() {
    let retype = "ALTER TABLE ev ALTER COLUMN qty TYPE bigint;";
    for (own, file, says) in [
        ("ALTER TABLE ev_1 ALTER COLUMN qty SET NOT NULL", retype, "has a NOT NULL, a right, a comment"),
        ("GRANT SELECT (qty) ON ev_1 TO PUBLIC", retype, "has a NOT NULL, a right, a comment"),
        ("COMMENT ON COLUMN ev_1.qty IS 'c'", retype, "has a NOT NULL, a right, a comment"),
        ("CREATE STATISTICS st ON qty, id FROM ev_1", retype, "has a NOT NULL, a right, a comment"),
        ("ALTER TABLE ev_1 ALTER COLUMN qty SET DEFAULT 3", retype, "that only a partition has"),
        ("CREATE VIEW w AS SELECT qty FROM ev_1", retype, "view public.w"),
        ("CREATE VIEW w AS SELECT qty FROM ev_1", "ALTER TABLE ev DROP COLUMN qty;", "view public.w"),
        ("CREATE POLICY p ON ev_1 USING (qty > 0)", retype, "policy p on table public.ev_1"),
        (
            "CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'; CREATE TRIGGER tr BEFORE UPDATE OF qty ON ev_1 FOR EACH ROW EXECUTE FUNCTION f()",
            retype,
            "trigger tr on table public.ev_1",
        ),
        (
            "ALTER TABLE ev_1 ALTER COLUMN qty SET NOT NULL",
            "ALTER TABLE ev ALTER COLUMN qty DROP NOT NULL;",
            "NOT NULL in a partition",
        ),
        (
            "ALTER TABLE ev_1 ALTER COLUMN qty SET NOT NULL",
            "ALTER TABLE ev ALTER COLUMN qty SET NOT NULL;",
            "NOT NULL in a partition",
        ),
        (
            "ALTER TABLE ev_1 ALTER COLUMN qty SET DEFAULT 3",
            "ALTER TABLE ev ALTER COLUMN qty SET DEFAULT 8;",
            "a default of its own",
        ),
    ] {
        let project = Project::new(&format!("{SETUP} {own};"), &[("0001_x.sql", file)]).await;
        project.migrate(&["plan"]).await.expect(1).says(says);
    }
}

#[tokio::test]
async fn a_partition_that_comes_while_sealed_has_its_values_in_the_old_type_too() {
    let project = project("ALTER TABLE ev ALTER COLUMN qty TYPE bigint;").await;
    let database = &project.database;
    for command in ["expand", "backfill"] {
        project.migrate(&[command]).await.expect(0);
    }
    project.register("web-1", "1").await;
    project.migrate(&["contract"]).await.expect(0);
    let comes = |name: &str, from: i32| {
        format!(
            "CREATE TABLE {name} (LIKE ev INCLUDING ALL); INSERT INTO {name} (at, id, name, qty) VALUES ({from}, 1, 'late', 7);
             ALTER TABLE ev ATTACH PARTITION {name} FOR VALUES FROM ({from}) TO ({from} + 100)"
        )
    };
    database.run(&comes("ev_7", 700)).await;
    project.migrate(&["reopen", "1"]).await.expect(0);
    assert_eq!(database.text("SELECT qty::text FROM ev WHERE at = 700").await, "7");
    project.migrate(&["backfill"]).await.expect(0);
    project.migrate(&["contract"]).await.expect(0);
    database.run(&comes("ev_8", 800)).await;
    project.migrate(&["contract", "--soak", "0s"]).await.expect(0);
    assert_eq!(database.text("SELECT string_agg(qty::text, ' ') FROM ev WHERE at >= 700").await, "7 7");
}

/// A partition is known by what it holds: names may go from one to another, and be the same in two schemas.
#[tokio::test]
async fn a_partition_that_goes_is_the_one_that_was_meant() {
    let project = project("ALTER TABLE ev DETACH PARTITION ev_1;").await;
    let database = &project.database;
    project.migrate(&["expand"]).await.expect(0);
    database.run("ALTER TABLE ev_1 RENAME TO ev_old; ALTER TABLE ev_2 RENAME TO ev_1").await;
    project.register("web-1", "1").await;
    project.migrate(&["contract"]).await.expect(0).says("sealed");
    assert_eq!(database.text("SELECT min(at)::text FROM ev").await, "100");
    project.migrate(&["reopen", "1"]).await.expect(0);
    assert_eq!(database.text("SELECT count(*)::text FROM ev").await, "2000");
    database.run("ALTER TABLE ev DETACH PARTITION ev_1; ALTER TABLE ev DETACH PARTITION ev_old; ALTER TABLE ev ATTACH PARTITION ev_1 FOR VALUES FROM (100) TO (250)").await;
    project.migrate(&["contract"]).await.expect(1).says("no longer the partition that was to be detached");

    let two = Project::new(
        "CREATE SCHEMA a; CREATE SCHEMA b; CREATE TABLE ev (at int, name text) PARTITION BY RANGE (at);
         CREATE TABLE a.p PARTITION OF ev FOR VALUES FROM (0) TO (100); CREATE TABLE b.p PARTITION OF ev FOR VALUES FROM (100) TO (200);
         INSERT INTO ev SELECT i, 'x' FROM generate_series(150, 199) AS i",
        &[("0001_x.sql", "ALTER TABLE ev DETACH PARTITION a.p; ALTER TABLE ev DETACH PARTITION b.p;")],
    )
    .await;
    two.migrate(&["expand"]).await.expect(0);
    two.register("web-1", "1").await;
    two.migrate(&["contract"]).await.expect(0).says("sealed");
    two.migrate(&["reopen", "1"]).await.expect(0);
    assert_eq!(two.database.text("SELECT count(*)::text FROM ev").await, "50");
}

/// Rows that came in through the whole are not taken out of it unasked.
#[tokio::test]
async fn an_abort_of_an_attach_asks_first() {
    let project = project("ALTER TABLE ev ATTACH PARTITION loaded FOR VALUES FROM (400) TO (500);").await;
    project.database.run("CREATE TABLE loaded (LIKE ev INCLUDING ALL)").await;
    project.migrate(&["expand"]).await.expect(0);
    project.database.run("INSERT INTO ev (at, id, name) VALUES (450, 1, 'x')").await;
    project.migrate(&["abort", "1"]).await.expect(4).says("rows of public.loaded would leave public.ev");
    project.migrate(&["abort", "1", "--discard-new-data"]).await.expect(0);
}

/// Verification waits for a table that somebody has locked, and minds no partition that is dropped under its eyes.
#[tokio::test]
async fn verification_outlasts_a_lock() {
    let project = project(SPLIT).await;
    for command in ["expand", "backfill"] {
        project.migrate(&[command]).await.expect(0);
    }
    let mut locker = project.database.connect().await;
    run(&mut locker, "BEGIN; LOCK TABLE ev_2 IN ACCESS EXCLUSIVE MODE").await;
    let verify = tokio::spawn(finish(project.command(&["verify"])));
    tokio::time::sleep(std::time::Duration::from_millis(700)).await;
    run(&mut locker, "DROP TABLE ev_2; COMMIT").await;
    verify.await.unwrap().expect(0).says("public.ev is locked");
}

/// A renamed column is right under its new name while it is sealed, whoever wrote past the triggers.
#[tokio::test]
async fn a_rename_outlasts_partitions_that_come_while_it_is_sealed() {
    let project = project("ALTER TABLE ev RENAME COLUMN name TO title;").await;
    let database = &project.database;
    for command in ["expand", "backfill"] {
        project.migrate(&[command]).await.expect(0);
    }
    project.register("web-1", "1").await;
    project.migrate(&["contract"]).await.expect(0).says("sealed");
    database.run(&LATE.replace("(at, id, name)", "(at, id, title)")).await;
    database.run("ALTER TABLE ev DISABLE TRIGGER ALL; UPDATE ev SET title = 'past' WHERE id = 7;
            DO $$ DECLARE t record; BEGIN FOR t IN SELECT tgname FROM pg_trigger WHERE tgrelid = 'ev'::regclass AND NOT tgisinternal LOOP
            EXECUTE format('ALTER TABLE ev ENABLE ALWAYS TRIGGER %I', t.tgname); END LOOP; END $$").await;
    project.migrate(&["reopen", "1"]).await.expect(0);
    let same = "SELECT count(*) FILTER (WHERE title IS DISTINCT FROM name) || ' ' || count(*) FILTER (WHERE title = 'past') FROM ev";
    assert_eq!(database.text(same).await, "0 2");
    project.migrate(&["verify"]).await.expect(0);
    project.migrate(&["contract"]).await.expect(0).says("sealed");
    let later = LATE.replace("ev_3", "ev_4").replace("200", "300").replace("TO (300)", "TO (400)");
    database.run(&later.replace("(at, id, name)", "(at, id, title)")).await;
    project.migrate(&["contract", "--soak", "0s"]).await.expect(0).says("0001 is done");
    assert_eq!(database.text("SELECT count(*)::text FROM ev WHERE title IS NULL").await, "0");
}

/// A row that goes to another partition is no new row: a null that new code gave it stays.
#[tokio::test]
async fn a_null_of_new_code_moves_with_its_row() {
    let setup = "CREATE TABLE evp (id int, at int NOT NULL, active boolean, PRIMARY KEY (id, at)) PARTITION BY RANGE (at);
        CREATE TABLE evp_1 PARTITION OF evp FOR VALUES FROM (0) TO (100);
        CREATE TABLE evp_2 (active boolean, at int NOT NULL, id int, PRIMARY KEY (id, at)); ALTER TABLE evp ATTACH PARTITION evp_2 FOR VALUES FROM (100) TO (200);
        INSERT INTO evp VALUES (1, 1, true), (2, 1, true), (3, 1, true), (4, 1, false);";
    let file = "ALTER TABLE evp ADD COLUMN status text; UPDATE evp SET status = CASE WHEN active THEN 'on' ELSE 'off' END;
        -- migrate: down active = (status = 'on')
        ALTER TABLE evp DROP COLUMN active;";
    let project = Project::new(setup, &[("0001_x.sql", file)]).await;
    let database = &project.database;
    project.migrate(&["expand"]).await.expect(0);
    // Old code's rows move before the backfill has reached them.
    database
        .run("UPDATE evp SET at = 150 WHERE id = 4; UPDATE evp SET at = 151, active = true WHERE id = 4")
        .await;
    project.migrate(&["backfill"]).await.expect(0);
    let rows = "SELECT string_agg(id || ':' || coalesce(status, '-'), ' ' ORDER BY id) FROM evp";
    assert_eq!(database.text(rows).await, "1:on 2:on 3:on 4:on");
    database.run("UPDATE evp SET status = NULL WHERE id = 1; UPDATE evp SET at = 150 WHERE id = 1; UPDATE evp SET status = NULL, at = 150 WHERE id = 2").await;
    assert_eq!(database.text(rows).await, "1:- 2:- 3:on 4:on");
    // A new row of old code in the same transaction is one.
    database
        .run("BEGIN; UPDATE evp SET at = 160 WHERE id = 1; INSERT INTO evp (id, at) VALUES (9, 160); COMMIT")
        .await;
    assert_eq!(database.text(rows).await, "1:- 2:- 3:on 4:on 9:off");
    project.register("web-1", "1").await;
    project.migrate(&["contract"]).await.expect(0).says("sealed");
    database.run("UPDATE evp SET status = NULL WHERE id = 3; UPDATE evp SET at = 170 WHERE id = 3").await;
    assert_eq!(database.text(rows).await, "1:- 2:- 3:- 4:on 9:off");
    project.migrate(&["contract", "--soak", "0s"]).await.expect(0).says("0001 is done");
}

/// A change of type takes along what the whole has; what somebody built on one partition meanwhile stops it by name.
#[tokio::test]
async fn what_is_built_on_one_partition_meanwhile_is_not_lost() {
    let project = project("ALTER TABLE ev ALTER COLUMN qty TYPE bigint;").await;
    let database = &project.database;
    for command in ["expand", "backfill"] {
        project.migrate(&[command]).await.expect(0);
    }
    project.register("web-1", "1").await;
    database
        .run("CREATE INDEX extra ON ev_1 (qty); ALTER TABLE ev_2 ADD CONSTRAINT small CHECK (qty < 1000)")
        .await;
    project.migrate(&["contract"]).await.expect(4).says("extra of public.ev_1").says("small of public.ev_2");
    database.run("DROP INDEX extra; ALTER TABLE ev_2 DROP CONSTRAINT small").await;
    project.migrate(&["contract", "--soak", "0s"]).await.expect(0).says("0001 is done");
}

/// The recipe for an enum that loses a label, where the column's own table is partitioned.
#[tokio::test]
async fn an_enum_of_a_partitioned_table_loses_a_label() {
    let setup = "CREATE TYPE st AS ENUM ('a', 'b', 'c');
        CREATE TABLE logs (id int PRIMARY KEY, s st DEFAULT 'a') PARTITION BY RANGE (id);
        CREATE TABLE logs_1 PARTITION OF logs FOR VALUES FROM (0) TO (100); CREATE TABLE logs_2 PARTITION OF logs DEFAULT;
        INSERT INTO logs SELECT i, CASE WHEN i % 2 = 0 THEN 'a' ELSE 'b' END::st FROM generate_series(1, 200) AS i;";
    let file = "CREATE TYPE st2 AS ENUM ('a', 'b');
        ALTER TABLE logs ALTER s DROP DEFAULT, ALTER s TYPE st2 USING s::text::st2, ALTER s SET DEFAULT 'b';
        DROP TYPE st; ALTER TYPE st2 RENAME TO st;";
    let project = Project::new(setup, &[("0001_x.sql", file)]).await;
    project.migrate(&["expand"]).await.expect(0);
    project.migrate(&["backfill"]).await.expect(0);
    project.register("web-1", "1").await;
    project.migrate(&["contract"]).await.expect(0).says("sealed");
    project
        .database
        .run("INSERT INTO logs (id) VALUES (1001); INSERT INTO logs (id, s) VALUES (50001, 'a')")
        .await;
    project.migrate(&["reopen", "1"]).await.expect(0);
    project.migrate(&["contract", "--soak", "0s"]).await.expect(0);
    let rows = "SELECT string_agg(n, ' ' ORDER BY n) FROM (SELECT s || ' ' || count(*) AS n FROM logs GROUP BY s) AS r";
    assert_eq!(project.database.text(rows).await, "a 101 b 101");
    assert_eq!(project.database.text("SELECT array_to_string(enum_range(NULL::st), ' ')").await, "a b");
}

/// What a reopen would attach again is nobody else's until then.
#[tokio::test]
async fn a_partition_that_a_reopen_puts_back_is_left_alone() {
    let setup = "CREATE TABLE ev (id int, d date, PRIMARY KEY (id, d)) PARTITION BY RANGE (d);
        CREATE TABLE ev23 PARTITION OF ev FOR VALUES FROM ('2023-01-01') TO ('2024-01-01');
        INSERT INTO ev SELECT i, '2023-02-01'::date + i FROM generate_series(1, 50) AS i; CREATE TABLE arch (id int PRIMARY KEY, d date);";
    let project = Project::new(setup, &[("0001_x.sql", "ALTER TABLE ev DETACH PARTITION ev23;")]).await;
    project.migrate(&["expand"]).await.expect(0);
    project.migrate(&["backfill"]).await.expect(0);
    project.register("web-1", "1").await;
    project.migrate(&["contract"]).await.expect(0).says("sealed");
    for file in [
        "DROP TABLE ev23;",
        "ALTER TABLE ev23 ADD COLUMN x int;",
        "INSERT INTO arch SELECT e.id, e.d FROM ev23 AS e; DROP TABLE ev23;",
        "CREATE TABLE other PARTITION OF ev FOR VALUES FROM ('2023-01-01') TO ('2024-01-01');",
    ] {
        project.write("0002_x.sql", file);
        project.migrate(&["expand"]).await.expect(1).says("in-flight");
        project.migrate(&["lint"]).await.expect(0).says("warning[in-flight]");
    }
    project.migrate(&["reopen", "1"]).await.expect(0);
    assert_eq!(project.database.text("SELECT count(*)::text FROM ev").await, "50");
    project.write("0002_x.sql", "DROP TABLE ev23;");
    project.migrate(&["contract", "--soak", "0s"]).await.expect(0).says("0001 is done");
    project.migrate(&["up"]).await.expect(4);
    project.migrate(&["expand"]).await.expect(0);
}
