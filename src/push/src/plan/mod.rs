//! The difference between what a host has and what it shall have: a value that can be printed,
//! saved and compared.
//!
//! Pure, and without a clock. Holds digests and never contents, so that no secret can be in it. It
//! must not know how it is shown or carried out. A new kind of declared thing gets its field in
//! [`HostPlan`], its line in [`HostPlan::is_empty`], and its texts in `diff`.

mod change;
mod diff;
mod drift;
mod refusal;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use push_wire::digest::Digest;
use push_wire::effect::{self, Effect};
use push_wire::firewall;
use push_wire::groundwork::Work;
use push_wire::manifest::{App, File, Manifest, Placed, Provenance, Secret, Slice, Text, Unit};
use push_wire::message::Hello;
use push_wire::risk::{Risk, risks};
use serde::Serialize;

pub use change::{Change, FirewallChange, ForwardOnly, ReleaseNote, Setting};
pub use diff::{TextDiff, diffs};
pub use drift::Drift;
pub use refusal::Refusal;

use crate::desired::Desired;
use crate::name::{
    AppName, EnvironmentName, FileName, GenerationId, HostName, HostPath, ProjectName, UnitName,
};

/// What a push would do, host by host.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct FleetPlan {
    /// The environment.
    pub environment: EnvironmentName,
    /// Each host that answered.
    pub hosts: BTreeMap<HostName, HostPlan>,
    /// What is not as it was pushed, by host.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub drift: BTreeMap<HostName, Drift>,
}

impl FleetPlan {
    /// Whether there is nothing to do anywhere.
    pub fn is_empty(&self) -> bool {
        self.hosts.values().all(HostPlan::is_empty)
    }

    /// Whether some host would refuse it.
    pub fn is_refused(&self) -> bool {
        self.hosts.values().any(HostPlan::is_refused)
    }

    /// Whether it could lock the operator out of some host.
    pub fn is_risky(&self) -> bool {
        self.hosts.values().any(HostPlan::is_risky)
    }
}

/// What a push would do to one host.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct HostPlan {
    /// The host.
    pub host: HostName,
    /// The project whose slice changes.
    pub project: ProjectName,
    /// The generation that it was made against; a host found at another one refuses it as stale.
    pub base: GenerationId,
    /// Apps that come, go, or get another release.
    pub releases: BTreeMap<AppName, Change<ReleaseNote>>,
    /// What else changes about apps that stay.
    pub settings: BTreeMap<AppName, Vec<Setting>>,
    /// Units, by the digest of their text.
    pub units: BTreeMap<UnitName, Change<Unit>>,
    /// nginx sites.
    pub sites: BTreeMap<AppName, Change<Text>>,
    /// What is let in.
    pub firewall: Option<FirewallChange>,
    /// Other files.
    pub files: BTreeMap<HostPath, Change<File>>,
    /// Secrets, by app and file.
    pub secrets: BTreeMap<AppName, BTreeMap<FileName, Change<Secret>>>,
    /// What is made before the switch, since the host lacks it.
    pub groundwork: BTreeSet<Work>,
    /// TCP ports that operators come in by, which the firewall has to let in from now on.
    pub ways_in: BTreeSet<u16>,
    /// Those that nobody comes in by any more, which it lets in no longer.
    pub ways_closed: BTreeSet<u16>,
    /// Whether all of it is applied again, changed or not.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub again: bool,
    /// What will be run, in order.
    pub effects: Vec<Effect>,
    /// What could lock the operator out.
    pub risks: BTreeSet<Risk>,
    /// What stays when the rest is taken back.
    pub forward_only: Vec<ForwardOnly>,
    /// No more than so many bytes travel, before compression.
    pub bytes_max: u64,
    /// What is known already to make the host refuse it.
    pub refusals: Vec<Refusal>,
}

impl HostPlan {
    /// The plan that makes `desired` of what the host says it has. `way_in` is the TCP port that the
    /// operator came in by.
    pub fn new(hello: &Hello, desired: &Desired, way_in: u16) -> Self {
        let to = (&desired.project, &desired.slice);
        let mut plan = Self::between(hello, (&desired.host, way_in), to);
        plan.bytes_max = bytes_max(hello, desired);
        if !plan.is_empty() {
            plan.refusals = refusal::refusals(hello, desired);
        }
        plan
    }

    /// The plan that makes a project's slice of what the host says it has, of contents that are there
    /// already. What the host would refuse of it is not known.
    pub fn between(
        hello: &Hello,
        (host, way_in): (&HostName, u16),
        (project, new): (&ProjectName, &Slice),
    ) -> Self {
        let from = &hello.manifest;
        let none = Slice::default();
        let old = from.slice(project).unwrap_or(&none);
        let to = next(hello, (project, new), way_in);
        let ways = |one: &Manifest, other: &Manifest| -> BTreeSet<u16> {
            // Whoever declares the firewall: it is one, and lets in what all need.
            let counts = to.firewall().is_some();
            let ports = one.ways_in.difference(&other.ways_in).copied();
            ports.filter(|_| counts).collect()
        };
        Self {
            host: host.clone(),
            project: project.clone(),
            base: from.generation,
            releases: change::releases(&old.apps, &new.apps),
            settings: change::settings(&old.apps, &new.apps),
            units: change::changes(&old.units, &new.units, PartialEq::eq),
            sites: change::changes(&old.sites, &new.sites, PartialEq::eq),
            firewall: FirewallChange::between(old.firewall.as_ref(), new.firewall.as_ref()),
            files: change::changes(&old.files, &new.files, PartialEq::eq),
            secrets: change::secrets(&old.secrets, &new.secrets),
            groundwork: BTreeSet::new(),
            ways_in: ways(&to, from),
            ways_closed: ways(from, &to),
            again: *new != none
                && from
                    .slice(project)
                    .is_some_and(|old| old.again != new.again),
            effects: effect::effects(from, &to),
            risks: risks(from, &to),
            forward_only: change::forward_only(from, new),
            bytes_max: 0,
            refusals: Vec::new(),
        }
    }

    /// The same, on a host that lacks something of its groundwork.
    pub fn on_groundwork(self, lacking: &BTreeSet<Work>) -> Self {
        let mut forward_only = self.forward_only;
        forward_only.extend(change::groundwork(lacking));
        Self {
            groundwork: lacking.clone(),
            forward_only,
            ..self
        }
    }

    /// Whether there is nothing to do: the host declares all this already, and it is not applied again.
    pub fn is_empty(&self) -> bool {
        self.says_nothing_new() && !self.again
    }

    /// Whether the host declares all this already.
    pub fn says_nothing_new(&self) -> bool {
        self.releases.is_empty()
            && self.settings.is_empty()
            && self.units.is_empty()
            && self.sites.is_empty()
            && self.firewall.is_none()
            && self.files.is_empty()
            && self.secrets.is_empty()
            && self.ways_in.is_empty()
            && self.ways_closed.is_empty()
            && self.groundwork.is_empty()
    }

    /// Whether the host would refuse it.
    pub fn is_refused(&self) -> bool {
        !self.refusals.is_empty()
    }

    /// Whether it could lock the operator out, so that it is confirmed over a new connection.
    pub fn is_risky(&self) -> bool {
        !self.risks.is_empty()
    }

    /// The texts of the host's current generation that [`diffs`] needs: ask for them by
    /// `Request::Texts`.
    pub fn old_texts(&self) -> BTreeSet<Digest> {
        let units = self
            .units
            .values()
            .filter_map(|change| change.from.as_ref());
        let sites = self
            .sites
            .values()
            .filter_map(|change| change.from.as_ref());
        let files = self
            .files
            .values()
            .filter_map(|change| change.from.as_ref());
        units
            .map(|unit| unit.digest)
            .chain(sites.map(|site| site.digest))
            .chain(files.map(|file| file.digest))
            .collect()
    }
}

/// The generation that the host would compose.
fn next(hello: &Hello, (project, slice): (&ProjectName, &Slice), way_in: u16) -> Manifest {
    let mut to = hello.manifest.clone();
    to.generation = GenerationId(hello.highest.max(hello.manifest.generation).0 + 1);
    to.restores = None;
    to.ways_in = firewall::ways_in(&hello.facts.ssh_ports, way_in);
    let placed = Placed {
        slice: slice.clone(),
        provenance: Provenance::default(),
    };
    if *slice == Slice::default() {
        to.slices.remove(project);
    } else {
        to.slices.insert(project.clone(), placed);
    }
    to
}

/// Contents that the host has in other releases do not travel, but only the host knows which.
fn bytes_max(hello: &Hello, desired: &Desired) -> u64 {
    let files: BTreeMap<Digest, u64> = desired
        .lacking_trees(hello)
        .flat_map(|(_, tree)| tree.files().map(|(_, digest, size)| (digest, size)))
        .collect();
    let texts = desired
        .lacking_texts(hello)
        .map(|(_, text)| text.0.len() as u64);
    files.values().sum::<u64>() + texts.sum::<u64>()
}

/// Whether two declarations of an app are the same but for its release.
fn same_settings(old: &App, new: &App) -> bool {
    let released = App {
        release: new.release.clone(),
        tree: new.tree,
        size: new.size,
        ..old.clone()
    };
    released == *new
}
