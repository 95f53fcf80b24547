//! Makes text from outside safe to show on a terminal, in a log or in an error.
//!
//! Whatever a host, a server or a foreign file says passes through [`escape`] before a person
//! sees it, so that nothing can move the cursor, rewrite a line or reverse the reading order.
//! Must not know where the text comes from nor where it goes. To hide one more kind of character,
//! extend `is_hidden` and its test.

use std::fmt::Write;

/// Returns `bytes` as one line of text in which every control character, every character that
/// changes the reading direction and every invalid UTF-8 byte is spelled out (`\x1b`, `\u{202e}`).
///
/// At most `bytes_max` bytes of the input are shown; the rest is counted: `… (17 more bytes)`.
pub fn escape(bytes: &[u8], bytes_max: usize) -> String {
    let shown = &bytes[..bytes.len().min(bytes_max)];
    let mut text = String::with_capacity(shown.len());
    for chunk in shown.utf8_chunks() {
        for character in chunk.valid().chars() {
            push_visible(&mut text, character);
        }
        for byte in chunk.invalid() {
            push_byte(&mut text, *byte);
        }
    }
    let hidden = bytes.len() - shown.len();
    if hidden > 0 {
        let _ = write!(text, "… ({hidden} more bytes)");
    }
    text
}

fn push_visible(text: &mut String, character: char) {
    match u8::try_from(character) {
        // C0, DEL and C1 have one byte each in the notation that people know from terminals.
        Ok(byte) if character.is_control() => push_byte(text, byte),
        _ if is_hidden(character) => {
            let _ = write!(text, "{}", character.escape_unicode());
        }
        _ => text.push(character),
    }
}

fn push_byte(text: &mut String, byte: u8) {
    let _ = write!(text, "\\x{byte:02x}");
}

/// Characters that are not controls and yet change how their neighbours are read.
fn is_hidden(character: char) -> bool {
    matches!(
        character,
        '\u{061c}' | '\u{200b}' | '\u{200e}' | '\u{200f}' // Arabic mark, zero-width space, LRM, RLM
        | '\u{2028}'..='\u{202e}'                         // separators, embeddings and overrides
        | '\u{2060}'..='\u{206f}'                         // invisible operators, isolates
        | '\u{feff}' | '\u{fff9}'..='\u{fffb}'            // byte order mark, interlinear annotation
        | '\u{e0000}'..='\u{e007f}'                       // tags, an alphabet nobody can see
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_text_in_any_script_is_left_alone() {
        assert_eq!(
            escape("größe 文字 ok \\ '".as_bytes(), 100),
            "größe 文字 ok \\ '"
        );
    }

    #[test]
    fn nothing_that_moves_a_cursor_survives() {
        let hostile = b"a\x1b[2J\r\nb\x07\x00\x7f\xc2\x9b31m";
        let shown = escape(hostile, 100);
        assert_eq!(shown, "a\\x1b[2J\\x0d\\x0ab\\x07\\x00\\x7f\\x9b31m");
        assert!(!shown.chars().any(char::is_control));
    }

    #[test]
    fn text_cannot_be_made_to_read_backwards() {
        assert_eq!(
            escape("a\u{202e}txt\u{2066}\u{200f}".as_bytes(), 100),
            "a\\u{202e}txt\\u{2066}\\u{200f}"
        );
    }

    #[test]
    fn invalid_utf8_is_spelled_out_byte_by_byte() {
        assert_eq!(escape(b"ok\xff\xfe\xe2\x82", 100), "ok\\xff\\xfe\\xe2\\x82");
    }

    #[test]
    fn long_text_is_cut_and_says_how_much_is_missing() {
        assert_eq!(escape(&[b'a'; 20], 3), "aaa… (17 more bytes)");
        // A cut in the middle of a character shows its bytes rather than dropping them.
        assert_eq!(escape("aä".as_bytes(), 2), "a\\xc3… (1 more bytes)");
    }
}
