//! What an upgrade would do, and what is done about each thing that still runs from a replaced file: a service is
//! restarted, unless others stand on it; then the host needs a reboot.

use std::collections::BTreeSet;
use std::io::{self, ErrorKind};

use push_wire::message::Refusal;
use push_wire::name::UnitName;
use push_wire::upgrade::{Offer, Scope};

use crate::dpkg::Status;
use crate::layout::Layout;
use crate::machine::{Disk, Job, Machine, Outdated, Owner, TEXT_BYTES_MAX};

/// How many packages that ask for a reboot are told.
const PACKAGES_MAX: usize = 20;

/// The beginnings of services that sessions, networks or containers stand on: restarted in the midst of work they
/// take those down. Source: `override_rc` of needrestart, which Debian and Ubuntu ship.
const LASTING: &[&str] = &[
    "dbus",
    "systemd-logind",
    "elogind",
    "gdm",
    "greetd",
    "kdm",
    "nodm",
    "sddm",
    "wdm",
    "xdm",
    "lightdm",
    "slim",
    "lxdm",
    "bird",
    "network",
    "NetworkManager",
    "ModemManager",
    "wpa_supplicant",
    "ifup",
    "openvpn",
    "quagga",
    "frr",
    "tinc",
    "openswan",
    "freeswan",
    "libreswan",
    "strongswan",
    "bluetooth",
    "usbguard",
    "zfs-fuse",
    "xendomains",
    "lxcfs",
    "libvirt",
    "virtlogd",
    "virtlockd",
    "docker",
    "containerd",
];

/// The beginnings of services that are left alone: they end by themselves or with somebody's session, or are
/// push's own.
const PASSING: &[&str] = &[
    "user@",
    "getty@",
    "serial-getty@",
    "console-getty",
    "container-getty@",
    "emergency",
    "rescue",
    "apt-daily",
    "unattended-upgrades",
    "cron-",
    "rc-local",
    "push-transaction",
    "push-packages",
];

/// What is done about a service that runs from a replaced file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cure {
    Restart,
    Reboot,
    None,
}

/// Fetches the lists of packages, and says what an upgrade would do. Changes nothing else. Needs the lock.
pub fn offer<M: Machine>(
    machine: &mut M,
    layout: &Layout,
    scope: Scope,
    tell: &mut dyn FnMut(&str),
) -> Result<Offer, Refusal> {
    let refused = |what: &str, error: &dyn std::fmt::Display| Refusal::Packages {
        what: what.to_owned(),
        output: error.to_string(),
    };
    tell("fetching the lists of packages");
    let fetched = machine.work(&Job::RefreshAll, tell);
    fetched.map_err(|error| refused("the lists of packages could not be fetched", &error))?;
    let packages = machine.packages(scope);
    let packages = packages.map_err(|error| refused("apt cannot tell what it would do", &error))?;
    let failed = |error: io::Error| Refusal::Host {
        why: error.to_string(),
    };
    let text = machine.read(&layout.dpkg_status(), TEXT_BYTES_MAX);
    let text = text.map_err(failed)?;
    let half_done = Status::parse(&String::from_utf8_lossy(&text)).half_done();
    let outdated = machine.outdated().map_err(failed)?;
    Ok(Offer {
        packages,
        half_done,
        restarts: restarts(&outdated),
        reboot: reboot_reasons(machine, layout, &outdated).map_err(failed)?,
    })
}

/// The services that are restarted.
pub(super) fn restarts(outdated: &Outdated) -> BTreeSet<UnitName> {
    let services = outdated.found.keys().filter_map(|owner| match owner {
        Owner::Service(unit) => Some(unit),
        Owner::Init | Owner::Other => None,
    });
    services
        .filter(|unit| cure(unit) == Cure::Restart)
        .cloned()
        .collect()
}

/// Why the host needs a reboot, one sentence each.
pub(super) fn reboot_reasons<M: Disk>(
    machine: &M,
    layout: &Layout,
    outdated: &Outdated,
) -> io::Result<Vec<String>> {
    let mut reasons = Vec::new();
    if machine.stat(&layout.reboot_required())?.is_some() {
        let text = match machine.read(&layout.reboot_required_by(), TEXT_BYTES_MAX) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(error),
        };
        let text = String::from_utf8_lossy(&text).into_owned();
        let packages: BTreeSet<&str> = text.split_whitespace().take(PACKAGES_MAX).collect();
        let packages: Vec<&str> = packages.into_iter().collect();
        reasons.push(match packages.as_slice() {
            [] => "an installed package asks for it".to_owned(),
            names => format!("asked for by {}", names.join(", ")),
        });
    }
    let kernels = outdated.kernels.iter();
    reasons.extend(kernels.map(|kernel| format!("{kernel} came since the boot")));
    for (owner, path) in &outdated.found {
        let who = match owner {
            Owner::Init => "systemd",
            Owner::Service(unit) if cure(unit) == Cure::Reboot => unit.as_str(),
            Owner::Service(_) | Owner::Other => continue,
        };
        reasons.push(format!(
            "{who} runs from {}, which was replaced",
            path.display()
        ));
    }
    Ok(reasons)
}

fn cure(unit: &UnitName) -> Cure {
    let begins = |names: &[&str]| names.iter().any(|name| unit.as_str().starts_with(name));
    if begins(PASSING) {
        Cure::None
    } else if begins(LASTING) {
        Cure::Reboot
    } else {
        Cure::Restart
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_stand_on_needs_a_reboot_and_sshd_is_a_service_like_any_other() {
        let cure = |unit: &str| super::cure(&unit.parse().unwrap());
        for unit in [
            "ssh.service",
            "nginx.service",
            "systemd-udevd.service",
            "api.service",
        ] {
            assert_eq!(cure(unit), Cure::Restart, "{unit}");
        }
        for unit in [
            "dbus.service",
            "dbus-broker.service",
            "systemd-logind.service",
            "docker.service",
        ] {
            assert_eq!(cure(unit), Cure::Reboot, "{unit}");
        }
        for unit in [
            "user@1000.service",
            "getty@tty1.service",
            "push-transaction.service",
        ] {
            assert_eq!(cure(unit), Cure::None, "{unit}");
        }
    }
}
