//! Migration versions: digits, compared as numbers.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The number of a migration. `7` and `0007` are the same version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Version(i64);

impl Version {
    /// The number as the ledger stores it.
    pub(crate) fn number(self) -> i64 {
        self.0
    }
}

impl From<i64> for Version {
    fn from(number: i64) -> Self {
        Self(number)
    }
}

impl fmt::Display for Version {
    /// Four digits at least, as in the names of the files.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04}", self.0)
    }
}

/// A text that is no version.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a version: digits are expected, as in `7` or `0007`, at most 18 of them")]
pub(crate) struct NotAVersion(String);

impl FromStr for Version {
    type Err = NotAVersion;

    fn from_str(text: &str) -> Result<Self, NotAVersion> {
        let digits = !text.is_empty() && text.len() <= 18 && text.bytes().all(|byte| byte.is_ascii_digit());
        if !digits {
            return Err(NotAVersion(text.to_owned()));
        }
        text.parse().map(Self).map_err(|_| NotAVersion(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_compare_as_numbers() {
        let parse = |text: &str| text.parse::<Version>();
        assert_eq!(parse("7"), parse("0007"));
        assert!(parse("10").unwrap() > parse("9").unwrap());
        for bad in ["", "x", "-1", "7a", "1234567890123456789"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
