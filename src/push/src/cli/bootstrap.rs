//! `push bootstrap`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use jiff::Timestamp;
use push_wire::manifest::HOST_SLICE;

use super::arguments::{Again, Asking, Pace, Target, Waiting};
use super::environment::Environment;
use super::gate::{self, Shown};
use super::introduction::{Introduction, Record};
use super::plan::Pending;
use super::{Stop, deploy, plan, reach, runtime, shipment};
use crate::conversation::Presence;
use crate::desired::{self, Applying, MemberInput};
use crate::event::{ExitCode, Verb};
use crate::inventory::{self, Login};
use crate::name::{HostName, LoginName, ProjectName};
use crate::release::{self, Checkout};
use crate::report::{Complaint, Report};
use crate::rollout::{
    self, Access, Bootstrap as Intent, DeployPlan, Interrupt, Others, Policy, Pushed,
};
use crate::template::Engine;
use crate::transport::Fingerprint;
use crate::transport::Target as Place;
use crate::transport::ssh::SshDialer;
use crate::transport::target::Asking as Questions;

/// Make fresh machines into hosts of an environment, or hosts what they should be
///
/// Packages, the login that the inventory names with its keys and its one right, sshd by key alone, a
/// firewall, security upgrades, names and limits. Safe to run again at any time: what is there already is
/// left alone. What could lock you out stays only if push comes in again as the inventory's login.
///
/// A host whose key nobody knows yet is asked about before anything is sent to it, and its key is written
/// into the inventory.
#[derive(Debug, clap::Args)]
pub struct Bootstrap {
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    first: First,
    /// The fingerprint that the host's key must have, so that nothing is asked; for one host
    #[arg(long, value_name = "SHA256:…")]
    host_key: Option<Fingerprint>,
    /// Replace what the bootstrap of another environment declared there otherwise
    #[arg(long)]
    take_over: bool,
    /// Only show the plan
    #[arg(short = 'n', long)]
    dry_run: bool,
    #[command(flatten)]
    again: Again,
    #[command(flatten)]
    asking: Asking,
    #[command(flatten)]
    pace: Pace,
    #[command(flatten)]
    waiting: Waiting,
}

/// How hosts are come to that are not what the inventory says yet.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct First {
    /// Whom to log in as while the inventory's own login is not there yet
    #[arg(long = "as", value_name = "USER")]
    pub user: Option<LoginName>,
    /// The port to come in by then
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    pub port: Option<u16>,
}

impl First {
    /// Where the environment's hosts are come to.
    async fn targets(&self, environment: &Environment) -> Result<BTreeMap<HostName, Place>, Stop> {
        let login = |host: &inventory::Host| Login {
            user: self.user.clone().or_else(|| host.login.user.clone()),
            port: self.port.or(host.login.port),
            ..host.login.clone()
        };
        environment.targets_by(login).await
    }

    fn is_given(&self) -> bool {
        self.user.is_some() || self.port.is_some()
    }
}

/// Hosts on the way to becoming members, and how they are come to.
pub struct Arrival<'a> {
    /// The environment, with the hosts that have a bootstrap.
    pub environment: &'a Environment,
    /// How they are come to the first time.
    pub first: &'a First,
    /// Who calls them.
    pub dialer: Arc<SshDialer>,
}

/// Bootstraps.
pub fn run(arguments: &Bootstrap, folder: &Path, report: &Report) -> Result<ExitCode, Stop> {
    let environment =
        Environment::read(&arguments.target, arguments.pace, folder)?.waiting(arguments.waiting);
    let mut intent = intent(&environment)?;
    intent.applying = arguments.again.applying();
    if arguments.take_over {
        intent.others = Others::Replaced;
    }
    let environment = narrowed(environment, &intent.bootstrap)?;
    only_one_key(&environment, arguments)?;
    runtime::run(async |interrupt| {
        let dialer = Arc::new(reach::dialer(&environment, report));
        let met = meet(environment, arguments, (&dialer, report));
        let environment = interrupt.unless_asked(met).await.unwrap_or_else(|| {
            Err(Stop {
                exit: ExitCode::Interrupted,
                complaint: Complaint::new("interrupted before anything was done to a host"),
            })
        })?;
        let arrival = Arrival {
            environment: &environment,
            first: &arguments.first,
            dialer,
        };
        let verb = if arguments.dry_run {
            Verb::Plan
        } else {
            Verb::Bootstrap
        };
        let pushed = push(
            arrival,
            intent,
            (verb, arguments.asking),
            (report, interrupt),
        )
        .await?;
        if arguments.dry_run {
            let shown = gate::fleet_plan(&environment.fleet.environment, &pushed.plans);
            gate::show(report, &shown);
            return Ok(plan::exit(&pushed, Pending::Fine));
        }
        Ok(pushed.exit)
    })
}

/// Makes the hosts members, once the plan has been agreed to; with [`Verb::Plan`], only makes the plan.
pub async fn push(
    arrival: Arrival<'_>,
    intent: Intent,
    (verb, asking): (Verb, Asking),
    (report, interrupt): (&Report, Interrupt),
) -> Result<Pushed<DeployPlan>, Stop> {
    let environment = arrival.environment;
    let access = arrival.access(verb, (report, interrupt)).await?;
    let policy = policy(environment, verb, &intent)?;
    let gate = Shown {
        report: report.clone(),
        environment: environment.fleet.environment.clone(),
        protection: environment.fleet.protection,
        asking,
    };
    Ok(rollout::push(access, Arc::new(intent), policy, &gate).await)
}

/// A fingerprint is one host's.
fn only_one_key(environment: &Environment, arguments: &Bootstrap) -> Result<(), Stop> {
    if arguments.host_key.is_none() || environment.hosts.len() == 1 {
        return Ok(());
    }
    let names: Vec<&str> = environment.hosts.iter().map(HostName::as_str).collect();
    Err(Stop::usage(
        Complaint::new(format!(
            "`--host-key` is the key of one host, and {} are selected: {}",
            names.len(),
            names.join(", ")
        ))
        .help(format!(
            "select it: `push bootstrap {} -l {} --host-key SHA256:…`",
            environment.fleet.environment, names[0]
        )),
    ))
}

/// The environment with the keys of its hosts known: those that nobody has pinned are met first, hosts that
/// others lie behind before the others. With a fingerprint given, a key that is pinned is compared as well.
async fn meet(
    mut environment: Environment,
    arguments: &Bootstrap,
    (dialer, report): (&Arc<SshDialer>, &Report),
) -> Result<Environment, Stop> {
    let given = arguments.host_key.as_ref();
    let mut unmet: BTreeSet<HostName> = environment
        .selected()
        .filter(|host| host.host_keys.is_empty() || given.is_some())
        .map(|host| host.name.clone())
        .collect();
    while !unmet.is_empty() {
        let mut targets = arguments.first.targets(&environment).await?;
        targets.retain(|host, _| unmet.contains(host));
        let nearest = targets.values().map(|target| target.jumps.len()).min();
        targets.retain(|_, target| Some(target.jumps.len()) == nearest);
        unmet.retain(|host| !targets.contains_key(host) && nearest.is_some());
        let introduction = Introduction {
            environment: &environment,
            dialer: Arc::clone(dialer),
            given,
            record: if arguments.dry_run {
                Record::Nothing
            } else {
                Record::Pin
            },
            command: format!("push bootstrap {} -l", environment.fleet.environment),
        };
        for (host, pin) in introduction.make(targets, report).await? {
            if let Some(host) = environment.fleet.hosts.get_mut(&host) {
                host.host_keys = vec![pin];
            }
        }
    }
    Ok(environment)
}

/// Everything that is brought, read before a host is called.
pub fn intent(environment: &Environment) -> Result<Intent, Stop> {
    let fleet = &environment.fleet;
    let Some(bootstrap) = fleet.bootstrap.clone() else {
        let nothing = format!(
            "inventory/{}.toml does not say what a host is to be made into",
            fleet.environment
        );
        return Err(Stop::usage(Complaint::new(nothing).help(
            "add [bootstrap] with keys = [\"ssh-ed25519 AAAA… you\"]; everything else has a default",
        )));
    };
    let root = environment.project.root();
    let engine = Engine::open(&root.join(inventory::TEMPLATES))
        .map_err(|error| Stop::usage(Complaint::of(&error).help(error.help())))?;
    let verbatim = release::verbatim(fleet, root)
        .map_err(|error| Stop::usage(Complaint::of(&error).help(error.help())))?;
    let selected = environment.hosts.intersection(&bootstrap.on);
    for host in selected.filter_map(|name| fleet.hosts.get(name)) {
        let input = MemberInput {
            fleet,
            bootstrap: &bootstrap,
            host,
            engine: &engine,
            verbatim: &verbatim,
        };
        desired::member(&input)
            .map_err(|error| shipment::unfit(&error, fleet, "bootstrap --dry-run"))?;
    }
    let checkout = Checkout::of(root);
    let now = Timestamp::now();
    let name = fleet.name_in(&host_slice()?);
    Ok(Intent {
        provenance: release::provenance(name, root, checkout.as_ref(), now),
        others: Others::Left,
        applying: Applying::Changes,
        fleet: fleet.clone(),
        bootstrap,
        engine,
        verbatim,
    })
}

/// The environment with those of its selected hosts that have a bootstrap.
pub fn narrowed(
    environment: Environment,
    bootstrap: &inventory::Bootstrap,
) -> Result<Environment, Stop> {
    let hosts: BTreeSet<_> = environment
        .hosts
        .intersection(&bootstrap.on)
        .cloned()
        .collect();
    if hosts.is_empty() {
        let none = Complaint::new("none of these hosts has a bootstrap");
        return Err(Stop::usage(none.help(
            "`on` under [bootstrap] says which have; `--limit` selects among them",
        )));
    }
    Ok(Environment {
        hosts,
        ..environment
    })
}

impl Arrival<'_> {
    /// The hosts, come to as the command line says, and come back to as the inventory says.
    async fn access(
        &self,
        verb: Verb,
        (report, interrupt): (&Report, Interrupt),
    ) -> Result<Arc<Access>, Stop> {
        let presence = if verb == Verb::Plan {
            Presence::Look
        } else {
            Presence::Install
        };
        let access = reach::access(self.environment, presence, report, interrupt).await?;
        let mut access = Arc::into_inner(access).ok_or_else(|| {
            Stop::not_started(Complaint::new("the way to the hosts is in use already"))
        })?;
        // The one that has met them: what was typed for it is not asked again.
        access.dialer = self.dialer.clone();
        if self.first.is_given() {
            let targets = self.first.targets(self.environment).await?;
            let returns = std::mem::replace(&mut access.targets, targets);
            access.returns = by_key(returns, &access.targets);
        }
        Ok(Arc::new(access))
    }
}

/// The ways back. A login that is another one than the first comes in by one of its keys, and is never given
/// the password that was typed or brought along for the first.
fn by_key(
    mut returns: BTreeMap<HostName, Place>,
    first: &BTreeMap<HostName, Place>,
) -> BTreeMap<HostName, Place> {
    for (host, place) in &mut returns {
        if first.get(host).is_none_or(|first| first.user != place.user) {
            place.asking = Questions::Nobody;
        }
    }
    returns
}

fn policy(environment: &Environment, verb: Verb, intent: &Intent) -> Result<Policy, Stop> {
    Ok(Policy {
        project: host_slice()?,
        ..deploy::policy(environment, verb, intent.provenance.clone())
    })
}

fn host_slice() -> Result<ProjectName, Stop> {
    HOST_SLICE
        .parse()
        .map_err(|error| Stop::not_started(Complaint::of(&error)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_password_of_the_first_login_is_never_given_to_the_one_that_comes_back() {
        let at = |user: &str| {
            let place = Place {
                user: user.into(),
                ..Place::at("web1", "192.0.2.1", 22)
            };
            BTreeMap::from([("web1".parse::<HostName>().unwrap(), place)])
        };
        let asking = |returns, first| {
            let returns = by_key(at(returns), &at(first));
            returns.into_values().next().unwrap().asking
        };
        assert_eq!(asking("deploy", "root"), Questions::Nobody);
        assert_eq!(asking("root", "root"), Questions::Fleet);
    }
}
