//! What `push doctor` makes of what a host said. Pure: it asks nobody.

use std::ops::RangeInclusive;

use push_wire::facts::{Facts, SYSTEMD_MIN};
use push_wire::manifest::Manifest;
use push_wire::message::{Hello, Status};

use crate::cli::environment::Environment;
use crate::embedded;
use crate::event::{ExitCode, Finding, Outcome, exit_code};
use crate::name::HostName;
use crate::plan::Drift;
use crate::report::{foreign, measure, outcome, unit};
use crate::rollout::{Answers, Present};

/// How far a host's clock may be off, in seconds.
const SKEW_S_MAX: u64 = 30;
/// What should be free for a push, in bytes.
const FREE_BYTES_MIN: u64 = 512 << 20;
/// How many inodes should be free for a push.
const FREE_INODES_MIN: u64 = 10_000;

/// How the hosts were asked.
pub struct Asked<'a> {
    /// What is declared.
    pub environment: &'a Environment,
    /// The laptop's clock from the first question to the last answer, seconds since 1970.
    pub clock: RangeInclusive<u64>,
}

impl Asked<'_> {
    /// Says of the laptop what would otherwise be said of every host.
    pub fn clock_of_the_laptop(&self, answers: &Answers<Status>) -> Vec<Finding> {
        let skews = self.skews(answers);
        match skews.as_slice() {
            [] => Vec::new(),
            [one] if one.abs() > 0 => Vec::new(),
            skews if skews.iter().all(|skew| *skew > 0) || skews.iter().all(|skew| *skew < 0) => {
                vec![Finding::note(
                    "the clock of this machine differs from that of every host",
                    "`timedatectl set-ntp true`, then `timedatectl status`",
                )]
            }
            _ => vec![Finding::fine(
                "the clock of this machine agrees with a host's",
            )],
        }
    }

    /// How far each host that answered is ahead, in seconds; 0 within the bound.
    fn skews(&self, answers: &Answers<Status>) -> Vec<i64> {
        let present = answers.values().filter_map(|answer| answer.as_ref().ok());
        present
            .map(|present| self.skew(&present.hello.facts))
            .collect()
    }

    fn skew(&self, facts: &Facts) -> i64 {
        let theirs = facts.clock_unix_s;
        let early = self.clock.start().saturating_sub(theirs);
        let late = theirs.saturating_sub(*self.clock.end());
        let off = early.max(late);
        if off <= SKEW_S_MAX {
            return 0;
        }
        let off = i64::try_from(off).unwrap_or(i64::MAX);
        if late > 0 { off } else { -off }
    }

    /// Everything about one host.
    pub fn findings(
        &self,
        host: &HostName,
        answer: &Result<Present<Status>, Outcome>,
    ) -> Vec<Finding> {
        let findings = match answer {
            Ok(present) => self.present(host, present),
            Err(outcome) => vec![self.absent(host, outcome)],
        };
        findings
            .into_iter()
            .map(|finding| finding.on(host))
            .collect()
    }

    fn absent(&self, host: &HostName, outcome: &Outcome) -> Finding {
        match outcome {
            Outcome::Failed { obstacle }
                if obstacle.code == "push::conversation::not_installed" =>
            {
                Finding::note(
                    "it can be logged in to; push has not run there yet",
                    format!("`push {} -l {host}`", self.environment.fleet.environment),
                )
            }
            Outcome::Unreachable { obstacle } | Outcome::Failed { obstacle } => Finding::bad(
                exit_code([outcome]),
                obstacle.why.clone(),
                obstacle.help.clone(),
            ),
            other => {
                let at = format!("{} -l {host}", self.environment.fleet.environment);
                let account = outcome::account(host, other, &at);
                Finding::bad(
                    exit_code([other]),
                    account.map_or_else(
                        || "it did not answer".to_owned(),
                        |text| text.trim().to_owned(),
                    ),
                    format!("`push status {at}`"),
                )
            }
        }
    }

    fn present(&self, host: &HostName, present: &Present<Status>) -> Vec<Finding> {
        let (hello, status) = (&present.hello, &present.answer);
        let at = At {
            project: self.environment.fleet.project.as_str(),
            environment: self.environment.fleet.environment.as_str(),
            host: host.as_str(),
            root: match &self.environment.fleet.bootstrap {
                Some(bootstrap) if bootstrap.on.contains(host) => Root::Elsewhere,
                Some(_) | None => Root::Login,
            },
        };
        let mut findings = vec![Finding::fine(
            "it can be logged in to, and push-host answers",
        )];
        findings.extend(self.pinned(host, &at));
        findings.push(program(hello, &at));
        findings.push(systemd(&hello.facts));
        findings.extend(tools(hello, &at));
        findings.extend(room(&hello.facts, &at));
        findings.push(clock(self.skew(&hello.facts), &at));
        findings.extend(boot(&hello.facts, &at));
        findings.push(journal(hello, status, &at));
        findings.extend(drift((&hello.manifest, status), &at));
        findings.extend(units(status, &at));
        findings
    }

    fn pinned(&self, host: &HostName, at: &At<'_>) -> Option<Finding> {
        let declared = self.environment.fleet.hosts.get(host)?;
        Some(if declared.host_keys.is_empty() {
            Finding::note(
                "its key is believed because of known_hosts, and not pinned in the inventory",
                format!("`push trust {} {}`", at.environment, at.host),
            )
        } else {
            Finding::fine("its key is the pinned one")
        })
    }
}

/// The words that a cure names a host by.
struct At<'a> {
    project: &'a str,
    environment: &'a str,
    host: &'a str,
    root: Root,
}

/// How an operator works as root on a host.
#[derive(Debug, Clone, Copy)]
enum Root {
    /// By the login that pushes, which may.
    Login,
    /// In another way: the login that bootstrap makes may run nothing else as root.
    Elsewhere,
}

impl At<'_> {
    fn ssh(&self, command: &str) -> String {
        format!("`push ssh {} {} -- {command}`", self.environment, self.host)
    }

    fn as_root(&self, command: &str) -> String {
        match self.root {
            Root::Login => self.ssh(&format!("sudo {command}")),
            Root::Elsewhere => format!(
                "as root on {}, such as at its console: `{command}`",
                self.host
            ),
        }
    }

    fn verb(&self, verb: &str) -> String {
        format!("`push {verb} {} -l {}`", self.environment, self.host)
    }
}

fn program(hello: &Hello, at: &At<'_>) -> Finding {
    let theirs = foreign::line(&hello.program.version);
    match embedded::program(&hello.facts.machine) {
        Some(ours) if ours.digest == hello.program.digest => {
            Finding::fine(format!("push-host {theirs} is this build's"))
        }
        Some(_) => Finding::note(
            format!("push-host {theirs} is not this build's"),
            format!(
                "the next push replaces an earlier one: {}",
                at.verb("deploy")
            ),
        ),
        None => Finding::bad(
            ExitCode::NotStarted,
            format!(
                "this build carries no push-host for its machine, {}",
                foreign::line(&hello.facts.machine)
            ),
            embedded::how_to_build(&hello.facts.machine)
                .map_or_else(String::new, |how| format!("build push with it: `{how}`")),
        ),
    }
}

fn systemd(facts: &Facts) -> Finding {
    let system = format!(
        "{} {}",
        foreign::line(&facts.os),
        foreign::line(&facts.os_version)
    );
    match facts.systemd {
        Some(version) if version >= SYSTEMD_MIN => {
            Finding::fine(format!("{system}, systemd {version}"))
        }
        Some(version) => Finding::bad(
            ExitCode::NotStarted,
            format!("{system} has systemd {version}, and push needs {SYSTEMD_MIN}"),
            "upgrade the host to Debian 11, Ubuntu 22.04 or later",
        ),
        None => Finding::bad(
            ExitCode::NotStarted,
            format!("{system} does not run systemd"),
            "push needs Debian or Ubuntu with systemd",
        ),
    }
}

/// What the generation in effect needs of the host's own programs, and does not find.
fn tools(hello: &Hello, at: &At<'_>) -> Vec<Finding> {
    let missing = |what: &str, package: &str| {
        Finding::bad(
            ExitCode::NotStarted,
            what,
            at.as_root(&format!("apt-get install {package}")),
        )
    };
    let nginx = hello.facts.nginx.is_none() && !hello.manifest.sites().is_empty();
    let nft = !hello.facts.nft && hello.manifest.firewall().is_some();
    let findings = [
        nginx.then(|| missing("nginx is not installed, and sites need it", "nginx")),
        nft.then(|| {
            missing(
                "nft is not installed, and the firewall needs it",
                "nftables",
            )
        }),
    ];
    findings.into_iter().flatten().collect()
}

fn room(facts: &Facts, at: &At<'_>) -> Vec<Finding> {
    let scarce: Vec<Finding> = facts
        .room
        .iter()
        .filter_map(|(folder, room)| {
            let folder = foreign::line(folder);
            if room.bytes < FREE_BYTES_MIN {
                Some(Finding::note(
                    format!("{} are free in {folder}", measure::bytes(room.bytes)),
                    at.ssh(&format!("df -h {folder}")),
                ))
            } else if room.inodes < FREE_INODES_MIN {
                Some(Finding::note(
                    format!("{} inodes are free in {folder}", room.inodes),
                    at.ssh(&format!("df -i {folder}")),
                ))
            } else {
                None
            }
        })
        .collect();
    if scarce.is_empty() {
        vec![Finding::fine("there is room for a push")]
    } else {
        scarce
    }
}

fn clock(skew_s: i64, at: &At<'_>) -> Finding {
    let (off, side) = (
        skew_s.unsigned_abs(),
        if skew_s > 0 { "ahead of" } else { "behind" },
    );
    if off == 0 {
        return Finding::fine("its clock agrees with this machine's");
    }
    Finding::note(
        format!("its clock is {} {side} this machine's", measure::span(off)),
        at.ssh("timedatectl status"),
    )
}

fn boot(facts: &Facts, at: &At<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    if facts.reboot_required {
        findings.push(Finding::note(
            "what was installed wants a reboot",
            at.as_root("systemctl reboot"),
        ));
    }
    if facts.shutdown_at_unix_s.is_some() {
        findings.push(Finding::note(
            "a shutdown is scheduled, and pushes are refused when it is near",
            at.as_root("shutdown -c"),
        ));
    }
    findings
}

fn journal(hello: &Hello, status: &Status, at: &At<'_>) -> Finding {
    match (&hello.running, &status.last) {
        (Some(holder), _) => Finding::note(
            format!(
                "a push runs: {}",
                crate::report::status::holder_line(holder, hello.facts.clock_unix_s)
            ),
            at.verb("status"),
        ),
        (None, Some(last)) if !last.last.state.is_final() => Finding::bad(
            ExitCode::InDoubt,
            "the last push has not ended, and none runs",
            format!(
                "the next boot settles it, or {}",
                at.as_root("/usr/local/lib/push/push-host recover")
            ),
        ),
        (None, Some(_)) => Finding::fine(format!(
            "generation {} is in effect, and the journal is settled",
            hello.manifest.generation
        )),
        (None, None) => Finding::note("nothing was pushed there yet", at.verb("deploy")),
    }
}

fn units(status: &Status, at: &At<'_>) -> Vec<Finding> {
    let failed: Vec<Finding> = status
        .units
        .iter()
        .filter(|state| state.active == "failed")
        .map(|state| {
            let name = foreign::line(&state.unit);
            Finding::bad(
                ExitCode::NotStarted,
                format!("{name}: {}", unit::standing(state)),
                format!(
                    "`push logs {} -l {} --unit {name}`",
                    at.environment, at.host
                ),
            )
        })
        .collect();
    if failed.is_empty() && !status.units.is_empty() {
        return vec![Finding::fine(format!(
            "none of its {} has failed",
            measure::count(status.units.len(), "unit")
        ))];
    }
    failed
}

/// What is not as the generation declares it: files, links, nginx, the firewall, secrets, the recovery.
fn drift((manifest, status): (&Manifest, &Status), at: &At<'_>) -> Vec<Finding> {
    if status.drift.is_empty() {
        return vec![Finding::fine("everything is as it was pushed")];
    }
    let bad = |line: &String| {
        let told = Drift::of(manifest, vec![line.clone()]);
        let cure = told.cure(at.project, (at.environment, at.host));
        Finding::bad(ExitCode::NotStarted, foreign::line(line), cure)
    };
    status.drift.iter().map(bad).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::desired::sample::hello;
    use crate::event::Grade;

    const AT: At<'_> = At {
        project: "shop",
        environment: "prod",
        host: "web1",
        root: Root::Login,
    };

    #[test]
    fn who_may_not_work_as_root_is_not_told_to() {
        let elsewhere = At {
            root: Root::Elsewhere,
            ..AT
        };
        assert_eq!(
            elsewhere.as_root("shutdown -c"),
            "as root on web1, such as at its console: `shutdown -c`"
        );
        assert_eq!(
            AT.as_root("shutdown -c"),
            "`push ssh prod web1 -- sudo shutdown -c`"
        );
    }

    fn grade(finding: &Finding) -> Grade {
        finding.grade
    }

    #[test]
    fn a_clock_that_is_off_is_told_with_its_direction() {
        assert_eq!(grade(&clock(0, &AT)), Grade::Fine);
        assert_eq!(
            clock(45, &AT).what,
            "its clock is 45 s ahead of this machine's"
        );
        assert_eq!(
            clock(-7200, &AT).what,
            "its clock is 2 h behind this machine's"
        );
    }

    #[test]
    fn little_room_and_few_inodes_are_told_by_folder() {
        let mut facts = hello().facts;
        assert_eq!(grade(&room(&facts, &AT)[0]), Grade::Fine);
        for room in facts.room.values_mut() {
            room.bytes = FREE_BYTES_MIN - 1;
        }
        let found = room(&facts, &AT);
        assert_eq!(found.len(), 2);
        assert_eq!(
            found[0].cure.as_deref(),
            Some("`push ssh prod web1 -- df -h /etc/push`")
        );
        for room in facts.room.values_mut() {
            room.bytes = FREE_BYTES_MIN;
            room.inodes = FREE_INODES_MIN - 1;
        }
        let cure = room(&facts, &AT)[1].cure.clone();
        assert_eq!(cure.as_deref(), Some("`push ssh prod web1 -- df -i /srv`"));
    }

    #[test]
    fn a_host_without_or_with_an_old_systemd_is_refused() {
        let mut facts = hello().facts;
        assert_eq!(grade(&systemd(&facts)), Grade::Fine);
        for version in [None, Some(SYSTEMD_MIN - 1)] {
            facts.systemd = version;
            assert_eq!(grade(&systemd(&facts)), Grade::Bad(ExitCode::NotStarted));
        }
    }

    #[test]
    fn another_push_host_is_a_note_and_a_foreign_machine_is_not() {
        let mut hello = hello();
        assert_eq!(grade(&program(&hello, &AT)), Grade::Note);
        hello.facts.machine = "riscv64\u{1b}[2J".into();
        let found = program(&hello, &AT);
        assert_eq!(grade(&found), Grade::Bad(ExitCode::NotStarted));
        assert!(!found.what.contains('\u{1b}'), "{found:?}");
    }
}
