//! A line that goes dead without a word, one that is merely slow, and a laptop that sleeps, on real
//! hosts: each end notices within 15 s, the host lets go of its lock, and the push takes up again.
//!
//! | what happens | the test |
//! |---|---|
//! | silence while nothing, something or all is staged | `a_laptop_that_vanishes_is_noticed_within_15_s_and_the_lock_is_free` |
//! | silence while a transaction runs | `a_transaction_goes_on_alone_when_its_laptop_vanishes_and_its_session_ends` |
//! | a line that brings a byte now and then | `a_slow_line_is_not_taken_for_a_dead_one` |
//! | an operator who thinks for long; a laptop that sleeps meanwhile | `an_operator_who_thinks_is_waited_for_and_a_laptop_that_slept_comes_back` |
//! | silence between staging and a later wave | `a_host_that_lost_its_line_while_it_waited_is_staged_again_when_its_turn_comes` |
//! | silence while effects run, each direction | `silence_in_either_direction_while_switching_is_noticed_and_the_push_watches_again` |
//! | another host key at the reconnection | `a_host_that_proves_another_key_when_it_is_called_again_goes_on_alone_and_that_is_told` |

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use push::rehearse::{Blackhole, HostSpec, RehearsalHost};
use push_tests::lab::{Lab, eventually};
use push_tests::speech::{self, Session};
use push_tests::witness::{self, Fate, journal, tag, whole};
use push_wire::digest::Digest;
use push_wire::frame;
use push_wire::journal::State;
use push_wire::manifest::{App, File, OnChange, Provenance, Slice};
use push_wire::message::{Bytes, Reply, Request, Stage};
use push_wire::name::{GenerationId, UserName};
use push_wire::tree::{Entry, Tree};

/// What the design promises, and a look at the clock.
const NOTICED_WITHIN: Duration = Duration::from_millis(15_500);

/// How long a line is dead for, in tests that let it live again.
const DEAD_FOR: Duration = Duration::from_secs(17);

/// How long what is waited for may take.
const SOON: Duration = Duration::from_secs(60);

/// The content of the staged release.
const APP: &[u8] = b"#!/bin/sh\nexec sleep 100000\n";

/// A slice of a file, and of an app with one content.
fn stage(base: u64) -> Stage {
    let text = "variant";
    let digest = Digest::of(text);
    let program = Entry::File {
        digest: Digest::of(APP),
        size: APP.len() as u64,
        executable: true,
    };
    let tree = Tree {
        entries: [("api".parse().unwrap(), program)].into(),
    };
    let mut slice = Slice::default();
    slice.files.insert(
        "/etc/variant".parse().unwrap(),
        File {
            digest,
            owner: UserName::root(),
            group: UserName::root(),
            mode: 0o644,
            on_change: OnChange::Nothing,
        },
    );
    slice.apps.insert(
        "api".parse().unwrap(),
        App {
            release: "20261120T000000Z-abcdef0".parse().unwrap(),
            tree: tree.digest(),
            size: tree.size(),
            user: "api".parse().unwrap(),
            shared: [].into(),
            ports: [].into(),
            keep_releases: 3,
            health: None,
        },
    );
    Stage {
        project: "shop".parse().unwrap(),
        base: GenerationId(base),
        slice,
        texts: [(digest, Bytes(text.as_bytes().to_vec()))].into(),
        trees: [(tree.digest(), tree)].into(),
        needs: BTreeMap::new(),
        provenance: Provenance::default(),
        way_in: 22,
    }
}

fn is_locked(host: &RehearsalHost) -> bool {
    let free = ["flock", "-n", "/run/push/lock", "true"];
    !host.run(&free).unwrap().is_success()
}

/// How many sessions a host has.
fn sessions(host: &RehearsalHost) -> usize {
    let found = host
        .run(&["pgrep", "-x", "push-host", "-a"])
        .unwrap()
        .stdout;
    found.lines().filter(|line| line.ends_with("serve")).count()
}

/// A host at generation 1 with tag 1.
fn pushed(count: usize) -> Option<Lab> {
    let lab = Lab::boot_plain(count)?;
    witness::environment(&lab, (1, Fate::Healthy), "");
    lab.push(&["prod", "--yes"]).exits(0);
    Some(lab)
}

/// Changes the environment's text.
fn edit(lab: &Lab, from: &str, to: &str) {
    let file = lab.path("inventory/prod.toml");
    let text = fs::read_to_string(&file).unwrap();
    assert!(text.contains(from), "{from} is not in {text}");
    fs::write(file, text.replace(from, to)).unwrap();
}

fn until_state(host: &RehearsalHost, what: &str, is: impl Fn(&State) -> bool) {
    eventually(what, SOON, || {
        witness::last(&journal(host)).is_some_and(&is)
    });
}

#[test]
fn a_laptop_that_vanishes_is_noticed_within_15_s_and_the_lock_is_free() {
    let specs = ["web1", "web2", "web3"].map(HostSpec::named);
    let Some(fleet) = speech::boot(&specs) else {
        return;
    };
    let asked = Request::Stage(Box::new(stage(0)));
    let mut held: Vec<Session> = Vec::new();
    for (host, phase) in fleet.hosts().iter().zip(["missing", "arriving", "staged"]) {
        held.push(Session::open(host).0);
        let (mut session, _) = Session::open(host);
        if phase == "staged" {
            let reply = session.stage(&stage(0), &[APP]);
            assert!(matches!(reply, Reply::Staged { .. }), "{reply:?}");
        } else {
            let reply = session.ask(&asked);
            assert!(matches!(reply, Reply::Missing { .. }), "{reply:?}");
        }
        if phase == "arriving" {
            session.say(&Request::Pack {
                digest: Digest::of("a pack"),
                bytes: 40,
                offset: 0,
            });
            session.contents(b"a part");
        }
        assert!(is_locked(host), "{phase}");
        held.push(session);
    }
    // A line that lives is not given up, however little is said.
    thread::sleep(NOTICED_WITHIN);
    for host in fleet.hosts() {
        assert_eq!(sessions(host), 2, "{}", host.name());
        host.block(Blackhole::Both).unwrap();
    }
    let dead = Instant::now();
    for host in fleet.hosts() {
        let left = NOTICED_WITHIN.saturating_sub(dead.elapsed()) + Duration::from_secs(1);
        eventually(host.name(), left, || sessions(host) == 0);
        assert!(!is_locked(host), "{}", host.name());
        host.unblock().unwrap();
    }
}

#[test]
fn a_slow_line_is_not_taken_for_a_dead_one() {
    let Some(fleet) = speech::boot(&[HostSpec::named("web1")]) else {
        return;
    };
    let (mut session, _) = Session::open(&fleet.hosts()[0]);
    session.mute();
    let request = frame::encode_message(&Request::History { limit: 1 }).unwrap();
    for byte in request.chunks(5) {
        thread::sleep(Duration::from_secs(5));
        session.write(byte);
    }
    assert_eq!(session.hear(), Reply::History(vec![]));
}

#[test]
fn a_transaction_goes_on_alone_when_its_laptop_vanishes_and_its_session_ends() {
    let Some(fleet) = speech::boot(&[HostSpec::named("web1")]) else {
        return;
    };
    let host = &fleet.hosts()[0];
    let (mut session, _) = Session::open(host);
    let Reply::Staged { generation, .. } = session.stage(&stage(0), &[APP]) else {
        panic!("not staged")
    };
    session.order(generation, "t1", Some(20_000));
    session.until_trial();
    host.block(Blackhole::Both).unwrap();
    eventually("the session's end", NOTICED_WITHIN, || sessions(host) == 0);
    assert!(is_locked(host), "by the transaction");
    assert!(matches!(
        witness::last(&journal(host)),
        Some(State::Probation(_))
    ));
    until_state(host, "the deadline", |state| {
        matches!(state, State::TakenBack(_))
    });
    host.unblock().unwrap();
}

/// A process and all that it started.
fn family(id: u32) -> Vec<String> {
    let listed = Command::new("ps")
        .args(["-o", "pid=", "--ppid", &id.to_string()])
        .output()
        .unwrap();
    let children = String::from_utf8(listed.stdout).unwrap();
    let children = children.split_whitespace().map(|id| id.parse().unwrap());
    let mut found: Vec<String> = children.flat_map(family).collect();
    found.push(id.to_string());
    found
}

fn signal(name: &str, processes: &[String]) {
    let mut kill = Command::new("kill");
    assert!(
        kill.args(["-s", name])
            .args(processes)
            .status()
            .unwrap()
            .success()
    );
}

#[test]
fn an_operator_who_thinks_is_waited_for_and_a_laptop_that_slept_comes_back() {
    let Some(lab) = pushed(1) else { return };
    let host = lab.host("web1");
    for (number, sleeps) in [(2, "thinks"), (3, "sleeps")] {
        witness::environment(&lab, (number, Fate::Healthy), "");
        let asked = lab.ask(&["prod"]);
        asked.shows("[y/N]");
        let laptop = family(asked.id());
        if sleeps == "sleeps" {
            // The terminal around it stays awake.
            signal("STOP", &laptop[..1]);
            eventually("the session's end", NOTICED_WITHIN, || sessions(host) == 0);
            signal("CONT", &laptop);
        } else {
            thread::sleep(DEAD_FOR);
            assert_eq!(sessions(host), 1);
        }
        let said = asked.types("y\r").exits(0);
        // A line of the terminal ends before what follows.
        let has_called = said.stdout.contains("connection lost");
        assert_eq!(has_called, sleeps == "sleeps", "{said:?}");
        assert_eq!(whole(host), tag(number));
    }
}

#[test]
fn a_host_that_lost_its_line_while_it_waited_is_staged_again_when_its_turn_comes() {
    let Some(lab) = pushed(2) else { return };
    let (first, second) = (lab.host("web1"), lab.host("web2"));
    let waves = "\n[rollout]\nwaves = [\"1\", \"100%\"]\nconfirm_timeout = \"60s\"\n";
    witness::environment(&lab, (2, Fate::Healthy), waves);
    edit(&lab, "quiet    = \"300ms\"", "quiet    = \"19s\"");
    edit(&lab, "timeout  = \"20s\"", "timeout  = \"60s\"");
    let running = lab.spawn(&["prod", "--yes"]);
    until_state(first, "the first wave's trial", |state| {
        matches!(state, State::Probation(_))
    });
    assert!(is_locked(second));
    second.block(Blackhole::Both).unwrap();
    eventually("a free lock", NOTICED_WITHIN, || !is_locked(second));
    second.unblock().unwrap();
    assert!(matches!(
        witness::last(&journal(first)),
        Some(State::Probation(_))
    ));
    running.end().exits(0).says("calling it again");
    assert_eq!([whole(first), whole(second)], [tag(2), tag(2)]);
}

#[test]
fn silence_in_either_direction_while_switching_is_noticed_and_the_push_watches_again() {
    let Some(lab) = pushed(3) else { return };
    let slow =
        b"[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=true\nExecReload=sleep 22\n";
    for host in lab.fleet.hosts() {
        host.write("/etc/systemd/system/slow.service", slow, 0o644)
            .unwrap();
        host.succeed(&["systemctl", "daemon-reload"]).unwrap();
        host.succeed(&["systemctl", "start", "slow.service"])
            .unwrap();
    }
    let effect =
        "\n[files.\"/etc/slow\"]\ncontent = \"slow\"\non_change = { reload = \"slow.service\" }\n";
    witness::environment(&lab, (2, Fate::Healthy), effect);
    let running = lab.spawn(&["prod", "--yes"]);
    let ways = [Blackhole::FromHost, Blackhole::ToHost, Blackhole::Both];
    for (host, way) in lab.fleet.hosts().iter().zip(ways) {
        until_state(host, "the switch", |state| *state == State::Switching);
        host.block(way).unwrap();
    }
    thread::sleep(DEAD_FOR);
    for host in lab.fleet.hosts() {
        let records = journal(host);
        let last = witness::last(&records);
        assert_eq!(last, Some(&State::Switching), "{}", host.name());
        host.unblock().unwrap();
    }
    let said = running.end().exits(0);
    for host in lab.fleet.hosts() {
        let again = format!("{}: connection lost", host.name());
        assert!(said.stderr.contains(&again), "{said:?}");
        assert_eq!(whole(host), tag(2));
    }
}

#[test]
fn a_host_that_proves_another_key_when_it_is_called_again_goes_on_alone_and_that_is_told() {
    let Some(lab) = pushed(1) else { return };
    let host = lab.host("web1");
    // Health alone decides: nobody needs to come in again.
    let plain = |number: u32| {
        witness::environment(&lab, (number, Fate::Healthy), "");
        edit(
            &lab,
            &format!("{{ port = {} }}", 20_000 + number),
            "{ port = 20001 }",
        );
    };
    plain(2);
    edit(&lab, "quiet    = \"300ms\"", "quiet    = \"6s\"");
    let other = "/etc/ssh/another_key";
    let another = "/etc/ssh/sshd_config.d/00-another.conf";
    host.succeed(&["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", other])
        .unwrap();
    let running = lab.spawn(&["prod", "--yes"]);
    until_state(host, "the trial", |state| {
        matches!(state, State::Probation(_))
    });
    host.write(another, format!("HostKey {other}\n").as_bytes(), 0o644)
        .unwrap();
    host.succeed(&["systemctl", "restart", "ssh.service"])
        .unwrap();
    host.run(&["pkill", "-KILL", "-f", "sshd: deploy"]).unwrap();
    let said = running.end().exits(6).says("in doubt");
    let records = journal(host);
    let transaction = &records.last().unwrap().transaction;
    for words in [
        "HAS CHANGED",
        "the host settles alone",
        transaction.as_str(),
    ] {
        assert!(said.stderr.contains(words), "{words}: {said:?}");
    }
    until_state(host, "the end, alone", State::is_final);
    host.succeed(&["rm", another]).unwrap();
    host.succeed(&["systemctl", "restart", "ssh.service"])
        .unwrap();
    lab.push(&["status", "prod"]).exits(0).says("committed");
    let look = witness::look(host);
    assert_eq!(look["release"], tag(2));
}
