//! `migrate contract`.

use comfy_table::{Table, presets};
use serde_json::json;

use crate::cli::args::Contract;
use crate::cli::{Context, Exit};
use crate::decide::gate::Reason;
use crate::decide::state::State;
use crate::engine::contract::{Contracted, Request};
use crate::engine::failure::{Failure, Outcome};

/// Said under every verdict, so that nobody takes it for more than it is.
const UNSEEN: &str = "Reads of the old columns cannot be seen; neither can clients on standbys.";

pub(crate) async fn run(context: &Context, args: &Contract) -> Outcome<Exit> {
    let request = Request {
        versions: args.versions.clone(),
        check: args.check,
        wait: args.wait.unwrap_or_default(),
        soak: args.soak,
        overridden: args.r#override.clone(),
        because: args.because.clone(),
        private: false,
    };
    let (done, failed) = context.config.engine()?.contract(&request).await?;
    let documents: Vec<_> = done.iter().map(document).collect();
    let text: String = done.iter().map(|contracted| describe(contracted, args.check)).collect();
    let document = json!({ "migrations": documents, "note": UNSEEN });
    if let Some(failure) = failed {
        return Err(Failure { beside: Some((document, text)), ..failure });
    }
    let text = if done.is_empty() { "nothing to contract".to_owned() } else { text };
    context.output.result(document, &text);
    let refused = done.iter().any(|contracted| !contracted.reasons.is_empty());
    Ok(if refused && !args.if_open { Exit::Refused } else { Exit::Done })
}

fn document(contracted: &Contracted) -> serde_json::Value {
    let reasons: Vec<_> = contracted
        .reasons
        .iter()
        .map(|reason| {
            let (why, next) = reason.explain();
            json!({ "reason": reason.name(), "why": why, "next": next, "facts": reason })
        })
        .collect();
    json!({
        "version": contracted.version,
        "state": contracted.state,
        "refused": !contracted.reasons.is_empty(),
        "reasons": reasons,
        "drop_due_in_seconds": contracted.drop_due_in_seconds,
    })
}

fn describe(contracted: &Contracted, check: bool) -> String {
    let version = contracted.version;
    if !contracted.reasons.is_empty() {
        return format!(
            "{version} stays as it is: the gate is closed\n{}\n{UNSEEN}\n\
             Run `migrate contract {version}` again when this is settled, with `--wait 10m` to wait for it; to overlook a kind of \
             reason: --override <reason> --because \"…\".\n",
            table(&contracted.reasons)
        );
    }
    match (contracted.state, contracted.drop_due_in_seconds) {
        (State::Ready, _) if check => format!("{version}: the gate is open. {UNSEEN}\n"),
        (State::Sealed, Some(due)) if due > 0 => format!(
            "{version} is sealed: drop due in {}; run `migrate contract {version}` again then, or `migrate reopen {version}` to go back\n",
            human(due)
        ),
        (state, _) => format!("{version} is {state}\n"),
    }
}

fn table(reasons: &[Reason]) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::UTF8_BORDERS_ONLY).set_header(["reason", "why", "what to do"]);
    if let Some(width) = table.width() {
        table.set_width(width.max(80));
    } else {
        table.set_width(120);
    }
    table.set_content_arrangement(comfy_table::ContentArrangement::Dynamic);
    for reason in reasons {
        let (why, next) = reason.explain();
        table.add_row([reason.name().to_owned(), why, next]);
    }
    table
}

fn human(seconds: i64) -> String {
    match seconds {
        0..=119 => format!("{seconds} s"),
        120..=7_199 => format!("{} min", seconds / 60),
        _ => format!("{} h {} min", seconds / 3_600, seconds % 3_600 / 60),
    }
}
