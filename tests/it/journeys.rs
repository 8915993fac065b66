//! Every kind of change on its four journeys, under old and new code that writes all the time: complete, abort, run
//! twice; the fourth, crash and resume, is in `crash.rs`.

use std::collections::BTreeMap;
use std::sync::{LazyLock, Mutex};

use sqlx::postgres::PgConnection;

use super::support::kinds::{Kind, chosen, is_partial};
use super::support::shape::{expect_restorable, expect_same, leftovers, shape};
use super::support::traffic::{Manner, Writer};
use super::support::{Database, Project, register, run, text};

async fn project(kind: &Kind) -> Project {
    Project::new(kind.setup, &[("0007_change.sql", kind.migration)]).await
}

/// The shape and the data that the plain SQL gives, found out once for each kind.
pub(crate) async fn plain(kind: &'static Kind) -> (String, String) {
    static KNOWN: LazyLock<Mutex<BTreeMap<&str, (String, String)>>> = LazyLock::new(Mutex::default);
    let known = KNOWN.lock().unwrap().get(kind.name).cloned();
    if let Some(known) = known {
        return known;
    }
    let database = Database::new().await;
    database.run(kind.setup).await;
    database.run(kind.plain.unwrap_or(kind.migration)).await;
    let mut connection = database.connect().await;
    let plain = (shape(&mut connection).await, old_rows(&mut connection).await);
    KNOWN.lock().unwrap().insert(kind.name, plain.clone());
    plain
}

/// The rows that were there before any traffic, columns in the order of their names, without what is random.
pub(crate) async fn old_rows(connection: &mut PgConnection) -> String {
    let table = text(connection, "SELECT coalesce(to_regclass('users'), to_regclass('people'))::text").await;
    let rows = format!(
        "SELECT string_agg((to_jsonb(u) - 'token')::text, E'\\n' ORDER BY u.id)
         FROM {table} AS u WHERE id <= 3000",
    );
    text(connection, &rows).await
}

async fn complete(kind: &'static Kind) {
    let project = project(kind).await;
    let url = &project.database.url;
    let mut connection = project.database.connect().await;
    let old = Writer::start(url, &kind.old, 0);
    old.progress(10).await;
    project.migrate(&["expand"]).await.expect(0);
    let new = Writer::start(url, &kind.new, 1);
    old.progress(20).await;
    project.migrate(&["backfill", "--workers", "2"]).await.expect(0);
    register(&mut connection, "web-1", "7").await;
    new.progress(20).await;
    // Both versions have been right all along, and see each other's rows.
    let old = old.stop().await;
    old.expect_no_errors("old code");
    new.progress(20).await;
    let open = shape(&mut connection).await;
    let mut contract = project.migrate(&["contract"]).await;
    contract.expect(0);
    new.progress(20).await;
    if contract.stdout.contains("sealed") {
        // A reopen brings back current data.
        project.migrate(&["reopen", "7", "--accept-nulls"]).await.expect(0);
        let wrong = old.wrong(&mut connection, &kind.old).await;
        assert!(
            wrong.is_empty(),
            "{}: {} of {} rows of old code are wrong after reopen: {}",
            kind.name,
            wrong.len(),
            old.rows.len(),
            wrong[0]
        );
        expect_same(&shape(&mut connection).await, &open, &format!("{}, not as before the seal", kind.name));
        new.progress(20).await;
        contract = project.migrate(&["contract", "--soak", "0s"]).await;
        contract.expect(0);
    }
    contract.says("0007 is done");
    new.progress(20).await;
    let new = new.stop().await;
    new.expect_no_errors("new code");
    let wrong = new.wrong(&mut connection, &kind.new).await;
    assert!(
        wrong.is_empty(),
        "{}: {} of {} rows of new code are wrong: {}",
        kind.name,
        wrong.len(),
        new.rows.len(),
        wrong[0]
    );
    expect_same(&shape(&mut connection).await, &plain(kind).await.0, kind.name);
    assert_eq!(leftovers(&mut connection).await, "", "{}", kind.name);
}

async fn abort(kind: &'static Kind) {
    let project = project(kind).await;
    let url = &project.database.url;
    let mut connection = project.database.connect().await;
    let before = shape(&mut connection).await;
    let old = Writer::start(url, &kind.old, 0);
    project.migrate(&["expand"]).await.expect(0);
    let new = Writer::start(url, &kind.new, 1);
    new.progress(40).await;
    project.migrate(&["backfill"]).await.expect(0);
    new.progress(20).await;
    let new = new.stop().await;
    new.expect_no_errors("new code");
    if kind.abort_discards {
        project.migrate(&["abort", "7"]).await.expect(4).says("would throw data away");
    }
    project.migrate(&["abort", "7", "--discard-new-data"]).await.expect(0);
    old.progress(20).await;
    let old = old.stop().await;
    old.expect_no_errors("old code");
    let wrong = old.wrong(&mut connection, &kind.old).await;
    assert!(wrong.is_empty(), "{}: {} rows of old code are wrong: {}", kind.name, wrong.len(), wrong[0]);
    let after = shape(&mut connection).await;
    let lines = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
    let (before, after) = (lines(&before), lines(&after));
    let new_lines: Vec<&String> = after
        .iter()
        .filter(|line| !before.contains(line) && !kind.abort_leaves.iter().any(|left| line.starts_with(left)))
        .collect();
    assert_eq!(new_lines, [""; 0], "{}: abort leaves something", kind.name);
    if kind.abort_leaves.is_empty() {
        assert_eq!(after, before, "{}", kind.name);
    }
    assert_eq!(leftovers(&mut connection).await, "", "{}", kind.name);
}

/// What an application has around its table: triggers, row security, roles that own nothing; and clients of other levels
/// than READ COMMITTED, and one that applies changes as a replica does.
async fn surrounded(kind: &'static Kind) {
    let role = format!("pontoon_app_{:x}", fastrand::u64(..));
    let around = format!(
        "CREATE FUNCTION noted() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN coalesce(NEW, OLD); END';
         CREATE TRIGGER a_noted BEFORE INSERT OR UPDATE ON users FOR EACH ROW EXECUTE FUNCTION noted();
         CREATE TRIGGER z_noted AFTER INSERT OR UPDATE OR DELETE ON users FOR EACH ROW EXECUTE FUNCTION noted();
         ALTER TABLE users ENABLE ROW LEVEL SECURITY; CREATE ROLE {role};
         CREATE POLICY application ON users TO {role} USING (true);
         GRANT ALL ON ALL TABLES IN SCHEMA public TO {role}; GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO {role};"
    );
    let project =
        Project::new(&format!("{};\n{around}", kind.setup), &[("0007_change.sql", kind.migration)]).await;
    let url = &project.database.url;
    let mut connection = project.database.connect().await;
    let as_role =
        |level| Manner { prepare: format!("SET ROLE {role}"), level: Some(level), ..Manner::default() };
    // Foreign keys do not cascade there.
    let prepare = "SET session_replication_role = replica".to_owned();
    let replica = Manner { prepare, keeps_rows: true, ..Manner::default() };
    let old = Writer::start_as(url, &kind.old, 0, as_role("REPEATABLE READ"));
    let replica = Writer::start_as(url, &kind.old, 2, replica);
    project.migrate(&["expand"]).await.expect(0);
    let new = Writer::start_as(url, &kind.new, 1, as_role("SERIALIZABLE"));
    old.progress(20).await;
    project.migrate(&["backfill"]).await.expect(0);
    register(&mut connection, "web-1", "7").await;
    new.progress(20).await;
    for (who, writer) in [("old code", old), ("a replica", replica)] {
        let account = writer.stop().await;
        account.expect_no_errors(who);
        let wrong = account.wrong(&mut connection, &kind.old).await;
        assert!(wrong.is_empty(), "{}: {who}: {} rows are wrong: {}", kind.name, wrong.len(), wrong[0]);
    }
    project.migrate(&["contract", "--soak", "0s"]).await.expect(0).says("0007 is done");
    new.progress(20).await;
    let new = new.stop().await;
    new.expect_no_errors("new code");
    let wrong = new.wrong(&mut connection, &kind.new).await;
    assert!(wrong.is_empty(), "{}: {} rows of new code are wrong: {}", kind.name, wrong.len(), wrong[0]);
    run(&mut connection, &format!("DROP OWNED BY {role}; DROP ROLE {role}")).await;
}

/// Every command twice; the second time there is nothing to do.
async fn twice(kind: &'static Kind) {
    let project = project(kind).await;
    let mut connection = project.database.connect().await;
    for command in [&["expand"][..], &["backfill"]] {
        project.migrate(command).await.expect(0);
        project.migrate(command).await.expect(0).says("nothing to");
        expect_restorable(&mut connection).await;
    }
    register(&mut connection, "web-1", "7").await;
    project.migrate(&["contract"]).await.expect(0);
    expect_restorable(&mut connection).await;
    project.migrate(&["contract", "--soak", "0s"]).await.expect(0);
    project.migrate(&["contract"]).await.expect(0).says("nothing to contract");
    project.migrate(&["expand"]).await.expect(0).says("nothing to expand");
    let (plain_shape, plain_rows) = plain(kind).await;
    expect_same(&shape(&mut connection).await, &plain_shape, kind.name);
    assert_eq!(
        old_rows(&mut connection).await,
        plain_rows,
        "{}: not the data that the plain SQL gives",
        kind.name
    );
}

/// Runs one journey for every kind, two at a time.
macro_rules! journey {
    ($name:ident, $journey:ident) => {
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $name() {
            let mut done = 0;
            for kind in chosen() {
                println!("{}: {}", stringify!($name), kind.name);
                $journey(kind).await;
                done += 1;
            }
            assert!(done == 51 || is_partial(), "a kind was added or lost: adjust the number");
        }
    };
}

journey!(every_kind_completes_under_traffic, complete);
journey!(every_kind_aborts_under_traffic, abort);
journey!(every_kind_completes_in_its_surroundings, surrounded);
journey!(every_command_twice_is_like_once, twice);
