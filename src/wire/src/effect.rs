//! What must be run on a host when one manifest follows another. The laptop prints this list in the
//! plan, the host carries it out, and taking back is the same function with its arguments swapped:
//! so what the plan says is what happens.
//!
//! A new kind of declared thing is added here with the effect that makes it take hold.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::manifest::{Manifest, OnChange, OnRelease, Reader, Runs, Unit};
use crate::name::{AppName, UnitName};

/// One thing to run. The order of the variants is the order in which they run, save that the system's
/// own firewall is loaded before push's.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Effect {
    /// Stop a unit that is no longer declared, or runs only when it is called for from now on, while systemd
    /// still knows its old text. What would start another unit again is stopped first.
    Stop(UnitName),
    /// Open the generation's secrets into `/run/push/secrets` and remove the files of others.
    OpenSecrets,
    /// Let systemd read its units again.
    DaemonReload,
    /// Set the kernel's parameters again.
    Sysctl,
    /// Replace `table inet push` by the generation's.
    LoadFirewall,
    /// Remove `table inet push`: no slice declares a firewall.
    RemoveFirewall,
    /// Restart a socket; its service is stopped for it and started again by the next effects.
    RestartSocket(UnitName),
    /// Restart a unit, or start it when it does not run.
    Restart(UnitName),
    /// Tell a unit to reload, or start it when it does not run.
    Reload(UnitName),
    /// Restart a unit that push does not declare, if it runs.
    RestartForeign(UnitName),
    /// Reload a unit that push does not declare, if it runs.
    ReloadForeign(UnitName),
    /// Reload nginx, and see that new workers serve this generation.
    ReloadNginx,
}

/// The unit by which Debian loads the system's own firewall.
const OWN_FIREWALL: &str = "nftables.service";

/// The units of OpenSSH's server, by the names that Debian and Ubuntu have for them.
const SSHD: &[&str] = &["ssh.service", "sshd.service", "ssh.socket"];

impl Effect {
    /// Whether the system loads its own firewall. That begins with `flush ruleset`, in Debian's own
    /// file and when the unit stops, and takes push's table with it; so push's is loaded after it.
    pub fn loads_own_firewall(&self) -> bool {
        self.foreign()
            .is_some_and(|unit| unit.as_str() == OWN_FIREWALL)
    }
}

impl Effect {
    /// The unit of push's own that it starts, or tells something.
    pub fn starts(&self) -> Option<&UnitName> {
        match self {
            Self::RestartSocket(unit) | Self::Restart(unit) | Self::Reload(unit) => Some(unit),
            Self::Stop(_)
            | Self::OpenSecrets
            | Self::DaemonReload
            | Self::Sysctl
            | Self::LoadFirewall
            | Self::RemoveFirewall
            | Self::RestartForeign(_)
            | Self::ReloadForeign(_)
            | Self::ReloadNginx => None,
        }
    }

    /// The unit that push does not declare, and that it restarts or reloads.
    pub fn foreign(&self) -> Option<&UnitName> {
        match self {
            Self::RestartForeign(unit) | Self::ReloadForeign(unit) => Some(unit),
            Self::Stop(_)
            | Self::OpenSecrets
            | Self::DaemonReload
            | Self::Sysctl
            | Self::LoadFirewall
            | Self::RemoveFirewall
            | Self::RestartSocket(_)
            | Self::Restart(_)
            | Self::Reload(_)
            | Self::ReloadNginx => None,
        }
    }

    /// Whether it decides who comes in: a firewall, or sshd.
    pub fn opens_the_way_in(&self) -> bool {
        let is_sshd = |unit: &UnitName| SSHD.contains(&unit.as_str());
        matches!(self, Self::LoadFirewall | Self::RemoveFirewall)
            || self.loads_own_firewall()
            || self.foreign().is_some_and(is_sshd)
    }

    /// Whether a unit is stopped that starts others: while it is there, they come back.
    fn stops_a_trigger(&self) -> bool {
        matches!(self, Self::Stop(unit) if matches!(unit.suffix(), "socket" | "timer" | "path"))
    }

    /// Whether sshd is restarted, and so takes what its unit says, too.
    pub fn restarts_sshd(&self) -> bool {
        matches!(self, Self::RestartForeign(unit) if SSHD.contains(&unit.as_str()))
    }
}

impl fmt::Display for Effect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stop(unit) => write!(f, "stop {unit}"),
            Self::OpenSecrets => f.write_str("open secrets"),
            Self::DaemonReload => f.write_str("reload systemd's units"),
            Self::Sysctl => f.write_str("set kernel parameters"),
            Self::LoadFirewall => f.write_str("load the firewall"),
            Self::RemoveFirewall => f.write_str("remove the firewall"),
            Self::RestartSocket(unit) | Self::Restart(unit) | Self::RestartForeign(unit) => {
                write!(f, "restart {unit}")
            }
            Self::Reload(unit) | Self::ReloadForeign(unit) => write!(f, "reload {unit}"),
            Self::ReloadNginx => f.write_str("reload nginx"),
        }
    }
}

/// What has to be run when `to` takes the place of `from`, in order. Empty when nothing that is
/// held in memory differs.
pub fn effects(from: &Manifest, to: &Manifest) -> Vec<Effect> {
    let mut all = BTreeSet::new();
    // What goes is told by all that there was, and what takes hold by what is relied on.
    for from in [from, &from.relied_on(to)] {
        units(from, to, &mut all);
        files(from, to, &mut all);
        secrets(from, to, &mut all);
        texts(from, to, &mut all);
    }
    if to.firewall().is_some() && all.iter().any(Effect::loads_own_firewall) {
        all.insert(Effect::LoadFirewall);
    }
    // A restart includes what a reload would do.
    let restarted: BTreeSet<UnitName> = all
        .iter()
        .filter_map(|effect| match effect {
            Effect::Restart(unit) | Effect::RestartForeign(unit) => Some(unit.clone()),
            _ => None,
        })
        .collect();
    all.retain(|effect| !matches!(effect, Effect::Reload(unit) | Effect::ReloadForeign(unit) if restarted.contains(unit)));
    let (own, mut rest): (Vec<Effect>, Vec<Effect>) =
        all.into_iter().partition(Effect::loads_own_firewall);
    let push_own = rest.partition_point(|effect| *effect < Effect::LoadFirewall);
    rest.splice(push_own..push_own, own);
    rest.sort_by_key(|effect| !effect.stops_a_trigger());
    rest
}

fn texts(from: &Manifest, to: &Manifest, all: &mut BTreeSet<Effect>) {
    if from.nftables() != to.nftables() {
        all.insert(if to.firewall().is_some() {
            Effect::LoadFirewall
        } else {
            Effect::RemoveFirewall
        });
    }
    if from.sites() != to.sites() {
        all.insert(Effect::ReloadNginx);
    }
}

fn units(from: &Manifest, to: &Manifest, all: &mut BTreeSet<Effect>) {
    let (old, new) = (from.units(), to.units());
    for &unit in old.keys().filter(|unit| !new.contains_key(*unit)) {
        all.extend([Effect::Stop(unit.clone()), Effect::DaemonReload]);
    }
    let outdated = outdated_apps(from, to);
    for (&name, &unit) in &new {
        let before = old.get(name).copied();
        if unit.runs == Runs::OnDemand && before.is_some_and(|unit| unit.runs == Runs::Always) {
            all.insert(Effect::Stop(name.clone()));
        }
        if before
            .is_none_or(|before| before.digest != unit.digest || before.wanted_by != unit.wanted_by)
        {
            all.insert(Effect::DaemonReload);
        }
        let rewritten =
            before.is_none_or(|before| before.digest != unit.digest || before.runs != unit.runs);
        if rewritten {
            all.extend(rewritten_effect(name, unit));
            all.extend(service_of_socket(name, &new));
        } else if let Some(old) = outdated.get(&unit.app) {
            all.extend(release_effect((name, unit), *old));
        }
    }
}

/// What an app's processes hold of an earlier generation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Old {
    /// A release, or a file: what they read again when they are told to.
    Read,
    /// What systemd gave them as they started, and gives to others only.
    Given,
}

/// The apps whose processes hold something old: another release, or another secret.
fn outdated_apps<'a>(from: &'a Manifest, to: &'a Manifest) -> BTreeMap<&'a AppName, Old> {
    let old = from.apps();
    let released = to.apps().into_iter().filter(|(name, app)| {
        old.get(name)
            .is_none_or(|before| before.release != app.release || before.user != app.user)
    });
    let released = released.map(|(name, _)| (name, Old::Read));
    let told = changed_secrets(from, to).into_iter();
    let told = told.filter_map(|(app, reader)| match reader {
        Reader::App => Some((app, Old::Read)),
        Reader::AppStart => Some((app, Old::Given)),
        Reader::Nginx | Reader::Nobody => None,
    });
    let mut all = BTreeMap::new();
    for (app, old) in released.chain(told) {
        let held = all.entry(app).or_insert(old);
        *held = old.max(*held);
    }
    all
}

/// What runs on demand takes its new text and release when it is called for next.
fn rewritten_effect(name: &UnitName, unit: &Unit) -> Option<Effect> {
    match unit.runs {
        Runs::OnDemand => None,
        Runs::Always if name.suffix() == "socket" => Some(Effect::RestartSocket(name.clone())),
        Runs::Always => Some(Effect::Restart(name.clone())),
    }
}

/// The service that has to be stopped for its socket to restart, and so has to be started again.
fn service_of_socket(name: &UnitName, units: &BTreeMap<&UnitName, &Unit>) -> Option<Effect> {
    if name.suffix() != "socket" {
        return None;
    }
    let service = format!("{}.service", name.stem());
    let (&service, unit) = units.iter().find(|(unit, _)| unit.as_str() == service)?;
    (unit.runs == Runs::Always).then(|| Effect::Restart(service.clone()))
}

fn release_effect((name, unit): (&UnitName, &Unit), old: Old) -> Option<Effect> {
    match (unit.runs, unit.on_release, old) {
        (Runs::OnDemand, _, _) | (Runs::Always, OnRelease::Nothing, _) => None,
        (Runs::Always, OnRelease::Restart, _) | (Runs::Always, OnRelease::Reload, Old::Given) => {
            Some(Effect::Restart(name.clone()))
        }
        (Runs::Always, OnRelease::Reload, Old::Read) => Some(Effect::Reload(name.clone())),
    }
}

fn files(from: &Manifest, to: &Manifest, all: &mut BTreeSet<Effect>) {
    let (old, new) = (from.files(), to.files());
    for path in changed_keys(&old, &new) {
        for file in [old.get(path), new.get(path)].into_iter().flatten() {
            all.extend(file_effect(&file.on_change, (from, to)));
        }
    }
}

fn file_effect(on_change: &OnChange, (from, to): (&Manifest, &Manifest)) -> Vec<Effect> {
    let ours = |unit: &UnitName| to.units().contains_key(unit);
    // It is stopped, and after that there is nothing to be told.
    let gone = |unit: &UnitName| from.units().contains_key(unit) && !ours(unit);
    match on_change {
        OnChange::Nothing => vec![],
        OnChange::Restart(unit) | OnChange::Reload(unit) if gone(unit) => {
            vec![Effect::DaemonReload]
        }
        OnChange::Restart(unit) if ours(unit) => {
            vec![Effect::DaemonReload, Effect::Restart(unit.clone())]
        }
        // The file may be a drop-in of the unit, so systemd reads it before the restart.
        OnChange::Restart(unit) => vec![Effect::DaemonReload, Effect::RestartForeign(unit.clone())],
        OnChange::Reload(unit) if ours(unit) => vec![Effect::Reload(unit.clone())],
        OnChange::Reload(unit) => vec![Effect::ReloadForeign(unit.clone())],
        OnChange::DaemonReload => vec![Effect::DaemonReload],
        OnChange::Sysctl => vec![Effect::Sysctl],
    }
}

fn secrets(from: &Manifest, to: &Manifest, all: &mut BTreeSet<Effect>) {
    let (old, new) = (from.secrets(), to.secrets());
    if old.keys().ne(new.keys()) {
        all.insert(Effect::OpenSecrets);
    }
    for (_, reader) in changed_secrets(from, to) {
        all.insert(Effect::OpenSecrets);
        match reader {
            Reader::Nginx => drop(all.insert(Effect::ReloadNginx)),
            // The app's units are told with it, see `outdated_apps`.
            Reader::App | Reader::AppStart | Reader::Nobody => {}
        }
    }
}

/// The apps with a secret that is new or has other content, and who has to be told.
fn changed_secrets<'a>(from: &'a Manifest, to: &'a Manifest) -> Vec<(&'a AppName, Reader)> {
    let old = from.secrets();
    to.secrets()
        .into_iter()
        .filter(|(key, secret)| {
            old.get(key)
                .is_none_or(|before| !before.same_content(secret))
        })
        .map(|((app, _), secret)| (app, secret.reader))
        .collect()
}

pub(crate) fn changed_keys<'a, K: Ord + ?Sized, V: PartialEq>(
    old: &BTreeMap<&'a K, V>,
    new: &BTreeMap<&'a K, V>,
) -> BTreeSet<&'a K> {
    old.keys()
        .chain(new.keys())
        .copied()
        .filter(|key| old.get(key) != new.get(key))
        .collect()
}

#[cfg(test)]
#[path = "effect_tests.rs"]
mod tests;
