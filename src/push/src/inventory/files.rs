//! Files on hosts that belong to no app.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use super::Mode;
use crate::name::{HostName, HostPath, UnitName, UserName};
use crate::template::{Template, TemplateName};

/// The files, by their path on the host.
pub type Files = BTreeMap<HostPath, ManagedFile>;

/// A file that push keeps as it is declared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManagedFile {
    /// The hosts that have it; never empty.
    pub on: BTreeSet<HostName>,
    /// What is in it.
    pub content: FileContent,
    /// Whom it belongs to.
    pub owner: UserName,
    /// The group it belongs to.
    pub group: UserName,
    /// Its permission bits.
    pub mode: Mode,
    /// What happens when it changes.
    pub on_change: OnChange,
}

/// Where a file's content comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FileContent {
    /// A template file, rendered for each host.
    Template(TemplateName),
    /// A file of the project, byte for byte; relative to the project's folder.
    Source(PathBuf),
    /// A text in the inventory itself.
    Text(Template),
}

/// What happens when a file changes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum OnChange {
    /// Nothing.
    Nothing,
    /// A unit is restarted.
    Restart(UnitName),
    /// A unit is reloaded.
    Reload(UnitName),
    /// The kernel's settings are read again.
    Sysctl,
    /// systemd reads its units again.
    DaemonReload,
}
