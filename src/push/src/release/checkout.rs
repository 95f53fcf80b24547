//! Where a push comes from: the commit of the operator's checkout, and who the operator is.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;
use std::process::Stdio;
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

use jiff::Timestamp;
use push_wire::manifest::Provenance;

use crate::child;
use crate::name::ReleaseId;

/// How long git, or another program, may take to answer.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(10);

/// How much of an answer is read, in bytes: enough to see that it says something at all.
const ANSWER_BYTES_MAX: u64 = 64 << 10;

/// How many hexadecimal digits of a commit stand in a release's id.
const SHORT_DIGITS: usize = 7;

/// The longest name of an operator, in characters.
const OPERATOR_CHARS_MAX: usize = 100;

/// Where CI systems put who started a job, the job's name and its number: GitHub, GitLab, CircleCI,
/// Drone, Buildkite, Jenkins with its build-user-vars plugin.
const JOBS: &[[&str; 3]] = &[
    ["GITHUB_ACTOR", "GITHUB_WORKFLOW", "GITHUB_RUN_NUMBER"],
    ["GITLAB_USER_LOGIN", "CI_JOB_NAME", "CI_JOB_ID"],
    ["CIRCLE_USERNAME", "CIRCLE_JOB", "CIRCLE_BUILD_NUM"],
    ["DRONE_BUILD_TRIGGER", "DRONE_REPO", "DRONE_BUILD_NUMBER"],
    [
        "BUILDKITE_BUILD_CREATOR",
        "BUILDKITE_PIPELINE_SLUG",
        "BUILDKITE_BUILD_NUMBER",
    ],
    ["BUILD_USER_ID", "JOB_NAME", "BUILD_NUMBER"],
];

/// The longest part of such a name, in characters.
const PART_CHARS_MAX: usize = 40;

/// How many random bytes name a run of push.
const PUSH_BYTES: usize = 8;

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

/// The id of a release made now: `<UTC time>-<commit>[-dirty]`, or the time alone without git. The time has
/// milliseconds, since pushes may follow one another within a second, and one id is one content.
pub fn release_id(at: Timestamp, checkout: Option<&Checkout>) -> Option<ReleaseId> {
    let time = at.strftime("%Y%m%dT%H%M%S%.3fZ");
    let id = match checkout {
        Some(checkout) => format!("{time}-{}", checkout.marked(SHORT_DIGITS)),
        None => time.to_string(),
    };
    id.parse().ok()
}

/// Who pushes, what, and when; for people to read later. `environment` is what it is called in the slice that
/// is pushed.
pub fn provenance(
    environment: String,
    project: &Path,
    checkout: Option<&Checkout>,
    at: Timestamp,
) -> Provenance {
    Provenance {
        environment,
        operator: operator(project),
        commit: checkout.map(|checkout| checkout.marked(usize::MAX)),
        at_unix_s: u64::try_from(at.as_second()).unwrap_or(0),
        push_version: env!("CARGO_PKG_VERSION").to_owned(),
        push: push(),
    }
}

/// A name for this run of push that no other one has; empty, and so nobody's, where the system has no
/// randomness.
fn push() -> String {
    let mut bytes = [0; PUSH_BYTES];
    let read = File::open("/dev/urandom").and_then(|mut random| random.read_exact(&mut bytes));
    match read {
        Ok(()) => format!("{:016x}", u64::from_be_bytes(bytes)),
        Err(_) => String::new(),
    }
}

/// The operator: whoever started the CI job and which job it is, or git's user, or the system's.
pub fn operator(project: &Path) -> String {
    let variable = |name: &str| std::env::var(name).ok();
    let asked = |program: &str, arguments: &[&str]| answer(program, project, arguments);
    who(&variable, &asked)
}

/// The same, of what the variables say and what programs answer.
fn who(
    variable: &dyn Fn(&str) -> Option<String>,
    asked: &dyn Fn(&str, &[&str]) -> Option<String>,
) -> String {
    let set = |name: &str| variable(name).and_then(|value| plain(&value, OPERATOR_CHARS_MAX));
    let says = |program: &str, arguments: &[&str]| {
        asked(program, arguments).and_then(|said| plain(&said, OPERATOR_CHARS_MAX))
    };
    JOBS.iter()
        .find_map(|job| in_ci(job, variable))
        .or_else(|| says("git", &["config", "user.name"]))
        .or_else(|| set("USER"))
        .or_else(|| set("LOGNAME"))
        // The account of this process, from wherever the system keeps accounts.
        .or_else(|| says("id", &["-un"]))
        .unwrap_or_else(|| format!("uid:{}", rustix::process::getuid().as_raw()))
}

/// `anna (CI job deploy 42)`.
fn in_ci(
    [actor, job, number]: &[&str; 3],
    variable: &dyn Fn(&str) -> Option<String>,
) -> Option<String> {
    let part = |name: &str| variable(name).and_then(|value| plain(&value, PART_CHARS_MAX));
    let actor = part(actor)?;
    let job: Vec<String> = [part(job), part(number)].into_iter().flatten().collect();
    Some(match job.as_slice() {
        [] => actor,
        job => format!("{actor} (CI job {})", job.join(" ")),
    })
}

/// A text in one line of bounded length; `None` when nothing is left of it.
fn plain(text: &str, chars_max: usize) -> Option<String> {
    let plain: String = text
        .trim()
        .chars()
        .filter(|c| !c.is_control())
        .take(chars_max)
        .collect();
    (!plain.is_empty()).then_some(plain)
}

/// What git says of the project.
fn git(project: &Path, arguments: &[&str]) -> Option<String> {
    answer("git", project, arguments)
}

/// Whether a file of the project is kept out of its git; not so when there is none, or it cannot tell.
pub fn is_untracked(project: &Path, file: &Path) -> bool {
    let file = file.to_string_lossy();
    let others = git(project, &["ls-files", "--others", "--", &file]);
    others.is_some_and(|others| !others.trim().is_empty())
}

/// What a program says in a folder; `None` when it fails, is not there, or does not answer in time.
fn answer(program: &str, folder: &Path, arguments: &[&str]) -> Option<String> {
    let mut child = child::command(program)
        .current_dir(folder)
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

#[cfg(test)]
mod tests {
    use super::*;

    fn named(variables: &[(&str, &str)], answers: &[(&str, &str)]) -> String {
        let found = |all: &[(&str, &str)], name: &str| {
            let found = all.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        who(&|name| found(variables, name), &|program, _| {
            found(answers, program)
        })
    }

    #[test]
    fn whoever_pushes_has_a_name_whatever_the_system_lacks() {
        let git = ("git", "Anna Example\n");
        assert_eq!(named(&[("USER", "anna")], &[git]), "Anna Example");
        assert_eq!(named(&[("USER", "anna")], &[("git", " \n")]), "anna");
        assert_eq!(named(&[("LOGNAME", "anna\u{1b}[2J")], &[]), "anna[2J");
        assert_eq!(named(&[("USER", "")], &[("id", "backup\n")]), "backup");
        let uid = rustix::process::getuid().as_raw();
        assert_eq!(named(&[], &[]), format!("uid:{uid}"));
    }

    #[test]
    fn in_ci_the_operator_is_who_started_the_job_and_the_job() {
        let git = ("git", "runner");
        let github = [
            ("GITHUB_ACTOR", "anna"),
            ("GITHUB_WORKFLOW", "Deploy"),
            ("GITHUB_RUN_NUMBER", "42"),
        ];
        assert_eq!(named(&github, &[git]), "anna (CI job Deploy 42)");
        assert_eq!(named(&github[..1], &[git]), "anna");
        let gitlab = [("GITLAB_USER_LOGIN", "bo"), ("CI_JOB_ID", "7")];
        assert_eq!(named(&gitlab, &[git]), "bo (CI job 7)");
        let long = "x".repeat(500);
        let long = [("GITHUB_ACTOR", &*long), ("GITHUB_WORKFLOW", &*long)];
        assert!(named(&long, &[]).len() < OPERATOR_CHARS_MAX);
    }

    #[test]
    fn no_two_runs_of_push_have_one_name() {
        assert_eq!(push().len(), 2 * PUSH_BYTES);
        assert_ne!(push(), push());
    }
}
