//! Every sync is needed: a host that only pretends to do it breaks some promise, or it is named here with
//! what it is for. A path that is synced twice between two records of the journal counts as one: nothing relies on the first alone.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::PathBuf;

use push_wire::journal::State;

use super::counts::shown;
use super::cuts::every_disk;
use super::disks::{Bounds, Disks};
use super::lies::{is_noticed, on_a_host_that};
use super::scenario::{Slices, failing, request, scenario, scenarios, stage, update};
use super::{Effort, Scenario, layout};
use crate::machine::simulated::lie::Lie;

/// Enough to find what a missing sync does: all outcomes that keep order, and a few others.
const BOUNDS: Bounds = Bounds {
    any_max: 64,
    samples: 16,
};

/// The syncs that have something to do when a transaction runs undisturbed.
pub(super) fn syncs(scenario: &Scenario) -> Vec<PathBuf> {
    let mut world = scenario.world.clone();
    world.syncs.clear();
    scenario.transact(&mut world).unwrap();
    world.syncs
}

/// Each path with the syncs between the same two records of the journal.
fn groups(all: &[PathBuf]) -> Vec<(PathBuf, Range<usize>)> {
    let journal = layout().journal();
    let mut groups = Vec::new();
    let mut begins = 0;
    for (at, path) in all.iter().enumerate() {
        let of_journal = *path == journal;
        if of_journal {
            groups.push((path.clone(), at..at + 1));
            begins = at + 1;
            continue;
        }
        let ends = all[at..].iter().position(|path| *path == journal);
        let range = begins..ends.map_or(all.len(), |later| at + later);
        if !groups.contains(&(path.clone(), range.clone())) {
            groups.push((path.clone(), range));
        }
    }
    groups
}

/// A cut anywhere, or after another transaction in the same boot that changes nothing outside: a
/// recovery looks at the latest one only.
fn holds(lying: &Scenario) {
    let (_, state) = every_disk(lying, BOUNDS);
    let mut world = lying.world.clone();
    let _ = lying.transact(&mut world);
    world.lie = None;
    let in_effect = lying.generation(&state).unwrap();
    let same = match (&state, lying.name) {
        (State::Committed, "removal") => None,
        (State::Committed, "first push" | "rollback") => Some(Slices::A),
        (State::Committed, _) => Some(Slices::B),
        (_, _) => Some(Slices::A),
    };
    stage(&mut world, 9, same);
    let next = scenario("the same again", world, request(in_effect, 9));
    let mut world = next.world.clone();
    assert_eq!(next.transact(&mut world).unwrap(), State::Committed);
    Disks::new(&next, BOUNDS).cut(&world);
}

#[test]
fn a_transaction_syncs_nothing_that_could_stay_unsynced() {
    let effort = Effort::asked_for();
    let all = match effort {
        Effort::Sample => vec![update()],
        Effort::All => [scenarios(), failing()].concat(),
    };
    let mut tried = 0;
    let mut needed_by: BTreeMap<Place, Vec<&str>> = BTreeMap::new();
    for scenario in all {
        holds(&scenario);
        let syncs = syncs(&scenario);
        for (path, numbers) in groups(&syncs).into_iter().step_by(effort.of(4, 1)) {
            tried += numbers.len();
            let place = place(&syncs, (&path, &numbers));
            let lying = on_a_host_that(Lie::ForgetsSyncs(path, numbers), scenario.clone());
            let needed_by = needed_by.entry(place).or_default();
            needed_by.extend(is_noticed(|| holds(&lying)).map(|_| scenario.name));
        }
    }
    let in_vain = needed_by.iter().filter(|(_, by)| by.is_empty());
    let in_vain: Vec<&Place> = in_vain.map(|(place, _)| place).collect();
    shown(&format!(
        "syncs: {tried} at {} places of a transaction; each was forgotten, and that was noticed",
        needed_by.len()
    ));
    let in_vain: Vec<&Place> = in_vain
        .into_iter()
        .filter(|place| !is_for_order(place))
        .collect();
    assert!(in_vain.is_empty(), "nothing needs these syncs: {in_vain:?}");
}

/// Syncs that no promise rests on, and that stay all the same, each for its reason.
const FOR_ORDER: [(&str, Option<usize>, &str); 4] = [
    (
        "/var/lib/push/journal",
        Some(4),
        "without TAKEN_BACK a boot takes back once more, to the same end; with it there is nothing to do",
    ),
    (
        "/srv/api/releases",
        None,
        "a pruned release comes back under its name, and whoever needs it then reads it again; its room is \
         gone until the next prune",
    ),
    (
        "/srv/api",
        None,
        "the link of an app that is gone comes back and leads nowhere",
    ),
    ("/srv/same", None, "the same"),
];

fn is_for_order((path, after): &Place) -> bool {
    let is_it = |(known, then, _): &(&str, Option<usize>, &str)| {
        path.as_os_str() == *known && after == then
    };
    FOR_ORDER.iter().any(is_it)
}

/// What is synced, and after how many records of the journal, or after the last one.
type Place = (PathBuf, Option<usize>);

fn place(all: &[PathBuf], (path, numbers): (&PathBuf, &Range<usize>)) -> Place {
    let journal = layout().journal();
    let records = |part: &[PathBuf]| part.iter().filter(|path| **path == journal).count();
    let before = records(&all[..numbers.start]);
    let is_last = before == records(all);
    (path.clone(), (!is_last).then_some(before))
}
