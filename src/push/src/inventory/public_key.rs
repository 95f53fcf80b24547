//! The public keys that secrets can be sealed to.

use std::fmt;
use std::str::FromStr;

use age::ssh::ParseRecipientKeyError;

use super::address::text;

/// The longest text of a key, in bytes; RSA with 16384 bits has about 2800.
const LINE_BYTES_MAX: usize = 8192;

/// How much of a text a message repeats, in characters.
const SHOWN_MAX: usize = 60;

/// Why nothing can be sealed to a text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PublicKeyError {
    /// Not the public key of anything that can open secrets.
    #[error("{line:?} is not a key that secrets can be sealed to: {why}")]
    Wrong {
        /// The text, shortened.
        line: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// A secret key in the place of a public one; it is not repeated.
    #[error("this is a secret key: it belongs into no file of the project")]
    SecretKey,
}

impl PublicKeyError {
    /// What to do next.
    pub fn help(&self) -> &'static str {
        match self {
            Self::Wrong { .. } => {
                "take the line of an age1… key, or of an SSH public key of type ssh-ed25519 or ssh-rsa (~/.ssh/id_ed25519.pub)"
            }
            Self::SecretKey => {
                "take it out, make a new key in its place, and name the public half of that one; what was committed once is known"
            }
        }
    }
}

/// What a key is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum KeyKind {
    /// `age1…`
    Age,
    /// `ssh-ed25519 …`
    Ed25519,
    /// `ssh-rsa …`
    Rsa,
}

/// An age or SSH public key, without its comment.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublicKey {
    line: String,
    kind: KeyKind,
}

impl PublicKey {
    /// `age1…` or `ssh-ed25519 AAAA…`.
    pub fn as_str(&self) -> &str {
        &self.line
    }

    /// What it is made of.
    pub fn kind(&self) -> KeyKind {
        self.kind
    }
}

text!(PublicKey);

impl FromStr for PublicKey {
    type Err = PublicKeyError;
    fn from_str(line: &str) -> Result<Self, PublicKeyError> {
        // A secret key must not be repeated, whatever else is wrong with the text.
        if line.to_ascii_uppercase().contains("AGE-SECRET-KEY") || line.contains("PRIVATE KEY") {
            return Err(PublicKeyError::SecretKey);
        }
        let wrong = |why| PublicKeyError::Wrong {
            line: line.chars().take(SHOWN_MAX).collect(),
            why,
        };
        if line.len() > LINE_BYTES_MAX || line.chars().any(char::is_control) {
            return Err(wrong("it is not one line"));
        }
        let mut words = line.split(' ').filter(|word| !word.is_empty());
        let (first, second) = (words.next().unwrap_or(""), words.next());
        if first.starts_with("age1") {
            first
                .parse::<age::x25519::Recipient>()
                .map_err(|_| wrong("it is not a whole age1… key"))?;
            return Ok(Self {
                line: first.to_owned(),
                kind: KeyKind::Age,
            });
        }
        let line = format!("{first} {}", second.unwrap_or_default());
        line.parse::<age::ssh::Recipient>()
            .map_err(|error| wrong(refusal(&error)))?;
        let kind = match first {
            "ssh-rsa" => KeyKind::Rsa,
            _ => KeyKind::Ed25519,
        };
        Ok(Self { line, kind })
    }
}

fn refusal(error: &ParseRecipientKeyError) -> &'static str {
    match error {
        ParseRecipientKeyError::RsaModulusTooLarge => "its RSA key is too large",
        ParseRecipientKeyError::RsaModulusTooSmall => {
            "its RSA key is too small; at least 2048 bits"
        }
        ParseRecipientKeyError::Unsupported(_) | ParseRecipientKeyError::Ignore => {
            "nothing can be sealed to a key of its type"
        }
        ParseRecipientKeyError::Invalid(_) => "it is neither an age nor an SSH public key",
    }
}
