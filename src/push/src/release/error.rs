//! What can be wrong with a source.

use std::io;
use std::path::Path;

use crate::name::AppName;

/// How much of a name a message shows, in bytes.
const NAME_BYTES_MAX: usize = 1000;

/// Why an app's source cannot be shipped. Nothing was sent to any host.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReleaseError {
    /// The operator's build command failed.
    #[error("the build of {app} {ended}:\n{tail}")]
    Build {
        /// The app.
        app: AppName,
        /// How it ended.
        ended: String,
        /// The end of what it printed.
        tail: String,
    },
    /// The source is not there.
    #[error("the source of {app} is missing: {path} does not exist")]
    Missing {
        /// The app.
        app: AppName,
        /// The path.
        path: String,
    },
    /// A file that `[files]` or `[bootstrap.tls]` names is not there.
    #[error("{declared} names {path}, which does not exist")]
    NoFile {
        /// Where it is named: `files."/etc/motd".source`.
        declared: String,
        /// The path.
        path: String,
    },
    /// The source holds nothing.
    #[error("the source of {app} is empty: {path} holds nothing to ship")]
    Empty {
        /// The app.
        app: AppName,
        /// The path.
        path: String,
    },
    /// Something that is neither a file, a folder nor a link.
    #[error("{path} is {kind}, which cannot be shipped")]
    Kind {
        /// The path.
        path: String,
        /// What it is.
        kind: &'static str,
    },
    /// A link that leaves the release.
    #[error("the link {path} points out of the release, to {target:?}")]
    LinkOut {
        /// The link.
        path: String,
        /// What it points to.
        target: String,
    },
    /// A name that no release can hold.
    #[error("the name {name:?} cannot be shipped: {why}")]
    Name {
        /// The name, with what is not UTF-8 escaped.
        name: String,
        /// What is wrong with it.
        why: String,
    },
    /// A file is not what it was when it was listed.
    #[error("{path} changed while it was being read")]
    Changed {
        /// The path.
        path: String,
    },
    /// More than a release may hold.
    #[error("{path} is too large for a release: {why}")]
    TooLarge {
        /// The source.
        path: String,
        /// The limit that it passes.
        why: String,
    },
    /// An archive that is broken or that asks for what a release cannot be.
    #[error("the archive {path} cannot be shipped: {why}")]
    Archive {
        /// The archive.
        path: String,
        /// What is wrong with it.
        why: String,
    },
    /// The operator's machine refused to read or write.
    #[error("{path} cannot be read: {why}")]
    Unreadable {
        /// The path.
        path: String,
        /// What the system says.
        why: String,
    },
    /// There was no room or no right to write scratch files.
    #[error("a temporary file cannot be written: {why}")]
    Scratch {
        /// What the system says.
        why: String,
    },
    /// A host asked for a content that no payload holds.
    #[error("no app of this push holds the content {digest}")]
    Unknown {
        /// The digest, shortened.
        digest: String,
    },
}

impl ReleaseError {
    /// What to do next.
    pub fn help(&self) -> String {
        match self {
            Self::Build { .. } => {
                "run the app's `build` command in the project's folder until it succeeds".into()
            }
            Self::Missing { .. } => {
                "build it first, or correct `source`; it is relative to the project's folder".into()
            }
            Self::NoFile { .. } => {
                "correct the path: it is relative to the project's folder, and the file is there before any build".into()
            }
            Self::Empty { .. } => "check that the build puts its result there".into(),
            Self::Kind { .. } => {
                "ship files, folders and links only; remove it from the source".into()
            }
            Self::LinkOut { .. } => {
                "replace the link by what it points to, or by a relative link inside the source"
                    .into()
            }
            Self::Name { .. } => "rename it".into(),
            Self::Changed { .. } => {
                "wait until nothing writes to the source any more, then push again".into()
            }
            Self::TooLarge { .. } => {
                "ship less: a folder under `shared` survives releases and does not travel with them"
                    .into()
            }
            Self::Archive { .. } => {
                "make the archive again with `tar -C FOLDER -czf FILE .`, or ship the folder itself"
                    .into()
            }
            Self::Unreadable { .. } => "check its permissions, then push again".into(),
            Self::Scratch { .. } => {
                "free some space, or set TMPDIR to a folder that has it, then push again".into()
            }
            Self::Unknown { .. } => {
                "the host asked for something that was not offered; push again, and report it if it stays".into()
            }
        }
    }

    pub(super) fn unreadable(path: &Path, error: &io::Error) -> Self {
        Self::Unreadable {
            path: shown(path),
            why: error.to_string(),
        }
    }

    pub(super) fn scratch(error: &io::Error) -> Self {
        Self::Scratch {
            why: error.to_string(),
        }
    }
}

/// A path for messages.
pub(super) fn shown(path: &Path) -> String {
    escaped(path.as_os_str().as_encoded_bytes())
}

/// A name for messages: what is not UTF-8, or would move a cursor, is spelled out.
pub(super) fn escaped(bytes: &[u8]) -> String {
    crate::visible::escape(bytes, NAME_BYTES_MAX)
}
