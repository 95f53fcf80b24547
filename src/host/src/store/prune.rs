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
use push_wire::name::{AppName, GenerationId, ProjectName, ReleaseId};

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
    let latest_first = committed.iter().rev().filter(|(id, _)| **id <= in_effect);
    let latest_first: Vec<(&GenerationId, &Manifest)> = latest_first.collect();
    let limits = limits(&latest_first);
    let needed = needed_to_go_back(&latest_first);
    for (place, (id, manifest)) in latest_first.into_iter().enumerate() {
        let must_stay = place < RELEASES_KEPT_MIN || needed.contains(id);
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

/// How many releases each app keeps, as the latest generation says that has it: one that is gone can be
/// brought back as any other can.
fn limits(latest_first: &[(&GenerationId, &Manifest)]) -> BTreeMap<AppName, usize> {
    let mut limits = BTreeMap::new();
    for (name, app) in latest_first
        .iter()
        .flat_map(|(_, manifest)| manifest.apps())
    {
        let limit = limits.entry(name.clone());
        limit.or_insert(app.keep_releases as usize);
    }
    limits
}

/// The generation that each project goes back to first: the latest one in which it declared something else
/// than now, however often others have pushed since. A project that has gone keeps it among the latest.
fn needed_to_go_back(latest_first: &[(&GenerationId, &Manifest)]) -> BTreeSet<GenerationId> {
    let Some((_, now)) = latest_first.first() else {
        return BTreeSet::new();
    };
    let projects: BTreeSet<&ProjectName> = latest_first
        .iter()
        .flat_map(|(_, manifest)| manifest.slices.keys())
        .collect();
    let before = |project: &ProjectName| {
        let mut places = latest_first.iter().enumerate();
        let (place, (id, _)) =
            places.find(|(_, (_, manifest))| manifest.slice(project) != now.slice(project))?;
        let is_kept = now.slice(project).is_some() || place < GENERATIONS_KEPT_MAX;
        is_kept.then_some(**id)
    };
    projects.into_iter().filter_map(before).collect()
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

#[cfg(test)]
mod tests {
    use super::*;
    use push_wire::digest::Digest;
    use push_wire::manifest::{App, Placed, Provenance, Slice};

    fn app(release: &str, keep_releases: u32) -> App {
        App {
            release: release.parse().unwrap(),
            tree: Digest::of(release),
            size: 1,
            user: "api".parse().unwrap(),
            shared: BTreeSet::new(),
            ports: BTreeSet::new(),
            keep_releases,
            health: None,
        }
    }

    /// Generations from 1 on, each with the release of `api` in the project `shop` and of `blog` in the
    /// project `diary`, where they have one.
    fn committed(all: &[(Option<&str>, Option<&str>)]) -> BTreeMap<GenerationId, Manifest> {
        let generations = all.iter().zip(1..).map(|((api, blog), number)| {
            let mut manifest = Manifest::empty();
            manifest.generation = GenerationId(number);
            for (project, name, release) in [("shop", "api", api), ("diary", "blog", blog)] {
                let Some(release) = release else { continue };
                let mut slice = Slice::default();
                slice.apps.insert(name.parse().unwrap(), app(release, 3));
                let provenance = Provenance::default();
                let placed = Placed { slice, provenance };
                manifest.slices.insert(project.parse().unwrap(), placed);
            }
            (manifest.generation, manifest)
        });
        generations.collect()
    }

    fn kept(all: &[(Option<&str>, Option<&str>)]) -> Vec<u64> {
        let manifests = committed(all);
        let there: BTreeSet<GenerationId> = manifests.keys().copied().collect();
        let in_effect = *there.last().unwrap();
        let folders = ["api".to_owned(), "blog".to_owned()];
        let kept = choose(&manifests, in_effect, &there, &folders);
        kept.generations.into_iter().map(|id| id.0).collect()
    }

    #[test]
    fn an_app_keeps_as_many_releases_as_it_declares() {
        let releases = ["r1", "r2", "r3", "r4", "r5"];
        assert_eq!(kept(&releases.map(|one| (Some(one), None))), [3, 4, 5]);
    }

    #[test]
    fn an_app_that_goes_takes_no_generation_of_another_project_with_it() {
        let all = [
            (Some("r1"), Some("b1")),
            (Some("r2"), Some("b1")),
            (Some("r3"), Some("b1")),
            (Some("r3"), None),
            (Some("r3"), None),
        ];
        assert_eq!(kept(&all), [1, 2, 3, 4, 5]);
    }

    #[test]
    fn what_a_project_goes_back_to_stays_however_often_others_push() {
        let blogs: Vec<String> = (1..=60).map(|number| format!("b{number}")).collect();
        let mut all = vec![(Some("r1"), Some("b0"))];
        all.extend(blogs.iter().map(|blog| (Some("r2"), Some(blog.as_str()))));
        assert_eq!(kept(&all), [1, 59, 60, 61]);
        // A project that has gone does not keep its releases for ever.
        for (api, _) in &mut all[1..] {
            *api = None;
        }
        assert_eq!(kept(&all), [59, 60, 61]);
        all.truncate(20);
        assert_eq!(kept(&all), [1, 18, 19, 20]);
    }
}
