//! What one host shall have: the inventory, rendered for this host, as the slice that is staged and
//! the texts that it names.
//!
//! Pure: everything it needs is in [`Input`]; only a [`Vault`] is asked to open a secret, and only
//! when the host does not hold it already. It must not know how a plan is shown or carried out.
//! A new kind of declared thing is a new file here that fills its part of the slice.

mod apps;
mod error;
mod files;
mod hardening;
mod locations;
mod making;
mod member;
mod secrets;
mod sites;
mod trial;
mod units;
mod vault;

#[cfg(test)]
pub(crate) mod sample;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod tools;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use push_wire::digest::Digest;
use push_wire::facts::Needs;
use push_wire::manifest::{self, Manifest, Provenance, Slice};
use push_wire::message::{Bytes, Hello, Stage};
use push_wire::tree::Tree;

pub use error::DesiredError;
use making::Making;
pub use member::{MemberInput, groundwork_of, member};
pub use trial::{Trial, trial};
pub use vault::{Door, Opened, Vault, VaultError};

use crate::inventory::{App, Fleet, Host};
use crate::name::{AppName, HostName, ProjectName, ReleaseId};
use crate::release::Payload;
use crate::template::Engine;

/// Everything that decides what a host shall have.
pub struct Input<'a> {
    /// The environment.
    pub fleet: &'a Fleet,
    /// The host.
    pub host: &'a Host,
    /// The templates.
    pub engine: &'a Engine,
    /// What each app ships.
    pub payloads: &'a BTreeMap<AppName, Arc<Payload>>,
    /// The id of releases made by this push; a host that has the same content keeps its own id.
    pub release: &'a ReleaseId,
    /// The files of the project that are carried byte for byte: see [`crate::release::verbatim`].
    pub verbatim: &'a BTreeMap<PathBuf, Vec<u8>>,
    /// Opens secrets.
    pub vault: &'a dyn Vault,
    /// What the host says of itself.
    pub hello: &'a Hello,
    /// What of it is applied.
    pub applying: Applying,
}

/// What one host shall have.
#[derive(Debug, Clone)]
pub struct Desired {
    /// The host.
    pub host: HostName,
    /// The project whose slice it is.
    pub project: ProjectName,
    /// What is declared.
    pub slice: Slice,
    /// Rendered texts, and secrets that were sealed anew. Never an opened secret.
    pub texts: BTreeMap<Digest, Bytes>,
    /// The listings of the releases: the same for all hosts, and so held once.
    pub trees: BTreeMap<Digest, Arc<Tree>>,
    /// What each app's programs need.
    pub needs: BTreeMap<AppName, Needs>,
    /// The directives used that not every systemd knows, with the version that brought them.
    pub directives: BTreeMap<String, u32>,
}

/// What of a host's slice is applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Applying {
    /// What differs from what was pushed there last.
    Changes,
    /// All of it, changed or not: somebody else may have changed what the host has of it.
    Everything,
}

impl Desired {
    /// The slice as the host that said `hello` is to apply it. What it does not have yet is applied as it is.
    #[must_use]
    pub fn applied(self, hello: &Hello, applying: Applying) -> Self {
        let current = &hello.manifest;
        // A slice of nothing says nothing else either: it is what a host without one has.
        if current.slice(&self.project).is_none() || self.slice == Slice::default() {
            return self;
        }
        let slice = self.slice.applied_as_in(current, &self.project);
        let slice = match applying {
            Applying::Changes => slice,
            Applying::Everything => slice.once_more(),
        };
        Self { slice, ..self }
    }

    /// The request that stages it on the host that said `hello`: only what the host lacks.
    pub fn stage(&self, hello: &Hello, provenance: Provenance, way_in: u16) -> Stage {
        Stage {
            project: self.project.clone(),
            base: hello.manifest.generation,
            slice: self.slice.clone(),
            texts: self
                .lacking_texts(hello)
                .map(|(digest, text)| (digest, text.clone()))
                .collect(),
            trees: self
                .lacking_trees(hello)
                .map(|(digest, tree)| (digest, Tree::clone(tree)))
                .collect(),
            needs: self.needs.clone(),
            provenance,
            way_in,
        }
    }

    /// The texts that the host's current generation does not hold, or not as they were declared.
    pub fn lacking_texts(&self, hello: &Hello) -> impl Iterator<Item = (Digest, &Bytes)> {
        let held = &held(&hello.manifest) - &hello.lost;
        self.texts
            .iter()
            .filter(move |(digest, _)| !held.contains(*digest))
            .map(|(digest, text)| (*digest, text))
    }

    /// The listings of the releases that the host does not have whole. Another app's release with
    /// the same content is another release: its files are shared, its listing is not.
    pub fn lacking_trees(&self, hello: &Hello) -> impl Iterator<Item = (Digest, &Tree)> {
        let in_effect = hello.manifest.apps();
        let has = |name: &AppName, app: &manifest::App| {
            let releases = hello.releases.get(name);
            let known = releases.and_then(|trees| trees.get(&app.tree));
            known.is_some_and(|known| known == app.release.as_str())
                || in_effect
                    .get(name)
                    .is_some_and(|there| there.release == app.release)
        };
        let lacking: BTreeSet<Digest> = self
            .slice
            .apps
            .iter()
            .filter(|(name, app)| !has(name, app))
            .map(|(_, app)| app.tree)
            .collect();
        self.trees
            .iter()
            .filter(move |(digest, _)| lacking.contains(*digest))
            .map(|(digest, tree)| (*digest, tree.as_ref()))
    }
}

/// The digests of all texts that a generation holds.
fn held(manifest: &Manifest) -> BTreeSet<Digest> {
    let units = manifest.units().into_values().map(|unit| unit.digest);
    let sites = manifest.sites().into_values().map(|site| site.digest);
    let files = manifest.files().into_values().map(|file| file.digest);
    let secrets = manifest.secrets().into_values().map(|secret| secret.sealed);
    units.chain(sites).chain(files).chain(secrets).collect()
}

/// What `input`'s host shall have.
pub fn desired(input: &Input<'_>) -> Result<Desired, DesiredError> {
    let mut making = Making::new(input);
    let mut trees = BTreeMap::new();
    let mut needs = BTreeMap::new();
    for app in input.fleet.apps_on(&input.host.name) {
        let (payload, secrets) = self::app(&mut making, app)?;
        secrets::declare(&mut making, app, &secrets)?;
        trees.insert(payload.digest, Arc::clone(&payload.tree));
        needs.insert(app.name.clone(), payload.needs.clone());
    }
    files::declare(&mut making)?;
    let desired = Desired {
        host: input.host.name.clone(),
        project: input.fleet.project.clone(),
        slice: making.slice,
        texts: making.texts,
        trees,
        needs,
        directives: making.directives,
    };
    Ok(desired.applied(input.hello, input.applying))
}

/// Everything of an app but its secrets, which are to be delivered then.
fn app<'a>(
    making: &mut Making<'a>,
    app: &App,
) -> Result<(&'a Payload, secrets::Deliveries), DesiredError> {
    let what = format!("the release of {}", app.name);
    let payload: &'a Payload = making
        .input
        .payloads
        .get(&app.name)
        .ok_or_else(|| making.value_error(&what, "it was not read"))?;
    let on_host = apps::on_host(making, app, payload)?;
    let secrets = secrets::deliveries(making, &on_host)?;
    apps::declare(making, &on_host, payload)?;
    units::declare(making, &on_host, &secrets)?;
    sites::declare(making, &on_host, &secrets)?;
    Ok((payload, secrets))
}
