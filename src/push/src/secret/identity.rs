//! The operator's keys: age identities and SSH private keys, read from files, some locked by a
//! passphrase.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use age::secrecy::{ExposeSecret as _, SecretString};
use rustix::process::getuid;
use zeroize::Zeroizing;

use super::SecretError;
use super::error::StaysLocked;
use super::given::{GivenKey, in_variable};
use super::header::Stanza;
use super::keyring::WORK_FACTOR_MAX;
use crate::child::KEY_VARIABLES;
use crate::inventory::PublicKey;

/// The largest file of keys, in bytes.
const FILE_BYTES_MAX: u64 = 256 * 1024;

/// The permission bits that let others at a file.
const OTHERS: u32 = 0o077;

/// The most keys that one file may hold.
const KEYS_MAX: usize = 100;

/// How an age file begins.
pub(super) const AGE_HEADER: &[u8] = b"age-encryption.org/";

/// How an armored age file begins.
pub(super) const ARMOR_HEADER: &[u8] = b"-----BEGIN AGE ENCRYPTED FILE-----";

/// Where keys are looked for when nothing names one, below the home folder.
const USUAL: &[&str] = &[".config/push/identity", ".ssh/id_ed25519", ".ssh/id_rsa"];

/// Where keys are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IdentityFile {
    /// A file that somebody named: it must be there.
    Named(PathBuf),
    /// A file at a usual place: it may be missing.
    Usual(PathBuf),
    /// The key itself, from the environment of a CI job.
    Given(GivenKey),
    /// This variable holds neither, and what it holds may be a part of a key.
    Unclear(&'static str),
}

/// The files of keys to use: those that the environment names, else those that the inventory names,
/// else those at the usual places. `~/` is the home folder; other relative paths are the project's.
pub fn identity_files(
    project: &Path,
    named: &[PathBuf],
    variable: &dyn Fn(&str) -> Option<OsString>,
) -> Vec<IdentityFile> {
    let home = variable("HOME").map(PathBuf::from);
    let is_blank = |value: &OsString| value.to_str().is_some_and(|text| text.trim().is_empty());
    let from_environment = KEY_VARIABLES
        .iter()
        .find_map(|name| Some((*name, variable(name).filter(|value| !is_blank(value))?)));
    if let Some((name, value)) = from_environment {
        return in_variable(name, &value);
    }
    if !named.is_empty() {
        let place = |path: &PathBuf| match (path.strip_prefix("~"), &home) {
            (Ok(inside), Some(home)) => home.join(inside),
            _ => project.join(path),
        };
        return named.iter().map(place).map(IdentityFile::Named).collect();
    }
    let home = home.unwrap_or_default();
    USUAL
        .iter()
        .map(|path| IdentityFile::Usual(home.join(path)))
        .collect()
}

/// A key that is ready to open secrets.
pub(super) enum Key {
    Age(age::x25519::Identity),
    Ssh(age::ssh::Identity),
    /// Used by tests with published vectors; no file of keys holds one.
    #[cfg(test)]
    Passphrase(age::scrypt::Identity),
}

impl Key {
    pub(super) fn as_identity(&self) -> &dyn age::Identity {
        match self {
            Self::Age(key) => key,
            Self::Ssh(key) => key,
            #[cfg(test)]
            Self::Passphrase(key) => key,
        }
    }
}

/// What a file of keys holds.
pub(super) enum Found {
    Ready(Vec<Key>),
    Locked(Lock),
}

/// A key that a passphrase opens.
pub(super) enum Lock {
    Ssh {
        key: Box<age::ssh::EncryptedKey>,
        /// What is sealed to it, as its public half says, which no passphrase hides.
        stanza: Option<Stanza>,
    },
    /// A whole file of age identities, sealed by a passphrase.
    Age(Vec<u8>),
}

impl Lock {
    /// Whether it may fit a file that is sealed so. Of an age key only the kind is known.
    pub(super) fn may_open(&self, sealed_to: &[Stanza]) -> bool {
        match self {
            Self::Ssh {
                stanza: Some(own), ..
            } => sealed_to.contains(own),
            Self::Ssh { stanza: None, .. } => sealed_to
                .iter()
                .any(|stanza| matches!(stanza, Stanza::Ssh { .. })),
            Self::Age(_) => sealed_to.contains(&Stanza::Age),
        }
    }

    /// Opens the key in `file`, when something sealed needs it.
    pub(super) fn open(
        &self,
        (file, sealed): (&str, &str),
        passphrase: SecretString,
    ) -> Result<Vec<Key>, SecretError> {
        let wrong = || SecretError::IdentityLocked {
            sealed: sealed.to_owned(),
            file: file.to_owned(),
            why: StaysLocked::Wrong,
        };
        match self {
            Self::Ssh { key, .. } => {
                let key = key.decrypt(passphrase).map_err(|_| wrong())?;
                Ok(vec![Key::Ssh(age::ssh::Identity::from(key))])
            }
            Self::Age(sealed) => {
                let mut key = age::scrypt::Identity::new(passphrase);
                key.set_max_work_factor(WORK_FACTOR_MAX);
                let opened =
                    age::Decryptor::new_buffered(age::armor::ArmoredReader::new(sealed.as_slice()))
                        .and_then(|sealed| {
                            sealed.decrypt(std::iter::once(&key as &dyn age::Identity))
                        })
                        .map_err(|_| wrong())?;
                let mut text = Zeroizing::new(String::new());
                opened
                    .take(FILE_BYTES_MAX)
                    .read_to_string(&mut text)
                    .map_err(|_| wrong())?;
                age_keys(file, &text)
            }
        }
    }
}

/// A file of keys as it was read.
pub(super) struct KeyFile {
    pub name: String,
    pub bytes: Zeroizing<Vec<u8>>,
    /// Where it is and its permission bits, when others can read it.
    exposed: Option<(PathBuf, u32)>,
}

impl KeyFile {
    /// The keys in it. An SSH key that others can read is refused, as ssh does.
    pub(super) fn keys(&self) -> Result<Found, SecretError> {
        let found = parse(&self.name, &self.bytes)?;
        match &self.exposed {
            Some((_, mode)) if is_pem(&self.bytes) => Err(SecretError::IdentityExposed {
                file: self.name.clone(),
                mode: *mode,
            }),
            Some(_) | None => Ok(found),
        }
    }

    /// Where it is, when others can read keys in it that nothing protects.
    pub(super) fn exposed(&self) -> Option<PathBuf> {
        let (path, _) = self.exposed.as_ref()?;
        (!is_sealed(&self.bytes)).then(|| path.clone())
    }
}

/// The bytes of a file of keys; `None` when it is missing and may be.
pub(super) fn read(file: &IdentityFile) -> Result<Option<KeyFile>, SecretError> {
    let path = match file {
        IdentityFile::Given(key) => {
            return Ok(Some(KeyFile {
                name: key.variable.to_owned(),
                bytes: Zeroizing::new(key.text.as_bytes().to_vec()),
                exposed: None,
            }));
        }
        IdentityFile::Unclear(variable) => return Err(SecretError::IdentityUnclear { variable }),
        IdentityFile::Usual(path) if !path.exists() => return Ok(None),
        IdentityFile::Named(path) | IdentityFile::Usual(path) => path,
    };
    let shown = path.display().to_string();
    let unreadable = |why: String| SecretError::IdentityUnreadable {
        file: shown.clone(),
        why,
    };
    let metadata = fs::metadata(path).map_err(|error| unreadable(error.to_string()))?;
    if !metadata.is_file() || metadata.len() > FILE_BYTES_MAX {
        return Err(unreadable("it is not a file of at most 256 KiB".to_owned()));
    }
    let mut bytes = Zeroizing::new(Vec::with_capacity(
        usize::try_from(metadata.len()).unwrap_or(0) + 1,
    ));
    File::open(path)
        .and_then(|file| file.take(FILE_BYTES_MAX).read_to_end(&mut bytes))
        .map_err(|error| unreadable(error.to_string()))?;
    // Whose file it is not cannot change that, and need not have made it so.
    let is_open = metadata.mode() & OTHERS != 0 && metadata.uid() == getuid().as_raw();
    Ok(Some(KeyFile {
        name: shown,
        bytes,
        exposed: is_open.then(|| (path.clone(), metadata.mode() & 0o7777)),
    }))
}

/// Whether a file of keys is itself sealed by a passphrase.
fn is_sealed(bytes: &[u8]) -> bool {
    bytes.starts_with(AGE_HEADER) || bytes.starts_with(ARMOR_HEADER)
}

/// Whether it is a private key of the kind that ssh has.
fn is_pem(bytes: &[u8]) -> bool {
    !is_sealed(bytes) && bytes.trim_ascii_start().starts_with(b"-----BEGIN")
}

/// The keys in a file.
fn parse(file: &str, bytes: &[u8]) -> Result<Found, SecretError> {
    let unsupported = |why: &str| SecretError::IdentityUnsupported {
        file: file.to_owned(),
        why: why.to_owned(),
    };
    if is_sealed(bytes) {
        return Ok(Found::Locked(Lock::Age(bytes.to_vec())));
    }
    let text = std::str::from_utf8(bytes).map_err(|_| unsupported("it is not a text"))?;
    if !is_pem(bytes) {
        return age_keys(file, text).map(Found::Ready);
    }
    match age::ssh::Identity::from_buffer(bytes, Some(file.to_owned())) {
        Ok(age::ssh::Identity::Encrypted(key)) => Ok(Found::Locked(Lock::Ssh {
            key: Box::new(key),
            stanza: public_half(text).as_ref().map(Stanza::of),
        })),
        Ok(key @ age::ssh::Identity::Unencrypted(_)) => Ok(Found::Ready(vec![Key::Ssh(key)])),
        Ok(age::ssh::Identity::Unsupported(kind)) => Err(unsupported(&unsupported_kind(&kind))),
        Err(_) => Err(unsupported("it is not a private key of OpenSSH")),
    }
}

/// The public half of a private key of OpenSSH, which stands before what its passphrase protects:
/// a magic word, the cipher, how its key is made, that in detail, how many keys there are, the first one
/// (PROTOCOL.key of OpenSSH).
fn public_half(text: &str) -> Option<PublicKey> {
    let lines = text.lines().map(str::trim);
    let base64: String = lines.filter(|line| !line.starts_with("-----")).collect();
    let bytes = Zeroizing::new(push_wire::frame::from_base64(&base64).ok()?);
    let mut rest = bytes.strip_prefix(b"openssh-key-v1\0")?;
    for _ in ["cipher", "derivation", "its options"] {
        take_string(&mut rest)?;
    }
    rest = rest.get(size_of::<u32>()..)?;
    let blob = take_string(&mut rest)?;
    let kind = std::str::from_utf8(take_string(&mut &*blob)?).ok()?;
    let line = format!("{kind} {}", push_wire::frame::to_base64(blob));
    line.parse().ok()
}

/// Takes a string with its length before it off `rest`.
fn take_string<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (length, after) = rest.split_first_chunk()?;
    let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
    let (string, after) = after.split_at_checked(length)?;
    *rest = after;
    Some(string)
}

fn unsupported_kind(kind: &age::ssh::UnsupportedKey) -> String {
    use age::ssh::UnsupportedKey as Kind;
    match kind {
        Kind::EncryptedPem => {
            "its old format protects it badly; rewrite it with `ssh-keygen -p -f FILE`".to_owned()
        }
        Kind::EncryptedSsh(cipher) => format!("its cipher {cipher:?} is unknown"),
        Kind::Hardware(kind) => format!("its key is in hardware ({kind:?})"),
        Kind::Type(kind) => format!("its type is {kind:?}"),
    }
}

fn age_keys(file: &str, text: &str) -> Result<Vec<Key>, SecretError> {
    let unsupported = |why: String| SecretError::IdentityUnsupported {
        file: file.to_owned(),
        why,
    };
    let mut keys = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        match line.parse::<age::x25519::Identity>() {
            Ok(key) if keys.len() < KEYS_MAX => keys.push(Key::Age(key)),
            Ok(_) => return Err(unsupported(format!("it holds more than {KEYS_MAX} keys"))),
            // What stands there may be half a key, so it is not repeated.
            Err(_) => {
                return Err(unsupported(format!(
                    "line {} is not an age identity",
                    number + 1
                )));
            }
        }
    }
    if keys.is_empty() {
        return Err(unsupported("it holds no key".to_owned()));
    }
    Ok(keys)
}

/// Whether a passphrase is one at all.
pub(super) fn is_empty(passphrase: &SecretString) -> bool {
    passphrase.expose_secret().is_empty()
}

/// The public half of the first key that is there: what others seal to. `None` when there is no key.
/// That of an SSH key is read from the file beside it; one that is given as text has it inside.
pub fn public_key(files: &[IdentityFile]) -> Result<Option<PublicKey>, SecretError> {
    for file in files {
        let Some(found) = read(file)? else {
            continue;
        };
        let own_half = || match file {
            IdentityFile::Given(key) => public_half(&key.text),
            IdentityFile::Named(_) | IdentityFile::Usual(_) | IdentityFile::Unclear(_) => {
                beside(&found.name)
            }
        };
        match (found.keys(), file) {
            (Ok(Found::Ready(keys)), _) => {
                let own = keys.iter().find_map(|key| match key {
                    Key::Age(key) => key.to_public().to_string().parse().ok(),
                    Key::Ssh(_) => own_half(),
                    #[cfg(test)]
                    Key::Passphrase(_) => None,
                });
                if own.is_some() {
                    return Ok(own);
                }
            }
            (Ok(Found::Locked(_)), _) => {
                if let Some(own) = own_half() {
                    return Ok(Some(own));
                }
            }
            (Err(error), IdentityFile::Usual(_)) if error.is_of_a_foreign_key() => {}
            (Err(error), _) => return Err(error),
        }
    }
    Ok(None)
}

/// The public key in `<file>.pub`.
fn beside(file: &str) -> Option<PublicKey> {
    let text = fs::read_to_string(format!("{file}.pub")).ok()?;
    text.trim().parse().ok()
}
