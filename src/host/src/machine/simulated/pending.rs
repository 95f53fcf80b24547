//! What a disk in memory has been told and not yet made durable, and what a power cut may keep of it.
//!
//! Two sets of outcomes are tried at every cut, and counted by the proof:
//!
//! - **ordered**: what ext4, XFS and btrfs may really leave. They keep the order of changes to entries,
//!   attributes and sizes (Dave Chinner, "metadata operation reordering regards to crash", linux-fsdevel,
//!   14 Sep 2018; Jayashree Mohan et al., "File System Crash-Recovery Guarantees", linux-fsdevel, March
//!   2019), each file system for itself; contents reach the disk when they like. So: a prefix of
//!   the former for each file system, with every written content absent, cut short, as zeros, or whole;
//! - **any**: every subset of the changes, in any combination, as POSIX leaves it open and as ALICE
//!   (Pillai et al., OSDI 2014) models it. What holds for this set holds for a file system that
//!   keeps no order at all.
//!
//! Not in the model: sectors torn within, bits that rot, a disk that lies about a flush, and long symbolic
//! links that are found empty (short ones are part of their inode; btrfs lost them before Linux 4.5).

use std::collections::BTreeMap;
use std::rc::Rc;

use super::disk::{Ino, Inode, Kind};
use super::random::Random;

/// A change that has not been synced.
#[derive(Debug, Clone)]
pub(super) enum Change {
    Write {
        ino: Ino,
        at: usize,
        bytes: Vec<u8>,
    },
    Cut {
        ino: Ino,
        bytes: usize,
    },
    Give {
        ino: Ino,
        mode: u32,
        ids: (u32, u32),
    },
    Enter {
        folder: Ino,
        name: String,
        ino: Ino,
    },
    Leave {
        folder: Ino,
        name: String,
    },
    Move {
        folder: Ino,
        names: (String, String),
        ino: Ino,
    },
}

/// Which pending changes survive a power cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Survives {
    /// None.
    Nothing,
    /// All.
    Everything,
    /// The outcome of this number, of those that a file system which keeps order may leave.
    Ordered(u64),
    /// The outcome of this number, of all that are thinkable.
    Any(u64),
    /// Any of them, by the toss of a seeded coin; a write perhaps in part.
    Random(u64),
}

/// What can become of one change: nothing, or all of it; and of what was written also a first part, or
/// zeros in its place.
fn fates(change: &Change) -> u64 {
    match change {
        Change::Write { .. } => 4,
        Change::Cut { .. }
        | Change::Give { .. }
        | Change::Enter { .. }
        | Change::Leave { .. }
        | Change::Move { .. } => 2,
    }
}

fn is_content(change: &Change) -> bool {
    matches!(change, Change::Write { .. })
}

/// The pending changes, in the order in which they were made, each with its file system.
pub(super) type Pending = Vec<(String, Change)>;

/// How many outcomes there are for file systems that keep order.
pub(super) fn ordered_ways(pending: &Pending) -> u64 {
    let lengths = prefixes(pending).into_values();
    let contents = pending.iter().filter(|(_, change)| is_content(change));
    let contents = contents.fold(1, |ways: u64, (_, change)| {
        ways.saturating_mul(fates(change))
    });
    lengths.fold(contents, |ways, length| ways.saturating_mul(length + 1))
}

/// How many outcomes there are for a file system that keeps no order.
pub(super) fn any_ways(pending: &Pending) -> u64 {
    pending.iter().fold(1, |ways: u64, (_, change)| {
        ways.saturating_mul(fates(change))
    })
}

/// How many changes, beside contents, each file system has to keep in order.
fn prefixes(pending: &Pending) -> BTreeMap<String, u64> {
    let mut all = BTreeMap::new();
    for (system, _) in pending.iter().filter(|(_, change)| !is_content(change)) {
        *all.entry(system.clone()).or_insert(0) += 1;
    }
    all
}

/// Applies to what is durable what survives of what was pending.
pub(super) fn survive(durable: &mut [Rc<Inode>], pending: Pending, survives: Survives) {
    match survives {
        Survives::Nothing => {}
        Survives::Everything => {
            for (_, change) in pending {
                apply(durable, &change);
            }
        }
        Survives::Ordered(number) => ordered(durable, pending, number),
        Survives::Any(mut number) => {
            for (_, change) in pending {
                let fate = digit(&mut number, fates(&change));
                apply_in_part(durable, change, fate);
            }
        }
        Survives::Random(seed) => {
            let mut random = Random::new(seed);
            for (_, change) in pending {
                by_chance(durable, change, &mut random);
            }
        }
    }
}

fn ordered(durable: &mut [Rc<Inode>], pending: Pending, mut number: u64) {
    let mut left: BTreeMap<String, u64> = prefixes(&pending)
        .into_iter()
        .map(|(system, length)| (system, digit(&mut number, length + 1)))
        .collect();
    for (system, change) in pending {
        if is_content(&change) {
            let fate = digit(&mut number, fates(&change));
            apply_in_part(durable, change, fate);
        } else if let Some(left) = left.get_mut(&system)
            && *left > 0
        {
            *left -= 1;
            apply(durable, &change);
        }
    }
}

/// The lowest digit of a number whose digits have bases of their own.
fn digit(number: &mut u64, base: u64) -> u64 {
    let digit = *number % base;
    *number /= base;
    digit
}

/// Whether syncing an inode makes a change durable.
pub(super) fn concerns(change: &Change, synced: Ino) -> bool {
    match change {
        Change::Write { ino, .. } | Change::Cut { ino, .. } | Change::Give { ino, .. } => {
            *ino == synced
        }
        Change::Enter { folder, .. }
        | Change::Leave { folder, .. }
        | Change::Move { folder, .. } => *folder == synced,
    }
}

/// Applies a change to a tree.
pub(super) fn apply(tree: &mut [Rc<Inode>], change: &Change) {
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
        Change::Give { ino, mode, ids } => {
            let inode = Rc::make_mut(&mut tree[*ino]);
            (inode.mode, inode.ids) = (*mode, *ids);
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
        Change::Move { folder, names, ino } => {
            if let Kind::Folder(entries) = &mut Rc::make_mut(&mut tree[*folder]).kind {
                entries.remove(&names.0);
                entries.insert(names.1.clone(), *ino);
            }
        }
    }
}

/// Applies a change as far as its fate says: 0 not at all, 1 whole, 2 its first half, 3 zeros.
fn apply_in_part(tree: &mut [Rc<Inode>], change: Change, fate: u64) {
    match (fate, change) {
        (0, _) => {}
        (2, Change::Write { ino, at, bytes }) => {
            let bytes = bytes[..bytes.len() / 2].to_vec();
            apply(tree, &Change::Write { ino, at, bytes });
        }
        (3, Change::Write { ino, at, bytes }) => {
            let bytes = vec![0; bytes.len()];
            apply(tree, &Change::Write { ino, at, bytes });
        }
        (_, change) => apply(tree, &change),
    }
}

/// Applies a change, or not, or a write in part: cut anywhere, as zeros or as foreign bytes of its
/// length, or its end without its beginning.
fn by_chance(tree: &mut [Rc<Inode>], change: Change, random: &mut Random) {
    let toss = random.below(6);
    match change {
        Change::Write { ino, at, bytes } => {
            let cut = random.index(bytes.len() + 1);
            let bytes = match toss {
                0 => return,
                1 => bytes[..cut].to_vec(),
                2 => vec![0; bytes.len()],
                3 => vec![0xa5; bytes.len()],
                4 => [vec![0; cut], bytes[cut..].to_vec()].concat(),
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
