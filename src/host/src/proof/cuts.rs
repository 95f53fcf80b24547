//! The power goes before any call, or the process dies there.

use push_wire::journal::State;

use super::{Scenario, Slices, layout, scenarios, update_to};
use crate::machine::simulated::Simulated;
use crate::machine::simulated::disk::Survives;
use crate::recover::recover;

/// How many random subsets of what was pending are tried at each cut.
const RANDOM_SUBSETS: u64 = 6;

/// More calls than any transaction makes: a loop that does not end fails here.
const CALLS_MAX: u64 = 20_000;

/// Every way in which a cut can leave the disk, up to a bound.
fn outcomes(world: &Simulated, cut: u64) -> Vec<Survives> {
    let mut all = vec![Survives::Nothing, Survives::Everything];
    all.extend((1..world.disk.pending()).map(Survives::Prefix));
    if world.disk.pending() > 0 {
        all.extend((0..RANDOM_SUBSETS).map(|n| Survives::Random(cut * RANDOM_SUBSETS + n)));
    }
    all
}

/// Counts are shown with `--nocapture`.
#[allow(
    clippy::print_stdout,
    reason = "a test's counts are what a longer run is looked at for"
)]
fn shown(counts: &str) {
    println!("{counts}");
}

/// One way in which a cut can leave the disk, another one from cut to cut.
fn in_turn(cut: u64) -> Survives {
    match cut % 3 {
        0 => Survives::Nothing,
        1 => Survives::Everything,
        _ => Survives::Random(cut),
    }
}

/// Recoveries are cut everywhere, but only those from every so many-th cut of a transaction, unless
/// `PUSH_PROOF=all` asks for all of them.
fn stride() -> u64 {
    match std::env::var("PUSH_PROOF").as_deref() {
        Ok("all") => 1,
        Ok(_) | Err(_) => 11,
    }
}

/// Runs `check` on the world as each cut of a transaction leaves it; returns how many cuts there are.
fn at_every_cut(scenario: &Scenario, mut check: impl FnMut(u64, &Simulated)) -> u64 {
    for cut in 1..CALLS_MAX {
        let mut world = scenario.world.clone().cut_at(cut);
        match world.until_the_cut(|world| scenario.transact(world)) {
            None => check(cut, &world),
            Some(ended) => {
                let state = ended.unwrap();
                let expected = if state.is_committed() {
                    scenario.to()
                } else {
                    scenario.from()
                };
                assert_eq!(world.generation_in_effect(), expected, "{}", scenario.name);
                return cut - 1;
            }
        }
    }
    panic!("{} makes more than {CALLS_MAX} calls", scenario.name);
}

#[test]
fn a_transaction_cut_at_any_call_ends_wholly_old_or_wholly_new() {
    for scenario in scenarios() {
        let mut boots = 0;
        let cuts = at_every_cut(&scenario, |cut, world| {
            let told = scenario.told(world);
            for survives in outcomes(world, cut) {
                let mut world = world.clone();
                scenario.boots_wholly(&mut world, (survives, &told));
                boots += 1;
            }
        });
        shown(&format!("{}: {cuts} cuts, {boots} boots", scenario.name));
        assert!(cuts > 50, "{}: only {cuts} calls were cut", scenario.name);
    }
}

#[test]
fn a_transaction_that_fails_and_is_cut_at_any_call_ends_wholly_old() {
    for flaw in [
        Slices::Failing,
        Slices::Sick,
        Slices::Crashing,
        Slices::Refused,
    ] {
        let scenario = update_to(flaw);
        at_every_cut(&scenario, |cut, world| {
            let told = scenario.told(world);
            let mut world = world.clone();
            scenario.boots_wholly(&mut world, (in_turn(cut), &told));
            assert_eq!(
                world.generation_in_effect(),
                scenario.from(),
                "{flaw:?}, cut {cut}"
            );
        });
    }
}

#[test]
fn a_recovery_cut_at_any_call_and_run_again_ends_wholly_old_or_wholly_new() {
    for scenario in scenarios() {
        let mut recoveries = 0;
        at_every_cut(&scenario, |cut, world| {
            if !cut.is_multiple_of(stride()) {
                return;
            }
            let told = scenario.told(world);
            let mut booted = world.clone();
            booted.power_on(in_turn(cut / stride()));
            for again in 1..CALLS_MAX {
                let mut world = booted.clone().cut_at(again);
                if world
                    .until_the_cut(|world| recover(world, &layout()))
                    .is_some()
                {
                    break;
                }
                scenario.boots_wholly(&mut world, (in_turn(cut + again), &told));
                recoveries += 1;
            }
        });
        shown(&format!("{}: {recoveries} recoveries cut", scenario.name));
    }
}

#[test]
fn a_transaction_whose_process_dies_at_any_call_is_ended_without_a_boot() {
    for scenario in scenarios() {
        at_every_cut(&scenario, |_, world| {
            let mut world = world.clone();
            let told = scenario.told(&world);
            let recovered = recover(&mut world, &layout());
            scenario.is_whole(&world, &recovered, &told);
        });
    }
}

#[test]
fn a_second_recovery_changes_nothing() {
    for scenario in scenarios() {
        at_every_cut(&scenario, |cut, world| {
            let mut world = world.clone();
            let told = scenario.told(&world);
            scenario.boots_wholly(&mut world, (Survives::Random(cut), &told));
            let (first, processes) = (world.generation_in_effect(), world.services.running.clone());
            recover(&mut world, &layout()).unwrap();
            assert_eq!(world.generation_in_effect(), first);
            assert_eq!(
                world.services.running, processes,
                "{}, cut {cut}",
                scenario.name
            );
        });
    }
}

#[test]
fn a_committed_generation_survives_any_later_power_cut() {
    for scenario in scenarios() {
        let mut world = scenario.world.clone();
        assert_eq!(scenario.transact(&mut world).unwrap(), State::Committed);
        for survives in outcomes(&world, 0) {
            let mut world = world.clone();
            scenario.boots_wholly(&mut world, (survives, &[State::Committed]));
        }
    }
}
