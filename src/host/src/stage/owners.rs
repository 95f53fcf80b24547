//! Whether the host knows the users and groups that declared files are to belong to.

use std::collections::BTreeSet;
use std::io::ErrorKind;

use push_wire::manifest::Manifest;
use push_wire::message::Refusal;
use push_wire::name::UserName;

use super::Error;
use crate::layout::Layout;
use crate::machine::{Disk, TEXT_BYTES_MAX};

/// Refuses a file whose owner or group is neither there nor among those to come.
pub fn look<M: Disk>(
    machine: &M,
    layout: &Layout,
    (to, coming): (&Manifest, &BTreeSet<&UserName>),
) -> Result<(), Error> {
    let users = names(machine, layout, "/etc/passwd")?;
    let groups = names(machine, layout, "/etc/group")?;
    let is_missing = |there: &Option<BTreeSet<String>>, name: &UserName| {
        let is_there = there.as_ref().is_none_or(|it| it.contains(name.as_str()));
        !is_there && *name != UserName::root() && !coming.contains(name)
    };
    for (path, file) in to.all().flat_map(|(_, slice)| &slice.files) {
        if is_missing(&users, &file.owner) {
            let (path, owner) = (path.clone(), file.owner.clone());
            return Err(Refusal::NoUser { path, owner }.into());
        }
        if is_missing(&groups, &file.group) {
            let (path, group) = (path.clone(), file.group.clone());
            return Err(Refusal::NoGroup { path, group }.into());
        }
    }
    Ok(())
}

/// The names in a file of accounts; `None` where there is no such file, which is another trouble.
fn names<M: Disk>(
    machine: &M,
    layout: &Layout,
    file: &str,
) -> Result<Option<BTreeSet<String>>, Error> {
    let text = match machine.read(&layout.at(file), TEXT_BYTES_MAX) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let text = String::from_utf8_lossy(&text);
    let names = text.lines().filter_map(|line| line.split(':').next());
    Ok(Some(names.map(str::to_owned).collect()))
}
