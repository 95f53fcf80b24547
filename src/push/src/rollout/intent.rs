//! What is wanted, as the push sees it: something that can be held against what a host says, and
//! then asked of it. The gate that lets it through is here as well.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use push_wire::digest::Digest;
use push_wire::groundwork::{Groundwork, Work};
use push_wire::manifest::Slice;
use push_wire::message::{Bytes, Hello, Request, Transaction};
use push_wire::name::{GenerationId, ProjectName};

use crate::conversation::PackSource;
use crate::event::{Confirm, Obstacle, Summary};
use crate::name::HostName;
use crate::plan::Drift;
use crate::transport::Pending;

/// What a push wants of hosts. Its methods may block and are called off the async threads; each
/// may be called for many hosts at once.
pub trait Intent: Send + Sync + 'static {
    /// What is shown to the operator before anything happens.
    type Plan: Send + Sync + 'static;

    /// How many transactions of a host's past a plan needs to know.
    fn history_wanted(&self) -> u32 {
        0
    }

    /// Whether everything on the laptop is there that hosts will need. Asked before push-host is
    /// installed or replaced somewhere, so that what is missing is said before a host is touched.
    fn ready(&self) -> Result<(), Obstacle> {
        Ok(())
    }

    /// What a plan needs to know whether it is there; `None` when nothing is to be.
    fn groundwork(&self, _host: &HostName) -> Option<Groundwork> {
        None
    }

    /// What a plan needs to know the content of: a project's slice in an earlier generation. Asked once
    /// the past is known.
    fn earlier(&self, _known: &Known) -> Option<(ProjectName, GenerationId)> {
        None
    }

    /// Whether a host is asked what is not as it was pushed.
    fn looks_for_drift(&self) -> bool {
        false
    }

    /// Holds what is wanted against what a host says.
    fn plan(&self, known: &Known) -> Result<Proposal<Self::Plan>, Obstacle>;

    /// Sees the plans of all hosts side by side before anybody else does, and may change them: what is
    /// right for one host may depend on the others.
    fn compare(&self, _plans: &mut BTreeMap<HostName, &mut Planned<Self::Plan>>) {}

    /// What is asked of a host that changes: [`Request::Stage`] or [`Request::Restage`]. Called
    /// after the gate and once a try, so that what is large is not held for all hosts at once.
    fn request(&self, known: &Known, plan: &Self::Plan) -> Result<Request, Obstacle>;

    /// The pack of exactly these contents.
    fn pack(&self, missing: &BTreeSet<Digest>) -> Result<Arc<dyn PackSource>, Obstacle>;
}

/// What is known of a host once it has been asked.
#[derive(Debug)]
pub struct Known {
    /// The host.
    pub host: HostName,
    /// The TCP port that it was reached by.
    pub way_in: u16,
    /// What it said.
    pub hello: Hello,
    /// Its past, the latest first, as far as [`Intent::history_wanted`].
    pub history: Vec<Transaction>,
    /// What it lacks of [`Intent::groundwork`].
    pub lacking: BTreeSet<Work>,
    /// What [`Intent::earlier`] asked for, where that is there.
    pub earlier: Option<Box<Slice>>,
}

/// What would be done to a host.
#[derive(Debug)]
pub struct Proposal<P> {
    /// For the operator.
    pub plan: P,
    /// The same in numbers.
    pub summary: Summary,
    /// Whether there is anything to do.
    pub change: Change,
    /// Whether the operator has to come in again before it stays.
    pub confirm: Confirm,
    /// What is known already to make the host refuse it: it is shown, and nothing is sent.
    pub refused: Option<Obstacle>,
    /// Texts of the generation in effect that are wanted for showing differences.
    pub texts_wanted: BTreeSet<Digest>,
}

/// Whether there is anything to do on a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// It is as it should be.
    Nothing,
    /// It is not.
    Something,
}

/// A proposal with what was fetched to show it.
#[derive(Debug)]
pub struct Planned<P> {
    /// What the host said.
    pub known: Arc<Known>,
    /// What would be done.
    pub proposal: Proposal<P>,
    /// The texts that were wanted and are there. Untrusted.
    pub texts: BTreeMap<Digest, Bytes>,
    /// What is not as it was pushed, where [`Intent::looks_for_drift`].
    pub drift: Drift,
}

/// The plan of a push, host by host.
pub type Plans<P> = BTreeMap<HostName, Arc<Planned<P>>>;

/// Lets a push through, or not.
pub trait Gate<P>: Send + Sync {
    /// Is shown the whole plan when something would change, before anything does.
    fn decide<'a>(&'a self, plans: &'a Plans<P>) -> Pending<'a, Answer>;
}

/// What a gate says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// Go on.
    Go,
    /// Change nothing.
    No {
        /// Why.
        why: String,
    },
    /// Stop: the operator did so when asked.
    Interrupted,
}
