//! Whether a release that is here is still what was built: what comes back by a rollback was not run for
//! a while, and nothing would notice if it had changed meanwhile.
//!
//! What is in effect already runs as it is, so it is looked at: each entry's kind, size, mode, owner, and
//! that nothing was added. What is to take effect again is also read to its end and held against its
//! digests. That happens while staging, when nothing waits for it, and only root can change a release
//! between then and the switch. Files that a new release shares with an old one are read as well, by
//! [`super::trees::sources`].

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};

use push_wire::manifest::{App, Manifest};
use push_wire::message::Refusal;
use push_wire::name::AppName;
use push_wire::path::TreePath;
use push_wire::tree::{Entry, Tree};

use super::{Error, release, trees};
use crate::layout::Layout;
use crate::machine::{Disk, Node};
use crate::spool::{self, Role};

/// Bits that let somebody else than the owner write.
const WRITABLE_BY_OTHERS: u32 = 0o022;

/// What was found about releases that are here.
#[derive(Debug, Default)]
pub struct Judged {
    /// Those that are to take effect again and are not as they were built, by app.
    pub damaged: BTreeMap<AppName, Damage>,
    /// What is said of those that are in effect.
    pub warnings: Vec<String>,
}

/// A release that is not as it was built.
#[derive(Debug)]
pub struct Damage {
    /// What should be in it.
    pub tree: Tree,
    /// The first path that differs.
    pub path: PathBuf,
}

impl Damage {
    /// What it is, for messages.
    pub fn shown(&self) -> String {
        format!(
            "{}, in a release that is to take effect again,",
            self.path.display()
        )
    }
}

/// Looks at the releases that are in effect, and reads those that are to take effect again. One in effect
/// that was changed in place is told and stops nothing, or no later push could ever begin.
pub fn judge<M: Disk>(
    machine: &M,
    layout: &Layout,
    (from, to): (&Manifest, &Manifest),
    build: &BTreeSet<AppName>,
) -> Result<Judged, Error> {
    let mut judged = Judged {
        warnings: look(machine, layout, from, usize::MAX)?,
        ..Judged::default()
    };
    let in_effect = from.apps();
    for (name, app) in to.apps() {
        let runs = in_effect
            .get(name)
            .is_some_and(|known| known.release == app.release);
        if runs || build.contains(name) {
            continue;
        }
        if let Some(damage) = differs(machine, layout, (name, app))? {
            judged.damaged.insert(name.clone(), damage);
        }
    }
    Ok(judged)
}

/// What is to be said of the releases that are in effect, and have no more than so many entries: the first
/// path of each that was changed.
pub fn look<M: Disk>(
    machine: &M,
    layout: &Layout,
    in_effect: &Manifest,
    entries_max: usize,
) -> Result<Vec<String>, Error> {
    let mut warnings = Vec::new();
    for (name, app) in in_effect.apps() {
        // What is in effect was whole when it was staged, its listing too.
        let Some(tree) = trees::read(machine, layout, name, app.tree)? else {
            continue;
        };
        if tree.entries.len() > entries_max {
            continue;
        }
        let release = layout.release(name, &app.release);
        let path = difference(machine, &release, (app, &tree), Depth::Look)?;
        warnings.extend(path.map(|path| {
            format!(
                "{} was changed on this host since it was pushed",
                path.display()
            )
        }));
    }
    Ok(warnings)
}

/// How a release that is to take effect again differs from what was built.
fn differs<M: Disk>(
    machine: &M,
    layout: &Layout,
    (name, app): (&AppName, &App),
) -> Result<Option<Damage>, Error> {
    let Some(tree) = trees::read(machine, layout, name, app.tree)? else {
        let what = format!("the listing of the release {} of {name}", app.release);
        return Err(Refusal::Corrupt { what }.into());
    };
    let release = layout.release(name, &app.release);
    let path = difference(machine, &release, (app, &tree), Depth::Read)?;
    Ok(path.map(|path| Damage { tree, path }))
}

/// How much is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Depth {
    /// What can be told without reading.
    Look,
    /// All of it.
    Read,
}

/// The first path of a release that is not as it was built; `None` if all of it is.
fn difference<M: Disk>(
    machine: &M,
    release: &Path,
    (app, tree): (&App, &Tree),
    depth: Depth,
) -> io::Result<Option<PathBuf>> {
    let mut known = BTreeSet::new();
    let listed = tree.entries.iter();
    for (path, entry) in listed.filter(|(path, _)| !release::is_shared(app, path)) {
        let place = release.join(path.as_path());
        if !is_as_listed(machine, &place, (entry, depth))? {
            return Ok(Some(place));
        }
        known.insert(path.clone());
    }
    added(machine, (release, app), &known)
}

fn is_as_listed<M: Disk>(
    machine: &M,
    place: &Path,
    (entry, depth): (&Entry, Depth),
) -> io::Result<bool> {
    match entry {
        Entry::Folder => is_roots_folder(machine, place),
        Entry::Link { target } => {
            Ok(machine.read_link(place)?.as_deref() == Some(Path::new(target)))
        }
        Entry::File {
            digest,
            size,
            executable,
        } => {
            let looks = trees::is_intact(machine, place, *size, Role::from(*executable))?;
            Ok(looks && (depth == Depth::Look || spool::hash(machine, place)?.finish() == *digest))
        }
    }
}

fn is_roots_folder<M: Disk>(machine: &M, place: &Path) -> io::Result<bool> {
    let stat = machine.stat(place)?;
    Ok(stat.is_some_and(|stat| {
        stat.node == Node::Folder && stat.uid == 0 && stat.mode & WRITABLE_BY_OTHERS == 0
    }))
}

/// The first path that is in no listing. The links to shared folders are in none; on the way to one,
/// folders may be that the listing lacks.
fn added<M: Disk>(
    machine: &M,
    (release, app): (&Path, &App),
    known: &BTreeSet<TreePath>,
) -> io::Result<Option<PathBuf>> {
    let shared = || app.shared.iter().map(TreePath::as_path);
    let mut folders = vec![PathBuf::new()];
    while let Some(folder) = folders.pop() {
        if !is_roots_folder(machine, &release.join(&folder))? {
            return Ok(Some(release.join(&folder)));
        }
        for name in machine.list(&release.join(&folder))? {
            let path = folder.join(&name);
            // A link that an earlier declaration asked for leads to a shared folder as well.
            let leads_to_shared = || -> io::Result<bool> {
                let target = machine.read_link(&release.join(&path))?;
                Ok(target.is_some_and(|target| target.starts_with(release::up_to_shared(&path))))
            };
            let is_known = path
                .to_str()
                .and_then(|path| path.parse().ok())
                .is_some_and(|path: TreePath| known.contains(&path));
            let is_on_the_way = shared().any(|shared| shared.starts_with(&path));
            if !is_known && !is_on_the_way && !leads_to_shared()? {
                return Ok(Some(release.join(&path)));
            }
            let stat = machine.stat(&release.join(&path))?;
            if stat.is_some_and(|stat| stat.node == Node::Folder) {
                folders.push(path);
            }
        }
    }
    Ok(None)
}
