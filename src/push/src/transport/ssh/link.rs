//! One authenticated connection, and how it comes about.

use super::Shown;
use super::auth::Login;
use super::channel::{self, Owner};
use super::gate::{Gate, Judge, Seen};
use super::keyring::Keyring;
use super::open::{self, Complaints, Duplex};
use super::policy::{self, Certificates};
use super::wire::{CutOnDrop, Stream, Wire};
use crate::transport::error::Error;
use crate::transport::host_key::ServerKey;
use crate::transport::prompt::Prompt;
use crate::transport::session::Session;
use crate::transport::target::Target;
use crate::transport::{Connection, Pending, Traffic};
use crate::visible;
use russh::client::{Handle, connect_stream};
use russh::{ChannelOpenFailure, Disconnect};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;

/// How long greeting and key exchange may take.
const HANDSHAKE_MAX: Duration = Duration::from_secs(30);
/// How long a server may take to open a channel.
const CHANNEL_OPEN_MAX: Duration = Duration::from_secs(30);
/// How long a goodbye may take.
const GOODBYE_MAX: Duration = Duration::from_secs(2);
/// How many hosts behind one jump host are being connected to at once.
const FORWARDING_MAX: usize = 8;
/// How much of a wrong greeting is shown, in bytes.
const GREETING_SHOWN_MAX: usize = 120;

/// An authenticated connection.
pub(super) struct Link {
    handle: Handle<Gate>,
    owner: Owner,
    server_key: ServerKey,
    wire: Arc<Wire>,
    forwarding: Semaphore,
    // The way here stays open for as long as it is used.
    _via: Option<Arc<Link>>,
    _cut: CutOnDrop,
}

/// A connection whose host is known to be the right one, before the login.
struct Greeted {
    handle: Handle<Gate>,
    seen: Arc<Seen>,
    server_key: ServerKey,
    wire: Arc<Wire>,
    cut: CutOnDrop,
}

/// Connects as far as the key exchange, and says which key the host showed.
pub(super) async fn shown_key(target: &Target, via: Option<&Arc<Link>>) -> Result<Shown, Error> {
    match greet(target, via).await {
        Ok(Greeted { server_key, .. }) => Ok(Shown {
            key: server_key.key,
            verdict: Ok(server_key.verified_by),
        }),
        Err(error) => match error.shown_key().cloned() {
            Some(key) => Ok(Shown {
                key,
                verdict: Err(error),
            }),
            None => Err(error),
        },
    }
}

impl Link {
    /// Connects and logs in.
    pub(super) async fn connect(
        target: &Target,
        via: Option<&Arc<Link>>,
        (keyring, prompt): (&Keyring, &dyn Prompt),
    ) -> Result<Self, Error> {
        let Greeted {
            mut handle,
            seen,
            server_key,
            wire,
            cut,
        } = greet(target, via).await?;
        Login {
            handle: &mut handle,
            target,
            keyring,
            prompt,
            seen: &seen,
        }
        .run()
        .await?;
        Ok(Self {
            handle,
            owner: Owner {
                host: target.host.clone(),
                seen,
                wire: wire.clone(),
            },
            server_key,
            wire,
            forwarding: Semaphore::new(FORWARDING_MAX),
            _via: via.cloned(),
            _cut: cut,
        })
    }

    /// Places for hosts that are being connected to through this one.
    pub(super) fn forwarding(&self) -> &Semaphore {
        &self.forwarding
    }

    /// Whether the connection has ended.
    pub(super) fn is_closed(&self) -> bool {
        self.handle.is_closed()
    }

    /// Opens a stream to a host behind this one.
    async fn forward(&self, target: &Target) -> Result<tokio::io::DuplexStream, Error> {
        let open = self.handle.channel_open_direct_tcpip(
            &target.address,
            u32::from(target.port),
            "127.0.0.1",
            0,
        );
        let opened = tokio::time::timeout(CHANNEL_OPEN_MAX.max(target.connect_timeout), open).await;
        let (host, hop, at) = (target.host.clone(), self.owner.host.clone(), target.place());
        match opened {
            Ok(Ok(channel)) => Ok(channel::pass_on(channel)),
            Ok(Err(russh::Error::ChannelOpenFailure(ChannelOpenFailure::ConnectFailed))) => {
                Err(Error::Unreachable {
                    host,
                    at,
                    reason: format!("{hop} cannot connect to it"),
                })
            }
            Ok(Err(russh::Error::ChannelOpenFailure(reason))) => Err(Error::ForwardRefused {
                host,
                hop,
                reason: spoken(reason),
            }),
            Ok(Err(_)) => Err(Error::Jump {
                host,
                hop,
                cause: Arc::new(self.owner.lost()),
            }),
            Err(_) => Err(Error::Unreachable {
                host,
                at,
                reason: format!("no answer by way of {hop}"),
            }),
        }
    }

    async fn start(&self, command: &'static str) -> Result<Session, Error> {
        let refused = |reason: String| Error::ExecRefused {
            host: self.owner.host.clone(),
            reason,
        };
        let open = async {
            let channel = self.handle.channel_open_session().await?;
            channel.exec(true, command).await?;
            Ok::<_, russh::Error>(channel)
        };
        let channel = match tokio::time::timeout(CHANNEL_OPEN_MAX, open).await {
            Ok(Ok(channel)) => channel,
            Ok(Err(russh::Error::ChannelOpenFailure(reason))) => {
                return Err(refused(spoken(reason)));
            }
            Ok(Err(_)) => return Err(self.owner.lost()),
            Err(_) => {
                return Err(refused(format!(
                    "no answer within {}s",
                    CHANNEL_OPEN_MAX.as_secs()
                )));
            }
        };
        let (session, far) = Session::pair(&self.owner.host);
        channel::carry(channel, far, self.owner.clone());
        Ok(session)
    }
}

impl Connection for Link {
    fn exec(&self, command: &'static str) -> Pending<'_, Result<Session, Error>> {
        Box::pin(self.start(command))
    }

    fn server_key(&self) -> &ServerKey {
        &self.server_key
    }

    fn traffic(&self) -> Traffic {
        let (sent, received) = self.wire.counts();
        Traffic { sent, received }
    }

    fn disconnect(self: Box<Self>) -> Pending<'static, ()> {
        Box::pin(async move {
            let goodbye = async {
                // What cannot be said any more need not be.
                let _ = self
                    .handle
                    .disconnect(Disconnect::ByApplication, "", "")
                    .await;
                self.wire.gone().await;
            };
            let _ = tokio::time::timeout(GOODBYE_MAX, goodbye).await;
        })
    }
}

/// Opens the stream, exchanges keys and verifies the host.
async fn greet(target: &Target, via: Option<&Arc<Link>>) -> Result<Greeted, Error> {
    let judge = Judge::about(target).await?;
    let certificates = if judge.believes_certificates() {
        Certificates::Wanted
    } else {
        Certificates::Unwanted
    };
    let config = policy::config(&judge.algorithms(), certificates);
    let (stream, complaints) = stream_to(target, via).await?;
    let (stream, wire) = Stream::new(stream);
    let cut = CutOnDrop(wire.clone());
    let seen = Arc::new(Seen::default());
    let connecting = connect_stream(config, stream, Gate::new(judge, seen.clone()));
    let connected = tokio::time::timeout(HANDSHAKE_MAX, connecting).await;
    let failure = match connected {
        Ok(Ok(handle)) => match seen.server_key() {
            Some(Ok(server_key)) => {
                tell(target, via, &server_key);
                return Ok(Greeted {
                    handle,
                    seen,
                    server_key,
                    wire,
                    cut,
                });
            }
            Some(Err(error)) => return Err(error),
            None => Failure::Broken(russh::Error::Kex),
        },
        Ok(Err(error)) => Failure::Broken(error),
        Err(_) => Failure::Silent,
    };
    if let Some(Err(error)) = seen.server_key() {
        return Err(error);
    }
    let complaints = match &complaints {
        Some(complaints) => Some(complaints.lines().await),
        None => None,
    };
    Err(failure.explained(target, &wire.greeting(), complaints))
}

/// For whoever looks for a fault: who answered, and why it was believed.
fn tell(target: &Target, via: Option<&Arc<Link>>, shown: &ServerKey) {
    let (host, place, key) = (&target.host, target.place(), &shown.key);
    let way = via.map_or("", |_| " (through a jump host)");
    let (algorithm, fingerprint) = (key.algorithm(), key.fingerprint());
    let verified_by = &shown.verified_by;
    tracing::info!("{host}: {place}{way} shows {algorithm} {fingerprint}, known by {verified_by}");
}

async fn stream_to(
    target: &Target,
    via: Option<&Arc<Link>>,
) -> Result<(Box<dyn Duplex>, Option<Complaints>), Error> {
    if let Some(via) = via {
        return Ok((Box::new(via.forward(target).await?), None));
    }
    if let Some(command) = &target.proxy_command {
        let proxy = open::proxy(target, command)?;
        let complaints = proxy.complaints();
        return Ok((Box::new(proxy), Some(complaints)));
    }
    Ok((Box::new(open::tcp(target).await?), None))
}

/// Why there is no connection although there is a stream.
enum Failure {
    Silent,
    Broken(russh::Error),
}

impl Failure {
    /// Tells a busy server, a penalty, a wrong port and a broken protocol apart by what was said.
    fn explained(self, target: &Target, greeting: &[u8], complaints: Option<Vec<String>>) -> Error {
        let (host, at) = (target.host.clone(), target.place());
        let said = visible::escape(greeting.trim_ascii(), GREETING_SHOWN_MAX);
        let has_greeted =
            greeting.starts_with(b"SSH-") || greeting.windows(5).any(|window| window == b"\nSSH-");
        match self {
            Self::Silent => Error::Silent {
                host,
                at,
                stage: "key exchange",
                waited: HANDSHAKE_MAX,
            },
            Self::Broken(russh::Error::NoCommonAlgo { kind, theirs, .. }) => {
                Error::WeakAlgorithms {
                    host,
                    kind: format!("{kind:?}").to_lowercase(),
                    theirs: visible::escape(theirs.join(", ").as_bytes(), GREETING_SHOWN_MAX),
                }
            }
            Self::Broken(_) if !has_greeted && complaints.is_some() => Error::ProxyCommand {
                host,
                reason: complaints.filter(|lines| !lines.is_empty()).map_or_else(
                    || "it ended before the host answered".to_owned(),
                    |lines| lines.join("; "),
                ),
            },
            Self::Broken(_) if greeting.starts_with(b"Not allowed at this time") => {
                Error::Penalized { host, said }
            }
            Self::Broken(_)
                if greeting.is_empty() || greeting.starts_with(b"Exceeded MaxStartups") =>
            {
                Error::Busy {
                    host,
                    tries: 1,
                    said,
                }
            }
            Self::Broken(_) if !has_greeted => Error::Handshake {
                host,
                at,
                reason: format!("it says `{said}`"),
            },
            Self::Broken(error) => Error::Handshake {
                host,
                at,
                reason: visible::escape(error.to_string().as_bytes(), 200),
            },
        }
    }
}

fn spoken(reason: ChannelOpenFailure) -> String {
    match reason {
        ChannelOpenFailure::AdministrativelyProhibited => "it is not allowed there".into(),
        ChannelOpenFailure::ConnectFailed => {
            "it has too many sessions open, or could not connect".into()
        }
        ChannelOpenFailure::UnknownChannelType => "it does not know how".into(),
        ChannelOpenFailure::ResourceShortage => "it has no room for it".into(),
        ChannelOpenFailure::Other { reason, .. } => {
            visible::escape(reason.as_bytes(), GREETING_SHOWN_MAX)
        }
    }
}
