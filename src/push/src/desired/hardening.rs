//! The hardening profiles: what a service may not do on its host.
//!
//! `strict` takes a bare unit from 9.6 (unsafe) to 1.4 (ok) on the scale of
//! `systemd-analyze security`. Each relaxation drops only what its runtime is known to break on.

use crate::inventory::{Hardening, LowPorts, Service};

/// Forbidden to every service that is hardened at all.
const COMMON: &[&str] = &[
    "PrivateTmp=yes",
    "PrivateDevices=yes",
    "ProtectSystem=strict",
    "ProtectHome=yes",
    "ProtectControlGroups=yes",
    "ProtectKernelModules=yes",
    "ProtectKernelTunables=yes",
    "ProtectKernelLogs=yes",
    "ProtectClock=yes",
    "ProtectHostname=yes",
    "ProtectProc=invisible",
    "RestrictRealtime=yes",
    "LockPersonality=yes",
    "SystemCallArchitectures=native",
    "RemoveIPC=yes",
    "UMask=0077",
];

/// What a browser's own sandbox needs: it makes namespaces and changes its root.
const UNLESS_BROWSER: &[&str] = &[
    "NoNewPrivileges=yes",
    "RestrictSUIDSGID=yes",
    "RestrictNamespaces=yes",
];

/// Static programs never make code while they run, and read nothing of `/proc` but themselves.
const STATIC_ONLY: &[&str] = &["MemoryDenyWriteExecute=yes", "ProcSubset=pid"];

/// Calls that services make. A call that is not allowed fails instead of killing: many runtimes try
/// `@resources` (priorities, processors) and go on without.
const CALLS: &[&str] = &[
    "SystemCallFilter=@system-service",
    "SystemCallFilter=~@privileged @resources",
    "SystemCallErrorNumber=EPERM",
];

/// The JVM sets priorities and processors of its threads.
const CALLS_JVM: &[&str] = &[
    "SystemCallFilter=@system-service",
    "SystemCallFilter=~@privileged",
    "SystemCallErrorNumber=EPERM",
];

const CALLS_BROWSER: &[&str] = &[
    "SystemCallFilter=~@clock @cpu-emulation @debug @module @obsolete @raw-io @reboot @swap",
    "SystemCallErrorNumber=EPERM",
];

/// The version of systemd that knows every directive of these profiles: `ProtectProc=` came last.
pub(super) const SINCE: u32 = 247;

/// The lines of a service's profile.
pub(super) fn lines(service: &Service) -> Vec<String> {
    let profile: Vec<&[&str]> = match service.hardening {
        Hardening::Strict => vec![COMMON, UNLESS_BROWSER, STATIC_ONLY, CALLS],
        Hardening::Node => vec![COMMON, UNLESS_BROWSER, CALLS],
        Hardening::Jvm => vec![COMMON, UNLESS_BROWSER, CALLS_JVM],
        Hardening::Browser => vec![COMMON, CALLS_BROWSER],
        Hardening::Off => vec![],
    };
    let mut lines: Vec<String> = profile.concat().into_iter().map(str::to_owned).collect();
    lines.extend(families(service.hardening));
    lines.extend(capabilities(service));
    lines
}

/// Runtimes that list network interfaces ask the kernel by netlink.
fn families(hardening: Hardening) -> Option<String> {
    let families = match hardening {
        Hardening::Strict => "AF_UNIX AF_INET AF_INET6",
        Hardening::Node | Hardening::Jvm | Hardening::Browser => {
            "AF_UNIX AF_INET AF_INET6 AF_NETLINK"
        }
        Hardening::Off => return None,
    };
    Some(format!("RestrictAddressFamilies={families}"))
}

fn capabilities(service: &Service) -> Vec<String> {
    let hardened = service.hardening != Hardening::Off;
    match service.low_ports {
        LowPorts::Refused if hardened => vec!["CapabilityBoundingSet=".to_owned()],
        LowPorts::Refused => vec![],
        LowPorts::Allowed => {
            let mut lines = vec!["AmbientCapabilities=CAP_NET_BIND_SERVICE".to_owned()];
            if hardened {
                lines.push("CapabilityBoundingSet=CAP_NET_BIND_SERVICE".to_owned());
            }
            lines
        }
    }
}
