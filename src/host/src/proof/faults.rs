//! Any call fails, the disk is full or read-only from any call on, the clock jumps: without a cut, and
//! with the truth told at once.

use push_wire::journal::State;

use super::{Scenario, Slices, layout, scenarios, update, update_to};
use crate::machine::simulated::disk::Survives;
use crate::machine::simulated::{Fault, Simulated};
use crate::recover::recover;

/// More calls than any transaction makes.
const CALLS_MAX: u64 = 20_000;

/// Lets a fault begin at every call; returns how many there were.
fn at_every_call(
    scenario: &Scenario,
    fault: Fault,
    mut check: impl FnMut(&mut Simulated, Result<State, ()>),
) -> u64 {
    let mut calm = scenario.world.clone().cut_at(u64::MAX);
    let _ = scenario.transact(&mut calm);
    let calls = calm.calls();
    assert!(calls < CALLS_MAX);
    for call in 1..=calls {
        let mut world = scenario.world.clone().fault_at(call, fault);
        let verdict = scenario.transact(&mut world).map_err(drop);
        check(&mut world, verdict);
    }
    calls
}

/// What was said at once is true at once; what was left in doubt is settled once the fault is gone.
fn is_true_or_settles(scenario: &Scenario, world: &mut Simulated, verdict: Result<State, ()>) {
    let told = scenario.told(world);
    world.repair();
    if let Ok(state) = verdict {
        let expected = if state.is_committed() {
            scenario.to()
        } else {
            scenario.from()
        };
        assert_eq!(
            world.generation_served(),
            expected,
            "{}: {state:?}",
            scenario.name
        );
        scenario.agrees(world, expected, &told);
    } else {
        assert!(
            !told.iter().any(State::is_final),
            "in doubt, yet told {told:?}"
        );
    }
    let mut cut = world.clone();
    let recovered = recover(world, &layout());
    scenario.is_whole(world, &recovered, &told);
    scenario.boots_wholly(&mut cut, (Survives::Random(world.calls()), &told));
}

#[test]
fn a_call_that_fails_leaves_the_host_wholly_old_or_wholly_new_and_the_verdict_true() {
    for scenario in scenarios() {
        at_every_call(&scenario, Fault::Once, |world, verdict| {
            is_true_or_settles(&scenario, world, verdict);
        });
    }
}

#[test]
fn a_disk_that_fills_up_at_any_call_does_not_keep_a_host_from_going_back() {
    for flaw in [Slices::B, Slices::Failing, Slices::Sick] {
        let scenario = update_to(flaw);
        at_every_call(&scenario, Fault::Full, |world, verdict| {
            // Room was kept in advance: once begun, it also ends, and says so, on a full disk.
            assert!(
                verdict.is_ok() || scenario.told(world).is_empty(),
                "{flaw:?}: {verdict:?}"
            );
            is_true_or_settles(&scenario, world, verdict);
        });
    }
}

#[test]
fn a_disk_that_becomes_read_only_at_any_call_makes_no_false_verdict() {
    for scenario in scenarios() {
        at_every_call(&scenario, Fault::ReadOnly, |world, verdict| {
            is_true_or_settles(&scenario, world, verdict);
        });
    }
}

#[test]
fn a_clock_that_jumps_decides_nothing() {
    let scenario = update();
    at_every_call(&scenario, Fault::ClockJump, |world, verdict| {
        assert_eq!(verdict, Ok(State::Committed));
        assert_eq!(world.generation_in_effect(), 2);
    });
}
