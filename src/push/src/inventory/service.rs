//! The services of an app, as systemd runs them.

use std::collections::{BTreeMap, BTreeSet};
use std::str::FromStr;
use std::time::Duration;

use super::{Bytes, EnvValue, Mode, Percent, Word};
use crate::name::{FileName, HostPath, TreePath, UnitName, VariableName};
use crate::template::{TemplateName, Templated};

/// One service unit, with the timer or socket that starts it.
#[derive(Debug, Clone, PartialEq)]
pub struct Service {
    /// Its name: `<app>.service` or `<app>-<name>.service`.
    pub unit: UnitName,
    /// What `systemctl status` calls it.
    pub description: Templated<Word>,
    /// The template that renders it; `systemd/service` unless the operator has their own.
    pub template: TemplateName,
    /// The program and its arguments, one word each, never split again. Empty only with an own
    /// template, which then says itself what runs.
    pub exec: Vec<Templated<Word>>,
    /// Commands that run before `exec`, each a list of words.
    pub exec_before: Vec<Vec<Templated<Word>>>,
    /// How systemd knows that it has started.
    pub kind: ServiceKind,
    /// Its working folder; `None` is `/`.
    pub working_dir: Option<Templated<HostPath>>,
    /// Variables of this service alone, over the app's.
    pub environment: BTreeMap<VariableName, Templated<EnvValue>>,
    /// When systemd starts it again.
    pub restart: Restart,
    /// How long systemd waits before it starts it again.
    pub restart_delay: Duration,
    /// How long it may take to start; `None` is as long as it takes.
    pub start_timeout: Option<Duration>,
    /// How long it may take to stop before it is killed.
    pub stop_timeout: Duration,
    /// What a change that does not need a restart does, and how a reload is done.
    pub reload: Reload,
    /// Resource limits.
    pub limits: Limits,
    /// What it may do on the host.
    pub hardening: Hardening,
    /// Whether it may listen on ports below 1024.
    pub low_ports: LowPorts,
    /// Folders of the host that it may write to, besides the app's shared ones.
    pub writable: BTreeSet<HostPath>,
    /// Folders below `/var/lib` that systemd makes for it.
    pub state_dirs: BTreeSet<TreePath>,
    /// Units that must be started before it.
    pub after: BTreeSet<UnitName>,
    /// Units that are started along with it.
    pub wants: BTreeSet<UnitName>,
    /// Units without which it does not run.
    pub requires: BTreeSet<UnitName>,
    /// Own drop-ins: the file's name (`10-limits.conf`) and the template.
    pub drop_ins: BTreeMap<FileName, TemplateName>,
    /// The timer that runs it. The service is then a one-shot job and is not started by a push.
    pub timer: Option<Timer>,
    /// The socket that it is handed.
    pub socket: Option<Socket>,
}

impl Service {
    /// Where its own drop-ins are on a host.
    pub fn drop_in_paths(&self) -> impl Iterator<Item = HostPath> {
        let names = self.drop_ins.keys();
        names.filter_map(|name| {
            let path = format!("/etc/systemd/system/{}.d/{name}", self.unit);
            path.parse().ok()
        })
    }
}

/// How systemd knows that a service has started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServiceKind {
    /// When the program has been executed.
    Exec,
    /// When the program says so (`sd_notify`).
    Notify,
    /// At once.
    Simple,
    /// When the program has ended.
    Oneshot,
    /// When the program's first process has ended.
    Forking,
}

impl ServiceKind {
    /// The value of `Type=`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Exec => "exec",
            Self::Notify => "notify",
            Self::Simple => "simple",
            Self::Oneshot => "oneshot",
            Self::Forking => "forking",
        }
    }
}

/// When systemd starts a service again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Restart {
    /// Whenever it ends.
    Always,
    /// When it failed.
    OnFailure,
    /// Never.
    No,
}

impl Restart {
    /// The value of `Restart=`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Always => "always",
            Self::OnFailure => "on-failure",
            Self::No => "no",
        }
    }
}

/// How a service takes in a change without being restarted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reload {
    /// It cannot: every change restarts it.
    Restart,
    /// By a signal to its main process.
    Signal(Signal),
    /// By a command.
    Command(Vec<Templated<Word>>),
}

/// A signal that may mean "reload".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// SIGHUP
    Hup,
    /// SIGUSR1
    Usr1,
    /// SIGUSR2
    Usr2,
}

impl Signal {
    /// The name that `kill` takes.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Hup => "HUP",
            Self::Usr1 => "USR1",
            Self::Usr2 => "USR2",
        }
    }
}

/// Resource limits; `None` is no limit.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Limits {
    /// Memory above which it is killed.
    pub memory_max: Option<Bytes>,
    /// Memory above which it is slowed down.
    pub memory_high: Option<Bytes>,
    /// Share of one processor; above 100 % is several.
    pub cpu_quota: Option<Percent>,
    /// Threads and processes.
    pub tasks_max: Option<u32>,
    /// Open files.
    pub open_files: Option<u32>,
}

/// How much of the host a service can reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hardening {
    /// Everything that a static program does not need is forbidden.
    Strict,
    /// As strict as a runtime allows that makes code while it runs and reads `/proc`: Node, Bun, Deno.
    Node,
    /// As strict as a Java virtual machine allows.
    Jvm,
    /// As strict as a browser with its own sandbox allows.
    Browser,
    /// Nothing is forbidden.
    Off,
}

impl Hardening {
    /// The word in the inventory.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Strict => "strict",
            Self::Node => "node",
            Self::Jvm => "jvm",
            Self::Browser => "browser",
            Self::Off => "off",
        }
    }
}

/// Whether a service may listen on ports below 1024.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LowPorts {
    /// It may not.
    Refused,
    /// It may.
    Allowed,
}

/// When a service runs by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timer {
    /// The template that renders it; `systemd/timer` unless the operator has their own.
    pub template: TemplateName,
    /// Times, as systemd's `OnCalendar=` reads them; at least one.
    pub on_calendar: Vec<Calendar>,
    /// Whether a run that was missed while the host was off is made up for.
    pub persistence: Persistence,
    /// Spreads runs over this time.
    pub randomized_delay: Duration,
}

/// A time as systemd's `OnCalendar=` reads it; checked here for its characters only.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Calendar(String);

impl Calendar {
    /// The expression.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The longest calendar expression, in bytes.
const CALENDAR_BYTES_MAX: usize = 200;

/// A text that is no calendar expression.
#[derive(Debug, thiserror::Error)]
#[error(
    "it is no time as systemd's OnCalendar= reads them, such as \"daily\" or \"*-*-* 03:00:00\""
)]
pub struct CalendarError;

impl FromStr for Calendar {
    type Err = CalendarError;
    fn from_str(text: &str) -> Result<Self, CalendarError> {
        let stands = |c: u8| c.is_ascii_alphanumeric() || b" *-:,./~+_".contains(&c);
        let fits =
            !text.trim().is_empty() && text.len() <= CALENDAR_BYTES_MAX && text.bytes().all(stands);
        if fits {
            Ok(Self(text.to_owned()))
        } else {
            Err(CalendarError)
        }
    }
}

/// Whether missed runs are made up for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Persistence {
    /// One run follows at the next boot.
    MakeUp,
    /// They are left out.
    Skip,
}

/// Sockets that systemd listens on for a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Socket {
    /// The template that renders it; `systemd/socket` unless the operator has their own.
    pub template: TemplateName,
    /// Where to listen; at least one.
    pub listen: Vec<ListenStream>,
    /// The mode of a socket in the file system.
    pub mode: Mode,
}

/// Where a socket listens.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum ListenStream {
    /// A TCP port on every address, IPv4 and IPv6.
    Port(u16),
    /// A TCP port on one address.
    Address(std::net::SocketAddr),
    /// A socket in the file system.
    Path(HostPath),
}

impl ListenStream {
    /// The TCP port, if it is one.
    pub fn port(&self) -> Option<u16> {
        match self {
            Self::Port(port) => Some(*port),
            Self::Address(address) => Some(address.port()),
            Self::Path(_) => None,
        }
    }
}
