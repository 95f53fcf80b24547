//! Packs: the contents that a host lacks, as one compressed stream. Hosts that lack the same share
//! one pack, which is made once and kept in an unlinked temporary file.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt as _;
use std::sync::{Arc, Mutex, PoisonError};

use push_wire::digest::{Digest, Hasher};
use push_wire::frame::PackEntry;

use super::{Content, Payload, ReleaseError};

/// Packs below this many bytes, unpacked, are compressed harder.
const SMALL_BYTES: u64 = 64 << 20;

/// The level of zstd for small packs: about the best that still keeps up with a fast link.
const LEVEL_SMALL: i32 = 9;

/// The level of zstd for large packs.
const LEVEL_LARGE: i32 = 3;

/// Makes packs of the contents of one push.
pub struct Packs {
    /// In the order of the releases' listings, so that like stands by like.
    contents: Vec<(Digest, u64, Content)>,
    made: Mutex<BTreeMap<Digest, Slot>>,
}

/// One pack: whoever asks first makes it while the others wait.
type Slot = Arc<Mutex<Option<Result<Arc<Pack>, ReleaseError>>>>;

/// The contents that a host lacks, compressed. Any number of hosts read it at once.
#[derive(Debug)]
pub struct Pack {
    file: File,
    /// The SHA-256 of the packed bytes.
    pub digest: Digest,
    /// The packed bytes.
    pub bytes: u64,
    /// The bytes before packing.
    pub unpacked_bytes: u64,
}

impl Pack {
    /// Reads packed bytes from `offset` on; 0 at the end.
    pub fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.file.read_at(buffer, offset)
    }
}

impl Packs {
    /// Packs of what these payloads hold.
    pub fn new<'a>(payloads: impl IntoIterator<Item = &'a Payload>) -> Self {
        let mut known = BTreeSet::new();
        let mut contents = Vec::new();
        for payload in payloads {
            for (_, digest, size) in payload.tree.files() {
                if let Some(content) = payload.contents.get(&digest)
                    && known.insert(digest)
                {
                    contents.push((digest, size, content.clone()));
                }
            }
        }
        Self {
            contents,
            made: Mutex::default(),
        }
    }

    /// The pack of exactly these contents. Blocks while it is being made, here or by another caller.
    /// Fails when a source is no longer what it was when it was read.
    pub fn pack(&self, missing: &BTreeSet<Digest>) -> Result<Arc<Pack>, ReleaseError> {
        let mut hasher = Hasher::new();
        for digest in missing {
            hasher.update(digest.as_bytes());
        }
        // A maker that panicked has left its slot empty; the next caller makes the pack.
        let slot = Arc::clone(
            self.made
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .entry(hasher.finish())
                .or_default(),
        );
        let mut made = slot.lock().unwrap_or_else(PoisonError::into_inner);
        made.get_or_insert_with(|| self.make(missing).map(Arc::new))
            .clone()
    }

    fn make(&self, missing: &BTreeSet<Digest>) -> Result<Pack, ReleaseError> {
        let chosen: Vec<_> = self
            .contents
            .iter()
            .filter(|(digest, _, _)| missing.contains(digest))
            .collect();
        let held: BTreeSet<Digest> = chosen.iter().map(|(digest, _, _)| *digest).collect();
        if let Some(unknown) = missing.difference(&held).next() {
            return Err(ReleaseError::Unknown {
                digest: unknown.short(),
            });
        }
        let unpacked_bytes = chosen
            .iter()
            .map(|(_, size, _)| size + PackEntry::BYTES as u64)
            .sum();
        let packed = Packed::new().map_err(|error| ReleaseError::scratch(&error))?;
        let packed = compress(&chosen, unpacked_bytes, packed)?;
        Ok(Pack {
            file: packed.file,
            digest: packed.hasher.finish(),
            bytes: packed.bytes,
            unpacked_bytes,
        })
    }
}

/// Single-threaded and of a fixed level, so that the same contents make the same bytes: an upload
/// that broke off goes on after a restart of push.
fn compress(
    chosen: &[&(Digest, u64, Content)],
    unpacked_bytes: u64,
    packed: Packed,
) -> Result<Packed, ReleaseError> {
    let level = if unpacked_bytes < SMALL_BYTES {
        LEVEL_SMALL
    } else {
        LEVEL_LARGE
    };
    let scratch = |error: io::Error| ReleaseError::scratch(&error);
    let mut encoder = zstd::stream::write::Encoder::new(packed, level).map_err(scratch)?;
    encoder
        .set_pledged_src_size(Some(unpacked_bytes))
        .map_err(scratch)?;
    for (digest, size, content) in chosen {
        let entry = PackEntry {
            digest: *digest,
            size: *size,
        };
        encoder.write_all(&entry.encode()).map_err(scratch)?;
        content.pass(*digest, |piece| encoder.write_all(piece).map_err(scratch))?;
    }
    let mut packed = encoder.finish().map_err(scratch)?;
    packed.flush().map_err(scratch)?;
    Ok(packed)
}

/// The packed bytes on their way to the temporary file.
struct Packed {
    file: File,
    hasher: Hasher,
    bytes: u64,
}

impl Packed {
    fn new() -> io::Result<Self> {
        Ok(Self {
            file: tempfile::tempfile()?,
            hasher: Hasher::new(),
            bytes: 0,
        })
    }
}

impl Write for Packed {
    fn write(&mut self, piece: &[u8]) -> io::Result<usize> {
        let written = self.file.write(piece)?;
        self.hasher.update(&piece[..written]);
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}
