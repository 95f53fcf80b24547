//! What can happen to one host in a push, in about the order in which it does.

use std::collections::BTreeSet;

use push_wire::effect::Effect;
use push_wire::journal::{Cause, Evidence, State};
use push_wire::message::Holder;
use push_wire::name::{GenerationId, TransactionId};
use push_wire::risk::Risk;
use serde::Serialize;

use super::Outcome;
use crate::plan::Drift;

/// Something that happened to one host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Step {
    /// A connection is being made.
    Connecting,
    /// The host proved its key and let the operator in.
    Connected {
        /// Milliseconds since the connection was begun.
        took_ms: u64,
    },
    /// push-host is not there and is being installed.
    Installing {
        /// The machine that it is built for.
        machine: String,
        /// The bytes that travel.
        bytes: u64,
    },
    /// push-host is not there; it is run once to say what the host is, and is not installed.
    Looking {
        /// The machine that it is built for.
        machine: String,
        /// The bytes that travel.
        bytes: u64,
    },
    /// push-host is another one than this build carries and is being replaced.
    Upgrading {
        /// The version that is there. Untrusted text.
        from: String,
        /// The bytes that travel.
        bytes: u64,
    },
    /// The host has said what it is and what it holds.
    Greeted {
        /// Milliseconds since push-host was called.
        took_ms: u64,
        /// What is in effect there.
        generation: GenerationId,
    },
    /// A transaction was found there that nobody carried on, and the host has recovered it.
    Recovered {
        /// Its name.
        transaction: TransactionId,
        /// How it stood when the host told of it.
        state: State,
    },
    /// What this push would do to the host is known.
    Planned(Summary),
    /// Nothing changes, and what the host has is not what was pushed.
    Drifted {
        /// What is not.
        drift: Drift,
    },
    /// Somebody else is at it; this push waits for them.
    Waiting {
        /// Who. Untrusted text.
        holder: Holder,
        /// Whose push it is.
        whose: Whose,
    },
    /// The host makes groundwork: packages, logins, names. It stays when the rest is taken back.
    Working {
        /// What it is at. Untrusted text.
        what: String,
    },
    /// The host has compared what it holds with what it is to hold.
    Staging {
        /// The bytes that it lacks, packed.
        bytes: u64,
        /// How many of them it still has from an earlier try.
        held: u64,
    },
    /// Some of these bytes are on their way.
    Sent {
        /// So many so far, those from an earlier try included.
        sent: u64,
        /// Of so many.
        bytes: u64,
    },
    /// The new generation is complete, durable and checked. Nothing is live.
    Checked {
        /// Its number.
        generation: GenerationId,
        /// What the checking tools warned of. Untrusted text.
        warnings: Vec<String>,
    },
    /// The host has been told to switch.
    Switching {
        /// The generation that is to be in effect.
        generation: GenerationId,
        /// The name of this run.
        transaction: TransactionId,
    },
    /// An effect is being run.
    Running {
        /// Which.
        effect: Effect,
    },
    /// The new generation is in effect and on trial.
    Probation {
        /// Whether it also needs the operator to come in again.
        confirm: Confirm,
    },
    /// A health probe was answered.
    Health {
        /// The app. Untrusted text.
        app: String,
        /// How many in a row have passed.
        passed: u32,
        /// How many are wanted.
        wanted: u32,
        /// The answer, if it did not pass. Untrusted text.
        answer: Option<String>,
    },
    /// The operator comes in again over a new connection.
    Confirming,
    /// Coming in again did not work this time; it is tried until the host's deadline.
    NotConfirmed {
        /// Why.
        why: String,
    },
    /// The operator came in again; the host knows.
    Confirmed,
    /// The host goes back to what it was.
    TakingBack {
        /// Why.
        cause: Cause,
    },
    /// What the host found before it undid anything.
    Evidence {
        /// All text of it is untrusted.
        evidence: Box<Evidence>,
    },
    /// The connection was lost; the host is being called again.
    Reconnecting {
        /// How far the host was, which says what the loss means.
        during: Phase,
        /// Counts from 1.
        attempt: u32,
        /// What happened to the connection.
        why: String,
    },
    /// The host was committed in this push and is being brought back to its former generation,
    /// because others failed.
    Restoring {
        /// The generation whose content comes back.
        to: GenerationId,
    },
    /// The host has told what an upgrade of its operating system would do.
    Offered {
        /// How many packages would be installed.
        packages: usize,
        /// How many of them come from a security archive.
        security: usize,
        /// How many packages would be removed.
        removals: usize,
    },
    /// The host has been told to upgrade its operating system.
    SystemUpgrade {
        /// The name of this run.
        transaction: TransactionId,
    },
    /// The host upgrades its operating system.
    UpgradeRuns {
        /// What it is at. Untrusted text.
        what: String,
    },
    /// The host reboots; it is called until it answers from another boot.
    Rebooting,
    /// Nothing more will happen to this host in this push.
    Finished {
        /// What became of it.
        #[serde(flatten)]
        outcome: Outcome,
        /// Milliseconds since its connection was begun.
        took_ms: u64,
    },
}

/// How far a host was when its connection was lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// It has not been told to switch: nothing goes on there, and what arrived is kept.
    Staging,
    /// It has been told to switch, and goes on alone.
    Switching,
    /// It upgrades its operating system, and goes on alone.
    Upgrading,
}

/// Whose push has a host's lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Whose {
    /// This one's, over a connection that was lost and that the host has not given up yet.
    Ours,
    /// Another one's.
    Others,
}

/// Whether a trial also needs the operator to come in again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Confirm {
    /// Health alone decides.
    NotNeeded,
    /// Nothing stays unless the operator comes in over a new connection.
    Needed,
}

/// A plan in numbers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// The generation that the plan was made against.
    pub base: GenerationId,
    /// Declared things that are new.
    pub added: usize,
    /// Declared things that become different.
    pub changed: usize,
    /// Declared things that go.
    pub removed: usize,
    /// What will be run, in order.
    pub effects: Vec<Effect>,
    /// What could lock the operator out.
    pub risks: BTreeSet<Risk>,
}
