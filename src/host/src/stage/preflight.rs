//! What a host must have before a byte is uploaded: tools, what programs need, room, disks that can be
//! written, and time. All but the try of the disks is pure.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use push_wire::facts::{Facts, Needs, Room, SYSTEMD_MIN};
use push_wire::manifest::{Manifest, Slice};
use push_wire::message::Refusal;
use push_wire::name::AppName;

use crate::layout::Layout;
use crate::machine::{self, Access, Disk};

/// The name of the file by which a disk is tried.
const PROBE: &str = ".push-probe";

/// What stays free on every file system, in bytes: enough for the host to log, for the journal, and
/// for the apps to notice.
const RESERVE_BYTES: u64 = 64 << 20;

/// What stays free on every file system, in inodes.
const RESERVE_INODES: u64 = 1_000;

/// What a push brings to one folder.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Load {
    /// Bytes.
    pub bytes: u64,
    /// Files, folders and links.
    pub inodes: u64,
}

/// Refuses where a tool is missing that the slice needs and does not bring itself.
pub fn tools(facts: &Facts, slice: &Slice) -> Result<(), Refusal> {
    let missing = |tool: &str, needed_for: String| {
        Err(Refusal::Tool {
            tool: tool.to_owned(),
            needed_for,
        })
    };
    if facts.systemd.is_none_or(|found| found < SYSTEMD_MIN) {
        return missing(
            &format!("systemd {SYSTEMD_MIN} or later"),
            "every switch".to_owned(),
        );
    }
    if let (None, Some(app)) = (&facts.nginx, slice.sites.keys().next())
        && !slice.groundwork.brings("nginx")
    {
        return missing("nginx", format!("the site of {app}"));
    }
    if !facts.nft && slice.firewall.is_some() && !slice.groundwork.brings("nft") {
        return missing("nft", "the firewall".to_owned());
    }
    Ok(())
}

/// Refuses programs that would not start here.
pub fn needs(facts: &Facts, needs: &BTreeMap<AppName, Needs>) -> Result<(), Refusal> {
    for (app, needs) in needs {
        if let Some(why) = lacks(facts, needs) {
            return Err(Refusal::Needs {
                app: app.clone(),
                why,
            });
        }
    }
    Ok(())
}

fn lacks(facts: &Facts, needs: &Needs) -> Option<String> {
    if let Some(machine) = &needs.machine
        && !needs.run_on(&facts.machine)
    {
        return Some(format!(
            "it is built for {machine}, this host is {}",
            facts.machine
        ));
    }
    if let Some(interpreter) = &needs.interpreter
        && !facts.interpreters.contains(interpreter)
    {
        return Some(format!("its loader {interpreter} is not here"));
    }
    if let Some(wanted) = needs.glibc {
        let shown = |(major, minor): (u32, u32)| format!("{major}.{minor}");
        match facts.glibc {
            Some(found) if found >= wanted => {}
            Some(found) => {
                let (wanted, found) = (shown(wanted), shown(found));
                return Some(format!("it needs glibc {wanted}, this host has {found}"));
            }
            None => {
                return Some(format!(
                    "it needs glibc {}, this host has none",
                    shown(wanted)
                ));
            }
        }
    }
    let missing: Vec<&str> = needs
        .libraries
        .difference(&facts.libraries)
        .map(String::as_str)
        .collect();
    (!missing.is_empty()).then(|| format!("these libraries are not here: {}", missing.join(", ")))
}

/// Refuses where what is brought would leave less than the reserve.
pub fn room(
    room: &BTreeMap<String, Room>,
    brought: &BTreeMap<String, Load>,
) -> Result<(), Refusal> {
    // The folders may share one file system, so each is held against all that is brought.
    let load = Load {
        bytes: brought
            .values()
            .map(|load| load.bytes)
            .fold(0, u64::saturating_add),
        inodes: brought
            .values()
            .map(|load| load.inodes)
            .fold(0, u64::saturating_add),
    };
    for folder in brought.keys() {
        let Some(room) = room.get(folder) else {
            continue;
        };
        let refuse = |why| {
            Err(Refusal::Room {
                folder: folder.clone(),
                why,
            })
        };
        let bytes = load.bytes.saturating_add(RESERVE_BYTES);
        if room.bytes < bytes {
            return refuse(format!(
                "it needs {bytes} bytes with the reserve, {} are free",
                room.bytes
            ));
        }
        let inodes = load.inodes.saturating_add(RESERVE_INODES);
        if room.inodes < inodes {
            return refuse(format!(
                "it needs {inodes} inodes with the reserve, {} are free (`df -i {folder}`)",
                room.inodes
            ));
        }
    }
    Ok(())
}

/// Refuses a host that goes down before a push has surely ended: a switch should not race a shutdown.
/// Asked before anything is staged, and again before the switch, which may come much later.
pub fn stays_up(facts: &Facts, health_s: u64) -> Result<(), Refusal> {
    match facts.goes_down_soon(health_s) {
        Some(at_unix_s) => Err(Refusal::GoesDown { at_unix_s }),
        None => Ok(()),
    }
}

/// Tries on every file system that is written to what a switch will do there: a new file, its sync, a
/// rename, the sync of its folder. A disk that fails is better found out while nothing has begun.
pub fn writable<M: Disk>(machine: &mut M, layout: &Layout) -> io::Result<()> {
    for folder in [layout.push(), layout.apps(), layout.state(), layout.run()] {
        let mut there = folder.as_path();
        while machine.stat(there)?.is_none() {
            there = there.parent().unwrap_or(Path::new("/"));
        }
        let probe = there.join(PROBE);
        machine::replace(machine, &probe, b"push", &Access::private_file())?;
        machine.sync(there)?;
        machine.remove(&probe)?;
    }
    Ok(())
}

/// What a generation itself brings: its texts, its folders, its links.
pub fn generation(manifest: &Manifest, texts_bytes: u64) -> Load {
    let entries = manifest.units().len() * 3
        + manifest.sites().len()
        + manifest.files().len() * 8
        + manifest.secrets().len() * 2
        + manifest.apps().len()
        + 16;
    Load {
        bytes: texts_bytes,
        inodes: entries as u64,
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use push_wire::digest::Digest;
    use push_wire::firewall::{Firewall, Ping};
    use push_wire::manifest::Text;

    pub(crate) fn facts() -> Facts {
        Facts {
            os: "debian".into(),
            os_version: "12".into(),
            machine: "x86_64".into(),
            kernel: "6.1".into(),
            systemd: Some(252),
            glibc: Some((2, 36)),
            libraries: ["libc.so.6".to_owned()].into(),
            interpreters: ["/lib64/ld-linux-x86-64.so.2".to_owned()].into(),
            nginx: Some("1.22.1".into()),
            nft: true,
            room: [
                (
                    "/srv".to_owned(),
                    Room {
                        bytes: 1 << 40,
                        inodes: 1 << 20,
                    },
                ),
                (
                    "/etc/push".to_owned(),
                    Room {
                        bytes: 1 << 40,
                        inodes: 1 << 20,
                    },
                ),
                (
                    "/var/lib/push".to_owned(),
                    Room {
                        bytes: 1 << 40,
                        inodes: u64::MAX,
                    },
                ),
            ]
            .into(),
            host_keys: vec![],
            ssh_ports: [22].into(),
            boot_id: "b".into(),
            clock_unix_s: 0,
            shutdown_at_unix_s: None,
            reboot_required: false,
        }
    }

    #[test]
    fn a_missing_tool_is_named_with_what_needs_it() {
        let mut slice = Slice::default();
        slice.sites.insert(
            "api".parse().unwrap(),
            Text {
                digest: Digest::of(""),
            },
        );
        let mut bare = facts();
        bare.nginx = None;
        assert!(tools(&facts(), &slice).is_ok());
        let Err(Refusal::Tool { tool, needed_for }) = tools(&bare, &slice) else {
            panic!()
        };
        assert_eq!(
            (tool.as_str(), needed_for.as_str()),
            ("nginx", "the site of api")
        );
        let firewall = Firewall {
            allow: [].into(),
            ping: Ping::Answered,
            logins: push_wire::firewall::Logins::Unlimited,
        };
        let slice = Slice {
            firewall: Some(firewall),
            ..Slice::default()
        };
        bare.nft = false;
        assert!(matches!(tools(&bare, &slice), Err(Refusal::Tool { tool, .. }) if tool == "nft"));
    }

    #[test]
    fn a_program_that_would_not_start_is_refused_with_the_reason() {
        let good = Needs {
            machine: Some("x86_64".into()),
            interpreter: Some("/lib64/ld-linux-x86-64.so.2".into()),
            glibc: Some((2, 36)),
            libraries: ["libc.so.6".to_owned()].into(),
        };
        assert_eq!(lacks(&facts(), &good), None);
        let older = Needs {
            machine: Some("i686".into()),
            ..good.clone()
        };
        assert_eq!(lacks(&facts(), &older), None, "as the plan has it");
        for (wrong, says) in [
            (
                Needs {
                    machine: Some("aarch64".into()),
                    ..good.clone()
                },
                "built for aarch64",
            ),
            (
                Needs {
                    interpreter: Some("/lib/ld-musl-x86_64.so.1".into()),
                    ..good.clone()
                },
                "ld-musl",
            ),
            (
                Needs {
                    glibc: Some((2, 41)),
                    ..good.clone()
                },
                "needs glibc 2.41, this host has 2.36",
            ),
            (
                Needs {
                    libraries: ["libpq.so.5".to_owned()].into(),
                    ..good.clone()
                },
                "libpq.so.5",
            ),
        ] {
            let refused = needs(&facts(), &[("api".parse().unwrap(), wrong)].into());
            let Err(Refusal::Needs { why, .. }) = refused else {
                panic!("{says}")
            };
            assert!(why.contains(says), "{why}");
        }
        let none = Facts {
            glibc: None,
            ..facts()
        };
        assert!(lacks(&none, &good).unwrap().contains("has none"));
    }

    #[test]
    fn room_is_refused_by_bytes_and_by_inodes_with_the_reserve() {
        let load = |bytes, inodes| -> BTreeMap<String, Load> {
            [("/srv".to_owned(), Load { bytes, inodes })].into()
        };
        let found = |bytes, inodes| -> BTreeMap<String, Room> {
            [("/srv".to_owned(), Room { bytes, inodes })].into()
        };
        let just = RESERVE_BYTES + 100;
        assert!(room(&found(just, 5_000), &load(100, 10)).is_ok());
        let refused = room(&found(just - 1, 5_000), &load(100, 10));
        assert!(matches!(refused, Err(Refusal::Room { why, .. }) if why.contains("bytes")));
        let refused = room(&found(just, RESERVE_INODES), &load(100, 10));
        assert!(matches!(refused, Err(Refusal::Room { why, .. }) if why.contains("inodes")));
        let refused = room(&found(u64::MAX - 1, u64::MAX), &load(u64::MAX, 1));
        assert!(refused.is_err(), "sizes that overflow are too large");
    }

    #[test]
    fn a_host_that_goes_down_before_a_push_would_end_is_left_alone_and_no_other() {
        let at = |at| Facts {
            clock_unix_s: 1_000_000,
            shutdown_at_unix_s: at,
            ..facts()
        };
        assert!(stays_up(&at(None), 0).is_ok());
        assert!(stays_up(&at(Some(1_000_000 + 16 * 60)), 0).is_ok());
        for (soon, health_s) in [
            (0, 0),
            (999_999, 0),
            (1_000_060, 0),
            (1_000_000 + 16 * 60, 120),
        ] {
            let refused = stays_up(&at(Some(soon)), health_s);
            assert_eq!(refused, Err(Refusal::GoesDown { at_unix_s: soon }));
        }
    }

    #[test]
    fn a_systemd_that_cannot_run_a_switch_is_named() {
        for found in [None, Some(SYSTEMD_MIN - 1)] {
            let old = Facts {
                systemd: found,
                ..facts()
            };
            let refused = tools(&old, &Slice::default());
            assert!(matches!(refused, Err(Refusal::Tool { tool, .. }) if tool.contains("247")));
        }
    }
}
