//! One running command on a host, as an ordered stream of bytes in each direction.
//!
//! A [`Session`] is the same thing over SSH, over a child process and in a test: two bounded queues,
//! the last of what the command said on stderr, and how it ended. Whoever carries the bytes holds
//! the [`FarEnd`]. This module must not know who that is. A new way of reaching a host makes a
//! [`Session::pair`] and pumps its far end.
//!
//! Bounds: what is read but not taken waits in [`OUTPUT_CHUNKS_MAX`] chunks, what is written but not
//! sent in [`INPUT_CHUNKS_MAX`]; then the other side is made to wait.

use super::error::Error;
use crate::visible;
use bytes::Bytes;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{mpsc, watch};

/// Chunks of output that may wait for [`Output::read`]; one is at most 32 KiB over SSH.
pub const OUTPUT_CHUNKS_MAX: usize = 32;
/// Chunks of input that may wait to be sent.
pub const INPUT_CHUNKS_MAX: usize = 16;
/// Size of the chunks that input is cut into, in bytes.
pub const INPUT_CHUNK_BYTES: usize = 64 * 1024;
/// How much of the end of stderr is kept, in bytes.
pub const STDERR_BYTES_MAX: usize = 64 * 1024;
/// How much of one line of stderr is shown, in bytes.
const STDERR_LINE_BYTES_MAX: usize = 4 * 1024;

/// A running command. Dropping it closes the command's stdin; the command itself is not killed,
/// since sshd does not offer that, so what is run must end when its stdin does.
#[derive(Debug)]
pub struct Session {
    output: Output,
    input: Input,
}

/// The half that reads what the command says.
#[derive(Debug)]
pub struct Output {
    host: String,
    chunks: mpsc::Receiver<Bytes>,
    end: watch::Receiver<Option<Result<Status, Error>>>,
    stderr: Tail,
}

/// The half that writes to the command. Dropping it closes the command's stdin.
#[derive(Debug)]
pub struct Input {
    host: String,
    chunks: mpsc::Sender<Bytes>,
    end: watch::Receiver<Option<Result<Status, Error>>>,
}

/// The side of a session that carries its bytes. Dropping it without an end means that the
/// connection was lost.
#[derive(Debug)]
pub struct FarEnd {
    /// Gives the session output. Dropping it is the end of the output.
    pub output: mpsc::Sender<Bytes>,
    /// Takes what the session writes. `None` is the end of the input.
    pub input: mpsc::Receiver<Bytes>,
    /// Takes what the command says on stderr.
    pub stderr: Tail,
    /// Takes how the command ended.
    pub end: End,
}

/// Where the far end says how the command ended; the first word counts.
#[derive(Debug)]
pub struct End(watch::Sender<Option<Result<Status, Error>>>);

/// How a command ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Status {
    /// It exited.
    Code(u32),
    /// A signal ended it; the name has no `SIG` in front.
    Signal(String),
    /// The host closed the channel without saying.
    Unknown,
}

/// How a command ended, and what it said last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exit {
    /// Its exit status.
    pub status: Status,
    /// The last lines of its stderr, safe to show.
    pub stderr: Vec<String>,
}

impl Exit {
    /// Whether the command said that it succeeded.
    pub fn is_success(&self) -> bool {
        self.status == Status::Code(0)
    }
}

impl Session {
    /// Makes a session on `host` and the end that carries it.
    pub fn pair(host: &str) -> (Self, FarEnd) {
        let (output_in, output_out) = mpsc::channel(OUTPUT_CHUNKS_MAX);
        let (input_in, input_out) = mpsc::channel(INPUT_CHUNKS_MAX);
        let (end_in, end_out) = watch::channel(None);
        let stderr = Tail::default();
        let session = Self {
            output: Output {
                host: host.to_owned(),
                chunks: output_out,
                end: end_out.clone(),
                stderr: stderr.clone(),
            },
            input: Input {
                host: host.to_owned(),
                chunks: input_in,
                end: end_out,
            },
        };
        (
            session,
            FarEnd {
                output: output_in,
                input: input_out,
                stderr,
                end: End(end_in),
            },
        )
    }

    /// The next bytes of output, or `None` at its end.
    pub async fn read(&mut self) -> Result<Option<Bytes>, Error> {
        self.output.read().await
    }

    /// Queues bytes of input. Waits while the queue is full; read meanwhile, from another task,
    /// since a command that is not read may not read either.
    pub async fn write(&mut self, bytes: Bytes) -> Result<(), Error> {
        self.input.write(bytes).await
    }

    /// The last lines of stderr so far.
    pub fn complaints(&self) -> Vec<String> {
        self.output.complaints()
    }

    /// Takes the halves apart, for two tasks.
    pub fn split(self) -> (Output, Input) {
        (self.output, self.input)
    }

    /// Closes the input, reads the output to its end without keeping it, and says how it ended.
    pub async fn finish(self, limit: Duration) -> Result<Exit, Error> {
        drop(self.input);
        self.output.finish(limit).await
    }
}

impl Output {
    /// The next bytes of output, or `None` at its end.
    pub async fn read(&mut self) -> Result<Option<Bytes>, Error> {
        if let Some(chunk) = self.chunks.recv().await {
            return Ok(Some(chunk));
        }
        let said = self.end.borrow().clone();
        match said {
            Some(Err(error)) => Err(error),
            Some(Ok(_)) => Ok(None),
            // The output may end before the command does. A far end that is gone without a word is a loss.
            None if self.end.has_changed().is_ok() => Ok(None),
            None => Err(Error::lost(
                &self.host,
                "the connection ended without a word",
            )),
        }
    }

    /// What the command says on stderr, as it comes.
    pub fn stderr(&self) -> Tail {
        self.stderr.clone()
    }

    /// The last lines of stderr so far.
    pub fn complaints(&self) -> Vec<String> {
        self.stderr.lines()
    }

    /// Reads the output to its end without keeping it, and says how the command ended. Whoever
    /// holds the other half should have dropped it. Fails with [`Error::NotEnded`] after `limit`.
    pub async fn finish(mut self, limit: Duration) -> Result<Exit, Error> {
        let ended = tokio::time::timeout(limit, async {
            while self.chunks.recv().await.is_some() {}
            match self.end.wait_for(Option::is_some).await {
                Ok(said) => said.clone(),
                Err(_) => None,
            }
        });
        match ended.await {
            Ok(Some(Ok(status))) => Ok(Exit {
                status,
                stderr: self.stderr.lines(),
            }),
            Ok(Some(Err(error))) => Err(error),
            Ok(None) => Err(Error::lost(
                &self.host,
                "the connection ended without a word",
            )),
            Err(_) => Err(Error::NotEnded {
                host: self.host,
                waited: limit,
                stderr: self.stderr.lines(),
            }),
        }
    }
}

impl Input {
    /// Queues bytes of input; see [`Session::write`].
    pub async fn write(&mut self, mut bytes: Bytes) -> Result<(), Error> {
        while !bytes.is_empty() {
            let chunk = bytes.split_to(bytes.len().min(INPUT_CHUNK_BYTES));
            if self.chunks.send(chunk).await.is_err() {
                return Err(self.why_closed().await);
            }
        }
        Ok(())
    }

    /// Queues bytes that may as well be left out, which they are while the queue is full. They must fit
    /// one chunk.
    pub fn offer(&mut self, bytes: Bytes) {
        // That the queue is closed is told to whoever writes or reads.
        let _ = self.chunks.try_send(bytes);
    }

    /// The queue closes a moment before the end is told, hence the short wait.
    async fn why_closed(&mut self) -> Error {
        const END_WAIT_MAX: Duration = Duration::from_secs(5);
        match tokio::time::timeout(END_WAIT_MAX, self.end.wait_for(Option::is_some)).await {
            Ok(Ok(said)) => match said.as_ref() {
                Some(Err(error)) => error.clone(),
                Some(Ok(_)) | None => Error::Closed {
                    host: self.host.clone(),
                },
            },
            Ok(Err(_)) => Error::lost(&self.host, "the connection ended without a word"),
            Err(_) => Error::Closed {
                host: self.host.clone(),
            },
        }
    }
}

impl End {
    /// Says how the command ended, unless that was said before.
    pub fn tell(&self, ended: Result<Status, Error>) {
        self.0.send_if_modified(|said| {
            let is_first = said.is_none();
            if is_first {
                *said = Some(ended);
            }
            is_first
        });
    }
}

/// The end of a stream: its last [`STDERR_BYTES_MAX`] bytes.
#[derive(Debug, Clone, Default)]
pub struct Tail(Arc<Mutex<VecDeque<u8>>>);

impl Tail {
    /// Adds bytes, forgetting the oldest.
    pub fn push(&self, bytes: &[u8]) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh = &bytes[bytes.len().saturating_sub(STDERR_BYTES_MAX)..];
        let surplus = (kept.len() + fresh.len()).saturating_sub(STDERR_BYTES_MAX);
        kept.drain(..surplus);
        kept.extend(fresh);
    }

    /// The lines, safe to show.
    pub fn lines(&self) -> Vec<String> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let bytes: Vec<u8> = kept.iter().copied().collect();
        bytes
            .split(|byte| *byte == b'\n')
            .map(|line| line.strip_suffix(b"\r").unwrap_or(line))
            .filter(|line| !line.is_empty())
            .map(|line| visible::escape(line, STDERR_LINE_BYTES_MAX))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_far_end_that_vanishes_is_a_loss_and_not_an_end_of_file() {
        let (mut session, far) = Session::pair("web1");
        far.output.send(Bytes::from_static(b"half")).await.unwrap();
        drop(far);
        assert_eq!(session.read().await.unwrap().unwrap(), "half");
        assert!(matches!(session.read().await, Err(Error::Lost { .. })));
        assert!(matches!(
            session.write("x".into()).await,
            Err(Error::Lost { .. })
        ));
    }

    #[tokio::test]
    async fn the_output_may_end_before_the_command_does() {
        let (mut session, far) = Session::pair("web1");
        let FarEnd { output, end, .. } = far;
        drop(output);
        assert_eq!(session.read().await.unwrap(), None);
        end.tell(Ok(Status::Code(3)));
        end.tell(Ok(Status::Code(0)));
        let exit = session.finish(Duration::from_secs(5)).await.unwrap();
        assert_eq!(exit.status, Status::Code(3));
    }

    #[tokio::test]
    async fn finish_does_not_wait_for_ever() {
        let (session, _far) = Session::pair("web1");
        assert!(matches!(
            session.finish(Duration::from_millis(20)).await,
            Err(Error::NotEnded { .. })
        ));
    }

    #[test]
    fn only_the_end_of_stderr_is_kept_and_it_is_safe_to_show() {
        let tail = Tail::default();
        for _ in 0..3 {
            tail.push(&vec![b'x'; STDERR_BYTES_MAX - 10]);
        }
        tail.push(b"\n\x1b[31mred\r\nlast");
        assert!(tail.0.lock().unwrap().len() <= STDERR_BYTES_MAX);
        let lines = tail.lines();
        assert_eq!(&lines[1..], ["\\x1b[31mred", "last"]);
    }
}
