//! Runs a program of the host within a limit of time and of output. A program that is late is killed
//! with everything that it started.

use std::io::{Read, Write as _};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};

use crate::machine::ToolError;

/// How much of the end of a program's output is kept, in bytes.
pub const OUTPUT_BYTES_MAX: usize = 16 << 10;

/// The pause between two looks whether a program has ended: short at first, for most end at once.
const LOOK_FIRST: Duration = Duration::from_millis(2);

/// The longest pause between two looks.
const LOOK_LATEST: Duration = Duration::from_millis(50);

/// How often whoever waits is told the latest line: often enough to show that something happens.
pub const TELL_EVERY: Duration = Duration::from_secs(2);

/// How long the last output of an ended program is waited for: what it started may keep its pipes.
const OUTPUT_WAIT: Duration = Duration::from_millis(500);

/// How much is read from a pipe at once, in bytes.
const PIECE_BYTES: usize = 4096;

/// The only variables that a program gets.
const ENVIRONMENT: [(&str, &str); 2] = [
    (
        "PATH",
        "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    ),
    ("LC_ALL", "C.UTF-8"),
];

/// A program with its arguments, and what bounds it.
#[derive(Debug, Clone)]
pub struct Program {
    argv: Vec<String>,
    limit: Duration,
    input: Vec<u8>,
    folder: Option<std::path::PathBuf>,
    output_bytes_max: usize,
}

/// How a program ended, with the ends of what it wrote.
#[derive(Debug)]
pub struct Ended {
    /// Its status.
    pub status: ExitStatus,
    /// What it wrote to its standard output; untrusted.
    pub stdout: String,
    /// What it wrote to its standard error; untrusted.
    pub stderr: String,
}

impl Program {
    /// A program, by its name and arguments, that has `limit` to end.
    pub fn new<S: AsRef<str>>(argv: &[S], limit: Duration) -> Self {
        Self {
            argv: argv.iter().map(|part| part.as_ref().to_owned()).collect(),
            limit,
            input: Vec::new(),
            folder: None,
            output_bytes_max: OUTPUT_BYTES_MAX,
        }
    }

    /// Gives it something to read. At most what a pipe holds (64 KiB) is certain to arrive.
    pub fn input(mut self, input: &str) -> Self {
        self.input = input.as_bytes().to_vec();
        self
    }

    /// Lets it run in a folder instead of `/`.
    pub fn folder(mut self, folder: impl Into<std::path::PathBuf>) -> Self {
        self.folder = Some(folder.into());
        self
    }

    /// Keeps more of its output than [`OUTPUT_BYTES_MAX`].
    pub fn output_bytes_max(mut self, bytes: usize) -> Self {
        self.output_bytes_max = bytes;
        self
    }

    /// The command line, for messages.
    pub fn shown(&self) -> String {
        self.argv.join(" ")
    }

    /// Runs it to its end, whatever its status says.
    pub fn run(&self) -> Result<Ended, ToolError> {
        self.run_telling(&mut |_| {})
    }

    /// The same, and tells the latest line of its output every [`TELL_EVERY`].
    pub fn run_telling(&self, tell: &mut dyn FnMut(&str)) -> Result<Ended, ToolError> {
        let missing = |why: &dyn std::fmt::Display| ToolError::Missing {
            tool: self.shown(),
            why: why.to_string(),
        };
        let (name, arguments) = self
            .argv
            .split_first()
            .ok_or_else(|| missing(&"no program"))?;
        let stdin = if self.input.is_empty() {
            Stdio::null()
        } else {
            Stdio::piped()
        };
        let mut child = Command::new(name)
            .args(arguments)
            .env_clear()
            .envs(ENVIRONMENT)
            .current_dir(self.folder.as_deref().unwrap_or(std::path::Path::new("/")))
            .stdin(stdin)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()
            .map_err(|error| missing(&error))?;
        let latest = Latest::default();
        let keep = (self.output_bytes_max, latest.clone());
        let stdout = keep_the_end(child.stdout.take(), keep.clone());
        let stderr = keep_the_end(child.stderr.take(), keep);
        if let Some(mut stdin) = child.stdin.take() {
            // A program that does not want its input says why by its status.
            let _ = stdin.write_all(&self.input);
        }
        let status = self.wait(&mut child, &mut || tell(&latest.line()))?;
        Ok(Ended {
            status,
            stdout: text(&stdout),
            stderr: text(&stderr),
        })
    }

    /// Runs it; any status but 0 is an error that holds what it printed.
    pub fn succeed(&self) -> Result<Ended, ToolError> {
        let ended = self.run()?;
        if ended.status.success() {
            return Ok(ended);
        }
        Err(ToolError::Failed {
            tool: self.shown(),
            output: ended.said(),
        })
    }

    fn wait(&self, child: &mut Child, tell: &mut dyn FnMut()) -> Result<ExitStatus, ToolError> {
        let started = Instant::now();
        let mut told = started;
        let mut pause = LOOK_FIRST;
        loop {
            let ended = child.try_wait().map_err(|error| ToolError::Missing {
                tool: self.shown(),
                why: error.to_string(),
            })?;
            if let Some(status) = ended {
                return Ok(status);
            }
            if started.elapsed() >= self.limit {
                kill(child);
                return Err(ToolError::Late {
                    tool: self.shown(),
                    seconds: self.limit.as_secs(),
                });
            }
            if told.elapsed() >= TELL_EVERY {
                told = Instant::now();
                tell();
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(LOOK_LATEST);
        }
    }
}

impl Ended {
    /// What it printed, or at least its status.
    pub fn said(&self) -> String {
        let said = format!("{}{}", self.stdout, self.stderr);
        match said.trim() {
            "" => self.status.to_string(),
            said => said.to_owned(),
        }
    }
}

fn kill(child: &mut Child) {
    if let Some(group) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
        // It may have ended in between; then there is nothing to kill.
        let _ = kill_process_group(group, Signal::KILL);
    }
    let _ = child.wait();
}

/// The latest line of a program's output, while it runs.
#[derive(Debug, Clone, Default)]
struct Latest(Arc<Mutex<Vec<u8>>>);

impl Latest {
    /// The last line that is not empty, of what came latest.
    fn line(&self) -> String {
        let bytes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let text = String::from_utf8_lossy(&bytes);
        let last = text.split(['\n', '\r']).rev().map(str::trim);
        last.into_iter()
            .find(|line| !line.is_empty())
            .unwrap_or_default()
            .to_owned()
    }

    fn set(&self, piece: &[u8]) {
        if piece.iter().any(|byte| !byte.is_ascii_whitespace()) {
            let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            kept.clear();
            kept.extend_from_slice(piece);
        }
    }
}

/// Reads in a thread of its own, so that a program never waits for room in its pipe.
fn keep_the_end<R: Read + Send + 'static>(
    pipe: Option<R>,
    (bytes_max, latest): (usize, Latest),
) -> Receiver<Vec<u8>> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        let mut kept = Vec::new();
        let mut piece = [0; PIECE_BYTES];
        if let Some(mut pipe) = pipe {
            while let Ok(read @ 1..) = pipe.read(&mut piece) {
                kept.extend(&piece[..read]);
                latest.set(&piece[..read]);
                if kept.len() > bytes_max * 2 {
                    kept.drain(..kept.len() - bytes_max);
                }
            }
        }
        kept.drain(..kept.len().saturating_sub(bytes_max));
        // Nobody listens any more when the program was late.
        let _ = sender.send(kept);
    });
    receiver
}

fn text(output: &Receiver<Vec<u8>>) -> String {
    let bytes = output.recv_timeout(OUTPUT_WAIT).unwrap_or_default();
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(10);

    #[test]
    fn a_program_that_is_late_is_killed_with_what_it_started() {
        let started = Instant::now();
        let late = Program::new(&["setpriv", "sleep", "60"], Duration::from_millis(100)).run();
        assert!(matches!(late, Err(ToolError::Late { .. })), "{late:?}");
        assert!(started.elapsed() < LIMIT);
    }

    #[test]
    fn endless_output_is_bounded_and_its_end_is_kept() {
        let ended = Program::new(&["seq", "200000"], LIMIT).succeed().unwrap();
        assert!(ended.stdout.len() <= OUTPUT_BYTES_MAX);
        assert!(ended.stdout.ends_with("199999\n200000\n"));
    }

    #[test]
    fn arguments_are_not_read_by_a_shell_and_the_environment_is_not_inherited() {
        let said = Program::new(&["printf", "%s", "$HOME; `id`"], LIMIT)
            .succeed()
            .unwrap()
            .stdout;
        assert_eq!(said, "$HOME; `id`");
        let said = Program::new(&["env"], LIMIT).succeed().unwrap().stdout;
        assert_eq!(said.lines().count(), ENVIRONMENT.len(), "{said}");
    }

    #[test]
    fn a_failure_says_what_the_program_printed() {
        let failed = Program::new(&["ls", "--", "/no/such/file"], LIMIT).succeed();
        assert!(
            matches!(failed, Err(ToolError::Failed { output, .. }) if output.contains("No such file"))
        );
        let missing = Program::new(&["no-such-program"], LIMIT).run();
        assert!(matches!(missing, Err(ToolError::Missing { .. })));
    }

    #[test]
    fn input_arrives() {
        let said = Program::new(&["cat"], LIMIT)
            .input("add table inet push\n")
            .succeed()
            .unwrap();
        assert_eq!(said.stdout, "add table inet push\n");
    }
}
