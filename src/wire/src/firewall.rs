//! Firewall rules, and the one nftables file that all rules of a host make.
//!
//! push owns `table inet push` and nothing else; the file replaces that table in one transaction of
//! the kernel. Names from outside do not occur in it: rules are numbers and addresses only.

use std::collections::BTreeSet;
use std::fmt::{self, Write as _};
use std::net::IpAddr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A range of ports, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Ports {
    /// The first port.
    pub first: u16,
    /// The last port.
    pub last: u16,
}

impl Ports {
    /// A single port.
    pub fn one(port: u16) -> Self {
        Self {
            first: port,
            last: port,
        }
    }

    /// Whether a port is among them.
    pub fn contains(&self, port: u16) -> bool {
        (self.first..=self.last).contains(&port)
    }
}

impl fmt::Display for Ports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.first == self.last {
            write!(f, "{}", self.first)
        } else {
            write!(f, "{}-{}", self.first, self.last)
        }
    }
}

/// What carries the packets of a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        })
    }
}

/// A network: an address and how many of its leading bits count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Network {
    address: IpAddr,
    bits: u8,
}

/// A text that is not a network.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{text:?} is not a network: write an address such as 192.0.2.7, or 10.0.0.0/8, or 2001:db8::/32, with no bit set behind the prefix"
)]
pub struct NetworkError {
    /// The text, as it came.
    pub text: String,
}

impl Network {
    /// Whether this is an IPv6 network.
    pub fn is_ipv6(&self) -> bool {
        self.address.is_ipv6()
    }
}

impl FromStr for Network {
    type Err = NetworkError;
    fn from_str(text: &str) -> Result<Self, NetworkError> {
        let wrong = || NetworkError {
            text: text.to_owned(),
        };
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| wrong())?;
        let width = if address.is_ipv4() { 32 } else { 128 };
        let bits = match bits {
            Some(bits) if bits.bytes().all(|b| b.is_ascii_digit()) => {
                bits.parse().map_err(|_| wrong())?
            }
            Some(_) => return Err(wrong()),
            None => width,
        };
        let host_bits_clear = match address {
            IpAddr::V4(v4) => {
                bits <= 32 && u32::from(v4).checked_shl(u32::from(bits)).unwrap_or(0) == 0
            }
            IpAddr::V6(v6) => {
                bits <= 128 && u128::from(v6).checked_shl(u32::from(bits)).unwrap_or(0) == 0
            }
        };
        if host_bits_clear {
            Ok(Self { address, bits })
        } else {
            Err(wrong())
        }
    }
}

impl TryFrom<String> for Network {
    type Error = NetworkError;
    fn try_from(text: String) -> Result<Self, NetworkError> {
        text.parse()
    }
}

impl From<Network> for String {
    fn from(network: Network) -> String {
        network.to_string()
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.bits)
    }
}

/// Lets packets to some ports in.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Rule {
    /// What carries them.
    pub protocol: Protocol,
    /// Where they go.
    pub ports: Ports,
    /// Where they come from; empty means anywhere, over IPv4 and IPv6.
    pub from: BTreeSet<Network>,
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.ports, self.protocol)?;
        for (at, network) in self.from.iter().enumerate() {
            write!(f, "{}{network}", if at == 0 { " from " } else { ", " })?;
        }
        Ok(())
    }
}

/// Everything that is let in; everything else is dropped.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Firewall {
    /// The rules, in no particular order: each only lets in.
    pub allow: BTreeSet<Rule>,
    /// Whether pings are answered. What IPv6 and path MTU discovery need always passes.
    #[serde(default)]
    pub ping: Ping,
    /// How often one address may knock at the operator's ports.
    #[serde(default)]
    pub logins: Logins,
}

/// How often one address may make a new connection to the ports that operators come in by.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Logins {
    /// As often as it likes.
    #[default]
    Unlimited,
    /// At most [`LOGINS_PER_MINUTE`], with as many at once; an IPv6 network of 64 bits counts as one
    /// address, since whoever has one has all of it.
    Limited,
}

/// Connections a minute: more than a push and its retries make, less than guessing needs.
pub const LOGINS_PER_MINUTE: u32 = 30;

/// Whether pings are answered.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ping {
    /// They are dropped.
    Dropped,
    /// They are answered.
    #[default]
    Answered,
}

/// The table that push owns.
pub const TABLE: &str = "inet push";

/// Removes the table if it is there: one transaction, for `nft -f`.
pub const REMOVE: &str = "add table inet push\ndelete table inet push\n";

/// The TCP ports that operators come in by: those of sshd, and the one that this operator dialled, should
/// another program pass it on.
pub fn ways_in(ssh_ports: &BTreeSet<u16>, dialled: u16) -> BTreeSet<u16> {
    ssh_ports.iter().copied().chain([dialled]).collect()
}

/// The whole firewall of a host as one file for `nft -f`. `ways_in` are the TCP ports that the
/// operator comes in by; they are open whatever the rules say.
pub fn render(firewall: &Firewall, ways_in: &BTreeSet<u16>) -> String {
    let mut out = String::from(REMOVE);
    out.push_str("table inet push {\n");
    if firewall.logins == Logins::Limited {
        out.push_str(LOGIN_SETS);
    }
    out.push_str(HEAD);
    if firewall.logins == Logins::Limited {
        login_limit(&mut out, ways_in);
    }
    if firewall.ping == Ping::Answered {
        out.push_str(PING);
    }
    for port in ways_in {
        // Writing to a String cannot fail.
        let _ = writeln!(
            out,
            "\t\ttcp dport {port} accept comment \"the operator's way in\""
        );
    }
    for rule in &firewall.allow {
        rule_lines(&mut out, rule);
    }
    out.push_str("\t}\n}\n");
    out
}

// Neighbour discovery, router advertisements and path MTU discovery must pass or IPv6 dies (RFC
// 4890, section 4.4); DHCPv6 answers come from a link-local address and are not tracked.
const HEAD: &str = "\tchain input {
\t\ttype filter hook input priority filter; policy drop;
\t\tct state vmap { established : accept, related : accept, invalid : drop }
\t\tiif lo accept
\t\ticmp type { destination-unreachable, time-exceeded, parameter-problem } accept
\t\ticmpv6 type { destination-unreachable, packet-too-big, time-exceeded, parameter-problem, nd-router-advert, nd-neighbor-solicit, nd-neighbor-advert, mld-listener-query } accept
\t\tip6 saddr fe80::/10 udp dport 546 accept
";

/// Who knocked lately. The sets empty themselves; a full one lets newcomers pass.
const LOGIN_SETS: &str = "\tset logins4 {
\t\ttype ipv4_addr
\t\tsize 65535
\t\tflags dynamic,timeout
\t\ttimeout 2m
\t}
\tset logins6 {
\t\ttype ipv6_addr
\t\tsize 65535
\t\tflags dynamic,timeout
\t\ttimeout 2m
\t}
";

/// Drops what knocks too often, before anything lets it in.
fn login_limit(out: &mut String, ways_in: &BTreeSet<u16>) {
    let ports: Vec<String> = ways_in.iter().map(u16::to_string).collect();
    if ports.is_empty() {
        return;
    }
    let ports = ports.join(", ");
    for (set, address) in [
        ("logins4", "ip saddr"),
        ("logins6", "ip6 saddr and ffff:ffff:ffff:ffff::"),
    ] {
        let _ = writeln!(
            out,
            "\t\ttcp dport {{ {ports} }} ct state new update @{set} {{ {address} limit rate over {LOGINS_PER_MINUTE}/minute burst {LOGINS_PER_MINUTE} packets }} drop"
        );
    }
}

const PING: &str = "\t\ticmp type echo-request accept\n\t\ticmpv6 type echo-request accept\n";

fn rule_lines(out: &mut String, rule: &Rule) {
    let target = format!("{} dport {} accept", rule.protocol, rule.ports);
    if rule.from.is_empty() {
        let _ = writeln!(out, "\t\t{target}");
    }
    for (family, v6) in [("ip", false), ("ip6", true)] {
        let networks: Vec<String> = rule
            .from
            .iter()
            .filter(|network| network.is_ipv6() == v6)
            .map(Network::to_string)
            .collect();
        if !networks.is_empty() {
            let _ = writeln!(
                out,
                "\t\t{family} saddr {{ {} }} {target}",
                networks.join(", ")
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_is_what_it_says_or_refused() {
        for good in [
            "10.0.0.0/8",
            "192.0.2.7/32",
            "2001:db8::/32",
            "::/0",
            "0.0.0.0/0",
        ] {
            assert_eq!(good.parse::<Network>().unwrap().to_string(), good);
        }
        assert_eq!(
            "192.0.2.7".parse::<Network>().unwrap().to_string(),
            "192.0.2.7/32"
        );
        for hostile in [
            "10.0.0.1/8",
            "10.0.0.0/33",
            "10.0.0.0/+8",
            "any",
            "",
            "10.0.0.0/",
            "::1/64",
            "1.2.3.4; drop",
        ] {
            assert!(hostile.parse::<Network>().is_err(), "{hostile:?}");
        }
    }

    #[test]
    fn the_operators_way_in_is_open_without_any_rule() {
        let text = render(&Firewall::default(), &BTreeSet::from([2222]));
        assert!(text.contains("tcp dport 2222 accept"));
        assert!(text.contains("policy drop"));
        assert!(text.contains("icmp type echo-request accept"));
    }

    #[test]
    fn a_rule_with_sources_of_both_families_becomes_two_lines() {
        let rule = Rule {
            protocol: Protocol::Tcp,
            ports: Ports {
                first: 9100,
                last: 9102,
            },
            from: ["10.0.0.0/8", "2001:db8::/32"]
                .iter()
                .map(|n| n.parse().unwrap())
                .collect(),
        };
        let firewall = Firewall {
            allow: BTreeSet::from([rule]),
            ping: Ping::Dropped,
            logins: Logins::Unlimited,
        };
        let text = render(&firewall, &BTreeSet::new());
        assert!(!text.contains("echo-request"));
        assert!(text.contains("ip saddr { 10.0.0.0/8 } tcp dport 9100-9102 accept"));
        assert!(text.contains("ip6 saddr { 2001:db8::/32 } tcp dport 9100-9102 accept"));
        assert!(!text.contains("\t\ttcp dport 9100-9102"));
    }

    #[test]
    fn who_knocks_too_often_is_dropped_before_anything_lets_it_in() {
        let limited = Firewall {
            logins: Logins::Limited,
            ..Firewall::default()
        };
        let text = render(&limited, &BTreeSet::from([22, 2222]));
        let drop = text.find("update @logins4").unwrap();
        let accept = text.find("tcp dport 22 accept").unwrap();
        assert!(drop < accept, "{text}");
        assert!(text.contains("tcp dport { 22, 2222 } ct state new update @logins6"));
        let none = render(&limited, &BTreeSet::new());
        assert!(!none.contains("update @"), "a set of no ports is no syntax");
        assert!(!render(&Firewall::default(), &BTreeSet::from([22])).contains("logins4"));
    }
}
