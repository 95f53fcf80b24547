//! A disk in memory that loses and reorders what was not synced.
//!
//! Every change of content, of an entry and of owner and mode is pending until something syncs it:
//! `fsync` of a file keeps its content and its attributes, `fsync` of a folder keeps its entries and
//! its own attributes and nothing of what they lead to, `syncfs` keeps one file system. That is less than
//! any real file system keeps, on purpose. What a power cut makes of the rest is in [`super::pending`].
//!
//! What is assumed, and held by a panic here: no rename between two folders, which some file system
//! might keep by half. Symbolic links are durable with their entry: nobody can sync one, and ext4, XFS and
//! btrfs keep a short target in the inode.
//!
//! Each folder directly below the root is a file system of its own, or all of them are one
//! ([`MemoryDisk::on_one_file_system`]); `/run` is lost with the power in any case.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{Hash as _, Hasher};
use std::io::{Error, ErrorKind, Result};
use std::path::{Component, Path, PathBuf};
use std::rc::Rc;

use super::pending::{Change, Pending, Survives, any_ways, apply, concerns, ordered_ways, survive};
use crate::machine::{Misled, Node, Stat};

/// How many links are followed for one path.
const LINKS_MAX: usize = 16;

/// The file system that a power cut empties.
const VOLATILE: &str = "run";

pub(super) type Ino = usize;

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Kind {
    File(Vec<u8>),
    Folder(BTreeMap<String, Ino>),
    Link(PathBuf),
}

#[derive(Debug, Clone)]
pub(super) struct Inode {
    pub kind: Kind,
    pub mode: u32,
    pub ids: (u32, u32),
    reserved: u64,
}

/// What a link at the end of a path is taken for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Last {
    Follow,
    Keep,
}

/// What became of changes whose sync failed; file systems differ (Rebello et al., "Can Applications
/// Recover from fsync Failures?", USENIX ATC 2020).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// They reached the disk all the same.
    Reached,
    /// They did not, and no later sync tries again, although they can still be read: ext4, XFS.
    Lost,
    /// They did not, and contents cannot be read any more either: btrfs.
    Reverted,
}

/// Whether the folders below the root are file systems of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Partitions {
    Apart,
    One,
}

/// The disk.
#[derive(Debug, Clone)]
pub struct MemoryDisk {
    live: Vec<Rc<Inode>>,
    durable: Vec<Rc<Inode>>,
    pending: Pending,
    partitions: Partitions,
    version: u64,
}

fn error<T>(kind: ErrorKind, path: &Path) -> Result<T> {
    Err(Error::new(kind, format!("{}: {kind}", path.display())))
}

/// The folder below the root that a path is in.
fn first_folder(path: &Path) -> String {
    path.components()
        .find_map(|component| match component {
            Component::Normal(name) => Some(name.to_string_lossy().into_owned()),
            _ => None,
        })
        .unwrap_or_default()
}

/// Whether a path is in memory only, where a full or broken disk does not matter.
pub fn is_volatile(path: &Path) -> bool {
    first_folder(path) == VOLATILE
}

impl Default for MemoryDisk {
    fn default() -> Self {
        let root = Inode {
            kind: Kind::Folder(BTreeMap::new()),
            mode: 0o755,
            ids: (0, 0),
            reserved: 0,
        };
        let mut disk = Self {
            live: vec![Rc::new(root.clone())],
            durable: vec![Rc::new(root)],
            pending: Vec::new(),
            partitions: Partitions::Apart,
            version: 0,
        };
        for name in ["etc", "var", "srv", "usr", VOLATILE] {
            disk.folder(&Path::new("/").join(name), 0o755).unwrap();
        }
        disk.sync_everything();
        disk.durable = disk.live.clone();
        disk
    }
}

impl MemoryDisk {
    /// Makes all that is pending durable.
    pub fn sync_everything(&mut self) {
        for (_, change) in std::mem::take(&mut self.pending) {
            apply(&mut self.durable, &change);
        }
    }

    /// Gives what is at a path to a user, with other permission bits: what somebody else did to a host.
    pub fn give(&mut self, path: &Path, (uid, mode): (u32, u32)) {
        let ino = self.find(path, Last::Keep).unwrap();
        for tree in [&mut self.live, &mut self.durable] {
            let inode = Rc::make_mut(&mut tree[ino]);
            (inode.ids, inode.mode) = ((uid, uid), mode);
        }
    }

    /// The same disk, with everything but `/run` on one file system.
    pub fn on_one_file_system(mut self) -> Self {
        self.partitions = Partitions::One;
        self
    }

    fn file_system(&self, path: &Path) -> String {
        match self.partitions {
            Partitions::One if !is_volatile(path) => String::new(),
            Partitions::One | Partitions::Apart => first_folder(path),
        }
    }

    /// A number that rises with whatever changes what a power cut can leave.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// How many outcomes [`Survives::Ordered`] has.
    pub fn ordered_ways(&self) -> u64 {
        ordered_ways(&self.pending)
    }

    /// How many outcomes [`Survives::Any`] has.
    pub fn any_ways(&self) -> u64 {
        any_ways(&self.pending)
    }

    /// The power goes: only what was synced survives, and what `survives` says of the rest.
    pub fn power_cut(&mut self, survives: Survives) {
        survive(
            &mut self.durable,
            std::mem::take(&mut self.pending),
            survives,
        );
        let volatile = self.durable_child(VOLATILE);
        Rc::make_mut(&mut self.durable[volatile]).kind = Kind::Folder(BTreeMap::new());
        self.live = self.durable.clone();
    }

    /// What can be read on the disk, as one number: equal disks have equal ones.
    pub fn fingerprint(&self) -> u64 {
        let mut hasher = std::hash::DefaultHasher::new();
        self.hash_below(0, &mut hasher);
        hasher.finish()
    }

    /// Every path below a folder, relative to it.
    pub fn below(&self, folder: &Path) -> BTreeSet<PathBuf> {
        let mut all = BTreeSet::new();
        for name in self.list(folder).unwrap_or_default() {
            let inside = folder.join(&name);
            all.insert(PathBuf::from(&name));
            if matches!(self.stat(&inside), Ok(Some(stat)) if stat.node == Node::Folder) {
                let deeper = self.below(&inside);
                all.extend(deeper.into_iter().map(|path| Path::new(&name).join(path)));
            }
        }
        all
    }

    fn hash_below(&self, ino: Ino, hasher: &mut impl Hasher) {
        let inode = &self.live[ino];
        (inode.mode, inode.ids).hash(hasher);
        match &inode.kind {
            Kind::Folder(entries) => {
                entries.len().hash(hasher);
                for (name, below) in entries {
                    name.hash(hasher);
                    self.hash_below(*below, hasher);
                }
            }
            file_or_link @ (Kind::File(_) | Kind::Link(_)) => file_or_link.hash(hasher),
        }
    }

    fn durable_child(&self, name: &str) -> Ino {
        match &self.durable[0].kind {
            Kind::Folder(entries) => entries[name],
            Kind::File(_) | Kind::Link(_) => unreachable!("the root is a folder"),
        }
    }

    fn change(&mut self, path: &Path, change: Change) {
        apply(&mut self.live, &change);
        // What is in memory is lost in any case, so it has no outcomes.
        if !is_volatile(path) {
            self.version += 1;
            self.pending.push((self.file_system(path), change));
        }
    }

    /// A failed sync of one file or folder.
    pub fn fail_to_sync(&mut self, path: &Path, fate: Fate) {
        let Ok(ino) = self.find(path, Last::Follow) else {
            return;
        };
        self.settle(|_, change| concerns(change, ino), Some(fate));
    }

    /// A failed sync of a whole file system.
    pub fn fail_to_sync_all(&mut self, folder: &Path, fate: Fate) {
        let wanted = self.file_system(folder);
        self.settle(|system, _| *system == wanted, Some(fate));
    }

    pub(crate) fn sync(&mut self, path: &Path) -> Result<()> {
        let ino = self.find(path, Last::Follow)?;
        self.settle(|_, change| concerns(change, ino), None);
        Ok(())
    }

    pub(crate) fn sync_all(&mut self, folder: &Path) -> Result<()> {
        self.find(folder, Last::Follow)?;
        let wanted = self.file_system(folder);
        self.settle(|system, _| *system == wanted, None);
        Ok(())
    }

    /// Whether a sync of this path would have anything to do.
    pub fn is_dirty(&self, path: &Path) -> bool {
        let Ok(ino) = self.find(path, Last::Follow) else {
            return false;
        };
        self.pending.iter().any(|(_, change)| concerns(change, ino))
    }

    /// Ends the wait of those changes that a sync is about, well or with the fate of one that failed.
    fn settle(&mut self, is_meant: impl Fn(&String, &Change) -> bool, fate: Option<Fate>) {
        for (system, change) in std::mem::take(&mut self.pending) {
            if !is_meant(&system, &change) {
                self.pending.push((system, change));
                continue;
            }
            self.version += 1;
            match (fate, &change) {
                (None | Some(Fate::Reached), _) => apply(&mut self.durable, &change),
                (Some(Fate::Reverted), Change::Write { ino, .. }) => {
                    self.live[*ino] = Rc::clone(&self.durable[*ino]);
                }
                (Some(Fate::Lost | Fate::Reverted), _) => {}
            }
        }
    }

    fn find(&self, path: &Path, last: Last) -> Result<Ino> {
        self.resolve(path, last, LINKS_MAX)
    }

    fn resolve(&self, path: &Path, last: Last, links: usize) -> Result<Ino> {
        if links == 0 {
            return error(ErrorKind::Other, path);
        }
        let mut walked = PathBuf::from("/");
        let mut at = 0;
        let mut rest = path.components().peekable();
        while let Some(component) = rest.next() {
            let name = match component {
                Component::RootDir | Component::CurDir | Component::Prefix(_) => continue,
                Component::ParentDir => {
                    walked.pop();
                    at = self.resolve(&walked, Last::Follow, links - 1)?;
                    continue;
                }
                Component::Normal(name) => name.to_string_lossy().into_owned(),
            };
            let Kind::Folder(entries) = &self.live[at].kind else {
                return error(ErrorKind::NotADirectory, path);
            };
            let Some(&next) = entries.get(&name) else {
                return error(ErrorKind::NotFound, path);
            };
            match &self.live[next].kind {
                Kind::Link(target) if last == Last::Follow || rest.peek().is_some() => {
                    if let Some(why) = self.misleads(at, next) {
                        let link = walked.join(&name);
                        return Err(Error::other(Misled { link, why }));
                    }
                    let beyond: PathBuf = rest.collect();
                    let whole = walked.join(target).join(beyond);
                    return self.resolve(&whole, last, links - 1);
                }
                Kind::Link(_) | Kind::File(_) | Kind::Folder(_) => {}
            }
            at = next;
            walked.push(name);
        }
        Ok(at)
    }

    /// Who else than root decides where a link leads, if anybody does.
    fn misleads(&self, folder: Ino, link: Ino) -> Option<String> {
        let (folder, link) = (&self.live[folder], &self.live[link]);
        let is_open = folder.mode & 0o022 != 0 && folder.mode & 0o1000 == 0;
        match (link.ids.0, folder.ids.0) {
            (0, 0) => is_open.then(|| "others can write the folder that it is in".to_owned()),
            (0, user) => Some(format!("user {user} owns the folder that it is in")),
            (user, _) => Some(format!("user {user} made it")),
        }
    }

    fn parent(&self, path: &Path) -> Result<(Ino, String)> {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let folder = self.find(path.parent().unwrap(), Last::Follow)?;
        match &self.live[folder].kind {
            Kind::Folder(_) => Ok((folder, name)),
            Kind::File(_) | Kind::Link(_) => error(ErrorKind::NotADirectory, path),
        }
    }

    fn new_inode(
        &mut self,
        path: &Path,
        kind: Kind,
        (mode, ids): (u32, (u32, u32)),
    ) -> Result<Ino> {
        let (folder, name) = self.parent(path)?;
        if self.find(path, Last::Keep).is_ok() {
            return error(ErrorKind::AlreadyExists, path);
        }
        let inode = Inode {
            kind,
            mode,
            ids,
            reserved: 0,
        };
        let ino = self.live.len();
        let inode = Rc::new(inode);
        self.live.push(Rc::clone(&inode));
        self.durable.push(inode);
        self.change(path, Change::Enter { folder, name, ino });
        Ok(ino)
    }

    pub(crate) fn read(&self, path: &Path) -> Result<Vec<u8>> {
        match &self.live[self.find(path, Last::Follow)?].kind {
            Kind::File(content) => Ok(content.clone()),
            Kind::Folder(_) | Kind::Link(_) => error(ErrorKind::IsADirectory, path),
        }
    }

    /// A new file that is empty and still root's alone.
    pub(crate) fn create_empty(&mut self, path: &Path, mode: u32) -> Result<()> {
        let kind = Kind::File(Vec::new());
        self.new_inode(path, kind, (mode & 0o700, (0, 0))).map(drop)
    }

    /// Gives owner and mode.
    pub(crate) fn set_access(&mut self, path: &Path, (mode, ids): (u32, (u32, u32))) -> Result<()> {
        let ino = self.find(path, Last::Keep)?;
        if (self.live[ino].mode, self.live[ino].ids) != (mode, ids) {
            self.change(path, Change::Give { ino, mode, ids });
        }
        Ok(())
    }

    pub(crate) fn append(&mut self, path: &Path, content: &[u8]) -> Result<()> {
        let ino = self.find(path, Last::Keep)?;
        let Kind::File(old) = &self.live[ino].kind else {
            return error(ErrorKind::InvalidInput, path);
        };
        let at = old.len();
        let left = self.live[ino].reserved.saturating_sub(content.len() as u64);
        if self.live[ino].reserved != left {
            Rc::make_mut(&mut self.live[ino]).reserved = left;
        }
        if content.is_empty() {
            return Ok(());
        }
        self.change(
            path,
            Change::Write {
                ino,
                at,
                bytes: content.to_vec(),
            },
        );
        Ok(())
    }

    pub(crate) fn truncate(&mut self, path: &Path, bytes: usize) -> Result<()> {
        let ino = self.find(path, Last::Keep)?;
        self.change(path, Change::Cut { ino, bytes });
        Ok(())
    }

    pub(crate) fn reserve(&mut self, path: &Path, bytes: u64) -> Result<()> {
        let ino = self.find(path, Last::Keep)?;
        Rc::make_mut(&mut self.live[ino]).reserved = bytes;
        Ok(())
    }

    /// Whether a file can grow by so many bytes on a full disk.
    pub fn has_reserved(&self, path: &Path, bytes: usize) -> bool {
        self.find(path, Last::Keep)
            .is_ok_and(|ino| self.live[ino].reserved >= bytes as u64)
    }

    pub(crate) fn rename(&mut self, from: &Path, to: &Path) -> Result<()> {
        if self.file_system(from) != self.file_system(to) {
            return error(ErrorKind::CrossesDevices, to);
        }
        let ino = self.find(from, Last::Keep)?;
        let there = self.find(to, Last::Keep).ok();
        if there == Some(ino) {
            // Two names of one file: rename(2) does nothing.
            return Ok(());
        }
        if there.is_some_and(
            |there| matches!(&self.live[there].kind, Kind::Folder(entries) if !entries.is_empty()),
        ) {
            return error(ErrorKind::DirectoryNotEmpty, to);
        }
        let ((folder, old), (target, new)) = (self.parent(from)?, self.parent(to)?);
        assert_eq!(
            folder, target,
            "a rename between two folders: {from:?} to {to:?}"
        );
        let names = (old, new);
        self.change(from, Change::Move { folder, names, ino });
        Ok(())
    }

    pub(crate) fn link(&mut self, target: &Path, link: &Path) -> Result<()> {
        self.new_inode(link, Kind::Link(target.to_owned()), (0o777, (0, 0)))
            .map(drop)
    }

    pub(crate) fn hard_link(&mut self, original: &Path, name: &Path) -> Result<()> {
        if self.file_system(original) != self.file_system(name) {
            return error(ErrorKind::CrossesDevices, name);
        }
        let ino = self.find(original, Last::Keep)?;
        if self.find(name, Last::Keep).is_ok() {
            return error(ErrorKind::AlreadyExists, name);
        }
        let (folder, entry) = self.parent(name)?;
        self.change(
            name,
            Change::Enter {
                folder,
                name: entry,
                ino,
            },
        );
        Ok(())
    }

    /// A new folder has its mode at once, and its owner when it is given away.
    pub(crate) fn folder(&mut self, path: &Path, mode: u32) -> Result<()> {
        match self.find(path, Last::Keep) {
            Ok(ino) if matches!(self.live[ino].kind, Kind::Folder(_)) => Ok(()),
            Ok(_) => error(ErrorKind::AlreadyExists, path),
            Err(_) => self
                .new_inode(path, Kind::Folder(BTreeMap::new()), (mode, (0, 0)))
                .map(drop),
        }
    }

    pub(crate) fn remove(&mut self, path: &Path) -> Result<()> {
        match self.find(path, Last::Keep) {
            Ok(ino) if matches!(self.live[ino].kind, Kind::Folder(_)) => {
                error(ErrorKind::IsADirectory, path)
            }
            Ok(_) => {
                let (folder, name) = self.parent(path)?;
                self.change(path, Change::Leave { folder, name });
                Ok(())
            }
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Removes a folder that is empty.
    pub(crate) fn remove_empty(&mut self, path: &Path) -> Result<()> {
        let (folder, name) = self.parent(path)?;
        self.change(path, Change::Leave { folder, name });
        Ok(())
    }

    pub(crate) fn stat(&self, path: &Path) -> Result<Option<Stat>> {
        let ino = match self.find(path, Last::Keep) {
            Ok(ino) => ino,
            Err(error)
                if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) =>
            {
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        let inode = &self.live[ino];
        let (node, bytes) = match &inode.kind {
            Kind::File(content) => (Node::File, content.len()),
            Kind::Folder(entries) => (Node::Folder, entries.len()),
            Kind::Link(target) => (Node::Link, target.as_os_str().len()),
        };
        let names = match &inode.kind {
            Kind::File(_) => self.names(ino),
            Kind::Folder(_) | Kind::Link(_) => 1,
        };
        Ok(Some(Stat {
            node,
            mode: inode.mode,
            uid: inode.ids.0,
            gid: inode.ids.1,
            bytes: bytes as u64,
            names,
        }))
    }

    /// How many entries lead to an inode.
    fn names(&self, ino: Ino) -> u64 {
        let entries = self.live.iter().map(|inode| match &inode.kind {
            Kind::Folder(entries) => entries.values().filter(|entry| **entry == ino).count(),
            Kind::File(_) | Kind::Link(_) => 0,
        });
        entries.sum::<usize>() as u64
    }

    pub(crate) fn read_link(&self, path: &Path) -> Result<Option<PathBuf>> {
        match self.find(path, Last::Keep) {
            Ok(ino) => Ok(match &self.live[ino].kind {
                Kind::Link(target) => Some(target.clone()),
                Kind::File(_) | Kind::Folder(_) => None,
            }),
            Err(error)
                if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) =>
            {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    pub(crate) fn list(&self, folder: &Path) -> Result<Vec<String>> {
        match self.find(folder, Last::Follow) {
            Ok(ino) => match &self.live[ino].kind {
                Kind::Folder(entries) => Ok(entries.keys().cloned().collect()),
                Kind::File(_) | Kind::Link(_) => error(ErrorKind::NotADirectory, folder),
            },
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(vec![]),
            Err(error) => Err(error),
        }
    }
}
