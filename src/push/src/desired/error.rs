//! What keeps a host's slice from being made.

use super::VaultError;
use crate::name::{FileName, HostName};
use crate::template::TemplateError;

/// Why it cannot be said what a host shall have. Nothing was sent to it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DesiredError {
    /// A template or a value that cannot be rendered for this host.
    #[error("{host}: {what}: {error}")]
    Template {
        /// The host.
        host: HostName,
        /// What was rendered: `api.service`, `the site of api`.
        what: String,
        /// Why not.
        error: Box<TemplateError>,
    },
    /// A value that has no spelling where it is to stand.
    #[error("{what}: {why}")]
    Value {
        /// The host.
        host: HostName,
        /// Where it was to stand.
        what: String,
        /// Why it cannot.
        why: String,
    },
    /// A secret that is missing, cannot be opened, or cannot be sealed.
    #[error("the secret {secret}: {error}")]
    Secret {
        /// The host that needs it.
        host: HostName,
        /// The secret.
        secret: FileName,
        /// Why not.
        error: VaultError,
    },
    /// The host has no key that secrets can be sealed to.
    #[error("{host} has no SSH host key that secrets can be sealed to (ssh-ed25519 or ssh-rsa)")]
    NoRecipient {
        /// The host.
        host: HostName,
    },
}

impl DesiredError {
    /// What to do next.
    pub fn help(&self) -> String {
        match self {
            Self::Template { error, .. } => error.help(),
            Self::Value { .. } => "correct the value, then run `push plan` again".into(),
            Self::Secret { error, .. } => error.help.clone(),
            Self::NoRecipient { host } => {
                format!("make one on {host}: `ssh-keygen -A`, then push again")
            }
        }
    }

    /// Whether it is about secrets, which has an exit code of its own.
    pub fn is_about_secrets(&self) -> bool {
        match self {
            Self::Secret { .. } | Self::NoRecipient { .. } => true,
            Self::Template { .. } | Self::Value { .. } => false,
        }
    }
}
