//! Where `tracing` goes under `-v`: to stderr, between the live lines, one line an event with its time.
//!
//! Only this program's own events can be made loud. The SSH library and everything else stay at
//! warnings whatever is asked for, since their traces show what passes over the connection. Whatever
//! an event holds is made visible here, so that a host's words cannot move the cursor.

use std::fmt;
use std::io::{self, Write};

use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, MakeWriter};
use tracing_subscriber::registry::LookupSpan;

use super::screen::{Report, Verbosity};
use crate::visible::escape;

/// The most bytes of one line that are shown.
const LINE_BYTES_MAX: usize = 2000;

/// Starts telling. A second call changes nothing.
pub fn install(report: &Report) {
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::new(filter(report.verbosity())))
        .with_writer(Lines(report.clone()))
        .with_ansi(false)
        .event_format(Plain);
    // An error only says that somebody else, a test for example, has installed one before.
    let _ = subscriber.try_init();
}

fn filter(verbosity: Verbosity) -> &'static str {
    match verbosity {
        Verbosity::Quiet => "off",
        Verbosity::Normal => "off,push=warn",
        Verbosity::Info => "warn,push=info",
        Verbosity::Debug => "warn,push=debug",
        Verbosity::Trace => "warn,push=trace,push_wire=trace",
    }
}

/// What an event says and nothing around it: the time and the escaping are the line's.
struct Plain;

impl<S, N> FormatEvent<S, N> for Plain
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        context
            .field_format()
            .format_fields(writer.by_ref(), event)?;
        writeln!(writer)
    }
}

struct Lines(Report);

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Line;

    fn make_writer(&'a self) -> Line {
        Line {
            report: self.0.clone(),
            weight: "",
            bytes: Vec::new(),
        }
    }

    fn make_writer_for(&'a self, metadata: &Metadata<'_>) -> Line {
        let mut line = self.make_writer();
        line.weight = match *metadata.level() {
            Level::ERROR => "error: ",
            Level::WARN => "warning: ",
            _ => "",
        };
        line
    }
}

/// One event; written as a whole when it is complete.
struct Line {
    report: Report,
    /// What stands before an event that is more than a detail.
    weight: &'static str,
    bytes: Vec<u8>,
}

impl Line {
    /// The event in lines that are safe to show; with its time where times are told.
    fn text(&self) -> String {
        let lines: Vec<String> = self
            .bytes
            .trim_ascii_end()
            .split(|byte| *byte == b'\n')
            .map(|line| escape(line, LINE_BYTES_MAX))
            .collect();
        let text = format!("{}{}", self.weight, lines.join("\n  "));
        if self.report.tells_details() {
            format!("{} {text}\n", self.report.stamp())
        } else {
            format!("{text}\n")
        }
    }
}

impl Write for Line {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.report.warn(&self.text());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::screen::{Form, Motion};

    #[test]
    fn no_verbosity_makes_the_ssh_library_loud() {
        for verbosity in [
            Verbosity::Quiet,
            Verbosity::Normal,
            Verbosity::Info,
            Verbosity::Debug,
            Verbosity::Trace,
        ] {
            for part in filter(verbosity)
                .split(',')
                .filter(|part| !part.starts_with("push"))
            {
                assert!(matches!(part, "off" | "warn"), "{verbosity:?}: {part}");
            }
        }
    }

    #[test]
    fn an_event_is_a_line_that_cannot_move_the_cursor() {
        let (report, _, err) = Report::for_test(Form::Text, Motion::Plain);
        let subscriber = tracing_subscriber::fmt()
            .with_writer(Lines(report))
            .with_ansi(false)
            .event_format(Plain)
            .finish();
        tracing::subscriber::with_default(subscriber, || {
            tracing::info!("web1: it says {}", "a\x1b[2Jb\u{202e}");
            tracing::warn!("one\ntwo");
        });
        assert_eq!(
            err.plain(),
            "web1: it says a\\x1b[2Jb\\u{202e}\nwarning: one\n  two\n"
        );
    }
}
