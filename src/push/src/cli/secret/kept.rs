//! Who opens a secret still after it was taken away: another environment that shares it declares them
//! too, or their key stands under another name.

use std::collections::BTreeSet;
use std::fmt;

use serde::Serialize;

use super::super::Stop;
use super::place::{Secrets, unavailable};
use crate::inventory::{Fleet, PublicKey, Who};
use crate::name::{EnvironmentName, FileName};
use crate::secret::host_label;

/// Those whom something is taken from.
pub struct Leaving {
    is_person: bool,
    people: BTreeSet<String>,
    keys: BTreeSet<PublicKey>,
}

/// One secret that one of them opens still, and the environment that says so.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Kept {
    /// The secret.
    pub secret: FileName,
    /// The environment.
    pub environment: EnvironmentName,
    /// As whom it declares the key.
    pub who: String,
}

impl Leaving {
    /// Those behind a word, as the environment declares them before anything is taken away.
    pub fn of(fleet: &Fleet, who: &Who) -> Self {
        let readers = &fleet.readers;
        let (people, keys) = match who {
            // A host of the same name elsewhere is another machine, unless it has the same key.
            Who::Hosts => {
                let keys = fleet.hosts.values().flat_map(|host| &host.host_keys);
                let keys = keys.filter_map(|key| key.as_str().parse().ok());
                (BTreeSet::new(), keys.collect())
            }
            Who::Named(name) => {
                let members = readers.members(name);
                let keys = members.iter().filter_map(|name| readers.people.get(*name));
                let keys = keys.flatten().cloned().collect();
                (members.iter().map(ToString::to_string).collect(), keys)
            }
        };
        let is_person = matches!(who, Who::Named(name) if !readers.groups.contains_key(name));
        Self {
            is_person,
            people,
            keys,
        }
    }

    /// What they keep of these secrets. One of a group may be named in the environment beside the group,
    /// and is meant to stay.
    pub fn kept(&self, secrets: &Secrets, names: &[FileName]) -> Result<Vec<Kept>, Stop> {
        let mut kept = BTreeSet::new();
        let files = secrets.files.iter();
        for (name, sealed) in files.filter(|(name, _)| names.contains(name)) {
            let declared = secrets.declared(name, sealed);
            for (environment, recipients) in declared.map_err(|error| unavailable(&error))? {
                if *environment == secrets.environment && !self.is_person {
                    continue;
                }
                let theirs = recipients
                    .whose()
                    .filter(|(key, who)| self.keys.contains(*key) || self.people.contains(*who));
                kept.extend(theirs.map(|(_, who)| Kept {
                    secret: name.clone(),
                    environment: environment.clone(),
                    who: who.to_owned(),
                }));
            }
        }
        Ok(kept.into_iter().collect())
    }
}

impl Kept {
    /// What to type.
    pub fn help(&self) -> String {
        let word = if self.who.starts_with(&host_label("")) {
            Who::Hosts.to_string()
        } else {
            self.who.clone()
        };
        format!(
            "`push secret revoke {} {word} {}`",
            self.environment, self.secret
        )
    }
}

impl fmt::Display for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            secret,
            environment,
            who,
        } = self;
        write!(
            f,
            "{who} still opens {secret}: {environment} declares {who}"
        )
    }
}
