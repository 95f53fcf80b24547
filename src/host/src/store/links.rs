//! The constant live links: from where systemd, the apps and other programs look, through
//! `/etc/push/current`, into the generation in effect. They never change their target, so the one
//! rename of `current` moves all of them.
//!
//! A path that is there already and is not ours is adopted if it is what the generation declares
//! anyway: its original keeps a second name until the transaction ends, the link takes its place after the
//! switch, and taking back renames it there again before the switch back. So there is no moment at which
//! the path leads nowhere. Any other path in the way is an error that names it.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};

use push_wire::manifest::{File, Manifest};
use push_wire::path::HostPath;

use super::StoreError;
use crate::layout::Layout;
use crate::machine::{self, Access, Disk, Misled, Node, TEXT_BYTES_MAX};

/// One live link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// What looks there.
    pub reader: LinkReader,
    /// Where it points, whatever the generation.
    pub target: PathBuf,
    /// The file that it leads to, if it leads to a file: its place in the generation, and its access.
    pub file: Option<(PathBuf, Access)>,
}

/// Who looks at a live link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinkReader {
    /// systemd, when it reads its units; it takes no notice of a link that leads nowhere.
    Systemd,
    /// The processes of an app.
    App,
    /// Any program, at any time.
    Anybody,
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
    let mut add = |place, reader, target, file| {
        all.insert(
            place,
            Link {
                reader,
                target,
                file,
            },
        );
    };
    for (name, unit) in manifest.units() {
        let file = Some((staged.unit(name), Access::public_file()));
        add(
            layout.unit(name),
            LinkReader::Systemd,
            live.unit(name),
            file,
        );
        for target in &unit.wanted_by {
            let up = Path::new("..").join(name.as_str());
            add(layout.wants(target, name), LinkReader::Systemd, up, None);
        }
    }
    for name in manifest.apps().into_keys() {
        add(
            layout.app_current(name),
            LinkReader::App,
            live.app(name),
            None,
        );
    }
    for (path, file) in manifest.files() {
        let staged = Some((staged.file(path), access(file)));
        add(
            layout.host(path),
            LinkReader::Anybody,
            live.file(path),
            staged,
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

/// Makes the links of a generation that are missing, and gives a second name to what will be
/// adopted. Durable when it returns; nothing live changes by it. Refuses where something is in the way.
pub fn lay<M: Disk>(
    machine: &mut M,
    layout: &Layout,
    manifest: &Manifest,
) -> Result<(), StoreError> {
    let foreign = occupied(machine, layout, manifest)?;
    if !foreign.is_empty() {
        return Err(StoreError::Occupied(foreign));
    }
    lay_where_free(machine, layout, manifest).map(drop)
}

/// The same, and what is in the way stays there. Returns whether a link was missing.
pub fn lay_where_free<M: Disk>(
    machine: &mut M,
    layout: &Layout,
    manifest: &Manifest,
) -> Result<bool, StoreError> {
    // An original of an earlier transaction must not be taken for one of this.
    let mut changed = forget_hidden(machine, links(layout, manifest).keys())?;
    let mut made = false;
    for (place, link) in links(layout, manifest) {
        match found(machine, &place, &link)? {
            Found::Nothing => {
                if let Some(folder) = place.parent() {
                    if machine.stat(folder)?.is_none() {
                        machine::folders(machine, folder, &Access::public_folder())?;
                    }
                    changed.insert(folder.to_owned());
                }
                machine.link(&link.target, &place)?;
                made = true;
            }
            Found::Identical => {
                machine.hard_link(&place, &Layout::original(&place))?;
                changed.extend(place.parent().map(Path::to_owned));
            }
            Found::Ours | Found::Foreign => {}
        }
    }
    sync(machine, &changed)?;
    Ok(made)
}

/// Puts links in the place of the files that are adopted; after the switch, when they lead to the
/// same content.
pub fn adopt<M: Disk>(
    machine: &mut M,
    layout: &Layout,
    manifest: &Manifest,
) -> Result<(), StoreError> {
    let changed = put_links(machine, layout, manifest)?;
    sync(machine, &changed)
}

/// Lets the paths outside follow a switch from `gone` to `kept`: what is adopted becomes a link, and what
/// only `gone` has is withdrawn.
pub fn follow<M: Disk>(
    machine: &mut M,
    layout: &Layout,
    (gone, kept): (&Manifest, &Manifest),
) -> Result<(), StoreError> {
    let mut changed = put_links(machine, layout, kept)?;
    changed.extend(hide(machine, layout, (gone, kept))?);
    sync(machine, &changed)
}

fn put_links<M: Disk>(
    machine: &mut M,
    layout: &Layout,
    manifest: &Manifest,
) -> Result<BTreeSet<PathBuf>, StoreError> {
    let mut changed = BTreeSet::new();
    for (place, link) in links(layout, manifest) {
        if found(machine, &place, &link)? == Found::Identical {
            machine::replace_link(machine, &link.target, &place)?;
            changed.extend(place.parent().map(Path::to_owned));
        }
    }
    Ok(changed)
}

/// Puts the originals of files that only `gone` adopted in their place again; before the switch back
/// to `kept`.
pub fn restore<M: Disk>(
    machine: &mut M,
    layout: &Layout,
    (gone, kept): (&Manifest, &Manifest),
) -> Result<(), StoreError> {
    let kept = links(layout, kept);
    let mut gone = links(layout, gone);
    gone.retain(|place, _| !kept.contains_key(place));
    unhide(machine, &gone, (Layout::original, Found::Ours))
}

/// Takes the links to files that only `gone` has out of the way; right after the switch to `kept`.
/// They lead nowhere now, and a program that reads their folder may fail for it: sshd refuses its
/// whole configuration. They are hidden by a rename, so that they can come back on a full disk. Links
/// of units stay until the end, because systemd takes no notice of them.
pub fn withdraw<M: Disk>(
    machine: &mut M,
    layout: &Layout,
    sides: (&Manifest, &Manifest),
) -> Result<(), StoreError> {
    let changed = hide(machine, layout, sides)?;
    sync(machine, &changed)
}

fn hide<M: Disk>(
    machine: &mut M,
    layout: &Layout,
    (gone, kept): (&Manifest, &Manifest),
) -> Result<BTreeSet<PathBuf>, StoreError> {
    let kept = links(layout, kept);
    let mut changed = BTreeSet::new();
    for (place, link) in links(layout, gone) {
        let only_gone = link.reader == LinkReader::Anybody && !kept.contains_key(&place);
        if only_gone && found(machine, &place, &link)? == Found::Ours {
            machine.rename(&place, &Layout::withdrawn(&place))?;
            changed.extend(place.parent().map(Path::to_owned));
        }
    }
    Ok(changed)
}

/// Brings withdrawn links of a generation back; right after the switch back to it.
pub fn bring_back<M: Disk>(
    machine: &mut M,
    layout: &Layout,
    manifest: &Manifest,
) -> Result<(), StoreError> {
    let links = links(layout, manifest);
    unhide(machine, &links, (Layout::withdrawn, Found::Nothing))
}

/// Renames what waits under a hidden name to its place, where it belongs over what is found there.
fn unhide<M: Disk>(
    machine: &mut M,
    links: &BTreeMap<PathBuf, Link>,
    (hidden, over): (fn(&Path) -> PathBuf, Found),
) -> Result<(), StoreError> {
    let mut changed = BTreeSet::new();
    for (place, link) in links {
        let hidden = hidden(place);
        if is_there(machine, &hidden)? && found(machine, place, link)? == over {
            machine.rename(&hidden, place)?;
            changed.extend(place.parent().map(Path::to_owned));
        }
    }
    sync(machine, &changed)
}

/// Removes the links that only `gone` has, and the second names of originals; after the transaction has
/// ended, so that `kept` is what stays.
pub fn release<M: Disk>(
    machine: &mut M,
    layout: &Layout,
    (gone, kept): (&Manifest, &Manifest),
) -> Result<(), StoreError> {
    let (gone, kept) = (links(layout, gone), links(layout, kept));
    let mut changed = forget_hidden(machine, gone.keys().chain(kept.keys()))?;
    for (place, link) in &gone {
        if !kept.contains_key(place) && found(machine, place, link)? == Found::Ours {
            machine.remove(place)?;
            changed.extend(place.parent().map(Path::to_owned));
        }
    }
    sync(machine, &changed)
}

/// Removes the second names of adopted files, withdrawn links, and links that a cut kept from their place;
/// returns the folders that this
/// changed.
fn forget_hidden<'a, M: Disk>(
    machine: &mut M,
    places: impl Iterator<Item = &'a PathBuf>,
) -> Result<BTreeSet<PathBuf>, StoreError> {
    let mut changed = BTreeSet::new();
    for place in places {
        let hidden = [
            Layout::original(place),
            Layout::withdrawn(place),
            machine::beside(place),
        ];
        for hidden in hidden {
            if is_there(machine, &hidden)? {
                machine.remove(&hidden)?;
                changed.extend(place.parent().map(Path::to_owned));
            }
        }
    }
    Ok(changed)
}

fn found<M: Disk>(machine: &M, place: &Path, link: &Link) -> Result<Found, StoreError> {
    let stat = match machine.stat(place) {
        // A user led the way there elsewhere: whatever is there, it is none of push's.
        Err(error) if Misled::of(&error).is_some() => return Ok(Found::Foreign),
        other => other?,
    };
    let Some(stat) = stat else {
        return if is_barred(machine, place)? {
            Ok(Found::Foreign)
        } else {
            Ok(Found::Nothing)
        };
    };
    match stat.node {
        Node::Link if machine.read_link(place)?.as_ref() == Some(&link.target) => Ok(Found::Ours),
        Node::File if is_identical(machine, place, link)? => Ok(Found::Identical),
        Node::File | Node::Folder | Node::Link | Node::Other => Ok(Found::Foreign),
    }
}

/// Whether something else than a folder stands on the way to a place.
fn is_barred<M: Disk>(machine: &M, place: &Path) -> io::Result<bool> {
    for folder in place.ancestors().skip(1) {
        if let Some(stat) = machine.stat(folder)? {
            return Ok(matches!(stat.node, Node::File | Node::Other));
        }
    }
    Ok(false)
}

/// Whether something of push's can be at a path: past a link that misleads, nothing is.
fn is_there<M: Disk>(machine: &M, path: &Path) -> io::Result<bool> {
    match machine.stat(path) {
        Err(error) if Misled::of(&error).is_some() => Ok(false),
        other => Ok(other?.is_some()),
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

fn sync<M: Disk>(machine: &mut M, folders: &BTreeSet<PathBuf>) -> Result<(), StoreError> {
    for folder in folders {
        machine.sync(folder)?;
    }
    Ok(())
}
