//! Where a new value comes from: stdin, a hidden prompt, or chance. Never from the command line, which
//! every process of the machine can read.

use std::fs::File;
use std::io::{self, IsTerminal as _, Read as _};

use dialoguer::Password;
use zeroize::Zeroizing;

use super::super::Stop;
use crate::report::screen::can_ask;
use crate::report::{Complaint, Report};
use crate::secret::{SECRET_BYTES_MAX, Secret};

/// How many random bytes a made-up value has: 43 characters.
const CHANCE_BYTES: usize = 32;

/// What is done with the newline that ends what came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LastNewline {
    /// It is kept, and said.
    Keep,
    /// It is taken off.
    Trim,
}

impl From<bool> for LastNewline {
    fn from(trim: bool) -> Self {
        if trim { Self::Trim } else { Self::Keep }
    }
}

/// The value of `name`: all of stdin, or what is typed at a hidden prompt, twice.
pub fn value(name: &str, newline: LastNewline, report: &Report) -> Result<Secret, Stop> {
    if io::stdin().is_terminal() {
        return prompted(name, report);
    }
    // Room for the largest, so that growing leaves no half of it behind.
    let room = usize::try_from(SECRET_BYTES_MAX).unwrap_or(0) + 2;
    let mut content = Zeroizing::new(Vec::with_capacity(room));
    io::stdin()
        .lock()
        .take(SECRET_BYTES_MAX + 1)
        .read_to_end(&mut content)
        .map_err(|error| refused(&format!("stdin cannot be read: {error}")))?;
    if newline == LastNewline::Trim && content.last() == Some(&b'\n') {
        content.pop();
    }
    if content.is_empty() {
        return Err(refused(&format!(
            "nothing came in on stdin as the value of {name}"
        )));
    }
    if content.len() as u64 > SECRET_BYTES_MAX {
        return Err(refused(&format!(
            "what came in on stdin is larger than a secret can be: {SECRET_BYTES_MAX} bytes"
        )));
    }
    let line = content.strip_suffix(b"\n");
    if line.is_some_and(|line| !line.contains(&b'\n')) {
        report.say(&format!(
            "{name}: the value ends with a newline, which is kept; `--trim` takes it off\n"
        ));
    }
    Ok(Secret::new(content))
}

fn prompted(name: &str, report: &Report) -> Result<Secret, Stop> {
    if !can_ask() {
        return Err(refused(&format!(
            "there is no terminal to ask for the value of {name} on"
        )));
    }
    let typed = report.paused(|| {
        Password::new()
            .with_prompt(format!("Value of {name} (not shown)"))
            .with_confirmation("The same again", "These differ, once more")
            .allow_empty_password(true)
            .interact()
    });
    let typed = Zeroizing::new(typed.map_err(|_| refused("nothing was typed"))?);
    if typed.is_empty() {
        return Err(refused("nothing was typed"));
    }
    Ok(Secret::new(Zeroizing::new(typed.as_bytes().to_vec())))
}

/// A value that nobody has to know: 256 random bits, in letters and digits that need no quoting.
pub fn chance() -> Result<Secret, Stop> {
    let mut bytes = Zeroizing::new([0; CHANCE_BYTES]);
    File::open("/dev/urandom")
        .and_then(|mut file| file.read_exact(&mut *bytes))
        .map_err(|error| {
            Stop::not_started(
                Complaint::new(format!("/dev/urandom cannot be read: {error}"))
                    .help("look at `ls -l /dev/urandom`"),
            )
        })?;
    let text = Zeroizing::new(push_wire::frame::to_base64(&*bytes));
    let plain = text
        .bytes()
        .filter(|byte| *byte != b'=')
        .map(|byte| match byte {
            b'+' => b'-',
            b'/' => b'_',
            other => other,
        });
    Ok(Secret::new(Zeroizing::new(plain.collect())))
}

fn refused(why: &str) -> Stop {
    Stop::usage(Complaint::new(format!("{why}, so nothing was changed")).help(
        "pipe it in, `printf %s \"$VALUE\" | push secret set ENVIRONMENT NAME`, from a file with `<`, or run it in a terminal",
    ))
}
