//! Files of the project that are carried to hosts byte for byte.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{ErrorKind, Read as _};
use std::path::{Path, PathBuf};

use super::ReleaseError;
use super::error::shown;
use crate::inventory::{FileContent, Fleet};

/// The largest file that is carried outside of a release, in bytes: it travels inside a message.
const FILE_BYTES_MAX: u64 = 8 << 20;

/// The content of each file that `[files]` names as a source, and of the one by which hosts believe an
/// authority, by the path written there.
pub fn verbatim(fleet: &Fleet, project: &Path) -> Result<BTreeMap<PathBuf, Vec<u8>>, ReleaseError> {
    let declared = fleet.files.iter();
    let sources = declared.filter_map(|(at, file)| match &file.content {
        FileContent::Source(path) => Some((format!("files.\"{at}\".source"), path)),
        FileContent::Template(_) | FileContent::Text(_) => None,
    });
    let authority = fleet.bootstrap.iter().filter_map(|all| all.tls.as_ref());
    let vouchers = authority.filter_map(|authority| {
        let path = authority.vouchers.as_ref()?;
        Some(("bootstrap.tls.endpoint_ca".to_owned(), path))
    });
    sources
        .chain(vouchers)
        .map(|(declared, path)| Ok((path.clone(), read(&project.join(path), declared)?)))
        .collect()
}

fn read(path: &Path, declared: String) -> Result<Vec<u8>, ReleaseError> {
    let unreadable = |error| ReleaseError::unreadable(path, &error);
    let metadata = match std::fs::metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let path = shown(path);
            return Err(ReleaseError::NoFile { declared, path });
        }
        found => found.map_err(unreadable)?,
    };
    if !metadata.is_file() {
        return Err(ReleaseError::Kind {
            path: shown(path),
            kind: "no regular file",
        });
    }
    let mut content = Vec::new();
    File::open(path)
        .and_then(|file| file.take(FILE_BYTES_MAX + 1).read_to_end(&mut content))
        .map_err(unreadable)?;
    if content.len() as u64 > FILE_BYTES_MAX {
        return Err(ReleaseError::TooLarge {
            path: shown(path),
            why: "a file outside of a release has at most 8 MiB".to_owned(),
        });
    }
    Ok(content)
}
