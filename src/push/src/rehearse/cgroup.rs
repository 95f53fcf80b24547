//! A cgroup for each host. It keeps two hosts' systemds from meeting in one tree, where the one
//! would stop the other's services, and it is what a host is killed by: whole, at once, and
//! without a process id that might be somebody else's by now.
//!
//! The groups lie beside those of the laptop's own systemd, as Docker's do.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::error::{Error, IoExt};
use super::mounts;
use super::record::FleetNumber;

/// The one group under which all of them are.
const TOP: &str = "push-rehearsal";

/// How long the kernel may take to end what it was told to kill.
const KILL_WITHIN: Duration = Duration::from_secs(10);

/// How often it is looked at.
const KILL_POLL: Duration = Duration::from_millis(5);

/// What a host's systemd can limit its services by, where the laptop's kernel offers it.
const CONTROLLERS: [&str; 4] = ["cpu", "io", "memory", "pids"];

/// How often a group is made anew when the one above it goes away meanwhile, because another fleet
/// that was alone in it has gone.
const MAKE_TRIES: usize = 20;

/// Where cgroup2 is mounted: at `/sys/fs/cgroup`, or below it beside the first version's.
pub(super) fn mounted() -> Option<PathBuf> {
    let mounts = mounts::all().ok()?;
    mounts
        .into_iter()
        .find(|m| m.kind == "cgroup2")
        .map(|m| m.at)
}

/// The group of one host, in the hierarchies that systemd uses.
#[derive(Debug, Clone)]
pub(super) struct Cgroup {
    unified: PathBuf,
    named: Option<PathBuf>,
}

impl Cgroup {
    pub fn of(number: FleetNumber, index: u8) -> Result<Self, Error> {
        let mounts = mounts::all()?;
        let below = |at: &Path| {
            at.join(TOP)
                .join(number.to_string())
                .join(index.to_string())
        };
        let unified = mounts.iter().find(|m| m.kind == "cgroup2");
        // Only where the first version is in use too. Not joined, systemd-nspawn would leave
        // groups behind at its top.
        let named = mounts
            .iter()
            .find(|m| m.kind == "cgroup" && m.options.split(',').any(|o| o == "name=systemd"));
        match unified {
            Some(unified) => Ok(Self {
                unified: below(&unified.at),
                named: named.map(|mount| below(&mount.at)),
            }),
            None => Err(Error::KernelLacks {
                what: "no cgroup2 file system is mounted".to_owned(),
            }),
        }
    }

    /// Makes the group, empty.
    pub fn make(&self) -> Result<(), Error> {
        for group in self.hierarchies() {
            make_tree(group)?;
        }
        // From the top of the hierarchy down to the fleet: a group passes on what it was given.
        let ancestors: Vec<&Path> = self.unified.ancestors().skip(1).take(3).collect();
        ancestors.into_iter().rev().for_each(offer_controllers);
        Ok(())
    }

    /// The files that a process writes its id to in order to join.
    pub fn doors(&self) -> impl Iterator<Item = PathBuf> {
        self.hierarchies().map(|group| group.join("cgroup.procs"))
    }

    /// The process id, on the laptop, of the host's init. None while there is no host.
    pub fn init(&self) -> Option<u32> {
        let scope = self.unified.join("payload/init.scope/cgroup.procs");
        let members = fs::read_to_string(scope).ok()?;
        members
            .lines()
            .filter_map(|line| line.parse().ok())
            .find(|pid| is_init(*pid))
    }

    /// Ends every process of the host at once, and waits until none is left.
    pub fn kill(&self) -> Result<(), Error> {
        let lever = self.unified.join("cgroup.kill");
        if !lever.exists() {
            return Ok(());
        }
        fs::write(&lever, "1").doing("killing by", &lever)?;
        let deadline = Instant::now() + KILL_WITHIN;
        while self.is_populated() {
            if Instant::now() >= deadline {
                return Err(std::io::Error::from(std::io::ErrorKind::TimedOut))
                    .doing("waiting for the end of the processes in", &self.unified);
            }
            std::thread::sleep(KILL_POLL);
        }
        Ok(())
    }

    /// Removes the group, and those above it that nobody else is in.
    pub fn remove(&self) -> Result<(), Error> {
        for group in self.hierarchies() {
            remove_tree(group)?;
            for above in group.ancestors().skip(1).take(2) {
                // Refused while another host or fleet is in it, which is as it should be.
                let _ = fs::remove_dir(above);
            }
        }
        Ok(())
    }

    fn hierarchies(&self) -> impl Iterator<Item = &PathBuf> {
        std::iter::once(&self.unified).chain(&self.named)
    }

    fn is_populated(&self) -> bool {
        fs::read_to_string(self.unified.join("cgroup.events"))
            .is_ok_and(|events| events.contains("populated 1"))
    }
}

/// Passes the kernel's controllers down to a group's children. A machine that keeps them to itself
/// (in the hierarchies of the first version) still boots hosts; their services' limits are then
/// accepted and not enforced. So a refusal is no error.
fn offer_controllers(group: &Path) {
    let offered = fs::read_to_string(group.join("cgroup.controllers")).unwrap_or_default();
    for controller in offered
        .split_whitespace()
        .filter(|c| CONTROLLERS.contains(c))
    {
        let _ = fs::write(
            group.join("cgroup.subtree_control"),
            format!("+{controller}"),
        );
    }
}

/// Whether a process is number 1 of a process id namespace other than ours.
fn is_init(pid: u32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    is_init_status(&status)
}

fn is_init_status(status: &str) -> bool {
    status
        .lines()
        .find_map(|line| line.strip_prefix("NSpid:"))
        .is_some_and(|pids| {
            let pids: Vec<&str> = pids.split_whitespace().collect();
            pids.len() > 1 && pids.last() == Some(&"1")
        })
}

fn make_tree(group: &Path) -> Result<(), Error> {
    let mut made = fs::create_dir_all(group);
    for _ in 1..MAKE_TRIES {
        match &made {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                made = fs::create_dir_all(group);
            }
            Err(_) | Ok(()) => break,
        }
    }
    made.doing("making the cgroup", group)
}

/// Groups are removed one by one, the inner first; the files in them are the kernel's.
fn remove_tree(group: &Path) -> Result<(), Error> {
    let Ok(entries) = fs::read_dir(group) else {
        return Ok(());
    };
    for entry in entries.filter_map(Result::ok) {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_tree(&entry.path())?;
        }
    }
    fs::remove_dir(group).doing("removing the cgroup", group)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_first_process_of_an_inner_namespace_is_an_init() {
        assert!(is_init_status("Name:\tsystemd\nNSpid:\t4711\t1\n"));
        assert!(!is_init_status("Name:\tsystemd\nNSpid:\t1\n"));
        assert!(!is_init_status("Name:\tsshd\nNSpid:\t4712\t17\n"));
        assert!(!is_init_status(""));
    }
}
