//! A host in memory, for tests: its disk loses what was not synced, its power can go before any
//! call, any call can fail, and what systemd, nginx and the kernel hold is modelled well enough to
//! tell whether all of it belongs to one generation.
//!
//! A cut is a panic that only [`Simulated::until_the_cut`] catches, so no code runs after it.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::io::{self, ErrorKind};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::time::Duration;

use push_wire::groundwork::PackageName;
use push_wire::health::Probe;
use push_wire::journal::UnitState;
use push_wire::name::{AppName, UnitName, UserName};
use zeroize::Zeroizing;

use super::{Access, Clock, Disk, Held, Job, Stat, Tool, ToolError, World, milliseconds};

mod change;
pub mod disk;
pub mod effect;
pub mod random;
pub mod services;
mod system;

use disk::{Fate, MemoryDisk, Survives, is_volatile};
use services::Services;

/// What is sealed starts with this, in the simulated world.
pub const SEAL: &[u8] = b"sealed:";

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// One call fails (EIO); a sync may or may not have reached the disk before it failed.
    Once,
    /// From now on no disk but that in memory has room (ENOSPC).
    Full,
    /// From now on no disk but that in memory can be written (EROFS).
    ReadOnly,
    /// The wall clock jumps ten years.
    ClockJump,
}

/// The power has gone.
struct PowerCut;

/// The simulated host.
#[derive(Debug, Clone, Default)]
pub struct Simulated {
    /// Its disk.
    pub disk: MemoryDisk,
    /// What is in memory.
    pub services: Services,
    /// What it said in its log.
    pub warnings: Vec<String>,
    calls: Cell<u64>,
    cut_at: Option<u64>,
    fault: Option<(u64, Fault)>,
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

    /// Lets something go wrong at a call, counted from now.
    pub fn fault_at(mut self, call: u64, fault: Fault) -> Self {
        self.calls.set(0);
        self.fault = Some((call, fault));
        self
    }

    /// Nothing goes wrong any more.
    pub fn repair(&mut self) {
        self.cut_at = None;
        self.fault = None;
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

    /// The power comes back, up to the moment when a recovery runs.
    pub fn power_on(&mut self, survives: Survives) {
        self.repair();
        self.disk.power_cut(survives);
        self.boottime_ms = 0;
        self.boots += 1;
        self.services.power_on(&self.disk);
    }

    /// The boot goes on after the recovery.
    pub fn finish_boot(&mut self) {
        self.services.finish_boot(&self.disk);
    }

    /// One call: the power may go before it, or it may fail.
    fn call(&self) -> Option<Fault> {
        let call = self.calls.get() + 1;
        self.calls.set(call);
        if self.cut_at == Some(call) {
            resume_unwind(Box::new(PowerCut));
        }
        match self.fault {
            Some((at, Fault::Once)) if at == call => Some(Fault::Once),
            Some((at, fault @ (Fault::Full | Fault::ReadOnly | Fault::ClockJump)))
                if at <= call =>
            {
                Some(fault)
            }
            Some((_, _)) | None => None,
        }
    }

    fn look(&self) -> io::Result<()> {
        match self.call() {
            Some(Fault::Once) => Err(io::Error::other("simulated EIO")),
            Some(Fault::Full | Fault::ReadOnly | Fault::ClockJump) | None => Ok(()),
        }
    }

    /// A call that changes what stands at a path, and needs new space to do it or not.
    fn write(&mut self, path: &Path, needs: Needs) -> io::Result<()> {
        match self.call() {
            Some(Fault::Once) => Err(io::Error::other("simulated EIO")),
            Some(Fault::ReadOnly) if !is_volatile(path) => Err(io::Error::new(
                ErrorKind::ReadOnlyFilesystem,
                "simulated EROFS",
            )),
            Some(Fault::Full) if needs == Needs::Space && !is_volatile(path) => {
                Err(io::Error::new(ErrorKind::StorageFull, "simulated ENOSPC"))
            }
            Some(Fault::Full | Fault::ReadOnly | Fault::ClockJump) | None => Ok(()),
        }
    }

    fn tool(&self, name: &str) -> Result<(), ToolError> {
        match self.call() {
            Some(Fault::Once) => Err(failed(name, "simulated failure")),
            Some(Fault::Full | Fault::ReadOnly | Fault::ClockJump) | None => Ok(()),
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
        self.write(path, Needs::Space)?;
        self.disk.create(path, content, (access.mode, ids(access)))
    }

    fn append(&mut self, path: &Path, content: &[u8]) -> io::Result<()> {
        let has_room = self.disk.has_reserved(path, content.len());
        self.write(
            path,
            if has_room {
                Needs::Nothing
            } else {
                Needs::Space
            },
        )?;
        self.disk.append(path, content)
    }

    fn truncate(&mut self, path: &Path, bytes: u64) -> io::Result<()> {
        self.write(path, Needs::Nothing)?;
        self.disk.truncate(path, usize::try_from(bytes).unwrap())
    }

    fn reserve(&mut self, path: &Path, bytes: u64) -> io::Result<()> {
        self.write(path, Needs::Space)?;
        self.disk.reserve(path, bytes)
    }

    fn sync(&mut self, path: &Path) -> io::Result<()> {
        if let Err(error) = self.write(path, Needs::Nothing) {
            let lost = self.calls.get().is_multiple_of(2);
            self.disk
                .fail_to_sync(path, if lost { Fate::Lost } else { Fate::Reached });
            return Err(error);
        }
        self.disk.sync(path)
    }

    fn sync_all(&mut self, folder: &Path) -> io::Result<()> {
        self.write(folder, Needs::Nothing)?;
        self.disk.sync_all(folder)
    }

    fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        self.write(to, Needs::Nothing)?;
        self.disk.rename(from, to)
    }

    fn link(&mut self, target: &Path, link: &Path) -> io::Result<()> {
        self.write(link, Needs::Space)?;
        self.disk.link(target, link)
    }

    fn hard_link(&mut self, original: &Path, name: &Path) -> io::Result<()> {
        self.write(name, Needs::Space)?;
        self.disk.hard_link(original, name)
    }

    fn folder(&mut self, path: &Path, access: &Access) -> io::Result<()> {
        self.write(path, Needs::Space)?;
        self.disk.folder(path, access.mode, ids(access))
    }

    fn remove(&mut self, path: &Path) -> io::Result<()> {
        self.write(path, Needs::Nothing)?;
        self.disk.remove(path)
    }

    fn remove_folder(&mut self, path: &Path) -> io::Result<()> {
        self.write(path, Needs::Nothing)?;
        self.disk.remove_folder(path)
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
            self.disk.create(path, b"", (0o600, (0, 0)))?;
        }
        Ok(Some(Held { _file: None }))
    }
}

fn ids(access: &Access) -> (u32, u32) {
    let id = |name: &UserName| if *name == UserName::root() { 0 } else { 999 };
    (id(&access.owner), id(&access.group))
}

impl Clock for Simulated {
    fn boottime_ms(&self) -> u64 {
        self.boottime_ms
    }

    fn boot_id(&self) -> io::Result<String> {
        self.look()?;
        Ok(format!("boot {}", self.boots))
    }

    fn unix_s(&self) -> u64 {
        match self.call() {
            Some(Fault::ClockJump) => 315_360_000,
            Some(Fault::Once | Fault::Full | Fault::ReadOnly) | None => 1_800_000_000,
        }
    }

    fn sleep(&mut self, time: Duration) {
        let _ = self.call();
        self.boottime_ms += milliseconds(time);
    }
}

impl World for Simulated {
    fn run(&mut self, tool: &Tool) -> Result<(), ToolError> {
        let name = format!("{tool:?}");
        self.tool(&name)?;
        if let Tool::CreateLogin(user) = tool {
            return self.create_login(user);
        }
        self.services
            .run(&self.disk, tool)
            .map_err(|output| failed(&name, &output))
    }

    fn work(&mut self, job: &Job, tell: &mut dyn FnMut(&str)) -> Result<(), ToolError> {
        tell("working");
        self.do_job(job)
    }

    fn available(
        &self,
        packages: &BTreeSet<PackageName>,
    ) -> Result<BTreeSet<PackageName>, ToolError> {
        self.tool("apt-cache policy")?;
        Ok(self.services.candidates(packages))
    }

    fn units(&self, units: &BTreeSet<UnitName>) -> Result<Vec<UnitState>, ToolError> {
        self.tool("systemctl show")?;
        Ok(units
            .iter()
            .map(|unit| self.services.state(unit.as_str()))
            .collect())
    }

    fn nginx_serves(&self) -> Option<u64> {
        self.look().ok()?;
        self.services.marker()
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
