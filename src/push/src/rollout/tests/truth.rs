//! Any faults, any policy, any moment for Ctrl-C: the push ends, and what it tells is what the
//! hosts' journals say (checked by every [`Scene::push`]).

use std::time::Duration;

use proptest::prelude::*;
use push_wire::journal::Cause;

use super::super::fake::{ALWAYS, Fault};
use super::*;

const FAULTS: &[Fault] = &[
    Fault::Unreachable,
    Fault::FreshUnreachable,
    Fault::Vanishes,
    Fault::Impostor,
    Fault::Missing,
    Fault::Sudo,
    Fault::InstallRefused,
    Fault::Noise,
    Fault::Garbage,
    Fault::Mute,
    Fault::EndsAtOnce,
    Fault::Newer,
    Fault::Outdated,
    Fault::RefusesUpgrade,
    Fault::Refuses,
    Fault::Locked,
    Fault::MuteAtStage,
    Fault::GarbageAtStage,
    Fault::LostAtStage,
    Fault::LostMidPack,
    Fault::RefusedMidPack,
    Fault::Corrupt,
    Fault::RefusesSwitch,
    Fault::OrderLost,
    Fault::LostAfterOrder,
    Fault::LostInProgress,
    Fault::VerdictLost,
    Fault::ClaimsOnly,
    Fault::ForeignVerdict,
    Fault::OpenVerdict,
    Fault::RefusesWatch,
    Fault::NotKnown,
    Fault::Hangs,
    Fault::DeafToTakeBack,
    Fault::RefusesRestage,
    Fault::RestageTakenBack,
];

const MOMENTS: &[&str] = &[
    "connecting",
    "greeted",
    "agreed",
    "sent",
    "checked",
    "wave",
    "switching",
    "running",
    "probation",
    "confirming",
    "health",
    "reconnecting",
    "taking_back",
    "finished",
    "restoring",
];

#[derive(Debug, Clone)]
struct Case {
    faults: Vec<(u8, Fault, u32)>,
    unhealthy: Vec<u8>,
    presses: Vec<&'static str>,
    is_risky: bool,
    failures_max: u32,
    undo: Undo,
    waves: Vec<u32>,
}

fn cases() -> impl Strategy<Value = Case> {
    let times = prop_oneof![Just(1), Just(2), Just(ALWAYS)];
    let fault = (1..4u8, proptest::sample::select(FAULTS), times);
    (
        prop::collection::vec(fault, 0..4),
        prop::collection::vec(1..4u8, 0..2),
        prop::collection::vec(proptest::sample::select(MOMENTS), 0..3),
        any::<bool>(),
        0..3u32,
        proptest::sample::select(vec![Undo::Host, Undo::Wave, Undo::All]),
        prop::collection::vec(1..4u32, 0..3),
    )
        .prop_map(
            |(faults, unhealthy, presses, is_risky, failures_max, undo, waves)| Case {
                faults,
                unhealthy,
                presses,
                is_risky,
                failures_max,
                undo,
                waves,
            },
        )
}

fn scene(case: &Case) -> Scene {
    let mut scene = Scene::of(3).policy(|policy| {
        policy.failures_max = case.failures_max;
        policy.undo = case.undo;
        policy.waves = case.waves.iter().copied().map(Wave::Hosts).collect();
        policy.patience = Duration::from_secs(5);
    });
    for number in 1..=3 {
        scene = scene.host(&format!("h{number}"), |host| {
            host.lacks = vec![Digest::of("a file")];
        });
    }
    for (number, fault, times) in &case.faults {
        scene = scene.fault(&format!("h{number}"), *fault, *times);
    }
    for number in &case.unhealthy {
        scene = scene.host(&format!("h{number}"), |host| {
            host.taken_back(Cause::Unconfirmed);
        });
    }
    for press in &case.presses {
        scene = scene.press_at(press);
    }
    if case.is_risky { scene.risky() } else { scene }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, ..ProptestConfig::default() })]
    #[test]
    fn a_push_ends_and_tells_the_truth_whatever_happens(case in cases()) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .start_paused(true)
            .build()
            .unwrap();
        runtime.block_on(async {
            let push = scene(&case).push();
            let ended = tokio::time::timeout(Duration::from_secs(24 * 3600), push).await;
            assert!(ended.is_ok(), "it never ends");
        });
    }
}
