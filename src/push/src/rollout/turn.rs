//! A staged host's turn to switch, and what became of it.

use std::sync::Arc;
use std::time::Duration;

use push_wire::message::Refusal;
use push_wire::name::GenerationId;

use super::contact::{Contact, failed, milliseconds};
use super::patience::{Patience, whose};
use super::staging::stage;
use super::switching::{End, Order, Switched, switch};
use super::{Intent, Planned};
use crate::event::Outcome;

/// A host whose new generation is staged.
pub struct Ready<P> {
    pub contact: Contact,
    /// What it was when it was planned for. Whoever calls it again hears what it is then.
    pub planned: Arc<Planned<P>>,
    pub staged: GenerationId,
}

/// How a host's turn ended.
pub enum Ended {
    /// The operator had asked to stop.
    NotBegun,
    /// It could not be staged again.
    NotStaged(Outcome),
    /// It was told to switch.
    Switched(Switched),
}

/// Has a host switch. A host that lost its connection while it waited, and its lock with it, is staged
/// once more.
pub async fn take<I: Intent>(
    ready: &mut Ready<I::Plan>,
    order: Order,
    again: (&Arc<I>, Patience),
) -> Ended {
    // A turn may come after the operator has asked to stop.
    if ready.contact.access.interrupt.is_asked() {
        return Ended::NotBegun;
    }
    let switched = switch(&mut ready.contact, order).await;
    match &switched.end {
        End::NeverArrived(_) => switch_again(ready, order, again).await,
        End::Committed
        | End::TakenBack(_)
        | End::Refused(_)
        | End::NotOrdered(_)
        | End::Unknown { .. } => Ended::Switched(switched),
    }
}

/// Stages once more what a host has let go because its connection was lost, and tells it to switch.
async fn switch_again<I: Intent>(
    ready: &mut Ready<I::Plan>,
    order: Order,
    again: (&Arc<I>, Patience),
) -> Ended {
    let interrupt = ready.contact.access.interrupt.clone();
    let (intent, patience) = again;
    let staging = stage(&mut ready.contact, intent, &ready.planned, patience);
    match interrupt.unless_asked(staging).await {
        None => Ended::NotBegun,
        Some(Err(outcome)) => Ended::NotStaged(outcome),
        Some(Ok(staged)) => {
            ready.staged = staged;
            let order = Order {
                to: staged,
                ..order
            };
            Ended::Switched(switch(&mut ready.contact, order).await)
        }
    }
}

/// What became of a host that was, or was not, told to switch.
/// `push` is the name of this push, and `confirm_within` how long the operator had to come in again.
pub fn outcome<P>(
    ready: &Ready<P>,
    ended: Ended,
    (push, confirm_within): (&str, Option<Duration>),
) -> Outcome {
    let from = ready.planned.known.hello.manifest.generation;
    let switched = match ended {
        Ended::NotBegun => return Outcome::Interrupted,
        Ended::NotStaged(outcome) => return outcome,
        Ended::Switched(switched) => switched,
    };
    match switched.end {
        End::Committed => Outcome::Committed {
            from,
            to: ready.staged,
        },
        End::TakenBack(cause) => Outcome::TakenBack {
            back_at: from,
            cause,
            evidence: switched.evidence,
        },
        End::Refused(refusal) => match *refusal {
            Refusal::Locked(holder) => Outcome::Locked {
                whose: whose(&holder, push),
                holder,
            },
            other => Outcome::Refused {
                refusal: Box::new(other),
            },
        },
        End::NotOrdered(obstacle) | End::NeverArrived(obstacle) => failed(obstacle),
        End::Unknown { transaction, why } => Outcome::InDoubt {
            transaction,
            last: switched.last,
            why,
            confirm_within_ms: confirm_within.map(milliseconds),
        },
    }
}
