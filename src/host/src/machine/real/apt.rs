//! apt and dpkg: their work, and what they are asked. Each job runs as a transient unit, so that it goes on to its end when the connection, or
//! push-host itself, goes in the midst of it; whoever comes next waits for that end. Nothing asks, nothing is
//! removed that was not shown, a file that somebody changed is kept as it is.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use push_wire::groundwork::PackageName;
use push_wire::upgrade::{Packages, Scope};

use super::offer;
use super::process::Program;
use crate::dpkg::Status;
use crate::machine::{Job, ToolError};

/// The unit that a job runs in: never two at a time.
const UNIT: &str = "push-packages.service";

/// How long a job may take. systemd ends it then.
const JOB_LIMIT: Duration = Duration::from_secs(30 * 60);

/// How long an upgrade may take: only a script of a package that hangs takes so long, and what it left is
/// finished by the next one.
const UPGRADE_LIMIT: Duration = Duration::from_secs(4 * 3600);

/// How long after that systemd may take to say so.
const JOB_END: Duration = Duration::from_secs(120);

/// How long apt waits for another apt, such as the nightly upgrade, in seconds (apt.conf(5)).
const LOCK_WAIT: &str = "DPkg::Lock::Timeout=300";

/// How long a question may take.
const QUESTION_LIMIT: Duration = Duration::from_secs(120);

/// The longest answer that is read, in bytes: some hundred bytes a package.
const ANSWER_BYTES_MAX: usize = 16 << 20;

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
        Job::Refresh | Job::RefreshAll | Job::Install(_) => run((&argv(job), JOB_LIMIT), tell),
        Job::Upgrade(_) => {
            let upgraded = run((&argv(job), UPGRADE_LIMIT), tell);
            // An upgrade of systemd's own may cut the line to the unit, not the unit.
            wait_for_the_last(tell)?;
            upgraded
        }
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
        Job::RefreshAll => &[
            "apt-get",
            "-q",
            "-o",
            LOCK_WAIT,
            "-o",
            "Acquire::Retries=3",
            "-o",
            "APT::Update::Error-Mode=any",
            "update",
        ],
        Job::Upgrade(_) => &[
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
    match job {
        Job::Install(packages) => argv.extend(packages.iter().map(ToString::to_string)),
        Job::Upgrade(scope) => argv.extend(verb(*scope).iter().map(|word| (*word).to_owned())),
        Job::Finish | Job::Refresh | Job::RefreshAll => {}
    }
    argv
}

/// How apt is told how far an upgrade goes: the same when it is only asked.
fn verb(scope: Scope) -> &'static [&'static str] {
    match scope {
        Scope::Safe => &["--with-new-pkgs", "upgrade"],
        Scope::Full => &["dist-upgrade"],
    }
}

/// dpkg says at once that another one has its lock; that one is waited for.
fn finish(tell: &mut dyn FnMut(&str)) -> Result<(), ToolError> {
    let argv = argv(&Job::Finish);
    let mut finished = run((&argv, JOB_LIMIT), tell);
    for _ in 1..FINISH_TRIES {
        match &finished {
            Err(ToolError::Failed { output, .. }) if output.contains("lock") => {
                tell("waiting for another dpkg");
                std::thread::sleep(PAUSE);
            }
            Ok(()) | Err(_) => break,
        }
        finished = run((&argv, JOB_LIMIT), tell);
    }
    finished
}

fn run((argv, within): (&[String], Duration), tell: &mut dyn FnMut(&str)) -> Result<(), ToolError> {
    let shown = argv.join(" ");
    let limit = format!("--property=RuntimeMaxSec={}", within.as_secs());
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
    let ended = Program::new(&unit, within + JOB_END).run_telling(tell)?;
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
        if began.elapsed() >= UPGRADE_LIMIT + JOB_END {
            return Err(ToolError::Late {
                tool: UNIT.to_owned(),
                seconds: began.elapsed().as_secs(),
            });
        }
        tell("waiting for packages that an earlier run began to install");
        std::thread::sleep(PAUSE);
    }
}

/// What apt would do now. Nothing is locked, and nothing changed.
pub(super) fn packages(scope: Scope, status: &str) -> Result<Packages, ToolError> {
    let mut simulate = vec!["apt-get", "-q", "--simulate"];
    simulate.extend(verb(scope));
    let simulated = ask(&simulate)?;
    let status = Status::parse(status);
    let names: Vec<String> = status
        .installed()
        .map(|(package, _)| package.to_string())
        .collect();
    let mut policy = vec!["apt-cache", "policy", "--"];
    policy.extend(names.iter().map(String::as_str));
    let policy = ask(&policy)?;
    offer::packages((&simulated, &policy), &status).map_err(|output| ToolError::Failed {
        tool: simulate.join(" "),
        output,
    })
}

fn ask(argv: &[&str]) -> Result<String, ToolError> {
    let program = Program::new(argv, QUESTION_LIMIT).output_bytes_max(ANSWER_BYTES_MAX);
    Ok(program.succeed()?.stdout)
}

/// Those of these packages that apt has a candidate for.
pub(super) fn available(
    packages: &BTreeSet<PackageName>,
) -> Result<BTreeSet<PackageName>, ToolError> {
    let mut argv = vec!["apt-cache", "policy", "--"];
    argv.extend(packages.iter().map(PackageName::as_str));
    let said = ask(&argv)?;
    let known = offer::candidates(&said);
    let wanted = packages.iter();
    Ok(wanted
        .filter(|name| known.contains_key(name.as_str()))
        .cloned()
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

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

    #[test]
    fn an_upgrade_keeps_files_that_were_edited_and_removes_only_what_it_was_shown_to_remove() {
        let safe = argv(&Job::Upgrade(Scope::Safe));
        assert!(safe.ends_with(&["--with-new-pkgs".into(), "upgrade".into()]));
        let full = argv(&Job::Upgrade(Scope::Full));
        assert_eq!(full.last().map(String::as_str), Some("dist-upgrade"));
        for argv in [safe, full] {
            assert!(argv.contains(&"Dpkg::Options::=--force-confold".to_owned()));
            assert!(argv.contains(&LOCK_WAIT.to_owned()));
            assert!(!argv.iter().any(|word| word.contains("autoremove")));
        }
    }
}
