//! What a simulated disk consists of, and the changes that are pending until something syncs them.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::rc::Rc;

use super::random::Random;

/// The number of an inode.
pub type Ino = usize;

/// What an inode is.
#[derive(Debug, Clone)]
pub enum Kind {
    /// With its content.
    File(Vec<u8>),
    /// With its entries.
    Folder(BTreeMap<String, Ino>),
    /// With its target.
    Link(PathBuf),
}

/// A file, a folder or a link.
#[derive(Debug, Clone)]
pub struct Inode {
    /// What it is.
    pub kind: Kind,
    /// Permission bits.
    pub mode: u32,
    /// Owner and group.
    pub ids: (u32, u32),
    /// Bytes that it can grow by on a full disk.
    pub reserved: u64,
}

/// A change that has not been synced.
#[derive(Debug, Clone)]
pub enum Change {
    /// Content.
    Write { ino: Ino, at: usize, bytes: Vec<u8> },
    /// A file is cut to its first bytes.
    Cut { ino: Ino, bytes: usize },
    /// An entry of a folder.
    Enter { folder: Ino, name: String, ino: Ino },
    /// An entry goes.
    Leave { folder: Ino, name: String },
    /// A rename, whole or not at all.
    Move {
        from: (Ino, String),
        to: (Ino, String),
        ino: Ino,
    },
}

/// Whether syncing an inode makes a change durable.
pub fn concerns(change: &Change, ino: Ino) -> bool {
    match change {
        Change::Write { ino: file, .. } | Change::Cut { ino: file, .. } => *file == ino,
        Change::Enter { folder, .. } | Change::Leave { folder, .. } => *folder == ino,
        Change::Move { from, to, .. } => from.0 == ino || to.0 == ino,
    }
}

/// Carries a change out on a tree.
pub fn apply(tree: &mut [Rc<Inode>], change: &Change) {
    match change {
        Change::Write { ino, at, bytes } => {
            if let Kind::File(content) = &mut Rc::make_mut(&mut tree[*ino]).kind {
                content.resize(content.len().max(at + bytes.len()), 0);
                content[*at..at + bytes.len()].copy_from_slice(bytes);
            }
        }
        Change::Cut { ino, bytes } => {
            if let Kind::File(content) = &mut Rc::make_mut(&mut tree[*ino]).kind {
                content.truncate(*bytes);
            }
        }
        Change::Enter { folder, name, ino } => {
            if let Kind::Folder(entries) = &mut Rc::make_mut(&mut tree[*folder]).kind {
                entries.insert(name.clone(), *ino);
            }
        }
        Change::Leave { folder, name } => {
            if let Kind::Folder(entries) = &mut Rc::make_mut(&mut tree[*folder]).kind {
                entries.remove(name);
            }
        }
        Change::Move { from, to, ino } => {
            apply(
                tree,
                &Change::Leave {
                    folder: from.0,
                    name: from.1.clone(),
                },
            );
            apply(
                tree,
                &Change::Enter {
                    folder: to.0,
                    name: to.1.clone(),
                    ino: *ino,
                },
            );
        }
    }
}

/// Applies a change, or not, or a write in part: cut short, or as zeros of its length.
pub fn apply_in_part(tree: &mut [Rc<Inode>], change: Change, random: &mut Random) {
    let toss = random.below(4);
    match change {
        Change::Write { ino, at, bytes } => {
            let bytes = match toss {
                0 => return,
                1 => bytes[..random.index(bytes.len() + 1)].to_vec(),
                2 => vec![0; bytes.len()],
                _ => bytes,
            };
            apply(tree, &Change::Write { ino, at, bytes });
        }
        other => {
            if toss.is_multiple_of(2) {
                apply(tree, &other);
            }
        }
    }
}
