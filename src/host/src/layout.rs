//! Where everything is on a host. Every path that push-host touches is spelled here and nowhere
//! else, as a function of a root: `/` on a host, a scratch folder or the simulated disk in tests.
//!
//! It knows no file system: nothing here looks whether a path exists. A new kind of thing on the
//! host gets its path here first.

use std::path::{Path, PathBuf};

use push_wire::name::{AppName, FileName, GenerationId, ReleaseId, TransactionId, UnitName};
use push_wire::path::{HostPath, TreePath};

/// The address that tells which generation nginx's workers serve: loopback, so that nobody outside
/// can ask; TCP, because a UNIX socket left behind by a killed nginx would keep it from starting.
pub const MARKER_ADDRESS: &str = "127.85.83.72:8583";

/// The start of the name of what is being deleted.
pub const TRASH: &str = ".trash-";

/// Every path on a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    root: PathBuf,
}

impl Layout {
    /// The layout below `root`.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// A path as the host names it, below this layout's root.
    pub fn at(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }

    /// What the host calls one of this layout's paths; `None` for a path elsewhere, or one that push
    /// would not touch.
    pub fn named(&self, path: &Path) -> Option<HostPath> {
        let inside = path.strip_prefix(&self.root).ok()?.to_str()?;
        format!("/{inside}").parse().ok()
    }

    /// The place of a declared file.
    pub fn host(&self, path: &HostPath) -> PathBuf {
        self.at(path.as_str())
    }

    /// Everything that belongs to generations.
    pub fn push(&self) -> PathBuf {
        self.at("/etc/push")
    }

    /// The folder of all generations.
    pub fn generations(&self) -> PathBuf {
        self.at("/etc/push/generations")
    }

    /// One generation.
    pub fn generation(&self, id: GenerationId) -> Generation {
        Generation {
            folder: self.generations().join(id.to_string()),
        }
    }

    /// What the link [`Layout::current`] holds when `id` is in effect.
    pub fn current_target(id: GenerationId) -> PathBuf {
        Path::new("generations").join(id.to_string())
    }

    /// The switch: the link that names the generation in effect.
    pub fn current(&self) -> PathBuf {
        self.at("/etc/push/current")
    }

    /// The link to the new generation, made in advance so that a switch needs no new inode.
    pub fn current_to(&self) -> PathBuf {
        self.at("/etc/push/.current.to")
    }

    /// The link to the old generation, made in advance so that a full disk cannot hinder taking back.
    pub fn current_from(&self) -> PathBuf {
        self.at("/etc/push/.current.from")
    }

    /// Where a folder goes that somebody has put in the switch's place.
    pub fn current_foreign(&self) -> PathBuf {
        self.at("/etc/push/current.not-of-push")
    }

    /// The generation in effect, as live links name it.
    pub fn live(&self) -> Generation {
        Generation {
            folder: self.current(),
        }
    }

    /// A second name for a file that was there, identical, before push took its place; in the same
    /// folder, so that it can come back by a rename.
    pub fn original(place: &Path) -> PathBuf {
        let name = place.file_name().unwrap_or_default().to_string_lossy();
        place.with_file_name(format!(".{name}.push-original"))
    }

    /// The name under which the live link of a file that went waits for the end of the transaction.
    pub fn withdrawn(place: &Path) -> PathBuf {
        let name = place.file_name().unwrap_or_default().to_string_lossy();
        place.with_file_name(format!(".{name}.push-withdrawn"))
    }

    /// Where systemd looks for an administrator's units.
    pub fn units(&self) -> PathBuf {
        self.at("/etc/systemd/system")
    }

    /// The live link of a unit.
    pub fn unit(&self, unit: &UnitName) -> PathBuf {
        self.units().join(unit.as_str())
    }

    /// The live link that lets `target` want `unit`.
    pub fn wants(&self, target: &UnitName, unit: &UnitName) -> PathBuf {
        self.units()
            .join(format!("{target}.wants"))
            .join(unit.as_str())
    }

    /// The constant file by which nginx includes the generation's sites.
    pub fn nginx_include(&self) -> PathBuf {
        self.at("/etc/nginx/conf.d/push.conf")
    }

    /// The folder of all apps.
    pub fn apps(&self) -> PathBuf {
        self.at("/srv")
    }

    /// The folder of an app.
    pub fn app(&self, app: &AppName) -> PathBuf {
        self.apps().join(app.as_str())
    }

    /// The constant link to the app's release in effect.
    pub fn app_current(&self, app: &AppName) -> PathBuf {
        self.app(app).join("current")
    }

    /// The folder of an app's releases.
    pub fn releases(&self, app: &AppName) -> PathBuf {
        self.app(app).join("releases")
    }

    /// One release.
    pub fn release(&self, app: &AppName, id: &ReleaseId) -> PathBuf {
        self.releases(app).join(id.as_str())
    }

    /// A folder of an app that survives releases.
    pub fn shared(&self, app: &AppName, path: &TreePath) -> PathBuf {
        self.app(app).join("shared").join(path.as_path())
    }

    /// What push-host remembers.
    pub fn state(&self) -> PathBuf {
        self.at("/var/lib/push")
    }

    /// The journal.
    pub fn journal(&self) -> PathBuf {
        self.at("/var/lib/push/journal")
    }

    /// Uploads that are not finished.
    pub fn spool(&self) -> PathBuf {
        self.at("/var/lib/push/spool")
    }

    /// Packs that are arriving.
    pub fn packs(&self) -> PathBuf {
        self.spool().join("packs")
    }

    /// Files that were unpacked and wait for their release.
    pub fn blobs(&self) -> PathBuf {
        self.spool().join("blobs")
    }

    /// The listings of all releases.
    pub fn trees(&self) -> PathBuf {
        self.at("/var/lib/push/trees")
    }

    /// The listings of an app's releases.
    pub fn app_trees(&self, app: &AppName) -> PathBuf {
        self.trees().join(app.as_str())
    }

    /// The folder over which a view of a staged generation is mounted, for its own process alone.
    pub fn view(&self) -> PathBuf {
        self.at("/run/push/view")
    }

    /// The key of the fingerprints of secrets.
    pub fn fingerprint_key(&self) -> PathBuf {
        self.at("/var/lib/push/fingerprint.key")
    }

    /// The program itself.
    pub fn program(&self) -> PathBuf {
        self.at("/usr/local/lib/push/push-host")
    }

    /// The unit that runs `push-host recover` at boot.
    pub fn recover_unit(&self) -> PathBuf {
        self.units().join("push-recover.service")
    }

    /// What push adds to the unit of the system's own firewall.
    pub fn nftables_drop_in(&self) -> PathBuf {
        self.units().join("nftables.service.d/push.conf")
    }

    /// What lasts until the next boot.
    pub fn run(&self) -> PathBuf {
        self.at("/run/push")
    }

    /// The lock. In memory, so that neither a full disk nor one that became read-only can hinder a
    /// recovery from taking it.
    pub fn lock(&self) -> PathBuf {
        self.at("/run/push/lock")
    }

    /// The lock of what is made once for all sessions: push-host itself, the key of fingerprints. Held
    /// for moments, and never by a transaction.
    pub fn brief_lock(&self) -> PathBuf {
        self.at("/run/push/brief-lock")
    }

    /// Who holds the lock, in words.
    pub fn holder(&self) -> PathBuf {
        self.at("/run/push/holder")
    }

    /// Opened secrets.
    pub fn secrets(&self) -> PathBuf {
        self.at("/run/push/secrets")
    }

    /// The opened secrets of an app.
    pub fn app_secrets(&self, app: &AppName) -> PathBuf {
        self.secrets().join(app.as_str())
    }

    /// An opened secret.
    pub fn secret(&self, app: &AppName, name: &FileName) -> PathBuf {
        self.app_secrets(app).join(name.as_str())
    }

    /// The folder of all transactions since boot.
    pub fn transactions(&self) -> PathBuf {
        self.at("/run/push/transactions")
    }

    /// One transaction, as long as the host is up. That it is there tells a recovery that the host
    /// has not been booted since.
    pub fn transaction(&self, id: &TransactionId) -> Transaction {
        Transaction {
            folder: self.transactions().join(id.as_str()),
        }
    }

    /// What the host remembers of its latest upgrade by push.
    pub fn upgrade(&self) -> PathBuf {
        self.at("/var/lib/push/upgrade.json")
    }

    /// There when something that was installed wants a reboot (Debian Policy has no word of it; the kernels'
    /// and libraries' own scripts make it).
    pub fn reboot_required(&self) -> PathBuf {
        self.at("/run/reboot-required")
    }

    /// The packages that want it.
    pub fn reboot_required_by(&self) -> PathBuf {
        self.at("/run/reboot-required.pkgs")
    }

    /// What dpkg has installed, and in which state.
    pub fn dpkg_status(&self) -> PathBuf {
        self.at("/var/lib/dpkg/status")
    }

    /// What dpkg did and has not written into its status yet; empty unless it was cut short.
    pub fn dpkg_updates(&self) -> PathBuf {
        self.at("/var/lib/dpkg/updates")
    }

    /// The file systems and swap that a boot mounts.
    pub fn fstab(&self) -> PathBuf {
        self.at("/etc/fstab")
    }

    /// The swap file that push makes where there is no swap.
    pub fn swap(&self) -> PathBuf {
        self.at("/swapfile")
    }

    /// Everything that certbot keeps.
    pub fn certbot(&self) -> PathBuf {
        self.at(push_wire::certificate::CERTBOT)
    }

    /// The settings by which certbot renews one certificate.
    pub fn renewal(&self, file: &str) -> PathBuf {
        self.certbot().join("renewal").join(file)
    }

    /// The link by which Debian's nginx shows its welcome page.
    pub fn welcome_page(&self) -> PathBuf {
        self.at("/etc/nginx/sites-enabled/default")
    }

    /// nginx's own settings: there once it is installed.
    pub fn nginx_settings(&self) -> PathBuf {
        self.at("/etc/nginx/nginx.conf")
    }

    /// The host's own SSH keys that secrets can be sealed to, the preferred one first.
    pub fn host_keys(&self) -> [PathBuf; 2] {
        [
            self.at("/etc/ssh/ssh_host_ed25519_key"),
            self.at("/etc/ssh/ssh_host_rsa_key"),
        ]
    }
}

/// The paths inside one generation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Generation {
    folder: PathBuf,
}

impl Generation {
    /// A generation that is being written, under a name of its own.
    pub fn being_written(folder: impl Into<PathBuf>) -> Self {
        Self {
            folder: folder.into(),
        }
    }

    /// The generation's folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// What it declares.
    pub fn manifest(&self) -> PathBuf {
        self.folder.join("manifest.json")
    }

    /// The text of a unit.
    pub fn unit(&self, unit: &UnitName) -> PathBuf {
        self.folder.join("systemd").join(unit.as_str())
    }

    /// The texts that nginx includes.
    pub fn nginx(&self) -> PathBuf {
        self.folder.join("nginx")
    }

    /// The text of a site.
    pub fn site(&self, app: &AppName) -> PathBuf {
        self.nginx().join(format!("{app}.conf"))
    }

    /// The text by which nginx tells which generation it serves.
    pub fn marker(&self) -> PathBuf {
        self.nginx().join("00-generation.conf")
    }

    /// The firewall.
    pub fn firewall(&self) -> PathBuf {
        self.folder.join("nftables/push.nft")
    }

    /// The content of a declared file.
    pub fn file(&self, path: &HostPath) -> PathBuf {
        self.folder.join("files").join(path.inside_root().as_path())
    }

    /// The link to an app's release.
    pub fn app(&self, app: &AppName) -> PathBuf {
        self.folder.join("apps").join(app.as_str())
    }

    /// A secret, sealed to this host.
    pub fn sealed(&self, app: &AppName, name: &FileName) -> PathBuf {
        self.folder
            .join("secrets")
            .join(app.as_str())
            .join(format!("{name}.age"))
    }
}

/// The paths inside one transaction's folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transaction {
    folder: PathBuf,
}

impl Transaction {
    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// What is to be done, as `serve` leaves it for the transaction.
    pub fn request(&self) -> PathBuf {
        self.folder.join("request.json")
    }

    /// What the transaction tells, one JSON text a line.
    pub fn progress(&self) -> PathBuf {
        self.folder.join("progress")
    }

    /// There once the operator has come in again.
    pub fn confirmed(&self) -> PathBuf {
        self.folder.join("confirmed")
    }

    /// There once the operator wants the transaction taken back.
    pub fn take_back(&self) -> PathBuf {
        self.folder.join("take-back")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_path_is_below_the_root_that_was_given() {
        let layout = Layout::new("/tmp/x");
        let app: AppName = "api".parse().unwrap();
        let unit: UnitName = "api.service".parse().unwrap();
        for path in [
            layout.current(),
            layout.journal(),
            layout.unit(&unit),
            layout.app_current(&app),
            layout.live().site(&app),
            layout.host(&"/etc/x".parse().unwrap()),
        ] {
            assert!(path.starts_with("/tmp/x"), "{}", path.display());
        }
        assert_eq!(
            Layout::new("/").live().file(&"/etc/a/b".parse().unwrap()),
            Path::new("/etc/push/current/files/etc/a/b")
        );
    }
}
