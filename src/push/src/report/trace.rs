//! Where `tracing` goes under `-v`: to stderr, between the live lines.
//!
//! Only this program's own events can be made loud. The SSH library and everything else stay at
//! warnings whatever is asked for, since their traces show what passes over the connection.

use std::io::{self, Write};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

use super::screen::{Report, Verbosity};

/// Starts telling. A second call changes nothing.
pub fn install(report: &Report) {
    let filter = EnvFilter::new(filter(report.verbosity()));
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(Lines(report.clone()))
        .with_ansi(anstream::AutoStream::choice(&io::stderr()) != anstream::ColorChoice::Never)
        .with_target(report.verbosity() >= Verbosity::Debug)
        .without_time();
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

struct Lines(Report);

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Line;
    fn make_writer(&'a self) -> Line {
        Line {
            report: self.0.clone(),
            bytes: Vec::new(),
        }
    }
}

/// One event; written as a whole when it is complete.
struct Line {
    report: Report,
    bytes: Vec<u8>,
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
        self.report.warn(&String::from_utf8_lossy(&self.bytes));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
