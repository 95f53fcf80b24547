//! The Debian suites that a rehearsal host can run. Knows nothing of how they are made.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::error::Error;

/// A Debian release, by its suite name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Suite {
    /// Debian 12.
    Bookworm,
    /// Debian 13.
    Trixie,
}

/// What is installed on a rehearsal host before anything is done to it.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Furnishing {
    /// All that what is pushed may need.
    #[default]
    Furnished,
    /// What a provider hands over: sshd, and nothing else. The packages that a bootstrap may want lie on the
    /// host as a package source of its own, since rehearsal hosts reach no network.
    Fresh,
}

impl Suite {
    /// Every suite, oldest first.
    pub const ALL: [Self; 2] = [Self::Bookworm, Self::Trixie];

    /// The name that the archive knows it by.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Bookworm => "bookworm",
            Self::Trixie => "trixie",
        }
    }

    /// The number people know it by.
    pub fn number(self) -> u8 {
        match self {
            Self::Bookworm => 12,
            Self::Trixie => 13,
        }
    }
}

impl fmt::Display for Suite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Suite {
    type Err = Error;

    /// Reads a suite's name (`trixie`) or number (`13`).
    fn from_str(text: &str) -> Result<Self, Error> {
        Self::ALL
            .into_iter()
            .find(|suite| text == suite.as_str() || text == suite.number().to_string())
            .ok_or_else(|| Error::UnknownSuite {
                found: text.to_owned(),
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_suite_is_found_by_its_name_and_by_its_number() {
        for suite in Suite::ALL {
            assert_eq!(suite.as_str().parse::<Suite>().unwrap(), suite);
            assert_eq!(suite.number().to_string().parse::<Suite>().unwrap(), suite);
        }
        assert_eq!("13".parse::<Suite>().unwrap(), Suite::Trixie);
    }

    #[test]
    fn an_unknown_suite_is_refused_with_the_ones_there_are() {
        let error = "sid".parse::<Suite>().unwrap_err();
        assert!(error.help().contains("bookworm"), "{}", error.help());
    }
}
