//! Opens sealed files with the operator's keys. A passphrase is asked for when the first file needs
//! its key, and once.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use age::DecryptError;
use age::secrecy::SecretString;
use zeroize::Zeroizing;

use super::error::StaysLocked;
use super::header::{Stanza, stanzas};
use super::identity::{self, AGE_HEADER, ARMOR_HEADER, Found, IdentityFile, Key, Lock};
use super::{Secret, SecretError};

/// The largest content of a secret, in bytes: what systemd passes to a unit as credentials.
pub const SECRET_BYTES_MAX: u64 = 1 << 20;

/// The largest sealed file, in bytes: armor takes a third, and a thousand recipients 200 KiB.
pub const SEALED_BYTES_MAX: u64 = 2 << 20;

/// The most work that a passphrase may ask for, as a binary logarithm; `age -p` asks for 18.
pub const WORK_FACTOR_MAX: u8 = 20;

/// Asks the operator for the passphrase of a file of keys; `None` when nobody can be asked.
pub type Ask = Box<dyn Fn(&str) -> Option<SecretString> + Send + Sync>;

/// The operator's keys.
pub struct Keyring {
    keys: Mutex<Keys>,
    ask: Ask,
}

struct Keys {
    names: Vec<String>,
    exposed: Vec<PathBuf>,
    ready: Vec<Key>,
    locked: Vec<Locked>,
}

/// A key that waits for its passphrase.
struct Locked {
    file: String,
    lock: Lock,
    /// Why it stayed shut: it is not asked for again, and is the cause when nothing else fits.
    refused: Option<SecretError>,
}

impl Locked {
    /// The keys behind it, which the sealed file `sealed` needs.
    fn open(&mut self, sealed: &str, ask: &Ask) -> Result<Vec<Key>, SecretError> {
        if let Some(error) = &self.refused {
            return Err(error.clone().of_sealed(sealed));
        }
        let opened = match ask(&self.file) {
            Some(passphrase) if !identity::is_empty(&passphrase) => {
                self.lock.open((&self.file, sealed), passphrase)
            }
            _ => Err(SecretError::IdentityLocked {
                sealed: sealed.to_owned(),
                file: self.file.clone(),
                why: StaysLocked::Unasked,
            }),
        };
        if let Err(error) = &opened {
            self.refused = Some(error.clone());
        }
        opened
    }
}

impl Keyring {
    /// Reads files of keys. Nothing is asked for yet.
    pub fn read(files: &[IdentityFile], ask: Ask) -> Result<Self, SecretError> {
        let mut keys = Keys {
            names: Vec::new(),
            ready: Vec::new(),
            locked: Vec::new(),
            exposed: Vec::new(),
        };
        for file in files {
            let Some(read) = identity::read(file)? else {
                continue;
            };
            match (read.keys(), file) {
                (Ok(Found::Ready(found)), _) => keys.ready.extend(found),
                (Ok(Found::Locked(lock)), _) => keys.locked.push(Locked {
                    file: read.name.clone(),
                    lock,
                    refused: None,
                }),
                // A key at a usual place may be there for something else.
                (Err(error), IdentityFile::Usual(_)) if error.is_of_a_foreign_key() => continue,
                (Err(error), _) => return Err(error),
            }
            keys.exposed.extend(read.exposed());
            keys.names.push(read.name);
        }
        if keys.names.is_empty() {
            let looked = files.iter().map(|file| match file {
                IdentityFile::Named(path) | IdentityFile::Usual(path) => path.display().to_string(),
                IdentityFile::Given(key) => key.variable.to_owned(),
                IdentityFile::Unclear(variable) => (*variable).to_owned(),
            });
            return Err(SecretError::NoIdentity {
                looked: looked.collect(),
            });
        }
        Ok(Self {
            keys: Mutex::new(keys),
            ask,
        })
    }

    /// The files that keys were found in.
    pub fn names(&self) -> Vec<String> {
        self.lock().names.clone()
    }

    /// Those of them that others on this machine can read.
    pub fn exposed(&self) -> Vec<PathBuf> {
        self.lock().exposed.clone()
    }

    /// Opens a sealed file.
    pub fn open(&self, file: &Path) -> Result<Secret, SecretError> {
        let shown = file.display().to_string();
        let sealed = read_sealed(file, &shown)?;
        self.open_sealed(&shown, &sealed)
    }

    /// Opens sealed content; `file` is what messages call it.
    pub fn open_sealed(&self, file: &str, sealed: &[u8]) -> Result<Secret, SecretError> {
        recognise(file, sealed)?;
        let mut keys = self.lock();
        loop {
            match decrypt(file, sealed, &keys.ready) {
                Err(SecretError::NotForUs { .. }) => {
                    let sealed_to = stanzas(file, sealed)?;
                    self.unlock_one(&mut keys, (file, &sealed_to))?;
                }
                verdict => return verdict,
            }
        }
    }

    /// Unlocks one more key that may fit, or says why none does. The number of keys bounds how often
    /// that can succeed.
    fn unlock_one(
        &self,
        keys: &mut Keys,
        (file, sealed_to): (&str, &[Stanza]),
    ) -> Result<(), SecretError> {
        let mut refused = None;
        let mut at = 0;
        while let Some(locked) = keys.locked.get_mut(at) {
            at += 1;
            if !locked.lock.may_open(sealed_to) {
                continue;
            }
            match locked.open(file, &self.ask) {
                Ok(opened) => {
                    keys.ready.extend(opened);
                    keys.locked.remove(at - 1);
                    return Ok(());
                }
                Err(error) => drop(refused.get_or_insert(error)),
            }
        }
        Err(refused.unwrap_or_else(|| SecretError::NotForUs {
            file: file.to_owned(),
            tried: keys.names.clone(),
        }))
    }

    fn lock(&self) -> MutexGuard<'_, Keys> {
        // Keys are only ever added, so they are whole even if another thread panicked.
        self.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keys that no file holds, for tests with published vectors.
    #[cfg(test)]
    pub(super) fn of(keys: Vec<Key>) -> Self {
        let keys = Keys {
            names: vec!["a test".to_owned()],
            ready: keys,
            locked: Vec::new(),
            exposed: Vec::new(),
        };
        Self {
            keys: Mutex::new(keys),
            ask: Box::new(|_| None),
        }
    }
}

/// Reads a sealed file, `shown` in messages, and never more than it can be.
pub fn read_sealed(file: &Path, shown: &str) -> Result<Vec<u8>, SecretError> {
    let unreadable = |why: String| SecretError::Unreadable {
        file: shown.to_owned(),
        why,
    };
    let metadata = fs::metadata(file).map_err(|error| unreadable(error.to_string()))?;
    if !metadata.is_file() {
        return Err(unreadable("it is not a regular file".to_owned()));
    }
    let too_large = SecretError::TooLarge {
        file: shown.to_owned(),
        max: SEALED_BYTES_MAX,
    };
    if metadata.len() > SEALED_BYTES_MAX {
        return Err(too_large);
    }
    let mut bytes = Vec::new();
    File::open(file)
        .and_then(|file| file.take(SEALED_BYTES_MAX + 1).read_to_end(&mut bytes))
        .map_err(|error| unreadable(error.to_string()))?;
    if bytes.len() as u64 > SEALED_BYTES_MAX {
        return Err(too_large);
    }
    Ok(bytes)
}

/// Refuses what is not sealed.
pub(super) fn recognise(file: &str, sealed: &[u8]) -> Result<(), SecretError> {
    let file = || file.to_owned();
    if sealed.is_empty() {
        return Err(SecretError::Empty { file: file() });
    }
    if sealed.starts_with(AGE_HEADER) || sealed.trim_ascii_start().starts_with(ARMOR_HEADER) {
        return Ok(());
    }
    if AGE_HEADER.starts_with(sealed) || ARMOR_HEADER.starts_with(sealed) {
        return Err(SecretError::Damaged {
            file: file(),
            why: "it is cut short",
        });
    }
    Err(SecretError::Plaintext { file: file() })
}

fn decrypt(file: &str, sealed: &[u8], keys: &[Key]) -> Result<Secret, SecretError> {
    let refused = |error: &DecryptError| refusal(file, error);
    let decryptor = age::Decryptor::new_buffered(age::armor::ArmoredReader::new(sealed))
        .map_err(|error| refused(&error))?;
    let reader = decryptor
        .decrypt(keys.iter().map(Key::as_identity))
        .map_err(|error| refused(&error))?;
    // Enough for any content, so that no half of it is left behind by growing.
    let mut content = Zeroizing::new(Vec::with_capacity(sealed.len() + 1));
    let read = reader.take(SECRET_BYTES_MAX + 1).read_to_end(&mut content);
    // What came before the damage is wiped with `content`.
    read.map_err(|error| match error.kind() {
        std::io::ErrorKind::UnexpectedEof => damaged(file, "it is cut short"),
        _ => damaged(file, "its content was changed or cut after it was sealed"),
    })?;
    if content.len() as u64 > SECRET_BYTES_MAX {
        return Err(SecretError::TooLarge {
            file: file.to_owned(),
            max: SECRET_BYTES_MAX,
        });
    }
    Ok(Secret::new(content))
}

fn refusal(file: &str, error: &DecryptError) -> SecretError {
    match error {
        DecryptError::NoMatchingKeys => SecretError::NotForUs {
            file: file.to_owned(),
            tried: Vec::new(),
        },
        DecryptError::ExcessiveWork { required, .. } => SecretError::Work {
            file: file.to_owned(),
            factor: *required,
        },
        DecryptError::InvalidHeader => damaged(file, "its header is not that of an age file"),
        DecryptError::InvalidMac => damaged(file, "its header was changed after it was sealed"),
        DecryptError::UnknownFormat => damaged(file, "its format is unknown, or of a newer age"),
        DecryptError::DecryptionFailed | DecryptError::KeyDecryptionFailed => {
            damaged(file, "its key was changed after it was sealed")
        }
        DecryptError::Io(_) => damaged(file, "it is cut short, or its armor is broken"),
    }
}

pub(super) fn damaged(file: &str, why: &'static str) -> SecretError {
    SecretError::Damaged {
        file: file.to_owned(),
        why,
    }
}
