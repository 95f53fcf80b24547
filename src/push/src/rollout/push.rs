//! The phases of a push, in order: greet, plan, gate, stage, switch wave by wave, undo, end.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::contact::{Contact, failed};
use super::each::each;
use super::patience::Patience;
use super::planning::plan;
use super::policy::{Policy, Pushed};
use super::restoring::{Before, Former, restore};
use super::staging::{meet, off_the_async_threads, stage};
use super::switching::Order;
use super::tally::{Contacts, Tally, end_all};
use super::turn::{Ready, outcome, take};
use super::waves::waves;
use super::{Access, Answer, Change, Gate, Intent, Plans};
use crate::event::{Confirm, Milestone, Obstacle, ObstacleKind, Outcome, Step, Stop, Verb};
use crate::inventory::Undo;
use crate::name::HostName;
use crate::transport::Pending;

/// A host that this push has committed.
struct Committed {
    contact: Contact,
    former: Former,
}

struct Push<I: Intent> {
    access: Arc<Access>,
    intent: Arc<I>,
    policy: Policy,
    patience: Patience,
    tally: Tally,
    plans: Plans<I::Plan>,
}

/// Pushes `intent` to the hosts of `access`. Never fails: what became of each host is its outcome.
pub async fn push<I: Intent>(
    access: Arc<Access>,
    intent: Arc<I>,
    policy: Policy,
    gate: &dyn Gate<I::Plan>,
) -> Pushed<I::Plan> {
    let mut push = Push {
        tally: Tally::new(Arc::clone(&access), policy.failures_max),
        patience: Patience::of(policy.patience, &policy.provenance.push),
        access: Arc::clone(&access),
        intent,
        policy,
        plans: BTreeMap::new(),
    };
    push.announce_start();
    let told = async {
        access.interrupt.asked().await;
        access.announce(Milestone::Interrupted);
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = push.run(gate) => {}
        () = told => {}
    }
    push.ended()
}

impl<I: Intent> Push<I> {
    async fn run(&mut self, gate: &dyn Gate<I::Plan>) {
        let contacts = self.greet().await;
        let Some(contacts) = self.go_on(contacts).await else {
            return;
        };
        let contacts = self.plan(contacts).await;
        let contacts = self.release_unchanged(contacts).await;
        if self.policy.verb == Verb::Plan {
            return self.pending(contacts).await;
        }
        let Some(contacts) = self.go_on(contacts).await else {
            return;
        };
        if contacts.is_empty() {
            return;
        }
        if let Some(stop) = self.ask(gate).await {
            return self.tally.skip(contacts, stop).await;
        }
        self.access.announce(Milestone::Agreed);
        let ready = self.stage(contacts).await;
        if let Some(stop) = self.stop_before_switch() {
            let contacts = ready.into_iter().map(|(host, ready)| (host, ready.contact));
            return self.tally.skip(contacts.collect(), stop).await;
        }
        self.switch_all(ready).await;
    }

    fn announce_start(&self) {
        self.access.announce(Milestone::Started {
            verb: self.policy.verb,
            environment: self.policy.environment.clone(),
            project: self.policy.project.clone(),
            hosts: self.access.targets.keys().cloned().collect(),
        });
    }

    /// Connects to every host.
    async fn greet(&mut self) -> Contacts {
        let hosts = self
            .access
            .targets
            .keys()
            .map(|host| (host.clone(), ()))
            .collect();
        let (access, intent) = (Arc::clone(&self.access), Arc::clone(&self.intent));
        let patience = self.patience.clone();
        let greeted = each(hosts, self.access.parallel, move |host, ()| {
            let (access, intent) = (Arc::clone(&access), Arc::clone(&intent));
            let patience = patience.clone();
            async move {
                let interrupt = access.interrupt.clone();
                let permit = || -> Pending<'static, _> {
                    let intent = Arc::clone(&intent);
                    Box::pin(off_the_async_threads(move || intent.ready()))
                };
                let met = meet(access, host, &permit, &patience);
                let made = interrupt.unless_asked(met).await;
                made.unwrap_or(Err(Outcome::Interrupted))
            }
        })
        .await;
        self.tally.sort(greeted)
    }

    /// The contacts, unless the push has to stop here; then they are skipped. A mere plan goes on
    /// with the hosts that there are.
    async fn go_on(&mut self, contacts: Contacts) -> Option<Contacts> {
        let is_plan = self.policy.verb == Verb::Plan;
        match self.stop_before_switch() {
            Some(stop) if !is_plan || stop == Stop::Interrupted => {
                self.tally.skip(contacts, stop).await;
                None
            }
            Some(_) | None => Some(contacts),
        }
    }

    async fn plan(&mut self, contacts: Contacts) -> Contacts {
        let intent = Arc::clone(&self.intent);
        let planned = each(contacts, self.access.parallel, move |_, mut contact| {
            let intent = Arc::clone(&intent);
            async move {
                let interrupt = contact.access.interrupt.clone();
                let planned = interrupt.unless_asked(plan(&mut contact, intent)).await;
                match planned.unwrap_or(Err(Outcome::Interrupted)) {
                    Ok(planned) => Ok((contact, planned)),
                    Err(outcome) => {
                        contact.end().await;
                        Err(outcome)
                    }
                }
            }
        })
        .await;
        let mut planned = self.tally.sort(planned);
        let sides = planned
            .iter_mut()
            .map(|(host, (_, planned))| (host.clone(), planned));
        self.intent.compare(&mut sides.collect());
        let (mut contacts, mut refused) = (Contacts::new(), Contacts::new());
        for (host, (contact, planned)) in planned {
            let summary = planned.proposal.summary.clone();
            self.access.tell(&host, Step::Planned(summary));
            match &planned.proposal.refused {
                None => {
                    contacts.insert(host.clone(), contact);
                }
                Some(obstacle) => {
                    refused.insert(host.clone(), contact);
                    self.tally.finish(host.clone(), failed(obstacle.clone()));
                }
            }
            self.plans.insert(host, Arc::new(planned));
        }
        end_all(refused, self.access.parallel).await;
        contacts
    }

    /// Lets hosts go that are as they should be.
    async fn release_unchanged(&mut self, contacts: Contacts) -> Contacts {
        let (changing, unchanged): (Contacts, Contacts) = contacts
            .into_iter()
            .partition(|(host, _)| self.changes(host));
        self.access.announce(Milestone::Planned {
            changing: changing.keys().cloned().collect(),
            unchanged: unchanged.keys().cloned().collect(),
        });
        for (host, contact) in &unchanged {
            if changing.is_empty() {
                self.tell_drift(host);
            }
            let generation = contact.conversation.hello().manifest.generation;
            self.tally
                .finish(host.clone(), Outcome::Unchanged { generation });
        }
        end_all(unchanged, self.access.parallel).await;
        changing
    }

    /// A plan shows it with all the rest, and so does a push that has one to show.
    fn tell_drift(&self, host: &HostName) {
        let drift = self.plans.get(host).map(|planned| &planned.drift);
        let is_plan = self.policy.verb == Verb::Plan;
        if let Some(drift) = drift.filter(|drift| !drift.is_none() && !is_plan) {
            let drift = drift.clone();
            self.access.tell(host, Step::Drifted { drift });
        }
    }

    fn changes(&self, host: &HostName) -> bool {
        let planned = self.plans.get(host);
        planned.is_some_and(|planned| planned.proposal.change == Change::Something)
    }

    async fn pending(&mut self, contacts: Contacts) {
        for (host, contact) in &contacts {
            let generation = contact.conversation.hello().manifest.generation;
            self.tally
                .finish(host.clone(), Outcome::Pending { generation });
        }
        end_all(contacts, self.access.parallel).await;
    }

    async fn ask(&self, gate: &dyn Gate<I::Plan>) -> Option<Stop> {
        let interrupt = &self.access.interrupt;
        match interrupt.unless_asked(gate.decide(&self.plans)).await {
            Some(Answer::Go) => None,
            Some(Answer::No { why }) => Some(Stop::Declined { why }),
            Some(Answer::Interrupted) | None => Some(Stop::Interrupted),
        }
    }

    async fn stage(&mut self, contacts: Contacts) -> BTreeMap<HostName, Ready<I::Plan>> {
        let (intent, plans) = (Arc::clone(&self.intent), self.plans.clone());
        let patience = self.patience.clone();
        let staged = each(contacts, self.access.parallel, move |host, mut contact| {
            let (intent, planned) = (Arc::clone(&intent), plans.get(&host).cloned());
            let patience = patience.clone();
            async move {
                let interrupt = contact.access.interrupt.clone();
                let staging = async {
                    let planned = planned.ok_or_else(|| failed(no_plan(&host)))?;
                    let staged = stage(&mut contact, &intent, &planned, patience).await?;
                    Ok((planned, staged))
                };
                let staged = interrupt.unless_asked(staging).await;
                match staged.unwrap_or(Err(Outcome::Interrupted)) {
                    Ok((planned, staged)) => Ok(Ready {
                        contact,
                        planned,
                        staged,
                    }),
                    Err(outcome) => {
                        contact.end().await;
                        Err(outcome)
                    }
                }
            }
        })
        .await;
        self.tally.sort(staged)
    }

    async fn switch_all(&mut self, mut ready: BTreeMap<HostName, Ready<I::Plan>>) {
        let hosts: Vec<HostName> = ready.keys().cloned().collect();
        let waves = waves(&self.policy.waves, &hosts);
        self.access.announce(Milestone::Staged {
            waves: waves.clone(),
        });
        let mut committed = BTreeMap::new();
        for (at, wave) in waves.iter().enumerate() {
            self.access.announce(Milestone::Wave {
                number: at + 1,
                of: waves.len(),
                hosts: wave.clone(),
            });
            let members: BTreeMap<HostName, Ready<I::Plan>> = wave
                .iter()
                .filter_map(|host| ready.remove_entry(host))
                .collect();
            if self.policy.undo != Undo::All {
                let done = std::mem::take(&mut committed);
                end_committed(done, self.access.parallel).await;
            }
            committed.extend(self.switch_wave(members).await);
            if let Some(stop) = self.tally.stop() {
                let left = ready.into_iter().map(|(host, ready)| (host, ready.contact));
                self.tally.skip(left.collect(), stop.clone()).await;
                return self.undo(committed, &stop).await;
            }
        }
        end_committed(committed, self.access.parallel).await;
    }

    /// Switches hosts together. Returns those that are committed.
    async fn switch_wave(
        &mut self,
        members: BTreeMap<HostName, Ready<I::Plan>>,
    ) -> BTreeMap<HostName, Committed> {
        let orders: BTreeMap<HostName, (Ready<I::Plan>, Order)> = members
            .into_iter()
            .map(|(host, ready)| {
                let order = Order {
                    to: ready.staged,
                    confirm_within: self.confirm_within(&host),
                };
                (host, (ready, order))
            })
            .collect();
        let (intent, patience) = (Arc::clone(&self.intent), self.patience.clone());
        let (name, teller) = (self.policy.provenance.push.clone(), self.tally.teller());
        let switched = each(
            orders,
            self.access.parallel,
            move |host, (mut ready, order)| {
                let (intent, patience) = (Arc::clone(&intent), patience.clone());
                let (name, teller) = (name.clone(), teller.clone());
                async move {
                    let within = order.confirm_within;
                    let ended = take(&mut ready, order, (&intent, patience)).await;
                    let outcome = outcome(&ready, ended, (&name, within));
                    // The others of the wave may take long, and what is known of this one is known now.
                    teller.tell(&host, &outcome);
                    (ready, outcome)
                }
            },
        )
        .await;
        let mut committed = BTreeMap::new();
        let mut ended = Contacts::new();
        for (host, (ready, outcome)) in switched {
            if outcome.is_success() {
                let former = self.former(&ready);
                let contact = ready.contact;
                committed.insert(host.clone(), Committed { contact, former });
            } else {
                ended.insert(host.clone(), ready.contact);
            }
            self.tally.keep(host, outcome);
        }
        end_all(ended, self.access.parallel).await;
        committed
    }

    fn confirm_within(&self, host: &HostName) -> Option<Duration> {
        let confirm = self.plans.get(host).map(|planned| planned.proposal.confirm);
        match confirm {
            Some(Confirm::Needed) => Some(self.policy.confirm_within),
            Some(Confirm::NotNeeded) | None => None,
        }
    }

    fn former(&self, ready: &Ready<I::Plan>) -> Former {
        let manifest = &ready.planned.known.hello.manifest;
        Former {
            project: self.policy.project.clone(),
            from: manifest.generation,
            committed: ready.staged,
            slice: match manifest.slice(&self.policy.project) {
                Some(_) => Before::Declared,
                None => Before::Nothing,
            },
            confirm_within: self.policy.confirm_within,
            provenance: self.policy.provenance.clone(),
        }
    }

    /// Brings hosts back that this push has committed, as far as the policy says. An interrupted
    /// push leaves them: their new generation is healthy and its operator wants to stop.
    async fn undo(&mut self, committed: BTreeMap<HostName, Committed>, stop: &Stop) {
        let is_undone = match self.policy.undo {
            Undo::Host => false,
            Undo::Wave | Undo::All => *stop != Stop::Interrupted,
        };
        if !is_undone || committed.is_empty() {
            return end_committed(committed, self.access.parallel).await;
        }
        let hosts = committed.keys().cloned().collect();
        self.access.announce(Milestone::Undoing { hosts });
        let restored = each(
            committed,
            self.access.parallel,
            |_, mut committed| async move {
                let outcome = restore(&mut committed.contact, &committed.former).await;
                committed.contact.end().await;
                outcome
            },
        )
        .await;
        for (host, outcome) in restored {
            self.tally.finish(host, outcome);
        }
    }

    /// Why nothing may be switched, if so.
    fn stop_before_switch(&self) -> Option<Stop> {
        if self.access.interrupt.is_asked() {
            return Some(Stop::Interrupted);
        }
        let refused: Vec<HostName> = self.tally.hosts(is_refusal);
        if refused.is_empty() {
            self.tally.stop()
        } else {
            Some(Stop::Refused { hosts: refused })
        }
    }

    fn ended(self) -> Pushed<I::Plan> {
        let exit = self.tally.end();
        Pushed {
            outcomes: self.tally.outcomes,
            plans: self.plans,
            exit,
        }
    }
}

/// Whether an outcome before any switch stands for something that must be put right first, rather
/// than for a host that is away.
fn is_refusal(outcome: &Outcome) -> bool {
    match outcome {
        Outcome::Failed { obstacle } => obstacle.kind != ObstacleKind::Reach,
        Outcome::Refused { .. } | Outcome::Locked { .. } => true,
        Outcome::Unchanged { .. }
        | Outcome::Pending { .. }
        | Outcome::Committed { .. }
        | Outcome::Unreachable { .. }
        | Outcome::TakenBack { .. }
        | Outcome::Restored { .. }
        | Outcome::NotRestored { .. }
        | Outcome::InDoubt { .. }
        | Outcome::Upgraded { .. }
        | Outcome::NotUpgraded { .. }
        | Outcome::UpgradeInDoubt { .. }
        | Outcome::Skipped { .. }
        | Outcome::Interrupted => false,
    }
}

async fn end_committed(committed: BTreeMap<HostName, Committed>, parallel: usize) {
    let contacts = committed
        .into_iter()
        .map(|(host, committed)| (host, committed.contact));
    end_all(contacts.collect(), parallel).await;
}

fn no_plan(host: &HostName) -> Obstacle {
    Obstacle {
        kind: ObstacleKind::Start,
        code: "push::rollout::no_plan".into(),
        why: format!("{host} was not planned for"),
        help: "this is a mistake in push; please report it".into(),
    }
}
