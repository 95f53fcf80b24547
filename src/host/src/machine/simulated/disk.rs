//! A disk in memory that loses and reorders what was not synced.
//!
//! Every change of content and every change of an entry is pending until something syncs it: `fsync`
//! of a file keeps its content, `fsync` of a folder keeps its entries, `syncfs` keeps one file system.
//! That is less than any real file system keeps, on purpose. A power cut keeps what was synced and a
//! subset of what was pending, in order; a rename is kept whole or not at all, a write may be torn.
//!
//! Each folder directly below the root is a file system of its own; `/run` is lost with the power.

use std::collections::BTreeMap;
use std::io::{Error, ErrorKind, Result};
use std::path::{Component, Path, PathBuf};
use std::rc::Rc;

use super::change::{Change, Ino, Inode, Kind, apply, apply_in_part, concerns};
use super::random::Random;
use crate::machine::{Node, Stat};

/// How many links are followed for one path.
const LINKS_MAX: usize = 16;

/// The file system that a power cut empties.
const VOLATILE: &str = "run";

/// Which pending changes survive a power cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Survives {
    /// None.
    Nothing,
    /// All.
    Everything,
    /// The first so many.
    Prefix(usize),
    /// Any of them, by the toss of a seeded coin; a write perhaps in part.
    Random(u64),
}

/// What a link at the end of a path is taken for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Last {
    Follow,
    Keep,
}

/// What became of changes whose sync failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// They reached the disk all the same.
    Reached,
    /// They did not, and no later sync tries again.
    Lost,
}

/// The disk.
#[derive(Debug, Clone)]
pub struct MemoryDisk {
    live: Vec<Rc<Inode>>,
    durable: Vec<Rc<Inode>>,
    pending: Vec<(String, Change)>,
}

fn error<T>(kind: ErrorKind, path: &Path) -> Result<T> {
    Err(Error::new(kind, format!("{}: {kind}", path.display())))
}

/// The file system that a path is on.
pub fn file_system(path: &Path) -> String {
    path.components()
        .find_map(|component| match component {
            Component::Normal(name) => Some(name.to_string_lossy().into_owned()),
            _ => None,
        })
        .unwrap_or_default()
}

/// Whether a path is in memory only, where a full or broken disk does not matter.
pub fn is_volatile(path: &Path) -> bool {
    file_system(path) == VOLATILE
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
        };
        for name in ["etc", "var", "srv", "usr", VOLATILE] {
            disk.folder(&Path::new("/").join(name), 0o755, (0, 0))
                .unwrap();
        }
        disk.sync_everything();
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

    /// How many changes are pending.
    pub fn pending(&self) -> usize {
        self.pending.len()
    }

    /// The power goes: only what was synced survives, and what `survives` says of the rest.
    pub fn power_cut(&mut self, survives: Survives) {
        let mut random = Random::new(match survives {
            Survives::Random(seed) => seed,
            Survives::Nothing | Survives::Everything | Survives::Prefix(_) => 0,
        });
        for (at, (_, change)) in std::mem::take(&mut self.pending).into_iter().enumerate() {
            match survives {
                Survives::Everything => apply(&mut self.durable, &change),
                Survives::Prefix(first) if at < first => apply(&mut self.durable, &change),
                Survives::Nothing | Survives::Prefix(_) => {}
                Survives::Random(_) => apply_in_part(&mut self.durable, change, &mut random),
            }
        }
        let volatile = self.durable_child(VOLATILE);
        Rc::make_mut(&mut self.durable[volatile]).kind = Kind::Folder(BTreeMap::new());
        self.live = self.durable.clone();
    }

    fn durable_child(&self, name: &str) -> Ino {
        match &self.durable[0].kind {
            Kind::Folder(entries) => entries[name],
            Kind::File(_) | Kind::Link(_) => unreachable!("the root is a folder"),
        }
    }

    fn change(&mut self, path: &Path, change: Change) {
        apply(&mut self.live, &change);
        self.pending.push((file_system(path), change));
    }

    /// A failed sync.
    pub fn fail_to_sync(&mut self, path: &Path, fate: Fate) {
        let Ok(ino) = self.find(path, Last::Follow) else {
            return;
        };
        let pending = std::mem::take(&mut self.pending);
        for (system, change) in pending {
            if !concerns(&change, ino) {
                self.pending.push((system, change));
            } else if fate == Fate::Reached {
                apply(&mut self.durable, &change);
            }
        }
    }

    pub(crate) fn sync(&mut self, path: &Path) -> Result<()> {
        let ino = self.find(path, Last::Follow)?;
        let pending = std::mem::take(&mut self.pending);
        for (system, change) in pending {
            if concerns(&change, ino) {
                apply(&mut self.durable, &change);
            } else {
                self.pending.push((system, change));
            }
        }
        Ok(())
    }

    pub(crate) fn sync_all(&mut self, folder: &Path) -> Result<()> {
        self.find(folder, Last::Follow)?;
        let wanted = file_system(folder);
        let pending = std::mem::take(&mut self.pending);
        for (system, change) in pending {
            if system == wanted {
                apply(&mut self.durable, &change);
            } else {
                self.pending.push((system, change));
            }
        }
        Ok(())
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

    pub(crate) fn create(
        &mut self,
        path: &Path,
        content: &[u8],
        access: (u32, (u32, u32)),
    ) -> Result<()> {
        let ino = self.new_inode(path, Kind::File(Vec::new()), access)?;
        if !content.is_empty() {
            self.change(
                path,
                Change::Write {
                    ino,
                    at: 0,
                    bytes: content.to_vec(),
                },
            );
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
        Rc::make_mut(&mut self.live[ino]).reserved = left;
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
        if file_system(from) != file_system(to) {
            return error(ErrorKind::CrossesDevices, to);
        }
        let ino = self.find(from, Last::Keep)?;
        if let Ok(there) = self.find(to, Last::Keep)
            && matches!(&self.live[there].kind, Kind::Folder(entries) if !entries.is_empty())
        {
            return error(ErrorKind::DirectoryNotEmpty, to);
        }
        let (from_parent, to_parent) = (self.parent(from)?, self.parent(to)?);
        self.change(
            from,
            Change::Move {
                from: from_parent,
                to: to_parent,
                ino,
            },
        );
        Ok(())
    }

    pub(crate) fn link(&mut self, target: &Path, link: &Path) -> Result<()> {
        self.new_inode(link, Kind::Link(target.to_owned()), (0o777, (0, 0)))
            .map(drop)
    }

    pub(crate) fn hard_link(&mut self, original: &Path, name: &Path) -> Result<()> {
        if file_system(original) != file_system(name) {
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

    pub(crate) fn folder(&mut self, path: &Path, mode: u32, ids: (u32, u32)) -> Result<()> {
        match self.find(path, Last::Keep) {
            Ok(ino) if matches!(self.live[ino].kind, Kind::Folder(_)) => Ok(()),
            Ok(_) => error(ErrorKind::AlreadyExists, path),
            Err(_) => self
                .new_inode(path, Kind::Folder(BTreeMap::new()), (mode, ids))
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

    /// Entry by entry, as a real one does: a cut leaves half of it.
    pub fn remove_folder(&mut self, path: &Path) -> Result<()> {
        for name in self.list(path)? {
            let inside = path.join(name);
            match self.stat(&inside)?.map(|stat| stat.node) {
                Some(Node::Folder) => self.remove_folder(&inside)?,
                Some(Node::File | Node::Link | Node::Other) | None => self.remove(&inside)?,
            }
        }
        if self.find(path, Last::Keep).is_ok() {
            let (folder, name) = self.parent(path)?;
            self.change(path, Change::Leave { folder, name });
        }
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
