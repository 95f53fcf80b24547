//! A transaction that has not ended and that nobody carries on any more: its process was killed, and
//! so was the recovery that follows. Whoever comes next to such a host has it taken up before
//! anything else is said, by a unit of its own that outlives the session.

use std::time::Duration;

use push_wire::journal::State;
use push_wire::message::Recovered;
use push_wire::name::TransactionId;

use super::{Outside, watch};
use crate::journal;
use crate::layout::Layout;
use crate::lock;
use crate::machine::Machine;
use crate::stage::Error;

/// How often it is looked whether the recovery has come to its end: eight seconds in all, within the
/// laptop's patience for Hello. One that takes longer goes on, and Hello tells that it runs.
const TRIES: u32 = 80;

/// The pause between two such looks.
const PAUSE: Duration = Duration::from_millis(100);

/// Has a transaction that is adrift recovered. Returns how it stands then.
pub fn take_up<M: Machine>(
    machine: &mut M,
    layout: &Layout,
    outside: &mut impl Outside,
) -> Result<Option<Recovered>, Error> {
    let Some(transaction) = adrift(machine, layout)? else {
        return Ok(None);
    };
    machine.warn(&format!(
        "transaction {transaction} has not ended and nobody carries it on: it is recovered"
    ));
    if let Err(why) = outside.recover() {
        machine.warn(&format!("the recovery does not start: {why}"));
    }
    let mut state = latest(machine, layout, &transaction)?;
    for _ in 0..TRIES {
        if state.is_final() {
            break;
        }
        machine.sleep(PAUSE);
        state = latest(machine, layout, &transaction)?;
    }
    Ok(Some(Recovered { transaction, state }))
}

fn adrift<M: Machine>(machine: &mut M, layout: &Layout) -> Result<Option<TransactionId>, Error> {
    let Some(transaction) = unfinished(machine, layout)? else {
        return Ok(None);
    };
    // Whoever carries it on has the lock, or is between two processes of one unit.
    if lock::holder(machine, layout)?.is_some() || watch::runs(machine) {
        return Ok(None);
    }
    // It may have ended since the first look.
    let is_still = unfinished(machine, layout)?.as_ref() == Some(&transaction);
    Ok(is_still.then_some(transaction))
}

fn unfinished<M: Machine>(machine: &M, layout: &Layout) -> Result<Option<TransactionId>, Error> {
    let journal = journal::read(machine, layout)?;
    Ok(journal
        .unfinished()
        .map(|record| record.transaction.clone()))
}

fn latest<M: Machine>(
    machine: &M,
    layout: &Layout,
    transaction: &TransactionId,
) -> Result<State, Error> {
    let journal = journal::read(machine, layout)?;
    Ok(journal
        .latest(transaction)
        .map_or(State::Prepared, |record| record.state.clone()))
}
