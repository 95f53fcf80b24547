//! Checked paths: relative ones that cannot leave their tree, absolute ones that are plain.

use std::path::Path;

use crate::checked_text;

/// The longest path, in bytes (`PATH_MAX` of Linux, less the final NUL).
pub const PATH_BYTES_MAX: usize = 4095;

/// The longest component of a path, in bytes (`NAME_MAX` of Linux).
pub const COMPONENT_BYTES_MAX: usize = 255;

/// Why a text is not a path that push will touch.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{path:?} cannot be used as a path: {why}")]
pub struct PathError {
    /// The text, as it came.
    pub path: String,
    /// What is wrong with it.
    pub why: &'static str,
}

checked_text!(
    /// A path inside a tree: components that are neither empty, `.` nor `..`, joined by `/`.
    /// Any UTF-8 but NUL may stand in a component, newlines included.
    TreePath,
    PathError,
    |text| tree(text).map_err(|why| PathError::new(text, why))
);
checked_text!(
    /// An absolute path on a host, in its shortest spelling and without control characters.
    HostPath,
    PathError,
    |text| host(text).map_err(|why| PathError::new(text, why))
);

fn tree(text: &str) -> Result<(), &'static str> {
    if text.is_empty() {
        return Err("it is empty");
    }
    if text.len() > PATH_BYTES_MAX {
        return Err("it is longer than 4095 bytes");
    }
    if text.contains('\0') {
        return Err("it holds a NUL byte");
    }
    for component in text.split('/') {
        match component {
            "" => return Err("it is absolute, or holds an empty component"),
            "." | ".." => return Err("it holds a component . or .., which could leave the tree"),
            long if long.len() > COMPONENT_BYTES_MAX => {
                return Err("a component is longer than 255 bytes");
            }
            _ => {}
        }
    }
    Ok(())
}

fn host(text: &str) -> Result<(), &'static str> {
    let inside = text.strip_prefix('/').ok_or("it is not absolute")?;
    tree(inside)?;
    if text.chars().any(char::is_control) {
        return Err("it holds a control character");
    }
    Ok(())
}

impl PathError {
    fn new(path: &str, why: &'static str) -> Self {
        Self {
            path: path.to_owned(),
            why,
        }
    }
}

impl TreePath {
    /// The path for the file system.
    pub fn as_path(&self) -> &Path {
        Path::new(&self.0)
    }

    /// The components, first to last.
    pub fn components(&self) -> impl Iterator<Item = &str> {
        self.0.split('/')
    }

    /// The folder that holds this path, if it is not the tree itself.
    pub fn parent(&self) -> Option<Self> {
        self.0
            .rsplit_once('/')
            .map(|(parent, _)| Self(parent.to_owned()))
    }
}

impl HostPath {
    /// The path for the file system.
    pub fn as_path(&self) -> &Path {
        Path::new(&self.0)
    }

    /// The same path, seen from a tree that mirrors the root.
    pub fn inside_root(&self) -> TreePath {
        TreePath(self.0.trim_start_matches('/').to_owned())
    }
}

/// Whether a symbolic link at `link` inside a tree points to a place inside the same tree, read as
/// text: no folder on the way is itself followed.
pub fn link_stays_inside(link: &TreePath, target: &str) -> bool {
    if target.is_empty()
        || target.starts_with('/')
        || target.len() > PATH_BYTES_MAX
        || target.contains('\0')
    {
        return false;
    }
    let mut depth = link.components().count() - 1;
    for component in target.split('/') {
        match component {
            "" | "." => {}
            ".." => match depth.checked_sub(1) {
                Some(up) => depth = up,
                None => return false,
            },
            _ => depth += 1,
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_path_cannot_leave_its_tree() {
        for hostile in ["", "/", "/etc", "..", "a/../b", "a//b", "a/", "./a", "a\0b"] {
            assert!(hostile.parse::<TreePath>().is_err(), "{hostile:?}");
        }
        for good in ["a", "a/b", "-rf", "a\nb", "…"] {
            assert!(good.parse::<TreePath>().is_ok(), "{good:?}");
        }
    }

    #[test]
    fn a_host_path_is_absolute_and_plain() {
        for hostile in ["etc", "/", "/a/../b", "/a//b", "/a/", "/a\nb", "/\u{1b}x"] {
            assert!(hostile.parse::<HostPath>().is_err(), "{hostile:?}");
        }
        assert!("/etc/logrotate.d/api".parse::<HostPath>().is_ok());
    }

    #[test]
    fn a_link_that_climbs_out_is_seen() {
        let at = |text: &str| text.parse::<TreePath>().unwrap();
        assert!(link_stays_inside(&at("a/b/link"), "../../c"));
        assert!(!link_stays_inside(&at("a/b/link"), "../../../c"));
        assert!(!link_stays_inside(&at("link"), "/etc/passwd"));
        assert!(!link_stays_inside(&at("link"), ".."));
    }
}
