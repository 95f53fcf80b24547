//! How packages that are lacking are got: finish what was cut short, ask apt for what is lacking,
//! fetch its lists anew where they do not know it or are too old to find it, and never otherwise.

use std::collections::BTreeSet;

use push_wire::groundwork::PackageName;

use super::{GroundworkError, text};
use crate::dpkg::Status;
use crate::layout::Layout;
use crate::machine::{Job, Machine, ToolError};

/// Installs packages that are missing.
pub fn install<M: Machine>(
    machine: &mut M,
    layout: &Layout,
    missing: &BTreeSet<PackageName>,
    tell: &mut dyn FnMut(&str),
) -> Result<(), GroundworkError> {
    let updates = machine.list(&layout.dpkg_updates())?;
    let status = text(machine, &layout.dpkg_status())?;
    if !updates.is_empty() || !Status::parse(&status).half_done().is_empty() {
        tell("finishing what an earlier installation left half done");
        machine.work(&Job::Finish, tell)?;
    }
    let mut fresh = false;
    if machine.available(missing)? != *missing {
        tell("fetching the lists of packages");
        machine.work(&Job::Refresh, tell)?;
        fresh = true;
        let known = machine.available(missing)?;
        let unknown: BTreeSet<PackageName> = missing.difference(&known).cloned().collect();
        if !unknown.is_empty() {
            return Err(GroundworkError::Unknown(unknown));
        }
    }
    tell("installing packages");
    let job = Job::Install(missing.clone());
    match machine.work(&job, tell) {
        // Lists that are too old name files which are gone.
        Err(ToolError::Failed { .. }) if !fresh => {
            tell("fetching the lists of packages");
            machine.work(&Job::Refresh, tell)?;
            Ok(machine.work(&job, tell)?)
        }
        done => Ok(done?),
    }
}
