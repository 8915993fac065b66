//! `migrate reopen`.

use super::states;
use crate::cli::args::Reopen;
use crate::cli::{Context, Exit};
use crate::engine::failure::Outcome;

pub(crate) async fn run(context: &Context, args: &Reopen) -> Outcome<Exit> {
    let state = context.config.engine()?.reopen(args.version, args.accept_nulls).await?;
    states(context, &[(args.version, state)], "");
    Ok(Exit::Done)
}
