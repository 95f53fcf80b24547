//! Faults, cuts, visitors and reorderings together, chosen by seed: up to three faults, a cut or the death
//! of the process, recoveries in trouble that are cut a few times themselves, and somebody who asks
//! meanwhile. Each seed is one run and can be had again.
//!
//! `PUSH_SEEDS=100000` tries that many; `PUSH_SEED=17` tries that one.

use std::sync::atomic::{AtomicU64, Ordering};

use push_wire::journal::{Record, State};

use super::counts::{number, shown};
use super::race::verdict;
use super::scenario::{failing, scenarios};
use super::{CALLS_MAX, Scenario, layout};
use crate::machine::simulated::pending::Survives;
use crate::machine::simulated::random::Random;
use crate::machine::simulated::trouble::{Fault, Trouble};
use crate::machine::simulated::{Simulated, Visit};
use crate::recover::recover;

/// How many seeds are tried unless `PUSH_SEEDS` says otherwise.
const SEEDS: u64 = 1_000;

/// About as many calls as a transaction makes.
const CALLS: u64 = 450;

/// How often a recovery is cut before it is left alone.
const CUTS_MAX: u64 = 4;

fn survives(random: &mut Random) -> Survives {
    match random.below(6) {
        0 => Survives::Nothing,
        1 => Survives::Everything,
        2 => Survives::Ordered(random.below(u64::MAX)),
        3 => Survives::Any(random.below(u64::MAX)),
        _ => Survives::Random(random.below(u64::MAX)),
    }
}

fn troubles(random: &mut Random, calls: u64) -> Vec<Trouble> {
    let count = random.below(4);
    let mut trouble = || {
        let fault = Fault::ALL[random.index(Fault::ALL.len())];
        let from = 1 + random.below(calls);
        let until = from + [1, 2, 30, CALLS_MAX][random.index(4)];
        Trouble { fault, from, until }
    };
    (0..count).map(|_| trouble()).collect()
}

fn run(all: &[Scenario], seed: u64) {
    let mut random = Random::new(seed);
    let scenario = &all[random.index(all.len())];
    let mut world = scenario.world.clone().with(&troubles(&mut random, CALLS));
    if random.below(3) > 0 {
        world = world.cut_at(1 + random.below(CALLS));
    }
    if random.below(2) == 0 {
        let at = 1 + random.below(CALLS);
        world = world.visited(Visit { at, does: verdict });
    }
    let _ = world.until_the_cut(|world| scenario.transact(world));
    let mut told = scenario.told(&world);
    let mine = |record: &Record| record.transaction == scenario.request.switch.transaction;
    let visitor = world.visitor_was_told.take().filter(mine);
    told.extend(visitor.map(|record| record.state).filter(State::is_final));
    let process_died = random.below(4) == 0;
    for _ in 0..random.below(CUTS_MAX) {
        if !process_died {
            world.power_on(survives(&mut random));
        }
        world = world.with(&troubles(&mut random, CALLS / 2));
        world = world.cut_at(1 + random.below(CALLS / 2));
        let _ = world.until_the_cut(|world| recover(world, &layout()));
        told.extend(scenario.told(&world));
    }
    let last = survives(&mut random);
    world.repair();
    if process_died {
        let recovered = recover(&mut world, &layout());
        let settled = scenario.settles(&world, &recovered);
        scenario.agrees(&settled, &told);
    }
    scenario.boots_wholly(&mut world, (last, &told));
}

/// Seeds that failed once, and what they taught. A change of what a seed chooses makes an old number mean
/// another run: then what it taught is a test of its own, named here.
const REGRESSIONS: [u64; 0] = [];

#[test]
fn seeds_that_failed_once_stay_mended() {
    let all = hosts();
    for seed in REGRESSIONS {
        run(&all, seed);
    }
}

fn hosts() -> Vec<Scenario> {
    [scenarios(), failing()].concat()
}

#[test]
fn whatever_a_seed_does_to_a_host_it_ends_whole() {
    let (from, count) = match number("PUSH_SEED") {
        Some(seed) => (seed, 1),
        None => (0, number("PUSH_SEEDS").unwrap_or(SEEDS)),
    };
    let next = AtomicU64::new(from);
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                let all = hosts();
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= from + count {
                        return;
                    }
                    try_one(&all, seed);
                }
            });
        }
    });
    assert!(count > 0, "no seed was tried");
    shown(&format!("seeds: {count}, from {from} on"));
}

fn try_one(all: &[Scenario], seed: u64) {
    let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| run(all, seed)));
    assert!(
        ended.is_ok(),
        "seed {seed} failed, see above; again: PUSH_SEED={seed} cargo test -p push-host --lib whatever_a_seed"
    );
}

#[test]
fn a_seed_chooses_the_same_run_whenever_it_is_tried() {
    let all = hosts();
    let trace = |seed| {
        let mut random = Random::new(seed);
        let mut world: Simulated = all[0].world.clone().with(&troubles(&mut random, CALLS));
        let ended = all[0]
            .transact(&mut world)
            .map_err(|error| error.to_string());
        (ended, world.calls(), world.disk.fingerprint())
    };
    for seed in 0..20 {
        assert_eq!(trace(seed), trace(seed));
    }
}
