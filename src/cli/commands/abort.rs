//! `migrate abort`.

use super::states;
use crate::cli::args::Abort;
use crate::cli::{Context, Exit};
use crate::engine::failure::Outcome;

pub(crate) async fn run(context: &Context, args: &Abort) -> Outcome<Exit> {
    let state = context.config.engine()?.abort(args.version, args.discard_new_data).await?;
    states(context, &[(args.version, state)], "");
    Ok(Exit::Done)
}
