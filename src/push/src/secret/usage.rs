//! Which hosts use which secrets, as the inventory says it.

use std::collections::{BTreeMap, BTreeSet};

use crate::inventory::Fleet;
use crate::name::{AppName, FileName, HostName};

/// Who uses a secret, on which hosts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Users {
    /// The apps, each with its hosts.
    pub apps: BTreeMap<AppName, BTreeSet<HostName>>,
}

impl Users {
    /// Every host that has to open it.
    pub fn hosts(&self) -> BTreeSet<&HostName> {
        self.apps.values().flatten().collect()
    }

    /// What uses it, for people.
    pub fn names(&self) -> Vec<String> {
        self.apps.keys().map(AppName::to_string).collect()
    }
}

/// The secrets that an environment uses.
pub fn usage(fleet: &Fleet) -> BTreeMap<FileName, Users> {
    let mut all: BTreeMap<FileName, Users> = BTreeMap::new();
    for app in fleet.apps.values() {
        for name in app.secret_names() {
            let users = all.entry(name.clone()).or_default();
            users.apps.insert(app.name.clone(), app.on.clone());
        }
    }
    all
}
