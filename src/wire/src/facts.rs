//! What a host says of itself. Data only: nothing of it is ever expanded, run or used as a path.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::digest::Digest;

/// The earliest systemd that push works with: what the built-in templates use came with it,
/// `LoadCredential=` last (systemd.exec(5)). Debian 11 has it.
pub const SYSTEMD_MIN: u32 = 247;

/// A host as it was when it was asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    /// `ID` of os-release(5), such as `debian`.
    pub os: String,
    /// `VERSION_ID` of os-release(5), such as `12`.
    pub os_version: String,
    /// The machine as `uname -m` names it: `x86_64`, `aarch64`.
    pub machine: String,
    /// The kernel's release.
    pub kernel: String,
    /// The version of systemd, such as 252.
    pub systemd: Option<u32>,
    /// The version of glibc, such as (2, 36); `None` where there is none.
    pub glibc: Option<(u32, u32)>,
    /// The shared libraries that the loader's cache names.
    pub libraries: BTreeSet<String>,
    /// The ELF interpreters that are there, such as `/lib64/ld-linux-x86-64.so.2`.
    pub interpreters: BTreeSet<String>,
    /// The version of nginx, if it is installed.
    pub nginx: Option<String>,
    /// Whether `nft` is installed.
    pub nft: bool,
    /// Room for what a push brings, by the folder that it goes to.
    pub room: BTreeMap<String, Room>,
    /// The host's public SSH keys, as OpenSSH writes them, without comments.
    pub host_keys: Vec<String>,
    /// The TCP ports that sshd listens on.
    pub ssh_ports: BTreeSet<u16>,
    /// The boot id of the running kernel.
    pub boot_id: String,
    /// The host's own clock, seconds since 1970.
    pub clock_unix_s: u64,
    /// When a scheduled shutdown or reboot comes, seconds since 1970 by the host's own clock.
    #[serde(default)]
    pub shutdown_at_unix_s: Option<u64>,
    /// Whether the system waits for a reboot, as after an upgrade of the kernel.
    #[serde(default)]
    pub reboot_required: bool,
}

/// How near a shutdown may be when a push begins, in seconds: what an ordinary upload, switch and
/// confirmation take together at most. A health check that may take longer comes on top.
pub const SHUTDOWN_NEAR_S: u64 = 15 * 60;

impl Facts {
    /// When the host goes down, if that is before a push that begins now has surely ended.
    pub fn goes_down_soon(&self, health_s: u64) -> Option<u64> {
        let until_s = SHUTDOWN_NEAR_S.saturating_add(health_s);
        self.shutdown_at_unix_s
            .filter(|at| *at <= self.clock_unix_s.saturating_add(until_s))
    }
}

/// What is free on a file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Room {
    /// Bytes that root can still write.
    pub bytes: u64,
    /// Inodes that root can still make; `u64::MAX` where the file system has no such limit.
    pub inodes: u64,
}

/// What an app's ELF programs need of a host; found out on the laptop, held against [`Facts`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Needs {
    /// The machine, as `uname -m` names it; `None` for a script or plain data.
    pub machine: Option<String>,
    /// The interpreter that the kernel must find.
    pub interpreter: Option<String>,
    /// The newest glibc symbol version used.
    pub glibc: Option<(u32, u32)>,
    /// The shared libraries asked for that the release does not bring itself.
    pub libraries: BTreeSet<String>,
}

impl Needs {
    /// Whether the machine, as `uname -m` names it, runs these programs. 64-bit kernels run those of their
    /// 32-bit ancestors.
    pub fn run_on(&self, machine: &str) -> bool {
        self.machine.as_deref().is_none_or(|needed| {
            needed == machine
                || matches!(
                    (needed, machine),
                    ("i686", "x86_64") | ("armv7l", "aarch64" | "armv8l" | "armv6l")
                )
        })
    }
}

/// What `push-host` is, as it says itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Program {
    /// Its version.
    pub version: String,
    /// The SHA-256 of its file.
    pub digest: Digest,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_run_on_their_machine_and_on_its_64_bit_descendants() {
        for (needed, machine, runs) in [
            (None, "riscv64", true),
            (Some("x86_64"), "x86_64", true),
            (Some("i686"), "x86_64", true),
            (Some("armv7l"), "aarch64", true),
            (Some("x86_64"), "i686", false),
            (Some("aarch64"), "x86_64", false),
            (Some("i686"), "aarch64", false),
        ] {
            let needs = Needs {
                machine: needed.map(str::to_owned),
                ..Needs::default()
            };
            assert_eq!(needs.run_on(machine), runs, "{needed:?} on {machine}");
        }
    }
}
