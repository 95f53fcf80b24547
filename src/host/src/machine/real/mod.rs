//! The real host. Each file here is one side of it; none of them decides anything.
//!
//! | file | does |
//! |---|---|
//! | [`accounts`] | users and groups by number, without NSS, which a static program does not have |
//! | `disk` | the [`super::Disk`] of a host |
//! | [`process`] | runs a program within a limit of time and output |
//! | `tool` | the command of each [`super::Tool`] |
//! | `units` | what systemd says of units, and their log |
//! | `probe` | asks an app whether it is well |
//! | `surroundings` | what else is worth knowing about a host in trouble |
//! | `unseal` | opens what is sealed to the host's key |

use std::collections::BTreeSet;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use push_wire::health::Probe;
use push_wire::journal::UnitState;
use push_wire::name::{AppName, UnitName, UserName};
use rustix::time::{ClockId, clock_gettime};
use zeroize::Zeroizing;

use super::{Clock, Tool, ToolError, World};
use crate::layout::Layout;

pub mod accounts;
mod disk;
mod probe;
pub mod process;
mod surroundings;
mod tool;
mod units;
mod unseal;

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

    fn units(&self, units: &BTreeSet<UnitName>) -> Result<Vec<UnitState>, ToolError> {
        units::show(units)
    }

    fn nginx_serves(&self) -> Option<u64> {
        probe::nginx_generation()
    }

    fn probe(&mut self, app: &AppName, user: &UserName, probe: &Probe) -> Result<(), String> {
        probe::ask(&self.layout, (app, user), probe)
    }

    fn log(&self, units: &BTreeSet<UnitName>, since_boottime_ms: u64) -> Vec<String> {
        units::log(units, self.boottime_ms().saturating_sub(since_boottime_ms))
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
