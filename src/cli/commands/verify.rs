//! `migrate verify`.

use serde_json::json;

use crate::cli::args::Versions;
use crate::cli::{Context, Exit};
use crate::engine::failure::Outcome;

pub(crate) async fn run(context: &Context, args: &Versions) -> Outcome<Exit> {
    let done = context.config.engine()?.verify(&args.versions).await?;
    let lines: Vec<String> =
        done.iter().map(|version| format!("{version}: old and new columns agree")).collect();
    let text = if lines.is_empty() { "nothing to verify".to_owned() } else { lines.join("\n") };
    let versions: Vec<_> =
        done.iter().map(|version| json!({ "version": version, "verified": true })).collect();
    context.output.result(json!({ "migrations": versions }), &text);
    Ok(Exit::Done)
}
