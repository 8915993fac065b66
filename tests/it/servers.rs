//! Servers of other sorts: a standby, one that speaks TLS; and that a password stays where it was given.

use pontoon::pg::local_server::LocalServer;
use rcgen::{CertifiedKey, generate_simple_self_signed};

use super::support::{Project, Ran, connect, finish, program, run, text};

fn server(settings: &[&str], files: &[(&str, &str)]) -> LocalServer {
    LocalServer::start_with(settings, files, &|line| println!("{line}"))
        .expect("this test needs a server of its own: install the server binaries")
}

async fn at(folder: &std::path::Path, url: &str, arguments: &[&str]) -> Ran {
    let mut command = program(folder);
    command.args(arguments).env("DATABASE_URL", url);
    finish(command).await
}

#[tokio::test]
async fn a_standby_is_told_from_a_primary() {
    let server = server(&[], &[("standby.signal", "")]);
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("migrations")).unwrap();
    std::fs::write(folder.path().join("migrations/0001_a.sql"), "CREATE TABLE a (id int);").unwrap();
    let url = server.url("postgres");
    for command in ["init", "expand", "backfill", "contract", "up", "verify"] {
        at(folder.path(), &url, &[command]).await.expect(6).says("is a standby").says("primary");
    }
    at(folder.path(), &url, &["plan"]).await.expect(0).says("CREATE TABLE public.a");
    at(folder.path(), &url, &["status"]).await.expect(0);
}

#[tokio::test]
async fn tls_modes_mean_what_they_mean_for_libpq() {
    let CertifiedKey { cert, signing_key } =
        generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let files = [("server.crt", cert.pem()), ("server.key", signing_key.serialize_pem())];
    let files: Vec<(&str, &str)> = files.iter().map(|(name, text)| (*name, text.as_str())).collect();
    let server = server(&["ssl=on"], &files);
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("migrations")).unwrap();
    let root = folder.path().join("root.crt");
    std::fs::write(&root, cert.pem()).unwrap();
    let root = root.display();
    let url = server.url("postgres").replace("?sslmode=disable", "");
    let named = url.replace("127.0.0.1", "localhost");
    let cases = [
        (format!("{url}?sslmode=disable"), 0),
        (format!("{url}?sslmode=prefer"), 0),
        (format!("{url}?sslmode=require"), 0),
        (format!("{named}?sslmode=verify-full&sslrootcert={root}"), 0),
        (format!("{named}?sslmode=verify-ca&sslrootcert={root}"), 0),
        // Nobody vouches for the server.
        (format!("{named}?sslmode=verify-full"), 6),
        (format!("{named}?sslmode=verify-ca"), 6),
        // Somebody does, but not for this name; only verify-full looks at it.
        (format!("{url}?sslmode=verify-full&sslrootcert={root}"), 6),
        (format!("{url}?sslmode=verify-ca&sslrootcert={root}"), 0),
    ];
    for (url, code) in &cases {
        let mode = url.split_once('?').unwrap().1;
        let ran = at(folder.path(), url, &["status"]).await;
        assert_eq!(ran.code, Some(*code), "{mode}\n{}", ran.stderr);
    }
    // A server that has no TLS is refused by whoever insists on it.
    let plain = self::server(&[], &[]);
    let url = plain.url("postgres").replace("sslmode=disable", "sslmode=require");
    at(folder.path(), &url, &["status"]).await.expect(6);
}

/// What no output, file, process list, ledger row or session may show.
const CANARY: &str = "canary-Hunter2";

/// Everything that other users of the machine or of the database can look at.
async fn shown(project: &Project) -> String {
    let mut shown = String::new();
    for entry in std::fs::read_dir("/proc").into_iter().flatten().filter_map(Result::ok) {
        let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        shown.push_str(&String::from_utf8_lossy(&line));
    }
    let mut connection = project.database.connect().await;
    shown.push_str(
        &text(&mut connection, "SELECT string_agg(concat(application_name, query), ' ') FROM pg_stat_activity WHERE datname = current_database()").await,
    );
    let tables = text(&mut connection, "SELECT string_agg(c.oid::regclass::text, ' ') FROM pg_class AS c WHERE c.relnamespace = to_regnamespace('pontoon') AND c.relkind = 'r'").await;
    assert!(tables.contains("pontoon.instance"), "{tables}");
    for table in tables.split(' ') {
        let rows = format!("SELECT string_agg(t::text, ' ') FROM {table} AS t");
        shown.push_str(&text(&mut connection, &rows).await);
    }
    let mut folders = vec![project.path("")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap().filter_map(Result::ok) {
            if entry.path().is_dir() {
                folders.push(entry.path());
            } else {
                shown.push_str(&std::fs::read_to_string(entry.path()).unwrap_or_default());
            }
        }
    }
    shown
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_password_stays_where_it_was_given() {
    let setup = "CREATE TABLE users (id int PRIMARY KEY, name text); INSERT INTO users VALUES (1, 'Ada');";
    let files = [("0007_a.sql", "ALTER TABLE users RENAME COLUMN name TO full_name;")];
    let project = Project::new(setup, &files).await;
    let database = &project.database;
    let role = format!("owner_{}", database.name);
    database
        .run(&format!(
            "CREATE ROLE {role} LOGIN PASSWORD '{CANARY}'; ALTER DATABASE {} OWNER TO {role};
             ALTER SCHEMA public OWNER TO {role}; ALTER TABLE users OWNER TO {role};",
            database.name
        ))
        .await;
    let tail = database.url.split_once('@').unwrap().1;
    let url = format!("postgres://{role}:{CANARY}@{tail}");
    let commands: [&[&str]; 5] = [
        &["-vv", "expand"],
        &["-vv", "backfill"],
        &["-vv", "run", "--app", "web", "--schema-version", "7", "--", "sleep", "0.3"],
        &["-vv", "contract"],
        &["-vv", "status", "--json"],
    ];
    for arguments in commands {
        let pause = project.path("paused");
        let mut command = project.command_at(&url, arguments);
        command.env("PONTOON_FAULT", "step.before_commit").env("PONTOON_FAULT_PAUSE", &pause);
        let running = tokio::spawn(finish(command));
        while !pause.exists() && !running.is_finished() {
            if arguments[1] == "run" {
                assert!(!shown(&project).await.contains(CANARY), "{arguments:?}");
            }
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        assert!(!shown(&project).await.contains(CANARY), "{arguments:?}");
        let _ = std::fs::remove_file(&pause);
        running.await.unwrap().expect(0).hides(CANARY);
    }
    assert!(!shown(&project).await.contains(CANARY), "at the end");
    // The password is right, and would have been seen where it is looked for.
    run(&mut connect(&url).await, &format!("SET application_name = '{CANARY}'")).await;
    let mut named = connect(&url).await;
    run(&mut named, &format!("SET application_name = '{CANARY}'")).await;
    assert!(shown(&project).await.contains(CANARY));
    drop(named);
    let drop_role =
        format!("REASSIGN OWNED BY {role} TO CURRENT_USER; DROP OWNED BY {role}; DROP ROLE {role}");
    database.run(&drop_role).await;
}
