//! To whom a sealed file is sealed, as its header says without any key: the stanzas of the age v1
//! format (<https://c2sp.org/age>, "Header").

use std::io::Read as _;

use push_wire::digest::Digest;

use super::SecretError;
use super::keyring::{damaged, recognise};
use crate::inventory::{KeyKind, PublicKey};

/// The first line of every age file that push reads.
const VERSION_LINE: &str = "age-encryption.org/v1";

/// The longest line of a stanza's body, in base64 characters; a shorter one ends the body.
const BODY_COLUMNS: usize = 64;

/// The largest header, in bytes: a thousand recipients take 200 KiB.
const HEADER_BYTES_MAX: u64 = 1 << 20;

/// The least that follows a header: a nonce of 16 bytes, and the tag of an empty last chunk.
const PAYLOAD_BYTES_MIN: usize = 32;

/// The bytes of a key's SHA-256 that an SSH stanza names it by.
const TAG_BYTES: usize = 4;

/// What one stanza is sealed to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stanza {
    /// Some age key; the format does not say which.
    Age,
    /// The SSH key with this tag.
    Ssh {
        /// Ed25519 or RSA.
        kind: KeyKind,
        /// The first bytes of the SHA-256 of its blob, in base64.
        tag: String,
    },
    /// A passphrase.
    Passphrase,
    /// Something that push does not seal to.
    Other(String),
}

impl Stanza {
    /// The stanza by which a file is sealed to `key`.
    pub fn of(key: &PublicKey) -> Self {
        match key.kind() {
            KeyKind::Age => Self::Age,
            kind @ (KeyKind::Ed25519 | KeyKind::Rsa) => Self::Ssh {
                kind,
                tag: tag(key.as_str()),
            },
        }
    }
}

/// The tag of an SSH public key.
fn tag(line: &str) -> String {
    let blob = line.split(' ').nth(1).unwrap_or_default();
    let blob = push_wire::frame::from_base64(blob).unwrap_or_default();
    let digest = Digest::of(blob);
    push_wire::frame::to_base64(&digest.as_bytes()[..TAG_BYTES])
        .trim_end_matches('=')
        .to_owned()
}

/// The stanzas of a sealed file, sorted, without those that only keep readers honest (`…-grease`).
/// A file that cannot be one is refused; whether its content is whole, only a key can tell.
pub fn stanzas(file: &str, sealed: &[u8]) -> Result<Vec<Stanza>, SecretError> {
    recognise(file, sealed)?;
    let mut plain = Vec::new();
    let mut reader = age::armor::ArmoredReader::new(sealed).take(super::SEALED_BYTES_MAX);
    reader
        .read_to_end(&mut plain)
        .map_err(|_| damaged(file, "its armor is broken"))?;
    let cut = || damaged(file, "it is cut short");
    let mut rest = plain.as_slice();
    if line(&mut rest).ok_or_else(cut)? != VERSION_LINE {
        return Err(damaged(file, "its format is unknown, or of a newer age"));
    }
    let mut found = Vec::new();
    loop {
        let read = plain.len() - rest.len();
        if read as u64 > HEADER_BYTES_MAX {
            return Err(damaged(file, "its header is longer than one can be"));
        }
        let next = line(&mut rest).ok_or_else(cut)?;
        if next.starts_with("---") {
            break;
        }
        let wrong = || damaged(file, "its header is not that of an age file");
        let arguments = next.strip_prefix("-> ").ok_or_else(wrong)?;
        found.extend(stanza(arguments));
        while line(&mut rest).ok_or_else(cut)?.len() == BODY_COLUMNS {}
    }
    if found.is_empty() {
        return Err(damaged(file, "it is sealed to nobody"));
    }
    if rest.len() < PAYLOAD_BYTES_MIN {
        return Err(cut());
    }
    found.sort();
    Ok(found)
}

fn stanza(arguments: &str) -> Option<Stanza> {
    let mut words = arguments.split(' ');
    let kind = words.next()?;
    let ssh = |kind, tag: Option<&str>| Stanza::Ssh {
        kind,
        tag: tag.unwrap_or_default().to_owned(),
    };
    match kind {
        "X25519" => Some(Stanza::Age),
        "ssh-ed25519" => Some(ssh(KeyKind::Ed25519, words.next())),
        "ssh-rsa" => Some(ssh(KeyKind::Rsa, words.next())),
        "scrypt" => Some(Stanza::Passphrase),
        grease if grease.ends_with("-grease") => None,
        other => Some(Stanza::Other(crate::visible::escape(other.as_bytes(), 80))),
    }
}

/// Takes one line of text off `rest`.
fn line<'a>(rest: &mut &'a [u8]) -> Option<&'a str> {
    let end = rest.iter().position(|byte| *byte == b'\n')?;
    let (line, after) = rest.split_at(end);
    *rest = &after[1..];
    std::str::from_utf8(line).ok()
}
