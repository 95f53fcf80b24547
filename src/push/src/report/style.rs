//! The colours of the report, by meaning. Must not decide whether colour is wanted: that is the
//! stream's business. A new meaning is a new constant here.

use anstyle::{AnsiColor, Style};

/// Something appears, or went well.
pub const GOOD: Style = AnsiColor::Green.on_default();
/// Something changes, or wants attention.
pub const CHANGED: Style = AnsiColor::Yellow.on_default();
/// Something goes away, or went wrong.
pub const BAD: Style = AnsiColor::Red.on_default();
/// What could lock the operator out; never seen without a reason.
pub const RISKY: Style = AnsiColor::Magenta.on_default().bold();
/// The next thing to type.
pub const HELP: Style = AnsiColor::Cyan.on_default();
/// A name that the eye looks for first.
pub const TITLE: Style = Style::new().bold();
/// What may be skipped.
pub const QUIET: Style = Style::new().dimmed();

/// `text` in a style, and plain again behind it.
pub fn paint(style: Style, text: impl std::fmt::Display) -> String {
    format!("{style}{text}{style:#}")
}
