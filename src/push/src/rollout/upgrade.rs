//! An upgrade of the operating system over many hosts: each is asked what it would do, the gate is passed, and then
//! they upgrade wave by wave, one host alone first, until more hosts are not well than may be. Nothing is taken back: packages only go
//! forward. A host that is not begun with is untouched.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use push_wire::manifest::Provenance;
use push_wire::upgrade::{Offer, Reboot, Scope};

use super::each::each;
use super::overhaul::{carry_out, offered};
use super::patience::Patience;
use super::staging::meet;
use super::tally::{Contacts, Tally, end_all};
use super::waves::waves;
use super::{Access, Answer};
use crate::event::{ExitCode, Milestone, Outcome, Step, Stop, Verb};
use crate::inventory::Wave;
use crate::name::{EnvironmentName, HostName, ProjectName};
use crate::transport::Pending;

/// How an upgrade goes through its hosts.
#[derive(Debug, Clone)]
pub struct Upgrade {
    /// Whether it is carried out, or only shown: [`Verb::Upgrade`] or [`Verb::Offer`].
    pub verb: Verb,
    /// The environment.
    pub environment: EnvironmentName,
    /// The project whose inventory names the hosts.
    pub project: ProjectName,
    /// Who asks.
    pub provenance: Provenance,
    /// The sizes of the waves; one host alone goes before them.
    pub waves: Vec<Wave>,
    /// It stops when more hosts than this are not well.
    pub failures_max: u32,
    /// How far it goes.
    pub scope: Scope,
    /// When a host may be rebooted.
    pub reboot: Reboot,
    /// How long a host that somebody else holds is waited for.
    pub patience: Duration,
}

/// What each host would do; those with nothing to do among them.
pub type Offers = BTreeMap<HostName, Offer>;

/// What lets an upgrade through.
pub trait Consent: Sync {
    /// Whether this is to be done.
    fn decide<'a>(&'a self, offers: &'a Offers) -> Pending<'a, Answer>;
}

/// What came of an upgrade.
#[derive(Debug)]
pub struct Upgraded {
    /// What became of each host.
    pub outcomes: BTreeMap<HostName, Outcome>,
    /// What each host that could be asked would do, or did.
    pub offers: Offers,
    /// What the process exits with.
    pub exit: ExitCode,
}

/// Upgrades the hosts of `access`. Never fails: what became of each host is its outcome.
pub async fn upgrade(access: Arc<Access>, wanted: Upgrade, consent: &dyn Consent) -> Upgraded {
    let mut run = Run {
        tally: Tally::new(Arc::clone(&access), wanted.failures_max),
        patience: Patience::of(wanted.patience, &wanted.provenance.push),
        access: Arc::clone(&access),
        wanted: Arc::new(wanted),
        offers: Offers::new(),
    };
    access.announce(Milestone::Started {
        verb: run.wanted.verb,
        environment: run.wanted.environment.clone(),
        project: run.wanted.project.clone(),
        hosts: access.targets.keys().cloned().collect(),
    });
    let told = async {
        access.interrupt.asked().await;
        access.announce(Milestone::Interrupted);
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = run.run(consent) => {}
        () = told => {}
    }
    let exit = run.tally.end();
    Upgraded {
        outcomes: run.tally.outcomes,
        offers: run.offers,
        exit,
    }
}

/// Nothing is taken back, so one host goes first, whatever the inventory says of its waves.
fn one_first(sizes: &[Wave]) -> Vec<Wave> {
    [Wave::Hosts(1)]
        .into_iter()
        .chain(sizes.iter().copied())
        .collect()
}

struct Run {
    access: Arc<Access>,
    wanted: Arc<Upgrade>,
    patience: Patience,
    tally: Tally,
    offers: Offers,
}

impl Run {
    async fn run(&mut self, consent: &dyn Consent) {
        let contacts = self.ask_hosts().await;
        let contacts = self.release_unchanged(contacts).await;
        if self.wanted.verb == Verb::Offer {
            for (host, contact) in &contacts {
                let generation = contact.conversation.hello().manifest.generation;
                let pending = Outcome::Pending { generation };
                self.tally.finish(host.clone(), pending);
            }
            return end_all(contacts, self.access.parallel).await;
        }
        let mut stop = self.tally.stop();
        if contacts.is_empty() && stop.is_none() {
            return;
        }
        if stop.is_none() {
            stop = self.ask_operator(consent).await;
        }
        if let Some(stop) = stop {
            return self.tally.skip(contacts, stop).await;
        }
        self.access.announce(Milestone::Agreed);
        self.upgrade_all(contacts).await;
    }

    /// Connects to every host, and asks what it would do.
    async fn ask_hosts(&mut self) -> Contacts {
        let hosts = self.access.targets.keys();
        let hosts = hosts.map(|host| (host.clone(), ())).collect();
        let (access, scope) = (Arc::clone(&self.access), self.wanted.scope);
        let patience = self.patience.clone();
        let asked = each(hosts, self.access.parallel, move |host, ()| {
            let (access, mut patience) = (Arc::clone(&access), patience.clone());
            async move {
                let interrupt = access.interrupt.clone();
                let asking = async {
                    let permit = || -> Pending<'static, _> { Box::pin(async { Ok(()) }) };
                    let mut contact = meet(access, host, &permit, &patience).await?;
                    match offered(&mut contact, scope, &mut patience).await {
                        Ok(offer) => Ok((contact, offer)),
                        Err(outcome) => {
                            contact.end().await;
                            Err(outcome)
                        }
                    }
                };
                let asked = interrupt.unless_asked(asking).await;
                asked.unwrap_or(Err(Outcome::Interrupted))
            }
        })
        .await;
        let mut contacts = Contacts::new();
        for (host, (contact, offer)) in self.tally.sort(asked) {
            let changes = &offer.packages.changes;
            let step = Step::Offered {
                packages: changes.len(),
                security: changes.iter().filter(|change| change.security).count(),
                removals: offer.packages.removals.len(),
            };
            self.access.tell(&host, step);
            contacts.insert(host.clone(), contact);
            self.offers.insert(host, offer);
        }
        contacts
    }

    async fn release_unchanged(&mut self, contacts: Contacts) -> Contacts {
        let reboot = self.wanted.reboot;
        let (unchanged, changing): (Contacts, Contacts) = contacts
            .into_iter()
            .partition(|(host, _)| self.offers[host].is_empty(reboot));
        self.access.announce(Milestone::Planned {
            changing: changing.keys().cloned().collect(),
            unchanged: unchanged.keys().cloned().collect(),
        });
        for (host, contact) in &unchanged {
            let generation = contact.conversation.hello().manifest.generation;
            let outcome = Outcome::Unchanged { generation };
            self.tally.finish(host.clone(), outcome);
        }
        end_all(unchanged, self.access.parallel).await;
        changing
    }

    async fn ask_operator(&self, consent: &dyn Consent) -> Option<Stop> {
        let interrupt = &self.access.interrupt;
        match interrupt.unless_asked(consent.decide(&self.offers)).await {
            Some(Answer::Go) => None,
            Some(Answer::No { why }) => Some(Stop::Declined { why }),
            Some(Answer::Interrupted) | None => Some(Stop::Interrupted),
        }
    }

    async fn upgrade_all(&mut self, mut contacts: Contacts) {
        let hosts: Vec<HostName> = contacts.keys().cloned().collect();
        let waves = waves(&one_first(&self.wanted.waves), &hosts);
        for (at, wave) in waves.iter().enumerate() {
            self.access.announce(Milestone::Wave {
                number: at + 1,
                of: waves.len(),
                hosts: wave.clone(),
            });
            let members = wave
                .iter()
                .filter_map(|host| contacts.remove_entry(host))
                .collect();
            self.upgrade_wave(members).await;
            if let Some(stop) = self.tally.stop() {
                if !contacts.is_empty() || stop != Stop::Interrupted {
                    self.tally.skip(contacts, stop).await;
                }
                return;
            }
        }
    }

    async fn upgrade_wave(&mut self, members: Contacts) {
        let wanted = Arc::clone(&self.wanted);
        let orders: BTreeMap<HostName, _> = members
            .into_iter()
            .map(|(host, contact)| {
                let packages = self.offers[&host].packages.clone();
                (host, (contact, packages))
            })
            .collect();
        let patience = self.patience.clone();
        let ended = each(
            orders,
            self.access.parallel,
            move |_, (contact, packages)| {
                let (wanted, mut patience) = (Arc::clone(&wanted), patience.clone());
                async move {
                    let mut contact = contact;
                    let outcome = carry_out(&mut contact, (&wanted, packages), &mut patience).await;
                    contact.end().await;
                    outcome
                }
            },
        )
        .await;
        for (host, outcome) in ended {
            self.tally.finish(host, outcome);
        }
    }
}
