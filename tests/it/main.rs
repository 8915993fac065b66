//! Everything that needs a server or the program itself. One binary, so that it links once and starts one server.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test that cannot go on has failed, and says with what"
)]

mod adoption;
mod architecture;
mod bad_input;
mod crash;
mod data_jobs;
mod docs;
mod file_order;
mod gate;
mod half_way;
mod in_flight;
mod journeys;
mod late_reads;
mod late_rows;
mod locks;
mod move_conditions;
mod move_keys;
mod moves;
mod objects;
mod partition_rows;
mod partitions;
mod property;
mod readme;
mod renamed_tables;
mod servers;
mod support;
mod symptoms;
mod sync;
mod throttle;
