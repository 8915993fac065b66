//! Floor 3: `PostgreSQL`. Only the modules here name sqlx, and only [`session`] hands it text.

pub(crate) mod adopt;
pub(crate) mod catalog;
pub(crate) mod checkup;
pub(crate) mod error;
pub(crate) mod install;
pub(crate) mod jobs;
pub(crate) mod lease;
pub(crate) mod ledger;
pub mod local_server;
pub(crate) mod locks;
pub(crate) mod registry;
pub(crate) mod replicas;
pub(crate) mod server_archive;
pub(crate) mod session;
pub(crate) mod statements;
