//! `[ssh]` and `[hosts.NAME]`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use super::super::problem::Problem;
use super::super::raw;
use super::super::{Host, HostAddress, Jump, Login, Ssh, address};
use super::{At, Resolver};
use crate::name::{HostName, LoginName};

/// How long a connection may take to work.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// The most machines to go through.
const JUMPS_MAX: usize = 4;

/// The most hosts of an environment.
const HOSTS_MAX: usize = 10_000;

/// Names that mean something else in a selector.
const TAKEN: &[&str] = &["all"];

impl<'a> Resolver<'a> {
    pub(super) fn ssh(&mut self, at: &At<'a>, raw: Option<&raw::Ssh>) -> Ssh {
        let raw = raw.unwrap_or(&EMPTY);
        Ssh {
            connect_timeout: self.some_duration(
                &at.key("connect_timeout"),
                raw.connect_timeout.as_ref(),
                CONNECT_TIMEOUT,
            ),
        }
    }

    pub(super) fn identities(&mut self, at: &At<'a>, raw: Option<&raw::Secrets>) -> Vec<PathBuf> {
        let at = at.key("identities");
        let texts = raw.and_then(|raw| raw.identities.as_ref());
        let texts = texts.map(raw::OneOrMany::as_slice).unwrap_or_default();
        let read = texts.iter().enumerate();
        read.filter_map(|(i, text)| self.file(&at.item(i), text))
            .collect()
    }

    /// Fills in the hosts, which everything else selects from.
    pub(super) fn hosts(&mut self, root: &At<'a>, raw: &raw::Inventory) {
        let at = root.key("hosts");
        let common = Common {
            at: root.key("ssh"),
            raw: raw.ssh.as_ref().unwrap_or(&EMPTY),
            names: raw
                .hosts
                .iter()
                .flat_map(BTreeMap::keys)
                .map(String::as_str)
                .collect(),
        };
        let hosts = raw.hosts.iter().flatten();
        if common.names.is_empty() || common.names.len() > HOSTS_MAX {
            let problem = Problem::new(
                "inventory::hosts",
                format!("an environment has 1 to {HOSTS_MAX} hosts"),
            );
            self.problems.push(
                problem
                    .at(at.place())
                    .help("add one: [hosts.web1] with address = \"203.0.113.10\""),
            );
        }
        for (key, raw) in hosts {
            let at = at.key(key);
            let name = self.name::<HostName>(&at, key);
            if let Some(host) = name.and_then(|name| self.host(&at, (name, raw), &common)) {
                self.hosts.insert(host.name.clone(), host);
            }
        }
    }

    fn host(
        &mut self,
        at: &At<'a>,
        (name, raw): (HostName, &raw::Host),
        common: &Common<'a, '_>,
    ) -> Option<Host> {
        if TAKEN.contains(&name.as_str()) {
            let message = format!(
                "{}: a host cannot be called {name}, which selects every host",
                at.path
            );
            self.problems
                .push(Problem::new("inventory::name", message).at(at.key_place()));
        }
        let address = self.read::<HostAddress>(
            &at.key("address"),
            raw.address.as_deref().unwrap_or(name.as_str()),
        );
        let (tags_at, vars_at) = (at.key("tags"), at.key("vars"));
        let vars = raw
            .vars
            .iter()
            .flatten()
            .filter_map(|(key, value)| Some((self.name(&vars_at.key(key), key)?, json(value))));
        let vars = vars.collect();
        Some(Host {
            login: self.login(at, (&name, raw), common),
            host_keys: self.list(&at.key("host_key"), raw.host_key.as_ref()),
            tags: self.tags(&tags_at, raw.tags.as_ref()),
            vars,
            address: address?,
            name,
        })
    }

    fn tags(
        &mut self,
        at: &At<'a>,
        raw: Option<&raw::OneOrMany>,
    ) -> BTreeSet<crate::name::TagName> {
        let tags: BTreeSet<crate::name::TagName> = self.list(at, raw).into_iter().collect();
        if tags.contains("all") {
            self.problem(at, "a tag cannot be called all, which selects every host");
        }
        tags
    }

    fn login(
        &mut self,
        at: &At<'a>,
        (name, raw): (&HostName, &raw::Host),
        common: &Common<'a, '_>,
    ) -> Login {
        let key = |key: &str, own: bool| if own { at.key(key) } else { common.at.key(key) };
        let user = raw.user.as_ref().or(common.raw.user.as_ref());
        let identity = raw.identity.as_ref().or(common.raw.identity.as_ref());
        let jump = raw.jump.as_ref().or(common.raw.jump.as_ref());
        let jump_at = key("jump", raw.jump.is_some());
        Login {
            user: user
                .and_then(|text| self.read::<LoginName>(&key("user", raw.user.is_some()), text)),
            port: raw.port.or(common.raw.port),
            identity: identity
                .and_then(|text| self.file(&key("identity", raw.identity.is_some()), text)),
            jump: self.jumps(&jump_at, jump, (name, common)),
        }
    }

    fn jumps(
        &mut self,
        at: &At<'a>,
        raw: Option<&raw::OneOrMany>,
        (host, common): (&HostName, &Common<'a, '_>),
    ) -> Vec<Jump> {
        let texts = raw.map(raw::OneOrMany::as_slice).unwrap_or_default();
        if texts.len() > JUMPS_MAX {
            self.problem(
                at,
                format!("a host is reached through at most {JUMPS_MAX} others"),
            );
            return Vec::new();
        }
        let mut jumps = Vec::new();
        for (i, text) in texts.iter().enumerate() {
            let at = at.item(i);
            // What is common to all hosts does not send a host through itself: one that stands on
            // the way is reached through those before it.
            if text == host.as_str() && at.path.starts_with("ssh") {
                return jumps;
            }
            if text == host.as_str() {
                self.problem(&at, "a host cannot be reached through itself");
            } else if common.names.contains(text.as_str()) {
                jumps.extend(self.read(&at, text).map(Jump::Host));
            } else {
                jumps.extend(self.jump(&at, text));
            }
        }
        jumps
    }

    /// Reads `user@address:port`.
    fn jump(&mut self, at: &At<'a>, text: &str) -> Option<Jump> {
        let (user, rest) = match text.split_once('@') {
            Some((user, rest)) => (Some(self.read(at, user)?), rest),
            None => (None, text),
        };
        let (address, port) = match (rest.strip_prefix('['), rest.matches(':').count()) {
            (Some(rest), _) => rest.split_once(']').unwrap_or((rest, "")),
            (None, 1) => rest.split_at(rest.find(':').unwrap_or(rest.len())),
            (None, _) => (rest, ""),
        };
        let port = match port.strip_prefix(':') {
            Some(digits) => match address::port_number(digits) {
                Ok(port) => Some(port),
                Err(error) => {
                    self.problem(at, error);
                    return None;
                }
            },
            None if port.is_empty() => None,
            None => {
                self.problem(at, "it is not user@address:port");
                return None;
            }
        };
        Some(Jump::Address {
            user,
            address: self.read(at, address)?,
            port,
        })
    }

    /// Reads a path on the laptop.
    pub(super) fn file(&mut self, at: &At<'a>, text: &str) -> Option<PathBuf> {
        if text.is_empty() || text.len() > crate::name::PATH_BYTES_MAX || text.contains('\0') {
            self.problem(at, "it is not a path of 1 to 4095 bytes without NUL");
            return None;
        }
        Some(PathBuf::from(text))
    }
}

/// What hosts take from `[ssh]`.
struct Common<'a, 'r> {
    at: At<'a>,
    raw: &'r raw::Ssh,
    names: BTreeSet<&'r str>,
}

static EMPTY: raw::Ssh = raw::Ssh {
    user: None,
    port: None,
    identity: None,
    jump: None,
    connect_timeout: None,
};

fn json(value: &raw::Variable) -> serde_json::Value {
    match value {
        raw::Variable::Text(text) => text.as_str().into(),
        raw::Variable::Integer(number) => (*number).into(),
        raw::Variable::Boolean(yes) => (*yes).into(),
        raw::Variable::List(list) => list.iter().map(json).collect(),
    }
}
