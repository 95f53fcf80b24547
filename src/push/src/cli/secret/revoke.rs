//! `push secret revoke`.

use std::collections::BTreeSet;
use std::path::Path;

use super::super::Stop;
use super::super::arguments::Asking;
use super::super::consent::{self, Question};
use super::grant::{Chosen, known, redeclare};
use super::kept::Leaving;
use super::place::{Purpose, Secrets};
use super::rotate::{self, Rotate};
use crate::event::{ExitCode, VERSION};
use crate::inventory::{Readers, Who};
use crate::name::{EnvironmentName, FileName, PersonName};
use crate::report::screen::can_ask;
use crate::report::{Complaint, Report, secret as words};

/// Take secrets away from a person, a group or the hosts, and seal those anew
///
/// Changes [secrets] in inventory/ENVIRONMENT.toml together with the sealed files; with `--all` a
/// person leaves its groups too. Whoever could open a value knows it, and the old files stay in
/// git: set new values with `push secret rotate`. On a terminal that is offered at once. Exits with 8
/// when another environment that shares a secret lets them open it still.
#[derive(Debug, clap::Args)]
pub struct Revoke {
    /// The environment
    environment: Option<String>,
    /// A person, a group, or `hosts`
    who: Option<String>,
    #[command(flatten)]
    chosen: Chosen,
}

/// Revokes.
pub fn run(arguments: &Revoke, folder: &Path, report: &Report) -> Result<ExitCode, Stop> {
    let place = (arguments.environment.as_deref(), folder);
    let mut secrets = Secrets::open(place, Purpose::Change, report)?;
    let word = arguments.who.as_deref().unwrap_or_default();
    let who: Who = word.parse().map_err(|error| {
        Stop::usage(
            Complaint::of(&error)
                .help("`push secret revoke ENVIRONMENT WHO NAME…`: a person, a group, or `hosts`"),
        )
    })?;
    let before = secrets.fleet().readers.clone();
    if let Who::Named(name) = &who {
        known(&before, name, &secrets)?;
    }
    let names = arguments.chosen.names(&secrets, "revoke")?;
    let mut after = before.clone();
    if arguments.chosen.all {
        everywhere(&mut after, &who);
    }
    for name in &names {
        single(&mut after, &who, (name, &secrets.environment))?;
    }
    let leaving = Leaving::of(secrets.fleet(), &who);
    let resealed = redeclare(&mut secrets, &before, after)?;
    let names = if arguments.chosen.all {
        secrets.files.keys().cloned().collect()
    } else {
        names
    };
    let kept = leaving.kept(&secrets, &names)?;
    let keeps = |name: &&str| kept.iter().any(|kept| kept.secret.as_str() == *name);
    let lost = resealed.iter().map(FileName::as_str);
    let lost: Vec<&str> = lost.filter(|name| !keeps(name)).collect();
    if kept.is_empty() || !lost.is_empty() {
        report.answer(&words::revoked(word, &lost));
    }
    for kept in &kept {
        report.answer(&words::fault(&kept.to_string(), &kept.help()));
    }
    let is_known_still = !lost.is_empty() && who != Who::Hosts;
    let others = others(&secrets, &lost);
    if is_known_still {
        let environment = &secrets.environment;
        report.answer(&words::still_known(environment, word, &lost, &others));
    }
    report.answer(&words::next(&secrets.environment));
    report.json(&serde_json::json!({
        "v": VERSION, "type": "secret_revoked", "who": word, "secrets": lost, "rotate": who != Who::Hosts,
        "kept": kept,
    }));
    let environment = secrets.environment.clone();
    let names = lost.iter().map(|name| (*name).to_owned()).collect();
    // The lock of the secrets is this command's until here.
    drop(secrets);
    let exit = if kept.is_empty() {
        ExitCode::Done
    } else {
        ExitCode::Secrets
    };
    if is_known_still && is_to_be_rotated(&others, report) {
        let rotated = rotate::run(&Rotate::of(&environment, names), folder, report)?;
        return Ok(rotated.max(exit));
    }
    Ok(exit)
}

/// The other environments for which a new value of any of these would be one, too.
fn others(secrets: &Secrets, names: &[&str]) -> Vec<String> {
    let files = secrets.files.iter();
    let named = files.filter(|(name, _)| names.contains(&name.as_str()));
    let others: BTreeSet<EnvironmentName> = named
        .flat_map(|(name, sealed)| secrets.others(name, sealed))
        .collect();
    others.iter().map(ToString::to_string).collect()
}

/// Offers to set new values at once. Who cannot be asked has read which command does it.
fn is_to_be_rotated(others: &[String], report: &Report) -> bool {
    let prompt = if others.is_empty() {
        "Set new values now?".into()
    } else {
        format!("Set new values now, for {} as well?", others.join(", "))
    };
    let question = Question::Yes { prompt };
    can_ask() && consent::ask(&question, Asking { yes: false }, report).is_ok()
}

/// Takes one out of every line and group. A person that nothing names any more is forgotten.
fn everywhere(readers: &mut Readers, who: &Who) {
    readers.every.remove(who);
    for line in readers.own.values_mut() {
        line.remove(who);
    }
    if let Who::Named(name) = who {
        for people in readers.groups.values_mut() {
            people.remove(name);
        }
        readers.people.remove(name);
        readers.groups.remove(name);
    }
}

/// Takes one out of the line of one secret. One who reads it as a member of a group stays a reader, so
/// that is refused.
fn single(
    readers: &mut Readers,
    who: &Who,
    (secret, environment): (&FileName, &EnvironmentName),
) -> Result<(), Stop> {
    let mut line = readers.of(secret).clone();
    let was_there = line.remove(who);
    if let Who::Named(person) = who
        && let Some(group) = group_of(readers, &line, person)
    {
        return Err(Stop::usage(
            Complaint::new(format!("{person} reads {secret} as one of the group {group}"))
                .help(format!("take {person} out of secrets.groups.{group}, name the others one by one under secrets.readers, or pass `--all`")),
        ));
    }
    if !was_there {
        return Err(Stop::usage(
            Complaint::new(format!(
                "{who} is not among those whom {environment} lets read {secret}"
            ))
            .help(format!(
                "`push secret list {environment}` shows who reads it"
            )),
        ));
    }
    readers.own.insert(secret.clone(), line);
    Ok(())
}

/// A group of this line that a person is in.
fn group_of<'a>(
    readers: &'a Readers,
    line: &BTreeSet<Who>,
    person: &PersonName,
) -> Option<&'a PersonName> {
    let mut groups = readers.groups.iter();
    let found = groups.find(|(name, people)| {
        line.contains(&Who::Named((*name).clone())) && people.contains(person)
    });
    found.map(|(name, _)| name)
}
