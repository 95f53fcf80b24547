//! The listing of a release: what each path holds, by digest. Times and owners are not part of it,
//! so that the same content is the same release wherever and whenever it was built.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::digest::{Digest, Hasher};
use crate::path::{TreePath, link_stays_inside};

/// The most entries of one release.
pub const ENTRIES_MAX: usize = 200_000;

/// What a path of a release holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Entry {
    /// A folder; mode 0755 on the host.
    Folder,
    /// A regular file.
    File {
        /// Its content.
        digest: Digest,
        /// Its size in bytes.
        size: u64,
        /// Whether it may be executed (mode 0755) or not (0644). Set-id bits never travel.
        executable: bool,
    },
    /// A symbolic link that stays inside the release.
    Link {
        /// What it points to, as text.
        target: String,
    },
}

/// The listing of a release, sorted by path.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Tree {
    /// Every path with what it holds. A path's folders are entries themselves.
    pub entries: BTreeMap<TreePath, Entry>,
}

/// Why a listing is not one that a host will build.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TreeError {
    /// Too many entries for one release.
    #[error("a release has at most {ENTRIES_MAX} entries, this one has {found}")]
    TooMany {
        /// What was found.
        found: usize,
    },
    /// A path whose folder is not an entry, or is not a folder: following it could leave the tree.
    #[error("{path} is inside something that is not a folder of the release")]
    NoFolder {
        /// The path.
        path: TreePath,
    },
    /// A link that leaves the release.
    #[error("the link {path} points out of the release, to {target:?}")]
    Escapes {
        /// The link.
        path: TreePath,
        /// What it points to.
        target: String,
    },
}

impl Tree {
    /// The digest that names the whole tree: every path, what it is, and its content.
    pub fn digest(&self) -> Digest {
        let mut hasher = Hasher::new();
        let mut part = |bytes: &[u8]| {
            hasher.update(&(bytes.len() as u64).to_be_bytes());
            hasher.update(bytes);
        };
        for (path, entry) in &self.entries {
            part(path.as_str().as_bytes());
            match entry {
                Entry::Folder => part(b"folder"),
                Entry::File {
                    digest,
                    size,
                    executable,
                } => {
                    part(if *executable { b"program" } else { b"file" });
                    part(digest.as_bytes());
                    part(&size.to_be_bytes());
                }
                Entry::Link { target } => {
                    part(b"link");
                    part(target.as_bytes());
                }
            }
        }
        hasher.finish()
    }

    /// The bytes of all files together.
    pub fn size(&self) -> u64 {
        self.files().map(|(_, _, size)| size).sum()
    }

    /// Every regular file: path, digest, size in bytes.
    pub fn files(&self) -> impl Iterator<Item = (&TreePath, Digest, u64)> {
        self.entries.iter().filter_map(|(path, entry)| match entry {
            Entry::File { digest, size, .. } => Some((path, *digest, *size)),
            Entry::Folder | Entry::Link { .. } => None,
        })
    }

    /// Checks what a host relies on before it creates anything.
    pub fn check(&self) -> Result<(), TreeError> {
        if self.entries.len() > ENTRIES_MAX {
            return Err(TreeError::TooMany {
                found: self.entries.len(),
            });
        }
        for (path, entry) in &self.entries {
            if let Some(parent) = path.parent()
                && self.entries.get(&parent) != Some(&Entry::Folder)
            {
                return Err(TreeError::NoFolder { path: path.clone() });
            }
            if let Entry::Link { target } = entry
                && !link_stays_inside(path, target)
            {
                return Err(TreeError::Escapes {
                    path: path.clone(),
                    target: target.clone(),
                });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(entries: &[(&str, Entry)]) -> Tree {
        Tree {
            entries: entries
                .iter()
                .map(|(path, entry)| (path.parse().unwrap(), entry.clone()))
                .collect(),
        }
    }

    fn file(content: &str) -> Entry {
        Entry::File {
            digest: Digest::of(content),
            size: content.len() as u64,
            executable: false,
        }
    }

    #[test]
    fn every_part_of_an_entry_changes_the_digest() {
        let base = tree(&[("a", file("x"))]);
        for other in [
            tree(&[("b", file("x"))]),
            tree(&[("a", file("y"))]),
            tree(&[("a", Entry::Folder)]),
            tree(&[("a", Entry::Link { target: "x".into() })]),
            tree(&[(
                "a",
                Entry::File {
                    digest: Digest::of("x"),
                    size: 1,
                    executable: true,
                },
            )]),
        ] {
            assert_ne!(base.digest(), other.digest(), "{other:?}");
        }
        assert_eq!(base.digest(), base.clone().digest());
    }

    #[test]
    fn a_path_through_a_link_or_a_link_out_is_refused() {
        let through = tree(&[("l", Entry::Link { target: "d".into() }), ("l/x", file(""))]);
        assert!(matches!(through.check(), Err(TreeError::NoFolder { .. })));
        let out = tree(&[
            ("d", Entry::Folder),
            (
                "d/l",
                Entry::Link {
                    target: "../../etc".into(),
                },
            ),
        ]);
        assert!(matches!(out.check(), Err(TreeError::Escapes { .. })));
        let fine = tree(&[
            ("d", Entry::Folder),
            (
                "d/l",
                Entry::Link {
                    target: "../x".into(),
                },
            ),
        ]);
        assert_eq!(fine.check(), Ok(()));
    }
}
