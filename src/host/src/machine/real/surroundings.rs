//! What else is worth knowing about a host in trouble: who listens, which file systems are nearly
//! full, and which paths a process still uses.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};

use super::PROC_BYTES_MAX;
use crate::layout::Layout;

/// How many listening sockets are told.
const LISTENING_MAX: usize = 100;

/// From this share of blocks or inodes on a file system is nearly full, in percent.
const NEARLY_FULL_PERCENT: u64 = 95;

/// The state of a listening socket in `/proc/net/tcp`. Source: include/net/tcp_states.h of Linux.
const LISTEN: &str = "0A";

/// TCP sockets that listen: address and port.
pub(super) fn listening() -> Vec<String> {
    let mut found = BTreeSet::new();
    for file in ["/proc/net/tcp", "/proc/net/tcp6"] {
        // Without IPv6 the second file is missing.
        let text = super::disk::read(Path::new(file), PROC_BYTES_MAX).unwrap_or_default();
        found.extend(String::from_utf8_lossy(&text).lines().filter_map(listener));
    }
    found.into_iter().take(LISTENING_MAX).collect()
}

/// Reads one line: `sl local_address rem_address st …`, addresses in hexadecimal words of the host's
/// byte order.
fn listener(line: &str) -> Option<String> {
    let mut fields = line.split_whitespace();
    let (address, port) = fields.nth(1)?.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    (fields.nth(1)? == LISTEN).then_some(())?;
    let words: Option<Vec<u32>> = (0..address.len() / 8)
        .map(|word| u32::from_str_radix(address.get(word * 8..word * 8 + 8)?, 16).ok())
        .collect();
    let bytes: Vec<u8> = words?.into_iter().flat_map(u32::to_ne_bytes).collect();
    match bytes.len() {
        4 => Some(format!(
            "{}:{port}",
            IpAddr::from(Ipv4Addr::from(<[u8; 4]>::try_from(bytes).ok()?))
        )),
        16 => Some(format!(
            "[{}]:{port}",
            IpAddr::from(Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?))
        )),
        _ => None,
    }
}

/// File systems that are nearly full, of those that push and its apps write to.
pub(super) fn nearly_full(layout: &Layout) -> Vec<String> {
    let folders = [
        layout.at("/"),
        layout.push(),
        layout.apps(),
        layout.state(),
        layout.run(),
        layout.at("/tmp"),
    ];
    let mut seen = BTreeSet::new();
    let mut found = Vec::new();
    for folder in folders {
        let Ok(room) = rustix::fs::statvfs(&folder) else {
            continue;
        };
        if !seen.insert(room.f_fsid) {
            continue;
        }
        for (what, total, free) in [
            ("space", room.f_blocks, room.f_bavail),
            ("inodes", room.f_files, room.f_ffree),
        ] {
            let used_percent = (total.saturating_sub(free) * 100)
                .checked_div(total)
                .unwrap_or(0);
            if used_percent >= NEARLY_FULL_PERCENT {
                found.push(format!(
                    "{}: {used_percent} % of its {what} used",
                    folder.display()
                ));
            }
        }
    }
    found
}

/// The paths below `folder` that a process runs from, works in, has for its root, has mapped, or sees
/// by a mount of its own. A process that ends while it is looked at is not an error.
pub(super) fn in_use(folder: &Path) -> io::Result<BTreeSet<PathBuf>> {
    let own = mounts(Path::new("/proc/self"));
    let mut namespaces: BTreeSet<PathBuf> =
        fs::read_link("/proc/self/ns/mnt").into_iter().collect();
    let mut used = BTreeSet::new();
    for entry in fs::read_dir("/proc")? {
        let process = entry?.path();
        let is_process = process.file_name().is_some_and(|name| {
            name.to_string_lossy()
                .bytes()
                .all(|byte| byte.is_ascii_digit())
        });
        if !is_process {
            continue;
        }
        used.extend(
            ["exe", "cwd", "root"]
                .iter()
                .filter_map(|link| fs::read_link(process.join(link)).ok()),
        );
        let maps = super::disk::read(&process.join("maps"), PROC_BYTES_MAX).unwrap_or_default();
        used.extend(String::from_utf8_lossy(&maps).lines().filter_map(mapped));
        // In a mount namespace of its own a process has other names for the same folders.
        let namespace = fs::read_link(process.join("ns/mnt")).ok();
        if namespace.is_some_and(|namespace| namespaces.insert(namespace)) {
            used.extend(
                mounts(&process)
                    .iter()
                    .filter_map(|mount| here(&own, mount)),
            );
        }
    }
    used.retain(|path| path.starts_with(folder));
    Ok(used)
}

/// One line of `/proc/<pid>/mountinfo`. Source: proc(5).
#[derive(Debug, PartialEq, Eq)]
struct Mount {
    device: String,
    root: PathBuf,
    point: PathBuf,
}

fn mounts(process: &Path) -> Vec<Mount> {
    let text = super::disk::read(&process.join("mountinfo"), PROC_BYTES_MAX).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    text.lines().filter_map(mount).collect()
}

/// `36 35 98:0 /mnt1 /mnt2 …`: ids, the device, what of its file system is mounted, and where.
fn mount(line: &str) -> Option<Mount> {
    let mut fields = line.split_whitespace().skip(2);
    Some(Mount {
        device: fields.next()?.to_owned(),
        root: unescaped(fields.next()?),
        point: unescaped(fields.next()?),
    })
}

/// Blanks in paths are written as three octal digits.
fn unescaped(field: &str) -> PathBuf {
    let text = field
        .replace("\\040", " ")
        .replace("\\011", "\t")
        .replace("\\012", "\n")
        .replace("\\134", "\\");
    PathBuf::from(text)
}

/// Where this process sees what another one has mounted.
fn here(own: &[Mount], other: &Mount) -> Option<PathBuf> {
    own.iter()
        .filter(|mount| mount.device == other.device)
        .find_map(|mount| Some(mount.point.join(other.root.strip_prefix(&mount.root).ok()?)))
}

/// The sixth field of a line of `/proc/<pid>/maps`, which may hold blanks. Source: proc(5).
fn mapped(line: &str) -> Option<PathBuf> {
    line.find(" /").map(|at| PathBuf::from(&line[at + 1..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listening_sockets_are_read_as_the_kernel_writes_them() {
        if cfg!(target_endian = "little") {
            let line = "   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000";
            assert_eq!(listener(line).as_deref(), Some("127.0.0.1:8080"));
            let line = "   0: 00000000000000000000000000000000:0016 0:0000 0A 0";
            assert_eq!(listener(line).as_deref(), Some("[::]:22"));
        }
        let established = "   1: 0100007F:1F90 0100007F:0001 01 00000000:00000000";
        assert_eq!(listener(established), None);
        assert_eq!(listener("sl  local_address rem_address   st"), None);
    }

    #[test]
    fn a_mount_of_another_process_is_found_where_this_one_sees_it() {
        let own = [
            "21 1 8:1 / / rw - ext4 /dev/sda1 rw",
            "30 21 8:2 /sub/srv /srv rw shared:1 - btrfs /dev/sdb rw",
        ];
        let own: Vec<Mount> = own.iter().filter_map(|line| mount(line)).collect();
        let seen = |line| here(&own, &mount(line).unwrap());
        let of_root = seen("90 80 8:1 /srv/a\\040b/releases/r1 /app ro - ext4 /dev/sda1 rw");
        assert_eq!(of_root, Some("/srv/a b/releases/r1".into()));
        let of_other = seen("90 80 8:2 /sub/srv/api/releases/r1 / ro - btrfs /dev/sdb rw");
        assert_eq!(of_other, Some("/srv/api/releases/r1".into()));
        assert_eq!(seen("90 80 8:2 /other /x ro - btrfs /dev/sdb rw"), None);
        assert_eq!(seen("90 80 0:7 / /tmp rw - tmpfs tmpfs rw"), None);
        assert_eq!(mount("no mount"), None);
    }

    #[test]
    fn what_a_process_runs_from_is_in_use() {
        let program = std::env::current_exe().unwrap();
        let used = in_use(program.parent().unwrap()).unwrap();
        assert!(used.contains(&program), "{used:?}");
        assert_eq!(
            mapped("7f0-7f1 r-xp 00000000 08:01 12   /srv/a b/api"),
            Some("/srv/a b/api".into())
        );
        assert_eq!(mapped("7f0-7f1 rw-p 00000000 00:00 0   [heap]"), None);
    }
}
