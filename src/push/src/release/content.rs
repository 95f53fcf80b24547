//! Where the bytes of a payload are, and whether they are still the same.

use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use push_wire::digest::{Digest, Hasher};
use rustix::fs::OFlags;

use super::ReleaseError;
use super::error::shown;

/// How many bytes are read at once.
pub(super) const PIECE_BYTES: usize = 256 << 10;

/// Where the bytes of one file of a payload are.
#[derive(Debug, Clone)]
pub enum Content {
    /// In the operator's own file, which may change until it has been sent.
    Own {
        /// The file.
        path: PathBuf,
        /// What it was like when it was hashed.
        stamp: Stamp,
    },
    /// In an unlinked temporary file, which nobody else can change.
    Spooled {
        /// The file.
        spool: Arc<File>,
        /// Where in it.
        offset: u64,
        /// How many bytes.
        size: u64,
    },
}

/// What tells one state of a file from another. The time of the last status change is left out:
/// a build that makes hard links of its results changes it without touching a byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified_s: i64,
    modified_ns: i64,
}

impl Stamp {
    pub(super) fn of(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified_s: metadata.mtime(),
            modified_ns: metadata.mtime_nsec(),
        }
    }
}

/// What a file turned out to hold.
pub(super) struct Hashed {
    pub digest: Digest,
    pub size: u64,
    /// Its first bytes, which tell an ELF file or a script.
    pub head: [u8; 4],
    pub content: Content,
}

/// Reads a file of the operator once. Links are not followed: the listing has seen a file here.
pub(super) fn hash(path: &Path) -> Result<Hashed, ReleaseError> {
    let (file, stamp) = open(path)?;
    let mut hashing = Hashing::default();
    copy(&file, path, |piece| {
        hashing.update(piece);
        Ok(())
    })?;
    still(path, &file, stamp)?;
    if hashing.size != stamp.size {
        return Err(changed(path));
    }
    let path = path.to_owned();
    Ok(hashing.finish(Content::Own { path, stamp }))
}

/// What is learnt of a content while it passes.
#[derive(Default)]
pub(super) struct Hashing {
    hasher: Hasher,
    head: [u8; 4],
    pub size: u64,
}

impl Hashing {
    pub fn update(&mut self, piece: &[u8]) {
        let start = usize::try_from(self.size).unwrap_or(usize::MAX);
        for (slot, byte) in self.head.iter_mut().skip(start).zip(piece) {
            *slot = *byte;
        }
        self.size += piece.len() as u64;
        self.hasher.update(piece);
    }

    pub fn finish(self, content: Content) -> Hashed {
        Hashed {
            digest: self.hasher.finish(),
            size: self.size,
            head: self.head,
            content,
        }
    }
}

impl Content {
    /// Passes the bytes on, piece by piece, and fails when they are no longer those of `digest`.
    pub(super) fn pass(
        &self,
        digest: Digest,
        mut sink: impl FnMut(&[u8]) -> Result<(), ReleaseError>,
    ) -> Result<(), ReleaseError> {
        match self {
            Self::Own { path, stamp } => {
                let (file, found) = open(path)?;
                if found != *stamp {
                    return Err(changed(path));
                }
                let mut hasher = Hasher::new();
                let mut size = 0;
                copy(&file, path, |piece| {
                    size += piece.len() as u64;
                    // More than was announced would break the pack's format.
                    if size > stamp.size {
                        return Err(changed(path));
                    }
                    hasher.update(piece);
                    sink(piece)
                })?;
                still(path, &file, *stamp)?;
                if hasher.finish() == digest {
                    Ok(())
                } else {
                    Err(changed(path))
                }
            }
            Self::Spooled { .. } => {
                let mut window = self.window()?;
                let mut piece = vec![0; PIECE_BYTES];
                loop {
                    match window
                        .read(&mut piece)
                        .map_err(|error| ReleaseError::scratch(&error))?
                    {
                        0 => return Ok(()),
                        read => sink(&piece[..read])?,
                    }
                }
            }
        }
    }

    /// The bytes, for a parser that jumps about in them.
    pub(super) fn window(&self) -> Result<Window, ReleaseError> {
        let (file, start, size) = match self {
            Self::Own { path, stamp } => {
                let (file, found) = open(path)?;
                if found != *stamp {
                    return Err(changed(path));
                }
                (Arc::new(file), 0, stamp.size)
            }
            Self::Spooled {
                spool,
                offset,
                size,
            } => (Arc::clone(spool), *offset, *size),
        };
        Ok(Window {
            file,
            start,
            size,
            at: 0,
        })
    }
}

/// A part of a file as if it were a file.
pub(super) struct Window {
    file: Arc<File>,
    start: u64,
    size: u64,
    at: u64,
}

impl Read for Window {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.size.saturating_sub(self.at)).unwrap_or(usize::MAX);
        let wanted = buffer.len().min(left);
        let read = self
            .file
            .read_at(&mut buffer[..wanted], self.start + self.at)?;
        self.at += read as u64;
        Ok(read)
    }
}

impl Seek for Window {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let at = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::End(by) => self.size.checked_add_signed(by),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
        };
        self.at = at.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.at)
    }
}

/// Opens what must still be a regular file. A fifo or a device put there meanwhile does not block.
fn open(path: &Path) -> Result<(File, Stamp), ReleaseError> {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(i32::try_from(flags.bits()).unwrap_or(0))
        .open(path)
        .map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => changed(path),
            _ => ReleaseError::unreadable(path, &error),
        })?;
    let metadata = file
        .metadata()
        .map_err(|error| ReleaseError::unreadable(path, &error))?;
    if !metadata.is_file() {
        return Err(changed(path));
    }
    Ok((file, Stamp::of(&metadata)))
}

fn still(path: &Path, file: &File, stamp: Stamp) -> Result<(), ReleaseError> {
    let metadata = file
        .metadata()
        .map_err(|error| ReleaseError::unreadable(path, &error))?;
    if Stamp::of(&metadata) == stamp {
        Ok(())
    } else {
        Err(changed(path))
    }
}

fn copy(
    mut file: &File,
    path: &Path,
    mut sink: impl FnMut(&[u8]) -> Result<(), ReleaseError>,
) -> Result<(), ReleaseError> {
    let mut piece = vec![0; PIECE_BYTES];
    loop {
        match file.read(&mut piece) {
            Ok(0) => return Ok(()),
            Ok(read) => sink(&piece[..read])?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(ReleaseError::unreadable(path, &error)),
        }
    }
}

fn changed(path: &Path) -> ReleaseError {
    ReleaseError::Changed { path: shown(path) }
}
