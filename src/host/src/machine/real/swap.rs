//! A file for swap, made so that the kernel takes it.

use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::Duration;

use rustix::fs::{FsWord, IFlags, fstatfs, ioctl_getflags, ioctl_setflags};

use super::process::Program;
use crate::machine::ToolError;

/// How long room for swap may take to be made; a file system without fallocate writes all of it.
const SWAP_LIMIT: Duration = Duration::from_secs(300);

/// What fstatfs(2) says of btrfs.
const BTRFS: FsWord = 0x9123_683E;

/// fallocate(1) leaves no holes, which swapon(8) would refuse.
pub(super) fn make(file: &Path, bytes: u64) -> Result<(), ToolError> {
    let (path, length) = (file.to_string_lossy(), bytes.to_string());
    create(file).map_err(|error| ToolError::Failed {
        tool: format!("making {path}"),
        output: error.to_string(),
    })?;
    let steps: [&[&str]; 2] = [
        &["fallocate", "--length", &length, "--", &path],
        &["mkswap", "--", &path],
    ];
    for argv in steps {
        Program::new(argv, SWAP_LIMIT).succeed()?;
    }
    Ok(())
}

/// The mode is there before a page of memory can be in it. btrfs swaps only to a file whose blocks stay where
/// they are, which can be asked of it only as long as the file is empty. Source: btrfs(5), "SWAPFILE SUPPORT".
fn create(file: &Path) -> io::Result<()> {
    let made = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(file)?;
    if fstatfs(&made)?.f_type == BTRFS {
        ioctl_setflags(&made, ioctl_getflags(&made)? | IFlags::NOCOW)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_swap_file_is_roots_alone_and_stays_in_its_place_on_btrfs() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("swapfile");
        create(&path).unwrap();
        let made = std::fs::File::open(&path).unwrap();
        let metadata = made.metadata().unwrap();
        assert_eq!(
            (metadata.len(), metadata.permissions().mode() & 0o7777),
            (0, 0o600)
        );
        // A file system without such flags has no answer.
        let stays = ioctl_getflags(&made).is_ok_and(|flags| flags.contains(IFlags::NOCOW));
        assert_eq!(stays, fstatfs(&made).unwrap().f_type == BTRFS);
        assert!(
            create(&path).is_err(),
            "what is there is nobody's to swap to"
        );
    }
}
