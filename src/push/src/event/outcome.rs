//! What became of one host. Claims nothing that the host's journal did not say: only its verdict
//! makes [`Outcome::Committed`] and [`Outcome::TakenBack`].

use push_wire::journal::{Cause, Evidence, State};
use push_wire::message::{Holder, Refusal};
use push_wire::name::{GenerationId, TransactionId};
use push_wire::upgrade::Stage;
use serde::Serialize;

use super::{Stop, Whose};

/// What became of one host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum Outcome {
    /// It is as it should be; nothing was written there.
    Unchanged {
        /// What is in effect.
        generation: GenerationId,
    },
    /// It would change, and it was only asked what would (`push plan`).
    Pending {
        /// What is in effect.
        generation: GenerationId,
    },
    /// Its journal says that the new generation stays.
    Committed {
        /// What was in effect.
        from: GenerationId,
        /// What is in effect.
        to: GenerationId,
    },
    /// It could not be connected to. Nothing was changed.
    Unreachable {
        /// Why, and what to do.
        obstacle: Obstacle,
    },
    /// Something was in the way before the switch. Nothing was changed.
    Failed {
        /// Why, and what to do.
        obstacle: Obstacle,
    },
    /// The host refused. Nothing was changed.
    Refused {
        /// Why. Holds untrusted text.
        refusal: Box<Refusal>,
    },
    /// Somebody else is at it. Nothing was changed.
    Locked {
        /// Who. Untrusted text.
        holder: Holder,
        /// Whose push it is.
        whose: Whose,
    },
    /// Its journal says that the old generation is in effect again.
    TakenBack {
        /// What is in effect again.
        back_at: GenerationId,
        /// Why.
        cause: Cause,
        /// What the host found before it undid anything. Untrusted text.
        evidence: Option<Box<Evidence>>,
    },
    /// It was committed in this push, and went back because others failed (`undo`).
    Restored {
        /// The generation whose content is in effect again.
        content_of: GenerationId,
        /// The number under which it is.
        now_at: GenerationId,
    },
    /// It was committed in this push, others failed, and it could not be brought back.
    NotRestored {
        /// What is in effect, if that is known: the generation of this push.
        committed: GenerationId,
        /// What came of bringing it back.
        restoration: Restoration,
    },
    /// Nobody knows. The host settles alone; its journal can be asked.
    InDoubt {
        /// The run that is in doubt.
        transaction: TransactionId,
        /// The last that the host said of it.
        last: Option<State>,
        /// Why it is not known.
        why: String,
        /// How long, from the switch on, somebody may come in again before the host takes itself
        /// back, in milliseconds; `None` when health alone decides.
        confirm_within_ms: Option<u64>,
    },
    /// Its operating system is upgraded, and it is well.
    Upgraded {
        /// How many packages were installed or removed.
        packages: usize,
        /// How many services were restarted.
        restarted: usize,
        /// Whether it was rebooted.
        rebooted: Rebooted,
        /// Why it still needs a reboot. Untrusted text.
        reboot: Vec<String>,
    },
    /// Its operating system was to be upgraded, and it is not well; what was installed stays.
    NotUpgraded {
        /// Where it went wrong.
        at: Stage,
        /// What. Untrusted text.
        why: String,
        /// What the host found. Untrusted text.
        evidence: Option<Box<Evidence>>,
    },
    /// Its operating system is being upgraded, and nobody knows how that ends.
    UpgradeInDoubt {
        /// The run.
        transaction: TransactionId,
        /// Why it is not known.
        why: String,
    },
    /// It was not its turn any more. Nothing was changed.
    Skipped {
        /// Why.
        why: Skip,
    },
    /// The operator asked to stop before its switch. Nothing was changed.
    Interrupted,
}

/// Whether an upgrade rebooted its host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Rebooted {
    /// It did.
    Yes,
    /// It did not.
    No,
}

/// Why a host's turn did not come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "skipped", rename_all = "snake_case")]
pub enum Skip {
    /// The push stopped before.
    Stopped {
        /// Why.
        stop: Stop,
    },
}

/// What came of bringing a committed host back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "restoration", rename_all = "snake_case")]
pub enum Restoration {
    /// It did not begin; the host is where this push left it.
    Failed {
        /// Why, and what to do.
        obstacle: Obstacle,
    },
    /// The host refused it, so it is where this push left it.
    Refused {
        /// Why. Holds untrusted text.
        refusal: Box<Refusal>,
    },
    /// The former generation did not hold either, so the host is where this push left it.
    TakenBack {
        /// Why.
        cause: Cause,
    },
    /// Nobody knows.
    InDoubt {
        /// The run that is in doubt.
        transaction: TransactionId,
    },
}

/// Something in the way: what is wrong, and what to do next.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Obstacle {
    /// What it is about; decides the exit code.
    pub kind: ObstacleKind,
    /// A stable name of the error, such as `push::transport::lost`.
    pub code: String,
    /// What is wrong and why.
    pub why: String,
    /// The next thing to type.
    pub help: String,
}

/// What an obstacle is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ObstacleKind {
    /// The host cannot be reached, or was lost.
    Reach,
    /// A secret is missing or cannot be opened.
    Secret,
    /// What is wanted does not go with what the host is.
    Gate,
    /// Anything else that kept the host from being begun with.
    Start,
}

impl Outcome {
    /// Whether the host counts against `max_failures`.
    pub fn is_failure(&self) -> bool {
        match self {
            Self::Unchanged { .. }
            | Self::Pending { .. }
            | Self::Committed { .. }
            | Self::Upgraded { .. }
            | Self::Skipped { .. }
            | Self::Interrupted => false,
            Self::Unreachable { .. }
            | Self::Failed { .. }
            | Self::Refused { .. }
            | Self::Locked { .. }
            | Self::TakenBack { .. }
            | Self::Restored { .. }
            | Self::NotRestored { .. }
            | Self::NotUpgraded { .. }
            | Self::UpgradeInDoubt { .. }
            | Self::InDoubt { .. } => true,
        }
    }

    /// Whether the host settles alone, and nobody knows how.
    pub fn is_in_doubt(&self) -> bool {
        matches!(
            self,
            Self::InDoubt { .. }
                | Self::UpgradeInDoubt { .. }
                | Self::NotRestored {
                    restoration: Restoration::InDoubt { .. },
                    ..
                }
        )
    }

    /// Whether the host is in the state that the push was to bring about.
    pub fn is_success(&self) -> bool {
        matches!(
            self,
            Self::Unchanged { .. } | Self::Committed { .. } | Self::Upgraded { .. }
        )
    }
}
