//! What can go wrong around rehearsal hosts, in threes: what, why, and what to type next.

use std::io;
use std::path::{Path, PathBuf};

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
    /// mmdebstrap did not make the root file system.
    #[error("the Debian {} ({suite}) image could not be made\n{reason}", suite.number())]
    ImageNotMade {
        /// Of which suite.
        suite: super::Suite,
        /// What mmdebstrap said.
        reason: String,
    },
    /// Another run builds the same image and does not end.
    #[error("another run has been making {} for over {limit_s} s", path.display())]
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
        why: &'static str,
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
            Self::KernelLacks { .. } => "push::rehearse::kernel_lacks",
            Self::ToolMissing { .. } => "push::rehearse::tool_missing",
            Self::ToolFailed { .. } => "push::rehearse::tool_failed",
            Self::ToolTimedOut { .. } => "push::rehearse::tool_timed_out",
            Self::Io { .. } => "push::rehearse::io",
            Self::NoHome { .. } => "push::rehearse::no_home",
            Self::UnknownSuite { .. } => "push::rehearse::unknown_suite",
            Self::ImageNotMade { .. } => "push::rehearse::image_not_made",
            Self::ImageBusy { .. } => "push::rehearse::image_busy",
            Self::HostName { .. } => "push::rehearse::host_name",
            Self::HostCount { .. } => "push::rehearse::host_count",
            Self::TooManyFleets { .. } => "push::rehearse::too_many_fleets",
            Self::NoAddressRange { .. } => "push::rehearse::no_address_range",
            Self::BootTimedOut { .. } => "push::rehearse::boot_timed_out",
            Self::Ended { .. } => "push::rehearse::ended",
            Self::Down { .. } => "push::rehearse::down",
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
            Self::KernelLacks { .. } => {
                "run it on a machine or virtual machine of your own rather than in a container"
            }
            Self::ToolMissing { .. } => "`push rehearse ENV` offers to install what is missing",
            Self::Io { .. } | Self::ToolFailed { .. } | Self::ToolTimedOut { .. } => {
                "`push rehearse --down` removes what was made so far; then try again"
            }
            Self::NoHome { .. } => "set HOME, or XDG_CACHE_HOME, to a folder",
            Self::UnknownSuite { .. } => {
                let known = super::Suite::ALL.map(|s| format!("{s} ({})", s.number()));
                return format!("choose one of {}", known.join(", "));
            }
            Self::ImageNotMade { .. } => {
                "see that `sudo apt-get update` succeeds, since the packages come from the same \
                 mirrors; then try again"
            }
            Self::ImageBusy { path, .. } => {
                return format!("see who it is: `sudo fuser -v {}`", path.display());
            }
            Self::HostName { .. } => {
                "use at most 63 letters, digits, '-' and '.', starting with a letter or a digit"
            }
            Self::HostCount { .. } => "choose other hosts, for example with `--limit NAME`",
            Self::TooManyFleets { .. } => "`push rehearse --down` removes those nobody uses",
            Self::NoAddressRange { .. } => {
                "`ip route` shows what is in the way; `push rehearse --down` frees old ranges"
            }
            Self::BootTimedOut { .. } | Self::Ended { .. } => {
                "the end of its console is above; a machine under load may need a second try"
            }
            Self::Down { .. } => "boot it again first",
            Self::AlreadyUp { .. } => "take it down, or cut its power, first",
            Self::PathInHost { .. } => "write it as the host sees it, such as /etc/hosts",
            Self::Record { path, .. } => {
                let folder = path.parent().unwrap_or(path).display();
                return format!("when no rehearsal runs, `sudo rm -r {folder}`");
            }
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
