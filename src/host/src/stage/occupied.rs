//! Paths that exist and are not push's: adopted where identical, refused otherwise.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};

use push_wire::digest::Digest;
use push_wire::manifest::Manifest;
use push_wire::path::HostPath;

use crate::layout::Layout;
use crate::machine::{Access, Disk, Node, TEXT_BYTES_MAX};
use crate::store::links;

/// Folders of units that packages and the running system bring, which are stronger or weaker than
/// `/etc/systemd/system` (systemd.unit(5)): a unit of the same name there is somebody else's.
const OTHER_UNITS: &[&str] = &[
    "/etc/systemd/system.control",
    "/run/systemd/system",
    "/usr/local/lib/systemd/system",
    "/usr/lib/systemd/system",
    "/lib/systemd/system",
];

/// Every path that `manifest` needs and somebody else has. Unlike the links' own look before a
/// switch, this one needs no staged generation: contents are known by their digests.
pub fn occupied<M: Disk>(
    machine: &M,
    layout: &Layout,
    manifest: &Manifest,
) -> io::Result<Vec<HostPath>> {
    let mut taken = BTreeSet::new();
    let contents = contents(layout, manifest);
    for (place, link) in links::links(layout, manifest) {
        let access = link.file.as_ref().map(|(_, access)| access);
        let wanted = contents.get(&place).copied().zip(access);
        if !is_fine(machine, &place, Some(&link.target), wanted)? {
            taken.extend(layout.named(&place));
        }
    }
    for name in manifest.units().into_keys() {
        for folder in OTHER_UNITS {
            let place = layout.at(folder).join(name.as_str());
            if machine.stat(&place)?.is_some() {
                taken.extend(layout.named(&place));
            }
        }
    }
    Ok(taken.into_iter().collect())
}

/// The content that each place shall have.
fn contents(layout: &Layout, manifest: &Manifest) -> BTreeMap<PathBuf, Digest> {
    let units = manifest.units().into_iter();
    let files = manifest.files().into_iter();
    units
        .map(|(name, unit)| (layout.unit(name), unit.digest))
        .chain(files.map(|(path, file)| (layout.host(path), file.digest)))
        .collect()
}

fn is_fine<M: Disk>(
    machine: &M,
    place: &Path,
    link: Option<&PathBuf>,
    wanted: Option<(Digest, &Access)>,
) -> io::Result<bool> {
    let Some(stat) = machine.stat(place)? else {
        return Ok(true);
    };
    match (stat.node, wanted) {
        (Node::Link, _) => Ok(machine.read_link(place)?.as_ref() == link),
        (Node::File, Some((digest, access))) => Ok(stat.names == 1
            && stat.mode == access.mode
            && machine
                .ids(access)
                .is_ok_and(|ids| ids == (stat.uid, stat.gid))
            && Digest::of(machine.read(place, TEXT_BYTES_MAX)?) == digest),
        (Node::File | Node::Folder | Node::Other, _) => Ok(false),
    }
}
