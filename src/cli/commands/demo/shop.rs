//! The demo's application: part of the example, not of the engine. It writes and reads all the time, never retries,
//! counts every error, and keeps an account of each row it wrote.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tokio::signal::unix::{SignalKind, signal};

use crate::cli::args::{CodeVersion, DemoShop, Story};
use crate::cli::{Context, Exit};
use crate::engine::failure::{Failure, Outcome};
use crate::pg::error::PgError;
use crate::pg::session::{Session, Target};

/// What one process did, and what must be in the database for it.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Report {
    /// Customers that were written: the number that makes up their name.
    pub(crate) account: BTreeMap<i64, i64>,
    pub(crate) statements: u64,
    pub(crate) errors: Vec<String>,
    pub(crate) wrong: Vec<String>,
    /// Microseconds of every statement, by the phase it fell into.
    pub(crate) latencies: BTreeMap<String, Vec<u32>>,
}

/// Workers of the shop; each has the customers whose number divided by this leaves its own.
pub(crate) const WORKERS: u32 = 4;

struct Shop {
    session: Session,
    code: CodeVersion,
    report: Report,
    phase: String,
}

/// Runs until SIGTERM, then checks its whole account and writes the report.
pub(crate) async fn run(_context: &Context, args: &DemoShop) -> Outcome<Exit> {
    let url = std::env::var("DATABASE_URL").map_err(|_| Failure::usage("DATABASE_URL is not set"))?;
    let target = Target::parse(&url).map_err(Failure::usage)?;
    let session = Session::connect_plain(&target, "shop").await?;
    // The process before this one left its account.
    let account = read_report(&args.report).map(|report| report.account).unwrap_or_default();
    let mut shop = Shop {
        session,
        // Where the type of a key changes, both versions say the same.
        code: if args.story == Story::Bigint { CodeVersion::V1 } else { args.code },
        report: Report { account, ..Report::default() },
        phase: String::new(),
    };
    let mut term = signal(SignalKind::terminate()).map_err(|error| Failure::failed(error.to_string()))?;
    let parent = nix::unistd::getppid();
    let mut looked = Instant::now();
    let mut next = i64::from(args.customers) + 1 + i64::from(args.worker);
    while next % i64::from(WORKERS) != i64::from(args.worker) {
        next += 1;
    }
    if let Some((last, _)) = shop.report.account.last_key_value() {
        next = next.max(last + i64::from(WORKERS));
    }
    shop.phase = std::fs::read_to_string(&args.phase_file).unwrap_or_default();
    loop {
        if looked.elapsed() > Duration::from_millis(50) {
            looked = Instant::now();
            shop.phase = std::fs::read_to_string(&args.phase_file).unwrap_or_default();
            if nix::unistd::getppid() != parent {
                return Ok(Exit::Refused);
            }
        }
        shop.step(args, &mut next).await;
        let pause = Duration::from_micros(fastrand::u64(500..4_000));
        tokio::select! {
            _ = term.recv() => break,
            () = tokio::time::sleep(pause) => {}
        }
    }
    for (id, number) in shop.report.account.clone() {
        shop.check(id, number).await;
    }
    let text = serde_json::to_string(&shop.report).map_err(|error| Failure::failed(error.to_string()))?;
    std::fs::write(&args.report, text)
        .map_err(|error| Failure::failed(format!("cannot write the report: {error}")))?;
    Ok(Exit::Done)
}

/// The report of a process, if it wrote one.
pub(crate) fn read_report(path: &Path) -> Option<Report> {
    serde_json::from_str(&std::fs::read_to_string(path).ok()?).ok()
}

impl Shop {
    /// One statement of a customer's day.
    async fn step(&mut self, args: &DemoShop, next: &mut i64) {
        let workers = i64::from(WORKERS);
        let known = i64::from(args.customers) / workers;
        let id = fastrand::i64(1..known.max(2)) * workers + i64::from(args.worker);
        let number = fastrand::i64(1_000_000..2_000_000);
        match fastrand::u8(0..10) {
            0..4 => {
                let number = self.report.account.get(&id).copied().unwrap_or(id);
                self.check(id, number).await;
            }
            4..7 => {
                let sql = match self.code {
                    CodeVersion::V1 => {
                        format!("UPDATE customers SET name = 'First{number} Last{number}' WHERE id = {id}")
                    }
                    CodeVersion::V2 => format!(
                        "UPDATE customers SET first_name = 'First{number}', last_name = 'Last{number}' WHERE id = {id}"
                    ),
                };
                if self.execute(&sql).await {
                    self.report.account.insert(id, number);
                }
            }
            7 | 8 => {
                let sql = match self.code {
                    CodeVersion::V1 => format!(
                        "INSERT INTO customers (id, name, email) VALUES ({next}, 'First{number} Last{number}', 'new')"
                    ),
                    CodeVersion::V2 => format!(
                        "INSERT INTO customers (id, first_name, last_name, email) VALUES ({next}, 'First{number}', 'Last{number}', 'new')"
                    ),
                };
                if self.execute(&sql).await {
                    self.report.account.insert(*next, number);
                }
                *next += workers;
            }
            _ => {
                self.execute(&format!("INSERT INTO orders (customer_id, cents) VALUES ({id}, {number})"))
                    .await;
            }
        }
    }

    async fn execute(&mut self, sql: &str) -> bool {
        let started = Instant::now();
        let result = self.session.execute(sql).await.map(drop);
        self.count(started, result)
    }

    /// Reads a customer as this version does, and compares with the account.
    async fn check(&mut self, id: i64, number: i64) {
        let sql = match self.code {
            CodeVersion::V1 => format!("SELECT name AS value FROM customers WHERE id = {id}"),
            CodeVersion::V2 => {
                format!("SELECT first_name || ' ' || last_name AS value FROM customers WHERE id = {id}")
            }
        };
        let started = Instant::now();
        let read: Result<String, PgError> = self.session.one(&sql, &[]).await;
        let (value, result) = match read {
            Ok(value) => (Some(value), Ok(())),
            Err(error) => (None, Err(error)),
        };
        self.count(started, result);
        let expected = format!("First{number} Last{number}");
        if let Some(value) = value.filter(|value| *value != expected) {
            self.report.wrong.push(format!("customer {id}: `{value}` instead of `{expected}`"));
        }
    }

    fn count(&mut self, started: Instant, result: Result<(), PgError>) -> bool {
        let micros = u32::try_from(started.elapsed().as_micros()).unwrap_or(u32::MAX);
        self.report.latencies.entry(self.phase.clone()).or_default().push(micros);
        self.report.statements += 1;
        match result {
            Ok(()) => true,
            Err(error) => {
                self.report.errors.push(format!("{}: {error}", self.phase));
                false
            }
        }
    }
}
