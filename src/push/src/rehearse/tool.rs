//! The only way this module runs a program: an argv, never shell text; a deadline; a cap on what
//! is kept of its output. Knows nothing of what the programs are for.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io::{self, Read};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use super::error::{Error, IoExt};
use crate::child;

/// How long a program of the laptop may take when nothing else is said. All of them answer in
/// milliseconds; this is for a machine under load.
const WITHIN_DEFAULT: Duration = Duration::from_secs(20);

/// How much is kept of each of stdout and stderr, in bytes. The rest is read and dropped.
const OUTPUT_BYTES_MAX: usize = 8 * 1024 * 1024;

/// How long after its end a program's output is waited for, in case a child of it holds the pipe.
const OUTPUT_GRACE: Duration = Duration::from_secs(1);

/// How often an ending is looked for.
const POLL: Duration = Duration::from_millis(5);

/// Where administrators' programs live that a plain user's `PATH` lacks.
const SYSTEM_DIRS: [&str; 4] = ["/usr/sbin", "/sbin", "/usr/bin", "/bin"];

/// What a program left behind.
#[derive(Debug, Clone)]
pub struct Finished {
    /// How it ended.
    pub status: ExitStatus,
    /// What it wrote to stdout, up to a cap.
    pub stdout: String,
    /// What it wrote to stderr, up to a cap.
    pub stderr: String,
}

impl Finished {
    /// Whether it ended with status 0.
    pub fn is_success(&self) -> bool {
        self.status.success()
    }
}

/// A program about to be run.
pub(super) struct Tool {
    program: OsString,
    args: Vec<OsString>,
    envs: Vec<(&'static str, OsString)>,
    input: Option<Vec<u8>>,
    within: Duration,
}

impl Tool {
    pub fn named(program: impl AsRef<OsStr>) -> Self {
        Self {
            program: program.as_ref().to_owned(),
            args: Vec::new(),
            envs: Vec::new(),
            input: None,
            within: WITHIN_DEFAULT,
        }
    }

    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.args.push(arg.as_ref().to_owned());
        self
    }

    pub fn args<A: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        self.args
            .extend(args.into_iter().map(|arg| arg.as_ref().to_owned()));
        self
    }

    pub fn env(mut self, name: &'static str, value: impl Into<OsString>) -> Self {
        self.envs.push((name, value.into()));
        self
    }

    pub fn input(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.input = Some(bytes.into());
        self
    }

    pub fn within(mut self, limit: Duration) -> Self {
        self.within = limit;
        self
    }

    /// Runs it and returns what it wrote to stdout; any status but 0 is an error.
    pub fn succeed(self) -> Result<String, Error> {
        let shown = self.to_string();
        let finished = self.run()?;
        if finished.is_success() {
            return Ok(finished.stdout);
        }
        Err(Error::ToolFailed {
            command: shown,
            status: describe(finished.status),
            stderr: last_lines(&finished.stderr),
        })
    }

    /// Runs it to its end, or kills it and everything it started at the deadline.
    pub fn run(self) -> Result<Finished, Error> {
        let shown = self.to_string();
        let mut child = self.spawn()?;
        let stdout = collect(child.stdout.take());
        let stderr = collect(child.stderr.take());
        feed(&mut child, self.input);
        let deadline = Instant::now() + self.within;
        let status = match wait(&mut child, deadline) {
            Ok(Some(status)) => status,
            Ok(None) => {
                stop(&mut child);
                return Err(Error::ToolTimedOut {
                    command: shown,
                    limit_s: self.within.as_secs(),
                    stderr: last_lines(&received(&stderr)),
                });
            }
            Err(source) => return Err(source).doing("waiting for", Path::new(&self.program)),
        };
        Ok(Finished {
            status,
            stdout: received(&stdout),
            stderr: received(&stderr),
        })
    }

    fn spawn(&self) -> Result<Child, Error> {
        let program = find(&self.program).ok_or_else(|| Error::ToolMissing {
            program: self.program.to_string_lossy().into_owned(),
        })?;
        child::command(&program)
            .args(&self.args)
            .envs(self.envs.iter().map(|(name, value)| (name, value)))
            .stdin(match self.input {
                Some(_) => Stdio::piped(),
                None => Stdio::null(),
            })
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // Its own group, so that a Ctrl-C at the terminal reaches the caller first, who cleans
            // up, and so that a deadline ends what it started too.
            .process_group(0)
            .spawn()
            .doing("starting", &program)
    }
}

impl fmt::Display for Tool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.program.to_string_lossy())?;
        self.args
            .iter()
            .try_for_each(|arg| write!(f, " {}", arg.to_string_lossy()))
    }
}

/// Finds a program in `PATH`, then in the system's own folders.
pub(super) fn find(program: &OsStr) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(SYSTEM_DIRS.map(PathBuf::from))
        .map(|dir| dir.join(program))
        .find(|file| file.is_file())
}

/// Waits for an ending until the deadline; `None` when it has not come.
pub(super) fn wait(child: &mut Child, deadline: Instant) -> io::Result<Option<ExitStatus>> {
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if Instant::now() >= deadline {
            return Ok(None);
        }
        std::thread::sleep(POLL);
    }
}

/// An exit status in words.
pub(super) fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("status {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => "an unknown status".to_owned(),
    }
}

/// The end of a text, where programs say what went wrong; control characters made visible.
pub(super) fn last_lines(text: &str) -> String {
    const LINES_MAX: usize = 12;
    let lines: Vec<&str> = text.trim_end().lines().collect();
    lines[lines.len().saturating_sub(LINES_MAX)..]
        .iter()
        .map(|line| line.escape_debug().to_string().replace("\\\"", "\""))
        .collect::<Vec<_>>()
        .join("\n")
}

fn stop(child: &mut Child) {
    let group = i32::try_from(child.id())
        .ok()
        .and_then(rustix::process::Pid::from_raw);
    if let Some(group) = group {
        // It may have ended by itself meanwhile: then there is no such group, which is what we want.
        let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
    }
    // After SIGKILL the only thing left is to reap it; failing that it is already reaped.
    let _ = child.wait();
}

fn feed(child: &mut Child, input: Option<Vec<u8>>) {
    if let (Some(mut stdin), Some(bytes)) = (child.stdin.take(), input) {
        // A program that ends without reading its input says so by its status, not here.
        std::thread::spawn(move || io::Write::write_all(&mut stdin, &bytes));
    }
}

fn collect(pipe: Option<impl Read + Send + 'static>) -> Receiver<Vec<u8>> {
    let (sender, receiver) = channel();
    if let Some(mut pipe) = pipe {
        std::thread::spawn(move || {
            let mut chunk = [0; 16 * 1024];
            let mut kept = 0;
            while let Ok(length @ 1..) = pipe.read(&mut chunk) {
                let keep = length.min(OUTPUT_BYTES_MAX - kept);
                kept += keep;
                // The receiver is gone once nobody asks any more; reading on keeps the pipe empty.
                let _ = sender.send(chunk[..keep].to_vec());
            }
        });
    }
    receiver
}

fn received(chunks: &Receiver<Vec<u8>>) -> String {
    let deadline = Instant::now() + OUTPUT_GRACE;
    let mut bytes = Vec::new();
    while let Ok(chunk) = chunks.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
        bytes.extend(chunk);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_program_says_and_how_it_ended_is_kept() {
        let finished = Tool::named("sh")
            .args(["-c", "cat; echo told >&2; exit 3"])
            .input("heard")
            .run()
            .unwrap();
        assert_eq!(finished.status.code(), Some(3));
        assert_eq!(finished.stdout, "heard");
        assert_eq!(finished.stderr, "told\n");
    }

    #[test]
    fn a_program_past_its_deadline_is_killed_with_what_it_started() {
        let begun = Instant::now();
        let error = Tool::named("sh")
            .args(["-c", "sleep 30 & echo begun >&2; sleep 30"])
            .within(Duration::from_millis(200))
            .run()
            .unwrap_err();
        assert!(begun.elapsed() < Duration::from_secs(20));
        assert!(matches!(error, Error::ToolTimedOut { stderr, .. } if stderr == "begun"));
    }

    #[test]
    fn a_child_that_keeps_the_pipe_open_does_not_hold_us() {
        let begun = Instant::now();
        let finished = Tool::named("sh")
            .args(["-c", "sleep 60 & echo done"])
            .run()
            .unwrap();
        assert_eq!(finished.stdout, "done\n");
        assert!(begun.elapsed() < Duration::from_secs(20));
    }

    #[test]
    fn a_missing_program_is_named() {
        let error = Tool::named("no-such-program-at-all").run().unwrap_err();
        assert!(error.to_string().contains("no-such-program-at-all"));
    }

    #[test]
    fn a_failure_shows_the_end_of_what_was_said_without_control_characters() {
        let error = Tool::named("sh")
            .args(["-c", "printf 'one\\n\\033[31mtwo\\n' >&2; exit 1"])
            .succeed()
            .unwrap_err()
            .to_string();
        assert!(error.contains("\\u{1b}[31mtwo"), "{error}");
        assert!(error.contains("status 1"), "{error}");
    }
}
