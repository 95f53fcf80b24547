//! `push-host`: the program on a host. Each subcommand is one line here; what it does is in its room.
//!
//! | status | means |
//! |---|---|
//! | 0 | done: committed, recovered, or nothing to do |
//! | 1 | nothing began, and standard error says why |
//! | 2 | used wrongly |
//! | 5 | taken back |
//! | 77 | not root, and so of no use (`EX_NOPERM` of sysexits.h) |
//! | 6 | in doubt: standard error says what to do |

use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode};

use push_host::firewall;
use push_host::layout::Layout;
use push_host::machine::real::Real;
use push_host::progress;
use push_host::recover::{RecoverError, recover};
use push_host::serve::{End, Line, OnHost, USED_WRONGLY, look, reads, serve};
use push_host::stage;
use push_host::transaction::{TransactionError, transact};
use push_host::upgrade::upgrade;
use push_host::view::{self, InsideError};
use push_wire::journal::{Progress, State};
use push_wire::name::TransactionId;
use push_wire::upgrade::{End as Outcome, Phase};

const USAGE: &str = "\
push-host is started by push; there is little to do with it by hand.

usage: push-host serve           speak with push over standard input and output
       push-host look            say the same first word, and write nothing on this host
       push-host transact ID     carry out a switch that `serve` has prepared
       push-host recover         end a transaction that was cut short
       push-host upgrade ID      carry out an upgrade that `serve` has begun, or take it up
       push-host firewall        load push's firewall again, after something else flushed it
       push-host reads           see whether this version can read what is on this host
       push-host version         say which version this is
";

/// The longest line that is told of work under way, in characters.
const WORKING_CHARS_MAX: usize = 200;

const NOT_BEGUN: u8 = 1;
const TAKEN_BACK: u8 = 5;
const IN_DOUBT: u8 = 6;
const NOT_ROOT: u8 = 77;

fn main() -> ExitCode {
    guard();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments.as_slice() {
        ["transact", id] => match id.parse() {
            Ok(id) => run_transaction(&id),
            Err(error) => complain(
                &error,
                "the id is the one that `serve` has chosen",
                USED_WRONGLY,
            ),
        },
        ["serve"] => converse(Purpose::Serve),
        ["look"] => converse(Purpose::Look),
        ["view", generation, tool] => become_view(generation, tool),
        ["upgrade", id] => match id.parse() {
            Ok(id) => run_upgrade(&id),
            Err(error) => complain(
                &error,
                "the id is the one that `serve` has begun",
                USED_WRONGLY,
            ),
        },
        ["recover"] => run_recovery(),
        ["firewall"] => load_firewall(),
        ["reads"] => show_that_it_reads(),
        ["version" | "--version"] => {
            say(&format!("push-host {}\n", env!("CARGO_PKG_VERSION")));
            ExitCode::SUCCESS
        }
        ["help" | "--help" | "-h"] => {
            say(USAGE);
            ExitCode::SUCCESS
        }
        [] | [_, ..] => {
            let _ = io::stderr().write_all(USAGE.as_bytes());
            ExitCode::from(USED_WRONGLY)
        }
    }
}

/// Makes this process what it has to be whoever started it. What push-host itself creates has its
/// final mode in any case; the mask is for the programs that it runs, an app's own health command among
/// them. Opened secrets are in its memory for moments, so no core dump of it may reach a disk.
fn guard() {
    use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};
    rustix::process::umask(rustix::fs::Mode::WGRP | rustix::fs::Mode::WOTH);
    let nothing = Rlimit {
        current: Some(0),
        maximum: Some(0),
    };
    // Lowering a limit of one's own is always allowed: setrlimit(2), PR_SET_DUMPABLE of prctl(2).
    let guarded = set_dumpable_behavior(DumpableBehavior::NotDumpable)
        .and_then(|()| setrlimit(Resource::Core, nothing));
    if let Err(error) = guarded {
        let _ = writeln!(io::stderr(), "push-host: core dumps stay possible: {error}");
    }
}

/// What a conversation is for.
#[derive(Clone, Copy)]
enum Purpose {
    Serve,
    Look,
}

/// Speaks over standard input and output, which carry nothing but frames. A push-host that was
/// replaced lets the new one go on with the same two pipes.
fn converse(purpose: Purpose) -> ExitCode {
    if !rustix::process::geteuid().is_root() {
        let error = io::Error::other("push-host needs to be root on this host");
        return complain(
            &error,
            "log in as root, or let the user run it by `sudo -n`",
            NOT_ROOT,
        );
    }
    let layout = Layout::new("/");
    let mut machine = Real::new(layout.clone());
    let mut outside = OnHost::new(layout.clone());
    // Neither has a buffer of its own: after an upgrade the rest belongs to another program.
    let both = (
        io::stdin().as_fd().try_clone_to_owned(),
        io::stdout().as_fd().try_clone_to_owned(),
    );
    let line = match both {
        (Ok(input), Ok(output)) => Line {
            input: File::from(input),
            output: File::from(output),
            // Whatever it is in the midst of can be cut anywhere; the lock goes with the process.
            give_up: || std::process::exit(0),
        },
        (Err(error), _) | (_, Err(error)) => {
            return complain(
                &error,
                "standard input and output must be open",
                USED_WRONGLY,
            );
        }
    };
    let held = match purpose {
        Purpose::Serve => serve(&mut machine, &layout, &mut outside, line),
        Purpose::Look => look(&mut machine, &layout, &outside, line),
    };
    match held {
        Ok(End::Gone | End::Broken(_)) => ExitCode::SUCCESS,
        Ok(End::Replaced) => {
            let error = Command::new(layout.program()).arg("serve").exec();
            complain(
                &error,
                "the new push-host does not start; push again",
                NOT_BEGUN,
            )
        }
        Err(error) => unreadable(error),
    }
}

fn unreadable(error: stage::Error) -> ExitCode {
    match error {
        stage::Error::Store(error) => complain(&error, error.help(), NOT_BEGUN),
        stage::Error::Journal(error) => complain(&error, error.help(), NOT_BEGUN),
        stage::Error::Refused(_) | stage::Error::Release(_) | stage::Error::Disk(_) => {
            complain(&error, "look at the host with `ssh`", NOT_BEGUN)
        }
    }
}

/// Asked by the push-host that is here of one that is to take its place.
fn show_that_it_reads() -> ExitCode {
    let layout = Layout::new("/");
    reads(&Real::new(layout.clone()), &layout).map_or_else(unreadable, |()| ExitCode::SUCCESS)
}

/// Started by `serve` for each tool that checks a staged generation; not for people.
fn become_view(generation: &str, tool: &str) -> ExitCode {
    let layout = Layout::new("/");
    let (Ok(generation), Ok(tool)) = (generation.parse(), tool.parse()) else {
        let _ = io::stderr().write_all(USAGE.as_bytes());
        return ExitCode::from(USED_WRONGLY);
    };
    let error = view::enter(&mut Real::new(layout.clone()), &layout, (generation, tool));
    let status = match &error {
        InsideError::Mount { .. } => view::NO_VIEW,
        InsideError::NotApart
        | InsideError::Store(_)
        | InsideError::Effect(_)
        | InsideError::Tool { .. }
        | InsideError::Disk(_) => NOT_BEGUN,
    };
    let _ = writeln!(io::stderr(), "{error}");
    ExitCode::from(status)
}

fn run_transaction(id: &TransactionId) -> ExitCode {
    let layout = Layout::new("/");
    let mut machine = Real::new(layout.clone());
    let request = match progress::request(&machine, &layout, id) {
        Ok(request) => request,
        Err(error) => return complain(&error, "transactions are begun by `push`", NOT_BEGUN),
    };
    match transact(&mut machine, &layout, &request) {
        Ok(state) => ended(&state),
        Err(error) => {
            let status = match &error {
                TransactionError::Lock(_)
                | TransactionError::Journal(_)
                | TransactionError::Store(_)
                | TransactionError::Stale { .. }
                | TransactionError::Withdrawn
                | TransactionError::Unfinished { .. } => NOT_BEGUN,
                TransactionError::Illegal(_)
                | TransactionError::Stuck { .. }
                | TransactionError::Unrecorded(_) => IN_DOUBT,
            };
            complain(&error, error.help(), status)
        }
    }
}

fn run_upgrade(id: &TransactionId) -> ExitCode {
    let layout = Layout::new("/");
    // What dpkg says is told while the machine is at it.
    let mut voice = Real::new(layout.clone());
    let mut tell = |what: &str| {
        let what = what.chars().take(WORKING_CHARS_MAX).collect();
        progress::tell(&mut voice, &layout, (id, &Progress::Working { what }));
    };
    match upgrade(&mut Real::new(layout.clone()), &layout, id, &mut tell) {
        Ok(record) => match &record.phase {
            Phase::Ended(Outcome::Stale { .. }) => ExitCode::from(NOT_BEGUN),
            Phase::Ended(Outcome::Bad { why, .. }) => {
                let error = io::Error::other(why.clone());
                let help = "repair what is named, then run `push upgrade` again";
                complain(&error, help, IN_DOUBT)
            }
            Phase::Ended(Outcome::Done)
            | Phase::Ordered
            | Phase::Packages
            | Phase::Restarting
            | Phase::Rebooting { .. }
            | Phase::Checking => ExitCode::SUCCESS,
        },
        Err(error) => complain(&error, error.help(), NOT_BEGUN),
    }
}

/// Taking back is what a recovery is for, so it is a success.
fn run_recovery() -> ExitCode {
    let layout = Layout::new("/");
    match recover(&mut Real::new(layout.clone()), &layout) {
        Ok(_) => ExitCode::SUCCESS,
        // Whoever holds the lock ends what it began.
        Err(RecoverError::Lock(error)) => complain(&error, error.help(), NOT_BEGUN),
        Err(error) => complain(&error, error.help(), IN_DOUBT),
    }
}

fn load_firewall() -> ExitCode {
    let layout = Layout::new("/");
    match firewall::load_again(&mut Real::new(layout.clone()), &layout) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => complain(&error, error.help(), NOT_BEGUN),
    }
}

fn ended(state: &State) -> ExitCode {
    match state {
        State::Committed => ExitCode::SUCCESS,
        State::TakenBack(_) => ExitCode::from(TAKEN_BACK),
        State::Prepared | State::Switching | State::Probation(_) | State::TakingBack(_) => {
            ExitCode::from(IN_DOUBT)
        }
    }
}

fn say(text: &str) {
    // When nobody reads the answer, nothing is left to be done about it.
    let _ = io::stdout().write_all(text.as_bytes());
}

fn complain(error: &dyn std::error::Error, help: &str, status: u8) -> ExitCode {
    let _ = writeln!(io::stderr(), "push-host: {error}\nhelp: {help}");
    ExitCode::from(status)
}
