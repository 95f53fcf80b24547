//! Asks a program of the system a question.

use std::time::Duration;

use crate::machine::real::process::Program;

/// How long a program may take to answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// The longest answer that is read, in bytes; `ldconfig -p` of a full desktop is 200 KiB.
const ANSWER_BYTES_MAX: usize = 8 << 20;

/// What a program answers, or `None` if it is not there, fails, or takes too long.
pub fn ask(argv: &[&str]) -> Option<String> {
    let ended = Program::new(argv, ANSWER_WITHIN)
        .output_bytes_max(ANSWER_BYTES_MAX)
        .succeed()
        .ok()?;
    // Some of them (`nginx -v`) answer on standard error.
    Some(ended.stdout + &ended.stderr)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_is_not_there_or_fails_has_no_answer() {
        assert_eq!(ask(&["no-such-program"]), None);
        assert_eq!(ask(&["false"]), None);
        assert_eq!(ask(&["echo", "a b"]).as_deref(), Some("a b\n"));
    }
}
