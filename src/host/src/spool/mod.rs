//! Uploads that are not finished: packs as they arrive, and files that were unpacked and wait for
//! their release. Addressed by content, so that whatever is cut can be taken up again.
//!
//! ```text
//! <spool>/packs/<digest of the pack>.part    grows; its size is where the laptop goes on
//! <spool>/blobs/<digest of the file>[.x]     whole and verified; `.x` has the mode of a program
//! ```
//!
//! Nothing here is synced: after a power cut a blob counts only when its digest has been computed
//! again. Must not know what a release or a slice is.

mod unpack;

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::path::PathBuf;

use push_wire::digest::{Digest, Hasher};

use crate::layout::Layout;
use crate::machine::{self, Access, Clock, Disk, Node};

pub use unpack::{Expected, UnpackError, unpack};

/// How long an upload that nobody goes on with is kept, in seconds: a long weekend.
const KEPT_S: u64 = 4 * 24 * 3600;

/// How many packs and blobs are looked at; more than that is not of push's making.
const ENTRIES_MAX: usize = 1 << 20;

/// How much of a file is read at once, in bytes.
const PIECE_BYTES: usize = 256 << 10;

/// The name of the file whose content is the time of the last upload, seconds since 1970.
const LAST_USED: &str = "last-used";

/// What a file of a release is; names of one file share their mode, so it belongs to what is looked
/// for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// It is read: mode 0644.
    Data,
    /// It may be executed: mode 0755.
    Program,
}

impl Role {
    /// Permission bits.
    pub fn mode(self) -> u32 {
        match self {
            Self::Data => 0o644,
            Self::Program => 0o755,
        }
    }
}

impl From<bool> for Role {
    /// From a listing's `executable`.
    fn from(executable: bool) -> Self {
        if executable {
            Self::Program
        } else {
            Self::Data
        }
    }
}

/// A pack that is arriving.
pub struct Pack {
    path: PathBuf,
    digest: Digest,
    bytes: u64,
    have: u64,
    hasher: Hasher,
}

/// Why a pack is not what it should be.
#[derive(Debug, thiserror::Error)]
pub enum PackError {
    /// The laptop goes on where nothing is.
    #[error("the pack goes on at byte {offset}, but {have} are here")]
    Offset {
        /// Where the laptop would go on.
        offset: u64,
        /// How much is here.
        have: u64,
    },
    /// More came than was announced.
    #[error("the pack is longer than the {announced} bytes that were announced")]
    TooLong {
        /// What was announced.
        announced: u64,
    },
    /// All came, and it is not what it should be.
    #[error("the pack {digest} arrived changed")]
    Corrupt {
        /// The pack.
        digest: Digest,
    },
    /// The disk failed.
    #[error("{0}")]
    Disk(#[from] io::Error),
}

impl Pack {
    /// Goes on with a pack, or begins it.
    pub fn resume<M: Disk>(
        machine: &mut M,
        layout: &Layout,
        (digest, bytes): (Digest, u64),
        offset: u64,
    ) -> Result<Self, PackError> {
        let folder = layout.packs();
        machine::folders(machine, &folder, &Access::private_folder())?;
        let path = folder.join(format!("{digest}.part"));
        let have = machine.stat(&path)?.map_or(0, |stat| stat.bytes);
        if offset > have || offset > bytes {
            return Err(PackError::Offset { offset, have });
        }
        if offset == 0 {
            machine.remove(&path)?;
            machine.create(&path, &[], &Access::private_file())?;
        } else if offset < have {
            machine.truncate(&path, offset)?;
        }
        let hasher = hash(machine, &path)?;
        Ok(Self {
            path,
            digest,
            bytes,
            have: offset,
            hasher,
        })
    }

    /// How many bytes are still to come.
    pub fn wanted(&self) -> u64 {
        self.bytes - self.have
    }

    /// Takes in the next piece.
    pub fn append<M: Disk>(&mut self, machine: &mut M, piece: &[u8]) -> Result<(), PackError> {
        if piece.len() as u64 > self.wanted() {
            return Err(PackError::TooLong {
                announced: self.bytes,
            });
        }
        machine.append(&self.path, piece)?;
        self.hasher.update(piece);
        self.have += piece.len() as u64;
        Ok(())
    }

    /// Where the whole pack is, once its digest has been found right. One that is wrong is removed,
    /// so that it is sent again.
    pub fn finish<M: Disk>(self, machine: &mut M) -> Result<PathBuf, PackError> {
        if self.hasher.finish() == self.digest {
            Ok(self.path)
        } else {
            machine.remove(&self.path)?;
            Err(PackError::Corrupt {
                digest: self.digest,
            })
        }
    }
}

/// The packs of which a part is here, with how much.
pub fn partial<M: Disk>(machine: &M, layout: &Layout) -> io::Result<BTreeMap<Digest, u64>> {
    let mut found = BTreeMap::new();
    for name in machine.list(&layout.packs())?.iter().take(ENTRIES_MAX) {
        let digest = name
            .strip_suffix(".part")
            .and_then(|name| name.parse().ok());
        if let (Some(digest), Some(stat)) = (digest, machine.stat(&layout.packs().join(name))?) {
            found.insert(digest, stat.bytes);
        }
    }
    Ok(found)
}

/// Where the blob of a file is, or will be: a content that is wanted both as a program and as data
/// has two.
pub fn blob(layout: &Layout, (digest, role): (Digest, Role)) -> PathBuf {
    let suffix = match role {
        Role::Data => "",
        Role::Program => ".x",
    };
    layout.blobs().join(format!("{digest}{suffix}"))
}

/// The blob of a file, if it is here and found right. A wrong one is removed.
pub fn verified_blob<M: Disk>(
    machine: &mut M,
    layout: &Layout,
    key: (Digest, Role),
) -> io::Result<Option<PathBuf>> {
    let path = blob(layout, key);
    let Some(stat) = machine.stat(&path)? else {
        return Ok(None);
    };
    // A cut may have left it before it got its mode, which an empty file does not show otherwise.
    let is_whole = stat.node == Node::File && stat.mode == key.1.mode();
    if is_whole && hash(machine, &path)?.finish() == key.0 {
        return Ok(Some(path));
    }
    machine.remove(&path)?;
    Ok(None)
}

/// Forgets what was unpacked and uploaded, once it has become a release.
pub fn clear<M: Disk>(machine: &mut M, layout: &Layout) -> io::Result<()> {
    machine.remove_folder(&layout.spool())
}

/// Notes that the spool is in use; what nobody has gone on with for long is forgotten first.
pub fn visit<M: Disk + Clock>(machine: &mut M, layout: &Layout) -> io::Result<()> {
    machine::folders(machine, &layout.state(), &Access::private_folder())?;
    machine::folders(machine, &layout.spool(), &Access::private_folder())?;
    let note = layout.spool().join(LAST_USED);
    let now = machine.unix_s();
    let last = match machine.stat(&note)? {
        Some(_) => machine.read(&note, 64)?,
        None => Vec::new(),
    };
    let last: Option<u64> = String::from_utf8(last)
        .ok()
        .and_then(|text| text.parse().ok());
    // A clock that jumped back makes an upload look younger, never older.
    if last.is_some_and(|last| now.saturating_sub(last) > KEPT_S) {
        machine.remove_folder(&layout.spool())?;
        machine::folders(machine, &layout.spool(), &Access::private_folder())?;
    }
    machine::replace(
        machine,
        &note,
        now.to_string().as_bytes(),
        &Access::private_file(),
    )
}

/// Hashes a file of any size.
pub fn hash<M: Disk>(machine: &M, path: &std::path::Path) -> io::Result<Hasher> {
    let mut hasher = Hasher::new();
    let mut file = machine.open(path)?;
    let mut piece = vec![0; PIECE_BYTES];
    loop {
        match file.read(&mut piece)? {
            0 => return Ok(hasher),
            read => hasher.update(&piece[..read]),
        }
    }
}
