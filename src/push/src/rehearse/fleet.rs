//! Hosts that live and die together. The value is the guard: when it goes, for whatever reason,
//! so do the hosts, unless the operator asked to keep them.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use push_wire::groundwork::PackageName;

use super::disk::Disk;
use super::error::{Error, IoExt};
use super::host::{Blueprint, RehearsalHost};
use super::image::{self, Image};
use super::keys::{self, Access};
use super::network::{self, HOSTS_MAX, Subnet};
use super::place::Place;
use super::record::{FLEETS_MAX, FleetFolder, FleetNumber, FleetRecord, HostRecord, Keep};
use super::suite::{Furnishing, Kind, Suite};
use super::sweep;
use crate::name::HostName;

/// How many hosts are made and booted at once: more would wait for one another's processor.
const BOOTS_AT_ONCE: usize = 8;

/// The port of sshd on every host.
const SSH_PORT: u16 = 22;

/// What a host should be like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostSpec {
    /// Its name, which also becomes its hostname.
    pub name: String,
    /// The Debian that it runs.
    pub suite: Suite,
    /// What is installed on it.
    pub furnishing: Furnishing,
    /// What it writes to.
    pub disk: Disk,
    /// Who may log in.
    pub access: Access,
    /// What a fresh host can install besides what every bootstrap may want.
    pub offered: BTreeSet<PackageName>,
}

impl HostSpec {
    /// A Debian 12 host on an overlay that `deploy` logs in to, with sudo: as plain as they come.
    pub fn named(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            suite: Suite::Bookworm,
            furnishing: Furnishing::Furnished,
            disk: Disk::Overlay,
            access: Access::Sudo,
            offered: BTreeSet::new(),
        }
    }

    /// A Debian 12 host as a provider hands it over: sshd alone, root by password.
    pub fn fresh(name: impl Into<String>) -> Self {
        Self {
            furnishing: Furnishing::Fresh,
            access: Access::Password,
            ..Self::named(name)
        }
    }

    /// The same host, able to install these as well.
    #[must_use]
    pub fn offering(self, offered: BTreeSet<PackageName>) -> Self {
        Self { offered, ..self }
    }

    /// The same host with another Debian.
    #[must_use]
    pub fn suite(self, suite: Suite) -> Self {
        Self { suite, ..self }
    }

    /// The same host with another disk.
    #[must_use]
    pub fn disk(self, disk: Disk) -> Self {
        Self { disk, ..self }
    }

    /// The same host with another way in.
    #[must_use]
    pub fn access(self, access: Access) -> Self {
        Self { access, ..self }
    }
}

/// What has been reached on the way to a fleet, for whoever tells the operator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Milestone {
    /// A root file system is being made, which takes some 20 s, once.
    MakingImage(Suite),
    /// It is made.
    ImageMade(Suite, Duration),
    /// A host is up.
    HostUp(String, Duration),
}

/// Hosts that are up. Dropping it takes them down.
#[derive(Debug)]
pub struct Fleet {
    folder: FleetFolder,
    record: FleetRecord,
    hosts: Vec<RehearsalHost>,
    /// Locked as long as this process holds it open.
    owner: Option<File>,
}

impl Fleet {
    /// Boots hosts, all at once. Fleets whose process has died are taken down first.
    ///
    /// # Errors
    /// What keeps any one of them from booting; then nothing is left of the others.
    pub fn boot(
        place: &Place,
        specs: &[HostSpec],
        tell: &(dyn Fn(Milestone) + Sync),
    ) -> Result<Self, Error> {
        check(specs)?;
        sweep::take_down_abandoned(place)?;
        let images = images(place, specs, tell)?;
        let mut fleet = Self::claim(place, specs)?;
        keys::make_pair(&fleet.folder.identity())?;
        network::make_bridge(fleet.record.number, fleet.record.subnet)?;
        fleet.hosts = fleet.boot_hosts(&images, tell)?;
        // Now with the host keys, for whoever reads it later.
        fleet.record.hosts = fleet
            .hosts
            .iter()
            .map(|host| host.record().clone())
            .collect();
        fleet.folder.write(&fleet.record)?;
        Ok(fleet)
    }

    /// Its number on this machine.
    pub fn number(&self) -> FleetNumber {
        self.record.number
    }

    /// Its folder, with the operator's key.
    pub fn folder(&self) -> &Path {
        &self.folder.0
    }

    /// Its hosts, in the order asked for.
    pub fn hosts(&self) -> &[RehearsalHost] {
        &self.hosts
    }

    /// The host of a name.
    pub fn host(&self, name: &str) -> Option<&RehearsalHost> {
        self.hosts.iter().find(|host| host.name() == name)
    }

    /// The lines of a `known_hosts` file for all hosts.
    pub fn known_hosts(&self) -> String {
        self.hosts
            .iter()
            .map(|host| host.known_hosts_line() + "\n")
            .collect()
    }

    /// Leaves the hosts up after this process, until [`sweep::take_down_all`].
    ///
    /// # Errors
    /// When that cannot be recorded; then they are taken down.
    pub fn keep(mut self) -> Result<FleetRecord, Error> {
        self.record.keep = Keep::Kept;
        self.folder.write(&self.record)?;
        self.owner = None;
        Ok(self.record.clone())
    }

    /// Takes the hosts down, and says what could not be removed.
    ///
    /// # Errors
    /// [`Error::Leftovers`].
    pub fn take_down(mut self) -> Result<(), Error> {
        self.dismantle()
    }

    fn dismantle(&mut self) -> Result<(), Error> {
        let dismantled = sweep::dismantle(self.record.number, &self.folder);
        self.owner = None;
        dismantled.and(self.hosts.iter().try_for_each(RehearsalHost::reap))
    }

    /// Takes the smallest free number, and writes down what is going to be made under it.
    fn claim(place: &Place, specs: &[HostSpec]) -> Result<Self, Error> {
        let _turn = sweep::turn(place)?;
        let (number, folder) = free_number(place)?;
        let owner = File::create_new(folder.owner()).doing("making", &folder.owner())?;
        owner
            .try_lock()
            .map_err(std::io::Error::from)
            .doing("locking", &folder.owner())?;
        let claimed = Subnet::free_for(number).and_then(|subnet| {
            let hosts = records(specs, subnet, &folder);
            let record = FleetRecord::new(number, subnet, hosts);
            folder.write(&record).map(|()| record)
        });
        match claimed {
            Ok(record) => Ok(Self {
                folder,
                record,
                hosts: Vec::new(),
                owner: Some(owner),
            }),
            Err(error) => {
                fs::remove_dir_all(&folder.0).doing("removing", &folder.0)?;
                Err(error)
            }
        }
    }

    fn boot_hosts(
        &self,
        images: &[Image],
        tell: &(dyn Fn(Milestone) + Sync),
    ) -> Result<Vec<RehearsalHost>, Error> {
        let waiting = Mutex::new(self.record.hosts.iter());
        let next = || waiting.lock().ok().and_then(|mut hosts| hosts.next());
        let worker = || {
            let mut booted = Vec::new();
            while let Some(record) = next() {
                let host = self.boot_host(record, images);
                if let Ok(host) = &host {
                    tell(Milestone::HostUp(host.name().to_owned(), host.boot_time()));
                }
                booted.push(host);
            }
            booted
        };
        let workers = BOOTS_AT_ONCE.min(self.record.hosts.len());
        let outcomes: Vec<_> = std::thread::scope(|scope| {
            let handles: Vec<_> = (0..workers).map(|_| scope.spawn(worker)).collect();
            handles
                .into_iter()
                .map(std::thread::ScopedJoinHandle::join)
                .collect()
        });
        let mut hosts = Vec::new();
        for outcome in outcomes {
            match outcome {
                Ok(booted) => hosts.extend(booted),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        let mut hosts = hosts.into_iter().collect::<Result<Vec<_>, Error>>()?;
        hosts.sort_by_key(|host| host.record().index);
        Ok(hosts)
    }

    fn boot_host(&self, record: &HostRecord, images: &[Image]) -> Result<RehearsalHost, Error> {
        let kind = record.kind();
        let image = images.iter().find(|image| image.kind == kind);
        let image = image.ok_or_else(|| Error::UnknownSuite {
            found: record.suite.to_string(),
        })?;
        let blueprint = Blueprint {
            fleet: self.record.number,
            subnet: self.record.subnet,
            image: image.root.clone(),
            folder: self.folder.host(record.index),
        };
        let host = RehearsalHost::make(record.clone(), blueprint)?;
        host.boot_again()?;
        Ok(host)
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        if self.owner.is_none() {
            return;
        }
        if let Err(error) = self.dismantle() {
            // Nobody is left to return it to. What remains is abandoned, so the next run sweeps it.
            tracing::error!("{error}\n{}", error.help());
        }
    }
}

/// Parses the names at the edge: a host name becomes an argument and a line of `/etc/hosts`.
fn check(specs: &[HostSpec]) -> Result<(), Error> {
    let max = usize::from(HOSTS_MAX);
    if specs.is_empty() || specs.len() > max {
        return Err(Error::HostCount {
            found: specs.len(),
            max,
        });
    }
    let mut seen = BTreeSet::new();
    for spec in specs {
        let refused = |why: String| Error::HostName {
            name: spec.name.clone(),
            why,
        };
        if let Err(error) = spec.name.parse::<HostName>() {
            return Err(refused(error.to_string()));
        }
        if !seen.insert(&spec.name) {
            return Err(refused("another host has it already".to_owned()));
        }
    }
    Ok(())
}

fn images(
    place: &Place,
    specs: &[HostSpec],
    tell: &(dyn Fn(Milestone) + Sync),
) -> Result<Vec<Image>, Error> {
    let kinds: BTreeSet<_> = specs
        .iter()
        .map(|spec| Kind {
            suite: spec.suite,
            furnishing: spec.furnishing,
            offered: spec.offered.clone(),
        })
        .collect();
    kinds
        .into_iter()
        .map(|kind| {
            let suite = kind.suite;
            let begun = std::cell::Cell::new(None);
            let image = image::ensure(place, kind, &|| {
                begun.set(Some(Instant::now()));
                tell(Milestone::MakingImage(suite));
            })?;
            if let Some(begun) = begun.get() {
                tell(Milestone::ImageMade(suite, begun.elapsed()));
            }
            Ok(image)
        })
        .collect()
}

fn free_number(place: &Place) -> Result<(FleetNumber, FleetFolder), Error> {
    for number in (0..FLEETS_MAX).map(FleetNumber) {
        let folder = FleetFolder(place.fleets().join(number.to_string()));
        match fs::DirBuilder::new().mode(0o700).create(&folder.0) {
            Ok(()) => return Ok((number, folder)),
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error).doing("making", &folder.0),
        }
    }
    Err(Error::TooManyFleets { max: FLEETS_MAX })
}

fn records(specs: &[HostSpec], subnet: Subnet, folder: &FleetFolder) -> Vec<HostRecord> {
    (0..HOSTS_MAX)
        .zip(specs)
        .map(|(index, spec)| HostRecord {
            name: spec.name.clone(),
            index,
            suite: spec.suite,
            furnishing: spec.furnishing,
            offered: spec.offered.clone(),
            disk: spec.disk,
            access: spec.access,
            address: subnet.host(index),
            port: SSH_PORT,
            host_key: String::new(),
            identity: folder.identity(),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_are_no_host_names_are_refused_before_anything_is_made() {
        for hostile in [
            "",
            "-x",
            "a b",
            "a\nb",
            "../x",
            "a..b",
            "a/b",
            "é",
            &"x".repeat(65),
        ] {
            let error = check(&[HostSpec::named(hostile)]).unwrap_err();
            assert!(matches!(error, Error::HostName { .. }), "{hostile:?}");
        }
        check(&[HostSpec::named("web1"), HostSpec::named("db.example")]).unwrap();
    }

    #[test]
    fn two_hosts_cannot_share_a_name_and_a_fleet_has_a_size() {
        let twins = [HostSpec::named("web1"), HostSpec::named("web1")];
        assert!(
            check(&twins)
                .unwrap_err()
                .to_string()
                .contains("another host")
        );
        assert!(matches!(check(&[]), Err(Error::HostCount { found: 0, .. })));
        let crowd: Vec<_> = (0..201).map(|n| HostSpec::named(format!("h{n}"))).collect();
        assert!(matches!(
            check(&crowd),
            Err(Error::HostCount { found: 201, .. })
        ));
    }
}
