//! The conversation's own two pipes: frames in, frames out, nothing else.
//!
//! Must not know what is talked about. Incoming frames are read by a thread of their own, so that
//! the host can look after a running transaction and notice at the same time that its operator has
//! gone, and so that the next piece of a pack arrives while the last one is written. Beats are heard
//! and sent beside, by [`super::pulse`].

use std::io::{self, Read, Write};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use push_wire::frame::{self, FrameError, HEADER_BYTES, Kind, MESSAGE_BYTES_MAX};
use push_wire::message::{Reply, Request};

use super::pulse::{GiveUp, Heard, Listening, Pulse};

/// How many frames may wait to be worked on: a few pieces of content, so a bounded few megabytes.
const WAITING_MAX: usize = 8;

/// The longest time that a piece of content may take: 1.5 kB a second. A line that is dead is noticed
/// long before; this is for a laptop that lives and does not send what it announced.
const CONTENT_WITHIN: Duration = Duration::from_secs(45);

/// The longest pause between an answer and the next request of a laptop that lives: the waves before
/// this host's own may each take as long as the longest health check, a day.
const REQUEST_WITHIN: Duration = Duration::from_secs(7 * 24 * 3600);

/// Why nothing more can be said.
#[derive(Debug, thiserror::Error)]
pub enum ChannelError {
    /// The other side has gone. Not an error of anybody: a laptop may vanish at any time.
    #[error("the operator's side has closed the connection")]
    Gone,
    /// What came is not the conversation.
    #[error("what came is not push's conversation: {0}")]
    Broken(FrameError),
    /// A message where contents belong, or the other way round.
    #[error("a frame out of turn: {0}")]
    OutOfTurn(&'static str),
}

/// What came in.
#[derive(Debug)]
pub enum Incoming {
    /// A request.
    Request(Box<Request>),
    /// A piece of content.
    Content(Vec<u8>),
}

/// Both directions.
pub struct Channel<W> {
    incoming: Receiver<Result<Incoming, ChannelError>>,
    output: Arc<Mutex<W>>,
    _pulse: Pulse,
}

impl<W: Write + Send + 'static> Channel<W> {
    /// Starts to read, and to give signs of life. `give_up` is called when nobody is there any more
    /// and the channel still is. The threads end with the input, or with this channel.
    pub fn new(input: impl Read + Send + 'static, output: W, give_up: GiveUp) -> Self {
        let (send, incoming) = mpsc::sync_channel(WAITING_MAX);
        let heard = Arc::new(Heard::default());
        let output = Arc::new(Mutex::new(output));
        let pulse = Pulse::start(&output, Arc::clone(&heard), give_up);
        let input = Listening::to(input, heard);
        std::thread::spawn(move || read_all(input, &send));
        Self {
            incoming,
            output,
            _pulse: pulse,
        }
    }
}

impl<W: Write> Channel<W> {
    /// Waits for the next request.
    pub fn request(&mut self) -> Result<Request, ChannelError> {
        // Whoever says nothing for so long has gone, whatever the connection seems to be.
        self.request_within(REQUEST_WITHIN)?
            .ok_or(ChannelError::Gone)
    }

    /// Waits for the next piece of content.
    pub fn content(&mut self) -> Result<Vec<u8>, ChannelError> {
        self.content_within(CONTENT_WITHIN)
    }

    fn content_within(&mut self, time: Duration) -> Result<Vec<u8>, ChannelError> {
        let incoming = self.incoming.recv_timeout(time);
        match incoming.unwrap_or(Err(ChannelError::Gone))? {
            Incoming::Content(bytes) => Ok(bytes),
            Incoming::Request(_) => Err(ChannelError::OutOfTurn("a request inside of content")),
        }
    }

    /// Waits a while for a request; `None` when none came.
    pub fn request_within(&mut self, time: Duration) -> Result<Option<Request>, ChannelError> {
        match self.incoming.recv_timeout(time) {
            Ok(Ok(Incoming::Request(request))) => Ok(Some(*request)),
            Ok(Ok(Incoming::Content(_))) => {
                Err(ChannelError::OutOfTurn("content that nobody announced"))
            }
            Ok(Err(error)) => Err(error),
            Err(RecvTimeoutError::Timeout) => Ok(None),
            Err(RecvTimeoutError::Disconnected) => Err(ChannelError::Gone),
        }
    }

    /// Says something.
    pub fn send(&mut self, reply: &Reply) -> Result<(), ChannelError> {
        let bytes = frame::encode_message(reply).map_err(ChannelError::Broken)?;
        let mut output = self.output.lock().unwrap_or_else(PoisonError::into_inner);
        let sent = output.write_all(&bytes).and_then(|()| output.flush());
        // Whatever the reason, nobody hears us any more.
        sent.map_err(|_| ChannelError::Gone)
    }
}

fn read_all(mut input: impl Read, send: &SyncSender<Result<Incoming, ChannelError>>) {
    loop {
        let Some(incoming) = read_one(&mut input).transpose() else {
            continue;
        };
        let is_last = incoming.is_err();
        if send.send(incoming).is_err() || is_last {
            return;
        }
    }
}

/// Reads exactly one frame and not a byte beyond it: after an upgrade the rest belongs to another
/// program. `None` is a beat.
fn read_one(input: &mut impl Read) -> Result<Option<Incoming>, ChannelError> {
    let mut head = [0; HEADER_BYTES];
    input
        .read_exact(&mut head)
        .map_err(|_| ChannelError::Gone)?;
    let (kind, length) = frame::header(head).map_err(ChannelError::Broken)?;
    // The buffer grows with what really arrives, never with what was announced.
    let mut body = Vec::new();
    let read = input.take(length as u64).read_to_end(&mut body);
    if !read.is_ok_and(|read| read == length) {
        return Err(ChannelError::Gone);
    }
    match kind {
        Kind::Beat => Ok(None),
        Kind::Content => Ok(Some(Incoming::Content(body))),
        Kind::Message => request(&body).map(Some),
        Kind::PackedMessage => request(&unpack(&body)?).map(Some),
    }
}

fn request(body: &[u8]) -> Result<Incoming, ChannelError> {
    frame::decode_message(body)
        .map(|request| Incoming::Request(Box::new(request)))
        .map_err(ChannelError::Broken)
}

/// Decompresses a message; one that would grow over the limit of plain messages is refused.
fn unpack(body: &[u8]) -> Result<Vec<u8>, ChannelError> {
    let wrong = |why: String| ChannelError::Broken(FrameError::Message(why));
    let mut packed = body;
    let decoder = ruzstd::decoding::StreamingDecoder::new(&mut packed)
        .map_err(|error| wrong(format!("not zstd: {error}")))?;
    let mut plain = Vec::new();
    let limit = MESSAGE_BYTES_MAX as u64 + 1;
    decoder
        .take(limit)
        .read_to_end(&mut plain)
        .map_err(|error: io::Error| wrong(format!("not zstd: {error}")))?;
    if plain.len() > MESSAGE_BYTES_MAX {
        return Err(ChannelError::Broken(FrameError::TooLong {
            bytes: plain.len(),
            max: MESSAGE_BYTES_MAX,
        }));
    }
    Ok(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn channel(bytes: Vec<u8>) -> Channel<Vec<u8>> {
        Channel::new(io::Cursor::new(bytes), Vec::new(), || {})
    }

    #[test]
    fn requests_and_contents_come_in_their_order_and_then_the_end() {
        let mut bytes = frame::BEAT.to_vec();
        bytes.extend(frame::encode_message(&Request::Status).unwrap());
        bytes.extend([frame::BEAT, frame::BEAT].concat());
        bytes.extend(frame::encode(Kind::Content, b"piece").unwrap());
        let mut channel = channel(bytes);
        assert_eq!(channel.request().unwrap(), Request::Status);
        assert_eq!(channel.content().unwrap(), b"piece");
        assert!(matches!(channel.request(), Err(ChannelError::Gone)));
        assert!(matches!(channel.request(), Err(ChannelError::Gone)));
    }

    #[test]
    fn a_stream_cut_anywhere_is_an_operator_who_has_gone() {
        let whole = frame::encode_message(&Request::History { limit: 3 }).unwrap();
        for cut in 0..whole.len() {
            let found = channel(whole[..cut].to_vec()).request();
            assert!(matches!(found, Err(ChannelError::Gone)), "cut at {cut}");
        }
    }

    /// An operator's side that keeps the connection open and says nothing.
    struct Silent;

    impl Read for Silent {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            loop {
                std::thread::park();
            }
        }
    }

    #[test]
    fn an_operator_who_vanished_in_the_middle_of_content_is_not_waited_for_for_ever() {
        let mut channel = Channel::new(Silent, Vec::new(), || {});
        let found = channel.content_within(Duration::from_millis(20));
        assert!(matches!(found, Err(ChannelError::Gone)), "{found:?}");
    }

    #[test]
    fn what_is_not_the_conversation_is_refused() {
        for bytes in [
            b"GET / HTTP/1.1\r\n\r\n".to_vec(),
            frame::encode(Kind::Message, b"{\"reboot\":{}}").unwrap(),
            frame::encode(Kind::Message, b"\xff\xfe").unwrap(),
            frame::encode(Kind::PackedMessage, b"not zstd").unwrap(),
        ] {
            let found = channel(bytes.clone()).request();
            assert!(
                matches!(found, Err(ChannelError::Broken(_))),
                "{bytes:?}: {found:?}"
            );
        }
        let content = frame::encode(Kind::Content, b"x").unwrap();
        assert!(matches!(
            channel(content).request(),
            Err(ChannelError::OutOfTurn(_))
        ));
        let message = frame::encode_message(&Request::Status).unwrap();
        assert!(matches!(
            channel(message).content(),
            Err(ChannelError::OutOfTurn(_))
        ));
    }

    #[test]
    fn a_message_that_unpacks_to_more_than_the_limit_is_refused() {
        let bomb = packed(&vec![b' '; MESSAGE_BYTES_MAX + 1]);
        assert!(bomb.len() < 1 << 20);
        let found = channel(frame::encode(Kind::PackedMessage, &bomb).unwrap()).request();
        assert!(
            matches!(found, Err(ChannelError::Broken(FrameError::TooLong { .. }))),
            "{found:?}"
        );
        let fine = packed(b"\"status\"");
        let found = channel(frame::encode(Kind::PackedMessage, &fine).unwrap()).request();
        assert_eq!(found.unwrap(), Request::Status);
    }

    fn packed(plain: &[u8]) -> Vec<u8> {
        ruzstd::encoding::compress_to_vec(plain, ruzstd::encoding::CompressionLevel::Fastest)
    }
}
