//! Which places of a host a project may declare. Both ends ask here: the laptop to name the line of the
//! inventory, the host because it relies on no laptop.

use std::collections::BTreeSet;
use std::path::Path;

use crate::path::{HostPath, TreePath};

/// A place that is no project's, with the reason for the operator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// Everything below a folder.
    Folder(&'static str, &'static str),
    /// One file.
    File(&'static str, &'static str),
}

/// Folders that are not for declared files, each with the reason.
const FOLDERS: &[(&str, &str)] = &[
    ("/etc/push", "push keeps its generations there"),
    ("/var/lib/push", "push keeps its journal there"),
    (
        "/run",
        "it is empty after a boot; declare a secret or a systemd RuntimeDirectory instead",
    ),
    ("/usr/local/lib/push", "push keeps its own program there"),
    ("/srv", "releases and shared folders of apps are there"),
    ("/proc", "it is no place for files"),
    (
        "/sys",
        "it is no place for files; use /etc/sysctl.d or /etc/tmpfiles.d",
    ),
    ("/dev", "it is no place for files; use /etc/udev/rules.d"),
    ("/tmp", "anything may remove it"),
];

/// Single files that are push's own, or that no link may ever replace.
const FILES: &[(&str, &str)] = &[
    (
        "/etc/nginx/conf.d/push.conf",
        "push tells nginx there where its sites are",
    ),
    (
        "/etc/systemd/system/push-recover.service",
        "push recovers by it after a boot",
    ),
    (
        "/etc/systemd/system/push-transaction.service",
        "push switches by it",
    ),
    ("/etc/passwd", ACCOUNTS),
    ("/etc/group", ACCOUNTS),
    ("/etc/shadow", ACCOUNTS),
    ("/etc/gshadow", ACCOUNTS),
];

const ACCOUNTS: &str = "the system keeps its accounts there, and changes it by itself";

/// Whose place a file is to stand in, when it is no project's.
pub fn taken(path: &HostPath) -> Option<Taken> {
    let mut folders = FOLDERS.iter();
    let folder = folders.find(|(folder, _)| path.as_path().starts_with(folder));
    let file = || FILES.iter().find(|(file, _)| path.as_str() == *file);
    match (folder, file) {
        (Some((folder, why)), _) => Some(Taken::Folder(folder, why)),
        (None, file) => file().map(|(file, why)| Taken::File(file, why)),
    }
}

/// The file among `files` that `path` would stand inside of, as if it were a folder.
pub fn inside_of<'a>(path: &HostPath, files: &BTreeSet<&'a str>) -> Option<&'a str> {
    let mut above = path.as_path().ancestors().skip(1).filter_map(Path::to_str);
    above.find_map(|above| files.get(above).copied())
}

/// A shared folder inside of another one. Each is linked to from inside the release, and a link cannot
/// stand inside another; its user may also replace anything below it, so root must not walk through one.
pub fn nested(shared: &BTreeSet<TreePath>) -> Option<&TreePath> {
    shared.iter().find(|path| {
        std::iter::successors(path.parent(), TreePath::parent).any(|above| shared.contains(&above))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(path: &str) -> HostPath {
        path.parse().unwrap()
    }

    #[test]
    fn places_of_push_and_of_the_kernel_are_no_projects() {
        for path in [
            "/etc/push/current",
            "/etc/push",
            "/tmp/x",
            "/srv/api/current",
        ] {
            assert!(
                matches!(taken(&at(path)), Some(Taken::Folder(..))),
                "{path}"
            );
        }
        assert!(matches!(
            taken(&at("/etc/shadow")),
            Some(Taken::File("/etc/shadow", _))
        ));
        for path in ["/etc/pushx", "/etc/shadow.d/x", "/etc/motd"] {
            assert_eq!(taken(&at(path)), None, "{path}");
        }
    }

    #[test]
    fn a_file_cannot_stand_inside_of_another() {
        let files = ["/etc/x", "/etc/xy", "/etc/z/a"].into();
        assert_eq!(inside_of(&at("/etc/x/y/z"), &files), Some("/etc/x"));
        assert_eq!(inside_of(&at("/etc/x"), &files), None);
        assert_eq!(inside_of(&at("/etc/z"), &files), None);
    }

    #[test]
    fn a_shared_folder_cannot_stand_inside_of_another() {
        let folders = |all: &[&str]| all.iter().map(|path| path.parse().unwrap()).collect();
        let inside: BTreeSet<TreePath> = folders(&["data", "data/a/b"]);
        assert_eq!(nested(&inside).map(TreePath::as_str), Some("data/a/b"));
        assert_eq!(nested(&folders(&["data", "database"])), None);
    }
}
