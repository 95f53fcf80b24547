//! How the operator is asked for what only a person knows.
//!
//! The transport says what it needs; whoever owns the terminal asks. Questions hold text from
//! servers only after it was made safe to show. Answers are secret types that no `Debug` prints.

use super::Pending;
use secrecy::SecretString;
use std::path::PathBuf;

/// Asks the operator. Implementations may be called from many tasks; the transport asks one
/// question at a time.
pub trait Prompt: Send + Sync {
    /// Asks one question.
    fn ask<'a>(&'a self, question: &'a Question) -> Pending<'a, Result<SecretString, Refusal>>;
}

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Question {
    /// The passphrase of a private key file. Asked once a file and push, again after a typing error.
    Passphrase {
        /// The key file.
        path: PathBuf,
        /// 1 for the first time.
        attempt: u32,
    },
    /// A password.
    Password {
        /// The account.
        user: String,
        /// The host.
        host: String,
    },
    /// One field of keyboard-interactive authentication: a password, a one-time code.
    Interactive {
        /// The account.
        user: String,
        /// The host.
        host: String,
        /// What the server asks, safe to show.
        prompt: String,
        /// Whether typing may be shown.
        echo: Echo,
    },
}

/// Whether what is typed may be seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Echo {
    /// It may.
    Shown,
    /// It must not.
    Hidden,
}

/// Why there is no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// Nobody can be asked: there is no terminal.
    NoTerminal,
    /// The operator declined.
    Declined,
}

/// Refuses every question: for CI and for tests.
#[derive(Debug, Clone, Copy)]
pub struct NoPrompt;

impl Prompt for NoPrompt {
    fn ask<'a>(&'a self, _question: &'a Question) -> Pending<'a, Result<SecretString, Refusal>> {
        Box::pin(async { Err(Refusal::NoTerminal) })
    }
}
