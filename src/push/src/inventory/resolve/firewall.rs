//! `[firewall]`.

use std::collections::BTreeSet;

use push_wire::firewall::{Network, Ping, Ports, Protocol, Rule};

use super::super::raw;
use super::super::{Allow, Firewall, SERVICES, address, nearest};
use super::{At, Resolver};
use crate::name::HostName;

/// The most rules.
const RULES_MAX: usize = 1000;

impl<'a> Resolver<'a> {
    pub(super) fn firewall(&mut self, at: &At<'a>, raw: &raw::Firewall) -> Firewall {
        let on = self.on(&at.key("on"), raw.on.as_ref());
        let at = at.key("allow");
        let entries = raw.allow.as_deref().unwrap_or_default();
        if entries.len() > RULES_MAX {
            self.problem(&at, format!("a firewall has at most {RULES_MAX} rules"));
        }
        let mut allow = Vec::new();
        for (i, entry) in entries.iter().enumerate().take(RULES_MAX) {
            allow.extend(self.allow(&at.item(i), (entry, &on)));
        }
        let ping = match raw.ping {
            Some(false) => Ping::Dropped,
            Some(true) | None => Ping::Answered,
        };
        Firewall { on, allow, ping }
    }

    fn allow(&mut self, at: &At<'a>, (raw, on): (&raw::Allow, &BTreeSet<HostName>)) -> Vec<Allow> {
        let rule = match raw {
            raw::Allow::Port(port) => return self.plain(at, on, self::port(*port)),
            raw::Allow::Text(text) => return self.plain(at, on, ports(text)),
            raw::Allow::Rule(rule) => rule,
        };
        let hosts = match &rule.on {
            Some(words) => self
                .on(&at.key("on"), Some(words))
                .intersection(on)
                .cloned()
                .collect(),
            None => on.clone(),
        };
        if hosts.is_empty() && !on.is_empty() && rule.on.is_some() {
            self.problem(&at.key("on"), "none of these hosts has this firewall");
        }
        let from = self.sources(&at.key("from"), rule.from.as_ref());
        let mut found = Vec::new();
        let listed = rule
            .ports
            .iter()
            .flatten()
            .enumerate()
            .map(|(i, port)| (at.key("ports").item(i), port));
        let entries: Vec<_> = rule
            .port
            .iter()
            .map(|port| (at.key("port"), port))
            .chain(listed)
            .collect();
        if entries.is_empty() {
            self.problem_with_help(
                at,
                (
                    "a rule needs a port",
                    "write port = 9100, or ports = [\"http\", 9100]",
                ),
            );
        }
        for (at, entry) in entries {
            let read = match entry {
                raw::Port::Number(number) => port(*number),
                raw::Port::Text(text) => ports(text),
            };
            match read {
                Ok((ports, said)) => {
                    let protocol = match rule.protocol {
                        Some(raw::Protocol::Tcp) => Protocol::Tcp,
                        Some(raw::Protocol::Udp) => Protocol::Udp,
                        None => said,
                    };
                    let rule = Rule {
                        protocol,
                        ports,
                        from: from.clone(),
                    };
                    found.push(Allow {
                        on: hosts.clone(),
                        rule,
                    });
                }
                Err((why, help)) => self.problem_with_help(&at, (why, &help)),
            }
        }
        found
    }

    /// No source at all is any source, so that a list which has lost its last one must not be read.
    fn sources(&mut self, at: &At<'a>, raw: Option<&raw::OneOrMany>) -> BTreeSet<Network> {
        if raw.is_some_and(|texts| texts.as_slice().is_empty()) {
            let why = "a rule from nowhere lets nobody in";
            self.problem_with_help(
                at,
                (why, "leave `from` out for anywhere, or leave out the rule"),
            );
        }
        self.set(at, raw)
    }

    fn plain(&mut self, at: &At<'a>, on: &BTreeSet<HostName>, read: Read) -> Vec<Allow> {
        match read {
            Ok((ports, protocol)) => {
                vec![Allow {
                    on: on.clone(),
                    rule: Rule {
                        protocol,
                        ports,
                        from: BTreeSet::new(),
                    },
                }]
            }
            Err((why, help)) => {
                self.problem_with_help(at, (why, &help));
                Vec::new()
            }
        }
    }
}

/// Ports with their protocol, or what is wrong and what to do.
type Read = Result<(Ports, Protocol), (String, String)>;

fn port(number: u16) -> Read {
    match number {
        0 => Err((
            "a port is a number from 1 to 65535".to_owned(),
            "write the port that is to be open".to_owned(),
        )),
        port => Ok((Ports::one(port), Protocol::Tcp)),
    }
}

/// Reads `https`, `8080`, `8000-8100`, each with or without `/tcp` or `/udp`.
fn ports(text: &str) -> Read {
    let (name, protocol) = match text.rsplit_once('/') {
        Some((name, "tcp")) => (name, Some(Protocol::Tcp)),
        Some((name, "udp")) => (name, Some(Protocol::Udp)),
        Some(_) | None => (text, None),
    };
    if let Some((_, own, port)) = SERVICES.iter().find(|(known, _, _)| *known == name) {
        return Ok((Ports::one(*port), protocol.unwrap_or(*own)));
    }
    let protocol = protocol.unwrap_or(Protocol::Tcp);
    let (first, last) = name.split_once('-').unwrap_or((name, name));
    match (address::port_number(first), address::port_number(last)) {
        (Ok(first), Ok(last)) if first <= last => Ok((Ports { first, last }, protocol)),
        _ => Err(unknown(name)),
    }
}

fn unknown(name: &str) -> (String, String) {
    let known: Vec<&str> = SERVICES.iter().map(|(known, _, _)| *known).collect();
    let why = format!(
        "{:?} is not a port, a range or a service",
        super::short(name)
    );
    let help = match nearest::nearest(name, &known) {
        Some(near) => format!("did you mean {near:?}?"),
        None => format!(
            "write a port (8080), a range (\"8000-8100\") or a service: {}",
            known.join(", ")
        ),
    };
    (why, help)
}
