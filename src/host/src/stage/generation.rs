//! Writes the folder of a new generation: complete, durable, and then under its final name, so that a
//! folder that has a number is whole.

use std::path::Path;

use push_wire::manifest::Manifest;
use push_wire::message::Refusal;
use push_wire::name::GenerationId;

use super::Error;
use super::texts::{Held, Text, texts};
use crate::journal::Journal;
use crate::layout::{self, Layout, MARKER_ADDRESS, TRASH};
use crate::machine::{self, Access, Machine};
use crate::store;

/// The end of the name of a generation that is being written.
const PART: &str = ".part";

/// Writes a generation. What it holds is looked at once more on the way: digests, and whether each
/// secret opens with this host's key.
pub fn write<M: Machine>(
    machine: &mut M,
    layout: &Layout,
    manifest: &Manifest,
    held: &Held,
) -> Result<(), Error> {
    let part = layout
        .generations()
        .join(format!(".{}{PART}", manifest.generation));
    machine::folders(machine, &layout.generations(), &Access::public_folder())?;
    machine.remove_folder(&part)?;
    let written = fill(
        machine,
        &layout::Generation::being_written(&part),
        (layout, manifest),
        held,
    );
    if written.is_err() {
        machine.remove_folder(&part)?;
    }
    written?;
    machine.sync_all(&part)?;
    machine.rename(&part, layout.generation(manifest.generation).folder())?;
    machine.sync(&layout.generations())?;
    machine.sync(&layout.push())?;
    Ok(())
}

/// Removes generations that were staged and never switched to, and halves of them. Needs the lock.
pub fn remove_unused<M: Machine>(
    machine: &mut M,
    layout: &Layout,
    (current, journal): (GenerationId, &Journal),
) -> Result<(), Error> {
    for name in machine.list(&layout.generations())? {
        if name.starts_with('.') && name.ends_with(PART) {
            machine.remove_folder(&layout.generations().join(name))?;
        }
    }
    for id in store::generations(machine, layout)? {
        if id > current && !is_told(journal, id) {
            remove(machine, layout, id)?;
        }
    }
    Ok(())
}

/// Removes a generation that was never switched to: first its name goes, so that half of it is never
/// taken for a whole one.
pub fn remove<M: Machine>(machine: &mut M, layout: &Layout, id: GenerationId) -> Result<(), Error> {
    let trash = layout.generations().join(format!("{TRASH}{id}"));
    machine.remove_folder(&trash)?;
    machine.rename(layout.generation(id).folder(), &trash)?;
    machine.remove_folder(&trash)?;
    Ok(())
}

/// Whether the journal tells of a switch to a generation.
pub fn is_told(journal: &Journal, id: GenerationId) -> bool {
    let mut told = journal
        .records()
        .iter()
        .filter_map(|record| record.about.as_ref());
    told.any(|about| about.to == id)
}

fn fill<M: Machine>(
    machine: &mut M,
    into: &layout::Generation,
    (layout, manifest): (&Layout, &Manifest),
    held: &Held,
) -> Result<(), Error> {
    machine.folder(into.folder(), &Access::public_folder())?;
    for text in texts(manifest, into) {
        let content = content(machine, held, &text)?;
        match text.secret {
            Some(_) => inside(machine, &text.path, &Access::private_folder())?,
            None => inside(machine, &text.path, &Access::public_folder())?,
        }
        if text.is_read_by_systemd {
            machine.create_undated(&text.path, &content, &text.access)?;
        } else {
            machine.create(&text.path, &content, &text.access)?;
        }
    }
    if !manifest.sites().is_empty() {
        create(machine, &into.marker(), &marker(manifest.generation))?;
    }
    if let Some(rules) = manifest.nftables() {
        create(machine, &into.firewall(), &rules)?;
    }
    for (name, app) in manifest.apps() {
        let link = into.app(name);
        inside(machine, &link, &Access::public_folder())?;
        machine.link(&layout.release(name, &app.release), &link)?;
    }
    let text = serde_json::to_string_pretty(manifest).map_err(std::io::Error::from)?;
    create(machine, &into.manifest(), &text)
}

fn create<M: Machine>(machine: &mut M, path: &Path, text: &str) -> Result<(), Error> {
    inside(machine, path, &Access::public_folder())?;
    Ok(machine.create(path, text.as_bytes(), &Access::public_file())?)
}

/// The folder that a path is in, and those above it that are missing. None is synced by itself: the
/// whole generation is, before it gets its name.
fn inside<M: Machine>(machine: &mut M, path: &Path, access: &Access) -> Result<(), Error> {
    let Some(folder) = path.parent() else {
        return Ok(());
    };
    if machine.stat(folder)?.is_some() {
        return Ok(());
    }
    inside(machine, folder, &Access::public_folder())?;
    Ok(machine.folder(folder, access)?)
}

fn content<M: Machine>(machine: &M, held: &Held, text: &Text<'_>) -> Result<Vec<u8>, Error> {
    let Some(content) = held.get(machine, text.digest)? else {
        let what = format!("{}, which is neither sent nor here,", text.what);
        return Err(Error::refused(Refusal::Corrupt { what }));
    };
    if let Some((app, name)) = text.secret {
        // Opened to see that it opens; the content is wiped at once.
        crate::bundle::open(machine, &content)
            .map(drop)
            .map_err(|why| {
                Error::refused(Refusal::Secret {
                    app: app.clone(),
                    name: name.to_string(),
                    why,
                })
            })?;
    }
    Ok(content)
}

/// The site by which new nginx workers tell which generation they serve.
fn marker(generation: GenerationId) -> String {
    format!(
        "# Written by push: tells which generation nginx serves, to this host alone.\n\
         server {{\n    listen {MARKER_ADDRESS};\n    access_log off;\n    \
         location = /generation {{\n        default_type text/plain;\n        \
         return 200 \"{generation}\";\n    }}\n    \
         location / {{\n        return 404;\n    }}\n}}\n"
    )
}
