//! `push secret list`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::super::Stop;
use super::place::{Purpose, Secrets};
use crate::event::{ExitCode, VERSION};
use crate::inventory::PublicKey;
use crate::name::{FileName, HostName};
use crate::report::Report;
use crate::report::secret::{self as words, Listed};
use crate::secret::{line_parts, read_sealed};

/// Show who can open each secret, and what uses it; opens nothing
///
/// Readers are those whom a file is sealed to, as secrets.lock tells; where others are declared, it says
/// who opens it only until the next `push secret rekey`, and who only after it.
#[derive(Debug, clap::Args)]
pub struct List {
    /// The environment
    environment: Option<String>,
}

/// Lists them.
pub fn run(arguments: &List, folder: &Path, report: &Report) -> Result<ExitCode, Stop> {
    let place = (arguments.environment.as_deref(), folder);
    let secrets = Secrets::open(place, Purpose::Look, report)?;
    let rows: Vec<Listed> = secrets
        .files
        .keys()
        .map(|name| listed(&secrets, name))
        .collect();
    report.answer(&words::list(secrets.environment.as_str(), &rows));
    for row in &rows {
        report.json(&serde_json::json!({"v": VERSION, "type": "secret_listed", "secret": row}));
    }
    Ok(ExitCode::Done)
}

fn listed(secrets: &Secrets, name: &FileName) -> Listed {
    let sealed = &secrets.files[name];
    let shown = secrets.shown(&sealed.path);
    let content = read_sealed(&sealed.path, &shown).unwrap_or_default();
    let entry = secrets.lock.entry_of(&sealed.key, &content);
    let can: Lines = entry.map_or_else(Lines::new, |entry| lines(&entry.recipients));
    let (may, wrong) = match secrets.recipients(name, sealed) {
        Ok(recipients) => (lines(&recipients.lines()), None),
        // What cannot be declared changes nothing of what is sealed.
        Err(error) => (can.clone(), Some(error.to_string())),
    };
    let mut readers = names(&can, |key| may.contains_key(key));
    readers.extend(wrong);
    let users = secrets.usages[&secrets.environment].get(name);
    Listed {
        name: name.to_string(),
        file: shown,
        readers,
        until_rekey: names(&can, |key| !may.contains_key(key)),
        after_rekey: names(&may, |key| !can.contains_key(key)),
        used_by: users.map(crate::secret::Users::names).unwrap_or_default(),
        hosts: users
            .map(|users| users.hosts().into_iter().map(HostName::to_string).collect())
            .unwrap_or_default(),
        sealed: entry.map(|entry| format!("{} by {}", entry.at, entry.by)),
    }
}

/// Keys, each with whose it is.
type Lines = BTreeMap<Option<PublicKey>, String>;

fn lines(lines: &BTreeSet<String>) -> Lines {
    let parts = lines.iter().map(|line| line_parts(line));
    parts.map(|(key, who)| (key, who.to_owned())).collect()
}

/// Whose keys those are that are meant, each once.
fn names(lines: &Lines, is_meant: impl Fn(&Option<PublicKey>) -> bool) -> Vec<String> {
    let meant = lines.iter().filter(|(key, _)| is_meant(key));
    let names: BTreeSet<&String> = meant.map(|(_, who)| who).collect();
    names.into_iter().cloned().collect()
}
