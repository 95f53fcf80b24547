//! What an environment declares, resolved: every default is filled in, every name and value is of a
//! type that cannot be wrong, every selector has become the hosts it selects.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use push_wire::manifest::HOST_SLICE;

use super::{
    App, Bootstrap, Files, Firewall, HostAddress, HostKey, ListenStream, Readers, Selector,
    SelectorError, Site,
};
use crate::name::{
    AppName, EnvironmentName, HostName, HostPath, LoginName, ProjectName, ReleaseId, TagName,
    VarName,
};
use crate::template::{AppScope, EnvironmentScope, HostScope, ReleaseScope, Scope, SecretScope};

/// Everything that one environment declares.
#[derive(Debug, Clone, PartialEq)]
pub struct Fleet {
    /// The environment's name.
    pub environment: EnvironmentName,
    /// The name of this project's slice on its hosts.
    pub project: ProjectName,
    /// Whether a risky plan asks for the environment's name.
    pub protection: Protection,
    /// How many committed releases of each app a host keeps.
    pub keep_releases: u32,
    /// What is common to all connections.
    pub ssh: Ssh,
    /// Files with the keys that open secrets, as they are written; relative to the project's folder.
    /// Empty: wherever the operator keeps them.
    pub identities: Vec<PathBuf>,
    /// Who may open which secrets.
    pub readers: Readers,
    /// The hosts; never empty.
    pub hosts: BTreeMap<HostName, Host>,
    /// The apps.
    pub apps: BTreeMap<AppName, App>,
    /// The firewall, if this project declares one.
    pub firewall: Option<Firewall>,
    /// What a fresh machine is made into, if this environment says so.
    pub bootstrap: Option<Bootstrap>,
    /// Other files on hosts.
    pub files: Files,
    /// How a push goes through the fleet.
    pub rollout: Rollout,
}

/// Whether a plan that is asked about is confirmed by typing the environment's name. `--yes` answers
/// that question too, since a pipeline has nobody to type it; `push plan` shows it what it agrees to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protection {
    /// A plain yes is enough.
    Plain,
    /// The environment's name is asked for, unless `--yes` has answered.
    Protected,
}

impl Protection {
    /// Whether a risky plan asks for the environment's name.
    pub fn is_protected(self) -> bool {
        self == Self::Protected
    }
}

/// What is common to all connections of an environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ssh {
    /// The longest time from the first packet to a working connection.
    pub connect_timeout: Duration,
}

/// One machine.
#[derive(Debug, Clone, PartialEq)]
pub struct Host {
    /// Its name in the inventory.
    pub name: HostName,
    /// Where it is. The host's own name where the inventory gives no address; `~/.ssh/config` may then
    /// know better, as it does for `ssh`.
    pub address: HostAddress,
    /// How to log in.
    pub login: Login,
    /// The pinned keys; empty means that push's own `known_hosts` is asked.
    pub host_keys: Vec<HostKey>,
    /// Words for selectors.
    pub tags: BTreeSet<TagName>,
    /// Values for templates.
    pub vars: BTreeMap<VarName, serde_json::Value>,
}

/// How to log in to a host. `None` is absence: `~/.ssh/config` then decides, as it does for `ssh`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Login {
    /// Whom to log in as.
    pub user: Option<LoginName>,
    /// The TCP port.
    pub port: Option<u16>,
    /// The only key file to offer.
    pub identity: Option<PathBuf>,
    /// The machines to go through, first to last. Empty: as `~/.ssh/config` says.
    pub jump: Vec<Jump>,
}

/// A machine to go through.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Jump {
    /// A host of the same inventory, with its own settings.
    Host(HostName),
    /// Another machine.
    Address {
        /// Whom to log in as there.
        user: Option<LoginName>,
        /// Where it is.
        address: HostAddress,
        /// Its TCP port.
        port: Option<u16>,
    },
}

/// How a push goes through the fleet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rollout {
    /// How many hosts have switched after each wave; the last wave is always all of them.
    pub waves: Vec<Wave>,
    /// A push stops when more hosts than this have failed.
    pub failures_max: u32,
    /// What is taken back when a push stops.
    pub undo: Undo,
    /// How many hosts are worked on at once.
    pub parallel: u32,
    /// How long a risky generation waits for the operator to come in again before it is taken back.
    pub confirm_timeout: Duration,
}

/// The size of a wave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wave {
    /// So many hosts have switched after this wave.
    Hosts(u32),
    /// This share of the hosts, rounded up, has switched after this wave.
    Percent(u8),
}

/// What is taken back when a push stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Undo {
    /// Only the hosts that failed, which take themselves back.
    Host,
    /// Every host of the wave that failed.
    Wave,
    /// Every host that this push has switched.
    All,
}

/// The release id that stands for any, when texts are checked before there is a release.
pub const ANY_RELEASE: &str = "20260101T000000Z-0000000";

impl Fleet {
    /// What this environment is called by those who ask whose a slice is. The one called `host` is no
    /// project's, so that whose environment it is would not be known without the project.
    pub fn name_in(&self, slice: &ProjectName) -> String {
        if slice.as_str() == HOST_SLICE {
            format!("{}/{}", self.project, self.environment)
        } else {
            self.environment.to_string()
        }
    }

    /// The hosts that a selector selects. Selecting nothing is an error that lists what exists.
    pub fn select(&self, selector: &Selector) -> Result<BTreeSet<HostName>, SelectorError> {
        selector.among(&self.hosts)
    }

    /// The apps that a host carries.
    pub fn apps_on(&self, host: &HostName) -> impl Iterator<Item = &App> {
        self.apps.values().filter(|app| app.on.contains(host))
    }

    /// The files that a host has, besides those of its apps.
    pub(super) fn files_on(&self, host: &HostName) -> impl Iterator<Item = &HostPath> {
        let here = self.files.iter().filter(|(_, file)| file.on.contains(host));
        here.map(|(path, _)| path)
    }

    /// What a text that belongs to no app can name.
    pub fn scope(&self, host: &Host) -> Scope {
        Scope {
            host: HostScope {
                name: host.name.to_string(),
                address: host.address.to_string(),
                tags: host.tags.iter().map(TagName::to_string).collect(),
                vars: host
                    .vars
                    .iter()
                    .map(|(name, value)| (name.to_string(), value.clone()))
                    .collect(),
            },
            environment: EnvironmentScope {
                name: self.environment.to_string(),
            },
            project: self.project.to_string(),
            app: None,
            release: None,
            secret: None,
        }
    }

    /// What a text of an app can name. `release` is `None` for an app that ships nothing.
    pub fn app_scope(&self, host: &Host, app: &App, release: Option<&ReleaseId>) -> Scope {
        Scope {
            app: Some(AppScope {
                name: app.name.to_string(),
                user: app.user.to_string(),
                dir: app.dir(),
                shared: format!("{}/shared", app.dir()),
            }),
            release: release.map(|id| ReleaseScope {
                id: id.to_string(),
                dir: format!("{}/releases/{id}", app.dir()),
                current: format!("{}/current", app.dir()),
            }),
            secret: Some(SecretScope {
                path: app
                    .secrets
                    .keys()
                    .map(|name| {
                        (
                            name.as_str().replace(['-', '.'], "_"),
                            app.secret_path(name),
                        )
                    })
                    .collect(),
            }),
            ..self.scope(host)
        }
    }

    /// The ports that an app listens on there: those it declares, those of its sockets, and those of
    /// this host that its health probes ask. A port of nginx is no app's.
    pub fn ports(&self, host: &Host, app: &App) -> BTreeSet<u16> {
        let scope = self.trial_scope(host, app);
        let sockets = app
            .services
            .iter()
            .filter_map(|service| service.socket.as_ref());
        let listening =
            sockets.flat_map(|socket| socket.listen.iter().filter_map(ListenStream::port));
        let mut ports: BTreeSet<u16> = app.ports.iter().copied().chain(listening).collect();
        if !app.services.is_empty() {
            let sites = self.apps_on(&host.name).filter_map(|app| app.site.as_ref());
            let nginx: BTreeSet<u16> = sites.flat_map(Site::ports).collect();
            let probed = app
                .health
                .probes
                .iter()
                .filter_map(|probe| probe.local_port(&scope));
            ports.extend(probed.filter(|port| !nginx.contains(port)));
        }
        ports
    }

    /// The same with a stand-in release, for checks before anything is built.
    pub(super) fn trial_scope(&self, host: &Host, app: &App) -> Scope {
        let release = app.source.as_ref().and(ANY_RELEASE.parse().ok());
        self.app_scope(host, app, release.as_ref())
    }
}
