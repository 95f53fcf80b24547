//! The power goes, or the process dies, at any call of an upload and of staging: nothing half is left
//! under its name, and the next push comes to its end.

use std::collections::HashSet;
use std::path::Path;

use super::*;
use crate::machine::Disk;
use crate::machine::simulated::disk::MemoryDisk;
use crate::machine::simulated::pending::Survives;
use crate::proof::Effort;
use crate::proof::counts::shown;

/// Every path of the release with its mode, as the next push must leave it whatever came before.
const RELEASE: [(&str, u32); 5] = [
    ("bin", 0o755),
    ("bin/api", 0o755),
    ("copy", 0o644),
    ("empty", 0o644),
    ("page", 0o644),
];

/// The outcomes of a cut that are tried: all that keep order, up to a bound, and some that do not.
fn outcomes(disk: &MemoryDisk, cut: u64) -> Vec<Survives> {
    let effort = Effort::asked_for();
    let (most, chosen) = (effort.of(1, 60), effort.of(1, 20));
    let ways = disk.ordered_ways();
    let stride = (ways / most).max(1);
    let mut all: Vec<Survives> = (0..ways.min(most))
        .map(|number| Survives::Ordered(number * stride))
        .collect();
    all.push(Survives::Everything);
    all.extend((0..chosen).map(|number| Survives::Random(cut * 1_000 + number)));
    all
}

/// The same push again, from its first word on.
fn comes_to_its_end(host: &mut Simulated, cut: u64) {
    assert!(
        generations(host).len() <= 1,
        "SAFETY: cut at {cut}: two generations are there"
    );
    let generation = push(host);
    assert_eq!(generations(host), [generation].into(), "cut at {cut}");
    let release = Path::new("/srv/api/releases/r1");
    for (path, mode) in RELEASE {
        let found = host.stat(&release.join(path)).unwrap().unwrap();
        assert_eq!(found.mode, mode, "SAFETY: cut at {cut}: {path}");
    }
    assert_eq!(host.read(&release.join("page"), 99).unwrap(), PAGE);
    let shared = host
        .stat(Path::new("/srv/api/shared/var/data"))
        .unwrap()
        .unwrap();
    assert_eq!(
        (shared.mode, shared.uid),
        (0o750, 999),
        "SAFETY: cut at {cut}"
    );
    let state = switch(host, generation, "t");
    assert_eq!(state, State::Committed, "LIVENESS: cut at {cut}");
}

#[test]
fn staging_cut_at_any_call_leaves_nothing_half_and_comes_to_its_end_the_next_time() {
    let input = [staging(&stage(0)), sent(&packed(&[BINARY, b"", PAGE]))].concat();
    for (name, disk) in [
        ("three file systems", MemoryDisk::default()),
        (
            "one file system",
            MemoryDisk::default().on_one_file_system(),
        ),
    ] {
        let (mut seen, mut tried, mut cuts) = (HashSet::new(), 0, 0);
        for cut in (1..).step_by(Effort::asked_for().of(5, 1)) {
            let mut host = Simulated::default().cut_at(cut);
            host.disk = disk.clone();
            let said =
                host.until_the_cut(|host| converse_as(host, &mut Played::default(), input.clone()));
            if said.is_some() {
                break;
            }
            cuts = cut;
            for survives in outcomes(&host.disk, cut) {
                let mut host = host.clone();
                host.power_on(survives);
                tried += 1;
                if seen.insert(host.disk.fingerprint()) {
                    comes_to_its_end(&mut host, cut);
                }
            }
            // The process dies, and the host goes on.
            comes_to_its_end(&mut host, cut);
        }
        assert!(cuts > 100, "only {cuts} calls");
        shown(&format!(
            "staging on {name}: {cuts} cuts; {tried} disks, of which {} differed",
            seen.len()
        ));
    }
}
