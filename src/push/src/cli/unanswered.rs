//! Hosts that were asked and did not answer: told one by one, so that one dead host does not hide
//! the others, and turned into the exit code.

use super::environment::Environment;
use crate::event::{ExitCode, Outcome, VERSION, exit_code};
use crate::name::HostName;
use crate::report::{Report, outcome};
use crate::rollout::Answers;

/// Tells of each host without an answer, and returns what the command exits with.
pub fn tell<T>(answers: &Answers<T>, environment: &Environment, report: &Report) -> ExitCode {
    let mut outcomes: Vec<&Outcome> = Vec::new();
    for (host, answer) in answers {
        let Err(outcome) = answer else { continue };
        tell_one((host, outcome), environment, report);
        outcomes.push(outcome);
    }
    exit_code(outcomes)
}

/// Tells of one host without an answer.
pub fn tell_one(
    (host, outcome): (&HostName, &Outcome),
    environment: &Environment,
    report: &Report,
) {
    let at = format!("{} -l {host}", environment.fleet.environment);
    if let Some(account) = outcome::account(host, outcome, &at) {
        report.warn(&account);
    }
    report.json(
        &serde_json::json!({"v": VERSION, "type": "unanswered", "host": host, "outcome": outcome}),
    );
}
