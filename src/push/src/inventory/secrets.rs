//! Which secrets there are: names and files, never contents.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::FOLDER;
use crate::name::{EnvironmentName, FileName};

/// The folder of sealed secrets, inside the folder of inventories.
pub const SECRETS: &str = "secrets";

/// The most files that are looked at.
const FILES_MAX: usize = 10_000;

/// The file that a secret of an environment is sealed in: the environment's own
/// (`secrets/<environment>/<name>.age`), else the one that all share (`secrets/<name>.age`).
pub fn secret_file(
    project: &Path,
    environment: &EnvironmentName,
    name: &FileName,
) -> Option<PathBuf> {
    secret_files(project, environment).remove(name)
}

/// Every secret that an environment has, with its file.
pub fn secret_files(project: &Path, environment: &EnvironmentName) -> BTreeMap<FileName, PathBuf> {
    let shared = project.join(FOLDER).join(SECRETS);
    let own = shared.join(environment.as_str());
    let mut files = BTreeMap::new();
    for folder in [shared, own] {
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        for path in entries.map(|entry| entry.path()).take(FILES_MAX) {
            let name = path
                .file_name()
                .and_then(|name| name.to_str()?.strip_suffix(".age")?.parse().ok());
            files.extend(name.map(|name| (name, path.clone())));
        }
    }
    files
}
