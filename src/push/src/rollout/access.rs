//! How the hosts of a push are reached, and who is told of it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::Interrupt;
use crate::conversation::{Presence, Programs};
use crate::event::{Event, Listener, Milestone, Step};
use crate::name::{EnvironmentName, HostName};
use crate::transport::{Dialer, Target, Traffic};

/// How many hosts are worked on at once when nothing else is said.
pub const PARALLEL_MAX: usize = 32;

/// Everything that is needed to reach hosts. Shared by all tasks of a push.
pub struct Access {
    /// Their environment.
    pub environment: EnvironmentName,
    /// Makes connections.
    pub dialer: Arc<dyn Dialer>,
    /// The hosts of this push, and where they are.
    pub targets: BTreeMap<HostName, Target>,
    /// Where the operator comes in again, for hosts whose switch makes that another way than the first:
    /// another login, mostly. It is also tried where the first way's login is refused.
    pub returns: BTreeMap<HostName, Target>,
    /// The programs that this build carries; mostly [`crate::embedded::program`].
    pub programs: Programs,
    /// What may be done about a push-host that is missing or another one.
    pub presence: Presence,
    /// Who is told.
    pub listener: Arc<dyn Listener>,
    /// Whether the operator wants to stop.
    pub interrupt: Interrupt,
    /// How many hosts are worked on at once; at least one is.
    pub parallel: usize,
    /// The bytes of connections that have ended.
    pub traffic: Ledger,
}

/// Sums up the bytes of connections as they end.
#[derive(Debug, Default)]
pub struct Ledger {
    sent: AtomicU64,
    received: AtomicU64,
}

impl Ledger {
    /// Adds what went over a connection.
    pub(super) fn add(&self, traffic: Traffic) {
        self.sent.fetch_add(traffic.sent, Ordering::Relaxed);
        self.received.fetch_add(traffic.received, Ordering::Relaxed);
    }

    /// What went over all connections that have ended.
    pub fn total(&self) -> Traffic {
        Traffic {
            sent: self.sent.load(Ordering::Relaxed),
            received: self.received.load(Ordering::Relaxed),
        }
    }
}

impl Access {
    /// Tells something of one host.
    pub(super) fn tell(&self, host: &HostName, step: Step) {
        self.listener.hear(Event::on(host, step));
    }

    /// Tells something of the push.
    pub(super) fn announce(&self, milestone: Milestone) {
        self.listener.hear(Event::Push(milestone));
    }
}
