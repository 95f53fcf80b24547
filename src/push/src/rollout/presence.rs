//! What is done about a running transaction beside watching it, over connections of its own: the
//! operator comes in again to confirm it, or asks to take it back.

use std::sync::Arc;
use std::time::Duration;

use push_wire::journal::State;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::Access;
use super::contact::{Whereabouts, call_again};
use super::interrupt::VERDICT_AFTER_INTERRUPT_MAX;
use super::ticket::Ticket;
use crate::conversation::{Error, Told, Verdict};
use crate::event::Step;
use crate::transport::Route;

/// The pause between two tries.
pub const CONFIRM_PAUSE: Duration = Duration::from_millis(500);

/// How many logins may be refused before coming in again is given up. A refusal is an answer, and
/// sshd punishes who insists: three of them shut an address out for longer than a deadline lasts
/// (sshd_config(5), PerSourcePenalties, OpenSSH 9.8).
pub const LOGINS_REFUSED_MAX: u32 = 2;

/// A transaction, and all that is needed to speak about it.
#[derive(Clone)]
pub struct Claim {
    pub access: Arc<Access>,
    pub whereabouts: Whereabouts,
    pub ticket: Arc<Ticket>,
    /// Takes what the host's journal says.
    pub verdicts: mpsc::Sender<Verdict>,
}

/// What is said to the host.
#[derive(Clone, Copy)]
enum Word {
    Confirm,
    TakeBack,
}

/// Comes in again over a new connection, all the way, until the host has heard it or its deadline
/// has passed.
pub async fn confirm(claim: Claim, within: Duration) {
    let until = Instant::now() + within;
    let (mut refused, mut told) = (0, String::new());
    while Instant::now() < until && refused < LOGINS_REFUSED_MAX {
        claim.tell(Step::Confirming);
        let why = match say(&claim, Word::Confirm, Route::Fresh).await {
            Ok(Told::Verdict(verdict)) => {
                let is_final = verdict.state.as_ref().is_some_and(State::is_final);
                // Whoever watched may have ended meanwhile; then the verdict is known already.
                let _ = claim.verdicts.send(verdict).await;
                if is_final {
                    return;
                }
                "the host has not ended it yet".to_owned()
            }
            Ok(Told::Refused(refusal)) => format!("the host refused it: {refusal}"),
            Ok(Told::Progress(_)) => "the host answered with something else".to_owned(),
            Err(error) => {
                refused += u32::from(error.is_login_refused());
                error.to_string()
            }
        };
        if told != why {
            told.clone_from(&why);
            claim.tell(Step::NotConfirmed { why });
        }
        tokio::time::sleep(CONFIRM_PAUSE).await;
    }
}

/// Waits for Ctrl-C; then asks the host to take back until it answers or nobody waits any more.
pub async fn take_back(claim: Claim) {
    claim.access.interrupt.asked().await;
    let until = Instant::now() + VERDICT_AFTER_INTERRUPT_MAX;
    while Instant::now() < until {
        if let Ok(Told::Verdict(verdict)) = say(&claim, Word::TakeBack, Route::Shared).await {
            let is_final = verdict.state.as_ref().is_some_and(State::is_final);
            let _ = claim.verdicts.send(verdict).await;
            if is_final {
                return;
            }
        }
        tokio::time::sleep(CONFIRM_PAUSE).await;
    }
}

async fn say(claim: &Claim, word: Word, route: Route) -> Result<Told, Error> {
    // What is confirmed is the way in that will be there afterwards, and no other.
    let whereabouts = match word {
        Word::Confirm => claim.whereabouts.returning(),
        Word::TakeBack => claim.whereabouts.clone(),
    };
    let mut call = call_again(&claim.access, &whereabouts, route).await?;
    let transaction = claim.ticket.transaction.clone();
    let told = match word {
        Word::Confirm => {
            let nonce = claim.ticket.nonce().to_owned();
            call.conversation.confirm(transaction, nonce).await
        }
        Word::TakeBack => call.conversation.take_back(transaction).await,
    };
    call.end(&claim.access).await;
    told
}

impl Claim {
    fn tell(&self, step: Step) {
        self.access.tell(&self.whereabouts.host, step);
    }
}
