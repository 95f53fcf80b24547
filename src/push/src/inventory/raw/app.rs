//! `[apps.NAME]` and its health checks, as written.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use super::{ExtraService, OneOrMany, Service, Site, Socket, Timer};

/// Something that runs on hosts.
#[derive(Debug, Default, Deserialize, JsonSchema)]
pub struct App {
    /// The hosts it runs on: tags, names, "!name", patterns (all).
    pub on: Option<OneOrMany>,
    /// A command that makes the source; run once by `sh -c`, on the laptop.
    pub build: Option<String>,
    /// What is shipped: a file, a directory or an archive of the project.
    pub source: Option<String>,
    /// The user its services run as (the app's name).
    pub user: Option<String>,
    /// The environment of its services.
    pub env: Option<BTreeMap<String, String>>,
    /// The secrets its services read.
    pub secrets: Option<Vec<SecretUse>>,
    /// Folders below /srv/APP/shared that survive releases.
    pub shared: Option<OneOrMany>,
    /// The ports it listens on (seen in its health checks, site and socket).
    pub ports: Option<Vec<u16>>,
    /// Its main service, APP.service.
    pub service: Option<Service>,
    /// The timer that runs the main service, which is a one-shot job then.
    pub timer: Option<Timer>,
    /// The socket that the main service is handed.
    pub socket: Option<Socket>,
    /// Further services, APP-NAME.service.
    pub services: Option<BTreeMap<String, ExtraService>>,
    /// Units written out by the operator, by unit name.
    pub units: Option<BTreeMap<String, OwnUnit>>,
    /// When it counts as healthy.
    pub health: Option<Health>,
    /// How nginx serves it.
    pub site: Option<Site>,
}

/// A secret, and how services are given it.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum SecretUse {
    /// The secret's name; it becomes a credential.
    Name(String),
    /// The secret's name and its form.
    Form(SecretFormTable),
}

/// A secret's name and its form.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct SecretFormTable {
    /// The secret's name: inventory/secrets/NAME.age; with a template, the file's.
    pub name: String,
    /// "credential", "file" or "env" ("credential").
    #[serde(rename = "as")]
    pub form: Option<SecretForm>,
    /// The environment variable, with as = "env" (the name in capitals).
    pub variable: Option<String>,
    /// A template that makes the file, with as = "file": {{ secret_value("NAME") }} stands for a secret (none).
    pub template: Option<String>,
}

/// How services are given a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum SecretForm {
    /// A systemd credential.
    Credential,
    /// A file in tmpfs.
    File,
    /// A variable of the environment, through a file in tmpfs.
    Env,
}

/// A unit written out by the operator.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct OwnUnit {
    /// Its template.
    pub template: String,
    /// Whether it is enabled and started (true).
    pub start: Option<bool>,
}

/// When an app counts as healthy.
#[derive(Debug, Default, Deserialize, JsonSchema)]
pub struct Health {
    /// A URL to ask, on the host; each try has 5 s.
    pub http: Option<String>,
    /// The statuses that pass ("200-299").
    pub status: Option<Statuses>,
    /// A text that the body must contain.
    pub body: Option<String>,
    /// Fields of the JSON body, by dotted path, that must equal these.
    pub json: Option<BTreeMap<String, JsonField>>,
    /// Headers to send.
    pub send: Option<BTreeMap<String, String>>,
    /// Headers that must come back with exactly these values.
    pub headers: Option<BTreeMap<String, String>>,
    /// The secret to send as a bearer token.
    pub bearer: Option<String>,
    /// An address that must accept connections within 5 s: host:port.
    pub tcp: Option<String>,
    /// A program that must end with status 0 within 5 s, as the app's user.
    pub command: Option<OneOrMany>,
    /// How long it may take until all of it passes; no single try has longer than 5 s ("60s").
    pub timeout: Option<String>,
    /// The pause between two tries ("1s").
    pub interval: Option<String>,
    /// How often in a row it must pass (1).
    #[schemars(range(min = 1, max = 100))]
    pub passes: Option<u32>,
    /// For how long afterwards no unit may end or restart ("3s").
    pub quiet: Option<String>,
}

/// The value of a JSON field.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum JsonField {
    /// A text.
    Text(String),
    /// A whole number.
    Integer(i64),
    /// Yes or no.
    Boolean(bool),
}

/// The statuses that pass.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Statuses {
    /// One status or range.
    One(Status),
    /// Several.
    Many(Vec<Status>),
}

/// A status or a range of them.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Status {
    /// A status.
    Number(u16),
    /// A range: "200-299".
    Text(String),
}
