//! `push deploy`, and `push ENVIRONMENT`.

use std::path::Path;
use std::sync::Arc;

use super::Stop;
use super::arguments::{Again, Asking, Manner, Target};
use super::environment::Environment;
use super::gate::Shown;
use super::{plan, reach, runtime, shipment};
use crate::conversation::Presence;
use crate::event::{ExitCode, Verb};
use crate::report::Report;
use crate::rollout::{self, Deploy as Intent, DeployPlan, Interrupt, Policy, Pushed};

/// Make the hosts of an environment run what it declares
///
/// Builds, shows the plan, stages on every host, then switches wave by wave. A host whose result is
/// not healthy, or that nobody can get into any more, takes itself back.
#[derive(Debug, clap::Args)]
pub struct Deploy {
    #[command(flatten)]
    target: Target,
    /// Only show the plan, as `push plan` does
    #[arg(short = 'n', long)]
    dry_run: bool,
    /// With --dry-run: exit with 3 when changes are pending
    #[arg(long, requires = "dry_run")]
    exit_code: bool,
    #[command(flatten)]
    again: Again,
    #[command(flatten)]
    manner: Manner,
}

/// Deploys.
pub fn run(arguments: &Deploy, folder: &Path, report: &Report) -> Result<ExitCode, Stop> {
    let (manner, applying) = (arguments.manner, arguments.again.applying());
    let environment =
        Environment::read(&arguments.target, manner.pace, folder)?.waiting(manner.waiting);
    if arguments.dry_run {
        let pending = arguments.exit_code.into();
        return plan::show(&environment, (applying, pending), report);
    }
    let mut shipment = shipment::prepare(&environment, report)?;
    shipment.applying = applying;
    runtime::run(async |interrupt| {
        let pushed = push(&environment, shipment, manner.asking, (report, interrupt)).await?;
        Ok(pushed.exit)
    })
}

/// Pushes a shipment to the environment's hosts, once its plan has been agreed to.
pub async fn push(
    environment: &Environment,
    shipment: Intent,
    asking: Asking,
    (report, interrupt): (&Report, Interrupt),
) -> Result<Pushed<DeployPlan>, Stop> {
    let access = reach::access(environment, Presence::Install, report, interrupt).await?;
    let policy = policy(environment, Verb::Deploy, shipment.provenance.clone());
    let gate = Shown {
        report: report.clone(),
        environment: environment.fleet.environment.clone(),
        protection: environment.fleet.protection,
        asking,
    };
    Ok(rollout::push(access, Arc::new(shipment), policy, &gate).await)
}

/// How a push goes through the environment's hosts.
pub fn policy(
    environment: &Environment,
    verb: Verb,
    provenance: push_wire::manifest::Provenance,
) -> Policy {
    let fleet = &environment.fleet;
    Policy {
        verb,
        environment: fleet.environment.clone(),
        project: fleet.project.clone(),
        provenance,
        waves: fleet.rollout.waves.clone(),
        failures_max: fleet.rollout.failures_max,
        undo: fleet.rollout.undo,
        confirm_within: fleet.rollout.confirm_timeout,
        patience: environment.patience,
    }
}
