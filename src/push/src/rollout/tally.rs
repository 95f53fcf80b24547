//! What became of the hosts of a run so far, what that means for the others, and the end of it: the same for a
//! push and for an upgrade of the operating system.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::time::Instant;

use super::Access;
use super::contact::{Contact, ms};
use super::each::each;
use crate::event::{Counts, ExitCode, Milestone, Outcome, Skip, Step, Stop, exit_code};
use crate::name::HostName;

/// The hosts of a run that are connected.
pub type Contacts = BTreeMap<HostName, Contact>;

/// What became of each host so far.
pub struct Tally {
    pub access: Arc<Access>,
    /// The run stops when more hosts than this have failed.
    pub failures_max: u32,
    pub outcomes: BTreeMap<HostName, Outcome>,
    began: Instant,
}

/// Tells what became of hosts.
#[derive(Clone)]
pub struct Teller {
    access: Arc<Access>,
    began: Instant,
}

impl Teller {
    /// Tells what became of a host, to which nothing more will happen.
    pub fn tell(&self, host: &HostName, outcome: &Outcome) {
        let finished = Step::Finished {
            outcome: outcome.clone(),
            took_ms: ms(self.began),
        };
        self.access.tell(host, finished);
    }
}

impl Tally {
    /// Nothing has become of any host yet.
    pub fn new(access: Arc<Access>, failures_max: u32) -> Self {
        Self {
            access,
            failures_max,
            outcomes: BTreeMap::new(),
            began: Instant::now(),
        }
    }

    /// Nothing more will happen to a host.
    pub fn finish(&mut self, host: HostName, outcome: Outcome) {
        self.teller().tell(&host, &outcome);
        self.keep(host, outcome);
    }

    /// Takes an outcome that has been told.
    pub fn keep(&mut self, host: HostName, outcome: Outcome) {
        self.outcomes.insert(host, outcome);
    }

    /// Tells outcomes as they come, while other hosts are still at it.
    pub fn teller(&self) -> Teller {
        Teller {
            access: Arc::clone(&self.access),
            began: self.began,
        }
    }

    /// Keeps what succeeded, and takes the outcomes of what did not.
    pub fn sort<T>(
        &mut self,
        results: BTreeMap<HostName, Result<T, Outcome>>,
    ) -> BTreeMap<HostName, T> {
        let mut kept = BTreeMap::new();
        for (host, result) in results {
            match result {
                Ok(value) => {
                    kept.insert(host, value);
                }
                Err(outcome) => self.finish(host, outcome),
            }
        }
        kept
    }

    /// The hosts of which something is true.
    pub fn hosts(&self, which: impl Fn(&Outcome) -> bool) -> Vec<HostName> {
        let found = self.outcomes.iter().filter(|(_, outcome)| which(outcome));
        found.map(|(host, _)| host.clone()).collect()
    }

    /// Why no further host may be begun with, if so.
    pub fn stop(&self) -> Option<Stop> {
        if self.access.interrupt.is_asked() {
            return Some(Stop::Interrupted);
        }
        let hosts = self.hosts(Outcome::is_failure);
        let max = self.failures_max;
        let is_too_many = hosts.len() > usize::try_from(max).unwrap_or(usize::MAX);
        is_too_many.then_some(Stop::Failures { hosts, max })
    }

    /// Ends hosts whose turn will not come.
    pub async fn skip(&mut self, contacts: Contacts, stop: Stop) {
        self.access
            .announce(Milestone::Stopped { why: stop.clone() });
        for host in contacts.keys() {
            let outcome = match &stop {
                Stop::Interrupted => Outcome::Interrupted,
                Stop::Failures { .. } | Stop::Refused { .. } | Stop::Declined { .. } => {
                    let why = Skip::Stopped { stop: stop.clone() };
                    Outcome::Skipped { why }
                }
            };
            self.finish(host.clone(), outcome);
        }
        end_all(contacts, self.access.parallel).await;
    }

    /// Tells of the end, and returns what the process exits with.
    pub fn end(&self) -> ExitCode {
        if self.access.interrupt.is_left() {
            let alone = self.hosts(Outcome::is_in_doubt);
            self.access.announce(Milestone::Left { alone });
        }
        let exit = exit_code(self.outcomes.values());
        let traffic = self.access.traffic.total();
        self.access.announce(Milestone::Ended {
            exit,
            counts: Counts::of(self.outcomes.values()),
            took_ms: ms(self.began),
            sent: traffic.sent,
            received: traffic.received,
        });
        exit
    }
}

/// Ends the conversations and the connections of hosts.
pub async fn end_all(contacts: Contacts, parallel: usize) {
    each(contacts, parallel, |_, contact| contact.end()).await;
}
