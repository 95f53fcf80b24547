//! Contents that follow a request. They are counted, hashed and bounded while they come; what they
//! are is somebody else's business.

use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use flate2::read::GzDecoder;
use push_wire::digest::Digest;
use push_wire::message::{Holder, Refusal};

use super::channel::{Channel, ChannelError};
use super::watch;
use crate::layout::Layout;
use crate::lock::{self, Lock, LockError};
use crate::machine::{self, Access, Machine};
use crate::spool::{Pack, PackError};

/// The largest push-host that is taken, packed or unpacked, in bytes.
const PROGRAM_BYTES_MAX: u64 = 128 << 20;

/// Why contents were not taken.
#[derive(Debug, thiserror::Error)]
pub enum TransferError {
    /// The connection ended, or was not push's.
    #[error("{0}")]
    Channel(#[from] ChannelError),
    /// They are not what was announced.
    #[error("{0:?}")]
    Refused(Box<Refusal>),
    /// The disk failed.
    #[error("{0}")]
    Disk(#[from] io::Error),
}

impl From<PackError> for TransferError {
    fn from(error: PackError) -> Self {
        let why = error.to_string();
        match error {
            PackError::Corrupt { digest } => {
                let what = format!("the pack {digest}");
                Self::refused(Refusal::Corrupt { what })
            }
            PackError::Offset { .. } | PackError::TooLong { .. } => {
                Self::refused(Refusal::Protocol { why })
            }
            PackError::Disk(error) => Self::Disk(error),
        }
    }
}

impl TransferError {
    fn refused(refusal: Refusal) -> Self {
        Self::Refused(Box::new(refusal))
    }
}

/// Takes the rest of a pack into the spool. What has come stays there when the connection ends.
pub fn pack<M: Machine, W: Write>(
    (machine, layout): (&mut M, &Layout),
    channel: &mut Channel<W>,
    pack: (Digest, u64),
    offset: u64,
) -> Result<PathBuf, TransferError> {
    let mut pack = Pack::resume(machine, layout, pack, offset)?;
    while pack.wanted() > 0 {
        let piece = channel.content()?;
        pack.append(machine, &piece)?;
    }
    Ok(pack.finish(machine)?)
}

/// Puts another push-host in the place of this one: found right, durable, by one rename, and once it has
/// run and read what is here, since one that cannot would recover nothing at the next boot either. Not while
/// somebody has the lock: what a program began, its recovery included, is ended by the same program.
pub fn upgrade<M: Machine, W: Write>(
    (machine, layout): (&mut M, &Layout),
    channel: &mut Channel<W>,
    (digest, packed_bytes): (Digest, u64),
    starts: impl Fn(&Path) -> Result<(), String>,
) -> Result<(), TransferError> {
    if packed_bytes > PROGRAM_BYTES_MAX {
        let why = format!("a push-host of {packed_bytes} bytes");
        return Err(TransferError::refused(Refusal::Protocol { why }));
    }
    let mut packed = Vec::new();
    while (packed.len() as u64) < packed_bytes {
        packed.extend(channel.content()?);
    }
    let corrupt = |how: &str| {
        let what = format!("push-host {how}");
        TransferError::refused(Refusal::Corrupt { what })
    };
    if packed.len() as u64 != packed_bytes {
        return Err(corrupt("is longer than was announced"));
    }
    let mut program = Vec::new();
    let unpacked = GzDecoder::new(packed.as_slice())
        .take(PROGRAM_BYTES_MAX + 1)
        .read_to_end(&mut program);
    if unpacked.is_err() || Digest::of(&program) != digest {
        return Err(corrupt("is not what its digest says"));
    }
    // Two operators with the same new push may come at the same time.
    let _alone = lock::take_briefly(machine, layout)?;
    let _lock = take_lock(machine, layout)?;
    let path = layout.program();
    let folder = path.parent().unwrap_or(&path);
    machine::folders(machine, folder, &Access::public_folder())?;
    let access = Access {
        mode: 0o755,
        ..Access::public_file()
    };
    let mut refused = None;
    let replaced = machine::replace_by(machine, &path, |machine, new| {
        machine.create(new, &program, &access)?;
        starts(new).map_err(|why| {
            refused = Some(format!(
                "the push-host that was sent cannot take the place of the one here: {why}"
            ));
            io::Error::other("it cannot take over")
        })
    });
    match refused {
        Some(why) => Err(TransferError::refused(Refusal::Host { why })),
        None => Ok(replaced.and_then(|()| machine.sync(folder))?),
    }
}

fn take_lock<M: Machine>(machine: &mut M, layout: &Layout) -> Result<Lock, TransferError> {
    let holder = Holder {
        operator: "a later push".to_owned(),
        since_unix_s: machine.unix_s(),
        step: "replacing push-host".to_owned(),
        transaction: None,
        push: String::new(),
    };
    let lock = lock::take(machine, layout, &holder).map_err(|error| match error {
        LockError::Held(holder) => TransferError::refused(Refusal::Locked(*holder)),
        LockError::Disk(error) => TransferError::Disk(error),
    })?;
    match watch::under_way((machine, layout)) {
        Ok(None) => Ok(lock),
        Ok(Some(holder)) => Err(TransferError::refused(Refusal::Locked(holder))),
        Err(error) => Err(TransferError::refused(error.into_refusal())),
    }
}
