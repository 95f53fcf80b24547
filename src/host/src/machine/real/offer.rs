//! What the package sources offer: the words of `apt-get --simulate` and `apt-cache policy`, and dpkg's status
//! file, made into values. Only lines whose form has not changed since Debian 8 are read: the lists for people
//! ("have been kept back", "Not upgrading") have other words and columns with every release.

use std::collections::{BTreeMap, BTreeSet};

use push_wire::upgrade::{Change, Held, Hold, Package, PackageVersion, Packages, Removal};

use crate::dpkg::Status;

/// What an upgrade would do, and what stays although there is something newer.
pub(super) fn packages(
    (simulated, policy): (&str, &str),
    status: &Status<'_>,
) -> Result<Packages, String> {
    let mut changes: Vec<Change> = Vec::new();
    let mut removals: Vec<Removal> = Vec::new();
    for line in simulated.lines() {
        let wrong = || format!("apt-get said something that push does not understand: {line}");
        if let Some(rest) = line.strip_prefix("Inst ") {
            changes.push(change(rest).ok_or_else(wrong)?);
        } else if let Some(rest) = line.strip_prefix("Remv ") {
            removals.push(removal(rest).ok_or_else(wrong)?);
        }
    }
    changes.sort_by(|one, other| one.package.cmp(&other.package));
    removals.sort_by(|one, other| one.package.cmp(&other.package));
    let moved: BTreeSet<&Package> = changes
        .iter()
        .map(|change| &change.package)
        .chain(removals.iter().map(|removal| &removal.package))
        .collect();
    let candidates = candidates(policy);
    let mut held: Vec<Held> = status
        .installed()
        .filter(|(package, _)| !moved.contains(package))
        .filter_map(|(package, entry)| {
            let to = *candidates.get(package.as_str())?;
            let why = if entry.is_held() {
                Hold::Marked
            } else {
                Hold::KeptBack
            };
            (to != entry.version).then_some(Held {
                from: entry.version.parse().ok()?,
                to: to.parse().ok()?,
                package,
                why,
            })
        })
        .collect();
    held.sort_by(|one, other| one.package.cmp(&other.package));
    Ok(Packages {
        changes,
        removals,
        held,
    })
}

/// `name [from] (to Origin:1/suite, Origin:1/suite-security [arch]) [what it breaks]`; a new package has no
/// `[from]`.
fn change(rest: &str) -> Option<Change> {
    let (package, rest) = rest.split_once(' ')?;
    let (from, rest) = match rest.strip_prefix('[') {
        Some(rest) => {
            let (from, rest) = rest.split_once("] ")?;
            (Some(from.parse().ok()?), rest)
        }
        None => (None, rest),
    };
    let inside = rest.strip_prefix('(')?.split_once(')')?.0;
    let (to, origins) = inside.split_once(' ')?;
    Some(Change {
        package: named(package)?,
        from,
        to: to.parse().ok()?,
        security: is_security(origins),
    })
}

/// `name [version]`, perhaps with what it breaks behind.
fn removal(rest: &str) -> Option<Removal> {
    let (package, rest) = rest.split_once(' ')?;
    let version: PackageVersion = rest.strip_prefix('[')?.split_once(']')?.0.parse().ok()?;
    Some(Removal {
        package: named(package)?,
        version,
    })
}

/// apt names a package of the native architecture without it, or with it where that is asked for.
fn named(text: &str) -> Option<Package> {
    text.parse().ok()
}

/// Debian's archive is labelled `Debian-Security`, Ubuntu's suites end in `-security`.
fn is_security(origins: &str) -> bool {
    let mut words = origins.split([' ', ',']);
    words.any(|word| word.starts_with("Debian-Security:") || word.ends_with("-security"))
}

/// The version that would be installed of each package, as `apt-cache policy` lists them: `name:` at the start of
/// a line, and below it, set in, `Candidate: 1.2-3` or `Candidate: (none)`.
pub(super) fn candidates(said: &str) -> BTreeMap<&str, &str> {
    let mut known = BTreeMap::new();
    let mut package = None;
    for line in said.lines() {
        if !line.starts_with(' ') {
            // With another architecture's name behind it, it is another package.
            package = line.strip_suffix(':');
        } else if let Some(version) = line.trim_start().strip_prefix("Candidate: ")
            && version != "(none)"
        {
            known.extend(package.map(|package| (package, version)));
        }
    }
    known
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(simulated: &str) -> Vec<String> {
        let found = packages((simulated, ""), &Status::default()).unwrap();
        let changes = found.changes.iter().map(|change| {
            let from = change
                .from
                .as_ref()
                .map_or("new".to_owned(), ToString::to_string);
            let security = if change.security { " security" } else { "" };
            format!("{} {from} {}{security}", change.package, change.to)
        });
        let removals = found.removals.iter();
        let removals = removals.map(|gone| format!("-{} {}", gone.package, gone.version));
        changes.chain(removals).collect()
    }

    #[test]
    fn each_debian_and_ubuntu_is_understood_whatever_its_lists_for_people_look_like() {
        // Debian 11 (apt 2.2), as a user.
        let bullseye = "NOTE: This is only a simulation!\n      apt-get needs root privileges for real execution.\n\
            Reading package lists...\nThe following packages have been kept back:\n  linux-image-amd64\n\
            Inst libc-bin [2.31-13+deb11u6] (2.31-13+deb11u11 Debian-Security:11/oldoldstable-security [amd64]) []\n\
            Inst libc6 [2.31-13+deb11u6] (2.31-13+deb11u11 Debian-Security:11/oldoldstable-security [amd64])\n\
            Conf libc6 (2.31-13+deb11u11 Debian-Security:11/oldoldstable-security [amd64])\n";
        assert_eq!(
            read(bullseye),
            [
                "libc-bin 2.31-13+deb11u6 2.31-13+deb11u11 security",
                "libc6 2.31-13+deb11u6 2.31-13+deb11u11 security",
            ]
        );
        // Debian 12 (apt 2.6).
        let bookworm = "Inst python3-jwt [2.6.0-1] (2.6.0-1+deb12u1 Debian:12.15/oldstable, \
            Debian-Security:12/oldstable-security [all])\n\
            Inst linux-image-6.1.0-40-amd64 (6.1.148-1 Debian:12.12/stable [amd64])\n\
            Inst libc6:i386 [2.36-9] (2.36-9+deb12u4 Debian:12.4/stable [i386]) [libc6:amd64 on libc6:i386]\n";
        assert_eq!(
            read(bookworm),
            [
                "libc6:i386 2.36-9 2.36-9+deb12u4",
                "linux-image-6.1.0-40-amd64 new 6.1.148-1",
                "python3-jwt 2.6.0-1 2.6.0-1+deb12u1 security",
            ]
        );
        // Debian 13 (apt 3.0): other columns for people, the same lines for programs.
        let trixie = "Not upgrading:\n  linux-image-amd64\n\nUpgrading:\n  openssl\n\nREMOVING:\n  old-tool\n\nSummary:\n  \
            Upgrading: 1, Installing: 0, Removing: 1, Not Upgrading: 1\n\
            Remv old-tool [0.9]\nInst openssl [3.5.1-1] (3.5.4-1~deb13u1 Debian-Security:13/stable-security [amd64])\n";
        assert_eq!(
            read(trixie),
            ["openssl 3.5.1-1 3.5.4-1~deb13u1 security", "-old-tool 0.9"]
        );
        // Ubuntu 22.04 and 24.04, and a source without a Release file.
        let ubuntu = "Inst curl [7.81.0-1ubuntu1.16] (7.81.0-1ubuntu1.18 Ubuntu:22.04/jammy-updates, \
            Ubuntu:22.04/jammy-security [amd64])\n\
            Inst nginx [1.24.0-2ubuntu7.3] (1.24.0-2ubuntu7.4 Ubuntu:24.04/noble-updates [amd64])\n\
            Inst local-tool [1.0] (1.1 [all])\nInst odd-tool [1.0] (1.1  [all])\n";
        assert_eq!(
            read(ubuntu),
            [
                "curl 7.81.0-1ubuntu1.16 7.81.0-1ubuntu1.18 security",
                "local-tool 1.0 1.1",
                "nginx 1.24.0-2ubuntu7.3 1.24.0-2ubuntu7.4",
                "odd-tool 1.0 1.1",
            ]
        );
    }

    #[test]
    fn a_line_that_is_not_understood_is_an_error_and_no_smaller_upgrade() {
        for odd in [
            "Inst x",
            "Inst -y [1] (2 Debian:12/stable [all])",
            "Inst curl [1] (2)",
            "Inst curl [1] 2 Debian [all]",
            "Remv curl",
        ] {
            assert!(packages((odd, ""), &Status::default()).is_err(), "{odd}");
        }
        assert!(read("Reading package lists...\n").is_empty());
    }

    #[test]
    fn what_stays_although_it_could_be_newer_is_told_with_its_reason() {
        let status = "Package: dpkg\nStatus: install ok installed\nArchitecture: amd64\nVersion: 1\n\n\
            Package: nginx\nStatus: hold ok installed\nArchitecture: amd64\nVersion: 1.22\n\n\
            Package: qemu-utils\nStatus: install ok installed\nArchitecture: amd64\nVersion: 6.2\n\n\
            Package: curl\nStatus: install ok installed\nArchitecture: amd64\nVersion: 7\n\n\
            Package: local\nStatus: install ok installed\nArchitecture: all\nVersion: 3\n";
        let policy = "dpkg:\n  Installed: 1\n  Candidate: 1\n  Version table:\n *** 1 100\n\
            nginx:\n  Installed: 1.22\n  Candidate: 1.24\nqemu-utils:\n  Installed: 6.2\n  Candidate: 6.3\n  \
            Version table:\n     6.3 500 (phased 30%)\ncurl:\n  Installed: 7\n  Candidate: 8\n\
            local:\n  Installed: 3\n  Candidate: (none)\n";
        let simulated = "Inst curl [7] (8 Debian:12/stable [amd64])\n";
        let found = packages((simulated, policy), &Status::parse(status)).unwrap();
        let held: Vec<(&str, Hold)> = found
            .held
            .iter()
            .map(|held| (held.package.as_str(), held.why))
            .collect();
        assert_eq!(
            held,
            [("nginx", Hold::Marked), ("qemu-utils", Hold::KeptBack)]
        );
    }

    #[test]
    fn a_package_without_a_candidate_cannot_be_had() {
        let said = "nginx:\n  Installed: (none)\n  Candidate: 1.22.1-9\n  Version table:\n     \
                    1.22.1-9 500\nghost:\n  Installed: (none)\n  Candidate: (none)\n  Version table:\n\
                    g++:\n  Installed: 4:12.2.0-3\n  Candidate: 4:12.2.0-3\n";
        assert_eq!(
            candidates(said).into_keys().collect::<Vec<_>>(),
            ["g++", "nginx"]
        );
        assert!(candidates("N: Unable to locate package x\n").is_empty());
    }
}
