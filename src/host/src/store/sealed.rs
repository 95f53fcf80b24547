//! Sealed secrets of generations. One that was damaged on the disk would keep its generation from
//! coming back; so another generation's is taken in its place when both hold the same secret, which the
//! fingerprints in their manifests tell.

use std::io;
use std::path::Path;

use push_wire::digest::Digest;
use push_wire::manifest::{Manifest, Secret};
use push_wire::name::{AppName, FileName};

use super::{StoreError, generations, manifest};
use crate::layout::Layout;
use crate::machine::{Disk, Node, TEXT_BYTES_MAX};

/// A generation's sealed secret, or one of the same content that another generation holds; `None` if
/// none is as it was staged.
pub fn sealed<M: Disk>(
    machine: &M,
    layout: &Layout,
    (of, app, name): (&Manifest, &AppName, &FileName),
) -> Result<Option<Vec<u8>>, StoreError> {
    let secrets = of.secrets();
    let Some(&secret) = secrets.get(&(app, name)) else {
        return Ok(None);
    };
    if let Some(own) = intact(machine, layout, (of, app, name))? {
        return Ok(Some(own));
    }
    for id in generations(machine, layout)?.into_iter().rev() {
        // One that cannot be read helps nobody.
        let Ok(other) = manifest(machine, layout, id) else {
            continue;
        };
        let is_same = |found: &&Secret| {
            found.fingerprint == secret.fingerprint && found.recipient == secret.recipient
        };
        let is_twin = other.secrets().get(&(app, name)).is_some_and(is_same);
        if is_twin && let Some(twin) = intact(machine, layout, (&other, app, name))? {
            return Ok(Some(twin));
        }
    }
    Ok(None)
}

/// A generation's own, if it is what was staged.
fn intact<M: Disk>(
    machine: &M,
    layout: &Layout,
    (of, app, name): (&Manifest, &AppName, &FileName),
) -> io::Result<Option<Vec<u8>>> {
    let path = layout.generation(of.generation).sealed(app, name);
    let secrets = of.secrets();
    let Some(&secret) = secrets.get(&(app, name)) else {
        return Ok(None);
    };
    Ok(file(machine, &path)?.filter(|content| Digest::of(content) == secret.sealed))
}

fn file<M: Disk>(machine: &M, path: &Path) -> io::Result<Option<Vec<u8>>> {
    match machine.stat(path)? {
        Some(stat) if stat.node == Node::File => machine.read(path, TEXT_BYTES_MAX).map(Some),
        Some(_) | None => Ok(None),
    }
}
