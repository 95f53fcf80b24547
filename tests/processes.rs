//! Programs on the host that die, loop or refuse in the midst of a push: push-host itself, killed and
//! starved of memory in each of its phases; the app's service; nginx; and the whole host, shut down.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use push_tests::cuts::{Marker, Name, Watch};
use push_tests::hosts::say;
use push_tests::lab::{Lab, eventually};
use push_tests::scene::{amend, bulky, goes_on, push_host, pushed, slow, starts_slowly};
use push_tests::verdict::Before;
use push_tests::witness::{self, Fate, foreign};
use push_wire::journal::{Cause, State};

/// How long what is waited for may take.
const SOON: Duration = Duration::from_secs(60);

/// How a process comes to its end.
#[derive(Debug, Clone, Copy)]
enum End {
    Killed,
    Starved,
}

impl End {
    fn of(self, pid: &str) {
        match self {
            Self::Killed => signal("KILL", pid),
            Self::Starved => starve(pid),
        }
    }
}

fn signal(name: &str, pid: &str) {
    let status = Command::new("kill")
        .args(["-s", name, pid])
        .status()
        .unwrap();
    assert!(status.success() || is_gone(pid), "{pid}");
}

/// Whether a process has ended by itself: little is left to be done after a commit, say.
fn is_gone(pid: &str) -> bool {
    !Path::new("/proc").join(pid).exists()
}

/// Puts a process into a group of the laptop's kernel that has no memory left, where the kernel kills
/// it as it kills whatever is too much. Where the kernel does not count memory in such groups, it is
/// killed outright.
fn starve(pid: &str) {
    let group = Path::new("/sys/fs/cgroup/memory").join(format!("push-test-{pid}"));
    if !Path::new("/sys/fs/cgroup/memory/memory.limit_in_bytes").exists() {
        say("not tried: a process that the kernel kills for want of memory; it is killed outright");
        return signal("KILL", pid);
    }
    fs::create_dir(&group).unwrap();
    fs::write(group.join("memory.limit_in_bytes"), "0").unwrap();
    if let Err(error) = fs::write(group.join("cgroup.procs"), pid) {
        assert!(is_gone(pid), "{pid}: {error}");
    }
    // What it has stays where it was counted; the next thing that it wants is too much.
    eventually("the kernel kills", SOON, || {
        let killed = fs::read_to_string(group.join("memory.oom_control")).unwrap();
        killed.contains("oom_kill 1") || is_gone(pid)
    });
    eventually("the group is empty", SOON, || {
        fs::remove_dir(&group).is_ok()
    });
}

/// Ends the transaction's push-host at a marker. Returns once that has happened, and how many there were.
fn end_at(marker: Marker, end: End, before: &Before<'_>) -> usize {
    let watch = Watch::begin(before);
    eventually("the marker", SOON, || watch.has_come(marker));
    let found = push_host(before.host(), "transact");
    for pid in &found {
        end.of(pid);
    }
    found.len()
}

/// The push of a tag whose push-host ends at a marker, and what is in effect in the end.
fn ends_at(lab: &Lab, (marker, end): (Marker, End), number: u32) -> Option<u32> {
    let before = Before::of(lab, (Some(1), Some(number)));
    let running = lab.spawn(&["prod", "--yes"]);
    let ended = end_at(marker, end, &before);
    assert_eq!(ended, 1, "{marker} {end:?}: it was not there any more");
    before.ends(&running.end())
}

#[test]
fn a_push_host_that_dies_in_any_phase_is_taken_up_by_the_host() {
    let Some(lab) = pushed() else { return };
    starts_slowly(lab.host("web1"));
    let mut number = 1;
    for end in [End::Killed, End::Starved] {
        for marker in [
            Marker::State(Name::Switching),
            Marker::Effect("restart"),
            Marker::State(Name::Probation),
        ] {
            number += 1;
            slow(&lab, number);
            assert_eq!(
                ends_at(&lab, (marker, end), number),
                Some(1),
                "{marker} {end:?}"
            );
        }
        for marker in [
            Marker::State(Name::TakingBack),
            Marker::EffectBack("restart"),
        ] {
            number += 1;
            witness::environment(&lab, (number, Fate::Broken), "");
            assert_eq!(
                ends_at(&lab, (marker, end), number),
                Some(1),
                "{marker} {end:?}"
            );
        }
    }
    goes_on(&lab, number + 1);
}

#[test]
fn a_push_host_that_dies_after_the_commit_leaves_a_commit() {
    let Some(lab) = pushed() else { return };
    let mut number = 1;
    for end in [End::Killed, End::Starved] {
        number += 1;
        witness::environment(&lab, (number, Fate::Healthy), "");
        let before = Before::of(&lab, (Some(number - 1), Some(number)));
        let running = lab.spawn(&["prod", "--yes"]);
        // It may be gone already: little is left to be done after the commit.
        let ended = end_at(Marker::State(Name::Committed), end, &before);
        say(&format!("{end:?} after the commit: {ended} ended"));
        let found = before.ends(&running.end());
        // It was seen before it was synced; what counts is what the host made of it.
        let is_committed = before.state().unwrap().is_committed();
        assert_eq!(found, Some(if is_committed { number } else { number - 1 }));
        goes_on(&lab, number);
    }
}

#[test]
fn a_push_host_that_dies_while_staging_leaves_everything_as_it_was() {
    let Some(lab) = pushed() else { return };
    let foreign_before = foreign(lab.host("web1"));
    for (number, end) in [(2, End::Killed), (3, End::Starved)] {
        let old = number - 1;
        bulky(&lab, number);
        let before = Before::of(&lab, (Some(old), Some(number)));
        let running = lab.spawn(&["prod", "--yes"]);
        let serving = || push_host(before.host(), "serve");
        eventually("contents arrive", SOON, || {
            let spool = ["du", "-s", "/var/lib/push/spool"];
            let said = before.host().run(&spool).unwrap().stdout;
            said.split_whitespace()
                .next()
                .is_some_and(|kib| kib.parse::<u64>().unwrap() > 1024)
        });
        let found = serving();
        assert!(!found.is_empty(), "{end:?}: nobody serves any more");
        for pid in found {
            end.of(&pid);
        }
        // The laptop calls again, and goes on where it was.
        let said = running.end().exits(0).says("calling it again");
        assert_eq!(before.ends(&said), Some(number), "{end:?}");
    }
    let is_bulk = |line: &&String| !line.starts_with("/srv/bulk/");
    let after = foreign(lab.host("web1"));
    let after: Vec<_> = after.iter().filter(is_bulk).collect();
    assert_eq!(after, foreign_before.iter().collect::<Vec<_>>());
}

#[test]
fn a_service_that_dies_again_and_again_is_taken_back_and_runs_again() {
    let Some(lab) = pushed() else { return };
    for (number, exec) in [(2, "/bin/false"), (3, "/bin/sh -c 'sleep 1; exit 3'")] {
        witness::environment(&lab, (number, Fate::Healthy), "");
        amend(&lab, "{{ release.dir }}/api", exec);
        amend(&lab, "timeout  = \"20s\"", "timeout  = \"6s\"");
        let before = Before::of(&lab, (Some(1), Some(number)));
        let said = lab.push(&["prod", "--yes"]).exits(5);
        assert_eq!(before.ends(&said), Some(1), "{exec}");
    }
    goes_on(&lab, 4);
}

#[test]
fn a_service_that_hangs_while_it_starts_is_taken_back_and_runs_again() {
    let Some(lab) = pushed() else { return };
    witness::environment(&lab, (2, Fate::Healthy), "");
    amend(
        &lab,
        "[apps.api.service]",
        "[apps.api.service]\nexec_before = [\"/bin/sleep 600\"]\nstart_timeout = \"3s\"",
    );
    let before = Before::of(&lab, (Some(1), Some(2)));
    let said = lab.push(&["prod", "--yes"]).exits(5);
    assert_eq!(before.ends(&said), Some(1));
    goes_on(&lab, 3);
}

#[test]
fn a_way_back_that_does_not_hold_is_tried_again_until_it_does() {
    let Some(lab) = pushed() else { return };
    let host = lab.host("web1");
    witness::environment(&lab, (2, Fate::Broken), "");
    amend(&lab, "timeout  = \"1s\"", "timeout  = \"4s\"");
    let before = Before::of(&lab, (Some(1), Some(2)));
    let running = lab.spawn(&["prod", "--yes"]);
    let watch = Watch::begin(&before);
    eventually("the trial", SOON, || {
        watch.has_come(Marker::State(Name::Probation))
    });
    // The old release cannot be started any more.
    let programs = "chmod a-x $(ls -d /srv/api/releases/*/api)";
    host.succeed(&["sh", "-c", programs]).unwrap();
    eventually("a try that fails", SOON, || {
        witness::story(host).contains("is not back yet")
    });
    assert!(matches!(before.state(), Some(State::TakingBack(_))));
    let programs = "chmod a+x $(ls -d /srv/api/releases/*/api)";
    host.succeed(&["sh", "-c", programs]).unwrap();
    let said = running.end().exits(5);
    assert_eq!(before.ends(&said), Some(1));
    goes_on(&lab, 3);
}

#[test]
fn a_reboot_in_the_midst_of_the_switch_brings_the_old_generation_back() {
    let Some(lab) = pushed() else { return };
    starts_slowly(lab.host("web1"));
    for (number, marker) in [
        (2, Marker::Effect("restart")),
        (3, Marker::EffectBack("restart")),
    ] {
        let fate = match marker {
            Marker::EffectBack(_) => Fate::Broken,
            Marker::State(_) | Marker::Effect(_) | Marker::Pruning => Fate::Healthy,
        };
        witness::environment(&lab, (number, fate), "");
        let before = Before::of(&lab, (Some(1), Some(number)));
        let running = lab.spawn(&["prod", "--yes"]);
        let watch = Watch::begin(&before);
        eventually("the effect", SOON, || watch.has_come(marker));
        before.host().reboot().unwrap();
        assert_eq!(before.ends(&running.end()), Some(1), "{marker}");
    }
    goes_on(&lab, 4);
}

/// The cause that a push was taken back for.
fn cause(before: &Before<'_>) -> Cause {
    match before.state() {
        Some(State::TakenBack(cause)) => cause,
        other => panic!("{other:?}"),
    }
}

fn is_nginx(cause: &Cause) -> bool {
    matches!(cause, Cause::Effect { effect, .. } if effect == "reload nginx")
}

#[test]
fn an_nginx_that_cannot_have_its_port_is_found_out_and_serves_the_old_site() {
    let Some(lab) = pushed() else { return };
    // `nginx -t` does not mind a port that somebody else has; a reload does, and only says so in a log.
    let squatter =
        "import socket,time\ns=socket.socket();s.bind(('0.0.0.0',8443));s.listen();time.sleep(600)";
    lab.host("web1")
        .succeed(&["systemd-run", "--unit=squatter", "python3", "-c", squatter])
        .unwrap();
    lab.write(
        "templates/own-site",
        "server {\n    listen 8443;\n    server_name other.example.com;\n    return 204;\n}\n",
    );
    let other = "\n[apps.other]\non = \"web\"\nsource = \"bin\"\n\n[apps.other.site]\nserver_name = [\"other.example.com\"]\ntemplate = \"own-site\"\n";
    witness::environment(&lab, (2, Fate::Healthy), other);
    let before = Before::of(&lab, (Some(1), Some(2)));
    let said = lab.push(&["prod", "--yes"]).exits(5).says("nginx");
    assert_eq!(before.ends(&said), Some(1));
    assert!(is_nginx(&cause(&before)), "{:?}", cause(&before));
    goes_on(&lab, 3);
}

#[test]
fn an_nginx_whose_certificate_vanished_after_the_check_is_found_out() {
    let Some(lab) = pushed() else { return };
    let host = lab.host("web1");
    starts_slowly(host);
    let pair = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=other.example.com -keyout /etc/ssl/own.key -out /etc/ssl/own.pem";
    host.succeed(&["sh", "-c", pair]).unwrap();
    lab.write("templates/own-site", "server {\n    listen 8443 ssl;\n    server_name other.example.com;\n    ssl_certificate /etc/ssl/own.pem;\n    ssl_certificate_key /etc/ssl/own.key;\n    return 204;\n}\n");
    let other = "\n[apps.other]\non = \"web\"\nsource = \"bin\"\n\n[apps.other.site]\nserver_name = [\"other.example.com\"]\ntemplate = \"own-site\"\n";
    witness::environment(&lab, (2, Fate::Healthy), other);
    let before = Before::of(&lab, (Some(1), Some(2)));
    let running = lab.spawn(&["prod", "--yes"]);
    let watch = Watch::begin(&before);
    eventually("the switch", SOON, || {
        watch.has_come(Marker::Effect("restart"))
    });
    host.succeed(&["rm", "/etc/ssl/own.pem"]).unwrap();
    let said = running.end().exits(5).says("nginx");
    assert_eq!(before.ends(&said), Some(1));
    assert!(is_nginx(&cause(&before)), "{:?}", cause(&before));
    goes_on(&lab, 3);
}
