//! What the host remembers of its latest upgrade: one file, written whole and synced before anything of the
//! phase that it names begins, so that it tells the truth after a power cut.

use std::io::{self, ErrorKind};

use push_wire::name::TransactionId;
use push_wire::upgrade::{End, Order, Phase, Record, Stage};

use crate::layout::Layout;
use crate::machine::{self, Access, Clock, Disk, TEXT_BYTES_MAX};

/// The record, if there ever was an upgrade.
pub fn read<M: Disk>(machine: &M, layout: &Layout) -> io::Result<Option<Record>> {
    match machine.read(&layout.upgrade(), TEXT_BYTES_MAX) {
        // One of a later push-host, or a damaged one, is not understood: nothing is known.
        Ok(text) => Ok(serde_json::from_slice(&text).ok()),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Begins a record, in the place of the latest one. Needs the lock.
pub fn begin<M: Disk + Clock>(machine: &mut M, layout: &Layout, order: &Order) -> io::Result<()> {
    let now = machine.unix_s();
    let record = Record {
        order: order.clone(),
        begun_unix_s: now,
        at_unix_s: now,
        phase: Phase::Ordered,
        failed_before: [].into(),
        restarted: [].into(),
        rebooted: false,
        reboot: Vec::new(),
    };
    write(machine, layout, &record)
}

/// Ends a record that nobody has carried on yet, so that whoever still comes to do it does nothing. Needs the
/// lock.
pub fn call_off<M: Disk + Clock>(
    machine: &mut M,
    layout: &Layout,
    (id, why): (&TransactionId, String),
) -> io::Result<()> {
    let Some(mut record) = read(machine, layout)?.filter(|record| record.order.id == *id) else {
        return Ok(());
    };
    let end = End::Bad {
        at: Stage::Packages,
        why,
        evidence: None,
    };
    enter(machine, layout, (&mut record, Phase::Ended(end)))
}

/// Writes what the record is in another phase.
pub fn enter<M: Disk + Clock>(
    machine: &mut M,
    layout: &Layout,
    (record, phase): (&mut Record, Phase),
) -> io::Result<()> {
    record.phase = phase;
    record.at_unix_s = machine.unix_s();
    write(machine, layout, record)
}

fn write<M: Disk>(machine: &mut M, layout: &Layout, record: &Record) -> io::Result<()> {
    let path = layout.upgrade();
    let folder = path.parent().unwrap_or(&path);
    machine::folders(machine, folder, &Access::private_folder())?;
    let text = serde_json::to_vec(record)?;
    machine::replace(machine, &path, &text, &Access::private_file())?;
    machine.sync(folder)
}
