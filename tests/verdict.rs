//! The verdict: what the tool printed and its exit code, what the host's journal says, and what the
//! host is found to be from outside, all say one thing. A test that lets something go wrong makes a
//! [`Before`] first, and asks it at the end; there is no second opinion of what "ended well" means.
//!
//! It holds hosts whose environment is one of [`witness::environment`].

use std::time::Duration;

use push::rehearse::RehearsalHost;
use push_wire::journal::{Record, State};

use crate::lab::{Lab, Said, eventually};
use crate::witness::{self, generation, in_effect, journal, tag};

/// How long a host may take until its transaction has ended, with nobody helping it.
const SETTLES_WITHIN: Duration = Duration::from_secs(90);

/// By this a line of the tool says that a host has committed.
const COMMITTED: &str = "committed: generation";

/// A host before a push that something will happen to.
pub struct Before<'a> {
    lab: &'a Lab,
    host: &'a RehearsalHost,
    records: usize,
    old: Option<u32>,
    new: Option<u32>,
}

impl<'a> Before<'a> {
    /// The host `web1`, at the tag `old` and about to be pushed the tag `new`; `None` is nothing of
    /// any tag.
    pub fn of(lab: &'a Lab, (old, new): (Option<u32>, Option<u32>)) -> Self {
        let host = lab.host("web1");
        Self {
            lab,
            host,
            records: journal(host).len(),
            old,
            new,
        }
    }

    /// The host.
    pub fn host(&self) -> &'a RehearsalHost {
        self.host
    }

    /// What its journal has had since.
    pub fn news(&self) -> Vec<Record> {
        let mut records = journal(self.host);
        assert!(
            records.len() >= self.records,
            "the journal has lost records: {} of {} are there\n{}",
            records.len(),
            self.records,
            witness::story(self.host)
        );
        records.split_off(self.records)
    }

    /// The state that its last transaction has come to since.
    pub fn state(&self) -> Option<State> {
        self.news().pop().map(|record| record.state)
    }

    /// Waits until the transaction has come to a state that is asked for.
    pub fn until(&self, what: &str, is: impl Fn(&State) -> bool) {
        eventually(what, SETTLES_WITHIN, || {
            self.state().as_ref().is_some_and(&is)
        });
    }

    /// Waits until nothing goes on any more, and sees that everything says one thing. Returns the
    /// tag in effect.
    pub fn ends(&self, said: &Said) -> Option<u32> {
        let is_settled = || self.state().is_none_or(|state| state.is_final());
        eventually("an end without the laptop", SETTLES_WITHIN, is_settled);
        let state = self.state();
        let told = || {
            format!(
                "old {:?}, new {:?}, journal {state:?}\ncode {}\n--- stdout\n{}\n--- stderr\n{}\n{}",
                self.old.map(tag),
                self.new.map(tag),
                said.code(),
                said.stdout,
                said.stderr,
                witness::story(self.host)
            )
        };
        let is_new = state.as_ref().is_some_and(State::is_committed);
        let expected = if is_new { self.new } else { self.old };
        assert_eq!(witness::found(self.host), expected, "{}", told());
        let records = journal(self.host);
        assert_eq!(generation(self.host), in_effect(&records), "{}", told());
        if expected.is_some() {
            let marker = witness::nginx_serves(self.host);
            assert_eq!(marker, generation(self.host).to_string(), "{}", told());
        }
        assert!(
            is_true(said, state.as_ref()),
            "the tool and the journal disagree: {}",
            told()
        );
        // It came back in time to be asked: a tool that is always in doubt is of no use.
        assert_ne!(said.code(), 6, "{}", told());
        let failed = self
            .host
            .succeed(&["systemctl", "--failed", "--no-legend"])
            .unwrap();
        assert_eq!(failed, "", "{}", told());
        self.tells(&records);
        expected
    }

    /// `push status` and `push history` tell what the journal says.
    fn tells(&self, records: &[Record]) {
        let Some(last) = records.last() else { return };
        let now = in_effect(records);
        let status = self.lab.push(&["status", "prod"]).exits(0);
        if now > 0 {
            let words = format!("generation {now}");
            assert!(status.stdout.contains(&words), "{}", status.stdout);
        }
        let history = self.lab.push(&["history", "prod"]).exits(0).stdout;
        let to = witness::about(records, &last.transaction).to.to_string();
        let words = if last.state.is_committed() {
            "committed"
        } else {
            "taken back"
        };
        let line = history
            .lines()
            .find(|line| line.split_whitespace().next() == Some(to.as_str()));
        assert!(line.is_some_and(|line| line.contains(words)), "{history}");
    }
}

/// Whether what the tool said about one host is what the host's journal came to in the end: nothing,
/// when no transaction began.
pub fn is_true(said: &Said, state: Option<&State>) -> bool {
    let has = |words: &str| said.stdout.contains(words) || said.stderr.contains(words);
    let is_committed = state.is_some_and(State::is_committed);
    let is_back = state.is_some_and(|state| matches!(state, State::TakenBack(_)));
    if has(COMMITTED) && !is_committed {
        return false;
    }
    match said.code() {
        0 => is_committed && has(COMMITTED) || state.is_none() && has("othing to do"),
        5 => is_back && has("taken back"),
        6 => has("in doubt"),
        // It was lost, refused or locked before anything was ordered.
        1 | 4 | 7 | 9 => state.is_none() && has("1 host not touched"),
        130 => {
            state.is_none() && has("not touched")
                || is_back && has("taken back")
                || is_committed && has("committed")
                || has("in doubt")
        }
        // Killed: it says no more, and what it said before was looked at.
        -1 => true,
        _ => false,
    }
}
