//! The real host. Each file here is one side of it; none of them decides anything.
//!
//! | file | does |
//! |---|---|
//! | [`accounts`] | users and groups by number, without NSS, which a static program does not have |
//! | `apt` | the work of apt and dpkg |
//! | `offer` | what apt says, made into values |
//! | `outdated` | who runs from files that are gone |
//! | `walk` | finds the folder that a path is in, past nobody's links but root's |
//! | `certbot` | asks for a certificate |
//! | `disk` | the [`super::Disk`] of a host |
//! | `job` | work that takes minutes, and goes on whatever becomes of push-host |
//! | [`process`] | runs a program within a limit of time and output |
//! | `tool` | the command of each [`super::Tool`] |
//! | `swap` | a file for swap |
//! | `units` | what systemd says of units, and their log |
//! | `system_log` | excerpts of the system's log, for people |
//! | `probe` | asks an app whether it is well |
//! | `surroundings` | what else is worth knowing about a host in trouble |
//! | `unseal` | opens what is sealed to the host's key |

use std::collections::BTreeSet;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use push_wire::certificate::Certificate;
use push_wire::groundwork::PackageName;
use push_wire::health::Probe;
use push_wire::journal::UnitState;
use push_wire::log;
use push_wire::name::{AppName, UnitName, UserName};
use push_wire::upgrade::{Packages, Scope};
use rustix::time::{ClockId, clock_gettime};
use zeroize::Zeroizing;

use super::{
    Clock, Disk as _, Job, Outdated, Standing, System, TEXT_BYTES_MAX, Tool, ToolError, World,
};
use crate::layout::Layout;

pub mod accounts;
mod apt;
mod certbot;
mod disk;
mod job;
mod nginx_log;
mod offer;
mod outdated;
mod probe;
pub mod process;
mod surroundings;
mod swap;
mod system_log;
mod tool;
pub(crate) mod units;
mod unseal;
mod walk;

/// The longest text read from `/proc` at once, in bytes.
const PROC_BYTES_MAX: u64 = 16 << 20;

/// The host that this program runs on.
#[derive(Debug, Clone)]
pub struct Real {
    layout: Layout,
}

impl Real {
    /// The host, with its paths as `layout` names them.
    pub fn new(layout: Layout) -> Self {
        Self { layout }
    }
}

impl Clock for Real {
    fn boottime_ms(&self) -> u64 {
        milliseconds(ClockId::Boottime)
    }

    fn boot_id(&self) -> io::Result<String> {
        let text = disk::read(Path::new("/proc/sys/kernel/random/boot_id"), PROC_BYTES_MAX)?;
        Ok(String::from_utf8_lossy(&text).trim().to_owned())
    }

    fn unix_s(&self) -> u64 {
        SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_secs())
    }

    fn sleep(&mut self, time: Duration) {
        std::thread::sleep(time);
    }
}

/// Milliseconds on one of the kernel's clocks, which never go below zero.
fn milliseconds(clock: ClockId) -> u64 {
    let now = clock_gettime(clock);
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    seconds * 1000 + u64::try_from(now.tv_nsec).unwrap_or(0) / 1_000_000
}

impl World for Real {
    fn run(&mut self, tool: &Tool) -> Result<(), ToolError> {
        tool::run(tool)
    }

    fn work(&mut self, job: &Job, tell: &mut dyn FnMut(&str)) -> Result<(), ToolError> {
        apt::work(job, tell)
    }

    fn certify(
        &mut self,
        certificate: &Certificate,
        tell: &mut dyn FnMut(&str),
    ) -> Result<(), ToolError> {
        certbot::certify(certificate, tell)
    }

    fn available(
        &self,
        packages: &BTreeSet<PackageName>,
    ) -> Result<BTreeSet<PackageName>, ToolError> {
        apt::available(packages)
    }

    fn units(&self, units: &BTreeSet<UnitName>) -> Result<Vec<UnitState>, ToolError> {
        units::show(units)
    }

    fn nginx_serves(&self) -> io::Result<Option<u64>> {
        probe::nginx_generation()
    }

    fn probe(&mut self, app: &AppName, user: &UserName, probe: &Probe) -> Result<(), String> {
        probe::ask(&self.layout, (app, user), probe)
    }

    fn log(&self, units: &BTreeSet<UnitName>, since_boottime_ms: u64) -> Vec<String> {
        let age_ms = self.boottime_ms().saturating_sub(since_boottime_ms);
        let mut lines = units::log(units, age_ms);
        // Why nginx cannot bind to a port, say, only its own log tells.
        if units.iter().any(|unit| unit.as_str() == "nginx.service") {
            lines.extend(nginx_log::last_lines(
                &self.layout.at(nginx_log::PLACE),
                age_ms,
            ));
        }
        lines
    }

    fn excerpt(&self, asked: &log::Asked) -> Result<log::Excerpt, ToolError> {
        system_log::excerpt(asked)
    }

    fn surroundings(&self) -> (Vec<String>, Vec<String>) {
        (
            surroundings::listening(),
            surroundings::nearly_full(&self.layout),
        )
    }

    fn unseal(&self, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, String> {
        unseal::unseal(&self.layout.host_keys(), sealed)
    }

    fn in_use(&self, folder: &Path) -> io::Result<BTreeSet<PathBuf>> {
        surroundings::in_use(folder)
    }

    fn warn(&mut self, what: &str) {
        // When the log is gone there is nobody left to tell.
        let _ = writeln!(io::stderr(), "push-host: {what}");
    }
}

impl System for Real {
    fn packages(&self, scope: Scope) -> Result<Packages, ToolError> {
        let path = self.layout.dpkg_status();
        let status = self
            .read(&path, TEXT_BYTES_MAX)
            .map_err(|error| ToolError::Missing {
                tool: "dpkg".to_owned(),
                why: error.to_string(),
            })?;
        apt::packages(scope, &String::from_utf8_lossy(&status))
    }

    fn outdated(&self) -> io::Result<Outdated> {
        let up_s = self.boottime_ms() / 1000;
        outdated::outdated(self.unix_s().saturating_sub(up_s))
    }

    fn standing(&self) -> Result<Standing, ToolError> {
        units::standing()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::real::process::Program;
    use crate::machine::{Access, Node};

    /// Files belong to whoever runs the test; as another user than root, ownership cannot be given.
    fn scratch() -> Option<(tempfile::TempDir, Real)> {
        let folder = tempfile::tempdir().unwrap();
        let real = Real::new(Layout::new(folder.path()));
        rustix::process::geteuid()
            .is_root()
            .then_some((folder, real))
    }

    #[test]
    fn an_undated_file_has_one_time_whenever_it_is_made() {
        let Some((folder, mut real)) = scratch() else {
            return;
        };
        let path = folder.path().join("file");
        let access = Access::public_file();
        real.create_undated(&path, b"content", &access).unwrap();
        assert_eq!(real.read(&path, 100).unwrap(), b"content");
        let changed = std::fs::metadata(&path).unwrap().modified().unwrap();
        assert_eq!(changed, UNIX_EPOCH + Duration::from_secs(1));
    }

    #[test]
    fn a_file_is_created_once_with_its_final_mode_and_through_no_link() {
        let Some((folder, mut real)) = scratch() else {
            return;
        };
        let (path, link) = (folder.path().join("file"), folder.path().join("link"));
        let secret = Access {
            mode: 0o400,
            ..Access::private_file()
        };
        real.create(&path, b"content", &secret).unwrap();
        let stat = real.stat(&path).unwrap().unwrap();
        assert_eq!((stat.node, stat.mode, stat.names), (Node::File, 0o400, 1));
        assert!(real.create(&path, b"again", &secret).is_err());
        real.link(&path, &link).unwrap();
        for refused in [
            real.create(&link, b"x", &secret),
            real.append(&link, b"x"),
            real.truncate(&link, 0),
            real.open(&link).map(drop),
        ] {
            let error = refused.unwrap_err().to_string();
            assert!(error.contains(link.to_str().unwrap()), "{error}");
        }
        assert_eq!(real.read(&path, 100).unwrap(), b"content");
        assert!(real.read(&path, 3).is_err());
        assert!(real.read(folder.path(), 100).is_err());
    }

    #[test]
    fn a_missing_path_is_nothing_and_a_folder_is_removed_without_following_links() {
        let Some((folder, mut real)) = scratch() else {
            return;
        };
        let (outside, inside) = (folder.path().join("outside"), folder.path().join("inside"));
        real.folder(&inside, &Access::public_folder()).unwrap();
        real.folder(&inside, &Access::public_folder()).unwrap();
        real.create(&outside, b"", &Access::public_file()).unwrap();
        real.link(&outside, &inside.join("link")).unwrap();
        assert!(real.folder(&outside, &Access::public_folder()).is_err());
        real.remove_folder(&inside).unwrap();
        real.remove_folder(&inside).unwrap();
        real.remove(&inside).unwrap();
        assert!(real.stat(&outside).unwrap().is_some());
        assert!(real.stat(&inside.join("x")).unwrap().is_none());
        assert!(real.list(&inside).unwrap().is_empty());
        assert!(real.read_link(&outside).unwrap().is_none());
        real.reserve(&outside, 4096).unwrap();
        assert_eq!(real.stat(&outside).unwrap().unwrap().bytes, 0);
        real.sync(folder.path()).unwrap();
        real.sync_all(folder.path()).unwrap();
    }

    /// A folder of a user's with a link to `target` in it.
    fn trap(folder: &Path, target: &Path) -> PathBuf {
        let home = folder.join("home");
        std::fs::create_dir(&home).unwrap();
        std::os::unix::fs::symlink(target, home.join("x")).unwrap();
        std::os::unix::fs::lchown(&home, Some(1000), Some(1000)).unwrap();
        home.join("x")
    }

    #[test]
    fn no_call_follows_a_link_on_the_way_that_a_user_could_have_made() {
        let Some((folder, mut real)) = scratch() else {
            return;
        };
        let target = folder.path().join("target");
        real.folder(&target, &Access::public_folder()).unwrap();
        real.create(&target.join("old"), b"old", &Access::public_file())
            .unwrap();
        let link = trap(folder.path(), &target);
        let (new, old) = (link.join("new"), link.join("old"));
        let (access, from) = (Access::public_file(), folder.path().join("from"));
        real.create(&from, b"", &access).unwrap();
        for owner in [0, 1000] {
            std::os::unix::fs::lchown(&link, Some(owner), Some(owner)).unwrap();
            for refused in [
                real.create(&new, b"x", &access),
                real.append(&old, b"x"),
                real.truncate(&old, 0),
                real.sync(&old),
                real.rename(&from, &new),
                real.rename(&old, &from),
                real.link(&target, &new),
                real.hard_link(&from, &new),
                real.folder(&new, &Access::public_folder()),
                real.remove(&old),
                real.remove_folder(&old),
                real.stat(&old).map(drop),
                real.read(&old, 9).map(drop),
                real.read_link(&old).map(drop),
                real.list(&new).map(drop),
                crate::machine::folders(&mut real, &new.join("deep"), &Access::public_folder()),
            ] {
                let error = refused.unwrap_err();
                let misled = crate::machine::Misled::of(&error).unwrap();
                assert!(misled.why.contains("1000"), "{misled}");
                assert_eq!(misled.link, link);
            }
        }
        assert_eq!(real.list(&target).unwrap(), ["old"]);
        assert_eq!(real.read(&target.join("old"), 9).unwrap(), b"old");
    }

    #[test]
    fn roots_own_links_are_followed_and_real_folders_of_users_are_entered() {
        let Some((folder, mut real)) = scratch() else {
            return;
        };
        let target = folder.path().join("target");
        real.folder(&target, &Access::public_folder()).unwrap();
        // Relative and up, as `/var/run -> ../run`.
        real.folder(&folder.path().join("var"), &Access::public_folder())
            .unwrap();
        let link = folder.path().join("var/link");
        real.link(Path::new("../target"), &link).unwrap();
        real.create(&link.join("new"), b"x", &Access::public_file())
            .unwrap();
        assert_eq!(real.list(&link).unwrap(), ["new"]);
        assert_eq!(real.read(&target.join("new"), 9).unwrap(), b"x");
        real.link(Path::new("new"), &target.join("end")).unwrap();
        assert_eq!(real.read(&link.join("end"), 9).unwrap(), b"x");
        real.link(Path::new("end/../end"), &target.join("loop"))
            .unwrap();
        assert!(real.read(&target.join("loop"), 9).is_err());
        // A folder that all may write, as /tmp, is fine as long as it is sticky.
        for (mode, is_followed) in [(0o1777, true), (0o777, false)] {
            let open = folder.path().join("var");
            std::fs::set_permissions(&open, std::os::unix::fs::PermissionsExt::from_mode(mode))
                .unwrap();
            assert_eq!(real.read(&link.join("new"), 9).is_ok(), is_followed);
        }
        std::os::unix::fs::lchown(&target, Some(1000), Some(1000)).unwrap();
        real.link(Path::new("/etc/x"), &target.join("in")).unwrap();
        real.remove_folder(&target).unwrap();
        assert!(real.stat(&target).unwrap().is_none());
    }

    #[test]
    fn a_lock_goes_with_its_holder() {
        let Some((folder, mut real)) = scratch() else {
            return;
        };
        let path = folder.path().join("lock");
        let held = real.lock(&path).unwrap();
        assert!(held.is_some());
        assert!(real.clone().lock(&path).unwrap().is_none());
        drop(held);
        assert!(real.lock(&path).unwrap().is_some());
    }

    /// A key of the host, made by OpenSSH itself, and its public half.
    fn host_key(keys: &Path, kind: &str) -> age::ssh::Recipient {
        let key = keys.join(format!("ssh_host_{kind}_key"));
        let file = key.to_str().unwrap();
        let argv = ["ssh-keygen", "-q", "-t", kind, "-N", "", "-f", file];
        Program::new(&argv, Duration::from_secs(30))
            .succeed()
            .unwrap();
        let public = std::fs::read_to_string(key.with_extension("pub")).unwrap();
        public.parse().unwrap()
    }

    #[test]
    fn what_is_sealed_to_the_host_key_opens_and_nothing_else_does() {
        let Some((folder, mut real)) = scratch() else {
            return;
        };
        let keys = folder.path().join("etc/ssh");
        crate::machine::folders(&mut real, &keys, &Access::public_folder()).unwrap();
        let recipient = host_key(&keys, "ed25519");
        let sealed = age::encrypt(&recipient, b"hunter2").unwrap();
        assert_eq!(real.unseal(&sealed).unwrap().as_slice(), b"hunter2");
        for damaged in [&sealed[..sealed.len() - 1], &sealed[..20], b"hunter2", b""] {
            let why = real.unseal(damaged).unwrap_err();
            assert!(!why.contains("hunter2"), "{why}");
        }
        let other = age::x25519::Identity::generate();
        let foreign = age::encrypt(&other.to_public(), b"x").unwrap();
        assert!(real.unseal(&foreign).is_err());
        let mut word = age::scrypt::Recipient::new("word".to_owned().into());
        word.set_work_factor(2);
        let by_word = age::encrypt(&word, b"x").unwrap();
        assert!(real.unseal(&by_word).unwrap_err().contains("passphrase"));
    }

    #[test]
    fn a_damaged_file_is_called_damaged_whichever_other_keys_the_host_has() {
        let Some((folder, mut real)) = scratch() else {
            return;
        };
        let keys = folder.path().join("etc/ssh");
        crate::machine::folders(&mut real, &keys, &Access::public_folder()).unwrap();
        let recipients = ["ed25519", "rsa"].map(|kind| (kind, host_key(&keys, kind)));
        for (kind, recipient) in &recipients {
            let sealed = age::encrypt(recipient, b"hunter2").unwrap();
            assert_eq!(real.unseal(&sealed).unwrap().as_slice(), b"hunter2");
            let text = String::from_utf8_lossy(&sealed);
            let mac = text.find("\n---").unwrap() + "\n--- ".len();
            for at in [mac, sealed.len() - 1] {
                let mut damaged = sealed.clone();
                damaged[at] = if damaged[at] == b'A' { b'B' } else { b'A' };
                let why = real.unseal(&damaged).unwrap_err();
                assert!(why.contains(&format!("ssh_host_{kind}_key: ")), "{why}");
                assert!(why.contains("it is damaged"), "byte {at}: {why}");
            }
        }
        let other = age::x25519::Identity::generate();
        let foreign = age::encrypt(&other.to_public(), b"x").unwrap();
        let why = real.unseal(&foreign).unwrap_err();
        assert!(why.ends_with("it is sealed to another key"), "{why}");
    }
}
