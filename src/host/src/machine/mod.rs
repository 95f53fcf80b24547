//! Every effect on the world, behind one trait: the disk, the clock, systemd, nginx, nftables, the
//! apps' own ports. The rest of push-host decides; only a [`Machine`] does. The real one is
//! [`real::Real`]; the simulated one can crash after any call, lose unsynced writes and fail
//! anywhere, which is what makes the promises of a transaction testable.
//!
//! The calls of the disk are as fine as those of the kernel on purpose: what is not synced here is
//! lost in a simulated power cut. A new effect on the world is a new variant of [`Tool`] or a new
//! call here, never a `std::fs` or `std::process` elsewhere.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use push_wire::certificate::Certificate;
use push_wire::groundwork::{Hostname, PackageName};
use push_wire::health::Probe;
use push_wire::journal::UnitState;
use push_wire::log;
use push_wire::name::{AppName, UnitName, UserName};
use push_wire::upgrade::{Packages, Scope};

pub mod real;
#[cfg(test)]
pub mod simulated;

/// What a path is, without following links.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Node {
    /// A regular file.
    File,
    /// A folder.
    Folder,
    /// A symbolic link.
    Link,
    /// A device, a socket, a pipe.
    Other,
}

/// What is known of a path without reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stat {
    /// What it is.
    pub node: Node,
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Size in bytes.
    pub bytes: u64,
    /// How many names it has.
    pub names: u64,
}

/// Who owns a new file or folder, and its final permission bits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Access {
    /// Permission bits; set when the file is created, never afterwards.
    pub mode: u32,
    /// Owner.
    pub owner: UserName,
    /// Group.
    pub group: UserName,
}

impl Access {
    /// Root's, readable by everybody.
    pub fn public_file() -> Self {
        Self {
            mode: 0o644,
            owner: UserName::root(),
            group: UserName::root(),
        }
    }

    /// Root's, readable by root alone.
    pub fn private_file() -> Self {
        Self {
            mode: 0o600,
            owner: UserName::root(),
            group: UserName::root(),
        }
    }

    /// Root's folder that everybody may enter.
    pub fn public_folder() -> Self {
        Self {
            mode: 0o755,
            owner: UserName::root(),
            group: UserName::root(),
        }
    }

    /// Root's folder that everybody may pass through and nobody else may list: what lies in it is
    /// protected one by one.
    pub fn passage() -> Self {
        Self {
            mode: 0o711,
            owner: UserName::root(),
            group: UserName::root(),
        }
    }

    /// Root's folder that root alone may enter.
    pub fn private_folder() -> Self {
        Self {
            mode: 0o700,
            owner: UserName::root(),
            group: UserName::root(),
        }
    }
}

/// A program of the host that push-host runs, with everything that varies. Arguments are passed as
/// they are; no shell reads them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tool {
    /// `systemctl daemon-reload`.
    DaemonReload,
    /// `systemctl restart UNIT`, which waits until the unit says that it is ready.
    Restart(UnitName),
    /// `systemctl try-restart UNIT`.
    TryRestart(UnitName),
    /// `systemctl reload-or-restart UNIT`.
    Reload(UnitName),
    /// `systemctl try-reload-or-restart UNIT`.
    TryReload(UnitName),
    /// `systemctl stop UNIT`.
    Stop(UnitName),
    /// `systemctl stop --no-block UNIT`, for recovery at boot, when waiting could wait for itself.
    StopLater(UnitName),
    /// `systemctl restart --no-block UNIT`, for recovery at boot: starts what does not run yet, and
    /// replaces what systemd has started from a text that is taken back.
    RestartLater(UnitName),
    /// `systemctl reset-failed UNIT`.
    ResetFailed(UnitName),
    /// `nft -f FILE`.
    LoadFirewall(PathBuf),
    /// Removes `table inet push`.
    RemoveFirewall,
    /// `systemctl reload nginx`, or start it when it does not run.
    ReloadNginx,
    /// `systemctl restart systemd-sysctl`.
    Sysctl,
    /// Creates a system user with a group of the same name, if it is not there.
    CreateUser(UserName),
    /// Creates a person's login, with a home and without a password, if it is not there.
    CreateLogin(UserName),
    /// `hostname NAME`: what the running system calls itself.
    SetHostname(Hostname),
    /// `locale-gen`: makes the locales that /etc/locale.gen names.
    MakeLocales,
    /// Makes a file of so many bytes fit for swapping; the file must not be in use.
    MakeSwap(PathBuf, u64),
    /// `swapon FILE`.
    SwapOn(PathBuf),
    /// `systemctl reboot`, in order; returns once systemd has taken it.
    Reboot,
}

/// Work of apt and dpkg. It may take minutes, and goes on to its end whatever becomes of push-host: half
/// of it would have to be repaired by hand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Job {
    /// `dpkg --configure -a`: finishes what was cut short.
    Finish,
    /// `apt-get update`; a source that cannot be asked is left as it was asked last.
    Refresh,
    /// The same; a source that cannot be asked is a failure.
    RefreshAll,
    /// `apt-get upgrade`, or `dist-upgrade`, which may remove.
    Upgrade(Scope),
    /// `apt-get install`, without what is merely recommended, and refusing to remove anything.
    Install(BTreeSet<PackageName>),
}

/// Why a [`Tool`] did not do its work. The text is the tool's own and untrusted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ToolError {
    /// It could not be started.
    #[error("{tool} cannot be run: {why}")]
    Missing {
        /// The command.
        tool: String,
        /// The reason.
        why: String,
    },
    /// It ended with an error.
    #[error("{tool} failed: {output}")]
    Failed {
        /// The command.
        tool: String,
        /// The end of what it printed.
        output: String,
    },
    /// It did not end in time and was killed.
    #[error("{tool} did not end within {seconds} s")]
    Late {
        /// The command.
        tool: String,
        /// The limit in seconds.
        seconds: u64,
    },
}

/// A lock that is held until this value goes, or the process that holds it does.
#[derive(Debug)]
pub struct Held {
    /// The open file that carries the lock; closing it is what lets go.
    _file: Option<rustix::fd::OwnedFd>,
}

/// A link on the way to a path that somebody else than root made or could exchange: root would read and
/// write wherever that user wants, so it is not followed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{} is a link that push does not follow: {why}", link.display())]
pub struct Misled {
    /// The link.
    pub link: PathBuf,
    /// Who decides where it leads.
    pub why: String,
}

impl Misled {
    /// What an error of the disk says about such a link, if it is about one.
    pub fn of(error: &io::Error) -> Option<&Self> {
        error.get_ref()?.downcast_ref()
    }
}

/// The disk. Every call is one step that a crash can come before or after. Every error names the path
/// and what was attempted. On the way to a path no link is followed that others than root could have
/// put there; the error then is a [`Misled`].
pub trait Disk {
    /// Reads a whole file of at most `bytes_max` bytes; following links.
    fn read(&self, path: &Path, bytes_max: u64) -> io::Result<Vec<u8>>;
    /// Opens a regular file to be read piece by piece; a link at its end is refused.
    fn open(&self, path: &Path) -> io::Result<Box<dyn io::Read>>;
    /// Creates a file that must not exist, with its final access, and writes it. Not synced.
    fn create(&mut self, path: &Path, content: &[u8], access: &Access) -> io::Result<()>;
    /// Creates a file like [`Disk::create`], whose time of change is the same however often it is made:
    /// for those who take a newer file for another one. A disk without times has nothing to add.
    fn create_undated(&mut self, path: &Path, content: &[u8], access: &Access) -> io::Result<()> {
        self.create(path, content, access)
    }
    /// Appends to a file. Not synced.
    fn append(&mut self, path: &Path, content: &[u8]) -> io::Result<()>;
    /// Cuts a file down to its first `bytes` bytes.
    fn truncate(&mut self, path: &Path, bytes: u64) -> io::Result<()>;
    /// Keeps room for a file to grow by so many bytes without needing new space; its size stays.
    fn reserve(&mut self, path: &Path, bytes: u64) -> io::Result<()>;
    /// Makes a file's content, or a folder's entries, survive a power cut.
    fn sync(&mut self, path: &Path) -> io::Result<()>;
    /// Makes everything below a folder survive a power cut (`syncfs`).
    fn sync_all(&mut self, folder: &Path) -> io::Result<()>;
    /// Renames, replacing what is there.
    fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()>;
    /// Makes a symbolic link that must not exist.
    fn link(&mut self, target: &Path, link: &Path) -> io::Result<()>;
    /// Makes a second name for a file.
    fn hard_link(&mut self, original: &Path, name: &Path) -> io::Result<()>;
    /// Makes one folder; fine if it is there already as a folder.
    fn folder(&mut self, path: &Path, access: &Access) -> io::Result<()>;
    /// Removes a file or link; fine if it is not there.
    fn remove(&mut self, path: &Path) -> io::Result<()>;
    /// Removes a folder and everything in it; fine if it is not there. Follows no link.
    fn remove_folder(&mut self, path: &Path) -> io::Result<()>;
    /// What a path is, without following a last link; `None` if nothing is there.
    fn stat(&self, path: &Path) -> io::Result<Option<Stat>>;
    /// Where a symbolic link points; `None` if there is none.
    fn read_link(&self, path: &Path) -> io::Result<Option<PathBuf>>;
    /// The names in a folder, sorted; none if it is not there.
    fn list(&self, folder: &Path) -> io::Result<Vec<String>>;
    /// The numbers of a user and a group, user first.
    fn ids(&self, access: &Access) -> io::Result<(u32, u32)>;
    /// Takes the lock that a file carries, creating the file if it is missing; `None` if somebody
    /// else holds it. The lock goes with its holder, however that ends.
    fn lock(&mut self, path: &Path) -> io::Result<Option<Held>>;
}

/// Time, as far as anything is decided by it.
pub trait Clock {
    /// Milliseconds on CLOCK_BOOTTIME: suspend counts, setting the clock does not.
    fn boottime_ms(&self) -> u64;
    /// The boot id of the running kernel.
    fn boot_id(&self) -> io::Result<String>;
    /// Seconds since 1970, for people only.
    fn unix_s(&self) -> u64;
    /// Waits.
    fn sleep(&mut self, time: Duration);
}

/// systemd, nginx, nftables and the apps.
pub trait World {
    /// Runs a tool to its end, within the tool's own limit of time.
    fn run(&mut self, tool: &Tool) -> Result<(), ToolError>;
    /// Does a job of apt's or dpkg's to its end, within its limit of time. `tell` hears every so often
    /// what it is at; untrusted text.
    fn work(&mut self, job: &Job, tell: &mut dyn FnMut(&str)) -> Result<(), ToolError>;
    /// Has certbot ask an authority for a certificate, which certbot's timer renews from then on. Goes on to
    /// its end like a [`Job`], within its limit of time.
    fn certify(
        &mut self,
        certificate: &Certificate,
        tell: &mut dyn FnMut(&str),
    ) -> Result<(), ToolError>;
    /// Those of these packages that apt would know where to get.
    fn available(
        &self,
        packages: &BTreeSet<PackageName>,
    ) -> Result<BTreeSet<PackageName>, ToolError>;
    /// What systemd says of units.
    fn units(&self, units: &BTreeSet<UnitName>) -> Result<Vec<UnitState>, ToolError>;
    /// The generation that nginx's workers serve to a new connection, as the marker says.
    /// `None` when it serves nothing of push's.
    fn nginx_serves(&self) -> io::Result<Option<u64>>;
    /// Asks an app once whether it is well; the error is the answer to show.
    fn probe(&mut self, app: &AppName, user: &UserName, probe: &Probe) -> Result<(), String>;
    /// The last lines of the units' journal since a moment on CLOCK_BOOTTIME; bounded.
    fn log(&self, units: &BTreeSet<UnitName>, since_boottime_ms: u64) -> Vec<String>;
    /// An excerpt of the system's log; bounded, and untrusted.
    fn excerpt(&self, asked: &log::Asked) -> Result<log::Excerpt, ToolError>;
    /// TCP sockets that listen, and file systems that are nearly full: for evidence.
    fn surroundings(&self) -> (Vec<String>, Vec<String>);
    /// Opens what is sealed to the host's key.
    fn unseal(&self, sealed: &[u8]) -> Result<zeroize::Zeroizing<Vec<u8>>, String>;
    /// The paths below `folder` that a process runs from, works in or has mapped.
    fn in_use(&self, folder: &Path) -> io::Result<BTreeSet<PathBuf>>;
    /// Says something to whoever reads the host's log: a failure that cannot be an error any more,
    /// because the host goes on without.
    fn warn(&mut self, what: &str);
}

/// Who runs from a file that is gone.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Owner {
    /// systemd itself.
    Init,
    /// A service of the system's.
    Service(UnitName),
    /// A session of somebody's, a container.
    Other,
}

/// What was replaced on the disk and is still in use.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outdated {
    /// Who runs from a replaced file, and which that is.
    pub found: BTreeMap<Owner, PathBuf>,
    /// Kernels that came since the boot.
    pub kernels: Vec<String>,
}

/// Where systemd is on its way from a boot to the next.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Course {
    /// The boot is still under way.
    Starting,
    /// It is up, whether or not everything runs.
    #[default]
    Up,
    /// It shuts down, and starts nothing any more.
    GoingDown,
}

/// How systemd stands.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Standing {
    /// Whether it comes up or goes down.
    pub course: Course,
    /// The units that have failed, or wait to be started once more because they did.
    pub failed: BTreeSet<String>,
}

/// The operating system: its packages, what runs from files that are gone, what has failed.
pub trait System {
    /// What apt would do now, from the lists that it has.
    fn packages(&self, scope: Scope) -> Result<Packages, ToolError>;
    /// What still runs from files that were replaced.
    fn outdated(&self) -> io::Result<Outdated>;
    /// How systemd stands.
    fn standing(&self) -> Result<Standing, ToolError>;
}

/// The largest text, manifest or record that is read whole, in bytes.
pub const TEXT_BYTES_MAX: u64 = 64 << 20;

/// A length of time as the clock counts it.
pub fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// Writes a file in place of whatever is at `path`: whole or not at all, whoever looks. The content
/// is synced; the folder is the caller's to sync.
pub fn replace<M: Disk + ?Sized>(
    machine: &mut M,
    path: &Path,
    content: &[u8],
    access: &Access,
) -> io::Result<()> {
    replace_by(machine, path, |machine, new| {
        machine.create(new, content, access)
    })
}

/// The same for a file that `make` makes at the place that it is given.
pub fn replace_by<M: Disk + ?Sized>(
    machine: &mut M,
    path: &Path,
    make: impl FnOnce(&mut M, &Path) -> io::Result<()>,
) -> io::Result<()> {
    let new = beside(path);
    machine.remove(&new)?;
    let replaced = make(machine, &new)
        .and_then(|()| machine.sync(&new))
        .and_then(|()| machine.rename(&new, path));
    if replaced.is_err() {
        // Half of it would keep a full disk full. The first error says what is wrong.
        if let Err(error) = machine.remove(&new) {
            return Err(replaced.err().unwrap_or(error));
        }
    }
    replaced
}

/// Makes a link in place of whatever is at `path`, whole or not at all. Nothing is synced.
pub fn replace_link<M: Disk + ?Sized>(
    machine: &mut M,
    target: &Path,
    path: &Path,
) -> io::Result<()> {
    let new = beside(path);
    machine.remove(&new)?;
    machine.link(target, &new)?;
    machine.rename(&new, path)
}

/// Makes a folder with every folder above it that is missing; those are root's and public. Each new
/// one is durable: without that, a power cut could take away all that was synced inside it.
pub fn folders<M: Disk + ?Sized>(machine: &mut M, path: &Path, access: &Access) -> io::Result<()> {
    if machine.stat(path)?.is_some() {
        return machine.folder(path, access);
    }
    let Some(parent) = path.parent() else {
        return machine.folder(path, access);
    };
    if machine.stat(parent)?.is_none() {
        folders(machine, parent, &Access::public_folder())?;
    }
    machine.folder(path, access)?;
    machine.sync(parent)
}

/// Makes a folder that is given to somebody, whole or not at all: nobody mends one that a cut has left
/// root's. It must not be there yet; the folder above it is the caller's to sync.
pub fn given_folder<M: Disk + ?Sized>(
    machine: &mut M,
    path: &Path,
    access: &Access,
) -> io::Result<()> {
    let new = beside(path);
    machine.remove_folder(&new)?;
    machine.folder(&new, access)?;
    machine.sync(&new)?;
    machine.rename(&new, path)
}

/// The name under which the next content of `path` is written: hidden, in the same folder.
pub fn beside(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.push-new"))
}

/// Everything that push-host can do to the world.
pub trait Machine: Disk + Clock + World + System {}

impl<T: Disk + Clock + World + System> Machine for T {}
