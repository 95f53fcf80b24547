//! The states of a transaction, what moves it from one to the next, and the records by which the
//! host remembers them. The host's journal is the only judge of what happened.
//!
//! ```text
//! Prepared ─▶ Switching ─▶ Probation ─▶ Committed
//!                 │             │
//!                 └─────────────┴──▶ TakingBack ─▶ TakenBack
//! ```

use serde::{Deserialize, Serialize};

use crate::manifest::Provenance;
use crate::name::{GenerationId, ProjectName, TransactionId};

/// Where a transaction stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// The new generation is staged and durable; nothing is live.
    Prepared,
    /// The link is about to be renamed, or has been, and effects are running.
    Switching,
    /// The new generation is in effect and on trial.
    Probation(Probation),
    /// The new generation stays.
    Committed,
    /// The old generation is about to come back, or has, and effects are running.
    TakingBack(Cause),
    /// The old generation is in effect again.
    TakenBack(Cause),
}

/// A trial that ends at a deadline unless the operator comes in again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Probation {
    /// The boot that the deadline belongs to.
    pub boot_id: String,
    /// The deadline on CLOCK_BOOTTIME in milliseconds; `None` when health alone decides.
    pub deadline_ms: Option<u64>,
}

/// Why a transaction was taken back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// An effect failed.
    Effect {
        /// What was to be run.
        effect: String,
        /// What came of it.
        why: String,
    },
    /// An app did not become healthy.
    Unhealthy {
        /// The app.
        app: String,
        /// The last answer.
        why: String,
    },
    /// Nobody came in over a new connection before the deadline.
    Unconfirmed,
    /// The operator asked for it.
    Asked,
    /// The host went down before the commit.
    Restarted,
    /// The host's own disk or program failed.
    Host {
        /// What failed.
        why: String,
    },
}

impl std::fmt::Display for Cause {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Effect { effect, why } => write!(f, "could not {effect}: {why}"),
            Self::Unhealthy { app, why } => write!(f, "{app} did not become healthy: {why}"),
            Self::Unconfirmed => {
                f.write_str("nobody came in over a new connection before the deadline")
            }
            Self::Asked => f.write_str("the operator asked for it"),
            Self::Restarted => f.write_str("the host went down before the commit"),
            Self::Host { why } => write!(f, "the host itself failed: {why}"),
        }
    }
}

/// What happens to a transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The host begins.
    Begin,
    /// All effects have run; the trial starts.
    Switched(Probation),
    /// Every app is healthy, and where it is asked for the operator has come in again.
    Passed,
    /// Something went wrong, or nobody came in again.
    Failed(Cause),
    /// The old generation is in effect again.
    Restored,
}

/// An event that has no meaning in a state.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{event:?} cannot happen to a transaction that is {state:?}")]
pub struct Illegal {
    /// The state.
    pub state: State,
    /// The event.
    pub event: Event,
}

impl State {
    /// What the transaction is after `event`. The one place that decides what is legal.
    pub fn after(self, event: Event) -> Result<State, Illegal> {
        match (self, event) {
            (State::Prepared, Event::Begin) => Ok(State::Switching),
            (State::Switching, Event::Switched(probation)) => Ok(State::Probation(probation)),
            (State::Probation(_), Event::Passed) => Ok(State::Committed),
            (State::Prepared | State::Switching | State::Probation(_), Event::Failed(cause)) => {
                Ok(State::TakingBack(cause))
            }
            // Taking back again, after a crash, goes on for the reason that is already on record.
            (State::TakingBack(cause), Event::Failed(_)) => Ok(State::TakingBack(cause)),
            (State::TakingBack(cause), Event::Restored) => Ok(State::TakenBack(cause)),
            (state, event) => Err(Illegal { state, event }),
        }
    }

    /// Whether nothing more will happen.
    pub fn is_final(&self) -> bool {
        match self {
            State::Committed | State::TakenBack(_) => true,
            State::Prepared | State::Switching | State::Probation(_) | State::TakingBack(_) => {
                false
            }
        }
    }

    /// Whether the new generation stays.
    pub fn is_committed(&self) -> bool {
        matches!(self, State::Committed)
    }
}

/// One record of the journal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Rises by one from record to record.
    pub sequence: u64,
    /// The transaction.
    pub transaction: TransactionId,
    /// The host's clock, seconds since 1970; for people, nothing is decided by it.
    pub at_unix_s: u64,
    /// Where it stands now.
    pub state: State,
    /// What it is about; written with the first record of a transaction.
    pub about: Option<About>,
}

/// What a transaction is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct About {
    /// The generation that was in effect.
    pub from: GenerationId,
    /// The generation that is to be.
    pub to: GenerationId,
    /// The project that asked.
    pub project: ProjectName,
    /// The generation whose content comes back, if this is a rollback.
    pub restores: Option<GenerationId>,
    /// Who asked.
    pub provenance: Provenance,
    /// How long the operator has to come in again, in milliseconds; `None` when that is not needed.
    pub confirm_within_ms: Option<u64>,
    /// The SHA-256 of the nonce that a confirmation must carry.
    pub nonce: crate::digest::Digest,
}

/// What a host tells while a transaction runs. Only [`Progress::State`] is a record of the journal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Progress {
    /// The journal has a new record.
    State(State),
    /// An effect begins.
    Effect(crate::effect::Effect),
    /// The operator has come in again, in time.
    Confirmed,
    /// A probe was answered.
    Health {
        /// The app.
        app: String,
        /// How many in a row have passed.
        passed: u32,
        /// How many are wanted.
        wanted: u32,
        /// The answer, if it did not pass.
        answer: Option<String>,
    },
    /// What was found on the host before it took itself back.
    Evidence(Box<Evidence>),
    /// What apt or dpkg is at, during an upgrade. Untrusted text.
    Working {
        /// What.
        what: String,
    },
}

/// What a host knows about a failure; collected before anything is undone. All text is untrusted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Evidence {
    /// The app or effect that failed.
    pub subject: String,
    /// Each unit with what systemd says of it.
    pub units: Vec<UnitState>,
    /// The last lines of the units' journal since activation.
    pub journal: Vec<String>,
    /// The probe's last answer.
    pub answer: Option<String>,
    /// TCP sockets that listen: address and port.
    pub listening: Vec<String>,
    /// File systems that are nearly full.
    pub disk: Vec<String>,
}

/// A unit as systemd sees it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnitState {
    /// The unit.
    pub unit: String,
    /// `ActiveState`.
    pub active: String,
    /// `SubState`.
    pub sub: String,
    /// `Result`.
    pub result: String,
    /// `ExecMainStatus`.
    pub exit_status: String,
    /// `NRestarts`.
    pub restarts: u32,
    /// `InvocationID`.
    pub invocation: String,
    /// Seconds since it became active, if it is.
    pub active_for_s: Option<u64>,
    /// `MemoryCurrent` in bytes, if systemd counts it.
    pub memory_bytes: Option<u64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_final_state_takes_no_further_event() {
        let probation = Probation {
            boot_id: String::new(),
            deadline_ms: None,
        };
        for state in [State::Committed, State::TakenBack(Cause::Asked)] {
            for event in [
                Event::Begin,
                Event::Switched(probation.clone()),
                Event::Passed,
                Event::Failed(Cause::Asked),
                Event::Restored,
            ] {
                assert!(
                    state.clone().after(event.clone()).is_err(),
                    "{state:?} {event:?}"
                );
            }
        }
    }

    #[test]
    fn only_a_trial_can_end_in_a_commit() {
        let probation = Probation {
            boot_id: String::new(),
            deadline_ms: None,
        };
        for state in [
            State::Prepared,
            State::Switching,
            State::TakingBack(Cause::Asked),
        ] {
            assert!(state.after(Event::Passed).is_err());
        }
        assert_eq!(
            State::Probation(probation).after(Event::Passed),
            Ok(State::Committed)
        );
    }

    #[test]
    fn the_first_cause_of_taking_back_is_the_one_on_record() {
        let state = State::TakingBack(Cause::Unconfirmed)
            .after(Event::Failed(Cause::Restarted))
            .unwrap();
        assert_eq!(
            state.after(Event::Restored),
            Ok(State::TakenBack(Cause::Unconfirmed))
        );
    }
}
