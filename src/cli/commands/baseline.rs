//! `migrate baseline`.

use serde_json::json;

use crate::cli::args::Baseline;
use crate::cli::{Context, Exit};
use crate::engine::failure::Outcome;

pub(crate) async fn run(context: &Context, args: &Baseline) -> Outcome<Exit> {
    let set = context.config.engine()?.baseline(args.version).await?;
    let from = set.history.as_ref().map(|table| format!(", from {table}")).unwrap_or_default();
    let text = match set.unchanged {
        true => format!("the baseline is {} already", set.version),
        false => format!("the baseline is {}{from}: everything up to it counts as applied", set.version),
    };
    let document = json!({ "baseline": set.version, "history": set.history, "unchanged": set.unchanged });
    context.output.result(document, &text);
    Ok(Exit::Done)
}
