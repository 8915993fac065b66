//! Floor 0: the words every other floor speaks. No input or output, no database, no async.

pub(crate) mod checksum;
pub(crate) mod fault;
pub(crate) mod ident;
pub(crate) mod lock_mode;
pub(crate) mod version;
