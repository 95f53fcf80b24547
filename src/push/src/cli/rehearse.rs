//! `push rehearse`: hosts up, the story told on them, hosts gone again.

use std::collections::BTreeMap;
use std::path::Path;

use secrecy::SecretString;

use super::arguments::{Asking, Pace, Target};
use super::consent::{self, Question};
use super::environment::{Environment, Way};
use super::rehearsal::Rehearsal;
use super::{Stop, runtime};
use crate::event::{ExitCode, VERSION};
use crate::inventory::{Fleet as Declared, Host, Login};
use crate::name::{HostName, LoginName};
use crate::rehearse::{
    self as lab, Fleet, Furnishing, HostSpec, Milestone, Place, Prerequisites, ROOT_PASSWORD,
    RehearsalHost, Suite,
};
use crate::report::{Complaint, Report, measure};

/// Push to throw-away local hosts: first push, no-op, a broken release, back and forward
///
/// Boots one Debian per host of the environment on this machine, pushes to them for real, and removes
/// them. Hosts that [bootstrap] is for boot as a provider hands them over, root by password and sshd alone,
/// and are bootstrapped first. Needs root. Asks before it installs what it needs.
#[derive(Debug, clap::Args)]
pub struct Rehearse {
    #[command(flatten)]
    target: Target,
    /// Leave the hosts up afterwards
    #[arg(long)]
    keep: bool,
    /// Remove the hosts that earlier rehearsals left up, and do nothing else
    #[arg(long, conflicts_with = "keep")]
    down: bool,
    /// What the hosts run, in turn: bullseye, bookworm, trixie (Debian 11 to 13), jammy, noble (Ubuntu
    /// 22.04, 24.04)
    #[arg(long, value_name = "SUITES", value_delimiter = ',', default_value = "bookworm,trixie", value_parser = suite)]
    suite: Vec<Suite>,
    #[command(flatten)]
    asking: Asking,
    #[command(flatten)]
    pace: Pace,
}

/// Rehearses.
pub fn run(arguments: &Rehearse, folder: &Path, report: &Report) -> Result<ExitCode, Stop> {
    let place = Place::of_this_machine().map_err(|error| stop(&error))?;
    if arguments.down {
        return down(&place, report);
    }
    let environment = Environment::read(&arguments.target, arguments.pace, folder)?;
    prepare(arguments.asking, report)?;
    let specs = specs(&environment, &arguments.suite);
    runtime::run(async |interrupt| {
        let fleet = boot(place, specs, report).await?;
        let environment = at(environment, &fleet)?;
        let logins = environment.fleet.hosts.clone();
        let mut rehearsal = Rehearsal::new(environment, report.clone(), interrupt);
        rehearsal.note_boot(&fleet);
        let told = rehearsal.tell().await;
        report.answer(&rehearsal.timings());
        report.json(&rehearsal.timings_json());
        if arguments.keep {
            keep(fleet, &logins, report)?;
        } else {
            tokio::task::block_in_place(|| fleet.take_down()).map_err(|error| stop(&error))?;
        }
        told
    })
}

fn suite(word: &str) -> Result<Suite, String> {
    word.parse()
        .map_err(|error: crate::rehearse::Error| error.help())
}

/// Sees that this machine is able to, and installs what is missing once that has been agreed to.
fn prepare(asking: Asking, report: &Report) -> Result<(), Stop> {
    let found = Prerequisites::check().map_err(|error| stop(&error))?;
    if !found.missing.is_empty() {
        let names: Vec<&str> = found.missing.iter().map(|package| package.name).collect();
        let prompt = format!(
            "A rehearsal needs these packages: {}. Install them with apt-get?",
            names.join(", ")
        );
        consent::ask(&Question::Yes { prompt }, asking, report).map_err(|refused| Stop {
            exit: refused.exit(),
            complaint: Complaint::of(&refused),
        })?;
        report.say(&format!("installing {}\n", names.join(", ")));
        found.install().map_err(|error| stop(&error))?;
    }
    Prerequisites::check()
        .and_then(|found| found.require())
        .map_err(|error| stop(&error))
}

/// One host for each that is selected; the suites go round. Those that are to be bootstrapped are fresh.
fn specs(environment: &Environment, suites: &[Suite]) -> Vec<HostSpec> {
    let hosts = environment.hosts.iter().zip(suites.iter().cycle());
    hosts
        .map(|(host, suite)| {
            let bootstrap = environment.fleet.bootstrap.as_ref();
            let spec = match bootstrap.filter(|bootstrap| bootstrap.on.contains(host)) {
                Some(bootstrap) => {
                    HostSpec::fresh(host.as_str()).offering(bootstrap.packages.clone())
                }
                None => HostSpec::named(host.as_str()),
            };
            spec.suite(*suite)
        })
        .collect()
}

async fn boot(place: Place, specs: Vec<HostSpec>, report: &Report) -> Result<Fleet, Stop> {
    let report = report.clone();
    let boot = move || {
        report.say(&format!(
            "booting {}\n",
            measure::count(specs.len(), "host")
        ));
        Fleet::boot(&place, &specs, &|milestone| report.say(&words(&milestone)))
    };
    let booted = tokio::task::spawn_blocking(boot).await;
    booted
        .map_err(|_| Stop::not_started(Complaint::new("booting the hosts was cut short")))?
        .map_err(|error| stop(&error))
}

fn words(milestone: &Milestone) -> String {
    match milestone {
        Milestone::MakingImage(suite) => {
            format!("making the file system of {}, once\n", suite.as_str())
        }
        Milestone::ImageMade(suite, took) => {
            format!("{} is made, {}\n", suite.as_str(), measure::took(*took))
        }
        Milestone::HostUp(host, took) => format!("{host}: up, {}\n", measure::took(*took)),
    }
}

/// The environment with the booted hosts in place of its own: same names, tags and variables, other
/// addresses, keys and logins. A login that a bootstrap makes keeps its name, and lets the rehearsal in.
fn at(environment: Environment, booted: &Fleet) -> Result<Environment, Stop> {
    let mut declared: Declared = environment.fleet.clone();
    if let (Some(bootstrap), Some(host)) = (&mut declared.bootstrap, booted.hosts().first()) {
        let file = host.identity().with_extension("pub");
        let line = std::fs::read_to_string(&file).map_err(|error| unusable(host, &error))?;
        let key = line
            .trim()
            .parse()
            .map_err(|error| unusable(host, &error))?;
        bootstrap.keys.insert(key);
    }
    for host in booted.hosts() {
        let Some(entry) = declared.hosts.get_mut(host.name()) else {
            continue;
        };
        entry.address = host
            .address()
            .to_string()
            .parse()
            .map_err(|error| unusable(host, &error))?;
        entry.host_keys = vec![
            host.host_key()
                .parse()
                .map_err(|error| unusable(host, &error))?,
        ];
        let made = match host.furnishing() {
            Furnishing::Fresh => entry.login.user.take(),
            Furnishing::Furnished => None,
        };
        let own = || host.user().parse().map_err(|error| unusable(host, &error));
        entry.login = Login {
            user: Some(made.map_or_else(own, Ok)?),
            port: Some(host.port()),
            identity: Some(host.identity().to_owned()),
            jump: Vec::new(),
        };
    }
    Ok(Environment {
        fleet: declared,
        way: Way::Straight,
        password: Some(SecretString::from(ROOT_PASSWORD)),
        ..environment
    })
}

fn unusable(host: &RehearsalHost, error: &dyn std::error::Error) -> Stop {
    Stop::not_started(Complaint::of(error).help(format!(
        "{} was booted in a way that push cannot use",
        host.name()
    )))
}

/// Leaves the hosts up, and says how each is come by now: a bootstrap has closed the way in that it came by.
fn keep(fleet: Fleet, logins: &BTreeMap<HostName, Host>, report: &Report) -> Result<(), Stop> {
    let doors: BTreeMap<String, String> = fleet
        .hosts()
        .iter()
        .map(|host| {
            let identity = host.identity().display();
            let login = logins
                .get(host.name())
                .and_then(|host| host.login.user.as_ref());
            (
                host.name().to_owned(),
                format!(
                    "ssh -i {identity} -p {} {}@{}",
                    host.port(),
                    login.map_or(host.user(), LoginName::as_str),
                    host.address()
                ),
            )
        })
        .collect();
    fleet.keep().map_err(|error| stop(&error))?;
    report.answer("\nThe hosts stay up until `push rehearse --down`:\n");
    for (host, door) in &doors {
        report.answer(&format!("  {host}: {door}\n"));
    }
    report.json(&serde_json::json!({"v": VERSION, "type": "kept", "hosts": doors}));
    Ok(())
}

fn down(place: &Place, report: &Report) -> Result<ExitCode, Stop> {
    let swept = lab::take_down_all(place).map_err(|error| stop(&error))?;
    report.answer(&format!(
        "removed {}\n",
        measure::count(swept.removed.len(), "fleet")
    ));
    if !swept.in_use.is_empty() {
        report.answer(&format!(
            "{} in use by a running process, and left\n",
            measure::count(swept.in_use.len(), "fleet")
        ));
    }
    report.json(&serde_json::json!({
        "v": VERSION, "type": "removed", "fleets": swept.removed.len(), "in_use": swept.in_use.len(),
    }));
    Ok(ExitCode::Done)
}

fn stop(error: &lab::Error) -> Stop {
    Stop::not_started(Complaint::of(error).help(error.help()))
}
