//! `push rollback`.

use std::path::Path;
use std::sync::Arc;

use jiff::Timestamp;
use push_wire::name::GenerationId;

use super::arguments::{Asking, Manner, Target};
use super::environment::Environment;
use super::gate::Shown;
use super::{Stop, deploy, reach, runtime};
use crate::conversation::Presence;
use crate::event::{ExitCode, Verb};
use crate::release::{self, Checkout};
use crate::report::Report;
use crate::rollout::{self, Interrupt, Pushed, Rollback, RollbackPlan};

/// Go back to the last committed generation before this one, or to a named one
///
/// Code, units, sites, firewall and secrets come back together, as a new generation that is switched
/// to, checked and committed like any other. Data is not touched.
#[derive(Debug, clap::Args)]
pub struct Back {
    #[command(flatten)]
    target: Target,
    /// The generation to go back to, as `push history` numbers them
    #[arg(long, value_name = "GENERATION")]
    to: Option<GenerationId>,
    #[command(flatten)]
    manner: Manner,
}

/// Goes back.
pub fn run(arguments: &Back, folder: &Path, report: &Report) -> Result<ExitCode, Stop> {
    let manner = arguments.manner;
    let environment =
        Environment::read(&arguments.target, manner.pace, folder)?.waiting(manner.waiting);
    runtime::run(async |interrupt| {
        let back = go_back(
            &environment,
            arguments.to,
            manner.asking,
            (report, interrupt),
        )
        .await?;
        Ok(back.exit)
    })
}

/// Brings an earlier generation back on the environment's hosts, once that has been agreed to.
pub async fn go_back(
    environment: &Environment,
    to: Option<GenerationId>,
    asking: Asking,
    (report, interrupt): (&Report, Interrupt),
) -> Result<Pushed<RollbackPlan>, Stop> {
    let access = reach::access(environment, Presence::Install, report, interrupt).await?;
    let root = environment.project.root();
    let checkout = Checkout::of(root);
    let provenance = release::provenance(
        &environment.fleet.environment,
        root,
        checkout.as_ref(),
        Timestamp::now(),
    );
    let policy = deploy::policy(environment, Verb::Rollback, provenance.clone());
    let intent = Arc::new(Rollback {
        project: environment.fleet.project.clone(),
        to,
        provenance,
    });
    let gate = Shown {
        report: report.clone(),
        environment: environment.fleet.environment.clone(),
        protection: environment.fleet.protection,
        asking,
    };
    Ok(rollout::push(access, intent, policy, &gate).await)
}
