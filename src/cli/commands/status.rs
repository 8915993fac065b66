//! `migrate status`.

use comfy_table::{Table, presets};
use serde_json::json;

use crate::cli::args::Status;
use crate::cli::{Context, Exit};
use crate::decide::state::State;
use crate::engine::failure::Outcome;
use crate::engine::overview::Line;

pub(crate) async fn run(context: &Context, args: &Status) -> Outcome<Exit> {
    let overview = context.config.engine()?.overview().await?;
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_header(["VERSION", "NAME", "STATE", "NEXT"]);
    for line in &overview.lines {
        table.add_row([
            line.version.to_string(),
            line.name.clone(),
            describe(line),
            line.next.clone().unwrap_or_default(),
        ]);
    }
    let mut text = if overview.lines.is_empty() { "no migrations".to_owned() } else { table.to_string() };
    if let Some(holder) = &overview.holder {
        text.push_str(&format!(
            "\n`migrate {}` of {} is at work for {} s",
            holder.command, holder.holder, holder.held_seconds
        ));
    }
    for conflict in &overview.conflicts {
        text.push_str(&format!("\n{conflict}"));
    }
    let runner = overview.holder.as_ref().map(|holder| {
        json!({ "holder": holder.holder, "command": holder.command, "held_seconds": holder.held_seconds })
    });
    let document = json!({
        "ledger_installed": overview.installed,
        "migrations": overview.lines,
        "runner": runner,
        "conflicts": overview.conflicts,
    });
    context.output.result(document, &text);
    let pending = overview.lines.iter().any(|line| !matches!(line.state, State::Done | State::Aborted));
    Ok(if args.exit_code && pending { Exit::Pending } else { Exit::Done })
}

fn describe(line: &Line) -> String {
    let mut text = line.state.to_string();
    for job in &line.jobs {
        text.push_str(&format!(
            " ({} of {} {}, {} changed)",
            job.pages_done,
            job.pages,
            job.unit(),
            job.converted
        ));
    }
    if line.entry.as_ref().is_some_and(|entry| entry.verified == Some(false)) {
        text.push_str(", verification failed");
    }
    text
}
