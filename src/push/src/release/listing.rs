//! The listing of a release while it grows, within its limits.

use std::collections::{BTreeMap, BTreeSet};

use push_wire::digest::Digest;
use push_wire::path::{TreePath, link_stays_inside};
use push_wire::tree::{ENTRIES_MAX, Entry, Tree};

use super::content::Hashed;
use super::{BYTES_MAX, Content, ReleaseError};

/// The most links that are followed from one path; as many as Linux follows.
const HOPS_MAX: usize = 40;

/// What has been found of a source so far.
pub(super) struct Listing {
    /// What the source is called in messages.
    pub source: String,
    pub tree: Tree,
    pub contents: BTreeMap<Digest, Content>,
    /// The files that start like ELF.
    pub elf: Vec<TreePath>,
    warnings: Vec<String>,
    /// The files that not everybody may read here.
    closed: BTreeSet<TreePath>,
    bytes: u64,
}

impl Listing {
    pub fn new(source: String) -> Self {
        Self {
            source,
            tree: Tree::default(),
            contents: BTreeMap::new(),
            elf: Vec::new(),
            warnings: Vec::new(),
            closed: BTreeSet::new(),
            bytes: 0,
        }
    }

    /// Bytes that may still be added.
    pub fn bytes_left(&self) -> u64 {
        BYTES_MAX - self.bytes
    }

    pub fn add(&mut self, path: TreePath, entry: Entry) -> Result<(), ReleaseError> {
        if self.tree.entries.len() >= ENTRIES_MAX {
            return Err(self.too_large(format!("it has more than {ENTRIES_MAX} entries")));
        }
        self.tree.entries.insert(path, entry);
        Ok(())
    }

    pub fn add_file(
        &mut self,
        path: TreePath,
        hashed: Hashed,
        mode: u32,
    ) -> Result<(), ReleaseError> {
        if mode & 0o6000 != 0 {
            self.warnings.push(format!(
                "{}: its set-user-id or set-group-id bit does not travel",
                super::error::shown(path.as_path())
            ));
        }
        if mode & 0o004 == 0 {
            self.closed.insert(path.clone());
        }
        if hashed.size > self.bytes_left() {
            return Err(self.too_large(format!("it has more than {} GiB", BYTES_MAX >> 30)));
        }
        self.bytes += hashed.size;
        if &hashed.head == b"\x7fELF" {
            self.elf.push(path.clone());
        }
        self.contents.entry(hashed.digest).or_insert(hashed.content);
        let entry = Entry::File {
            digest: hashed.digest,
            size: hashed.size,
            executable: mode & 0o111 != 0,
        };
        self.add(path, entry)
    }

    /// Refuses links that leave the release, also those that leave it by way of other links.
    pub fn check_links(&self) -> Result<(), ReleaseError> {
        for (path, entry) in &self.tree.entries {
            let Entry::Link { target } = entry else {
                continue;
            };
            if !link_stays_inside(path, target) || leaves(&self.tree, path, target) {
                return Err(ReleaseError::LinkOut {
                    path: super::error::shown(path.as_path()),
                    target: target.clone(),
                });
            }
        }
        Ok(())
    }

    /// What the operator may not expect. Releases are root's and their apps read them, so everybody can.
    pub fn warnings(&self) -> Vec<String> {
        let mut all = self.warnings.clone();
        if let Some(first) = self.closed.first() {
            all.push(format!(
                "{}{} not readable for everybody here, but will be on the host, where every user can read \
                 releases; what is secret belongs into inventory/secrets",
                super::error::shown(first.as_path()),
                match self.closed.len() {
                    1 => " is".to_owned(),
                    count => format!(" and {} more are", count - 1),
                }
            ));
        }
        all
    }

    pub fn too_large(&self, why: String) -> ReleaseError {
        ReleaseError::TooLarge {
            path: self.source.clone(),
            why,
        }
    }
}

/// Whether following the link at `path` as a kernel does leaves the tree. Reading its text alone is
/// not enough: `a/b/m -> l/../x` stays inside as text, but leaves when `a/b/l` points to the root.
fn leaves(tree: &Tree, path: &TreePath, target: &str) -> bool {
    let mut at: Vec<String> = path.components().map(str::to_owned).collect();
    at.pop();
    let mut ahead: Vec<String> = components(target);
    let mut hops = 1;
    while let Some(next) = ahead.pop() {
        match next.as_str() {
            "" | "." => {}
            ".." => {
                if at.pop().is_none() {
                    return true;
                }
            }
            _ => {
                at.push(next);
                let Ok(here) = at.join("/").parse::<TreePath>() else {
                    return true;
                };
                if let Some(Entry::Link { target }) = tree.entries.get(&here) {
                    hops += 1;
                    if hops > HOPS_MAX {
                        return false; // A circle: no kernel follows it anywhere.
                    }
                    if target.starts_with('/') {
                        return true;
                    }
                    at.pop();
                    ahead.extend(components(target));
                }
            }
        }
    }
    false
}

/// The components of a link's target, last to first.
fn components(target: &str) -> Vec<String> {
    target.split('/').rev().map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_that_leaves_by_way_of_another_link_is_seen() {
        let link = |target: &str| Entry::Link {
            target: target.to_owned(),
        };
        let mut listing = Listing::new("x".into());
        for (path, entry) in [
            ("a", Entry::Folder),
            ("a/b", Entry::Folder),
            ("a/b/l", link("../..")),
            ("round", link("round")),
        ] {
            listing.add(path.parse().unwrap(), entry).unwrap();
        }
        assert_eq!(listing.check_links(), Ok(()));
        let m: TreePath = "a/b/m".parse().unwrap();
        assert!(link_stays_inside(&m, "l/../x"), "its text alone looks fine");
        listing.add(m, link("l/../x")).unwrap();
        assert!(matches!(
            listing.check_links(),
            Err(ReleaseError::LinkOut { path, .. }) if path == "a/b/m"
        ));
    }
}
