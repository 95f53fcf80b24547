//! `push secret list`.

use std::path::Path;

use super::super::Stop;
use super::place::{Purpose, Secrets};
use crate::event::{ExitCode, VERSION};
use crate::name::{FileName, HostName};
use crate::report::Report;
use crate::report::secret::{self as words, Listed};

/// Show who can open each secret, and what uses it; opens nothing
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
    let readers = match secrets.recipients(name, sealed) {
        Ok(recipients) => recipients.names().into_iter().map(str::to_owned).collect(),
        Err(error) => vec![error.to_string()],
    };
    let users = secrets.usages[&secrets.environment].get(name);
    let entry = secrets.lock.entries.get(&sealed.key);
    Listed {
        name: name.to_string(),
        file: secrets.shown(&sealed.path),
        readers,
        used_by: users.map(crate::secret::Users::names).unwrap_or_default(),
        hosts: users
            .map(|users| users.hosts().into_iter().map(HostName::to_string).collect())
            .unwrap_or_default(),
        sealed: entry.map(|entry| format!("{} by {}", entry.at, entry.by)),
    }
}
