//! Holds sealed files against what is declared and what the lock says of them, without any key.

use std::collections::BTreeSet;

use super::header::{Stanza, stanzas};
use super::lock::Entry;
use super::recipients::{Recipients, line_parts};
use super::{SecretError, read_sealed};
use std::path::Path;

/// What is wrong with a sealed file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// It is no whole sealed file.
    #[error("{0}")]
    Sealed(SecretError),
    /// Nobody is declared to read it.
    #[error("{file}: nobody is declared to read it")]
    Nobody {
        /// The file.
        file: String,
    },
    /// It was not sealed by push, or the lock was not committed.
    #[error("{file}: secrets.lock says nothing of it")]
    Unlocked {
        /// The file.
        file: String,
    },
    /// It is another file than the one that the lock speaks of.
    #[error(
        "{file}: it is not the file that secrets.lock tells of; somebody changed one without the other"
    )]
    Changed {
        /// The file.
        file: String,
    },
    /// Somebody who should be able to open it is not, or the other way round.
    #[error("{file}: {who} {what}")]
    Reader {
        /// The file.
        file: String,
        /// Who.
        who: String,
        /// `may open it and cannot`, `can open it and may not`.
        what: &'static str,
    },
    /// The header tells of other recipients than are declared.
    #[error("{file}: it is sealed to {found}, and should be to {wanted}")]
    Stanzas {
        /// The file.
        file: String,
        /// What the header has.
        found: String,
        /// What is declared.
        wanted: String,
    },
    /// Something uses it, and there is no such file.
    #[error("{user} uses {secret}, and inventory/secrets/{secret}.age does not exist")]
    Missing {
        /// The secret.
        secret: String,
        /// The app or file.
        user: String,
    },
    /// Nothing uses it.
    #[error("{file}: nothing in {environment} uses it")]
    Unused {
        /// The file.
        file: String,
        /// The environment that was looked at.
        environment: String,
    },
    /// The lock tells of a file that is not there.
    #[error("{file}: secrets.lock tells of it, and it is not there")]
    Gone {
        /// The file.
        file: String,
    },
    /// A file that cannot be a secret.
    #[error("{file}: {why}")]
    Name {
        /// The file.
        file: String,
        /// Why not.
        why: String,
    },
}

impl Fault {
    /// What to do next.
    pub fn help(&self, environment: &str) -> String {
        match self {
            Self::Sealed(error) => error.help(),
            Self::Nobody { .. } => format!(
                "declare who may read it under [secrets.readers], then `push secret rekey {environment}`"
            ),
            Self::Unlocked { .. } | Self::Changed { .. } => format!(
                "if the file is meant to be so, `push secret rekey {environment}` seals it anew and writes the lock; else take it from the commit before"
            ),
            Self::Reader { .. } | Self::Stanzas { .. } => {
                format!("`push secret rekey {environment}` seals it to those that are declared")
            }
            Self::Missing { secret, .. } => {
                format!("`push secret set {environment} {secret}` asks for its value and seals it")
            }
            Self::Unused { file, .. } => format!("`git rm {file}`, or name it in an app's secrets"),
            Self::Gone { file } => format!(
                "take it back from git, `git checkout -- {file}`, or let `push secret rekey {environment}` forget it"
            ),
            Self::Name { .. } => "rename it, or take it out of the folder".to_owned(),
        }
    }
}

/// What is wrong with one file. `shown` is what messages call it.
pub fn faults(
    (path, shown): (&Path, &str),
    declared: &Recipients,
    entry: Option<&Entry>,
) -> Vec<Fault> {
    let file = || shown.to_owned();
    let sealed = match read_sealed(path, shown) {
        Ok(sealed) => sealed,
        Err(error) => return vec![Fault::Sealed(error)],
    };
    let found = match stanzas(shown, &sealed) {
        Ok(found) => found,
        Err(error) => return vec![Fault::Sealed(error)],
    };
    if declared.is_empty() {
        return vec![Fault::Nobody { file: file() }];
    }
    let Some(entry) = entry else {
        return vec![Fault::Unlocked { file: file() }];
    };
    if entry.sha256 != push_wire::digest::Digest::of(&sealed) {
        return vec![Fault::Changed { file: file() }];
    }
    let mut faults = readers(shown, declared, entry);
    let mut wanted: Vec<Stanza> = declared.keys().map(Stanza::of).collect();
    wanted.sort();
    // When the lock agrees with the declaration, the file's own header has to as well.
    if faults.is_empty() && wanted != found {
        faults.push(Fault::Stanzas {
            file: file(),
            found: words(&found),
            wanted: words(&wanted),
        });
    }
    faults
}

/// Whose access the lock and the declaration disagree about.
fn readers(shown: &str, declared: &Recipients, entry: &Entry) -> Vec<Fault> {
    let declared: BTreeSet<_> = declared.lines();
    let keys = |lines: &BTreeSet<String>| -> BTreeSet<_> {
        lines.iter().map(|line| line_parts(line).0).collect()
    };
    let (may, can) = (keys(&declared), keys(&entry.recipients));
    let fault = |line: &String, what| Fault::Reader {
        file: shown.to_owned(),
        who: line_parts(line).1.to_owned(),
        what,
    };
    let lacking = declared
        .iter()
        .filter(|line| !can.contains(&line_parts(line).0));
    let lacking = lacking.map(|line| fault(line, "may open it and cannot"));
    let extra = entry.recipients.iter();
    let extra = extra.filter(|line| !may.contains(&line_parts(line).0));
    lacking
        .chain(extra.map(|line| fault(line, "can open it and may not")))
        .collect()
}

/// Stanzas in words: `2 age keys, ssh-ed25519 pGCx3Q`.
fn words(stanzas: &[Stanza]) -> String {
    let age = stanzas.iter().filter(|one| **one == Stanza::Age).count();
    let mut all = Vec::new();
    if age > 0 {
        all.push(format!("{age} age key{}", if age == 1 { "" } else { "s" }));
    }
    for stanza in stanzas {
        match stanza {
            Stanza::Age => {}
            Stanza::Ssh { kind, tag } => {
                let kind = match kind {
                    crate::inventory::KeyKind::Rsa => "ssh-rsa",
                    crate::inventory::KeyKind::Ed25519 | crate::inventory::KeyKind::Age => {
                        "ssh-ed25519"
                    }
                };
                all.push(format!("{kind} {tag}"));
            }
            Stanza::Passphrase => all.push("a passphrase".to_owned()),
            Stanza::Other(kind) => all.push(format!("{kind:?}")),
        }
    }
    all.join(", ")
}
