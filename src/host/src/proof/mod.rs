//! The promises of a transaction, proven on the simulated host: whatever fails, wherever, it ends
//! wholly at the old generation or wholly at the new one, and the journal says which.
//!
//! | file | proves |
//! |---|---|
//! | `cuts` | the power goes, or the process dies, before any call: of a transaction, a taking back, a prune, a recovery, a recovery from that |
//! | `disks` | every disk that a cut can leave, up to a bound that is counted |
//! | `faults` | any call fails, tools refuse, disks are full or read-only, clocks jump; one at every call, pairs by seed |
//! | `seeds` | all of that at once, chosen by seed |
//! | `race` | somebody confirms or asks at any call, around the deadline too |
//! | `syncs` | no sync could be left out |
//! | `lies` | a host that breaks a rule is found out: see below |
//! | `conduct` | what a transaction decides when nothing is cut: health, deadline, wishes, evidence |
//! | `tampering` | what is not as push left it is refused |
//! | `scenario` | the hosts, and what is asked of them; a new kind of declared thing belongs there, into `Slices` |
//!
//! Uploads and staging are cut in `serve::tests::cuts`.
//!
//! A failure says which kind of promise it breaks. **SAFETY**: half of one generation and half of another,
//! or somebody was told what is not so. **LIVENESS**: one recovery that nothing disturbs, or one boot, does
//! not end it.
//!
//! What is broken on purpose, and the test that then fails (`lies` does so at every run):
//!
//! | rule | broken by | fails |
//! |---|---|---|
//! | COMMITTED is durable before anybody is told | that sync does nothing | `cuts`: false verdict |
//! | a verdict is told only when nobody takes it away | a session that tells what it read and synced | `race`: told another end |
//! | a replaced file is there at every moment | a rename that removes first | `cuts` |
//! | every boot recovers | a boot without recovery | `cuts` |
//! | room for the way back is kept in advance | a reservation that keeps nothing | `faults`: a full disk |
//! | secrets go with the generation that used them | removed secrets stay | `cuts` |
//! | the deadline is on CLOCK_BOOTTIME | it follows the wall clock | `faults`: the clock jumps |
//! | nothing is synced in vain | each sync does nothing once | `syncs` |
//!
//! `PUSH_PROOF=all` tries everything, `PUSH_SEEDS=100000` as many seeds, `PUSH_SEED=17` that one, and
//! `PUSH_COUNTS=FILE` keeps the counts, as `tests/run` does.

use push_wire::journal::{Progress, State};

use crate::journal;
use crate::layout::Layout;
use crate::machine::Node;
use crate::machine::simulated::Simulated;
use crate::machine::simulated::pending::Survives;
use crate::recover::{RecoverError, recover};
use crate::transaction::{TransactionError, transact};

mod conduct;
pub(crate) mod counts;
mod cuts;
mod disks;
mod faults;
mod lies;
mod race;
mod scenario;
mod seeds;
mod syncs;
mod tampering;

use scenario::{Scenario, service};

/// More calls than anything makes that is proven here: a loop that does not end fails by it.
const CALLS_MAX: u64 = 20_000;

fn layout() -> Layout {
    Layout::new("/")
}

/// How much is tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Effort {
    /// What a developer waits for.
    Sample,
    /// Everything, as `tests/run` asks for it by `PUSH_PROOF=all`.
    All,
}

impl Effort {
    pub(crate) fn asked_for() -> Self {
        match std::env::var("PUSH_PROOF").as_deref() {
            Ok("all") => Self::All,
            Ok(_) | Err(_) => Self::Sample,
        }
    }

    /// One of two numbers, by effort.
    pub(crate) fn of<T>(self, sample: T, all: T) -> T {
        match self {
            Self::Sample => sample,
            Self::All => all,
        }
    }
}

/// What stands once everything has calmed down.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Settled {
    /// The generation in effect.
    found: u64,
    /// How the journal says that the transaction ended, if it knows it.
    recorded: Option<State>,
}

impl Scenario {
    fn transact(&self, world: &mut Simulated) -> Result<State, TransactionError> {
        transact(world, &layout(), &self.request)
    }

    fn from(&self) -> u64 {
        self.request.about.from.0
    }

    fn to(&self) -> u64 {
        self.request.about.to.0
    }

    /// The generation that a final state is about.
    fn generation(&self, state: &State) -> Option<u64> {
        match state {
            State::Committed => Some(self.to()),
            State::TakenBack(_) => Some(self.from()),
            State::Prepared | State::Switching | State::Probation(_) | State::TakingBack(_) => None,
        }
    }

    /// The host comes up again after a cut, undisturbed; then everything must be of one generation,
    /// and that the one which the journal and whoever was told say.
    fn boots_wholly(&self, world: &mut Simulated, (survives, told): (Survives, &[State])) {
        let settled = self.boots(world, survives);
        self.leaves_others_alone(world, settled.found);
        self.agrees(&settled, told);
    }

    /// The host comes up again, undisturbed.
    fn boots(&self, world: &mut Simulated, survives: Survives) -> Settled {
        world.power_on(survives);
        let recovered = recover(world, &layout());
        world.finish_boot();
        self.settles(world, &recovered)
    }

    /// Liveness: one recovery that nothing disturbs ends the transaction, wherever it stood. And what
    /// stands then is whole.
    fn settles(
        &self,
        world: &Simulated,
        recovered: &Result<Option<State>, RecoverError>,
    ) -> Settled {
        let name = self.name;
        let state = recovered.as_ref().unwrap_or_else(|error| {
            panic!(
                "LIVENESS: {name}: one undisturbed recovery does not end it: {error}; {:?}",
                world.warnings
            )
        });
        let found = world.generation_in_effect();
        let journal = journal::read(world, &layout()).unwrap();
        let last = journal.last().map(|last| &last.state);
        assert_eq!(
            state.as_ref(),
            last,
            "SAFETY: {name}: false verdict: the recovery and the journal differ"
        );
        let recorded = journal
            .latest(&self.request.switch.transaction)
            .map(|record| record.state.clone());
        if let Some(state) = &recorded {
            let expected = self.generation(state).unwrap_or_else(|| {
                panic!("LIVENESS: {name}: after an undisturbed recovery it is still {state:?}")
            });
            assert_eq!(found, expected, "SAFETY: {name}: false verdict: {state:?}");
        } else {
            assert_eq!(
                found,
                self.from(),
                "SAFETY: {name}: nothing is on record, and yet something is in effect"
            );
        }
        Settled { found, recorded }
    }

    /// What is not push's is as it was, unless the generation in effect declares it with the same content.
    fn leaves_others_alone(&self, world: &Simulated, found: u64) {
        for path in ["/etc/passwd", "/etc/shared.conf", "/etc/only-b.conf"] {
            let place = std::path::Path::new(path);
            let was = self.world.disk.stat(place).unwrap();
            if !was.is_some_and(|stat| stat.node == Node::File) {
                continue;
            }
            let (before, now) = (
                self.world.disk.read(place).ok(),
                world.disk.read(place).ok(),
            );
            assert_eq!(before, now, "SAFETY: {}: the content of {path}", self.name);
            let is_back = world.disk.stat(place).unwrap();
            assert!(
                found == self.to() || is_back == was,
                "SAFETY: {}: {path} is {is_back:?}, and was {was:?}",
                self.name
            );
        }
    }

    /// Safety: whatever anybody was told is what stands, and why it was taken back is what is recorded.
    fn agrees(&self, settled: &Settled, told: &[State]) {
        let name = self.name;
        for state in told {
            let recorded = settled.recorded.as_ref();
            if state.is_final() {
                assert_eq!(
                    Some(state),
                    recorded,
                    "SAFETY: {name}: false verdict: told one end and recorded another"
                );
            }
            if let State::TakingBack(cause) = state {
                assert_eq!(
                    Some(&State::TakenBack(cause.clone())),
                    recorded,
                    "SAFETY: {name}: told that it is taken back for one reason, and recorded another end"
                );
            }
        }
    }

    /// The states that were told by now.
    fn told(&self, world: &Simulated) -> Vec<State> {
        self.progress(world)
            .into_iter()
            .filter_map(|progress| match progress {
                Progress::State(state) => Some(state),
                Progress::Effect(_)
                | Progress::Confirmed
                | Progress::Health { .. }
                | Progress::Evidence(_)
                | Progress::Working { .. } => None,
            })
            .collect()
    }

    /// Everything that was told by now. What a full memory let nobody write to its end is no line.
    fn progress(&self, world: &Simulated) -> Vec<Progress> {
        let path = layout()
            .transaction(&self.request.switch.transaction)
            .progress();
        let text = world.disk.read(&path).unwrap_or_default();
        text.split(|byte| *byte == b'\n')
            .filter_map(|line| serde_json::from_slice(line).ok())
            .collect()
    }
}
