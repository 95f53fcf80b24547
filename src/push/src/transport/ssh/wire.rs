//! A byte stream that counts, that remembers how the other side began, and that can be cut.
//!
//! The library leaves a task waiting on a silent peer when its caller gives up; cutting the stream
//! under it ends the task and closes the socket.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};
use tokio_util::sync::{CancellationToken, DropGuard, WaitForCancellationFutureOwned};

/// How long the other side may take nothing of what is written before the wire counts as dead. On
/// Linux the kernel notices a dead TCP peer sooner; this is for what lies behind a jump host.
const WRITE_STALL_MAX: Duration = Duration::from_secs(60);
/// How much of the other side's first words is kept, in bytes.
const GREETING_BYTES_MAX: usize = 256;

/// The handle on a wire that stays with us while the library owns its stream.
#[derive(Debug, Default)]
pub(super) struct Wire {
    sent: AtomicU64,
    received: AtomicU64,
    greeting: Mutex<Vec<u8>>,
    cut: CancellationToken,
    gone: CancellationToken,
}

impl Wire {
    /// Ends every read and write on the stream, now and from now on.
    pub(super) fn cut(&self) {
        self.cut.cancel();
    }

    /// Waits until the library has let go of the stream.
    pub(super) async fn gone(&self) {
        self.gone.cancelled().await;
    }

    /// The first bytes that the other side sent.
    pub(super) fn greeting(&self) -> Vec<u8> {
        self.greeting
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Bytes sent and received.
    pub(super) fn counts(&self) -> (u64, u64) {
        (
            self.sent.load(Ordering::Relaxed),
            self.received.load(Ordering::Relaxed),
        )
    }

    fn note_received(&self, bytes: &[u8]) {
        let before = self
            .received
            .fetch_add(bytes.len() as u64, Ordering::Relaxed);
        if before < GREETING_BYTES_MAX as u64 {
            let mut greeting = self.greeting.lock().unwrap_or_else(PoisonError::into_inner);
            let room = GREETING_BYTES_MAX.saturating_sub(greeting.len());
            greeting.extend_from_slice(&bytes[..bytes.len().min(room)]);
        }
    }
}

/// Cuts a wire unless it is disarmed: for everything that may be given up half way.
pub(super) struct CutOnDrop(pub(super) Arc<Wire>);

impl Drop for CutOnDrop {
    fn drop(&mut self) {
        self.0.cut();
    }
}

/// The stream that the library gets.
pub(super) struct Stream<S> {
    inner: S,
    wire: Arc<Wire>,
    // One for each direction: a future remembers only the last task that polled it.
    cut_read: Pin<Box<WaitForCancellationFutureOwned>>,
    cut_write: Pin<Box<WaitForCancellationFutureOwned>>,
    stalled: Option<Pin<Box<Sleep>>>,
    _gone: DropGuard,
}

impl<S> Stream<S> {
    /// Wraps a stream.
    pub(super) fn new(inner: S) -> (Self, Arc<Wire>) {
        let wire = Arc::new(Wire::default());
        let stream = Self {
            inner,
            cut_read: Box::pin(wire.cut.clone().cancelled_owned()),
            cut_write: Box::pin(wire.cut.clone().cancelled_owned()),
            stalled: None,
            _gone: wire.gone.clone().drop_guard(),
            wire: wire.clone(),
        };
        (stream, wire)
    }

    /// Keeps the time that a write or flush has been waiting.
    fn watch_stall<T>(
        &mut self,
        cx: &mut Context<'_>,
        waiting: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if waiting.is_ready() {
            self.stalled = None;
            return waiting;
        }
        let stalled = self.stalled.get_or_insert_with(|| {
            Box::pin(tokio::time::sleep_until(Instant::now() + WRITE_STALL_MAX))
        });
        ready!(stalled.as_mut().poll(cx));
        Poll::Ready(Err(io::Error::new(
            io::ErrorKind::TimedOut,
            "it took nothing of what was sent for 60s",
        )))
    }
}

fn is_cut(cut: &mut Pin<Box<WaitForCancellationFutureOwned>>, cx: &mut Context<'_>) -> bool {
    cut.as_mut().poll(cx).is_ready()
}

fn cut_error() -> io::Error {
    io::Error::new(
        io::ErrorKind::ConnectionAborted,
        "the connection was given up",
    )
}

impl<S: AsyncRead + Unpin> AsyncRead for Stream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if is_cut(&mut self.cut_read, cx) {
            return Poll::Ready(Err(cut_error()));
        }
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.inner).poll_read(cx, buffer))?;
        self.wire.note_received(&buffer.filled()[before..]);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Stream<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if is_cut(&mut self.cut_write, cx) {
            return Poll::Ready(Err(cut_error()));
        }
        let written = Pin::new(&mut self.inner).poll_write(cx, bytes);
        let count = ready!(self.watch_stall(cx, written))?;
        self.wire.sent.fetch_add(count as u64, Ordering::Relaxed);
        Poll::Ready(Ok(count))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if is_cut(&mut self.cut_write, cx) {
            return Poll::Ready(Err(cut_error()));
        }
        let flushed = Pin::new(&mut self.inner).poll_flush(cx);
        self.watch_stall(cx, flushed)
    }

    /// Never fails and never waits once cut: the library tells why a connection ended only after this.
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if is_cut(&mut self.cut_write, cx) {
            return Poll::Ready(Ok(()));
        }
        let closed = Pin::new(&mut self.inner).poll_shutdown(cx);
        let _ = ready!(self.watch_stall(cx, closed));
        Poll::Ready(Ok(()))
    }
}
