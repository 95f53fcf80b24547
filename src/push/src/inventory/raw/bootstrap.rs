//! `[bootstrap]`, as it is written.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use super::OneOrMany;

/// What `push bootstrap` makes of a fresh machine: a host that this environment can be pushed to.
#[derive(Debug, Default, Deserialize, JsonSchema)]
pub struct Bootstrap {
    /// The hosts that have it (all).
    pub on: Option<OneOrMany>,
    /// Public keys that may log in as the inventory's user, as authorized_keys writes them; needed.
    pub keys: Option<OneOrMany>,
    /// Debian packages besides those that push itself needs: "nodejs", "sqlite3", "chromium" (none).
    pub packages: Option<OneOrMany>,
    /// Whether a host calls itself what the inventory calls it (true).
    pub hostname: Option<bool>,
    /// The zone of local time ("Etc/UTC").
    pub time_zone: Option<String>,
    /// The language of programs ("C.UTF-8").
    pub locale: Option<String>,
    /// The size of a swap file, where there is no swap (none).
    pub swap: Option<String>,
    /// Parameters of the kernel, besides push's own choice of safe ones.
    pub sysctl: Option<BTreeMap<String, Parameter>>,
    /// The most that the system's log keeps on disk ("1G").
    pub journal_max: Option<String>,
    /// Whether security upgrades install themselves (true).
    pub upgrades: Option<bool>,
    /// Whether sshd lets in by key alone, and root not at all (true).
    pub harden_ssh: Option<bool>,
    /// Whether everything is dropped but logins, the environment's sites and what [firewall] lets in (true).
    pub firewall: Option<bool>,
    /// Who gives certificates to sites with tls = "auto", over ACME (nobody).
    pub tls: Option<Authority>,
}

/// An authority that gives certificates over ACME; certbot asks it, and renews them.
#[derive(Debug, Default, Deserialize, JsonSchema)]
pub struct Authority {
    /// The mailbox that the authority writes to; needed.
    pub email: Option<String>,
    /// "agreed" says that you have read and accept the authority's terms of service; needed.
    pub terms: Option<Terms>,
    /// Its directory: "production" and "staging" are Let's Encrypt's, else an https URL ("production").
    pub endpoint: Option<String>,
    /// A PEM file, relative to the project's folder, with whom hosts believe that an authority of your own is itself (the system's).
    pub endpoint_ca: Option<String>,
}

/// Whether somebody accepts an authority's terms of service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Terms {
    /// They do.
    Agreed,
}

/// A parameter of the kernel.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Parameter {
    /// A number.
    Number(i64),
    /// A text, such as two numbers.
    Text(String),
}
