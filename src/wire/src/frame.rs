//! How messages and contents become bytes: a length, a kind, a body. Whoever reads one never has to
//! guess where it ends, so a host's output is data and nothing else.
//!
//! Once Hello has been said, whoever has nothing to say sends a [`Kind::Beat`] every [`BEAT_EVERY`],
//! both ways. Any byte is a sign of life, so a slow line is never taken for a dead one; a line that
//! brings none for [`DEAD_AFTER`] is dead, whatever TCP still believes.
//!
//! ```text
//! frame = length of the body (4 bytes, big endian) · kind (1 byte) · body
//! ```

use core::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::digest::Digest;

/// The largest body of a message, in bytes; the listing of a release of 200,000 files fits.
pub const MESSAGE_BYTES_MAX: usize = 64 << 20;

/// The largest body of a piece of content, in bytes: small enough that one arrives within the host's
/// patience over the slowest link.
pub const CONTENT_BYTES_MAX: usize = 64 << 10;

/// The pause between two beats: a line may lose three of them in a row and live.
pub const BEAT_EVERY: Duration = Duration::from_secs(3);

/// How long a line may bring nothing before it is dead. A beat, the look at the clock and this
/// together are 15 s.
pub const DEAD_AFTER: Duration = Duration::from_secs(14);

/// The bytes before each body.
pub const HEADER_BYTES: usize = 5;

/// What a body is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// JSON of a request or a reply.
    Message,
    /// The same, zstd-compressed; only the laptop sends it.
    PackedMessage,
    /// A piece of the content that the last message announced.
    Content,
    /// A sign of life without a body; it may come between any two other frames.
    Beat,
}

/// One frame, read or to be written.
#[derive(Clone, PartialEq, Eq)]
pub struct Frame {
    /// What the body is.
    pub kind: Kind,
    /// The body.
    pub body: Vec<u8>,
}

impl std::fmt::Debug for Frame {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?} of {} bytes", self.kind, self.body.len())
    }
}

/// Bytes that are not the conversation push speaks.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// A kind that no version has.
    #[error("a frame of the unknown kind {0}")]
    Kind(u8),
    /// A body over its limit.
    #[error("a frame of {bytes} bytes, over the limit of {max}")]
    TooLong {
        /// What the header says.
        bytes: usize,
        /// The limit of its kind.
        max: usize,
    },
    /// A message that does not parse.
    #[error("a message that cannot be read: {0}")]
    Message(String),
    /// Text that is not base64.
    #[error("bytes that are not base64")]
    Base64,
    /// A pack whose entries do not fit its format.
    #[error("a pack that ends inside an entry")]
    Pack,
}

impl Kind {
    fn code(self) -> u8 {
        match self {
            Self::Message => 1,
            Self::PackedMessage => 2,
            Self::Content => 3,
            Self::Beat => 4,
        }
    }

    fn bytes_max(self) -> usize {
        match self {
            Self::Message | Self::PackedMessage => MESSAGE_BYTES_MAX,
            Self::Content => CONTENT_BYTES_MAX,
            Self::Beat => 0,
        }
    }
}

/// Reads a header: the kind of the frame and how many bytes of body follow.
pub fn header(bytes: [u8; HEADER_BYTES]) -> Result<(Kind, usize), FrameError> {
    let [a, b, c, d, code] = bytes;
    let kind = match code {
        1 => Kind::Message,
        2 => Kind::PackedMessage,
        3 => Kind::Content,
        4 => Kind::Beat,
        other => return Err(FrameError::Kind(other)),
    };
    let bytes = u32::from_be_bytes([a, b, c, d]) as usize;
    let max = kind.bytes_max();
    if bytes > max {
        Err(FrameError::TooLong { bytes, max })
    } else {
        Ok((kind, bytes))
    }
}

/// Writes a frame.
pub fn encode(kind: Kind, body: &[u8]) -> Result<Vec<u8>, FrameError> {
    let too_long = FrameError::TooLong {
        bytes: body.len(),
        max: kind.bytes_max(),
    };
    if body.len() > kind.bytes_max() {
        return Err(too_long);
    }
    let length = u32::try_from(body.len()).map_err(|_| too_long)?;
    let mut out = Vec::with_capacity(HEADER_BYTES + body.len());
    out.extend(length.to_be_bytes());
    out.push(kind.code());
    out.extend(body);
    Ok(out)
}

/// A beat, as it goes over the line.
pub const BEAT: [u8; HEADER_BYTES] = [0, 0, 0, 0, 4];

/// Writes a message as a frame.
pub fn encode_message<T: Serialize>(message: &T) -> Result<Vec<u8>, FrameError> {
    let body =
        serde_json::to_vec(message).map_err(|error| FrameError::Message(error.to_string()))?;
    encode(Kind::Message, &body)
}

/// Reads the JSON of a message.
pub fn decode_message<T: DeserializeOwned>(body: &[u8]) -> Result<T, FrameError> {
    serde_json::from_slice(body).map_err(|error| FrameError::Message(error.to_string()))
}

/// Puts frames together from bytes that arrive in any portions.
#[derive(Debug, Default)]
pub struct Decoder {
    pending: Vec<u8>,
    read: usize,
}

impl Decoder {
    /// Takes in what arrived.
    pub fn push(&mut self, bytes: &[u8]) {
        if self.read > 0 {
            self.pending.drain(..self.read);
            self.read = 0;
        }
        self.pending.extend(bytes);
    }

    /// The next whole frame, if there is one.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, FrameError> {
        let Some(head) = self.pending[self.read..].first_chunk::<HEADER_BYTES>() else {
            return Ok(None);
        };
        let (kind, length) = header(*head)?;
        let start = self.read + HEADER_BYTES;
        let Some(body) = self.pending.get(start..start + length) else {
            return Ok(None);
        };
        let frame = Frame {
            kind,
            body: body.to_vec(),
        };
        self.read = start + length;
        Ok(Some(frame))
    }

    /// Whether bytes of an unfinished frame are left.
    pub fn is_empty(&self) -> bool {
        self.read == self.pending.len()
    }
}

/// One file inside a pack, before its content: `digest (32 bytes) · size (8 bytes, big endian)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PackEntry {
    /// The SHA-256 of the content.
    pub digest: Digest,
    /// The size of the content in bytes.
    pub size: u64,
}

impl PackEntry {
    /// The bytes of an entry's head.
    pub const BYTES: usize = 40;

    /// Writes the head.
    pub fn encode(&self) -> [u8; Self::BYTES] {
        let mut out = [0; Self::BYTES];
        out[..32].copy_from_slice(self.digest.as_bytes());
        out[32..].copy_from_slice(&self.size.to_be_bytes());
        out
    }

    /// Reads the head.
    pub fn decode(bytes: &[u8; Self::BYTES]) -> Result<Self, FrameError> {
        let digest = bytes.first_chunk::<32>().ok_or(FrameError::Pack)?;
        let size = bytes.last_chunk::<8>().ok_or(FrameError::Pack)?;
        Ok(Self {
            digest: Digest::from_bytes(*digest),
            size: u64::from_be_bytes(*size),
        })
    }
}

/// Writes bytes as base64 with padding (RFC 4648, section 4).
pub fn to_base64(bytes: &[u8]) -> String {
    base64::Engine::encode(&base64::engine::general_purpose::STANDARD, bytes)
}

/// Reads base64 with padding.
pub fn from_base64(text: &str) -> Result<Vec<u8>, FrameError> {
    base64::Engine::decode(&base64::engine::general_purpose::STANDARD, text)
        .map_err(|_| FrameError::Base64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn frames_survive_any_portioning(bodies in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..50), 0..8), portion in 1..17usize) {
            let bytes: Vec<u8> = bodies.iter().flat_map(|body| encode(Kind::Content, body).unwrap()).collect();
            let mut decoder = Decoder::default();
            let mut found = Vec::new();
            for part in bytes.chunks(portion) {
                decoder.push(part);
                while let Some(frame) = decoder.next_frame().unwrap() {
                    found.push(frame.body);
                }
            }
            prop_assert_eq!(found, bodies);
            prop_assert!(decoder.is_empty());
        }

        #[test]
        fn hostile_bytes_are_refused_or_wait_for_more(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let mut decoder = Decoder::default();
            decoder.push(&bytes);
            for _ in 0..64 {
                if !matches!(decoder.next_frame(), Ok(Some(_))) { break; }
            }
        }
    }

    #[test]
    fn a_beat_is_a_frame_without_a_body() {
        assert_eq!(encode(Kind::Beat, b"").unwrap(), BEAT);
        assert_eq!(header(BEAT), Ok((Kind::Beat, 0)));
    }

    #[test]
    fn a_frame_that_announces_too_much_is_refused_before_it_is_read() {
        assert!(matches!(
            header([0xff, 0xff, 0xff, 0xff, 1]),
            Err(FrameError::TooLong { .. })
        ));
        assert!(matches!(header([0, 0, 0, 1, 9]), Err(FrameError::Kind(9))));
        assert!(matches!(
            header([0, 0, 0, 1, 4]),
            Err(FrameError::TooLong { max: 0, .. })
        ));
    }
}
