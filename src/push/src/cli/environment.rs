//! What a command over an environment works with: the fleet, the hosts selected of it, and where
//! they are.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use secrecy::SecretString;

use super::arguments::{OneHost, Pace, Target as Words, Waiting};
use super::project::Project;
use super::{Stop, prompt};
use crate::event::{ExitCode, Listener};
use crate::inventory::{self, Colours, Fleet, Host, Jump, Login, Selector, nearest};
use crate::name::{EnvironmentName, HostName};
use crate::report::progress::Progress;
use crate::report::{Complaint, Report};
use crate::transport::Error;
use crate::transport::resolve::{Laptop, Resolver, Wanted};
use crate::transport::target::Target;

/// The most hosts that a message lists.
const LISTED_MAX: usize = 50;

/// How much of a mistyped word is shown, in bytes.
const WORD_SHOWN_MAX: usize = 100;

/// An environment with the hosts that a command is about.
#[derive(Debug, Clone)]
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
    /// The password that the operator brought along.
    pub password: Option<SecretString>,
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
        super::secret::settle(project.root())?;
        let fleet = load(&project, &name)?;
        let hosts = select(&fleet, &words.limit)?;
        let environment = Self::of(project, fleet, hosts);
        Ok(Self {
            parallel: pace.parallel.map_or(environment.parallel, in_memory),
            password: words
                .password_from
                .as_deref()
                .map(prompt::brought_along)
                .transpose()?,
            ..environment
        })
    }

    /// Reads the environment of one host. Where the operator names none, it is the only one that has
    /// a host of that name. Touches no host.
    pub fn of_one(words: &OneHost, folder: &Path) -> Result<(Self, HostName), Stop> {
        let project = Project::find(folder).map_err(Stop::usage)?;
        let (environment, word) = words.words();
        let fleet = match environment {
            Some(environment) => {
                let name = project.environment(environment).map_err(Stop::usage)?;
                load(&project, &name)?
            }
            None => only_fleet_with(&project, word)?,
        };
        let Some(host) = fleet
            .hosts
            .keys()
            .find(|host| host.as_str() == word)
            .cloned()
        else {
            return Err(Stop::usage(no_host(&fleet, word)));
        };
        let hosts = BTreeSet::from([host.clone()]);
        Ok((Self::of(project, fleet, hosts), host))
    }

    fn of(project: Project, fleet: Fleet, hosts: BTreeSet<HostName>) -> Self {
        Self {
            project,
            hosts,
            parallel: in_memory(fleet.rollout.parallel),
            patience: Duration::ZERO,
            way: Way::Configured,
            password: None,
            fleet,
        }
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
        self.targets_by(|host| host.login.clone()).await
    }

    /// Where the hosts selected are, logged in to in another way than the inventory says; machines on the way
    /// to them are not.
    pub async fn targets_by(
        &self,
        login: impl Fn(&Host) -> Login,
    ) -> Result<BTreeMap<HostName, Target>, Stop> {
        let asked = self.fleet.hosts.values().map(|host| {
            let mut host = host.clone();
            if self.hosts.contains(&host.name) {
                host.login = login(&host);
            }
            wanted(&host, (self.project.root(), self.way))
        });
        let resolver = Resolver::new(Laptop::from_environment(), asked);
        let mut targets = BTreeMap::new();
        for host in self.selected() {
            let target = resolver
                .resolve(host.name.as_str())
                .await
                .map_err(|error| stopped(&self.fleet.environment, &error))?;
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

/// A command ends because a host cannot be reached or is not believed.
pub fn stopped(environment: &EnvironmentName, error: &Error) -> Stop {
    let exit = if error.is_unreachable() {
        ExitCode::Unreachable
    } else {
        ExitCode::NotStarted
    };
    Stop {
        exit,
        complaint: Complaint::of(error).help(error.help(environment)),
    }
}

/// Shows a push to the operator.
pub fn listener(report: &Report) -> Arc<dyn Listener> {
    Arc::new(Progress::new(report.clone()))
}

fn in_memory(count: u32) -> usize {
    usize::try_from(count).unwrap_or(usize::MAX)
}

fn load(project: &Project, name: &EnvironmentName) -> Result<Fleet, Stop> {
    inventory::load(project.root(), name)
        .map_err(|errors| Stop::usage(Complaint::drawn(errors.render(Colours::Terminal))))
}

/// The fleet of the only environment that has such a host. An inventory with mistakes may hide one,
/// so its mistakes are told rather than another environment taken.
fn only_fleet_with(project: &Project, word: &str) -> Result<Fleet, Stop> {
    let mut found: Vec<Fleet> = Vec::new();
    for name in project.environments() {
        let fleet = load(project, &name)?;
        if fleet.hosts.keys().any(|host| host.as_str() == word) {
            found.push(fleet);
        }
    }
    let names: Vec<String> = found
        .iter()
        .map(|fleet| fleet.environment.to_string())
        .collect();
    match found.pop() {
        Some(fleet) if found.is_empty() => Ok(fleet),
        Some(_) => Err(Stop::usage(
            Complaint::new(format!(
                "several environments have a host {word}: {}",
                names.join(", ")
            ))
            .help(format!("say which one before it: {} {word}", names[0])),
        )),
        None => Err(Stop::usage(
            Complaint::new(format!("no environment has a host {}", shown(word)))
                .help("run `push` alone to see the environments"),
        )),
    }
}

fn no_host(fleet: &Fleet, word: &str) -> Complaint {
    let names: Vec<&str> = fleet.hosts.keys().map(HostName::as_str).collect();
    let guess = nearest(word, &names)
        .map(|near| format!("; did you mean `{near}`?"))
        .unwrap_or_default();
    let all = names.iter().take(LISTED_MAX).copied().collect::<Vec<_>>();
    Complaint::new(format!(
        "the environment {} has no host {}{guess}",
        fleet.environment,
        shown(word)
    ))
    .help(format!("it has: {}", all.join(", ")))
}

/// A word of the operator's, safe to show.
pub fn shown(word: &str) -> String {
    crate::visible::escape(word.as_bytes(), WORD_SHOWN_MAX)
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
fn wanted(host: &Host, (root, way): (&Path, Way)) -> Wanted {
    let jumps: Vec<String> = host.login.jump.iter().map(jump).collect();
    let jump = match way {
        Way::Straight if jumps.is_empty() => Some("none".to_owned()),
        Way::Configured | Way::Straight => (!jumps.is_empty()).then(|| jumps.join(",")),
    };
    // Who is called only by name is where `ssh NAME` would go.
    let is_named = host.address.as_str() == host.name.as_str();
    Wanted {
        host: host.name.to_string(),
        address: (!is_named).then(|| host.address.to_string()),
        port: host.login.port,
        user: host.login.user.as_ref().map(ToString::to_string),
        host_keys: host.host_keys.iter().map(ToString::to_string).collect(),
        identities: host
            .login
            .identity
            .iter()
            .map(|path| key_file(root, path))
            .collect(),
        jump,
    }
}

/// A key file as ssh_config writes it. Like every file that an inventory names, it is relative to the
/// project, unless it starts at the root or with what is expanded first. Nothing is expanded in the
/// project's own path.
fn key_file(root: &Path, path: &Path) -> String {
    let text = path.display().to_string();
    if text.starts_with(['/', '~', '$', '%']) {
        return text;
    }
    let root = root.display().to_string().replace('%', "%%");
    format!("{root}/{text}")
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

#[cfg(test)]
mod tests {
    use super::*;

    /// What the transport is told of the host `web1` in a project at `/srv/100%/shop`.
    fn told(rest: &str) -> Wanted {
        let folder = tempfile::tempdir().unwrap();
        let inventory = folder.path().join(inventory::FOLDER);
        std::fs::create_dir(&inventory).unwrap();
        let text = format!("project = \"shop\"\n[hosts.web1]\n{rest}");
        std::fs::write(inventory.join("prod.toml"), text).unwrap();
        let fleet = inventory::load(folder.path(), &"prod".parse().unwrap()).unwrap();
        let root = Path::new("/srv/100%/shop");
        wanted(&fleet.hosts["web1"], (root, Way::Configured))
    }

    #[test]
    fn a_host_without_an_address_is_where_ssh_config_says() {
        assert_eq!(told("").address, None);
        assert_eq!(told("address = \"web1\"\n").address, None);
        let address = told("address = \"203.0.113.10\"\n").address;
        assert_eq!(address.as_deref(), Some("203.0.113.10"));
    }

    #[test]
    fn a_key_file_is_relative_to_the_project_unless_it_says_where_it_starts() {
        let at = |file: &str| told(&format!("identity = \"{file}\"\n")).identities;
        assert_eq!(at("keys/db1"), ["/srv/100%%/shop/keys/db1"]);
        assert_eq!(at("keys/%r"), ["/srv/100%%/shop/keys/%r"]);
        for absolute in ["/keys/db1", "~/.ssh/db1", "${KEYS}/db1", "%d/keys/db1"] {
            assert_eq!(at(absolute), [absolute]);
        }
    }
}
