//! Excerpts of the system's log, by journalctl(1).

use std::time::Duration;

use push_wire::log::{Asked, Excerpt, LINES_MAX, Source};

use super::process::Program;
use crate::machine::ToolError;

/// How long reading may take: a large log on a slow disk.
const LIMIT: Duration = Duration::from_secs(30);

/// The most of one excerpt that is kept, in bytes, the latest of it.
const BYTES_MAX: usize = 1 << 20;

/// The longest line that is sent, in characters.
const LINE_CHARS_MAX: usize = 2000;

/// How journalctl begins the line that tells where its output ends. No program can write such a line: its
/// lines begin with their time, and those that go on are indented.
const END: &str = "-- cursor: ";

/// What the journal calls everything that push-host writes, whichever unit it runs in, and the units it has
/// of its own. Between matches of different fields, `+` means "or".
const OF_PUSH: [&str; 7] = [
    "SYSLOG_IDENTIFIER=push-host",
    "+",
    "UNIT=push-transaction.service",
    "+",
    "UNIT=push-recover.service",
    "+",
    "UNIT=push-packages.service",
];

/// Reads an excerpt.
pub(super) fn excerpt(asked: &Asked) -> Result<Excerpt, ToolError> {
    // Without a unit, journalctl would tell of all there are.
    if matches!(&asked.of, Source::Units(units) if units.is_empty()) {
        return Ok(Excerpt::default());
    }
    let program = Program::new(&argv(asked), LIMIT).output_bytes_max(BYTES_MAX);
    let ended = program.run()?;
    // Before version 257, journalctl that has nothing to show fails without a word: there is no end to tell.
    let is_empty = ended.stdout.is_empty() && ended.stderr.is_empty();
    if ended.status.success() || is_empty {
        return Ok(read(&ended.stdout, BYTES_MAX));
    }
    Err(ToolError::Failed {
        tool: program.shown(),
        output: ended.said(),
    })
}

fn argv(asked: &Asked) -> Vec<String> {
    let fixed = [
        "journalctl",
        "--no-pager",
        "--quiet",
        // Lines with odd bytes as well, which are escaped where they are shown.
        "--all",
        "--output=short-iso",
        "--show-cursor",
    ];
    let mut argv = fixed.map(str::to_owned).to_vec();
    argv.push(format!("--lines={}", asked.lines.min(LINES_MAX)));
    argv.extend(
        asked
            .after
            .iter()
            .map(|end| format!("--after-cursor={end}")),
    );
    match &asked.of {
        Source::Units(units) => argv.extend(units.iter().map(|unit| format!("--unit={unit}"))),
        Source::Push => argv.extend(OF_PUSH.map(str::to_owned)),
    }
    argv
}

/// What journalctl has written, of which at most `bytes_max` bytes were kept.
fn read(written: &str, bytes_max: usize) -> Excerpt {
    // Odd bytes may have grown on the way to text, never shrunk.
    let is_cut = written.len() >= bytes_max;
    let mut excerpt = Excerpt {
        is_cut,
        ..Excerpt::default()
    };
    for line in written.lines().skip(usize::from(is_cut)) {
        match line.strip_prefix(END) {
            Some(end) => excerpt.end = Some(end.to_owned()),
            None => excerpt
                .lines
                .push(line.chars().take(LINE_CHARS_MAX).collect()),
        }
    }
    excerpt
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_and_their_end_are_told_apart_and_a_part_of_a_line_is_left_out() {
        let written = "2026-11-28T10:00:00+0000 h api[1]: one\n    -- cursor: of the app's\n-- cursor: s=1;i=2\n";
        let excerpt = read(written, 1000);
        assert_eq!(
            excerpt.lines,
            [
                "2026-11-28T10:00:00+0000 h api[1]: one",
                "    -- cursor: of the app's"
            ]
        );
        assert_eq!(excerpt.end.as_deref(), Some("s=1;i=2"));
        assert!(!excerpt.is_cut);
        let cut = read(written, written.len());
        assert_eq!((cut.lines.len(), cut.is_cut), (1, true));
        assert_eq!(read("", 10), Excerpt::default());
        let long = read(&"x".repeat(LINE_CHARS_MAX * 2), usize::MAX);
        assert_eq!(long.lines[0].len(), LINE_CHARS_MAX);
    }

    #[test]
    fn nobody_is_told_the_log_of_all_who_asked_for_the_log_of_none() {
        let asked = Asked {
            of: Source::Units([].into()),
            lines: 10,
            after: None,
        };
        assert_eq!(excerpt(&asked).unwrap(), Excerpt::default());
    }

    #[test]
    fn what_is_asked_for_stays_within_its_option() {
        let asked = Asked {
            of: Source::Units(["api.service".parse().unwrap()].into()),
            lines: u32::MAX,
            after: Some("--vacuum-size=0".to_owned()),
        };
        let argv = argv(&asked);
        assert!(argv.contains(&"--after-cursor=--vacuum-size=0".to_owned()));
        assert!(argv.contains(&format!("--lines={LINES_MAX}")));
        assert!(argv.ends_with(&["--unit=api.service".to_owned()]));
    }
}
