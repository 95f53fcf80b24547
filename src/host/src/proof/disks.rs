//! Every disk that a cut can leave, up to a bound, and what a host makes of it at its next boot.
//!
//! What file systems that keep order may leave is tried without exception. Of what is thinkable
//! beyond that, everything is tried up to [`Bounds::any_max`] outcomes at one cut, and above it as many by
//! seed. After a boot nothing is left but the disk, so equal disks are booted once.

use std::collections::HashMap;

use push_wire::journal::State;

use super::{CALLS_MAX, Effort, Scenario, Settled};
use crate::machine::simulated::Simulated;
use crate::machine::simulated::pending::Survives;

/// More outcomes of one cut than any code here should leave open; too many to be tried.
const ORDERED_MAX: u64 = 1 << 17;

/// How much is tried at one cut.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    /// Up to so many outcomes without order, all of them are tried.
    pub any_max: u64,
    /// Above that, so many are, by seed.
    pub samples: u64,
}

impl Bounds {
    pub(super) fn asked_for() -> Self {
        let effort = Effort::asked_for();
        Self {
            any_max: effort.of(256, 8_192),
            samples: effort.of(24, 2_000),
        }
    }
}

/// What was tried.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Tally {
    pub cuts: u64,
    /// Outcomes of file systems that keep order: all there are.
    pub ordered: u64,
    /// Outcomes without order, at cuts where all were tried.
    pub any: u64,
    /// Outcomes without order that a seed chose.
    pub sampled: u64,
    /// Disks that differed, each booted.
    pub boots: u64,
}

impl Tally {
    pub(super) fn add(&mut self, other: Self) {
        self.cuts += other.cuts;
        self.ordered += other.ordered;
        self.any += other.any;
        self.sampled += other.sampled;
        self.boots += other.boots;
    }
}

impl std::fmt::Display for Tally {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} cuts; disks: {} that keep order (all), {} in any order (all), {} sampled above the \
             bound; {} differed and were booted",
            self.cuts, self.ordered, self.any, self.sampled, self.boots
        )
    }
}

/// The disks of one scenario.
pub(super) struct Disks<'a> {
    scenario: &'a Scenario,
    bounds: Bounds,
    seen: HashMap<u64, Settled>,
    latest: Option<(u64, Vec<State>)>,
    pub tally: Tally,
}

impl<'a> Disks<'a> {
    pub(super) fn new(scenario: &'a Scenario, bounds: Bounds) -> Self {
        Self {
            scenario,
            bounds,
            seen: HashMap::new(),
            latest: None,
            tally: Tally::default(),
        }
    }

    /// The power goes now: every disk that this can leave ends whole, and as was told.
    pub(super) fn cut(&mut self, world: &Simulated) {
        self.tally.cuts += 1;
        let told = self.scenario.told(world);
        let now = Some((world.disk.version(), told));
        if self.latest == now {
            // A call that only looked: every outcome has been tried.
            return;
        }
        self.latest = now;
        let (ordered, any) = (world.disk.ordered_ways(), world.disk.any_ways());
        assert!(
            ordered <= ORDERED_MAX,
            "{}: {ordered} outcomes at one cut",
            self.scenario.name
        );
        for number in 0..ordered {
            self.boot(world, Survives::Ordered(number));
        }
        self.tally.ordered += ordered;
        if any <= self.bounds.any_max {
            for number in 0..any {
                self.boot(world, Survives::Any(number));
            }
            self.tally.any += any;
        } else {
            for number in 0..self.bounds.samples {
                let seed = self.tally.cuts * CALLS_MAX + number;
                self.boot(world, Survives::Random(seed));
            }
            self.tally.sampled += self.bounds.samples;
        }
    }

    fn boot(&mut self, world: &Simulated, survives: Survives) {
        let mut disk = world.disk.clone();
        disk.power_cut(survives);
        let settled = self.seen.entry(disk.fingerprint()).or_insert_with(|| {
            self.tally.boots += 1;
            let mut world = world.clone();
            let settled = self.scenario.boots(&mut world, survives);
            self.scenario.leaves_others_alone(&world, settled.found);
            settled
        });
        let told = self.latest.as_ref().map_or(&[][..], |(_, told)| told);
        self.scenario.agrees(settled, told);
        if let Some(verdict) = told.iter().find(|state| state.is_final()) {
            let mut world = world.clone();
            world.disk = disk;
            self.scenario.leads(&world, verdict);
        }
    }
}

impl Scenario {
    /// What was told to have ended needs no recovery: what reads its files early in a boot, before one
    /// can run, finds those of the generation that was told.
    fn leads(&self, world: &Simulated, verdict: &State) {
        let gone = self.from() + self.to() - self.generation(verdict).unwrap();
        let led = world.disk_leads_to(self.generation(verdict).unwrap(), gone);
        led.unwrap_or_else(|why| {
            panic!(
                "SAFETY: {}: after {verdict:?} was told, a disk that is only read leads elsewhere: {why}",
                self.name
            )
        });
    }

    /// Runs `check` on the world as each cut of the transaction leaves it, and on the one that it leaves
    /// in the end.
    pub(super) fn at_every_cut(&self, check: impl FnMut(u64, &Simulated)) -> State {
        self.at_cuts(1, check)
    }

    /// The same for every so many-th cut.
    pub(super) fn at_cuts(&self, stride: usize, mut check: impl FnMut(u64, &Simulated)) -> State {
        for cut in (1..CALLS_MAX).step_by(stride) {
            let mut world = self.world.clone().cut_at(cut);
            let ended = world.until_the_cut(|world| self.transact(world));
            world.repair();
            check(cut, &world);
            if let Some(ended) = ended {
                let state = ended.unwrap();
                let expected = self.generation(&state);
                assert_eq!(
                    Some(world.generation_in_effect()),
                    expected,
                    "{}",
                    self.name
                );
                return state;
            }
        }
        panic!("LIVENESS: {} makes more than {CALLS_MAX} calls", self.name);
    }
}
