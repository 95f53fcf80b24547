//! What this host is, asked of its own files and programs in a few milliseconds.
//!
//! Must not know what is wanted of the host, nor change anything. Every question has an answer even
//! where the host cannot give one: an absent tool is a fact, not an error.
//!
//! To add a fact: the field in `push_wire::facts::Facts`, a pure function that reads it out of a
//! text in the file of its kind, and its question in [`gather`].

mod ask;
mod connection;
mod loader;
mod room;
mod ssh;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use push_wire::facts::Facts;

use crate::machine::Course;
use crate::machine::real::units;
use ask::ask;
pub use connection::connection;
pub use room::room;

/// Where systemd keeps a scheduled shutdown or reboot (systemd-logind).
const SCHEDULED_SHUTDOWN: &str = "/run/systemd/shutdown/scheduled";

/// What Debian's and Ubuntu's packages leave when they need a reboot (update-notifier, kernel hooks).
const REBOOT_REQUIRED: &str = "/run/reboot-required";

/// Where the system's programs are. A login's own path may lack the `sbin` folders.
const PROGRAMS: &[&str] = &["/usr/sbin", "/usr/bin", "/sbin", "/bin"];

/// The longest file that a fact is read from, in bytes.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Asks the host. The programs that are asked run side by side, each within its own limit.
pub fn gather() -> Facts {
    let (systemd, nginx, glibc, libraries, ssh_ports) = std::thread::scope(|scope| {
        let systemd = scope.spawn(|| ask(&["systemctl", "--version"]));
        let nginx = scope.spawn(|| ask(&["nginx", "-v"]));
        let glibc = scope.spawn(|| ask(&["getconf", "GNU_LIBC_VERSION"]));
        let libraries = scope.spawn(|| ask(&["ldconfig", "-p"]));
        let ssh_ports = scope.spawn(ssh::ports);
        let text = |asked: std::thread::ScopedJoinHandle<'_, Option<String>>| {
            asked.join().ok().flatten().unwrap_or_default()
        };
        (
            text(systemd),
            text(nginx),
            text(glibc),
            text(libraries),
            ssh_ports.join().unwrap_or_default(),
        )
    });
    let os = os_release(&read("/etc/os-release"));
    let kernel = rustix::system::uname();
    let field = |name: &str| os.get(name).cloned().unwrap_or_default();
    Facts {
        os: field("ID"),
        os_version: field("VERSION_ID"),
        machine: kernel.machine().to_string_lossy().into_owned(),
        kernel: kernel.release().to_string_lossy().into_owned(),
        systemd: systemd_version(&systemd),
        glibc: loader::glibc_version(&glibc),
        libraries: loader::libraries(&libraries),
        interpreters: loader::interpreters(),
        nginx: nginx_version(&nginx),
        nft: is_installed("nft"),
        room: room(),
        host_keys: ssh::host_keys(),
        ssh_ports,
        boot_id: read("/proc/sys/kernel/random/boot_id").trim().to_owned(),
        clock_unix_s: SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_secs()),
        shutdown_at_unix_s: shutdown_at(),
        reboot_required: Path::new(REBOOT_REQUIRED).exists(),
    }
}

/// When a scheduled shutdown or reboot comes, seconds since 1970.
pub fn shutdown_at() -> Option<u64> {
    let is_there = Path::new(SCHEDULED_SHUTDOWN).exists();
    is_there.then(|| scheduled(&read(SCHEDULED_SHUTDOWN)))
}

/// The same for a shutdown that is under way already, which nobody needs to have scheduled.
pub fn shutdown_now() -> Option<u64> {
    let course = units::course_now().ok()?;
    (course == Course::GoingDown).then_some(0)
}

/// The line `USEC=` of systemd-logind, in microseconds. One that cannot be understood may come at once.
fn scheduled(text: &str) -> u64 {
    let at = text.lines().find_map(|line| line.strip_prefix("USEC="));
    at.and_then(|at| at.trim().parse::<u64>().ok()).unwrap_or(0) / 1_000_000
}

/// Whether a program of the system is installed.
pub fn is_installed(program: &str) -> bool {
    PROGRAMS
        .iter()
        .any(|folder| Path::new(folder).join(program).is_file())
}

/// A small text file, or nothing. Bytes that are not UTF-8 are replaced.
fn read(path: &str) -> String {
    let Ok(file) = fs::File::open(path) else {
        return String::new();
    };
    let mut bytes = Vec::new();
    let read =
        std::io::Read::read_to_end(&mut std::io::Read::take(file, FILE_BYTES_MAX), &mut bytes);
    match read {
        Ok(_) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(_) => String::new(),
    }
}

/// The assignments of os-release(5); quotes are taken off, escapes in them are not needed for the
/// two fields that are used.
fn os_release(text: &str) -> BTreeMap<String, String> {
    text.lines()
        .filter_map(|line| line.trim().split_once('='))
        .map(|(name, value)| {
            let value = value.trim_matches(|quote| quote == '"' || quote == '\'');
            (name.to_owned(), value.to_owned())
        })
        .collect()
}

/// `systemd 252 (252.39-1~deb12u2)` on the first line.
fn systemd_version(text: &str) -> Option<u32> {
    let rest = text.lines().next()?.strip_prefix("systemd ")?;
    let digits = rest.split(|c: char| !c.is_ascii_digit()).next()?;
    digits.parse().ok()
}

/// `nginx version: nginx/1.22.1`, with what a distribution adds in brackets left out.
fn nginx_version(text: &str) -> Option<String> {
    let rest = text.split_once("nginx/")?.1;
    let version: String = rest
        .chars()
        .take_while(|c| c.is_ascii_digit() || *c == '.')
        .collect();
    (!version.is_empty()).then_some(version)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debian_and_ubuntu_are_read_as_they_write_themselves() {
        let debian = os_release(
            "PRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\nVERSION_ID=\"12\"\nID=debian\n",
        );
        assert_eq!(
            (debian["ID"].as_str(), debian["VERSION_ID"].as_str()),
            ("debian", "12")
        );
        let ubuntu = os_release("ID=ubuntu\nVERSION_ID='24.04'\n");
        assert_eq!(ubuntu["VERSION_ID"], "24.04");
        assert_eq!(
            systemd_version("systemd 252 (252.39-1~deb12u2)\n+PAM"),
            Some(252)
        );
        assert_eq!(systemd_version("systemd 255.4-1ubuntu8 (x)"), Some(255));
        assert_eq!(systemd_version("command not found"), None);
        assert_eq!(
            nginx_version("nginx version: nginx/1.24.0 (Ubuntu)\n"),
            Some("1.24.0".into())
        );
        assert_eq!(nginx_version(""), None);
    }

    #[test]
    fn a_scheduled_shutdown_is_read_and_one_that_is_not_understood_comes_at_once() {
        let text = "USEC=1795169700000000\nWARN_WALL=1\nMODE=reboot\n";
        assert_eq!(scheduled(text), 1_795_169_700);
        for odd in ["", "USEC=soon\n", "MODE=reboot\n"] {
            assert_eq!(scheduled(odd), 0, "{odd:?}");
        }
    }

    #[test]
    fn this_machine_answers_every_question_quickly() {
        let began = std::time::Instant::now();
        let facts = gather();
        let took = began.elapsed();
        assert!(!facts.os.is_empty() && !facts.machine.is_empty() && !facts.kernel.is_empty());
        assert_eq!(facts.boot_id.len(), 36, "{}", facts.boot_id);
        assert!(
            !facts.ssh_ports.is_empty(),
            "22 is the port of a host that cannot say"
        );
        assert!(facts.room["/srv"].bytes > 0 && facts.room["/srv"].inodes > 0);
        assert!(facts.clock_unix_s > 1_700_000_000);
        assert!(took.as_secs() < 5, "{took:?}");
    }
}
