//! Seals content to recipients, and fingerprints it under a key.

use std::io::Write as _;
use std::str::FromStr;

use hmac::{Hmac, KeyInit as _, Mac as _};
use push_wire::digest::Digest;
use zeroize::Zeroizing;

use super::{Secret, SecretError};
use crate::inventory::{HostKey, KeyKind, PublicKey, PublicKeyError};

/// The most recipients of one file.
const RECIPIENTS_MAX: usize = 1000;

/// Someone who can open what is sealed to them: a person's age or SSH key, or a host's key.
#[derive(Clone)]
pub enum Recipient {
    /// `age1…`
    Age(age::x25519::Recipient),
    /// `ssh-ed25519 …` or `ssh-rsa …`
    Ssh(age::ssh::Recipient),
}

impl Recipient {
    /// A host, by its pinned key.
    pub fn host(key: &HostKey) -> Result<Self, SecretError> {
        key.as_str().parse()
    }

    fn as_recipient(&self) -> &dyn age::Recipient {
        match self {
            Self::Age(recipient) => recipient,
            Self::Ssh(recipient) => recipient,
        }
    }
}

impl TryFrom<&PublicKey> for Recipient {
    type Error = SecretError;
    fn try_from(key: &PublicKey) -> Result<Self, SecretError> {
        let unlike = || SecretError::Recipient {
            line: key.to_string(),
            why: "age does not take it",
        };
        match key.kind() {
            KeyKind::Age => key.as_str().parse().map(Self::Age).map_err(|_| unlike()),
            KeyKind::Ed25519 | KeyKind::Rsa => {
                key.as_str().parse().map(Self::Ssh).map_err(|_| unlike())
            }
        }
    }
}

impl FromStr for Recipient {
    type Err = SecretError;
    fn from_str(line: &str) -> Result<Self, SecretError> {
        let key: PublicKey = line.parse().map_err(|error| match error {
            PublicKeyError::Wrong { line, why } => SecretError::Recipient { line, why },
            PublicKeyError::SecretKey => SecretError::Recipient {
                line: "…".to_owned(),
                why: "it is a secret key",
            },
        })?;
        Self::try_from(&key)
    }
}

/// Seals `content` so that each of `recipients`, and nobody else, can open it. Every sealing of the
/// same content differs.
pub fn seal(content: &[u8], recipients: &[Recipient]) -> Result<Vec<u8>, SecretError> {
    let failed = |why: String| SecretError::Seal { why };
    if recipients.is_empty() || recipients.len() > RECIPIENTS_MAX {
        return Err(failed(format!("it needs 1 to {RECIPIENTS_MAX} recipients")));
    }
    let encryptor = age::Encryptor::with_recipients(recipients.iter().map(Recipient::as_recipient))
        .map_err(|error| failed(error.to_string()))?;
    let mut sealed = Vec::new();
    encryptor
        .wrap_output(&mut sealed)
        .and_then(|mut writer| {
            writer.write_all(content)?;
            writer.finish()
        })
        .map_err(|error| failed(error.to_string()))?;
    Ok(sealed)
}

/// The fingerprint of a secret under a host's key: equal for equal content, and nothing that a
/// reader without the key could guess content by.
pub fn fingerprint(key: &[u8; 32], secret: &Secret) -> Digest {
    // HMAC fills a short key with zeros up to the 64 bytes of a block (RFC 2104, section 2).
    let mut block = Zeroizing::new([0; 64]);
    block[..key.len()].copy_from_slice(key);
    let mut mac = Hmac::<sha2::Sha256>::new((&*block).into());
    mac.update(secret.expose());
    Digest::from_bytes(mac.finalize().into_bytes().into())
}
