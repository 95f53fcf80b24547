//! What this room asks of whoever can open secrets.

use push_wire::digest::Digest;
use zeroize::Zeroizing;

use crate::name::{FileName, HostName};

/// An opened secret. Wiped when dropped; shows nothing.
pub struct Opened(pub Zeroizing<Vec<u8>>);

impl std::fmt::Debug for Opened {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("an opened secret")
    }
}

/// Opens and seals secrets. Asked to open only what a host does not hold already.
pub trait Vault: Sync {
    /// The digest of the secret's sealed file, as it stands in the inventory.
    fn source(&self, secret: &FileName) -> Result<Digest, VaultError>;

    /// What tells its content from another; stays while the same content is sealed anew. `None` when
    /// nobody keeps account of it.
    fn revision(&self, secret: &FileName) -> Option<String>;

    /// The sealed file, when it is sealed to this key of the host already, so that nobody has to open it.
    fn as_it_is(&self, secret: &FileName, to: &Door<'_>) -> Result<Option<Vec<u8>>, VaultError>;

    /// Its content.
    fn open(&self, secret: &FileName) -> Result<Opened, VaultError>;

    /// Seals `content` to an SSH host key as OpenSSH writes it, without comment.
    fn seal(&self, content: &[u8], host_key: &str) -> Result<Vec<u8>, VaultError>;
}

/// Whom a secret travels to.
#[derive(Debug, Clone, Copy)]
pub struct Door<'a> {
    /// The host.
    pub host: &'a HostName,
    /// Its SSH host key as OpenSSH writes it, without comment.
    pub key: &'a str,
}

/// Why a secret cannot be had. Never holds content.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{why}")]
pub struct VaultError {
    /// What is wrong.
    pub why: String,
    /// What to do next.
    pub help: String,
}
