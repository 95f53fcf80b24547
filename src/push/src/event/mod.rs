//! What the world is told while a push goes on, and what became of each host in the end. Plain data.
//!
//! ```text
//! Event     one thing that happened: to the push as a whole (Milestone) or to one host (Step)
//! Outcome   what became of one host; a failed host is an outcome, never an error
//! ExitCode  the process's status, computed from outcomes alone
//! Finding   one thing that `push doctor` looked at
//! Line      an event as one line of `--json`, with the version of its form
//! ```
//!
//! Must not know who listens, how anything is shown, nor how it was done. Texts that a host said are
//! in here as they came: whoever shows them makes them visible first. No event holds a secret.
//!
//! To tell something new, add a variant to [`Step`] or [`Milestone`]; every reporter then fails to
//! compile until it has words for it. A change that takes a field away raises [`VERSION`].

mod exit;
mod finding;
mod milestone;
mod outcome;
mod step;

use serde::Serialize;

use crate::name::HostName;

pub use exit::{ExitCode, exit_code};
pub use finding::{Finding, Grade};
pub use milestone::{Counts, Milestone, Stop, Verb};
pub use outcome::{Obstacle, ObstacleKind, Outcome, Rebooted, Restoration, Skip};
pub use step::{Confirm, Phase, Step, Summary, Whose};

/// The version of the form of a [`Line`].
pub const VERSION: u32 = 1;

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Event {
    /// To the push as a whole.
    Push(Milestone),
    /// To one host.
    Host {
        /// The host.
        host: HostName,
        /// What happened to it.
        #[serde(flatten)]
        step: Step,
    },
}

impl Event {
    /// Something that happened to `host`.
    pub fn on(host: &HostName, step: Step) -> Self {
        Self::Host {
            host: host.clone(),
            step,
        }
    }
}

/// An event as one line of `--json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Line<'a> {
    /// [`VERSION`].
    pub v: u32,
    /// Milliseconds since the program started.
    pub at_ms: u64,
    /// What happened.
    #[serde(flatten)]
    pub event: &'a Event,
}

impl<'a> Line<'a> {
    /// The line of an event that happened `at_ms` after the start.
    pub fn new(event: &'a Event, at_ms: u64) -> Self {
        Self {
            v: VERSION,
            at_ms,
            event,
        }
    }
}

/// Whoever is told. Called from many tasks; must return soon and never block on a host.
pub trait Listener: Send + Sync {
    /// Something happened.
    fn hear(&self, event: Event);
}

impl<F: Fn(Event) + Send + Sync> Listener for F {
    fn hear(&self, event: Event) {
        self(event);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use push_wire::effect::Effect;
    use push_wire::journal::Cause;
    use push_wire::name::GenerationId;
    use push_wire::risk::Risk;

    use super::*;

    fn line(event: &Event) -> String {
        serde_json::to_string(&Line::new(event, 12)).unwrap()
    }

    fn on_web1(step: Step) -> String {
        line(&Event::on(&"web1".parse().unwrap(), step))
    }

    #[test]
    fn a_line_of_json_is_flat_names_its_version_and_what_it_is_about() {
        insta::assert_snapshot!(on_web1(Step::Connected { took_ms: 40 }), @r#"{"v":1,"at_ms":12,"host":"web1","type":"connected","took_ms":40}"#);
        let summary = Summary {
            base: GenerationId(3),
            added: 1,
            changed: 2,
            removed: 0,
            effects: vec![Effect::ReloadNginx],
            risks: BTreeSet::from([Risk::Firewall]),
        };
        insta::assert_snapshot!(on_web1(Step::Planned(summary)), @r#"{"v":1,"at_ms":12,"host":"web1","type":"planned","base":3,"added":1,"changed":2,"removed":0,"effects":["reload_nginx"],"risks":["firewall"]}"#);
        let outcome = Outcome::TakenBack {
            back_at: GenerationId(3),
            cause: Cause::Unconfirmed,
            evidence: None,
        };
        insta::assert_snapshot!(on_web1(Step::Finished { outcome, took_ms: 900 }), @r#"{"v":1,"at_ms":12,"host":"web1","type":"finished","outcome":"taken_back","back_at":3,"cause":"unconfirmed","evidence":null,"took_ms":900}"#);
        let wave = Milestone::Wave {
            number: 1,
            of: 3,
            hosts: vec!["web1".parse().unwrap()],
        };
        insta::assert_snapshot!(line(&Event::Push(wave)), @r#"{"v":1,"at_ms":12,"type":"wave","number":1,"of":3,"hosts":["web1"]}"#);
    }
}
