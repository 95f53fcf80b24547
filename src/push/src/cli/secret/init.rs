//! `push secret init`.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use age::secrecy::ExposeSecret as _;

use super::super::Stop;
use super::declare;
use super::place::{Purpose, Secrets, unavailable};
use crate::event::{ExitCode, VERSION};
use crate::inventory::{PublicKey, Who};
use crate::name::PersonName;
use crate::release::operator;
use crate::report::{Complaint, Report, secret as words};
use crate::secret::{identity_files, public_key};

/// Where a new key is kept, below the home folder.
const IDENTITY: &str = ".config/push/identity";

/// Declare yourself as the first who can open an environment's secrets
///
/// Takes the key that you have (PUSH_IDENTITY, ~/.config/push/identity, ~/.ssh/id_ed25519), or makes
/// one at ~/.config/push/identity, and writes its public half into inventory/ENVIRONMENT.toml.
#[derive(Debug, clap::Args)]
pub struct Init {
    /// The environment
    environment: Option<String>,
    /// What the inventory calls you [your login's name]
    #[arg(long = "as", value_name = "NAME")]
    name: Option<String>,
    /// Declare this age or SSH public key instead
    #[arg(long, value_name = "PUBLIC-KEY")]
    key: Option<String>,
    /// Let the hosts that use a secret open it as it is sealed, so that CI can push without a key
    #[arg(long)]
    hosts: bool,
}

/// Declares the operator.
pub fn run(arguments: &Init, folder: &Path, report: &Report) -> Result<ExitCode, Stop> {
    let place = (arguments.environment.as_deref(), folder);
    let mut secrets = Secrets::open(place, Purpose::Change, report)?;
    let before = secrets.fleet().readers.clone();
    if !before.is_empty() {
        report.answer(&format!(
            "{0} declares already who can open its secrets; `push secret list {0}` shows it, `push secret grant {0}` lets others in\n",
            secrets.environment
        ));
        return Ok(ExitCode::Done);
    }
    let name = own_name(arguments, &secrets)?;
    let (key, made) = own_key(arguments, &secrets)?;
    let mut after = before.clone();
    after.people.insert(name.clone(), vec![key.clone()]);
    after.every.insert(Who::Named(name.clone()));
    if arguments.hosts {
        after.every.insert(Who::Hosts);
    }
    let draft = declare::draft(&secrets, &before, &after)?;
    secrets.write(&[], Some(&draft))?;
    if let Some(file) = &made {
        report.answer(&words::made_identity(&file.display().to_string()));
    }
    report.answer(&words::declared(
        &secrets.environment,
        name.as_str(),
        key.as_str(),
    ));
    if !secrets.files.is_empty() {
        report.answer(&format!(
            "The secrets that are there are sealed as they were: `push secret rekey {}` seals them anew.\n",
            secrets.environment
        ));
    }
    report.json(&serde_json::json!({
        "v": VERSION, "type": "secrets_initialised", "person": name, "key": key.as_str(), "made": made,
    }));
    Ok(ExitCode::Done)
}

/// What the inventory shall call the operator: a name that was given, or one made of the login's.
fn own_name(arguments: &Init, secrets: &Secrets) -> Result<PersonName, Stop> {
    let help = "name yourself: `push secret init ENVIRONMENT --as NAME`";
    if let Some(word) = &arguments.name {
        return word
            .parse()
            .map_err(|error| Stop::usage(Complaint::of(&error).help(help)));
    }
    let login = std::env::var("USER").unwrap_or_else(|_| operator(secrets.root()));
    let word: String = login
        .to_ascii_lowercase()
        .chars()
        .filter(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'))
        .collect();
    word.parse().map_err(|_| {
        Stop::usage(
            Complaint::new("your login's name is none that the inventory could call you by")
                .help(help),
        )
    })
}

/// The operator's public key, and the file of a key that was made for it.
fn own_key(arguments: &Init, secrets: &Secrets) -> Result<(PublicKey, Option<PathBuf>), Stop> {
    if let Some(text) = &arguments.key {
        let key = text.parse::<PublicKey>();
        let key = key.map_err(|error| Stop::usage(Complaint::of(&error).help(error.help())))?;
        return Ok((key, None));
    }
    let variable = |name: &str| std::env::var_os(name);
    let files = identity_files(secrets.root(), &secrets.fleet().identities, &variable);
    if let Some(key) = public_key(&files).map_err(|error| unavailable(&error))? {
        return Ok((key, None));
    }
    let home = variable("HOME").map(PathBuf::from).unwrap_or_default();
    let file = home.join(IDENTITY);
    let identity = age::x25519::Identity::generate();
    keep(&file, &identity).map_err(|error| {
        Stop::not_started(
            Complaint::new(format!("{} cannot be made: {error}", file.display()))
                .help("make a key yourself with `ssh-keygen -t ed25519`, or name its public half with `--key`"),
        )
    })?;
    let key = identity.to_public().to_string().parse::<PublicKey>();
    let key = key.map_err(|error| Stop::usage(Complaint::of(&error)))?;
    Ok((key, Some(file)))
}

/// Writes a new key, for its owner alone, over nothing.
fn keep(file: &Path, identity: &age::x25519::Identity) -> std::io::Result<()> {
    if let Some(folder) = file.parent() {
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)?;
    }
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(file)?;
    writeln!(file, "# public key: {}", identity.to_public())?;
    file.write_all(identity.to_string().expose_secret().as_bytes())?;
    file.write_all(b"\n")?;
    file.sync_all()
}
