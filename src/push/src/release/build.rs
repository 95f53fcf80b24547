//! The operator's build command, run once a push for each app.

use std::collections::VecDeque;
use std::io::{self, BufRead as _, BufReader, PipeReader, Read as _};
use std::path::Path;
use std::process::{Child, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use super::ReleaseError;
use crate::child;
use crate::inventory::Build;
use crate::name::AppName;

/// How long a build may take.
pub const BUILD_TIME_MAX: Duration = Duration::from_secs(2 * 60 * 60);

/// How long more output is awaited after the command has ended: something it left running (a
/// compiler's daemon) may hold the pipe open for ever.
const DRAIN_TIME: Duration = Duration::from_millis(500);

/// How long output is passed on after that, where what was left running goes on talking.
const DRAIN_TIME_MAX: Duration = Duration::from_secs(5);

/// How often the command is asked whether it has ended.
const POLL_TIME: Duration = Duration::from_millis(50);

/// The longest line that is passed on, in bytes.
const LINE_BYTES_MAX: u64 = 8 << 10;

/// How many lines may wait to be shown.
const LINES_AHEAD: usize = 1000;

/// How many lines of a failed build its error shows.
const TAIL_LINES: usize = 20;

/// Runs `command` in the project's folder by `sh -c`: it is the operator's own text, and this is
/// the one place where a shell reads anything. The environment is passed on as it is. Standard
/// output and standard error go to `line`, line by line, in the order in which they came.
///
/// It stays in the terminal's process group, so that an interrupt reaches it as well; what it started
/// is found by descent where it has to be killed.
pub fn build(
    app: &AppName,
    command: &Build,
    project: &Path,
    line: &mut dyn FnMut(&str),
) -> Result<(), ReleaseError> {
    let failed = |ended: String, tail: &VecDeque<String>| ReleaseError::Build {
        app: app.clone(),
        ended,
        tail: tail.iter().cloned().collect::<Vec<_>>().join("\n"),
    };
    let mut tail = VecDeque::new();
    let (mut child, lines) = match start(command, project) {
        Ok(started) => started,
        Err(error) => return Err(failed(format!("could not be started: {error}"), &tail)),
    };
    let mut keep = |text: String| {
        line(&text);
        if tail.len() == TAIL_LINES {
            tail.pop_front();
        }
        tail.push_back(text);
    };
    let deadline = Instant::now() + BUILD_TIME_MAX;
    let ended = watch(&mut child, &lines, deadline, &mut keep);
    match ended {
        Ok(Some(status)) if status.success() => Ok(()),
        Ok(Some(status)) => Err(failed(format!("ended with {status}"), &tail)),
        Ok(None) => Err(failed(
            "took longer than 2 hours and was killed".into(),
            &tail,
        )),
        Err(error) => Err(failed(format!("could not be awaited: {error}"), &tail)),
    }
}

fn start(command: &Build, project: &Path) -> io::Result<(Child, Receiver<String>)> {
    let (reader, writer) = io::pipe()?;
    let child = child::command("/bin/sh")
        .args(["-c", &command.0])
        .current_dir(project)
        .stdin(Stdio::null())
        .stdout(writer.try_clone()?)
        .stderr(writer)
        .spawn()?;
    let (sender, receiver) = sync_channel(LINES_AHEAD);
    thread::spawn(move || forward(reader, &sender));
    Ok((child, receiver))
}

/// Ends with the pipe, or when nobody listens any more.
fn forward(reader: PipeReader, sender: &SyncSender<String>) {
    let mut reader = BufReader::new(reader);
    loop {
        let mut bytes = Vec::new();
        let read = reader
            .by_ref()
            .take(LINE_BYTES_MAX)
            .read_until(b'\n', &mut bytes);
        let text = String::from_utf8_lossy(&bytes);
        let text = text.trim_end_matches(['\n', '\r']).to_owned();
        if !matches!(read, Ok(1..)) || sender.send(text).is_err() {
            return;
        }
    }
}

/// Passes lines on until the command has ended; `None` when it took too long and was killed. One that
/// talks without a pause is looked at after each line.
fn watch(
    child: &mut Child,
    lines: &Receiver<String>,
    deadline: Instant,
    keep: &mut dyn FnMut(String),
) -> io::Result<Option<ExitStatus>> {
    let status = loop {
        match lines.recv_timeout(POLL_TIME) {
            Ok(text) => keep(text),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => thread::sleep(POLL_TIME),
        }
        if let Some(status) = child.try_wait()? {
            break Some(status);
        }
        if Instant::now() > deadline {
            child::end(child)?;
            break None;
        }
    };
    let drained = Instant::now() + DRAIN_TIME_MAX;
    while Instant::now() < drained
        && let Ok(text) = lines.recv_timeout(DRAIN_TIME)
    {
        keep(text);
    }
    Ok(status)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How a command ended that had `time`, what it said, and the lines that may still come.
    fn watched(command: &str, time: Duration) -> (Option<ExitStatus>, usize, Receiver<String>) {
        let folder = tempfile::tempdir().unwrap();
        let (mut child, lines) = start(&Build(command.into()), folder.path()).unwrap();
        let (deadline, mut said) = (Instant::now() + time, 0);
        let ended = watch(&mut child, &lines, deadline, &mut |_| said += 1).unwrap();
        (ended, said, lines)
    }

    #[test]
    fn a_build_that_never_stops_talking_is_killed_at_its_deadline() {
        let begun = Instant::now();
        let (ended, said, _) = watched("yes", Duration::from_millis(300));
        assert!(ended.is_none() && said > 0, "{ended:?}, {said} lines");
        assert!(begun.elapsed() < Duration::from_secs(60));
    }

    #[test]
    fn a_build_that_leaves_something_talking_behind_has_ended() {
        let begun = Instant::now();
        let (ended, said, _) = watched("yes & echo $!", Duration::from_secs(60));
        assert!(ended.is_some_and(|status| status.success()) && said > 0);
        assert!(begun.elapsed() < Duration::from_secs(60));
    }

    #[test]
    fn a_build_that_is_killed_takes_with_it_what_it_started() {
        let command = "(sleep 300 & sleep 300) & sleep 300";
        let (ended, _, lines) = watched(command, Duration::from_millis(300));
        assert!(ended.is_none());
        // The pipe is open for as long as any of them lives.
        let end = lines.recv_timeout(Duration::from_secs(60));
        assert_eq!(end, Err(RecvTimeoutError::Disconnected));
    }
}
