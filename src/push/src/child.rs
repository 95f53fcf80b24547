//! Other programs that push starts on the operator's machine: builds, git, ssh, editors, tools.
//!
//! A CI job may hold a key that opens secrets in its environment. What push starts has no use for it, and
//! a build is other people's code, so no child inherits it. Nothing else makes a `Command`, which a test
//! of the source holds; code that is asynchronous makes its own of what comes from here.

use std::ffi::OsStr;
use std::process::Command;

/// The variables that name files of keys, separated by ':', or hold a key themselves.
pub const KEY_VARIABLES: [&str; 2] = ["PUSH_IDENTITY", "AGE_IDENTITY"];

/// A program to start, without the operator's keys in its environment.
pub fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    for name in KEY_VARIABLES {
        command.env_remove(name);
    }
    command
}
