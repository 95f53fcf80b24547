//! The two streams, and the rule that nothing is written in the middle of a live line.

use std::io::{IsTerminal, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
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
    /// Why the answer was not written, where its reader has not gone but, say, the disk is full.
    lost: Option<String>,
}

impl Streams {
    /// The answer ends here, and nothing more of it is written.
    fn end(&mut self, error: &std::io::Error) {
        self.out = None;
        // Whoever pipes into `head` has what they wanted.
        if error.kind() != std::io::ErrorKind::BrokenPipe {
            self.lost = Some(error.to_string());
        }
    }
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
            lost: None,
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
            self.write_out(text);
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
            self.write_out(&format!("{line}\n"));
        }
    }

    /// A text that is the same for people and programs, such as a schema or a completion script.
    pub fn document(&self, text: &str) {
        self.write_out(text);
    }

    /// Bytes that must arrive as they are, such as an opened secret that somebody asked for. A terminal
    /// gets what the caller has found to be plain.
    pub fn exact(&self, bytes: &[u8]) {
        self.live.suspend(|| {
            let mut out = std::io::stdout().lock();
            if let Err(error) = out.write_all(bytes).and_then(|()| out.flush()) {
                self.streams().end(&error);
            }
        });
    }

    /// Why the answer, or a part of it, was not written; `None` when it was, or its reader wanted no more.
    pub fn lost(&self) -> Option<String> {
        self.streams().lost.clone()
    }

    /// Whether the answer still has a reader.
    pub fn is_heard(&self) -> bool {
        self.streams().out.is_some()
    }

    /// Something beside the answer that a person should see while it goes on.
    pub fn say(&self, text: &str) {
        if self.verbosity >= Verbosity::Normal && self.form == Form::Text {
            self.warn(text);
        }
    }

    /// Something that must be seen whatever was asked for.
    pub fn warn(&self, text: &str) {
        self.live.suspend(|| {
            let mut streams = self.streams();
            if let Some(err) = &mut streams.err
                && write(err, text).is_err()
            {
                // There is nobody left to tell it to.
                streams.err = None;
            }
        });
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

    fn write_out(&self, text: &str) {
        self.live.suspend(|| {
            let mut streams = self.streams();
            if let Some(out) = &mut streams.out
                && let Err(error) = write(out, text)
            {
                streams.end(&error);
            }
        });
    }

    fn streams(&self) -> MutexGuard<'_, Streams> {
        self.streams.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn write(stream: &mut impl Write, text: &str) -> std::io::Result<()> {
    stream.write_all(text.as_bytes())?;
    stream.flush()
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
            lost: None,
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
        assert_eq!(report.lost(), None);
    }

    struct Full;

    impl Write for Full {
        fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
            Err(std::io::ErrorKind::StorageFull.into())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn an_answer_that_cannot_be_written_is_not_forgotten() {
        let (report, _, _) = Report::for_test(Form::Text, Motion::Plain);
        report.streams.lock().unwrap().out = Some(Box::new(Full));
        report.answer("a plan\n");
        assert_eq!(report.lost().as_deref(), Some("no storage space"));
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
