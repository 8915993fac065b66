//! Pontoon: zero-downtime schema migrations for `PostgreSQL`.
//!
//! A plain SQL migration is compiled into three phases: **expand** adds the new shape beside the old one, **backfill**
//! moves the data, **contract** takes the old shape away once no registered instance uses it.
//!
//! Six floors; a module uses its own and those below, and `tests/it/architecture.rs` enforces it.
//!
//! | floor | module | holds |
//! |---|---|---|
//! | 5 | [`cli`] | the command line, output, progress, the demo |
//! | 4 | `engine` | expand, backfill, contract, reopen, abort, run |
//! | 3 | [`pg`] | sessions, catalog, ledger, lease, registry; the only floor that names sqlx |
//! | 2 | `decide` | plans, sync triggers, states, the gate, history: pure functions |
//! | 1 | `model` | migration files, SQL reading, catalog snapshots |
//! | 0 | `words` | identifiers, versions, lock modes, checksums, fault points |

pub mod cli;
pub(crate) mod decide;
pub(crate) mod engine;
pub(crate) mod model;
pub mod pg;
pub(crate) mod words;

pub use engine::client;
