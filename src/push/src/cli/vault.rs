//! The vault of a push: the sealed files of an environment, read once, opened once with the operator's
//! keys, sealed again for each host. Keys are looked for when the first secret has to be opened, so a
//! push whose hosts hold every secret already needs none.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use dialoguer::Password;
use push_wire::digest::Digest;
use secrecy::SecretString;

use super::environment::Environment;
use crate::desired::{Door, Opened, Vault, VaultError};
use crate::inventory::{HostKey, PublicKey, secret_files};
use crate::name::{EnvironmentName, FileName, HostName};
use crate::release::is_untracked;
use crate::report::Report;
use crate::report::screen::can_ask;
use crate::secret::{
    Ask, Entry, Keyring, Lock, Recipient, Secret, SecretError, Stanza, host_label, identity_files,
    line_parts, lock_key, read_sealed, seal, stanzas,
};
use crate::visible::escape;

/// How much of a path a message shows, in bytes.
const SHOWN_BYTES_MAX: usize = 1000;

/// How much of a host's key a message shows, in characters.
const KEY_CHARS_MAX: usize = 40;

/// Finds the operator's keys. Called once, and only when a secret has to be opened.
type FindKeys = Box<dyn Fn() -> Result<Keyring, SecretError> + Send + Sync>;

/// The sealed files of an environment. A push that changes no secret reads them, and opens none.
pub struct SealedFiles {
    project: PathBuf,
    environment: EnvironmentName,
    lock: Result<Lock, SecretError>,
    pinned: BTreeMap<HostName, Vec<HostKey>>,
    told: Mutex<BTreeSet<String>>,
    report: Option<Report>,
    files: BTreeMap<FileName, PathBuf>,
    read: Mutex<BTreeMap<FileName, Vec<u8>>>,
    find_keys: FindKeys,
    keys: OnceLock<Result<Keyring, SecretError>>,
    opened: Mutex<BTreeMap<FileName, Secret>>,
}

impl SealedFiles {
    /// The secrets of an environment. Reads nothing but the names of the files yet.
    pub fn of_environment(environment: &Environment, report: &Report) -> Self {
        let project = environment.project.root().to_owned();
        let identities = environment.fleet.identities.clone();
        let (report, spoken) = (report.clone(), report.clone());
        let name = &environment.fleet.environment;
        let folder = project.clone();
        let hosts = environment.fleet.hosts.values();
        let pinned = hosts.map(|host| (host.name.clone(), host.host_keys.clone()));
        let find_keys = move || keyring(&project, &identities, &report);
        Self {
            report: Some(spoken),
            pinned: pinned.collect(),
            ..Self::of(&folder, name, Box::new(find_keys))
        }
    }

    /// The sealed files of `environment` in the project's folder.
    fn of(project: &Path, environment: &EnvironmentName, find_keys: FindKeys) -> Self {
        Self {
            project: project.to_owned(),
            environment: environment.clone(),
            lock: Lock::read(project),
            pinned: BTreeMap::new(),
            told: Mutex::default(),
            report: None,
            files: secret_files(project, environment),
            read: Mutex::default(),
            find_keys,
            keys: OnceLock::new(),
            opened: Mutex::default(),
        }
    }

    /// The sealed content; the same for all hosts of a push, whatever happens to the file meanwhile.
    fn sealed(&self, name: &FileName) -> Result<Vec<u8>, VaultError> {
        let mut read = lock(&self.read);
        if let Some(sealed) = read.get(name) {
            return Ok(sealed.clone());
        }
        let file = self.files.get(name).ok_or_else(|| VaultError {
            why: format!("inventory/secrets/{name}.age does not exist"),
            help: format!(
                "`push secret set {} {name}` asks for its value and seals it",
                self.environment
            ),
        })?;
        let sealed = read_sealed(file, &shown(file)).map_err(|error| failed(&error))?;
        read.insert(name.clone(), sealed.clone());
        Ok(sealed)
    }
}

impl SealedFiles {
    /// What the lock says of a secret, if it is of this very file.
    fn entry(&self, secret: &FileName) -> Option<&Entry> {
        let sealed = self.sealed(secret).ok()?;
        let key = lock_key(&self.project, self.files.get(secret)?);
        self.lock.as_ref().ok()?.entry_of(&key, &sealed)
    }

    /// Says once what becomes of a secret.
    fn tell(&self, secret: &FileName, what: &str) {
        if lock(&self.told).insert(format!("{secret} {what}"))
            && let Some(report) = &self.report
        {
            report.say(&format!("{secret} {what}\n"));
        }
    }

    /// A change that went past `push secret` is said wherever the secret is used.
    fn tell_of_a_silent_change(&self, secret: &FileName) {
        let keeps_account = self
            .lock
            .as_ref()
            .is_ok_and(|lock| !lock.entries.is_empty());
        if keeps_account && self.entry(secret).is_none() {
            let what = format!(
                "is not the file that secrets.lock tells of: `push secret verify {}` says more",
                self.environment
            );
            self.tell(secret, &what);
        }
    }

    /// Refuses a file that was sealed to other keys of the host than it has. One that is sealed to a pinned
    /// key was sealed before another was pinned beside it, and nothing is wrong with either.
    fn same_host_key(&self, secret: &FileName, to: &Door<'_>) -> Result<(), VaultError> {
        let label = host_label(to.host.as_str());
        let entry = self.entry(secret);
        let lines = entry.into_iter().flat_map(|entry| &entry.recipients);
        let keys: Vec<PublicKey> = lines
            .filter_map(|line| match line_parts(line) {
                (Some(key), who) if who == label => Some(key),
                _ => None,
            })
            .collect();
        let pinned = self.pinned.get(to.host).into_iter().flatten();
        let mut pinned = pinned.filter_map(|key| key.as_str().parse::<PublicKey>().ok());
        let Some(old) = keys.first() else {
            return Ok(());
        };
        if pinned.any(|key| keys.contains(&key)) {
            return Ok(());
        }
        let file = self
            .files
            .get(secret)
            .map_or_else(String::new, |file| shown(file));
        Err(VaultError {
            why: format!(
                "{file} is sealed to a key of {} that the host no longer has: {}",
                to.host,
                old.as_str().chars().take(KEY_CHARS_MAX).collect::<String>()
            ),
            help: format!(
                "find out why the key of {} changed; then `push secret rekey {}` seals it to the new one",
                to.host, self.environment
            ),
        })
    }
}

impl Vault for SealedFiles {
    fn source(&self, secret: &FileName) -> Result<Digest, VaultError> {
        let digest = self.sealed(secret).map(Digest::of)?;
        self.lock.as_ref().map_err(failed)?;
        self.tell_of_a_silent_change(secret);
        Ok(digest)
    }

    fn revision(&self, secret: &FileName) -> Option<String> {
        self.entry(secret).map(|entry| entry.revision.clone())
    }

    fn as_it_is(&self, secret: &FileName, to: &Door<'_>) -> Result<Option<Vec<u8>>, VaultError> {
        let sealed = self.sealed(secret)?;
        let file = self
            .files
            .get(secret)
            .map_or_else(String::new, |file| shown(file));
        let found = stanzas(&file, &sealed).map_err(|error| failed(&error))?;
        let key = to.key.parse::<PublicKey>().ok();
        if key.is_some_and(|key| found.contains(&Stanza::of(&key))) {
            self.tell(secret, "is sealed to its hosts and travels as it is");
            return Ok(Some(sealed));
        }
        self.same_host_key(secret, to)?;
        Ok(None)
    }

    fn open(&self, secret: &FileName) -> Result<Opened, VaultError> {
        let sealed = self.sealed(secret)?;
        // Held while a passphrase is asked for, so that hosts planned at once ask once.
        let mut opened = lock(&self.opened);
        if let Some(found) = opened.get(secret) {
            return Ok(Opened(found.clone().into_content()));
        }
        self.tell(secret, "is opened here and sealed anew to each host");
        let keys = self
            .keys
            .get_or_init(|| (self.find_keys)())
            .as_ref()
            .map_err(failed)?;
        let file = self
            .files
            .get(secret)
            .map_or_else(String::new, |file| shown(file));
        let found = keys
            .open_sealed(&file, &sealed)
            .map_err(|error| failed(&error))?;
        opened.insert(secret.clone(), found.clone());
        Ok(Opened(found.into_content()))
    }

    fn seal(&self, content: &[u8], host_key: &str) -> Result<Vec<u8>, VaultError> {
        let key: HostKey = host_key.parse().map_err(|error| VaultError {
            why: format!("the host's key cannot be sealed to: {error}"),
            help: "the host needs an ssh-ed25519 or ssh-rsa host key: `ssh-keygen -A` there".into(),
        })?;
        Recipient::host(&key)
            .and_then(|recipient| seal(content, &[recipient]))
            .map_err(|error| failed(&error))
    }
}

/// The operator's keys. One that others can read is used, and said: whoever reads it opens secrets, too.
pub(super) fn keyring(
    project: &Path,
    named: &[PathBuf],
    report: &Report,
) -> Result<Keyring, SecretError> {
    let variable = |name: &str| std::env::var_os(name);
    let files = identity_files(project, named, &variable);
    let keys = Keyring::read(&files, ask(report.clone()))?;
    // What is committed is for everybody who has the project, by the operator's own choice.
    let committed = |file: &Path| file.starts_with(project) && !is_untracked(project, file);
    for file in keys.exposed().iter().filter(|file| !committed(file)) {
        let file = shown(file);
        report.say(&format!(
            "warning: others can read the key in {file}: run `chmod 600 {file}`\n"
        ));
    }
    Ok(keys)
}

/// Asks on the terminal, if there is one, while no live line moves.
pub(super) fn ask(report: Report) -> Ask {
    Box::new(move |file| {
        if !can_ask() {
            return None;
        }
        let prompt = format!("Passphrase of {file}");
        let typed = report.paused(|| Password::new().with_prompt(prompt).interact());
        typed.ok().map(SecretString::from)
    })
}

fn failed(error: &SecretError) -> VaultError {
    VaultError {
        why: error.to_string(),
        help: error.help(),
    }
}

fn shown(path: &Path) -> String {
    escape(path.as_os_str().as_encoded_bytes(), SHOWN_BYTES_MAX)
}

/// Whoever panicked has left a map that only grows.
fn lock<T>(held: &Mutex<T>) -> MutexGuard<'_, T> {
    held.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use age::secrecy::ExposeSecret as _;

    use super::*;
    use crate::secret::IdentityFile;

    const HOST_KEY: &str =
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJLGgqmjsM0vvbVIgRVNDYHYEqFnVVqL2Ju46oDtJJ2f";

    #[test]
    fn keys_are_looked_for_once_and_only_when_something_is_opened() {
        let folder = tempfile::tempdir().unwrap();
        let secrets = folder.path().join("inventory/secrets");
        std::fs::create_dir_all(&secrets).unwrap();
        let identity = age::x25519::Identity::generate();
        let recipient: Recipient = identity.to_public().to_string().parse().unwrap();
        let sealed = seal(b"content", &[recipient]).unwrap();
        std::fs::write(secrets.join("url.age"), &sealed).unwrap();
        let key = folder.path().join("key");
        std::fs::write(&key, identity.to_string().expose_secret()).unwrap();
        let asked = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&asked);
        let files = SealedFiles::of(
            folder.path(),
            &"test".parse().unwrap(),
            Box::new(move || {
                counter.fetch_add(1, Ordering::SeqCst);
                Keyring::read(&[IdentityFile::Named(key.clone())], Box::new(|_| None))
            }),
        );
        let url: FileName = "url".parse().unwrap();
        assert_eq!(files.source(&url).unwrap(), Digest::of(&sealed));
        assert_eq!(
            asked.load(Ordering::SeqCst),
            0,
            "reading a digest opens nothing"
        );
        for _ in 0..2 {
            assert_eq!(*files.open(&url).unwrap().0, b"content");
        }
        assert_eq!(asked.load(Ordering::SeqCst), 1);
        let again = files.seal(b"content", HOST_KEY).unwrap();
        assert!(again.starts_with(b"age-encryption.org/v1\n"));
        let missing = files.source(&"other".parse().unwrap()).unwrap_err();
        assert!(
            missing.why.contains("inventory/secrets/other.age"),
            "{missing}"
        );
        assert!(files.seal(b"content", "ssh-dss AAAA").is_err());
    }

    #[test]
    fn a_file_travels_to_the_host_that_it_is_sealed_to_and_a_changed_host_key_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let secrets = folder.path().join("inventory/secrets");
        std::fs::create_dir_all(&secrets).unwrap();
        let own = age::x25519::Identity::generate().to_public().to_string();
        let recipients = [own.parse().unwrap(), HOST_KEY.parse().unwrap()];
        let sealed = seal(b"content", &recipients).unwrap();
        std::fs::write(secrets.join("url.age"), &sealed).unwrap();
        let entry = Entry {
            sha256: Digest::of(&sealed),
            revision: "r1".into(),
            recipients: [format!("{HOST_KEY} host web1")].into(),
            by: "ann".into(),
            at: "2026-11-21T00:00:00Z".into(),
        };
        let mut lock = Lock::default();
        lock.entries.insert("url".into(), entry);
        std::fs::write(secrets.join("secrets.lock"), lock.text()).unwrap();
        let none = || Keyring::read(&[], Box::new(|_| None));
        let mut files = SealedFiles::of(folder.path(), &"test".parse().unwrap(), Box::new(none));
        let url: FileName = "url".parse().unwrap();
        let web1: HostName = "web1".parse().unwrap();
        let to = |key| Door { host: &web1, key };
        assert_eq!(files.as_it_is(&url, &to(HOST_KEY)), Ok(Some(sealed)));
        assert_eq!(files.revision(&url).as_deref(), Some("r1"));
        let other =
            "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ";
        let error = files.as_it_is(&url, &to(other)).unwrap_err();
        assert!(
            error.why.contains("web1") && error.why.contains("url.age"),
            "{error}"
        );
        assert!(
            error.help.contains("push secret rekey test"),
            "{}",
            error.help
        );
        // Pinned beside the one that the file is sealed to, it is another key of the same host.
        let pinned = [HOST_KEY, other].map(|key| key.parse().unwrap());
        files.pinned.insert(web1.clone(), pinned.into());
        assert_eq!(files.as_it_is(&url, &to(other)), Ok(None));
    }
}
