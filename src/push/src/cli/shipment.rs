//! What the operator ships with a push: every app built once, read, and ready to be packed; templates,
//! files and the keys of secrets beside it.
//! Happens before any host is touched.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Stop;
use super::environment::Environment;
use super::vault::SealedFiles;
use crate::desired::{self, Applying, DesiredError, Trial};
use crate::event::ExitCode;
use crate::inventory::{App, Fleet};
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
    fits(environment, &engine)?;
    let mut payloads = BTreeMap::new();
    for app in wanted(environment) {
        payloads.insert(
            app.name.clone(),
            Arc::new(payload(app, environment, report)?),
        );
    }
    let fleet = environment.fleet.clone();
    // A build may have changed them.
    let verbatim = release::verbatim(&fleet, root).map_err(|error| unready(&error))?;
    let checkout = Checkout::of(root);
    let now = Timestamp::now();
    let release = release::release_id(now, checkout.as_ref()).ok_or_else(|| {
        let nameless = Complaint::new(format!("no release can be named after the time {now}"));
        Stop::not_started(nameless.help("set the clock: `timedatectl`"))
    })?;
    let shipment = Deploy {
        provenance: release::provenance(
            fleet.name_in(&fleet.project),
            root,
            checkout.as_ref(),
            now,
        ),
        vault: Box::new(SealedFiles::of_environment(environment, report)),
        engine,
        packs: Packs::new(payloads.values().map(Arc::as_ref)),
        applying: Applying::Changes,
        hosts: environment.hosts.clone(),
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

/// Whether every text of every selected host can be made: a mistake in a template or a value is told
/// before anything is built and anybody is called.
fn fits(environment: &Environment, engine: &Engine) -> Result<(), Stop> {
    let fleet = &environment.fleet;
    let verbatim = release::verbatim(fleet, environment.project.root());
    let verbatim = verbatim.map_err(|error| unready(&error))?;
    let selected = environment.hosts.iter();
    for host in selected.filter_map(|name| fleet.hosts.get(name)) {
        let trial = Trial {
            fleet,
            host,
            engine,
            verbatim: &verbatim,
        };
        desired::trial(&trial).map_err(|error| unfit(&error, fleet, "plan"))?;
    }
    Ok(())
}

/// A text that cannot be made is a mistake in the project's files. `command` shows what comes of them.
pub fn unfit(error: &DesiredError, fleet: &Fleet, command: &str) -> Stop {
    let name = &fleet.environment;
    let next = format!("then run `push {command} {name}` again");
    let help = match error {
        DesiredError::Template { .. } => format!("{}; {next}", error.help()),
        DesiredError::Value { .. } => format!("correct it in inventory/{name}.toml, {next}"),
        DesiredError::Secret { .. } | DesiredError::NoRecipient { .. } => error.help(),
    };
    Stop::usage(Complaint::of(error).help(help))
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
        | ReleaseError::NoFile { .. }
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
