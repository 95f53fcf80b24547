//! One transaction at a time on a host, and who is at it. The lock is the kernel's: it goes with the
//! process that holds it, so a stale one cannot exist. Who holds it stands beside it in words, for
//! people only; nothing is decided by the words.
//!
//! A transaction that has the lock still looks whether the generation that it was planned against is
//! the one in effect: between staging and switching somebody else may have had the lock.

use std::time::Duration;

use push_wire::message::Holder;

use crate::layout::Layout;
use crate::machine::{self, Access, Clock, Disk, Held};

/// The longest description of a holder that is read, in bytes.
const HOLDER_BYTES_MAX: u64 = 64 << 10;

/// How often the lock is tried to be taken by a newcomer: half a second in all.
const TRIES: u32 = 25;

/// How often it is tried by the one that it is handed over to: ten seconds in all, because a loaded
/// host may be slow to return from starting it.
const HAND_OVER_TRIES: u32 = 500;

/// The pause between two tries.
const PAUSE: Duration = Duration::from_millis(20);

/// How often the brief lock is tried to be taken: ten seconds in all, for what takes well under one.
const BRIEF_TRIES: u32 = 500;

/// Why the lock was not taken.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Somebody else is at it.
    #[error("{} has been at it since {} (seconds since 1970): {}", .0.operator, .0.since_unix_s, .0.step)]
    Held(Box<Holder>),
    /// The lock itself cannot be used.
    #[error("the lock cannot be taken: {0}")]
    Disk(#[from] std::io::Error),
}

impl LockError {
    /// What to do about it.
    pub fn help(&self) -> &'static str {
        match self {
            Self::Held(_) => "wait until it is done, or look with `push status`",
            Self::Disk(_) => {
                "look at /run/push on the host; push-host needs to write there as root"
            }
        }
    }
}

/// The lock, until this value goes.
#[derive(Debug)]
pub struct Lock {
    _held: Held,
}

/// Takes the lock, or says who has it.
/// Somebody may be just looking whether it is free, or handing over: so it is tried for a moment.
pub fn take<M: Disk + Clock>(
    machine: &mut M,
    layout: &Layout,
    holder: &Holder,
) -> Result<Lock, LockError> {
    try_to_take(machine, layout, (holder, TRIES))
}

/// Takes the lock from a session that hands it over, once that has let it go.
pub fn take_over<M: Disk + Clock>(
    machine: &mut M,
    layout: &Layout,
    holder: &Holder,
) -> Result<Lock, LockError> {
    try_to_take(machine, layout, (holder, HAND_OVER_TRIES))
}

fn try_to_take<M: Disk + Clock>(
    machine: &mut M,
    layout: &Layout,
    (holder, tries): (&Holder, u32),
) -> Result<Lock, LockError> {
    machine::folders(machine, &layout.run(), &Access::public_folder())?;
    let mut held = machine.lock(&layout.lock())?;
    for _ in 1..tries {
        if held.is_some() {
            break;
        }
        machine.sleep(PAUSE);
        held = machine.lock(&layout.lock())?;
    }
    let Some(held) = held else {
        return Err(LockError::Held(Box::new(describe(machine, layout))));
    };
    let lock = Lock { _held: held };
    lock.tell(machine, layout, holder)?;
    Ok(lock)
}

/// Waits for the lock of what is made once for all sessions, and takes it. Two operators may come to a
/// host at the same time before either has the lock of a push.
pub fn take_briefly<M: Disk + Clock>(machine: &mut M, layout: &Layout) -> std::io::Result<Held> {
    machine::folders(machine, &layout.run(), &Access::public_folder())?;
    for _ in 0..BRIEF_TRIES {
        if let Some(held) = machine.lock(&layout.brief_lock())? {
            return Ok(held);
        }
        machine.sleep(PAUSE);
    }
    Err(std::io::Error::other(format!(
        "{} has been held by another push-host for too long; see `fuser -v` on it",
        layout.brief_lock().display()
    )))
}

impl Lock {
    /// Tells others at which step the holder is.
    pub fn tell<M: Disk>(
        &self,
        machine: &mut M,
        layout: &Layout,
        holder: &Holder,
    ) -> std::io::Result<()> {
        let text = serde_json::to_vec(holder)?;
        machine::replace(machine, &layout.holder(), &text, &Access::public_file())
    }
}

/// Who holds the lock now; `None` if nobody does.
pub fn holder<M: Disk>(machine: &mut M, layout: &Layout) -> std::io::Result<Option<Holder>> {
    if machine.stat(&layout.lock())?.is_none() {
        return Ok(None);
    }
    match machine.lock(&layout.lock())? {
        Some(_free) => Ok(None),
        None => Ok(Some(describe(machine, layout))),
    }
}

/// Who says to hold the lock. Words that cannot be read are no reason to call it free.
fn describe<M: Disk>(machine: &M, layout: &Layout) -> Holder {
    machine
        .read(&layout.holder(), HOLDER_BYTES_MAX)
        .ok()
        .and_then(|text| serde_json::from_slice(&text).ok())
        .unwrap_or_else(|| Holder {
            operator: "somebody".to_owned(),
            since_unix_s: 0,
            step: "just beginning".to_owned(),
            transaction: None,
            push: String::new(),
        })
}
