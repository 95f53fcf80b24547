//! One request after the other. What a session may do next is what it holds: nothing, a generation
//! with something missing, or a staged one. The lock is held from staging until the transaction has
//! been handed over, and goes with this process.

use std::io::{ErrorKind, Write};
use std::path::Path;
use std::time::Duration;

use push_wire::facts::Facts;
use push_wire::journal::About;
use push_wire::message::{Hello, Holder, Refusal, Reply, Request, Switch};
use push_wire::name::{GenerationId, ProjectName, TransactionId};
use push_wire::upgrade::{Order, Scope};

use super::channel::{Channel, ChannelError};
use super::{End, Outside, transfer, upgrade as telling, watch};
use crate::groundwork;
use crate::layout::Layout;
use crate::lock::{self, Lock, LockError};
use crate::machine::{Machine, ToolError};
use crate::progress;
use crate::spool;
use crate::stage::{self, Asked, Prepared};
use crate::upgrade;
use crate::{journal, status};

/// The longest history that is told at once, in transactions.
const HISTORY_MAX: u32 = 1_000;

/// The longest line that is told of work under way, in characters.
const WORKING_CHARS_MAX: usize = 200;

/// How often it is looked whether a transaction that has ended has tidied up.
const TIDY_TRIES: u32 = 300;

/// The pause between two such looks.
const TIDY_PAUSE: Duration = Duration::from_millis(100);

/// One operator's conversation.
pub struct Session<'a, M, O, W> {
    machine: &'a mut M,
    layout: &'a Layout,
    outside: &'a mut O,
    channel: Channel<W>,
    facts: Facts,
    holds: Holds,
}

/// What a session holds.
enum Holds {
    Nothing,
    Missing(Held, Box<Prepared>),
    Staged(Held, Box<Staged>),
}

/// The lock, with what is said of its holder.
struct Held {
    lock: Lock,
    holder: Holder,
}

/// A generation that is ready to be switched to.
struct Staged {
    generation: GenerationId,
    prepared: Prepared,
}

/// What follows a request.
enum Next {
    Reply(Box<Reply>),
    Watch(TransactionId),
    WatchUpgrade(TransactionId),
    Replaced,
}

/// Why a request has no answer of its own.
enum Stop {
    /// It is refused.
    Refused(Refusal),
    /// There is nobody to give an answer to.
    Channel(ChannelError),
}

impl<E: Into<stage::Error>> From<E> for Stop {
    fn from(error: E) -> Self {
        Self::Refused(error.into().into_refusal())
    }
}

impl From<watch::WatchError> for Stop {
    fn from(error: watch::WatchError) -> Self {
        Self::Refused(error.into_refusal())
    }
}

impl From<transfer::TransferError> for Stop {
    fn from(error: transfer::TransferError) -> Self {
        match error {
            transfer::TransferError::Channel(error) => Self::Channel(error),
            transfer::TransferError::Refused(refusal) => Self::Refused(*refusal),
            transfer::TransferError::Disk(error) => Self::from(error),
        }
    }
}

impl<'a, M: Machine, O: Outside, W: Write> Session<'a, M, O, W> {
    /// A conversation in which nothing has been said yet.
    pub fn new(
        (machine, layout): (&'a mut M, &'a Layout),
        outside: &'a mut O,
        channel: Channel<W>,
        facts: Facts,
    ) -> Self {
        Self {
            machine,
            layout,
            outside,
            channel,
            facts,
            holds: Holds::Nothing,
        }
    }

    /// Says Hello, and answers until nobody is there any more.
    pub fn hold(mut self, hello: Hello) -> End {
        let mut said = self
            .channel
            .send(&Reply::Hello(Box::new(hello)))
            .map(|()| None);
        loop {
            match said {
                Ok(None) => {}
                Ok(Some(end)) => return end,
                Err(error) => return self.end(&error),
            }
            said = self.step();
        }
    }

    /// One request and its answer; `Some` when the conversation is over.
    fn step(&mut self) -> Result<Option<End>, ChannelError> {
        let request = self.channel.request()?;
        match self.answer(request) {
            Ok(Next::Reply(reply)) => self.channel.send(&reply)?,
            Ok(Next::Watch(transaction)) => {
                let here = self.outside.connection();
                let watched = (&mut *self.machine, self.layout);
                let listener = (&mut self.channel, here.as_ref());
                let reply = watch::watch(watched, listener, &transaction)?;
                self.channel.send(&reply)?;
            }
            Ok(Next::WatchUpgrade(id)) => {
                let watched = (&mut *self.machine, self.layout);
                let teller = (&mut self.channel, &mut *self.outside);
                let reply = telling::follow(watched, teller, &id)?;
                self.channel.send(&reply)?;
            }
            Ok(Next::Replaced) => return Ok(Some(End::Replaced)),
            Err(Stop::Channel(error)) => return Err(error),
            Err(Stop::Refused(refusal)) => {
                // Whatever was held is let go: the operator begins anew.
                self.holds = Holds::Nothing;
                self.channel.send(&Reply::Refused(Box::new(refusal)))?;
            }
        }
        Ok(None)
    }

    fn end(&mut self, error: &ChannelError) -> End {
        match error {
            ChannelError::Gone => End::Gone,
            ChannelError::Broken(_) | ChannelError::OutOfTurn(_) => {
                let why = error.to_string();
                let refusal = Refusal::Protocol { why: why.clone() };
                match self.channel.send(&Reply::Refused(Box::new(refusal))) {
                    Ok(()) => End::Broken(why),
                    Err(_) => End::Gone,
                }
            }
        }
    }

    fn answer(&mut self, request: Request) -> Result<Next, Stop> {
        let reply = match request {
            Request::Upgrade {
                digest,
                packed_bytes,
            } => {
                let program = (digest, packed_bytes);
                let to = (&mut *self.machine, self.layout);
                let starts = |path: &Path| self.outside.starts(path);
                transfer::upgrade(to, &mut self.channel, program, starts)?;
                return Ok(Next::Replaced);
            }
            Request::Stage(stage) => self.stage(Asked::Stage(stage))?,
            Request::Restage(restage) => self.stage(Asked::Restage(restage))?,
            Request::Pack {
                digest,
                bytes,
                offset,
            } => self.pack((digest, bytes), offset)?,
            Request::Switch(switch) => return self.switch(switch).map(Next::Watch),
            Request::Confirm { transaction, nonce } => {
                let here = self.outside.connection();
                let claim = watch::Claim {
                    transaction: &transaction,
                    nonce: &nonce,
                    over: here.as_ref(),
                };
                watch::confirm(&mut *self.machine, self.layout, claim)?;
                self.settled(&transaction)?
            }
            Request::TakeBack { transaction } => {
                watch::take_back((&mut *self.machine, self.layout), &transaction)?;
                self.settled(&transaction)?
            }
            Request::Watch { transaction } => return Ok(Next::Watch(transaction)),
            Request::Status => {
                let firewall = self.outside.firewall();
                let status = status::status(self.machine, self.layout, firewall)?;
                Reply::Status(Box::new(status))
            }
            Request::History { limit } => {
                let limit = limit.min(HISTORY_MAX);
                Reply::History(status::history(self.machine, self.layout, limit)?)
            }
            Request::Log(asked) => {
                let excerpt = self.machine.excerpt(&asked);
                let failed = |error: ToolError| Refusal::Host {
                    why: error.to_string(),
                };
                Reply::Log(excerpt.map_err(failed)?)
            }
            Request::Survey(wanted) => {
                Reply::Survey(groundwork::survey(self.machine, self.layout, &wanted)?)
            }
            Request::Earlier {
                project,
                generation,
            } => Reply::Earlier(status::earlier(
                self.machine,
                self.layout,
                (&project, generation),
            )),
            Request::Texts { digests } => {
                Reply::Texts(status::texts(self.machine, self.layout, &digests)?)
            }
            Request::Offer(scope) => self.offer(scope)?,
            Request::UpgradeSystem(order) => {
                return self.upgrade_system(&order).map(Next::WatchUpgrade);
            }
        };
        Ok(Next::Reply(Box::new(reply)))
    }

    /// Waits in silence until a transaction has ended: the one answer is its verdict.
    fn settled(&mut self, transaction: &TransactionId) -> Result<Reply, Stop> {
        let watched = (&mut *self.machine, self.layout);
        watch::settled(watched, &mut self.channel, transaction).map_err(Stop::Channel)
    }

    fn stage(&mut self, asked: Asked) -> Result<Reply, Stop> {
        // A second Stage on one connection takes the place of the first.
        self.holds = Holds::Nothing;
        let holder = Holder {
            operator: asked.provenance().operator.clone(),
            since_unix_s: self.machine.unix_s(),
            step: format!("staging {}", asked.project()),
            transaction: None,
            push: asked.provenance().push.clone(),
        };
        let held = self.take(&holder)?;
        let prepared = stage::prepare(self.machine, self.layout, &self.facts, asked)?;
        if prepared.missing.is_empty() {
            return self.finish(held, prepared);
        }
        let reply = Reply::Missing {
            files: prepared.missing.keys().copied().collect(),
            partial: spool::partial(self.machine, self.layout)?,
        };
        self.holds = Holds::Missing(held, Box::new(prepared));
        Ok(reply)
    }

    /// Fetches the lists of packages under the lock, and lets it go again: people take their time to read.
    fn offer(&mut self, scope: Scope) -> Result<Reply, Stop> {
        self.holds = Holds::Nothing;
        let holder = Holder {
            operator: "push upgrade".to_owned(),
            since_unix_s: self.machine.unix_s(),
            step: "fetching the lists of packages".to_owned(),
            transaction: None,
            push: String::new(),
        };
        let _held = self.take(&holder)?;
        let (mut gone, channel) = (None, &mut self.channel);
        let mut tell = |what: &str| {
            if gone.is_none() {
                let what = what.chars().take(WORKING_CHARS_MAX).collect();
                gone = channel.send(&Reply::Working { what }).err();
            }
        };
        let offer = upgrade::offer(self.machine, self.layout, scope, &mut tell)?;
        match gone {
            Some(error) => Err(Stop::Channel(error)),
            None => Ok(Reply::Offer(Box::new(offer))),
        }
    }

    /// Begins an upgrade. Ordered again, over another connection, it is only told.
    fn upgrade_system(&mut self, order: &Order) -> Result<TransactionId, Stop> {
        let id = order.id.clone();
        let known = upgrade::read(self.machine, self.layout)?;
        if known.is_some_and(|record| record.order.id == id) {
            return Ok(id);
        }
        self.holds = Holds::Nothing;
        let held = self.take(&upgrade::holder(order, self.machine.unix_s()))?;
        upgrade::begin(self.machine, self.layout, order)?;
        // The upgrade waits for the lock, which goes once its program runs: nobody gets between.
        if let Err(why) = self.outside.upgrade(&id) {
            // systemd may start it all the same, later: its record tells that it has ended.
            upgrade::call_off(self.machine, self.layout, (&id, why))?;
        }
        drop(held);
        Ok(id)
    }

    /// Takes the lock. A transaction whose verdict is in still tidies up for a moment; that is waited
    /// for, and nothing else is.
    fn take(&mut self, holder: &Holder) -> Result<Held, Stop> {
        // Asked on both sides of the try: a transaction that ends just after it is not a holder.
        let mut tidied = watch::is_tidying((&mut *self.machine, self.layout))?;
        let mut taken = self.try_take(holder);
        for _ in 0..TIDY_TRIES {
            let is_locked = matches!(&taken, Err(Stop::Refused(Refusal::Locked(_))));
            let tidies = is_locked && watch::is_tidying((&mut *self.machine, self.layout))?;
            if !is_locked || !(tidied || tidies) {
                break;
            }
            self.machine.sleep(TIDY_PAUSE);
            tidied = tidies;
            taken = self.try_take(holder);
        }
        taken
    }

    fn try_take(&mut self, holder: &Holder) -> Result<Held, Stop> {
        let lock = lock::take(self.machine, self.layout, holder).map_err(|error| match error {
            LockError::Held(holder) => Stop::Refused(Refusal::Locked(*holder)),
            LockError::Disk(error) => Stop::from(error),
        })?;
        // Between a session's end and its transaction's beginning, and after a transaction that was
        // killed, the lock is free although something is under way.
        if let Some(running) = watch::under_way((&mut *self.machine, self.layout))? {
            return Err(Stop::Refused(Refusal::Locked(running)));
        }
        let holder = holder.clone();
        Ok(Held { lock, holder })
    }

    fn pack(&mut self, pack: (push_wire::digest::Digest, u64), offset: u64) -> Result<Reply, Stop> {
        let Holds::Missing(held, mut prepared) = std::mem::replace(&mut self.holds, Holds::Nothing)
        else {
            return Err(protocol("a pack, but nothing was missing"));
        };
        if pack.1 > prepared.pack_bytes_max() {
            return Err(protocol("a pack that is larger than what is missing"));
        }
        self.receive(&mut prepared, pack, offset)?;
        self.finish(held, *prepared)
    }

    fn receive(
        &mut self,
        prepared: &mut Prepared,
        pack: (push_wire::digest::Digest, u64),
        offset: u64,
    ) -> Result<(), Stop> {
        let to = (&mut *self.machine, self.layout);
        let path = match transfer::pack(to, &mut self.channel, pack, offset) {
            Err(transfer::TransferError::Disk(error)) => return Err(self.let_go(error).into()),
            other => other?,
        };
        match prepared.receive(self.machine, self.layout, &path) {
            Err(stage::Error::Disk(error)) => Err(self.let_go(error).into()),
            other => Ok(other?),
        }
    }

    /// What was uploaded in vain must not keep a full disk full. After any other failure it stays, to
    /// be gone on with.
    fn let_go(&mut self, error: std::io::Error) -> std::io::Error {
        let is_full = matches!(
            error.kind(),
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded
        );
        if is_full && let Err(error) = spool::clear(self.machine, self.layout) {
            self.machine.warn(&error.to_string());
        }
        error
    }

    fn finish(&mut self, mut held: Held, prepared: Prepared) -> Result<Reply, Stop> {
        self.groundwork(&mut held, &prepared)?;
        held.holder.step = format!("checking what {} would be", prepared.project);
        held.lock.tell(self.machine, self.layout, &held.holder)?;
        let (generation, warnings) = prepared.finish(self.machine, self.layout, self.outside)?;
        held.holder.step = format!("generation {generation} is staged, and nothing switched yet");
        held.lock.tell(self.machine, self.layout, &held.holder)?;
        self.holds = Holds::Staged(
            held,
            Box::new(Staged {
                generation,
                prepared,
            }),
        );
        Ok(Reply::Staged {
            generation,
            warnings,
        })
    }

    /// Makes what is lacking of the groundwork, and tells how it goes on. It goes on to its end when
    /// nobody listens any more: half of an installation helps nobody.
    fn groundwork(&mut self, held: &mut Held, prepared: &Prepared) -> Result<(), Stop> {
        let lacking = groundwork::survey(self.machine, self.layout, &prepared.groundwork())?;
        if lacking.is_empty() {
            return Ok(());
        }
        held.holder.step = format!("making the groundwork of {}", prepared.project);
        held.lock.tell(self.machine, self.layout, &held.holder)?;
        let (mut gone, channel) = (None, &mut self.channel);
        let mut tell = |what: &str| {
            if gone.is_none() {
                let what = what.chars().take(WORKING_CHARS_MAX).collect();
                gone = channel.send(&Reply::Working { what }).err();
            }
        };
        groundwork::carry_out(self.machine, self.layout, &lacking, &mut tell)?;
        if let Some(error) = gone {
            return Err(Stop::Channel(error));
        }
        // What was installed is part of what the host is.
        self.facts = self.outside.facts();
        Ok(())
    }

    fn switch(&mut self, switch: Switch) -> Result<TransactionId, Stop> {
        let Holds::Staged(mut held, staged) = std::mem::replace(&mut self.holds, Holds::Nothing)
        else {
            return Err(protocol(
                "a switch, but nothing is staged on this connection",
            ));
        };
        if switch.generation != staged.generation {
            let why = format!(
                "generation {} is staged, not {}",
                staged.generation, switch.generation
            );
            return Err(protocol(&why));
        }
        let now = Facts {
            clock_unix_s: self.machine.unix_s(),
            shutdown_at_unix_s: self.outside.shutdown_at_unix_s(),
            ..self.facts.clone()
        };
        let confirm_s = switch.confirm_within_ms.unwrap_or(0).div_ceil(1000);
        stage::stays_up(&now, staged.prepared.to.health_s().max(confirm_s))?;
        let transaction = switch.transaction.clone();
        let journal = journal::read(self.machine, self.layout)?;
        if journal.knows(&transaction) {
            return Err(protocol(
                "a transaction of this name has been there already",
            ));
        }
        let about = about(&staged.prepared, &switch);
        let request = progress::Request {
            switch,
            about,
            begun_on: self.outside.connection(),
        };
        if let Err(error) = watch::forget_ended((self.machine, self.layout), &journal) {
            self.machine.warn(&format!(
                "what earlier transactions told stays for now: {error}"
            ));
        }
        progress::leave_request(self.machine, self.layout, &request)?;
        held.holder.step = format!("switching to generation {}", staged.generation);
        held.holder.transaction = Some(transaction.clone());
        held.lock.tell(self.machine, self.layout, &held.holder)?;
        // The transaction waits for the lock, which goes once its program runs: nobody gets between.
        match self.outside.launch(&transaction) {
            Ok(()) => drop(held),
            Err(why) => self.call_off(&transaction, why)?,
        }
        Ok(transaction)
    }

    /// systemd did not say that the transaction runs, and may start it all the same, later. It is refused
    /// only once it can begin nothing any more; else its journal is followed, as always. The lock is held.
    fn call_off(&mut self, transaction: &TransactionId, why: String) -> Result<(), Stop> {
        match progress::withdraw_request(self.machine, self.layout, transaction) {
            Ok(()) => Err(Stop::Refused(Refusal::Host { why })),
            Err(error) => {
                self.machine.warn(&format!("{why}; {error}"));
                Ok(())
            }
        }
    }
}

fn about(prepared: &Prepared, switch: &Switch) -> About {
    let project: &ProjectName = &prepared.project;
    About {
        from: prepared.from.generation,
        to: switch.generation,
        project: project.clone(),
        restores: prepared.to.restores,
        provenance: prepared.provenance.clone(),
        confirm_within_ms: switch.confirm_within_ms,
        nonce: switch.nonce,
    }
}

fn protocol(why: &str) -> Stop {
    Stop::Refused(Refusal::Protocol {
        why: why.to_owned(),
    })
}
