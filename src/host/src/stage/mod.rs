//! From a slice to a generation that is complete, durable and checked, while nothing of it is live.
//!
//! ```text
//! prepare  compose, compare, claims, tools, needs, room, occupied paths   ─▶ what is missing
//! receive  a pack becomes blobs of the spool
//! finish   users, shared folders, releases, the generation's folder, the real tools' checks
//! ```
//!
//! | file | does |
//! |---|---|
//! | `compose` | the manifest that a slice makes, or why it may not be |
//! | `preflight` | tools, what programs need, room |
//! | `occupied` | paths that are somebody else's |
//! | `owners` | users and groups of files that the host does not know |
//! | `sshd` | whether sshd reads what is declared for it |
//! | `restage` | a slice as an earlier generation had it |
//! | `texts` | units, sites, files and sealed secrets: from where, to where |
//! | `trees` | the listings of releases that are whole |
//! | `release` | builds a release |
//! | `intact` | whether a release that is here is still what was built |
//! | `generation` | writes a generation |
//! | `constant` | what stays the same whatever is declared |
//!
//! Must not know how bytes reach the host, nor switch anything. Needs the lock. Users, shared folders
//! and releases are forward-only: they stay when a later step refuses, and harm nothing.

mod compose;
pub mod constant;
mod generation;
pub mod intact;
mod occupied;
mod owners;
mod preflight;
mod release;
mod restage;
mod sshd;
pub mod texts;
pub mod trees;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use push_wire::digest::Digest;
use push_wire::facts::Facts;
use push_wire::groundwork::Groundwork;
use push_wire::manifest::{App, Manifest, Provenance, Slice};
use push_wire::message::{Refusal, Restage, Stage};
use push_wire::name::{AppName, GenerationId, ProjectName, UserName};
use push_wire::tree::{Entry, Tree};

use crate::journal::{self, Journal};
use crate::layout::Layout;
use crate::machine::{Machine, Misled, Tool};
use crate::spool::{self, Expected, Role};
use crate::store;
use compose::Wanted;
use preflight::Load;
pub use preflight::stays_up;
use texts::Held;

/// Why nothing was staged.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// For a reason that the operator is told as it is.
    #[error("{0:?}")]
    Refused(Box<Refusal>),
    /// The generations that are there cannot be read.
    #[error("{0}: {help}", help = .0.help())]
    Store(#[from] store::StoreError),
    /// The journal cannot be read.
    #[error("{0}: {help}", help = .0.help())]
    Journal(#[from] journal::JournalError),
    /// A release cannot be built.
    #[error("{0}")]
    Release(#[from] release::ReleaseError),
    /// The disk failed.
    #[error("{0}: see `df -h`, `df -i` and `dmesg` on the host")]
    Disk(#[from] std::io::Error),
}

impl Error {
    fn misled(&self) -> Option<&Misled> {
        match self {
            Self::Disk(error)
            | Self::Store(store::StoreError::Disk(error))
            | Self::Release(release::ReleaseError::Disk(error)) => Misled::of(error),
            Self::Refused(_) | Self::Store(_) | Self::Journal(_) | Self::Release(_) => None,
        }
    }

    fn refused(refusal: Refusal) -> Self {
        Self::Refused(Box::new(refusal))
    }

    /// What the operator is told.
    pub fn into_refusal(self) -> Refusal {
        if let Some(Misled { link, why }) = self.misled() {
            let (path, why) = (link.display().to_string(), format!("is a link, and {why}"));
            return Refusal::Unsafe { path, why };
        }
        match self {
            Self::Refused(refusal) => *refusal,
            Self::Release(release::ReleaseError::Corrupt { path }) => {
                Refusal::Corrupt { what: path }
            }
            Self::Release(release::ReleaseError::Unsafe { path, why }) => Refusal::Unsafe {
                path,
                why: why.to_owned(),
            },
            other => Refusal::Host {
                why: other.to_string(),
            },
        }
    }
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        Self::refused(refusal)
    }
}

/// What was asked for.
#[derive(Debug)]
pub enum Asked {
    /// A new slice.
    Stage(Box<Stage>),
    /// A slice as it was.
    Restage(Restage),
}

impl Asked {
    /// Whose slice it is.
    pub fn project(&self) -> &ProjectName {
        match self {
            Self::Stage(stage) => &stage.project,
            Self::Restage(restage) => &restage.project,
        }
    }

    /// Who asks.
    pub fn provenance(&self) -> &Provenance {
        match self {
            Self::Stage(stage) => &stage.provenance,
            Self::Restage(restage) => &restage.provenance,
        }
    }
}

/// A generation that can be staged, once what is missing has come.
#[derive(Debug)]
pub struct Prepared {
    /// What is declared now.
    pub from: Manifest,
    /// What is to be declared.
    pub to: Manifest,
    /// The project whose slice changes.
    pub project: ProjectName,
    /// Who asks.
    pub provenance: Provenance,
    /// The files that are neither in a release nor in the spool.
    pub missing: BTreeMap<Digest, Expected>,
    trees: BTreeMap<Digest, Tree>,
    build: BTreeSet<AppName>,
    /// Those of which there is a release that is not as it was built.
    damaged: BTreeSet<AppName>,
    /// Files of releases that are here and have been read again.
    sources: BTreeMap<(Digest, Role), PathBuf>,
    held: Held,
    journal: Journal,
    warnings: Vec<String>,
}

/// The tools that look at a staged generation.
pub trait Checks {
    /// Lets the real tools check what would be live; returns their warnings.
    fn check(&mut self, from: &Manifest, to: &Manifest) -> Result<Vec<String>, Refusal>;
}

/// Composes a generation, and refuses what can be refused before a byte is uploaded.
pub fn prepare<M: Machine>(
    machine: &mut M,
    layout: &Layout,
    facts: &Facts,
    asked: Asked,
) -> Result<Prepared, Error> {
    preflight::stays_up(facts, 0)?;
    let journal = journal::read(machine, layout)?;
    store::is_as_recorded(machine, layout, &journal)?;
    let from = store::current_manifest(machine, layout)?;
    let highest = store::highest(machine, layout, &journal)?;
    let (wanted, parts) = match asked {
        Asked::Stage(stage) => brought(*stage)?,
        Asked::Restage(asked) => {
            let (wanted, was) = restage::wanted(machine, layout, (&journal, &from), asked)?;
            let mut parts = Parts::default();
            parts.held.add(layout, &was);
            (wanted, parts)
        }
    };
    let (project, provenance) = (wanted.project.clone(), wanted.provenance.clone());
    let restores = wanted.restores;
    let to = compose::compose(&from, highest, wanted, &facts.ssh_ports)?;
    preflight::stays_up(facts, to.health_s())?;
    if let Some((_, slice)) = to.all().find(|(name, _)| **name == project) {
        preflight::tools(facts, slice)?;
        sshd::look(machine, layout, (&project, slice))?;
        owners_to_come(machine, layout, (&to, slice))?;
    }
    preflight::needs(facts, &parts.needs)?;
    may_be_left(machine, layout, &from)?;
    constant::look(machine, layout, &to)?;
    let taken = occupied::occupied(machine, layout, &to)?;
    if !taken.is_empty() {
        return Err(Refusal::Occupied(taken).into());
    }
    preflight::writable(machine, layout)?;
    let Parts {
        mut trees,
        mut held,
        ..
    } = parts;
    held.add_all(machine, layout)?;
    let mut build = to_build(machine, layout, &to, &trees)?;
    let found = intact::judge(machine, layout, (&from, &to), &build)?;
    if let (Some(_), Some((_, damage))) = (restores, found.damaged.first_key_value()) {
        // A laptop that asks to go back has no contents to send.
        let what = damage.shown();
        return Err(Refusal::Corrupt { what }.into());
    }
    let damaged: BTreeSet<AppName> = found.damaged.keys().cloned().collect();
    for (name, damage) in found.damaged {
        trees.insert(damage.tree.digest(), damage.tree);
        build.insert(name);
    }
    spool::visit(machine, layout)?;
    let mut warnings = found.warnings;
    if facts.reboot_required {
        warnings.push("this host waits for a reboot (/run/reboot-required)".to_owned());
    }
    let mut prepared = Prepared {
        from,
        to,
        project,
        provenance,
        missing: BTreeMap::new(),
        trees,
        build,
        damaged,
        sources: BTreeMap::new(),
        held,
        journal,
        warnings,
    };
    prepared.look_for_missing(machine, layout)?;
    preflight::room(&facts.room, &prepared.loads())?;
    Ok(prepared)
}

/// Refuses what belongs to nobody who is there, or will be once this slice is staged.
fn owners_to_come<M: Machine>(
    machine: &M,
    layout: &Layout,
    (to, slice): (&Manifest, &Slice),
) -> Result<(), Error> {
    if !slice.groundwork.packages.is_empty() {
        // A package may bring users of its own, so this is looked at again when it is there.
        return Ok(());
    }
    let apps = to.apps().into_values().map(|app| &app.user);
    let coming = apps.chain(&slice.groundwork.logins).collect();
    owners::look(machine, layout, (to, &coming))
}

/// What comes with a request beside its slice.
#[derive(Default)]
struct Parts {
    trees: BTreeMap<Digest, Tree>,
    needs: BTreeMap<AppName, push_wire::facts::Needs>,
    held: Held,
}

fn brought(stage: Stage) -> Result<(Wanted, Parts), Error> {
    for (digest, tree) in &stage.trees {
        let wrong = |why: String| Error::refused(Refusal::Protocol { why });
        tree.check().map_err(|error| wrong(error.to_string()))?;
        if tree.digest() != *digest {
            return Err(wrong(format!(
                "the listing {digest} is not what its digest says"
            )));
        }
    }
    let texts = stage
        .texts
        .into_iter()
        .map(|(digest, text)| (digest, text.0));
    let parts = Parts {
        trees: stage.trees,
        needs: stage.needs,
        held: Held::new(texts.collect())?,
    };
    let wanted = Wanted {
        project: stage.project,
        base: stage.base,
        slice: stage.slice,
        restores: None,
        provenance: stage.provenance,
        way_in: stage.way_in,
    };
    Ok((wanted, parts))
}

/// Whether a generation could be brought back, or it is not left. A sealed secret that is damaged may come with
/// what is staged.
fn may_be_left<M: Machine>(machine: &M, layout: &Layout, from: &Manifest) -> Result<(), Error> {
    match store::differences(machine, layout, from) {
        Ok(_) | Err(store::StoreError::Irreplaceable { .. }) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// The apps whose release is not whole here. A listing of each must have come.
fn to_build<M: Machine>(
    machine: &M,
    layout: &Layout,
    to: &Manifest,
    trees: &BTreeMap<Digest, Tree>,
) -> Result<BTreeSet<AppName>, Error> {
    let mut build = BTreeSet::new();
    for (name, app) in to.apps() {
        if trees::tree_of(machine, layout, name, &app.release)? == Some(app.tree) {
            continue;
        }
        let Some(tree) = trees.get(&app.tree) else {
            let what = format!("the listing of {name}'s release, which is neither sent nor here,");
            return Err(Refusal::Corrupt { what }.into());
        };
        if tree.size() != app.size {
            let why = format!(
                "{name} is said to have {} bytes, its listing {}",
                app.size,
                tree.size()
            );
            return Err(Refusal::Protocol { why }.into());
        }
        build.insert(name.clone());
    }
    Ok(build)
}

impl Prepared {
    /// The releases to build.
    fn releases(&self) -> impl Iterator<Item = release::Wanted<'_>> {
        let apps = self.to.apps();
        self.build.iter().filter_map(move |name| {
            let app: &App = apps.get(name)?;
            let tree = self.trees.get(&app.tree)?;
            let name = self.to.apps().into_keys().find(|known| *known == name)?;
            let over = if self.damaged.contains(name) {
                release::Over::Damaged
            } else {
                release::Over::Nothing
            };
            Some(release::Wanted {
                name,
                app,
                tree,
                over,
            })
        })
    }

    /// Every file of the releases to build, by content and mode.
    fn files(&self) -> BTreeMap<(Digest, Role), (u64, String)> {
        let mut files = BTreeMap::new();
        for wanted in self.releases() {
            for (path, entry) in &wanted.tree.entries {
                if let Entry::File {
                    digest,
                    size,
                    executable,
                } = entry
                {
                    let shown = || (*size, format!("{} of {}", path, wanted.name));
                    files
                        .entry((*digest, Role::from(*executable)))
                        .or_insert_with(shown);
                }
            }
        }
        files
    }

    /// Finds out which files are in releases that are here, and which must come.
    fn look_for_missing<M: Machine>(
        &mut self,
        machine: &mut M,
        layout: &Layout,
    ) -> Result<(), Error> {
        let files = self.files();
        self.sources = trees::sources(machine, layout, &files.keys().copied().collect())?;
        for ((digest, role), (size, path)) in files {
            let key = (digest, role);
            if self.sources.contains_key(&key)
                || spool::verified_blob(machine, layout, key)?.is_some()
            {
                continue;
            }
            let roles = BTreeSet::new();
            let entry = self
                .missing
                .entry(digest)
                .or_insert(Expected { size, path, roles });
            entry.roles.insert(role);
        }
        Ok(())
    }

    /// What this push brings, by folder: the pack and its files to the spool, which then get a second
    /// name in their releases; folders and links; texts.
    fn loads(&self) -> BTreeMap<String, Load> {
        let bytes: u64 = self
            .missing
            .values()
            .map(|file| file.size)
            .fold(0, u64::saturating_add);
        let entries: usize = self
            .releases()
            .map(|wanted| wanted.tree.entries.len() + 1)
            .sum();
        let upload = Load {
            bytes: bytes.saturating_mul(2),
            inodes: self.missing.len() as u64 * 2,
        };
        let releases = Load {
            bytes: 0,
            inodes: entries as u64,
        };
        let generation = preflight::generation(&self.to, self.held.sent_bytes());
        [
            ("/var/lib/push".to_owned(), upload),
            ("/srv".to_owned(), releases),
            ("/etc/push".to_owned(), generation),
        ]
        .into()
    }

    /// What is to be made before anything else: the project's own groundwork.
    pub fn groundwork(&self) -> Groundwork {
        let slice = self.to.slice(&self.project);
        slice
            .map(|slice| slice.groundwork.clone())
            .unwrap_or_default()
    }

    /// The most that a pack of what is missing can have, in bytes: zstd adds at most a few in a
    /// thousand to what it cannot compress.
    pub fn pack_bytes_max(&self) -> u64 {
        const SLACK_BYTES: u64 = 1 << 20;
        const ENTRY_BYTES: u64 = push_wire::frame::PackEntry::BYTES as u64;
        let plain = self
            .missing
            .values()
            .map(|file| file.size.saturating_add(ENTRY_BYTES));
        let plain = plain.fold(0, u64::saturating_add);
        plain.saturating_add(plain / 64).saturating_add(SLACK_BYTES)
    }

    /// Unpacks what was missing.
    pub fn receive<M: Machine>(
        &mut self,
        machine: &mut M,
        layout: &Layout,
        pack: &Path,
    ) -> Result<(), Error> {
        match spool::unpack(machine, layout, pack, &self.missing) {
            Ok(()) => self.missing.clear(),
            Err(spool::UnpackError::Corrupt { what }) => {
                // It would be gone on with where it ends, and be as damaged again.
                machine.remove(pack)?;
                return Err(Refusal::Corrupt { what }.into());
            }
            Err(spool::UnpackError::Protocol { why }) => {
                return Err(Refusal::Protocol { why }.into());
            }
            Err(spool::UnpackError::Disk(error)) => return Err(Error::Disk(error)),
        }
        Ok(())
    }

    /// Makes the generation, and lets the real tools check it. Returns its number and their
    /// warnings. What failed leaves no generation behind.
    pub fn finish<M: Machine>(
        &self,
        machine: &mut M,
        layout: &Layout,
        checks: &mut impl Checks,
    ) -> Result<(GenerationId, Vec<String>), Error> {
        self.users(machine)?;
        owners::look(machine, layout, (&self.to, &BTreeSet::new()))?;
        for wanted in self.releases() {
            trees::tidy(machine, layout, wanted.name)?;
            release::build(machine, layout, &wanted, &self.sources)?;
        }
        for (name, app) in self.to.apps() {
            release::shared(machine, layout, (name, app))?;
        }
        spool::clear(machine, layout)?;
        let staged = self.same_again(machine, layout);
        let to = staged.as_ref().unwrap_or(&self.to);
        if staged.is_none() {
            let journal = (self.from.generation, &self.journal);
            generation::remove_unused(machine, layout, journal)?;
            generation::write(machine, layout, to, &self.held)?;
        }
        constant::ensure(machine, layout, to)?;
        match checks.check(&self.from, to) {
            Ok(warnings) => Ok((to.generation, [self.warnings.clone(), warnings].concat())),
            Err(refusal) => {
                generation::remove(machine, layout, to.generation)?;
                Err(refusal.into())
            }
        }
    }

    /// The generation that an earlier, cut push of the same has staged already, if it has.
    fn same_again<M: Machine>(&self, machine: &M, layout: &Layout) -> Option<Manifest> {
        let before = GenerationId(self.to.generation.0 - 1);
        if before <= self.from.generation || generation::is_told(&self.journal, before) {
            return None;
        }
        // One that is not as it was left is not taken up, but removed and written anew.
        let there = store::manifest(machine, layout, before)
            .and_then(|found| store::verify(machine, layout, &found).map(|()| found));
        there.ok().filter(|found| compose::is_same(found, &self.to))
    }

    fn users<M: Machine>(&self, machine: &mut M) -> Result<(), Error> {
        let apps = self.to.apps();
        let users: BTreeSet<&UserName> = apps.values().map(|app| &app.user).collect();
        for user in users.into_iter().filter(|user| **user != UserName::root()) {
            machine
                .run(&Tool::CreateUser(user.clone()))
                .map_err(|error| Refusal::Host {
                    why: error.to_string(),
                })?;
        }
        Ok(())
    }
}

#[cfg(test)]
pub(crate) mod tests {
    pub(crate) use super::compose::tests::{app, file, manifest, unit};
    pub(crate) use super::preflight::tests::facts;
}
