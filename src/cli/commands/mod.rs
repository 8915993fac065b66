//! The commands, one file each.

mod abort;
mod backfill;
mod baseline;
mod completions;
mod contract;
mod demo;
mod doctor;
mod expand;
mod init;
mod instances;
mod lint;
mod new;
mod plan;
mod redo;
mod reopen;
mod run;
mod status;
mod up;
mod verify;

use crate::cli::{Command, Context, Exit};
use crate::decide::state::State;
use crate::engine::expand::report;
use crate::engine::failure::Outcome;
use crate::words::version::Version;

/// Runs the command.
pub(crate) async fn dispatch(context: &Context, command: &Command) -> Outcome<Exit> {
    match command {
        Command::Init => init::run(context).await,
        Command::New(args) => new::run(context, args).await,
        Command::Lint => lint::run(context).await,
        Command::Plan(args) => plan::run(context, args).await,
        Command::Expand(args) => expand::run(context, args).await,
        Command::Backfill(args) => backfill::run(context, args).await,
        Command::Verify(args) => verify::run(context, args).await,
        Command::Contract(args) => contract::run(context, args).await,
        Command::Reopen(args) => reopen::run(context, args).await,
        Command::Abort(args) => abort::run(context, args).await,
        Command::Baseline(args) => baseline::run(context, args).await,
        Command::Doctor => doctor::run(context).await,
        Command::Up => up::run(context).await,
        Command::Redo => redo::run(context).await,
        Command::Status(args) => status::run(context, args).await,
        Command::Instances => instances::run(context).await,
        Command::Run(args) => run::run(context, args).await,
        Command::Demo(args) => demo::run(context, args).await,
        Command::DemoShop(args) => demo::shop::run(context, args).await,
        Command::Completions(args) => completions::run(context, args),
    }
}

/// The result of a phase: each migration with its new state.
fn states(context: &Context, done: &[(Version, State)], nothing: &str) {
    let (document, text) = report(done);
    context.output.result(document, if done.is_empty() { nothing } else { &text });
}
