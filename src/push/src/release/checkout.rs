//! Where a push comes from: the commit of the operator's checkout, and who the operator is.

use std::io::Read as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

use jiff::Timestamp;
use push_wire::manifest::Provenance;

use crate::name::{EnvironmentName, ReleaseId};

/// How long git may take to answer.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(10);

/// How much of git's answer is read, in bytes: enough to see that it says something at all.
const ANSWER_BYTES_MAX: u64 = 64 << 10;

/// How many hexadecimal digits of a commit stand in a release's id.
const SHORT_DIGITS: usize = 7;

/// The longest name of an operator, in characters.
const OPERATOR_CHARS_MAX: usize = 100;

/// Where CI systems put the name of who started a job: GitHub, GitLab, CircleCI, Drone.
const ACTORS: &[&str] = &[
    "GITHUB_ACTOR",
    "GITLAB_USER_LOGIN",
    "CIRCLE_USERNAME",
    "DRONE_BUILD_TRIGGER",
];

/// A commit that is checked out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkout {
    /// The commit's hexadecimal digits.
    pub commit: String,
    /// Whether the folder holds more than the commit.
    pub state: CheckoutState,
}

/// Whether a checkout is what its commit says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CheckoutState {
    /// It is.
    Clean,
    /// Files were changed or added.
    Dirty,
}

impl Checkout {
    /// The checkout that `project` stands in; `None` without git, without a repository, or without a
    /// commit.
    pub fn of(project: &Path) -> Option<Self> {
        let commit = git(project, &["rev-parse", "--verify", "--quiet", "HEAD"])?;
        let commit = commit.trim().to_owned();
        let whole = commit.len() >= 40 && commit.bytes().all(|c| c.is_ascii_hexdigit());
        let clean = git(project, &["status", "--porcelain"]).is_some_and(|text| text.is_empty());
        whole.then_some(Self {
            commit,
            state: if clean {
                CheckoutState::Clean
            } else {
                CheckoutState::Dirty
            },
        })
    }

    /// The commit, with `-dirty` when there is more than the commit.
    fn marked(&self, digits: usize) -> String {
        let commit = self.commit.get(..digits).unwrap_or(&self.commit);
        match self.state {
            CheckoutState::Clean => commit.to_owned(),
            CheckoutState::Dirty => format!("{commit}-dirty"),
        }
    }
}

/// The id of a release made now: `<UTC time>-<commit>[-dirty]`, or the time alone without git.
pub fn release_id(at: Timestamp, checkout: Option<&Checkout>) -> Option<ReleaseId> {
    let time = at.strftime("%Y%m%dT%H%M%SZ");
    let id = match checkout {
        Some(checkout) => format!("{time}-{}", checkout.marked(SHORT_DIGITS)),
        None => time.to_string(),
    };
    id.parse().ok()
}

/// Who pushes, what, and when; for people to read later.
pub fn provenance(
    environment: &EnvironmentName,
    project: &Path,
    checkout: Option<&Checkout>,
    at: Timestamp,
) -> Provenance {
    Provenance {
        environment: environment.to_string(),
        operator: operator(project),
        commit: checkout.map(|checkout| checkout.marked(usize::MAX)),
        at_unix_s: u64::try_from(at.as_second()).unwrap_or(0),
        push_version: env!("CARGO_PKG_VERSION").to_owned(),
    }
}

/// The operator: whoever started the CI job, or git's user, or the system's.
pub fn operator(project: &Path) -> String {
    let variable = |name: &&str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let found = ACTORS
        .iter()
        .find_map(variable)
        .or_else(|| git(project, &["config", "user.name"]).filter(|name| !name.trim().is_empty()))
        .or_else(|| ["USER", "LOGNAME"].iter().find_map(variable));
    let plain: String = found
        .unwrap_or_default()
        .trim()
        .chars()
        .filter(|c| !c.is_control())
        .take(OPERATOR_CHARS_MAX)
        .collect();
    if plain.is_empty() {
        "unknown".to_owned()
    } else {
        plain
    }
}

/// What git says; `None` when it fails, is not there, or does not answer in time.
fn git(project: &Path, arguments: &[&str]) -> Option<String> {
    let mut child = Command::new("git")
        .arg("-C")
        .arg(project)
        .args(arguments)
        .env("GIT_OPTIONAL_LOCKS", "0")
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .ok()?;
    let stdout = child.stdout.take()?;
    let (sender, receiver) = channel();
    thread::spawn(move || {
        let mut text = Vec::new();
        let read = stdout.take(ANSWER_BYTES_MAX).read_to_end(&mut text);
        let _ = sender.send(read.map(|_| text)); // Nobody listens any more when it took too long.
    });
    let answer = receiver.recv_timeout(ANSWER_TIME_MAX);
    let long = matches!(&answer, Ok(Ok(text)) if text.len() as u64 == ANSWER_BYTES_MAX);
    if answer.is_err() || long {
        // It may wait for its reader; what it had to say is known.
        let _ = child.kill();
    }
    let status = child.wait().ok()?;
    let text = answer.ok()?.ok()?;
    (status.success() || long).then(|| String::from_utf8_lossy(&text).into_owned())
}
