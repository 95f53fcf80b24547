//! apt and dpkg: their work, each as a job that goes on whatever becomes of push-host, and what they are asked.
//! Nothing asks, nothing is removed that was not shown, a file that somebody changed is kept as it is.

use std::collections::BTreeSet;
use std::time::Duration;

use push_wire::groundwork::PackageName;
use push_wire::upgrade::{Packages, Scope};

use super::job::{PAUSE, Unit};
use super::offer;
use super::process::Program;
use crate::dpkg::Status;
use crate::machine::{Job, ToolError};

/// The unit that a job runs in.
const UNIT: Unit = Unit {
    name: "push-packages.service",
    limit: Duration::from_secs(30 * 60),
    environment: ENVIRONMENT,
};

/// The same for an upgrade: only a script of a package that hangs takes so long, and what it left is finished
/// by the next one.
const UPGRADE: Unit = Unit {
    limit: Duration::from_secs(4 * 3600),
    ..UNIT
};

/// How long apt waits for another apt, such as the nightly upgrade, in seconds (apt.conf(5)).
const LOCK_WAIT: &str = "DPkg::Lock::Timeout=300";

/// apt, whatever it is to do.
const APT: &[&str] = &["apt-get", "-q", "-o", LOCK_WAIT, "-o", "Acquire::Retries=3"];

/// apt that changes packages asks nobody, and keeps a file that somebody changed.
const CHANGING: &[&str] = &[
    "-y",
    "-o",
    "Dpkg::Use-Pty=0",
    "-o",
    "Dpkg::Options::=--force-confold",
    "-o",
    "Dpkg::Options::=--force-confdef",
];

/// How long a question may take.
const QUESTION_LIMIT: Duration = Duration::from_secs(120);

/// The longest answer that is read, in bytes: some hundred bytes a package.
const ANSWER_BYTES_MAX: usize = 16 << 20;

/// How often dpkg, which does not wait for its lock, is tried.
const FINISH_TRIES: u32 = 60;

/// What keeps packages from asking, and from restarting what they do not own.
const ENVIRONMENT: &[&str] = &[
    "--setenv=DEBIAN_FRONTEND=noninteractive",
    "--setenv=DEBIAN_PRIORITY=critical",
    "--setenv=APT_LISTCHANGES_FRONTEND=none",
    "--setenv=NEEDRESTART_MODE=l",
];

/// Does a job to its end.
pub(super) fn work(job: &Job, tell: &mut dyn FnMut(&str)) -> Result<(), ToolError> {
    // An upgrade may be what still runs.
    UPGRADE.wait_for_the_last(tell)?;
    match job {
        Job::Finish => finish(tell),
        Job::Refresh | Job::RefreshAll | Job::Install(_) => UNIT.run(&argv(job), tell),
        Job::Upgrade(_) => {
            let upgraded = UPGRADE.run(&argv(job), tell);
            // An upgrade of systemd's own may cut the line to the unit, not the unit.
            UPGRADE.wait_for_the_last(tell)?;
            upgraded
        }
    }
}

/// What a job runs.
fn argv(job: &Job) -> Vec<String> {
    let (program, then): (&[&str], &[&str]) = match job {
        Job::Finish => (
            &["dpkg"],
            &["--force-confold", "--force-confdef", "--configure", "-a"],
        ),
        Job::Refresh => (APT, &["update"]),
        Job::RefreshAll => (APT, &["-o", "APT::Update::Error-Mode=any", "update"]),
        Job::Upgrade(scope) => (APT, verb(*scope)),
        Job::Install(_) => (
            APT,
            &["--no-install-recommends", "--no-remove", "install", "--"],
        ),
    };
    let changing: &[&str] = match job {
        Job::Upgrade(_) | Job::Install(_) => CHANGING,
        Job::Finish | Job::Refresh | Job::RefreshAll => &[],
    };
    let words = [program, changing, then].concat();
    let mut argv: Vec<String> = words.into_iter().map(str::to_owned).collect();
    if let Job::Install(packages) = job {
        argv.extend(packages.iter().map(ToString::to_string));
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
    let mut finished = UNIT.run(&argv, tell);
    for _ in 1..FINISH_TRIES {
        match &finished {
            Err(ToolError::Failed { output, .. }) if output.contains("lock") => {
                tell("waiting for another dpkg");
                std::thread::sleep(PAUSE);
            }
            Ok(()) | Err(_) => break,
        }
        finished = UNIT.run(&argv, tell);
    }
    finished
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
