//! A host's public key as OpenSSH writes it, and how it came to be believed.
//!
//! Knows the text form (`ssh-ed25519 AAAA… comment`) and the fingerprint, nothing about the
//! protocol: two keys are equal when their blobs are, whatever their comments say.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use sha2::{Digest, Sha256};
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

/// Longest key line that is looked at, in bytes; RSA 16384 needs about 2,800.
const KEY_LINE_BYTES_MAX: usize = 16 * 1024;

/// A host's public key.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct HostKey {
    algorithm: String,
    blob: Vec<u8>,
}

impl HostKey {
    /// Reads `ssh-ed25519 AAAA… [comment]`. Returns `None` for anything else, a certificate too.
    pub fn parse(line: &str) -> Option<Self> {
        if line.len() > KEY_LINE_BYTES_MAX {
            return None;
        }
        let mut fields = line.split_ascii_whitespace();
        let algorithm = fields.next()?;
        let blob = decode_base64(fields.next()?)?;
        let key = Self::from_blob(blob)?;
        (key.algorithm == algorithm).then_some(key)
    }

    /// Takes a key blob of RFC 4253 §6.6, whose first field names the algorithm.
    pub fn from_blob(blob: Vec<u8>) -> Option<Self> {
        let (name, rest) = take_field(&blob)?;
        let has_more = !rest.is_empty();
        let algorithm = std::str::from_utf8(name).ok()?.to_owned();
        let is_plain = !algorithm.is_empty()
            && algorithm.bytes().all(|byte| byte.is_ascii_graphic())
            && !algorithm.contains("-cert-v0");
        (is_plain && has_more).then_some(Self { algorithm, blob })
    }

    /// The algorithm's name, `ssh-ed25519` for example.
    pub fn algorithm(&self) -> &str {
        &self.algorithm
    }

    /// The bytes that the fingerprint is made of.
    pub fn blob(&self) -> &[u8] {
        &self.blob
    }

    /// The size of an RSA key in bits; `None` for other algorithms.
    pub fn rsa_bits(&self) -> Option<usize> {
        if self.algorithm != "ssh-rsa" {
            return None;
        }
        // RFC 4253 §6.6: name, exponent, modulus; numbers may have a zero in front.
        let (_, rest) = take_field(&self.blob)?;
        let (_, rest) = take_field(rest)?;
        let (modulus, _) = take_field(rest)?;
        let first = modulus.iter().position(|byte| *byte != 0)?;
        let lead = usize::try_from(modulus[first].leading_zeros()).ok()?;
        Some((modulus.len() - first) * 8 - lead)
    }

    /// `SHA256:…`, as `ssh-keygen -l` shows it.
    pub fn fingerprint(&self) -> String {
        format!(
            "SHA256:{}",
            STANDARD_NO_PAD.encode(Sha256::digest(&self.blob))
        )
    }
}

/// The line that goes into an inventory or a known_hosts file.
impl fmt::Display for HostKey {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} {}", self.algorithm, STANDARD.encode(&self.blob))
    }
}

impl fmt::Debug for HostKey {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} {}", self.algorithm, self.fingerprint())
    }
}

/// What `ssh-keygen -l` shows of a key: `SHA256:` and 43 characters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fingerprint(String);

/// Why a text is no fingerprint.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FingerprintError {
    /// An MD5 fingerprint: it can be forged.
    #[error(
        "this is an MD5 fingerprint, which can be forged; `ssh-keygen -l -E sha256 -f FILE` shows the right one"
    )]
    Md5,
    /// Something else.
    #[error("a fingerprint is SHA256: and 43 characters, as `ssh-keygen -lf FILE` shows it")]
    Malformed,
}

impl Fingerprint {
    /// Whether it is this key's.
    pub fn is_of(&self, key: &HostKey) -> bool {
        self.0 == key.fingerprint()
    }
}

/// Takes a fingerprint, or the line of a whole key in its place.
impl FromStr for Fingerprint {
    type Err = FingerprintError;
    fn from_str(text: &str) -> Result<Self, FingerprintError> {
        let text = text.trim();
        if let Some(key) = HostKey::parse(text) {
            return Ok(Self(key.fingerprint()));
        }
        if text.starts_with("MD5:") || text.split(':').filter(|part| part.len() == 2).count() == 16
        {
            return Err(FingerprintError::Md5);
        }
        let hash = text
            .strip_prefix("SHA256:")
            .map(|hash| hash.trim_end_matches('='))
            .filter(|hash| {
                STANDARD_NO_PAD
                    .decode(hash)
                    .is_ok_and(|bytes| bytes.len() == 32)
            })
            .ok_or(FingerprintError::Malformed)?;
        Ok(Self(format!("SHA256:{hash}")))
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

/// The key that a host has proved to hold, and why it was believed to be the host's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerKey {
    /// The key itself; for a certificate, the key inside.
    pub key: HostKey,
    /// What vouched for it.
    pub verified_by: VerifiedBy,
}

/// What vouched for a host key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VerifiedBy {
    /// `host_key` in the inventory.
    Pinned,
    /// A line of a known_hosts file.
    KnownHosts {
        /// The file.
        file: PathBuf,
        /// The line, counted from 1.
        line: usize,
    },
    /// A certificate signed by an authority of a known_hosts file.
    Certificate {
        /// Fingerprint of the authority's key.
        authority: String,
        /// The certificate's key id, as its signer named it.
        key_id: String,
    },
}

impl std::fmt::Display for VerifiedBy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Pinned => f.write_str("`host_key` of the inventory"),
            Self::KnownHosts { file, line } => write!(f, "{}:{line}", file.display()),
            Self::Certificate { authority, key_id } => {
                write!(f, "a certificate {key_id} of the authority {authority}")
            }
        }
    }
}

fn take_field(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    rest.split_at_checked(usize::try_from(u32::from_be_bytes(*length)).ok()?)
}

fn decode_base64(text: &str) -> Option<Vec<u8>> {
    STANDARD
        .decode(text)
        .or_else(|_| STANDARD_NO_PAD.decode(text))
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str =
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ";

    #[test]
    fn a_key_line_survives_the_round_trip_without_its_comment() {
        let key = HostKey::parse(&format!("{LINE} root@web1")).unwrap();
        assert_eq!(key.to_string(), LINE);
        assert_eq!(key, HostKey::parse(LINE).unwrap());
        assert_eq!(
            key.fingerprint(),
            "SHA256:T7SvZ2cslqpPj6nKzitCBHHlpVF3r3MvLwmFL0fk0IE"
        );
    }

    #[test]
    fn a_fingerprint_is_taken_as_ssh_keygen_shows_it_and_never_as_md5() {
        let key = HostKey::parse(LINE).unwrap();
        for right in [
            &key.fingerprint(),
            &format!(" {}= ", key.fingerprint()),
            LINE,
        ] {
            let given: Fingerprint = right.parse().unwrap();
            assert!(given.is_of(&key), "{right}");
        }
        let md5 = "16:27:ac:a5:76:28:2d:36:63:1b:56:4d:eb:df:a6:48";
        for forged in [md5, &format!("MD5:{md5}")] {
            assert_eq!(forged.parse::<Fingerprint>(), Err(FingerprintError::Md5));
        }
        for wrong in ["", "yes", "SHA256:", "SHA256:abc", &key.fingerprint()[7..]] {
            let refused = wrong.parse::<Fingerprint>();
            assert_eq!(refused, Err(FingerprintError::Malformed), "{wrong}");
        }
    }

    #[test]
    fn a_line_whose_name_and_blob_disagree_is_no_key() {
        assert_eq!(
            HostKey::parse(&LINE.replace("ssh-ed25519", "ssh-rsa")),
            None
        );
        assert_eq!(HostKey::parse("ssh-ed25519 !!!"), None);
        assert_eq!(HostKey::parse("ssh-ed25519"), None);
        assert_eq!(HostKey::parse("ssh-ed25519 AAAA"), None);
    }
}
