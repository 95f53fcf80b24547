//! Opens what is sealed to the host's own SSH host key. Nothing else opens here: a file sealed with a
//! passphrase is refused before any work is done for it.

use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

/// The largest secret, in bytes.
const SECRET_BYTES_MAX: u64 = 16 << 20;

/// The largest private key, in bytes.
const KEY_BYTES_MAX: u64 = 64 << 10;

/// Opens `sealed` with the first of `keys` that fits. The reason never holds content.
pub(super) fn unseal(keys: &[PathBuf], sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, String> {
    let mut why = "this host has no SSH host key that secrets can be sealed to".to_owned();
    for key in keys {
        match identity(key) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => why = error.to_string(),
            Ok(identity) => match open(&identity, sealed) {
                Ok(opened) => return Ok(opened),
                Err(error) => why = format!("{}: {error}", key.display()),
            },
        }
    }
    Err(why)
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

fn open(identity: &age::ssh::Identity, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, String> {
    let decryptor = age::Decryptor::new_buffered(age::armor::ArmoredReader::new(sealed))
        .map_err(|error| error.to_string())?;
    if decryptor.is_scrypt() {
        return Err("it is sealed with a passphrase, not to this host's key".to_owned());
    }
    let one: &dyn age::Identity = identity;
    let reader = decryptor
        .decrypt(std::iter::once(one))
        .map_err(|error| error.to_string())?;
    let mut opened = Zeroizing::new(Vec::new());
    let read = reader.take(SECRET_BYTES_MAX + 1).read_to_end(&mut opened);
    // A seal that breaks late leaves content that must not be used: it is wiped with `opened`.
    read.map_err(|_| "it is damaged".to_owned())?;
    if opened.len() as u64 > SECRET_BYTES_MAX {
        return Err(format!("it is larger than {SECRET_BYTES_MAX} bytes"));
    }
    Ok(opened)
}
