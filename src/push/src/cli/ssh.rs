//! `push ssh`: hands over to the operator's own ssh. Nothing passes through a shell of ours, and
//! nothing of push is left when ssh runs.

use std::ffi::OsString;
use std::io::{self, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};

use etcetera::BaseStrategy as _;

use super::arguments::OneHost;
use super::environment::{Environment, stopped};
use super::{Stop, runtime};
use crate::child;
use crate::event::ExitCode;
use crate::report::{Complaint, Report};
use crate::transport::openssh::{Handover, handover};
use crate::transport::ssh::without_revoked;

/// Open your own ssh to a host, with the key, user and way that push uses
#[derive(Debug, clap::Args)]
#[command(override_usage = "push ssh [OPTIONS] [ENVIRONMENT] HOST [-- COMMAND…]")]
pub struct Ssh {
    #[command(flatten)]
    host: OneHost,

    /// What to run there instead of a shell
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

/// Becomes ssh; returns only when that cannot be.
pub fn run(arguments: &Ssh, folder: &Path, _report: &Report) -> Result<ExitCode, Stop> {
    let (environment, host) = Environment::of_one(&arguments.host, folder)?;
    let target = runtime::run(async |_| {
        let Some(target) = environment.targets().await?.remove(&host) else {
            return Err(Stop::not_started(Complaint::new(format!(
                "nobody has said where {host} is"
            ))));
        };
        without_revoked(target)
            .await
            .map_err(|error| stopped(&environment.fleet.environment, &error))
    })?;
    let place = folder_of_our_own().map_err(|error| unwritable(&error))?;
    let stem = format!("{}-{host}", environment.fleet.environment);
    let known_hosts = place.join(format!("{stem}.known_hosts"));
    let config = place.join(format!("{stem}.config"));
    let texts = handover(&target, &known_hosts)
        .map_err(|error| stopped(&environment.fleet.environment, &error))?;
    let Handover {
        config: config_text,
        known_hosts: known_hosts_text,
    } = texts;
    replace(&known_hosts, &known_hosts_text).map_err(|error| unwritable(&error))?;
    replace(&config, &config_text).map_err(|error| unwritable(&error))?;
    let error = child::command("ssh")
        .arg("-F")
        .arg(&config)
        .args(["--", host.as_str()])
        .args(&arguments.command)
        .exec();
    Err(Stop::not_started(
        Complaint::new(format!("ssh cannot be started: {error}"))
            .help("install OpenSSH's client: `apt install openssh-client`"),
    ))
}

/// The files stay, since nobody is left to remove them: one pair a host, none of it secret.
fn folder_of_our_own() -> io::Result<PathBuf> {
    let base = etcetera::choose_base_strategy().map_err(io::Error::other)?;
    let folder = base.cache_dir().join("push").join("ssh");
    std::fs::create_dir_all(&folder)?;
    Ok(folder)
}

/// In one step, since another `push ssh` may be reading it; readable to the operator alone.
fn replace(file: &Path, text: &str) -> io::Result<()> {
    let mut draft = tempfile::NamedTempFile::new_in(file.parent().unwrap_or(Path::new(".")))?;
    draft.write_all(text.as_bytes())?;
    draft.persist(file).map(drop).map_err(|error| error.error)
}

fn unwritable(error: &io::Error) -> Stop {
    Stop::not_started(
        Complaint::new(format!("what ssh needs cannot be written: {error}"))
            .help("look at `ls -ld ~/.cache/push` and `df -h ~`"),
    )
}
