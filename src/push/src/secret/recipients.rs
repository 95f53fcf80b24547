//! Whom a sealed file shall be sealed to, as the inventories declare it.

use std::collections::BTreeMap;

use super::usage::Users;
use super::{Recipient, SecretError};
use crate::inventory::{Fleet, PublicKey};
use crate::name::FileName;

/// Public keys, each with whose it is: `ann`, `host web1`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Recipients(BTreeMap<PublicKey, String>);

impl Recipients {
    /// Those that one environment declares for a secret. Every host that uses it must have a pinned key
    /// that can be sealed to, when hosts are among them.
    pub fn declared(
        fleet: &Fleet,
        secret: &FileName,
        users: Option<&Users>,
    ) -> Result<Self, SecretError> {
        let mut all = BTreeMap::new();
        for person in fleet.readers.people_of(secret) {
            for key in fleet.readers.people.get(person).into_iter().flatten() {
                all.insert(key.clone(), person.to_string());
            }
        }
        let hosts = users.map(Users::hosts).unwrap_or_default();
        let hosts = hosts.into_iter().filter_map(|name| fleet.hosts.get(name));
        for host in hosts.filter(|_| fleet.readers.includes_hosts(secret)) {
            let keys = host.host_keys.iter().filter(|key| key.is_recipient());
            let keys: Vec<PublicKey> = keys.filter_map(|key| key.as_str().parse().ok()).collect();
            if keys.is_empty() {
                return Err(SecretError::Unpinned {
                    host: host.name.to_string(),
                    secret: secret.to_string(),
                    types: host
                        .host_keys
                        .iter()
                        .map(|key| key.algorithm().to_owned())
                        .collect(),
                });
            }
            for key in keys {
                all.entry(key)
                    .or_insert_with(|| host_label(host.name.as_str()));
            }
        }
        Ok(Self(all))
    }

    /// These and those together.
    pub fn and(mut self, other: Self) -> Self {
        for (key, who) in other.0 {
            self.0.entry(key).or_insert(who);
        }
        self
    }

    /// Whether there is nobody.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The keys.
    pub fn keys(&self) -> impl Iterator<Item = &PublicKey> {
        self.0.keys()
    }

    /// The keys, each with whose it is.
    pub fn whose(&self) -> impl Iterator<Item = (&PublicKey, &str)> {
        self.0.iter().map(|(key, who)| (key, who.as_str()))
    }

    /// Whose keys these are, each once.
    pub fn names(&self) -> Vec<&str> {
        let mut names: Vec<&str> = self.0.values().map(String::as_str).collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    /// The lines of the lock: each key, followed by whose it is.
    pub fn lines(&self) -> std::collections::BTreeSet<String> {
        let line = |(key, who): (&PublicKey, &String)| format!("{key} {who}");
        self.0.iter().map(line).collect()
    }

    /// What age seals to.
    pub fn for_age(&self) -> Result<Vec<Recipient>, SecretError> {
        self.0.keys().map(Recipient::try_from).collect()
    }
}

/// What a host is called among recipients.
pub fn host_label(host: &str) -> String {
    format!("host {host}")
}

/// The key and the name of a lock's line.
pub fn line_parts(line: &str) -> (Option<PublicKey>, &str) {
    let words = if line.starts_with("age1") { 1 } else { 2 };
    let end = line
        .match_indices(' ')
        .nth(words - 1)
        .map_or(line.len(), |(at, _)| at);
    let (key, who) = line.split_at(end);
    (key.parse().ok(), who.trim_start())
}
