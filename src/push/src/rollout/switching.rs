//! One host's switch, from the order to a verdict of its journal. The host does it alone; here it
//! is only watched. When the connection is lost the host is called again and asked for the same
//! transaction, until its journal has said how it ended or nobody waits any longer.
//!
//! Invariant: [`End::Committed`] and [`End::TakenBack`] are made by [`judge`] alone, of a verdict
//! for this very transaction. Whatever else happens is [`End::Unknown`].

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::Duration;

use push_wire::journal::{Cause, Evidence, Progress, State};
use push_wire::message::{Refusal, Switch};
use push_wire::name::{GenerationId, TransactionId};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use super::contact::{Contact, milliseconds};
use super::interrupt::{Interrupt, VERDICT_AFTER_INTERRUPT_MAX};
use super::presence::{Claim, confirm, take_back};
use super::ticket::Ticket;
use crate::conversation::{SILENCE_MAX, Told, Verdict};
use crate::event::{Confirm, Obstacle, ObstacleKind, Phase, Step};

/// How long a host that was lost is called again before it is in doubt.
pub const REATTACH_MAX: Duration = Duration::from_secs(180);

/// How often a host is called again during one switch.
pub const REATTACH_TRIES_MAX: u32 = 60;

/// How long a host may tell nothing new of a switch, over however many connections, before it is in doubt:
/// one silence that a conversation bears, and another after it was called again.
pub const NEWS_MAX: Duration = SILENCE_MAX.saturating_mul(2);

/// How often a host may say that its journal does not know the transaction before it is in doubt:
/// the order may still be on its way to it.
pub const UNKNOWN_TRIES_MAX: u32 = 5;

/// The pause before a host is called again; it doubles, with jitter.
const PAUSE: Duration = Duration::from_millis(250);

/// The longest such pause.
const PAUSE_MAX: Duration = Duration::from_secs(8);

/// Verdicts that may wait to be looked at.
const VERDICTS_MAX: usize = 4;

/// How long the watch may still take to bring the evidence once another connection has brought the
/// verdict.
const EVIDENCE_WAIT: Duration = Duration::from_secs(2);

/// What is to be done.
#[derive(Debug, Clone, Copy)]
pub struct Order {
    /// The staged generation.
    pub to: GenerationId,
    /// How long the operator has to come in again; `None` when health alone decides.
    pub confirm_within: Option<Duration>,
}

/// What came of it.
#[derive(Debug)]
pub struct Switched {
    /// How it ended.
    pub end: End,
    /// The last that the host said of it.
    pub last: Option<State>,
    /// What the host found before it undid anything.
    pub evidence: Option<Box<Evidence>>,
}

/// How a switch ended.
#[derive(Debug)]
pub enum End {
    /// The journal says that it stays.
    Committed,
    /// The journal says that it is undone.
    TakenBack(Cause),
    /// The host refused to begin.
    Refused(Box<Refusal>),
    /// It was not even ordered.
    NotOrdered(Obstacle),
    /// It was ordered, and the order is known to have been lost on its way.
    NeverArrived(Obstacle),
    /// Nobody knows.
    Unknown {
        /// The run.
        transaction: TransactionId,
        /// Why.
        why: String,
    },
}

/// Has a host switch, and watches.
pub async fn switch(contact: &mut Contact, order: Order) -> Switched {
    let whereabouts = contact.whereabouts();
    let Ok(ticket) = Ticket::draw() else {
        return Switched {
            end: End::NotOrdered(no_randomness()),
            last: None,
            evidence: None,
        };
    };
    let (sender, mut verdicts) = mpsc::channel(VERDICTS_MAX);
    let ticket = Arc::new(ticket);
    let claim = Claim {
        access: Arc::clone(&contact.access),
        whereabouts,
        ticket: Arc::clone(&ticket),
        verdicts: sender,
    };
    let interrupt = contact.access.interrupt.clone();
    let mut watch = Watch::new(contact, order, claim);
    watch.aside.spawn(take_back(watch.claim.clone()));
    let end = tokio::select! {
        biased;
        end = watch.until_ended() => end,
        end = elsewhere(&mut verdicts, &ticket.transaction) => {
            let own = timeout(EVIDENCE_WAIT, watch.until_ended()).await;
            own.ok().filter(End::is_known).unwrap_or(end)
        }
        why = nobody_waits(&interrupt) => unknown(&ticket, why),
    };
    // Nothing that had to be confirmed is committed unless it was, also when another connection has
    // brought the verdict before this one told of it.
    if matches!(end, End::Committed) && order.confirm_within.is_some() {
        watch.confirmed();
    }
    Switched {
        end,
        last: watch.last,
        evidence: watch.evidence,
    }
}

/// A verdict that another connection brought.
async fn elsewhere(verdicts: &mut mpsc::Receiver<Verdict>, transaction: &TransactionId) -> End {
    while let Some(verdict) = verdicts.recv().await {
        if let Judged::End(end) = judge(verdict, transaction) {
            return end;
        }
    }
    std::future::pending().await
}

/// Returns why the operator does not wait any more.
async fn nobody_waits(interrupt: &Interrupt) -> &'static str {
    let overdue = async {
        interrupt.asked().await;
        tokio::time::sleep(VERDICT_AFTER_INTERRUPT_MAX).await;
    };
    tokio::select! {
        () = interrupt.left() => "the operator left before the host had ended",
        () = overdue => "the host was asked to take back and has not said that it did",
    }
}

/// What a verdict means for a transaction.
enum Judged {
    End(End),
    /// It goes on.
    Open,
    /// The journal does not know it.
    NotKnown,
    /// It is about something else.
    Foreign,
}

fn judge(verdict: Verdict, transaction: &TransactionId) -> Judged {
    if verdict.transaction != *transaction {
        return Judged::Foreign;
    }
    match verdict.state {
        Some(State::Committed) => Judged::End(End::Committed),
        Some(State::TakenBack(cause)) => Judged::End(End::TakenBack(cause)),
        Some(State::Prepared | State::Switching | State::Probation(_) | State::TakingBack(_)) => {
            Judged::Open
        }
        None => Judged::NotKnown,
    }
}

impl End {
    /// Whether the journal has spoken.
    fn is_known(&self) -> bool {
        matches!(self, Self::Committed | Self::TakenBack(_))
    }
}

/// One switch as it is watched.
struct Watch<'a> {
    contact: &'a mut Contact,
    order: Order,
    claim: Claim,
    /// What runs beside the watch; it ends with it.
    aside: JoinSet<()>,
    ordered: Ordered,
    /// How much progress has been told.
    seen: usize,
    /// How much progress this connection has brought; a watch is told everything from the start.
    brought: usize,
    /// When the host last told something new.
    news: Instant,
    calls: u32,
    not_known: u32,
    /// The generation that was in effect as the order was given.
    from: GenerationId,
    greeting: Greeting,
    operator: Operator,
    last: Option<State>,
    evidence: Option<Box<Evidence>>,
}

/// Whether it was told that the operator has come in again.
#[derive(PartialEq, Eq)]
enum Operator {
    Awaited,
    Come,
}

/// When the host last told what it is.
#[derive(PartialEq, Eq)]
enum Greeting {
    BeforeTheOrder,
    SinceTheOrder,
}

/// Whether the switch has been ordered.
#[derive(PartialEq, Eq)]
enum Ordered {
    NotYet,
    Once,
}

/// Why a watch has to be taken up again.
enum Broken {
    /// The connection is gone.
    Lost(String),
    /// The conversation is there, and the host does not follow the transaction any more.
    Asleep(&'static str),
}

impl<'a> Watch<'a> {
    fn new(contact: &'a mut Contact, order: Order, claim: Claim) -> Self {
        let from = contact.conversation.hello().manifest.generation;
        Self {
            contact,
            order,
            claim,
            aside: JoinSet::new(),
            ordered: Ordered::NotYet,
            seen: 0,
            brought: 0,
            news: Instant::now(),
            calls: 0,
            not_known: 0,
            from,
            greeting: Greeting::BeforeTheOrder,
            operator: Operator::Awaited,
            last: None,
            evidence: None,
        }
    }

    /// Watches until the journal has spoken or nobody can be asked. May be dropped and called again.
    async fn until_ended(&mut self) -> End {
        let mut broken = self.give_order().await;
        loop {
            if broken.is_none() {
                match self.follow().await {
                    Ok(end) => return end,
                    Err(found) => broken = Some(found),
                }
            }
            if let Some(found) = broken.take()
                && let Err(why) = self.take_up(found).await
            {
                return unknown(&self.claim.ticket, &why);
            }
        }
    }

    /// Orders the switch, once. From here on the host may do it, whether the order is known to have
    /// arrived or not.
    async fn give_order(&mut self) -> Option<Broken> {
        if self.ordered == Ordered::Once {
            return None;
        }
        self.ordered = Ordered::Once;
        let ticket = Arc::clone(&self.claim.ticket);
        self.tell(Step::Switching {
            generation: self.order.to,
            transaction: ticket.transaction.clone(),
        });
        let switch = Switch {
            generation: self.order.to,
            transaction: ticket.transaction.clone(),
            nonce: ticket.digest(),
            confirm_within_ms: self.order.confirm_within.map(milliseconds),
        };
        let ordered = self.contact.conversation.switch(switch).await;
        ordered.err().map(|error| Broken::Lost(error.to_string()))
    }

    async fn follow(&mut self) -> Result<End, Broken> {
        loop {
            match self.contact.conversation.told().await {
                Ok(Told::Progress(progress)) => self.progress(progress),
                Ok(Told::Verdict(verdict)) => return self.verdict(verdict),
                // A host that has begun and then says that it refused contradicts itself; its
                // journal is asked again.
                Ok(Told::Refused(refusal)) if self.seen == 0 && self.calls == 0 => {
                    return Ok(End::Refused(refusal));
                }
                Ok(Told::Refused(_)) => {
                    return Err(Broken::Asleep("the host would not tell how it goes on"));
                }
                Err(error) => return Err(Broken::Lost(error.to_string())),
            }
        }
    }

    fn verdict(&mut self, verdict: Verdict) -> Result<End, Broken> {
        match judge(verdict, &self.claim.ticket.transaction) {
            Judged::End(end) => Ok(end),
            Judged::Open => Err(Broken::Asleep("the host has not ended it yet")),
            Judged::Foreign => Err(Broken::Asleep("the host spoke of another transaction")),
            Judged::NotKnown if self.has_let_go() => Ok(End::NeverArrived(self.never_arrived())),
            Judged::NotKnown => {
                self.not_known += 1;
                // Another greeting tells whether the order can still be on its way.
                let why = "the host's journal does not know of it";
                Err(Broken::Lost(why.to_owned()))
            }
        }
    }

    /// Whether the host can no longer begin what its journal does not know. The session that was to
    /// get the order has the host's lock until it hands it over to the transaction; when nobody had it
    /// as this connection was greeted, neither did that session, and nothing has begun since. A host
    /// that is at another generation by then has done something, whatever its journal says.
    fn has_let_go(&self) -> bool {
        let hello = self.contact.conversation.hello();
        let is_as_it_was = hello.running.is_none() && hello.manifest.generation == self.from;
        self.greeting == Greeting::SinceTheOrder && self.seen == 0 && is_as_it_was
    }

    fn never_arrived(&self) -> Obstacle {
        let host = &self.contact.host;
        Obstacle {
            kind: ObstacleKind::Start,
            code: "push::rollout::order_lost".into(),
            why: format!("the connection to {host} was lost before the order to switch arrived"),
            help: "push again: what was sent is still there".into(),
        }
    }

    /// Takes the watch up again, or says why not.
    async fn take_up(&mut self, broken: Broken) -> Result<(), String> {
        let until = Instant::now() + REATTACH_MAX;
        let mut broken = broken;
        loop {
            self.calls += 1;
            let why = match &broken {
                Broken::Lost(why) => why.clone(),
                Broken::Asleep(why) => (*why).to_owned(),
            };
            if self.is_over() || Instant::now() >= until {
                return Err(why);
            }
            let attempt = self.calls;
            self.tell(Step::Reconnecting {
                during: Phase::Switching,
                attempt,
                why,
            });
            tokio::time::sleep(pause(attempt)).await;
            if let Broken::Lost(_) = broken {
                match self.contact.renew().await {
                    Ok(()) => self.greeting = Greeting::SinceTheOrder,
                    Err(error) if error.is_another_host() => return Err(error.to_string()),
                    Err(error) => {
                        broken = Broken::Lost(error.to_string());
                        continue;
                    }
                }
            }
            let transaction = self.claim.ticket.transaction.clone();
            self.brought = 0;
            match self.contact.conversation.watch(transaction).await {
                Ok(()) => return Ok(()),
                Err(error) => broken = Broken::Lost(error.to_string()),
            }
        }
    }

    fn is_over(&self) -> bool {
        let is_quiet = self.news.elapsed() >= NEWS_MAX;
        is_quiet || self.calls > REATTACH_TRIES_MAX || self.not_known >= UNKNOWN_TRIES_MAX
    }

    fn progress(&mut self, progress: Progress) {
        self.brought += 1;
        if self.brought <= self.seen {
            return;
        }
        self.seen = self.brought;
        self.news = Instant::now();
        match progress {
            Progress::State(state) => self.state(state),
            Progress::Effect(effect) => self.tell(Step::Running { effect }),
            Progress::Confirmed => self.confirmed(),
            Progress::Health {
                app,
                passed,
                wanted,
                answer,
            } => self.tell(Step::Health {
                app,
                passed,
                wanted,
                answer,
            }),
            // Only an upgrade of the operating system tells such.
            Progress::Working { .. } => {}
            Progress::Evidence(evidence) => {
                self.evidence = Some(evidence.clone());
                self.tell(Step::Evidence { evidence });
            }
        }
    }

    fn state(&mut self, state: State) {
        self.last = Some(state.clone());
        match state {
            State::Probation(_) => self.probation(),
            State::TakingBack(cause) => self.tell(Step::TakingBack { cause }),
            // What is final is told when the verdict has said so.
            State::Prepared | State::Switching | State::Committed | State::TakenBack(_) => {}
        }
    }

    /// The host has heard that the operator came in again; told once.
    fn confirmed(&mut self) {
        if self.operator == Operator::Awaited {
            self.operator = Operator::Come;
            self.tell(Step::Confirmed);
        }
    }

    fn probation(&mut self) {
        match self.order.confirm_within {
            Some(within) => {
                let confirm_needed = Confirm::Needed;
                self.tell(Step::Probation {
                    confirm: confirm_needed,
                });
                self.aside.spawn(confirm(self.claim.clone(), within));
            }
            None => self.tell(Step::Probation {
                confirm: Confirm::NotNeeded,
            }),
        }
    }

    fn tell(&self, step: Step) {
        self.contact.access.tell(&self.contact.host, step);
    }
}

/// The pause before a call: doubled each time, between half and the whole of it at random, so that
/// hosts that were lost together are not called together.
pub fn pause(attempt: u32) -> Duration {
    let whole = PAUSE
        .saturating_mul(1 << attempt.saturating_sub(1).min(16))
        .min(PAUSE_MAX);
    let share = RandomState::new().hash_one(attempt) % 512;
    whole / 2 + whole.mul_f64(f64::from(u32::try_from(share).unwrap_or(0)) / 1024.0)
}

fn unknown(ticket: &Ticket, why: &str) -> End {
    End::Unknown {
        transaction: ticket.transaction.clone(),
        why: why.to_owned(),
    }
}

pub fn no_randomness() -> Obstacle {
    Obstacle {
        kind: ObstacleKind::Start,
        code: "push::rollout::randomness".into(),
        why: "the laptop's /dev/urandom cannot be read".into(),
        help: "see that /dev is mounted".into(),
    }
}
