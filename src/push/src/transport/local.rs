//! A session with a program on this machine: tests and rehearsals run `push-host` this way.
//!
//! The program's stdin, stdout and stderr are the session. It is killed when it outlives its
//! session by `OUTLIVE_MAX`.

use super::error::Error;
use super::session::{End, FarEnd, Session, Status, Tail};
use crate::child;
use bytes::{Bytes, BytesMut};
use std::ffi::OsStr;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, ChildStdin, Command};
use tokio::sync::mpsc;

/// How long the program may run on once nobody holds its session any more.
const OUTLIVE_MAX: Duration = Duration::from_secs(5);
/// Size of one read, in bytes.
const READ_BYTES: usize = 32 * 1024;

/// Starts `program` with `arguments` and an empty environment except `PATH` and `environment`.
pub fn spawn<A: AsRef<OsStr>>(
    program: &Path,
    arguments: &[A],
    environment: &[(&str, &str)],
) -> Result<Session, Error> {
    let name = program.display().to_string();
    let cannot = |reason: String| Error::Local {
        program: name.clone(),
        reason,
    };
    let mut child = Command::from(child::command(program))
        .args(arguments)
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .envs(environment.iter().copied())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| cannot(error.to_string()))?;
    let pipes = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let (Some(stdin), Some(stdout), Some(stderr)) = pipes else {
        return Err(cannot("its pipes are missing".into()));
    };
    let (
        session,
        FarEnd {
            output,
            input,
            stderr: tail,
            end,
        },
    ) = Session::pair(&name);
    let held = output.clone();
    let mut reading = tokio::spawn(read_output(stdout, output));
    let mut telling = tokio::spawn(read_stderr(stderr, tail));
    let writing = tokio::spawn(write_input(stdin, input));
    tokio::spawn(async move {
        let status = wait(&mut child, held).await;
        writing.abort();
        // A grandchild may hold the pipes open; what is in them by now is all that is waited for.
        let drained = async { tokio::join!(&mut reading, &mut telling) };
        if tokio::time::timeout(OUTLIVE_MAX, drained).await.is_err() {
            reading.abort();
            telling.abort();
        }
        tell(&end, &status);
    });
    Ok(session)
}

/// Waits for the child; once the session's reader is gone, only for a while.
async fn wait(
    child: &mut Child,
    output: mpsc::Sender<Bytes>,
) -> std::io::Result<std::process::ExitStatus> {
    tokio::select! {
        status = child.wait() => return status,
        () = output.closed() => {}
    }
    drop(output);
    if let Ok(status) = tokio::time::timeout(OUTLIVE_MAX, child.wait()).await {
        return status;
    }
    child.start_kill()?;
    child.wait().await
}

fn tell(end: &End, status: &std::io::Result<std::process::ExitStatus>) {
    end.tell(Ok(match status {
        Err(_) => Status::Unknown,
        Ok(status) => match (
            status.code().and_then(|code| u32::try_from(code).ok()),
            status.signal(),
        ) {
            (Some(code), _) => Status::Code(code),
            (None, Some(signal)) => Status::Signal(signal.to_string()),
            (None, None) => Status::Unknown,
        },
    }));
}

async fn read_output(mut stdout: impl AsyncRead + Unpin, output: mpsc::Sender<Bytes>) {
    let mut buffer = BytesMut::new();
    loop {
        buffer.reserve(READ_BYTES);
        match stdout.read_buf(&mut buffer).await {
            Ok(0) | Err(_) => return,
            // Nobody listens any more: keep draining, so that the program can end.
            Ok(_) => {
                let _ = output.send(buffer.split().freeze()).await;
            }
        }
    }
}

async fn read_stderr(mut stderr: impl AsyncRead + Unpin, tail: Tail) {
    let mut buffer = vec![0; READ_BYTES];
    while let Ok(length @ 1..) = stderr.read(&mut buffer).await {
        tail.push(&buffer[..length]);
    }
}

async fn write_input(mut stdin: ChildStdin, mut input: mpsc::Receiver<Bytes>) {
    while let Some(chunk) = input.recv().await {
        if stdin.write_all(&chunk).await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_program_reads_writes_complains_and_exits() {
        let script = "read line; echo \"got $line\"; echo oops >&2; exit 7";
        let mut session = spawn(Path::new("/bin/sh"), &["-c", script], &[]).unwrap();
        session.write("hello\n".into()).await.unwrap();
        assert_eq!(session.read().await.unwrap().unwrap(), "got hello\n");
        let exit = session.finish(Duration::from_secs(10)).await.unwrap();
        assert_eq!(
            (exit.status, exit.stderr),
            (Status::Code(7), vec!["oops".to_owned()])
        );
    }

    #[tokio::test]
    async fn writing_to_a_program_that_has_ended_says_so() {
        let mut session = spawn(Path::new("/bin/true"), &[] as &[&str], &[]).unwrap();
        let error = async {
            loop {
                if let Err(error) = session.write(Bytes::from(vec![0; 1 << 20])).await {
                    return error;
                }
            }
        };
        let error = tokio::time::timeout(Duration::from_secs(20), error)
            .await
            .unwrap();
        assert!(matches!(error, Error::Closed { .. }), "{error:?}");
    }

    #[tokio::test]
    async fn a_missing_program_is_named() {
        let error = spawn(Path::new("/nowhere/push-host"), &["serve"], &[]).unwrap_err();
        assert!(error.to_string().contains("/nowhere/push-host"));
    }
}
