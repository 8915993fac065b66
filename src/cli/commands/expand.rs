//! `migrate expand`.

use super::states;
use crate::cli::args::Expand;
use crate::cli::{Context, Exit};
use crate::engine::expand::Request;
use crate::engine::failure::Outcome;

pub(crate) async fn run(context: &Context, args: &Expand) -> Outcome<Exit> {
    let request = Request { to: args.to, plan: args.plan.clone(), again: args.again };
    let done = context.config.engine()?.expand(&request).await?;
    states(context, &done, "nothing to expand");
    Ok(Exit::Done)
}
