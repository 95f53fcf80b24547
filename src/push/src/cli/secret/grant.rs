//! `push secret grant`.

use std::collections::BTreeSet;
use std::path::Path;

use super::super::Stop;
use super::place::{Purpose, Secrets, unavailable};
use super::{declare, rekey};
use crate::event::{ExitCode, VERSION};
use crate::inventory::{PublicKey, Readers, Who, nearest};
use crate::name::{FileName, PersonName};
use crate::report::{Complaint, Report, secret as words};
use crate::secret::Recipients;

/// Let a person, a group or the hosts open secrets, and seal those anew
///
/// Changes [secrets] in inventory/ENVIRONMENT.toml, comments kept, together with the sealed files.
/// With `hosts`, files are sealed to the pinned keys of the hosts that use them, so that a CI job can
/// push them without being able to open them.
#[derive(Debug, clap::Args)]
pub struct Grant {
    /// The environment
    environment: Option<String>,
    /// A person, a group, or `hosts`
    who: Option<String>,
    #[command(flatten)]
    chosen: Chosen,
    /// The age or SSH public key of a person who is not declared yet, or one more of one who is
    #[arg(long, value_name = "PUBLIC-KEY")]
    key: Option<String>,
}

/// Which secrets.
#[derive(Debug, clap::Args)]
pub struct Chosen {
    /// The secrets
    names: Vec<String>,
    /// Every secret of the environment, those to come included
    #[arg(long, conflicts_with = "names")]
    pub all: bool,
}

/// Grants.
pub fn run(arguments: &Grant, folder: &Path, report: &Report) -> Result<ExitCode, Stop> {
    let place = (arguments.environment.as_deref(), folder);
    let mut secrets = Secrets::open(place, Purpose::Change, report)?;
    let names = arguments.chosen.names(&secrets, "grant")?;
    let before = secrets.fleet().readers.clone();
    let mut after = before.clone();
    let who = who(&mut after, arguments, &secrets)?;
    if arguments.chosen.all {
        after.every.insert(who.clone());
        for line in after.own.values_mut() {
            line.insert(who.clone());
        }
    }
    for name in &names {
        let mut line = after.of(name).clone();
        line.insert(who.clone());
        after.own.insert(name.clone(), line);
    }
    let resealed = redeclare(&mut secrets, &before, after)?;
    report.answer(&words::granted(&who.to_string(), &resealed));
    report.answer(&words::next(&secrets.environment));
    report.json(&serde_json::json!({
        "v": VERSION, "type": "secret_granted", "who": who.to_string(), "secrets": resealed,
    }));
    Ok(ExitCode::Done)
}

impl Chosen {
    /// The secrets that were named: at least one, or all.
    pub fn names(&self, secrets: &Secrets, verb: &str) -> Result<Vec<FileName>, Stop> {
        if self.names.is_empty() && !self.all {
            return Err(Stop::usage(
                Complaint::new("no secret was named, so nothing was done").help(format!(
                    "`push secret {verb} {} WHO NAME…`, or `--all` for every one",
                    secrets.environment
                )),
            ));
        }
        let named = self.names.iter();
        named
            .map(|word| secrets.existing(word).map(|(name, _)| name))
            .collect()
    }
}

/// Whom the operator means; a new person is declared, a new key of one added.
fn who(after: &mut Readers, arguments: &Grant, secrets: &Secrets) -> Result<Who, Stop> {
    let word = arguments.who.as_deref().unwrap_or_default();
    let who: Who = word.parse().map_err(|error| {
        Stop::usage(
            Complaint::of(&error)
                .help("`push secret grant ENVIRONMENT WHO NAME…`: a person, a group, or `hosts`"),
        )
    })?;
    let key = arguments.key.as_deref().map(str::parse::<PublicKey>);
    let key = key
        .transpose()
        .map_err(|error| Stop::usage(Complaint::of(&error).help(error.help())))?;
    match (&who, key) {
        (Who::Named(person), Some(key)) if !after.groups.contains_key(person) => {
            let keys = after.people.entry(person.clone()).or_default();
            if !keys.contains(&key) {
                keys.push(key);
            }
        }
        (_, Some(_)) => {
            let complaint = Complaint::new(format!("{who} is no person, so it has no key"));
            return Err(Stop::usage(complaint.help("leave `--key` out")));
        }
        (Who::Named(name), None) => known(after, name, secrets)?,
        (Who::Hosts, None) => {}
    }
    Ok(who)
}

/// Whether somebody is called so.
pub fn known(readers: &Readers, name: &PersonName, secrets: &Secrets) -> Result<(), Stop> {
    if readers.people.contains_key(name) || readers.groups.contains_key(name) {
        return Ok(());
    }
    let help = nearest(name.as_str(), &readers.words()).map_or_else(
        || {
            format!(
                "declared are {}; somebody new comes with a key: `push secret grant {} {name} NAME --key \"ssh-ed25519 AAAA…\"`",
                readers.words().join(", "),
                secrets.environment
            )
        },
        |near| format!("did you mean {near:?}?"),
    );
    Err(Stop::usage(
        Complaint::new(format!(
            "nobody is called {name} under [secrets] of {}",
            secrets.environment
        ))
        .help(help),
    ))
}

fn opened_by_nobody(last: &[&str], secrets: &Secrets) -> Stop {
    let names = last.join(", ");
    let opened = Complaint::new(format!("nobody could open {names} any more"));
    Stop::usage(opened.help(format!(
        "let somebody else read it first: `push secret grant {} WHO {}`; or, if it is not needed any more, `git rm` \
         its file",
        secrets.environment, last[0]
    )))
}

/// Writes another declaration, and seals anew what others may open now. Returns those secrets.
pub fn redeclare(
    secrets: &mut Secrets,
    before: &Readers,
    after: Readers,
) -> Result<Vec<FileName>, Stop> {
    let declared = |secrets: &Secrets| -> Result<Vec<Recipients>, Stop> {
        let all = secrets.files.iter();
        all.map(|(name, sealed)| secrets.recipients(name, sealed))
            .collect::<Result<_, _>>()
            .map_err(|error| unavailable(&error))
    };
    let old = declared(secrets)?;
    let draft = declare::draft(secrets, before, &after)?;
    if let Some(fleet) = secrets.fleet_mut() {
        fleet.readers = after;
    }
    let new = declared(secrets)?;
    let last: Vec<&str> = secrets
        .files
        .keys()
        .zip(old.iter().zip(&new))
        .filter(|(_, (old, new))| new.is_empty() && !old.is_empty())
        .map(|(name, _)| name.as_str())
        .collect();
    if !last.is_empty() {
        return Err(opened_by_nobody(&last, secrets));
    }
    let names: BTreeSet<FileName> = secrets
        .files
        .keys()
        .zip(old.iter().zip(&new))
        .filter(|(_, (old, new))| old != new)
        .map(|(name, _)| name.clone())
        .collect();
    let names: Vec<FileName> = names.into_iter().collect();
    let contents = rekey::opened(secrets, &names)?;
    secrets.write(&contents, Some(&draft))?;
    Ok(names)
}
