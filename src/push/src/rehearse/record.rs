//! What a fleet is and where it is on disk: written before anything of it exists. Knows names and
//! numbers; makes and removes nothing but its own files.
//!
//! Every name of a kernel object follows from the fleet's number and the host's index. So no name
//! comes from the operator, and a fleet can be removed by a process that finds nothing but its
//! folder, even when the record in it is damaged.

use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use push_wire::groundwork::PackageName;
use serde::{Deserialize, Serialize};

use super::disk::Disk;
use super::error::{Error, IoExt};
use super::keys::Access;
use super::network::Subnet;
use super::suite::{Furnishing, Kind, Suite};

/// How many fleets there can be on one machine at once.
pub(super) const FLEETS_MAX: u16 = 64;

/// The record's own format; a record of another one is refused rather than guessed at.
const FORMAT: u32 = 1;

/// Which fleet of this machine: the smallest number that was free.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct FleetNumber(pub(super) u16);

impl fmt::Display for FleetNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FleetNumber {
    /// The bridge that joins the fleet's hosts with the laptop. Interface names have at most 15
    /// bytes (`IFNAMSIZ`); these have at most 9.
    pub(super) fn bridge(self) -> String {
        format!("pr{self}")
    }

    /// The laptop's end of a host's cable; also the name of its network namespace, of its machine
    /// and of the nft table that blocks it.
    pub(super) fn host(self, index: u8) -> String {
        format!("pr{self}h{index}")
    }
}

/// Whether a fleet outlives the process that made it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Keep {
    /// It goes when its process goes.
    Guarded,
    /// The operator asked for it to stay.
    Kept,
}

/// One fleet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FleetRecord {
    format: u32,
    /// Its number.
    pub number: FleetNumber,
    pub(super) keep: Keep,
    pub(super) subnet: Subnet,
    /// Its hosts.
    pub hosts: Vec<HostRecord>,
}

/// One host, as whoever wants to connect to it needs to know it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HostRecord {
    /// Its name, which is also its hostname.
    pub name: String,
    pub(super) index: u8,
    /// The Debian that it runs.
    pub suite: Suite,
    /// What is installed on it.
    #[serde(default)]
    pub furnishing: Furnishing,
    /// What it can install besides what every bootstrap may want.
    #[serde(default)]
    pub(super) offered: BTreeSet<PackageName>,
    /// What its disk is made of.
    pub disk: Disk,
    /// Who may log in, and how they become root.
    pub access: Access,
    /// Where sshd listens.
    pub address: Ipv4Addr,
    /// At which port.
    pub port: u16,
    /// Its host key's public line, `ssh-ed25519 AAAA…`. Empty until it has one.
    pub host_key: String,
    /// The operator's private key file.
    pub identity: PathBuf,
}

impl HostRecord {
    /// What its root file system is.
    pub(super) fn kind(&self) -> Kind {
        Kind {
            suite: self.suite,
            furnishing: self.furnishing,
            offered: self.offered.clone(),
        }
    }
}

impl FleetRecord {
    pub(super) fn new(number: FleetNumber, subnet: Subnet, hosts: Vec<HostRecord>) -> Self {
        Self {
            format: FORMAT,
            number,
            keep: Keep::Guarded,
            subnet,
            hosts,
        }
    }
}

/// The folder of one fleet, with its record and its hosts' disks.
#[derive(Debug, Clone)]
pub(super) struct FleetFolder(pub PathBuf);

impl FleetFolder {
    /// Held locked by the process that the fleet belongs to; the kernel lets go when that dies.
    pub fn owner(&self) -> PathBuf {
        self.0.join("owner.lock")
    }

    /// The operator's private key; its public half lies beside it.
    pub fn identity(&self) -> PathBuf {
        self.0.join("operator")
    }

    pub fn host(&self, index: u8) -> HostFolder {
        HostFolder(self.0.join(format!("h{index}")))
    }

    /// The hosts of which anything was made. A host's folder is the first thing of it.
    pub fn hosts(&self) -> Vec<(u8, HostFolder)> {
        (0..=u8::MAX)
            .map(|index| (index, self.host(index)))
            .filter(|(_, folder)| folder.0.exists())
            .collect()
    }

    /// Reads the record. None: the process died before it had written one, and so before it had
    /// made anything.
    pub fn read(&self) -> Result<Option<FleetRecord>, Error> {
        let path = self.record();
        match fs::read_to_string(&path) {
            Ok(text) => parse(&path, &text).map(Some),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).doing("reading", &path),
        }
    }

    /// Replaces the record whole, so that a reader never sees half of one.
    pub fn write(&self, record: &FleetRecord) -> Result<(), Error> {
        let path = self.record();
        let text = serde_json::to_string_pretty(record).map_err(|error| Error::Record {
            path: path.clone(),
            reason: error.to_string(),
        })?;
        let unfinished = path.with_extension("unfinished");
        fs::write(&unfinished, text).doing("writing", &unfinished)?;
        fs::rename(&unfinished, &path).doing("replacing", &path)
    }

    fn record(&self) -> PathBuf {
        self.0.join("fleet.json")
    }
}

/// The folder of one host.
#[derive(Debug, Clone)]
pub(super) struct HostFolder(pub PathBuf);

impl HostFolder {
    /// Where its root file system is mounted.
    pub fn root(&self) -> PathBuf {
        self.0.join("root")
    }

    /// What it wrote: a folder, or the mount point of its own file system.
    pub fn disk(&self) -> PathBuf {
        self.0.join("disk")
    }

    /// Its own file system, where it has one.
    pub fn image(&self) -> PathBuf {
        self.0.join("disk.img")
    }

    /// Where the file system is mounted that holds another one, for file systems that cannot be
    /// stopped by themselves.
    pub fn platter(&self) -> PathBuf {
        self.0.join("platter")
    }

    /// That other one.
    pub fn platter_image(&self) -> PathBuf {
        self.platter().join("disk.img")
    }

    /// What it said while booting.
    pub fn console(&self) -> PathBuf {
        self.0.join("console.log")
    }
}

fn parse(path: &Path, text: &str) -> Result<FleetRecord, Error> {
    let unreadable = |reason: String| Error::Record {
        path: path.to_owned(),
        reason,
    };
    let record: FleetRecord =
        serde_json::from_str(text).map_err(|error| unreadable(error.to_string()))?;
    if record.format != FORMAT {
        return Err(unreadable(format!(
            "it has format {}, not {FORMAT}",
            record.format
        )));
    }
    Ok(record)
}

#[cfg(test)]
mod tests {
    use super::super::disk::Filesystem;
    use super::*;

    fn record() -> FleetRecord {
        let number = FleetNumber(3);
        let host = HostRecord {
            name: "web1".to_owned(),
            index: 0,
            suite: Suite::Trixie,
            furnishing: Furnishing::Fresh,
            offered: ["nodejs".parse().unwrap()].into(),
            disk: Disk::Loop {
                filesystem: Filesystem::Ext4,
                size_mib: 256,
            },
            access: Access::Sudo,
            address: Ipv4Addr::new(198, 18, 3, 10),
            port: 22,
            host_key: "ssh-ed25519 AAAA".to_owned(),
            identity: PathBuf::from("/f/operator"),
        };
        FleetRecord::new(number, Subnet::new(198, 18, 3), vec![host])
    }

    #[test]
    fn a_record_comes_back_as_it_was_written() {
        let dir = tempfile::tempdir().unwrap();
        let folder = FleetFolder(dir.path().to_owned());
        folder.write(&record()).unwrap();
        assert_eq!(folder.read().unwrap(), Some(record()));
    }

    #[test]
    fn a_damaged_record_is_refused_by_name_and_not_guessed_at() {
        let path = Path::new("/f/3/fleet.json");
        let whole = serde_json::to_string(&record()).unwrap();
        for damaged in [
            "",
            &whole[..whole.len() / 2],
            &whole.replace("\"format\":1", "\"format\":2"),
            &whole.replace("trixie", "sid"),
            &whole.replace("\"index\":0", "\"index\":0,\"more\":1"),
        ] {
            let error = parse(path, damaged).unwrap_err();
            assert!(
                error.to_string().contains("/f/3/fleet.json"),
                "{damaged}: {error}"
            );
        }
    }

    #[test]
    fn every_interface_name_fits_the_kernel_and_is_nobody_elses() {
        let mut seen = std::collections::BTreeSet::new();
        for number in (0..FLEETS_MAX).map(FleetNumber) {
            let hosts = (0..=u8::MAX).map(|index| number.host(index));
            for name in hosts.chain([number.bridge()]) {
                assert!(name.len() <= 15, "{name}");
                assert!(seen.insert(name.clone()), "{name} twice");
            }
        }
    }
}
