//! A pack becomes blobs. The stream is hostile until each entry has been found right: nothing is
//! written that was not asked for, and nothing beyond the size that the listing gives.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use push_wire::digest::{Digest, Hasher};
use push_wire::frame::PackEntry;

use super::{PIECE_BYTES, Role, blob};
use crate::layout::Layout;
use crate::machine::{self, Access, Disk};

/// A file that was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expected {
    /// Its size in bytes.
    pub size: u64,
    /// Where it belongs, for messages.
    pub path: String,
    /// As what some release wants it.
    pub roles: BTreeSet<Role>,
}

/// Why a pack was not unpacked.
#[derive(Debug, thiserror::Error)]
pub enum UnpackError {
    /// A file is not what its digest says, or the stream is damaged.
    #[error("{what}")]
    Corrupt {
        /// Which, and how it shows.
        what: String,
    },
    /// The pack holds what nobody asked for, or misses what was.
    #[error("{why}")]
    Protocol {
        /// What is wrong with it.
        why: String,
    },
    /// The disk failed.
    #[error("{0}")]
    Disk(#[from] io::Error),
}

/// Unpacks all of `expected`. A file that is found wrong is not kept.
pub fn unpack<M: Disk>(
    machine: &mut M,
    layout: &Layout,
    pack: &Path,
    expected: &BTreeMap<Digest, Expected>,
) -> Result<(), UnpackError> {
    machine::folders(machine, &layout.blobs(), &Access::private_folder())?;
    let mut left: BTreeMap<&Digest, &Expected> = expected.iter().collect();
    let file = machine.open(pack)?;
    let damaged = |error: &dyn std::fmt::Display| UnpackError::Corrupt {
        what: format!("the pack ({error})"),
    };
    let mut stream = ruzstd::decoding::StreamingDecoder::new(io::BufReader::new(file))
        .map_err(|error| damaged(&error))?;
    while let Some(entry) = next_entry(&mut stream).map_err(|error| damaged(&error))? {
        let Some(wanted) = left.remove(&entry.digest) else {
            let why = format!("the pack holds {}, which was not asked for", entry.digest);
            return Err(UnpackError::Protocol { why });
        };
        if entry.size != wanted.size {
            let what = format!(
                "{} has {} bytes, not {}",
                wanted.path, entry.size, wanted.size
            );
            return Err(UnpackError::Corrupt { what });
        }
        let writer = Writer::new(layout, entry, wanted);
        let found = writer.write(machine, &mut stream);
        if !matches!(found, Ok(())) {
            writer.remove(machine)?;
        }
        found?;
    }
    match left.values().next() {
        None => Ok(()),
        Some(first) => Err(UnpackError::Protocol {
            why: format!(
                "the pack lacks {} files, {} among them",
                left.len(),
                first.path
            ),
        }),
    }
}

/// The head of the next entry, or `None` where the stream ends between two entries.
fn next_entry(stream: &mut impl Read) -> io::Result<Option<PackEntry>> {
    let mut head = [0; PackEntry::BYTES];
    let mut have = 0;
    while have < head.len() {
        match stream.read(&mut head[have..])? {
            0 if have == 0 => return Ok(None),
            0 => {
                return Err(io::Error::new(
                    io::ErrorKind::UnexpectedEof,
                    "it ends inside an entry",
                ));
            }
            read => have += read,
        }
    }
    PackEntry::decode(&head).map(Some).map_err(io::Error::other)
}

/// Writes one file under the one or two names that are wanted.
struct Writer<'a> {
    entry: PackEntry,
    wanted: &'a Expected,
    paths: Vec<(PathBuf, Access)>,
}

impl<'a> Writer<'a> {
    fn new(layout: &Layout, entry: PackEntry, wanted: &'a Expected) -> Self {
        let paths = wanted
            .roles
            .iter()
            .map(|role| {
                let access = Access {
                    mode: role.mode(),
                    ..Access::public_file()
                };
                (blob(layout, (entry.digest, *role)), access)
            })
            .collect();
        Self {
            entry,
            wanted,
            paths,
        }
    }

    fn write<M: Disk>(&self, machine: &mut M, stream: &mut impl Read) -> Result<(), UnpackError> {
        let corrupt = |how: &str| UnpackError::Corrupt {
            what: format!("{} {how}", self.wanted.path),
        };
        let mut hasher = Hasher::new();
        let mut left = self.entry.size;
        let mut is_first = true;
        let mut piece = vec![
            0;
            PIECE_BYTES
                .min(usize::try_from(left).unwrap_or(PIECE_BYTES))
                .max(1)
        ];
        while left > 0 || is_first {
            let want = usize::try_from(left)
                .unwrap_or(PIECE_BYTES)
                .min(PIECE_BYTES);
            stream
                .read_exact(&mut piece[..want])
                .map_err(|error| corrupt(&format!("is damaged in its pack: {error}")))?;
            hasher.update(&piece[..want]);
            for (path, access) in &self.paths {
                if is_first {
                    machine.remove(path)?;
                    machine.create(path, &piece[..want], access)?;
                } else {
                    machine.append(path, &piece[..want])?;
                }
            }
            is_first = false;
            left -= want as u64;
        }
        if hasher.finish() == self.entry.digest {
            Ok(())
        } else {
            Err(corrupt("is not what its digest says"))
        }
    }

    fn remove<M: Disk>(&self, machine: &mut M) -> io::Result<()> {
        self.paths
            .iter()
            .try_for_each(|(path, _)| machine.remove(path))
    }
}
