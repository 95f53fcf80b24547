//! Bytes of a session as frames, and back. What a host may make the laptop hold is bounded here.

use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::{Buf as _, Bytes, BytesMut};
use push_wire::frame::{BEAT, BEAT_EVERY, FrameError, HEADER_BYTES, Kind, encode, header};
use push_wire::message::{Reply, Request};
use tokio::sync::Mutex;
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::Error;
use super::talk::{asked, kind};
use crate::name::HostName;
use crate::transport::session::{Input, Output, Tail};
use crate::transport::{Session, Status};
use crate::visible;

/// The largest reply that is read, in bytes: the digests of all files of two releases that are as
/// large as a release can be.
pub const REPLY_BYTES_MAX: usize = 32 << 20;

/// The longest that a host may take no byte of what is written to it.
pub const STALL_MAX: Duration = Duration::from_secs(60);

/// How much of what is no frame is read and shown, in bytes.
const NOISE_BYTES_MAX: usize = 1024;

/// Messages above this many bytes are compressed.
const PLAIN_BYTES_MAX: usize = 16 << 10;

/// The level of zstd for messages: they are text, and wait for nothing else.
const LEVEL: i32 = 3;

/// The pieces that a message is written in, in bytes, each within [`STALL_MAX`].
const PIECE_BYTES: usize = 256 << 10;

/// The reading half.
#[derive(Debug)]
pub(super) struct Reader {
    pub(super) host: HostName,
    output: Output,
    buffer: BytesMut,
}

/// The writing half.
#[derive(Debug)]
pub(super) struct Writer {
    pub(super) host: HostName,
    mouth: Arc<Mutex<Mouth>>,
}

/// Where frames are written, one at a time.
#[derive(Debug)]
struct Mouth {
    input: Input,
    said: Said,
}

/// Whether a frame may follow.
#[derive(Debug, PartialEq, Eq)]
enum Said {
    /// What was begun has been said.
    Whole,
    /// A frame was begun, and its writing given up.
    Half,
}

/// What a session says first.
#[derive(Debug)]
pub(super) enum First {
    /// The body of a message.
    Message(Bytes),
    /// A line of text: no push-host speaks.
    Text(String),
}

pub(super) fn halves(host: &HostName, session: Session) -> (Reader, Writer) {
    let (output, input) = session.split();
    let reader = Reader {
        host: host.clone(),
        output,
        buffer: BytesMut::new(),
    };
    let mouth = Mouth {
        input,
        said: Said::Whole,
    };
    let writer = Writer {
        host: host.clone(),
        mouth: Arc::new(Mutex::new(mouth)),
    };
    (reader, writer)
}

impl Reader {
    /// The next reply. Nothing is lost when the future is dropped.
    pub(super) async fn reply(&mut self, during: &'static str) -> Result<Reply, Error> {
        let body = self.message(during).await?;
        let reply = parse(&self.host, &body)?;
        let (host, what, bytes) = (&self.host, kind(&reply), body.len());
        if let Reply::Refused(refusal) = &reply {
            tracing::info!("{host}: refuses: {refusal}");
        } else if let Reply::Missing { files, .. } = &reply {
            tracing::info!("{host}: answers {what}: {} files", files.len());
        } else if let Reply::Progress(_) = &reply {
            // Each probe and each effect has words of its own.
            tracing::debug!("{host}: tells {what}, {bytes} bytes");
        } else {
            tracing::info!("{host}: answers {what}, {bytes} bytes");
        }
        Ok(reply)
    }

    /// The body of the next message. Nothing is lost when the future is dropped.
    pub(super) async fn message(&mut self, during: &'static str) -> Result<Bytes, Error> {
        loop {
            if let Some(body) = self.take().map_err(|source| self.no_frame(source))? {
                return Ok(body);
            }
            if !self.fill().await? {
                return Err(Error::Ended {
                    host: self.host.clone(),
                    during,
                    stderr: self.output.complaints(),
                });
            }
        }
    }

    /// The first word of the session. The length of a frame below 16 MiB begins with a zero byte,
    /// which no text does, so that a shell's words are told from push-host's.
    pub(super) async fn first(&mut self, during: &'static str) -> Result<First, Error> {
        while self.buffer.is_empty() {
            if !self.fill().await? {
                break;
            }
        }
        match self.buffer.first() {
            None | Some(0) => self.message(during).await.map(First::Message),
            Some(_) => self.text().await.map(First::Text),
        }
    }

    /// Leaves out a line that [`Self::first`] has returned.
    pub(super) fn skip_line(&mut self) {
        let end = self.buffer.iter().position(|byte| *byte == b'\n');
        self.buffer
            .advance(end.map_or(self.buffer.len(), |end| end + 1));
    }

    /// What is said on stderr, as it comes.
    pub(super) fn tail(&self) -> Tail {
        self.output.stderr()
    }

    async fn text(&mut self) -> Result<String, Error> {
        while !self.buffer.contains(&b'\n') && self.buffer.len() < NOISE_BYTES_MAX {
            if !self.fill().await? {
                break;
            }
        }
        let bytes: &[u8] = &self.buffer;
        let line = bytes.split(|byte| *byte == b'\n').next();
        Ok(visible::escape(line.unwrap_or_default(), NOISE_BYTES_MAX))
    }

    /// Reads more bytes; false at the end of the output.
    async fn fill(&mut self) -> Result<bool, Error> {
        match self.output.read().await? {
            Some(chunk) => {
                tracing::trace!("{}: {} bytes read", self.host, chunk.len());
                self.buffer.extend_from_slice(&chunk);
                Ok(true)
            }
            None => Ok(false),
        }
    }

    fn take(&mut self) -> Result<Option<Bytes>, FrameError> {
        while let Some(head) = self.buffer.first_chunk::<HEADER_BYTES>() {
            let (kind, bytes) = header(*head)?;
            if bytes > REPLY_BYTES_MAX {
                return Err(FrameError::TooLong {
                    bytes,
                    max: REPLY_BYTES_MAX,
                });
            }
            match kind {
                Kind::Message => {
                    if self.buffer.len() < HEADER_BYTES + bytes {
                        return Ok(None);
                    }
                    tracing::debug!("{}: a frame of {bytes} bytes: {kind:?}", self.host);
                    self.buffer.advance(HEADER_BYTES);
                    return Ok(Some(self.buffer.split_to(bytes).freeze()));
                }
                // Whoever carries the bytes has noticed already that the line lives.
                Kind::Beat => self.buffer.advance(HEADER_BYTES),
                Kind::PackedMessage | Kind::Content => {
                    return Err(FrameError::Message("only the laptop sends these".into()));
                }
            }
        }
        Ok(None)
    }

    fn no_frame(&self, source: FrameError) -> Error {
        Error::Frame {
            host: self.host.clone(),
            source,
        }
    }

    /// What was said on stderr, safe to show.
    pub(super) fn stderr(&self) -> Vec<String> {
        self.output.complaints()
    }

    /// How the command ended, given a moment to do so. The writing half should have been dropped.
    pub(super) async fn status(self, limit: Duration) -> Option<(Status, Vec<String>)> {
        let exit = self.output.finish(limit).await.ok()?;
        Some((exit.status, exit.stderr))
    }
}

/// Reads a reply. A message that does not parse may quote the host, so it is made visible.
pub(super) fn parse(host: &HostName, body: &[u8]) -> Result<Reply, Error> {
    serde_json::from_slice(body).map_err(|error| Error::Frame {
        host: host.clone(),
        source: FrameError::Message(visible::escape(
            error.to_string().as_bytes(),
            NOISE_BYTES_MAX,
        )),
    })
}

impl Writer {
    /// Sends a request.
    pub(super) async fn request(
        &mut self,
        request: &Request,
        during: &'static str,
    ) -> Result<(), Error> {
        let frame = pack_request(request).map_err(|source| Error::TooLarge {
            host: self.host.clone(),
            source,
        })?;
        let (host, what, bytes) = (&self.host, asked(request), frame.len());
        tracing::info!("{host}: asked: {what}, {bytes} bytes");
        self.write(frame, during).await
    }

    /// Sends bytes, whole frames; each piece of them must be taken within [`STALL_MAX`].
    pub(super) async fn write(
        &mut self,
        mut bytes: Bytes,
        during: &'static str,
    ) -> Result<(), Error> {
        let mut mouth = self.mouth.lock().await;
        mouth.said = Said::Half;
        while !bytes.is_empty() {
            let piece = bytes.split_to(bytes.len().min(PIECE_BYTES));
            tracing::trace!(
                "{}: {} bytes written while {during}",
                self.host,
                piece.len()
            );
            match timeout(STALL_MAX, mouth.input.write(piece)).await {
                Ok(written) => written?,
                Err(_) => {
                    return Err(Error::Silent {
                        host: self.host.clone(),
                        during,
                        waited: STALL_MAX,
                    });
                }
            }
        }
        mouth.said = Said::Whole;
        Ok(())
    }

    /// Gives signs of life from now on, for as long as this half lives and its frames are whole.
    pub(super) fn beat(&self) {
        tokio::spawn(beat(Arc::downgrade(&self.mouth)));
    }
}

/// Whenever nothing is being said. What is being said is a sign of life itself.
async fn beat(mouth: Weak<Mutex<Mouth>>) {
    let mut ticks = interval(BEAT_EVERY);
    // A laptop that slept has nothing to make up for.
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let Some(mouth) = mouth.upgrade() else {
            return;
        };
        if let Ok(mut mouth) = mouth.try_lock() {
            if mouth.said == Said::Half {
                return;
            }
            mouth.input.offer(Bytes::from_static(&BEAT));
        }
    }
}

fn pack_request(request: &Request) -> Result<Bytes, FrameError> {
    let message = |error: &dyn std::fmt::Display| FrameError::Message(error.to_string());
    let body = serde_json::to_vec(request).map_err(|error| message(&error))?;
    let frame = if body.len() <= PLAIN_BYTES_MAX {
        encode(Kind::Message, &body)?
    } else {
        let packed = zstd::bulk::compress(&body, LEVEL).map_err(|error| message(&error))?;
        encode(Kind::PackedMessage, &packed)?
    };
    Ok(frame.into())
}
