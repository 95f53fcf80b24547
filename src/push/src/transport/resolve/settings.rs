//! What `ssh -G` says, or would say where there is no `ssh`.

use super::{Error, Laptop, Query};
use crate::child;
use crate::transport::target::host_name;
use crate::visible;
use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::Command;

/// How long `ssh -G` may take; a `Match exec` of the operator's runs inside it.
const ASK_MAX: Duration = Duration::from_secs(10);
/// How much of its answer is read, in bytes.
const ANSWER_BYTES_MAX: u64 = 256 * 1024;
/// How much of its complaint is shown, in bytes.
const COMPLAINT_BYTES_MAX: usize = 500;

/// The key files that OpenSSH tries when none is configured.
const USUAL_IDENTITIES: [&str; 7] = [
    "rsa",
    "ecdsa",
    "ecdsa_sk",
    "ed25519",
    "ed25519_sk",
    "xmss",
    "dsa",
];

/// Options and values, in order; options in lower case.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Settings(Vec<(String, String)>);

impl Settings {
    pub(super) fn read(answer: &str) -> Self {
        let options = answer
            .lines()
            .filter_map(|line| line.trim().split_once(' '));
        Self(
            options
                .map(|(option, value)| (option.to_ascii_lowercase(), value.trim().to_owned()))
                .collect(),
        )
    }

    /// The value of an option that has one.
    pub(super) fn one(&self, option: &str) -> Option<&str> {
        self.all(option).next()
    }

    /// The values of an option that may be repeated.
    pub(super) fn all(&self, option: &str) -> impl Iterator<Item = &str> {
        self.0
            .iter()
            .filter(move |(name, _)| name == option)
            .map(|(_, value)| value.as_str())
    }

    /// The values of an option that lists several in one line.
    pub(super) fn words(&self, option: &str) -> Vec<&str> {
        self.one(option)
            .map(|value| value.split_ascii_whitespace().collect())
            .unwrap_or_default()
    }

    /// OpenSSH's defaults, for laptops without an OpenSSH client.
    fn defaults() -> Self {
        let mut answer = String::from(
            "userknownhostsfile ~/.ssh/known_hosts ~/.ssh/known_hosts2\n\
             globalknownhostsfile /etc/ssh/ssh_known_hosts /etc/ssh/ssh_known_hosts2\n",
        );
        for name in USUAL_IDENTITIES {
            answer.push_str("identityfile ~/.ssh/id_");
            answer.push_str(name);
            answer.push('\n');
        }
        Self::read(&answer)
    }
}

/// Whether a value of IdentityFile is one of OpenSSH's own guesses.
pub(super) fn is_usual_identity(name: &str) -> bool {
    name.strip_prefix("~/.ssh/id_")
        .is_some_and(|rest| USUAL_IDENTITIES.contains(&rest))
}

/// Asks `ssh -G`.
pub(super) async fn ask(laptop: &Laptop, query: &Query) -> Result<Settings, Error> {
    let unusable = |reason: String| Error::Config {
        host: query.alias.clone(),
        reason,
    };
    let spawned = Command::from(child::command(&laptop.ssh))
        .args(arguments(laptop, query))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn();
    let mut child = match spawned {
        Ok(child) => child,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Ok(Settings::defaults());
        }
        Err(error) => return Err(unusable(error.to_string())),
    };
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let asked = tokio::time::timeout(ASK_MAX, async {
        let (answer, complaint) = tokio::join!(read_some(stdout), read_some(stderr));
        (answer, complaint, child.wait().await)
    });
    let Ok((answer, complaint, status)) = asked.await else {
        return Err(unusable(format!(
            "`ssh -G` did not answer within {}s",
            ASK_MAX.as_secs()
        )));
    };
    match status {
        Ok(status) if status.success() => Ok(Settings::read(&String::from_utf8_lossy(&answer))),
        _ => Err(unusable(visible::escape(
            complaint.trim_ascii(),
            COMPLAINT_BYTES_MAX,
        ))),
    }
}

/// Values from the command line come first, so that blocks of ssh_config see them and lose against them.
fn arguments(laptop: &Laptop, query: &Query) -> Vec<std::ffi::OsString> {
    let mut arguments: Vec<std::ffi::OsString> = vec!["-G".into(), "-T".into()];
    if let Some(config) = &laptop.config {
        arguments.extend(["-F".into(), config.into()]);
    }
    if let Some(address) = &query.address {
        arguments.extend([
            "-o".into(),
            format!("HostName={}", host_name(address)).into(),
        ]);
    }
    if let Some(port) = query.port {
        arguments.extend(["-p".into(), port.to_string().into()]);
    }
    if let Some(user) = &query.user {
        arguments.extend(["-l".into(), user.into()]);
    }
    arguments.extend(["--".into(), query.alias.clone().into()]);
    arguments
}

async fn read_some(pipe: Option<impl AsyncRead + Unpin>) -> Vec<u8> {
    let mut bytes = Vec::new();
    if let Some(pipe) = pipe {
        // An answer that is cut off or unreadable shows as a missing option or a failed status.
        let _ = pipe.take(ANSWER_BYTES_MAX).read_to_end(&mut bytes).await;
    }
    bytes
}
