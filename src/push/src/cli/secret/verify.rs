//! `push secret verify`.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use super::super::Stop;
use super::place::{Purpose, Secrets, unavailable};
use crate::event::{ExitCode, VERSION};
use crate::inventory::{FOLDER, SECRETS};
use crate::name::FileName;
use crate::report::{Report, secret as words};
use crate::secret::{Fault, SecretError, faults};

/// The most files of the folder that are looked at.
const FILES_MAX: usize = 10_000;

/// Check the sealed files against the inventory and secrets.lock; needs no key
///
/// For CI: every file is a whole age file, sealed to exactly those who are declared, and the one that
/// secrets.lock tells of; nothing is missing, unused or unsealed. Exits with 8 when something is wrong.
#[derive(Debug, clap::Args)]
pub struct Verify {
    /// The environment
    environment: Option<String>,
}

/// Verifies all of them.
pub fn run(arguments: &Verify, folder: &Path, report: &Report) -> Result<ExitCode, Stop> {
    let place = (arguments.environment.as_deref(), folder);
    let secrets = Secrets::open(place, Purpose::Look, report)?;
    let mut found = strays(&secrets);
    for (name, sealed) in &secrets.files {
        let shown = secrets.shown(&sealed.path);
        if escapes(&secrets, &sealed.path) {
            let why = "it is a link that leads out of the folder".to_owned();
            found.push(Fault::Name { file: shown, why });
            continue;
        }
        let declared = match secrets.recipients(name, sealed) {
            Ok(declared) => declared,
            Err(error @ SecretError::Unpinned { .. }) => {
                found.push(Fault::Sealed(error));
                continue;
            }
            Err(error) => return Err(unavailable(&error)),
        };
        let entry = secrets.lock.entries.get(&sealed.key);
        found.extend(faults((&sealed.path, &shown), &declared, entry));
        if !is_used(&secrets, name, &sealed.key) {
            found.push(Fault::Unused {
                file: shown,
                environment: secrets.environment.to_string(),
            });
        }
    }
    found.extend(gone(&secrets));
    found.extend(missing(&secrets));
    tell(&secrets, &found, report);
    Ok(if found.is_empty() {
        ExitCode::Done
    } else {
        ExitCode::Secrets
    })
}

/// What this environment uses and has not.
fn missing(secrets: &Secrets) -> Vec<Fault> {
    secrets.usages[&secrets.environment]
        .iter()
        .filter(|(name, _)| !secrets.files.contains_key(*name))
        .map(|(name, users)| Fault::Missing {
            secret: name.to_string(),
            user: users.names().join(", "),
        })
        .collect()
}

/// Whether something uses it: in its environment, or in any when all share it.
fn is_used(secrets: &Secrets, name: &FileName, key: &str) -> bool {
    let own = key.contains('/').then_some(&secrets.environment);
    secrets
        .usages
        .iter()
        .filter(|(environment, _)| own.is_none_or(|own| own == *environment))
        .any(|(_, usage)| usage.contains_key(name))
}

fn escapes(secrets: &Secrets, path: &Path) -> bool {
    let folder = fs::canonicalize(secrets.root().join(FOLDER).join(SECRETS));
    match (folder, fs::canonicalize(path)) {
        (Ok(folder), Ok(real)) => !real.starts_with(folder),
        // Reading it will tell what is wrong.
        _ => false,
    }
}

/// What the lock tells of that is not there, as far as this environment is concerned.
fn gone(secrets: &Secrets) -> Vec<Fault> {
    let folder = secrets.root().join(FOLDER).join(SECRETS);
    let own = format!("{}/", secrets.environment);
    let ours = |key: &str| !key.contains('/') || key.starts_with(&own);
    let keys = secrets.lock.entries.keys().filter(|key| ours(key));
    keys.map(|key| folder.join(format!("{key}.age")))
        .filter(|path| path.symlink_metadata().is_err())
        .map(|path| Fault::Gone {
            file: secrets.shown(&path),
        })
        .collect()
}

/// Files that look like secrets and can be none: by their names, or by the folder that they are in.
fn strays(secrets: &Secrets) -> Vec<Fault> {
    let folder = secrets.root().join(FOLDER).join(SECRETS);
    let known: BTreeSet<String> = secrets
        .project
        .environments()
        .iter()
        .map(ToString::to_string)
        .collect();
    let mut found = Vec::new();
    for place in [folder.clone(), folder.join(secrets.environment.as_str())] {
        let entries = fs::read_dir(&place).into_iter().flatten().flatten();
        for path in entries.map(|entry| entry.path()).take(FILES_MAX) {
            let file = path.file_name().unwrap_or_default().to_string_lossy();
            let shown = crate::visible::escape(secrets.shown(&path).as_bytes(), 500);
            if let Some(name) = file.strip_suffix(".age")
                && let Err(error) = name.parse::<FileName>()
            {
                let why = format!("it cannot be the name of a secret: {error}");
                found.push(Fault::Name { file: shown, why });
            } else if path.is_dir()
                && place == folder
                && !file.starts_with('.')
                && !known.contains(file.as_ref())
            {
                let why = "no environment is called so, and nobody reads what is in it".to_owned();
                found.push(Fault::Name { file: shown, why });
            }
        }
    }
    found
}

fn tell(secrets: &Secrets, found: &[Fault], report: &Report) {
    let environment = secrets.environment.as_str();
    for fault in found {
        let help = fault.help(environment);
        report.answer(&words::fault(&fault.to_string(), &help));
        report.json(&serde_json::json!({
            "v": VERSION, "type": "secret_fault", "message": fault.to_string(), "help": help,
        }));
    }
    report.answer(&words::verified(
        environment,
        secrets.files.len(),
        found.len(),
    ));
    report.json(&serde_json::json!({
        "v": VERSION, "type": "secrets_verified", "environment": environment,
        "secrets": secrets.files.len(), "faults": found.len(),
    }));
}
