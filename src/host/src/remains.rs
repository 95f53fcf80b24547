//! What remains of two generations when a transaction has ended or was cut short: what the side that goes
//! declared, the paths outside that have to follow what is in effect, and what nobody needs any more.
//!
//! It knows no states and no effects; [`crate::transaction`] and [`crate::recover`] decide when.

use std::time::Duration;

use push_wire::manifest::Manifest;
use push_wire::name::GenerationId;

use crate::effects::forget_secrets;
use crate::layout::Layout;
use crate::machine::{Disk, Machine};
use crate::store::{self, StoreError, links, switch};

/// How often taking back is tried again while the host is up: half a second apart at first, then
/// longer, about four minutes in all.
const TAKE_BACK_ROUNDS: u32 = 12;

/// How often it is tried again at boot, when everything else waits for it.
const TAKE_BACK_ROUNDS_AT_BOOT: u32 = 3;

/// The first pause before something is tried again.
pub const RETRY_FIRST: Duration = Duration::from_millis(500);

/// The longest pause before something is tried again.
pub const RETRY_LATEST: Duration = Duration::from_secs(30);

/// Whether the host has been booted since the transaction began.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Since {
    /// It has not: processes of the new generation may run.
    SameBoot,
    /// It has: nothing of either generation is in memory, and units wait for us.
    Booted,
}

impl Since {
    /// How often something that the way back needs is tried.
    pub fn rounds(self) -> u32 {
        match self {
            Self::SameBoot => TAKE_BACK_ROUNDS,
            Self::Booted => TAKE_BACK_ROUNDS_AT_BOOT,
        }
    }
}

/// What the side that goes declares, so that all of it can go. Of a generation that was pruned, or is not
/// as push left it, nothing is known. A disk that fails is asked again: it would leave running what nobody
/// declares. At boot it is given up in the end, because everything else waits.
pub fn gone<M: Machine>(
    machine: &mut M,
    layout: &Layout,
    (id, since): (GenerationId, Since),
) -> Result<Manifest, StoreError> {
    let mut pause = RETRY_FIRST;
    let mut rounds_left = since.rounds();
    loop {
        rounds_left -= 1;
        let error = match read_gone(machine, layout, id) {
            Ok(manifest) => return Ok(manifest),
            Err(error) => error,
        };
        machine.warn(&format!("generation {id} cannot be read: {error}"));
        let is_of_the_disk = matches!(error, StoreError::Disk(_));
        if is_of_the_disk && rounds_left > 0 {
            machine.sleep(pause);
            pause = (pause * 2).min(RETRY_LATEST);
        } else if is_of_the_disk && since == Since::SameBoot {
            return Err(error);
        } else {
            return Ok(Manifest::nothing(id));
        }
    }
}

fn read_gone<M: Disk>(
    machine: &M,
    layout: &Layout,
    id: GenerationId,
) -> Result<Manifest, StoreError> {
    let is_pruned = machine.stat(layout.generation(id).folder())?.is_none();
    if is_pruned {
        return Ok(Manifest::nothing(id));
    }
    store::manifest(machine, layout, id)
}

/// Makes what the journal says true again, on the way back and after a boot: `kept` is what is in effect.
/// A sync that failed may have lost a rename that the running host still saw, and no later sync repairs
/// that; so all of it is looked at anew. Returns whether systemd may have read something else.
pub fn settle<M: Machine>(
    machine: &mut M,
    layout: &Layout,
    (gone, kept): (&Manifest, &Manifest),
) -> Result<bool, StoreError> {
    links::restore(machine, layout, (gone, kept))?;
    let moved = !store::is_current(machine, layout, kept.generation)?;
    if moved {
        switch::point(machine, layout, kept.generation).map_err(StoreError::from)?;
    }
    links::bring_back(machine, layout, kept)?;
    // Somebody put something of their own in a link's place: told, and left alone.
    let foreign = links::occupied(machine, layout, kept)?;
    if !foreign.is_empty() {
        machine.warn(&StoreError::Occupied(foreign).to_string());
    }
    let made = links::lay_where_free(machine, layout, kept)?;
    links::adopt(machine, layout, kept)?;
    Ok(moved || made)
}

/// Removes the links that only the side that lost had, the links made in advance, and opened secrets that
/// somebody was cut off from finishing.
pub fn tidy<M: Disk>(
    machine: &mut M,
    layout: &Layout,
    (gone, kept): (&Manifest, &Manifest),
) -> Result<(), StoreError> {
    links::release(machine, layout, (gone, kept))?;
    forget_secrets(machine, layout, kept)?;
    Ok(switch::forget_ready(machine, layout)?)
}
