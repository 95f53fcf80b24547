//! A push over many hosts: asks them, has them plan, passes the gate, stages everywhere, switches
//! wave by wave, watches, takes back what its policy says, and tells what became of each.
//!
//! ```text
//! push        the phases, in order             access      how hosts are reached; who is told
//! contact     one host's connection            intent      what is wanted, as the push sees it
//! planning    one host's planning              policy      how it goes, what comes of it; data
//! staging     one host's staging               waves       who switches together; pure
//! switching   one host's switch, to a verdict  ticket      a transaction's name and nonce
//! presence    coming in again, to confirm      interrupt   Ctrl-C, once and twice
//! restoring   bringing back what was committed rollback    an earlier generation comes back
//! past        which generation that is; pure   patience    waiting for whoever holds a host
//! deploy      what the inventory declares      bootstrap   what a fresh machine is made into
//! turn        a staged host's turn, and its outcome
//! asking      status and history of many hosts each        many hosts at once, bounded
//! logs        the log of many hosts, and what comes of it
//! upgrade     the operating system of many hosts           overhaul    one host's upgrade, to its end
//! tally       what became of the hosts so far, and what it means for the others
//! ```
//!
//! Must not know how a plan is made, how anything is shown, nor who asked. A failed host is an
//! [`Outcome`], never an error of the push.
//!
//! Invariants: no host is switched while another one's refusal stands; [`Outcome::Committed`] and
//! [`Outcome::TakenBack`] are made in one place each, of a verdict of the host's journal for this
//! very transaction; a host that is as it should be is asked for nothing beyond its Hello.
//!
//! Another thing to do to hosts (another verb) is another [`Intent`], or a question in `asking`.

mod access;
mod asking;
mod bootstrap;
mod contact;
mod deploy;
mod each;
mod intent;
mod interrupt;
mod logs;
mod overhaul;
mod past;
mod patience;
mod planning;
mod policy;
mod presence;
mod push;
mod restoring;
mod rollback;
mod staging;
mod switching;
mod tally;
mod ticket;
mod turn;
mod upgrade;
mod waves;

#[cfg(test)]
mod fake;
#[cfg(test)]
mod tests;

pub use access::Ledger;
pub use access::{Access, PARALLEL_MAX};
pub use asking::{Answers, Present, histories, statuses};
pub use bootstrap::{Bootstrap, Others};
pub use deploy::{Deploy, DeployPlan};
pub use each::each;
pub use intent::{Answer, Change, Gate, Intent, Known, Planned, Plans, Proposal};
pub use interrupt::{Interrupt, InterruptHandle, VERDICT_AFTER_INTERRUPT_MAX};
pub use logs::{Heard, Wanted, Whose, excerpts, follow};
pub use overhaul::{REBOOT_MAX, REBOOT_PAUSE};
pub use policy::{Policy, Pushed};
pub use presence::CONFIRM_PAUSE;
pub use push::push;
pub use rollback::{HISTORY_MAX, Rollback, RollbackPlan, Way};
pub use switching::{REATTACH_MAX, REATTACH_TRIES_MAX, UNKNOWN_TRIES_MAX};
pub use upgrade::{Consent, Offers, Upgrade, Upgraded, upgrade};
pub use waves::waves;

use crate::event::Outcome;
