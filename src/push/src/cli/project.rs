//! Where the operator's project is: the folder that holds `inventory/`. Knows file names only;
//! what stands in the files is the inventory room's.

use std::path::{Path, PathBuf};

use crate::inventory::nearest;
use crate::name::{EnvironmentName, VERBS};
use crate::report::Complaint;

/// The folder of environments, inside the project.
pub const INVENTORY: &str = "inventory";

/// How many folders upwards the project is looked for.
const DEPTH_MAX: usize = 64;

/// The most environments that a message lists.
const LISTED_MAX: usize = 50;

/// A folder with an inventory.
#[derive(Debug, Clone)]
pub struct Project {
    root: PathBuf,
}

impl Project {
    /// The project that this folder is in: the nearest folder upwards that holds `inventory/`.
    pub fn find(from: &Path) -> Result<Self, Complaint> {
        from.ancestors()
            .take(DEPTH_MAX)
            .find(|folder| folder.join(INVENTORY).is_dir())
            .map(|root| Self {
                root: root.to_owned(),
            })
            .ok_or_else(|| {
                Complaint::new(format!(
                    "there is no folder `{INVENTORY}` in {} or above it",
                    from.display()
                ))
                .help("run `push init` to start one, or name the project's folder with `-C DIR`")
            })
    }

    /// The project's folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The environments, by name. A file whose stem cannot be a name is none: what several
    /// environments share may be called so.
    pub fn environments(&self) -> Result<Vec<EnvironmentName>, Complaint> {
        let folder = self.root.join(INVENTORY);
        let unreadable = |error: std::io::Error| {
            Complaint::of(&error).help(format!(
                "`ls -l {}` shows who may read it",
                folder.display()
            ))
        };
        let mut names = Vec::new();
        for entry in std::fs::read_dir(&folder).map_err(unreadable)? {
            let path = entry.map_err(unreadable)?.path();
            let is_toml = path
                .extension()
                .is_some_and(|extension| extension == "toml");
            let stem = path
                .file_stem()
                .and_then(|stem| stem.to_str())
                .unwrap_or_default();
            match stem.parse() {
                Ok(name) if is_toml => names.push(name),
                Ok(_) | Err(_) => {}
            }
        }
        names.sort();
        Ok(names)
    }

    /// The environment that the operator named, if it has a file.
    pub fn environment(&self, word: &str) -> Result<EnvironmentName, Complaint> {
        let name: EnvironmentName = word.parse().map_err(|error| {
            Complaint::of(&error)
                .help("run `push` alone to see the environments, `push --help` to see the verbs")
        })?;
        if self
            .root
            .join(INVENTORY)
            .join(format!("{name}.toml"))
            .is_file()
        {
            return Ok(name);
        }
        let known = self.environments()?;
        let words: Vec<&str> = known
            .iter()
            .map(EnvironmentName::as_str)
            .chain(VERBS.iter().copied())
            .collect();
        let near = nearest(word, &words);
        let guess = near
            .map(|near| format!("; did you mean `{near}`?"))
            .unwrap_or_default();
        Err(Complaint::new(format!(
            "there is no verb and no environment `{name}`: {INVENTORY}/{name}.toml does not exist{guess}"
        ))
        .help(listed(&known)))
    }
}

/// The environments in one line, for a message.
fn listed(known: &[EnvironmentName]) -> String {
    let names: Vec<&str> = known
        .iter()
        .take(LISTED_MAX)
        .map(EnvironmentName::as_str)
        .collect();
    if names.is_empty() {
        return format!("{INVENTORY}/ holds no environment; run `push init NAME` to start one");
    }
    format!("these environments exist: {}", names.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn project(files: &[&str]) -> (tempfile::TempDir, Project) {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(folder.path().join("inventory/deep/deeper")).unwrap();
        for file in files {
            std::fs::write(folder.path().join("inventory").join(file), "").unwrap();
        }
        let project = Project::find(&folder.path().join("inventory/deep/deeper")).unwrap();
        (folder, project)
    }

    #[test]
    fn a_project_is_found_from_any_folder_inside_it() {
        let (folder, project) = project(&[]);
        assert_eq!(project.root(), folder.path());
        assert!(Project::find(Path::new("/proc")).is_err());
    }

    #[test]
    fn a_mistyped_environment_names_the_nearest_and_those_that_exist() {
        let (_folder, project) = project(&["prod.toml", "staging.toml", "notes.md"]);
        assert_eq!(project.environment("prod").unwrap().as_str(), "prod");
        let complaint = project.environment("prdo").unwrap_err();
        assert!(
            complaint.sentence().ends_with("did you mean `prod`?"),
            "{complaint:?}"
        );
        assert_eq!(
            complaint.help.as_deref(),
            Some("these environments exist: prod, staging")
        );
        let verb = project.environment("plann").unwrap_err();
        assert!(
            verb.sentence().ends_with("did you mean `plan`?"),
            "{verb:?}"
        );
    }
}
