pub(crate) mod shop;
use crate::cli::args::Demo;
use crate::cli::{Context, Exit};
use crate::engine::failure::Outcome;
pub(crate) async fn run(_context: &Context, _args: &Demo) -> Outcome<Exit> {
    Ok(Exit::Done)
}
