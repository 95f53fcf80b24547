//! The inventory as it is written: every key, its type and its description.
//!
//! These types are the one source of three things: what is read, the JSON schema for editors, and
//! the list of known keys in messages. They hold text; what the text means is decided in `resolve`.
//! A key that is absent is `None` here and nowhere later.

mod app;
mod bootstrap;
mod service;
mod site;

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

pub use app::{
    App, Health, JsonField, OwnUnit, SecretForm, SecretFormTable, SecretUse, Status, Statuses,
};
pub use bootstrap::{Authority, Bootstrap, Parameter};
pub use service::{ExtraService, Hardening, Restart, Service, ServiceKind, Socket, Timer};
pub use site::{Automatic, Given, Listen, Listens, Location, PlainHttp, Serve, Site, Tls};

/// One environment of push: its hosts, and what is declared on them.
#[derive(Debug, Default, Deserialize, JsonSchema)]
pub struct Inventory {
    /// Files to take over first, relative to this one and inside inventory/: one, or a list in which later ones win.
    #[expect(
        dead_code,
        reason = "it is followed before the tree becomes typed; the schema needs it here"
    )]
    pub extends: Option<OneOrMany>,
    /// The name of this project's slice on its hosts.
    pub project: Option<String>,
    /// Whether a risky plan asks for the environment's name (false).
    pub protected: Option<bool>,
    /// How many committed releases of each app a host keeps (5).
    #[schemars(range(min = 1, max = 100))]
    pub keep_releases: Option<u32>,
    /// What is common to the connections to all hosts.
    pub ssh: Option<Ssh>,
    /// Who may open which secrets, and how they are opened on this machine.
    pub secrets: Option<Secrets>,
    /// The hosts, by name.
    pub hosts: Option<BTreeMap<String, Host>>,
    /// What `push bootstrap` makes of a fresh machine.
    pub bootstrap: Option<Bootstrap>,
    /// The apps, by name.
    pub apps: Option<BTreeMap<String, App>>,
    /// What hosts let in; everything else is dropped.
    pub firewall: Option<Firewall>,
    /// Other files on hosts, by absolute path.
    pub files: Option<BTreeMap<String, File>>,
    /// How a push goes through the fleet.
    pub rollout: Option<Rollout>,
}

/// What is common to the connections to all hosts.
#[derive(Debug, Default, Deserialize, JsonSchema)]
pub struct Ssh {
    /// Whom to log in as (as ~/.ssh/config says).
    pub user: Option<String>,
    /// The port (as ~/.ssh/config says, else 22).
    #[schemars(range(min = 1))]
    pub port: Option<u16>,
    /// The only key file to offer, relative to the project's folder (whatever the agent and ~/.ssh offer).
    pub identity: Option<String>,
    /// The machines to go through, first to last: hosts of this inventory, or user@address:port.
    pub jump: Option<OneOrMany>,
    /// The longest time to a working connection ("10s").
    pub connect_timeout: Option<String>,
}

/// Who may open which secrets, and how they are opened on this machine.
#[derive(Debug, Default, Deserialize, JsonSchema)]
pub struct Secrets {
    /// Files with age identities or SSH private keys, relative to the project's folder (PUSH_IDENTITY, else push's own and ~/.ssh).
    pub identities: Option<OneOrMany>,
    /// The people that secrets can be sealed to: the age or SSH public keys of each.
    pub people: Option<BTreeMap<String, OneOrMany>>,
    /// Words for several people.
    pub groups: Option<BTreeMap<String, OneOrMany>>,
    /// Who may open which secret: people, groups, and "hosts" for those that use it; "*" is every secret without a line of its own.
    pub readers: Option<BTreeMap<String, OneOrMany>>,
}

/// One machine.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[expect(
    clippy::struct_field_names,
    reason = "keys of the inventory; host_key is what OpenSSH calls it"
)]
pub struct Host {
    /// Its IP address or DNS name (as ~/.ssh/config says, else the host's name).
    pub address: Option<String>,
    /// Its public host keys, as in known_hosts: what it is recognised by and its secrets are sealed to.
    pub host_key: Option<OneOrMany>,
    /// Whom to log in as (as under [ssh]).
    pub user: Option<String>,
    /// The port (as under [ssh]).
    #[schemars(range(min = 1))]
    pub port: Option<u16>,
    /// The only key file to offer (as under [ssh]).
    pub identity: Option<String>,
    /// The machines to go through (as under [ssh]).
    pub jump: Option<OneOrMany>,
    /// Words that selectors know it by.
    pub tags: Option<OneOrMany>,
    /// Values for templates: {{ host.vars.NAME }}.
    pub vars: Option<BTreeMap<String, Variable>>,
}

/// What hosts let in; everything else is dropped.
#[derive(Debug, Default, Deserialize, JsonSchema)]
pub struct Firewall {
    /// The hosts that have it (all).
    pub on: Option<OneOrMany>,
    /// What is let in: service names, ports, ranges, or tables with a source.
    pub allow: Option<Vec<Allow>>,
    /// Whether pings are answered (true).
    pub ping: Option<bool>,
}

/// One thing that is let in.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Allow {
    /// A port.
    Port(u16),
    /// A service ("https"), a port ("8080"), a range ("8000-8100"), each with or without "/udp".
    Text(String),
    /// Ports with a protocol or a source.
    Rule(AllowRule),
}

/// Ports with a protocol or a source.
#[derive(Debug, Default, Deserialize, JsonSchema)]
pub struct AllowRule {
    /// The port, range or service.
    pub port: Option<Port>,
    /// Several ports, ranges or services.
    pub ports: Option<Vec<Port>>,
    /// "tcp", "udp" (as the service says, else tcp).
    pub protocol: Option<Protocol>,
    /// Networks it may come from (anywhere).
    pub from: Option<OneOrMany>,
    /// The hosts that let it in (all that have the firewall).
    pub on: Option<OneOrMany>,
}

/// A port as a number, or a range or service as text.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Port {
    /// A port.
    Number(u16),
    /// A range ("8000-8100") or a service ("https").
    Text(String),
}

/// A transport protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Protocol {
    /// TCP
    Tcp,
    /// UDP
    Udp,
}

/// A file that push keeps as it is declared. Exactly one of template, source and content is needed.
#[derive(Debug, Default, Deserialize, JsonSchema)]
pub struct File {
    /// The hosts that have it (all).
    pub on: Option<OneOrMany>,
    /// A template under templates/, rendered for each host.
    pub template: Option<String>,
    /// A file of the project, byte for byte.
    pub source: Option<String>,
    /// The content itself, with expressions.
    pub content: Option<String>,
    /// Whom it belongs to ("root").
    pub owner: Option<String>,
    /// The group it belongs to (as the owner).
    pub group: Option<String>,
    /// Its permission bits ("0644").
    pub mode: Option<String>,
    /// What happens when it changes ("none").
    pub on_change: Option<OnChange>,
}

/// What happens when a file changes.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum OnChange {
    /// "none", "sysctl" or "daemon-reload".
    Word(OnChangeWord),
    /// A unit to restart or to reload.
    Unit(OnChangeUnit),
}

/// What may happen without naming a unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum OnChangeWord {
    /// Nothing.
    None,
    /// The kernel's settings are read again.
    Sysctl,
    /// systemd reads its units again.
    DaemonReload,
}

/// A unit to restart or to reload; exactly one of the two.
#[derive(Debug, Default, Deserialize, JsonSchema)]
pub struct OnChangeUnit {
    /// The unit to restart.
    pub restart: Option<String>,
    /// The unit to reload.
    pub reload: Option<String>,
}

/// How a push goes through the fleet.
#[derive(Debug, Default, Deserialize, JsonSchema)]
pub struct Rollout {
    /// The waves: numbers of hosts or shares, of which the last is "100%" (that one alone).
    pub waves: Option<Vec<Wave>>,
    /// How many hosts may fail before a push stops (0).
    #[schemars(range(max = 10000))]
    pub max_failures: Option<u32>,
    /// What is taken back when a push stops: "host", "wave" or "all" ("host").
    pub undo: Option<Undo>,
    /// How many hosts are worked on at once (16).
    #[schemars(range(min = 1, max = 256))]
    pub parallel: Option<u32>,
    /// How long a risky generation waits for the operator to come in again ("30s").
    pub confirm_timeout: Option<String>,
}

/// The size of a wave.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Wave {
    /// So many hosts.
    Hosts(u32),
    /// "1" or "25%".
    Text(String),
}

/// What is taken back when a push stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Undo {
    /// Only the hosts that failed.
    Host,
    /// Every host of the wave that failed.
    Wave,
    /// Every host that this push has switched.
    All,
}

/// A text, or a list of texts.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum OneOrMany {
    /// One.
    One(String),
    /// Several.
    Many(Vec<String>),
}

impl OneOrMany {
    /// The texts.
    pub fn as_slice(&self) -> &[String] {
        match self {
            Self::One(text) => std::slice::from_ref(text),
            Self::Many(texts) => texts,
        }
    }
}

/// A value for templates.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Variable {
    /// A text.
    Text(String),
    /// A whole number.
    Integer(i64),
    /// Yes or no.
    Boolean(bool),
    /// A list.
    List(Vec<Variable>),
}
