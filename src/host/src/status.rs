//! What is in effect, what differs from what is declared, and what happened. Changes nothing.

use std::collections::{BTreeMap, BTreeSet};

use push_wire::digest::Digest;
use push_wire::journal::{Record, UnitState};
use push_wire::manifest::{Manifest, Runs, Slice};
use push_wire::message::{Bytes, Status, Transaction};
use push_wire::name::{GenerationId, ProjectName, UnitName};

use crate::before;
use crate::journal;
use crate::layout::Layout;
use crate::machine::{Disk, Machine, TEXT_BYTES_MAX};
use crate::stage::{Error, constant, intact};
use crate::store::{self, StoreError, links};
use crate::upgrade;

/// How many differences are told; more of them say nothing new.
const DRIFT_MAX: usize = 100;

/// A release of more entries is not looked at: every push waits for that.
const ENTRIES_MAX: usize = 20_000;

/// Whether the kernel has push's table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Firewall {
    /// It has.
    Loaded,
    /// It has not.
    Missing,
    /// It could not be asked.
    Unknown,
}

/// What is in effect now.
pub fn status<M: Machine>(
    machine: &mut M,
    layout: &Layout,
    firewall: Firewall,
) -> Result<Status, Error> {
    let journal = journal::read_settled(machine, layout)?;
    let manifest = store::current_manifest(machine, layout)?;
    let names: BTreeSet<UnitName> = manifest.units().into_keys().cloned().collect();
    let mut drift = Vec::new();
    match store::is_as_recorded(machine, layout, &journal) {
        Ok(()) => {}
        Err(error @ StoreError::Moved { .. }) => drift.push(format!("{error}: {}", error.help())),
        Err(error) => return Err(error.into()),
    }
    let units = match machine.units(&names) {
        Ok(units) => units,
        Err(error) => {
            drift.push(format!("systemd does not tell of units: {error}"));
            Vec::new()
        }
    };
    drift.extend(stopped(&manifest, &units));
    drift.extend(changed(machine, layout, &manifest)?);
    drift.extend(intact::look(machine, layout, &manifest, ENTRIES_MAX)?);
    drift.extend(unloaded(machine, &manifest, firewall));
    drift.extend(unready(machine, layout, &manifest)?);
    drift.truncate(DRIFT_MAX);
    let last = journal
        .transactions()
        .last()
        .map(|(first, last)| transaction(machine, layout, (first, last)));
    Ok(Status {
        units,
        last,
        drift,
        upgrade: upgrade::read(machine, layout)?.map(Box::new),
    })
}

/// What happened, the latest first.
pub fn history<M: Machine>(
    machine: &mut M,
    layout: &Layout,
    limit: u32,
) -> Result<Vec<Transaction>, Error> {
    let journal = journal::read_settled(machine, layout)?;
    let all = journal
        .transactions()
        .into_iter()
        .rev()
        .take(limit as usize);
    Ok(all.map(|both| transaction(machine, layout, both)).collect())
}

/// The texts of these digests that the generation in effect holds. Sealed secrets are not among them.
pub fn texts<M: Machine>(
    machine: &M,
    layout: &Layout,
    digests: &BTreeSet<Digest>,
) -> Result<BTreeMap<Digest, Bytes>, Error> {
    let manifest = store::current_manifest(machine, layout)?;
    let generation = layout.generation(manifest.generation);
    let units = manifest.units();
    let sites = manifest.sites();
    let files = manifest.files();
    let places = units
        .iter()
        .map(|(name, unit)| (unit.digest, generation.unit(name)))
        .chain(
            sites
                .iter()
                .map(|(app, site)| (site.digest, generation.site(app))),
        )
        .chain(
            files
                .iter()
                .map(|(path, file)| (file.digest, generation.file(path))),
        );
    let mut found = BTreeMap::new();
    for (digest, path) in places.filter(|(digest, _)| digests.contains(digest)) {
        let text = machine.read(&path, TEXT_BYTES_MAX)?;
        if Digest::of(&text) == digest {
            found.insert(digest, Bytes(text));
        }
    }
    Ok(found)
}

/// Whether a unit is there for systemd: running, or on its way up or down.
pub fn is_up(state: &UnitState) -> bool {
    matches!(
        state.active.as_str(),
        "active" | "activating" | "reloading" | "deactivating"
    )
}

/// What a project declared in a generation that is there, as push left it.
pub fn earlier<M: Disk>(
    machine: &M,
    layout: &Layout,
    (project, generation): (&ProjectName, GenerationId),
) -> Option<Box<Slice>> {
    let manifest = store::manifest(machine, layout, generation).ok()?;
    manifest.slice(project).cloned().map(Box::new)
}

fn transaction<M: Disk>(
    machine: &M,
    layout: &Layout,
    (first, last): (&Record, &Record),
) -> Transaction {
    // One that is gone, or is not as push left it, is not there to go back to.
    let manifest = first
        .about
        .as_ref()
        .and_then(|about| store::manifest(machine, layout, about.to).ok());
    let releases = manifest.as_ref().map(|manifest| {
        let apps = manifest.apps().into_iter();
        apps.map(|(name, app)| (name.clone(), app.release.to_string()))
            .collect()
    });
    Transaction {
        first: first.clone(),
        last: last.clone(),
        there: manifest.is_some(),
        releases: releases.unwrap_or_default(),
    }
}

fn stopped(manifest: &Manifest, states: &[UnitState]) -> Vec<String> {
    let declared = manifest.units();
    states
        .iter()
        .filter(|state| {
            let unit = state.unit.parse::<UnitName>().ok();
            let always = unit.and_then(|unit| declared.get(&unit).map(|unit| unit.runs));
            always == Some(Runs::Always) && (!is_up(state) || before::is_down(state))
        })
        .map(|state| {
            format!(
                "{} does not run: {} ({})",
                state.unit, state.active, state.result
            )
        })
        .collect()
}

fn changed<M: Disk>(
    machine: &M,
    layout: &Layout,
    manifest: &Manifest,
) -> Result<Vec<String>, Error> {
    let mut drift = match store::differences(machine, layout, manifest) {
        Ok(found) => found.iter().map(ToString::to_string).collect(),
        Err(error) => vec![format!("{error}: {}", error.help())],
    };
    for (place, link) in links::links(layout, manifest) {
        if machine.read_link(&place)?.as_ref() != Some(&link.target) {
            let shown = layout
                .named(&place)
                .map_or_else(String::new, |path| path.to_string());
            let is_gone = machine.stat(&place)?.is_none();
            let how = if is_gone {
                "is missing"
            } else {
                "does not lead to what is declared"
            };
            drift.push(format!("{shown} {how}"));
        }
    }
    Ok(drift)
}

/// What nginx and the kernel hold differs from what they should.
fn unloaded<M: Machine>(machine: &M, manifest: &Manifest, firewall: Firewall) -> Vec<String> {
    let mut drift = Vec::new();
    let generation = manifest.generation.0;
    if !manifest.sites().is_empty() {
        match machine.nginx_serves() {
            // nginx is only reloaded when sites change, so an older one is what is declared, too.
            Ok(Some(found)) if found <= generation => {}
            Ok(Some(found)) => drift.push(format!("nginx serves generation {found}")),
            Ok(None) => drift.push("nginx does not serve push's sites".to_owned()),
            Err(error) => drift.push(format!("nginx does not say what it serves: {error}")),
        }
    }
    if manifest.firewall().is_some() && firewall == Firewall::Missing {
        drift.push("the firewall is not loaded: there is no table inet push".to_owned());
    }
    drift
}

/// What the next boot, nginx and the services would miss.
fn unready<M: Disk>(
    machine: &M,
    layout: &Layout,
    manifest: &Manifest,
) -> Result<Vec<String>, Error> {
    let mut drift = Vec::new();
    if !manifest.generation.is_none() && !constant::is_recovery_enabled(machine, layout)? {
        drift.push("push-recover.service is not enabled: nothing recovers at boot".to_owned());
    }
    if !manifest.sites().is_empty() && machine.stat(&layout.nginx_include())?.is_none() {
        drift.push("nginx does not include push's sites".to_owned());
    }
    for (app, name) in manifest.secrets().into_keys() {
        if machine.stat(&layout.secret(app, name))?.is_none() {
            drift.push(format!("the secret {name} of {app} is not opened"));
        }
    }
    Ok(drift)
}
