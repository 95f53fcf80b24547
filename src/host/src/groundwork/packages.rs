//! What dpkg has installed, and how the rest is got: finish what was cut short, ask apt for what is lacking,
//! fetch its lists anew where they do not know it or are too old to find it, and never otherwise.

use std::collections::BTreeSet;

use push_wire::groundwork::PackageName;

use super::{GroundworkError, text};
use crate::layout::Layout;
use crate::machine::{Job, Machine, ToolError};

/// The packages of dpkg's status file that are installed and configured (dpkg-query(1)).
pub fn installed(status: &str) -> BTreeSet<&str> {
    stanzas(status)
        .filter(|(_, state)| *state == "installed")
        .map(|(name, _)| name)
        .collect()
}

/// Whether some package is between two states: dpkg was cut short.
fn is_cut_short(status: &str) -> bool {
    stanzas(status).any(|(_, state)| {
        matches!(
            state,
            "half-installed"
                | "unpacked"
                | "half-configured"
                | "triggers-awaited"
                | "triggers-pending"
        )
    })
}

/// Each package with its state, the third word of its `Status`.
fn stanzas(status: &str) -> impl Iterator<Item = (&str, &str)> {
    status.split("\n\n").filter_map(|stanza| {
        let field = |key| stanza.lines().find_map(|line| line.strip_prefix(key));
        let name = field("Package: ")?.trim();
        let state = field("Status: ")?.split_whitespace().nth(2)?;
        Some((name, state))
    })
}

/// Installs packages that are missing.
pub fn install<M: Machine>(
    machine: &mut M,
    layout: &Layout,
    missing: &BTreeSet<PackageName>,
    tell: &mut dyn FnMut(&str),
) -> Result<(), GroundworkError> {
    let updates = machine.list(&layout.dpkg_updates())?;
    if !updates.is_empty() || is_cut_short(&text(machine, &layout.dpkg_status())?) {
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

#[cfg(test)]
mod tests {
    use super::*;

    const STATUS: &str = "Package: base-files\nEssential: yes\nStatus: install ok installed\nDescription: x\n \
                          Status: a word in a text\n\nPackage: gone\nStatus: deinstall ok config-files\n\n\
                          Package: nginx\nStatus: hold ok installed\n";

    #[test]
    fn a_package_is_installed_when_dpkg_says_so_and_not_when_its_files_only_stayed() {
        assert_eq!(installed(STATUS), ["base-files", "nginx"].into());
        assert!(installed("").is_empty());
        assert!(!is_cut_short(STATUS));
        let cut = format!("{STATUS}\nPackage: curl\nStatus: install ok half-configured\n");
        assert!(is_cut_short(&cut) && !installed(&cut).contains("curl"));
    }
}
