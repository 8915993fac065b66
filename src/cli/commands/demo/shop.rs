use crate::cli::args::DemoShop;
use crate::cli::{Context, Exit};
use crate::engine::failure::Outcome;
pub(crate) async fn run(_context: &Context, _args: &DemoShop) -> Outcome<Exit> {
    Ok(Exit::Done)
}
