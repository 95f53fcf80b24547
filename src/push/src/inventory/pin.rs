//! Writes a host's key into the inventory file that declares the host. Everything else in the file
//! stays as it is: comments, order, blank lines, line ends.
//!
//! The only place that writes an inventory once it exists. Must not know why a key is believed.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use toml_edit::{DocumentMut, InlineTable, Item, Value, value};

use super::document::Reader;
use super::{FOLDER, HostKey};
use crate::name::{EnvironmentName, HostName};

const KEY: &str = "host_key";

/// The file in which the key of a host stands or belongs, as it was when it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Declaration {
    host: HostName,
    file: PathBuf,
    shown: String,
    text: String,
}

/// Why a key was not written. The file is as it was.
#[derive(Debug, thiserror::Error)]
pub enum PinError {
    /// No file of the environment has a table for the host.
    #[error("no file of the environment {environment} declares the host {host}")]
    Undeclared {
        /// The environment.
        environment: EnvironmentName,
        /// The host.
        host: HostName,
    },
    /// Somebody else wrote the file after it was read.
    #[error("{file} was changed by somebody else meanwhile, so the key of {host} was not written")]
    Changed {
        /// The host.
        host: HostName,
        /// The file, as the operator knows it.
        file: String,
    },
    /// The file could not be read or replaced.
    #[error("the key of {host} cannot be written into {file}: {reason}")]
    Unwritable {
        /// The host.
        host: HostName,
        /// The file, as the operator knows it.
        file: String,
        /// Why.
        reason: String,
    },
    /// The file is written in a way in which a key cannot be set without changing something else.
    #[error("[hosts.{host}] in {file} is written in a way that push does not change")]
    Unusual {
        /// The host.
        host: HostName,
        /// The file, as the operator knows it.
        file: String,
        /// The line to write by hand.
        line: String,
    },
}

impl PinError {
    /// A stable name for scripts and documentation.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Undeclared { .. } => "inventory::pin-undeclared",
            Self::Changed { .. } => "inventory::pin-changed",
            Self::Unwritable { .. } => "inventory::pin-unwritable",
            Self::Unusual { .. } => "inventory::pin-unusual",
        }
    }

    /// What to do next.
    pub fn help(&self) -> String {
        match self {
            Self::Undeclared { environment, host } => {
                format!("add [hosts.{host}] to {FOLDER}/{environment}.toml")
            }
            Self::Changed { host, .. } => {
                format!("save what is open, then run `push trust {host}` again")
            }
            Self::Unwritable { file, .. } => format!("look at `ls -l {file}` and `df -h .`"),
            Self::Unusual { host, line, .. } => {
                format!("write it there yourself, under [hosts.{host}]: {line}")
            }
        }
    }
}

impl Declaration {
    /// Finds where the key of a host belongs: where one stands already, else where the host's address
    /// stands, else where its table is; in whichever file that `extends` brings in.
    pub fn find(
        project: &Path,
        environment: &EnvironmentName,
        host: &HostName,
    ) -> Result<Self, PinError> {
        let undeclared = || PinError::Undeclared {
            environment: environment.clone(),
            host: host.clone(),
        };
        let folder = project.join(FOLDER);
        let mut reader = Reader::new(&folder);
        let tree = reader.read(&folder.join(format!("{environment}.toml")), None);
        let node = tree
            .as_ref()
            .and_then(|tree| tree.child("hosts")?.child(host.as_str()))
            .ok_or_else(undeclared)?;
        let place = [KEY, "address"]
            .iter()
            .find_map(|key| node.child(key))
            .unwrap_or(node)
            .place;
        let source = reader.sources.files.swap_remove(place.file);
        Ok(Self {
            host: host.clone(),
            file: project.join(&source.shown),
            shown: source.shown,
            text: source.text,
        })
    }

    /// The file, as the operator knows it: `inventory/prod.toml`.
    pub fn shown(&self) -> &str {
        &self.shown
    }

    /// Makes these the keys of the host, in place of any that stand there. The file is replaced in one
    /// step, and only if it is still what was read.
    pub fn pin(&self, keys: &[HostKey]) -> Result<(), PinError> {
        let text = self.with(keys)?;
        let unwritable = |error: &io::Error| PinError::Unwritable {
            host: self.host.clone(),
            file: self.shown.clone(),
            reason: error.to_string(),
        };
        // A link stays a link: what it points at is replaced.
        let file = fs::canonicalize(&self.file).map_err(|error| unwritable(&error))?;
        let draft = draft(&file, &text).map_err(|error| unwritable(&error))?;
        let now = fs::read(&file).map_err(|error| unwritable(&error))?;
        if now != self.text.as_bytes() {
            return Err(PinError::Changed {
                host: self.host.clone(),
                file: self.shown.clone(),
            });
        }
        draft
            .persist(&file)
            .map(drop)
            .map_err(|error| unwritable(&error.error))
    }

    /// The text with these keys, and nothing else changed.
    fn with(&self, keys: &[HostKey]) -> Result<String, PinError> {
        let new = match keys {
            [key] => value(key.as_str()),
            keys => value(
                keys.iter()
                    .map(HostKey::as_str)
                    .collect::<toml_edit::Array>(),
            ),
        };
        let unusual = || PinError::Unusual {
            host: self.host.clone(),
            file: self.shown.clone(),
            line: format!("{KEY} = {new}"),
        };
        let mut document: DocumentMut = self.text.parse().map_err(|_| unusual())?;
        let host = document
            .get_mut("hosts")
            .and_then(|hosts| hosts.as_table_like_mut()?.get_mut(self.host.as_str()))
            .ok_or_else(unusual)?;
        set(host, new.clone()).ok_or_else(unusual)?;
        let text = with_line_ends_of(&self.text, document.to_string());
        // Belt and braces: an operator's file is not the place to trust a formatter.
        match (meaning(&self.text, &self.host), meaning(&text, &self.host)) {
            (Some(before), Some(after)) if before == after => Ok(text),
            _ => Err(unusual()),
        }
    }
}

/// The new text beside the file, with the file's own permissions, safe against a power cut.
fn draft(file: &Path, text: &str) -> io::Result<tempfile::NamedTempFile> {
    let folder = file.parent().unwrap_or(Path::new("."));
    let mut draft = tempfile::NamedTempFile::new_in(folder)?;
    draft.write_all(text.as_bytes())?;
    fs::set_permissions(draft.path(), fs::metadata(file)?.permissions())?;
    draft.as_file().sync_all()?;
    Ok(draft)
}

/// Sets the key in a host's table, however that is written.
fn set(host: &mut Item, new: Item) -> Option<()> {
    if let Some(Item::Value(old)) = host.as_table_like_mut()?.get_mut(KEY) {
        let decor = old.decor().clone();
        *old = new.into_value().ok()?;
        *old.decor_mut() = decor;
        return Some(());
    }
    if let Item::Value(Value::InlineTable(table)) = host {
        append(table, new.into_value().ok()?);
    } else {
        host.as_table_like_mut()?.insert(KEY, new);
    }
    Some(())
}

/// Adds to `{ address = "…" }`: the space before the closing brace moves behind the new value.
fn append(table: &mut InlineTable, new: Value) {
    let last = table.iter().last().map(|(key, _)| key.to_owned());
    let end = last
        .and_then(|key| table.get_mut(&key))
        .map(|last| {
            let end = last.decor().suffix().cloned();
            last.decor_mut().set_suffix("");
            end
        })
        .unwrap_or_default();
    table.insert(KEY, new);
    if let (Some(end), Some(added)) = (end, table.get_mut(KEY)) {
        added.decor_mut().set_suffix(end);
    }
}

/// What is written is `\n`; a file that ends its lines otherwise keeps doing so.
fn with_line_ends_of(before: &str, text: String) -> String {
    if before.matches('\n').count() == before.matches("\r\n").count() {
        text.replace("\r\n", "\n").replace('\n', "\r\n")
    } else {
        text
    }
}

/// Everything that a text says, but for the key of the host.
fn meaning(text: &str, host: &HostName) -> Option<toml::Table> {
    let mut table: toml::Table = text.parse().ok()?;
    table
        .get_mut("hosts")?
        .get_mut(host.as_str())?
        .as_table_mut()?
        .remove(KEY);
    Some(table)
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: &str =
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJLGgqmjsM0vvbVIgRVNDYHYEqFnVVqL2Ju46oDtJJ2f";
    const NEW: &str =
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ";

    struct Project(tempfile::TempDir);

    impl Project {
        fn with(files: &[(&str, &str)]) -> Self {
            let folder = tempfile::tempdir().unwrap();
            fs::create_dir(folder.path().join(FOLDER)).unwrap();
            let project = Self(folder);
            for (file, text) in files {
                fs::write(project.path(file), text).unwrap();
            }
            project
        }

        fn path(&self, file: &str) -> PathBuf {
            self.0.path().join(FOLDER).join(file)
        }

        fn text(&self, file: &str) -> String {
            fs::read_to_string(self.path(file)).unwrap()
        }

        fn find(&self, host: &str) -> Result<Declaration, PinError> {
            let environment = "prod".parse().unwrap();
            Declaration::find(self.0.path(), &environment, &host.parse().unwrap())
        }
    }

    fn keys() -> Vec<HostKey> {
        vec![NEW.parse().unwrap()]
    }

    /// What becomes of a file when the key of web1 is pinned in it.
    fn pinned(text: &str) -> String {
        let project = Project::with(&[("prod.toml", text)]);
        project.find("web1").unwrap().pin(&keys()).unwrap();
        project.text("prod.toml")
    }

    #[test]
    fn one_line_is_added_and_every_other_byte_stays() {
        let table = "# ours\r\n\r\n[hosts.web1]   # the first\r\naddress='192.0.2.1' # where\r\n\r\n# next\r\n[ apps.api ]\r\nsource = \"x\"\r\n[hosts.web2]\r\n";
        let wanted = table.replace(
            "# where\r\n",
            &format!("# where\r\nhost_key = \"{NEW}\"\r\n"),
        );
        assert_eq!(pinned(table), wanted);
        let inline = "hosts = { web1 = { address = \"192.0.2.1\" }, web2 = {} } # both\n";
        assert_eq!(
            pinned(inline),
            inline.replace(".1\" }", &format!(".1\", host_key = \"{NEW}\" }}"))
        );
        let dotted = "[hosts]\nweb1.address = \"192.0.2.1\" # one\nweb2.address = \"192.0.2.2\"\n";
        assert_eq!(
            pinned(dotted),
            dotted.replace("# one\n", &format!("# one\nweb1.host_key = \"{NEW}\"\n"))
        );
    }

    #[test]
    fn a_key_that_stands_there_is_replaced_where_it_stands() {
        let text = format!(
            "[hosts.web1]\nhost_key   =  \"{OLD}\"   # since May\naddress = \"192.0.2.1\"\n# end"
        );
        assert_eq!(pinned(&text), text.replace(OLD, NEW));
        let list = format!("[hosts.web1]\nhost_key = [\n  \"{OLD}\", # old\n]  # both\n");
        assert_eq!(
            pinned(&list),
            format!("[hosts.web1]\nhost_key = \"{NEW}\"  # both\n")
        );
    }

    #[test]
    fn the_key_goes_into_the_file_that_declares_the_host() {
        let common = "[hosts.web1]\naddress = \"192.0.2.1\"\n";
        let own = "extends = \"common.toml\"\n[hosts.web1]\ntags = [\"web\"]\n";
        let project = Project::with(&[("common.toml", common), ("prod.toml", own)]);
        let declaration = project.find("web1").unwrap();
        assert_eq!(declaration.shown(), "inventory/common.toml");
        declaration.pin(&keys()).unwrap();
        assert_eq!(project.text("prod.toml"), own);
        assert_eq!(
            project.text("common.toml"),
            format!("{common}host_key = \"{NEW}\"\n")
        );
        // One that stands in a file that is laid over it wins, so that is the one to replace.
        let over = format!("{own}host_key = \"{OLD}\"\n");
        let project = Project::with(&[("common.toml", common), ("prod.toml", &over)]);
        project.find("web1").unwrap().pin(&keys()).unwrap();
        assert_eq!(project.text("common.toml"), common);
        assert_eq!(project.text("prod.toml"), over.replace(OLD, NEW));
        assert!(matches!(
            project.find("web9"),
            Err(PinError::Undeclared { .. })
        ));
    }

    #[test]
    fn a_file_that_somebody_saved_meanwhile_stays_as_they_saved_it() {
        let project = Project::with(&[("prod.toml", "[hosts.web1]\naddress = \"192.0.2.1\"\n")]);
        let declaration = project.find("web1").unwrap();
        let theirs = "[hosts.web1]\naddress = \"192.0.2.9\"\n";
        fs::write(project.path("prod.toml"), theirs).unwrap();
        let refused = declaration.pin(&keys());
        assert!(
            matches!(refused, Err(PinError::Changed { .. })),
            "{refused:?}"
        );
        assert_eq!(project.text("prod.toml"), theirs);
        let files = fs::read_dir(project.0.path().join(FOLDER)).unwrap().count();
        assert_eq!(files, 1, "nothing is left beside it");
    }

    #[test]
    fn a_link_stays_a_link_and_a_file_keeps_its_permissions() {
        use std::os::unix::fs::{PermissionsExt as _, symlink};
        let project = Project::with(&[("real.toml", "[hosts.web1]\n")]);
        symlink("real.toml", project.path("prod.toml")).unwrap();
        fs::set_permissions(project.path("real.toml"), fs::Permissions::from_mode(0o640)).unwrap();
        project.find("web1").unwrap().pin(&keys()).unwrap();
        assert!(project.path("prod.toml").is_symlink());
        let mode = fs::metadata(project.path("real.toml")).unwrap();
        assert_eq!(mode.permissions().mode() & 0o777, 0o640);
        assert!(project.text("real.toml").contains(NEW));
    }

    #[test]
    fn the_shipped_example_changes_in_its_one_line() {
        let example = include_str!("../../../../inventory/example.toml");
        let example = &example.replace("shared/common.toml", "common.toml");
        let project = Project::with(&[("prod.toml", example), ("common.toml", "")]);
        project.find("web1").unwrap().pin(&keys()).unwrap();
        let now = project.text("prod.toml");
        let changed: Vec<_> = example
            .lines()
            .zip(now.lines())
            .filter(|(before, after)| before != after)
            .collect();
        assert_eq!(example.lines().count(), now.lines().count());
        assert_eq!(changed.len(), 1, "{changed:?}");
        assert!(changed[0].1.starts_with(&format!("host_key = \"{NEW}\" #")));
    }
}
