//! SSH by way of russh, of which only the protocol core is used: dialing, host keys, the agent, the
//! choice of identities and the channels are ours, because the library's own hang or decide unsafely
//! in cases that a fleet meets.
//!
//! ```text
//! policy   algorithms, windows, keepalive        gate     who may be talked to: host keys
//! wire     a byte stream that can be cut         open     TCP, ProxyCommand
//! keyring  key files, opened once a push         agent    the agent's identities
//! auth     the login                             identities  what is offered, who signs
//! link     one authenticated connection          channel  commands and connections passed on
//! ```
//!
//! No other module knows russh. Invariants: a connection whose login was interrupted is never used
//! again; every stream can be cut, so that nothing waits for a silent peer in the background; each
//! channel is drained for as long as it is open, since one that is not stalls its neighbours.

mod agent;
mod auth;
mod channel;
mod gate;
mod identities;
mod keyring;
mod link;
mod open;
mod policy;
mod wire;

use super::error::Error;
use super::host_key::{HostKey, VerifiedBy};
use super::prompt::{Prompt, Question, Refusal};
use super::target::{Asking, Target};
use super::{Connection, Dialer, Pending, Route};
use keyring::Keyring;
use link::Link;
use secrecy::SecretString;
use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, RandomState};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;

/// How many hosts are being connected to at once.
pub const CONNECTING_MAX: usize = 16;
/// How often a host that hangs up before the login is called again. sshd's MaxStartups drops
/// connections at random while others are logging in.
const BUSY_TRIES_MAX: u32 = 6;
/// Wait after the first such hang-up; it doubles each time, with jitter.
const BUSY_WAIT: Duration = Duration::from_millis(150);
/// How long a jump host that could not be reached is not tried again for the next host behind it.
const HOP_FAILURE_KEPT: Duration = Duration::from_secs(30);

/// Connects over SSH. One is enough for a push: connections to jump hosts and opened keys are shared.
pub struct SshDialer {
    keyring: Keyring,
    prompt: Arc<dyn Prompt>,
    connecting: Semaphore,
    /// The hosts whose login asked the operator something.
    asking: Mutex<HashSet<String>>,
    hops: Mutex<HashMap<String, Arc<tokio::sync::Mutex<Hop>>>>,
    jitter: RandomState,
}

/// The key that a host shows, and what is to be thought of it.
#[derive(Debug, Clone)]
pub struct Shown {
    /// The key.
    pub key: HostKey,
    /// What vouches for it, or why it is not believed.
    pub verdict: Result<VerifiedBy, Error>,
}

/// A jump host that several hosts lie behind.
#[derive(Default)]
enum Hop {
    #[default]
    Untried,
    Open(Arc<Link>),
    Failed(Error, Instant),
}

/// What a login asks on one way. One that was got through without a question is got through again
/// without one, or not at all: who waits whether the operator can still come in must not wait for them.
struct Questions<'a> {
    dialer: &'a SshDialer,
    host: &'a str,
    route: Route,
}

impl Prompt for Questions<'_> {
    fn ask<'a>(&'a self, question: &'a Question) -> Pending<'a, Result<SecretString, Refusal>> {
        let mut asking = self
            .dialer
            .asking
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        // A key that the way in again needs is opened once, and all hosts that it fits have it then.
        let is_of_a_key = matches!(question, Question::Passphrase { .. });
        let may_ask = match self.route {
            Route::Shared if !is_of_a_key => {
                asking.insert(self.host.to_owned());
                true
            }
            Route::Shared => true,
            Route::Fresh => is_of_a_key || asking.contains(self.host),
        };
        if may_ask {
            self.dialer.prompt.ask(question)
        } else {
            Box::pin(async { Err(Refusal::Declined) })
        }
    }
}

impl SshDialer {
    /// A dialer that asks `prompt` for passphrases and passwords.
    pub fn new(prompt: Arc<dyn Prompt>) -> Self {
        Self {
            keyring: Keyring::default(),
            prompt,
            connecting: Semaphore::new(CONNECTING_MAX),
            asking: Mutex::default(),
            hops: Mutex::default(),
            jitter: RandomState::new(),
        }
    }

    /// The key that a host shows, believed or not, for `push trust` to compare. Ends before the login.
    pub async fn shown_key(&self, target: &Target) -> Result<Shown, Error> {
        let via = self.way(target, Route::Shared).await?;
        let _turn = self.connecting.acquire().await;
        link::shown_key(target, via.as_ref()).await
    }

    /// Opens a connection; see [`Dialer::dial`].
    async fn connect(&self, target: &Target, route: Route) -> Result<Link, Error> {
        let via = self.way(target, route).await?;
        self.connect_via((target, route), via).await
    }

    /// The last jump host on the way to `target`, connected.
    async fn way(&self, target: &Target, route: Route) -> Result<Option<Arc<Link>>, Error> {
        let mut via: Option<Arc<Link>> = None;
        let mut way = String::new();
        for hop in &target.jumps {
            way = format!("{way}{}@{} ", hop.user, hop.place());
            let apart = Target {
                asking: Asking::Apart,
                ..hop.clone()
            };
            let link = match route {
                Route::Shared => self.shared(&way, &apart, via).await,
                Route::Fresh => self.connect_via((&apart, route), via).await.map(Arc::new),
            };
            via = Some(link.map_err(|cause| Error::Jump {
                host: target.host.clone(),
                hop: hop.host.clone(),
                cause: Arc::new(cause),
            })?);
        }
        Ok(via)
    }

    async fn shared(
        &self,
        way: &str,
        hop: &Target,
        via: Option<Arc<Link>>,
    ) -> Result<Arc<Link>, Error> {
        let slot = {
            let mut hops = self.hops.lock().unwrap_or_else(PoisonError::into_inner);
            hops.entry(way.to_owned()).or_default().clone()
        };
        let mut slot = slot.lock().await;
        match &*slot {
            Hop::Open(link) if !link.is_closed() => return Ok(link.clone()),
            Hop::Failed(error, at) if at.elapsed() < HOP_FAILURE_KEPT => return Err(error.clone()),
            Hop::Untried | Hop::Open(_) | Hop::Failed(..) => {}
        }
        match self.connect_via((hop, Route::Shared), via).await {
            Ok(link) => {
                let link = Arc::new(link);
                *slot = Hop::Open(link.clone());
                Ok(link)
            }
            Err(error) => {
                *slot = Hop::Failed(error.clone(), Instant::now());
                Err(error)
            }
        }
    }

    /// Connects, and calls again only where the host hung up before the login: nothing was tried then.
    async fn connect_via(
        &self,
        (target, route): (&Target, Route),
        via: Option<Arc<Link>>,
    ) -> Result<Link, Error> {
        let mut tries = 0;
        loop {
            tries += 1;
            let result = self.connect_once((target, route), via.clone()).await;
            match result {
                Err(Error::Busy { host, said, .. }) if tries >= BUSY_TRIES_MAX => {
                    return Err(Error::Busy { host, said, tries });
                }
                Err(Error::Busy { .. }) => tokio::time::sleep(self.busy_wait(target, tries)).await,
                result => return result,
            }
        }
    }

    async fn connect_once(
        &self,
        (target, route): (&Target, Route),
        via: Option<Arc<Link>>,
    ) -> Result<Link, Error> {
        // First the place behind the jump host, so that hosts waiting for it do not hold up others.
        let _place = match &via {
            Some(via) => via.forwarding().acquire().await.ok(),
            None => None,
        };
        let _turn = self.connecting.acquire().await;
        let questions = Questions {
            dialer: self,
            host: &target.host,
            route,
        };
        Link::connect(target, via.as_ref(), (&self.keyring, &questions)).await
    }

    /// Doubles with each try; between half and all of that, so that hosts do not call in step.
    fn busy_wait(&self, target: &Target, tries: u32) -> Duration {
        let longest = BUSY_WAIT * 2_u32.pow(tries.min(BUSY_TRIES_MAX));
        let dice = self.jitter.hash_one((&target.host, tries, Instant::now()));
        let share = u32::try_from(dice % 512).unwrap_or(0);
        longest / 2 + longest / 2 * share / 512
    }
}

/// A target, and the hosts on the way to it, without the pinned keys that known_hosts revokes; an error where
/// none is left. For whoever hands the pins over to another program.
pub async fn without_revoked(mut target: Target) -> Result<Target, Error> {
    for hop in &mut target.jumps {
        hop.pinned = gate::Judge::about(hop).await?.unrevoked()?;
    }
    target.pinned = gate::Judge::about(&target).await?.unrevoked()?;
    Ok(target)
}

/// How many keys an agent holds that push can use, or why it cannot be asked.
pub async fn agent_keys(socket: &Path) -> Result<usize, String> {
    agent::open(socket, None).await.map(|(_, held)| held.len())
}

/// Why a key file cannot be used; `None` where it can, a passphrase notwithstanding.
pub async fn key_trouble(path: &Path) -> Option<String> {
    Keyring::default().load(path).await.err()
}

impl Dialer for SshDialer {
    fn dial<'a>(
        &'a self,
        target: &'a Target,
        route: Route,
    ) -> Pending<'a, Result<Box<dyn Connection>, Error>> {
        Box::pin(async move {
            let link = self.connect(target, route).await?;
            let connection: Box<dyn Connection> = Box::new(link);
            Ok(connection)
        })
    }

    fn prompt(&self) -> &dyn Prompt {
        self.prompt.as_ref()
    }
}

#[cfg(test)]
mod server_tests;
