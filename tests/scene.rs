//! The scenes that tests of faults begin with: a host that was pushed to, and a push of one tag more
//! that is slow enough to be stepped into. What goes wrong then is the test's own; how it must end,
//! [`crate::verdict::Before`] knows.

use std::fs;
use std::process::Command;
use std::time::Duration;

use push::rehearse::RehearsalHost;

use crate::cuts::{Marker, Watch};
use crate::lab::{Lab, eventually};
use crate::witness::{self, Fate, tag, whole};

/// Content that takes a while to arrive, in bytes: larger than what sockets hold.
const BULK_BYTES: usize = 24 << 20;

/// How long what is waited for may take.
const SOON: Duration = Duration::from_secs(60);

/// A host at generation 1 with tag 1.
pub fn pushed() -> Option<Lab> {
    let lab = Lab::boot_plain(1)?;
    goes_on(&lab, 1);
    Some(lab)
}

/// Hosts that the environment of [`Lab::shop`] was pushed to.
pub fn shop(hosts: usize) -> Option<Lab> {
    let lab = Lab::boot_plain(hosts)?;
    lab.shop("");
    lab.push(&["prod", "--yes"]).exits(0);
    Some(lab)
}

/// The next push works, and everything is of its tag.
pub fn goes_on(lab: &Lab, number: u32) {
    witness::environment(lab, (number, Fate::Healthy), "");
    lab.push(&["prod", "--yes"]).exits(0);
    assert_eq!(whole(lab.host("web1")), tag(number));
}

/// Changes the text of the environment `prod`.
///
/// # Panics
/// When nothing of it reads so.
pub fn amend(lab: &Lab, from: &str, to: &str) {
    let file = lab.path("inventory/prod.toml");
    let text = fs::read_to_string(&file).unwrap();
    assert!(text.contains(from), "{from:?} is not in\n{text}");
    fs::write(file, text.replace(from, to)).unwrap();
}

/// An environment with a tag whose trial lasts some seconds.
pub fn slow(lab: &Lab, number: u32) {
    witness::environment(lab, (number, Fate::Healthy), "");
    amend(lab, "passes   = 2", "passes   = 40");
}

/// Lets a risky switch of the environment wait so many seconds for its operator.
pub fn confirmed_within(lab: &Lab, seconds: u32) {
    let file = lab.path("inventory/prod.toml");
    let text = fs::read_to_string(&file).unwrap();
    let rollout = format!("\n[rollout]\nconfirm_timeout = \"{seconds}s\"\n");
    fs::write(file, text + &rollout).unwrap();
}

/// Lets the app's service take some seconds to start, whatever is declared: an administrator's own
/// drop-in. So a switch lasts as long, and so does the way back.
pub fn starts_slowly(host: &RehearsalHost) {
    let folder = "/etc/systemd/system/api.service.d";
    host.succeed(&["mkdir", "-p", folder]).unwrap();
    let text = b"[Service]\nExecStartPre=/bin/sleep 3\n";
    host.write(format!("{folder}/slow.conf"), text, 0o644)
        .unwrap();
    host.succeed(&["systemctl", "daemon-reload"]).unwrap();
}

/// An environment with a tag and a bulky app beside.
pub fn bulky(lab: &Lab, number: u32) {
    lab.write("bulk/noise", noise(number, BULK_BYTES));
    let bulk = "\n[apps.bulk]\non = \"web\"\nsource = \"bulk\"\n";
    witness::environment(lab, (number, Fate::Healthy), bulk);
}

/// Waits until contents are arriving, and some are there.
pub fn until_arriving(host: &RehearsalHost) {
    eventually("contents arrive", SOON, || spooled_bytes(host) > 1 << 20);
}

fn spooled_bytes(host: &RehearsalHost) -> u64 {
    let list = [
        "find",
        "/var/lib/push/spool",
        "-type",
        "f",
        "-printf",
        "%s\\n",
    ];
    let listed = host.run(&list).unwrap().stdout;
    listed
        .lines()
        .map(|bytes| bytes.parse::<u64>().unwrap())
        .sum()
}

/// Waits until something is seen to happen.
pub fn until_marker(watch: &Watch<'_>, marker: Marker) {
    eventually(&marker.to_string(), SOON, || watch.has_come(marker));
}

/// Bytes that do not shrink on the way, the same for the same seed.
pub fn noise(seed: u32, bytes: usize) -> Vec<u8> {
    let mut state = u64::from(seed) + 0x9e37_79b9_7f4a_7c15;
    std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    })
    .take(bytes / 8)
    .flatten()
    .collect()
}

/// The process ids, on the laptop, of a host's processes of push-host in a part of theirs: `serve`,
/// `transact`.
pub fn push_host(host: &RehearsalHost, part: &str) -> Vec<String> {
    let listed = Command::new("ip")
        .args(["netns", "pids", &host.netns()])
        .output()
        .unwrap();
    let is_it = |pid: &&str| {
        let argv = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let mut words = argv.split(|byte| *byte == 0);
        let is_program = words
            .next()
            .is_some_and(|word| word.ends_with(b"push-host"));
        is_program && words.next() == Some(part.as_bytes())
    };
    let pids = String::from_utf8(listed.stdout).unwrap();
    pids.lines().filter(is_it).map(str::to_owned).collect()
}
