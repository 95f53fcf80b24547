//! `push plan`.

use std::path::Path;
use std::sync::Arc;

use super::arguments::{Again, Asking, Pace, Target};
use super::environment::Environment;
use super::gate::{self, Shown};
use super::{Stop, deploy, reach, runtime, shipment};
use crate::conversation::Presence;
use crate::desired::Applying;
use crate::event::{ExitCode, Outcome, Verb};
use crate::report::Report;
use crate::rollout::{self, DeployPlan, Pushed};

/// Show what a deploy would do, and change nothing
///
/// No plan is made for a host where another push has not ended, since what is there may not stay: it is locked, and
/// the exit code is 7.
#[derive(Debug, clap::Args)]
pub struct Plan {
    #[command(flatten)]
    look: Look,
}

/// What is looked at, and what comes of it.
#[derive(Debug, clap::Args)]
pub struct Look {
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    pace: Pace,
    #[command(flatten)]
    again: Again,
    /// Exit with 3 when changes are pending
    #[arg(long)]
    exit_code: bool,
}

impl Look {
    /// The environment that is looked at. Touches no host.
    pub fn environment(&self, folder: &Path) -> Result<Environment, Stop> {
        Environment::read(&self.target, self.pace, folder)
    }

    /// What would be applied.
    pub fn applying(&self) -> Applying {
        self.again.applying()
    }

    /// Whether pending changes are told by the exit code.
    pub fn pending(&self) -> Pending {
        self.exit_code.into()
    }
}

/// Plans.
pub fn run(arguments: &Plan, folder: &Path, report: &Report) -> Result<ExitCode, Stop> {
    show(
        &arguments.look.environment(folder)?,
        (arguments.look.applying(), arguments.look.pending()),
        report,
    )
}

/// Shows the plan, for `push deploy --dry-run` too.
pub fn show(
    environment: &Environment,
    (applying, pending): (Applying, Pending),
    report: &Report,
) -> Result<ExitCode, Stop> {
    let pushed = find_out(environment, applying, report)?;
    gate::show(
        report,
        &gate::fleet_plan(&environment.fleet.environment, &pushed.plans),
    );
    Ok(exit(&pushed, pending))
}

/// Asks the hosts, and changes nothing on any.
pub fn find_out(
    environment: &Environment,
    applying: Applying,
    report: &Report,
) -> Result<Pushed<DeployPlan>, Stop> {
    let mut shipment = shipment::prepare(environment, report)?;
    shipment.applying = applying;
    runtime::run(async |interrupt| {
        let access = reach::access(environment, Presence::Look, report, interrupt).await?;
        let policy = deploy::policy(environment, Verb::Plan, shipment.provenance.clone());
        // A plan passes no gate.
        let gate = Shown {
            report: report.clone(),
            environment: environment.fleet.environment.clone(),
            protection: environment.fleet.protection,
            asking: Asking { yes: false },
        };
        Ok(rollout::push(access, Arc::new(shipment), policy, &gate).await)
    })
}

/// Whether pending changes are told by the exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pending {
    /// They are; nothing else has to be read.
    Told,
    /// A plan that could be made is a success.
    Fine,
}

impl From<bool> for Pending {
    fn from(exit_code: bool) -> Self {
        if exit_code { Self::Told } else { Self::Fine }
    }
}

/// What a plan exits with. A host that could not be asked weighs more than one that would change.
pub fn exit<P>(pushed: &Pushed<P>, pending: Pending) -> ExitCode {
    let changes = pushed
        .outcomes
        .values()
        .any(|outcome| matches!(outcome, Outcome::Pending { .. }));
    match pending {
        Pending::Told if changes => pushed.exit.max(ExitCode::Pending),
        Pending::Told | Pending::Fine => pushed.exit,
    }
}
