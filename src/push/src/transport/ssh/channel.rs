//! Channels of a connection: commands, and connections passed on to hosts behind a jump host.
//!
//! The library's own streams hang when the other side closes while its window is empty, and lose
//! the exit status; here each channel has one task that always reads and one that writes until the
//! first sees the end. What is read is handed over under backpressure. A host behind a jump host
//! that does not take its bytes is dropped after a while, since it holds up its neighbours.

use super::gate::Seen;
use super::wire::Wire;
use crate::transport::error::Error;
use crate::transport::session::{End, FarEnd, Status, Tail};
use bytes::{Bytes, BytesMut};
use russh::client::Msg;
use russh::{Channel, ChannelMsg, ChannelReadHalf, ChannelWriteHalf};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, ReadHalf, WriteHalf};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// How long a command may leave written bytes untouched. The connection itself is alive all the
/// while, which keepalive sees to; this is for a command that stopped reading for good.
const UNREAD_MAX: Duration = Duration::from_secs(300);
/// How long output may still come after the exit status: something that the command left running
/// may hold its stdout open.
const AFTER_EXIT_MAX: Duration = Duration::from_secs(2);
/// How long a command that nobody listens to any more is drained before its channel is closed.
const UNHEARD_MAX: Duration = Duration::from_secs(10);
/// How long a host behind a jump host may leave its bytes untaken.
const NEIGHBOUR_STALL_MAX: Duration = Duration::from_secs(20);
/// Bytes on their way to the library's stream of a host behind a jump host.
const PASSED_ON_BYTES: usize = 256 * 1024;
/// Extended data of type 1 is stderr (RFC 4254 §5.2).
const STDERR: u32 = 1;

/// Whose channel this is, for messages.
#[derive(Clone)]
pub(super) struct Owner {
    pub(super) host: String,
    pub(super) seen: Arc<Seen>,
    pub(super) wire: Arc<Wire>,
}

impl Owner {
    /// The error for a connection that ended under a channel.
    pub(super) fn lost(&self) -> Error {
        let reason = self
            .seen
            .goodbye()
            .unwrap_or_else(|| "it ended without a word".into());
        Error::Lost {
            host: self.host.clone(),
            reason,
        }
    }
}

/// Carries a command's session over its channel, until both have ended.
pub(super) fn carry(channel: Channel<Msg>, far: FarEnd, owner: Owner) {
    let (reading, writing) = channel.split();
    let writing = Arc::new(writing);
    let closed = CancellationToken::new();
    let FarEnd {
        output,
        input,
        stderr,
        end,
    } = far;
    let end = Arc::new(end);
    let reader = Reader {
        reading,
        output: Some(output),
        stderr,
        status: None,
        is_refused: false,
    };
    tokio::spawn(carry_output(
        reader,
        writing.clone(),
        end.clone(),
        (closed.clone(), owner.clone()),
    ));
    tokio::spawn(carry_input(input, writing, end, (closed, owner)));
}

struct Reader {
    reading: ChannelReadHalf,
    output: Option<mpsc::Sender<Bytes>>,
    stderr: Tail,
    status: Option<Status>,
    is_refused: bool,
}

/// How reading a channel came to its end.
enum Ending {
    Closed,
    Lost,
    Abandoned,
}

async fn carry_output(
    mut reader: Reader,
    writing: Arc<ChannelWriteHalf<Msg>>,
    end: Arc<End>,
    (closed, owner): (CancellationToken, Owner),
) {
    let ending = reader.run(&writing).await;
    let status = reader.status.take();
    end.tell(match (ending, status) {
        _ if reader.is_refused => Err(Error::ExecRefused {
            host: owner.host.clone(),
            reason: "the server did not start it".into(),
        }),
        (_, Some(status)) => Ok(status),
        (Ending::Lost, None) => Err(owner.lost()),
        (Ending::Closed | Ending::Abandoned, None) => Ok(Status::Unknown),
    });
    closed.cancel();
    drop(reader);
}

impl Reader {
    async fn run(&mut self, writing: &ChannelWriteHalf<Msg>) -> Ending {
        let mut unheard_since = None;
        loop {
            let patience = match (&self.status, unheard_since) {
                (Some(_), _) => AFTER_EXIT_MAX,
                (None, Some(since)) => {
                    UNHEARD_MAX.saturating_sub(tokio::time::Instant::elapsed(&since))
                }
                (None, None) => Duration::MAX,
            };
            let message = tokio::select! {
                message = self.reading.wait() => message,
                () = sleep(patience) => {
                    // Draining what follows a close is the library's business.
                    let _ = writing.close().await;
                    return Ending::Abandoned;
                }
                () = unheard(self.output.as_ref()), if unheard_since.is_none() => {
                    unheard_since = Some(tokio::time::Instant::now());
                    continue;
                }
            };
            match message {
                None => return Ending::Lost,
                Some(ChannelMsg::Close) => return Ending::Closed,
                Some(message) => self.take(message).await,
            }
        }
    }

    async fn take(&mut self, message: ChannelMsg) {
        match message {
            ChannelMsg::Data { data } => {
                if let Some(output) = &self.output {
                    // Without a listener it is drained all the same.
                    let _ = output.send(data).await;
                }
            }
            ChannelMsg::ExtendedData { data, ext: STDERR } => self.stderr.push(&data),
            ChannelMsg::Eof => self.output = None,
            ChannelMsg::ExitStatus { exit_status } => self.status = Some(Status::Code(exit_status)),
            ChannelMsg::ExitSignal { signal_name, .. } => {
                let name = format!("{signal_name:?}");
                self.status = Some(Status::Signal(crate::visible::escape(name.as_bytes(), 32)));
            }
            ChannelMsg::Failure => self.is_refused = true,
            // The library's enum is open; nothing else concerns a command.
            _ => {}
        }
    }
}

async fn sleep(patience: Duration) {
    if patience == Duration::MAX {
        std::future::pending::<()>().await;
    }
    tokio::time::sleep(patience).await;
}

/// Ends when nobody reads the output any more; never after the output itself has ended.
async fn unheard(output: Option<&mpsc::Sender<Bytes>>) {
    match output {
        Some(output) => output.closed().await,
        None => std::future::pending().await,
    }
}

async fn carry_input(
    mut input: mpsc::Receiver<Bytes>,
    writing: Arc<ChannelWriteHalf<Msg>>,
    end: Arc<End>,
    (closed, owner): (CancellationToken, Owner),
) {
    loop {
        let chunk = tokio::select! {
            () = closed.cancelled() => return,
            chunk = input.recv() => chunk,
        };
        let Some(chunk) = chunk else {
            let _ = tokio::time::timeout(UNREAD_MAX, writing.eof()).await;
            return;
        };
        let sent = tokio::select! {
            () = closed.cancelled() => return,
            // The reading task may be waiting for its reader, and not see it.
            () = owner.wire.gone() => return end.tell(Err(owner.lost())),
            sent = tokio::time::timeout(UNREAD_MAX, writing.data_bytes(chunk)) => sent,
        };
        match sent {
            Ok(Ok(())) => {}
            // The reading task tells the end: it knows more.
            Ok(Err(_)) => return,
            Err(_) => {
                let reason = format!("the command read nothing for {}s", UNREAD_MAX.as_secs());
                end.tell(Err(Error::Lost {
                    host: owner.host,
                    reason,
                }));
                let _ = tokio::time::timeout(UNREAD_MAX, writing.close()).await;
                return;
            }
        }
    }
}

/// Makes a stream of a channel that a jump host passes on.
pub(super) fn pass_on(channel: Channel<Msg>) -> DuplexStream {
    let (ours, theirs) = tokio::io::duplex(PASSED_ON_BYTES);
    let (reading, writing) = channel.split();
    let (from_host, to_host) = tokio::io::split(theirs);
    let closed = CancellationToken::new();
    tokio::spawn(pass_in(reading, to_host, closed.clone()));
    tokio::spawn(pass_out(from_host, writing, closed));
    ours
}

/// From the jump host to the library's stream of the host behind it.
async fn pass_in(
    mut reading: ChannelReadHalf,
    mut to_host: WriteHalf<DuplexStream>,
    closed: CancellationToken,
) {
    loop {
        let message = tokio::select! {
            () = closed.cancelled() => break,
            message = reading.wait() => message,
        };
        match message {
            Some(ChannelMsg::Data { data }) => {
                let taken =
                    tokio::time::timeout(NEIGHBOUR_STALL_MAX, to_host.write_all(&data)).await;
                if !matches!(taken, Ok(Ok(()))) {
                    break;
                }
            }
            None | Some(ChannelMsg::Eof | ChannelMsg::Close) => break,
            Some(_) => {}
        }
    }
    closed.cancel();
    let _ = to_host.shutdown().await;
    drain(reading).await;
}

/// A channel that nobody wants any more is drained until it is closed, within a bound.
async fn drain(mut reading: ChannelReadHalf) {
    let _ = tokio::time::timeout(UNHEARD_MAX, async {
        while reading.wait().await.is_some() {}
    })
    .await;
}

/// From the library's stream of the host to the jump host.
async fn pass_out(
    mut from_host: ReadHalf<DuplexStream>,
    writing: ChannelWriteHalf<Msg>,
    closed: CancellationToken,
) {
    let mut buffer = BytesMut::new();
    loop {
        buffer.reserve(PASSED_ON_BYTES / 4);
        let read = tokio::select! {
            () = closed.cancelled() => break,
            read = from_host.read_buf(&mut buffer) => read,
        };
        if !matches!(read, Ok(1..)) {
            break;
        }
        let sent = tokio::select! {
            () = closed.cancelled() => break,
            sent = writing.data_bytes(buffer.split().freeze()) => sent,
        };
        if sent.is_err() {
            break;
        }
    }
    // The stream is gone: so is the connection that it carried.
    let _ = tokio::time::timeout(UNHEARD_MAX, writing.close()).await;
    closed.cancel();
}
