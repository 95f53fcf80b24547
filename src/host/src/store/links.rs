//! The constant live links: from where systemd, the apps and other programs look, through
//! `/etc/push/current`, into the generation in effect. They never change their target, so the one
//! rename of `current` moves all of them.
//!
//! A path that is there already and is not ours is adopted if it is what the generation declares
//! anyway: its original is kept aside until the transaction ends, the link takes its place after the
//! switch, and taking back puts it there again before the switch back. So there is no moment at which
//! the path leads nowhere. Any other path in the way is an error that names it.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};

use push_wire::manifest::{File, Manifest};
use push_wire::path::HostPath;

use super::StoreError;
use crate::layout::Layout;
use crate::machine::{self, Access, Disk, Node, TEXT_BYTES_MAX};

/// One live link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Where it points, whatever the generation.
    pub target: PathBuf,
    /// The file that it leads to, if it leads to a file: its place in the generation, and its access.
    pub file: Option<(PathBuf, Access)>,
}

/// What is found in a link's place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Found {
    Nothing,
    Ours,
    /// A regular file with the content, owner and mode that the generation declares.
    Identical,
    Foreign,
}

/// Every live link of a manifest, by its place.
pub fn links(layout: &Layout, manifest: &Manifest) -> BTreeMap<PathBuf, Link> {
    let (live, staged) = (layout.live(), layout.generation(manifest.generation));
    let mut all = BTreeMap::new();
    for (name, unit) in manifest.units() {
        let file = Some((staged.unit(name), Access::public_file()));
        all.insert(
            layout.unit(name),
            Link {
                target: live.unit(name),
                file,
            },
        );
        for target in &unit.wanted_by {
            let up = Path::new("..").join(name.as_str());
            all.insert(
                layout.wants(target, name),
                Link {
                    target: up,
                    file: None,
                },
            );
        }
    }
    for name in manifest.apps().into_keys() {
        all.insert(
            layout.app_current(name),
            Link {
                target: live.app(name),
                file: None,
            },
        );
    }
    for (path, file) in manifest.files() {
        let file = Some((staged.file(path), access(file)));
        all.insert(
            layout.host(path),
            Link {
                target: live.file(path),
                file,
            },
        );
    }
    all
}

/// The access of a declared file.
pub(super) fn access(file: &File) -> Access {
    Access {
        mode: file.mode,
        owner: file.owner.clone(),
        group: file.group.clone(),
    }
}

/// The paths that stand in the way of a generation's links and cannot be adopted.
pub fn occupied<M: Disk>(
    machine: &M,
    layout: &Layout,
    manifest: &Manifest,
) -> Result<Vec<HostPath>, StoreError> {
    let mut paths = Vec::new();
    for (place, link) in links(layout, manifest) {
        if found(machine, &place, &link)? == Found::Foreign {
            paths.extend(layout.named(&place));
        }
    }
    Ok(paths)
}

/// Makes the links of a generation that are missing, and keeps aside the originals of what will be
/// adopted. Durable when it returns; nothing live changes by it.
pub fn lay<M: Disk>(
    machine: &mut M,
    layout: &Layout,
    manifest: &Manifest,
) -> Result<(), StoreError> {
    let foreign = occupied(machine, layout, manifest)?;
    if !foreign.is_empty() {
        return Err(StoreError::Occupied(foreign));
    }
    // An original of an earlier transaction must not be taken for one of this.
    forget_originals(machine, layout)?;
    lay_again(machine, layout, manifest)
}

/// Makes the links of a generation that are missing, and leaves the originals kept aside.
pub fn lay_again<M: Disk>(
    machine: &mut M,
    layout: &Layout,
    manifest: &Manifest,
) -> Result<(), StoreError> {
    let mut changed = BTreeSet::new();
    for (place, link) in links(layout, manifest) {
        match found(machine, &place, &link)? {
            Found::Nothing => {
                make_folder_of(machine, &place, &mut changed)?;
                machine.link(&link.target, &place)?;
            }
            Found::Identical => keep_aside(machine, layout, (&place, &link), &mut changed)?,
            Found::Ours | Found::Foreign => {}
        }
    }
    sync(machine, &changed)
}

/// Puts links in the place of the files that are adopted; after the switch, when they lead to the
/// same content.
pub fn adopt<M: Disk>(
    machine: &mut M,
    layout: &Layout,
    manifest: &Manifest,
) -> Result<(), StoreError> {
    let mut changed = BTreeSet::new();
    for (place, link) in links(layout, manifest) {
        if found(machine, &place, &link)? == Found::Identical {
            machine::replace_link(machine, &link.target, &place)?;
            changed.extend(place.parent().map(Path::to_owned));
        }
    }
    sync(machine, &changed)
}

/// Puts the originals of files that only `gone` adopted in their place again; before the switch back
/// to `kept`.
pub fn restore<M: Disk>(
    machine: &mut M,
    layout: &Layout,
    (gone, kept): (&Manifest, &Manifest),
) -> Result<(), StoreError> {
    let kept = links(layout, kept);
    let mut changed = BTreeSet::new();
    for (place, link) in links(layout, gone) {
        if kept.contains_key(&place) {
            continue;
        }
        let aside = layout.adopted(&place);
        let Some((_, access)) = &link.file else {
            continue;
        };
        if machine.stat(&aside)?.is_none() || found(machine, &place, &link)? != Found::Ours {
            continue;
        }
        let content = machine.read(&aside, TEXT_BYTES_MAX)?;
        machine::replace(machine, &place, &content, access)?;
        changed.extend(place.parent().map(Path::to_owned));
    }
    sync(machine, &changed)
}

/// Removes the links to files that only `gone` has; right after the switch to `kept`. They lead
/// nowhere now, and a program that reads their folder may fail for it: sshd refuses its whole
/// configuration. Links of units stay until the end, because systemd takes no notice of them.
pub fn withdraw<M: Disk>(
    machine: &mut M,
    layout: &Layout,
    (gone, kept): (&Manifest, &Manifest),
) -> Result<(), StoreError> {
    let kept = links(layout, kept);
    let mut changed = BTreeSet::new();
    for (place, link) in links(layout, gone) {
        let is_file = link.file.is_some();
        if is_file && !kept.contains_key(&place) && found(machine, &place, &link)? == Found::Ours {
            machine.remove(&place)?;
            changed.extend(place.parent().map(Path::to_owned));
        }
    }
    sync(machine, &changed)
}

/// Removes the links that only `gone` has, and the originals kept aside; after the transaction has
/// ended, so that `kept` is what stays.
pub fn release<M: Disk>(
    machine: &mut M,
    layout: &Layout,
    (gone, kept): (&Manifest, &Manifest),
) -> Result<(), StoreError> {
    let kept = links(layout, kept);
    let mut changed = BTreeSet::new();
    for (place, link) in links(layout, gone) {
        if !kept.contains_key(&place) && found(machine, &place, &link)? == Found::Ours {
            machine.remove(&place)?;
            changed.extend(place.parent().map(Path::to_owned));
        }
    }
    forget_originals(machine, layout)?;
    sync(machine, &changed)
}

fn forget_originals<M: Disk>(machine: &mut M, layout: &Layout) -> Result<(), StoreError> {
    let folder = layout.adopted_folder();
    for name in machine.list(&folder)? {
        machine.remove(&folder.join(name))?;
    }
    Ok(())
}

fn found<M: Disk>(machine: &M, place: &Path, link: &Link) -> Result<Found, StoreError> {
    let Some(stat) = machine.stat(place)? else {
        return Ok(Found::Nothing);
    };
    match stat.node {
        Node::Link if machine.read_link(place)?.as_ref() == Some(&link.target) => Ok(Found::Ours),
        Node::File if stat.names == 1 && is_identical(machine, place, link)? => {
            Ok(Found::Identical)
        }
        Node::File | Node::Folder | Node::Link | Node::Other => Ok(Found::Foreign),
    }
}

fn is_identical<M: Disk>(machine: &M, place: &Path, link: &Link) -> io::Result<bool> {
    let Some((staged, access)) = &link.file else {
        return Ok(false);
    };
    let (Some(there), Some(declared)) = (machine.stat(place)?, machine.stat(staged)?) else {
        return Ok(false);
    };
    Ok(there.bytes == declared.bytes
        && there.mode == access.mode
        && (there.uid, there.gid) == machine.ids(access)?
        && machine.read(place, TEXT_BYTES_MAX)? == machine.read(staged, TEXT_BYTES_MAX)?)
}

fn keep_aside<M: Disk>(
    machine: &mut M,
    layout: &Layout,
    (place, link): (&Path, &Link),
    changed: &mut BTreeSet<PathBuf>,
) -> Result<(), StoreError> {
    let Some((_, access)) = &link.file else {
        return Ok(());
    };
    machine::folders(machine, &layout.adopted_folder(), &Access::private_folder())?;
    let content = machine.read(place, TEXT_BYTES_MAX)?;
    machine::replace(machine, &layout.adopted(place), &content, access)?;
    changed.extend([layout.adopted_folder(), layout.push()]);
    Ok(())
}

/// Makes the folders above a link that are missing, and notes every folder that gets a new entry.
fn make_folder_of<M: Disk>(
    machine: &mut M,
    place: &Path,
    changed: &mut BTreeSet<PathBuf>,
) -> Result<(), StoreError> {
    let Some(folder) = place.parent() else {
        return Ok(());
    };
    for above in folder.ancestors() {
        changed.insert(above.to_owned());
        if machine.stat(above)?.is_some() {
            break;
        }
    }
    Ok(machine::folders(machine, folder, &Access::public_folder())?)
}

fn sync<M: Disk>(machine: &mut M, folders: &BTreeSet<PathBuf>) -> Result<(), StoreError> {
    for folder in folders {
        machine.sync(folder)?;
    }
    Ok(())
}
