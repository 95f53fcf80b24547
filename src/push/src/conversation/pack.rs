//! A pack on its way: read piece by piece from where the laptop keeps it, written as the host takes
//! it. Never more than [`IN_FLIGHT_BYTES_MAX`] of it are in memory for one host.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use push_wire::digest::Digest;
use push_wire::frame::{CONTENT_BYTES_MAX, Kind, encode};

use super::Error;
use crate::name::HostName;
use crate::release::Pack;
use crate::transport::session::{INPUT_CHUNK_BYTES, INPUT_CHUNKS_MAX};

/// What one host may have of a pack in memory, in bytes: the session's queue, the frame that waits
/// for it, the piece that it is made of, and one chunk that has been taken out of the queue.
pub const IN_FLIGHT_BYTES_MAX: usize =
    INPUT_CHUNKS_MAX * INPUT_CHUNK_BYTES + 2 * CONTENT_BYTES_MAX + INPUT_CHUNK_BYTES;

/// A pack that lies somewhere on the laptop; many hosts read it at once.
pub trait PackSource: Send + Sync {
    /// The SHA-256 of its bytes.
    fn digest(&self) -> Digest;

    /// How many bytes it has.
    fn bytes(&self) -> u64;

    /// Reads bytes from `offset` on; 0 at the end. Blocks.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;
}

impl PackSource for Pack {
    fn digest(&self) -> Digest {
        self.digest
    }

    fn bytes(&self) -> u64 {
        self.bytes
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        Pack::read_at(self, buffer, offset)
    }
}

/// The frame with the bytes from `offset` on, and where the next one starts. `None` at the end.
pub(super) async fn next_frame(
    pack: &Arc<dyn PackSource>,
    offset: u64,
    host: &HostName,
) -> Result<Option<(Bytes, u64)>, Error> {
    let left = pack.bytes().saturating_sub(offset);
    let length =
        usize::try_from(left).map_or(CONTENT_BYTES_MAX, |left| left.min(CONTENT_BYTES_MAX));
    if length == 0 {
        return Ok(None);
    }
    let source = Arc::clone(pack);
    let read = tokio::task::spawn_blocking(move || read_frame(source.as_ref(), offset, length));
    let frame = match read.await {
        Ok(Ok(frame)) => frame,
        Ok(Err(error)) => return Err(unreadable(host, &error)),
        Err(error) => return Err(unreadable(host, &io::Error::other(error))),
    };
    Ok(Some((frame, offset + length as u64)))
}

fn read_frame(pack: &dyn PackSource, offset: u64, length: usize) -> io::Result<Bytes> {
    let mut piece = vec![0; length];
    let mut read = 0;
    while read < length {
        match pack.read_at(&mut piece[read..], offset + read as u64)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            more => read += more,
        }
    }
    encode(Kind::Content, &piece)
        .map(Bytes::from)
        .map_err(io::Error::other)
}

fn unreadable(host: &HostName, error: &io::Error) -> Error {
    Error::Pack {
        host: host.clone(),
        why: error.to_string(),
    }
}
