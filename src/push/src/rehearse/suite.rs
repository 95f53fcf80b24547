//! The suites of Debian and Ubuntu that a rehearsal host can run. Knows nothing of how they are made.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use push_wire::groundwork::PackageName;
use serde::{Deserialize, Serialize};

use super::error::Error;

/// A release of Debian or Ubuntu, by its suite name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Suite {
    /// Debian 11.
    Bullseye,
    /// Debian 12.
    Bookworm,
    /// Debian 13.
    Trixie,
    /// Ubuntu 22.04.
    Jammy,
    /// Ubuntu 24.04.
    Noble,
}

/// Whose archive a suite is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Distribution {
    /// Debian.
    Debian,
    /// Ubuntu.
    Ubuntu,
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

/// What decides the root file system of a host.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Kind {
    /// The Debian.
    pub suite: Suite,
    /// What is installed.
    pub furnishing: Furnishing,
    /// What a fresh one can install besides what every bootstrap may want.
    pub offered: BTreeSet<PackageName>,
}

impl Suite {
    /// Every suite, oldest first, Debian's before Ubuntu's.
    pub const ALL: [Self; 5] = [
        Self::Bullseye,
        Self::Bookworm,
        Self::Trixie,
        Self::Jammy,
        Self::Noble,
    ];

    /// The name that the archive knows it by.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Bullseye => "bullseye",
            Self::Bookworm => "bookworm",
            Self::Trixie => "trixie",
            Self::Jammy => "jammy",
            Self::Noble => "noble",
        }
    }

    /// The number people know it by, `VERSION_ID` in os-release(5).
    pub fn number(self) -> &'static str {
        match self {
            Self::Bullseye => "11",
            Self::Bookworm => "12",
            Self::Trixie => "13",
            Self::Jammy => "22.04",
            Self::Noble => "24.04",
        }
    }

    /// Whose it is.
    pub fn distribution(self) -> Distribution {
        match self {
            Self::Bullseye | Self::Bookworm | Self::Trixie => Distribution::Debian,
            Self::Jammy | Self::Noble => Distribution::Ubuntu,
        }
    }

    /// The release as people say it: `Debian 12`.
    pub fn title(self) -> String {
        format!("{} {}", self.distribution().name(), self.number())
    }
}

impl Distribution {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Debian => "Debian",
            Self::Ubuntu => "Ubuntu",
        }
    }

    /// The components of its archive that ordinary servers use; nginx is in Ubuntu's `universe`.
    pub fn components(self) -> &'static str {
        match self {
            Self::Debian => "main",
            Self::Ubuntu => "main universe",
        }
    }

    /// The keys that its archive is signed with, where their package puts them (`ubuntu-keyring`, on
    /// Debian 13 and later and on Ubuntu). mmdebstrap finds Debian's by itself.
    pub fn keyring(self) -> Option<&'static str> {
        match self {
            Self::Debian => None,
            Self::Ubuntu => Some("/usr/share/keyrings/ubuntu-archive-keyring.gpg"),
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

    /// Reads a suite's name (`trixie`) or number (`13`, `24.04`).
    fn from_str(text: &str) -> Result<Self, Error> {
        Self::ALL
            .into_iter()
            .find(|suite| text == suite.as_str() || text == suite.number())
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
            assert_eq!(suite.number().parse::<Suite>().unwrap(), suite);
        }
        assert_eq!("13".parse::<Suite>().unwrap(), Suite::Trixie);
    }

    #[test]
    fn an_unknown_suite_is_refused_with_the_ones_there_are() {
        let error = "sid".parse::<Suite>().unwrap_err();
        assert!(error.help().contains("bookworm"), "{}", error.help());
    }
}
