//! A small systemd, nginx and kernel: what they hold in memory, taken from the disk at the moments
//! when the real ones take it, and lost with the power.
//!
//! A unit's text is lines of `key=value`. `app=NAME` lets it read that app's secrets when it starts;
//! `fails` keeps it from starting; `crashes` lets it restart by itself; `sick` lets it fail its
//! probes. A site that holds `refused` is one that nginx does not take.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use push_wire::journal::UnitState;
use push_wire::upgrade::Packages;

use super::disk::MemoryDisk;
use crate::layout::Layout;
use crate::machine::{Owner, Tool};

/// A unit's process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Running {
    /// The text that it was started from.
    pub text: String,
    /// The secrets that it read.
    pub secrets: BTreeMap<String, Vec<u8>>,
    invocation: u64,
}

/// What is in memory.
#[derive(Debug, Clone, Default)]
pub struct Services {
    /// The unit texts that systemd has read.
    pub loaded: BTreeMap<String, String>,
    /// The processes.
    pub running: BTreeMap<String, Running>,
    /// The units that have failed.
    pub failed: BTreeSet<String>,
    /// The texts of `/etc/push/current/nginx` that nginx's workers serve.
    pub nginx: BTreeMap<String, String>,
    /// `table inet push`.
    pub table: Option<String>,
    /// What systemd will do once the boot has come so far; `None` when it has.
    waiting: Option<Vec<Tool>>,
    /// Paths that processes still use.
    pub in_use: BTreeSet<PathBuf>,
    invocations: u64,
    /// The jobs that apt and dpkg were given.
    pub jobs: Vec<String>,
    /// How often a reboot was ordered.
    pub reboots: u32,
    /// What apt's sources have beyond what is installed.
    pub offer: Packages,
    /// Who runs from files that are gone, and starts anew when it is restarted.
    pub outdated: BTreeMap<Owner, PathBuf>,
    /// Packages whose scripts fail.
    pub broken: BTreeSet<String>,
    /// The packages that apt's lists name before they are fetched; all that exist, when not said.
    pub listed: Option<BTreeSet<String>>,
    /// What the authority has against giving certificates.
    pub uncertified: Option<String>,
}

impl Services {
    /// The machine is switched on: systemd reads its units, and knows what it will start.
    pub fn power_on(&mut self, disk: &MemoryDisk) {
        *self = Self {
            invocations: self.invocations,
            offer: std::mem::take(&mut self.offer),
            broken: std::mem::take(&mut self.broken),
            ..Self::default()
        };
        self.read_units(disk);
        let units = Layout::new("/").units();
        let mut wanted = Vec::new();
        for name in disk.list(&units).unwrap() {
            if let Some(_target) = name.strip_suffix(".wants") {
                for unit in disk.list(&units.join(&name)).unwrap() {
                    if self.loaded.contains_key(&unit) {
                        wanted.push(Tool::RestartLater(unit.parse().unwrap()));
                    }
                }
            }
        }
        self.waiting = Some(wanted);
    }

    /// The boot goes on: what waited is done, in order, and nginx starts.
    pub fn finish_boot(&mut self, disk: &MemoryDisk) {
        for tool in self.waiting.take().unwrap_or_default() {
            // Nobody is there to be told of a unit that does not start.
            let _ = self.run(disk, &tool);
        }
        self.reload_nginx(disk);
    }

    pub(super) fn run(&mut self, disk: &MemoryDisk, tool: &Tool) -> Result<(), String> {
        match tool {
            Tool::DaemonReload => {
                Self::find_dangling(disk)?;
                self.read_units(disk);
            }
            Tool::Restart(unit) => return self.start(disk, unit.as_str()),
            Tool::TryRestart(unit) => {
                self.outdated.remove(&Owner::Service(unit.clone()));
                if self.running.contains_key(unit.as_str()) {
                    return self.start(disk, unit.as_str());
                }
            }
            Tool::TryReload(unit) if !self.running.contains_key(unit.as_str()) => {}
            Tool::Reload(unit) | Tool::TryReload(unit) => {
                let before = self.running.get(unit.as_str()).map(|unit| unit.invocation);
                self.start(disk, unit.as_str())?;
                if let (Some(invocation), Some(unit)) =
                    (before, self.running.get_mut(unit.as_str()))
                {
                    unit.invocation = invocation;
                }
            }
            Tool::Stop(unit) => drop(self.running.remove(unit.as_str())),
            Tool::StopLater(unit) => return self.later(disk, tool, &Tool::Stop(unit.clone())),
            Tool::RestartLater(unit) => {
                return self.later(disk, tool, &Tool::Restart(unit.clone()));
            }
            Tool::ResetFailed(unit) => drop(self.failed.remove(unit.as_str())),
            Tool::LoadFirewall(file) => self.table = Some(text(disk, file)?),
            Tool::RemoveFirewall => self.table = None,
            Tool::ReloadNginx => self.reload_nginx(disk),
            Tool::Sysctl
            | Tool::CreateUser(_)
            | Tool::CreateLogin(_)
            | Tool::SetHostname(_)
            | Tool::MakeLocales
            | Tool::MakeSwap(_, _)
            | Tool::SwapOn(_) => {}
            Tool::Reboot => self.reboots += 1,
        }
        Ok(())
    }

    /// A unit's later order replaces the earlier one, as in systemd's queue.
    fn later(&mut self, disk: &MemoryDisk, order: &Tool, at_once: &Tool) -> Result<(), String> {
        let unit = |tool: &Tool| match tool {
            Tool::StopLater(unit) | Tool::RestartLater(unit) => Some(unit.clone()),
            _ => None,
        };
        match &mut self.waiting {
            None => self.run(disk, at_once),
            Some(waiting) => {
                waiting.retain(|other| unit(other) != unit(order));
                waiting.push(order.clone());
                Ok(())
            }
        }
    }

    /// Programs that read a whole folder, as sshd does, fail for one link in it that leads nowhere.
    fn find_dangling(disk: &MemoryDisk) -> Result<(), String> {
        let folder = Path::new("/etc");
        let visible = disk
            .list(folder)
            .unwrap()
            .into_iter()
            .filter(|name| !name.starts_with('.'));
        for place in visible.map(|name| folder.join(name)) {
            let is_link = disk.read_link(&place).unwrap().is_some();
            if is_link && disk.read(&place).is_err() {
                return Err(format!("{} leads nowhere", place.display()));
            }
        }
        Ok(())
    }

    fn read_units(&mut self, disk: &MemoryDisk) {
        let folder = Layout::new("/").units();
        self.loaded = disk
            .list(&folder)
            .unwrap()
            .into_iter()
            .filter_map(|name| Some((name.clone(), text(disk, &folder.join(name)).ok()?)))
            .collect();
    }

    fn start(&mut self, disk: &MemoryDisk, unit: &str) -> Result<(), String> {
        self.running.remove(unit);
        let text = self
            .loaded
            .get(unit)
            .cloned()
            .ok_or(format!("Unit {unit} not found"))?;
        if text.lines().any(|line| line == "fails") {
            self.failed.insert(unit.to_owned());
            return Err(format!("Job for {unit} failed"));
        }
        if self.failed.contains(unit) {
            return Err(format!("{unit}: start request repeated too quickly"));
        }
        let mut secrets = BTreeMap::new();
        if let Some(app) = text.lines().find_map(|line| line.strip_prefix("app=")) {
            let folder = Layout::new("/").secrets().join(app);
            for name in disk.list(&folder).unwrap() {
                let content = disk
                    .read(&folder.join(&name))
                    .map_err(|error| error.to_string())?;
                secrets.insert(name, content);
            }
        }
        self.invocations += 1;
        let running = Running {
            text,
            secrets,
            invocation: self.invocations,
        };
        self.running.insert(unit.to_owned(), running);
        Ok(())
    }

    /// A configuration that is refused leaves the old one in place and says nothing.
    fn reload_nginx(&mut self, disk: &MemoryDisk) {
        let folder = Layout::new("/").live().nginx();
        let texts: BTreeMap<String, String> = disk
            .list(&folder)
            .unwrap()
            .into_iter()
            .filter_map(|name| Some((name.clone(), text(disk, &folder.join(name)).ok()?)))
            .collect();
        if !texts.values().any(|text| text.contains("refused")) {
            self.nginx = texts;
        }
    }

    /// The generation that the marker tells, alone or as the site that nginx would serve.
    pub fn marker(&self) -> Option<u64> {
        let text = self.nginx.get("00-generation.conf")?;
        text.parse()
            .ok()
            .or_else(|| text.split('"').nth(1)?.parse().ok())
    }

    pub(super) fn state(&self, unit: &str) -> UnitState {
        let running = self.running.get(unit);
        let active = match running {
            Some(_) => "active",
            None if self.failed.contains(unit) => "failed",
            None => "inactive",
        };
        let crashes = running.is_some_and(|unit| unit.text.lines().any(|line| line == "crashes"));
        UnitState {
            unit: unit.to_owned(),
            active: active.to_owned(),
            restarts: u32::from(crashes),
            invocation: running.map_or(String::new(), |unit| unit.invocation.to_string()),
            ..UnitState::default()
        }
    }

    /// Whether a process of an app says that it is well.
    pub fn is_well(&self, app: &str) -> Result<(), String> {
        let of_app = format!("app={app}");
        let sick = |unit: &&Running| unit.text.lines().any(|line| line == "sick");
        let mut units = self
            .running
            .values()
            .filter(|unit| unit.text.lines().any(|line| line == of_app));
        match units.find(sick) {
            Some(_) => Err("status 503: sick".to_owned()),
            None => Ok(()),
        }
    }
}

fn text(disk: &MemoryDisk, path: &Path) -> Result<String, String> {
    let bytes = disk.read(path).map_err(|error| error.to_string())?;
    String::from_utf8(bytes).map_err(|error| error.to_string())
}
