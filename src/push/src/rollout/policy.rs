//! How a push goes through its hosts, and what comes of it. Plain data.

use std::collections::BTreeMap;
use std::time::Duration;

use push_wire::manifest::Provenance;

use super::Plans;
use crate::event::{ExitCode, Outcome, Verb};
use crate::inventory::{Undo, Wave};
use crate::name::{EnvironmentName, HostName, ProjectName};

/// How a push goes through its hosts.
#[derive(Debug, Clone)]
pub struct Policy {
    /// What is done.
    pub verb: Verb,
    /// The environment.
    pub environment: EnvironmentName,
    /// The project whose slice it is.
    pub project: ProjectName,
    /// Who pushes.
    pub provenance: Provenance,
    /// The sizes of the waves.
    pub waves: Vec<Wave>,
    /// The push stops when more hosts than this have failed.
    pub failures_max: u32,
    /// What is taken back when it stops.
    pub undo: Undo,
    /// How long a risky generation waits for the operator to come in again.
    pub confirm_within: Duration,
    /// How long a host that another push holds is waited for.
    pub patience: Duration,
}

/// What came of a push.
#[derive(Debug)]
pub struct Pushed<P> {
    /// What became of each host.
    pub outcomes: BTreeMap<HostName, Outcome>,
    /// What would be, or was, done to each host that could be planned for.
    pub plans: Plans<P>,
    /// What the process exits with.
    pub exit: ExitCode,
}
