//! Generations and releases on the disk. This module knows what a generation must look like and which
//! one is in effect; it knows neither systemd nor transactions.
//!
//! | file | does |
//! |---|---|
//! | `mod` | reads generations, and says which one is in effect |
//! | [`verify`] | holds a generation against what it declares, and looks who could have changed it |
//! | [`sealed`] | the sealed secrets of a generation, or their twins in another one |
//! | [`links`] | the constant live links through `/etc/push/current` |
//! | [`switch`] | the renames of the link that names the generation in effect |
//! | [`prune`] | removes what nothing needs any more |
//!
//! A new kind of declared thing gets its check in [`verify`] and, if it has a live path, its link in
//! [`links`].

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

use push_wire::manifest::{FORMAT, Manifest};
use push_wire::name::GenerationId;
use push_wire::path::HostPath;
use serde::Deserialize;

use crate::journal::Journal;
use crate::layout::Layout;
use crate::machine::{Disk, Node, TEXT_BYTES_MAX};

pub mod links;
pub mod prune;
pub mod sealed;
pub mod switch;
pub mod verify;

use verify::check;
pub use verify::{differences, verify};

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
    /// Something is in a generation that push did not put there.
    #[error("{} is in a generation, and push did not put it there", path.display())]
    Added {
        /// The first that is.
        path: PathBuf,
    },
    /// A sealed secret of the generation in effect is damaged, and no other generation holds the same:
    /// what is in effect could not be brought back with it.
    #[error("the sealed secret {} is damaged, so that the generation in effect could not come back", path.display())]
    Irreplaceable {
        /// Which.
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
    /// The link that names the generation in effect is gone, or names another one than the journal.
    #[error(
        "{} {}, and the journal says that generation {recorded} is in effect", path.display(),
        if found.is_none() { "is gone".to_owned() } else { format!("points to generation {found}") }
    )]
    Moved {
        /// The link.
        path: PathBuf,
        /// The generation that it names.
        found: GenerationId,
        /// The one that the latest transaction left in effect.
        recorded: GenerationId,
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
                "look who else changes /etc/push on this host, and put it right: give it back to root, \
                 or make an empty file in place of a missing one, and of a release an empty folder; then push \
                 with `--again`"
            }
            Self::Edited { .. } => {
                "push with `--again`: that stages a new generation of what is declared"
            }
            Self::Added { .. } => "move it away, then push again",
            Self::Irreplaceable { .. } => {
                "push once without changing that secret: it is sealed to this host anew; then push the change"
            }
            Self::Later { .. } => "use the push that wrote it, or a later one",
            Self::Current { .. } => {
                "see `ls -l /etc/push`; as root, set the link to the generation that was in effect: \
                 `ln -sfn generations/NUMBER /etc/push/current`"
            }
            Self::Moved { .. } => {
                "as root on the host, point it to the generation that the journal names: \
                 `ln -sfn generations/NUMBER /etc/push/current`; where that is gone, move \
                 /var/lib/push/journal away, and the link decides; then push again"
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

/// Whether the switch names what the latest transaction left in effect. Whoever pushed on from another
/// generation would push away what others have brought since.
pub fn is_as_recorded<M: Disk>(
    machine: &M,
    layout: &Layout,
    journal: &Journal,
) -> Result<(), StoreError> {
    let found = current(machine, layout)?;
    match journal.in_effect() {
        Some(recorded) if recorded != found => Err(StoreError::Moved {
            path: layout.current(),
            found,
            recorded,
        }),
        Some(_) | None => Ok(()),
    }
}

/// Whether the switch names this generation; not, if it is no switch at all.
pub fn is_current<M: Disk>(
    machine: &M,
    layout: &Layout,
    id: GenerationId,
) -> Result<bool, StoreError> {
    match current(machine, layout) {
        Ok(found) => Ok(found == id),
        Err(StoreError::Current { .. }) => Ok(false),
        Err(error) => Err(error),
    }
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
    for folder in [&layout.push(), &layout.generations(), generation.folder()] {
        check(machine, folder, Node::Folder)?;
    }
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
