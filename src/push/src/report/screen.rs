//! The two streams, and the rule that nothing is written in the middle of a live line.

use std::io::{IsTerminal, Write};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use indicatif::{MultiProgress, ProgressDrawTarget};
use serde::Serialize;

use super::error::Complaint;

/// In which form the answer is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// For people.
    Text,
    /// One JSON value a line, for programs.
    Json,
}

/// How much is told beside the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verbosity {
    /// Errors only.
    Quiet,
    /// What happens, host by host.
    Normal,
    /// And why.
    Info,
    /// And how.
    Debug,
    /// And everything.
    Trace,
}

/// How progress is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Motion {
    /// Lines that change in place.
    Live,
    /// One line for each thing that happens.
    Plain,
    /// Not at all: a program reads the events, or nobody does.
    Silent,
}

/// The voice of one run. Clones speak through the same streams.
#[derive(Clone)]
pub struct Report {
    form: Form,
    verbosity: Verbosity,
    motion: Motion,
    began: Instant,
    live: MultiProgress,
    streams: Arc<Mutex<Streams>>,
}

struct Streams {
    /// `None` once its reader has gone: whoever pipes into `head` wants no more, and the push goes on.
    out: Option<Box<dyn Write + Send>>,
    err: Option<Box<dyn Write + Send>>,
}

impl Report {
    /// Speaks through this process's stdout and stderr.
    pub fn of_process(form: Form, verbosity: Verbosity) -> Self {
        let live = match motion(form, verbosity) {
            Motion::Live => MultiProgress::with_draw_target(ProgressDrawTarget::stderr()),
            Motion::Plain | Motion::Silent => {
                MultiProgress::with_draw_target(ProgressDrawTarget::hidden())
            }
        };
        let streams = Streams {
            out: Some(Box::new(anstream::stdout())),
            err: Some(Box::new(anstream::stderr())),
        };
        Self {
            form,
            verbosity,
            motion: motion(form, verbosity),
            began: Instant::now(),
            live,
            streams: Arc::new(Mutex::new(streams)),
        }
    }

    /// In which form the answer is given.
    pub fn form(&self) -> Form {
        self.form
    }

    /// How much is told.
    pub fn verbosity(&self) -> Verbosity {
        self.verbosity
    }

    /// How progress is shown.
    pub fn motion(&self) -> Motion {
        self.motion
    }

    /// The live lines, for whoever draws them.
    pub(super) fn live(&self) -> &MultiProgress {
        &self.live
    }

    /// The answer, or a part of it, for people. Says nothing when a program reads.
    pub fn answer(&self, text: &str) {
        if self.form == Form::Text {
            self.write(|streams| &mut streams.out, text);
        }
    }

    /// One line of the answer for programs. Says nothing when a person reads.
    pub fn json(&self, value: &impl Serialize) {
        if self.form == Form::Json {
            // Every type given here has text keys and no fallible parts; a failure would be a bug of
            // ours, and a line that says so is better than a line that is missing.
            let line = serde_json::to_string(value).unwrap_or_else(|error| {
                format!("{{\"type\":\"error\",\"message\":{:?}}}", error.to_string())
            });
            self.write(|streams| &mut streams.out, &format!("{line}\n"));
        }
    }

    /// A text that is the same for people and programs, such as a schema or a completion script.
    pub fn document(&self, text: &str) {
        self.write(|streams| &mut streams.out, text);
    }

    /// Bytes that must arrive as they are, such as an opened secret that somebody asked for. A terminal
    /// gets what the caller has found to be plain.
    pub fn exact(&self, bytes: &[u8]) {
        self.live.suspend(|| {
            let mut out = std::io::stdout().lock();
            // A reader that goes away early wanted no more.
            let _ = out.write_all(bytes).and_then(|()| out.flush());
        });
    }

    /// Something beside the answer that a person should see while it goes on.
    pub fn say(&self, text: &str) {
        if self.verbosity >= Verbosity::Normal && self.form == Form::Text {
            self.write(|streams| &mut streams.err, text);
        }
    }

    /// Something that must be seen whatever was asked for.
    pub fn warn(&self, text: &str) {
        self.write(|streams| &mut streams.err, text);
    }

    /// Whether [`Self::detail`] tells.
    pub fn tells_details(&self) -> bool {
        self.verbosity >= Verbosity::Info
    }

    /// One thing that happened, with its time since the start, for whoever looks for a fault.
    pub fn detail(&self, text: &str) {
        if self.tells_details() && self.form == Form::Text {
            self.warn(&format!("{} {text}\n", self.stamp()));
        }
    }

    /// The time since the start, as wide as most of them.
    pub(super) fn stamp(&self) -> String {
        format!("{:>8.3}", self.began.elapsed().as_secs_f64())
    }

    /// Milliseconds since the start.
    pub fn elapsed_ms(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// What stops the program.
    pub fn error(&self, complaint: &Complaint) {
        self.json(&complaint.json());
        self.warn(&complaint.render());
    }

    /// Runs a question to the operator while no live line moves.
    pub fn paused<T>(&self, ask: impl FnOnce() -> T) -> T {
        self.live.suspend(ask)
    }

    fn write(
        &self,
        stream: impl Fn(&mut Streams) -> &mut Option<Box<dyn Write + Send>>,
        text: &str,
    ) {
        self.live.suspend(|| {
            let mut streams = self.streams.lock().unwrap_or_else(PoisonError::into_inner);
            let slot = stream(&mut streams);
            if let Some(open) = slot
                && open
                    .write_all(text.as_bytes())
                    .and_then(|()| open.flush())
                    .is_err()
            {
                *slot = None;
            }
        });
    }
}

impl std::fmt::Debug for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "Report({:?}, {:?}, {:?})",
            self.form, self.verbosity, self.motion
        )
    }
}

fn motion(form: Form, verbosity: Verbosity) -> Motion {
    if form == Form::Json || verbosity == Verbosity::Quiet {
        Motion::Silent
    } else if can_move() {
        Motion::Live
    } else {
        Motion::Plain
    }
}

/// Whether lines can change in place: a terminal that is not a CI job's log.
fn can_move() -> bool {
    let set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    let dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb" || term.is_empty());
    std::io::stderr().is_terminal() && !dumb && !set("CI")
}

/// Whether the answer goes to a terminal, and not into a pipe or a file.
pub fn answers_a_terminal() -> bool {
    std::io::stdout().is_terminal()
}

/// Whether a person sits there who can be asked something.
pub fn can_ask() -> bool {
    std::io::stdin().is_terminal() && std::io::stderr().is_terminal()
}

#[cfg(test)]
impl Report {
    /// A report whose words a test can read.
    pub fn for_test(form: Form, motion: Motion) -> (Self, Heard, Heard) {
        let (out, err) = (Heard::default(), Heard::default());
        let streams = Streams {
            out: Some(Box::new(out.clone())),
            err: Some(Box::new(err.clone())),
        };
        let report = Self {
            form,
            verbosity: Verbosity::Normal,
            motion,
            began: Instant::now(),
            live: MultiProgress::with_draw_target(ProgressDrawTarget::hidden()),
            streams: Arc::new(Mutex::new(streams)),
        };
        (report, out, err)
    }

    /// The same, telling as much as this.
    pub fn telling(self, verbosity: Verbosity) -> Self {
        Self { verbosity, ..self }
    }
}

/// What a test's report has said on one stream.
#[cfg(test)]
#[derive(Clone, Default)]
pub struct Heard(Arc<Mutex<Vec<u8>>>);

#[cfg(test)]
impl Heard {
    /// Everything said so far, without colour.
    pub fn plain(&self) -> String {
        let bytes = self.0.lock().unwrap().clone();
        anstream::adapter::strip_str(&String::from_utf8(bytes).unwrap()).to_string()
    }
}

#[cfg(test)]
impl Write for Heard {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Gone;

    impl Write for Gone {
        fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
            Err(std::io::ErrorKind::BrokenPipe.into())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_reader_that_goes_away_stops_nothing() {
        let (report, _, err) = Report::for_test(Form::Text, Motion::Plain);
        report.streams.lock().unwrap().out = Some(Box::new(Gone));
        report.answer("a plan\n");
        report.answer("and more\n");
        report.say("web1: committed\n");
        assert_eq!(err.plain(), "web1: committed\n");
    }

    #[test]
    fn programs_get_json_lines_and_people_get_text() {
        let (report, out, err) = Report::for_test(Form::Json, Motion::Silent);
        report.answer("for people\n");
        report.say("for people\n");
        report.json(&serde_json::json!({"host": "a\u{1b}b"}));
        assert_eq!(out.plain(), "{\"host\":\"a\\u001bb\"}\n");
        assert_eq!(err.plain(), "");
    }
}
