//! The vault of a push: the sealed files of `inventory/secrets`, opened with the operator's keys and
//! sealed again to hosts. Keys are read when the first secret has to be opened, so a push whose hosts
//! hold every secret already needs none.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::PathBuf;
use std::sync::OnceLock;

use dialoguer::Password;
use push_wire::digest::Digest;
use secrecy::SecretString;

use super::environment::Environment;
use super::project::INVENTORY;
use crate::desired::{Opened, Vault, VaultError};
use crate::name::FileName;
use crate::report::Report;
use crate::report::screen::can_ask;
use crate::secret::{self, Ask, Keyring, Recipient, SEALED_BYTES_MAX, SecretError};

/// The secrets of one project.
pub struct Sealed {
    project: PathBuf,
    identities: Vec<PathBuf>,
    report: Report,
    keyring: OnceLock<Result<Keyring, VaultError>>,
}

impl Sealed {
    /// The secrets of an environment's project. Reads nothing yet.
    pub fn new(environment: &Environment, report: &Report) -> Self {
        Self {
            project: environment.project.root().to_owned(),
            identities: environment.fleet.identities.clone(),
            report: report.clone(),
            keyring: OnceLock::new(),
        }
    }

    fn keyring(&self) -> Result<&Keyring, VaultError> {
        let read = || {
            let variable = |name: &str| std::env::var_os(name);
            let files = secret::identity_files(&self.project, &self.identities, &variable);
            Keyring::read(&files, ask(self.report.clone())).map_err(|error| told(&error))
        };
        self.keyring
            .get_or_init(read)
            .as_ref()
            .map_err(Clone::clone)
    }

    /// A sealed file's name for messages, and its bytes.
    fn sealed(&self, secret: &FileName) -> Result<(String, Vec<u8>), VaultError> {
        let shown = format!("{INVENTORY}/secrets/{secret}.age");
        let mut bytes = Vec::new();
        let read = File::open(self.project.join(&shown))
            .and_then(|file| file.take(SEALED_BYTES_MAX + 1).read_to_end(&mut bytes));
        match read {
            Ok(_) if bytes.len() as u64 > SEALED_BYTES_MAX => Err(told(&SecretError::TooLarge {
                file: shown,
                max: SEALED_BYTES_MAX,
            })),
            Ok(_) => Ok((shown, bytes)),
            Err(error) => Err(unreadable(&shown, &error)),
        }
    }
}

impl Vault for Sealed {
    fn source(&self, secret: &FileName) -> Result<Digest, VaultError> {
        Ok(Digest::of(self.sealed(secret)?.1))
    }

    fn open(&self, secret: &FileName) -> Result<Opened, VaultError> {
        let (shown, sealed) = self.sealed(secret)?;
        let opened = self
            .keyring()?
            .open_sealed(&shown, &sealed)
            .map_err(|error| told(&error))?;
        Ok(Opened(opened.into_content()))
    }

    fn seal(&self, content: &[u8], host_key: &str) -> Result<Vec<u8>, VaultError> {
        let recipient: Recipient = host_key.parse().map_err(|error| told(&error))?;
        secret::seal(content, &[recipient]).map_err(|error| told(&error))
    }
}

/// Asks on the terminal, if there is one, while no live line moves.
fn ask(report: Report) -> Ask {
    Box::new(move |file| {
        if !can_ask() {
            return None;
        }
        let prompt = format!("Passphrase of {file}");
        let typed = report.paused(|| Password::new().with_prompt(prompt).interact());
        typed.ok().map(SecretString::from)
    })
}

fn told(error: &SecretError) -> VaultError {
    VaultError {
        why: error.to_string(),
        help: error.help(),
    }
}

fn unreadable(shown: &str, error: &io::Error) -> VaultError {
    let seal = format!(
        "seal one: `age -R ~/.ssh/id_ed25519.pub -o {shown}`, and type or pipe its content"
    );
    match error.kind() {
        io::ErrorKind::NotFound => VaultError {
            why: format!("{shown} does not exist"),
            help: seal,
        },
        _ => VaultError {
            why: format!("{shown} cannot be read: {error}"),
            help: format!("`ls -l {shown}` shows who may read it"),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Form;
    use crate::report::screen::Motion;

    fn vault(project: &std::path::Path) -> Sealed {
        Sealed {
            project: project.to_owned(),
            identities: vec![project.join("absent")],
            report: Report::for_test(Form::Text, Motion::Plain).0,
            keyring: OnceLock::new(),
        }
    }

    #[test]
    fn a_missing_secret_is_named_with_the_command_that_makes_it() {
        let project = tempfile::tempdir().unwrap();
        let error = vault(project.path())
            .source(&"api-token".parse().unwrap())
            .unwrap_err();
        assert_eq!(error.why, "inventory/secrets/api-token.age does not exist");
        assert!(error.help.contains("age -R"), "{error:?}");
    }

    #[test]
    fn the_digest_of_a_sealed_file_needs_no_key() {
        let project = tempfile::tempdir().unwrap();
        let folder = project.path().join("inventory/secrets");
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("a.age"), "sealed").unwrap();
        let vault = vault(project.path());
        assert_eq!(
            vault.source(&"a".parse().unwrap()),
            Ok(Digest::of("sealed"))
        );
        assert!(
            vault.open(&"a".parse().unwrap()).is_err(),
            "its key is absent"
        );
    }
}
