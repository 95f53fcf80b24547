//! What can be wrong with secrets, their keys and their recipients. Never holds content.

/// Why a key stays locked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum StaysLocked {
    /// Nobody could be asked, or answered.
    #[error("it needs a passphrase, and none was given")]
    Unasked,
    /// What was answered does not open it.
    #[error("the passphrase is wrong")]
    Wrong,
}

/// Why a secret cannot be opened or sealed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SecretError {
    /// There is no key at all.
    #[error("there is no key that could open secrets")]
    NoIdentity {
        /// Where one was looked for.
        looked: Vec<String>,
    },
    /// A file of keys cannot be read.
    #[error("the identity {file} cannot be read: {why}")]
    IdentityUnreadable {
        /// The file.
        file: String,
        /// What the system says.
        why: String,
    },
    /// A variable that holds something which may be a part of a key.
    #[error(
        "{variable} holds something that is neither a key nor a file that can be read; it is not shown here"
    )]
    IdentityUnclear {
        /// The variable.
        variable: &'static str,
    },
    /// A file of keys that holds none that age can use.
    #[error("the identity {file} cannot open secrets: {why}")]
    IdentityUnsupported {
        /// The file.
        file: String,
        /// What it is instead.
        why: String,
    },
    /// A key that could open a sealed file, and stays locked.
    #[error("{sealed} is sealed to the identity {file}, which stays locked: {why}")]
    IdentityLocked {
        /// The sealed file.
        sealed: String,
        /// The file of the key.
        file: String,
        /// Why.
        why: StaysLocked,
    },
    /// A private SSH key that others can read: it may be theirs, too.
    #[error("others can read the private key {file} (mode {mode:04o})")]
    IdentityExposed {
        /// The file.
        file: String,
        /// Its permission bits.
        mode: u32,
    },
    /// The sealed file cannot be read.
    #[error("{file} cannot be read: {why}")]
    Unreadable {
        /// The file.
        file: String,
        /// What the system says.
        why: String,
    },
    /// The sealed file, or what is in it, is too large.
    #[error("{file} is larger than a secret can be: {max} bytes")]
    TooLarge {
        /// The file.
        file: String,
        /// The limit in bytes.
        max: u64,
    },
    /// Nothing is in the sealed file.
    #[error("{file} is empty")]
    Empty {
        /// The file.
        file: String,
    },
    /// The file is not sealed at all.
    #[error("{file} is not an age file: its content is not sealed")]
    Plaintext {
        /// The file.
        file: String,
    },
    /// The file is not as it was when it was sealed.
    #[error("{file} is damaged: {why}")]
    Damaged {
        /// The file.
        file: String,
        /// Which part.
        why: &'static str,
    },
    /// The file is sealed to others.
    #[error("{file} is sealed to none of your keys")]
    NotForUs {
        /// The file.
        file: String,
        /// The keys that were tried.
        tried: Vec<String>,
    },
    /// A passphrase that would take too long to try.
    #[error("{file} asks for far too much work: 2^{factor}")]
    Work {
        /// The file.
        file: String,
        /// The binary logarithm of the work.
        factor: u8,
    },
    /// A text that is not a recipient.
    #[error("{line:?} is not a recipient: {why}")]
    Recipient {
        /// The text, shortened.
        line: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// A host that uses a secret, and has no key in the inventory that it could be sealed to.
    #[error(
        "{secret} is to be sealed to {host}, which has no host_key in the inventory that can be sealed to"
    )]
    Unpinned {
        /// The host.
        host: String,
        /// The secret.
        secret: String,
        /// The types of the keys that it has there.
        types: Vec<String>,
    },
    /// The list of what is sealed to whom cannot be used.
    #[error("inventory/secrets/secrets.lock cannot be read: {why}")]
    Lock {
        /// Why.
        why: String,
    },
    /// Sealing failed.
    #[error("the secret cannot be sealed: {why}")]
    Seal {
        /// What age says.
        why: String,
    },
}

impl SecretError {
    /// Whether it says of a key that it was not made for this.
    pub(super) fn is_of_a_foreign_key(&self) -> bool {
        matches!(self, Self::IdentityUnsupported { .. })
    }

    /// The same reason, for another sealed file.
    pub(super) fn of_sealed(mut self, another: &str) -> Self {
        if let Self::IdentityLocked { sealed, .. } = &mut self {
            another.clone_into(sealed);
        }
        self
    }

    /// What to do next.
    pub fn help(&self) -> String {
        match self {
            Self::NoIdentity { looked } => format!(
                "name the file of the age or SSH key that they are sealed to in PUSH_IDENTITY, or as `identities` under [secrets] in the inventory; looked at {}",
                looked.join(", ")
            ),
            Self::IdentityUnreadable { .. } => {
                "check that the file exists and that you may read it, or name another one in PUSH_IDENTITY".to_owned()
            }
            Self::IdentityUnclear { variable } => format!(
                "put into {variable} the path of a file of keys, or all that is in it, with every line of its own"
            ),
            Self::IdentityUnsupported { .. } => {
                "use an age identity, or an SSH key of type ed25519 or rsa, without hardware".to_owned()
            }
            Self::IdentityLocked { why: StaysLocked::Unasked, .. } => {
                "run it in a terminal and type the passphrase, or name a key without one in PUSH_IDENTITY".to_owned()
            }
            Self::IdentityLocked { file, why: StaysLocked::Wrong, .. } => format!(
                "type the same again, and the passphrase of {file}; or name another key in PUSH_IDENTITY"
            ),
            Self::IdentityExposed { file, .. } => format!("run `chmod 600 {file}`, as ssh would ask for too"),
            Self::Unreadable { file, .. } => format!("check that {file} exists and that you may read it"),
            Self::TooLarge { .. } => "ship large files as an app's source; a secret is a key or a password".to_owned(),
            Self::Empty { file } | Self::Damaged { file, .. } => {
                format!("take the file from the last commit where it was whole: git log -- {file}")
            }
            Self::Plaintext { file } => format!(
                "seal its content: `push secret set ENVIRONMENT NAME < {file}`; if it was ever committed, change the value first"
            ),
            Self::NotForUs { file, tried } => format!(
                "ask someone who can open it to let you: `push secret grant ENVIRONMENT YOU {} --key YOUR-PUBLIC-KEY`; tried {}",
                secret_name(file),
                tried.join(", ")
            ),
            Self::Work { .. } => {
                "it is sealed to a passphrase; seal its content to keys: `push secret set ENVIRONMENT NAME`".to_owned()
            }
            Self::Recipient { .. } => {
                "recipients are age1… keys, or SSH public keys of type ssh-ed25519 or ssh-rsa".to_owned()
            }
            Self::Unpinned { host, types, .. } if types.is_empty() => format!(
                "pin its key: `push trust ENVIRONMENT {host}`"
            ),
            Self::Unpinned { host, types, .. } => format!(
                "nothing can be sealed to {}: make `host_key` of {host} a list, and add to it the line that \
                 `cat /etc/ssh/ssh_host_ed25519_key.pub` shows on its own console",
                types.join(" or ")
            ),
            Self::Lock { .. } => {
                "take it from the last commit where it was whole; after a merge, take either side and run `push secret rekey ENVIRONMENT`".to_owned()
            }
            Self::Seal { .. } => "check the recipients".to_owned(),
        }
    }
}

/// The name of the secret in a sealed file, for a message.
fn secret_name(file: &str) -> &str {
    let name = file.rsplit('/').next().unwrap_or(file);
    name.strip_suffix(".age").unwrap_or(name)
}
