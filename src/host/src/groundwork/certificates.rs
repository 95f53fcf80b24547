//! Certificates of an authority: which are there, how one is got, and which nobody needs any more.
//!
//! certbot keeps each under its lineage's name, in three places: `live` (links), `archive` (contents) and
//! `renewal` (settings), and writes the settings last. One that was cut short is swept away before it is
//! asked for again, for certbot would call the new one otherwise.

use std::collections::BTreeSet;
use std::io;

use push_wire::certificate::{Certificate, PREFIX, WEBROOT};
use push_wire::manifest::Manifest;
use zeroize::Zeroizing;

use super::{GroundworkError, text};
use crate::layout::Layout;
use crate::machine::{self, Access, Disk, Machine, Tool};

/// What the settings of renewal hold once they are whole.
const SETTINGS: &str = "[renewalparams]";

/// What the name of a file of settings ends in.
const CONF: &str = ".conf";

/// Whether a certificate is there with its key, and is renewed.
pub fn is_there<M: Disk>(machine: &M, layout: &Layout, wanted: &Certificate) -> io::Result<bool> {
    let settings = layout.renewal(&format!("{}{CONF}", wanted.lineage()));
    for (path, holds) in [
        (layout.at(&wanted.chain()), "-----BEGIN CERTIFICATE-----"),
        (layout.at(&wanted.key()), "PRIVATE KEY-----"),
        (settings, SETTINGS),
    ] {
        // One of them is the key.
        if !Zeroizing::new(text(machine, &path)?).contains(holds) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Gets a certificate. nginx is running by then, or the challenge could not be answered.
pub fn get<M: Machine>(
    machine: &mut M,
    layout: &Layout,
    wanted: &Certificate,
    tell: &mut dyn FnMut(&str),
) -> Result<(), GroundworkError> {
    remove(machine, layout, &wanted.lineage())?;
    let webroot = layout.at(WEBROOT);
    machine::folders(machine, &webroot, &Access::public_folder())?;
    machine.run(&Tool::ReloadNginx)?;
    tell(&format!("asking for a {wanted}"));
    machine.certify(wanted, tell)?;
    if !is_there(machine, layout, wanted)? {
        return Err(GroundworkError::Misplaced(wanted.lineage()));
    }
    // certbot syncs nothing.
    machine.sync_all(&layout.certbot())?;
    Ok(())
}

/// Removes push's own certificates that no generation declares any more, so that nobody tries to renew
/// them for names which are elsewhere by then.
pub fn prune<'a, M: Disk>(
    machine: &mut M,
    layout: &Layout,
    kept: impl Iterator<Item = &'a Manifest>,
) -> io::Result<()> {
    let declared: BTreeSet<String> = kept
        .flat_map(Manifest::certificates)
        .map(Certificate::lineage)
        .collect();
    for file in machine.list(&layout.renewal(""))? {
        let lineage = file.strip_suffix(CONF).unwrap_or_default();
        if lineage.starts_with(PREFIX) && !declared.contains(lineage) {
            remove(machine, layout, lineage)?;
        }
    }
    Ok(())
}

/// The settings go first: without them certbot knows nothing of the rest.
fn remove<M: Disk>(machine: &mut M, layout: &Layout, lineage: &str) -> io::Result<()> {
    machine.remove(&layout.renewal(&format!("{lineage}{CONF}")))?;
    for folder in ["live", "archive"] {
        machine.remove_folder(&layout.certbot().join(folder).join(lineage))?;
    }
    Ok(())
}
