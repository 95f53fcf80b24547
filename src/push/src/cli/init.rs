//! `push init`. Never writes over anything.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::path::Path;

use super::Stop;
use super::project::INVENTORY;
use crate::event::ExitCode;
use crate::inventory;
use crate::name::{EnvironmentName, ProjectName};
use crate::report::{Complaint, Report};

/// What a new environment starts with.
const STARTER: &str = include_str!("starter.toml");

/// The project's name when the folder's own cannot be one.
const PROJECT: &str = "app";

/// Start an environment: write a commented inventory/ENVIRONMENT.toml
#[derive(Debug, clap::Args)]
pub struct Init {
    /// The environment to start
    #[arg(value_name = "ENVIRONMENT", default_value = "prod")]
    environment: String,

    /// Print the JSON schema of an inventory instead, for editors
    #[arg(long)]
    schema: bool,
}

/// Writes the starter into `folder`.
pub fn run(arguments: &Init, folder: &Path, report: &Report) -> Result<ExitCode, Stop> {
    if arguments.schema {
        let schema = serde_json::to_string_pretty(&inventory::schema()).map_err(|error| {
            Stop::not_started(Complaint::new(format!(
                "the schema cannot be written: {error}"
            )))
        })?;
        report.document(&format!("{schema}\n"));
        return Ok(ExitCode::Done);
    }
    let name: EnvironmentName = arguments.environment.parse().map_err(|error| {
        Stop::usage(Complaint::of(&error).help("choose another name, such as `prod` or `staging`"))
    })?;
    let file = Path::new(INVENTORY).join(format!("{name}.toml"));
    write_new(&folder.join(&file), &starter(&name, folder))
        .map_err(|error| refused(&file, &error))?;
    for kept in ["templates", "inventory/secrets"] {
        fs::create_dir_all(folder.join(kept)).map_err(|error| refused(Path::new(kept), &error))?;
    }
    report.json(&serde_json::json!({"type": "created", "path": file}));
    report.answer(&format!(
        "created {file}, templates/ and {INVENTORY}/secrets/\n\
         \n\
         Next: name your hosts and apps in {file}, then run `push plan {name}`.\n\
         Commit all three folders: what is in {INVENTORY}/secrets is sealed. A key that opens it belongs in none of them.\n",
        file = file.display(),
    ));
    Ok(ExitCode::Done)
}

/// The text of a new environment in a folder, which gives the project its name.
fn starter(name: &EnvironmentName, folder: &Path) -> String {
    let folder = folder
        .file_name()
        .and_then(|name| name.to_str())
        .unwrap_or_default();
    let project = folder
        .parse::<ProjectName>()
        .map_or_else(|_| PROJECT.to_owned(), |name| name.to_string());
    STARTER
        .replace("@NAME@", name.as_str())
        .replace("@PROJECT@", &project)
}

/// Creates a file that does not exist, and the folders above it.
fn write_new(path: &Path, text: &str) -> io::Result<()> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(path)?
        .write_all(text.as_bytes())
}

fn refused(path: &Path, error: &io::Error) -> Stop {
    let path = path.display();
    if error.kind() == io::ErrorKind::AlreadyExists {
        return Stop::refused(
            Complaint::new(format!("{path} exists already, and is left as it is"))
                .help("name another environment: `push init ENVIRONMENT`"),
        );
    }
    Stop::not_started(
        Complaint::new(format!("{path} cannot be written: {error}"))
            .help("change to a folder that you may write to, or name one with `-C DIR`"),
    )
}
