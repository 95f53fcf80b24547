//! A proof that cannot fail proves nothing: each rule that the promises rest on is broken once, and the
//! proof notices.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Once;

use push_wire::journal::Record;

use super::cuts::every_disk;
use super::disks::Bounds;
use super::scenario::{Slices, update, update_to};
use super::syncs::syncs;
use super::{Scenario, faults, layout, race};
use crate::journal;
use crate::machine::Disk as _;
use crate::machine::simulated::Simulated;
use crate::machine::simulated::lie::Lie;
use crate::machine::simulated::pending::Survives;

thread_local! {
    static IS_EXPECTED: Cell<bool> = const { Cell::new(false) };
}

/// What a proof says when it fails; `None` if it holds. Its failure is not printed.
pub(super) fn is_noticed(proof: impl FnOnce()) -> Option<String> {
    static QUIET: Once = Once::new();
    QUIET.call_once(|| {
        let loud = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if !IS_EXPECTED.get() {
                loud(panic);
            }
        }));
    });
    IS_EXPECTED.set(true);
    let ended = catch_unwind(AssertUnwindSafe(proof));
    IS_EXPECTED.set(false);
    let why = ended.err()?;
    let text = why.downcast_ref::<String>().cloned();
    Some(
        text.or_else(|| why.downcast_ref::<&str>().map(|text| (*text).to_owned()))
            .unwrap_or_default(),
    )
}

/// A rule, broken; the proof that must fail then, and what it says.
struct Broken {
    rule: &'static str,
    proof: fn(),
    says: &'static str,
}

pub(super) fn on_a_host_that(lie: Lie, mut scenario: Scenario) -> Scenario {
    scenario.world.syncs.clear();
    scenario.world.lie = Some(lie);
    scenario
}

fn every_cut_of(scenario: &Scenario) {
    let bounds = Bounds {
        any_max: 64,
        samples: 16,
    };
    drop(every_disk(scenario, bounds));
}

/// The sync of the record that commits an update: the last of the journal.
fn commit_is_not_synced() {
    let journal = layout().journal();
    let last = syncs(&update())
        .iter()
        .rposition(|path| *path == journal)
        .unwrap();
    let lie = Lie::ForgetsSyncs(journal, last..last + 1);
    every_cut_of(&on_a_host_that(lie, update()));
}

/// A session that tells what stands in the journal once it has synced it, whatever the transaction that
/// wrote it still finds out.
fn reads_without_care(world: &mut Simulated) -> Option<Record> {
    world.sync(&layout().journal()).ok()?;
    journal::read(world, &layout()).ok()?.last().cloned()
}

/// The host comes up and goes on, and nobody recovers anything.
fn nothing_recovers() {
    let scenario = update();
    scenario.at_every_cut(|_, world| {
        let mut world = world.clone();
        world.power_on(Survives::Everything);
        world.finish_boot();
        world.generation_in_effect();
    });
}

const BROKEN: [Broken; 7] = [
    Broken {
        rule: "COMMITTED is durable before anybody is told",
        proof: commit_is_not_synced,
        says: "SAFETY: update: false verdict",
    },
    Broken {
        rule: "a verdict is told only when nobody takes it away",
        proof: || {
            race::no_end_is_told_that_does_not_stay((&update(), 1), reads_without_care);
        },
        says: "was told another end",
    },
    Broken {
        rule: "a replaced file is there at every moment",
        proof: || every_cut_of(&on_a_host_that(Lie::RenamesInTwoSteps, update())),
        says: "SAFETY",
    },
    Broken {
        rule: "every boot recovers",
        proof: nothing_recovers,
        says: "SAFETY",
    },
    Broken {
        rule: "room for the way back is kept in advance",
        proof: || {
            let scenario = update_to(Slices::Sick);
            faults::a_full_disk_hinders_nothing(&on_a_host_that(Lie::KeepsNoRoom, scenario));
        },
        says: "LIVENESS",
    },
    Broken {
        rule: "secrets go with the generation that used them",
        proof: || every_cut_of(&on_a_host_that(Lie::KeepsSecrets, update())),
        says: "SAFETY",
    },
    Broken {
        rule: "the deadline is on CLOCK_BOOTTIME",
        proof: || {
            faults::the_wall_clock_decides_nothing(on_a_host_that(Lie::CountsByTheWall, update()));
        },
        says: "LIVENESS",
    },
];

#[test]
fn a_host_that_breaks_a_rule_is_found_out() {
    for broken in BROKEN {
        let noticed = is_noticed(broken.proof);
        let said = noticed.unwrap_or_else(|| panic!("nothing noticed: {}", broken.rule));
        assert!(said.contains(broken.says), "{}: {said}", broken.rule);
    }
}
