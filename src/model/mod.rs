//! Floor 1: what migration files say and what a database looks like, as plain values. No input or output but
//! reading the folder of migrations.

pub(crate) mod catalog;
pub(crate) mod directive;
pub(crate) mod migration;
pub(crate) mod object;
pub(crate) mod problem;
pub(crate) mod sql;
