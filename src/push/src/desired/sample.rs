//! A project in a temporary folder, for tests: inventory text and host facts in, [`Desired`] out.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::Mutex;

use push_wire::digest::Digest;
use push_wire::facts::{Facts, Program, Room};
use push_wire::manifest::{FORMAT, Manifest, Placed, Provenance};
use push_wire::message::Hello;
use zeroize::Zeroizing;

use super::{Applying, Desired, DesiredError, Input, Opened, Vault, VaultError, desired};
use crate::inventory::{Fleet, load};
use crate::name::{FileName, GenerationId, HostName, HostPath};
use crate::release::{Payload, verbatim};
use crate::template::Engine;

/// What every secret of a [`Sample`] holds, followed by its name.
pub const CANARY: &str = "canary-5up3r-53cr3t-";

/// The host key of sample hosts.
pub const HOST_KEY: &str =
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ";

/// An environment with an authority that gives certificates; the names of `api`'s site follow.
pub const CERTIFIED: &str = r#"
[ssh]
user = "deploy"
[bootstrap]
keys = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJLGgqmjsM0vvbVIgRVNDYHYEqFnVVqL2Ju46oDtJJ2f"
[bootstrap.tls]
email = "ops@example.com"
terms = "agreed"
endpoint = "staging"
[apps.api.site]
respond = 200
tls = "auto"
"#;

/// Opens any secret by its name; remembers what was asked.
#[derive(Default)]
pub struct SampleVault {
    pub opened: Mutex<Vec<String>>,
    /// Stands for another sealing of the same contents.
    pub sealing: u32,
    pub missing: Option<FileName>,
    /// Whether the files are sealed to the host already.
    pub travels: bool,
    /// Tells one content from another, where account is kept of it.
    pub revision: Option<String>,
}

impl Vault for SampleVault {
    fn source(&self, secret: &FileName) -> Result<Digest, VaultError> {
        if self.missing.as_ref() == Some(secret) {
            return Err(VaultError {
                why: "there is no such file".into(),
                help: "`push secret set` makes it".into(),
            });
        }
        Ok(Digest::of(format!("{secret} {}", self.sealing)))
    }

    fn revision(&self, _: &FileName) -> Option<String> {
        self.revision.clone()
    }

    fn as_it_is(
        &self,
        secret: &FileName,
        to: &super::Door<'_>,
    ) -> Result<Option<Vec<u8>>, VaultError> {
        assert_eq!(to.key, HOST_KEY);
        let sealed = format!("{secret} sealed to {} {}", to.host, self.sealing);
        Ok(self.travels.then(|| sealed.into_bytes()))
    }

    fn open(&self, secret: &FileName) -> Result<Opened, VaultError> {
        self.opened.lock().unwrap().push(secret.to_string());
        Ok(Opened(Zeroizing::new(
            format!("{CANARY}{secret}\n").into_bytes(),
        )))
    }

    fn seal(&self, content: &[u8], host_key: &str) -> Result<Vec<u8>, VaultError> {
        assert_eq!(host_key, HOST_KEY);
        Ok(format!("sealed {} {}", Digest::of(content), self.sealing).into_bytes())
    }
}

/// A project and what its one host says.
pub struct Sample {
    pub folder: tempfile::TempDir,
    pub hello: Hello,
    pub vault: SampleVault,
    pub release: String,
}

impl Sample {
    /// A project with one host `web1` and whatever `toml` declares besides. The file `app` is there
    /// as a source.
    pub fn new(toml: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let sample = Self {
            folder,
            hello: hello(),
            vault: SampleVault::default(),
            release: "20260102T030405Z-abcdef0".into(),
        };
        sample.write("app", "#!/bin/sh\n");
        for name in ["token", "tls", "htpasswd", "url"] {
            sample.write(&format!("inventory/secrets/{name}.age"), "sealed");
        }
        sample.declare(toml);
        sample
    }

    /// Replaces what the inventory declares.
    pub fn declare(&self, toml: &str) {
        let head = format!(
            "project = \"shop\"\n{toml}\n[hosts.web1]\naddress = \"192.0.2.1\"\nhost_key = \"{HOST_KEY}\"\nvars = {{ region = \"eu\" }}\n"
        );
        self.write("inventory/test.toml", &head);
    }

    pub fn write(&self, path: &str, text: &str) {
        let path = self.folder.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    pub fn fleet(&self) -> Fleet {
        match load(self.folder.path(), &"test".parse().unwrap()) {
            Ok(fleet) => fleet,
            Err(errors) => panic!("{errors}"),
        }
    }

    /// What comes of it, unless the inventory or this room refuses it.
    pub fn accepted(&self) -> Option<Desired> {
        load(self.folder.path(), &"test".parse().unwrap()).ok()?;
        self.try_desired().ok()
    }

    pub fn desired(&self) -> Desired {
        self.try_desired().unwrap()
    }

    pub fn try_desired(&self) -> Result<Desired, DesiredError> {
        let fleet = self.fleet();
        let host: HostName = "web1".parse().unwrap();
        let payloads = payloads(&fleet, self.folder.path());
        desired(&Input {
            fleet: &fleet,
            host: &fleet.hosts[&host],
            engine: &Engine::open(&self.folder.path().join("templates")).unwrap(),
            payloads: &payloads,
            release: &self.release.parse().unwrap(),
            verbatim: &verbatim(&fleet, self.folder.path()).unwrap(),
            vault: &self.vault,
            hello: &self.hello,
            applying: Applying::Changes,
        })
    }

    /// The host after `desired` was pushed and committed.
    pub fn settle(&mut self, desired: &Desired) {
        let mut slices = std::mem::take(&mut self.hello.manifest.slices);
        let placed = Placed {
            slice: desired.slice.clone(),
            provenance: Provenance::default(),
        };
        slices.insert(desired.project.clone(), placed);
        for (name, app) in &desired.slice.apps {
            let trees = self.hello.releases.entry(name.clone()).or_default();
            trees.insert(app.tree, app.release.to_string());
        }
        let generation = GenerationId(self.hello.highest.0 + 1);
        self.hello.highest = generation;
        self.hello.manifest = Manifest {
            format: FORMAT,
            generation,
            restores: None,
            ways_in: [22].into(),
            slices,
        };
    }

    /// The text of a unit, a site or a file.
    pub fn text(&self, what: &str) -> String {
        text(&self.desired(), what)
    }
}

/// The text behind `unit api.service`, `site api` or `file /etc/x`.
pub fn text(desired: &Desired, what: &str) -> String {
    let (kind, name) = what.split_once(' ').unwrap();
    let slice = &desired.slice;
    let digest = match kind {
        "unit" => slice.units[name].digest,
        "site" => slice.sites[name].digest,
        "file" => slice.files[&name.parse::<HostPath>().unwrap()].digest,
        other => panic!("{other}"),
    };
    String::from_utf8(desired.texts[&digest].0.clone()).unwrap()
}

fn payloads(fleet: &Fleet, project: &Path) -> BTreeMap<crate::name::AppName, Arc<Payload>> {
    fleet
        .apps
        .values()
        .map(|app| {
            let payload = match &app.source {
                Some(source) => Payload::open(&app.name, &project.join(source)).unwrap(),
                None => Payload::nothing(&app.name),
            };
            (app.name.clone(), Arc::new(payload))
        })
        .collect()
}

/// A Debian 12 that nobody has pushed to.
pub fn hello() -> Hello {
    let room = Room {
        bytes: 10 << 30,
        inodes: 1 << 20,
    };
    Hello {
        protocol: push_wire::PROTOCOL,
        program: Program {
            version: "0.1.0".into(),
            digest: Digest::of("push-host"),
        },
        facts: Facts {
            os: "debian".into(),
            os_version: "12".into(),
            machine: "x86_64".into(),
            kernel: "6.1.0".into(),
            systemd: Some(252),
            glibc: Some((2, 36)),
            libraries: ["libc.so.6".to_owned()].into(),
            interpreters: ["/lib64/ld-linux-x86-64.so.2".to_owned()].into(),
            nginx: Some("1.22.1".into()),
            nft: true,
            room: [("/srv".to_owned(), room), ("/etc/push".to_owned(), room)].into(),
            host_keys: vec![HOST_KEY.into()],
            ssh_ports: [22].into(),
            boot_id: "boot".into(),
            clock_unix_s: 0,
            shutdown_at_unix_s: None,
            reboot_required: false,
        },
        manifest: Manifest::empty(),
        running: None,
        fingerprint_key: Digest::of("key").to_string(),
        releases: BTreeMap::new(),
        highest: GenerationId::NONE,
        lost: [].into(),
        recovered: None,
    }
}
