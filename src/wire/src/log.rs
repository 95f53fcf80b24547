//! Excerpts of a host's system log, as journald keeps it. They are for people: a line is text that programs
//! wrote, and nothing is concluded from it.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::name::UnitName;

/// The most lines of one excerpt.
pub const LINES_MAX: u32 = 1000;

/// What of the log is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asked {
    /// Whose lines.
    pub of: Source,
    /// At most so many, and at most [`LINES_MAX`]: the latest ones, or those that follow [`Self::after`].
    pub lines: u32,
    /// The [`Excerpt::end`] of an earlier excerpt: only what came after it.
    pub after: Option<String>,
}

/// Whose lines of the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// What these units wrote, and what systemd wrote of them.
    Units(BTreeSet<UnitName>),
    /// What push-host wrote, and what systemd wrote of the units it runs in.
    Push,
}

/// A part of the log.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Excerpt {
    /// Its lines, the earliest first, with their time and the program's name. Untrusted text.
    pub lines: Vec<String>,
    /// Where it ends, as journald names the place; `None` when there is no line.
    pub end: Option<String>,
    /// Whether earlier lines of it were too much to send.
    pub is_cut: bool,
}
