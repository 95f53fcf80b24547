//! Hosts that exist in memory and speak the real protocol, with every fault a test can think of.
//! They obey the same rules as real ones: a transaction goes on without anybody watching, and the
//! journal alone says how it ended.

mod machine;
mod serving;
mod upgrading;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use push_wire::digest::Digest;
use push_wire::journal::{Cause, Progress, State};
use push_wire::manifest::{Manifest, Placed, Provenance, Slice};
use push_wire::message::{Holder, Refusal, Transaction};
use push_wire::name::{GenerationId, TransactionId};
use push_wire::upgrade::{End, Offer, Record};

use tokio::sync::watch;

use crate::transport::{
    Connection, Dialer, Error, HostKey, Pending, Route, ServerKey, Session, Target, Traffic,
    VerifiedBy,
};

/// What can go wrong with a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// No connection can be made.
    Unreachable,
    /// No connection can be made over new ways.
    FreshUnreachable,
    /// Once a connection has been lost, no other can be made.
    Vanishes,
    /// From the second connection on, another host answers.
    Impostor,
    /// push-host is not installed.
    Missing,
    /// push-host is not installed, and this build has none for the machine.
    MissingForeign,
    /// sudo wants a password.
    Sudo,
    /// The installation is refused by sudo.
    InstallRefused,
    /// The login shell prints a greeting.
    Noise,
    /// What is said is no frame.
    Garbage,
    /// Nothing is ever said.
    Mute,
    /// push-host ends at once.
    EndsAtOnce,
    /// push-host is of a later protocol.
    Newer,
    /// push-host is an older program.
    Outdated,
    /// Somebody is at it already when it is greeted.
    Busy,
    /// push-host is an older program and will not be replaced.
    RefusesUpgrade,
    /// push-host has a later version, of the same protocol.
    LaterVersion,
    /// Staging is refused as `Host::refusal` says.
    Refuses,
    /// Somebody else holds the lock.
    Locked,
    /// Staging is never answered.
    MuteAtStage,
    /// The answer to staging is no JSON.
    GarbageAtStage,
    /// The answer to staging answers something else.
    WrongAtStage,
    /// The connection is lost at staging.
    LostAtStage,
    /// The connection is lost in the middle of a pack.
    LostMidPack,
    /// The pack is refused before it has arrived.
    RefusedMidPack,
    /// A pack arrives broken.
    Corrupt,
    /// The switch is refused as `Host::refusal` says.
    RefusesSwitch,
    /// The order to switch is lost with its connection.
    OrderLost,
    /// The order arrives and the connection is lost.
    LostAfterOrder,
    /// The connection is lost while the transaction runs.
    LostInProgress,
    /// The connection is lost after all progress and before the verdict.
    VerdictLost,
    /// Progress says Committed, and no verdict ever comes.
    ClaimsOnly,
    /// A verdict about another transaction is given first.
    ForeignVerdict,
    /// A verdict that is none is given first.
    OpenVerdict,
    /// The watch is refused.
    RefusesWatch,
    /// The journal does not know a transaction yet whose order has arrived.
    NotKnown,
    /// The trial never ends by itself.
    Hangs,
    /// It does not take back when it is asked to.
    DeafToTakeBack,
    /// Going back is refused.
    RefusesRestage,
    /// What came back does not hold.
    RestageTakenBack,
}

/// How often a fault happens.
pub const ALWAYS: u32 = u32::MAX;

/// How long somebody else's trial takes.
pub const TRIAL: Duration = Duration::from_secs(20);

/// One host's memory.
pub struct Host {
    /// What goes wrong, and how often yet.
    pub faults: BTreeMap<Fault, u32>,
    /// What is in effect.
    pub manifest: Manifest,
    /// How the next transactions end when they are left alone.
    pub ending: State,
    /// What a refusing fault says.
    pub refusal: Refusal,
    /// Who holds the lock where somebody does.
    pub holder: Holder,
    /// Who else has a transaction under way.
    pub other: Option<Holder>,
    /// What it lacks of any stage.
    pub lacks: Vec<Digest>,
    /// How many bytes it has of the pack from an earlier try.
    pub partial: Option<(Digest, u64)>,
    /// Its past.
    pub history: Vec<Transaction>,
    /// What it had in generations that are there to go back to.
    pub earlier: BTreeMap<GenerationId, Slice>,
    /// What was asked of it, in order.
    pub asked: Vec<String>,
    /// Connections made to it.
    pub dials: u32,
    /// Bytes of packs that arrived.
    pub received: u64,
    /// Bytes of packs that were taken out of the connection so far.
    pub taken: u64,
    /// What an upgrade of its operating system would do.
    pub offer: Result<Offer, Refusal>,
    /// How the next upgrade ends.
    pub upgrade_ends: End,
    /// How often it began one.
    pub upgrades: u32,
    /// Its latest upgrade.
    pub record: Option<Record>,
    /// How often it was booted again.
    pub boots: u32,
    pub(super) is_lost: bool,
    pub(super) is_installed: bool,
    pub(super) upgraded: Option<Digest>,
    pub(super) staged: Option<GenerationId>,
    pub(super) way: Way,
    pub(super) running: BTreeMap<TransactionId, Running>,
}

/// Which way a staged generation goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// To what a push wants.
    Forward,
    /// To what was there before it.
    Back,
}

/// A transaction as its host remembers it.
#[derive(Debug, Clone)]
pub struct Running {
    pub progress: Vec<Progress>,
    pub state: State,
    pub nonce: Digest,
    pub is_confirmed: bool,
    pub is_to_be_taken_back: bool,
}

/// All hosts.
#[derive(Clone)]
pub struct World {
    hosts: Arc<Mutex<BTreeMap<String, Host>>>,
    /// Changes with every transaction's news, so that nobody has to look again and again.
    news: watch::Sender<u64>,
}

impl Default for World {
    fn default() -> Self {
        Self {
            hosts: Arc::default(),
            news: watch::Sender::new(0),
        }
    }
}

impl Default for Host {
    fn default() -> Self {
        Self {
            faults: BTreeMap::new(),
            manifest: manifest(3, "shop"),
            ending: State::Committed,
            refusal: Refusal::Occupied(vec![]),
            holder: Holder {
                operator: "somebody".into(),
                since_unix_s: 0,
                step: "switching".into(),
                transaction: None,
                push: String::new(),
            },
            other: None,
            lacks: Vec::new(),
            partial: None,
            history: Vec::new(),
            earlier: BTreeMap::new(),
            asked: Vec::new(),
            dials: 0,
            received: 0,
            taken: 0,
            offer: Ok(Offer::default()),
            upgrade_ends: End::Done,
            upgrades: 0,
            record: None,
            boots: 0,
            is_lost: false,
            is_installed: true,
            upgraded: None,
            staged: None,
            way: Way::Forward,
            running: BTreeMap::new(),
        }
    }
}

/// A generation in which `project` declares something.
pub fn manifest(generation: u64, project: &str) -> Manifest {
    let placed = Placed {
        slice: Slice::default(),
        provenance: Provenance::default(),
    };
    Manifest {
        generation: GenerationId(generation),
        slices: [(project.parse().unwrap(), placed)].into(),
        ..Manifest::empty()
    }
}

impl Host {
    /// Whether a fault happens now; it then has happened once more.
    pub fn hits(&mut self, fault: Fault) -> bool {
        match self.faults.get_mut(&fault) {
            None | Some(0) => false,
            Some(&mut ALWAYS) => true,
            Some(left) => {
                *left -= 1;
                true
            }
        }
    }

    /// Whether a host takes itself back, and why.
    pub fn taken_back(&mut self, cause: Cause) {
        self.ending = State::TakenBack(cause);
    }
}

impl World {
    /// Changes or reads one host.
    pub fn host<T>(&self, name: &str, change: impl FnOnce(&mut Host) -> T) -> T {
        change(
            self.hosts
                .lock()
                .unwrap()
                .entry(name.to_owned())
                .or_default(),
        )
    }

    /// Somebody else has the next generation on trial from now on, which ends so after a while.
    pub fn somebody_switches(
        &self,
        name: &'static str,
        ends: impl FnOnce(&mut Host) + Send + 'static,
    ) {
        self.host(name, |host| {
            host.other = Some(Holder {
                step: "on trial".into(),
                transaction: Some("other".parse().unwrap()),
                ..host.holder.clone()
            });
            host.manifest = manifest(host.manifest.generation.0 + 1, "shop");
        });
        let world = self.clone();
        tokio::spawn(async move {
            tokio::time::sleep(TRIAL).await;
            world.host(name, |host| {
                host.other = None;
                ends(host);
            });
        });
    }

    /// Something about a transaction is new.
    pub(super) fn publish(&self) {
        self.news.send_modify(|number| *number += 1);
    }

    /// Waits until `find` finds something in a host, looking again with all news.
    pub(super) async fn when<T>(
        &self,
        name: &str,
        mut find: impl FnMut(&mut Host) -> Option<T>,
    ) -> T {
        let mut news = self.news.subscribe();
        loop {
            if let Some(found) = self.host(name, &mut find) {
                return found;
            }
            news.changed().await.unwrap();
        }
    }

    /// Whether a fault happens on a host now.
    pub fn hits(&self, name: &str, fault: Fault) -> bool {
        self.host(name, |host| host.hits(fault))
    }
}

struct Link {
    world: World,
    host: String,
    key: ServerKey,
}

impl Dialer for World {
    fn dial<'a>(
        &'a self,
        target: &'a Target,
        route: Route,
    ) -> Pending<'a, Result<Box<dyn Connection>, Error>> {
        Box::pin(async move {
            let name = target.host.clone();
            let is_fresh = route == Route::Fresh;
            let (is_down, is_other) = self.host(&name, |host| {
                host.dials += 1;
                let is_gone = host.is_lost && host.hits(Fault::Vanishes);
                let is_down = host.hits(Fault::Unreachable)
                    || (is_fresh && host.hits(Fault::FreshUnreachable));
                let is_other = host.dials > 1 && host.hits(Fault::Impostor);
                (is_gone || is_down, is_other)
            });
            if is_down {
                return Err(Error::Unreachable {
                    host: name,
                    at: target.place(),
                    reason: "connection refused".into(),
                });
            }
            let link: Box<dyn Connection> = Box::new(Link {
                world: self.clone(),
                host: name,
                key: key(u8::from(is_other)),
            });
            Ok(link)
        })
    }
}

fn key(seed: u8) -> ServerKey {
    let mut blob = vec![0, 0, 0, 11];
    blob.extend(b"ssh-ed25519");
    blob.extend([0, 0, 0, 32]);
    blob.extend([seed; 32]);
    ServerKey {
        key: HostKey::from_blob(blob).unwrap(),
        verified_by: VerifiedBy::Pinned,
    }
}

impl Connection for Link {
    fn exec(&self, command: &'static str) -> Pending<'_, Result<Session, Error>> {
        let (session, far) = Session::pair(&self.host);
        tokio::spawn(serving::run(
            self.world.clone(),
            self.host.clone(),
            command,
            far,
        ));
        Box::pin(async move { Ok(session) })
    }

    fn server_key(&self) -> &ServerKey {
        &self.key
    }

    fn traffic(&self) -> Traffic {
        Traffic {
            sent: 10,
            received: 20,
        }
    }

    fn disconnect(self: Box<Self>) -> Pending<'static, ()> {
        Box::pin(async {})
    }
}
