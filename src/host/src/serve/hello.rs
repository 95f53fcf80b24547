//! The host's first word.

use std::collections::BTreeMap;

use push_wire::facts::{Facts, Program};
use push_wire::message::{Hello, Recovered};

use super::watch;
use crate::layout::Layout;
use crate::machine::Machine;
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
        running: lock::holder(machine, layout)?.or_else(|| watch::unfinished(&journal)),
        fingerprint_key,
        releases,
        highest: store::highest(machine, layout, &journal)?,
        recovered,
    })
}
