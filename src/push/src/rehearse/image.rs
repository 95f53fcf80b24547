//! One root file system a suite, made once by mmdebstrap and shared, read-only, by every host of
//! that suite. Knows what every host must have, since hosts reach no network to install from; must
//! not know about any single host.
//!
//! To put something into every host: add it to [`PACKAGES`], or to [`finish`] and raise
//! [`RECIPE`]. Either makes a new image beside the old one.

use std::collections::BTreeSet;
use std::fs::{self, File, TryLockError};
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use push_wire::digest::Digest;
use push_wire::groundwork::PackageName;

use super::error::{Error, IoExt};
use super::keys::OPERATOR_USER;
use super::mirror::{self, Mirrors};
use super::mounts::remove;
use super::offline;
use super::place::Place;
use super::suite::{Distribution, Furnishing, Kind, Suite};
use super::tool::Tool;

/// Raised whenever [`finish`] changes, so that images made before are not used.
const RECIPE: u32 = 1;

/// What a freshly installed Debian server has, and the programs that what is pushed may need.
const PACKAGES: [&str; 15] = [
    "ca-certificates",
    "curl",
    "dbus",
    "iproute2",
    "libc-bin",
    "libpam-systemd",
    "logrotate",
    "nftables",
    "nginx-light",
    "openssh-server",
    "procps",
    "python3-minimal",
    "sudo",
    "systemd",
    "systemd-sysv",
];

/// What a provider's image has at the least.
const FRESH_PACKAGES: [&str; 7] = [
    "dbus",
    "iproute2",
    "libpam-systemd",
    "openssh-server",
    "procps",
    "systemd",
    "systemd-sysv",
];

/// What is installed on a host of this kind.
fn packages((suite, furnishing): (Suite, Furnishing)) -> Vec<&'static str> {
    let mut packages = match furnishing {
        Furnishing::Furnished => PACKAGES.to_vec(),
        Furnishing::Fresh => FRESH_PACKAGES.to_vec(),
    };
    match suite.distribution() {
        Distribution::Debian => {}
        // Ubuntu counts it among what can be done without.
        Distribution::Ubuntu => packages.push("apt"),
    }
    packages
}

/// How long mmdebstrap may take. It takes 20 s with a near mirror.
const BUILD_WITHIN: Duration = Duration::from_secs(15 * 60);

/// How long another run that makes the same image is waited for.
const LOCK_WITHIN: Duration = Duration::from_secs(16 * 60);

/// How often the lock is tried.
const LOCK_POLL: Duration = Duration::from_millis(200);

/// A root file system that hosts may be laid over.
#[derive(Debug, Clone)]
pub(super) struct Image {
    pub kind: Kind,
    pub root: PathBuf,
}

/// Returns the suite's image, making it when it is not there. `begun` is called before the work
/// that takes long.
pub(super) fn ensure(place: &Place, kind: Kind, begun: &dyn Fn()) -> Result<Image, Error> {
    let recipe = Recipe::of(kind.clone());
    let root = place.images().join(&recipe.name);
    if root.exists() {
        return Ok(Image { kind, root });
    }
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o755)
        .create(place.images())
        .doing("making the folder", place.images())?;
    let _lock = lock(&place.images().join(format!("{}.lock", recipe.name)))?;
    // The run that held the lock may have made it.
    if !root.exists() {
        begun();
        recipe.make(&root)?;
    }
    Ok(Image { kind, root })
}

struct Recipe {
    kind: Kind,
    /// The folder's name: the suite and a digest of all that decides the content.
    name: String,
}

impl Recipe {
    fn of(kind: Kind) -> Self {
        let Kind {
            suite,
            furnishing,
            offered: more,
        } = &kind;
        let packages = packages((*suite, *furnishing)).join("\n");
        let (decides, word) = match furnishing {
            Furnishing::Furnished => (format!("{RECIPE}\n{suite}\n{packages}"), ""),
            Furnishing::Fresh => {
                let offered = offline::FETCH;
                let more = if more.is_empty() {
                    String::new()
                } else {
                    format!("{}{}", offline::FETCH_MORE, listed(more))
                };
                (
                    format!("{RECIPE}\n{suite}\n{packages}\n\n{offered}{more}"),
                    "fresh-",
                )
            }
        };
        let short = Digest::of(decides).short();
        let name = format!("{suite}-{word}{short}");
        Self { kind, name }
    }

    /// Makes the image beside its place and moves it there whole.
    fn make(&self, root: &Path) -> Result<(), Error> {
        self.clear_unfinished(root);
        // Not shared with a run that was killed: its mmdebstrap may still be writing.
        let own = format!("{}{}.unfinished", self.prefix(), std::process::id());
        let unfinished = root.with_file_name(own);
        remove(&unfinished)?;
        let made = self
            .bootstrap(&unfinished)
            .and_then(|()| finish(&unfinished, self.kind.furnishing))
            .and_then(|()| fs::rename(&unfinished, root).doing("moving the image to", root));
        if made.is_err() {
            // The first error is the one to tell; the next run removes what this cannot.
            let _ = remove(&unfinished);
        }
        made
    }

    /// What the names of an unfinished image of this recipe begin with.
    fn prefix(&self) -> String {
        format!(".{}.", self.name)
    }

    /// Removes what runs left that were killed while they made this image. The lock is ours, so
    /// none of them lives; what an mmdebstrap that outlived one still holds goes another time.
    fn clear_unfinished(&self, root: &Path) {
        let entries = root.parent().and_then(|images| fs::read_dir(images).ok());
        entries
            .into_iter()
            .flatten()
            .filter_map(Result::ok)
            .filter(|entry| {
                entry
                    .file_name()
                    .to_string_lossy()
                    .starts_with(&self.prefix())
            })
            .filter_map(|entry| remove(&entry.path()).err())
            .for_each(|error| tracing::warn!("{error}"));
    }

    /// What mmdebstrap runs to fetch what a fresh host can install.
    fn hooks(&self) -> Vec<String> {
        let more = (!self.kind.offered.is_empty()).then_some(offline::FETCH_MORE);
        let scripts = [Some(offline::FETCH), more].into_iter().flatten();
        scripts
            .map(|script| format!("--customize-hook={script}"))
            .collect()
    }

    fn bootstrap(&self, root: &Path) -> Result<(), Error> {
        if let Some(keyring) = self.kind.suite.distribution().keyring()
            && !Path::new(keyring).exists()
        {
            let suite = self.kind.suite;
            return Err(Error::NoKeyring { suite, keyring });
        }
        let options = tempfile_of_fetching(root)?;
        let made = Tool::named("mmdebstrap")
            .args(["--mode=root", "--variant=minbase", "--format=directory"])
            .arg(format!(
                "--include={}",
                packages((self.kind.suite, self.kind.furnishing)).join(",")
            ))
            .arg(format!("--aptopt={}", options.display()))
            .env(offline::NAMES, listed(&self.kind.offered))
            .args(match self.kind.furnishing {
                Furnishing::Furnished => Vec::new(),
                Furnishing::Fresh => self.hooks(),
            })
            .arg(self.kind.suite.as_str())
            .arg(root)
            .args(Mirrors::of_this_machine().lines(self.kind.suite))
            .within(BUILD_WITHIN)
            .succeed();
        fs::remove_file(&options).doing("removing", &options)?;
        match made {
            Ok(_) => Ok(()),
            Err(Error::ToolFailed { stderr, .. } | Error::ToolTimedOut { stderr, .. }) => {
                Err(Error::ImageNotMade {
                    suite: self.kind.suite,
                    reason: stderr,
                })
            }
            Err(other) => Err(other),
        }
    }
}

/// Package names as the script that fetches them reads them. None of them has a space in it.
fn listed(packages: &BTreeSet<PackageName>) -> String {
    let names: Vec<&str> = packages.iter().map(PackageName::as_str).collect();
    names.join(" ")
}

/// Takes out what each host must have of its own, and what says where the packages came from.
fn finish(root: &Path, furnishing: Furnishing) -> Result<(), Error> {
    for own in ["rsa", "ecdsa", "ed25519"] {
        let key = root.join(format!("etc/ssh/ssh_host_{own}_key"));
        remove(&key.with_extension("pub"))?;
        remove(&key)?;
    }
    for laptops in [
        "etc/apt/apt.conf.d/99mmdebstrap",
        "etc/resolv.conf",
        "etc/hostname",
    ] {
        remove(&root.join(laptops))?;
    }
    remove(&root.join("var/lib/dbus/machine-id"))?;
    let machine_id = root.join("etc/machine-id");
    // Empty rather than absent: absent would mean a first boot, which resets what is enabled.
    fs::write(&machine_id, "").doing("emptying", &machine_id)?;
    if furnishing == Furnishing::Fresh {
        return offline::index(root);
    }
    Tool::named("chroot")
        .arg(root)
        .args([
            "useradd",
            "--create-home",
            "--shell",
            "/bin/bash",
            OPERATOR_USER,
        ])
        .succeed()?;
    Ok(())
}

/// Writes apt's fetching options where only root can read them, beside the image to be made.
fn tempfile_of_fetching(root: &Path) -> Result<PathBuf, Error> {
    let path = root.with_extension("apt-options");
    remove(&path)?;
    let mut file = File::options()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&path)
        .doing("making", &path)?;
    file.write_all(mirror::fetching()?.as_bytes())
        .doing("writing", &path)?;
    Ok(path)
}

fn lock(path: &Path) -> Result<File, Error> {
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(path)
        .doing("opening the lock", path)?;
    let deadline = Instant::now() + LOCK_WITHIN;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::Error(source)) => return Err(source).doing("locking", path),
            Err(TryLockError::WouldBlock) if Instant::now() >= deadline => {
                return Err(Error::ImageBusy {
                    path: path.to_owned(),
                    limit_s: LOCK_WITHIN.as_secs(),
                });
            }
            Err(TryLockError::WouldBlock) => std::thread::sleep(LOCK_POLL),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::suite::Suite;
    use super::*;

    fn kind(suite: Suite, furnishing: Furnishing) -> Kind {
        Kind {
            suite,
            furnishing,
            offered: BTreeSet::new(),
        }
    }

    #[test]
    fn suites_do_not_share_an_image_and_a_suite_keeps_its_own() {
        let names = Suite::ALL.map(|suite| Recipe::of(kind(suite, Furnishing::Furnished)).name);
        let different: BTreeSet<&String> = names.iter().collect();
        assert_eq!(different.len(), names.len());
        let own = Recipe::of(kind(Suite::Bookworm, Furnishing::Furnished)).name;
        assert!(
            own.starts_with("bookworm-") && names.contains(&own),
            "{own}"
        );
        let fresh = Recipe::of(kind(Suite::Bookworm, Furnishing::Fresh)).name;
        assert!(
            fresh != own && fresh.starts_with("bookworm-fresh-"),
            "{fresh}"
        );
        let offering = Recipe::of(Kind {
            offered: ["nodejs".parse().unwrap()].into(),
            ..kind(Suite::Bookworm, Furnishing::Fresh)
        });
        assert_ne!(offering.name, fresh, "what it offers is on it");
    }

    #[test]
    fn what_a_killed_run_left_is_removed_and_a_finished_image_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let recipe = Recipe::of(kind(Suite::Trixie, Furnishing::Furnished));
        let left = dir.path().join(format!(".{}.7.unfinished", recipe.name));
        let options = dir.path().join(format!(".{}.7.apt-options", recipe.name));
        let others = dir.path().join(".bookworm-0.7.unfinished");
        let finished = dir.path().join(&recipe.name);
        for folder in [&left, &others, &finished] {
            fs::create_dir_all(folder.join("etc")).unwrap();
        }
        fs::write(&options, "").unwrap();

        recipe.clear_unfinished(&finished);

        assert!(!left.exists() && !options.exists());
        assert!(others.exists() && finished.exists());
    }

    #[test]
    fn an_image_that_is_there_is_not_made_again() {
        let dir = tempfile::tempdir().unwrap();
        let place = Place::at(dir.path(), dir.path());
        let root = dir
            .path()
            .join(Recipe::of(kind(Suite::Trixie, Furnishing::Furnished)).name);
        fs::create_dir(&root).unwrap();
        let image = ensure(&place, kind(Suite::Trixie, Furnishing::Furnished), &|| {
            panic!("began to make it")
        })
        .unwrap();
        assert_eq!(image.root, root);
    }
}
