//! What the proof has tried, in numbers: shown with `--nocapture`, and kept in the file that
//! `PUSH_COUNTS` names, from which `tests/run` prints a summary.

use std::io::Write as _;

/// Says one line of the summary.
#[allow(
    clippy::print_stdout,
    reason = "a test's counts are what a longer run is looked at for"
)]
pub(crate) fn shown(line: &str) {
    println!("{line}");
    let Some(path) = std::env::var_os("PUSH_COUNTS") else {
        return;
    };
    let file = std::fs::File::options()
        .append(true)
        .create(true)
        .open(path);
    file.and_then(|mut file| writeln!(file, "{line}")).unwrap();
}

/// A number from the environment.
pub(crate) fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}
