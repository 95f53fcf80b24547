//! What of a switch could lock the operator out; such a one is confirmed over a new connection.
//!
//! A new kind of declared thing that decides who gets in is added to [`risks`].

use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::effect::changed_keys;
use crate::manifest::Manifest;
use crate::path::HostPath;

/// Why a switch could lock the operator out; such a one is confirmed over a new connection.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Risk {
    /// What is let in changes.
    Firewall,
    /// A file changes that decides who gets in, or how packets travel.
    File(HostPath),
}

impl fmt::Display for Risk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Firewall => f.write_str("the firewall changes"),
            Self::File(path) => write!(f, "{path} changes who can get in"),
        }
    }
}

/// Folders and files that decide who gets in, or how packets travel.
const RISKY: &[&str] = &[
    "/etc/ssh/",
    "/etc/pam.d/",
    "/etc/security/",
    "/etc/sudoers",
    "/etc/network/",
    "/etc/netplan/",
    "/etc/systemd/network/",
    "/etc/systemd/system/ssh",
    "/etc/sysctl.d/",
    "/etc/sysctl.conf",
    "/etc/nftables",
    "/etc/hosts.",
    "/etc/nsswitch.conf",
    "/etc/passwd",
    "/etc/shadow",
    "/etc/group",
];

/// The folder in a home that says which keys may log in (sshd(8)).
const OF_A_HOME: &str = "/.ssh/";

fn is_risky(path: &HostPath) -> bool {
    let path = path.as_str();
    RISKY.iter().any(|prefix| path.starts_with(prefix)) || path.contains(OF_A_HOME)
}

/// What of the change from `from` to `to` could lock the operator out.
pub fn risks(from: &Manifest, to: &Manifest) -> BTreeSet<Risk> {
    let relied_on = from.relied_on(to);
    let mut all = BTreeSet::new();
    if relied_on.nftables() != to.nftables() || from.nftables() != to.nftables() {
        all.insert(Risk::Firewall);
    }
    let (old, relied_on, new) = (from.files(), relied_on.files(), to.files());
    let changed = &changed_keys(&old, &new) | &changed_keys(&relied_on, &new);
    all.extend(
        changed
            .into_iter()
            .filter(|path| is_risky(path))
            .cloned()
            .map(Risk::File),
    );
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Digest;
    use crate::effect::{Effect, effects};
    use crate::firewall::{Firewall, Ping, Ports, Protocol, Rule};
    use crate::manifest::{File, OnChange, Placed, Provenance, Slice};
    use crate::name::UserName;

    fn manifest(slice: Slice) -> Manifest {
        let provenance = Provenance::default();
        let placed = Placed { slice, provenance };
        Manifest {
            slices: [("shop".parse().unwrap(), placed)].into(),
            ..Manifest::empty()
        }
    }

    #[test]
    fn what_could_lock_the_operator_out_is_a_risk_in_both_directions() {
        let mut to = Slice::default();
        let rule = Rule {
            protocol: Protocol::Tcp,
            ports: Ports::one(80),
            from: BTreeSet::new(),
        };
        to.firewall = Some(Firewall {
            allow: [rule].into(),
            ping: Ping::Answered,
            logins: crate::firewall::Logins::Unlimited,
        });
        let file = File {
            digest: Digest::of(""),
            owner: UserName::root(),
            group: UserName::root(),
            mode: 0o644,
            on_change: OnChange::Nothing,
        };
        for path in [
            "/etc/ssh/sshd_config.d/x.conf",
            "/home/deploy/.ssh/authorized_keys",
            "/etc/motd",
        ] {
            to.files.insert(path.parse().unwrap(), file.clone());
        }
        let (from, to) = (manifest(Slice::default()), manifest(to));
        assert_eq!(risks(&from, &to).len(), 3, "all but the greeting");
        assert_eq!(risks(&from, &to), risks(&to, &from));
        assert!(risks(&from, &from).is_empty());
        let mut again = to.clone();
        for placed in again.slices.values_mut() {
            placed.slice.again += 1;
        }
        assert_eq!(risks(&to, &again), risks(&from, &to));
        assert_eq!(risks(&again, &to), risks(&from, &to));
        assert_eq!(effects(&to, &from), [Effect::RemoveFirewall]);
    }
}
