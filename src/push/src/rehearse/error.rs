//! What can go wrong around rehearsal hosts, in threes: what, why, and what to type next.

use std::io;
use std::path::{Path, PathBuf};

use super::prerequisites::package_of;

/// Why a rehearsal host or fleet cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Namespaces, mounts and links need root.
    #[error("rehearsal hosts need root: they are made of mounts, network namespaces and cgroups")]
    NotRoot,
    /// Packages are found by their Debian names.
    #[error("this machine runs {found}, and rehearsal hosts are made with Debian's tools")]
    NotDebianLike {
        /// What the machine calls itself.
        found: String,
    },
    /// Debian packages that are not installed.
    #[error("rehearsal hosts need packages that are not installed: {}", packages.join(", "))]
    PackagesMissing {
        /// Their names.
        packages: Vec<String>,
    },
    /// apt did not install them.
    #[error("{} could not be installed\n{reason}", packages.join(", "))]
    NotInstalled {
        /// Their names.
        packages: Vec<String>,
        /// What apt said.
        reason: String,
    },
    /// The kernel, or the container that this runs in, does not allow it.
    #[error("this kernel cannot carry rehearsal hosts: {what}")]
    KernelLacks {
        /// What is not there.
        what: String,
    },
    /// A program of the laptop is not there.
    #[error("the program `{program}` is not installed")]
    ToolMissing {
        /// Its name.
        program: String,
    },
    /// A program of the laptop said no.
    #[error("`{command}` ended with {status}\n{stderr}")]
    ToolFailed {
        /// The program and its arguments.
        command: String,
        /// How it ended.
        status: String,
        /// The end of what it said.
        stderr: String,
    },
    /// A program of the laptop did not end.
    #[error("`{command}` did not end within {limit_s} s\n{stderr}")]
    ToolTimedOut {
        /// The program and its arguments.
        command: String,
        /// What it was given, in seconds.
        limit_s: u64,
        /// The end of what it said.
        stderr: String,
    },
    /// The file system said no.
    #[error("{doing} {}: {source}", path.display())]
    Io {
        /// What was tried.
        doing: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The operator's home folder is unknown.
    #[error("there is no home folder to keep the images in: {reason}")]
    NoHome {
        /// Why.
        reason: String,
    },
    /// Not a suite that images are made for.
    #[error("there are no rehearsal hosts of the suite {found:?}")]
    UnknownSuite {
        /// What was asked for.
        found: String,
    },
    /// The keys are not there by which the packages of a suite are known to be its distribution's.
    #[error("packages of {} cannot be verified here: {keyring} is missing", suite.title())]
    NoKeyring {
        /// Of which suite.
        suite: super::Suite,
        /// The file that holds them.
        keyring: &'static str,
    },
    /// mmdebstrap did not make the root file system.
    #[error("the {} ({suite}) image could not be made\n{reason}", suite.title())]
    ImageNotMade {
        /// Of which suite.
        suite: super::Suite,
        /// What mmdebstrap said.
        reason: String,
    },
    /// Another run builds the same image and does not end.
    #[error("another run makes the same image and has held {} for over {limit_s} s", path.display())]
    ImageBusy {
        /// The lock it holds.
        path: PathBuf,
        /// How long was waited, in seconds.
        limit_s: u64,
    },
    /// A name that cannot be a host name.
    #[error("{name:?} cannot name a rehearsal host: {why}")]
    HostName {
        /// What was asked for.
        name: String,
        /// What is wrong with it.
        why: String,
    },
    /// More hosts than one bridge has addresses for, or none.
    #[error("a rehearsal fleet has 1 to {max} hosts, and {found} were asked for")]
    HostCount {
        /// What was asked for.
        found: usize,
        /// The limit.
        max: usize,
    },
    /// Every fleet number is taken.
    #[error("{max} rehearsal fleets are up on this machine already")]
    TooManyFleets {
        /// The limit.
        max: u16,
    },
    /// Every address range that a fleet would use is routed somewhere.
    #[error("none of the address ranges for rehearsal hosts is free ({})", tried.join(", "))]
    NoAddressRange {
        /// What was looked at.
        tried: Vec<String>,
    },
    /// A host did not come up.
    #[error("{host} did not come up within {limit_s} s: {state}\n{console}")]
    BootTimedOut {
        /// Its name.
        host: String,
        /// What it was given, in seconds.
        limit_s: u64,
        /// How far it came.
        state: String,
        /// The end of its console.
        console: String,
    },
    /// A host's container ended while it was wanted.
    #[error("{host} is down: its container ended with {status}\n{console}")]
    Ended {
        /// Its name.
        host: String,
        /// How.
        status: String,
        /// The end of its console.
        console: String,
    },
    /// Something was asked of a host that is not up.
    #[error("{host} is down")]
    Down {
        /// Its name.
        host: String,
    },
    /// A host that was told to go down has not.
    #[error("{host} was told to reboot, and is still up after {limit_s} s")]
    StaysUp {
        /// Its name.
        host: String,
        /// How long was waited, in seconds.
        limit_s: u64,
    },
    /// Something was asked of a host that only one that is down can do.
    #[error("{host} is up already")]
    AlreadyUp {
        /// Its name.
        host: String,
    },
    /// A path that is not inside a host's root file system.
    #[error("{} is not a path inside a host: give an absolute one without `..`", path.display())]
    PathInHost {
        /// What was asked for.
        path: PathBuf,
    },
    /// A fleet's record does not say what a fleet is made of.
    #[error("the record of a rehearsal fleet, {}, cannot be read: {reason}", path.display())]
    Record {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// Something of a fleet is still there after taking it down.
    #[error("fleet {fleet} could not be taken down wholly:\n{}", problems.join("\n"))]
    Leftovers {
        /// Whose.
        fleet: super::FleetNumber,
        /// What, and why it stayed.
        problems: Vec<String>,
    },
}

impl Error {
    /// A name for scripts and for looking it up.
    pub fn code(&self) -> &'static str {
        match self {
            Self::NotRoot => "push::rehearse::not_root",
            Self::NotDebianLike { .. } => "push::rehearse::not_debian_like",
            Self::PackagesMissing { .. } => "push::rehearse::packages_missing",
            Self::NotInstalled { .. } => "push::rehearse::not_installed",
            Self::KernelLacks { .. } => "push::rehearse::kernel_lacks",
            Self::ToolMissing { .. } => "push::rehearse::tool_missing",
            Self::ToolFailed { .. } => "push::rehearse::tool_failed",
            Self::ToolTimedOut { .. } => "push::rehearse::tool_timed_out",
            Self::Io { .. } => "push::rehearse::io",
            Self::NoHome { .. } => "push::rehearse::no_home",
            Self::UnknownSuite { .. } => "push::rehearse::unknown_suite",
            Self::NoKeyring { .. } => "push::rehearse::no_keyring",
            Self::ImageNotMade { .. } => "push::rehearse::image_not_made",
            Self::ImageBusy { .. } => "push::rehearse::image_busy",
            Self::HostName { .. } => "push::rehearse::host_name",
            Self::HostCount { .. } => "push::rehearse::host_count",
            Self::TooManyFleets { .. } => "push::rehearse::too_many_fleets",
            Self::NoAddressRange { .. } => "push::rehearse::no_address_range",
            Self::BootTimedOut { .. } => "push::rehearse::boot_timed_out",
            Self::Ended { .. } => "push::rehearse::ended",
            Self::Down { .. } => "push::rehearse::down",
            Self::StaysUp { .. } => "push::rehearse::stays_up",
            Self::AlreadyUp { .. } => "push::rehearse::already_up",
            Self::PathInHost { .. } => "push::rehearse::path_in_host",
            Self::Record { .. } => "push::rehearse::record",
            Self::Leftovers { .. } => "push::rehearse::leftovers",
        }
    }

    /// What to do about it: the next command to type, where there is one.
    pub fn help(&self) -> String {
        let fixed = match self {
            Self::NotRoot => "run the same command again as root: put `sudo` before it",
            Self::NotDebianLike { .. } => "run it on a Debian or Ubuntu machine, virtual or not",
            Self::PackagesMissing { packages } => {
                let packages = packages.join(" ");
                return format!("sudo apt-get install --no-install-recommends {packages}");
            }
            Self::NotInstalled { .. } => "see that `sudo apt-get update` succeeds; then try again",
            Self::KernelLacks { .. } => {
                "run it on a machine or virtual machine of your own rather than in a container"
            }
            Self::ToolMissing { program } => match package_of(program) {
                Some(package) => return format!("sudo apt-get install {package}"),
                None => "install the Debian package that it is in",
            },
            Self::Io { .. } | Self::ToolFailed { .. } | Self::ToolTimedOut { .. } => {
                "`push rehearse --down` removes what was made so far; then try again"
            }
            Self::NoHome { .. } => "set HOME, or XDG_CACHE_HOME, to a folder",
            Self::UnknownSuite { .. } => {
                let known = super::Suite::ALL.map(|s| format!("{s} ({})", s.title()));
                return format!("choose one of {}", known.join(", "));
            }
            Self::NoKeyring { .. } => {
                "sudo apt-get install ubuntu-keyring, which Debian has since 13"
            }
            Self::ImageNotMade { .. } => {
                "see that `sudo apt-get update` succeeds, since the packages come from the same \
                 mirrors; then try again"
            }
            Self::ImageBusy { path, .. } => {
                return format!("see who it is: `sudo fuser -v {}`", path.display());
            }
            Self::HostName { .. } => "rename the host in the inventory; each needs its own name",
            Self::HostCount { .. } => "choose other hosts, for example with `--limit NAME`",
            Self::TooManyFleets { .. } => "`push rehearse --down` removes those nobody uses",
            Self::NoAddressRange { .. } => {
                "`ip route` shows what is in the way; `push rehearse --down` frees old ranges"
            }
            Self::BootTimedOut { .. } | Self::Ended { .. } => {
                "the end of its console is above; a machine under load may need a second try"
            }
            Self::Down { .. } => "boot it again first",
            Self::StaysUp { .. } => {
                "see what it waits for: `systemctl list-jobs` on the host; or cut its power"
            }
            Self::AlreadyUp { .. } => "take it down, or cut its power, first",
            Self::PathInHost { .. } => "write it as the host sees it, such as /etc/hosts",
            Self::Record { .. } => "`push rehearse --down` removes its fleet, record or not",
            Self::Leftovers { .. } => "`push rehearse --down` tries again",
        };
        fixed.to_owned()
    }
}

/// Says what was being done when a file system call failed.
pub(super) trait IoExt<T> {
    fn doing(self, doing: &'static str, path: &Path) -> Result<T, Error>;
}

impl<T, E: Into<io::Error>> IoExt<T> for Result<T, E> {
    fn doing(self, doing: &'static str, path: &Path) -> Result<T, Error> {
        self.map_err(|source| Error::Io {
            doing,
            path: path.to_owned(),
            source: source.into(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::{FleetNumber, Suite};
    use super::*;

    /// One of each kind, in two halves. A new kind is added to be read once by a person.
    fn kinds_of_the_laptop() -> Vec<Error> {
        let text = str::to_owned;
        let path = |path: &str| PathBuf::from(path);
        vec![
            Error::NotRoot,
            Error::NotDebianLike {
                found: text("Fedora Linux 43"),
            },
            Error::PackagesMissing {
                packages: vec![text("mmdebstrap"), text("iproute2")],
            },
            Error::NotInstalled {
                packages: vec![text("mmdebstrap")],
                reason: text("E: Unable to fetch some archives"),
            },
            Error::KernelLacks {
                what: text("it has no overlay file system"),
            },
            Error::ToolMissing {
                program: text("mkfs.xfs"),
            },
            Error::ToolFailed {
                command: text("ip -batch -"),
                status: text("status 1"),
                stderr: text("RTNETLINK answers: Operation not permitted"),
            },
            Error::ToolTimedOut {
                command: text("apt-get -q update"),
                limit_s: 600,
                stderr: text("Connecting"),
            },
            Error::Io {
                doing: "making",
                path: path("/var/lib/push-rehearsal"),
                source: io::ErrorKind::StorageFull.into(),
            },
        ]
    }

    fn kinds_of_hosts() -> Vec<Error> {
        let text = str::to_owned;
        let path = |path: &str| PathBuf::from(path);
        vec![
            Error::NoHome {
                reason: text("HOME is not set"),
            },
            Error::UnknownSuite { found: text("sid") },
            Error::NoKeyring {
                suite: Suite::Noble,
                keyring: "/usr/share/keyrings/ubuntu-archive-keyring.gpg",
            },
            Error::ImageNotMade {
                suite: Suite::Trixie,
                reason: text("E: no such mirror"),
            },
            Error::ImageBusy {
                path: path("/root/.cache/push/rehearsal/x.lock"),
                limit_s: 960,
            },
            Error::HostName {
                name: text("a b"),
                why: text("' ' cannot stand in a host name"),
            },
            Error::HostCount {
                found: 201,
                max: 200,
            },
            Error::TooManyFleets { max: 64 },
            Error::NoAddressRange {
                tried: vec![text("198.18.0.0/24"), text("10.213.0.0/24")],
            },
            Error::BootTimedOut {
                host: text("web1"),
                limit_s: 90,
                state: text("its state is \"starting\""),
                console: text("A start job is running"),
            },
            Error::Ended {
                host: text("web1"),
                status: text("status 1"),
                console: text("Failed to mount"),
            },
            Error::Down { host: text("web1") },
            Error::StaysUp {
                host: text("web1"),
                limit_s: 20,
            },
            Error::AlreadyUp { host: text("web1") },
            Error::PathInHost {
                path: path("../etc/shadow"),
            },
            Error::Record {
                path: path("/var/lib/push-rehearsal/3/fleet.json"),
                reason: text("it has format 2, not 1"),
            },
            Error::Leftovers {
                fleet: FleetNumber(3),
                problems: vec![text("unmounting /x: busy")],
            },
        ]
    }

    #[test]
    fn every_error_says_what_is_wrong_why_and_what_to_type_next() {
        let told: Vec<String> = kinds_of_the_laptop()
            .iter()
            .chain(&kinds_of_hosts())
            .map(|error| format!("{}\n{error}\nhelp: {}\n", error.code(), error.help()))
            .collect();
        insta::assert_snapshot!(told.join("\n"));
    }
}
