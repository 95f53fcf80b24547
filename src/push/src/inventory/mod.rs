//! The inventory: TOML to [`Fleet`].
//!
//! Text comes in with all its mistakes; a [`Fleet`] comes out that has none, or the list of what is
//! wrong, each with its line. Must not know how anything reaches a host, nor what a host looks like
//! now. Reads files below `inventory/` and nothing else, and writes one thing there: a host's key.
//!
//! To add a key: the field in `raw` (its doc comment becomes the schema's text), its meaning in
//! `resolve`, a line in `inventory/example.toml`, which a test demands.

mod address;
mod app;
mod bootstrap;
mod certificate;
mod document;
mod files;
mod firewall;
mod fleet;
mod health;
mod nearest;
mod pin;
mod problem;
mod public_key;
mod quantity;
mod raw;
mod readers;
mod resolve;
mod secrets;
mod selector;
mod service;
mod shape;
mod site;
mod value;
mod web;

pub use address::{AddressError, HostAddress, HostKey, TcpTarget};
pub use app::{App, Build, OwnUnit, SECRET_VARIABLES, SecretForm, Start};
pub use bootstrap::{
    Authority, Bootstrap, BootstrapError, Care, ENDPOINTS, LoginKey, PARAMETERS, ParameterName,
    ParameterValue,
};
pub use certificate::{CHALLENGE_PORT, NoCertificate};
pub use document::{CHAIN_MAX, FILE_BYTES_MAX, FILES_MAX};
pub use files::{FileContent, Files, ManagedFile, OnChange};
pub use firewall::{Allow, Firewall, SERVICES};
pub use fleet::{ANY_RELEASE, Fleet, Host, Jump, Login, Protection, Rollout, Ssh, Undo, Wave};
pub use health::{Health, HttpProbe, Probe};
pub use nearest::nearest;
pub use pin::{Declaration, PinError};
pub use problem::{Colours, InventoryErrors, PROBLEMS_MAX, Problem};
pub use public_key::{KeyKind, PublicKey, PublicKeyError};
pub use quantity::{Bytes, DURATION_MAX, Mode, Percent, QuantityError, duration};
pub use readers::{Readers, Who};
pub use secrets::{SECRETS, secret_file, secret_files};
pub use selector::{Selector, SelectorError};
pub use service::{
    Calendar, CalendarError, Hardening, Limits, ListenStream, LowPorts, Persistence, Reload,
    Restart, Service, ServiceKind, Signal, Socket, Timer,
};
pub use shape::schema;
pub use site::{
    Listen, Location, Matching, Missing, Pem, PlainHttp, Prefix, RedirectPath, Serve, Site,
    SiteRole, Tls, Websockets,
};
pub use value::{EnvValue, SplitError, VALUE_BYTES_MAX, ValueError, Word, split_words};
pub use web::{
    HeaderName, HeaderValue, HttpPath, HttpUrl, RedirectTarget, Scheme, ServerName, StatusSet,
    Upstream, WebError,
};

use std::fs;
use std::path::Path;

use crate::name::EnvironmentName;
use document::{Node, Reader};
use problem::Problems;

/// The folder of inventories, inside a project's folder.
pub const FOLDER: &str = "inventory";

/// The folder of the operator's templates, inside a project's folder.
pub const TEMPLATES: &str = "templates";

/// The most files that [`environments`] looks at.
const ENVIRONMENTS_MAX: usize = 500;

/// Reads the environment `environment` of the project in the folder `project`: everything that is
/// wrong with it at once, or a fleet that has no mistakes left.
pub fn load(project: &Path, environment: &EnvironmentName) -> Result<Fleet, InventoryErrors> {
    load_beside(&Beside {
        project,
        environment,
        secrets: Sealed::All,
    })
}

/// The same for whoever is about to seal what the inventory names: secrets may be missing.
pub fn load_before_sealing(
    project: &Path,
    environment: &EnvironmentName,
) -> Result<Fleet, InventoryErrors> {
    load_beside(&Beside {
        project,
        environment,
        secrets: Sealed::SomeMaybe,
    })
}

fn load_beside(beside: &Beside<'_>) -> Result<Fleet, InventoryErrors> {
    let Beside {
        project,
        environment,
        ..
    } = *beside;
    let folder = project.join(FOLDER);
    let file = folder.join(format!("{environment}.toml"));
    let mut reader = Reader::new(&folder);
    if !file.exists() {
        let mut problems = Problems::default();
        problems.push(no_environment(project, environment));
        return Err(InventoryErrors::new(reader.sources, problems));
    }
    let tree = reader.read(&file, None);
    let Reader {
        sources,
        mut problems,
        ..
    } = reader;
    let fleet = tree
        .filter(|_| problems.is_empty())
        .and_then(|tree| fleet(&tree, beside, &mut problems));
    match fleet {
        Some(fleet) if problems.is_empty() => Ok(fleet),
        Some(_) | None => Err(InventoryErrors::new(sources, problems)),
    }
}

/// What lies beside the inventory's file.
struct Beside<'a> {
    project: &'a Path,
    environment: &'a EnvironmentName,
    secrets: Sealed,
}

/// Whether a secret that the inventory names must be there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sealed {
    All,
    SomeMaybe,
}

fn fleet(tree: &Node, beside: &Beside<'_>, problems: &mut Problems) -> Option<Fleet> {
    shape::check(tree, problems);
    if !problems.is_empty() {
        return None;
    }
    match serde_path_to_error::deserialize(tree.to_json()) {
        Ok(raw) => resolve::fleet(tree, &raw, (beside, problems)),
        // The schema and the types are one, so this says that they are not.
        Err(error) => {
            let message = format!("{}: {}", error.path(), error.inner());
            problems.push(Problem::new("inventory::wrong-type", message));
            None
        }
    }
}

fn no_environment(project: &Path, environment: &EnvironmentName) -> Problem {
    let known = environments(project);
    let problem = Problem::new(
        "inventory::no-environment",
        format!(
            "there is no environment {environment}: inventory/{environment}.toml does not exist"
        ),
    );
    let names: Vec<&str> = known.iter().map(EnvironmentName::as_str).collect();
    match (
        nearest::nearest(environment.as_str(), &names),
        names.is_empty(),
    ) {
        (_, true) => problem.help("there is none at all yet; `push init` writes a first one"),
        (Some(near), false) => problem.help(format!(
            "did you mean {near}? These exist: {}",
            names.join(", ")
        )),
        (None, false) => problem.help(format!("these exist: {}", names.join(", "))),
    }
}

/// The environments of the project in the folder `project`, sorted: every inventory file that no
/// other one extends. Files that cannot be read are listed too: naming them tells why.
pub fn environments(project: &Path) -> Vec<EnvironmentName> {
    let folder = project.join(FOLDER);
    let entries = fs::read_dir(&folder)
        .into_iter()
        .flatten()
        .flatten()
        .take(ENVIRONMENTS_MAX);
    let files: Vec<_> = entries
        .map(|entry| entry.path())
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "toml")
        })
        .collect();
    let extended: Vec<_> = files
        .iter()
        .flat_map(|file| Reader::new(&folder).extends(file))
        .collect();
    let mut names: Vec<EnvironmentName> = files
        .iter()
        .filter(|file| !extended.contains(file))
        .filter_map(|file| file.file_stem()?.to_str()?.parse().ok())
        .collect();
    names.sort();
    names
}

#[cfg(test)]
mod tests;
