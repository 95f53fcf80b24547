//! One host's upgrade of its operating system: asked, ordered, watched over every connection that it takes, over a
//! reboot too. The host goes on alone; that it is watched changes nothing. The order has a name, and may be given
//! over again: a host that knows it only tells how it stands.

use std::time::Duration;

use push_wire::journal::Progress;
use push_wire::message::Refusal;
use push_wire::upgrade::{End, Offer, Order, Packages, Phase as Stand, Record, Scope};
use tokio::time::Instant;

use super::contact::{Contact, before_switch, failed};
use super::patience::Patience;
use super::switching::{REATTACH_MAX, no_randomness, pause};
use super::ticket::Ticket;
use super::upgrade::Upgrade;
use crate::conversation::{Offered, Upgrading};
use crate::event::{Obstacle, ObstacleKind, Outcome, Phase, Rebooted, Step};

/// How long a host may take from the order to reboot until it answers from another boot.
pub const REBOOT_MAX: Duration = Duration::from_secs(15 * 60);

/// The pause between two calls of a host that reboots.
pub const REBOOT_PAUSE: Duration = Duration::from_secs(3);

/// How often one upgrade is taken up after its host was lost, or stopped telling.
pub const CALLS_MAX: u32 = 50;

/// What a host would do. One that somebody else holds is waited for.
pub async fn offered(
    contact: &mut Contact,
    scope: Scope,
    patience: &mut Patience,
) -> Result<Offer, Outcome> {
    loop {
        let (access, host) = (contact.access.clone(), contact.host.clone());
        let working = move |what: &str| {
            let what = what.to_owned();
            access.tell(&host, Step::UpgradeRuns { what });
        };
        let told = contact.conversation.offer(scope, &working).await;
        match told.map_err(|error| before_switch(&contact.access, &error))? {
            Offered::Offer(offer) => return Ok(*offer),
            Offered::Refused(refusal) => wait(contact, *refusal, patience).await?,
        }
    }
}

/// Waits for whoever holds the host, if that is why it refused.
async fn wait(contact: &Contact, refusal: Refusal, patience: &mut Patience) -> Result<(), Outcome> {
    match refusal {
        Refusal::Locked(holder) => {
            patience
                .wait((&contact.access, &contact.host), holder)
                .await
        }
        other => Err(Outcome::Refused {
            refusal: Box::new(other),
        }),
    }
}

/// Has a host upgrade, and watches until it has ended, or nobody waits any more.
pub async fn carry_out(
    contact: &mut Contact,
    (wanted, packages): (&Upgrade, Packages),
    patience: &mut Patience,
) -> Outcome {
    // A turn may come after the operator has asked to stop.
    if contact.access.interrupt.is_asked() {
        return Outcome::Interrupted;
    }
    let Ok(ticket) = Ticket::draw() else {
        return failed(no_randomness());
    };
    let order = Order {
        id: ticket.transaction,
        packages,
        scope: wanted.scope,
        reboot: wanted.reboot,
        provenance: wanted.provenance.clone(),
    };
    let id = order.id.clone();
    contact.access.tell(
        &contact.host,
        Step::SystemUpgrade {
            transaction: id.clone(),
        },
    );
    let interrupt = contact.access.interrupt.clone();
    let mut watch = Watch {
        contact,
        order,
        brought: 0,
        seen: 0,
        calls: 0,
        reboot_until: None,
    };
    tokio::select! {
        biased;
        outcome = watch.until_ended(patience) => outcome,
        () = interrupt.left() => Outcome::UpgradeInDoubt {
            transaction: id,
            why: "the operator left before the host had ended".to_owned(),
        },
    }
}

struct Watch<'a> {
    contact: &'a mut Contact,
    order: Order,
    /// How much progress this connection has brought; each is told everything since the boot.
    brought: usize,
    /// How much of it has been told.
    seen: usize,
    calls: u32,
    /// When a host that reboots is not waited for any more.
    reboot_until: Option<Instant>,
}

/// How far one connection got.
enum Heard {
    /// The upgrade has ended so.
    Ended(Outcome),
    /// The host goes down to come up again, away from this boot.
    Reboots(String),
    /// The host has to be asked again.
    Lost(String),
    /// The host has to be given the order again.
    Waited,
}

impl Watch<'_> {
    async fn until_ended(&mut self, patience: &mut Patience) -> Outcome {
        loop {
            let heard = self.hear(patience).await;
            let taken_up = match heard {
                Heard::Ended(outcome) => return outcome,
                Heard::Waited => Ok(()),
                Heard::Reboots(boot_id) => self.come_back(&boot_id).await,
                Heard::Lost(why) => self.call_again(why).await,
            };
            if let Err(why) = taken_up {
                return self.in_doubt(why);
            }
        }
    }

    /// Gives the order, and listens as long as this connection lasts.
    async fn hear(&mut self, patience: &mut Patience) -> Heard {
        self.brought = 0;
        if let Err(error) = self.contact.conversation.upgrade_system(&self.order).await {
            return Heard::Lost(error.to_string());
        }
        loop {
            match self.contact.conversation.upgrading().await {
                Ok(Upgrading::Progress(progress)) => self.progress(progress),
                Ok(Upgrading::Stands(record)) => return self.stands(*record),
                Ok(Upgrading::Refused(refusal)) if self.calls == 0 => {
                    return match wait(self.contact, *refusal, patience).await {
                        Ok(()) => Heard::Waited,
                        Err(outcome) => Heard::Ended(outcome),
                    };
                }
                // It may have begun; why it does not tell now is no answer to that.
                Ok(Upgrading::Refused(refusal)) => return Heard::Lost(refusal.to_string()),
                Err(error) => return Heard::Lost(error.to_string()),
            }
        }
    }

    fn stands(&self, record: Record) -> Heard {
        match record.phase {
            Stand::Ended(End::Done) => Heard::Ended(Outcome::Upgraded {
                packages: record.order.packages.changes.len()
                    + record.order.packages.removals.len(),
                restarted: record.restarted.len(),
                rebooted: if record.rebooted {
                    Rebooted::Yes
                } else {
                    Rebooted::No
                },
                reboot: record.reboot,
            }),
            Stand::Ended(End::Stale { why }) => Heard::Ended(failed(self.stale(&why))),
            Stand::Ended(End::Bad { at, why, evidence }) => {
                Heard::Ended(Outcome::NotUpgraded { at, why, evidence })
            }
            Stand::Rebooting { boot_id } => Heard::Reboots(boot_id),
            Stand::Ordered | Stand::Packages | Stand::Restarting | Stand::Checking => {
                Heard::Lost("the host does not carry the upgrade on".to_owned())
            }
        }
    }

    fn stale(&self, why: &str) -> Obstacle {
        let host = &self.contact.host;
        Obstacle {
            kind: ObstacleKind::Gate,
            code: "push::upgrade::stale".into(),
            why: format!("what the package sources offer has changed since it was shown: {why}"),
            help: format!("run `push upgrade` for {host} again: it shows what is offered now"),
        }
    }

    fn progress(&mut self, progress: Progress) {
        self.brought += 1;
        if self.brought <= self.seen {
            return;
        }
        self.seen = self.brought;
        match progress {
            Progress::Working { what } => self.tell(Step::UpgradeRuns { what }),
            Progress::Health {
                app,
                passed,
                wanted,
                answer,
            } => self.tell(Step::Health {
                app,
                passed,
                wanted,
                answer,
            }),
            // Only a switch tells such.
            Progress::State(_)
            | Progress::Effect(_)
            | Progress::Confirmed
            | Progress::Evidence(_) => {}
        }
    }

    /// Calls a host that was lost, until it answers.
    async fn call_again(&mut self, why: String) -> Result<(), String> {
        let until = Instant::now() + REATTACH_MAX;
        let mut why = why;
        loop {
            self.calls += 1;
            if self.calls > CALLS_MAX || Instant::now() >= until {
                return Err(why);
            }
            let attempt = self.calls;
            self.tell(Step::Reconnecting {
                during: Phase::Upgrading,
                attempt,
                why,
            });
            tokio::time::sleep(pause(attempt)).await;
            why = match self.contact.renew().await {
                Ok(()) => return Ok(()),
                Err(error) if error.is_another_host() => return Err(error.to_string()),
                Err(error) => error.to_string(),
            };
        }
    }

    /// Calls a host that is to reboot until it answers, with the key that it had before. It may answer from the boot
    /// that is to end; then it is asked how it stands, and called again.
    async fn come_back(&mut self, boot_id: &str) -> Result<(), String> {
        if self.reboot_until.is_none() {
            self.tell(Step::Rebooting);
        }
        let until = *self
            .reboot_until
            .get_or_insert_with(|| Instant::now() + REBOOT_MAX);
        let mut why = "it has not gone down".to_owned();
        while Instant::now() < until {
            tokio::time::sleep(REBOOT_PAUSE).await;
            match self.contact.renew().await {
                Ok(()) => {
                    if self.contact.conversation.hello().facts.boot_id != boot_id {
                        // What was told before the reboot is gone with it.
                        self.seen = 0;
                    }
                    return Ok(());
                }
                Err(error) if error.is_another_host() => return Err(error.to_string()),
                Err(error) => why = error.to_string(),
            }
        }
        Err(format!(
            "it was told to reboot and is not back after {} minutes: {why}",
            REBOOT_MAX.as_secs() / 60
        ))
    }

    fn in_doubt(&self, why: String) -> Outcome {
        Outcome::UpgradeInDoubt {
            transaction: self.order.id.clone(),
            why,
        }
    }

    fn tell(&self, step: Step) {
        self.contact.access.tell(&self.contact.host, step);
    }
}
