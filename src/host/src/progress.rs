//! What a running transaction tells, and what it is asked, through files that live as long as the
//! host is up: `serve` follows them for the laptop. Nothing is decided by what was told; the journal
//! is the judge.

use push_wire::journal::{About, Progress, State};
use push_wire::message::Switch;
use push_wire::name::TransactionId;
use serde::{Deserialize, Serialize};

use crate::connection::Connection;
use crate::layout::Layout;
use crate::machine::{self, Access, Disk, TEXT_BYTES_MAX, World};

/// Above this size in bytes, only changes of the state are told any more.
const PROGRESS_BYTES_MAX: u64 = 4 << 20;

/// What is to be done, as `serve` leaves it for the transaction.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// How the switch is to be carried out.
    pub switch: Switch,
    /// What it is about.
    pub about: About,
    /// The connection over which it was ordered; it cannot be confirmed over that one.
    pub begun_on: Option<Connection>,
}

/// What the operator wants of a running transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wish {
    /// The operator has come in again.
    Confirmed,
    /// It is to be taken back.
    TakeBack,
}

/// Leaves a request for the transaction that will carry it out.
pub fn leave_request<M: Disk>(
    machine: &mut M,
    layout: &Layout,
    request: &Request,
) -> std::io::Result<()> {
    let place = layout.transaction(&request.switch.transaction);
    machine::folders(machine, place.folder(), &Access::private_folder())?;
    let text = serde_json::to_vec(request)?;
    machine::replace(machine, &place.request(), &text, &Access::private_file())
}

/// Takes back what was left for a transaction that has not begun: whatever still comes to carry it out
/// begins nothing.
pub fn withdraw_request<M: Disk>(
    machine: &mut M,
    layout: &Layout,
    transaction: &TransactionId,
) -> std::io::Result<()> {
    machine.remove(&layout.transaction(transaction).request())
}

/// Whether what was left for a transaction is still wanted.
pub fn is_requested<M: Disk>(
    machine: &M,
    layout: &Layout,
    transaction: &TransactionId,
) -> std::io::Result<bool> {
    let path = layout.transaction(transaction).request();
    Ok(machine.stat(&path)?.is_some())
}

/// Reads what was left for a transaction.
pub fn request<M: Disk>(
    machine: &M,
    layout: &Layout,
    transaction: &TransactionId,
) -> std::io::Result<Request> {
    let path = layout.transaction(transaction).request();
    Ok(serde_json::from_slice(
        &machine.read(&path, TEXT_BYTES_MAX)?,
    )?)
}

/// Lets a transaction know what its operator wants. Asking twice is asking once.
pub fn ask<M: Disk>(
    machine: &mut M,
    layout: &Layout,
    (transaction, wish): (&TransactionId, Wish),
) -> std::io::Result<()> {
    let place = layout.transaction(transaction);
    let path = match wish {
        Wish::Confirmed => place.confirmed(),
        Wish::TakeBack => place.take_back(),
    };
    match machine.create(&path, b"", &Access::private_file()) {
        // Two sessions may ask at the same moment.
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        created => created,
    }
}

/// What the operator wants by now. Whoever wants it taken back is heard first.
pub fn wish<M: Disk>(
    machine: &M,
    layout: &Layout,
    transaction: &TransactionId,
) -> std::io::Result<Option<Wish>> {
    let place = layout.transaction(transaction);
    if machine.stat(&place.take_back())?.is_some() {
        return Ok(Some(Wish::TakeBack));
    }
    Ok(machine.stat(&place.confirmed())?.map(|_| Wish::Confirmed))
}

/// Whether a transaction has told this state, which it does once the record of it is durable. Progress
/// that is not there tells nothing.
pub fn has_told<M: Disk>(
    machine: &M,
    layout: &Layout,
    (transaction, state): (&TransactionId, &State),
) -> std::io::Result<bool> {
    let path = layout.transaction(transaction).progress();
    if machine.stat(&path)?.is_none() {
        return Ok(false);
    }
    let told = machine.read(&path, TEXT_BYTES_MAX)?;
    // A line that was cut short, or that a later push-host wrote, is not this one.
    Ok(told.split(|byte| *byte == b'\n').any(
        |line| matches!(serde_json::from_slice(line), Ok(Progress::State(told)) if told == *state),
    ))
}

/// Tells something. That nobody can be told is no reason to stop: it is only said in the host's log.
pub fn tell<M: Disk + World>(
    machine: &mut M,
    layout: &Layout,
    (transaction, progress): (&TransactionId, &Progress),
) {
    if let Err(error) = try_tell(machine, layout, (transaction, progress)) {
        machine.warn(&format!(
            "cannot tell how transaction {transaction} goes on: {error}"
        ));
    }
}

fn try_tell<M: Disk>(
    machine: &mut M,
    layout: &Layout,
    (transaction, progress): (&TransactionId, &Progress),
) -> std::io::Result<()> {
    let path = layout.transaction(transaction).progress();
    let mut line = serde_json::to_vec(progress)?;
    line.push(b'\n');
    match (machine.stat(&path)?, progress) {
        (
            Some(found),
            Progress::Effect(_)
            | Progress::Confirmed
            | Progress::Health { .. }
            | Progress::Evidence(_)
            | Progress::Working { .. },
        ) if found.bytes > PROGRESS_BYTES_MAX => Ok(()),
        (Some(_), _) => machine.append(&path, &line),
        (None, _) => machine.create(&path, &line, &Access::private_file()),
    }
}
