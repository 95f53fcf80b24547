//! What hosts say, made fit for a terminal: escaped and bounded. Everything that comes from a host
//! passes here before it is shown; nothing else in this room may write it out.

use crate::visible::escape;

/// The most bytes of one line that are shown.
const LINE_BYTES_MAX: usize = 400;

/// The most lines of one text that are shown.
pub const LINES_MAX: usize = 40;

/// One line of a host's.
pub fn line(text: &str) -> String {
    escape(
        text.trim_end_matches(['\r', '\n']).as_bytes(),
        LINE_BYTES_MAX,
    )
}

/// A commit as people write it: its first digits, with `-dirty` kept. Anything else as it is.
pub fn commit(text: &str) -> String {
    const DIGITS: usize = 10;
    let (id, mark) = text
        .split_once('-')
        .map_or((text, ""), |(id, _)| (id, &text[id.len()..]));
    if id.len() > DIGITS && id.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return format!("{}{}", &id[..DIGITS], line(mark));
    }
    line(text)
}

/// The lines of a longer text; the last ones, since that is where programs say what went wrong.
pub fn lines(text: &str) -> Vec<String> {
    last(text.lines())
}

/// The last of many lines, with a note in front of them about those left out.
pub fn last<'a>(lines: impl IntoIterator<Item = &'a str>) -> Vec<String> {
    let all: Vec<&str> = lines.into_iter().collect();
    let hidden = all.len().saturating_sub(LINES_MAX);
    let note = (hidden > 0).then(|| format!("… {hidden} earlier lines"));
    note.into_iter()
        .chain(all[hidden..].iter().copied().map(line))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_commit_is_short_and_keeps_its_mark() {
        assert_eq!(
            commit("d97d316a6357b724486270541956d340d5a99469"),
            "d97d316a63"
        );
        assert_eq!(
            commit("d97d316a6357b724486270541956d340d5a99469-dirty"),
            "d97d316a63-dirty"
        );
        assert_eq!(commit("d97d316"), "d97d316");
        assert_eq!(commit("x\x1b-é"), "x\\x1b-é");
    }

    #[test]
    fn a_hosts_text_cannot_move_the_cursor_and_ends() {
        assert_eq!(line("a\x1b[2Jb\n"), "a\\x1b[2Jb");
        assert!(line(&"x".repeat(100_000)).len() < 2 * LINE_BYTES_MAX);
        let many = "y\n".repeat(1000);
        let shown = lines(&many);
        assert_eq!(shown.len(), LINES_MAX + 1);
        assert_eq!(shown[0], "… 960 earlier lines");
    }
}
