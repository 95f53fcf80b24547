//! `push bootstrap`.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use jiff::Timestamp;
use push_wire::manifest::HOST_SLICE;

use super::arguments::{Asking, Pace, Target, Waiting};
use super::environment::Environment;
use super::gate::{self, Shown};
use super::plan::Pending;
use super::{Stop, deploy, plan, reach, runtime};
use crate::conversation::Presence;
use crate::event::{ExitCode, Verb};
use crate::inventory::{self, Login};
use crate::name::{LoginName, ProjectName};
use crate::release::{self, Checkout};
use crate::report::{Complaint, Report};
use crate::rollout::{self, Access, Bootstrap as Intent, Interrupt, Policy};
use crate::template::Engine;

/// Make fresh machines into hosts of an environment, or hosts what they should be
///
/// Packages, the login that the inventory names with its keys and its one right, sshd by key alone, a
/// firewall, security upgrades, names and limits. Safe to run again at any time: what is there already is
/// left alone. What could lock you out stays only if push comes in again as the inventory's login.
#[derive(Debug, clap::Args)]
pub struct Bootstrap {
    #[command(flatten)]
    target: Target,
    /// Whom to log in as while the inventory's own login is not there yet
    #[arg(long = "as", value_name = "USER")]
    first: Option<LoginName>,
    /// The port to come in by then
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    port: Option<u16>,
    /// Only show the plan
    #[arg(short = 'n', long)]
    dry_run: bool,
    #[command(flatten)]
    asking: Asking,
    #[command(flatten)]
    pace: Pace,
    #[command(flatten)]
    waiting: Waiting,
}

/// Bootstraps.
pub fn run(arguments: &Bootstrap, folder: &Path, report: &Report) -> Result<ExitCode, Stop> {
    let environment =
        Environment::read(&arguments.target, arguments.pace, folder)?.waiting(arguments.waiting);
    let intent = intent(&environment)?;
    let environment = narrowed(environment, &intent.bootstrap)?;
    runtime::run(async |interrupt| {
        let (verb, presence) = if arguments.dry_run {
            (Verb::Plan, Presence::Look)
        } else {
            (Verb::Bootstrap, Presence::Install)
        };
        let access = access(&environment, arguments, presence, (report, interrupt)).await?;
        let policy = policy(&environment, verb, &intent)?;
        let gate = Shown {
            report: report.clone(),
            environment: environment.fleet.environment.clone(),
            protection: environment.fleet.protection,
            asking: arguments.asking,
        };
        let pushed = rollout::push(access, Arc::new(intent), policy, &gate).await;
        if arguments.dry_run {
            let shown = gate::fleet_plan(&environment.fleet.environment, &pushed.plans);
            gate::show(report, &shown);
            return Ok(plan::exit(&pushed, Pending::Fine));
        }
        Ok(pushed.exit)
    })
}

/// Everything that is brought, read before a host is called.
fn intent(environment: &Environment) -> Result<Intent, Stop> {
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
    let checkout = Checkout::of(root);
    let now = Timestamp::now();
    Ok(Intent {
        provenance: release::provenance(&fleet.environment, root, checkout.as_ref(), now),
        fleet: fleet.clone(),
        bootstrap,
        engine,
    })
}

/// The environment with those of its selected hosts that have a bootstrap.
fn narrowed(
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

/// The hosts, come to as the command line says, and come back to as the inventory says.
async fn access(
    environment: &Environment,
    arguments: &Bootstrap,
    presence: Presence,
    (report, interrupt): (&Report, Interrupt),
) -> Result<Arc<Access>, Stop> {
    let access = reach::access(environment, presence, report, interrupt).await?;
    if arguments.first.is_none() && arguments.port.is_none() {
        return Ok(access);
    }
    let first = environment.targets_by(|host| Login {
        user: arguments.first.clone().or_else(|| host.login.user.clone()),
        port: arguments.port.or(host.login.port),
        ..host.login.clone()
    });
    let targets = first.await?;
    let access = Arc::into_inner(access).ok_or_else(|| {
        Stop::not_started(Complaint::new("the way to the hosts is in use already"))
    })?;
    Ok(Arc::new(Access {
        returns: access.targets,
        targets,
        ..access
    }))
}

fn policy(environment: &Environment, verb: Verb, intent: &Intent) -> Result<Policy, Stop> {
    let project: ProjectName = HOST_SLICE
        .parse()
        .map_err(|error| Stop::not_started(Complaint::of(&error)))?;
    Ok(Policy {
        project,
        ..deploy::policy(environment, verb, intent.provenance.clone())
    })
}
