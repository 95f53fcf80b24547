//! How a transaction goes on, told to whoever asks. What is told comes from its progress file; how it
//! ended, from the journal alone.

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::time::Duration;

use push_wire::digest::Digest;
use push_wire::journal::{Progress, State};
use push_wire::message::{Holder, Refusal, Reply, Request};
use push_wire::name::TransactionId;

use super::channel::{Channel, ChannelError};
use crate::connection::Connection;
use crate::journal::{self, Journal, JournalError};
use crate::launch;
use crate::layout::Layout;
use crate::machine::{Disk, Machine, World};
use crate::progress::{self, Wish};
use crate::status;
use crate::upgrade;

/// The pause between two looks at the progress file; a look is one call of the kernel.
pub(super) const LOOK: Duration = Duration::from_millis(10);

/// After how many looks that found nothing the journal is asked whether the transaction has ended.
pub(super) const LOOKS_UNTIL_JOURNAL: u32 = 20;

/// After how many looks that found nothing systemd is asked whether it still runs: a second.
pub(super) const LOOKS_UNTIL_DOUBT: u32 = 100;

/// How often a transaction may be found neither ended nor running before that is the answer. One that
/// has just ended may be seen so once.
const DOUBTS_MAX: u32 = 3;

/// The longest progress that is read, in bytes; a little more than is ever told.
const PROGRESS_BYTES_MAX: u64 = 8 << 20;

/// The longest wait for one transaction in milliseconds. Its own limits end it long before.
pub(super) const WATCH_MS_MAX: u64 = 31 * 3600 * 1000;

/// Of how many of the latest transactions it stays what they told; each may be megabytes, in memory.
const TOLD_KEPT: usize = 8;

/// Why a transaction cannot be asked anything.
#[derive(Debug, thiserror::Error)]
pub enum WatchError {
    /// Nobody knows it.
    #[error("this host knows no transaction {transaction}")]
    Unknown {
        /// Which.
        transaction: TransactionId,
    },
    /// Only its own operator may confirm it.
    #[error("the nonce is not that of transaction {transaction}")]
    Nonce {
        /// Which.
        transaction: TransactionId,
    },
    /// Only what is on trial can be confirmed.
    #[error("transaction {transaction} is not on trial yet")]
    NotOnTrial {
        /// Which.
        transaction: TransactionId,
    },
    /// A connection that was there before proves nothing.
    #[error("a switch cannot be confirmed over the connection that ordered it")]
    SameConnection,
    /// It cannot be told whether the operator came in again.
    #[error(
        "this host cannot tell one connection from another, so nothing can be confirmed on it: \
         push-host was not started by OpenSSH's or Dropbear's server"
    )]
    NoConnection,
    /// The journal cannot be read.
    #[error("{0}: {help}", help = .0.help())]
    Journal(#[from] JournalError),
    /// The disk failed.
    #[error("{0}")]
    Disk(#[from] io::Error),
}

impl WatchError {
    /// What the operator is told.
    pub fn into_refusal(self) -> Refusal {
        let why = self.to_string();
        match self {
            Self::Unknown { .. }
            | Self::Nonce { .. }
            | Self::NotOnTrial { .. }
            | Self::SameConnection => Refusal::Protocol { why },
            Self::NoConnection | Self::Journal(_) | Self::Disk(_) => Refusal::Host { why },
        }
    }
}

/// Tells everything from the first progress on, and returns the verdict. A wish that comes meanwhile,
/// over the connection that is named, is passed on; it is answered by the verdict.
pub fn watch<M: Machine, W: Write>(
    watched: (&mut M, &Layout),
    (channel, over): (&mut Channel<W>, Option<&Connection>),
    transaction: &TransactionId,
) -> Result<Reply, ChannelError> {
    follow(watched, (channel, Tell::All(over)), transaction)
}

/// The same in silence.
pub fn settled<M: Machine, W: Write>(
    watched: (&mut M, &Layout),
    channel: &mut Channel<W>,
    transaction: &TransactionId,
) -> Result<Reply, ChannelError> {
    follow(watched, (channel, Tell::Verdict), transaction)
}

/// What is told of a transaction.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Tell<'a> {
    All(Option<&'a Connection>),
    Verdict,
}

/// Who says to be the operator of a transaction.
#[derive(Clone, Copy)]
pub struct Claim<'a> {
    /// The transaction.
    pub transaction: &'a TransactionId,
    /// What only its operator knows.
    pub nonce: &'a str,
    /// The connection that it is said over.
    pub over: Option<&'a Connection>,
}

/// Passes a confirmation on, if it is the operator's who began, over another connection than the one
/// that it was ordered over, and the transaction is on trial. Whether it stays is decided by the
/// transaction alone, which has the lock; one that is decided, or whose deadline has passed, is not
/// asked any more. Asked again, the answer is the same: the verdict.
pub fn confirm<M: Machine>(
    machine: &mut M,
    layout: &Layout,
    claim: Claim<'_>,
) -> Result<(), WatchError> {
    let transaction = claim.transaction;
    if nonce_of(machine, layout, transaction)? != Digest::of(claim.nonce) {
        return Err(WatchError::Nonce {
            transaction: transaction.clone(),
        });
    }
    let journal = journal::read(machine, layout)?;
    let trial = match journal.latest(transaction).map(|record| &record.state) {
        Some(State::Probation(trial)) => trial,
        Some(State::Committed | State::TakingBack(_) | State::TakenBack(_)) => return Ok(()),
        None | Some(State::Prepared | State::Switching) => {
            return Err(WatchError::NotOnTrial {
                transaction: transaction.clone(),
            });
        }
    };
    // After a boot, recovery decides; and a deadline is one also while its transaction looks elsewhere.
    let is_too_late = trial.boot_id != machine.boot_id()?
        || trial
            .deadline_ms
            .is_some_and(|deadline_ms| machine.boottime_ms() >= deadline_ms);
    if is_too_late {
        return Ok(());
    }
    let begun_on = progress::request(machine, layout, transaction)?.begun_on;
    match (begun_on.as_ref(), claim.over) {
        (Some(begun_on), Some(over)) if begun_on != over => {}
        (Some(_), Some(_)) => return Err(WatchError::SameConnection),
        (None, _) | (_, None) => return Err(WatchError::NoConnection),
    }
    wish((machine, layout), transaction, Wish::Confirmed)
}

/// Passes on that a transaction is to be taken back.
pub fn take_back<M: Disk>(
    (machine, layout): (&mut M, &Layout),
    transaction: &TransactionId,
) -> Result<(), WatchError> {
    nonce_of(machine, layout, transaction)?;
    wish((machine, layout), transaction, Wish::TakeBack)
}

/// What is under way although nobody has the lock: a transaction that is just beginning, or one that
/// was killed and waits to be recovered.
pub fn under_way<M: Machine>(
    (machine, layout): (&mut M, &Layout),
) -> Result<Option<Holder>, WatchError> {
    let journal = journal::read(machine, layout)?;
    if let Some(holder) = unfinished(&journal) {
        return Ok(Some(holder));
    }
    if !runs(machine) {
        return Ok(None);
    }
    let upgrade = upgrade::read(machine, layout)?.filter(|record| !record.is_final());
    if let Some(record) = upgrade {
        return Ok(Some(upgrade::holder(&record.order, record.begun_unix_s)));
    }
    Ok(Some(Holder {
        operator: "somebody".to_owned(),
        since_unix_s: machine.unix_s(),
        step: "a transaction is beginning, or has ended and tidies up".to_owned(),
        transaction: None,
        push: String::new(),
    }))
}

/// Whether the unit of a transaction runs although none is unfinished: it is just beginning, or has
/// ended and tidies up.
pub fn is_tidying<M: Machine>((machine, layout): (&mut M, &Layout)) -> Result<bool, WatchError> {
    let journal = journal::read(machine, layout)?;
    // An upgrade of the operating system runs in the same unit, for minutes.
    let upgrades = upgrade::read(machine, layout)?.is_some_and(|record| !record.is_final());
    Ok(journal.unfinished().is_none() && !upgrades && runs(machine))
}

/// The transaction that has begun and not ended, as its holder.
pub fn unfinished(journal: &Journal) -> Option<Holder> {
    let record = journal.unfinished()?;
    let about = journal.about(&record.transaction);
    Some(Holder {
        operator: about.map_or_else(
            || "somebody".to_owned(),
            |about| about.provenance.operator.clone(),
        ),
        since_unix_s: record.at_unix_s,
        step: step(&record.state).to_owned(),
        transaction: Some(record.transaction.clone()),
        push: about.map_or_else(String::new, |about| about.provenance.push.clone()),
    })
}

/// Where a transaction stands, in words.
fn step(state: &State) -> &'static str {
    match state {
        State::Prepared => "about to switch",
        State::Switching => "switching",
        State::Probation(_) => "on trial",
        State::TakingBack(_) => "taking back",
        State::Committed | State::TakenBack(_) => "tidying up",
    }
}

/// Removes what transactions told that have ended, save for the latest. Whoever still asks for one gets its
/// verdict, which comes from the journal. The lock is held.
pub fn forget_ended<M: Disk>(
    (machine, layout): (&mut M, &Layout),
    journal: &Journal,
) -> io::Result<()> {
    let latest_first = journal.transactions().into_iter().rev();
    let ended: BTreeSet<&str> = latest_first
        .skip(TOLD_KEPT)
        .map(|(_, last)| last.transaction.as_str())
        .collect();
    let folder = layout.transactions();
    for name in machine.list(&folder)? {
        if ended.contains(name.as_str()) {
            machine.remove_folder(&folder.join(name))?;
        }
    }
    Ok(())
}

fn wish<M: Disk>(
    (machine, layout): (&mut M, &Layout),
    transaction: &TransactionId,
    wish: Wish,
) -> Result<(), WatchError> {
    let journal = journal::read(machine, layout)?;
    let is_over = journal
        .latest(transaction)
        .is_some_and(|record| record.state.is_final());
    if is_over
        || machine
            .stat(layout.transaction(transaction).folder())?
            .is_none()
    {
        // Its verdict is in already, or the host has been booted since and recovery decides.
        return Ok(());
    }
    Ok(progress::ask(machine, layout, (transaction, wish))?)
}

fn nonce_of<M: Disk>(
    machine: &M,
    layout: &Layout,
    transaction: &TransactionId,
) -> Result<Digest, WatchError> {
    let journal = journal::read(machine, layout)?;
    if let Some(about) = journal.about(transaction) {
        return Ok(about.nonce);
    }
    // It may not have written its first record yet.
    if machine
        .stat(&layout.transaction(transaction).request())?
        .is_some()
    {
        return Ok(progress::request(machine, layout, transaction)?.about.nonce);
    }
    Err(WatchError::Unknown {
        transaction: transaction.clone(),
    })
}

fn follow<M: Machine, W: Write>(
    (machine, layout): (&mut M, &Layout),
    (channel, tell): (&mut Channel<W>, Tell<'_>),
    transaction: &TransactionId,
) -> Result<Reply, ChannelError> {
    let mut tail = Tail::default();
    let (mut looks, mut doubts) = (0, 0);
    let until = machine.boottime_ms().saturating_add(WATCH_MS_MAX);
    while machine.boottime_ms() < until {
        let news = tail.news(machine, layout, transaction);
        looks = if news.is_empty() { looks + 1 } else { 0 };
        let over = match tell {
            Tell::All(over) => {
                for progress in news {
                    channel.send(&Reply::Progress(progress))?;
                }
                over
            }
            Tell::Verdict => None,
        };
        let is_due = tail.ended || looks % LOOKS_UNTIL_JOURNAL == 1;
        if is_due && is_over(machine, layout, transaction) {
            break;
        }
        if looks > 0 && looks % LOOKS_UNTIL_DOUBT == 0 {
            doubts = if runs(machine) { 0 } else { doubts + 1 };
            if doubts > DOUBTS_MAX {
                break;
            }
        }
        if let Some(request) = channel.request_within(LOOK)? {
            heed((machine, layout), (channel, over), request)?;
        }
    }
    Ok(verdict(machine, layout, transaction))
}

/// What comes in while a transaction is watched.
fn heed<M: Machine, W: Write>(
    (machine, layout): (&mut M, &Layout),
    (channel, over): (&mut Channel<W>, Option<&Connection>),
    request: Request,
) -> Result<(), ChannelError> {
    let heard = match request {
        Request::Confirm { transaction, nonce } => {
            let claim = Claim {
                transaction: &transaction,
                nonce: &nonce,
                over,
            };
            confirm(machine, layout, claim)
        }
        Request::TakeBack { transaction } => take_back((machine, layout), &transaction),
        Request::Upgrade { .. }
        | Request::Stage(_)
        | Request::Restage(_)
        | Request::Pack { .. }
        | Request::Switch(_)
        | Request::Watch { .. }
        | Request::Status
        | Request::History { .. }
        | Request::Log(_)
        | Request::Survey(_)
        | Request::Earlier { .. }
        | Request::Texts { .. }
        | Request::Offer(_)
        | Request::UpgradeSystem(_) => {
            return Err(ChannelError::OutOfTurn(
                "a request while a transaction is watched",
            ));
        }
    };
    match heard {
        Ok(()) => Ok(()),
        Err(error) => channel.send(&Reply::Refused(Box::new(error.into_refusal()))),
    }
}

fn is_over<M: Disk>(machine: &mut M, layout: &Layout, transaction: &TransactionId) -> bool {
    // A journal that cannot be read now may be readable at the next look.
    let Ok(journal) = journal::read(machine, layout) else {
        return false;
    };
    journal.latest(transaction).is_some_and(|record| {
        record.state.is_final() && journal::is_settled(machine, layout, record).unwrap_or(false)
    })
}

/// Whether the unit of a transaction, or of its recovery, runs.
pub fn runs<M: World>(machine: &M) -> bool {
    let unit = BTreeSet::from([launch::unit()]);
    // Where systemd does not answer, nothing is known, and waiting goes on.
    machine
        .units(&unit)
        .map_or(true, |states| states.iter().any(status::is_up))
}

/// The latest state that nobody takes away any more.
fn verdict<M: Disk>(machine: &mut M, layout: &Layout, transaction: &TransactionId) -> Reply {
    match journal::read_settled(machine, layout) {
        Ok(journal) => Reply::Verdict {
            transaction: transaction.clone(),
            state: journal
                .latest(transaction)
                .map(|record| record.state.clone()),
        },
        Err(error) => Reply::Refused(Box::new(WatchError::from(error).into_refusal())),
    }
}

/// The progress file, as far as it has been told.
#[derive(Default)]
pub(super) struct Tail {
    read: usize,
    ended: bool,
}

impl Tail {
    /// The lines that are new and whole.
    pub(super) fn news<M: Disk>(
        &mut self,
        machine: &M,
        layout: &Layout,
        transaction: &TransactionId,
    ) -> Vec<Progress> {
        let path = layout.transaction(transaction).progress();
        // A file that is not there yet, or cannot be read, has no news.
        let is_longer = machine
            .stat(&path)
            .is_ok_and(|stat| stat.is_some_and(|stat| stat.bytes > self.read as u64));
        if !is_longer {
            return Vec::new();
        }
        let bytes = machine.read(&path, PROGRESS_BYTES_MAX).unwrap_or_default();
        let mut news = Vec::new();
        while let Some(length) = bytes
            .get(self.read..)
            .and_then(|rest| rest.iter().position(|byte| *byte == b'\n'))
        {
            let line = &bytes[self.read..self.read + length];
            self.read += length + 1;
            // A line of a later push-host is skipped: the verdict comes from the journal.
            if let Ok(progress) = serde_json::from_slice(line) {
                self.ended |= matches!(&progress, Progress::State(state) if state.is_final());
                news.push(progress);
            }
        }
        news
    }
}
