//! Configuration: flags over environment over `migrate.toml` over `.env`.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;

use crate::cli::args::{Arguments, Command};
use crate::cli::output::masked;
use crate::cli::progress::Screen;
use crate::decide::draft::Settings;
use crate::engine::failure::{Failure, Outcome};
use crate::engine::throttle::Throttles;
use crate::engine::{Engine, Limits};
use crate::model::directive::parse_duration;
use crate::pg::ledger::Ledger;
use crate::pg::session::Target;
use crate::words::ident::Ident;

/// What `migrate.toml` may say.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    migrations: Option<PathBuf>,
    database_url: Option<String>,
    ledger: Option<String>,
    search_path: Option<Vec<String>>,
    lock_timeout: Option<String>,
    lock_total: Option<String>,
    quiet: Option<String>,
    soak: Option<String>,
    batch_target: Option<String>,
    max_replica_lag: Option<String>,
    #[serde(default)]
    ignored_replicas: Vec<String>,
    pause_query: Option<String>,
    #[serde(default)]
    apps: Vec<String>,
    #[serde(default)]
    protected: bool,
}

/// The configuration of one call.
pub(crate) struct Config {
    pub(crate) migrations: PathBuf,
    pub(crate) database_url: Option<String>,
    /// Given by the flag itself, not by the environment or a file.
    pub(crate) explicit_url: Option<String>,
    pub(crate) settings: Settings,
    pub(crate) limits: Limits,
    json: bool,
    dot_env: BTreeMap<String, String>,
}

impl Config {
    pub(crate) fn load(arguments: &Arguments) -> Outcome<Self> {
        let global = &arguments.global;
        // The demo touches nothing that belongs to anybody.
        let isolated = matches!(arguments.command, Command::Demo(_));
        let dot_env = if isolated { BTreeMap::new() } else { read_dot_env() };
        let file = if isolated { File::default() } else { read_file(global.config.as_ref())? };
        let env = |name: &str| {
            if isolated { None } else { std::env::var(name).ok().filter(|value| !value.is_empty()) }
        };
        let database_url = global
            .database_url
            .clone()
            .or_else(|| env("DATABASE_URL"))
            .or(file.database_url)
            .or_else(|| dot_env.get("DATABASE_URL").cloned());
        let migrations = global
            .migrations
            .clone()
            .or_else(|| env("MIGRATE_MIGRATIONS").map(PathBuf::from))
            .or(file.migrations)
            .or_else(|| dot_env.get("MIGRATE_MIGRATIONS").map(PathBuf::from))
            .unwrap_or_else(|| PathBuf::from("migrations"));
        let search_path = file.search_path.unwrap_or_else(|| vec!["public".to_owned()]);
        if search_path.is_empty() {
            return Err(Failure::usage("migrate.toml: search_path names no schema"));
        }
        let ledger = env("MIGRATE_LEDGER").or(file.ledger).unwrap_or_else(|| "pontoon".to_owned());
        let duration = |name: &str, text: Option<String>, otherwise: Duration| match text {
            None => Ok(otherwise),
            Some(text) => parse_duration(&text).ok_or_else(|| {
                Failure::usage(format!("migrate.toml: {name} = \"{text}\" is no duration"))
                    .next("write it like 300ms, 30s, 10m, 24h or 7d")
            }),
        };
        let lag = env("MIGRATE_MAX_REPLICA_LAG").or(file.max_replica_lag);
        Ok(Self {
            migrations,
            database_url,
            explicit_url: global.database_url.clone(),
            settings: Settings {
                ledger: Ident::new(ledger),
                search_path: search_path.into_iter().map(Ident::new).collect(),
            },
            limits: Limits {
                lock_timeout: duration(
                    "lock_timeout",
                    env("MIGRATE_LOCK_TIMEOUT").or(file.lock_timeout),
                    Duration::from_millis(300),
                )?,
                lock_total: duration(
                    "lock_total",
                    env("MIGRATE_LOCK_TOTAL").or(file.lock_total),
                    Duration::from_secs(300),
                )?,
                quiet: duration("quiet", env("MIGRATE_QUIET").or(file.quiet), Duration::from_secs(60))?,
                soak: duration("soak", env("MIGRATE_SOAK").or(file.soak), Duration::from_secs(86_400))?,
                batch_target: duration(
                    "batch_target",
                    env("MIGRATE_BATCH_TARGET").or(file.batch_target),
                    Duration::from_millis(100),
                )?,
                throttles: Throttles {
                    max_replica_lag: match lag.as_deref() {
                        Some("off") => None,
                        _ => Some(duration("max_replica_lag", lag.clone(), Duration::from_secs(10))?),
                    },
                    insists: lag.is_some(),
                    ignored_replicas: file.ignored_replicas,
                    pause_query: env("MIGRATE_PAUSE_QUERY").or(file.pause_query),
                },
                apps: file.apps,
                protected: file.protected,
            },
            json: global.json,
            dot_env,
        })
    }

    /// A setting of `migrate run`: the flag, the environment, `.env`.
    pub(crate) fn named(&self, flag: Option<&String>, variable: &str) -> Option<String> {
        flag.cloned()
            .or_else(|| std::env::var(variable).ok().filter(|value| !value.is_empty()))
            .or_else(|| self.dot_env.get(variable).cloned())
    }

    pub(crate) fn engine(&self) -> Outcome<Engine> {
        let Some(url) = &self.database_url else {
            return Err(Failure::usage("no database is given")
                .next("set DATABASE_URL, or add --database-url postgres://user@host:port/name"));
        };
        self.engine_for(url)
    }

    pub(crate) fn engine_for(&self, url: &str) -> Outcome<Engine> {
        let target = Target::parse(url).map_err(Failure::usage)?;
        Ok(Engine {
            target,
            ledger: Ledger::new(self.settings.ledger.clone()),
            settings: self.settings.clone(),
            limits: self.limits.clone(),
            folder: self.migrations.clone(),
            observer: Arc::new(Screen::new(self.json)),
        })
    }
}

fn read_file(named: Option<&PathBuf>) -> Outcome<File> {
    let path = named.cloned().unwrap_or_else(|| PathBuf::from("migrate.toml"));
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && named.is_none() => {
            return Ok(File::default());
        }
        Err(error) => return Err(Failure::usage(format!("cannot read `{}`: {error}", path.display()))),
    };
    toml::from_str(&text).map_err(|error| {
        // The excerpt that the parser shows could hold a password.
        let line =
            error.span().map_or(0, |span| text[..span.start.min(text.len())].matches('\n').count() + 1);
        Failure::usage(masked(&format!("`{}`, line {line}: {}", path.display(), error.message())))
    })
}

fn read_dot_env() -> BTreeMap<String, String> {
    dotenvy::from_path_iter(".env")
        .map(|entries| entries.filter_map(Result::ok).collect())
        .unwrap_or_default()
}
