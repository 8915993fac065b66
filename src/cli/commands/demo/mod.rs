//! `migrate demo`: the whole loop on a throwaway database, with an application that writes all the time.

mod result;
pub(crate) mod shop;

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::process::{Child, Command};

use crate::cli::args::{Demo, Story};
use crate::cli::output::say;
use crate::cli::{Context, Exit};
use crate::engine::failure::{Failure, Outcome};
use crate::pg::local_server::{LocalServer, LocalServerError};
use crate::pg::session::{Session, Target};

use result::Tally;
use shop::WORKERS;

/// The files of a story: the shop, and the migration with its name.
struct Files {
    shop: &'static str,
    name: &'static str,
    migration: &'static str,
    /// Counts what old code would find wrong after the reopen.
    stale: &'static str,
}

const SPLIT: Files = Files {
    shop: include_str!("../../../../migrations-example/0001_shop.sql"),
    name: "migrations/0002_split_name.sql",
    migration: include_str!("../../../../migrations-example/0002_split_name.sql"),
    stale: "SELECT count(*) AS value FROM public.customers WHERE name IS DISTINCT FROM concat_ws(' ', first_name, last_name)",
};

const BIGINT: Files = Files {
    shop: include_str!("../../../../migrations-example/bigint/0001_shop.sql"),
    name: "migrations/0002_bigint.sql",
    migration: include_str!("../../../../migrations-example/bigint/0002_bigint.sql"),
    stale: "SELECT count(*) AS value FROM public.orders AS o WHERE NOT EXISTS (SELECT FROM public.customers AS c WHERE c.id = o.customer_id)",
};

/// How long the transactions of the last seal took, from the intent to the record that commits with them.
const SWAP: &str = "SELECT max(extract(epoch FROM s.finished_at - s.started_at) * 1000)::bigint AS value
FROM pontoon.step AS s WHERE s.version = 2 AND s.id LIKE 'seal-%'";

/// How long the shop runs undisturbed between two acts.
const PAUSE: Duration = Duration::from_secs(3);

/// The stage: a database, a folder, and the processes on it.
struct Stage {
    url: String,
    folder: tempfile::TempDir,
    customers: u32,
    story: Story,
    files: Files,
    shops: Vec<Option<Child>>,
    tally: Tally,
}

pub(crate) async fn run(context: &Context, args: &Demo) -> Outcome<Exit> {
    // Where the user names a server, the demo works in a database of its own there, and nowhere else.
    if let Some(url) = &context.config.explicit_url {
        let target = Target::parse(url).map_err(Failure::usage)?;
        let name = format!("pontoon_demo_{:08x}", fastrand::u32(..));
        let mut admin = Session::connect(&target, "migrate demo").await?;
        admin.execute(&format!("CREATE DATABASE {name}")).await?;
        say(&format!("working in the database {name}, which is dropped at the end"));
        let played = play(&with_database(url, &name), args).await;
        admin.execute(&format!("DROP DATABASE {name} WITH (FORCE)")).await?;
        return played;
    }
    let server = LocalServer::start(&["max_connections=60"], &say).map_err(|error| no_server(&error))?;
    say(&format!("started a throwaway PostgreSQL ({}); it is gone when the demo ends", server.described));
    play(&server.url("postgres"), args).await
}

fn no_server(error: &LocalServerError) -> Failure {
    Failure::environment(error.to_string()).next(
        "install the PostgreSQL server package (Debian: apt-get install postgresql; macOS: brew install postgresql), \
         or name a server: migrate demo --database-url postgres://…",
    )
}

/// The URL with another database in it.
fn with_database(url: &str, name: &str) -> String {
    let (base, query) =
        url.split_once('?').map_or((url, String::new()), |(base, query)| (base, format!("?{query}")));
    let host_start = base.find("://").map_or(0, |at| at + 3);
    let host = base[host_start..].find('/').map_or(base, |at| &base[..host_start + at]);
    format!("{host}/{name}{query}")
}

async fn play(url: &str, args: &Demo) -> Outcome<Exit> {
    let folder =
        tempfile::tempdir().map_err(|error| Failure::failed(format!("cannot make a folder: {error}")))?;
    let mut stage = Stage {
        url: url.to_owned(),
        folder,
        customers: args.customers,
        story: args.story,
        files: match args.story {
            Story::Split => SPLIT,
            Story::Bigint => BIGINT,
        },
        shops: Vec::new(),
        tally: Tally::default(),
    };
    for _ in 0..WORKERS {
        stage.shops.push(None);
    }
    stage.acts().await?;
    Ok(if stage.tally.show() { Exit::Done } else { Exit::Findings })
}

impl Stage {
    async fn acts(&mut self) -> Outcome<()> {
        self.write("migrations/0001_shop.sql", self.files.shop)?;
        self.act("a shop is opened");
        self.migrate(&["up"], 0).await?;
        self.load().await?;

        self.act("four processes of version 1 read and write all the time");
        self.phase("before")?;
        for worker in 0..WORKERS {
            self.start(worker, "v1").await?;
        }
        tokio::time::sleep(PAUSE).await;

        self.write(self.files.name, self.files.migration)?;
        self.act("the deploy begins: expand adds the new shape beside the old one");
        say(self.files.migration);
        self.phase("expand")?;
        self.migrate(&["expand"], 0).await?;
        tokio::time::sleep(PAUSE).await;

        self.act("backfill moves the data, in batches");
        self.phase("backfill")?;
        self.migrate(&["backfill"], 0).await?;

        self.act("version 2 is rolled out; one process of version 1 stays");
        self.phase("rollout")?;
        for worker in 0..WORKERS - 1 {
            self.replace(worker).await?;
        }
        tokio::time::sleep(PAUSE).await;
        self.migrate(&["instances"], 0).await?;

        self.act("contract is refused while it lives");
        self.migrate(&["contract"], 4).await?;

        self.act("it leaves, and contract seals the old shape");
        self.replace(WORKERS - 1).await?;
        tokio::time::sleep(PAUSE).await;
        self.phase("contract")?;
        self.migrate(&["contract", "--wait", "30s"], 0).await?;
        tokio::time::sleep(PAUSE).await;

        self.act("second thoughts: reopen brings it back, with current data");
        self.phase("reopen")?;
        self.migrate(&["reopen", "2"], 0).await?;
        self.compare().await?;
        tokio::time::sleep(PAUSE).await;

        self.act("contract again, and this time the drop");
        self.phase("drop")?;
        self.migrate(&["contract"], 0).await?;
        self.migrate(&["contract", "--soak", "0s"], 0).await?;
        let mut session = self.session().await?;
        let swap: i64 = session.one(SWAP, &[]).await?;
        session.close().await;
        say(&format!("the longest transaction of the seal held its locks for {swap} ms at most"));
        tokio::time::sleep(PAUSE).await;
        self.migrate(&["status"], 0).await?;
        for worker in 0..WORKERS {
            self.stop(worker, "v2").await?;
        }
        Ok(())
    }

    fn act(&self, title: &str) {
        say(&format!("\n-- {title}"));
    }

    fn phase(&self, name: &str) -> Outcome<()> {
        self.write("phase", name)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, text: &str) -> Outcome<()> {
        let path = self.path(name);
        let made = path.parent().map_or(Ok(()), std::fs::create_dir_all).and_then(|()| {
            // Readers look at the file all the time and must find it whole.
            let fresh = path.with_extension("new");
            std::fs::write(&fresh, text)?;
            std::fs::rename(&fresh, &path)
        });
        made.map_err(|error| Failure::failed(format!("cannot write `{}`: {error}", path.display())))
    }

    fn program(&self, arguments: &[&str]) -> Outcome<Command> {
        let program = std::env::current_exe()
            .map_err(|error| Failure::failed(format!("cannot find myself: {error}")))?;
        let mut command = Command::new(program);
        command
            .args(arguments)
            .current_dir(self.folder.path())
            .env("DATABASE_URL", &self.url)
            // A shop at rest for three seconds is quiet enough for a demo.
            .env("MIGRATE_QUIET", "3s")
            .stdin(Stdio::null());
        Ok(command)
    }

    /// Runs a command for everybody to see; it must end with this code.
    async fn migrate(&self, arguments: &[&str], code: i32) -> Outcome<()> {
        say(&format!("$ migrate {}", arguments.join(" ")));
        let status = self.program(arguments)?.status().await;
        let status = status.map_err(|error| Failure::failed(format!("cannot run migrate: {error}")))?;
        if status.code() == Some(code) {
            return Ok(());
        }
        Err(Failure::failed(format!(
            "`migrate {}` ended with {status}, and {code} was expected",
            arguments.join(" ")
        )))
    }

    async fn load(&self) -> Outcome<()> {
        say(&format!("loading {} customers and their orders", self.customers));
        let mut session = self.session().await?;
        let customers = self.customers;
        session
            .execute(&format!(
                "INSERT INTO public.customers (id, name, email) SELECT i, 'First' || i || ' Last' || i, i || '@example.org' FROM generate_series(1, {customers}) AS i;
                 INSERT INTO public.orders (customer_id, cents) SELECT i, i * 7 % 10000 FROM generate_series(1, {customers}) AS i;
                 ANALYZE"
            ))
            .await?;
        session.close().await;
        Ok(())
    }

    async fn session(&self) -> Outcome<Session> {
        let target = Target::parse(&self.url).map_err(Failure::usage)?;
        Ok(Session::connect(&target, "migrate demo").await?)
    }

    /// Old code would read what new code wrote meanwhile.
    async fn compare(&mut self) -> Outcome<()> {
        let mut session = self.session().await?;
        let stale: i64 = session.one(self.files.stale, &[]).await?;
        session.close().await;
        say(&format!("rows that old code would find wrong: {stale}"));
        self.tally.stale += stale;
        Ok(())
    }

    fn report(&self, worker: u32) -> PathBuf {
        self.path(&format!("report-{worker}.json"))
    }

    async fn start(&mut self, worker: u32, code: &str) -> Outcome<()> {
        let schema_version = if code == "v1" { "1" } else { "2" };
        let instance = format!("shop-{worker}-{code}");
        let program = std::env::current_exe().map_err(|error| Failure::failed(error.to_string()))?;
        let mut command = self.program(&[
            "run",
            "--app",
            "shop",
            "--instance",
            &instance,
            "--schema-version",
            schema_version,
            "--",
        ])?;
        command.arg(program).args(["demo-shop", "--code", code]);
        let story = if self.story == Story::Bigint { "bigint" } else { "split" };
        command.args(["--story", story, "--worker", &worker.to_string()]);
        command.args(["--customers", &self.customers.to_string()]);
        command.arg("--report").arg(self.report(worker)).arg("--phase-file").arg(self.path("phase"));
        command.kill_on_drop(true);
        let child =
            command.spawn().map_err(|error| Failure::failed(format!("cannot start {instance}: {error}")))?;
        let place = usize::try_from(worker).unwrap_or_default();
        self.shops[place] = Some(child);
        Ok(())
    }

    /// Ends a process in an orderly way and takes its report into the account.
    async fn stop(&mut self, worker: u32, code: &str) -> Outcome<()> {
        let place = usize::try_from(worker).unwrap_or_default();
        let Some(mut child) = self.shops[place].take() else { return Ok(()) };
        if let Some(pid) = child.id().and_then(|pid| i32::try_from(pid).ok()) {
            let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
        }
        let status = child.wait().await.map_err(|error| Failure::failed(error.to_string()))?;
        let path = self.report(worker);
        let report = shop::read_report(Path::new(&path));
        let Some(report) = report.filter(|_| status.success()) else {
            return Err(Failure::failed(format!(
                "shop-{worker}-{code} ended with {status} and left no report"
            )));
        };
        self.tally.add(code, report);
        Ok(())
    }

    async fn replace(&mut self, worker: u32) -> Outcome<()> {
        self.stop(worker, "v1").await?;
        self.start(worker, "v2").await
    }
}
