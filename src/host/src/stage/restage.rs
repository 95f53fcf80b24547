//! A slice as an earlier generation had it.

use push_wire::journal::State;
use push_wire::manifest::{Manifest, Placed};
use push_wire::message::{Refusal, Restage};
use push_wire::name::{GenerationId, ProjectName};

use super::compose::Wanted;
use super::{Error, trees};
use crate::journal::Journal;
use crate::layout::Layout;
use crate::machine::Disk;
use crate::store;

/// What going back asks for, and the generation that it comes from: committed, as it was left, with
/// its releases whole.
pub fn wanted<M: Disk>(
    machine: &M,
    layout: &Layout,
    (journal, current): (&Journal, &Manifest),
    asked: Restage,
) -> Result<(Wanted, Manifest), Error> {
    let mut there = Vec::new();
    let mut found = None;
    for id in committed(journal, current.generation) {
        let Some(manifest) = usable(machine, layout, id, &asked.project)? else {
            continue;
        };
        there.push(id);
        if id == asked.to {
            found = Some(manifest);
        }
    }
    let Some(was) = found else {
        return Err(Refusal::NoGeneration {
            wanted: asked.to,
            there,
        }
        .into());
    };
    let slice = was.slice(&asked.project).cloned().unwrap_or_default();
    let slice = slice.applied_as_in(current, &asked.project);
    let wanted = Wanted {
        project: asked.project,
        base: asked.base,
        slice,
        // Going back to what was itself a rollback goes back to where that came from.
        restores: Some(was.restores.unwrap_or(was.generation)),
        provenance: asked.provenance,
        way_in: asked.way_in,
    };
    Ok((wanted, was))
}

/// The generations that were committed, the oldest first; the one in effect is.
fn committed(journal: &Journal, current: GenerationId) -> Vec<GenerationId> {
    let mut all: Vec<GenerationId> = journal
        .transactions()
        .into_iter()
        .filter(|(_, last)| last.state == State::Committed)
        .filter_map(|(first, _)| first.about.as_ref())
        .map(|about| about.to)
        .chain((!current.is_none()).then_some(current))
        .collect();
    all.sort_unstable();
    all.dedup();
    all
}

/// A generation, if it has something of the project and can be gone back to.
fn usable<M: Disk>(
    machine: &M,
    layout: &Layout,
    id: GenerationId,
    project: &ProjectName,
) -> Result<Option<Manifest>, Error> {
    // One that is gone, or is not as push left it, is simply not there to go back to.
    let Ok(manifest) = store::manifest(machine, layout, id) else {
        return Ok(None);
    };
    let Some(Placed { slice, .. }) = manifest.slices.get(project) else {
        return Ok(None);
    };
    for (name, app) in &slice.apps {
        if trees::tree_of(machine, layout, name, &app.release)? != Some(app.tree) {
            return Ok(None);
        }
    }
    Ok(Some(manifest))
}
