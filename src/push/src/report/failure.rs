//! How a failed host is told: the cause on the first line, the evidence below it, the command that
//! looks further at the end. Knows what a host reports and nothing of how it was asked.
//!
//! A new kind of [`Cause`] or evidence does not compile until its wording exists here or in the wire.

use push_wire::journal::{Cause, Evidence, UnitState};

use super::style::{BAD, HELP, QUIET, TITLE, paint};
use super::text::Text;
use super::{foreign, unit};

/// What is told about a host that did not get, or did not keep, its new generation.
#[derive(Debug, Clone)]
pub struct Failure<'a> {
    /// The host.
    pub host: &'a str,
    /// What became of it, in a few words: `taken back`, `unreachable`.
    pub verdict: &'a str,
    /// The cause, in one line. May hold a host's words.
    pub cause: String,
    /// What the host is like now, in one line.
    pub now: Option<String>,
    /// What was found, by label. Fit for a terminal already.
    pub found: Vec<(&'static str, Vec<String>)>,
    /// The next commands to type.
    pub next: Vec<String>,
}

/// The whole account of one host's failure.
pub fn failure(failure: &Failure<'_>) -> String {
    let mut text = Text::new();
    text.line(format_args!(
        "{} {}: {}: {}",
        paint(BAD, "✗"),
        paint(TITLE, failure.host),
        paint(BAD, failure.verdict),
        foreign::line(&failure.cause),
    ));
    if let Some(line) = &failure.now {
        text.line(format_args!("  {}", foreign::line(line)));
    }
    for (label, lines) in &failure.found {
        block(&mut text, label, lines);
    }
    for command in failure.next.iter().flat_map(|command| command.lines()) {
        text.line(format_args!(
            "  {} {}",
            paint(HELP, "help:"),
            foreign::line(command)
        ));
    }
    text.finish()
}

/// The cause of taking back, in one line.
pub fn cause(cause: &Cause) -> String {
    foreign::line(&cause.to_string())
}

/// The evidence by label; what the host did not find is left out.
pub fn evidence(evidence: &Evidence) -> Vec<(&'static str, Vec<String>)> {
    let all = |lines: &[String]| foreign::last(lines.iter().map(String::as_str));
    let blocks = [
        ("units", evidence.units.iter().map(unit_line).collect()),
        (
            "answer",
            evidence
                .answer
                .as_deref()
                .map(foreign::lines)
                .unwrap_or_default(),
        ),
        ("journal", all(&evidence.journal)),
        ("listening", vec![all(&evidence.listening).join(", ")]),
        ("disk", all(&evidence.disk)),
    ];
    blocks
        .into_iter()
        .filter(|(_, lines): &(_, Vec<String>)| lines.iter().any(|line| !line.is_empty()))
        .collect()
}

/// A unit as systemd sees it, in one line.
fn unit_line(state: &UnitState) -> String {
    let standing = format!("{} {}", foreign::line(&state.unit), unit::standing(state));
    match unit::restarts(state) {
        Some(restarts) => format!("{standing}, {restarts}"),
        None => standing,
    }
}

fn block(text: &mut Text, label: &str, lines: &[String]) {
    const LABEL_WIDTH: usize = 11;
    let labels = std::iter::once(label).chain(std::iter::repeat(""));
    for (label, line) in labels.zip(lines) {
        text.line(format_args!(
            "    {}{line}",
            paint(QUIET, format!("{label:<LABEL_WIDTH$}"))
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(text: &str) -> String {
        anstream::adapter::strip_str(text).to_string()
    }

    fn evidence_of_a_crash() -> Evidence {
        Evidence {
            subject: "api".into(),
            units: vec![UnitState {
                unit: "api.service".into(),
                active: "failed".into(),
                sub: "failed".into(),
                result: "exit-code".into(),
                exit_status: "101".into(),
                restarts: 3,
                ..UnitState::default()
            }],
            journal: vec![
                "api[812]: starting".into(),
                "api[812]: cannot open /srv/api/shared/data: \x1b]0;pwned\x07".into(),
            ],
            answer: Some("connection refused".into()),
            listening: vec!["0.0.0.0:22".into(), "127.0.0.1:80".into()],
            disk: vec![],
        }
    }

    #[test]
    fn the_cause_comes_first_then_the_evidence_then_the_command_to_look_further() {
        let evidence = evidence_of_a_crash();
        let text = super::failure(&Failure {
            host: "web1",
            verdict: "taken back",
            cause: Cause::Unhealthy {
                app: "api".into(),
                why: "connection refused on 127.0.0.1:8080".into(),
            }
            .to_string(),
            now: Some("generation 11 is in effect again".into()),
            found: super::evidence(&evidence),
            next: vec!["`push logs prod -l web1 --unit api.service -n 200` shows more".into()],
        });
        insta::assert_snapshot!(plain(&text), @r#"
        ✗ web1: taken back: api did not become healthy: connection refused on 127.0.0.1:8080
          generation 11 is in effect again
            units      api.service failed, exit-code, status 101, 3 restarts
            answer     connection refused
            journal    api[812]: starting
                       api[812]: cannot open /srv/api/shared/data: \x1b]0;pwned\x07
            listening  0.0.0.0:22, 127.0.0.1:80
          help: `push logs prod -l web1 --unit api.service -n 200` shows more
        "#);
    }

    #[test]
    fn what_was_not_found_takes_no_line() {
        let text = super::failure(&Failure {
            host: "web1",
            verdict: "unreachable",
            cause: "no answer within 10 s".into(),
            now: None,
            found: super::evidence(&Evidence::default()),
            next: vec![],
        });
        assert_eq!(plain(&text), "✗ web1: unreachable: no answer within 10 s\n");
    }
}
