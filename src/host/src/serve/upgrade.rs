//! An upgrade of the operating system, ordered and told. It runs in the unit that transactions run in, so that
//! there is never one beside the other; what is told comes from its progress file, and how it stands from its
//! record alone.

use std::io::Write;

use push_wire::message::{Refusal, Reply};
use push_wire::name::TransactionId;
use push_wire::upgrade::{Phase, Record};

use super::Outside;
use super::channel::{Channel, ChannelError};
use super::watch::{self, LOOK, LOOKS_UNTIL_DOUBT, LOOKS_UNTIL_JOURNAL, Tail, WATCH_MS_MAX};
use crate::layout::Layout;
use crate::machine::Machine;
use crate::upgrade;

/// How often an upgrade may be found neither ended nor running before it is taken up. One that has just ended, or
/// is just beginning, may be seen so once.
const DOUBTS_MAX: u32 = 2;

/// How often one session takes it up.
const TAKEN_UP_MAX: u32 = 3;

/// Tells everything since boot, and returns how it stands when it has ended, or waits for a reboot, or cannot be
/// taken up any more.
pub fn follow<M: Machine, W: Write>(
    (machine, layout): (&mut M, &Layout),
    (channel, outside): (&mut Channel<W>, &mut impl Outside),
    id: &TransactionId,
) -> Result<Reply, ChannelError> {
    let mut tail = Tail::default();
    let (mut looks, mut doubts, mut taken_up) = (0, 0, 0);
    let until = machine.boottime_ms().saturating_add(WATCH_MS_MAX);
    while machine.boottime_ms() < until {
        let news = tail.news(machine, layout, id);
        looks = if news.is_empty() { looks + 1 } else { 0 };
        for progress in news {
            channel.send(&Reply::Progress(progress))?;
        }
        if looks % LOOKS_UNTIL_JOURNAL == 1 && has_stopped(machine, layout, id) {
            break;
        }
        if looks > 0 && looks % LOOKS_UNTIL_DOUBT == 0 {
            doubts = if watch::runs(machine) { 0 } else { doubts + 1 };
        }
        if doubts > DOUBTS_MAX {
            if taken_up == TAKEN_UP_MAX {
                break;
            }
            (doubts, taken_up) = (0, taken_up + 1);
            machine.warn(&format!(
                "nobody carries the upgrade {id} on: it is taken up"
            ));
            if let Err(why) = outside.upgrade(id) {
                machine.warn(&why);
            }
        }
        if channel.request_within(LOOK)?.is_some() {
            return Err(ChannelError::OutOfTurn(
                "a request while an upgrade is watched",
            ));
        }
    }
    Ok(stands(machine, layout, id))
}

/// Whether nothing more will happen before a reboot, if ever.
fn has_stopped<M: Machine>(machine: &M, layout: &Layout, id: &TransactionId) -> bool {
    // A record that cannot be read now may be readable at the next look.
    let Ok(Some(record)) = upgrade::read(machine, layout) else {
        return false;
    };
    let waits = match &record.phase {
        Phase::Rebooting { boot_id } => machine.boot_id().is_ok_and(|now| now == *boot_id),
        Phase::Ordered
        | Phase::Packages
        | Phase::Restarting
        | Phase::Checking
        | Phase::Ended(_) => false,
    };
    record.order.id != *id || record.is_final() || waits
}

fn stands<M: Machine>(machine: &M, layout: &Layout, id: &TransactionId) -> Reply {
    let known = |record: &Record| record.order.id == *id;
    match upgrade::read(machine, layout) {
        Ok(Some(record)) if known(&record) => Reply::Upgrade(Box::new(record)),
        Ok(_) => Reply::Refused(Box::new(Refusal::Protocol {
            why: format!("this host knows no upgrade {id}"),
        })),
        Err(error) => Reply::Refused(Box::new(Refusal::Host {
            why: error.to_string(),
        })),
    }
}
