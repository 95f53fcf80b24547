//! What `push doctor` found, in words: the laptop first, then host by host, each finding with its cure.

use super::measure;
use super::style::{BAD, CHANGED, GOOD, HELP, QUIET, TITLE, paint};
use super::text::Text;
use crate::event::{Finding, Grade};

/// All findings about the laptop, or about one host.
pub fn about(subject: &str, findings: &[&Finding]) -> String {
    let mut text = Text::new();
    text.line(paint(TITLE, subject));
    for finding in findings {
        let (mark, style) = match finding.grade {
            Grade::Fine => ("✓", GOOD),
            Grade::Note => ("!", CHANGED),
            Grade::Bad(_) => ("✗", BAD),
        };
        text.line(format!("  {} {}", paint(style, mark), finding.what));
        if let Some(cure) = &finding.cure {
            text.line(format!("      {} {cure}", paint(HELP, "help:")));
        }
    }
    text.finish()
}

/// The last line.
pub fn summary(findings: &[Finding]) -> String {
    let count = |wanted: fn(&Grade) -> bool| {
        findings
            .iter()
            .filter(|finding| wanted(&finding.grade))
            .count()
    };
    let bad = count(|grade| matches!(grade, Grade::Bad(_)));
    let notes = count(|grade| matches!(grade, Grade::Note));
    if bad == 0 && notes == 0 {
        return format!("{}\n", paint(GOOD, "nothing to do"));
    }
    format!(
        "{} to put right, {} to know of {}\n",
        measure::count(bad, "thing"),
        notes,
        paint(QUIET, format!("({} looked at)", findings.len()))
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::ExitCode;

    #[test]
    fn each_finding_stands_above_its_cure() {
        let findings = [
            Finding::fine("systemd 252"),
            Finding::note("a reboot is wanted", "`push ssh prod web1 -- sudo reboot`"),
            Finding::bad(
                ExitCode::Unreachable,
                "web1 cannot be reached",
                "check that it is up",
            ),
        ];
        let all: Vec<&Finding> = findings.iter().collect();
        let text = about("web1", &all) + &summary(&findings);
        let plain = anstream::adapter::strip_str(&text).to_string();
        insta::assert_snapshot!(plain, @r"
        web1
          ✓ systemd 252
          ! a reboot is wanted
              help: `push ssh prod web1 -- sudo reboot`
          ✗ web1 cannot be reached
              help: check that it is up
        1 thing to put right, 1 to know of (3 looked at)
        ");
    }
}
