//! `push upgrade`.

use std::path::Path;

use clap::ValueEnum;
use jiff::Timestamp;
use push_wire::upgrade::{Reboot, Scope};

use super::arguments::{Manner, Target};
use super::environment::Environment;
use super::gate::Shown;
use super::{Stop, gate, reach, runtime};
use crate::conversation::Presence;
use crate::event::{ExitCode, Verb};
use crate::release::{self, Checkout};
use crate::report::Report;
use crate::rollout;

/// Upgrade the operating system of an environment's hosts, one host first, then wave by wave
///
/// Fetches the lists of packages everywhere and shows what would change; then, one host first and then wave by wave, upgrades, restarts the
/// services that run from replaced files, reboots where that is allowed, and waits until every app is healthy. It
/// stops at the first host that is not well. Packages are not taken back, and a running dpkg is never stopped:
/// Ctrl-C begins no further host, and leaves those that are at it to themselves when it is pressed again.
#[derive(Debug, clap::Args)]
pub struct Upgrade {
    #[command(flatten)]
    target: Target,
    /// Only fetch the lists of packages, and show what would change
    #[arg(short = 'n', long)]
    dry_run: bool,
    /// Also upgrade what needs other packages removed (apt's dist-upgrade); the plan names them
    #[arg(long)]
    full: bool,
    /// When a host may be rebooted
    #[arg(long, value_enum, value_name = "WHEN", default_value_t = When::Never)]
    reboot: When,
    #[command(flatten)]
    manner: Manner,
}

/// When a host may be rebooted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum When {
    /// It is only told that it needs it
    Never,
    /// Where a kernel, a library or a package needs it
    Needed,
    /// In any case
    Always,
}

impl From<When> for Reboot {
    fn from(when: When) -> Self {
        match when {
            When::Never => Self::Never,
            When::Needed => Self::Needed,
            When::Always => Self::Always,
        }
    }
}

/// Upgrades.
pub fn run(arguments: &Upgrade, folder: &Path, report: &Report) -> Result<ExitCode, Stop> {
    let manner = arguments.manner;
    let environment =
        Environment::read(&arguments.target, manner.pace, folder)?.waiting(manner.waiting);
    let wanted = wanted(arguments, &environment);
    runtime::run(async |interrupt| {
        let access = reach::access(&environment, Presence::Install, report, interrupt).await?;
        let consent = Shown {
            report: report.clone(),
            environment: environment.fleet.environment.clone(),
            protection: environment.fleet.protection,
            asking: manner.asking,
        };
        let upgraded = rollout::upgrade(access, wanted, &consent).await;
        if arguments.dry_run {
            gate::show_offers(report, &upgraded.offers);
        }
        Ok(upgraded.exit)
    })
}

fn wanted(arguments: &Upgrade, environment: &Environment) -> rollout::Upgrade {
    let (fleet, root) = (&environment.fleet, environment.project.root());
    let checkout = Checkout::of(root);
    rollout::Upgrade {
        verb: if arguments.dry_run {
            Verb::Offer
        } else {
            Verb::Upgrade
        },
        environment: fleet.environment.clone(),
        project: fleet.project.clone(),
        provenance: release::provenance(
            fleet.name_in(&fleet.project),
            root,
            checkout.as_ref(),
            Timestamp::now(),
        ),
        waves: fleet.rollout.waves.clone(),
        failures_max: fleet.rollout.failures_max,
        scope: if arguments.full {
            Scope::Full
        } else {
            Scope::Safe
        },
        reboot: arguments.reboot.into(),
        patience: environment.patience,
    }
}
