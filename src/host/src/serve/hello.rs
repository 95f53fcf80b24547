//! The host's first word.

use std::collections::BTreeMap;

use push_wire::facts::{Facts, Program};
use push_wire::message::{Hello, Holder, Recovered};

use super::watch;
use crate::journal::Journal;
use crate::layout::Layout;
use crate::machine::{Disk, Machine};
use crate::stage::{Error, texts, trees};
use crate::{journal, lock, store};

/// Says who is there, what is in effect, and what the host has already. Writes nothing.
pub fn hello<M: Machine>(
    (machine, layout): (&mut M, &Layout),
    (program, facts): (Program, Facts),
    fingerprint_key: String,
    recovered: Option<Recovered>,
) -> Result<Hello, Error> {
    let journal = journal::read_settled(machine, layout)?;
    let releases = trees::whole(machine, layout)?
        .into_iter()
        .map(|(app, releases)| {
            let by_tree = releases
                .into_iter()
                .map(|(tree, id)| (tree, id.to_string()));
            (app, by_tree.collect::<BTreeMap<_, _>>())
        })
        .collect();
    let manifest = store::current_manifest(machine, layout)?;
    Ok(Hello {
        protocol: push_wire::PROTOCOL,
        program,
        facts,
        lost: texts::lost(machine, layout, &manifest)?,
        manifest,
        running: running((machine, layout), &journal)?,
        fingerprint_key,
        releases,
        highest: store::highest(machine, layout, &journal)?,
        recovered,
    })
}

/// Reads what there is no first word, and no recovery, without. A program shows by it that it may take the
/// place of the one that wrote this: the number of its version may be the same, and its source older.
pub fn reads<M: Disk>(machine: &M, layout: &Layout) -> Result<(), Error> {
    journal::read(machine, layout)?;
    store::current_manifest(machine, layout)?;
    Ok(())
}

/// Who is at it. The journal's word comes before that of the lock: it says where a transaction stands, and a
/// recovery of one is its going on. Whoever holds the lock only to tidy up after a transaction that has ended
/// is not at it: what is in effect stays.
fn running<M: Machine>(
    (machine, layout): (&mut M, &Layout),
    journal: &Journal,
) -> Result<Option<Holder>, Error> {
    if let Some(unfinished) = watch::unfinished(journal) {
        return Ok(Some(unfinished));
    }
    let has_ended = |holder: &Holder| {
        let transaction = holder.transaction.as_ref();
        let last = transaction.and_then(|transaction| journal.latest(transaction));
        last.is_some_and(|record| record.state.is_final())
    };
    Ok(lock::holder(machine, layout)?.filter(|holder| !has_ended(holder)))
}
