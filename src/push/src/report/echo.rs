//! What a terminal does with a Ctrl-C while live lines move. It writes `^C` at the cursor, which stands
//! at the end of the last live line; the line wraps, and what is drawn next is a line too low. So this
//! echo is off while lines move, and as it was afterwards.
//!
//! Must not touch a terminal that belongs to somebody else: a push in the background would be stopped.

use std::io::stderr;

use rustix::process::getpgrp;
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcgetpgrp, tcsetattr};

/// A terminal that writes no `^C`, until this value goes.
#[derive(Debug)]
pub struct Hushed {
    before: Termios,
}

impl Hushed {
    /// Hushes the terminal that the live lines are on; `None` where there is none of ours.
    pub fn terminal() -> Option<Self> {
        if !is_ours() {
            return None;
        }
        let before = tcgetattr(stderr()).ok()?;
        let mut hushed = before.clone();
        hushed.local_modes.remove(LocalModes::ECHOCTL);
        tcsetattr(stderr(), OptionalActions::Now, &hushed).ok()?;
        Some(Self { before })
    }
}

impl Drop for Hushed {
    fn drop(&mut self) {
        if is_ours() {
            // A terminal that has gone needs nothing any more.
            let _ = tcsetattr(stderr(), OptionalActions::Now, &self.before);
        }
    }
}

/// Whether this process is the one that the terminal listens to.
fn is_ours() -> bool {
    tcgetpgrp(stderr()).is_ok_and(|group| group == getpgrp())
}
