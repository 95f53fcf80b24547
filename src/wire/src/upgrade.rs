//! The upgrade of a host's operating system: what its package sources offer, what is ordered of it, and the
//! record that the host keeps. Packages only go forward: nothing here is taken back.
//!
//! ```text
//! Ordered ─▶ Packages ─▶ Restarting ─▶ [Rebooting ─▶] Checking ─▶ Ended
//! ```
//!
//! Every phase can be begun again after a cut at any of its instructions: what is done is found done.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::checked_text;
use crate::groundwork::PackageName;
use crate::journal::Evidence;
use crate::manifest::Provenance;
use crate::name::{TransactionId, UnitName};

/// The longest version of a package, in bytes.
const VERSION_BYTES_MAX: usize = 256;

/// The longest name of an architecture, in bytes.
const ARCHITECTURE_BYTES_MAX: usize = 32;

/// Why a text cannot stand for a package or its version.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("it is no {0}")]
pub struct PackageError(&'static str);

checked_text!(
    /// A package as apt names it on a host: `libc6`, or `libc6:i386` where it is of a foreign architecture.
    Package,
    PackageError,
    package
);
checked_text!(
    /// The version of a package (Debian Policy, 5.6.12).
    PackageVersion,
    PackageError,
    version
);

fn package(text: &str) -> Result<(), PackageError> {
    let (name, architecture) = match text.split_once(':') {
        Some((name, architecture)) => (name, Some(architecture)),
        None => (text, None),
    };
    let plain = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-';
    let fits = architecture.is_none_or(|architecture| {
        (1..=ARCHITECTURE_BYTES_MAX).contains(&architecture.len())
            && architecture.bytes().all(plain)
            && !architecture.starts_with('-')
    });
    (fits && name.parse::<PackageName>().is_ok())
        .then_some(())
        .ok_or(PackageError("name of a package"))
}

fn version(text: &str) -> Result<(), PackageError> {
    let plain = |c: u8| c.is_ascii_alphanumeric() || b".+-~:".contains(&c);
    let fits = (1..=VERSION_BYTES_MAX).contains(&text.len())
        && text.bytes().all(plain)
        && text
            .bytes()
            .next()
            .is_some_and(|c| c.is_ascii_alphanumeric());
    fits.then_some(())
        .ok_or(PackageError("version of a package"))
}

/// How far an upgrade goes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// Installed packages get newer, and bring what is new that they need; nothing is removed.
    #[default]
    Safe,
    /// Packages that are in the way of newer ones are removed, too.
    Full,
}

/// When a host may be rebooted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reboot {
    /// It is only told that it needs it.
    #[default]
    Never,
    /// Where something needs it.
    Needed,
    /// In any case.
    Always,
}

/// A package that gets another version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// Which.
    pub package: Package,
    /// What is installed; `None` for one that is new on the host.
    pub from: Option<PackageVersion>,
    /// What will be.
    pub to: PackageVersion,
    /// Whether a security archive has it.
    pub security: bool,
}

/// A package that goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Removal {
    /// Which.
    pub package: Package,
    /// What is installed.
    pub version: PackageVersion,
}

/// A package that stays although there is a newer one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// Which.
    pub package: Package,
    /// What is installed.
    pub from: PackageVersion,
    /// What the package sources have.
    pub to: PackageVersion,
    /// Why it stays.
    pub why: Hold,
}

/// Why a package stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Hold {
    /// Somebody said so: `apt-mark hold`.
    Marked,
    /// apt keeps it back: it would need something removed, or its turn has not come (phased updates).
    KeptBack,
}

/// What the package sources of a host offer it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Packages {
    /// In the order of their names.
    pub changes: Vec<Change>,
    /// In the order of their names.
    pub removals: Vec<Removal>,
    /// In the order of their names.
    pub held: Vec<Held>,
}

impl Packages {
    /// Whether nothing would be installed and nothing removed.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty() && self.removals.is_empty()
    }
}

/// What an upgrade of a host would do.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offer {
    /// Its packages.
    pub packages: Packages,
    /// Packages that an earlier installation left half done; they are finished first.
    pub half_done: BTreeSet<Package>,
    /// Services that already run from files which have been replaced.
    pub restarts: BTreeSet<UnitName>,
    /// Why the host already needs a reboot. Untrusted text.
    pub reboot: Vec<String>,
}

impl Offer {
    /// Whether there is anything to do.
    pub fn is_empty(&self, reboot: Reboot) -> bool {
        let reboots = match reboot {
            Reboot::Never => false,
            Reboot::Needed => !self.reboot.is_empty(),
            Reboot::Always => true,
        };
        self.packages.is_empty()
            && self.half_done.is_empty()
            && self.restarts.is_empty()
            && !reboots
    }
}

/// What is asked of a host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// A name for this run, never used before.
    pub id: TransactionId,
    /// What the operator was shown: this is done, or nothing.
    pub packages: Packages,
    /// How far it goes.
    pub scope: Scope,
    /// When the host may be rebooted.
    pub reboot: Reboot,
    /// Who asks.
    pub provenance: Provenance,
}

/// Where an upgrade stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// It is to begin.
    Ordered,
    /// dpkg is at it.
    Packages,
    /// Services are restarted that run from replaced files.
    Restarting,
    /// The host has been told to reboot.
    Rebooting {
        /// The boot that is to end.
        boot_id: String,
    },
    /// Its apps and units are looked at.
    Checking,
    /// It is over.
    Ended(End),
}

/// How an upgrade ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum End {
    /// Everything that was ordered is there, and the host is well.
    Done,
    /// Nothing was installed: the package sources offer something else than what was shown.
    Stale {
        /// What differs. Untrusted text.
        why: String,
    },
    /// Something went wrong; what was installed stays.
    Bad {
        /// Where.
        at: Stage,
        /// What. Untrusted text.
        why: String,
        /// What the host found. Untrusted text.
        evidence: Option<Box<Evidence>>,
    },
}

/// Where an upgrade went wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// apt or dpkg failed.
    Packages,
    /// A service does not start again.
    Restart,
    /// The host could not be told to reboot.
    Reboot,
    /// An app or a unit is not well.
    Health,
}

/// What a host remembers of its latest upgrade.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// What was asked.
    pub order: Order,
    /// When, seconds since 1970 by the host's clock.
    pub begun_unix_s: u64,
    /// When it came to where it stands.
    pub at_unix_s: u64,
    /// Where it stands.
    pub phase: Phase,
    /// Units that had failed before it began. Untrusted text.
    pub failed_before: BTreeSet<String>,
    /// The services that it restarted.
    pub restarted: BTreeSet<UnitName>,
    /// Whether it rebooted the host.
    pub rebooted: bool,
    /// Why the host needs a reboot that it has not had. Untrusted text.
    pub reboot: Vec<String>,
}

impl Record {
    /// Whether nothing more will happen.
    pub fn is_final(&self) -> bool {
        match self.phase {
            Phase::Ended(_) => true,
            Phase::Ordered
            | Phase::Packages
            | Phase::Restarting
            | Phase::Rebooting { .. }
            | Phase::Checking => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_package_and_its_version_can_be_no_option_and_hold_no_second_word() {
        for hostile in [
            "",
            "-y",
            "libc6:",
            "libc6:-x",
            "libc6:I386",
            "a b:i386",
            "libc6:i386:x",
            "x;id",
        ] {
            assert!(hostile.parse::<Package>().is_err(), "{hostile:?}");
        }
        for hostile in ["", "-1", "~1", "1 2", "1\n", "1/2", "1;id", "é"] {
            assert!(hostile.parse::<PackageVersion>().is_err(), "{hostile:?}");
        }
        for good in ["libc6", "libc6:i386", "g++", "linux-image-6.1.0-21-amd64"] {
            assert!(good.parse::<Package>().is_ok(), "{good:?}");
        }
        for good in [
            "2.36-9+deb12u4",
            "1:9.2p1-2+deb12u2",
            "6.1.90-1~bpo11+1",
            "0.1",
        ] {
            assert!(good.parse::<PackageVersion>().is_ok(), "{good:?}");
        }
    }

    #[test]
    fn a_pending_reboot_is_work_only_where_it_is_allowed() {
        let offer = Offer {
            reboot: vec!["a new kernel".into()],
            ..Offer::default()
        };
        assert!(offer.is_empty(Reboot::Never) && !offer.is_empty(Reboot::Needed));
        let nothing = Offer::default();
        assert!(nothing.is_empty(Reboot::Needed) && !nothing.is_empty(Reboot::Always));
    }
}
