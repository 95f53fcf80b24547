//! The inside of a view: runs in a mount namespace of its own and becomes the tool.

use std::io;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use push_wire::effect::Effect;
use push_wire::manifest::Manifest;
use push_wire::name::GenerationId;
use rustix::mount::{MountFlags, mount, mount_bind};

use super::Tool;
use crate::effects::{self, EffectError};
use crate::layout::Layout;
use crate::machine::real::process::Program;
use crate::machine::{self, Access, Machine, Node};
use crate::store::{self, StoreError, links};

/// What the layer over `/etc` and the opened secrets may take together, in memory.
const MEMORY: &str = "size=64m,mode=0700";

/// How long copying `/etc` may take; it has a few thousand small files.
const COPY_WITHIN: Duration = Duration::from_secs(20);

/// Folders that a tool expects although nothing makes them before its service starts.
const EXPECTED: &[&str] = &["/run/sshd"];

/// Why there is no view.
#[derive(Debug, thiserror::Error)]
pub enum InsideError {
    /// It would change the host's own mounts.
    #[error("`push-host view` is run by push-host itself, in a mount namespace of its own")]
    NotApart,
    /// This host's kernel, or the container it is in, does not let us.
    #[error("this host gives no view of a staged generation: {what}: {error}")]
    Mount {
        /// What was attempted.
        what: &'static str,
        /// What came of it.
        error: io::Error,
    },
    /// The generation cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Its secrets cannot be opened.
    #[error(transparent)]
    Effect(#[from] EffectError),
    /// The tool cannot be run.
    #[error("{tool} cannot be run: {error}")]
    Tool {
        /// Which.
        tool: String,
        /// Why.
        error: io::Error,
    },
    /// The disk failed.
    #[error(transparent)]
    Disk(#[from] io::Error),
}

/// Makes the view and becomes the tool; returns only when that fails.
pub fn enter<M: Machine>(
    machine: &mut M,
    layout: &Layout,
    (generation, tool): (GenerationId, Tool),
) -> InsideError {
    match prepare(machine, layout, (generation, tool)) {
        Ok(argv) => {
            let (program, arguments) = argv
                .split_first()
                .map_or(("", &[][..]), |(first, rest)| (first, rest));
            let error = Command::new(program).args(arguments).exec();
            InsideError::Tool {
                tool: argv.join(" "),
                error,
            }
        }
        Err(error) => error,
    }
}

fn prepare<M: Machine>(
    machine: &mut M,
    layout: &Layout,
    (generation, tool): (GenerationId, Tool),
) -> Result<Vec<String>, InsideError> {
    if !is_apart()? {
        return Err(InsideError::NotApart);
    }
    let from = store::current_manifest(machine, layout)?;
    let to = store::manifest(machine, layout, generation)?;
    cover(machine, layout)?;
    machine::replace_link(
        machine,
        &Layout::current_target(generation),
        &layout.current(),
    )?;
    lay(machine, layout, (&from, &to))?;
    if tool == Tool::Nginx {
        // It reads its keys and passwords; the other tools need none.
        effects::carry_out(machine, layout, &to, &Effect::OpenSecrets)?;
    }
    for folder in EXPECTED {
        machine::folders(machine, &layout.at(folder), &Access::public_folder())?;
    }
    Ok(tool.argv(layout, (&from, &to)))
}

/// Whether our mounts are our own, and not those of the host's init.
fn is_apart() -> io::Result<bool> {
    let ours = std::fs::read_link("/proc/self/ns/mnt")?;
    Ok(ours != std::fs::read_link("/proc/1/ns/mnt")?)
}

/// Covers `/etc` by a layer in memory, and the opened secrets by an empty folder. Where the kernel has no
/// such layers (overlayfs), or `/etc` is in too many of them, a copy does.
fn cover<M: Machine>(machine: &mut M, layout: &Layout) -> Result<(), InsideError> {
    let view = layout.view();
    machine::folders(machine, &view, &Access::private_folder())?;
    // On the host's first push this is where the folder comes from that the secrets are opened in.
    machine::folders(machine, &layout.secrets(), &Access::passage())?;
    memory("memory for a layer over /etc", &view)?;
    let (upper, work) = (view.join("upper"), view.join("work"));
    // The layer's own folder is what /etc seems to be.
    machine.folder(&upper, &Access::public_folder())?;
    machine.folder(&work, &Access::private_folder())?;
    let etc = layout.at("/etc");
    let options = format!(
        "lowerdir={},upperdir={},workdir={}",
        etc.display(),
        upper.display(),
        work.display()
    );
    if mounted("a layer over /etc", "overlay", &etc, &options).is_err() {
        copied(&etc, &view.join("copy"))?;
    }
    memory("memory for opened secrets", &layout.secrets())
}

/// Puts a copy of a folder over it, with every owner, mode and link as they are.
fn copied(folder: &Path, copy: &Path) -> Result<(), InsideError> {
    let failed = |error: io::Error| InsideError::Mount {
        what: "a copy of /etc",
        error,
    };
    let (from, to) = (folder.display().to_string(), copy.display().to_string());
    let argv = ["cp", "--archive", "--no-target-directory", "--", &from, &to];
    Program::new(&argv, COPY_WITHIN)
        .succeed()
        .map_err(|error| failed(io::Error::other(error)))?;
    mount_bind(copy, folder).map_err(|error| failed(error.into()))
}

fn memory(what: &'static str, place: &Path) -> Result<(), InsideError> {
    mounted(what, "tmpfs", place, MEMORY)
}

fn mounted(what: &'static str, kind: &str, place: &Path, options: &str) -> Result<(), InsideError> {
    let options = std::ffi::CString::new(options).map_err(|error| InsideError::Mount {
        what,
        error: error.into(),
    })?;
    let flags = MountFlags::NODEV | MountFlags::NOSUID;
    mount(kind, place, kind, flags, options.as_c_str()).map_err(|error| InsideError::Mount {
        what,
        error: error.into(),
    })
}

/// The links below `/etc` as they would be; others are no tool's business, and not covered.
fn lay<M: Machine>(
    machine: &mut M,
    layout: &Layout,
    (from, to): (&Manifest, &Manifest),
) -> io::Result<()> {
    let etc = layout.at("/etc");
    let covered = |place: &PathBuf| place.starts_with(&etc);
    let new = links::links(layout, to);
    for place in links::links(layout, from).into_keys().filter(covered) {
        let is_link = machine
            .stat(&place)?
            .is_some_and(|stat| stat.node == Node::Link);
        if is_link && !new.contains_key(&place) {
            machine.remove(&place)?;
        }
    }
    for (place, link) in new.into_iter().filter(|(place, _)| covered(place)) {
        if let Some(folder) = place.parent() {
            machine::folders(machine, folder, &Access::public_folder())?;
        }
        machine::replace_link(machine, &link.target, &place)?;
    }
    Ok(())
}
