//! Other files of the host, and its firewall.

use push_wire::manifest::{File, OnChange};

use super::DesiredError;
use super::making::Making;
use crate::inventory::{self, FileContent, ManagedFile};
use crate::name::HostPath;

/// Declares the files that this host has.
pub(super) fn declare(making: &mut Making<'_>) -> Result<(), DesiredError> {
    let input = making.input;
    let here = input
        .fleet
        .files
        .iter()
        .filter(|(_, file)| file.on.contains(&input.host.name));
    for (path, file) in here {
        let content = content(making, path, file)?;
        let declared = File {
            digest: making.text(content),
            owner: file.owner.clone(),
            group: file.group.clone(),
            mode: file.mode.0,
            on_change: on_change(&file.on_change),
        };
        making.slice.files.insert(path.clone(), declared);
    }
    making.slice.firewall = input
        .fleet
        .firewall
        .as_ref()
        .and_then(|firewall| firewall.of(&input.host.name));
    Ok(())
}

fn content(
    making: &Making<'_>,
    path: &HostPath,
    file: &ManagedFile,
) -> Result<Vec<u8>, DesiredError> {
    let what = format!("the file {path}");
    let scope = making.input.fleet.scope(making.input.host);
    match &file.content {
        FileContent::Template(name) => making.render(&what, name, &scope).map(String::into_bytes),
        FileContent::Text(text) => text
            .render(&scope)
            .map(String::into_bytes)
            .map_err(making.template_error(&what)),
        FileContent::Source(source) => match making.input.verbatim.get(source) {
            Some(content) => Ok(content.clone()),
            None => Err(making.value_error(&what, format!("{} was not read", source.display()))),
        },
    }
}

fn on_change(on_change: &inventory::OnChange) -> OnChange {
    match on_change {
        inventory::OnChange::Nothing => OnChange::Nothing,
        inventory::OnChange::Restart(unit) => OnChange::Restart(unit.clone()),
        inventory::OnChange::Reload(unit) => OnChange::Reload(unit.clone()),
        inventory::OnChange::Sysctl => OnChange::Sysctl,
        inventory::OnChange::DaemonReload => OnChange::DaemonReload,
    }
}
