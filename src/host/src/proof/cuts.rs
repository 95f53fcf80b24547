//! The power goes before any call, or the process dies there: of a transaction that ends well, of one
//! that is taken back, of one that prunes, of a recovery, and of a recovery from that.

use push_wire::journal::State;

use super::counts::shown;
use super::disks::{Bounds, Disks, Tally};
use super::scenario::{failing, scenarios};
use super::{CALLS_MAX, Effort, Scenario, layout};
use crate::machine::simulated::Simulated;
use crate::machine::simulated::pending::Survives;
use crate::recover::recover;

/// One way in which a cut can leave the disk, another one from cut to cut.
fn in_turn(cut: u64) -> Survives {
    match cut % 3 {
        0 => Survives::Nothing,
        1 => Survives::Everything,
        _ => Survives::Random(cut),
    }
}

/// The transactions that take themselves back; a developer waits for two of them.
fn some_failing() -> Vec<Scenario> {
    let most = Effort::asked_for().of(2, usize::MAX);
    failing().into_iter().take(most).collect()
}

/// Boots every disk that a cut anywhere in a transaction can leave.
pub(super) fn every_disk(scenario: &Scenario, bounds: Bounds) -> (Tally, State) {
    let mut disks = Disks::new(scenario, bounds);
    let state = scenario.at_every_cut(|_, world| disks.cut(world));
    (disks.tally, state)
}

#[test]
fn a_transaction_cut_at_any_call_ends_wholly_old_or_wholly_new() {
    let mut all = Tally::default();
    for scenario in scenarios() {
        let (tally, state) = every_disk(&scenario, Bounds::asked_for());
        shown(&format!("cuts: {}: {tally}", scenario.name));
        assert_eq!(state, State::Committed);
        assert!(
            tally.cuts > 50,
            "{}: only {} cuts",
            scenario.name,
            tally.cuts
        );
        all.add(tally);
    }
    shown(&format!("cuts: transactions in all: {all}"));
}

#[test]
fn a_transaction_that_is_taken_back_and_cut_at_any_call_ends_wholly_old() {
    let mut all = Tally::default();
    for scenario in some_failing() {
        let (tally, state) = every_disk(&scenario, Bounds::asked_for());
        assert!(matches!(state, State::TakenBack(_)), "{}", scenario.name);
        all.add(tally);
    }
    shown(&format!("cuts: takings back: {all}"));
}

/// Recoveries are cut everywhere, but only those from every so many-th cut of a transaction.
#[test]
fn a_recovery_cut_at_any_call_and_run_again_ends_wholly_old_or_wholly_new() {
    let stride = Effort::asked_for().of(101_u64, 7);
    let step = usize::try_from(stride).unwrap();
    let (mut recoveries, mut again) = (0, 0);
    for scenario in [scenarios(), failing()].concat() {
        scenario.at_cuts(step, |cut, world| {
            let told = scenario.told(world);
            let mut booted = world.clone();
            booted.power_on(in_turn(cut / stride));
            at_every_cut_of_a_recovery(&booted, |inner, world| {
                recoveries += 1;
                let survives = in_turn(cut + inner);
                scenario.boots_wholly(&mut world.clone(), (survives, &told));
                if (cut + inner).is_multiple_of(stride * 31) {
                    let mut booted = world.clone();
                    booted.power_on(survives);
                    at_every_cut_of_a_recovery(&booted, |third, world| {
                        again += 1;
                        let survives = in_turn(inner + third);
                        scenario.boots_wholly(&mut world.clone(), (survives, &told));
                    });
                }
            });
        });
    }
    shown(&format!(
        "cuts: {recoveries} of recoveries, and {again} of recoveries from those"
    ));
}

fn at_every_cut_of_a_recovery(booted: &Simulated, mut check: impl FnMut(u64, &Simulated)) {
    for cut in 1..CALLS_MAX {
        let mut world = booted.clone().cut_at(cut);
        let ended = world.until_the_cut(|world| recover(world, &layout()));
        if ended.is_some() {
            return;
        }
        check(cut, &world);
    }
    panic!("LIVENESS: a recovery makes more than {CALLS_MAX} calls");
}

#[test]
fn a_transaction_whose_process_dies_at_any_call_is_ended_without_a_boot() {
    let mut deaths = 0;
    for scenario in [scenarios(), some_failing()].concat() {
        scenario.at_cuts(Effort::asked_for().of(5, 1), |_, world| {
            let mut world = world.clone();
            let told = scenario.told(&world);
            let recovered = recover(&mut world, &layout());
            let settled = scenario.settles(&world, &recovered);
            scenario.agrees(&settled, &told);
            deaths += 1;
        });
    }
    shown(&format!("deaths of the process: {deaths}"));
}

#[test]
fn a_second_recovery_changes_nothing() {
    for scenario in scenarios() {
        scenario.at_cuts(Effort::asked_for().of(7, 1), |cut, world| {
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

/// A release or a generation that is pruned is there wholly, or not at all under its name.
#[test]
fn pruning_cut_at_any_call_leaves_nothing_half_under_its_name() {
    let scenario = super::scenario::crowded();
    let (folders, before) = (
        [layout().generations(), layout().at("/srv/api/releases")],
        &scenario.world.disk,
    );
    let mut gone = 0;
    scenario.at_cuts(Effort::asked_for().of(3, 1), |cut, world| {
        let outcomes = (0..8).map(|n| Survives::Random(cut * 8 + n));
        for survives in [Survives::Nothing, Survives::Everything]
            .into_iter()
            .chain(outcomes)
        {
            let mut disk = world.disk.clone();
            disk.power_cut(survives);
            for folder in &folders {
                for name in before.list(folder).unwrap() {
                    let place = folder.join(&name);
                    let (was, is) = (before.below(&place), disk.below(&place));
                    let is_there = disk.stat(&place).unwrap().is_some();
                    gone += u64::from(!is_there);
                    assert!(
                        !is_there || was == is,
                        "SAFETY: {name} is half pruned: {is:?}"
                    );
                }
            }
        }
    });
    assert!(gone > 0, "nothing was pruned");
}

#[test]
fn a_committed_generation_survives_any_later_power_cut() {
    for scenario in scenarios() {
        let mut world = scenario.world.clone();
        assert_eq!(scenario.transact(&mut world).unwrap(), State::Committed);
        for seed in 0..200 {
            let told = (Survives::Random(seed), &[State::Committed][..]);
            scenario.boots_wholly(&mut world.clone(), told);
        }
    }
}
