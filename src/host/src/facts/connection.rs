//! Which connection this process was started over.
//!
//! What sshd puts into the environment does not get past sudo, and whoever runs sudo could have set it.
//! So it is the kernel that is asked: each connection is served by a process of sshd's own, and all
//! that runs over it descends from that. Its limits: a second connection that is tunnelled through
//! the first is another one here, and so is one from the host to itself; and an SSH server that this
//! file does not name confirms nothing.

use std::fs;
use std::path::Path;

use crate::connection::Connection;

/// The programs that serve a connection: OpenSSH until 9.7, OpenSSH from 9.8 on, Dropbear.
const SERVERS: [&str; 3] = ["sshd", "sshd-session", "dropbear"];

/// The most ancestors that are looked at.
const ANCESTORS_MAX: u32 = 64;

/// What follows the name of a program that was replaced while it runs: proc_pid_exe(5).
const DELETED: &str = " (deleted)";

/// The connection; `None` when that cannot be told.
pub fn connection() -> Option<Connection> {
    let mut process = std::process::id();
    for _ in 0..ANCESTORS_MAX {
        let stat = stat(&fs::read_to_string(format!("/proc/{process}/stat")).ok()?)?;
        if serves(process) {
            let started = stat.started;
            return Some(Connection { process, started });
        }
        process = stat.parent;
    }
    None
}

/// What `/proc/PID/stat` says of a process.
#[derive(Debug, PartialEq, Eq)]
struct Stat {
    parent: u32,
    started: u64,
}

fn serves(process: u32) -> bool {
    fs::read_link(format!("/proc/{process}/exe")).is_ok_and(|program| is_server(&program))
}

fn is_server(program: &Path) -> bool {
    let name = program.file_name().and_then(|name| name.to_str());
    name.is_some_and(|name| SERVERS.contains(&name.strip_suffix(DELETED).unwrap_or(name)))
}

/// The second field is a name in parentheses that may hold anything, parentheses too.
fn stat(text: &str) -> Option<Stat> {
    let (_, rest) = text.rsplit_once(')')?;
    let mut fields = rest.split_ascii_whitespace();
    let parent = fields.nth(1)?.parse().ok()?;
    // The fourth field has been taken; the start is the twenty-second.
    let started = fields.nth(17)?.parse().ok()?;
    Some(Stat { parent, started })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_read_whatever_it_is_called() {
        let text = "7 (a) b (c) S 3 7 7 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 5678 9 9\n";
        let found = Stat {
            parent: 3,
            started: 5678,
        };
        assert_eq!(stat(text), Some(found));
        for broken in ["", "7 (a", "7 (a) S", "7 (a) S x 7", "7 (a) S 3 7 7 0 -1"] {
            assert_eq!(stat(broken), None, "{broken:?}");
        }
        let own = fs::read_to_string("/proc/self/stat").unwrap();
        assert!(stat(&own).unwrap().started > 0);
    }

    #[test]
    fn a_server_is_told_by_its_program_also_after_an_upgrade_of_it() {
        for server in [
            "/usr/sbin/sshd",
            "/usr/lib/openssh/sshd-session",
            "/usr/sbin/sshd (deleted)",
        ] {
            assert!(is_server(Path::new(server)), "{server}");
        }
        for other in [
            "/home/mia/sshd/run",
            "/usr/bin/sudo",
            "/usr/bin/sshd-keygen",
        ] {
            assert!(!is_server(Path::new(other)), "{other}");
        }
    }
}
