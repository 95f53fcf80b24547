//! The hosts that the proof runs on, and what is asked of them.
//!
//! What is staged here is durable, as staging leaves it (proven in `serve::tests::cuts`); what an earlier
//! transaction left unsynced stays so.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use push_wire::digest::Digest;
use push_wire::firewall::{Firewall, Ports, Protocol, Rule};
use push_wire::health::{Health, Probe};
use push_wire::journal::{About, State};
use push_wire::manifest::{
    App, FORMAT, File, Manifest, OnChange, OnRelease, Placed, Provenance, Reader, Runs, Secret,
    Slice, Text, Unit,
};
use push_wire::message::Switch;
use push_wire::name::{GenerationId, TransactionId, UnitName, UserName};

use super::layout;
use crate::machine::simulated::{SEAL, Simulated};
use crate::machine::{self, Access, Disk as _};
use crate::progress::{self, Request};
use crate::transaction::{TransactionError, transact};

/// A host, and what is asked of it.
#[derive(Clone)]
pub(super) struct Scenario {
    pub name: &'static str,
    pub world: Simulated,
    pub request: Request,
}

/// What a generation of the simulated host declares, by the letter that all its contents carry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Slices {
    /// Everything that can be declared, and a unit and a file that B does not have.
    A,
    /// Everything with other contents, and a unit and a file that A does not have.
    B,
    /// As B, and its service does not start.
    Failing,
    /// As B, and its service is never healthy.
    Sick,
    /// As B, and its service restarts by itself.
    Crashing,
    /// As B, and nginx goes on with its old configuration.
    Refused,
}

impl Slices {
    fn letter(self) -> &'static str {
        match self {
            Self::A => "a",
            Self::B | Self::Failing | Self::Sick | Self::Crashing | Self::Refused => "b",
        }
    }

    fn flaw(self) -> &'static str {
        match self {
            Self::A | Self::B | Self::Refused => "",
            Self::Failing => "\nfails",
            Self::Sick => "\nsick",
            Self::Crashing => "\ncrashes",
        }
    }
}

/// The contents of a generation, by their path inside it.
pub(super) type Contents = BTreeMap<String, Vec<u8>>;

fn unit(owner: &str, text: &str) -> Unit {
    Unit {
        digest: Digest::of(text),
        app: owner.parse().unwrap(),
        wanted_by: BTreeSet::from(["multi-user.target".parse().unwrap()]),
        runs: Runs::Always,
        on_release: OnRelease::Restart,
    }
}

pub(super) fn file(content: &str) -> File {
    File {
        digest: Digest::of(content),
        owner: UserName::root(),
        group: UserName::root(),
        mode: 0o644,
        on_change: OnChange::Nothing,
    }
}

fn secret(sealed: &[u8]) -> Secret {
    Secret {
        sealed: Digest::of(sealed),
        source: Digest::of(sealed),
        fingerprint: Digest::of(sealed),
        recipient: Digest::of("host key"),
        owner: "api".parse().unwrap(),
        reader: Reader::App,
    }
}

fn app(slices: Slices) -> App {
    App {
        release: format!("r-{}", slices.letter()).parse().unwrap(),
        tree: Digest::of(slices.letter()),
        size: 1,
        user: "api".parse().unwrap(),
        shared: BTreeSet::new(),
        ports: BTreeSet::new(),
        keep_releases: 2,
        health: Some(Health {
            probes: vec![Probe::Tcp {
                host: "127.0.0.1".to_owned(),
                port: 8080,
            }],
            timeout_ms: 3_000,
            interval_ms: 100,
            passes: 2,
            quiet_ms: 500,
        }),
    }
}

fn firewall(slices: Slices) -> Firewall {
    let port = if slices == Slices::A { 80 } else { 443 };
    let rule = Rule {
        protocol: Protocol::Tcp,
        ports: Ports::one(port),
        from: BTreeSet::new(),
    };
    Firewall {
        allow: BTreeSet::from([rule]),
        ..Firewall::default()
    }
}

pub(super) fn slice(slices: Slices) -> (Slice, Contents) {
    let (letter, flaw) = (slices.letter(), slices.flaw());
    let mut slice = Slice::default();
    let mut contents = Contents::new();
    slice.apps.insert("api".parse().unwrap(), app(slices));
    slice.apps.insert(
        "same".parse().unwrap(),
        App {
            health: None,
            ..app(Slices::A)
        },
    );
    for (name, text) in [
        (
            "api.service".to_owned(),
            format!("app=api\ntext={letter}{flaw}"),
        ),
        ("same.service".to_owned(), "text=same".to_owned()),
        (format!("only-{letter}.service"), format!("text={letter}")),
    ] {
        let owner = if text == "text=same" { "same" } else { "api" };
        slice
            .units
            .insert(name.parse().unwrap(), unit(owner, &text));
        contents.insert(format!("systemd/{name}"), text.into_bytes());
    }
    let site = match slices {
        Slices::Refused => "refused".to_owned(),
        Slices::A | Slices::B | Slices::Failing | Slices::Sick | Slices::Crashing => {
            format!("site {letter}")
        }
    };
    slice.sites.insert(
        "api".parse().unwrap(),
        Text {
            digest: Digest::of(&site),
        },
    );
    contents.insert("nginx/api.conf".to_owned(), site.into_bytes());
    slice.firewall = Some(firewall(slices));
    for path in [
        "/etc/shared.conf".to_owned(),
        format!("/etc/only-{letter}.conf"),
        format!("/etc/of-{letter}/deep/x.conf"),
    ] {
        slice.files.insert(path.parse().unwrap(), file(letter));
        contents.insert(format!("files{path}"), letter.into());
    }
    let sealed = [SEAL, letter.as_bytes()].concat();
    let name = format!("key-{letter}");
    contents.insert(format!("secrets/api/{name}.age"), sealed.clone());
    slice.secrets.insert(
        "api".parse().unwrap(),
        BTreeMap::from([(name.parse().unwrap(), secret(&sealed))]),
    );
    (slice, contents)
}

/// Puts a generation on the disk as staging leaves it: complete, durable, not in effect.
pub(super) fn stage(world: &mut Simulated, id: u64, slices: Option<Slices>) {
    place(world, id, slices.map(slice).unwrap_or_default());
}

/// The same for a slice of a test's own, with its contents.
pub(super) fn place(world: &mut Simulated, id: u64, (slice, mut contents): (Slice, Contents)) {
    let generation = layout().generation(GenerationId(id));
    let placed = Placed {
        slice,
        provenance: Provenance::default(),
    };
    let manifest = Manifest {
        format: FORMAT,
        generation: GenerationId(id),
        restores: None,
        ways_in: BTreeSet::from([22]),
        slices: BTreeMap::from([("shop".parse().unwrap(), placed)]),
    };
    contents.insert(
        "manifest.json".to_owned(),
        serde_json::to_vec(&manifest).unwrap(),
    );
    if let Some(text) = manifest.nftables() {
        contents.insert("nftables/push.nft".to_owned(), text.into_bytes());
        contents.insert(
            "nginx/00-generation.conf".to_owned(),
            id.to_string().into_bytes(),
        );
    }
    for (path, content) in contents {
        put(world, &generation.folder().join(path), &content);
    }
    for (name, app) in manifest.apps() {
        let release = layout().release(name, &app.release);
        if world.disk.stat(&release).unwrap().is_none() {
            put(
                world,
                &release.join("code"),
                app.release.as_str().as_bytes(),
            );
        }
        let link = generation.app(name);
        machine::folders(world, link.parent().unwrap(), &Access::public_folder()).unwrap();
        world.link(&release, &link).unwrap();
        world.disk.sync(link.parent().unwrap()).unwrap();
    }
    for folder in [layout().generations(), layout().push()] {
        world.disk.sync(&folder).unwrap();
    }
}

/// Puts a file on the disk, durably. Nothing else becomes durable by it.
pub(super) fn put(world: &mut Simulated, path: &Path, content: &[u8]) {
    let folder = path.parent().unwrap();
    machine::folders(world, folder, &Access::public_folder()).unwrap();
    world.create(path, content, &Access::public_file()).unwrap();
    for synced in [path, folder] {
        world.disk.sync(synced).unwrap();
    }
}

pub(super) fn request(from: u64, to: u64) -> Request {
    let transaction: TransactionId = format!("t{to}").parse().unwrap();
    let nonce = Digest::of("nonce");
    Request {
        switch: Switch {
            generation: GenerationId(to),
            transaction,
            nonce,
            confirm_within_ms: None,
        },
        about: About {
            from: GenerationId(from),
            to: GenerationId(to),
            project: "shop".parse().unwrap(),
            restores: None,
            provenance: Provenance::default(),
            confirm_within_ms: None,
            nonce,
        },
        begun_on: None,
    }
}

/// A host that has systemd's, nginx's and the apps' folders, and files of its own.
pub(super) fn host() -> Simulated {
    let mut world = Simulated::default();
    for folder in [
        "/etc/systemd/system/ssh.service.wants",
        "/etc/push/generations",
        "/run/push",
    ] {
        machine::folders(&mut world, Path::new(folder), &Access::public_folder()).unwrap();
    }
    put(&mut world, Path::new("/etc/passwd"), b"root:x:0:0");
    world.disk.sync_everything();
    world
}

/// Carries out a request from its beginning to its end.
pub(super) fn switch(world: &mut Simulated, request: &Request) -> Result<State, TransactionError> {
    progress::leave_request(world, &layout(), request).unwrap();
    transact(world, &layout(), request)
}

/// A host at generation 1, by a push that was committed.
pub(super) fn at_generation_1() -> Simulated {
    let mut world = host();
    stage(&mut world, 1, Some(Slices::A));
    assert_eq!(
        switch(&mut world, &request(0, 1)).unwrap(),
        State::Committed
    );
    assert_eq!(world.generation_in_effect(), 1);
    world
}

/// A scenario whose request has been left, so that a transaction can begin.
pub(super) fn scenario(name: &'static str, mut world: Simulated, request: Request) -> Scenario {
    progress::leave_request(&mut world, &layout(), &request).unwrap();
    Scenario {
        name,
        world,
        request,
    }
}

/// A first push, onto a host that has one of the files already, with the same content.
pub(super) fn first_push() -> Scenario {
    let mut world = host();
    put(&mut world, Path::new("/etc/shared.conf"), b"a");
    stage(&mut world, 1, Some(Slices::A));
    scenario("first push", world, request(0, 1))
}

/// A push that changes everything, and adopts a file.
pub(super) fn update_to(slices: Slices) -> Scenario {
    let mut world = at_generation_1();
    put(&mut world, Path::new("/etc/only-b.conf"), b"b");
    stage(&mut world, 2, Some(slices));
    let name = match slices {
        Slices::A | Slices::B => "update",
        Slices::Failing => "update whose service does not start",
        Slices::Sick => "update that is never healthy",
        Slices::Crashing => "update whose service crashes",
        Slices::Refused => "update that nginx refuses",
    };
    scenario(name, world, request(1, 2))
}

pub(super) fn update() -> Scenario {
    update_to(Slices::B)
}

/// Generation 3 is what generation 1 was.
pub(super) fn rollback() -> Scenario {
    let Scenario {
        mut world,
        request: first,
        ..
    } = update();
    assert_eq!(
        transact(&mut world, &layout(), &first).unwrap(),
        State::Committed
    );
    assert_eq!(world.generation_in_effect(), 2);
    stage(&mut world, 3, Some(Slices::A));
    scenario("rollback", world, request(2, 3))
}

/// The project leaves the host.
pub(super) fn removal() -> Scenario {
    let mut world = at_generation_1();
    stage(&mut world, 2, None);
    scenario("removal", world, request(1, 2))
}

/// A push that has a lot to prune: a generation that was taken back, and releases that nobody needs.
pub(super) fn crowded() -> Scenario {
    let sick = update_to(Slices::Sick);
    let mut world = sick.world.clone();
    assert!(matches!(sick.transact(&mut world), Ok(State::TakenBack(_))));
    for name in ["r-old", "r-older"] {
        let folder = layout().at("/srv/api/releases").join(name);
        put(&mut world, &folder.join("code"), name.as_bytes());
    }
    stage(&mut world, 3, Some(Slices::B));
    scenario("prune", world, request(1, 3))
}

/// The transactions that end well.
pub(super) fn scenarios() -> Vec<Scenario> {
    vec![first_push(), update(), rollback(), removal(), crowded()]
}

/// The transactions that take themselves back.
pub(super) fn failing() -> Vec<Scenario> {
    [
        Slices::Failing,
        Slices::Sick,
        Slices::Crashing,
        Slices::Refused,
    ]
    .map(update_to)
    .into()
}

/// The unit of the app that changes.
pub(super) fn service() -> UnitName {
    "api.service".parse().unwrap()
}
