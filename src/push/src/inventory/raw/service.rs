//! `[apps.NAME.service]`, its timer and its socket, as written.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use super::OneOrMany;
use super::site::Listens;

/// A service unit.
#[derive(Debug, Default, Deserialize, JsonSchema)]
pub struct Service {
    /// The program with its arguments: a text, split into words at blanks with '…' and "…" around words that have some, or a list of words.
    pub exec: Option<OneOrMany>,
    /// More arguments.
    pub args: Option<Vec<String>>,
    /// Commands that run before it, each split into words like exec.
    pub exec_before: Option<Vec<String>>,
    /// What `systemctl status` calls it (the app's name).
    pub description: Option<String>,
    /// An own template in place of systemd/service.
    pub template: Option<String>,
    /// "exec", "notify", "simple", "oneshot" or "forking" ("exec"; "oneshot" with a timer).
    #[serde(rename = "type")]
    pub kind: Option<ServiceKind>,
    /// Its working folder (the release's, or / without a source).
    pub working_dir: Option<String>,
    /// Variables of this service alone.
    pub environment: Option<BTreeMap<String, String>>,
    /// "always", "on-failure" or "no" ("always"; "no" with a timer).
    pub restart: Option<Restart>,
    /// The pause before a restart ("1s").
    pub restart_delay: Option<String>,
    /// How long it may take to start; for "oneshot", to end ("60s"; without end for "oneshot").
    pub start_timeout: Option<String>,
    /// How long it may take to stop before it is killed ("30s").
    pub stop_timeout: Option<String>,
    /// How it reads its settings again: a signal ("HUP", "USR1", "USR2") or a list of words to run (it cannot).
    pub reload: Option<OneOrMany>,
    /// Memory above which it is killed (none).
    pub memory_max: Option<String>,
    /// Memory above which it is slowed down (none).
    pub memory_high: Option<String>,
    /// Share of one processor; above 100% is several (none).
    pub cpu_quota: Option<String>,
    /// Threads and processes (none).
    #[schemars(range(min = 1))]
    pub tasks_max: Option<u32>,
    /// Open files (as the system says).
    #[schemars(range(min = 1))]
    pub open_files: Option<u32>,
    /// What is forbidden to it: "strict", less for "node", "jvm" and "browser", nothing for "off" ("strict").
    pub hardening: Option<Hardening>,
    /// Whether it may listen on ports below 1024 (false).
    pub low_ports: Option<bool>,
    /// Folders that it may write to, besides the shared ones.
    pub writable: Option<OneOrMany>,
    /// Folders below /var/lib that systemd makes for it.
    pub state_dirs: Option<OneOrMany>,
    /// Units that are started before it.
    pub after: Option<OneOrMany>,
    /// Units that are started along with it.
    pub wants: Option<OneOrMany>,
    /// Units without which it does not run.
    pub requires: Option<OneOrMany>,
    /// Own drop-ins: file name to template.
    pub drop_ins: Option<BTreeMap<String, String>>,
}

/// A further service of an app, with its own timer or socket.
#[derive(Debug, Default, Deserialize, JsonSchema)]
pub struct ExtraService {
    /// The service.
    #[serde(flatten)]
    pub service: Service,
    /// The timer that runs it, which is a one-shot job then.
    pub timer: Option<Timer>,
    /// The socket that it is handed.
    pub socket: Option<Socket>,
}

/// How systemd knows that a service has started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ServiceKind {
    /// When the program has been executed.
    Exec,
    /// When the program says so.
    Notify,
    /// At once.
    Simple,
    /// When the program has ended.
    Oneshot,
    /// When the program's first process has ended.
    Forking,
}

/// When a service is started again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Restart {
    /// Whenever it ends.
    Always,
    /// When it failed.
    OnFailure,
    /// Never.
    No,
}

/// What is forbidden to a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Hardening {
    /// Everything that a static program does not need.
    Strict,
    /// Less, as Node, Bun and Deno need it.
    Node,
    /// Less, as a Java virtual machine needs it.
    Jvm,
    /// Less, as a browser with its own sandbox needs it.
    Browser,
    /// Nothing.
    Off,
}

/// When a service runs by itself.
#[derive(Debug, Default, Deserialize, JsonSchema)]
pub struct Timer {
    /// Times, as systemd's OnCalendar= reads them: "daily", "*-*-* 03:00:00".
    pub on_calendar: Option<OneOrMany>,
    /// Whether a run missed while the host was off is made up for (true).
    pub persistent: Option<bool>,
    /// Spreads runs over this time ("0s").
    pub randomized_delay: Option<String>,
    /// An own template in place of systemd/timer.
    pub template: Option<String>,
}

/// Sockets that systemd listens on for a service.
#[derive(Debug, Default, Deserialize, JsonSchema)]
pub struct Socket {
    /// Ports, addresses with ports, or paths.
    pub listen: Option<Listens>,
    /// The mode of a socket in the file system ("0660").
    pub mode: Option<String>,
    /// An own template in place of systemd/socket.
    pub template: Option<String>,
}
