//! Any call fails, tools refuse, the disk is full or read-only from any call on, clocks jump: without a
//! cut, and with the truth told at once.

use std::path::Path;

use push_wire::journal::State;

use super::counts::shown;
use super::scenario::{Slices, failing, scenarios, update, update_to};
use super::{CALLS_MAX, Effort, Scenario, layout};
use crate::machine::simulated::Simulated;
use crate::machine::simulated::pending::Survives;
use crate::machine::simulated::random::Random;
use crate::machine::simulated::trouble::{Fault, Trouble};
use crate::machine::{self, Access, Disk as _};
use crate::recover::recover;
use crate::{remains, store};

/// How many calls a transaction makes when nothing goes wrong.
pub(super) fn calls(scenario: &Scenario) -> u64 {
    let mut calm = scenario.world.clone().with(&[]);
    let _ = scenario.transact(&mut calm);
    assert!(calm.calls() < CALLS_MAX);
    calm.calls()
}

/// Runs a transaction in trouble; what it says at once is true at once, and what it leaves in doubt is
/// settled by one recovery, or one boot, once the trouble is over.
fn is_true_and_settles(scenario: &Scenario, troubles: &[Trouble]) -> Result<State, ()> {
    let mut world = scenario.world.clone().with(troubles);
    let verdict = scenario.transact(&mut world).map_err(drop);
    let calls = world.calls();
    let told = scenario.told(&world);
    world.repair();
    if let Ok(state) = &verdict {
        let expected = scenario.generation(state);
        let found = world.generation_served();
        assert_eq!(
            Some(found),
            expected,
            "SAFETY: {}: false verdict: {state:?} in {troubles:?}",
            scenario.name
        );
    } else {
        assert!(
            !told.iter().any(State::is_final),
            "SAFETY: {}: false verdict: in doubt, yet told {told:?} in {troubles:?}",
            scenario.name
        );
    }
    let mut cut = world.clone();
    let recovered = recover(&mut world, &layout());
    let settled = scenario.settles(&world, &recovered);
    scenario.leaves_others_alone(&world, settled.found);
    scenario.agrees(&settled, &told);
    scenario.boots_wholly(&mut cut, (Survives::Random(calls), &told));
    verdict
}

#[test]
fn any_fault_at_any_call_leaves_the_host_whole_and_the_verdict_true() {
    let stride = Effort::asked_for().of(61, 1);
    let mut tried = 0;
    let failing = [Slices::Failing, Slices::Sick].map(update_to);
    for (at, scenario) in [scenarios(), failing.into()].concat().iter().enumerate() {
        let calls = calls(scenario);
        for (nth, fault) in Fault::ALL.into_iter().enumerate() {
            let first = (at + nth) as u64 % stride;
            for call in (1 + first..=calls).step_by(usize::try_from(stride).unwrap()) {
                for trouble in [Trouble::once(fault, call), Trouble::from(fault, call)] {
                    let _ = is_true_and_settles(scenario, &[trouble]);
                    tried += 1;
                }
            }
        }
    }
    shown(&format!(
        "faults: {tried} of {} kinds, for one call and from there on",
        Fault::ALL.len()
    ));
}

#[test]
fn two_faults_together_leave_the_host_whole_and_the_verdict_true() {
    let pairs = Effort::asked_for().of(300, 20_000);
    let all = [scenarios(), failing()].concat();
    let lengths: Vec<u64> = all.iter().map(calls).collect();
    for seed in 0..pairs {
        let mut random = Random::new(seed);
        let at = random.index(all.len());
        let mut trouble = || {
            let fault = Fault::ALL[random.index(Fault::ALL.len())];
            let from = 1 + random.below(lengths[at]);
            let until = from + [1, 3, 20, CALLS_MAX][random.index(4)];
            Trouble { fault, from, until }
        };
        let both = [trouble(), trouble()];
        let _ = is_true_and_settles(&all[at], &both);
    }
    shown(&format!("faults: {pairs} pairs, by seed"));
}

/// A record of a commit reached the disk, and the call that wrote it failed: its process takes back, and dies
/// of a disk that fails on. What the journal says then is carried through.
#[test]
fn a_commit_that_its_own_process_did_not_believe_is_carried_through() {
    for scenario in scenarios() {
        if scenario.from() == 0 || scenario.name == "prune" {
            continue;
        }
        let mut world = scenario.world.clone();
        assert_eq!(scenario.transact(&mut world).unwrap(), State::Committed);
        let side = |id| store::manifest(&world, &layout(), id).unwrap();
        let sides = (
            side(scenario.request.about.to),
            side(scenario.request.about.from),
        );
        remains::settle(&mut world, &layout(), (&sides.0, &sides.1)).unwrap();
        let mut booted = world.clone();
        let recovered = recover(&mut world, &layout());
        let settled = scenario.settles(&world, &recovered);
        scenario.agrees(&settled, &[State::Committed]);
        assert_eq!(world.generation_served(), scenario.to());
        scenario.boots_wholly(&mut booted, (Survives::Everything, &[State::Committed]));
    }
}

/// Room was kept in advance: once begun, a transaction also ends, and says so, on a full disk.
pub(super) fn a_full_disk_hinders_nothing(scenario: &Scenario) {
    for call in (1..=calls(scenario)).step_by(Effort::asked_for().of(5, 1)) {
        let full = [Trouble::from(Fault::Full, call)];
        let verdict = is_true_and_settles(scenario, &full);
        let mut world = scenario.world.clone().with(&full);
        let _ = scenario.transact(&mut world);
        assert!(
            verdict.is_ok() || scenario.told(&world).is_empty(),
            "LIVENESS: {}: a disk that is full from call {call} on: {verdict:?}",
            scenario.name
        );
    }
}

#[test]
fn a_disk_that_fills_up_at_any_call_does_not_keep_a_host_from_going_back() {
    for flaw in [Slices::B, Slices::Failing, Slices::Sick] {
        a_full_disk_hinders_nothing(&update_to(flaw));
    }
}

/// A risky transaction that was confirmed commits, whatever the wall clock says.
pub(super) fn the_wall_clock_decides_nothing(mut scenario: Scenario) {
    scenario.request.about.confirm_within_ms = Some(30_000);
    let id = scenario.request.switch.transaction.clone();
    let confirmed = (&id, crate::progress::Wish::Confirmed);
    crate::progress::ask(&mut scenario.world, &layout(), confirmed).unwrap();
    for fault in [Fault::ClockBehind, Fault::ClockAhead] {
        for call in (1..=calls(&scenario)).step_by(Effort::asked_for().of(5, 1)) {
            for trouble in [Trouble::once(fault, call), Trouble::from(fault, call)] {
                let mut world = scenario.world.clone().with(&[trouble]);
                let state = scenario.transact(&mut world).unwrap();
                assert_eq!(state, State::Committed, "LIVENESS: {trouble:?}");
                assert_eq!(world.generation_in_effect(), scenario.to());
            }
        }
    }
}

#[test]
fn a_wall_clock_that_jumps_by_years_decides_nothing() {
    the_wall_clock_decides_nothing(update());
}

#[test]
fn a_host_that_was_suspended_past_the_deadline_takes_back_and_never_hangs() {
    let mut scenario = update();
    scenario.request.about.confirm_within_ms = Some(30_000);
    let until_switched = calls(&update());
    for call in until_switched..until_switched + 200 {
        let verdict = is_true_and_settles(&scenario, &[Trouble::from(Fault::Suspended, call)]);
        assert!(matches!(verdict, Ok(State::TakenBack(_))), "{verdict:?}");
    }
}

#[test]
fn a_file_that_could_not_be_replaced_stays_as_it_was_and_keeps_no_full_disk_full() {
    let path = Path::new("/var/file");
    let mut calm = Simulated::default();
    machine::replace(&mut calm, path, b"old", &Access::public_file()).unwrap();
    let troubles: [fn(u64) -> Trouble; 2] = [
        |call| Trouble::once(Fault::Fails, call),
        |call| Trouble::from(Fault::Full, call),
    ];
    for trouble in troubles {
        for call in 1..=6 {
            let trouble = trouble(call);
            let mut world = calm.clone().with(&[trouble]);
            let replaced = machine::replace(&mut world, path, b"new", &Access::public_file());
            world.repair();
            let is_new = world.read(path, 9).unwrap() == b"new";
            assert_eq!(is_new, replaced.is_ok(), "{trouble:?}");
            assert_eq!(
                world.list(Path::new("/var")).unwrap(),
                ["file"],
                "{trouble:?}"
            );
        }
    }
}
