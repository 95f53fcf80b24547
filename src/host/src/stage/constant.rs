//! What stays the same whatever is declared: the unit that recovers at boot, the file by which nginx
//! includes the generation's sites, and what lets push's firewall outlive a restart of the system's own.
//! None changes anything live by being there.

use std::path::Path;

use push_wire::manifest::Manifest;
use push_wire::message::Refusal;

use super::Error;
use crate::layout::Layout;
use crate::machine::{self, Access, Disk, Machine, TEXT_BYTES_MAX, Tool};
use crate::{firewall, recover};

/// What nginx includes. As long as the generation in effect has no sites, that is nothing.
pub const NGINX_INCLUDE: &str = "# Written by push.\ninclude /etc/push/current/nginx/*.conf;\n";

/// The target that wants the recovery at every boot.
const BOOT: &str = "sysinit.target.wants";

/// Refuses a foreign file at the place of nginx's include.
pub fn look<M: Disk>(machine: &M, layout: &Layout, to: &Manifest) -> Result<(), Error> {
    let path = layout.nginx_include();
    if to.sites().is_empty() || machine.stat(&path)?.is_none() {
        return Ok(());
    }
    if machine.read(&path, TEXT_BYTES_MAX)? == NGINX_INCLUDE.as_bytes() {
        return Ok(());
    }
    Err(Refusal::Occupied(layout.named(&path).into_iter().collect()).into())
}

/// Whether the recovery runs at the next boot.
pub fn is_recovery_enabled<M: Disk>(machine: &M, layout: &Layout) -> Result<bool, Error> {
    let name = Path::new("push-recover.service");
    let link = layout.units().join(BOOT).join(name);
    Ok(machine.read_link(&link)?.is_some() && machine.stat(&layout.recover_unit())?.is_some())
}

/// Makes them, durably.
pub fn ensure<M: Machine>(machine: &mut M, layout: &Layout, to: &Manifest) -> Result<(), Error> {
    ensure_file(machine, &layout.recover_unit(), recover::UNIT)?;
    let wants = layout.units().join(BOOT);
    let name = Path::new("push-recover.service");
    let (link, target) = (wants.join(name), Path::new("..").join(name));
    if machine.read_link(&link)?.as_ref() != Some(&target) {
        machine::folders(machine, &wants, &Access::public_folder())?;
        machine::replace_link(machine, &target, &link)?;
        machine.sync(&wants)?;
        machine.sync(&layout.units())?;
    }
    if !to.sites().is_empty() {
        ensure_file(machine, &layout.nginx_include(), NGINX_INCLUDE)?;
    }
    let drop_in = (&*layout.nftables_drop_in(), firewall::DROP_IN);
    if to.firewall().is_some() && ensure_file(machine, drop_in.0, drop_in.1)? == Ensured::Now {
        // The other two are read by whoever starts later anyway.
        let reloaded = machine.run(&Tool::DaemonReload);
        reloaded.map_err(|error| std::io::Error::other(error.to_string()))?;
    }
    Ok(())
}

/// Since when a file is as it should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ensured {
    Before,
    Now,
}

fn ensure_file<M: Disk>(machine: &mut M, path: &Path, text: &str) -> Result<Ensured, Error> {
    let is_there = machine.stat(path)?.is_some();
    if is_there && machine.read(path, TEXT_BYTES_MAX)? == text.as_bytes() {
        return Ok(Ensured::Before);
    }
    let folder = path.parent().unwrap_or(path);
    machine::folders(machine, folder, &Access::public_folder())?;
    machine::replace(machine, path, text.as_bytes(), &Access::public_file())?;
    machine.sync(folder)?;
    Ok(Ensured::Now)
}
