//! The upgrade of the operating system: dpkg, then the services that still run from what it replaced, then a
//! reboot where one is needed and allowed, then health. It runs in a unit of its own, as a switch does: neither
//! the laptop nor the network is needed once it has begun, and a running dpkg is never killed.
//!
//! | file | does |
//! |---|---|
//! | `mod` | goes from phase to phase |
//! | `packages` | dpkg's part, and whether what is there is what was ordered |
//! | `offer` | what would be done; what is restarted, and what needs a reboot |
//! | `record` | what the host remembers of it |
//!
//! Packages only go forward, so nothing is taken back: a host that is not well afterwards says so, and no further
//! host is begun with. Every phase can be begun again: what is done is found done. Must not fetch lists: between
//! what was shown and what is done nobody may have looked anew.

mod offer;
mod packages;
mod record;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::io;
use std::time::Duration;

use push_wire::journal::Evidence;
use push_wire::message::Holder;
use push_wire::name::TransactionId;
use push_wire::upgrade::{End, Order, Phase, Reboot, Record, Stage};

pub use offer::offer;
pub use record::{begin, call_off, read};

use crate::evidence;
use crate::layout::Layout;
use crate::lock::{self, LockError};
use crate::machine::{self, Access, Course, Machine, Tool};
use crate::store;
use crate::trial;

/// How often it is looked whether a boot has come to its end: ten minutes in all.
const BOOT_LOOKS: u32 = 600;

/// The pause between two such looks.
const BOOT_PAUSE: Duration = Duration::from_secs(1);

/// How often the units are looked at after everything was restarted: a unit that fails does so within moments,
/// and one that is started again and again is given up by systemd within ten seconds (systemd.unit(5),
/// `StartLimitIntervalSec=`).
const SETTLE_LOOKS: u32 = 24;

/// The pause between two such looks.
const SETTLE_PAUSE: Duration = Duration::from_millis(500);

/// How long whoever watches has to hear of a reboot before their connection goes with it.
const REBOOT_NOTICE: Duration = Duration::from_secs(1);

/// Why an upgrade did not begin, or does not go on.
#[derive(Debug, thiserror::Error)]
pub enum UpgradeError {
    /// Nobody knows it.
    #[error("this host knows no upgrade {id}")]
    Unknown {
        /// Which.
        id: TransactionId,
    },
    /// Somebody else is at it.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// The disk failed, so that what happens cannot be recorded.
    #[error("the record of the upgrade: {0}")]
    Disk(#[from] io::Error),
}

impl UpgradeError {
    /// What to do about it.
    pub fn help(&self) -> &'static str {
        match self {
            Self::Unknown { .. } => "upgrades are begun by `push upgrade`",
            Self::Lock(error) => error.help(),
            Self::Disk(_) => "repair the disk of the host, then run `push upgrade` again",
        }
    }
}

/// Carries an upgrade on from where its record stands. `tell` hears what dpkg is at. A record that is not final
/// waits for the reboot that was ordered.
pub fn upgrade<M: Machine>(
    machine: &mut M,
    layout: &Layout,
    id: &TransactionId,
    tell: &mut dyn FnMut(&str),
) -> Result<Record, UpgradeError> {
    let known = |record: Option<Record>| {
        let record = record.filter(|record| record.order.id == *id);
        record.ok_or_else(|| UpgradeError::Unknown { id: id.clone() })
    };
    let order = known(read(machine, layout)?)?.order;
    let _lock = lock::take_over(machine, layout, &holder(&order, machine.unix_s()))?;
    let record = known(read(machine, layout)?)?;
    let place = layout.transaction(id);
    machine::folders(machine, place.folder(), &Access::private_folder())?;
    let began_ms = machine.boottime_ms();
    let mut run = Run {
        machine,
        layout,
        record,
        tell,
        began_ms,
    };
    run.drive()?;
    Ok(run.record)
}

/// Who is at it, for others to read.
pub fn holder(order: &Order, since_unix_s: u64) -> Holder {
    Holder {
        operator: order.provenance.operator.clone(),
        since_unix_s,
        step: "upgrading the operating system".to_owned(),
        transaction: Some(order.id.clone()),
        push: order.provenance.push.clone(),
    }
}

struct Run<'a, M> {
    machine: &'a mut M,
    layout: &'a Layout,
    record: Record,
    tell: &'a mut dyn FnMut(&str),
    /// On CLOCK_BOOTTIME.
    began_ms: u64,
}

impl<M: Machine> Run<'_, M> {
    fn drive(&mut self) -> io::Result<()> {
        loop {
            let next = match self.record.phase.clone() {
                Phase::Ordered => self.note(),
                Phase::Packages => self.install(),
                Phase::Restarting => self.restart(),
                Phase::Rebooting { boot_id } if boot_id == self.machine.boot_id()? => {
                    self.machine.sleep(REBOOT_NOTICE);
                    match self.machine.run(&Tool::Reboot) {
                        Ok(()) => return Ok(()),
                        Err(error) => Err(bad(Stage::Reboot, &error)),
                    }
                }
                Phase::Rebooting { .. } => {
                    self.record.rebooted = true;
                    Ok(Phase::Checking)
                }
                Phase::Checking => self.check(),
                Phase::Ended(_) => return Ok(()),
            };
            let phase = next.unwrap_or_else(Phase::Ended);
            record::enter(self.machine, self.layout, (&mut self.record, phase))?;
        }
    }

    /// Notes what had failed before, so that it is not laid to the upgrade.
    fn note(&mut self) -> Result<Phase, End> {
        let standing = self.machine.standing();
        self.record.failed_before = standing
            .map_err(|error| bad(Stage::Packages, &error))?
            .failed;
        Ok(Phase::Packages)
    }

    fn install(&mut self) -> Result<Phase, End> {
        packages::install(self.machine, self.layout, &self.record.order, self.tell)?;
        Ok(Phase::Restarting)
    }

    /// Restarts what runs from replaced files, all of it, and then says what does not start again.
    fn restart(&mut self) -> Result<Phase, End> {
        let wrong = |error: &dyn std::fmt::Display| bad(Stage::Restart, error);
        let outdated = self.machine.outdated().map_err(|error| wrong(&error))?;
        let mut failed = Vec::new();
        for unit in offer::restarts(&outdated) {
            (self.tell)(&format!(
                "restarting {unit}, which runs from replaced files"
            ));
            if let Err(error) = self.machine.run(&Tool::TryRestart(unit.clone())) {
                failed.push((unit.clone(), error.to_string()));
            }
            self.record.restarted.insert(unit);
        }
        if let Some((unit, why)) = failed.first() {
            let units = failed.iter().map(|(unit, _)| unit.to_string()).collect();
            let evidence = self.evidence(unit.as_str(), &units);
            return Err(End::Bad {
                at: Stage::Restart,
                why: why.clone(),
                evidence: Some(Box::new(evidence)),
            });
        }
        let outdated = self.machine.outdated().map_err(|error| wrong(&error))?;
        let reasons = offer::reboot_reasons(self.machine, self.layout, &outdated);
        self.record.reboot = reasons.map_err(|error| wrong(&error))?;
        let reboots = match self.record.order.reboot {
            Reboot::Never => false,
            Reboot::Needed => !self.record.reboot.is_empty(),
            Reboot::Always => true,
        };
        if !reboots {
            return Ok(Phase::Checking);
        }
        (self.tell)("rebooting");
        let boot_id = self.machine.boot_id().map_err(|error| wrong(&error))?;
        Ok(Phase::Rebooting { boot_id })
    }

    /// Whether every app is well, and no unit has failed that had not before.
    fn check(&mut self) -> Result<Phase, End> {
        let wrong = |error: &dyn std::fmt::Display| bad(Stage::Health, error);
        self.await_boot()?;
        if self.record.rebooted {
            let outdated = self.machine.outdated().map_err(|error| wrong(&error))?;
            let reasons = offer::reboot_reasons(self.machine, self.layout, &outdated);
            self.record.reboot = reasons.map_err(|error| wrong(&error))?;
        }
        (self.tell)("looking whether everything is well");
        let manifest = store::current_manifest(self.machine, self.layout);
        let manifest = manifest.map_err(|error| wrong(&error))?;
        let id = self.record.order.id.clone();
        if let Err(cause) = trial::all_well(self.machine, self.layout, (&id, &manifest)) {
            let found = evidence::collect(self.machine, (&manifest, &[]), (&cause, self.began_ms));
            return Err(End::Bad {
                at: Stage::Health,
                why: cause.to_string(),
                evidence: found.map(Box::new),
            });
        }
        self.settle()?;
        Ok(Phase::Ended(End::Done))
    }

    /// A boot starts things one after the other; what is not there yet has not failed.
    fn await_boot(&mut self) -> Result<(), End> {
        for _ in 0..BOOT_LOOKS {
            let standing = self.machine.standing();
            let standing = standing.map_err(|error| bad(Stage::Health, &error))?;
            if standing.course != Course::Starting {
                return Ok(());
            }
            self.machine.sleep(BOOT_PAUSE);
        }
        let why = "the boot has not come to its end within ten minutes";
        Err(bad(Stage::Health, &why))
    }

    fn settle(&mut self) -> Result<(), End> {
        for look in 0..SETTLE_LOOKS {
            if look > 0 {
                self.machine.sleep(SETTLE_PAUSE);
            }
            let standing = self.machine.standing();
            let standing = standing.map_err(|error| bad(Stage::Health, &error))?;
            let failed: BTreeSet<String> = standing
                .failed
                .difference(&self.record.failed_before)
                .cloned()
                .collect();
            let Some(first) = failed.first() else {
                continue;
            };
            let names: Vec<&str> = failed.iter().map(String::as_str).collect();
            return Err(End::Bad {
                at: Stage::Health,
                why: format!("failed since the upgrade began: {}", names.join(", ")),
                evidence: Some(Box::new(self.evidence(first, &failed))),
            });
        }
        Ok(())
    }

    fn evidence(&self, subject: &str, units: &BTreeSet<String>) -> Evidence {
        let units = units.iter().filter_map(|unit| unit.parse().ok()).collect();
        let subject = (subject.to_owned(), None);
        evidence::of_units(self.machine, subject, (&units, self.began_ms))
    }
}

/// An end without evidence: what went wrong says it all.
fn bad(at: Stage, why: &dyn std::fmt::Display) -> End {
    End::Bad {
        at,
        why: why.to_string(),
        evidence: None,
    }
}
