//! `push secret rotate`.

use std::io::IsTerminal as _;
use std::path::Path;

use super::super::Stop;
use super::place::{self, Content, Is, Purpose, Sealed, Secrets};
use super::typed;
use crate::event::{ExitCode, VERSION};
use crate::name::{EnvironmentName, FileName};
use crate::report::{Complaint, Report, secret as words};
use crate::secret::Keyring;

/// Give secrets that exist new values, all or none
///
/// Asks for one after the other, or takes the value of a single one from stdin. A value that is the old
/// one is refused, as far as you can open that. Secrets that other environments see as well are changed with
/// `--shared` alone. Their apps restart with the next push.
#[derive(Debug, clap::Args)]
pub struct Rotate {
    /// The environment
    environment: Option<String>,
    /// The secrets
    names: Vec<String>,
    /// Change them for all environments, where they share them
    #[arg(long)]
    shared: bool,
    /// Make up values of 256 random bits that nobody sees
    #[arg(long, conflicts_with = "trim")]
    generate: bool,
    /// Take one newline off the end of what comes in
    #[arg(long)]
    trim: bool,
}

impl Rotate {
    /// For these secrets, whoever shares them, with values that are asked for.
    pub fn of(environment: &EnvironmentName, names: Vec<String>) -> Self {
        Self {
            environment: Some(environment.to_string()),
            names,
            shared: true,
            generate: false,
            trim: false,
        }
    }
}

/// Rotates.
pub fn run(arguments: &Rotate, folder: &Path, report: &Report) -> Result<ExitCode, Stop> {
    let place = (arguments.environment.as_deref(), folder);
    let mut secrets = Secrets::open(place, Purpose::Change, report)?;
    if arguments.names.is_empty() {
        return Err(place::unnamed(&secrets, "rotate"));
    }
    if arguments.names.len() > 1 && !arguments.generate && !std::io::stdin().is_terminal() {
        return Err(Stop::usage(
            Complaint::new("stdin holds the value of one secret, and several were named")
                .help("name one at a time, pass `--generate`, or run it in a terminal"),
        ));
    }
    let keys = secrets.keys().ok();
    let mut contents = Vec::new();
    // Before anybody types: whether all of them may be changed.
    for (name, sealed) in named(arguments, &secrets)? {
        let secret = if arguments.generate {
            typed::chance()?
        } else {
            typed::value(name.as_str(), arguments.trim.into(), report)?
        };
        let content = Content {
            name,
            sealed,
            secret,
            is: Is::New,
        };
        differs(&secrets, keys.as_ref(), &content)?;
        contents.push(content);
    }
    secrets.write(&contents, None)?;
    let names: Vec<&FileName> = contents.iter().map(|content| &content.name).collect();
    let shown: Vec<&str> = names.iter().map(|name| name.as_str()).collect();
    report.answer(&format!("new values for {}\n", shown.join(", ")));
    report.answer(&words::next(&secrets.environment));
    report.json(&serde_json::json!({
        "v": VERSION, "type": "secrets_rotated", "secrets": names,
    }));
    Ok(ExitCode::Done)
}

/// The secrets that were named, each of which may be changed.
fn named(arguments: &Rotate, secrets: &Secrets) -> Result<Vec<(FileName, Sealed)>, Stop> {
    let mut all = Vec::new();
    for word in &arguments.names {
        let (name, sealed) = secrets.existing(word)?;
        secrets.ours((&name, &sealed), arguments.shared.into(), "rotate")?;
        secrets.somebody(&name, &sealed)?;
        all.push((name, sealed));
    }
    Ok(all)
}

/// Whether a value is another one. Whoever cannot open the old one may rotate it all the same.
fn differs(secrets: &Secrets, keys: Option<&Keyring>, content: &Content) -> Result<(), Stop> {
    let old = keys.and_then(|keys| secrets.opened(keys, &content.sealed).ok());
    if old.is_some_and(|old| old.expose() == content.secret.expose()) {
        return Err(Stop::refused(
            Complaint::new(format!(
                "{} has that value already, so nothing was changed",
                content.name
            ))
            .help("give it another one, or let `--generate` make one up"),
        ));
    }
    Ok(())
}
