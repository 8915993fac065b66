//! Everything that needs a server or the program itself. One binary, so that it links once and starts one server.

mod journeys;
mod support;
