//! `migrate doctor`.

use serde_json::json;

use crate::cli::{Context, Exit};
use crate::engine::failure::Outcome;

pub(crate) async fn run(context: &Context) -> Outcome<Exit> {
    let findings = context.config.engine()?.doctor().await?;
    let lines: Vec<String> =
        findings.iter().map(|finding| format!("{}\n  next: {}", finding.what, finding.next)).collect();
    let text = if lines.is_empty() { "nothing is wrong".to_owned() } else { lines.join("\n") };
    context.output.result(json!({ "findings": findings }), &text);
    Ok(if findings.is_empty() { Exit::Done } else { Exit::Refused })
}
