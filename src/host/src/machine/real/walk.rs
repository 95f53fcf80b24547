//! Finds the folder that a path is in, so that nobody but root decides where that is.
//!
//! Below a folder that a user owns, the user may put a link in any folder's place at any time, and root
//! would write wherever it leads. So no link is followed that anybody else could have made or could
//! exchange, and what is found is held open: what happens to the names afterwards does not matter.
//! systemd-tmpfiles has the same rule for the same reason (its "unsafe path transition").

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Component, Path, PathBuf};

use rustix::fd::OwnedFd;
use rustix::fs::{
    AtFlags, CWD, FileType, Mode, OFlags, ResolveFlags, Stat, fstat, open, openat, openat2,
    readlinkat, statat,
};
use rustix::io::Errno;

use crate::machine::Misled;

/// How many links are followed for one path; as many as the kernel does (path_resolution(7)).
const LINKS_MAX: usize = 40;

/// The bits by which others than the owner may write.
const WRITABLE_BY_OTHERS: u32 = 0o022;

/// The bit by which only owners may exchange what is theirs in a folder that all may write.
const STICKY: u32 = 0o1000;

/// How a folder is held.
const FOLDER: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// A path as a name in a folder that is held open.
pub(super) struct Place {
    /// The folder.
    pub folder: OwnedFd,
    /// The name in it; `.` for the folder itself.
    pub name: OsString,
}

/// What is done about a link at the end of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Last {
    Keep,
    Follow,
}

/// The place of a path; a link at its end is not followed.
pub(super) fn place(path: &Path) -> io::Result<Place> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        let folder = open(path, FOLDER, Mode::empty())?;
        return Ok(Place {
            folder,
            name: ".".into(),
        });
    };
    // Nearly every path has no link in it, which the kernel tells in one call.
    let flags = ResolveFlags::NO_SYMLINKS;
    match openat2(CWD, parent, FOLDER, Mode::empty(), flags) {
        Ok(folder) => Ok(Place {
            folder,
            name: name.to_owned(),
        }),
        // A link, or a kernel before 5.6, or a container that lets nobody ask.
        Err(Errno::LOOP | Errno::NOSYS | Errno::PERM) => walk(path, Last::Keep),
        Err(error) => Err(error.into()),
    }
}

/// The place of what a path leads to in the end.
pub(super) fn end(path: &Path) -> io::Result<Place> {
    walk(path, Last::Follow)
}

/// Step by step, with each folder held open and each link looked at.
fn walk(path: &Path, last: Last) -> io::Result<Place> {
    let mut rest: VecDeque<OsString> = path.components().filter_map(name_of).collect();
    let mut folder = open("/", FOLDER, Mode::empty())?;
    let mut walked = PathBuf::from("/");
    let mut links = 0;
    while let Some(name) = rest.pop_front() {
        let found = match statat(&folder, &name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) if rest.is_empty() => return Ok(Place { folder, name }),
            other => other?,
        };
        let is_link = FileType::from_raw_mode(found.st_mode) == FileType::Symlink;
        if rest.is_empty() && !(is_link && last == Last::Follow) {
            return Ok(Place { folder, name });
        }
        if !is_link {
            folder = openat(&folder, &name, FOLDER | OFlags::NOFOLLOW, Mode::empty())?;
            walked.push(&name);
            continue;
        }
        links += 1;
        if links > LINKS_MAX {
            return Err(Errno::LOOP.into());
        }
        if let Some(why) = misleads(&fstat(&folder)?, &found) {
            let link = walked.join(&name);
            return Err(io::Error::other(Misled { link, why }));
        }
        let target = readlinkat(&folder, &name, Vec::new())?;
        let target = PathBuf::from(OsString::from_vec(target.into_bytes()));
        if target.is_absolute() {
            folder = open("/", FOLDER, Mode::empty())?;
            walked = PathBuf::from("/");
        }
        for name in target.components().rev().filter_map(name_of) {
            rest.push_front(name);
        }
    }
    Ok(Place {
        folder,
        name: ".".into(),
    })
}

/// Who else than root decides where a link leads, if anybody does.
fn misleads(folder: &Stat, link: &Stat) -> Option<String> {
    if link.st_uid != 0 {
        return Some(format!("user {} made it", link.st_uid));
    }
    if folder.st_uid != 0 {
        return Some(format!(
            "user {} owns the folder that it is in",
            folder.st_uid
        ));
    }
    let is_open = folder.st_mode & WRITABLE_BY_OTHERS != 0 && folder.st_mode & STICKY == 0;
    is_open.then(|| "others than root can write the folder that it is in".to_owned())
}

fn name_of(component: Component<'_>) -> Option<OsString> {
    match component {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some(OsStr::new("..").to_owned()),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    }
}
