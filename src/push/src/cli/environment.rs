//! What a command over an environment works with: the fleet, the hosts selected of it, and where
//! they are.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::Stop;
use super::arguments::{Pace, Target as Words, Waiting};
use super::project::Project;
use crate::event::{ExitCode, Listener};
use crate::inventory::{self, Colours, Fleet, Host, Jump, Selector};
use crate::name::HostName;
use crate::report::progress::Progress;
use crate::report::{Complaint, Report};
use crate::transport::resolve::{Laptop, Resolver, Wanted};
use crate::transport::target::Target;

/// An environment with the hosts that a command is about.
#[derive(Debug)]
pub struct Environment {
    /// The project's folder.
    pub project: Project,
    /// What is declared.
    pub fleet: Fleet,
    /// The hosts selected; at least one.
    pub hosts: BTreeSet<HostName>,
    /// How many hosts are worked on at once.
    pub parallel: usize,
    /// How long a host that another push holds is waited for.
    pub patience: Duration,
    /// How hosts are come by that name no jump host.
    pub way: Way,
}

/// How a host is come by that names no jump host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// As the operator's ssh_config says.
    Configured,
    /// Straight, whatever ssh_config says about its name: it is another machine.
    Straight,
}

impl Environment {
    /// Reads the environment that the operator named, and selects hosts of it. Touches no host.
    pub fn read(words: &Words, pace: Pace, folder: &Path) -> Result<Self, Stop> {
        let project = Project::find(folder).map_err(Stop::usage)?;
        let Some(word) = &words.environment else {
            return Err(Stop::usage(project.unnamed()));
        };
        let name = project.environment(word).map_err(Stop::usage)?;
        let fleet = inventory::load(project.root(), &name)
            .map_err(|errors| Stop::usage(Complaint::drawn(errors.render(Colours::Terminal))))?;
        let hosts = select(&fleet, &words.limit)?;
        let parallel = pace.parallel.unwrap_or(fleet.rollout.parallel);
        Ok(Self {
            project,
            hosts,
            parallel: usize::try_from(parallel).unwrap_or(usize::MAX),
            patience: Duration::ZERO,
            way: Way::Configured,
            fleet,
        })
    }

    /// The same, with patience for hosts that another push holds.
    pub fn waiting(self, waiting: Waiting) -> Self {
        Self {
            patience: waiting.patience(),
            ..self
        }
    }

    /// The hosts selected.
    pub fn selected(&self) -> impl Iterator<Item = &Host> {
        self.fleet
            .hosts
            .values()
            .filter(|host| self.hosts.contains(&host.name))
    }

    /// Where the hosts are, as the inventory and the operator's ssh_config say.
    pub async fn targets(&self) -> Result<BTreeMap<HostName, Target>, Stop> {
        let resolver = Resolver::new(
            Laptop::from_environment(),
            self.fleet.hosts.values().map(|host| wanted(host, self.way)),
        );
        let mut targets = BTreeMap::new();
        for host in self.selected() {
            let target = resolver
                .resolve(host.name.as_str())
                .await
                .map_err(|error| Stop {
                    exit: ExitCode::NotStarted,
                    complaint: Complaint::of(&error).help(error.help()),
                })?;
            let connect_timeout = self.fleet.ssh.connect_timeout;
            targets.insert(
                host.name.clone(),
                Target {
                    connect_timeout,
                    ..target
                },
            );
        }
        Ok(targets)
    }
}

/// Shows a push to the operator, with how to ssh to each host for the commands that look further.
pub fn listener(report: &Report, targets: &BTreeMap<HostName, Target>) -> Arc<dyn Listener> {
    let doors = targets
        .iter()
        .map(|(name, target)| (name.clone(), door(target)))
        .collect();
    Arc::new(Progress::new(report.clone(), doors))
}

/// How to ssh to a host: `deploy@192.0.2.7`, `-p 2222 deploy@192.0.2.7`.
fn door(target: &Target) -> String {
    const SSH_PORT: u16 = 22;
    let place = format!("{}@{}", target.user, target.address);
    if target.port == SSH_PORT {
        return place;
    }
    format!("-p {} {place}", target.port)
}

fn select(fleet: &Fleet, limits: &[String]) -> Result<BTreeSet<HostName>, Stop> {
    let selector = match limits {
        [] => Ok(Selector::all()),
        words => Selector::parse_list(words),
    };
    selector
        .and_then(|selector| fleet.select(&selector))
        .map_err(|error| Stop::usage(Complaint::of(&error).help(error.help())))
}

/// What the inventory says of a host, for the transport.
fn wanted(host: &Host, way: Way) -> Wanted {
    let jumps: Vec<String> = host.login.jump.iter().map(jump).collect();
    let jump = match way {
        Way::Straight if jumps.is_empty() => Some("none".to_owned()),
        Way::Configured | Way::Straight => (!jumps.is_empty()).then(|| jumps.join(",")),
    };
    Wanted {
        host: host.name.to_string(),
        address: Some(host.address.to_string()),
        port: host.login.port,
        user: host.login.user.as_ref().map(ToString::to_string),
        host_keys: host.host_keys.iter().map(ToString::to_string).collect(),
        identities: host
            .login
            .identity
            .iter()
            .map(|path| path.display().to_string())
            .collect(),
        jump,
    }
}

/// A jump as `ProxyJump` writes it.
fn jump(jump: &Jump) -> String {
    match jump {
        Jump::Host(name) => name.to_string(),
        Jump::Address {
            user,
            address,
            port,
        } => {
            let user = user
                .as_ref()
                .map(|user| format!("{user}@"))
                .unwrap_or_default();
            let address = address.to_string();
            let address = if address.contains(':') {
                format!("[{address}]")
            } else {
                address
            };
            let port = port.map(|port| format!(":{port}")).unwrap_or_default();
            format!("{user}{address}{port}")
        }
    }
}
