//! A part of a host's log.

use push_wire::log::{Excerpt, Source};

use super::foreign;
use super::style::{QUIET, TITLE, paint};
use super::text::Text;

/// The lines, each behind its host's name where there are several hosts, `width` columns wide.
pub fn lines(host: &str, width: Option<usize>, excerpt: &Excerpt) -> String {
    let name = width.map(|width| format!("{}  ", paint(TITLE, format!("{host:width$}"))));
    let name = name.unwrap_or_default();
    let mut text = Text::new();
    if excerpt.is_cut {
        let note = "… what came before was too much to send";
        text.line(format!("{name}{}", paint(QUIET, note)));
    }
    for line in &excerpt.lines {
        text.line(format!("{name}{}", foreign::line(line)));
    }
    text.finish()
}

/// Why nothing of a host's log is shown.
pub fn nothing(host: &str, asked: &Source) -> String {
    match asked {
        Source::Push => format!("{host}: the log holds nothing of push's\n"),
        Source::Units(units) if units.is_empty() => {
            format!("{host}: nothing that was asked for has a unit there\n")
        }
        Source::Units(units) => {
            let units: Vec<&str> = units.iter().map(AsRef::as_ref).collect();
            format!("{host}: the log holds nothing of {}\n", units.join(", "))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(width: Option<usize>, excerpt: &Excerpt) -> String {
        anstream::adapter::strip_str(&lines("web1", width, excerpt)).to_string()
    }

    #[test]
    fn a_line_is_shown_escaped_and_behind_its_host_where_there_are_several() {
        let mut excerpt = Excerpt {
            lines: vec!["10:00 h api[1]: \u{1b}[31mred".to_owned()],
            ..Excerpt::default()
        };
        assert_eq!(said(None, &excerpt), "10:00 h api[1]: \\x1b[31mred\n");
        excerpt.is_cut = true;
        assert_eq!(
            said(Some(6), &excerpt),
            "web1    … what came before was too much to send\nweb1    10:00 h api[1]: \\x1b[31mred\n"
        );
    }

    #[test]
    fn why_nothing_is_shown_is_said() {
        let units = Source::Units(["api.service".parse().unwrap()].into());
        assert_eq!(
            nothing("web1", &units),
            "web1: the log holds nothing of api.service\n"
        );
        let none = Source::Units([].into());
        assert!(nothing("web1", &none).contains("nothing that was asked for has a unit"));
        assert!(nothing("web1", &Source::Push).contains("push's"));
    }
}
