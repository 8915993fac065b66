//! A database per test, the program, and clients that write and account for what they wrote.

pub(crate) mod kinds;
pub(crate) mod proxy;
pub(crate) mod shape;
pub(crate) mod traffic;

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::{LazyLock, Mutex, OnceLock};

use pontoon::pg::local_server::LocalServer;
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection, Executor, Row};

/// The server of this run: the one that `DATABASE_URL` names, else a throwaway one. Never skipped.
fn server_url(database: &str) -> String {
    static OWN: OnceLock<Option<LocalServer>> = OnceLock::new();
    let own = OWN.get_or_init(|| match std::env::var("DATABASE_URL") {
        Ok(url) if !url.is_empty() => None,
        _ => Some(
            LocalServer::start(
                &[
                    "max_connections=300",
                    "max_prepared_transactions=10",
                    "autovacuum=off",
                    "jit=off",
                    "max_wal_size=256MB",
                    "update_process_title=off",
                ],
                &|line| println!("{line}"),
            )
            .expect("the tests need PostgreSQL: set DATABASE_URL, or install the server binaries"),
        ),
    });
    match own {
        Some(server) => server.url(database),
        None => {
            let url = std::env::var("DATABASE_URL").unwrap();
            let (base, query) = url.split_once('?').unwrap_or((&url, ""));
            let host = base
                .rsplit_once('/')
                .filter(|(host, _)| host.contains('@') || host.matches('/').count() > 1)
                .map_or(base, |(host, _)| host);
            format!("{host}/{database}?{query}")
        }
    }
}

/// A database of its own, dropped at the end.
pub(crate) struct Database {
    pub(crate) name: String,
    pub(crate) url: String,
}

/// Where databases are made and dropped. A connection belongs to a runtime, and each test has another.
static ADMINISTRATION: LazyLock<tokio::runtime::Runtime> = LazyLock::new(|| {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
});

/// Runs a statement on a connection that stays: to connect costs as much as a database.
async fn administer(sql: String) {
    static IDLE: Mutex<Vec<PgConnection>> = Mutex::new(Vec::new());
    let done = ADMINISTRATION.spawn(async move {
        let idle = IDLE.lock().unwrap().pop();
        let mut connection = match idle {
            Some(connection) => connection,
            None => connect(&server_url("postgres")).await,
        };
        run(&mut connection, &sql).await;
        IDLE.lock().unwrap().push(connection);
    });
    done.await.unwrap();
}

impl Database {
    pub(crate) async fn new() -> Self {
        let name = format!("pontoon_test_{:x}", fastrand::u64(..));
        administer(format!("CREATE DATABASE {name}")).await;
        Self { url: server_url(&name), name }
    }

    /// A copy as it is now. Sessions in it must be at their end.
    pub(crate) async fn copy(&self) -> Self {
        let name = format!("pontoon_test_{:x}", fastrand::u64(..));
        administer(format!("CREATE DATABASE {name} TEMPLATE {}", self.name)).await;
        Self { url: server_url(&name), name }
    }

    pub(crate) async fn connect(&self) -> PgConnection {
        connect(&self.url).await
    }

    pub(crate) async fn run(&self, sql: &str) {
        run(&mut self.connect().await, sql).await;
    }

    pub(crate) async fn text(&self, sql: &str) -> String {
        text(&mut self.connect().await, sql).await
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        let sql = format!("DROP DATABASE {} WITH (FORCE)", self.name);
        // A thread of its own: a runtime cannot be entered from within one.
        let dropped = std::thread::spawn(|| ADMINISTRATION.block_on(administer(sql)));
        // Others on this worker may hold a connection that DROP DATABASE waits for.
        let many = tokio::runtime::Handle::try_current()
            .is_ok_and(|runtime| runtime.runtime_flavor() == tokio::runtime::RuntimeFlavor::MultiThread);
        let _ = if many { tokio::task::block_in_place(|| dropped.join()) } else { dropped.join() };
    }
}

pub(crate) async fn connect(url: &str) -> PgConnection {
    PgConnection::connect(url).await.unwrap_or_else(|error| panic!("cannot connect: {error}"))
}

/// Runs statements that must succeed.
pub(crate) async fn run(connection: &mut PgConnection, sql: &str) {
    try_run(connection, sql).await.unwrap_or_else(|error| panic!("{error}\n{sql}"));
}

pub(crate) async fn try_run(connection: &mut PgConnection, sql: &str) -> Result<(), sqlx::Error> {
    connection.execute(sqlx::raw_sql(AssertSqlSafe(sql.to_owned()))).await.map(drop)
}

/// The first column of the first row as text; empty if there is none.
pub(crate) async fn text(connection: &mut PgConnection, sql: &str) -> String {
    let row = connection
        .fetch_optional(sqlx::raw_sql(AssertSqlSafe(sql.to_owned())))
        .await
        .unwrap_or_else(|error| panic!("{error}\n{sql}"));
    row.and_then(|row| row.try_get_unchecked::<Option<String>, _>(0).unwrap()).unwrap_or_default()
}

/// A folder of migrations and a database to run them on.
pub(crate) struct Project {
    pub(crate) database: Database,
    folder: tempfile::TempDir,
}

/// What the program said.
#[derive(Debug, Clone)]
pub(crate) struct Ran {
    /// None if a signal ended it.
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ran {
    #[track_caller]
    pub(crate) fn expect(&self, code: i32) -> &Self {
        assert_eq!(self.code, Some(code), "stdout:\n{}\nstderr:\n{}", self.stdout, self.stderr);
        self
    }

    #[track_caller]
    pub(crate) fn says(&self, part: &str) -> &Self {
        assert!(
            self.stdout.contains(part) || self.stderr.contains(part),
            "`{part}` is not in\nstdout:\n{}\nstderr:\n{}",
            self.stdout,
            self.stderr
        );
        self
    }

    #[track_caller]
    pub(crate) fn hides(&self, secret: &str) -> &Self {
        assert!(!self.stdout.contains(secret) && !self.stderr.contains(secret), "`{secret}` is shown");
        self
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}\n{}", self.stdout))
    }
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

impl Project {
    /// A database prepared by `setup`, and the files, named without the folder.
    pub(crate) async fn new(setup: &str, files: &[(&str, &str)]) -> Self {
        let project = Self::on(Database::new().await, files);
        project.database.run(setup).await;
        project
    }

    /// A database that is there already, and the files.
    pub(crate) fn on(database: Database, files: &[(&str, &str)]) -> Self {
        let project = Self { database, folder: tempfile::tempdir().unwrap() };
        std::fs::create_dir(project.path("migrations")).unwrap();
        for (name, text) in files {
            project.write(name, text);
        }
        project
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path("migrations").join(name), text).unwrap();
    }

    /// The program with the folder and the database, and nothing of the caller's environment that it would read.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        self.command_at(&self.database.url, arguments)
    }

    pub(crate) fn command_at(&self, url: &str, arguments: &[&str]) -> Command {
        let mut command = program(self.folder.path());
        command.args(arguments).env("DATABASE_URL", url).env("MIGRATE_QUIET", "0s");
        command
    }

    pub(crate) async fn migrate(&self, arguments: &[&str]) -> Ran {
        finish(self.command(arguments)).await
    }

    /// Registers an instance of a version and lets it live for a minute.
    pub(crate) async fn register(&self, instance: &str, version: &str) -> i64 {
        register(&mut self.database.connect().await, instance, version).await
    }
}

/// Registers an instance over a connection that is there.
pub(crate) async fn register(connection: &mut PgConnection, instance: &str, version: &str) -> i64 {
    let sql = format!(
        "SELECT incarnation::text FROM pontoon.register('web', '{instance}', '{version}', '1 minute')"
    );
    text(connection, &sql).await.parse().unwrap()
}

/// The program in a folder, with a clean environment.
pub(crate) fn program(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_migrate"));
    command
        .current_dir(folder)
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .stdin(Stdio::null());
    command
}

pub(crate) async fn finish(mut command: Command) -> Ran {
    tokio::task::spawn_blocking(move || command.output().unwrap().into()).await.unwrap()
}
