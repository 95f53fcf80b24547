//! Whether this machine can carry rehearsal hosts, and how it comes to. Knows Debian's package
//! names; never installs without being told to.

use std::ffi::OsStr;
use std::path::Path;
use std::time::Duration;

use super::error::Error;
use super::tool::{Tool, find};
use super::{cgroup, mirror};

/// How long apt may take to fetch its lists or to install, each.
const INSTALL_WITHIN: Duration = Duration::from_secs(10 * 60);

/// The keys that Debian's archive is signed with.
const ARCHIVE_KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// A Debian package that a rehearsal needs on the laptop, and the sign that it is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Package {
    /// Its name.
    pub name: &'static str,
    /// What it is needed for.
    pub reason: &'static str,
    sign: Sign,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sign {
    Program(&'static str),
    File(&'static str),
}

impl Sign {
    fn is_there(self) -> bool {
        match self {
            Self::Program(program) => find(OsStr::new(program)).is_some(),
            Self::File(file) => Path::new(file).exists(),
        }
    }
}

const fn program(name: &'static str, program: &'static str, reason: &'static str) -> Package {
    Package {
        name,
        reason,
        sign: Sign::Program(program),
    }
}

/// Everything that is run here, by package.
const PACKAGES: [Package; 9] = [
    program(
        "mmdebstrap",
        "mmdebstrap",
        "makes the hosts' root file system",
    ),
    Package {
        name: "debian-archive-keyring",
        reason: "checks the packages that go into it",
        sign: Sign::File(ARCHIVE_KEYRING),
    },
    program("systemd-container", "systemd-nspawn", "boots the hosts"),
    program("iproute2", "ip", "connects the hosts"),
    program("nftables", "nft", "cuts the connection for tests"),
    program("mount", "mount", "lays a host's disk over the image"),
    program("util-linux", "nsenter", "runs commands inside a host"),
    program(
        "openssh-client",
        "ssh-keygen",
        "makes the keys of hosts and operator",
    ),
    program(
        "perl-base",
        "perl",
        "puts a host into its cgroup, and cuts its power",
    ),
];

/// What only some tests need, with [`super::Disk::Loop`].
const PACKAGES_OF_DISKS: [Package; 2] = [
    program("e2fsprogs", "mkfs.ext4", "makes a host's own file system"),
    program("xfsprogs", "mkfs.xfs", "makes a host's own file system"),
];

/// The package that a program is in, of those that are run here.
pub(super) fn package_of(program: &str) -> Option<&'static str> {
    PACKAGES
        .iter()
        .chain(&PACKAGES_OF_DISKS)
        .find(|package| matches!(package.sign, Sign::Program(known) if known == program))
        .map(|package| package.name)
}

/// What stands between this machine and a rehearsal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prerequisites {
    /// Packages to install; see [`Prerequisites::install`].
    pub missing: Vec<Package>,
    root: Privilege,
    kernel: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Privilege {
    Root,
    User,
}

impl Prerequisites {
    /// Looks at this machine. Changes nothing.
    ///
    /// # Errors
    /// [`Error::NotDebianLike`] when there is no apt to install packages with.
    pub fn check() -> Result<Self, Error> {
        if find(OsStr::new("apt-get")).is_none() {
            return Err(Error::NotDebianLike { found: os_name() });
        }
        let root = if rustix::process::geteuid().is_root() {
            Privilege::Root
        } else {
            Privilege::User
        };
        Ok(Self {
            missing: PACKAGES
                .into_iter()
                .filter(|package| !package.sign.is_there())
                .collect(),
            root,
            kernel: kernel_gaps(),
        })
    }

    /// Whether hosts can be booted now.
    ///
    /// # Errors
    /// The first thing that is not as it must be: privilege, then kernel, then packages.
    pub fn require(&self) -> Result<(), Error> {
        self.require_root()?;
        if !self.kernel.is_empty() {
            return Err(Error::KernelLacks {
                what: self.kernel.join("; "),
            });
        }
        if self.missing.is_empty() {
            return Ok(());
        }
        Err(Error::PackagesMissing {
            packages: self.missing.iter().map(|p| p.name.to_owned()).collect(),
        })
    }

    /// Installs what is missing with apt. Ask the operator first.
    ///
    /// # Errors
    /// [`Error::NotRoot`], or [`Error::NotInstalled`] with what apt said.
    pub fn install(&self) -> Result<(), Error> {
        self.require_root()?;
        if self.missing.is_empty() {
            return Ok(());
        }
        let names = || self.missing.iter().map(|package| package.name);
        let installed = apt_get().arg("update").succeed().and_then(|_| {
            apt_get()
                .args(["install", "--yes", "--no-install-recommends", "--"])
                .args(names())
                .succeed()
        });
        installed.map(drop).map_err(|error| Error::NotInstalled {
            packages: names().map(str::to_owned).collect(),
            reason: error.to_string(),
        })
    }

    fn require_root(&self) -> Result<(), Error> {
        match self.root {
            Privilege::Root => Ok(()),
            Privilege::User => Err(Error::NotRoot),
        }
    }
}

fn apt_get() -> Tool {
    Tool::named("apt-get")
        .arg("-q")
        .env("DEBIAN_FRONTEND", "noninteractive")
        .within(INSTALL_WITHIN)
}

fn os_name() -> String {
    let release = std::fs::read_to_string("/etc/os-release").unwrap_or_default();
    mirror::field(&release, "PRETTY_NAME=")
        .map_or("an unknown system", |name| name.trim_matches('"'))
        .to_owned()
}

fn kernel_gaps() -> Vec<String> {
    let mut gaps = Vec::new();
    if !Path::new("/proc/self/ns/net").exists() {
        gaps.push("it has no network namespaces".to_owned());
    }
    if cgroup::mounted().is_none() {
        gaps.push("no cgroup2 file system is mounted".to_owned());
    }
    let filesystems = std::fs::read_to_string("/proc/filesystems").unwrap_or_default();
    let has_overlay = filesystems.lines().any(|line| line.ends_with("\toverlay"));
    if !has_overlay && !has_module("overlay") {
        gaps.push("it has no overlay file system".to_owned());
    }
    gaps
}

/// Whether a module could be loaded: mounting loads it then.
fn has_module(name: &str) -> bool {
    Tool::named("modprobe")
        .args(["--dry-run", "--quiet", name])
        .run()
        .is_ok_and(|finished| finished.is_success())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(root: Privilege, missing: Vec<Package>) -> Prerequisites {
        Prerequisites {
            missing,
            root,
            kernel: Vec::new(),
        }
    }

    #[test]
    fn who_is_not_root_is_told_so_before_anything_is_installed() {
        let error = found(Privilege::User, PACKAGES.to_vec())
            .install()
            .unwrap_err();
        assert!(matches!(error, Error::NotRoot));
        assert!(error.help().contains("sudo"));
    }

    #[test]
    fn missing_packages_come_with_the_command_that_installs_them() {
        let error = found(Privilege::Root, PACKAGES[..2].to_vec())
            .require()
            .unwrap_err();
        assert_eq!(
            error.help(),
            "sudo apt-get install --no-install-recommends mmdebstrap debian-archive-keyring"
        );
    }

    #[test]
    fn nothing_missing_is_ready_and_installs_nothing() {
        let ready = found(Privilege::Root, Vec::new());
        ready.require().unwrap();
        ready.install().unwrap();
    }
}
