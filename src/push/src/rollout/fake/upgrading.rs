//! A host's upgrade of its operating system, as the laptop hears of it.

use push_wire::journal::Progress;
use push_wire::message::{Refusal, Reply};
use push_wire::upgrade::{End, Order, Phase, Reboot, Record};

use super::serving::{Over, Serving};
use super::{Fault, Host};

impl Serving {
    pub(super) async fn offer(&mut self) -> Result<(), Over> {
        if self.hits(Fault::Locked) {
            return self.locked().await;
        }
        let offer = self.world.host(&self.name, |host| host.offer.clone());
        match offer {
            Ok(offer) => self.say(&Reply::Offer(Box::new(offer))).await,
            Err(refusal) => self.refuse(refusal).await,
        }
    }

    pub(super) async fn upgrade_system(&mut self, order: Order) -> Result<(), Over> {
        if self.hits(Fault::RefusesSwitch) {
            return self.locked().await;
        }
        if self.hits(Fault::OrderLost) {
            return Err(Over::Lost);
        }
        let record = self.world.host(&self.name, |host| host.upgraded(&order));
        if self.hits(Fault::LostAfterOrder) {
            return Err(Over::Lost);
        }
        let what = "Setting up curl".to_owned();
        self.say(&Reply::Progress(Progress::Working { what }))
            .await?;
        if self.hits(Fault::Hangs) {
            return self.idle().await;
        }
        self.say(&Reply::Upgrade(Box::new(record))).await
    }

    async fn locked(&mut self) -> Result<(), Over> {
        let holder = self.world.host(&self.name, |host| host.holder.clone());
        self.refuse(Refusal::Locked(holder)).await
    }
}

impl Host {
    /// Begins an upgrade, or goes on with the one that it knows by this name.
    fn upgraded(&mut self, order: &Order) -> Record {
        let known = self.record.take();
        let known = known.filter(|record| record.order.id == order.id);
        self.upgrades += u32::from(known.is_none());
        let mut record = known.unwrap_or_else(|| Record {
            order: order.clone(),
            begun_unix_s: 0,
            at_unix_s: 0,
            phase: Phase::Packages,
            failed_before: [].into(),
            restarted: ["api.service".parse().unwrap()].into(),
            rebooted: false,
            reboot: vec![],
        });
        match &record.phase {
            Phase::Packages if order.reboot == Reboot::Always => {
                let boot_id = self.boot_id();
                record.phase = Phase::Rebooting { boot_id };
                self.boots += 1;
            }
            Phase::Rebooting { .. } => {
                record.rebooted = true;
                record.phase = Phase::Ended(self.upgrade_ends.clone());
            }
            _ => record.phase = Phase::Ended(self.upgrade_ends.clone()),
        }
        self.record = Some(record.clone());
        record
    }

    /// The boot that it runs in.
    pub fn boot_id(&self) -> String {
        format!("boot {}", self.boots)
    }

    /// How the next upgrade ends.
    pub fn upgrade_ends(&mut self, end: End) {
        self.upgrade_ends = end;
    }
}
