//! Holds a generation against what its manifest declares: that everything is there as it was staged,
//! that nothing else is, and that nobody but root can have changed it.
//!
//! What is staged has to be exactly so before it takes effect. What is in effect is reached through live
//! links, and people edit what they find: such differences are told and stop nothing, as long as the
//! generation could be brought back.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use push_wire::digest::Digest;
use push_wire::manifest::Manifest;
use push_wire::name::{AppName, FileName};

use super::{StoreError, links, sealed};
use crate::layout::{Generation, Layout};
use crate::machine::{Access, Disk, Node, Stat, TEXT_BYTES_MAX};

/// Bits that let somebody else than the owner write.
const WRITABLE_BY_OTHERS: u32 = 0o022;

/// Checks that a generation is as it was staged, byte for byte, with nothing added, and that nobody but
/// root can have put it there.
pub fn verify<M: Disk>(
    machine: &M,
    layout: &Layout,
    manifest: &Manifest,
) -> Result<(), StoreError> {
    let first = differences(machine, layout, manifest)?.into_iter().next();
    first.map_or(Ok(()), Err)
}

/// How a generation that is in effect differs from what was staged, in ways with which it works and
/// could be brought back. Any other way is an error.
pub fn differences<M: Disk>(
    machine: &M,
    layout: &Layout,
    manifest: &Manifest,
) -> Result<Vec<StoreError>, StoreError> {
    if manifest.generation.is_none() {
        return Ok(Vec::new());
    }
    let generation = layout.generation(manifest.generation);
    let mut found = Vec::new();
    for text in texts(&generation, manifest) {
        let Some(difference) = difference(machine, &text)? else {
            continue;
        };
        if let Kind::Sealed(app, name) = text.kind
            && sealed::sealed(machine, layout, (manifest, app, name))?.is_none()
        {
            return Err(StoreError::Irreplaceable { path: text.path });
        }
        found.push(difference);
    }
    for (name, app) in manifest.apps() {
        let release = layout.release(name, &app.release);
        check(machine, &release, Node::Folder)?;
        let link = generation.app(name);
        if machine.read_link(&link)?.as_ref() != Some(&release) {
            let why = format!("it does not point to {}", release.display());
            return Err(StoreError::Tampered { path: link, why });
        }
    }
    let known = paths(&generation, manifest);
    added(machine, generation.folder(), (&known, &mut found))?;
    Ok(found)
}

/// Every path inside a generation that push puts there, folders left out.
fn paths(generation: &Generation, manifest: &Manifest) -> BTreeSet<PathBuf> {
    let texts = texts(generation, manifest).into_iter();
    let apps = manifest.apps().into_keys().map(|app| generation.app(app));
    let marker = (!manifest.sites().is_empty()).then(|| generation.marker());
    texts
        .map(|text| text.path)
        .chain(apps)
        .chain(marker)
        .chain([generation.manifest()])
        .collect()
}

/// Looks for what push did not put there. A folder that somebody else owns or can write is an error:
/// whatever is in it could be exchanged at any time.
fn added<M: Disk>(
    machine: &M,
    folder: &Path,
    (known, found): (&BTreeSet<PathBuf>, &mut Vec<StoreError>),
) -> Result<(), StoreError> {
    for name in machine.list(folder)? {
        let path = folder.join(name);
        if known.contains(&path) {
            continue;
        }
        let is_on_the_way = known.iter().any(|known| known.starts_with(&path));
        if !is_on_the_way {
            found.push(StoreError::Added { path });
            continue;
        }
        check(machine, &path, Node::Folder)?;
        added(machine, &path, (known, found))?;
    }
    Ok(())
}

/// How a file differs from what was declared. Whoever owns a declared file may do with it as they like: give
/// it another mode, a second name or any length. That says something, and keeps no push from beginning.
fn difference<M: Disk>(machine: &M, text: &Text<'_>) -> Result<Option<StoreError>, StoreError> {
    let path = &text.path;
    if let Some(access) = &text.access {
        let found = kind(machine, path, Node::File)?;
        if let Err(second_name) = has_one_name(path, &found) {
            return Ok(Some(second_name));
        }
        let has_access =
            found.mode == access.mode && (found.uid, found.gid) == machine.ids(access)?;
        if !has_access || found.bytes > TEXT_BYTES_MAX {
            return Ok(Some(StoreError::Edited { path: path.clone() }));
        }
    } else {
        check(machine, path, Node::File)?;
    }
    let is_same = Digest::of(machine.read(path, TEXT_BYTES_MAX)?) == text.digest;
    Ok((!is_same).then(|| StoreError::Edited { path: path.clone() }))
}

/// A file that a generation must hold.
struct Text<'a> {
    path: PathBuf,
    digest: Digest,
    /// Its declared access; `None` for what is root's own.
    access: Option<Access>,
    kind: Kind<'a>,
}

/// Whether a text means something when it is changed.
enum Kind<'a> {
    Plain,
    Sealed(&'a AppName, &'a FileName),
}

fn texts<'a>(generation: &Generation, manifest: &'a Manifest) -> Vec<Text<'a>> {
    let roots = |path, digest| Text {
        path,
        digest,
        access: None,
        kind: Kind::Plain,
    };
    let units = manifest
        .units()
        .into_iter()
        .map(|(name, unit)| roots(generation.unit(name), unit.digest));
    let sites = manifest
        .sites()
        .into_iter()
        .map(|(app, text)| roots(generation.site(app), text.digest));
    let secrets = manifest
        .secrets()
        .into_iter()
        .map(|((app, name), secret)| Text {
            kind: Kind::Sealed(app, name),
            ..roots(generation.sealed(app, name), secret.sealed)
        });
    let firewall = manifest
        .nftables()
        .map(|text| roots(generation.firewall(), Digest::of(text)));
    let files = manifest.files().into_iter().map(|(path, file)| Text {
        path: generation.file(path),
        digest: file.digest,
        access: Some(links::access(file)),
        kind: Kind::Plain,
    });
    units
        .chain(sites)
        .chain(secrets)
        .chain(firewall)
        .chain(files)
        .collect()
}

/// Refuses what is of another kind, what somebody else owns or can write, and a file with a second
/// name, by which it could be changed from elsewhere.
pub(super) fn check<M: Disk>(machine: &M, path: &Path, wanted: Node) -> Result<(), StoreError> {
    let found = kind(machine, path, wanted)?;
    if wanted == Node::File {
        has_one_name(path, &found)?;
    }
    let wrong = |why: String| StoreError::Tampered {
        path: path.to_owned(),
        why,
    };
    if found.uid != 0 {
        return Err(wrong(format!("user {} owns it, not root", found.uid)));
    }
    if found.mode & WRITABLE_BY_OTHERS != 0 {
        return Err(wrong(format!(
            "others can write it (mode {:o})",
            found.mode
        )));
    }
    Ok(())
}

fn kind<M: Disk>(machine: &M, path: &Path, wanted: Node) -> Result<Stat, StoreError> {
    let wrong = |why: String| StoreError::Tampered {
        path: path.to_owned(),
        why,
    };
    let found = machine
        .stat(path)?
        .ok_or_else(|| wrong("it is missing".to_owned()))?;
    if found.node != wanted {
        return Err(wrong(format!("it is a {:?}, not a {wanted:?}", found.node)));
    }
    Ok(found)
}

fn has_one_name(path: &Path, found: &Stat) -> Result<(), StoreError> {
    if found.names == 1 {
        return Ok(());
    }
    Err(StoreError::Tampered {
        path: path.to_owned(),
        why: format!("it has {} names", found.names),
    })
}
