//! The disk of a host. Every error names the path and what was attempted.

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{
    AtFlags, FallocateFlags, FlockOperation, Gid, Mode, OFlags, Uid, fallocate, fchmod, fchown,
    flock, fstat, fsync, ftruncate, mkdir, open, symlink, syncfs,
};

use rustix::process::{getegid, geteuid};

use super::{Real, accounts};
use crate::machine::{Access, Disk, Held, Node, Stat};

/// What every file is opened with: not inherited by tools, and a pipe in a file's place cannot make
/// push-host wait.
const ALWAYS: OFlags = OFlags::CLOEXEC.union(OFlags::NONBLOCK);

/// Names the path and the attempt in an error.
fn while_<T, E: Into<io::Error>>(
    attempt: &'static str,
    path: &Path,
    result: Result<T, E>,
) -> io::Result<T> {
    result.map_err(|error| {
        let error = error.into();
        io::Error::new(
            error.kind(),
            format!("cannot {attempt} {}: {error}", path.display()),
        )
    })
}

fn missing_is_fine(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Reads a whole regular file of at most `bytes_max` bytes. Files of `/proc` say that they are empty,
/// so it is what arrives that is counted.
pub(super) fn read(path: &Path, bytes_max: u64) -> io::Result<Vec<u8>> {
    let attempt = || {
        let file = File::from(open(path, OFlags::RDONLY | ALWAYS, Mode::empty())?);
        if !file.metadata()?.is_file() {
            return Err(io::Error::other("it is not a regular file"));
        }
        let mut content = Vec::new();
        file.take(bytes_max.saturating_add(1))
            .read_to_end(&mut content)?;
        if content.len() as u64 > bytes_max {
            return Err(io::Error::other(format!(
                "it is larger than {bytes_max} bytes"
            )));
        }
        Ok(content)
    };
    while_("read", path, attempt())
}

fn give(file: impl AsFd, access: &Access, ids: (u32, u32)) -> io::Result<()> {
    let found = fstat(&file)?;
    if (found.st_uid, found.st_gid) != ids {
        fchown(
            &file,
            Some(Uid::from_raw(ids.0)),
            Some(Gid::from_raw(ids.1)),
        )?;
    }
    if found.st_mode & 0o7777 != access.mode {
        fchmod(&file, Mode::from_raw_mode(access.mode))?;
    }
    Ok(())
}

/// Nobody but root can open the file before it has its owner: it starts without the group's and the
/// others' bits.
fn create(path: &Path, content: &[u8], access: &Access, ids: (u32, u32)) -> io::Result<()> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | ALWAYS;
    let mode = Mode::from_raw_mode(access.mode & 0o700);
    let mut file = File::from(open(path, flags, mode)?);
    give(&file, access, ids)?;
    file.write_all(content)
}

fn append(path: &Path, content: &[u8]) -> io::Result<()> {
    let flags = OFlags::WRONLY | OFlags::APPEND | OFlags::NOFOLLOW | ALWAYS;
    File::from(open(path, flags, Mode::empty())?).write_all(content)
}

/// A folder of this process's own user has its mode from the first moment on, because the process may be
/// killed in the next: nobody would mend it. One for another user is root's alone until it is given away.
fn folder(path: &Path, access: &Access, ids: (u32, u32)) -> io::Result<()> {
    let own = (geteuid().as_raw(), getegid().as_raw());
    let first = if ids == own { 0o777 } else { 0o700 };
    match mkdir(path, Mode::from_raw_mode(access.mode & first)) {
        Ok(()) => give(open_folder(path)?, access, ids),
        Err(rustix::io::Errno::EXIST) => open_folder(path).map(drop),
        Err(error) => Err(error.into()),
    }
}

fn open_folder(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | ALWAYS;
    Ok(open(path, flags, Mode::empty())?)
}

/// File systems that cannot keep room (EOPNOTSUPP) are used without.
fn reserve(path: &Path, bytes: u64) -> io::Result<()> {
    let file = open(
        path,
        OFlags::WRONLY | OFlags::NOFOLLOW | ALWAYS,
        Mode::empty(),
    )?;
    let size = u64::try_from(fstat(&file)?.st_size).unwrap_or(0);
    match fallocate(&file, FallocateFlags::KEEP_SIZE, size, bytes) {
        Ok(()) | Err(rustix::io::Errno::OPNOTSUPP) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn truncate(path: &Path, bytes: u64) -> io::Result<()> {
    let file = open(
        path,
        OFlags::WRONLY | OFlags::NOFOLLOW | ALWAYS,
        Mode::empty(),
    )?;
    Ok(ftruncate(&file, bytes)?)
}

fn sync(path: &Path) -> io::Result<()> {
    let file = open(
        path,
        OFlags::RDONLY | OFlags::NOFOLLOW | ALWAYS,
        Mode::empty(),
    )?;
    Ok(fsync(&file)?)
}

fn sync_all(folder: &Path) -> io::Result<()> {
    Ok(syncfs(open_folder(folder)?)?)
}

fn list(folder: &Path) -> io::Result<Vec<String>> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(vec![]),
        other => other?,
    };
    let mut names = Vec::new();
    for entry in entries {
        // push writes no name that is not UTF-8, so such a one is somebody else's.
        names.extend(entry?.file_name().into_string().ok());
    }
    names.sort_unstable();
    Ok(names)
}

fn stat(path: &Path) -> io::Result<Option<Stat>> {
    let found = match fs::symlink_metadata(path) {
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
            ) =>
        {
            return Ok(None);
        }
        other => other?,
    };
    let kind = found.file_type();
    let node = if kind.is_file() {
        Node::File
    } else if kind.is_dir() {
        Node::Folder
    } else if kind.is_symlink() {
        Node::Link
    } else {
        Node::Other
    };
    Ok(Some(Stat {
        node,
        mode: found.mode() & 0o7777,
        uid: found.uid(),
        gid: found.gid(),
        bytes: found.len(),
        names: found.nlink(),
    }))
}

fn read_link(path: &Path) -> io::Result<Option<PathBuf>> {
    match fs::read_link(path) {
        Ok(target) => Ok(Some(target)),
        // EINVAL: something is there, and it is no link.
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound
                    | io::ErrorKind::InvalidInput
                    | io::ErrorKind::NotADirectory
            ) =>
        {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

fn lock(path: &Path) -> io::Result<Option<Held>> {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | ALWAYS;
    let file = open(path, flags, Mode::from_raw_mode(0o600))?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Some(Held { _file: Some(file) })),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

impl Disk for Real {
    fn read(&self, path: &Path, bytes_max: u64) -> io::Result<Vec<u8>> {
        read(path, bytes_max)
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn io::Read>> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | ALWAYS;
        let file = File::from(while_("open", path, open(path, flags, Mode::empty()))?);
        Ok(Box::new(file))
    }

    fn create(&mut self, path: &Path, content: &[u8], access: &Access) -> io::Result<()> {
        let ids = self.ids(access)?;
        while_("create", path, create(path, content, access, ids))
    }

    fn append(&mut self, path: &Path, content: &[u8]) -> io::Result<()> {
        while_("append to", path, append(path, content))
    }

    fn truncate(&mut self, path: &Path, bytes: u64) -> io::Result<()> {
        while_("cut", path, truncate(path, bytes))
    }

    fn reserve(&mut self, path: &Path, bytes: u64) -> io::Result<()> {
        while_("keep room for", path, reserve(path, bytes))
    }

    fn sync(&mut self, path: &Path) -> io::Result<()> {
        while_("sync", path, sync(path))
    }

    fn sync_all(&mut self, folder: &Path) -> io::Result<()> {
        while_("sync what is below", folder, sync_all(folder))
    }

    fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        while_("rename", from, fs::rename(from, to))
    }

    fn link(&mut self, target: &Path, link: &Path) -> io::Result<()> {
        while_("make the link", link, symlink(target, link))
    }

    fn hard_link(&mut self, original: &Path, name: &Path) -> io::Result<()> {
        let cwd = rustix::fs::CWD;
        let linked = rustix::fs::linkat(cwd, original, cwd, name, AtFlags::empty());
        while_("make the second name", name, linked)
    }

    fn folder(&mut self, path: &Path, access: &Access) -> io::Result<()> {
        let ids = self.ids(access)?;
        while_("make the folder", path, folder(path, access, ids))
    }

    fn remove(&mut self, path: &Path) -> io::Result<()> {
        while_("remove", path, missing_is_fine(fs::remove_file(path)))
    }

    fn remove_folder(&mut self, path: &Path) -> io::Result<()> {
        while_("remove", path, missing_is_fine(fs::remove_dir_all(path)))
    }

    fn stat(&self, path: &Path) -> io::Result<Option<Stat>> {
        while_("look at", path, stat(path))
    }

    fn read_link(&self, path: &Path) -> io::Result<Option<PathBuf>> {
        while_("read the link", path, read_link(path))
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<String>> {
        while_("list", folder, list(folder))
    }

    fn ids(&self, access: &Access) -> io::Result<(u32, u32)> {
        let user = accounts::uid(&self.layout.at("/etc/passwd"), &access.owner)?;
        Ok((
            user,
            accounts::gid(&self.layout.at("/etc/group"), &access.group)?,
        ))
    }

    fn lock(&mut self, path: &Path) -> io::Result<Option<Held>> {
        while_("lock", path, lock(path))
    }
}
