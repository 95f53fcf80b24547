//! Opens what is sealed to the host's own SSH host key. Nothing else opens here: a file sealed with a
//! passphrase is refused before any work is done for it.

use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use age::DecryptError;
use zeroize::Zeroizing;

/// The largest secret, in bytes.
const SECRET_BYTES_MAX: u64 = 16 << 20;

/// The largest private key, in bytes.
const KEY_BYTES_MAX: u64 = 64 << 10;

/// Opens `sealed` with the first of `keys` that fits. The reason never holds content. Of several keys
/// one can fit at most, so what went wrong with it is the reason, and not that the others do not fit.
pub(super) fn unseal(keys: &[PathBuf], sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, String> {
    let mut unfit = "this host has no SSH host key that secrets can be sealed to".to_owned();
    let mut broken = None;
    for key in keys {
        match identity(key) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => unfit = error.to_string(),
            Ok(identity) => match open(&identity, sealed) {
                Ok(opened) => return Ok(opened),
                Err(Shut::Unfit) => {
                    unfit = format!("{}: it is sealed to another key", key.display());
                }
                Err(Shut::Broken(why)) => {
                    broken.get_or_insert(format!("{}: {why}", key.display()));
                }
            },
        }
    }
    Err(broken.unwrap_or(unfit))
}

/// Why one key does not open it.
enum Shut {
    /// It is sealed to others.
    Unfit,
    /// It is not as it was sealed, or was never sealed to a host.
    Broken(String),
}

impl From<DecryptError> for Shut {
    fn from(error: DecryptError) -> Self {
        match error {
            DecryptError::NoMatchingKeys => Self::Unfit,
            DecryptError::UnknownFormat | DecryptError::ExcessiveWork { .. } => {
                Self::Broken(error.to_string())
            }
            DecryptError::DecryptionFailed
            | DecryptError::InvalidHeader
            | DecryptError::InvalidMac
            | DecryptError::KeyDecryptionFailed
            | DecryptError::Io(_) => Self::Broken(format!("it is damaged: {error}")),
        }
    }
}

fn identity(path: &Path) -> io::Result<age::ssh::Identity> {
    let text = Zeroizing::new(super::disk::read(path, KEY_BYTES_MAX)?);
    let identity = age::ssh::Identity::from_buffer(text.as_slice(), None)?;
    match identity {
        age::ssh::Identity::Unencrypted(_) => Ok(identity),
        age::ssh::Identity::Encrypted(_) | age::ssh::Identity::Unsupported(_) => {
            let why = format!(
                "{} has a passphrase or is of a kind that age does not know",
                path.display()
            );
            Err(io::Error::other(why))
        }
    }
}

fn open(identity: &age::ssh::Identity, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, Shut> {
    let broken = |why: &str| Shut::Broken(why.to_owned());
    let decryptor = age::Decryptor::new_buffered(age::armor::ArmoredReader::new(sealed))?;
    if decryptor.is_scrypt() {
        let why = "it is sealed with a passphrase, not to this host's key";
        return Err(broken(why));
    }
    let one: &dyn age::Identity = identity;
    let reader = decryptor.decrypt(std::iter::once(one))?;
    let mut opened = Zeroizing::new(Vec::new());
    let read = reader.take(SECRET_BYTES_MAX + 1).read_to_end(&mut opened);
    // A seal that breaks late leaves content that must not be used: it is wiped with `opened`.
    read.map_err(|_| broken("it is damaged"))?;
    if opened.len() as u64 > SECRET_BYTES_MAX {
        return Err(broken(&format!(
            "it is larger than {SECRET_BYTES_MAX} bytes"
        )));
    }
    Ok(opened)
}
