//! `migrate up`.

use super::states;
use crate::cli::{Context, Exit};
use crate::engine::failure::Outcome;

pub(crate) async fn run(context: &Context) -> Outcome<Exit> {
    let done = context.config.engine()?.up().await?;
    states(context, &done, "nothing to do");
    Ok(Exit::Done)
}
