//! A fleet's bridge, and each host's cable into it: addresses, links, namespaces, and cuts in the
//! cable for tests. Knows nothing of what runs on the hosts.
//!
//! Hosts talk to the laptop and to one another; nothing is forwarded or translated. Neighbours are
//! fixed rather than asked for, so that a cut cable is silence and not `No route to host`.

use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};

use super::error::Error;
use super::host::Blackhole;
use super::record::FleetNumber;
use super::tool::Tool;

/// The last byte of the first host's address.
const FIRST_HOST: u8 = 10;

/// How many hosts a fleet can have: what one /24 has room for, less a margin.
pub(super) const HOSTS_MAX: u8 = 200;

/// Routes shorter than this are taken for default routes in pieces, as VPNs set them: a fleet's
/// /24 inside one of them takes nothing away that is in use.
const PREFIX_MIN: u8 = 8;

/// The /24 of a fleet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct Subnet([u8; 3]);

impl Subnet {
    pub const fn new(a: u8, b: u8, c: u8) -> Self {
        Self([a, b, c])
    }

    /// Chooses a range that nothing on this machine is routed to.
    pub fn free_for(number: FleetNumber) -> Result<Self, Error> {
        let routes = Tool::named("ip")
            .args(["-4", "-o", "route", "show", "table", "all"])
            .succeed()?;
        choose(number, &routes)
    }

    /// The laptop's address.
    pub fn laptop(self) -> Ipv4Addr {
        self.at(1)
    }

    /// A host's address.
    pub fn host(self, index: u8) -> Ipv4Addr {
        self.at(FIRST_HOST.saturating_add(index))
    }

    fn at(self, last: u8) -> Ipv4Addr {
        let [a, b, c] = self.0;
        Ipv4Addr::new(a, b, c, last)
    }
}

/// Makes the bridge with the laptop's address.
pub(super) fn make_bridge(number: FleetNumber, subnet: Subnet) -> Result<(), Error> {
    let bridge = number.bridge();
    let mac = laptop_mac(number);
    let laptop = subnet.laptop();
    batch(
        Side::Laptop,
        &[
            format!("link add name {bridge} address {mac} type bridge forward_delay 0"),
            format!("addr add {laptop}/24 dev {bridge}"),
            format!("link set {bridge} up"),
        ],
    )
}

/// Removes the bridge; one that is not there is removed already.
pub(super) fn remove_bridge(number: FleetNumber) -> Result<(), Error> {
    remove_link(&number.bridge())
}

/// Makes a host's network namespace, new and empty, with a cable to the bridge in it.
pub(super) fn connect(number: FleetNumber, subnet: Subnet, index: u8) -> Result<(), Error> {
    let (bridge, name) = (number.bridge(), number.host(index));
    let (laptop, host) = (subnet.laptop(), subnet.host(index));
    let (laptop_mac, host_mac) = (laptop_mac(number), host_mac(number, index));
    batch(
        Side::Laptop,
        &[
            format!("netns add {name}"),
            format!(
                "link add name {name} type veth peer name eth0 address {host_mac} netns {name}"
            ),
            format!("link set {name} master {bridge} up"),
            format!("neigh replace {host} lladdr {host_mac} dev {bridge} nud permanent"),
        ],
    )?;
    batch(
        Side::Host(&name),
        &[
            "link set lo up".to_owned(),
            format!("addr add {host}/24 dev eth0"),
            "link set eth0 up".to_owned(),
            format!("neigh replace {laptop} lladdr {laptop_mac} dev eth0 nud permanent"),
        ],
    )
}

/// Removes a host's cable and namespace, and with it the firewall that was in it.
pub(super) fn disconnect(number: FleetNumber, index: u8) -> Result<(), Error> {
    let name = number.host(index);
    unblock(number, index)?;
    remove_link(&name)?;
    let spaces = Tool::named("ip").args(["netns", "list"]).succeed()?;
    // A line is a name, then perhaps ` (id: 0)`.
    if spaces
        .lines()
        .any(|line| line.split(' ').next() == Some(&name))
    {
        Tool::named("ip")
            .args(["netns", "delete", &name])
            .succeed()?;
    }
    Ok(())
}

/// Drops what travels through a host's cable, silently.
pub(super) fn block(number: FleetNumber, index: u8, way: Blackhole) -> Result<(), Error> {
    unblock(number, index)?;
    let name = number.host(index);
    let chain = |hook: &str| {
        format!(
            "add chain netdev {name} {hook} \
             {{ type filter hook {hook} device \"{name}\" priority 0; policy drop; }}\n"
        )
    };
    // Seen from the laptop's end: what the host sends comes in, what is sent to it goes out.
    let (from_host, to_host) = (chain("ingress"), chain("egress"));
    let chains = match way {
        Blackhole::FromHost => from_host,
        Blackhole::ToHost => to_host,
        Blackhole::Both => from_host + &to_host,
    };
    nft(format!("add table netdev {name}\n{chains}"))
}

/// Lets everything through again; an open cable is open already.
pub(super) fn unblock(number: FleetNumber, index: u8) -> Result<(), Error> {
    let table = format!("table netdev {}", number.host(index));
    let tables = Tool::named("nft").args(["list", "tables"]).succeed()?;
    if tables.lines().any(|line| line == table) {
        nft(format!("delete {table}\n"))?;
    }
    Ok(())
}

#[derive(Clone, Copy)]
enum Side<'a> {
    Laptop,
    Host(&'a str),
}

fn batch(side: Side<'_>, lines: &[String]) -> Result<(), Error> {
    let ip = match side {
        Side::Laptop => Tool::named("ip"),
        Side::Host(namespace) => Tool::named("ip").args(["-n", namespace]),
    };
    ip.args(["-batch", "-"]).input(lines.join("\n")).succeed()?;
    Ok(())
}

fn nft(ruleset: String) -> Result<(), Error> {
    Tool::named("nft")
        .args(["-f", "-"])
        .input(ruleset)
        .succeed()?;
    Ok(())
}

fn remove_link(name: &str) -> Result<(), Error> {
    if std::path::Path::new("/sys/class/net").join(name).exists() {
        Tool::named("ip").args(["link", "delete", name]).succeed()?;
    }
    Ok(())
}

/// A locally administered address (the 2 of 02) that no other fleet has.
fn laptop_mac(number: FleetNumber) -> String {
    host_mac(number, u8::MAX)
}

fn host_mac(number: FleetNumber, index: u8) -> String {
    let [high, low] = number.0.to_be_bytes();
    format!("02:70:75:{high:02x}:{low:02x}:{index:02x}")
}

/// No two numbers share a candidate, so fleets that come up at once cannot collide.
fn choose(number: FleetNumber, routes: &str) -> Result<Subnet, Error> {
    let third = u8::try_from(number.0).unwrap_or(u8::MAX);
    // RFC 2544's range for tests between devices first, then corners of the private ones.
    let candidates = [
        Subnet::new(198, 18, third),
        Subnet::new(10, 213, third),
        Subnet::new(172, 30, third),
    ];
    let taken: Vec<(Ipv4Addr, u8)> = routes.lines().filter_map(destination).collect();
    let is_free = |subnet: &Subnet| !taken.iter().any(|route| overlaps(*subnet, *route));
    candidates
        .into_iter()
        .find(is_free)
        .ok_or_else(|| Error::NoAddressRange {
            tried: candidates.map(|s| format!("{}/24", s.at(0))).to_vec(),
        })
}

/// What a line of `ip route` leads to; none for a default route, or nearly one.
fn destination(line: &str) -> Option<(Ipv4Addr, u8)> {
    let first_address = line
        .split_whitespace()
        .take(2)
        .find(|word| word.starts_with(|c: char| c.is_ascii_digit()))?;
    let (address, prefix) = first_address
        .split_once('/')
        .unwrap_or((first_address, "32"));
    let route = (address.parse().ok()?, prefix.parse().ok()?);
    (route.1 >= PREFIX_MIN).then_some(route)
}

fn overlaps(subnet: Subnet, (address, prefix): (Ipv4Addr, u8)) -> bool {
    let shorter = prefix.min(24);
    let mask = u32::MAX << (32 - u32::from(shorter));
    (subnet.at(0).to_bits() & mask) == (address.to_bits() & mask)
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUIET: &str = "\
default via 192.0.2.1 dev eth0
192.0.2.0/24 dev eth0 proto kernel scope link src 192.0.2.2
local 127.0.0.0/8 dev lo table local proto kernel scope host src 127.0.0.1
broadcast 192.0.2.255 dev eth0 table local proto kernel scope link
";

    fn chosen(number: u16, more: &str) -> Option<Subnet> {
        choose(FleetNumber(number), &format!("{QUIET}{more}")).ok()
    }

    #[test]
    fn a_quiet_machine_gets_the_range_meant_for_tests() {
        assert_eq!(chosen(0, ""), Some(Subnet::new(198, 18, 0)));
        assert_eq!(chosen(7, ""), Some(Subnet::new(198, 18, 7)));
    }

    #[test]
    fn a_range_that_is_routed_is_left_alone_however_the_route_is_written() {
        let second = Some(Subnet::new(10, 213, 0));
        for route in [
            "198.18.0.0/15 dev tun0\n",
            "198.18.0.0/16 dev tun0 table 51\n",
            "198.18.0.7 via 192.0.2.9 dev eth0\n",
            "unreachable 198.18.0.128/25\n",
            "local 198.18.0.1 dev pr0 table local\n",
        ] {
            assert_eq!(chosen(0, route), second, "{route}");
        }
        assert_eq!(
            chosen(0, "198.18.1.0/24 dev pr1\n"),
            Some(Subnet::new(198, 18, 0))
        );
    }

    #[test]
    fn default_routes_in_two_halves_do_not_take_everything() {
        let halves = "0.0.0.0/1 via 10.8.0.1 dev tun0\n128.0.0.0/1 via 10.8.0.1 dev tun0\n";
        assert_eq!(chosen(0, halves), Some(Subnet::new(198, 18, 0)));
    }

    #[test]
    fn no_free_range_is_said_with_what_was_tried() {
        let all = "198.18.0.0/15 dev a\n10.0.0.0/8 dev b\n172.16.0.0/12 dev c\n";
        let error = choose(FleetNumber(2), all).unwrap_err().to_string();
        assert!(error.contains("10.213.2.0/24"), "{error}");
    }

    #[test]
    fn hosts_have_addresses_of_their_own_inside_the_range() {
        let subnet = Subnet::new(198, 18, 0);
        let last = subnet.host(HOSTS_MAX - 1);
        assert_eq!(subnet.host(0).to_string(), "198.18.0.10");
        assert_eq!(last.to_string(), "198.18.0.209");
        assert_ne!(host_mac(FleetNumber(1), 0), host_mac(FleetNumber(0), 1));
    }
}
