//! apt and dpkg. Each job runs as a transient unit, so that it goes on to its end when the connection, or
//! push-host itself, goes in the midst of it; whoever comes next waits for that end. Nothing asks, nothing is
//! removed, a file that somebody changed is kept as it is.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use push_wire::groundwork::PackageName;

use super::process::Program;
use crate::machine::{Job, ToolError};

/// The unit that a job runs in: never two at a time.
const UNIT: &str = "push-packages.service";

/// How long a job may take. systemd ends it then.
const JOB_LIMIT: Duration = Duration::from_secs(30 * 60);

/// How long after that systemd may take to say so.
const JOB_END: Duration = Duration::from_secs(120);

/// How long apt waits for another apt, such as the nightly upgrade, in seconds (apt.conf(5)).
const LOCK_WAIT: &str = "DPkg::Lock::Timeout=300";

/// How long a question may take.
const QUESTION_LIMIT: Duration = Duration::from_secs(60);

/// The longest answer that is read, in bytes: some hundred bytes a package.
const ANSWER_BYTES_MAX: usize = 4 << 20;

/// How often dpkg, which does not wait for its lock, is tried.
const FINISH_TRIES: u32 = 60;

/// The pause between two tries, and between two looks at a job that still runs.
const PAUSE: Duration = Duration::from_secs(5);

/// What keeps packages from asking, and from restarting what they do not own.
const ENVIRONMENT: &[&str] = &[
    "--setenv=DEBIAN_FRONTEND=noninteractive",
    "--setenv=DEBIAN_PRIORITY=critical",
    "--setenv=APT_LISTCHANGES_FRONTEND=none",
    "--setenv=NEEDRESTART_MODE=l",
    "--setenv=LC_ALL=C.UTF-8",
    "--setenv=PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
];

/// Does a job to its end.
pub(super) fn work(job: &Job, tell: &mut dyn FnMut(&str)) -> Result<(), ToolError> {
    wait_for_the_last(tell)?;
    match job {
        Job::Finish => finish(tell),
        Job::Refresh | Job::Install(_) => run(&argv(job), tell),
    }
}

/// What a job runs.
fn argv(job: &Job) -> Vec<String> {
    let fixed: &[&str] = match job {
        Job::Finish => &[
            "dpkg",
            "--force-confold",
            "--force-confdef",
            "--configure",
            "-a",
        ],
        Job::Refresh => &[
            "apt-get",
            "-q",
            "-o",
            LOCK_WAIT,
            "-o",
            "Acquire::Retries=3",
            "update",
        ],
        Job::Install(_) => &[
            "apt-get",
            "-q",
            "-y",
            "-o",
            LOCK_WAIT,
            "-o",
            "Acquire::Retries=3",
            "-o",
            "Dpkg::Use-Pty=0",
            "-o",
            "Dpkg::Options::=--force-confold",
            "-o",
            "Dpkg::Options::=--force-confdef",
            "--no-install-recommends",
            "--no-remove",
            "install",
            "--",
        ],
    };
    let mut argv: Vec<String> = fixed.iter().map(|word| (*word).to_owned()).collect();
    if let Job::Install(packages) = job {
        argv.extend(packages.iter().map(ToString::to_string));
    }
    argv
}

/// dpkg says at once that another one has its lock; that one is waited for.
fn finish(tell: &mut dyn FnMut(&str)) -> Result<(), ToolError> {
    let argv = argv(&Job::Finish);
    let mut finished = run(&argv, tell);
    for _ in 1..FINISH_TRIES {
        match &finished {
            Err(ToolError::Failed { output, .. }) if output.contains("lock") => {
                tell("waiting for another dpkg");
                std::thread::sleep(PAUSE);
            }
            Ok(()) | Err(_) => break,
        }
        finished = run(&argv, tell);
    }
    finished
}

fn run(argv: &[String], tell: &mut dyn FnMut(&str)) -> Result<(), ToolError> {
    let shown = argv.join(" ");
    let limit = format!("--property=RuntimeMaxSec={}", JOB_LIMIT.as_secs());
    let mut unit = vec![
        "systemd-run",
        "--quiet",
        "--collect",
        "--wait",
        "--pipe",
        "--service-type=exec",
        "--property=KillMode=mixed",
        &limit,
    ];
    let name = format!("--unit={UNIT}");
    unit.push(&name);
    unit.extend(ENVIRONMENT);
    unit.push("--");
    unit.extend(argv.iter().map(String::as_str));
    let ended = Program::new(&unit, JOB_LIMIT + JOB_END).run_telling(tell)?;
    if ended.status.success() {
        return Ok(());
    }
    Err(ToolError::Failed {
        tool: shown,
        output: ended.said(),
    })
}

/// A job whose push-host was killed still runs.
fn wait_for_the_last(tell: &mut dyn FnMut(&str)) -> Result<(), ToolError> {
    let began = Instant::now();
    loop {
        let active = Program::new(
            &["systemctl", "is-active", "--quiet", "--", UNIT],
            QUESTION_LIMIT,
        )
        .run()?;
        if !active.status.success() {
            return Ok(());
        }
        if began.elapsed() >= JOB_LIMIT + JOB_END {
            return Err(ToolError::Late {
                tool: UNIT.to_owned(),
                seconds: began.elapsed().as_secs(),
            });
        }
        tell("waiting for packages that an earlier run began to install");
        std::thread::sleep(PAUSE);
    }
}

/// Those of these packages that apt has a candidate for.
pub(super) fn available(
    packages: &BTreeSet<PackageName>,
) -> Result<BTreeSet<PackageName>, ToolError> {
    let mut argv = vec!["apt-cache", "policy", "--"];
    argv.extend(packages.iter().map(PackageName::as_str));
    let said = Program::new(&argv, QUESTION_LIMIT)
        .output_bytes_max(ANSWER_BYTES_MAX)
        .succeed()?
        .stdout;
    let known = candidates(&said);
    let wanted = packages.iter();
    Ok(wanted
        .filter(|name| known.contains(name.as_str()))
        .cloned()
        .collect())
}

/// The packages with a candidate, as `apt-cache policy` lists them: `name:` at the start of a line, and
/// below it, set in, `Candidate: 1.2-3` or `Candidate: (none)`.
fn candidates(said: &str) -> BTreeSet<&str> {
    let mut known = BTreeSet::new();
    let mut package = None;
    for line in said.lines() {
        if !line.starts_with(' ') {
            // With another architecture's name behind it, it is another package.
            package = line.strip_suffix(':');
        } else if let Some(version) = line.trim_start().strip_prefix("Candidate: ")
            && version != "(none)"
        {
            known.extend(package);
        }
    }
    known
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_package_without_a_candidate_cannot_be_had() {
        let said = "nginx:\n  Installed: (none)\n  Candidate: 1.22.1-9\n  Version table:\n     \
                    1.22.1-9 500\nghost:\n  Installed: (none)\n  Candidate: (none)\n  Version table:\n\
                    g++:\n  Installed: 4:12.2.0-3\n  Candidate: 4:12.2.0-3\n";
        assert_eq!(candidates(said), ["g++", "nginx"].into());
        assert!(candidates("N: Unable to locate package x\n").is_empty());
    }

    #[test]
    fn names_come_after_the_end_of_options_and_nothing_is_removed_or_asked() {
        let packages = ["nginx", "curl"].map(|name| name.parse().unwrap()).into();
        let argv = argv(&Job::Install(packages));
        assert!(argv.ends_with(&["--".into(), "curl".into(), "nginx".into()]));
        for option in ["-y", "--no-remove", "--no-install-recommends"] {
            assert!(argv.iter().any(|word| word == option), "{option}");
        }
        assert!(ENVIRONMENT.contains(&"--setenv=DEBIAN_FRONTEND=noninteractive"));
    }
}
