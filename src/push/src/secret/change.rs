//! Several files of a project changed together: all of them, or none, wherever the program is cut off.
//!
//! The new contents are written into a folder of their own, synced, and that folder gets its name by
//! one rename: from then on the change is decided. Each content then takes its place by a rename of its
//! own, and the folder goes last. What is found of a change that was cut off is finished if it was
//! decided, and forgotten if it was not; whoever reads secrets calls [`recover`] first.

use std::io;
use std::path::{Component, Path, PathBuf};

use crate::inventory::{FOLDER, SECRETS};

/// The folder of a change that is decided, inside the folder of secrets.
const DECIDED: &str = ".change";

/// The folder of a change that is being written.
const BEING_WRITTEN: &str = ".change.new";

/// The list of a change's files, in its folder. While it is there, the change is to be carried out.
const LIST: &str = "files";

/// How the content that is about to take a file's place is called.
const ABOUT: &str = ".push-new";

/// The most files of one change.
const FILES_MAX: usize = 20_000;

/// The largest list, in bytes.
const LIST_BYTES_MAX: usize = 16 << 20;

/// The file system, one call at a time, so that a test can cut at each.
pub trait Files {
    /// Makes a folder and those above it; one that is there is fine.
    fn folder(&mut self, path: &Path) -> io::Result<()>;
    /// Writes a file anew and syncs it. It may be read by all: nothing in it is secret.
    fn write(&mut self, path: &Path, content: &[u8]) -> io::Result<()>;
    /// Gives a file or a folder another name, over a file that has it.
    fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()>;
    /// Makes the names in a folder durable.
    fn sync(&mut self, folder: &Path) -> io::Result<()>;
    /// Removes a file; one that is not there is fine.
    fn remove(&mut self, path: &Path) -> io::Result<()>;
    /// Removes a folder with what is in it; one that is not there is fine.
    fn remove_folder(&mut self, path: &Path) -> io::Result<()>;
}

/// New contents of files, by their path in the project.
#[derive(Debug, Default)]
pub struct Change {
    contents: Vec<(PathBuf, Vec<u8>)>,
}

impl Change {
    /// Nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether nothing would be written.
    pub fn is_empty(&self) -> bool {
        self.contents.is_empty()
    }

    /// A file and what shall be in it; the path is relative to the project's folder and below
    /// `inventory/`.
    pub fn write(&mut self, path: impl Into<PathBuf>, content: Vec<u8>) {
        self.contents.push((path.into(), content));
    }

    /// Carries it out. When it returns, all files are as they shall be, on the disk too. After an error
    /// they are as they were, or [`recover`] makes them as they shall be.
    pub fn carry_out(self, files: &mut impl Files, project: &Path) -> io::Result<()> {
        recover(files, project)?;
        let secrets = project.join(FOLDER).join(SECRETS);
        let (new, decided) = (secrets.join(BEING_WRITTEN), secrets.join(DECIDED));
        files.folder(&new)?;
        let mut list = Vec::new();
        for (at, (path, content)) in self.contents.iter().enumerate() {
            checked(path)?;
            files.write(&new.join(at.to_string()), content)?;
            list.push(path);
        }
        let list = serde_json::to_vec(&list).map_err(io::Error::from)?;
        if list.len() > LIST_BYTES_MAX || self.contents.len() > FILES_MAX {
            return Err(io::Error::other("these are too many files for one change"));
        }
        files.write(&new.join(LIST), &list)?;
        files.sync(&new)?;
        files.rename(&new, &decided)?;
        files.sync(&secrets)?;
        recover(files, project)
    }
}

/// Finishes a change that was cut off after it was decided, and forgets one that was cut off before.
pub fn recover(files: &mut impl Files, project: &Path) -> io::Result<()> {
    let secrets = project.join(FOLDER).join(SECRETS);
    let (new, decided) = (secrets.join(BEING_WRITTEN), secrets.join(DECIDED));
    if new.symlink_metadata().is_ok() {
        files.remove_folder(&new)?;
    }
    if decided.symlink_metadata().is_err() {
        return Ok(());
    }
    let list = decided.join(LIST);
    // Without its list it has been carried out.
    if list.exists() {
        let paths: Vec<PathBuf> = serde_json::from_slice(&std::fs::read(&list)?)?;
        for (at, path) in paths.iter().enumerate() {
            let content = std::fs::read(decided.join(at.to_string()))?;
            put(files, &project.join(checked(path)?), &content)?;
        }
        files.remove(&list)?;
        files.sync(&decided)?;
    }
    files.remove_folder(&decided)?;
    files.sync(&secrets)
}

/// Whether a change of this project was cut off and has not been finished.
pub fn is_unfinished(project: &Path) -> bool {
    let decided = project.join(FOLDER).join(SECRETS).join(DECIDED);
    decided.symlink_metadata().is_ok()
}

/// Replaces one file by a rename; a link is followed, so that it stays one.
fn put(files: &mut impl Files, path: &Path, content: &[u8]) -> io::Result<()> {
    let path = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::Error::other(format!("{} is no file", path.display())));
    };
    files.folder(folder)?;
    let mut about = std::ffi::OsString::from(".");
    about.push(name);
    about.push(ABOUT);
    let about = folder.join(about);
    files.write(&about, content)?;
    files.rename(&about, &path)?;
    files.sync(folder)
}

/// A list that somebody else wrote must not lead out of the inventory.
fn checked(path: &Path) -> io::Result<&Path> {
    let plain = path
        .components()
        .all(|part| matches!(part, Component::Normal(_)));
    if plain && path.starts_with(FOLDER) {
        return Ok(path);
    }
    let why = format!("{} is not below {FOLDER}/", path.display());
    Err(io::Error::new(io::ErrorKind::InvalidData, why))
}

/// The real file system.
#[derive(Debug, Default)]
pub struct Disk;

impl Files for Disk {
    fn folder(&mut self, path: &Path) -> io::Result<()> {
        std::fs::create_dir_all(path)
    }

    fn write(&mut self, path: &Path, content: &[u8]) -> io::Result<()> {
        use std::io::Write as _;
        let mut file = std::fs::File::create(path)?;
        file.write_all(content)?;
        file.sync_all()
    }

    fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        // An inventory keeps the permissions that its owner gave it.
        if let Ok(old) = std::fs::metadata(to)
            && old.is_file()
        {
            std::fs::set_permissions(from, old.permissions())?;
        }
        std::fs::rename(from, to)
    }

    fn sync(&mut self, folder: &Path) -> io::Result<()> {
        std::fs::File::open(folder)?.sync_all()
    }

    fn remove(&mut self, path: &Path) -> io::Result<()> {
        absent_is_fine(std::fs::remove_file(path))
    }

    fn remove_folder(&mut self, path: &Path) -> io::Result<()> {
        absent_is_fine(std::fs::remove_dir_all(path))
    }
}

fn absent_is_fine(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The real file system until `calls` calls are done; then every call fails, a write half done.
    struct Cut {
        calls: usize,
        disk: Disk,
    }

    impl Cut {
        fn at(calls: usize) -> Self {
            Self { calls, disk: Disk }
        }

        fn call(&mut self) -> io::Result<()> {
            if self.calls == 0 {
                return Err(io::Error::other("the power is gone"));
            }
            self.calls -= 1;
            Ok(())
        }
    }

    impl Files for Cut {
        fn folder(&mut self, path: &Path) -> io::Result<()> {
            self.call()?;
            self.disk.folder(path)
        }
        fn write(&mut self, path: &Path, content: &[u8]) -> io::Result<()> {
            if self.call().is_err() {
                std::fs::write(path, &content[..content.len() / 2])?;
                return Err(io::Error::other("the power is gone"));
            }
            self.disk.write(path, content)
        }
        fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
            self.call()?;
            self.disk.rename(from, to)
        }
        fn sync(&mut self, folder: &Path) -> io::Result<()> {
            self.call()?;
            self.disk.sync(folder)
        }
        fn remove(&mut self, path: &Path) -> io::Result<()> {
            self.call()?;
            self.disk.remove(path)
        }
        /// Whatever has no order may go first: here all but the list.
        fn remove_folder(&mut self, path: &Path) -> io::Result<()> {
            if self.call().is_err() {
                for entry in std::fs::read_dir(path)?.flatten() {
                    if entry.file_name() != LIST {
                        std::fs::remove_file(entry.path())?;
                    }
                }
                return Err(io::Error::other("the power is gone"));
            }
            self.disk.remove_folder(path)
        }
    }

    const PATHS: [&str; 4] = [
        "inventory/prod.toml",
        "inventory/secrets/a.age",
        "inventory/secrets/prod/b.age",
        "inventory/secrets/secrets.lock",
    ];

    fn project() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for path in PATHS {
            let path = folder.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "the old content").unwrap();
        }
        folder
    }

    fn change() -> Change {
        let mut change = Change::new();
        for path in PATHS {
            change.write(path, b"the new content".to_vec());
        }
        change
    }

    fn contents(project: &Path) -> Vec<String> {
        let read = |path| std::fs::read_to_string(project.join(path)).unwrap();
        PATHS.into_iter().map(read).collect()
    }

    #[test]
    fn a_change_cut_at_any_call_leaves_every_file_old_or_new_and_recovers_to_all_of_one() {
        let (mut undone, mut done) = (0, 0);
        for cut in 0.. {
            let folder = project();
            let ended = change().carry_out(&mut Cut::at(cut), folder.path());
            for content in contents(folder.path()) {
                assert!(
                    ["the old content", "the new content"].contains(&content.as_str()),
                    "cut at {cut}: {content:?}"
                );
            }
            // The recovery may be cut as well, at any call.
            for again in 0.. {
                if recover(&mut Cut::at(again), folder.path()).is_ok() {
                    break;
                }
            }
            let found = contents(folder.path());
            assert!(
                found.iter().all(|content| *content == found[0]),
                "cut at {cut}: {found:?}"
            );
            assert!(!is_unfinished(folder.path()));
            let left = std::fs::read_dir(folder.path().join("inventory/secrets")).unwrap();
            assert_eq!(left.count(), 3, "cut at {cut}: something was left behind");
            match found[0].as_str() {
                "the old content" => undone += 1,
                _ => done += 1,
            }
            if ended.is_ok() {
                assert_eq!(found[0], "the new content");
                break;
            }
        }
        assert!(undone > 5 && done > 5, "{undone} undone, {done} done");
    }

    #[test]
    fn a_list_that_leads_out_of_the_inventory_is_refused() {
        for hostile in [
            "../x",
            "/etc/passwd",
            "inventory/../../x",
            "README.md",
            "inventory/./x",
        ] {
            let folder = project();
            let mut change = Change::new();
            change.write(hostile, Vec::new());
            let refused = change.carry_out(&mut Disk, folder.path());
            // `./` is no part of a path's components.
            assert_eq!(refused.is_err(), hostile != "inventory/./x", "{hostile}");
            let planted = folder.path().join("inventory/secrets/.change");
            if hostile != "inventory/./x" {
                std::fs::create_dir_all(&planted).unwrap();
                std::fs::write(planted.join(LIST), serde_json::to_vec(&[hostile]).unwrap())
                    .unwrap();
                std::fs::write(planted.join("0"), "x").unwrap();
                assert!(recover(&mut Disk, folder.path()).is_err(), "{hostile}");
            }
        }
    }
}
