//! A source that is an archive. Its contents go to one unlinked temporary file; nothing is ever
//! unpacked under a name, so that no name in the archive can lead anywhere.

use std::cell::Cell;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

use push_wire::path::TreePath;
use push_wire::tree::Entry;
use tar::EntryType;

use super::content::{Hashed, Hashing, PIECE_BYTES, Stamp};
use super::error::{escaped, shown};
use super::listing::Listing;
use super::{Content, ReleaseError};

/// How many bytes an archive may unpack to for each byte of it, once past [`RATIO_FREE_BYTES`].
const RATIO_MAX: u64 = 1000;

/// What any archive may unpack to, whatever its ratio, in bytes.
const RATIO_FREE_BYTES: u64 = 256 << 20;

/// What may stand between two contents: headers, long names, attributes. In bytes.
const HEADERS_BYTES_MAX: u64 = 4 << 20;

/// How an archive is packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    Plain,
    Gzip,
    Zstd,
}

impl Form {
    /// What the ending of a name says; `None` for no archive at all.
    pub fn of(path: &Path) -> Result<Option<Self>, ReleaseError> {
        let name = path
            .file_name()
            .map(|name| name.to_string_lossy().to_lowercase())
            .unwrap_or_default();
        let ends = |endings: &[&str]| endings.iter().any(|ending| name.ends_with(ending));
        if ends(&[".tar"]) {
            Ok(Some(Self::Plain))
        } else if ends(&[".tar.gz", ".tgz"]) {
            Ok(Some(Self::Gzip))
        } else if ends(&[".tar.zst", ".tzst"]) {
            Ok(Some(Self::Zstd))
        } else if ends(&[
            ".tar.xz", ".txz", ".tar.bz2", ".tbz", ".tar.lz", ".zip", ".7z",
        ]) {
            Err(ReleaseError::Archive {
                path: shown(path),
                why: "push reads .tar, .tar.gz and .tar.zst".to_owned(),
            })
        } else {
            Ok(None)
        }
    }
}

/// Lists what the archive holds.
pub(super) fn list(path: &Path, form: Form, listing: &mut Listing) -> Result<(), ReleaseError> {
    let file = File::open(path).map_err(|error| ReleaseError::unreadable(path, &error))?;
    let stamp = stamp(path, &file)?;
    let watched = file
        .try_clone()
        .map_err(|error| ReleaseError::unreadable(path, &error))?;
    let packed = Rc::new(Cell::new(0));
    let counted = Counted {
        inner: BufReader::with_capacity(PIECE_BYTES, file),
        bytes: Rc::clone(&packed),
    };
    let unpacked: Box<dyn Read> = match form {
        Form::Plain => Box::new(counted),
        Form::Gzip => Box::new(flate2::read::MultiGzDecoder::new(counted)),
        Form::Zstd => Box::new(
            zstd::stream::read::Decoder::new(counted)
                .map_err(|error| broken(&listing.source, &error))?,
        ),
    };
    let allowance = Rc::new(Cell::new(0));
    let bounded = Bounded {
        inner: unpacked,
        packed,
        unpacked: 0,
        allowance: Rc::clone(&allowance),
    };
    let spool = tempfile::tempfile().map_err(|error| ReleaseError::scratch(&error))?;
    let mut reading = Reading {
        listing,
        spool: Arc::new(spool),
        spooled: 0,
        allowance,
    };
    reading.all(&mut tar::Archive::new(bounded))?;
    if self::stamp(path, &watched)? == stamp {
        Ok(())
    } else {
        Err(ReleaseError::Changed { path: shown(path) })
    }
}

fn stamp(path: &Path, file: &File) -> Result<Stamp, ReleaseError> {
    file.metadata()
        .map(|metadata| Stamp::of(&metadata))
        .map_err(|error| ReleaseError::unreadable(path, &error))
}

struct Reading<'a> {
    listing: &'a mut Listing,
    spool: Arc<File>,
    spooled: u64,
    allowance: Rc<Cell<u64>>,
}

impl Reading<'_> {
    fn all<R: Read>(&mut self, archive: &mut tar::Archive<R>) -> Result<(), ReleaseError> {
        let source = self.listing.source.clone();
        let mut entries = archive.entries().map_err(|error| broken(&source, &error))?;
        loop {
            self.allowance.set(HEADERS_BYTES_MAX);
            match entries.next() {
                Some(entry) => {
                    self.one(&mut entry.map_err(|error| broken(&source, &error))?)?;
                }
                None => return Ok(()),
            }
        }
    }

    fn one<R: Read>(&mut self, entry: &mut tar::Entry<'_, R>) -> Result<(), ReleaseError> {
        let kind = entry.header().entry_type();
        if kind == EntryType::XGlobalHeader {
            return Ok(()); // `git archive` writes its commit there.
        }
        let Some(path) = self.path(&entry.path_bytes())? else {
            return Ok(());
        };
        self.parents(&path)?;
        match kind {
            EntryType::Directory => self.place(path, Entry::Folder),
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
                self.file(path, entry)
            }
            EntryType::Symlink => {
                let target = target(entry)?;
                self.place(path, Entry::Link { target })
            }
            EntryType::Link => {
                let target = target(entry)?;
                self.hard_link(path, &target)
            }
            EntryType::Char | EntryType::Block => Err(self.refused(&path, "it is a device")),
            EntryType::Fifo => Err(self.refused(&path, "it is a fifo")),
            _ => Err(self.refused(&path, "its type is one that push does not know")),
        }
    }

    /// The path of an entry; `None` for the root itself.
    fn path(&self, bytes: &[u8]) -> Result<Option<TreePath>, ReleaseError> {
        let wrong = |why: &str| ReleaseError::Name {
            name: escaped(bytes),
            why: format!("{why} (in {})", self.listing.source),
        };
        let text = std::str::from_utf8(bytes).map_err(|_| wrong("it is not UTF-8"))?;
        if text.starts_with('/') {
            return Err(wrong("it is absolute"));
        }
        let inside: Vec<&str> = text
            .split('/')
            .filter(|component| !matches!(*component, "" | "."))
            .collect();
        if inside.is_empty() {
            return Ok(None);
        }
        inside
            .join("/")
            .parse()
            .map(Some)
            .map_err(|error: push_wire::path::PathError| wrong(error.why))
    }

    /// Adds the folders of a path that the archive does not list, and refuses a path that leads
    /// through anything else than a folder.
    fn parents(&mut self, path: &TreePath) -> Result<(), ReleaseError> {
        let mut missing = Vec::new();
        let mut next = path.parent();
        while let Some(folder) = next {
            next = folder.parent();
            match self.listing.tree.entries.get(&folder) {
                Some(Entry::Folder) => break,
                Some(Entry::File { .. } | Entry::Link { .. }) => {
                    return Err(self.refused(path, "it lies below something that is no folder"));
                }
                None => missing.push(folder),
            }
        }
        missing
            .into_iter()
            .try_for_each(|folder| self.listing.add(folder, Entry::Folder))
    }

    fn place(&mut self, path: TreePath, entry: Entry) -> Result<(), ReleaseError> {
        match self.listing.tree.entries.get(&path) {
            None => self.listing.add(path, entry),
            // A path may stand twice only as the same folder.
            Some(Entry::Folder) if entry == Entry::Folder => Ok(()),
            Some(_) => Err(self.refused(&path, "it stands in the archive twice")),
        }
    }

    /// A hard link is another name for a file that came before it.
    fn hard_link(&mut self, path: TreePath, target: &str) -> Result<(), ReleaseError> {
        let found = self
            .path(target.as_bytes())?
            .and_then(|target| self.listing.tree.entries.get(&target).cloned());
        match found {
            Some(file @ Entry::File { .. }) => self.place(path, file),
            Some(Entry::Folder | Entry::Link { .. }) | None => Err(self.refused(
                &path,
                "it is a hard link to no file that comes before it in the archive",
            )),
        }
    }

    fn file<R: Read>(
        &mut self,
        path: TreePath,
        entry: &mut tar::Entry<'_, R>,
    ) -> Result<(), ReleaseError> {
        let source = self.listing.source.clone();
        let sparse = entry
            .pax_extensions()
            .map_err(|error| broken(&source, &error))?
            .into_iter()
            .flatten()
            .flatten()
            .any(|extension| extension.key_bytes().starts_with(b"GNU.sparse."));
        if sparse {
            return Err(self.refused(&path, "it is a sparse file; make the archive without -S"));
        }
        let announced = entry.size();
        if announced > self.listing.bytes_left() {
            return Err(self.listing.too_large(format!(
                "it unpacks to more than {} GiB",
                super::BYTES_MAX >> 30
            )));
        }
        let mode = entry
            .header()
            .mode()
            .map_err(|error| broken(&source, &error))?;
        if self.listing.tree.entries.contains_key(&path) {
            return Err(self.refused(&path, "it stands in the archive twice"));
        }
        self.allowance.set(announced + HEADERS_BYTES_MAX);
        let hashed = self.spool(entry, announced)?;
        self.listing.add_file(path, hashed, mode)
    }

    /// Copies a content to the spool. One that is there already is not kept twice.
    fn spool(&mut self, entry: &mut impl Read, announced: u64) -> Result<Hashed, ReleaseError> {
        let mut hashing = Hashing::default();
        let mut piece = vec![0; PIECE_BYTES];
        loop {
            let read = entry
                .read(&mut piece)
                .map_err(|error| broken(&self.listing.source, &error))?;
            if read == 0 {
                break;
            }
            self.spool
                .write_all_at(&piece[..read], self.spooled + hashing.size)
                .map_err(|error| ReleaseError::scratch(&error))?;
            hashing.update(&piece[..read]);
        }
        let size = hashing.size;
        if size != announced {
            let cut = io::ErrorKind::UnexpectedEof.into();
            return Err(broken(&self.listing.source, &cut));
        }
        let hashed = hashing.finish(Content::Spooled {
            spool: Arc::clone(&self.spool),
            offset: self.spooled,
            size,
        });
        if !self.listing.contents.contains_key(&hashed.digest) {
            self.spooled += size;
        }
        Ok(hashed)
    }

    fn refused(&self, path: &TreePath, why: &str) -> ReleaseError {
        ReleaseError::Archive {
            path: self.listing.source.clone(),
            why: format!("{}: {why}", shown(path.as_path())),
        }
    }
}

fn target<R: Read>(entry: &tar::Entry<'_, R>) -> Result<String, ReleaseError> {
    let bytes = entry.link_name_bytes().unwrap_or_default();
    std::str::from_utf8(&bytes)
        .map(str::to_owned)
        .map_err(|_| ReleaseError::Name {
            name: escaped(&bytes),
            why: "it is the target of a link and not UTF-8".to_owned(),
        })
}

fn broken(source: &str, error: &io::Error) -> ReleaseError {
    ReleaseError::Archive {
        path: source.to_owned(),
        why: match error.kind() {
            io::ErrorKind::UnexpectedEof => "it ends too early".to_owned(),
            _ => escaped(error.to_string().as_bytes()),
        },
    }
}

/// Counts what is read.
struct Counted<R> {
    inner: R,
    bytes: Rc<Cell<u64>>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.bytes.set(self.bytes.get() + read as u64);
        Ok(read)
    }
}

/// Stops an archive that unpacks to far more than it weighs, or whose headers do not end.
struct Bounded<R> {
    inner: R,
    packed: Rc<Cell<u64>>,
    unpacked: u64,
    /// What may be read until the next content starts.
    allowance: Rc<Cell<u64>>,
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)? as u64;
        self.unpacked += read;
        if self.unpacked > RATIO_FREE_BYTES && self.unpacked / RATIO_MAX > self.packed.get() {
            return Err(io::Error::other(
                "it unpacks to more than 1000 times its size",
            ));
        }
        match self.allowance.get().checked_sub(read) {
            Some(left) => self.allowance.set(left),
            None => return Err(io::Error::other("its headers are longer than 4 MiB")),
        }
        Ok(usize::try_from(read).unwrap_or(usize::MAX))
    }
}
