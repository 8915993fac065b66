//! `migrate completions`.

use clap::CommandFactory;

use crate::cli::args::{Arguments, Completions};
use crate::cli::{Context, Exit};
use crate::engine::failure::Outcome;

pub(crate) fn run(context: &Context, args: &Completions) -> Outcome<Exit> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Arguments::command(), "migrate", &mut script);
    let script = String::from_utf8_lossy(&script);
    context.output.result(serde_json::json!({ "shell": args.shell.to_string(), "script": script }), &script);
    Ok(Exit::Done)
}
