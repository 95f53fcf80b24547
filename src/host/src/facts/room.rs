//! What is free on the file systems that a push writes to.

use std::collections::BTreeMap;
use std::path::Path;

use push_wire::facts::Room;

/// The folders that a push writes to: releases, generations, and the spool with the journal.
const FOLDERS: &[&str] = &["/srv", "/etc/push", "/var/lib/push"];

/// The room of each of [`FOLDERS`].
pub fn room() -> BTreeMap<String, Room> {
    FOLDERS
        .iter()
        .filter_map(|folder| Some(((*folder).to_owned(), room_of(Path::new(folder))?)))
        .collect()
}

/// The room on the file system that a folder is on, or would be on.
fn room_of(folder: &Path) -> Option<Room> {
    let found = folder
        .ancestors()
        .find_map(|there| rustix::fs::statvfs(there).ok())?;
    // push-host is root, which may use what is reserved for it.
    let bytes = found.f_bfree.saturating_mul(found.f_frsize);
    // btrfs makes inodes as it needs them, and reports none at all.
    let inodes = if found.f_files == 0 {
        u64::MAX
    } else {
        found.f_ffree
    };
    Some(Room { bytes, inodes })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_that_is_not_there_yet_has_the_room_of_its_parent() {
        let missing = room_of(Path::new("/no/such/folder")).unwrap();
        let root = room_of(Path::new("/")).unwrap();
        assert!(missing.bytes.abs_diff(root.bytes) < 1 << 30);
    }
}
