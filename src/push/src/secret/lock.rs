//! `inventory/secrets/secrets.lock`: what each sealed file is and whom it was sealed to, so that a
//! change of a secret is seen in review, in `push plan` and by `push secret verify`, by people and jobs
//! that cannot open anything. Holds no content and nothing that content could be guessed by.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use push_wire::digest::Digest;
use serde::{Deserialize, Serialize};

use super::SecretError;

/// The file's name, inside the folder of secrets.
pub const LOCK: &str = "secrets.lock";

/// The format written by this build.
const FORMAT: u32 = 1;

/// The largest file, in bytes.
const BYTES_MAX: u64 = 16 << 20;

/// How many random bytes tell one content from another.
const REVISION_BYTES: usize = 16;

/// What the file says of every sealed file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Lock {
    /// By the file's path inside the folder of secrets, without `.age`: `database-url`,
    /// `prod/database-url`.
    pub entries: BTreeMap<String, Entry>,
}

/// One sealed file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// The SHA-256 of the sealed file.
    pub sha256: Digest,
    /// Stays while the same content is sealed anew, and is another for another content.
    pub revision: String,
    /// The public keys that it is sealed to, each followed by whose it is.
    pub recipients: BTreeSet<String>,
    /// Who sealed it.
    pub by: String,
    /// When, in UTC.
    pub at: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    format: u32,
    #[serde(default)]
    secrets: BTreeMap<String, Entry>,
}

/// Where the file is, in a project.
pub fn lock_file(project: &Path) -> PathBuf {
    project
        .join(crate::inventory::FOLDER)
        .join(crate::inventory::SECRETS)
        .join(LOCK)
}

/// What the file calls a sealed file of a project.
pub fn lock_key(project: &Path, sealed: &Path) -> String {
    let folder = project
        .join(crate::inventory::FOLDER)
        .join(crate::inventory::SECRETS);
    let inside = sealed.strip_prefix(folder).unwrap_or(sealed);
    inside.with_extension("").display().to_string()
}

impl Lock {
    /// Reads the file of a project; one that is missing says nothing of any secret.
    pub fn read(project: &Path) -> Result<Self, SecretError> {
        let file = lock_file(project);
        let mut text = String::new();
        let read =
            File::open(&file).and_then(|file| file.take(BYTES_MAX).read_to_string(&mut text));
        match read {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => {
                return Err(SecretError::Lock {
                    why: error.to_string(),
                });
            }
            Ok(_) => {}
        }
        Self::parse(&text)
    }

    fn parse(text: &str) -> Result<Self, SecretError> {
        let wrong = |why: String| SecretError::Lock { why };
        let document: Document =
            toml::from_str(text).map_err(|error| wrong(error.message().to_owned()))?;
        if document.format != FORMAT {
            return Err(wrong(format!(
                "its format is {}, not {FORMAT}",
                document.format
            )));
        }
        Ok(Self {
            entries: document.secrets,
        })
    }

    /// The text of the file: one table a secret, sorted, so that changes to different secrets merge.
    pub fn text(&self) -> String {
        let mut text = format!(
            "# What each sealed file is, and whom it is sealed to. `push secret` writes it; commit it with the files.\nformat = {FORMAT}\n"
        );
        for (name, entry) in &self.entries {
            // A JSON string without control characters beyond those that JSON escapes is a TOML string.
            let quoted = |text: &str| serde_json::Value::from(text).to_string();
            let _ = write!(
                text,
                "\n[secrets.{}]\nsha256 = \"{}\"\nrevision = {}\nrecipients = [\n",
                quoted(name),
                entry.sha256,
                quoted(&entry.revision)
            );
            for recipient in &entry.recipients {
                let _ = writeln!(text, "    {},", quoted(recipient));
            }
            let (by, at) = (quoted(&entry.by), quoted(&entry.at));
            let _ = write!(text, "]\nby = {by}\nat = {at}\n");
        }
        text
    }

    /// What is said of a sealed file, if that is the file it was said of.
    pub fn entry_of(&self, name: &str, sealed: &[u8]) -> Option<&Entry> {
        let entry = self.entries.get(name)?;
        (entry.sha256 == Digest::of(sealed)).then_some(entry)
    }
}

/// A revision that no other content has.
pub fn fresh_revision() -> io::Result<String> {
    let mut bytes = [0; REVISION_BYTES];
    fs::File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again_and_hostile_names_stay_one_key() {
        let entry = Entry {
            sha256: Digest::of("sealed"),
            revision: fresh_revision().unwrap(),
            recipients: [
                "age1x ann".to_owned(),
                "ssh-ed25519 AAAA host web1".to_owned(),
            ]
            .into(),
            by: "ann \"the\" operator\nby = \"x\"".to_owned(),
            at: "2026-11-21T13:50:00Z".to_owned(),
        };
        let mut lock = Lock::default();
        for name in ["prod/url", "url", "a.b\"]\n[x"] {
            lock.entries.insert(name.to_owned(), entry.clone());
        }
        assert_eq!(Lock::parse(&lock.text()).unwrap(), lock);
        assert!(lock.entry_of("url", b"sealed").is_some());
        assert!(lock.entry_of("url", b"another").is_none());
        for wrong in [
            "",
            "format = 2",
            "format = 1\nx = 1",
            "format = 1\n[secrets.a]\n",
        ] {
            assert!(Lock::parse(wrong).is_err(), "{wrong:?}");
        }
    }
}
