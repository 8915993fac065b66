//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::model::directive::parse_duration;
use crate::words::version::Version;

/// Zero-downtime schema migrations for `PostgreSQL`: expand, backfill, contract
#[derive(Debug, Parser)]
#[command(name = "migrate", version, about, max_term_width = 100)]
#[command(
    after_help = "Exit codes: 0 done, 1 failed, 2 usage, 3 work pending (with --exit-code), 4 refused by a safety check,
5 another runner is at work, 6 the database cannot be used, 130/143 interrupted."
)]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(crate) global: Global,
    /// Write logs to stderr; twice for every statement
    #[arg(long, short, global = true, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Flags of every command.
#[derive(Debug, Clone, Args)]
pub(crate) struct Global {
    /// The database, as postgres://user@host:port/name [env: `DATABASE_URL`]
    #[arg(long, global = true, value_name = "URL")]
    pub(crate) database_url: Option<String>,
    /// The folder of migrations [env: `MIGRATE_MIGRATIONS`] [default: migrations]
    #[arg(long, global = true, value_name = "DIR")]
    pub(crate) migrations: Option<PathBuf>,
    /// The configuration file [default: migrate.toml]
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Print the result as JSON
    #[arg(long, global = true)]
    pub(crate) json: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Make the folder and migrate.toml, and install the ledger if a database is given
    Init,
    /// Make a new migration file, or give one a later number
    New(New),
    /// Check the files; with a database, everything the planner would refuse
    Lint,
    /// Show what would run, and change nothing
    Plan(PlanArgs),
    /// Add the new shape beside the old one: run it before the deploy
    Expand(Expand),
    /// Move the data, in batches: run it after expand, on as many machines as you like
    Backfill(Backfill),
    /// Compare old and new columns again
    Verify(Versions),
    /// Take the old shape away, once no instance uses it
    Contract(Contract),
    /// Bring a sealed old shape back
    Reopen(Reopen),
    /// Undo an expand
    Abort(Abort),
    /// Run every phase of everything that is due, for a database that nobody serves from
    Up,
    /// Abort and expand the newest migration, for development
    Redo,
    /// Take over a database that has a history of its own: everything up to a version counts as applied
    Baseline(Baseline),
    /// Look for what is wrong with the database and the ledger
    Doctor,
    /// Show the state of every migration
    Status(Status),
    /// Show the registered instances
    Instances,
    /// Run a program as a registered instance
    Run(Run),
    /// See the whole loop on a throwaway database
    Demo(Demo),
    /// The application of the demo
    #[command(hide = true)]
    DemoShop(DemoShop),
    /// Print a completion script
    Completions(Completions),
}

#[derive(Debug, Args)]
pub(crate) struct New {
    /// A few words, such as "split name"
    #[arg(required_unless_present = "renumber")]
    pub(crate) name: Option<String>,
    /// Give this file the next free number instead
    #[arg(long, value_name = "FILE", conflicts_with = "name")]
    pub(crate) renumber: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct PlanArgs {
    /// Name the steps and their locks only, without statements
    #[arg(long)]
    pub(crate) brief: bool,
    /// Plan up to this version, an aborted one included
    #[arg(long, value_name = "VERSION")]
    pub(crate) to: Option<Version>,
    /// Exit with 3 if there is anything to expand
    #[arg(long)]
    pub(crate) exit_code: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Expand {
    /// Expand up to this version
    #[arg(long, value_name = "VERSION")]
    pub(crate) to: Option<Version>,
    /// Run only the plan with this hash, as `plan` prints it
    #[arg(long, value_name = "HASH")]
    pub(crate) plan: Option<String>,
    /// Do to the data once more what an aborted try has left in place
    #[arg(long)]
    pub(crate) again: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Backfill {
    /// Only these; everything that is due if none is named
    pub(crate) versions: Vec<Version>,
    /// Batches at a time
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=64))]
    pub(crate) workers: u16,
}

#[derive(Debug, Args)]
pub(crate) struct Versions {
    /// Only these; everything that is due if none is named
    pub(crate) versions: Vec<Version>,
}

#[derive(Debug, Args)]
pub(crate) struct Contract {
    /// Only these; everything that is due if none is named
    pub(crate) versions: Vec<Version>,
    /// Look at the gate and change nothing
    #[arg(long)]
    pub(crate) check: bool,
    /// Wait this long for the gate to open
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub(crate) wait: Option<Duration>,
    /// How long the old shape stays sealed before it is dropped [default: 24h]
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub(crate) soak: Option<Duration>,
    /// Contract what is open, and exit with 0 even if something is not
    #[arg(long)]
    pub(crate) if_open: bool,
    /// Overlook a kind of reason, as the refusal names it; may be given several times
    #[arg(long, value_name = "REASON", requires = "because", value_parser = clap::builder::PossibleValuesParser::new(crate::decide::gate::OVERRIDABLE))]
    pub(crate) r#override: Vec<String>,
    /// Why; it is kept in the ledger
    #[arg(long, value_name = "TEXT", requires = "override")]
    pub(crate) because: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Reopen {
    pub(crate) version: Version,
    /// Reopen although rows written since the seal have no old value
    #[arg(long)]
    pub(crate) accept_nulls: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Abort {
    pub(crate) version: Version,
    /// Abort although values are lost that only the new shape holds
    #[arg(long)]
    pub(crate) discard_new_data: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Baseline {
    /// The newest migration that is applied; if none is named, what the history of Flyway, sqlx, Rails, golang-migrate, dbmate,
    /// Ecto, Refinery, Diesel, Knex or node-pg-migrate says
    pub(crate) version: Option<Version>,
}

#[derive(Debug, Args)]
pub(crate) struct Status {
    /// Exit with 3 if any migration is not done
    #[arg(long)]
    pub(crate) exit_code: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Run {
    /// The application's name [env: `MIGRATE_APP`]
    #[arg(long)]
    pub(crate) app: Option<String>,
    /// The name of this process among its equals [env: `MIGRATE_INSTANCE`] [default: host:pid]
    #[arg(long)]
    pub(crate) instance: Option<String>,
    /// The newest migration that the program was written for [env: `MIGRATE_SCHEMA_VERSION`]
    #[arg(long, value_name = "VERSION")]
    pub(crate) schema_version: Option<Version>,
    /// Older migrations whose old schema it still uses
    #[arg(long, value_name = "VERSION", value_delimiter = ',')]
    pub(crate) still_uses: Vec<Version>,
    /// How long it counts as alive without a sign of life
    #[arg(long, default_value = "30s", value_parser = duration)]
    pub(crate) ttl: Duration,
    /// How long to wait until the version may serve
    #[arg(long, default_value = "10m", value_parser = duration)]
    pub(crate) wait: Duration,
    /// The program and its arguments
    #[arg(last = true, required = true)]
    pub(crate) command: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Demo {
    /// Customers in the shop
    #[arg(long, default_value_t = 500_000)]
    pub(crate) customers: u32,
    /// What the migration does
    #[arg(long, default_value = "split")]
    pub(crate) story: Story,
}

/// What the demo's migration does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Story {
    /// One column becomes two
    Split,
    /// Keys that are int, and all that points at them, become bigint
    Bigint,
}

#[derive(Debug, Args)]
pub(crate) struct DemoShop {
    #[arg(long)]
    pub(crate) code: CodeVersion,
    #[arg(long)]
    pub(crate) story: Story,
    #[arg(long)]
    pub(crate) worker: u32,
    #[arg(long)]
    pub(crate) report: PathBuf,
    #[arg(long)]
    pub(crate) phase_file: PathBuf,
    #[arg(long)]
    pub(crate) customers: u32,
}

/// Which version of the demo's application runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum CodeVersion {
    V1,
    V2,
}

#[derive(Debug, Args)]
pub(crate) struct Completions {
    pub(crate) shell: clap_complete::Shell,
}

fn duration(text: &str) -> Result<Duration, String> {
    parse_duration(text).ok_or_else(|| "a duration is digits and a unit: 300ms, 30s, 10m, 24h, 7d".to_owned())
}
