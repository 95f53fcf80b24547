//! `push rollback`.

use std::path::Path;
use std::sync::Arc;

use jiff::Timestamp;
use push_wire::manifest::HOST_SLICE;
use push_wire::name::GenerationId;

use super::arguments::{Asking, Manner, Target};
use super::environment::Environment;
use super::gate::{self, Shown};
use super::{Stop, deploy, plan, reach, runtime};
use crate::conversation::Presence;
use crate::event::{ExitCode, Verb};
use crate::name::ProjectName;
use crate::release::{self, Checkout};
use crate::report::{Complaint, Report};
use crate::rollout::{self, Interrupt, Policy, Pushed, Rollback, RollbackPlan};

/// Go back to the last committed generation before this one, or to a named one
///
/// Code, units, sites, firewall and secrets come back together, as a new generation that is switched
/// to, checked and committed like any other. Data is not touched. With `--slice host`, what a bootstrap declared
/// goes back to an earlier bootstrap: sshd, sudo, keys, firewall; packages and logins stay. Without `--to`, hosts
/// that are before the newest push of these hosts already stay as they are.
#[derive(Debug, clap::Args)]
pub struct Back {
    #[command(flatten)]
    target: Target,
    /// Whose part of the hosts goes back: `host` is what `push bootstrap` declared [default: the project's own]
    #[arg(long, value_name = "SLICE", value_parser = [HOST_SLICE])]
    slice: Option<String>,
    /// The generation to go back to, as `push history` numbers them
    #[arg(long, value_name = "GENERATION")]
    to: Option<GenerationId>,
    /// Only show what would change
    #[arg(short = 'n', long)]
    dry_run: bool,
    /// With --dry-run: exit with 3 when changes are pending
    #[arg(long, requires = "dry_run")]
    exit_code: bool,
    #[command(flatten)]
    manner: Manner,
}

/// Goes back.
pub fn run(arguments: &Back, folder: &Path, report: &Report) -> Result<ExitCode, Stop> {
    let manner = arguments.manner;
    let environment =
        Environment::read(&arguments.target, manner.pace, folder)?.waiting(manner.waiting);
    runtime::run(async |interrupt| {
        let to = Goal {
            project: arguments.project(&environment)?,
            generation: arguments.to,
            limit: arguments.target.limit.clone(),
            verb: arguments.verb(),
        };
        let back = go_back(&environment, to, manner.asking, (report, interrupt)).await?;
        if arguments.dry_run {
            gate::show_rollback(report, &back.plans);
        }
        Ok(plan::exit(&back, arguments.exit_code.into()))
    })
}

/// Where a rollback goes.
pub struct Goal {
    /// Whose slice.
    pub project: ProjectName,
    /// The generation; `None` for the last committed one before the current one.
    pub generation: Option<GenerationId>,
    /// The selectors of hosts that the operator gave.
    pub limit: Vec<String>,
    /// [`Verb::Rollback`], or [`Verb::Plan`] to change nothing.
    pub verb: Verb,
}

impl Back {
    fn verb(&self) -> Verb {
        if self.dry_run {
            Verb::Plan
        } else {
            Verb::Rollback
        }
    }

    fn project(&self, environment: &Environment) -> Result<ProjectName, Stop> {
        match &self.slice {
            None => Ok(environment.fleet.project.clone()),
            Some(slice) => slice
                .parse()
                .map_err(|error| Stop::usage(Complaint::of(&error))),
        }
    }
}

/// Brings an earlier generation back on the environment's hosts, once that has been agreed to; with
/// [`Verb::Plan`], only finds out what that would change.
pub async fn go_back(
    environment: &Environment,
    to: Goal,
    asking: Asking,
    (report, interrupt): (&Report, Interrupt),
) -> Result<Pushed<RollbackPlan>, Stop> {
    let presence = if to.verb == Verb::Plan {
        Presence::AsFound
    } else {
        Presence::Install
    };
    let access = reach::access(environment, presence, report, interrupt).await?;
    let verb = to.verb;
    let intent = Arc::new(intent(environment, to));
    let policy = Policy {
        project: intent.project.clone(),
        ..deploy::policy(environment, verb, intent.provenance.clone())
    };
    let gate = Shown {
        report: report.clone(),
        environment: environment.fleet.environment.clone(),
        protection: environment.fleet.protection,
        asking,
    };
    Ok(rollout::push(access, intent, policy, &gate).await)
}

fn intent(environment: &Environment, to: Goal) -> Rollback {
    let root = environment.project.root();
    let name = environment.fleet.name_in(&to.project);
    let now = Timestamp::now();
    Rollback {
        provenance: release::provenance(name, root, Checkout::of(root).as_ref(), now),
        project: to.project,
        to: to.generation,
        limit: to.limit,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::arguments::Pace;
    use crate::cli::bootstrap;

    #[test]
    fn a_bootstrap_knows_what_was_gone_back_to_as_its_own() {
        let folder = tempfile::tempdir().unwrap();
        let inventory = folder.path().join("inventory");
        std::fs::create_dir(&inventory).unwrap();
        let text = "project = \"shop\"\nhosts.web1.address = \"192.0.2.1\"\n[ssh]\nuser = \"deploy\"\n\
            [bootstrap]\nkeys = [\"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHsKLqeplhpW+uObz5dvMgjz1OxfM/XXUB+VHtZ6isGN\"]\n";
        std::fs::write(inventory.join("prod.toml"), text).unwrap();
        let target = Target {
            environment: Some("prod".into()),
            limit: Vec::new(),
            password_from: None,
        };
        let environment =
            Environment::read(&target, Pace { parallel: None }, folder.path()).unwrap();
        let whose = |slice: &str| {
            let goal = Goal {
                project: slice.parse().unwrap(),
                generation: None,
                limit: Vec::new(),
                verb: Verb::Rollback,
            };
            intent(&environment, goal).provenance.environment
        };
        let bootstrapped = bootstrap::intent(&environment).unwrap();
        assert_eq!(whose(HOST_SLICE), bootstrapped.provenance.environment);
        assert_eq!(whose(HOST_SLICE), "shop/prod");
        assert_eq!(whose("shop"), "prod");
    }
}
