//! The intent of `push bootstrap`: the host's own slice, with its groundwork. What comes of it is planned,
//! shown, staged and switched like a deploy.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use push_wire::digest::Digest;
use push_wire::groundwork::Groundwork;
use push_wire::manifest::{HOST_SLICE, Provenance};
use push_wire::message::Request;

use super::deploy::{DeployPlan, not_declared, proposal, undesired};
use super::{Intent, Known, Proposal};
use crate::conversation::PackSource;
use crate::desired::{Applying, MemberInput, groundwork_of, member};
use crate::event::{Obstacle, ObstacleKind};
use crate::inventory::{self, Fleet};
use crate::name::HostName;
use crate::plan::HostPlan;
use crate::template::Engine;
use crate::visible::escape;

/// How much of what a host says a message shows, in bytes.
const SHOWN_BYTES_MAX: usize = 200;

/// Everything that decides what hosts are made into.
pub struct Bootstrap {
    /// The environment.
    pub fleet: Fleet,
    /// What its hosts are made into.
    pub bootstrap: inventory::Bootstrap,
    /// The templates.
    pub engine: Engine,
    /// The files that are carried byte for byte.
    pub verbatim: BTreeMap<PathBuf, Vec<u8>>,
    /// What of it is applied.
    pub applying: Applying,
    /// Who does it.
    pub provenance: Provenance,
    /// What is done about a host that another environment bootstrapped otherwise.
    pub others: Others,
}

/// What is done about what another environment's bootstrap declared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Others {
    /// It stays, and the host is refused.
    Left,
    /// It is replaced.
    Replaced,
}

impl Bootstrap {
    fn input(&self, host: &HostName) -> Result<MemberInput<'_>, Obstacle> {
        let declared = self.fleet.hosts.get(host);
        Ok(MemberInput {
            fleet: &self.fleet,
            bootstrap: &self.bootstrap,
            host: declared.ok_or_else(|| not_declared(host))?,
            engine: &self.engine,
            verbatim: &self.verbatim,
        })
    }
}

impl Bootstrap {
    /// A host has one slice of its own: two environments that say different things of it would undo each
    /// other's work with every bootstrap.
    fn bootstrapped_by_another(&self, known: &Known) -> Option<Obstacle> {
        let placed = known
            .hello
            .manifest
            .slices
            .iter()
            .find(|(project, _)| project.as_str() == HOST_SLICE)?;
        let theirs = &placed.1.provenance;
        let (ours, host) = (&self.provenance.environment, &known.host);
        if theirs.environment == *ours {
            return None;
        }
        let shown = |text: &str| escape(text.as_bytes(), SHOWN_BYTES_MAX);
        Some(Obstacle {
            kind: ObstacleKind::Gate,
            code: "push::rollout::bootstrapped_by_another".into(),
            why: format!(
                "{host} was bootstrapped by {} ({}), and [bootstrap] of {ours} says otherwise",
                shown(&theirs.environment),
                shown(&theirs.operator)
            ),
            help: "let both environments say the same, in a file that both extend; or, if only this one is to \
                   say it from now on, pass `--take-over`"
                .into(),
        })
    }
}

impl Intent for Bootstrap {
    type Plan = DeployPlan;

    fn looks_for_drift(&self) -> bool {
        true
    }

    fn groundwork(&self, host: &HostName) -> Option<Groundwork> {
        // Whatever is wrong with it is told by the plan.
        groundwork_of(&self.input(host).ok()?).ok()
    }

    fn plan(&self, known: &Known) -> Result<Proposal<DeployPlan>, Obstacle> {
        let desired = member(&self.input(&known.host)?).map_err(|error| undesired(&error))?;
        let desired = desired.applied(&known.hello, self.applying);
        let plan = HostPlan::new(&known.hello, &desired, known.way_in);
        let mut proposal = proposal(plan.on_groundwork(&known.lacking), desired);
        let is_otherwise = !proposal.plan.host.says_nothing_new();
        if is_otherwise && self.others == Others::Left {
            let theirs = self.bootstrapped_by_another(known);
            proposal.refused = proposal.refused.or(theirs);
        }
        Ok(proposal)
    }

    fn request(&self, known: &Known, plan: &DeployPlan) -> Result<Request, Obstacle> {
        let provenance = self.provenance.clone();
        let stage = plan.desired.stage(&known.hello, provenance, known.way_in);
        Ok(Request::Stage(Box::new(stage)))
    }

    fn pack(&self, _missing: &BTreeSet<Digest>) -> Result<Arc<dyn PackSource>, Obstacle> {
        Err(Obstacle {
            kind: ObstacleKind::Start,
            code: "push::rollout::no_contents".into(),
            why: "the host asks for contents, and a bootstrap has none".into(),
            help: "this is a mistake in push; please report it".into(),
        })
    }
}
