//! `PostgreSQL`'s table lock modes, weakest first, with what each one stops.
//!
//! Source: `PostgreSQL` documentation, section 13.3.1, table of conflicting lock modes.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A table-level lock mode. The order is `PostgreSQL`'s own, from weakest to strongest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) enum LockMode {
    AccessShare,
    RowExclusive,
    ShareUpdateExclusive,
    Share,
    ShareRowExclusive,
    AccessExclusive,
}

impl LockMode {
    /// What the application feels while the lock is held.
    pub(crate) fn effect(self) -> &'static str {
        match self {
            Self::AccessShare | Self::RowExclusive | Self::ShareUpdateExclusive => {
                "blocks no reads or writes"
            }
            Self::Share | Self::ShareRowExclusive => "blocks writes, briefly",
            Self::AccessExclusive => "blocks reads and writes, briefly",
        }
    }

    /// Whether others queue behind the lock while it is waited for, so that the wait must be short.
    pub(crate) fn blocks_traffic(self) -> bool {
        self >= Self::Share
    }
}

impl fmt::Display for LockMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::AccessShare => "ACCESS SHARE",
            Self::RowExclusive => "ROW EXCLUSIVE",
            Self::ShareUpdateExclusive => "SHARE UPDATE EXCLUSIVE",
            Self::Share => "SHARE",
            Self::ShareRowExclusive => "SHARE ROW EXCLUSIVE",
            Self::AccessExclusive => "ACCESS EXCLUSIVE",
        })
    }
}
