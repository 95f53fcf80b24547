//! What can happen to a push as a whole.

use serde::Serialize;

use super::ExitCode;
use crate::name::{EnvironmentName, HostName, ProjectName};

/// Something that happened to the push.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Milestone {
    /// It begins.
    Started {
        /// What is done.
        verb: Verb,
        /// Where.
        environment: EnvironmentName,
        /// For which project.
        project: ProjectName,
        /// On which hosts.
        hosts: Vec<HostName>,
    },
    /// Every host that could be asked has been held against what is wanted.
    Planned {
        /// The hosts that will change.
        changing: Vec<HostName>,
        /// The hosts that are as they should be.
        unchanged: Vec<HostName>,
    },
    /// The gate let the push through.
    Agreed,
    /// Every host holds its new generation, checked. Nothing is live.
    Staged {
        /// The hosts of each wave to come.
        waves: Vec<Vec<HostName>>,
    },
    /// A wave begins to switch.
    Wave {
        /// Counts from 1.
        number: usize,
        /// How many there are.
        of: usize,
        /// The hosts that switch together.
        hosts: Vec<HostName>,
    },
    /// No further host will be switched.
    Stopped {
        /// Why.
        why: Stop,
    },
    /// Hosts that this push had committed go back, because others failed.
    Undoing {
        /// Which.
        hosts: Vec<HostName>,
    },
    /// The operator asked to stop. Hosts that are switching are asked to take back.
    Interrupted,
    /// The operator asked twice: nobody watches any more.
    Left {
        /// The hosts that settle alone. Each was asked to take back; one that has not heard of it
        /// commits when it is healthy and nobody has to come in again, and else takes itself back.
        alone: Vec<HostName>,
    },
    /// It is over.
    Ended {
        /// What the process will exit with.
        exit: ExitCode,
        /// How many hosts ended how.
        counts: Counts,
        /// Milliseconds since it began.
        took_ms: u64,
        /// Bytes from the laptop to the hosts, encryption included.
        sent: u64,
        /// Bytes from the hosts to the laptop, encryption included.
        received: u64,
    },
}

/// What is done to an environment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verb {
    /// The declared state is brought there.
    Deploy,
    /// It is only found out what a deploy would do.
    Plan,
    /// An earlier generation is brought back.
    Rollback,
    /// Fresh machines are made into hosts.
    Bootstrap,
    /// The operating system gets newer.
    Upgrade,
    /// It is only found out what an upgrade would do.
    Offer,
}

/// Why no further host is switched.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "reason", rename_all = "snake_case")]
pub enum Stop {
    /// More hosts failed than may.
    Failures {
        /// Which.
        hosts: Vec<HostName>,
        /// How many may fail (`max_failures`).
        max: u32,
    },
    /// A host refused what it was to hold; so no host is switched.
    Refused {
        /// Which.
        hosts: Vec<HostName>,
    },
    /// The operator, or a gate, said no.
    Declined {
        /// Why.
        why: String,
    },
    /// The operator asked to stop.
    Interrupted,
}

/// How many hosts ended how.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// As they should be, before and after.
    pub unchanged: usize,
    /// At their new generation, by their journal.
    pub committed: usize,
    /// Not touched: failed, refused, unreachable, skipped.
    pub untouched: usize,
    /// At their old generation again, by their journal.
    pub restored: usize,
    /// Nobody knows.
    pub in_doubt: usize,
    /// Upgraded, and well.
    pub upgraded: usize,
    /// Not well after a part or all of an upgrade, which stays.
    pub broken: usize,
}
