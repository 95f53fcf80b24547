//! A source that is a folder.

use std::fs::{self, FileType};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use push_wire::path::TreePath;
use push_wire::tree::Entry;

use super::ReleaseError;
use super::content::hash;
use super::error::{escaped, shown};
use super::listing::Listing;

/// Lists everything below `root`, empty folders included.
pub(super) fn list(root: &Path, listing: &mut Listing) -> Result<(), ReleaseError> {
    let mut folders: Vec<PathBuf> = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        let unreadable = |error| ReleaseError::unreadable(&folder, &error);
        for found in fs::read_dir(&folder).map_err(unreadable)? {
            let path = found.map_err(unreadable)?.path();
            if visit(root, &path, listing)? == Entry::Folder {
                folders.push(path);
            }
        }
    }
    Ok(())
}

/// Adds one path, and says what it is.
fn visit(root: &Path, path: &Path, listing: &mut Listing) -> Result<Entry, ReleaseError> {
    let inside = tree_path(path.strip_prefix(root).unwrap_or(path))?;
    let metadata =
        fs::symlink_metadata(path).map_err(|error| ReleaseError::unreadable(path, &error))?;
    let entry = if metadata.is_dir() {
        Entry::Folder
    } else if metadata.is_symlink() {
        let target = fs::read_link(path).map_err(|error| ReleaseError::unreadable(path, &error))?;
        Entry::Link {
            target: utf8(&target)?.to_owned(),
        }
    } else if metadata.is_file() {
        let hashed = hash(path)?;
        let entry = Entry::File {
            digest: hashed.digest,
            size: hashed.size,
            executable: metadata.mode() & 0o111 != 0,
        };
        listing.add_file(inside, hashed, metadata.mode())?;
        return Ok(entry);
    } else {
        return Err(ReleaseError::Kind {
            path: shown(path),
            kind: kind(metadata.file_type()),
        });
    };
    listing.add(inside, entry.clone())?;
    Ok(entry)
}

/// What something is that cannot be shipped.
pub(super) fn kind(found: FileType) -> &'static str {
    if found.is_fifo() {
        "a fifo"
    } else if found.is_socket() {
        "a socket"
    } else if found.is_block_device() || found.is_char_device() {
        "a device"
    } else {
        "neither a file, a folder nor a link"
    }
}

/// A path inside a release, or why its name cannot be one.
pub(super) fn tree_path(path: &Path) -> Result<TreePath, ReleaseError> {
    utf8(path)?
        .parse()
        .map_err(|error: push_wire::path::PathError| ReleaseError::Name {
            name: shown(path),
            why: error.why.to_owned(),
        })
}

fn utf8(path: &Path) -> Result<&str, ReleaseError> {
    path.to_str().ok_or_else(|| ReleaseError::Name {
        name: escaped(path.as_os_str().as_encoded_bytes()),
        why: "it is not UTF-8".to_owned(),
    })
}
