//! What the operator ships with a push: every app built once, read, and ready to be packed; templates,
//! files and the keys of secrets beside it.
//! Happens before any host is touched.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Stop;
use super::environment::Environment;
use super::vault::SealedFiles;
use crate::event::ExitCode;
use crate::inventory::App;
use crate::release::{self, Checkout, Packs, Payload, ReleaseError};
use crate::report::{Complaint, Report, Verbosity};
use crate::rollout::Deploy;
use crate::template::Engine;
use jiff::Timestamp;

/// Builds and reads what the selected hosts are to get. Blocks.
pub fn prepare(environment: &Environment, report: &Report) -> Result<Deploy, Stop> {
    let root = environment.project.root();
    let engine = Engine::open(&root.join("templates"))
        .map_err(|error| Stop::usage(Complaint::of(&error).help(error.help())))?;
    let mut payloads = BTreeMap::new();
    for app in wanted(environment) {
        payloads.insert(
            app.name.clone(),
            Arc::new(payload(app, environment, report)?),
        );
    }
    let fleet = environment.fleet.clone();
    let verbatim = release::verbatim(&fleet, root).map_err(|error| unready(&error))?;
    let checkout = Checkout::of(root);
    let now = Timestamp::now();
    let release = release::release_id(now, checkout.as_ref()).ok_or_else(|| {
        let nameless = Complaint::new(format!("no release can be named after the time {now}"));
        Stop::not_started(nameless.help("set the clock: `timedatectl`"))
    })?;
    let shipment = Deploy {
        provenance: release::provenance(&fleet.environment, root, checkout.as_ref(), now),
        vault: Box::new(SealedFiles::of_environment(environment, report)),
        engine,
        packs: Packs::new(payloads.values().map(Arc::as_ref)),
        payloads,
        release,
        verbatim,
        fleet,
    };
    shipment.sealed().map_err(|obstacle| Stop {
        exit: ExitCode::Secrets,
        complaint: Complaint::new(obstacle.why).help(obstacle.help),
    })?;
    Ok(shipment)
}

/// The same with another content for one app.
pub fn with(shipment: Deploy, payload: Payload) -> Deploy {
    let mut payloads = shipment.payloads;
    payloads.insert(payload.app.clone(), Arc::new(payload));
    Deploy {
        packs: Packs::new(payloads.values().map(Arc::as_ref)),
        payloads,
        ..shipment
    }
}

/// The apps that some selected host carries.
fn wanted(environment: &Environment) -> impl Iterator<Item = &App> {
    let carried = |app: &&App| app.on.iter().any(|host| environment.hosts.contains(host));
    environment.fleet.apps.values().filter(carried)
}

fn payload(app: &App, environment: &Environment, report: &Report) -> Result<Payload, Stop> {
    let root = environment.project.root();
    if let Some(command) = &app.build {
        report.say(&format!("building {}\n", app.name));
        let mut line = |text: &str| {
            if report.verbosity() >= Verbosity::Info {
                report.say(&format!("  {}\n", crate::report::foreign::line(text)));
            }
        };
        release::build(&app.name, command, root, &mut line).map_err(|error| unready(&error))?;
    }
    let payload = match &app.source {
        Some(source) => {
            Payload::open(&app.name, &root.join(source)).map_err(|error| unready(&error))?
        }
        None => Payload::nothing(&app.name),
    };
    for warning in &payload.warnings {
        report.say(&format!(
            "{}: warning: {}\n",
            app.name,
            crate::report::foreign::line(warning)
        ));
    }
    Ok(payload)
}

/// The operator's own sources are at fault, so it is the inventory's exit code unless the build failed.
fn unready(error: &ReleaseError) -> Stop {
    let exit = match error {
        ReleaseError::Build { .. }
        | ReleaseError::Scratch { .. }
        | ReleaseError::Unknown { .. } => ExitCode::NotStarted,
        ReleaseError::Missing { .. }
        | ReleaseError::Empty { .. }
        | ReleaseError::Kind { .. }
        | ReleaseError::LinkOut { .. }
        | ReleaseError::Name { .. }
        | ReleaseError::Changed { .. }
        | ReleaseError::TooLarge { .. }
        | ReleaseError::Archive { .. }
        | ReleaseError::Unreadable { .. } => ExitCode::Usage,
    };
    Stop {
        exit,
        complaint: Complaint::of(error).help(error.help()),
    }
}
