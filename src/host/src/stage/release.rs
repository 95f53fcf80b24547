//! Builds a release beside its final place, and renames it once it is whole and durable.
//!
//! Paths are followed as text here, which is safe because nobody but root can write to any folder on
//! the way: `/srv/<app>` and its `releases` are looked at first, the rest was just created, and a
//! listing has no entry below anything but a folder of its own.

use std::collections::BTreeMap;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use push_wire::digest::{Digest, Hasher};
use push_wire::manifest::App;
use push_wire::name::{AppName, UserName};
use push_wire::path::TreePath;
use push_wire::tree::{Entry, Tree};

use super::trees;
use crate::layout::{Layout, TRASH};
use crate::machine::{self, Access, Disk, Node, World};
use crate::spool::{self, Role};

/// The bits of a mode by which others than the owner may write.
const WRITABLE_BY_OTHERS: u32 = 0o022;

/// How much of a file is copied at once, in bytes.
const PIECE_BYTES: usize = 256 << 10;

/// Why a release was not built.
#[derive(Debug, thiserror::Error)]
pub enum ReleaseError {
    /// A folder on the way is not root's alone.
    #[error("{path} {why}; push does not write below it")]
    Unsafe {
        /// Which.
        path: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// There is something else where the release belongs.
    #[error("{path} is there already with another content")]
    Taken {
        /// Which.
        path: String,
    },
    /// A content that was there is not what it should be any more.
    #[error("{path} is not what its digest says")]
    Corrupt {
        /// Which.
        path: String,
    },
    /// The disk failed.
    #[error("{0}")]
    Disk(#[from] io::Error),
}

/// One release that is to be there.
#[derive(Debug)]
pub struct Wanted<'a> {
    /// The app.
    pub name: &'a AppName,
    /// What is declared of it.
    pub app: &'a App,
    /// What is in it.
    pub tree: &'a Tree,
    /// What it takes the place of.
    pub over: Over,
}

/// What a release takes the place of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Over {
    /// Nothing.
    Nothing,
    /// The same release, not as it was built.
    Damaged,
}

/// Builds a release out of files that are here already and blobs of the spool.
pub fn build<M: Disk + World>(
    machine: &mut M,
    layout: &Layout,
    wanted: &Wanted<'_>,
    sources: &BTreeMap<(Digest, Role), PathBuf>,
) -> Result<(), ReleaseError> {
    let release = layout.release(wanted.name, &wanted.app.release);
    if wanted.over == Over::Nothing && machine.stat(&release)?.is_some() {
        // A whole release with this tree was found by the caller, so this is something else.
        return Err(ReleaseError::Taken {
            path: release.display().to_string(),
        });
    }
    let releases = layout.releases(wanted.name);
    app_folders(machine, layout, wanted.name)?;
    let part = releases.join(format!(".{}.part", wanted.app.release));
    machine.remove_folder(&part)?;
    let built = fill(machine, layout, &part, (wanted, sources));
    if built.is_err() {
        machine.remove_folder(&part)?;
    }
    built?;
    machine.sync_all(&part)?;
    trees::remember(
        machine,
        layout,
        (wanted.name, &wanted.app.release),
        wanted.tree,
    )?;
    if wanted.over == Over::Damaged {
        set_aside(machine, layout, wanted)?;
    }
    machine.rename(&part, &release)?;
    Ok(machine.sync(&releases)?)
}

/// The folders of an app, each looked at before anything is put into it.
pub fn app_folders<M: Disk>(
    machine: &mut M,
    layout: &Layout,
    app: &AppName,
) -> Result<(), ReleaseError> {
    for folder in [layout.apps(), layout.app(app), layout.releases(app)] {
        roots_own_folder(machine, &folder)?;
    }
    machine.sync(&layout.app(app))?;
    machine.sync(&layout.apps())?;
    Ok(())
}

/// The folders of an app that survive releases, and the links to them in a release that was built
/// before they were declared.
pub fn shared<M: Disk>(
    machine: &mut M,
    layout: &Layout,
    (name, app): (&AppName, &App),
) -> Result<(), ReleaseError> {
    if app.shared.is_empty() {
        return Ok(());
    }
    let all = layout.app(name).join("shared");
    roots_own_folder(machine, &all)?;
    for path in &app.shared {
        shared_folder(machine, &all, (path, &app.user))?;
        let release = layout.release(name, &app.release);
        if machine.stat(&release.join(path.as_path()))?.is_none() {
            shared_link(machine, &release, path)?;
        }
    }
    machine.sync_all(&all)?;
    Ok(())
}

/// One folder. Those on the way to it are root's, so that no user can put a link where root will
/// write; the last one is the app's.
fn shared_folder<M: Disk>(
    machine: &mut M,
    all: &Path,
    (path, user): (&TreePath, &UserName),
) -> Result<(), ReleaseError> {
    if let Some(parent) = path.parent() {
        let mut folder = all.to_owned();
        for component in parent.components() {
            folder.push(component);
            roots_own_folder(machine, &folder)?;
        }
    }
    let folder = all.join(path.as_path());
    match machine.stat(&folder)? {
        None => {
            let access = Access {
                mode: 0o750,
                owner: user.clone(),
                group: user.clone(),
            };
            Ok(machine::given_folder(machine, &folder, &access)?)
        }
        Some(stat) if stat.node == Node::Folder => Ok(()),
        Some(_) => Err(ReleaseError::Taken {
            path: folder.display().to_string(),
        }),
    }
}

/// Makes a folder of root's, or sees that the one that is there is nobody else's to write to.
fn roots_own_folder<M: Disk>(machine: &mut M, path: &Path) -> Result<(), ReleaseError> {
    let unsafe_because = |why| {
        Err(ReleaseError::Unsafe {
            path: path.display().to_string(),
            why,
        })
    };
    match machine.stat(path)? {
        None => Ok(machine.folder(path, &Access::public_folder())?),
        Some(stat) if stat.node != Node::Folder => unsafe_because("is not a folder"),
        Some(stat) if stat.uid != 0 => unsafe_because("is not owned by root"),
        Some(stat) if stat.mode & WRITABLE_BY_OTHERS != 0 => {
            unsafe_because("can be written to by others than root")
        }
        Some(_) => Ok(()),
    }
}

fn fill<M: Disk>(
    machine: &mut M,
    layout: &Layout,
    part: &Path,
    (wanted, sources): (&Wanted<'_>, &BTreeMap<(Digest, Role), PathBuf>),
) -> Result<(), ReleaseError> {
    machine.folder(part, &Access::public_folder())?;
    // The order of paths puts every folder before what is in it.
    for (path, entry) in &wanted.tree.entries {
        if is_shared(wanted.app, path) {
            continue;
        }
        let place = part.join(path.as_path());
        match entry {
            Entry::Folder => machine.folder(&place, &Access::public_folder())?,
            Entry::Link { target } => machine.link(Path::new(target), &place)?,
            Entry::File {
                digest,
                size,
                executable,
            } => {
                let key = (*digest, Role::from(*executable));
                let blob = spool::blob(layout, key);
                let source = sources.get(&key).unwrap_or(&blob);
                file(machine, source, (key, *size), &place)?;
            }
        }
    }
    for path in &wanted.app.shared {
        shared_link(machine, part, path)?;
    }
    Ok(())
}

/// Whether a path of the release gives way to a shared folder: what a build left there by accident
/// is not what the app shall see.
pub(super) fn is_shared(app: &App, path: &TreePath) -> bool {
    app.shared
        .iter()
        .any(|shared| path.as_path().starts_with(shared.as_path()))
}

/// `<path>` in the release leads to `/srv/<app>/shared/<path>`, by a relative link so that the tree
/// can be looked at from anywhere.
fn shared_link<M: Disk>(machine: &mut M, part: &Path, path: &TreePath) -> Result<(), ReleaseError> {
    let mut folder = part.to_owned();
    let target = up_to_shared(path.as_path());
    let components: Vec<&str> = path.components().collect();
    for component in &components[..components.len() - 1] {
        folder.push(component);
        match machine.stat(&folder)? {
            None => machine.folder(&folder, &Access::public_folder())?,
            Some(stat) if stat.node == Node::Folder => {}
            Some(_) => {
                return Err(ReleaseError::Taken {
                    path: folder.display().to_string(),
                });
            }
        }
    }
    Ok(machine.link(&target.join(path.as_path()), &part.join(path.as_path()))?)
}

/// The way from a path of a release up to the app's shared folders.
pub(super) fn up_to_shared(path: &Path) -> PathBuf {
    let ups = path.components().skip(1).map(|_| "..");
    ups.collect::<PathBuf>().join("../../shared")
}

/// Takes a release that is not as it was built out of the way. It is not in effect; one that a process
/// runs from all the same stays, and is told.
fn set_aside<M: Disk + World>(
    machine: &mut M,
    layout: &Layout,
    wanted: &Wanted<'_>,
) -> Result<(), ReleaseError> {
    let (id, folder) = (&wanted.app.release, layout.releases(wanted.name));
    let (release, trash) = (
        folder.join(id.as_str()),
        folder.join(format!("{TRASH}{id}")),
    );
    if !machine.in_use(&release)?.is_empty() {
        let path = release.display().to_string();
        return Err(ReleaseError::Corrupt { path });
    }
    machine.remove_folder(&trash)?;
    machine.rename(&release, &trash)?;
    machine.sync(&folder)?;
    Ok(machine.remove_folder(&trash)?)
}

/// A second name for a file that is here, or a copy where the file system does not allow one.
fn file<M: Disk>(
    machine: &mut M,
    source: &Path,
    ((digest, role), size): ((Digest, Role), u64),
    place: &Path,
) -> Result<(), ReleaseError> {
    match machine.hard_link(source, place) {
        Ok(()) => Ok(()),
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::CrossesDevices | io::ErrorKind::TooManyLinks
            ) =>
        {
            let found = copy(machine, source, place, role)?;
            if found == (digest, size) {
                Ok(())
            } else {
                Err(ReleaseError::Corrupt {
                    path: source.display().to_string(),
                })
            }
        }
        Err(error) => Err(error.into()),
    }
}

fn copy<M: Disk>(
    machine: &mut M,
    source: &Path,
    place: &Path,
    role: Role,
) -> io::Result<(Digest, u64)> {
    let access = Access {
        mode: role.mode(),
        ..Access::public_file()
    };
    let (mut hasher, mut size) = (Hasher::new(), 0);
    let mut file = machine.open(source)?;
    let mut piece = vec![0; PIECE_BYTES];
    machine.create(place, &[], &access)?;
    loop {
        let read = file.read(&mut piece)?;
        if read == 0 {
            return Ok((hasher.finish(), size));
        }
        hasher.update(&piece[..read]);
        size += read as u64;
        machine.append(place, &piece[..read])?;
    }
}
