//! The listings of releases that are whole on this host.
//!
//! `<state>/trees/<app>/<tree digest>.json` is a listing; the link `<state>/trees/<app>/<release id>`
//! names the one that the release was built from. Both are written and durable before the release
//! gets its final name, so a release is whole exactly when its folder and its link are both there.
//! A listing read back is held against the digest that names it.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};

use push_wire::digest::Digest;
use push_wire::name::{AppName, ReleaseId};
use push_wire::tree::{Entry, Tree};

use crate::layout::Layout;
use crate::machine::{self, Access, Disk, Node, TEXT_BYTES_MAX};
use crate::spool::{self, Role};

/// What the name of a listing ends in. A release's id is shorter than any such name.
const SUFFIX: &str = ".json";

/// The whole releases by app and tree. Cheap: no listing is read.
pub fn whole<M: Disk>(
    machine: &M,
    layout: &Layout,
) -> io::Result<BTreeMap<AppName, BTreeMap<Digest, ReleaseId>>> {
    let mut found: BTreeMap<AppName, BTreeMap<Digest, ReleaseId>> = BTreeMap::new();
    for app in names(machine, &layout.trees())? {
        for id in names::<_, ReleaseId>(machine, &layout.app_trees(&app))? {
            if let Some(digest) = tree_of(machine, layout, &app, &id)? {
                // Ids begin with their time: the latest of several is the one to go on with.
                found.entry(app.clone()).or_default().insert(digest, id);
            }
        }
    }
    Ok(found)
}

/// The tree of a release, if it is whole.
pub fn tree_of<M: Disk>(
    machine: &M,
    layout: &Layout,
    app: &AppName,
    id: &ReleaseId,
) -> io::Result<Option<Digest>> {
    let Some(target) = machine.read_link(&layout.app_trees(app).join(id.as_str()))? else {
        return Ok(None);
    };
    let digest = target
        .to_str()
        .and_then(|name| name.strip_suffix(SUFFIX)?.parse().ok());
    let stat = machine.stat(&layout.release(app, id))?;
    let is_there = stat.is_some_and(|stat| stat.node == Node::Folder && stat.uid == 0);
    Ok(digest.filter(|_| is_there))
}

/// Reads a listing; `None` if it is not there, or is not what its name says.
pub fn read<M: Disk>(
    machine: &M,
    layout: &Layout,
    app: &AppName,
    digest: Digest,
) -> io::Result<Option<Tree>> {
    let path = listing(layout, app, digest);
    if machine.stat(&path)?.is_none() {
        return Ok(None);
    }
    let text = machine.read(&path, TEXT_BYTES_MAX)?;
    let tree: Option<Tree> = serde_json::from_slice(&text).ok();
    Ok(tree.filter(|tree| tree.digest() == digest))
}

/// Remembers that the release `id` has the tree `tree`, durably.
pub fn remember<M: Disk>(
    machine: &mut M,
    layout: &Layout,
    (app, id): (&AppName, &ReleaseId),
    tree: &Tree,
) -> io::Result<()> {
    let folder = layout.app_trees(app);
    machine::folders(machine, &folder, &Access::private_folder())?;
    let digest = tree.digest();
    let text = serde_json::to_vec(tree)?;
    machine::replace(
        machine,
        &listing(layout, app, digest),
        &text,
        &Access::private_file(),
    )?;
    let name = format!("{digest}{SUFFIX}");
    machine::replace_link(machine, Path::new(&name), &folder.join(id.as_str()))?;
    machine.sync(&folder)?;
    machine.sync(&layout.trees())?;
    machine.sync(&layout.state())
}

/// Forgets releases whose folders are gone, and listings that no release is left of.
pub fn tidy<M: Disk>(machine: &mut M, layout: &Layout, app: &AppName) -> io::Result<()> {
    let folder = layout.app_trees(app);
    let mut used = BTreeSet::new();
    for id in names::<_, ReleaseId>(machine, &folder)? {
        match tree_of(machine, layout, app, &id)? {
            Some(digest) => drop(used.insert(format!("{digest}{SUFFIX}"))),
            None => machine.remove(&folder.join(id.as_str()))?,
        }
    }
    for name in machine.list(&folder)? {
        if name.ends_with(SUFFIX) && !used.contains(&name) {
            machine.remove(&folder.join(&name))?;
        }
    }
    Ok(())
}

/// Files of whole releases with one of the wanted contents, by content and mode; each has been read again
/// and found right. One listing is held in memory at a time.
pub fn sources<M: Disk>(
    machine: &M,
    layout: &Layout,
    wanted: &BTreeSet<(Digest, Role)>,
) -> io::Result<BTreeMap<(Digest, Role), PathBuf>> {
    let mut found = BTreeMap::new();
    for (app, releases) in whole(machine, layout)? {
        for (digest, id) in releases {
            if found.len() == wanted.len() {
                return Ok(found);
            }
            let Some(tree) = read(machine, layout, &app, digest)? else {
                continue;
            };
            let release = layout.release(&app, &id);
            for (path, entry) in &tree.entries {
                let Entry::File {
                    digest,
                    size,
                    executable,
                } = entry
                else {
                    continue;
                };
                let key = (*digest, Role::from(*executable));
                if !wanted.contains(&key) || found.contains_key(&key) {
                    continue;
                }
                let path = release.join(path.as_path());
                if is_intact(machine, &path, *size, key.1)?
                    && spool::hash(machine, &path)?.finish() == key.0
                {
                    found.insert(key, path);
                }
            }
        }
    }
    Ok(found)
}

/// Whether a file of a release still is what the listing says, as far as a look can tell.
pub(super) fn is_intact<M: Disk>(
    machine: &M,
    path: &Path,
    size: u64,
    role: Role,
) -> io::Result<bool> {
    let stat = machine.stat(path)?;
    Ok(stat.is_some_and(|stat| {
        stat.node == Node::File && stat.bytes == size && stat.uid == 0 && stat.mode == role.mode()
    }))
}

fn listing(layout: &Layout, app: &AppName, digest: Digest) -> PathBuf {
    layout.app_trees(app).join(format!("{digest}{SUFFIX}"))
}

/// What in a folder parses as a name; the rest is not ours.
fn names<M: Disk, N: std::str::FromStr>(machine: &M, folder: &Path) -> io::Result<Vec<N>> {
    let names = machine.list(folder)?;
    Ok(names.iter().filter_map(|name| name.parse().ok()).collect())
}
