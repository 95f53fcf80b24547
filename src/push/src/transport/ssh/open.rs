//! The byte stream under a connection: TCP, or what the operator's ProxyCommand connects to.

use crate::child;
use crate::transport::error::Error;
use crate::transport::session::Tail;
use crate::transport::target::Target;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::process::Stdio;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, Join, ReadBuf};
use tokio::net::TcpStream;
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio_util::sync::CancellationToken;

/// How long a name may take to resolve.
const RESOLVE_MAX: Duration = Duration::from_secs(10);
/// How long all addresses of a name together may take to accept a connection.
const CONNECT_ALL_MAX: Duration = Duration::from_secs(30);
/// How long a ProxyCommand that has failed may take to say why.
const COMPLAINT_MAX: Duration = Duration::from_secs(1);
/// How long sent bytes may go unacknowledged before the kernel ends the connection.
#[cfg(target_os = "linux")]
const UNACKNOWLEDGED_MS_MAX: u32 = 15_000;

/// A stream of bytes in both directions.
pub(super) trait Duplex: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Duplex for S {}

/// Connects over TCP: each address in turn, none for longer than the target allows.
pub(super) async fn tcp(target: &Target) -> Result<TcpStream, Error> {
    let addresses = resolve(target).await?;
    let deadline = tokio::time::Instant::now() + CONNECT_ALL_MAX.max(target.connect_timeout);
    let mut reasons = Vec::new();
    for address in &addresses {
        tracing::debug!("{}: calling {address}", target.host);
        let patience = target
            .connect_timeout
            .min(deadline - tokio::time::Instant::now());
        match tokio::time::timeout(patience, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => return tuned(target, stream),
            Ok(Err(error)) => reasons.push((address, error.to_string())),
            Err(_) => reasons.push((address, format!("no answer within {}s", patience.as_secs()))),
        }
    }
    let reason = match reasons.as_slice() {
        [(_, reason)] => reason.clone(),
        several => several
            .iter()
            .map(|(at, reason)| format!("{at} {reason}"))
            .collect::<Vec<_>>()
            .join("; "),
    };
    Err(Error::Unreachable {
        host: target.host.clone(),
        at: target.place(),
        reason,
    })
}

async fn resolve(target: &Target) -> Result<Vec<SocketAddr>, Error> {
    let unresolved = |reason: String| Error::Unresolved {
        host: target.host.clone(),
        address: target.address.clone(),
        reason,
    };
    let lookup = tokio::net::lookup_host((target.address.as_str(), target.port));
    match tokio::time::timeout(RESOLVE_MAX, lookup).await {
        Ok(Ok(addresses)) => {
            let addresses: Vec<SocketAddr> = addresses.collect();
            if addresses.is_empty() {
                Err(unresolved("it has no address".into()))
            } else {
                Ok(addresses)
            }
        }
        Ok(Err(error)) => Err(unresolved(error.to_string())),
        Err(_) => Err(unresolved(format!(
            "no answer within {}s",
            RESOLVE_MAX.as_secs()
        ))),
    }
}

fn tuned(target: &Target, stream: TcpStream) -> Result<TcpStream, Error> {
    let set = stream.set_nodelay(true);
    #[cfg(target_os = "linux")]
    let set = set.and_then(|()| {
        rustix::net::sockopt::set_tcp_user_timeout(&stream, UNACKNOWLEDGED_MS_MAX)
            .map_err(std::io::Error::from)
    });
    set.map_err(|error| Error::Unreachable {
        host: target.host.clone(),
        at: target.place(),
        reason: error.to_string(),
    })?;
    Ok(stream)
}

/// A ProxyCommand: its stdin and stdout are the stream, dropping it ends it.
pub(super) struct Proxy {
    stream: Join<ChildStdout, ChildStdin>,
    complaints: Complaints,
    _group: Group,
}

/// A process and whatever it started, ended together.
struct Group(Child);

impl Drop for Group {
    fn drop(&mut self) {
        // An id is there only while the process has not been waited for, so it is nobody else's.
        let id = self
            .0
            .id()
            .and_then(|id| i32::try_from(id).ok())
            .and_then(rustix::process::Pid::from_raw);
        if let Some(id) = id {
            // It fails only when the group is gone already.
            let _ = rustix::process::kill_process_group(id, rustix::process::Signal::KILL);
        }
    }
}

/// Runs a ProxyCommand as ssh does: the operator's own text, given to a shell.
pub(super) fn proxy(target: &Target, command: &str) -> Result<Proxy, Error> {
    let failed = |reason: String| Error::ProxyCommand {
        host: target.host.clone(),
        reason,
    };
    let mut child = Command::from(child::command("/bin/sh"))
        .args(["-c", command])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| failed(error.to_string()))?;
    let pipes = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let (Some(stdin), Some(stdout), Some(mut complaints)) = pipes else {
        return Err(failed("its pipes are missing".into()));
    };
    let said = Complaints::default();
    let (tail, ended) = (said.tail.clone(), said.ended.clone().drop_guard());
    tokio::spawn(async move {
        let _ended = ended;
        let mut buffer = vec![0; 4096];
        while let Ok(length @ 1..) = complaints.read(&mut buffer).await {
            tail.push(&buffer[..length]);
        }
    });
    Ok(Proxy {
        stream: tokio::io::join(stdout, stdin),
        complaints: said,
        _group: Group(child),
    })
}

impl Proxy {
    /// What the command complains about.
    pub(super) fn complaints(&self) -> Complaints {
        self.complaints.clone()
    }
}

/// What a ProxyCommand says on stderr.
#[derive(Debug, Clone, Default)]
pub(super) struct Complaints {
    tail: Tail,
    ended: CancellationToken,
}

impl Complaints {
    /// Its lines, once it has ended or after a moment: stdout may close before stderr is read.
    pub(super) async fn lines(&self) -> Vec<String> {
        let _ = tokio::time::timeout(COMPLAINT_MAX, self.ended.cancelled()).await;
        self.tail.lines()
    }
}

impl AsyncRead for Proxy {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Proxy {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
