//! Sealed secrets: age files to [`Secret`], which cannot be shown, and back to sealed bytes.
//!
//! Must not know which app reads a secret, nor talk to a person: who must be asked for a passphrase
//! is asked through a function that the caller gives. No message holds content. A new kind of key
//! is a new variant of `identity::Key`; a new kind of recipient one of [`Recipient`].

mod change;
mod check;
mod error;
mod given;
mod header;
mod identity;
mod keyring;
mod lock;
mod recipients;
mod seal;
mod usage;
mod value;

pub use change::{Change, Disk, Files, is_unfinished, recover};
pub use check::{Fault, faults};
pub use error::SecretError;
pub use header::{Stanza, stanzas};
pub use identity::{IdentityFile, identity_files, public_key};
pub use keyring::{Ask, Keyring, SEALED_BYTES_MAX, SECRET_BYTES_MAX, WORK_FACTOR_MAX, read_sealed};
pub use lock::{Entry, LOCK, Lock, fresh_revision, lock_file, lock_key};
pub use recipients::{Recipients, host_label, line_parts};
pub use seal::{Recipient, fingerprint, seal};
pub use usage::{Users, usage};
pub use value::Secret;

#[cfg(test)]
mod tests;
