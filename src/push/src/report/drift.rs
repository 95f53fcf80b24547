//! What is not as it was pushed, and what to type about it.

use super::foreign;
use super::style::{CHANGED, HELP, paint};
use super::text::Text;
use crate::plan::Drift;

/// A line for each difference and one with the cure; nothing where there is none. `at` is the environment and
/// the host.
pub fn lines(drift: &Drift, (environment, host): (&str, &str)) -> String {
    let mut text = Text::new();
    for line in foreign::last(drift.lines.iter().map(String::as_str)) {
        text.line(format_args!("  {} {line}", paint(CHANGED, "drift:")));
    }
    if !drift.is_none() {
        let cure = drift.cure(environment, host);
        text.line(format_args!("    {} {cure}", paint(HELP, "help:")));
    }
    text.finish()
}
