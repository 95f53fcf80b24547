//! Where the operator's project is: the folder that holds `inventory/`. Knows file names only;
//! what stands in the files is the inventory room's.

use std::path::{Path, PathBuf};

use clap::CommandFactory as _;

use super::Cli;
use crate::inventory::{self, nearest};
use crate::name::{EnvironmentName, VERBS};
use crate::report::Complaint;

/// The folder of environments, inside the project.
pub const INVENTORY: &str = inventory::FOLDER;

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

    /// The environments, by name: every inventory that no other one extends.
    pub fn environments(&self) -> Vec<EnvironmentName> {
        inventory::environments(&self.root)
    }

    /// What the operator is told who named no environment: never is that taken for all of them.
    pub fn unnamed(&self) -> Complaint {
        Complaint::new("no environment was named, so nothing was done")
            .help(listed(&self.environments()))
    }

    /// The environment that the operator named, if it has a file.
    pub fn environment(&self, word: &str) -> Result<EnvironmentName, Complaint> {
        if VERBS.contains(&word) {
            return Err(Complaint::new(format!(
                "this version of push has no verb `{word}`, and no environment can be called so"
            ))
            .help("`push --help` shows the verbs that there are"));
        }
        let name: EnvironmentName = word.parse().map_err(|error| {
            Complaint::of(&error)
                .help("run `push` alone to see the environments, `push --help` to see the verbs")
        })?;
        let file = self.root.join(INVENTORY).join(format!("{name}.toml"));
        if file.is_file() {
            return Ok(name);
        }
        // Something is there, so guessing at another name would mislead.
        if file.symlink_metadata().is_ok() {
            return Err(Complaint::new(format!(
                "{INVENTORY}/{name}.toml is no file that could be read, nor a link to one"
            ))
            .help(format!("`ls -lL {INVENTORY}/` shows what it is")));
        }
        let command = Cli::command();
        let known = self.environments();
        let words: Vec<&str> = known
            .iter()
            .map(EnvironmentName::as_str)
            .chain(command.get_subcommands().map(clap::Command::get_name))
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
        let to_come = project.environment("veriffy").unwrap_err();
        assert!(
            !to_come.sentence().contains("did you mean"),
            "a verb to come is no help today: {to_come:?}"
        );
    }

    #[test]
    fn what_stands_in_the_place_of_an_inventory_is_not_called_missing() {
        let (folder, project) = project(&[]);
        std::fs::create_dir(folder.path().join("inventory/prod.toml")).unwrap();
        let link = folder.path().join("inventory/staging.toml");
        std::os::unix::fs::symlink("nowhere", link).unwrap();
        for name in ["prod", "staging"] {
            let complaint = project.environment(name).unwrap_err();
            assert!(
                complaint
                    .sentence()
                    .contains("is no file that could be read"),
                "{complaint:?}"
            );
        }
    }
}
