//! Cells of the table of stages and faults that no other test holds, one test a cell: what fails is
//! real, on a real host, and what the host and the tool make of it is looked at from outside.

use std::fs;
use std::time::Duration;

use push::rehearse::{Access, Blackhole, Disk, Filesystem, HostSpec, RehearsalHost};
use push_tests::hosts::has_program;
use push_tests::lab::{Lab, Said, eventually};
use push_tests::scene::{amend, bulky, confirmed_within, goes_on, pushed, slow, until_arriving};
use push_tests::verdict::{self, Before};
use push_tests::witness::{self, Fate, generation, journal, tag, whole};
use push_wire::journal::{Cause, State};

/// How long what is waited for may take.
const SOON: Duration = Duration::from_secs(60);

/// How long a silent connection may be taken for a slow one.
const NOTICED_WITHIN: Duration = Duration::from_secs(22);

/// Waits until the last record of the journal is a state that is asked for.
fn until_state(host: &RehearsalHost, what: &str, is: impl Fn(&State) -> bool) {
    eventually(what, SOON, || {
        witness::last(&journal(host)).is_some_and(&is)
    });
}

fn is_on_trial(state: &State) -> bool {
    matches!(state, State::Probation(_))
}

/// What the tool said is what the journal says.
fn agrees(said: &Said, host: &RehearsalHost) {
    let records = journal(host);
    let last = witness::last(&records);
    assert!(verdict::is_true(said, last), "{last:?}\n{said:?}");
}

#[test]
fn a_laptop_that_dies_while_staging_leaves_a_spool_to_resume_and_a_free_lock() {
    let Some(lab) = pushed() else { return };
    let host = lab.host("web1");
    bulky(&lab, 2);
    let running = lab.spawn(&["prod", "--yes"]);
    until_arriving(host);
    running.signal("KILL");
    running.end();
    assert_eq!(whole(host), tag(1));
    let said = lab.push(&["prod", "--yes"]).exits(0);
    assert!(
        !said.stderr.contains("waiting"),
        "the lock was held by nobody: {}",
        said.stderr
    );
    assert_eq!(whole(host), tag(2));
}

#[test]
fn a_connection_reset_while_staging_is_made_again() {
    let Some(lab) = pushed() else { return };
    let host = lab.host("web1");
    bulky(&lab, 2);
    let running = lab.spawn(&["prod", "--yes"]);
    until_arriving(host);
    host.succeed(&["pkill", "-KILL", "-f", "sshd: deploy"])
        .unwrap();
    running.end().exits(0).says("calling it again");
    assert_eq!(whole(host), tag(2));
}

#[test]
fn silence_in_either_direction_while_staging_is_noticed_and_the_push_goes_on_afterwards() {
    let Some(lab) = pushed() else { return };
    let host = lab.host("web1");
    for (number, way) in [(2, Blackhole::FromHost), (3, Blackhole::ToHost)] {
        bulky(&lab, number);
        let running = lab.spawn(&["prod", "--yes"]);
        until_arriving(host);
        host.block(way).unwrap();
        std::thread::sleep(NOTICED_WITHIN);
        assert_eq!(whole(host), tag(number - 1), "{way:?}");
        host.unblock().unwrap();
        // A connection that had not been given up by now would have gone on without a word.
        running.end().exits(0).says("calling it again");
        assert_eq!(whole(host), tag(number), "{way:?}");
    }
}

#[test]
fn a_silent_network_on_trial_ends_in_the_old_generation_and_the_tool_tells_so_afterwards() {
    for way in [Blackhole::FromHost, Blackhole::ToHost, Blackhole::Both] {
        let Some(lab) = pushed() else { return };
        let host = lab.host("web1");
        slow(&lab, 2);
        confirmed_within(&lab, 6);
        // The network goes with the switch, so that nobody can come in again.
        let running = lab.spawn(&["prod", "--yes"]);
        until_state(host, "the switch", |state| {
            matches!(state, State::Switching | State::Probation(_))
        });
        host.block(way).unwrap();
        until_state(host, "an end without the laptop", State::is_final);
        assert_eq!(whole(host), tag(1), "{way:?}");
        host.unblock().unwrap();
        let said = running.end();
        agrees(&said, host);
        assert_eq!(said.code(), 5, "{way:?}: {said:?}");
        lab.push(&["status", "prod"]).exits(0).says("taken back");
    }
}

#[test]
fn sshd_restarted_during_the_switch_changes_nothing() {
    let Some(lab) = pushed() else { return };
    let host = lab.host("web1");
    slow(&lab, 2);
    let running = lab.spawn(&["prod", "--yes"]);
    until_state(host, "the trial", is_on_trial);
    host.succeed(&["systemctl", "restart", "ssh.service"])
        .unwrap();
    host.run(&["pkill", "-KILL", "-f", "sshd: deploy"]).unwrap();
    let said = running.end();
    until_state(host, "the end", State::is_final);
    agrees(&said, host);
    assert_eq!(said.code(), 0, "{said:?}");
    assert_eq!(whole(host), tag(2));
}

#[test]
fn a_full_disk_and_full_inodes_refuse_the_push_before_anything_is_live() {
    if !has_program("mkfs.ext4") {
        return;
    }
    let disk = Disk::Loop {
        filesystem: Filesystem::Ext4,
        size_mib: 192,
    };
    let Some(lab) = Lab::boot(&[HostSpec::named("web1").disk(disk)]) else {
        return;
    };
    let host = lab.host("web1");
    goes_on(&lab, 1);
    witness::environment(&lab, (2, Fate::Healthy), "");
    host.run(&[
        "sh",
        "-c",
        "dd if=/dev/zero of=/var/fill bs=64k 2>/dev/null; sync",
    ])
    .unwrap();
    let said = lab.push(&["prod", "--yes"]);
    assert_ne!(said.code(), 0);
    assert!(
        said.stderr.contains("space") || said.stderr.contains("room"),
        "{said:?}"
    );
    assert_eq!(generation(host), 1);
    host.succeed(&["rm", "/var/fill"]).unwrap();
    let fill = "mkdir /var/many && cd /var/many && i=0 && while : > $i; do i=$((i+1)); done 2>/dev/null; true";
    host.run(&["sh", "-c", fill]).unwrap();
    let said = lab.push(&["prod", "--yes"]);
    assert_ne!(said.code(), 0);
    assert!(
        said.stderr.contains("inode") || said.stderr.contains("space"),
        "{said:?}"
    );
    assert_eq!(generation(host), 1);
    host.succeed(&["rm", "-r", "/var/many"]).unwrap();
    lab.push(&["prod", "--yes"]).exits(0);
    assert_eq!(whole(host), tag(2));
}

#[test]
fn a_disk_that_became_read_only_refuses_the_push_and_the_old_generation_serves() {
    let Some(lab) = pushed() else { return };
    let host = lab.host("web1");
    // The root itself cannot become so while the host's own programs write to it.
    let folders = ["/etc", "/srv", "/var/lib/push"];
    for folder in folders {
        host.succeed(&["mount", "--bind", folder, folder]).unwrap();
        host.succeed(&["mount", "-o", "remount,bind,ro", folder])
            .unwrap();
    }
    witness::environment(&lab, (2, Fate::Healthy), "");
    let said = lab.push(&["prod", "--yes"]);
    assert_ne!(said.code(), 0);
    assert!(said.stderr.to_lowercase().contains("read-only"), "{said:?}");
    assert_eq!(whole(host), tag(1));
    for folder in folders {
        host.succeed(&["umount", folder]).unwrap();
    }
    goes_on(&lab, 3);
}

#[test]
fn an_upload_that_was_damaged_on_the_disk_is_sent_again() {
    let Some(lab) = pushed() else { return };
    let host = lab.host("web1");
    bulky(&lab, 2);
    let running = lab.spawn(&["prod", "--yes"]);
    until_arriving(host);
    running.signal("KILL");
    running.end();
    let parts = host
        .succeed(&["find", "/var/lib/push/spool", "-type", "f", "-size", "+64k"])
        .unwrap();
    assert_ne!(parts, "");
    for part in parts.lines() {
        let of = format!("of={part}");
        host.succeed(&[
            "dd",
            "if=/dev/zero",
            &of,
            "bs=1",
            "seek=40000",
            "count=64",
            "conv=notrunc",
        ])
        .unwrap();
    }
    lab.push(&["prod", "--yes"]).exits(0);
    assert_eq!(whole(host), tag(2));
    let noise = fs::read(lab.path("bulk/noise")).unwrap();
    assert!(
        host.read("/srv/bulk/current/noise").unwrap() == noise,
        "what arrived is what was sent"
    );
}

#[test]
fn a_reboot_on_trial_brings_the_old_generation_back() {
    let Some(lab) = pushed() else { return };
    slow(&lab, 2);
    let before = Before::of(&lab, (Some(1), Some(2)));
    let running = lab.spawn(&["prod", "--yes"]);
    before.until("the trial", is_on_trial);
    before.host().reboot().unwrap();
    assert_eq!(before.ends(&running.end()), Some(1));
    assert_eq!(before.host().failed_units(), Vec::<String>::new());
    goes_on(&lab, 3);
}

#[test]
fn a_host_that_proves_another_key_at_the_confirmation_is_not_confirmed() {
    let Some(lab) = pushed() else { return };
    let host = lab.host("web1");
    slow(&lab, 2);
    confirmed_within(&lab, 8);
    let other = "/etc/ssh/another_key";
    let another = "/etc/ssh/sshd_config.d/00-another.conf";
    host.succeed(&["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", other])
        .unwrap();
    let running = lab.spawn(&["prod", "--yes"]);
    until_state(host, "the switch", |state| {
        matches!(state, State::Switching | State::Probation(_))
    });
    host.write(another, format!("HostKey {other}\n").as_bytes(), 0o644)
        .unwrap();
    host.succeed(&["systemctl", "restart", "ssh.service"])
        .unwrap();
    until_state(host, "the end", State::is_final);
    let records = journal(host);
    let last = witness::last(&records).unwrap();
    assert!(
        matches!(last, State::TakenBack(Cause::Unconfirmed)),
        "{last:?}"
    );
    host.succeed(&["rm", another]).unwrap();
    host.succeed(&["systemctl", "restart", "ssh.service"])
        .unwrap();
    agrees(&running.end(), host);
    assert_eq!(whole(host), tag(1));
    goes_on(&lab, 3);
}

#[test]
fn an_app_whose_health_flaps_is_taken_back() {
    let Some(lab) = Lab::boot(&[HostSpec::named("web1").access(Access::Root)]) else {
        return;
    };
    let host = lab.host("web1");
    goes_on(&lab, 1);
    witness::environment(&lab, (2, Fate::Healthy), "");
    // Every second probe fails.
    host.write(
        "/usr/local/bin/flap",
        b"#!/bin/sh\nif [ -e /tmp/flap ]; then rm /tmp/flap; exit 1; fi\n: > /tmp/flap\n",
        0o755,
    )
    .unwrap();
    amend(
        &lab,
        "timeout  = \"20s\"",
        "timeout  = \"4s\"\ncommand  = \"/usr/local/bin/flap\"",
    );
    let before = Before::of(&lab, (Some(1), Some(2)));
    let said = lab.push(&["prod", "--yes"]).exits(5);
    assert_eq!(before.ends(&said), Some(1));
}

#[test]
fn an_app_that_dies_after_the_commit_is_told_and_one_command_goes_back() {
    let Some(lab) = pushed() else { return };
    let host = lab.host("web1");
    goes_on(&lab, 2);
    let known = journal(host).len();
    let (program, service) = ("chmod a-x /srv/api/current/api", "api.service");
    host.succeed(&["sh", "-c", program]).unwrap();
    host.succeed(&["systemctl", "kill", "--signal=KILL", service])
        .unwrap();
    eventually("a status that tells", SOON, || {
        let status = lab.push(&["status", "prod"]).stdout;
        let line = status.lines().find(|line| line.contains(service));
        line.is_some_and(|line| !line.contains("active (running)"))
    });
    assert_eq!(journal(host).len(), known, "nobody goes back silently");
    lab.push(&["rollback", "prod", "--yes"]).exits(0);
    assert_eq!(whole(host), tag(1));
}
