//! A host in memory, for tests: its disk loses what was not synced, its power can go before any
//! call, any call can fail, and what systemd, nginx and the kernel hold is modelled well enough to
//! tell whether all of it belongs to one generation.
//!
//! | file | models |
//! |---|---|
//! | [`disk`] | files, folders and links, with what is durable of them |
//! | [`pending`] | what is not durable yet, and what a power cut may keep of it |
//! | [`trouble`] | what goes wrong, from which call to which |
//! | [`lie`] | a host that breaks a rule on which the proof relies, so that the proof must fail |
//! | [`system`] | the files that apt, dpkg and useradd keep |
//! | [`services`] | systemd, nginx, the kernel's firewall |
//! | [`effect`] | which generation all of that belongs to |
//!
//! A cut is a panic that only [`Simulated::until_the_cut`] catches, so no code runs after it. Where the
//! real machine makes several calls of the kernel for one of its own (a file is created, given away
//! and then written; a folder is removed entry by entry), this one can be cut between them.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::io::{self, ErrorKind};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::time::Duration;

use push_wire::certificate::Certificate;
use push_wire::groundwork::PackageName;
use push_wire::health::Probe;
use push_wire::journal::{Record, UnitState};
use push_wire::log;
use push_wire::name::{AppName, UnitName, UserName};
use zeroize::Zeroizing;

use super::{Access, Clock, Disk, Held, Job, Node, Stat, Tool, ToolError, World, milliseconds};

pub mod disk;
pub mod effect;
pub mod lie;
pub mod pending;
pub mod random;
pub mod services;
mod system;
pub mod trouble;

use disk::{Fate, MemoryDisk, is_volatile};
use lie::Lie;
use pending::Survives;
use services::Services;
use trouble::{Fault, Trouble, Troubles};

/// What is sealed starts with this, in the simulated world.
pub const SEAL: &[u8] = b"sealed:";

/// The wall clock, in seconds since 1970.
const NOW_UNIX_S: u64 = 1_800_000_000;

/// Ten years, in seconds.
const TEN_YEARS_S: u64 = 315_360_000;

/// A day, in milliseconds.
const DAY_MS: u64 = 24 * 3600 * 1000;

/// More calls than anything makes here whose clock goes on as it should; one that jumps back by years would
/// let a trial wait for years.
const CALLS_MAX: u64 = 200_000;

/// The power has gone.
struct PowerCut;

/// Somebody who comes to the host while something runs on it: another process of push-host.
#[derive(Debug, Clone, Copy)]
pub struct Visit {
    /// The call before which it comes; the next one that changes anything.
    pub at: u64,
    /// What it does; the lock is held by somebody else meanwhile. What it was told is kept.
    pub does: fn(&mut Simulated) -> Option<Record>,
}

/// The simulated host.
#[derive(Debug, Clone, Default)]
pub struct Simulated {
    /// Its disk.
    pub disk: MemoryDisk,
    /// What is in memory.
    pub services: Services,
    /// What it said in its log.
    pub warnings: Vec<String>,
    /// What a visitor was told.
    pub visitor_was_told: Option<Record>,
    /// When the visitor came, on CLOCK_BOOTTIME.
    pub visitor_came_ms: Option<u64>,
    /// How it breaks a rule.
    pub lie: Option<Lie>,
    /// The paths that were synced and had something to be synced, in order.
    pub syncs: Vec<PathBuf>,
    /// Whether somebody else holds every lock.
    pub lock_is_held: bool,
    calls: Cell<u64>,
    cut_at: Option<u64>,
    troubles: Troubles,
    visit: Option<Visit>,
    boottime_ms: u64,
    boots: u64,
}

impl Simulated {
    /// How many calls were made since they were last counted from zero.
    pub fn calls(&self) -> u64 {
        self.calls.get()
    }

    /// Lets the power go before a call, counted from now.
    pub fn cut_at(mut self, call: u64) -> Self {
        self.calls.set(0);
        self.cut_at = Some(call);
        self
    }

    /// Lets things go wrong, by calls that are counted from now.
    pub fn with(mut self, troubles: &[Trouble]) -> Self {
        self.calls.set(0);
        self.troubles = Troubles(troubles.to_vec());
        self
    }

    /// Lets somebody come, at a call that is counted from now.
    pub fn visited(mut self, visit: Visit) -> Self {
        self.calls.set(0);
        self.visit = Some(visit);
        self
    }

    /// Nothing goes wrong any more.
    pub fn repair(&mut self) {
        self.cut_at = None;
        self.troubles.0.clear();
        self.visit = None;
    }

    /// Runs something; `None` if the power went.
    pub fn until_the_cut<T>(&mut self, work: impl FnOnce(&mut Self) -> T) -> Option<T> {
        match catch_unwind(AssertUnwindSafe(|| work(self))) {
            Ok(done) => Some(done),
            Err(panic) if panic.is::<PowerCut>() => {
                self.repair();
                None
            }
            Err(panic) => resume_unwind(panic),
        }
    }

    /// The power goes; nothing runs yet.
    pub fn power_off(&mut self, survives: Survives) {
        self.repair();
        self.disk.power_cut(survives);
        self.boottime_ms = 0;
    }

    /// The power comes back, up to the moment when a recovery runs.
    pub fn power_on(&mut self, survives: Survives) {
        self.power_off(survives);
        self.boots += 1;
        self.services.power_on(&self.disk);
    }

    /// The boot goes on after the recovery.
    pub fn finish_boot(&mut self) {
        self.services.finish_boot(&self.disk);
    }

    /// One call: the power may go before it. Returns its number.
    fn call(&self) -> u64 {
        let call = self.calls.get() + 1;
        assert!(
            self.lie != Some(Lie::CountsByTheWall) || call <= CALLS_MAX,
            "LIVENESS: it does not end within {CALLS_MAX} calls"
        );
        self.calls.set(call);
        if self.cut_at == Some(call) {
            resume_unwind(Box::new(PowerCut));
        }
        call
    }

    fn look(&self) -> io::Result<()> {
        let call = self.call();
        let refusal = self.troubles.refusal(call);
        refusal.map_or_else(|| self.misreported(()), Err)
    }

    /// What was done, unless it is said not to have been.
    fn misreported<T>(&self, done: T) -> io::Result<T> {
        if self.troubles.has(Fault::Misreports, self.calls()) {
            return Err(io::Error::other("simulated EIO, after the work was done"));
        }
        Ok(done)
    }

    fn be_visited(&mut self) {
        if let Some(visit) = self.visit.filter(|visit| visit.at <= self.calls() + 1) {
            self.visit = None;
            let calls = self.calls();
            let troubles = std::mem::take(&mut self.troubles);
            let cut_at = self.cut_at.take();
            let was_held = std::mem::replace(&mut self.lock_is_held, true);
            self.visitor_came_ms = Some(self.boottime_ms);
            self.visitor_was_told = (visit.does)(self);
            self.lock_is_held = was_held;
            (self.troubles, self.cut_at) = (troubles, cut_at);
            self.calls.set(calls);
        }
    }

    /// A call that changes what stands at a path, and needs new space to do it or not.
    fn write(&mut self, path: &Path, needs: Needs) -> io::Result<()> {
        self.be_visited();
        let call = self.call();
        if let Some(refusal) = self.troubles.refusal(call) {
            return Err(refusal);
        }
        if is_volatile(path) {
            return Ok(());
        }
        if self.troubles.has(Fault::ReadOnly, call) {
            return Err(io::Error::new(
                ErrorKind::ReadOnlyFilesystem,
                "simulated EROFS",
            ));
        }
        if needs == Needs::Space && self.troubles.has(Fault::Full, call) {
            return Err(io::Error::new(ErrorKind::StorageFull, "simulated ENOSPC"));
        }
        Ok(())
    }

    /// Writes behind a file's end. On a full disk the first half still fits.
    fn write_bytes(&mut self, path: &Path, content: &[u8]) -> io::Result<()> {
        let has_room = self.disk.has_reserved(path, content.len());
        let needs = if has_room {
            Needs::Nothing
        } else {
            Needs::Space
        };
        match self.write(path, needs) {
            Err(error) if error.kind() == ErrorKind::StorageFull => {
                self.disk.append(path, &content[..content.len() / 2])?;
                Err(error)
            }
            Err(error) => Err(error),
            Ok(()) => {
                self.disk.append(path, content)?;
                self.misreported(())
            }
        }
    }

    /// A sync that fails leaves it open what reached the disk: one way or another, from call to call.
    fn fate(&self) -> Fate {
        [Fate::Lost, Fate::Reached, Fate::Reverted][(self.calls() % 3) as usize]
    }

    /// Whether this sync is one that the host only pretends to do.
    fn pretends_to_sync(&mut self, path: &Path) -> bool {
        if !self.disk.is_dirty(path) {
            return false;
        }
        let number = self.syncs.len();
        self.syncs.push(path.to_owned());
        match &self.lie {
            Some(Lie::ForgetsSyncs(forgotten, numbers)) => {
                forgotten == path && numbers.contains(&number)
            }
            Some(_) | None => false,
        }
    }

    fn tool(&mut self, name: &str) -> Result<(), ToolError> {
        self.be_visited();
        let call = self.call();
        match self.troubles.refusal(call) {
            Some(error) => Err(failed(name, &error.to_string())),
            None => Ok(()),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Needs {
    Space,
    Nothing,
}

fn failed(tool: &str, output: &str) -> ToolError {
    ToolError::Failed {
        tool: tool.to_owned(),
        output: output.to_owned(),
    }
}

impl Disk for Simulated {
    fn read(&self, path: &Path, bytes_max: u64) -> io::Result<Vec<u8>> {
        self.look()?;
        let content = self.disk.read(path)?;
        if content.len() as u64 > bytes_max {
            return Err(io::Error::other("too large"));
        }
        Ok(content)
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn io::Read>> {
        self.look()?;
        Ok(Box::new(io::Cursor::new(self.disk.read(path)?)))
    }

    fn create(&mut self, path: &Path, content: &[u8], access: &Access) -> io::Result<()> {
        let begun = self.write(path, Needs::Space);
        if matches!(&begun, Err(error) if error.kind() == ErrorKind::StorageFull) {
            // An inode was left, and no block: the file is there, and empty.
            self.disk.create_empty(path, access.mode)?;
        }
        begun?;
        self.disk.create_empty(path, access.mode)?;
        self.write(path, Needs::Nothing)?;
        self.disk.set_access(path, (access.mode, ids(access)))?;
        self.write_bytes(path, content)
    }

    fn append(&mut self, path: &Path, content: &[u8]) -> io::Result<()> {
        self.write_bytes(path, content)
    }

    fn truncate(&mut self, path: &Path, bytes: u64) -> io::Result<()> {
        self.write(path, Needs::Nothing)?;
        self.disk.truncate(path, usize::try_from(bytes).unwrap())?;
        self.misreported(())
    }

    fn reserve(&mut self, path: &Path, bytes: u64) -> io::Result<()> {
        self.write(path, Needs::Space)?;
        let kept = if self.lie == Some(Lie::KeepsNoRoom) {
            0
        } else {
            bytes
        };
        self.disk.reserve(path, kept)?;
        self.misreported(())
    }

    fn sync(&mut self, path: &Path) -> io::Result<()> {
        if let Err(error) = self.write(path, Needs::Nothing) {
            self.disk.fail_to_sync(path, self.fate());
            return Err(error);
        }
        if !self.pretends_to_sync(path) {
            self.disk.sync(path)?;
        }
        self.misreported(())
    }

    fn sync_all(&mut self, folder: &Path) -> io::Result<()> {
        if let Err(error) = self.write(folder, Needs::Nothing) {
            self.disk.fail_to_sync_all(folder, self.fate());
            return Err(error);
        }
        self.disk.sync_all(folder)?;
        self.misreported(())
    }

    fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        self.write(to, Needs::Nothing)?;
        if self.lie == Some(Lie::RenamesInTwoSteps) {
            self.disk.remove(to)?;
            self.write(to, Needs::Nothing)?;
        }
        self.disk.rename(from, to)?;
        self.misreported(())
    }

    fn link(&mut self, target: &Path, link: &Path) -> io::Result<()> {
        self.write(link, Needs::Space)?;
        self.disk.link(target, link)?;
        self.misreported(())
    }

    fn hard_link(&mut self, original: &Path, name: &Path) -> io::Result<()> {
        self.write(name, Needs::Space)?;
        self.disk.hard_link(original, name)?;
        self.misreported(())
    }

    fn folder(&mut self, path: &Path, access: &Access) -> io::Result<()> {
        self.write(path, Needs::Space)?;
        let (is_new, given) = (self.disk.stat(path)?.is_none(), ids(access));
        let mode = if given == (0, 0) {
            access.mode
        } else {
            access.mode & 0o700
        };
        self.disk.folder(path, mode)?;
        if is_new && given != (0, 0) {
            self.write(path, Needs::Nothing)?;
            self.disk.set_access(path, (access.mode, given))?;
        }
        self.misreported(())
    }

    fn remove(&mut self, path: &Path) -> io::Result<()> {
        self.write(path, Needs::Nothing)?;
        if self.lie != Some(Lie::KeepsSecrets) || !is_volatile(path) {
            self.disk.remove(path)?;
        }
        self.misreported(())
    }

    fn remove_folder(&mut self, path: &Path) -> io::Result<()> {
        for name in self.disk.list(path)? {
            let inside = path.join(name);
            match self.disk.stat(&inside)?.map(|stat| stat.node) {
                Some(Node::Folder) => self.remove_folder(&inside)?,
                Some(Node::File | Node::Link | Node::Other) | None => self.remove(&inside)?,
            }
        }
        self.write(path, Needs::Nothing)?;
        if self.disk.stat(path)?.is_some() {
            self.disk.remove_empty(path)?;
        }
        self.misreported(())
    }

    fn stat(&self, path: &Path) -> io::Result<Option<Stat>> {
        self.look()?;
        self.disk.stat(path)
    }

    fn read_link(&self, path: &Path) -> io::Result<Option<PathBuf>> {
        self.look()?;
        self.disk.read_link(path)
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<String>> {
        self.look()?;
        self.disk.list(folder)
    }

    fn ids(&self, access: &Access) -> io::Result<(u32, u32)> {
        Ok(ids(access))
    }

    fn lock(&mut self, path: &Path) -> io::Result<Option<Held>> {
        self.look()?;
        if self.disk.stat(path)?.is_none() {
            self.disk.create_empty(path, 0o600)?;
        }
        Ok((!self.lock_is_held).then_some(Held { _file: None }))
    }
}

fn ids(access: &Access) -> (u32, u32) {
    let id = |name: &UserName| if *name == UserName::root() { 0 } else { 999 };
    (id(&access.owner), id(&access.group))
}

impl Clock for Simulated {
    fn boottime_ms(&self) -> u64 {
        let is_ahead = self.troubles.has(Fault::Suspended, self.calls());
        let follows_wall = self.lie == Some(Lie::CountsByTheWall);
        let wall_ms = if follows_wall {
            self.wall_s() * 1000
        } else {
            0
        };
        self.boottime_ms + wall_ms + if is_ahead { DAY_MS } else { 0 }
    }

    fn boot_id(&self) -> io::Result<String> {
        self.look()?;
        Ok(format!("boot {}", self.boots))
    }

    fn unix_s(&self) -> u64 {
        self.call();
        self.wall_s()
    }

    fn sleep(&mut self, time: Duration) {
        self.be_visited();
        self.call();
        self.boottime_ms += milliseconds(time);
    }
}

impl Simulated {
    fn wall_s(&self) -> u64 {
        let has = |fault| self.troubles.has(fault, self.calls());
        match (has(Fault::ClockBehind), has(Fault::ClockAhead)) {
            (true, _) => NOW_UNIX_S - TEN_YEARS_S,
            (false, true) => NOW_UNIX_S + TEN_YEARS_S,
            (false, false) => NOW_UNIX_S,
        }
    }
}

impl World for Simulated {
    fn run(&mut self, tool: &Tool) -> Result<(), ToolError> {
        let name = format!("{tool:?}");
        self.tool(&name)?;
        match self.troubles.refusal_of(tool, self.calls()) {
            Some(Fault::NginxDeaf) => return Ok(()),
            Some(_) => return Err(failed(&name, "simulated refusal")),
            None => {}
        }
        if let Tool::CreateLogin(user) = tool {
            return self.create_login(user);
        }
        let done = self.services.run(&self.disk, tool);
        done.map_err(|output| failed(&name, &output))?;
        self.misreported(())
            .map_err(|error| failed(&name, &error.to_string()))
    }

    fn work(&mut self, job: &Job, tell: &mut dyn FnMut(&str)) -> Result<(), ToolError> {
        tell("working");
        self.do_job(job)
    }

    fn certify(&mut self, wanted: &Certificate, _: &mut dyn FnMut(&str)) -> Result<(), ToolError> {
        self.issue(wanted)
    }

    fn available(
        &self,
        packages: &BTreeSet<PackageName>,
    ) -> Result<BTreeSet<PackageName>, ToolError> {
        self.look()
            .map_err(|error| failed("apt-cache policy", &error.to_string()))?;
        Ok(self.services.candidates(packages))
    }

    fn units(&self, units: &BTreeSet<UnitName>) -> Result<Vec<UnitState>, ToolError> {
        self.look()
            .map_err(|error| failed("systemctl show", &error.to_string()))?;
        Ok(units
            .iter()
            .map(|unit| self.services.state(unit.as_str()))
            .collect())
    }

    fn nginx_serves(&self) -> io::Result<Option<u64>> {
        self.look()?;
        Ok(self.services.marker())
    }

    fn probe(&mut self, app: &AppName, _user: &UserName, _probe: &Probe) -> Result<(), String> {
        self.look().map_err(|error| error.to_string())?;
        self.services.is_well(app.as_str())
    }

    fn log(&self, units: &BTreeSet<UnitName>, _since_boottime_ms: u64) -> Vec<String> {
        let _ = self.look();
        units
            .iter()
            .map(|unit| format!("the log of {unit}"))
            .collect()
    }

    fn excerpt(&self, _asked: &log::Asked) -> Result<log::Excerpt, ToolError> {
        Ok(log::Excerpt::default())
    }

    fn surroundings(&self) -> (Vec<String>, Vec<String>) {
        let _ = self.look();
        (vec!["127.0.0.1:8080".to_owned()], vec![])
    }

    fn unseal(&self, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, String> {
        self.look().map_err(|error| error.to_string())?;
        let opened = sealed
            .strip_prefix(SEAL)
            .ok_or("it is not sealed to this host")?;
        Ok(Zeroizing::new(opened.to_vec()))
    }

    fn in_use(&self, _folder: &Path) -> io::Result<BTreeSet<PathBuf>> {
        self.look()?;
        Ok(self.services.in_use.clone())
    }

    fn warn(&mut self, what: &str) {
        self.warnings.push(what.to_owned());
    }
}
