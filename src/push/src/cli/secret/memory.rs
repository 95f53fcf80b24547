//! A folder in memory for a file that an editor changes. No file system on a disk ever sees it; it may
//! be swapped out like the editor itself, which is for the machine's owner to encrypt.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

/// How the folders are called, before the number of their process.
const PREFIX: &str = "push-secret.";

/// The most left-over folders that are looked at.
const LEFT_MAX: usize = 1000;

/// A folder for its owner alone. What is in it goes when it is dropped.
#[derive(Debug)]
pub struct Memory {
    folder: PathBuf,
}

impl Memory {
    /// Makes one; `None` where this machine keeps no folder in memory for its users.
    pub fn new() -> io::Result<Option<Self>> {
        let runtime = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
        let places = runtime.into_iter().chain([PathBuf::from("/dev/shm")]);
        for place in places.filter(|place| is_in_memory(place)) {
            forget_left_over(&place);
            let folder = place.join(format!("{PREFIX}{}", std::process::id()));
            match DirBuilder::new().mode(0o700).create(&folder) {
                Ok(()) => return Ok(Some(Self { folder })),
                // Somebody else's place, or a full one.
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {}
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Writes a file that its owner alone may read.
    pub fn write(&self, name: &str, content: &[u8]) -> io::Result<PathBuf> {
        let path = self.folder.join(name);
        let mut options = OpenOptions::new();
        let mut file = options
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)?;
        file.write_all(content)?;
        Ok(path)
    }

    /// Reads a file, and no more of it than `max` bytes and one.
    pub fn read(&self, name: &str, max: u64) -> io::Result<Zeroizing<Vec<u8>>> {
        let file = fs::File::open(self.folder.join(name))?;
        let length = usize::try_from(file.metadata()?.len().min(max)).unwrap_or(0);
        let mut content = Zeroizing::new(Vec::with_capacity(length + 2));
        file.take(max + 1).read_to_end(&mut content)?;
        Ok(content)
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // What cannot be removed is its owner's alone, and gone after a boot.
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// Whether what is written below `place` stays in memory.
#[cfg(target_os = "linux")]
fn is_in_memory(place: &Path) -> bool {
    /// `TMPFS_MAGIC` and `RAMFS_MAGIC` of linux/magic.h.
    const IN_MEMORY: [u64; 2] = [0x0102_1994, 0x8584_58f6];
    rustix::fs::statfs(place).is_ok_and(|found| {
        u64::try_from(found.f_type).is_ok_and(|kind| IN_MEMORY.contains(&(kind & 0xffff_ffff)))
    })
}

/// Elsewhere no such folder is known.
#[cfg(not(target_os = "linux"))]
fn is_in_memory(_: &Path) -> bool {
    false
}

/// Removes the folders of this user's processes that were killed.
fn forget_left_over(place: &Path) {
    let own = rustix::process::getuid().as_raw();
    let entries = fs::read_dir(place).into_iter().flatten().flatten();
    for entry in entries.take(LEFT_MAX) {
        let name = entry.file_name();
        let process = name
            .to_str()
            .and_then(|name| name.strip_prefix(PREFIX)?.parse::<u32>().ok());
        let is_dead = process.is_some_and(|id| !Path::new("/proc").join(id.to_string()).exists());
        if is_dead
            && entry
                .metadata()
                .is_ok_and(|found| found.is_dir() && found.uid() == own)
        {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn what_is_written_is_in_memory_its_owners_alone_and_gone_afterwards() {
        let memory = Memory::new().unwrap().expect("this machine has /dev/shm");
        let path = memory.write("x", b"value").unwrap();
        assert!(is_in_memory(&path));
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(memory.folder()), mode(&path)), (0o700, 0o600));
        assert_eq!(*memory.read("x", 100).unwrap(), b"value");
        let folder = memory.folder().to_owned();
        drop(memory);
        assert!(!folder.exists());
        assert!(!is_in_memory(Path::new(env!("CARGO_MANIFEST_DIR"))));
    }
}
