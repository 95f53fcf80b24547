//! Free texts that a service is given: words of its command line, values of its environment.

use std::fmt;
use std::str::FromStr;

use super::address::text;

/// The longest word or value, in bytes: what Linux hands to a program (`MAX_ARG_STRLEN`), less a
/// name and its `=`.
pub const VALUE_BYTES_MAX: usize = 128 * 1024 - 256;

/// Why a text cannot be given to a service.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ValueError {
    /// Longer than [`VALUE_BYTES_MAX`].
    #[error("it is longer than {VALUE_BYTES_MAX} bytes, which no program can be given")]
    TooLong,
    /// A character that systemd does not take.
    #[error("it holds {0:?}, which systemd cannot pass on")]
    Character(char),
}

/// One word of a command line. Anything but control characters, which not every version of systemd
/// carries.
#[derive(Clone, PartialEq, Eq)]
pub struct Word(String);

/// The value of an environment variable. Anything but control characters, of which only tab and
/// line feed are carried.
#[derive(Clone, PartialEq, Eq)]
pub struct EnvValue(String);

impl Word {
    /// The word.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl EnvValue {
    /// The value.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

text!(Word);
text!(EnvValue);

impl FromStr for Word {
    type Err = ValueError;
    fn from_str(text: &str) -> Result<Self, ValueError> {
        check(text, |_| false)?;
        Ok(Self(text.to_owned()))
    }
}

impl FromStr for EnvValue {
    type Err = ValueError;
    fn from_str(text: &str) -> Result<Self, ValueError> {
        // `env_value_is_valid` of systemd: "bash allows tabs and newlines, and so should we".
        check(text, |c| matches!(c, '\t' | '\n'))?;
        Ok(Self(text.to_owned()))
    }
}

fn check(text: &str, admitted: impl Fn(char) -> bool) -> Result<(), ValueError> {
    if text.len() > VALUE_BYTES_MAX {
        return Err(ValueError::TooLong);
    }
    let refused = |c: &char| (c.is_control() && !admitted(*c)) || is_noncharacter(*c);
    match text.chars().find(refused) {
        Some(c) => Err(ValueError::Character(c)),
        None => Ok(()),
    }
}

/// What Unicode will never assign; systemd does not count it as UTF-8 (`unichar_is_valid`).
fn is_noncharacter(c: char) -> bool {
    let code = u32::from(c);
    (0xFDD0..=0xFDEF).contains(&code) || code & 0xFFFE == 0xFFFE
}

/// Why a command line cannot be split into words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SplitError {
    /// A quote that is not closed.
    #[error("a quote is not closed")]
    Quote,
    /// An expression that is not closed.
    #[error("an expression {{ is not closed")]
    Expression,
    /// A backslash outside of single quotes.
    #[error("a backslash means nothing here")]
    Backslash,
    /// Nothing but blanks.
    #[error("it is empty")]
    Empty,
}

/// Splits a command line into words at blanks. Quotes of either kind keep blanks together, and so
/// does an expression: words are split before anything is rendered, so no value can add one.
pub fn split_words(line: &str) -> Result<Vec<String>, SplitError> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut rest = line;
    while let Some(c) = rest.chars().next() {
        let end = match c {
            '{' if rest.starts_with("{{") => rest
                .find("}}")
                .map(|at| at + 2)
                .ok_or(SplitError::Expression)?,
            '{' if rest.starts_with("{%") => rest
                .find("%}")
                .map(|at| at + 2)
                .ok_or(SplitError::Expression)?,
            '\'' | '"' => rest[1..]
                .find(c)
                .map(|at| at + 2)
                .ok_or(SplitError::Quote)?,
            '\\' => return Err(SplitError::Backslash),
            _ => c.len_utf8(),
        };
        let (piece, after) = rest.split_at(end);
        match c {
            ' ' | '\t' | '\n' => words.extend(word.take()),
            '\'' | '"' => word.get_or_insert_default().push_str(&piece[1..end - 1]),
            _ => word.get_or_insert_default().push_str(piece),
        }
        rest = after;
    }
    words.extend(word);
    if words.is_empty() {
        Err(SplitError::Empty)
    } else {
        Ok(words)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_split_before_anything_is_rendered() {
        let split = |line| split_words(line).map(|words| words.join("|"));
        assert_eq!(
            split("/usr/bin/node server.js"),
            Ok("/usr/bin/node|server.js".to_owned())
        );
        assert_eq!(
            split("{{ release.dir }}/api  --x='a b'"),
            Ok("{{ release.dir }}/api|--x=a b".to_owned())
        );
        assert_eq!(split("a \"\" 'b'"), Ok("a||b".to_owned()));
        assert_eq!(
            split("a $HOME; %n"),
            Ok("a|$HOME;|%n".to_owned()),
            "nothing here means anything but itself"
        );
        assert_eq!(split(" \t"), Err(SplitError::Empty));
        assert_eq!(split("a 'b"), Err(SplitError::Quote));
        assert_eq!(split("a {{ b"), Err(SplitError::Expression));
        assert_eq!(split("a\\ b"), Err(SplitError::Backslash));
    }

    #[test]
    fn a_value_is_anything_that_systemd_can_carry() {
        for good in ["", "%d $HOME \"'\\;#", "a\nb\tc", "√ \u{202e}", "\u{2028}"] {
            assert_eq!(good.parse::<EnvValue>().unwrap().as_str(), good);
        }
        for hostile in [
            "\0",
            "\r",
            "\u{1b}[0m",
            "\u{7f}",
            "\u{85}",
            "\u{fffe}",
            "\u{fdd0}",
        ] {
            assert!(hostile.parse::<EnvValue>().is_err(), "{hostile:?}");
            assert!(hostile.parse::<Word>().is_err(), "{hostile:?}");
        }
        assert!("a\nb".parse::<Word>().is_err());
        assert!("a".repeat(VALUE_BYTES_MAX + 1).parse::<EnvValue>().is_err());
    }
}
