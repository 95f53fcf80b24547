//! The vault of a push: the sealed files of an environment, read once, opened once with the operator's
//! keys, sealed again for each host. Keys are looked for when the first secret has to be opened, so a
//! push whose hosts hold every secret already needs none.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use dialoguer::Password;
use push_wire::digest::Digest;
use secrecy::SecretString;

use super::environment::Environment;
use crate::desired::{Opened, Vault, VaultError};
use crate::inventory::{HostKey, secret_files};
use crate::name::{EnvironmentName, FileName};
use crate::report::Report;
use crate::report::screen::can_ask;
use crate::secret::{
    Ask, Keyring, Recipient, Secret, SecretError, identity_files, read_sealed, seal,
};
use crate::visible::escape;

/// How much of a path a message shows, in bytes.
const SHOWN_BYTES_MAX: usize = 1000;

/// Finds the operator's keys. Called once, and only when a secret has to be opened.
type FindKeys = Box<dyn Fn() -> Result<Keyring, SecretError> + Send + Sync>;

/// The sealed files of an environment. A push that changes no secret reads them, and opens none.
pub struct SealedFiles {
    environment: EnvironmentName,
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
        let report = report.clone();
        let name = &environment.fleet.environment;
        let folder = project.clone();
        let find_keys = move || {
            let variable = |name: &str| std::env::var_os(name);
            let files = identity_files(&project, &identities, &variable);
            Keyring::read(&files, ask(report.clone()))
        };
        Self::of(&folder, name, Box::new(find_keys))
    }

    /// The sealed files of `environment` in the project's folder.
    fn of(project: &Path, environment: &EnvironmentName, find_keys: FindKeys) -> Self {
        Self {
            environment: environment.clone(),
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

impl Vault for SealedFiles {
    fn source(&self, secret: &FileName) -> Result<Digest, VaultError> {
        self.sealed(secret).map(Digest::of)
    }

    fn open(&self, secret: &FileName) -> Result<Opened, VaultError> {
        let sealed = self.sealed(secret)?;
        // Held while a passphrase is asked for, so that hosts planned at once ask once.
        let mut opened = lock(&self.opened);
        if let Some(found) = opened.get(secret) {
            return Ok(Opened(found.clone().into_content()));
        }
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
}
