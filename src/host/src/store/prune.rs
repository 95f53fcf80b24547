//! Removes what nothing needs any more: releases beyond those that an app keeps, generations that can
//! no longer be gone back to, and what an earlier removal left half-done. Only after a commit, and
//! never what is in effect, what was before it, or what a process still uses.
//!
//! Each thing is first renamed out of the way and then deleted, so that a cut leaves trash and never
//! a half release under its name.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use push_wire::journal::State;
use push_wire::manifest::Manifest;
use push_wire::name::{AppName, GenerationId, ReleaseId};

use super::{StoreError, current, generations, manifest};
use crate::groundwork::certificates;
use crate::journal::Journal;
use crate::layout::{Layout, TRASH};
use crate::machine::{Disk, World};

/// The fewest committed releases that stay, whatever is declared: the one in effect and the one
/// before it.
const RELEASES_KEPT_MIN: usize = 2;

/// The most committed generations that stay, in effect or not.
const GENERATIONS_KEPT_MAX: usize = 50;

type Releases = BTreeMap<AppName, BTreeSet<ReleaseId>>;

/// What stays.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Kept {
    /// Generations that can be gone back to, the one in effect among them.
    pub generations: BTreeSet<GenerationId>,
    /// Releases by app.
    pub releases: Releases,
}

/// Removes everything that does not stay. The lock must be held.
pub fn prune<M: Disk + World>(
    machine: &mut M,
    layout: &Layout,
    journal: &Journal,
) -> Result<(), StoreError> {
    let kept = kept(machine, layout, journal)?;
    let used = machine.in_use(&layout.apps())?;
    for id in generations(machine, layout)?.difference(&kept.generations) {
        discard(machine, &layout.generations(), &id.to_string())?;
    }
    sweep(machine, &layout.generations())?;
    certificates(machine, layout, &kept)?;
    for name in machine.list(&layout.apps())? {
        // A folder of /srv whose name is no app's is somebody else's.
        let Ok(app) = name.parse::<AppName>() else {
            continue;
        };
        let Some(keeps) = kept.releases.get(&app) else {
            continue;
        };
        let folder = layout.releases(&app);
        for name in machine.list(&folder)? {
            let is_kept = name.starts_with(TRASH) || keeps.iter().any(|id| id.as_str() == name);
            if !is_kept && !is_used(&used, &folder.join(&name)) {
                discard(machine, &folder, &name)?;
            }
        }
        sweep(machine, &folder)?;
    }
    Ok(())
}

/// Removes the certificates that no generation needs which stays. One that cannot be read may need any.
fn certificates<M: Disk>(machine: &mut M, layout: &Layout, kept: &Kept) -> Result<(), StoreError> {
    let mut manifests = Vec::new();
    for id in &kept.generations {
        match manifest(machine, layout, *id) {
            Ok(manifest) => manifests.push(manifest),
            Err(StoreError::Disk(error)) => return Err(error.into()),
            Err(_) => return Ok(()),
        }
    }
    Ok(certificates::prune(machine, layout, manifests.iter())?)
}

/// Decides what stays, from the journal and the manifests.
pub fn kept<M: Disk>(machine: &M, layout: &Layout, journal: &Journal) -> Result<Kept, StoreError> {
    let there = generations(machine, layout)?;
    let in_effect = current(machine, layout)?;
    let mut manifests = BTreeMap::new();
    for id in committed(journal, in_effect).intersection(&there) {
        // One that was tampered with cannot be gone back to, so it is not kept for that.
        match manifest(machine, layout, *id) {
            Ok(manifest) => drop(manifests.insert(*id, manifest)),
            Err(StoreError::Disk(error)) => return Err(error.into()),
            Err(_) => {}
        }
    }
    Ok(choose(
        &manifests,
        in_effect,
        &there,
        &machine.list(&layout.apps())?,
    ))
}

/// The generations that were in effect for good. The one that a transaction began at was, even if
/// the journal no longer tells of its commit.
fn committed(journal: &Journal, in_effect: GenerationId) -> BTreeSet<GenerationId> {
    let mut all = BTreeSet::from([in_effect]);
    for (first, last) in journal.transactions() {
        if let Some(about) = &first.about {
            all.insert(about.from);
            if last.state == State::Committed {
                all.insert(about.to);
            }
        }
    }
    all
}

fn choose(
    committed: &BTreeMap<GenerationId, Manifest>,
    in_effect: GenerationId,
    there: &BTreeSet<GenerationId>,
    folders: &[String],
) -> Kept {
    let mut kept = Kept::default();
    // Folders of apps that no kept generation has keep nothing.
    for app in folders.iter().filter_map(|name| name.parse().ok()) {
        if committed
            .values()
            .any(|manifest| manifest.apps().contains_key(&app))
        {
            kept.releases.insert(app, BTreeSet::new());
        }
    }
    let limits: BTreeMap<AppName, usize> = committed
        .get(&in_effect)
        .map(|manifest| manifest.apps())
        .unwrap_or_default()
        .into_iter()
        .map(|(name, app)| (name.clone(), app.keep_releases as usize))
        .collect();
    let latest_first = committed.iter().rev().filter(|(id, _)| **id <= in_effect);
    for (place, (id, manifest)) in latest_first.enumerate() {
        let must_stay = place < RELEASES_KEPT_MIN;
        let fits = place < GENERATIONS_KEPT_MAX
            && manifest.apps().iter().all(|(app, declared)| {
                let limit = limits.get(*app).copied().unwrap_or(0);
                kept.releases
                    .get(*app)
                    .is_some_and(|ids| ids.contains(&declared.release) || ids.len() < limit)
            });
        if must_stay || fits {
            kept.generations.insert(*id);
            for (app, declared) in manifest.apps() {
                kept.releases
                    .entry(app.clone())
                    .or_default()
                    .insert(declared.release.clone());
            }
        }
    }
    // What is in effect stays even if its manifest cannot be read.
    kept.generations.extend(there.get(&in_effect));
    kept
}

fn is_used(used: &BTreeSet<PathBuf>, release: &Path) -> bool {
    used.iter().any(|path| path.starts_with(release))
}

fn discard<M: Disk>(machine: &mut M, folder: &Path, name: &str) -> Result<(), StoreError> {
    let trash = folder.join(format!("{TRASH}{name}"));
    machine.remove_folder(&trash)?;
    Ok(machine.rename(&folder.join(name), &trash)?)
}

/// Deletes what was renamed out of the way, now or before a cut. The renames reach the disk first, or
/// a cut could leave a half-deleted release under its name.
fn sweep<M: Disk>(machine: &mut M, folder: &Path) -> Result<(), StoreError> {
    let trash: Vec<String> = machine
        .list(folder)?
        .into_iter()
        .filter(|name| name.starts_with(TRASH))
        .collect();
    if trash.is_empty() {
        return Ok(());
    }
    machine.sync(folder)?;
    for name in trash {
        machine.remove_folder(&folder.join(name))?;
    }
    Ok(())
}
