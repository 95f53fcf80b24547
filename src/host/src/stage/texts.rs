//! The texts of a generation: units, sites, files, sealed secrets; where each comes from and where it
//! goes.
//!
//! A kind of text is added in [`texts`], with its place in `layout::Generation`.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};

use push_wire::digest::Digest;
use push_wire::manifest::Manifest;
use push_wire::message::Refusal;
use push_wire::name::{AppName, FileName, UserName};

use super::Error;
use crate::layout::{self, Layout};
use crate::machine::{Access, Disk, Node, TEXT_BYTES_MAX};
use crate::store::{self, StoreError};

/// Where a file is a unit or a drop-in of one (systemd.unit(5)).
const UNITS: &str = "/etc/systemd/system/";

/// One text of a generation.
#[derive(Debug, Clone)]
pub struct Text<'a> {
    /// What it is, for messages.
    pub what: String,
    /// Its content.
    pub digest: Digest,
    /// Where it belongs.
    pub path: PathBuf,
    /// Who may read it.
    pub access: Access,
    /// Whether systemd reads it, which calls a unit changed whose file is newer than the one it knows
    /// (`NeedDaemonReload`, systemctl(1)): an operator would be told so after every push.
    pub is_read_by_systemd: bool,
    /// The secret that it is, sealed.
    pub secret: Option<(&'a AppName, &'a FileName)>,
}

/// Every text that a manifest names, with its place in `generation`.
pub fn texts<'a>(manifest: &'a Manifest, generation: &layout::Generation) -> Vec<Text<'a>> {
    let public = |what: String, digest, path| Text {
        what,
        digest,
        path,
        access: Access::public_file(),
        is_read_by_systemd: false,
        secret: None,
    };
    let units = manifest.units().into_iter().map(|(name, unit)| Text {
        is_read_by_systemd: true,
        ..public(
            format!("the unit {name}"),
            unit.digest,
            generation.unit(name),
        )
    });
    let sites = manifest.sites().into_iter().map(|(app, site)| {
        public(
            format!("the site of {app}"),
            site.digest,
            generation.site(app),
        )
    });
    let files = manifest.files().into_iter().map(|(path, file)| Text {
        what: path.to_string(),
        digest: file.digest,
        path: generation.file(path),
        access: Access {
            mode: file.mode,
            owner: file.owner.clone(),
            group: file.group.clone(),
        },
        is_read_by_systemd: path.as_str().starts_with(UNITS),
        secret: None,
    });
    let secrets = manifest
        .secrets()
        .into_iter()
        .map(|((app, name), secret)| Text {
            what: format!("the secret {name} of {app}"),
            digest: secret.sealed,
            path: generation.sealed(app, name),
            access: Access {
                mode: 0o600,
                owner: UserName::root(),
                group: UserName::root(),
            },
            is_read_by_systemd: false,
            secret: Some((app, name)),
        });
    units.chain(sites).chain(files).chain(secrets).collect()
}

/// Texts that are here, by content: sent with the request, or held by a generation.
#[derive(Debug, Default)]
pub struct Held {
    sent: BTreeMap<Digest, Vec<u8>>,
    files: BTreeMap<Digest, Vec<PathBuf>>,
}

impl Held {
    /// Takes in what was sent; each is held against the digest that names it.
    pub fn new(sent: BTreeMap<Digest, Vec<u8>>) -> Result<Self, Error> {
        if let Some((digest, _)) = sent
            .iter()
            .find(|(digest, text)| Digest::of(text) != **digest)
        {
            let what = format!("the text {digest}");
            return Err(Error::refused(Refusal::Corrupt { what }));
        }
        Ok(Self {
            sent,
            files: BTreeMap::new(),
        })
    }

    /// Adds what a generation holds.
    pub fn add(&mut self, layout: &Layout, manifest: &Manifest) {
        let generation = layout.generation(manifest.generation);
        let held = texts(manifest, &generation);
        for text in held {
            self.files.entry(text.digest).or_default().push(text.path);
        }
    }

    /// Adds what every generation holds: where a text of one was edited, another may still be right. A
    /// generation that cannot be read holds nothing.
    pub fn add_all<M: Disk>(&mut self, machine: &M, layout: &Layout) -> Result<(), StoreError> {
        for id in store::generations(machine, layout)? {
            if let Ok(manifest) = store::manifest(machine, layout, id) {
                self.add(layout, &manifest);
            }
        }
        Ok(())
    }

    /// How large all sent texts are together, in bytes.
    pub fn sent_bytes(&self) -> u64 {
        self.sent.values().map(|text| text.len() as u64).sum()
    }

    /// A text, if it is here and what it should be.
    pub fn get<M: Disk>(&self, machine: &M, digest: Digest) -> io::Result<Option<Vec<u8>>> {
        if let Some(sent) = self.sent.get(&digest) {
            return Ok(Some(sent.clone()));
        }
        for path in self.files.get(&digest).into_iter().flatten() {
            if !is_file(machine, path)? {
                continue;
            }
            let text = machine.read(path, TEXT_BYTES_MAX)?;
            // One that was edited in place may be as it was in another generation.
            if Digest::of(&text) == digest {
                return Ok(Some(text));
            }
        }
        Ok(None)
    }
}

/// The texts of a generation that were changed in place and are nowhere any more as they were declared.
/// The other generations are looked at only when there are such.
pub fn lost<M: Disk>(
    machine: &M,
    layout: &Layout,
    manifest: &Manifest,
) -> Result<BTreeSet<Digest>, StoreError> {
    let (mut own, mut all) = (Held::default(), Held::default());
    own.add(layout, manifest);
    let mut lost = BTreeSet::new();
    for digest in own.files.keys() {
        if own.get(machine, *digest)?.is_none() {
            lost.insert(*digest);
        }
    }
    if !lost.is_empty() {
        all.add_all(machine, layout)?;
    }
    let mut found = BTreeSet::new();
    for digest in lost {
        if all.get(machine, digest)?.is_none() {
            found.insert(digest);
        }
    }
    Ok(found)
}

fn is_file<M: Disk>(machine: &M, path: &Path) -> io::Result<bool> {
    let stat = machine.stat(path)?;
    Ok(stat.is_some_and(|stat| stat.node == Node::File))
}
