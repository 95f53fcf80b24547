//! The link that names the generation in effect, and the renames that change it. Both links that a
//! transaction can need are made in advance, so that neither a switch nor its way back needs a new
//! inode on a full disk. Nothing else changes what is in effect.

use std::io;

use push_wire::name::GenerationId;

use crate::layout::Layout;
use crate::machine::{Disk, Node};

/// Makes both links in advance: to the generation that is in effect and the one that is to be. The sync of
/// the switch itself makes them durable: file systems keep the order of changes in one folder, so no
/// cut leaves the rename without them.
pub fn make_ready<M: Disk>(
    machine: &mut M,
    layout: &Layout,
    (from, to): (GenerationId, GenerationId),
) -> io::Result<()> {
    for (link, id) in [(layout.current_to(), to), (layout.current_from(), from)] {
        machine.remove(&link)?;
        if !id.is_none() {
            machine.link(&Layout::current_target(id), &link)?;
        }
    }
    Ok(())
}

/// THE switch: one rename, made durable.
pub fn carry_out<M: Disk>(machine: &mut M, layout: &Layout) -> io::Result<()> {
    machine.rename(&layout.current_to(), &layout.current())?;
    machine.sync(&layout.push())
}

/// Makes `current` name a generation, or nothing, durably; with a link made in advance if one of them
/// is the right one.
pub fn point<M: Disk>(machine: &mut M, layout: &Layout, id: GenerationId) -> io::Result<()> {
    let target = Layout::current_target(id);
    if id.is_none() {
        machine.remove(&layout.current())?;
        return machine.sync(&layout.push());
    }
    let mut ready = layout.current_from();
    if machine.read_link(&ready)?.as_ref() != Some(&target) {
        ready = layout.current_to();
        machine.remove(&ready)?;
        machine.link(&target, &ready)?;
    }
    let found = machine.stat(&layout.current())?;
    if found.is_some_and(|found| found.node == Node::Folder) {
        // No rename takes the place of a folder. Whatever somebody has put there is kept.
        machine.rename(&layout.current(), &layout.current_foreign())?;
    }
    machine.rename(&ready, &layout.current())?;
    machine.sync(&layout.push())
}

/// Removes the links made in advance that were not needed.
pub fn forget_ready<M: Disk>(machine: &mut M, layout: &Layout) -> io::Result<()> {
    machine.remove(&layout.current_to())?;
    machine.remove(&layout.current_from())
}
