//! Who may open which secrets of an environment, as the inventory declares it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use super::PublicKey;
use crate::name::{FileName, NameError, PersonName};

/// The word for the hosts that use a secret.
const HOSTS: &str = "hosts";

/// The key of the line for every secret without one of its own.
pub(super) const EVERY: &str = "*";

/// A word of a line that says who may open a secret.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Who {
    /// The hosts that use it, by their pinned keys: so that it can travel as it is.
    Hosts,
    /// A person or a group.
    Named(PersonName),
}

impl FromStr for Who {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Self, NameError> {
        match text {
            HOSTS => Ok(Self::Hosts),
            name => name.parse().map(Self::Named),
        }
    }
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Hosts => f.pad(HOSTS),
            Self::Named(name) => f.pad(name.as_str()),
        }
    }
}

/// People, groups, and what they may open. Every name in a group or line is declared.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Readers {
    /// The keys of each person; never empty.
    pub people: BTreeMap<PersonName, Vec<PublicKey>>,
    /// The people of each group.
    pub groups: BTreeMap<PersonName, BTreeSet<PersonName>>,
    /// Who opens every secret that has no line of its own.
    pub every: BTreeSet<Who>,
    /// Who opens these.
    pub own: BTreeMap<FileName, BTreeSet<Who>>,
}

impl Readers {
    /// The words of the line that counts for a secret.
    pub fn of(&self, secret: &FileName) -> &BTreeSet<Who> {
        self.own.get(secret).unwrap_or(&self.every)
    }

    /// Whether nobody is declared for anything.
    pub fn is_empty(&self) -> bool {
        self.people.is_empty() && self.every.is_empty() && self.own.is_empty()
    }

    /// Whether the hosts that use a secret open it as it is sealed.
    pub fn includes_hosts(&self, secret: &FileName) -> bool {
        self.of(secret).contains(&Who::Hosts)
    }

    /// The people that open a secret, those of groups included.
    pub fn people_of(&self, secret: &FileName) -> BTreeSet<&PersonName> {
        let named = self.of(secret).iter().filter_map(|reader| match reader {
            Who::Hosts => None,
            Who::Named(name) => Some(name),
        });
        named.flat_map(|name| self.members(name)).collect()
    }

    /// The people behind a name: those of a group, or the person.
    pub fn members<'a>(&'a self, name: &'a PersonName) -> Vec<&'a PersonName> {
        match self.groups.get(name) {
            Some(people) => people.iter().collect(),
            None => vec![name],
        }
    }

    /// Every name that a line may hold, `hosts` first.
    pub fn words(&self) -> Vec<&str> {
        let named = self.people.keys().chain(self.groups.keys());
        std::iter::once(HOSTS)
            .chain(named.map(PersonName::as_str))
            .collect()
    }
}
