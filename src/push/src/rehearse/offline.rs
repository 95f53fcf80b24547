//! Packages that a fresh host can install without a network: they are fetched while its image is made, from
//! where the laptop gets its own, and lie on it as a package source that apt reads like any other.
//!
//! Must not know what is installed from it, nor when.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use push_wire::digest::Digest;

use super::error::{Error, IoExt};
use super::mounts::remove;
use super::tool::Tool;

/// What mmdebstrap runs to fetch them; constant.
pub(super) const FETCH: &str = include_str!("offline.sh");

/// What it runs after that where an environment wants more of a host; constant as well.
pub(super) const FETCH_MORE: &str = include_str!("offline_more.sh");

/// The variable that names those packages to it, with spaces between.
pub(super) const NAMES: &str = "PUSH_OFFERED";

/// Where they lie on a host.
const FOLDER: &str = "opt/packages";

/// The line of apt's that names the folder: it holds nothing that was not fetched and verified by apt already.
const SOURCE: &str = "deb [trusted=yes] file:/opt/packages ./\n";

/// Makes a package source of what was fetched, and the only one of the image.
pub(super) fn index(root: &Path) -> Result<(), Error> {
    let folder = root.join(FOLDER);
    let mut index = String::new();
    let mut files: Vec<_> = fs::read_dir(&folder)
        .doing("listing", &folder)?
        .filter_map(Result::ok)
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|kind| kind == "deb"))
        .collect();
    files.sort();
    for file in files {
        let content = fs::read(&file).doing("reading", &file)?;
        let control = Tool::named("dpkg-deb")
            .arg("--field")
            .arg(&file)
            .succeed()?;
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        // Writing to a String cannot fail.
        let _ = write!(
            index,
            "{}\nFilename: ./{name}\nSize: {}\nSHA256: {}\n\n",
            control.trim_end(),
            content.len(),
            Digest::of(&content)
        );
    }
    let packages = folder.join("Packages");
    fs::write(&packages, index).doing("writing", &packages)?;
    let sources = root.join("etc/apt/sources.list");
    fs::write(&sources, SOURCE).doing("writing", &sources)?;
    remove(&root.join("etc/apt/sources.list.d"))?;
    remove(&root.join("var/lib/apt/lists"))
}
