//! `migrate init`.

use serde_json::json;

use crate::cli::{Context, Exit};
use crate::engine::failure::{Failure, Outcome};
use crate::pg::install;

const CONFIG: &str = "\
# Flags and environment variables (DATABASE_URL, MIGRATE_*) go before this file.
# migrations = \"migrations\"
# ledger = \"pontoon\"          # the schema of migrate's own tables
# search_path = [\"public\"]    # how names without a schema are looked up
# lock_timeout = \"300ms\"      # how long a statement may wait for a lock that others queue behind
# lock_total = \"5m\"           # how long a step keeps trying
# quiet = \"60s\"               # contract is refused this long after a write by old code
# soak = \"24h\"                # how long the old shape stays sealed before it is dropped
# batch_target = \"100ms\"      # how long one batch of a backfill should take
# max_replica_lag = \"10s\"     # a backfill pauses while a standby is further behind; \"off\" never looks
# ignored_replicas = []       # application names of standbys that may be behind
# pause_query = \"SELECT …\"    # a backfill pauses while it gives rows; its one column says why
# apps = []                   # applications that must have shown the new version before contract
# protected = false           # refuse `migrate up` and `migrate redo`
";

pub(crate) async fn run(context: &Context) -> Outcome<Exit> {
    let folder = &context.config.migrations;
    let mut lines = Vec::new();
    let write = |what: &str, error: std::io::Error| Failure::failed(format!("cannot make {what}: {error}"));
    if !folder.is_dir() {
        std::fs::create_dir_all(folder).map_err(|error| write("the folder", error))?;
        lines.push(format!("made {}/", folder.display()));
    }
    let config = std::path::Path::new("migrate.toml");
    if !config.exists() {
        std::fs::write(config, CONFIG).map_err(|error| write("migrate.toml", error))?;
        lines.push("made migrate.toml".to_owned());
    }
    let mut installed = None;
    if context.config.database_url.is_some() {
        let engine = context.config.engine()?;
        let mut session = engine.writing_session("migrate init").await?;
        let fresh = install::install(&mut session, &engine.ledger.schema).await?;
        session.close().await;
        installed = Some(fresh);
        let place = engine.target.place();
        lines.push(if fresh {
            format!("installed the ledger in {place}")
        } else {
            format!("the ledger in {place} is in place")
        });
    }
    if lines.is_empty() {
        lines.push("everything is in place".to_owned());
    }
    context.output.result(json!({ "migrations": folder, "ledger_installed": installed }), &lines.join("\n"));
    Ok(Exit::Done)
}
