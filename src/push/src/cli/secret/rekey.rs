//! `push secret rekey`.

use std::path::Path;

use super::super::Stop;
use super::place::{Content, Is, Purpose, Secrets};
use crate::event::{ExitCode, VERSION};
use crate::name::FileName;
use crate::report::{Complaint, Report, measure, secret as words};
use crate::secret::SecretError;

/// Seal every secret anew to exactly those who are declared, all or nothing
///
/// Values stay as they are, so no app restarts for it. When a single one cannot be opened, it is named
/// and nothing is touched; cut off at any point, the next `push secret` finishes it.
#[derive(Debug, clap::Args)]
pub struct Rekey {
    /// The environment
    environment: Option<String>,
}

/// Seals all of them anew.
pub fn run(arguments: &Rekey, folder: &Path, report: &Report) -> Result<ExitCode, Stop> {
    let place = (arguments.environment.as_deref(), folder);
    let mut secrets = Secrets::open(place, Purpose::Change, report)?;
    let names: Vec<FileName> = secrets.files.keys().cloned().collect();
    let contents = opened(&secrets, &names)?;
    secrets.write(&contents, None)?;
    let count = measure::count(contents.len(), "secret");
    report.answer(&format!("sealed {count} anew to those who are declared\n"));
    report.answer(&words::next(&secrets.environment));
    report.json(&serde_json::json!({
        "v": VERSION, "type": "secrets_rekeyed", "environment": secrets.environment, "secrets": names,
    }));
    Ok(ExitCode::Done)
}

/// Opens secrets to seal them again. Every one that cannot be is named, before any file is touched.
pub fn opened(secrets: &Secrets, names: &[FileName]) -> Result<Vec<Content>, Stop> {
    if names.is_empty() {
        return Ok(Vec::new());
    }
    // Who shall read them must be known before, so that nothing stops half way.
    for name in names {
        secrets.somebody(name, &secrets.files[name])?;
    }
    let keys = secrets.keys()?;
    let mut contents = Vec::new();
    let mut failed: Vec<SecretError> = Vec::new();
    for name in names {
        let sealed = secrets.files[name].clone();
        match secrets.opened(&keys, &sealed) {
            Ok(secret) => contents.push(Content {
                name: name.clone(),
                sealed,
                secret,
                is: Is::Same,
            }),
            Err(error) => failed.push(error),
        }
    }
    match failed.as_slice() {
        [] => Ok(contents),
        [first, rest @ ..] => {
            let mut complaint = Complaint::of(first).help(first.help());
            complaint
                .causes
                .extend(rest.iter().map(ToString::to_string));
            complaint.causes.push("so nothing was touched".to_owned());
            Err(Stop {
                exit: ExitCode::Secrets,
                complaint,
            })
        }
    }
}
