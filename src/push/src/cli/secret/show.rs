//! `push secret show`.

use std::path::Path;

use super::super::Stop;
use super::place::{self, Purpose, Secrets};
use crate::event::{ExitCode, VERSION};
use crate::report::screen::answers_a_terminal;
use crate::report::{Complaint, Form, Report};
use crate::secret::Secret;

/// Print a secret's value on stdout, byte for byte
///
/// Into a pipe or a file nothing is added or taken away. A terminal gets it when it is text.
#[derive(Debug, clap::Args)]
pub struct Show {
    /// The environment
    environment: Option<String>,
    /// The secret
    name: Option<String>,
}

/// Shows one.
pub fn run(arguments: &Show, folder: &Path, report: &Report) -> Result<ExitCode, Stop> {
    let place = (arguments.environment.as_deref(), folder);
    let secrets = Secrets::open(place, Purpose::Show, report)?;
    let Some(word) = &arguments.name else {
        return Err(place::unnamed(&secrets, "show"));
    };
    let (name, sealed) = secrets.existing(word)?;
    let secret = secrets
        .opened(&secrets.keys()?, &sealed)
        .map_err(|error| place::unavailable(&error))?;
    match report.form() {
        Form::Json => {
            let (encoding, value) = encoded(&secret);
            report.json(&serde_json::json!({
                "v": VERSION, "type": "secret", "name": name, "encoding": encoding, "value": value,
            }));
        }
        Form::Text if answers_a_terminal() => {
            let Some(text) = plain(&secret) else {
                let complaint = Complaint::new(format!(
                    "{name} is not plain text, and would confuse this terminal"
                ));
                let help = format!("`push secret show {} {name} > FILE`", secrets.environment);
                return Err(Stop::refused(complaint.help(help)));
            };
            report.exact(text.as_bytes());
            if !text.ends_with('\n') {
                report.exact(b"\n");
            }
        }
        Form::Text => report.exact(secret.expose()),
    }
    Ok(ExitCode::Done)
}

fn encoded(secret: &Secret) -> (&'static str, String) {
    match std::str::from_utf8(secret.expose()) {
        Ok(text) => ("text", text.to_owned()),
        Err(_) => ("base64", push_wire::frame::to_base64(secret.expose())),
    }
}

/// The value, when a terminal shows it as it is.
fn plain(secret: &Secret) -> Option<&str> {
    let text = std::str::from_utf8(secret.expose()).ok()?;
    let shown = |c: char| !c.is_control() || matches!(c, '\n' | '\t');
    text.chars().all(shown).then_some(text)
}
