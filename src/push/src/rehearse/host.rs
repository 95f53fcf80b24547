//! One rehearsal host: what a test holds. Run something on it, read its files, cut its cable or
//! its power, boot it again. Must not know of other hosts.

use std::fs::File;
use std::io::{Read, Write};
use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Component, Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};

use super::cgroup::Cgroup;
use super::container::{self, Booted, Container, Look, Parts};
use super::error::{Error, IoExt};
use super::network::{self, Subnet};
use super::record::{FleetNumber, HostFolder, HostRecord};
use super::suite::{Furnishing, Suite};
use super::tool::{self, Finished};
use super::{keys, mounts};

/// How long a command inside a host may take when nothing else is said.
const RUN_WITHIN: Duration = Duration::from_secs(60);

/// How long a host may take to go down in order. Then its power is cut.
const ORDERLY_WITHIN: Duration = Duration::from_secs(20);

/// How often is looked whether a host has gone down.
const DOWN_POLL: Duration = Duration::from_millis(20);

/// Which way packets vanish, without a word to either end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blackhole {
    /// What the host sends.
    FromHost,
    /// What is sent to the host.
    ToHost,
    /// Everything.
    Both,
}

/// A throw-away Debian host. Shared by reference: one thread may cut its power while another is
/// talking to it.
#[derive(Debug)]
pub struct RehearsalHost {
    fleet: FleetNumber,
    subnet: Subnet,
    record: HostRecord,
    image: PathBuf,
    folder: HostFolder,
    cgroup: Cgroup,
    power: Mutex<Power>,
}

#[derive(Debug)]
enum Power {
    On(Container, Booted),
    Off,
}

/// The things a host is made from, which its fleet has.
pub(super) struct Blueprint {
    pub fleet: FleetNumber,
    pub subnet: Subnet,
    pub image: PathBuf,
    pub folder: HostFolder,
}

impl RehearsalHost {
    /// Makes the host's disk and keys. It is off yet.
    pub(super) fn make(mut record: HostRecord, blueprint: Blueprint) -> Result<Self, Error> {
        let Blueprint {
            fleet,
            subnet,
            image,
            folder,
        } = blueprint;
        let cgroup = Cgroup::of(fleet, record.index)?;
        record.disk.make(&folder)?;
        record.disk.mount(&folder, &image)?;
        let root = folder.root();
        record.host_key = keys::make_pair(&root.join("etc/ssh/ssh_host_ed25519_key"))?;
        let operator = keys::public_line(&record.identity)?;
        keys::authorize(&root, record.access, &operator)?;
        let hostname = root.join("etc/hostname");
        std::fs::write(&hostname, format!("{}\n", record.name)).doing("writing", &hostname)?;
        // sudo looks its own name up, and says so when it finds nothing.
        let hosts = root.join("etc/hosts");
        let names = format!(
            "127.0.0.1 localhost\n127.0.1.1 {}\n::1 localhost\n",
            record.name
        );
        std::fs::write(&hosts, names).doing("writing", &hosts)?;
        Ok(Self {
            fleet,
            subnet,
            record,
            image,
            folder,
            cgroup,
            power: Mutex::new(Power::Off),
        })
    }

    /// Its name, which is also its hostname.
    pub fn name(&self) -> &str {
        &self.record.name
    }

    /// Where sshd listens.
    pub fn address(&self) -> Ipv4Addr {
        self.record.address
    }

    /// At which port.
    pub fn port(&self) -> u16 {
        self.record.port
    }

    /// The public line of its host key: `ssh-ed25519 AAAA…`.
    pub fn host_key(&self) -> &str {
        &self.record.host_key
    }

    /// The user that the operator's key logs in as.
    pub fn user(&self) -> &'static str {
        self.record.access.user()
    }

    /// The operator's private key, a file that only root reads.
    pub fn identity(&self) -> &Path {
        &self.record.identity
    }

    /// The Debian that it runs.
    pub fn suite(&self) -> Suite {
        self.record.suite
    }

    /// What was installed on it when it was made.
    pub fn furnishing(&self) -> Furnishing {
        self.record.furnishing
    }

    /// Where its root file system is mounted on the laptop. What the host itself mounts, such as
    /// `/run`, is not seen there, and links lead into the laptop's own files: prefer
    /// [`RehearsalHost::read`].
    pub fn root(&self) -> PathBuf {
        self.folder.root()
    }

    /// The name of its network namespace, for `ip -n`.
    pub fn netns(&self) -> String {
        self.fleet.host(self.record.index)
    }

    /// All of the above as a value.
    pub fn record(&self) -> &HostRecord {
        &self.record
    }

    /// Its line of a `known_hosts` file.
    pub fn known_hosts_line(&self) -> String {
        match self.record.port {
            22 => format!("{} {}", self.record.address, self.record.host_key),
            port => format!("[{}]:{port} {}", self.record.address, self.record.host_key),
        }
    }

    /// How long its last boot took. Zero while it is off.
    pub fn boot_time(&self) -> Duration {
        match &*self.power() {
            Power::On(_, booted) => booted.took,
            Power::Off => Duration::ZERO,
        }
    }

    /// The units that had failed when it was up. None, when systemd called it `running`.
    pub fn failed_units(&self) -> Vec<String> {
        match &*self.power() {
            Power::On(_, booted) => booted.failed_units.clone(),
            Power::Off => Vec::new(),
        }
    }

    /// The end of what it said on its console.
    pub fn console(&self) -> String {
        container::console_end(&self.folder)
    }

    /// Runs a program on the host as root, beside sshd, for at most a minute. Any status is fine.
    ///
    /// # Errors
    /// [`Error::Down`], or [`Error::ToolTimedOut`].
    pub fn run(&self, argv: &[&str]) -> Result<Finished, Error> {
        self.run_within(RUN_WITHIN, argv)
    }

    /// The same with a limit of its own.
    ///
    /// # Errors
    /// [`Error::Down`], or [`Error::ToolTimedOut`].
    pub fn run_within(&self, limit: Duration, argv: &[&str]) -> Result<Finished, Error> {
        container::run_inside(self.init()?, argv, limit)
    }

    /// Runs a program on the host and returns what it wrote to stdout.
    ///
    /// # Errors
    /// As [`RehearsalHost::run`], and [`Error::ToolFailed`] for a status other than 0.
    pub fn succeed(&self, argv: &[&str]) -> Result<String, Error> {
        let finished = self.run(argv)?;
        if finished.is_success() {
            return Ok(finished.stdout);
        }
        Err(Error::ToolFailed {
            command: format!("{} on {}", argv.join(" "), self.record.name),
            status: tool::describe(finished.status),
            stderr: tool::last_lines(&finished.stderr),
        })
    }

    /// Reads a file of the host, following links as the host would. While it is up its own mounts
    /// are seen, such as `/run`; while it is off, its disk.
    ///
    /// # Errors
    /// [`Error::PathInHost`], or why the file cannot be read.
    pub fn read(&self, path: impl AsRef<Path>) -> Result<Vec<u8>, Error> {
        let path = path.as_ref();
        let mut bytes = Vec::new();
        self.open(path, OFlags::RDONLY)?
            .read_to_end(&mut bytes)
            .doing("reading", path)?;
        Ok(bytes)
    }

    /// Writes a file of the host with a mode, replacing its content when it is there. The folder
    /// must be there.
    ///
    /// # Errors
    /// [`Error::PathInHost`], or why the file cannot be written.
    pub fn write(&self, path: impl AsRef<Path>, content: &[u8], mode: u32) -> Result<(), Error> {
        let path = path.as_ref();
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC;
        let mut file = self.open(path, flags)?;
        file.set_permissions(std::fs::Permissions::from_mode(mode))
            .doing("setting the mode of", path)?;
        file.write_all(content).doing("writing", path)
    }

    /// Boots a host that is off, with a network namespace as empty as a boot leaves it.
    ///
    /// # Errors
    /// [`Error::AlreadyUp`], [`Error::Down`] when its power was cut meanwhile, or why it does not
    /// boot.
    pub fn boot_again(&self) -> Result<Duration, Error> {
        let mut power = self.power();
        if let Power::On(container, _) = &mut *power
            && container.ended()?.is_none()
        {
            return Err(Error::AlreadyUp {
                host: self.record.name.clone(),
            });
        }
        self.switch_off(&mut power)?;
        self.cgroup.make()?;
        network::connect(self.fleet, self.subnet, self.record.index)?;
        let parts = Parts {
            folder: &self.folder,
            cgroup: &self.cgroup,
        };
        let container = container::start(&self.netns(), &self.record, parts)?;
        *power = Power::On(container, Booted::default());
        drop(power);
        let booted = self.wait_until_up(parts);
        if booted.is_err() {
            self.cgroup.kill()?;
            self.reap()?;
        }
        booted
    }

    /// Waits until it is up. Locked for one look at a time, so that another thread may cut the power
    /// of a host that is booting.
    fn wait_until_up(&self, parts: Parts<'_>) -> Result<Duration, Error> {
        let begun = Instant::now();
        let mut state = String::new();
        while begun.elapsed() < container::BOOT_WITHIN {
            match &mut *self.power() {
                Power::Off => return Err(self.is_down()),
                Power::On(container, booted) => match container.look(&self.record, parts)? {
                    Look::Booting(found) => state = found,
                    Look::Up { failed_units } => {
                        let took = begun.elapsed();
                        *booted = Booted { took, failed_units };
                        return Ok(took);
                    }
                },
            }
            std::thread::sleep(container::BOOT_POLL);
        }
        Err(Error::BootTimedOut {
            host: self.record.name.clone(),
            limit_s: container::BOOT_WITHIN.as_secs(),
            state: format!("its state is {state:?}"),
            console: self.console(),
        })
    }

    /// Ends every process of the host at once. With a disk of its own
    /// ([`super::Disk::Loop`]) what was not synced is lost, as it would be; the disk is mounted
    /// again, journal replayed, so that it can be looked at.
    ///
    /// # Errors
    /// What could not be ended or mounted.
    pub fn power_cut(&self) -> Result<(), Error> {
        let mut power = self.power();
        self.record.disk.cut(&self.folder)?;
        self.switch_off(&mut power)?;
        self.record.disk.unmount(&self.folder)?;
        self.record.disk.mount(&self.folder, &self.image)
    }

    /// Shuts the host down in order; its power is cut when it does not go.
    ///
    /// # Errors
    /// What could not be ended.
    pub fn down(&self) -> Result<(), Error> {
        self.leave(&["systemctl", "poweroff"])?;
        let mut power = self.power();
        self.switch_off(&mut power)
    }

    /// Reboots the host in order, and waits until it is up again.
    ///
    /// # Errors
    /// When it does not go down in time, which would be a power cut and not a reboot; else as
    /// [`RehearsalHost::boot_again`].
    pub fn reboot(&self) -> Result<Duration, Error> {
        if !self.leave(&["systemctl", "reboot"])? {
            return Err(Error::StaysUp {
                host: self.record.name.clone(),
                limit_s: ORDERLY_WITHIN.as_secs(),
            });
        }
        let mut power = self.power();
        self.switch_off(&mut power)?;
        drop(power);
        self.boot_again()
    }

    /// Waits until the host has gone down by itself, as after a `reboot` that somebody typed on
    /// it. Says whether it has; [`RehearsalHost::boot_again`] is next.
    ///
    /// # Errors
    /// When waiting fails.
    pub fn wait_until_down(&self, limit: Duration) -> Result<bool, Error> {
        let deadline = Instant::now() + limit;
        loop {
            // Locked for one look only, so that another thread may cut the power meanwhile.
            let is_down = match &mut *self.power() {
                Power::On(container, _) => container.ended()?.is_some(),
                Power::Off => true,
            };
            if is_down || Instant::now() >= deadline {
                return Ok(is_down);
            }
            std::thread::sleep(DOWN_POLL);
        }
    }

    /// Lets packets vanish.
    ///
    /// # Errors
    /// What nft said.
    pub fn block(&self, way: Blackhole) -> Result<(), Error> {
        network::block(self.fleet, self.record.index, way)
    }

    /// Lets packets through again.
    ///
    /// # Errors
    /// What nft said.
    pub fn unblock(&self) -> Result<(), Error> {
        network::unblock(self.fleet, self.record.index)
    }

    /// Collects the exit status of a container that was killed behind this value's back.
    pub(super) fn reap(&self) -> Result<(), Error> {
        match &mut *self.power() {
            Power::On(container, _) => container.ended_within(ORDERLY_WITHIN).map(drop),
            Power::Off => Ok(()),
        }
    }

    /// Says whether it went.
    fn leave(&self, how: &[&str]) -> Result<bool, Error> {
        // It may be gone before the command has ended: only its going counts.
        let _ = self.run(how)?;
        self.wait_until_down(ORDERLY_WITHIN)
    }

    /// Ends whatever is left and takes the network away; off already is fine.
    fn switch_off(&self, power: &mut Power) -> Result<(), Error> {
        self.cgroup.kill()?;
        if let Power::On(container, _) = power {
            // One that was only just started may not have joined the group when that was killed.
            container.kill()?;
            container.ended_within(ORDERLY_WITHIN)?;
            self.cgroup.kill()?;
        }
        *power = Power::Off;
        self.cgroup.remove()?;
        network::disconnect(self.fleet, self.record.index)
    }

    fn init(&self) -> Result<u32, Error> {
        self.cgroup.init().ok_or_else(|| self.is_down())
    }

    fn is_down(&self) -> Error {
        Error::Down {
            host: self.record.name.clone(),
        }
    }

    fn open(&self, path: &Path, flags: OFlags) -> Result<File, Error> {
        let inside = inside(path)?;
        let root = match self.cgroup.init() {
            Some(init) => PathBuf::from(format!("/proc/{init}/root")),
            None => self.folder.root(),
        };
        let folder = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::openat(CWD, &root, folder, Mode::empty()).doing("opening", &root)?;
        rustix::fs::openat2(
            &root,
            inside,
            flags | OFlags::CLOEXEC,
            if flags.contains(OFlags::CREATE) {
                Mode::RUSR | Mode::WUSR
            } else {
                Mode::empty()
            },
            ResolveFlags::IN_ROOT,
        )
        .doing("opening, inside the host,", path)
        .map(File::from)
    }

    fn power(&self) -> MutexGuard<'_, Power> {
        // A panic elsewhere leaves the value as true as it was: cleaning up must still work.
        self.power.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes down one host by its number alone: what a process that never booted it does too.
pub(super) fn dismantle(fleet: FleetNumber, index: u8, folder: &HostFolder) -> Vec<Error> {
    let cgroup = Cgroup::of(fleet, index);
    [
        cgroup.and_then(|cgroup| cgroup.kill().and_then(|()| cgroup.remove())),
        network::disconnect(fleet, index),
        mounts::unmount(&folder.root()),
        mounts::unmount(&folder.disk()),
        mounts::unmount(&folder.platter()),
        mounts::unmount(&folder.0),
        mounts::remove(&folder.0),
    ]
    .into_iter()
    .filter_map(Result::err)
    .collect()
}

/// A path inside a host, relative to its root.
fn inside(path: &Path) -> Result<&Path, Error> {
    let refused = || Error::PathInHost {
        path: path.to_owned(),
    };
    let relative = path.strip_prefix("/").map_err(|_| refused())?;
    let is_plain = relative
        .components()
        .all(|c| matches!(c, Component::Normal(_)));
    let is_something = relative.components().next().is_some();
    if is_plain && is_something {
        Ok(relative)
    } else {
        Err(refused())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_that_could_leave_the_host_is_refused() {
        assert_eq!(
            inside(Path::new("/etc/hosts")).unwrap(),
            Path::new("etc/hosts")
        );
        for outside in ["etc/hosts", "/../etc/hosts", "/etc/../../x", "", "/"] {
            assert!(inside(Path::new(outside)).is_err(), "{outside}");
        }
    }
}
