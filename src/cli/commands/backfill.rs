//! `migrate backfill`.

use super::states;
use crate::cli::args::Backfill;
use crate::cli::{Context, Exit};
use crate::engine::backfill::Request;
use crate::engine::failure::Outcome;

pub(crate) async fn run(context: &Context, args: &Backfill) -> Outcome<Exit> {
    let request = Request { versions: args.versions.clone(), workers: usize::from(args.workers) };
    let done = context.config.engine()?.backfill(&request).await?;
    states(context, &done, "nothing to backfill");
    Ok(Exit::Done)
}
