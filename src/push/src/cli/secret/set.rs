//! `push secret set`.

use std::path::Path;

use super::super::Stop;
use super::place::{self, Content, Is, Purpose, Reach, Secrets};
use super::typed;
use crate::event::{ExitCode, VERSION};
use crate::report::{Report, secret as words};

/// Give a secret a value, from stdin or a hidden prompt
///
/// Makes the secret if there is none. One that other environments see as well is changed with `--shared`
/// alone. The value is never taken from the command line.
#[derive(Debug, clap::Args)]
pub struct Set {
    /// The environment: its secrets are inventory/secrets/ENVIRONMENT/NAME.age and inventory/secrets/NAME.age
    environment: Option<String>,
    /// The secret
    name: Option<String>,
    #[command(flatten)]
    whose: Whose,
    /// Take one newline off the end of what comes in
    #[arg(long)]
    trim: bool,
    /// Make up a value of 256 random bits that nobody sees
    #[arg(long, conflicts_with = "trim")]
    generate: bool,
}

/// Which environments it is for.
#[derive(Debug, Clone, Copy, clap::Args)]
struct Whose {
    /// Make or change it for all environments: inventory/secrets/NAME.age
    #[arg(long)]
    shared: bool,
    /// Make it for this environment alone, beside one that all share: inventory/secrets/ENVIRONMENT/NAME.age
    #[arg(long, conflicts_with = "shared")]
    own: bool,
}

impl Whose {
    fn reach(self) -> Reach {
        match self {
            Self { own: true, .. } => Reach::Own,
            Self { shared, .. } => shared.into(),
        }
    }
}

/// Sets one.
pub fn run(arguments: &Set, folder: &Path, report: &Report) -> Result<ExitCode, Stop> {
    let place = (arguments.environment.as_deref(), folder);
    let mut secrets = Secrets::open(place, Purpose::Change, report)?;
    let Some(word) = &arguments.name else {
        return Err(place::unnamed(&secrets, "set"));
    };
    let name = place::name(word)?;
    let shared = secrets.files.get(&name).cloned();
    let sealed = secrets.place_of(&name, arguments.whose.reach())?;
    // Before anybody types: whether it could be sealed at all.
    let recipients = secrets.somebody(&name, &sealed)?;
    let secret = if arguments.generate {
        typed::chance()?
    } else {
        typed::value(name.as_str(), arguments.trim.into(), report)?
    };
    let file = secrets.shown(&sealed.path);
    let is_new = !sealed.path.exists();
    let left = shared.filter(|shared| *shared != sealed);
    let left = left.map_or_else(Vec::new, |shared| secrets.others(&name, &shared));
    let content = Content {
        name: name.clone(),
        sealed,
        secret,
        is: Is::New,
    };
    secrets.write(&[content], None)?;
    let what = if is_new { "made" } else { "changed" };
    let readers = recipients.names().join(", ");
    report.answer(&words::written(what, &file, &readers));
    if let Some(words) = words::left_to_others(name.as_str(), &left) {
        report.answer(&words);
    }
    report.answer(&words::next(&secrets.environment));
    report.json(&serde_json::json!({
        "v": VERSION, "type": "secret_set", "name": name, "file": file, "new": is_new, "readers": recipients.names(),
    }));
    Ok(ExitCode::Done)
}
