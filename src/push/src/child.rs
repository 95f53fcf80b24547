//! Other programs that push starts on the operator's machine: builds, git, ssh, editors, tools.
//!
//! A CI job may hold a key that opens secrets in its environment. What push starts has no use for it, and
//! a build is other people's code, so no child inherits it. Nothing else makes a `Command`, which a test
//! of the source holds; code that is asynchronous makes its own of what comes from here.

use std::ffi::OsStr;
use std::process::{Child, Command};
use std::{fs, io};

use rustix::process::{Pid, Signal, kill_process};

/// The variables that name files of keys, separated by ':', or hold a key themselves.
pub const KEY_VARIABLES: [&str; 2] = ["PUSH_IDENTITY", "AGE_IDENTITY"];

/// How many processes are ended with the one that started them.
const PROCESSES_MAX: usize = 10_000;

/// A program to start, without the operator's keys in its environment.
pub fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    for name in KEY_VARIABLES {
        command.env_remove(name);
    }
    command
}

/// Kills a program and everything below it, and awaits its end. Not by its process group, which may be
/// ours: a program that shares it hears Ctrl-C and may ask on the terminal.
pub fn end(child: &mut Child) -> io::Result<()> {
    let mut found: Vec<Pid> = i32::try_from(child.id())
        .ok()
        .and_then(Pid::from_raw)
        .into_iter()
        .collect();
    let mut looked_at = 0;
    while let Some(&id) = found.get(looked_at)
        && found.len() < PROCESSES_MAX
    {
        // One that is stopped starts no others behind our back, and reaps none, so that no id becomes
        // somebody else's. It fails only when the process is gone already.
        let _ = kill_process(id, Signal::STOP);
        found.extend(started_by(id));
        looked_at += 1;
    }
    for id in found.into_iter().skip(1) {
        let _ = kill_process(id, Signal::KILL);
    }
    child.kill()?;
    child.wait()?;
    Ok(())
}

/// The processes that any thread of a process started and that have not been waited for.
fn started_by(id: Pid) -> Vec<Pid> {
    let threads = fs::read_dir(format!("/proc/{id}/task"));
    let threads = threads.into_iter().flatten().flatten();
    threads
        .filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok())
        .flat_map(|ids| {
            let ids = ids.split_whitespace();
            ids.filter_map(|id| id.parse().ok().and_then(Pid::from_raw))
                .collect::<Vec<_>>()
        })
        .collect()
}
