//! What a variable of keys holds: the key itself, or the names of files. A key that was copied badly
//! looks like neither, and must not be repeated in a message as if it were the name of a file.

use std::ffi::OsStr;
use std::path::Path;

use zeroize::Zeroizing;

use super::identity::IdentityFile;

/// The longest path of Linux, in bytes.
const PATH_BYTES_MAX: usize = 4096;

/// The most letters and digits in a row that a path is shown with: a part of a key has more.
const RUN_MAX: usize = 24;

/// What stands in every text of a key, in any case.
const MARKS: [&str; 2] = ["PRIVATE KEY", "SECRET-KEY-1"];

/// A key from the environment; wiped, and never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct GivenKey {
    /// The variable that holds it.
    pub(super) variable: &'static str,
    pub(super) text: Zeroizing<String>,
}

impl std::fmt::Debug for GivenKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a key from the environment")
    }
}

/// What `value` holds. White space and quotes around it are left over from copying.
pub(super) fn in_variable(variable: &'static str, value: &OsStr) -> Vec<IdentityFile> {
    let lossy = Zeroizing::new(value.to_string_lossy().into_owned());
    let bare = lossy.trim_matches(|c: char| c.is_whitespace() || "\"'`".contains(c));
    // A name that is no text cannot have been changed by copying text.
    let value = value.to_str().map_or(value, |_| OsStr::new(bare));
    if Path::new(value).exists() {
        return vec![IdentityFile::Named(value.into())];
    }
    if is_key_text(bare) {
        let text = Zeroizing::new(format!("{bare}\n"));
        return vec![IdentityFile::Given(GivenKey { variable, text })];
    }
    let of_part = |path: std::path::PathBuf| {
        if path.exists() || is_plain(&path) {
            IdentityFile::Named(path)
        } else {
            IdentityFile::Unclear(variable)
        }
    };
    std::env::split_paths(value).map(of_part).collect()
}

/// Whether it is, or was meant to be, the text of a key or of a file of keys.
fn is_key_text(text: &str) -> bool {
    let upper = Zeroizing::new(text.to_uppercase());
    text.contains(['\n', '\r']) || MARKS.iter().any(|mark| upper.contains(mark))
}

/// Whether a path cannot be a part of a key, so that it may be shown.
fn is_plain(path: &Path) -> bool {
    let Some(text) = path.to_str().filter(|text| text.len() <= PATH_BYTES_MAX) else {
        return false;
    };
    let is_usual = |c: char| c.is_alphanumeric() || "/._-+=@%~, ".contains(c);
    let mut runs = text.split(|c: char| !(c.is_alphanumeric() || "+=".contains(c)));
    text.chars().all(is_usual) && runs.all(|run| run.len() <= RUN_MAX)
}
