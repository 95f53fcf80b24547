//! Something happens to the laptop, or to its connection, after the k-th frame of a push, sent or
//! received, for every k. Whatever it is, the host ends wholly old or wholly new; what the tool told
//! is what the host's journal says; and whoever comes next is let in and gets on.
//!
//! | what happens | the test |
//! |---|---|
//! | SIGKILL of `push` | `a_laptop_killed_at_any_frame_leaves_a_host_that_is_whole_and_lets_the_next_one_in` |
//! | the connection is cut and sshd started anew | `a_connection_cut_at_any_frame_is_made_again_and_the_push_ends_as_it_would_have` |
//! | Ctrl-C, once | `an_interrupt_at_any_frame_is_answered_by_what_the_journal_says` |
//! | Ctrl-C, twice | `an_operator_who_leaves_at_any_frame_is_told_nothing_that_is_not_so` |
//!
//! A program in push-host's place on the host counts the frames and stops them: `demo/gate.rs`.
//! `PUSH_TEST_FRAMES=all` tries every frame; otherwise some are, spread over all of them.

use std::thread;
use std::time::Duration;

use push::rehearse::RehearsalHost;
use push_tests::hosts::say;
use push_tests::lab::{Lab, Said, eventually, program};
use push_tests::speech::PROGRAM;
use push_tests::verdict;
use push_tests::witness::{self, Fate, in_effect, journal, tag, whole};
use push_wire::journal::{Record, State};

/// How many frames of a push are tried for each of what can happen, unless all are.
const FRAMES: usize = 6;

/// How long anything that is waited for may take.
const SOON: Duration = Duration::from_secs(90);

/// Between two presses of Ctrl-C.
const PRESS: Duration = Duration::from_millis(300);

/// What happens after a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Happens {
    Kill,
    Cut,
    Interrupt,
    Leave,
}

/// A host at generation 1, with the gate in push-host's place.
fn gated() -> Option<Lab> {
    let lab = Lab::boot_plain(1)?;
    witness::environment(&lab, (1, Fate::Healthy), "");
    lab.push(&["prod", "--yes"]).exits(0);
    let host = lab.host("web1");
    let gate = std::fs::read(program("gate")).unwrap();
    let real = format!("{PROGRAM}.real");
    host.succeed(&["mv", PROGRAM, &real]).unwrap();
    host.write(PROGRAM, &gate, 0o755).unwrap();
    Some(lab)
}

/// Lets everything through until the frame `at`; 0 is none.
fn arm(host: &RehearsalHost, at: usize) {
    host.run(&["rm", "-rf", "/run/gate"]).unwrap();
    host.succeed(&["mkdir", "/run/gate"]).unwrap();
    host.write("/run/gate/at", at.to_string().as_bytes(), 0o644)
        .unwrap();
}

fn is_there(host: &RehearsalHost, path: &str) -> bool {
    host.run(&["test", "-e", path]).unwrap().is_success()
}

/// The frames of a whole push, in words.
fn frames(lab: &Lab) -> Vec<String> {
    let host = lab.host("web1");
    arm(host, 0);
    witness::environment(lab, (2, Fate::Healthy), "");
    lab.push(&["prod", "--yes"]).exits(0);
    let log = host.succeed(&["cat", "/run/gate/log"]).unwrap();
    log.lines().map(str::to_owned).collect()
}

/// The numbers of the frames that are tried: spread over the messages, and the middle of the contents.
fn tried(frames: &[String]) -> Vec<usize> {
    if std::env::var("PUSH_TEST_FRAMES").is_ok_and(|which| which == "all") {
        return (1..=frames.len()).collect();
    }
    let numbered = frames.iter().enumerate().map(|(at, frame)| (at + 1, frame));
    let (contents, messages): (Vec<_>, Vec<_>) =
        numbered.partition(|(_, frame)| frame.ends_with("contents"));
    let spread = |step: usize| messages[step * (messages.len() - 1) / (FRAMES - 1)].0;
    let mut tried: Vec<usize> = (0..FRAMES).map(spread).collect();
    tried.push(contents[contents.len() / 2].0);
    tried
}

/// Waits until the host has ended what it was doing and nobody has its lock.
fn settled(host: &RehearsalHost) -> Vec<Record> {
    eventually("the end of the transaction", SOON, || {
        witness::last(&journal(host)).is_some_and(State::is_final)
    });
    eventually("a free lock", SOON, || {
        host.run(&["flock", "-n", "/run/push/lock", "true"])
            .unwrap()
            .is_success()
    });
    journal(host)
}

/// What the tool told, held against what the journal has got to say since.
fn agrees(said: &Said, new: &[Record]) {
    let last = witness::last(new);
    // In a table, or in the account of the one host that there is.
    let tells = |words: &str| said.stderr.contains(&format!(" {words}"));
    let is_true = if tells("committed: generation") {
        last.is_some_and(State::is_committed) && [0, 130].contains(&said.code())
    } else if tells("taken back: ") {
        matches!(last, Some(State::TakenBack(_))) && [5, 130].contains(&said.code())
    } else if tells("in doubt: ") || tells("in doubt ") {
        said.code() == 6
    } else {
        // Unreachable, locked, failed, interrupted: nothing was begun, and nothing is claimed.
        last.is_none() && ![0, 5, 6].contains(&said.code())
    };
    assert!(is_true, "the journal says {last:?}\n{said:?}");
}

/// One push to which something happens after a frame, and the next one.
///
/// Returns whether it came to that frame; a push that was called again may go another way.
fn cell(lab: &Lab, (at, happens): (usize, Happens), number: u32) -> bool {
    let host = lab.host("web1");
    let before = settled(host).len();
    arm(host, at);
    witness::environment(lab, (number, Fate::Healthy), "");
    let mut running = lab.spawn(&["prod", "--yes"]);
    eventually("the frame, or the end", SOON, || {
        is_there(host, "/run/gate/reached") || running.has_ended()
    });
    let reached = !running.has_ended();
    if reached {
        match happens {
            Happens::Kill => running.signal("KILL"),
            Happens::Cut => {
                host.run(&["pkill", "-KILL", "-f", "sshd: deploy"]).unwrap();
                host.succeed(&["systemctl", "restart", "ssh.service"])
                    .unwrap();
            }
            Happens::Interrupt => running.signal("INT"),
            Happens::Leave => {
                running.signal("INT");
                thread::sleep(PRESS);
                if !running.has_ended() {
                    running.signal("INT");
                }
            }
        }
    }
    host.run(&["rm", "-f", "/run/gate/at"]).unwrap();
    let said = running.end();
    let records = settled(host);
    let new = &records[before..];
    match happens {
        // It says no more; what it had said by then has to hold.
        Happens::Kill => assert!(verdict::is_true(&said, witness::last(new)), "{said:?}"),
        Happens::Cut | Happens::Interrupt | Happens::Leave => agrees(&said, new),
    }
    if happens == Happens::Cut && records.len() > before {
        // Once it has been ordered, the push sees it through.
        assert_eq!(said.code(), 0, "{said:?}");
    }
    let generation = in_effect(&records);
    assert_eq!(generation, witness::generation(host));
    let found = whole(host);
    let status = lab.push(&["status", "prod"]).exits(0);
    let word = match witness::last(&records) {
        Some(State::Committed) => "committed",
        _ => "taken back",
    };
    assert!(status.stdout.contains(word), "{found}: {status:?}");
    host.run(&["rm", "-rf", "/run/gate"]).unwrap();
    let next = number + 1;
    witness::environment(lab, (next, Fate::Healthy), "");
    lab.push(&["prod", "--yes"]).exits(0);
    assert_eq!(whole(host), tag(next));
    reached
}

fn at_any_frame(happens: Happens) {
    let Some(lab) = gated() else { return };
    let frames = frames(&lab);
    let tried = tried(&frames);
    let mut reached = 0;
    for (turn, at) in tried.iter().enumerate() {
        say(&format!(
            "{happens:?} after {} of {}",
            frames[at - 1],
            frames.len()
        ));
        let came = cell(&lab, (*at, happens), 10 + 2 * u32::try_from(turn).unwrap());
        reached += usize::from(came);
    }
    say(&format!("{happens:?}: {reached} of {} came", tried.len()));
    assert!(reached * 4 >= tried.len() * 3, "{reached} of {tried:?}");
}

#[test]
fn a_laptop_killed_at_any_frame_leaves_a_host_that_is_whole_and_lets_the_next_one_in() {
    at_any_frame(Happens::Kill);
}

#[test]
fn a_connection_cut_at_any_frame_is_made_again_and_the_push_ends_as_it_would_have() {
    at_any_frame(Happens::Cut);
}

#[test]
fn an_interrupt_at_any_frame_is_answered_by_what_the_journal_says() {
    at_any_frame(Happens::Interrupt);
}

#[test]
fn an_operator_who_leaves_at_any_frame_is_told_nothing_that_is_not_so() {
    at_any_frame(Happens::Leave);
}
