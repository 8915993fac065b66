//! Everything that needs a server or the program itself. One binary, so that it links once and starts one server.

mod architecture;
mod bad_input;
mod crash;
mod gate;
mod journeys;
mod support;
mod sync;
