//! Generations and releases on the disk. This module knows what a generation must look like and which
//! one is in effect; it knows neither systemd nor transactions.
//!
//! | file | does |
//! |---|---|
//! | `mod` | reads and checks generations, and says which one is in effect |
//! | [`links`] | the constant live links through `/etc/push/current` |
//! | [`switch`] | the renames of the link that names the generation in effect |
//! | [`prune`] | removes what nothing needs any more |
//!
//! A new kind of declared thing gets its check in [`verify`] and, if it has a live path, its link in
//! [`links`].

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

use push_wire::digest::Digest;
use push_wire::manifest::{FORMAT, Manifest};
use push_wire::name::GenerationId;
use push_wire::path::HostPath;
use serde::Deserialize;

use crate::journal::Journal;
use crate::layout::{Generation, Layout};
use crate::machine::{Access, Disk, Node, Stat, TEXT_BYTES_MAX};

pub mod links;
pub mod prune;
pub mod switch;

/// Bits that let somebody else than the owner write.
const WRITABLE_BY_OTHERS: u32 = 0o022;

/// Why a generation cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Something in it is not as push left it.
    #[error("{} is not as push left it: {why}", path.display())]
    Tampered {
        /// What.
        path: PathBuf,
        /// How it differs.
        why: String,
    },
    /// A declared text was changed in place, through its live link.
    #[error("{} was edited on this host", path.display())]
    Edited {
        /// The first that was.
        path: PathBuf,
    },
    /// A later push wrote it.
    #[error("{} has the format {found}, and this push-host knows those up to {FORMAT}", path.display())]
    Later {
        /// The manifest.
        path: PathBuf,
        /// Its format.
        found: u32,
    },
    /// The link that names the generation in effect is something else.
    #[error("{} is not a link to a generation: {why}", path.display())]
    Current {
        /// The link.
        path: PathBuf,
        /// What is there.
        why: String,
    },
    /// Paths that push does not own stand where links must be.
    #[error("these paths exist, differ from what is declared, and are not push's: {}", list(.0))]
    Occupied(Vec<HostPath>),
    /// The disk failed.
    #[error(transparent)]
    Disk(#[from] io::Error),
}

fn list(paths: &[HostPath]) -> String {
    paths
        .iter()
        .map(HostPath::as_str)
        .collect::<Vec<_>>()
        .join(", ")
}

impl StoreError {
    /// What to do about it.
    pub fn help(&self) -> &'static str {
        match self {
            Self::Tampered { .. } => {
                "push again: it stages a new generation; look who else changes /etc/push on this host"
            }
            Self::Edited { .. } => "push again: it stages a new generation with what is declared",
            Self::Later { .. } => "use the push that wrote it, or a later one",
            Self::Current { .. } => {
                "see `ls -l /etc/push`; set the link to a generation of /etc/push/generations by hand"
            }
            Self::Occupied(_) => "move them away, or declare them with the content that they have",
            Self::Disk(_) => "look at the disk of the host: `df -h /etc`, `df -i /etc`, `dmesg`",
        }
    }
}

/// The generation that the switch names; [`GenerationId::NONE`] before the first push.
pub fn current<M: Disk>(machine: &M, layout: &Layout) -> Result<GenerationId, StoreError> {
    let path = layout.current();
    let Some(found) = machine.stat(&path)? else {
        return Ok(GenerationId::NONE);
    };
    let wrong = |why: String| StoreError::Current {
        path: path.clone(),
        why,
    };
    if found.node != Node::Link {
        return Err(wrong("it is no link".to_owned()));
    }
    let target = machine.read_link(&path)?.unwrap_or_default();
    let id = target
        .file_name()
        .and_then(|name| name.to_str()?.parse().ok());
    id.filter(|id: &GenerationId| !id.is_none() && Layout::current_target(*id) == target)
        .ok_or_else(|| wrong(format!("it points to {}", target.display())))
}

/// What is in effect; [`Manifest::empty`] before the first push.
pub fn current_manifest<M: Disk>(machine: &M, layout: &Layout) -> Result<Manifest, StoreError> {
    manifest(machine, layout, current(machine, layout)?)
}

/// What a generation declares, after checking that the manifest is still push's own. The one before
/// the first push declares nothing.
pub fn manifest<M: Disk>(
    machine: &M,
    layout: &Layout,
    id: GenerationId,
) -> Result<Manifest, StoreError> {
    if id.is_none() {
        return Ok(Manifest::empty());
    }
    let generation = layout.generation(id);
    check(machine, generation.folder(), Node::Folder)?;
    let path = generation.manifest();
    check(machine, &path, Node::File)?;
    let manifest = parse(&path, &machine.read(&path, TEXT_BYTES_MAX)?)?;
    if manifest.generation != id {
        return Err(StoreError::Tampered {
            path,
            why: format!("it says that it is generation {}", manifest.generation),
        });
    }
    Ok(manifest)
}

fn parse(path: &Path, text: &[u8]) -> Result<Manifest, StoreError> {
    #[derive(Deserialize)]
    struct Format {
        format: u32,
    }
    let wrong = |error: serde_json::Error| StoreError::Tampered {
        path: path.to_owned(),
        why: error.to_string(),
    };
    let Format { format: found } = serde_json::from_slice(text).map_err(wrong)?;
    if found > FORMAT {
        return Err(StoreError::Later {
            path: path.to_owned(),
            found,
        });
    }
    serde_json::from_slice(text).map_err(wrong)
}

/// The numbers of all generations that are there.
pub fn generations<M: Disk>(
    machine: &M,
    layout: &Layout,
) -> Result<BTreeSet<GenerationId>, StoreError> {
    let names = machine.list(&layout.generations())?;
    Ok(names.iter().filter_map(|name| name.parse().ok()).collect())
}

/// The highest number ever used, so that none is used twice.
pub fn highest<M: Disk>(
    machine: &M,
    layout: &Layout,
    journal: &Journal,
) -> Result<GenerationId, StoreError> {
    let mut used = generations(machine, layout)?;
    used.insert(current(machine, layout)?);
    used.extend(
        journal
            .records()
            .iter()
            .filter_map(|record| Some(record.about.as_ref()?.to)),
    );
    Ok(used.last().copied().unwrap_or(GenerationId::NONE))
}

/// Checks that everything a generation declares is there as it was staged, byte for byte, and that
/// nobody but root can have put it there.
pub fn verify<M: Disk>(
    machine: &M,
    layout: &Layout,
    manifest: &Manifest,
) -> Result<(), StoreError> {
    match edited(machine, layout, manifest)?.into_iter().next() {
        None => Ok(()),
        Some(path) => Err(StoreError::Edited { path }),
    }
}

/// The same for a generation that is in effect, whose texts are reached through live links: those that
/// were edited in place are named and are no error. It works with them, and could be brought back.
pub fn edited<M: Disk>(
    machine: &M,
    layout: &Layout,
    manifest: &Manifest,
) -> Result<Vec<PathBuf>, StoreError> {
    if manifest.generation.is_none() {
        return Ok(Vec::new());
    }
    let generation = layout.generation(manifest.generation);
    let mut edited = Vec::new();
    for text in texts(&generation, manifest) {
        if is_edited(machine, &text)? {
            edited.push(text.path);
        }
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
    Ok(edited)
}

fn is_edited<M: Disk>(machine: &M, text: &Text) -> Result<bool, StoreError> {
    let has_access = if let Some(access) = &text.access {
        has_declared_access(machine, &text.path, access)?
    } else {
        check(machine, &text.path, Node::File)?;
        true
    };
    let is_same = Digest::of(machine.read(&text.path, TEXT_BYTES_MAX)?) == text.digest;
    if !is_same && text.kind == Kind::Sealed {
        // It could not be opened when the generation had to come back.
        let why = "its content differs".to_owned();
        let path = text.path.clone();
        return Err(StoreError::Tampered { path, why });
    }
    Ok(!is_same || !has_access)
}

/// A file that a generation must hold.
struct Text {
    path: PathBuf,
    digest: Digest,
    /// Its declared access; `None` for what is root's own.
    access: Option<Access>,
    kind: Kind,
}

/// Whether a text means something when it is changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Plain,
    Sealed,
}

fn texts(generation: &Generation, manifest: &Manifest) -> Vec<Text> {
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
            kind: Kind::Sealed,
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
fn check<M: Disk>(machine: &M, path: &Path, wanted: Node) -> Result<(), StoreError> {
    let found = kind(machine, path, wanted)?;
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

/// Whether a declared file has the owner and mode that were declared for it.
fn has_declared_access<M: Disk>(
    machine: &M,
    path: &Path,
    access: &Access,
) -> Result<bool, StoreError> {
    let found = kind(machine, path, Node::File)?;
    Ok(found.mode == access.mode && (found.uid, found.gid) == machine.ids(access)?)
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
    if wanted == Node::File && found.names != 1 {
        return Err(wrong(format!("it has {} names", found.names)));
    }
    Ok(found)
}
