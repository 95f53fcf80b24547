//! One app as it is shipped: its listing, what it needs, and where its bytes are.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;

use push_wire::digest::Digest;
use push_wire::facts::Needs;
use push_wire::path::TreePath;
use push_wire::tree::Tree;

use super::content::hash;
use super::error::shown;
use super::listing::Listing;
use super::{Content, ReleaseError, archive, elf, folder};
use crate::name::AppName;

/// The most bytes that a release may hold.
pub const BYTES_MAX: u64 = 16 << 30;

/// What one app ships; the same for every host.
#[derive(Debug, Clone)]
pub struct Payload {
    /// The app.
    pub app: AppName,
    /// Every path with what it holds.
    pub tree: Arc<Tree>,
    /// The digest of the tree: the same digest is the same release.
    pub digest: Digest,
    /// What its programs need of a host.
    pub needs: Needs,
    /// Where the bytes of each file are.
    pub contents: BTreeMap<Digest, Content>,
    /// What the operator should know although nothing is wrong.
    pub warnings: Vec<String>,
}

impl Payload {
    /// Reads `source`: a file, a folder, or an archive by the ending of its name. A link at
    /// `source` itself is followed, since the operator named it.
    pub fn open(app: &AppName, source: &Path) -> Result<Self, ReleaseError> {
        let metadata = fs::metadata(source).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => ReleaseError::Missing {
                app: app.clone(),
                path: shown(source),
            },
            _ => ReleaseError::unreadable(source, &error),
        })?;
        let real =
            fs::canonicalize(source).map_err(|error| ReleaseError::unreadable(source, &error))?;
        let mut listing = Listing::new(shown(source));
        if metadata.is_dir() {
            folder::list(&real, &mut listing)?;
        } else if !metadata.is_file() {
            return Err(ReleaseError::Kind {
                path: shown(source),
                kind: folder::kind(metadata.file_type()),
            });
        } else if metadata.len() == 0 {
            return Err(empty(app, source));
        } else if let Some(form) = archive::Form::of(source)? {
            archive::list(&real, form, &mut listing)?;
        } else {
            one_file(source, &real, &mut listing)?;
        }
        // A link that leaves the release is what is wrong, also where nothing else is there.
        listing.check_links()?;
        if listing.contents.is_empty() {
            return Err(empty(app, source));
        }
        let needs = elf::needs(&listing)?;
        let warnings = listing.warnings();
        Ok(Self {
            app: app.clone(),
            digest: listing.tree.digest(),
            tree: Arc::new(listing.tree),
            needs,
            contents: listing.contents,
            warnings,
        })
    }

    /// The payload of an app that ships nothing: an empty release.
    pub fn nothing(app: &AppName) -> Self {
        let tree = Arc::new(Tree::default());
        Self {
            app: app.clone(),
            digest: tree.digest(),
            tree,
            needs: Needs::default(),
            contents: BTreeMap::new(),
            warnings: Vec::new(),
        }
    }
}

/// A release of one file under its own name. A program that lost its executable bit on the way (an
/// artifact of CI) gets it back.
fn one_file(source: &Path, real: &Path, listing: &mut Listing) -> Result<(), ReleaseError> {
    let name = source.file_name().unwrap_or_default();
    let path: TreePath = folder::tree_path(Path::new(name))?;
    let metadata = fs::metadata(real).map_err(|error| ReleaseError::unreadable(source, &error))?;
    let hashed = hash(real)?;
    let program = &hashed.head == b"\x7fELF" || hashed.head.starts_with(b"#!");
    let mode = std::os::unix::fs::MetadataExt::mode(&metadata) | if program { 0o111 } else { 0 };
    listing.add_file(path, hashed, mode)?;
    Ok(())
}

fn empty(app: &AppName, source: &Path) -> ReleaseError {
    ReleaseError::Empty {
        app: app.clone(),
        path: shown(source),
    }
}
