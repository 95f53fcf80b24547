//! A text that grows line by line.

use std::fmt::{Display, Write as _};

/// Lines for a person, each ended by a newline.
#[derive(Debug, Default)]
pub struct Text(String);

impl Text {
    /// Nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a line.
    pub fn line(&mut self, line: impl Display) {
        // Writing to a String cannot fail.
        let _ = writeln!(self.0, "{line}");
    }

    /// Adds lines that end in a newline already.
    pub fn block(&mut self, lines: impl AsRef<str>) {
        self.0.push_str(lines.as_ref());
    }

    /// All of it.
    pub fn finish(self) -> String {
        self.0
    }
}
