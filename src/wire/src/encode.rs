//! Typed encoders for values that go into units, environment files and nginx configurations.
//!
//! `systemd-analyze verify` and `nginx -t` pass an injected line, so nothing but these functions
//! stands between a value and a directive. Each is exact: what the program reads back is the input,
//! or the input is refused.

use std::fmt::Write as _;

/// A value that a format has no spelling for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{found:?} cannot be written in {place}: {why}")]
pub struct EncodeError {
    /// The character that has no spelling.
    pub found: char,
    /// The format.
    pub place: &'static str,
    /// The reason.
    pub why: &'static str,
}

/// One word of an `Exec…=` line: quoted, specifiers (`%`) and variables (`$`) made literal.
/// Source: systemd.service(5), "COMMAND LINES"; systemd.syntax(7), "QUOTING".
pub fn systemd_exec_word(word: &str) -> Result<String, EncodeError> {
    quoted(word, "a unit's command line", |c| match c {
        '%' => Some("%%"),
        '$' => Some("$$"),
        _ => None,
    })
}

/// One word of any other unit directive that takes quoted words, such as a path or a condition.
/// Source: systemd.syntax(7), "QUOTING"; systemd.unit(5), "SPECIFIERS".
pub fn systemd_word(word: &str) -> Result<String, EncodeError> {
    quoted(word, "a unit", |c| (c == '%').then_some("%%"))
}

/// The assignment of an `Environment=` line. `$` has no meaning there.
/// Source: systemd.exec(5), "Environment=".
pub fn systemd_environment(name: &str, value: &str) -> Result<String, EncodeError> {
    variable_name(name)?;
    systemd_word(&format!("{name}={value}"))
}

/// The rest of a line that systemd takes as it stands (a description): specifiers made literal,
/// line ends, a trailing backslash and blanks at either end refused. Source: systemd.syntax(7).
pub fn systemd_text(text: &str) -> Result<String, EncodeError> {
    let place = "a line of a unit";
    if let Some(found) = text.chars().find(|c| c.is_control()) {
        return Err(EncodeError {
            found,
            place,
            why: "it would end the line",
        });
    }
    if text.ends_with('\\') {
        return Err(EncodeError {
            found: '\\',
            place,
            why: "it would join the next line",
        });
    }
    if text.starts_with(' ') || text.ends_with(' ') {
        return Err(EncodeError {
            found: ' ',
            place,
            why: "systemd would cut off blanks at either end",
        });
    }
    Ok(text.replace('%', "%%"))
}

/// A line of an `EnvironmentFile=`. Line breaks inside the quotes are kept as they are.
/// Source: systemd.exec(5), "EnvironmentFile="; `src/basic/env-file.c` of systemd 252.
pub fn environment_file_line(name: &str, value: &str) -> Result<String, EncodeError> {
    variable_name(name)?;
    let mut line = format!("{name}=\"");
    for c in value.chars() {
        match c {
            '\0' => {
                return Err(EncodeError {
                    found: c,
                    place: "an environment file",
                    why: "no variable can hold it",
                });
            }
            '"' | '\\' | '`' | '$' => line.extend(['\\', c]),
            _ => line.push(c),
        }
    }
    line.push_str("\"\n");
    Ok(line)
}

/// A literal parameter of an nginx directive, quoted. nginx has no escape for `$`, so it is
/// refused. Source: nginx's `ngx_conf_read_token`.
pub fn nginx_word(word: &str) -> Result<String, EncodeError> {
    let place = "an nginx parameter";
    let mut out = String::from("\"");
    for c in word.chars() {
        match c {
            '$' => {
                return Err(EncodeError {
                    found: c,
                    place,
                    why: "nginx would read a variable and has no escape for it",
                });
            }
            c if c.is_control() => {
                return Err(EncodeError {
                    found: c,
                    place,
                    why: "nginx has no spelling for control characters",
                });
            }
            '"' | '\\' => out.extend(['\\', c]),
            _ => out.push(c),
        }
    }
    out.push('"');
    Ok(out)
}

fn variable_name(name: &str) -> Result<(), EncodeError> {
    let fits = |(at, c): (usize, char)| {
        c == '_' || c.is_ascii_alphabetic() || (at > 0 && c.is_ascii_digit())
    };
    let place = "the name of an environment variable";
    if name.is_empty() {
        return Err(EncodeError {
            found: ' ',
            place,
            why: "the name is empty",
        });
    }
    match name.char_indices().find(|&each| !fits(each)) {
        Some((_, found)) => Err(EncodeError {
            found,
            place,
            why: "use letters, digits and '_', not starting with a digit",
        }),
        None => Ok(()),
    }
}

fn quoted(
    word: &str,
    place: &'static str,
    double: impl Fn(char) -> Option<&'static str>,
) -> Result<String, EncodeError> {
    let mut out = String::from("\"");
    for c in word.chars() {
        match c {
            '\0' => {
                return Err(EncodeError {
                    found: c,
                    place,
                    why: "no argument or variable can hold it",
                });
            }
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '\r' => out.push_str("\\r"),
            '"' | '\\' => out.extend(['\\', c]),
            c if c.is_control() => {
                // C1 controls are two bytes in UTF-8; `\x` names bytes.
                for byte in c.to_string().bytes() {
                    // Writing to a String cannot fail.
                    let _ = write!(out, "\\x{byte:02x}");
                }
            }
            c => match double(c) {
                Some(literal) => out.push_str(literal),
                None => out.push(c),
            },
        }
    }
    out.push('"');
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn specifiers_variables_and_quotes_are_literal() {
        assert_eq!(
            systemd_exec_word("a %d \"$HOME\"\\").unwrap(),
            r#""a %%d \"$$HOME\"\\""#
        );
        assert_eq!(
            systemd_environment("X", "100%done\nExecStartPre=/bin/sh").unwrap(),
            r#""X=100%%done\nExecStartPre=/bin/sh""#
        );
        assert_eq!(nginx_word("a; } \"").unwrap(), r#""a; } \"""#);
        assert!(nginx_word("$host").is_err());
        assert!(systemd_text("x\nExecStart=").is_err());
        assert!(systemd_text("x\\").is_err());
        assert!(systemd_text("/srv/x ").is_err());
        assert!(systemd_environment("A B", "").is_err());
    }

    proptest! {
        #[test]
        fn no_encoding_ends_its_line(text in any::<String>()) {
            for encoded in [systemd_exec_word(&text), systemd_word(&text), systemd_text(&text), nginx_word(&text)].into_iter().flatten() {
                prop_assert!(!encoded.contains(['\n', '\r', '\0']));
            }
        }

        #[test]
        fn an_encoded_word_has_no_bare_quote_inside(text in any::<String>()) {
            if let Ok(encoded) = systemd_exec_word(&text) {
                let inside = &encoded[1..encoded.len() - 1];
                let mut escaped = false;
                for c in inside.chars() {
                    prop_assert!(escaped || c != '"');
                    escaped = !escaped && c == '\\';
                }
                prop_assert!(!escaped);
            }
        }
    }
}
