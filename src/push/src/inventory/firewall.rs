//! What a host lets in. Everything else is dropped; what a host sends is not filtered.

use std::collections::BTreeSet;

use push_wire::firewall::{Ping, Protocol, Rule};

use crate::name::HostName;

/// The whole set of what is let in, IPv4 and IPv6.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Firewall {
    /// The hosts that have it; never empty.
    pub on: BTreeSet<HostName>,
    /// What is let in, in the order of the inventory.
    pub allow: Vec<Allow>,
    /// Whether pings are answered. What IPv6 needs to work is always let in.
    pub ping: Ping,
}

/// One thing that is let in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Allow {
    /// The hosts of [`Firewall::on`] that let it in.
    pub on: BTreeSet<HostName>,
    /// What is let in.
    pub rule: Rule,
}

/// Services that a rule may name instead of a port.
pub const SERVICES: &[(&str, Protocol, u16)] = &[
    ("dns", Protocol::Udp, 53),
    ("dns-tcp", Protocol::Tcp, 53),
    ("http", Protocol::Tcp, 80),
    ("http3", Protocol::Udp, 443),
    ("https", Protocol::Tcp, 443),
    ("imaps", Protocol::Tcp, 993),
    ("mysql", Protocol::Tcp, 3306),
    ("node-exporter", Protocol::Tcp, 9100),
    ("ntp", Protocol::Udp, 123),
    ("postgresql", Protocol::Tcp, 5432),
    ("redis", Protocol::Tcp, 6379),
    ("smtp", Protocol::Tcp, 25),
    ("smtps", Protocol::Tcp, 465),
    ("ssh", Protocol::Tcp, 22),
    ("submission", Protocol::Tcp, 587),
    ("wireguard", Protocol::Udp, 51820),
];

impl Firewall {
    /// What one host lets in, in the words that both ends share; `None` if the firewall is not its.
    pub fn of(&self, host: &HostName) -> Option<push_wire::firewall::Firewall> {
        let here = |allow: &&Allow| allow.on.contains(host);
        self.on
            .contains(host)
            .then(|| push_wire::firewall::Firewall {
                allow: self
                    .allow
                    .iter()
                    .filter(here)
                    .map(|allow| allow.rule.clone())
                    .collect(),
                ping: self.ping,
                logins: push_wire::firewall::Logins::Unlimited,
            })
    }
}
