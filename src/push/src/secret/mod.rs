//! Sealed secrets: age files to [`Secret`], which cannot be shown, and back to sealed bytes.
//!
//! Must not know which app reads a secret, nor talk to a person: who must be asked for a passphrase
//! is asked through a function that the caller gives. No message holds content. A new kind of key
//! is a new variant of `identity::Key`; a new kind of recipient one of [`Recipient`].

mod error;
mod identity;
mod keyring;
mod seal;
mod value;

pub use error::SecretError;
pub use identity::{IdentityFile, identity_files};
pub use keyring::{Ask, Keyring, SEALED_BYTES_MAX, SECRET_BYTES_MAX, WORK_FACTOR_MAX};
pub use seal::{Recipient, fingerprint, seal};
pub use value::Secret;

#[cfg(test)]
mod tests;
