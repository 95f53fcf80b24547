//! Somebody comes while a transaction runs: to confirm it, at every instant around its deadline, or to
//! ask how it stands. Whoever is told an end is told the one that stays, and is told it again.

use push_wire::journal::{Cause, Record, State};

use super::counts::shown;
use super::scenario::{failing, scenarios, update};
use super::{Effort, Scenario, layout};
use crate::connection::Connection;
use crate::journal;
use crate::machine::simulated::pending::Survives;
use crate::machine::simulated::trouble::{Fault, Trouble};
use crate::machine::simulated::{Simulated, Visit};
use crate::progress;
use crate::recover::recover;
use crate::serve::watch::{self, Claim, WatchError};

/// The deadline, in milliseconds after the switch.
const WITHIN_MS: u64 = 2_000;

/// How long after an instant the transaction looks at the latest.
const LOOK_MS: u64 = 60;

/// The record that a session of push-host would tell of now.
pub(super) fn verdict(world: &mut Simulated) -> Option<Record> {
    let journal = journal::read_settled(world, &layout()).ok()?;
    journal.last().cloned()
}

/// An operator comes in again and confirms, as a session of push-host passes it on.
fn confirm(world: &mut Simulated) -> Option<Record> {
    let last = verdict(world)?;
    let claim = Claim {
        transaction: &last.transaction,
        nonce: "nonce",
        over: Some(&Connection::played(2)),
    };
    match watch::confirm(world, &layout(), claim) {
        Ok(()) | Err(WatchError::NotOnTrial { .. }) => Some(last),
        Err(error) => panic!("{error}"),
    }
}

/// An operator wants it taken back.
fn take_back(world: &mut Simulated) -> Option<Record> {
    let last = verdict(world)?;
    watch::take_back((world, &layout()), &last.transaction).unwrap();
    Some(last)
}

fn risky() -> Scenario {
    let mut scenario = update();
    scenario.request.about.confirm_within_ms = Some(WITHIN_MS);
    scenario.request.begun_on = Some(Connection::played(1));
    progress::leave_request(&mut scenario.world, &layout(), &scenario.request).unwrap();
    scenario.world.disk.sync_everything();
    scenario
}

/// Asked again, whoever asks and whatever they want, the host gives the same answer; after a boot too.
fn says_the_same(scenario: &Scenario, mut world: Simulated, verdict_was: &State) {
    for ask in [verdict, confirm, take_back, verdict] {
        let said = ask(&mut world).map(|record| record.state);
        assert_eq!(said.as_ref(), Some(verdict_was), "SAFETY: asked again");
    }
    let asked_again = scenario.transact(&mut world).unwrap();
    assert_eq!(asked_again, *verdict_was, "SAFETY: carried out again");
    let told = (
        Survives::Random(world.calls()),
        std::slice::from_ref(verdict_was),
    );
    scenario.boots_wholly(&mut world, told);
    for ask in [confirm, take_back, verdict] {
        let said = ask(&mut world).map(|record| record.state);
        assert_eq!(
            said.as_ref(),
            Some(verdict_was),
            "SAFETY: asked after a boot"
        );
    }
}

/// The calls of a risky transaction from which on it waits for its operator, and how many there are.
fn waiting(scenario: &Scenario) -> (u64, u64) {
    let mut world = scenario.world.clone().with(&[]);
    let state = scenario.transact(&mut world).unwrap();
    assert_eq!(state, State::TakenBack(Cause::Unconfirmed));
    (super::faults::calls(&update()) - 60, world.calls())
}

#[test]
fn a_confirmation_at_any_instant_around_the_deadline_has_one_end_and_everybody_is_told_it() {
    let scenario = risky();
    let (first, calls) = waiting(&scenario);
    let mut ends = [0, 0];
    for at in first..=calls {
        let does = confirm;
        let mut world = scenario.world.clone().visited(Visit { at, does });
        let state = scenario.transact(&mut world).unwrap();
        let Some(came_ms) = world.visitor_came_ms else {
            continue;
        };
        let probation = journal::read(&world, &layout()).unwrap();
        let deadline_ms = probation
            .records()
            .iter()
            .find_map(|record| match &record.state {
                State::Probation(probation) if record.transaction.as_str() == "t2" => {
                    probation.deadline_ms
                }
                _ => None,
            });
        let deadline_ms = deadline_ms.unwrap();
        match &state {
            State::Committed => {
                ends[0] += 1;
                assert!(
                    came_ms <= deadline_ms + LOOK_MS,
                    "SAFETY: confirmed too late"
                );
            }
            State::TakenBack(Cause::Unconfirmed) => {
                ends[1] += 1;
                assert!(
                    came_ms + LOOK_MS >= deadline_ms,
                    "SAFETY: confirmed in time"
                );
            }
            other => panic!("SAFETY: it ended {other:?}"),
        }
        assert_eq!(
            scenario.generation(&state),
            Some(world.generation_in_effect())
        );
        says_the_same(&scenario, world, &state);
    }
    assert!(ends[0] > 20 && ends[1] > 20, "{ends:?}");
    shown(&format!(
        "race: a confirmation at {} instants: {} committed, {} taken back",
        ends[0] + ends[1],
        ends[0],
        ends[1]
    ));
}

#[test]
fn a_boot_in_probation_takes_back_whether_or_not_it_was_confirmed_just_before() {
    let scenario = risky();
    let (first, calls) = waiting(&scenario);
    let stride = Effort::asked_for().of(13, 1);
    let mut boots = 0;
    for at in (first..=calls).step_by(stride) {
        for later in [0, 1, 2, 3, 5, 8, 13, 21, 34] {
            let does = confirm;
            let visit = Visit { at, does };
            let mut world = scenario.world.clone().visited(visit).cut_at(at + later);
            if world
                .until_the_cut(|world| scenario.transact(world))
                .is_some()
            {
                continue;
            }
            let told = scenario.told(&world);
            world.power_on(Survives::Random(at * 40 + later));
            // The operator comes in before the recovery, and after it.
            let early = confirm(&mut world).unwrap();
            let recovered = recover(&mut world, &layout());
            world.finish_boot();
            let settled = scenario.settles(&world, &recovered);
            scenario.agrees(&settled, &told);
            if early.transaction == scenario.request.switch.transaction && early.state.is_final() {
                scenario.agrees(&settled, &[early.state]);
            }
            boots += 1;
            let Some(state) = settled.recorded else {
                panic!("SAFETY: a transaction that was in probation is forgotten")
            };
            says_the_same(&scenario, world, &state);
        }
    }
    shown(&format!("race: {boots} boots around a confirmation"));
}

/// A session tells of an end only when nobody takes it away any more: not the transaction itself, whose
/// sync of that record fails, and not a power cut.
pub(super) fn no_end_is_told_that_does_not_stay(
    (scenario, step): (&Scenario, usize),
    does: fn(&mut Simulated) -> Option<Record>,
) -> [u64; 2] {
    let (mut asked, mut told_an_end) = (0, 0);
    for at in (1..=super::faults::calls(scenario)).step_by(step) {
        // A disk that fails right after: at a call of which the visitor may have seen the beginning.
        for fails in [None, Some(0), Some(1), Some(2), Some(3)] {
            let fails = fails.map(|later| Trouble::once(Fault::Fails, at + later));
            let troubles = fails.as_slice();
            let visit = Visit { at, does };
            let mut world = scenario.world.clone().with(troubles).visited(visit);
            let ended = scenario.transact(&mut world);
            asked += 1;
            let mine = |record: &Record| record.transaction == scenario.request.switch.transaction;
            let said = world.visitor_was_told.take().filter(mine);
            let Some(said) = said.map(|record| record.state).filter(State::is_final) else {
                continue;
            };
            told_an_end += 1;
            let ended = ended.map_err(|error| error.to_string());
            assert_eq!(
                Ok(&said),
                ended.as_ref(),
                "SAFETY: {}: a visitor at call {at} was told another end",
                scenario.name
            );
            scenario.boots_wholly(&mut world, (Survives::Nothing, &[said]));
        }
    }
    [asked, told_an_end]
}

#[test]
fn whoever_asks_at_any_call_is_told_no_end_that_does_not_stay() {
    let all = match Effort::asked_for() {
        Effort::Sample => vec![update()],
        Effort::All => [scenarios(), failing()].concat(),
    };
    let step = Effort::asked_for().of(3, 1);
    let mut sum = [0, 0];
    for scenario in all {
        let [asked, told] = no_end_is_told_that_does_not_stay((&scenario, step), verdict);
        sum = [sum[0] + asked, sum[1] + told];
    }
    assert!(sum[1] > 20, "{sum:?}");
    shown(&format!(
        "race: {} asked how it stands while it ran, {} were told an end",
        sum[0], sum[1]
    ));
}
