//! `push secret` on a terminal: what is typed there is not shown, and what is shown there is text.
//! The terminal is made by script(1) of util-linux.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "the panic of a test is its message"
)]

mod secret_desk;

use std::fs;
use std::io::{Read as _, Write as _};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use secret_desk::{CANARY, Desk, holding};

/// How long a question may take to appear.
const SOON: Duration = Duration::from_secs(60);

/// `push` with a terminal on all three streams.
struct Terminal {
    child: Child,
    keyboard: Option<ChildStdin>,
    screen: Receiver<Vec<u8>>,
    seen: String,
    /// How much of `seen` was waited for already.
    read: usize,
}

impl Terminal {
    /// Starts it in a shell, which reads the words in its own way.
    fn of(desk: &Desk, args: &[&str]) -> Self {
        let line = format!("{} {}", env!("CARGO_BIN_EXE_push"), args.join(" "));
        let mut command = Command::new("script");
        desk.dress(&mut command);
        let mut child = command
            .args(["-q", "-e", "-f", "-c", &line, "/dev/null"])
            .env("TERM", "xterm")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let keyboard = child.stdin.take();
        let mut screen = child.stdout.take().unwrap();
        let (sender, receiver) = channel();
        std::thread::spawn(move || {
            let mut piece = [0; 4096];
            while let Ok(read) = screen.read(&mut piece) {
                if read == 0 || sender.send(piece[..read].to_vec()).is_err() {
                    break;
                }
            }
        });
        Self {
            child,
            keyboard,
            screen: receiver,
            seen: String::new(),
            read: 0,
        }
    }

    /// Waits until this is shown after what was waited for before.
    #[track_caller]
    fn shows(&mut self, text: &str) {
        let until = Instant::now() + SOON;
        loop {
            if let Some(at) = self.seen[self.read..].find(text) {
                self.read += at + text.len();
                return;
            }
            let left = until.saturating_duration_since(Instant::now());
            let Ok(piece) = self.screen.recv_timeout(left) else {
                panic!("{text:?} is not on\n{}", self.seen);
            };
            self.seen.push_str(&String::from_utf8_lossy(&piece));
        }
    }

    /// Types a line, once the terminal has been told not to show it.
    #[track_caller]
    fn types(&mut self, line: &str) {
        let until = Instant::now() + SOON;
        while !self.is_hidden() {
            assert!(Instant::now() < until, "it shows what is typed");
            std::thread::sleep(Duration::from_millis(20));
        }
        let keyboard = self.keyboard.as_mut().unwrap();
        keyboard.write_all(format!("{line}\r").as_bytes()).unwrap();
        keyboard.flush().unwrap();
    }

    /// Whether what is typed is not shown, as stty(1) tells of the terminal that script(1) made.
    fn is_hidden(&self) -> bool {
        let script = self.child.id();
        let children = fs::read_to_string(format!("/proc/{script}/task/{script}/children"));
        let children = children.unwrap_or_default();
        children.split_whitespace().any(|child| {
            let Ok(terminal) = fs::read_link(format!("/proc/{child}/fd/0")) else {
                return false;
            };
            let told = Command::new("stty")
                .arg("-F")
                .arg(terminal)
                .arg("-a")
                .output();
            told.is_ok_and(|told| String::from_utf8_lossy(&told.stdout).contains(" -echo "))
        })
    }

    /// Waits for the end; returns all that was shown.
    #[track_caller]
    fn ends(mut self, status: i32) -> String {
        while let Ok(piece) = self.screen.recv_timeout(SOON) {
            self.seen.push_str(&String::from_utf8_lossy(&piece));
        }
        drop(self.keyboard.take());
        let ended = self.child.wait().unwrap();
        assert_eq!(ended.code(), Some(status), "{}", self.seen);
        self.seen.clone()
    }
}

#[test]
fn a_value_is_typed_twice_and_never_shown() {
    let desk = Desk::with_secrets();
    let mut terminal = Terminal::of(&desk, &["secret", "set", "prod", "token"]);
    terminal.shows("Value of token (not shown)");
    terminal.types("typed-9c1e");
    terminal.shows("The same again");
    terminal.types("something else");
    terminal.shows("These differ");
    terminal.shows("Value of token");
    terminal.types("typed-9c1e");
    terminal.shows("The same again");
    terminal.types("typed-9c1e");
    let shown = terminal.ends(0);
    assert!(!shown.contains("typed-9c1e"), "{shown}");
    let value = desk.push(&["secret", "show", "prod", "token"]).exits(0);
    assert_eq!(value.stdout, "typed-9c1e");
    assert!(holding(&desk.path("."), "typed-9c1e").is_empty());
}

#[test]
fn a_terminal_is_shown_text_and_no_bytes_that_would_steer_it() {
    let desk = Desk::with_secrets();
    let shown = Terminal::of(&desk, &["secret", "show", "prod", "token"]).ends(0);
    assert_eq!(shown, format!("{CANARY}\r\n"));
    desk.set("token", "\x1b[2Jgone");
    let shown = Terminal::of(&desk, &["secret", "show", "prod", "token"]).ends(9);
    assert!(shown.contains("not plain text"), "{shown}");
    assert!(!shown.contains("\x1b[2J"), "{shown}");
}

#[test]
fn who_revokes_is_offered_to_set_new_values_at_once() {
    let desk = Desk::with_secrets();
    let bob = age::x25519::Identity::generate().to_public().to_string();
    desk.push(&["secret", "grant", "prod", "bob", "token", "--key", &bob])
        .exits(0);
    let mut terminal = Terminal::of(&desk, &["secret", "revoke", "prod", "bob", "token"]);
    terminal.shows("bob knows the values");
    terminal.shows("Set new values now?");
    terminal.types("yes");
    terminal.shows("Value of token (not shown)");
    terminal.types("fresh-71d0");
    terminal.shows("The same again");
    terminal.types("fresh-71d0");
    terminal.shows("new values for token");
    terminal.ends(0);
    let value = desk.push(&["secret", "show", "prod", "token"]).exits(0);
    assert_eq!(value.stdout, "fresh-71d0");

    // Who says no has revoked all the same.
    desk.push(&["secret", "grant", "prod", "bob", "url", "--key", &bob])
        .exits(0);
    let revoke = ["secret", "revoke", "prod", "bob", "url"];
    let then = ["; echo asked; read -r rest;", "echo \"left=$rest\""];
    let mut terminal = Terminal::of(&desk, &[&revoke[..], &then].concat());
    terminal.shows("Set new values now?");
    terminal.types("no");
    // Were one letter enough, the others would be left for the shell. It is typed to only when push has
    // given the terminal back: until then a return is no end of a line.
    terminal.shows("asked");
    let keyboard = terminal.keyboard.as_mut().unwrap();
    keyboard.write_all(b"mine\r").unwrap();
    terminal.shows("left=mine");
    terminal.ends(0);
    desk.push(&["secret", "verify", "prod"]).exits(0);
    let value = desk.push(&["secret", "show", "prod", "url"]).exits(0);
    assert_eq!(value.stdout, "postgres://db");
}
