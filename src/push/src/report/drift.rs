//! What is not as it was pushed, and what to type about it.

use super::foreign;
use super::style::{CHANGED, HELP, paint};
use super::text::Text;
use crate::plan::Drift;

/// A line for each difference.
pub fn lines(drift: &Drift) -> String {
    let mut text = Text::new();
    for line in foreign::last(drift.lines.iter().map(String::as_str)) {
        text.line(format_args!("  {} {line}", paint(CHANGED, "drift:")));
    }
    text.finish()
}

/// The line below them that says what to type; none where there is no difference. `own` is the project that is
/// pushed, `at` the environment and the host.
pub fn cure(drift: &Drift, own: &str, at: (&str, &str)) -> String {
    let mut text = Text::new();
    let cure = drift.cure(own, at);
    if !cure.is_empty() {
        text.line(format_args!("    {} {cure}", paint(HELP, "help:")));
    }
    text.finish()
}
