//! What is mounted where, and its removal. Knows nothing of what the mounts are for.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::mount::UnmountFlags;

use super::error::{Error, IoExt};

/// How long a mount that is still busy is tried again, before it is detached lazily.
const BUSY_WITHIN: Duration = Duration::from_secs(3);

/// How often.
const BUSY_POLL: Duration = Duration::from_millis(20);

/// How many mounts may lie on top of one another in one place.
const STACKED_MAX: usize = 8;

/// One line of `/proc/self/mounts`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mount {
    pub at: PathBuf,
    pub kind: String,
    pub options: String,
}

/// Everything that is mounted, in the order in which it was.
pub(super) fn all() -> Result<Vec<Mount>, Error> {
    let table = Path::new("/proc/self/mounts");
    Ok(parse(&fs::read_to_string(table).doing("reading", table)?))
}

/// Unmounts what is mounted at a place; where nothing is, that is done already.
pub(super) fn unmount(at: &Path) -> Result<(), Error> {
    let deadline = Instant::now() + BUSY_WITHIN;
    for _ in 0..STACKED_MAX {
        if !all()?.iter().any(|mount| mount.at == at) {
            return Ok(());
        }
        unmount_top(at, deadline)?;
    }
    Ok(())
}

/// Removes a file or a tree; what is not there is removed already. Refuses a tree in which
/// something is mounted: its content belongs to somebody else.
pub(super) fn remove(path: &Path) -> Result<(), Error> {
    let removed = match fs::symlink_metadata(path) {
        Ok(found) if found.is_dir() => {
            refuse_mounts_in(path)?;
            fs::remove_dir_all(path)
        }
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error).doing("removing", path),
        Err(_) | Ok(()) => Ok(()),
    }
}

fn unmount_top(at: &Path, deadline: Instant) -> Result<(), Error> {
    loop {
        let late = Instant::now() >= deadline;
        let flags = if late {
            UnmountFlags::DETACH
        } else {
            UnmountFlags::empty()
        };
        match rustix::mount::unmount(at, flags) {
            Ok(()) | Err(rustix::io::Errno::INVAL) => return Ok(()),
            Err(rustix::io::Errno::BUSY) if !late => std::thread::sleep(BUSY_POLL),
            Err(error) => return Err(error).doing("unmounting", at),
        }
    }
}

fn refuse_mounts_in(tree: &Path) -> Result<(), Error> {
    match all()?.into_iter().find(|mount| mount.at.starts_with(tree)) {
        None => Ok(()),
        Some(mount) => Err(io::Error::from(io::ErrorKind::ResourceBusy))
            .doing("removing, with a mount in it,", &mount.at),
    }
}

fn parse(table: &str) -> Vec<Mount> {
    table
        .lines()
        .filter_map(|line| {
            let mut fields = line.split(' ').skip(1);
            Some(Mount {
                at: PathBuf::from(unescape(fields.next()?)),
                kind: fields.next()?.to_owned(),
                options: fields.next()?.to_owned(),
            })
        })
        .collect()
}

/// The kernel writes space, tab, newline and backslash as three octal digits (see proc(5)).
fn unescape(field: &str) -> String {
    field
        .replace("\\040", " ")
        .replace("\\011", "\t")
        .replace("\\012", "\n")
        .replace("\\134", "\\")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_point_with_a_space_is_read_as_it_is() {
        let mounts =
            parse("overlay /a\\040b/root overlay rw,relatime 0 0\nproc /proc proc rw 0 0\n");
        assert_eq!(mounts[0].at, Path::new("/a b/root"));
        assert_eq!(mounts[0].kind, "overlay");
        assert_eq!(mounts.len(), 2);
    }

    #[test]
    fn removing_and_unmounting_what_is_not_there_succeeds() {
        let dir = tempfile::tempdir().unwrap();
        remove(&dir.path().join("absent")).unwrap();
        unmount(dir.path()).unwrap();
    }

    #[test]
    fn a_tree_with_a_mount_in_it_is_not_removed() {
        // `/proc` is a mount everywhere, and the check comes before anything is removed.
        let error = refuse_mounts_in(Path::new("/proc")).unwrap_err();
        assert!(error.to_string().contains("/proc"), "{error}");
    }
}
