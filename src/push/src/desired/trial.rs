//! Whether a host's texts can be made at all, before anything is built and anybody is called.
//!
//! What only the host knows stands in as a host that says nothing, and secrets stay closed: what
//! depends on either is found when the real slice is made.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use push_wire::digest::Digest;
use push_wire::facts::{Facts, Program};
use push_wire::manifest::Manifest;
use push_wire::message::Hello;

use super::making::Making;
use super::{Applying, DesiredError, Door, Input, Opened, Vault, VaultError, app, files};
use crate::inventory::{ANY_RELEASE, Fleet, Host};
use crate::name::{AppName, FileName, GenerationId};
use crate::release::Payload;
use crate::template::Engine;

/// Everything about a host that is known before it is called and before anything is built.
pub struct Trial<'a> {
    /// The environment.
    pub fleet: &'a Fleet,
    /// The host.
    pub host: &'a Host,
    /// The templates.
    pub engine: &'a Engine,
    /// The files that are carried byte for byte.
    pub verbatim: &'a BTreeMap<PathBuf, Vec<u8>>,
}

/// Makes every text of the host, and keeps none.
pub fn trial(trial: &Trial<'_>) -> Result<(), DesiredError> {
    let nothing = |app: &AppName| (app.clone(), Arc::new(Payload::nothing(app)));
    let payloads = trial.fleet.apps.keys().map(nothing).collect();
    let release = ANY_RELEASE.parse().map_err(|error| DesiredError::Value {
        host: trial.host.name.clone(),
        what: "the release".to_owned(),
        why: format!("{error}"),
    })?;
    let input = Input {
        fleet: trial.fleet,
        host: trial.host,
        engine: trial.engine,
        payloads: &payloads,
        release: &release,
        verbatim: trial.verbatim,
        vault: &Closed,
        hello: &silent(),
        applying: Applying::Changes,
    };
    let mut making = Making::new(&input);
    for each in trial.fleet.apps_on(&trial.host.name) {
        app(&mut making, each)?;
    }
    files::declare(&mut making)
}

/// A host that says nothing of itself.
fn silent() -> Hello {
    Hello {
        protocol: push_wire::PROTOCOL,
        program: Program {
            version: String::new(),
            digest: Digest::of(""),
        },
        facts: Facts {
            os: String::new(),
            os_version: String::new(),
            machine: String::new(),
            kernel: String::new(),
            systemd: None,
            glibc: None,
            libraries: BTreeSet::new(),
            interpreters: BTreeSet::new(),
            nginx: None,
            nft: false,
            room: BTreeMap::new(),
            host_keys: Vec::new(),
            ssh_ports: BTreeSet::new(),
            boot_id: String::new(),
            clock_unix_s: 0,
            shutdown_at_unix_s: None,
            reboot_required: false,
        },
        manifest: Manifest::empty(),
        running: None,
        fingerprint_key: String::new(),
        releases: BTreeMap::new(),
        highest: GenerationId::NONE,
        lost: BTreeSet::new(),
        recovered: None,
    }
}

/// A vault that opens nothing and seals nothing.
struct Closed;

impl Closed {
    fn refused() -> VaultError {
        VaultError {
            why: "no secret is opened before a host was asked".to_owned(),
            help: "this is a mistake in push; please report it".to_owned(),
        }
    }
}

impl Vault for Closed {
    fn source(&self, _: &FileName) -> Result<Digest, VaultError> {
        Err(Self::refused())
    }

    fn revision(&self, _: &FileName) -> Option<String> {
        None
    }

    fn as_it_is(&self, _: &FileName, _: &Door<'_>) -> Result<Option<Vec<u8>>, VaultError> {
        Err(Self::refused())
    }

    fn open(&self, _: &FileName) -> Result<Opened, VaultError> {
        Err(Self::refused())
    }

    fn seal(&self, _: &[u8], _: &str) -> Result<Vec<u8>, VaultError> {
        Err(Self::refused())
    }
}
