//! The disk of a host. Every error names the path and what was attempted.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{
    AtFlags, Dir, FallocateFlags, FileType, FlockOperation, Gid, Mode, OFlags, Timespec,
    Timestamps, Uid, fallocate, fchmod, fchown, flock, fstat, fsync, ftruncate, futimens, linkat,
    mkdirat, openat, readlinkat, renameat, statat, symlinkat, syncfs, unlinkat,
};
use rustix::io::Errno;
use rustix::process::{getegid, geteuid};

use super::walk::{self, Place};
use super::{Real, accounts};
use crate::machine::{Access, Disk, Held, Misled, Node, Stat};

/// What every file is opened with: not inherited by tools, and a pipe in a file's place cannot make
/// push-host wait.
const ALWAYS: OFlags = OFlags::CLOEXEC.union(OFlags::NONBLOCK);

/// What a folder itself is opened with.
const OPEN_FOLDER: OFlags = OFlags::DIRECTORY.union(OFlags::NOFOLLOW).union(ALWAYS);

/// Names the path and the attempt in an error. One that is about somebody's link says more already.
fn while_<T, E: Into<io::Error>>(
    attempt: &'static str,
    path: &Path,
    result: Result<T, E>,
) -> io::Result<T> {
    result.map_err(|error| {
        let error = error.into();
        if Misled::of(&error).is_some() {
            return error;
        }
        io::Error::new(
            error.kind(),
            format!("cannot {attempt} {}: {error}", path.display()),
        )
    })
}

fn missing_is_fine<T: Default, E: Into<io::Error>>(result: Result<T, E>) -> io::Result<T> {
    match result.map_err(Into::into) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(T::default()),
        other => other,
    }
}

/// Opens what a path names; a link at its end is refused.
fn open(path: &Path, flags: OFlags, mode: Mode) -> io::Result<OwnedFd> {
    let Place { folder, name } = walk::place(path)?;
    Ok(openat(&folder, &name, flags | OFlags::NOFOLLOW, mode)?)
}

/// Opens what a path leads to in the end.
fn open_end(path: &Path, flags: OFlags) -> io::Result<OwnedFd> {
    match open(path, flags, Mode::empty()) {
        // ELOOP of a file, ENOTDIR of a folder.
        Err(error)
            if matches!(
                Errno::from_io_error(&error),
                Some(Errno::LOOP | Errno::NOTDIR)
            ) =>
        {
            let Place { folder, name } = walk::end(path)?;
            Ok(openat(
                &folder,
                &name,
                flags | OFlags::NOFOLLOW,
                Mode::empty(),
            )?)
        }
        other => other,
    }
}

/// Reads a whole regular file of at most `bytes_max` bytes. Files of `/proc` say that they are empty,
/// so it is what arrives that is counted.
pub(super) fn read(path: &Path, bytes_max: u64) -> io::Result<Vec<u8>> {
    let attempt = || {
        let file = File::from(open_end(path, OFlags::RDONLY | ALWAYS)?);
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
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | ALWAYS;
    let mode = Mode::from_raw_mode(access.mode & 0o700);
    let mut file = File::from(open(path, flags, mode)?);
    give(&file, access, ids)?;
    file.write_all(content)
}

/// One second after the epoch, since older versions of systemd take time zero for a masked unit.
fn undate(path: &Path) -> io::Result<()> {
    let second = Timespec {
        tv_sec: 1,
        tv_nsec: 0,
    };
    let times = Timestamps {
        last_access: second,
        last_modification: second,
    };
    Ok(futimens(
        open(path, OFlags::WRONLY | ALWAYS, Mode::empty())?,
        &times,
    )?)
}

fn append(path: &Path, content: &[u8]) -> io::Result<()> {
    let flags = OFlags::WRONLY | OFlags::APPEND | ALWAYS;
    File::from(open(path, flags, Mode::empty())?).write_all(content)
}

/// A folder of this process's own user has its mode from the first moment on, because the process may be
/// killed in the next: nobody would mend it. One for another user is root's alone until it is given away.
fn folder(path: &Path, access: &Access, ids: (u32, u32)) -> io::Result<()> {
    let own = (geteuid().as_raw(), getegid().as_raw());
    let first = if ids == own { 0o777 } else { 0o700 };
    let Place { folder, name } = walk::place(path)?;
    let open = || openat(&folder, &name, OPEN_FOLDER, Mode::empty());
    match mkdirat(&folder, &name, Mode::from_raw_mode(access.mode & first)) {
        Ok(()) => give(open()?, access, ids),
        Err(Errno::EXIST) => Ok(open().map(drop)?),
        Err(error) => Err(error.into()),
    }
}

/// File systems that cannot keep room (EOPNOTSUPP) are used without.
fn reserve(path: &Path, bytes: u64) -> io::Result<()> {
    let file = open(path, OFlags::WRONLY | ALWAYS, Mode::empty())?;
    let size = u64::try_from(fstat(&file)?.st_size).unwrap_or(0);
    match fallocate(&file, FallocateFlags::KEEP_SIZE, size, bytes) {
        Ok(()) | Err(Errno::OPNOTSUPP) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn truncate(path: &Path, bytes: u64) -> io::Result<()> {
    let file = open(path, OFlags::WRONLY | ALWAYS, Mode::empty())?;
    Ok(ftruncate(&file, bytes)?)
}

fn sync(path: &Path) -> io::Result<()> {
    let file = open(path, OFlags::RDONLY | ALWAYS, Mode::empty())?;
    Ok(fsync(&file)?)
}

fn sync_all(folder: &Path) -> io::Result<()> {
    Ok(syncfs(open(folder, OPEN_FOLDER, Mode::empty())?)?)
}

fn rename(from: &Path, to: &Path) -> io::Result<()> {
    let (from, to) = (walk::place(from)?, walk::place(to)?);
    Ok(renameat(&from.folder, &from.name, &to.folder, &to.name)?)
}

fn link(target: &Path, link: &Path) -> io::Result<()> {
    let Place { folder, name } = walk::place(link)?;
    Ok(symlinkat(target, &folder, &name)?)
}

fn hard_link(original: &Path, name: &Path) -> io::Result<()> {
    let (from, to) = (walk::place(original)?, walk::place(name)?);
    let linked = linkat(
        &from.folder,
        &from.name,
        &to.folder,
        &to.name,
        AtFlags::empty(),
    );
    Ok(linked?)
}

fn remove(path: &Path) -> io::Result<()> {
    let Place { folder, name } = walk::place(path)?;
    Ok(unlinkat(&folder, &name, AtFlags::empty())?)
}

fn remove_folder(path: &Path) -> io::Result<()> {
    let Place { folder, name } = walk::place(path)?;
    remove_all(&folder, &name)
}

/// Removes what a name stands for, and what is in it, through folders that are held open.
fn remove_all(folder: &OwnedFd, name: &OsStr) -> io::Result<()> {
    match unlinkat(folder, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        // EPERM is what POSIX says of a folder, EISDIR what Linux does.
        Err(Errno::ISDIR | Errno::PERM) => {}
        Err(error) => return Err(error.into()),
    }
    let inside = openat(folder, name, OPEN_FOLDER, Mode::empty())?;
    for entry in Dir::read_from(&inside)? {
        let entry = entry?;
        let name = OsStr::from_bytes(entry.file_name().to_bytes());
        if name != "." && name != ".." {
            remove_all(&inside, name)?;
        }
    }
    Ok(unlinkat(folder, name, AtFlags::REMOVEDIR)?)
}

fn list(folder: &Path) -> io::Result<Vec<String>> {
    let folder = open_end(folder, OFlags::DIRECTORY | ALWAYS)?;
    let mut names = Vec::new();
    for entry in Dir::new(folder)? {
        // push writes no name that is not UTF-8, so such a one is somebody else's.
        let name = entry?.file_name().to_str().map(str::to_owned);
        names.extend(name.ok().filter(|name| name != "." && name != ".."));
    }
    names.sort_unstable();
    Ok(names)
}

/// Whether an error says that nothing is there: a file in a folder's place holds nothing.
fn is_nothing(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    )
}

fn stat(path: &Path) -> io::Result<Option<Stat>> {
    let look = || {
        let Place { folder, name } = walk::place(path)?;
        Ok(statat(&folder, &name, AtFlags::SYMLINK_NOFOLLOW)?)
    };
    let found = match look() {
        Err(error) if is_nothing(&error) => return Ok(None),
        other => other?,
    };
    let node = match FileType::from_raw_mode(found.st_mode) {
        FileType::RegularFile => Node::File,
        FileType::Directory => Node::Folder,
        FileType::Symlink => Node::Link,
        _ => Node::Other,
    };
    Ok(Some(Stat {
        node,
        mode: found.st_mode & 0o7777,
        uid: found.st_uid,
        gid: found.st_gid,
        bytes: u64::try_from(found.st_size).unwrap_or(0),
        #[allow(
            clippy::useless_conversion,
            reason = "its size differs between machines"
        )]
        names: found.st_nlink.into(),
    }))
}

fn read_link(path: &Path) -> io::Result<Option<PathBuf>> {
    let look = || {
        let Place { folder, name } = walk::place(path)?;
        Ok(readlinkat(&folder, &name, Vec::new())?)
    };
    match look() {
        Ok(target) => Ok(Some(
            std::ffi::OsString::from_vec(target.into_bytes()).into(),
        )),
        // EINVAL: something is there, and it is no link.
        Err(error) if is_nothing(&error) || error.kind() == io::ErrorKind::InvalidInput => Ok(None),
        Err(error) => Err(error),
    }
}

fn lock(path: &Path) -> io::Result<Option<Held>> {
    let flags = OFlags::RDWR | OFlags::CREATE | ALWAYS;
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
        let opened = open(path, OFlags::RDONLY | ALWAYS, Mode::empty());
        let file = File::from(while_("open", path, opened)?);
        Ok(Box::new(file))
    }

    fn create(&mut self, path: &Path, content: &[u8], access: &Access) -> io::Result<()> {
        let ids = self.ids(access)?;
        while_("create", path, create(path, content, access, ids))
    }

    fn create_undated(&mut self, path: &Path, content: &[u8], access: &Access) -> io::Result<()> {
        self.create(path, content, access)?;
        while_("date", path, undate(path))
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
        while_("rename", from, rename(from, to))
    }

    fn link(&mut self, target: &Path, place: &Path) -> io::Result<()> {
        while_("make the link", place, link(target, place))
    }

    fn hard_link(&mut self, original: &Path, name: &Path) -> io::Result<()> {
        while_("make the second name", name, hard_link(original, name))
    }

    fn folder(&mut self, path: &Path, access: &Access) -> io::Result<()> {
        let ids = self.ids(access)?;
        while_("make the folder", path, folder(path, access, ids))
    }

    fn remove(&mut self, path: &Path) -> io::Result<()> {
        while_("remove", path, missing_is_fine(remove(path)))
    }

    fn remove_folder(&mut self, path: &Path) -> io::Result<()> {
        while_("remove", path, missing_is_fine(remove_folder(path)))
    }

    fn stat(&self, path: &Path) -> io::Result<Option<Stat>> {
        while_("look at", path, stat(path))
    }

    fn read_link(&self, path: &Path) -> io::Result<Option<PathBuf>> {
        while_("read the link", path, read_link(path))
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<String>> {
        while_("list", folder, missing_is_fine(list(folder)))
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
