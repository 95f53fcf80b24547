//! A disk that runs full in the midst of a push, of bytes or of inodes, or that becomes read-only: at
//! each stage, on a real host. What the host and the tool make of it is looked at from outside, while
//! the disk is still as bad as it was.

use push::rehearse::{Disk, Filesystem, HostSpec, RehearsalHost};
use push_tests::cuts::{Marker, Name, Watch};
use push_tests::hosts::has_program;
use push_tests::lab::{Lab, Running};
use push_tests::scene::{amend, bulky, goes_on, slow, starts_slowly, until_arriving, until_marker};
use push_tests::verdict::Before;
use push_tests::witness::{self, Fate, tag, whole};

/// How large a host's disk is: it is filled in a moment, and a few releases fit.
const DISK_MIB: u32 = 320;

/// Leaves no byte: a large file, then a small one up to the last block.
const FILL_BYTES: &str = "fallocate -l $(df --output=avail -B 1 / | tail -n 1) /var/fill 2>/dev/null; \
     dd if=/dev/zero of=/var/rest bs=4k 2>/dev/null; sync -f /var/rest; true";

/// Leaves no inode.
const FILL_INODES: &str = "mkdir -p /var/many && cd /var/many && i=0 && \
     while : > \"$$-$i\"; do i=$((i+1)); done 2>/dev/null; true";

/// Takes most inodes, so that the rest is gone in a moment: a push is let begin with 1,000 and what it
/// brings.
const FILL_MOST_INODES: &str = "left=$(df --output=iavail / | tail -n 1); mkdir -p /var/most && \
     cd /var/most && seq 1 $((left-4000)) | xargs touch";

/// Of what nothing is left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Full {
    Bytes,
    Inodes,
}

impl Full {
    fn prepare(self, host: &RehearsalHost) {
        if self == Self::Inodes {
            host.succeed(&["sh", "-c", FILL_MOST_INODES]).unwrap();
        }
    }

    fn fill(self, host: &RehearsalHost) {
        let script = match self {
            Self::Bytes => FILL_BYTES,
            Self::Inodes => FILL_INODES,
        };
        // What cannot be written any more ends the shell, too.
        host.run(&["sh", "-c", script]).unwrap();
    }

    /// The same, where nobody gives any of it back.
    fn fill_for_good(self, host: &RehearsalHost) {
        self.fill(host);
        let more = "dd if=/dev/zero of=/var/one-more bs=1M count=1";
        let written = host.run(&["sh", "-c", more]).unwrap();
        assert!(!written.status.success(), "{self:?} are left");
    }
}

fn free(host: &RehearsalHost) {
    let all = "rm -rf /var/fill /var/rest /var/many /var/one-more";
    host.succeed(&["sh", "-c", all]).unwrap();
}

/// A host at tag 1 on a disk of its own.
fn on_a_small_disk() -> Option<Lab> {
    if !has_program("mkfs.ext4") {
        return None;
    }
    let disk = Disk::Loop {
        filesystem: Filesystem::Ext4,
        size_mib: DISK_MIB,
    };
    let lab = Lab::boot(&[HostSpec::named("web1").disk(disk)])?;
    goes_on(&lab, 1);
    Some(lab)
}

#[test]
fn a_disk_that_runs_full_at_any_stage_leaves_a_host_that_is_whole_and_boots() {
    runs_full(Full::Bytes);
}

#[test]
fn inodes_that_run_out_at_any_stage_leave_a_host_that_is_whole_and_boots() {
    runs_full(Full::Inodes);
}

fn runs_full(full: Full) {
    let Some(lab) = on_a_small_disk() else {
        return;
    };
    let host = lab.host("web1");
    full.prepare(host);
    // While contents arrive: nothing has begun, and that is told.
    bulky(&lab, 2);
    let running = lab.spawn(&["prod", "--yes"]);
    until_arriving(host);
    full.fill(host);
    let said = running.end();
    let refused = [1, 9].contains(&said.code()) && said.stderr.contains("No space left");
    assert!(refused, "{said:?}");
    assert_eq!(whole(host), tag(1));
    free(host);
    // As the app starts anew: everything that is still needed was made beforehand.
    starts_slowly(host);
    witness::environment(&lab, (3, Fate::Healthy), "");
    let now = fills_at((&lab, full), (1, 3), Marker::Effect("restart"));
    assert_eq!(now, 3, "{full:?}");
    free(host);
    // On trial, which fails: the way back needs nothing.
    witness::environment(&lab, (4, Fate::Broken), "");
    amend(&lab, "timeout  = \"1s\"", "timeout  = \"4s\"");
    let now = fills_at((&lab, full), (now, 4), Marker::State(Name::Probation));
    assert_eq!(now, 3, "{full:?}");
    free(host);
    // In the midst of the way back.
    witness::environment(&lab, (5, Fate::Broken), "");
    let now = fills_at((&lab, full), (now, 5), Marker::State(Name::TakingBack));
    assert_eq!(now, 3, "{full:?}");
    free(host);
    // On trial, and the host goes down: the boot that takes it back finds the disk full.
    slow(&lab, 6);
    let before = Before::of(&lab, (Some(now), Some(6)));
    let running = reaches(&lab, &before, Marker::State(Name::Probation));
    full.fill_for_good(host);
    host.power_cut().unwrap();
    host.boot_again().unwrap();
    assert_eq!(before.ends(&running.end()), Some(3), "{full:?}");
    free(host);
    goes_on(&lab, 7);
}

/// A push that comes to a marker.
fn reaches(lab: &Lab, before: &Before<'_>, marker: Marker) -> Running {
    let watch = Watch::begin(before);
    let running = lab.spawn(&["prod", "--yes"]);
    until_marker(&watch, marker);
    running
}

/// A push from one tag to another during which nothing is left at a marker; returns the tag that is in
/// effect in the end.
fn fills_at((lab, full): (&Lab, Full), (old, new): (u32, u32), marker: Marker) -> u32 {
    let before = Before::of(lab, (Some(old), Some(new)));
    let running = reaches(lab, &before, marker);
    full.fill_for_good(lab.host("web1"));
    before.ends(&running.end()).unwrap()
}

#[test]
fn a_disk_that_becomes_read_only_during_the_switch_leaves_a_host_that_is_whole_after_a_boot() {
    let Some(lab) = on_a_small_disk() else {
        return;
    };
    let host = lab.host("web1");
    starts_slowly(host);
    let mut now = 1;
    for (number, marker) in [
        (2, Marker::Effect("restart")),
        (3, Marker::State(Name::Probation)),
    ] {
        slow(&lab, number);
        amend(&lab, "passes   = 40", "passes   = 20");
        let before = Before::of(&lab, (Some(now), Some(number)));
        let running = reaches(&lab, &before, marker);
        read_only(host);
        // What a disk with errors gets its administrator to do, sooner or later.
        let known = before.news().len();
        std::thread::sleep(std::time::Duration::from_secs(8));
        assert_eq!(before.news().len(), known, "nothing can be written");
        let status = lab.push(&["status", "prod"]).stdout;
        assert!(status.contains("running: "), "{status}");
        host.power_cut().unwrap();
        host.boot_again().unwrap();
        now = before.ends(&running.end()).unwrap();
        assert_eq!(now, 1, "{marker}");
    }
    goes_on(&lab, 4);
}

/// The root itself cannot become so while the host's own programs write to it.
fn read_only(host: &RehearsalHost) {
    let script = "for folder in /etc /srv /var/lib/push; do \
                  mount --bind $folder $folder && mount -o remount,bind,ro $folder; done";
    host.succeed(&["sh", "-c", script]).unwrap();
}
