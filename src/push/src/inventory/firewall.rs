//! What a host lets in. Everything else is dropped; what a host sends is not filtered.

use std::collections::BTreeSet;

use super::Network;
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
    /// The protocol.
    pub protocol: Protocol,
    /// The ports.
    pub ports: PortRange,
    /// From where; empty is from anywhere.
    pub from: BTreeSet<Network>,
}

/// A transport protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Protocol {
    /// TCP
    Tcp,
    /// UDP
    Udp,
}

/// One port or several that follow each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct PortRange {
    /// The first.
    pub first: u16,
    /// The last; the same as the first for one port.
    pub last: u16,
}

/// Whether pings are answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ping {
    /// They are.
    Answered,
    /// They are dropped.
    Dropped,
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

impl PortRange {
    /// One port.
    pub fn one(port: u16) -> Self {
        Self {
            first: port,
            last: port,
        }
    }

    /// Whether a port is among them.
    pub fn contains(self, port: u16) -> bool {
        (self.first..=self.last).contains(&port)
    }
}
