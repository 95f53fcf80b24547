//! Sources of every kind, good and hostile.

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use push_wire::digest::Digest;
use push_wire::frame::PackEntry;
use push_wire::tree::Entry;

use super::*;
use crate::inventory::Build;
use crate::name::AppName;

fn app() -> AppName {
    "api".parse().unwrap()
}

fn open(path: &Path) -> Result<Payload, ReleaseError> {
    Payload::open(&app(), path)
}

fn shown(payload: &Payload) -> Vec<String> {
    let entries = payload.tree.entries.iter();
    entries
        .map(|(path, entry)| match entry {
            Entry::Folder => format!("{path}/"),
            Entry::File {
                size, executable, ..
            } => format!("{path} {size}{}", if *executable { " x" } else { "" }),
            Entry::Link { target } => format!("{path} -> {target}"),
        })
        .collect()
}

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn file(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        path
    }

    fn mode(&self, name: &str, mode: u32) {
        fs::set_permissions(self.path(name), fs::Permissions::from_mode(mode)).unwrap();
    }

    /// An archive of entries: path, type, mode, content or target.
    fn tar(&self, name: &str, entries: &[(&str, u8, &str)]) -> PathBuf {
        let mut builder = tar::Builder::new(Vec::new());
        for (path, kind, text) in entries {
            let mut header = tar::Header::new_gnu();
            // The builder would refuse what a hostile archive holds.
            header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
            header.set_mode(0o4755);
            header.set_entry_type(tar::EntryType::new(*kind));
            let content = if matches!(kind, b'1' | b'2') {
                header.as_old_mut().linkname[..text.len()].copy_from_slice(text.as_bytes());
                ""
            } else {
                text
            };
            header.set_size(content.len() as u64);
            header.set_cksum();
            builder.append(&header, content.as_bytes()).unwrap();
        }
        self.file(name, builder.into_inner().unwrap())
    }
}

#[test]
fn one_file_is_a_release_of_one_program() {
    let folder = Folder::new();
    let script = folder.file("api", "#!/bin/sh\n");
    assert_eq!(shown(&open(&script).unwrap()), ["api 10 x"]);
    let data = folder.file("app.jar", "PK");
    assert_eq!(shown(&open(&data).unwrap()), ["app.jar 2"]);
    symlink("api", folder.path("latest")).unwrap();
    assert_eq!(
        shown(&open(&folder.path("latest")).unwrap()),
        ["latest 10 x"],
        "the operator named the link, so it is followed"
    );
}

#[test]
fn a_folder_keeps_links_modes_and_empty_folders() {
    let folder = Folder::new();
    folder.file("app/bin/run", "x");
    folder.mode("app/bin/run", 0o750);
    folder.file("app/data.txt", "data");
    folder.file("app/DATA.txt", "twin");
    fs::create_dir(folder.path("app/empty")).unwrap();
    symlink("../data.txt", folder.path("app/bin/data")).unwrap();
    symlink("nowhere", folder.path("app/dangling")).unwrap();
    assert_eq!(
        shown(&open(&folder.path("app")).unwrap()),
        [
            "DATA.txt 4",
            "bin/",
            "bin/data -> ../data.txt",
            "bin/run 1 x",
            "dangling -> nowhere",
            "data.txt 4",
            "empty/"
        ]
    );
}

#[test]
fn a_set_user_id_bit_does_not_travel_and_is_told() {
    let folder = Folder::new();
    folder.file("app/run", "x");
    folder.mode("app/run", 0o4755);
    let payload = open(&folder.path("app")).unwrap();
    assert_eq!(shown(&payload), ["run 1 x"]);
    assert_eq!(payload.warnings.len(), 1, "{:?}", payload.warnings);
}

#[test]
fn files_that_everybody_will_be_able_to_read_on_the_host_are_told_once() {
    let folder = Folder::new();
    for (path, mode) in [("app/a", 0o600), ("app/b", 0o640), ("app/c", 0o644)] {
        folder.file(path, path);
        folder.mode(path, mode);
    }
    let [told] = &open(&folder.path("app")).unwrap().warnings[..] else {
        panic!("not told, or more than once")
    };
    assert!(told.starts_with("a and 1 more are not readable"), "{told}");
}

#[test]
fn what_cannot_be_shipped_is_refused_by_its_name() {
    let folder = Folder::new();
    let missing = open(&folder.path("missing")).unwrap_err();
    assert!(matches!(missing, ReleaseError::Missing { .. }), "{missing}");
    let empty = open(&folder.file("empty", "")).unwrap_err();
    assert!(matches!(empty, ReleaseError::Empty { .. }), "{empty}");
    fs::create_dir_all(folder.path("hollow/inside")).unwrap();
    let hollow = open(&folder.path("hollow")).unwrap_err();
    assert!(matches!(hollow, ReleaseError::Empty { .. }), "{hollow}");
    let device = open(Path::new("/dev/null")).unwrap_err();
    assert!(matches!(device, ReleaseError::Kind { .. }), "{device}");
    folder.file("out/x", "x");
    symlink("/etc/passwd", folder.path("out/passwd")).unwrap();
    let out = open(&folder.path("out")).unwrap_err();
    assert!(matches!(out, ReleaseError::LinkOut { .. }), "{out}");
    fs::create_dir(folder.path("only-out")).unwrap();
    symlink("/etc/passwd", folder.path("only-out/passwd")).unwrap();
    let only = open(&folder.path("only-out")).unwrap_err();
    assert!(
        matches!(&only, ReleaseError::LinkOut { path, .. } if path == "passwd"),
        "{only}"
    );
    folder.file("sock/x", "x");
    let _socket = std::os::unix::net::UnixListener::bind(folder.path("sock/s")).unwrap();
    let socket = open(&folder.path("sock")).unwrap_err();
    assert!(socket.to_string().contains("a socket"), "{socket}");
    let name = <std::ffi::OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(b"a\xff\x1b");
    fs::create_dir(folder.path("names")).unwrap();
    fs::write(folder.path("names").join(name), "x").unwrap();
    let name = open(&folder.path("names")).unwrap_err();
    assert_eq!(
        name.to_string(),
        r#"the name "a\\xff\\x1b" cannot be shipped: it is not UTF-8"#
    );
}

#[test]
fn the_same_content_is_the_same_release_however_it_is_wrapped() {
    let folder = Folder::new();
    folder.file("app/a/x", "content");
    folder.file("app/y", "content");
    let tree = open(&folder.path("app")).unwrap().digest;
    let mut builder = tar::Builder::new(Vec::new());
    builder.append_dir_all(".", folder.path("app")).unwrap();
    let plain = builder.into_inner().unwrap();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&plain).unwrap();
    let zstd = zstd::stream::encode_all(&plain[..], 1).unwrap();
    for (name, bytes) in [
        ("a.tar", plain),
        ("a.tgz", gzip.finish().unwrap()),
        ("a.tar.zst", zstd),
    ] {
        let archive = folder.file(name, bytes);
        assert_eq!(open(&archive).unwrap().digest, tree, "{name}");
    }
}

/// What is wrong with an archive, and its entries.
type Hostile = (&'static str, &'static [(&'static str, u8, &'static str)]);

#[test]
fn a_hostile_archive_is_refused() {
    let folder = Folder::new();
    let refused: &[Hostile] = &[
        ("above", &[("../x", b'0', "x")]),
        ("inside", &[("a/../../x", b'0', "x")]),
        ("absolute", &[("/etc/x", b'0', "x")]),
        ("link out", &[("l", b'2', "../x"), ("y", b'0', "y")]),
        (
            "through a link",
            &[("d", b'5', ""), ("l", b'2', "d"), ("l/x", b'0', "x")],
        ),
        (
            "hard link out",
            &[("y", b'0', "y"), ("h", b'1', "/etc/passwd")],
        ),
        ("hard link ahead", &[("h", b'1', "y"), ("y", b'0', "y")]),
        ("device", &[("y", b'0', "y"), ("d", b'3', "")]),
        ("fifo", &[("y", b'0', "y"), ("f", b'6', "")]),
        ("twice", &[("y", b'0', "y"), ("y", b'0', "z")]),
        ("file as folder", &[("y", b'0', "y"), ("y/x", b'0', "z")]),
        ("unknown type", &[("y", b'0', "y"), ("z", b'Z', "")]),
        ("empty", &[]),
    ];
    for (name, entries) in refused {
        let archive = folder.tar("x.tar", entries);
        let found = open(&archive);
        assert!(found.is_err(), "{name}: {:?}", shown(&found.unwrap()));
    }
    let fine = folder.tar(
        "x.tar",
        &[("y", b'0', "y"), ("h", b'1', "./y"), ("l", b'2', "y")],
    );
    assert_eq!(
        shown(&open(&fine).unwrap()),
        ["h 1 x", "l -> y", "y 1 x"],
        "a hard link inside is another name"
    );
}

#[test]
fn a_cut_archive_is_not_half_a_release() {
    let folder = Folder::new();
    let long = "x".repeat(5000);
    let whole = fs::read(folder.tar("x.tar", &[("a", b'0', &long), ("b", b'0', &long)])).unwrap();
    for cut in [700, 4000, 6000] {
        let archive = folder.file("cut.tar", &whole[..cut]);
        let found = open(&archive).unwrap_err();
        assert!(
            matches!(found, ReleaseError::Archive { .. }),
            "{cut}: {found}"
        );
    }
    for foreign in ["x.zip", "x.tar.xz"] {
        let found = open(&folder.file(foreign, "PK")).unwrap_err();
        assert!(matches!(found, ReleaseError::Archive { .. }), "{found}");
    }
}

#[test]
fn an_archive_that_unpacks_to_far_too_much_is_stopped() {
    let folder = Folder::new();
    let mut header = tar::Header::new_gnu();
    header.set_path("zeros").unwrap();
    header.set_mode(0o644);
    header.set_size(1 << 40);
    header.set_cksum();
    let archive = folder.file("bomb.tar", header.as_bytes());
    let found = open(&archive).unwrap_err();
    assert!(matches!(found, ReleaseError::TooLarge { .. }), "{found}");
    let file = fs::File::create(folder.path("bomb.tar.zst")).unwrap();
    let mut bomb = zstd::stream::write::Encoder::new(file, 3).unwrap();
    header.set_size(1 << 30);
    header.set_cksum();
    bomb.write_all(header.as_bytes()).unwrap();
    std::io::copy(&mut std::io::repeat(0).take(1 << 30), &mut bomb).unwrap();
    bomb.finish().unwrap();
    let found = open(&folder.path("bomb.tar.zst")).unwrap_err();
    assert!(found.to_string().contains("1000 times"), "{found}");
}

/// What a host would read out of a pack.
fn unpacked(pack: &Pack) -> Vec<(Digest, Vec<u8>)> {
    let mut packed = vec![0; usize::try_from(pack.bytes).unwrap()];
    assert_eq!(pack.read_at(&mut packed, 0).unwrap(), packed.len());
    assert_eq!(Digest::of(&packed), pack.digest);
    let plain = zstd::stream::decode_all(&packed[..]).unwrap();
    let mut rest = &plain[..];
    let mut found = Vec::new();
    while let Some(head) = rest.first_chunk::<{ PackEntry::BYTES }>() {
        let entry = PackEntry::decode(head).unwrap();
        let size = usize::try_from(entry.size).unwrap();
        rest = &rest[PackEntry::BYTES..];
        found.push((entry.digest, rest[..size].to_vec()));
        rest = &rest[size..];
    }
    assert!(rest.is_empty());
    found
}

#[test]
fn a_pack_holds_exactly_what_is_missing_and_is_made_once() {
    let folder = Folder::new();
    folder.file("app/a", "first");
    folder.file("app/b", "second");
    folder.file("app/c", "first");
    let payload = open(&folder.path("app")).unwrap();
    let packs = Packs::new([&payload]);
    let all: BTreeSet<Digest> = payload.contents.keys().copied().collect();
    assert_eq!(all.len(), 2, "the same content once");
    let pack = packs.pack(&all).unwrap();
    for (digest, content) in unpacked(&pack) {
        assert_eq!(Digest::of(content), digest);
    }
    let again = std::thread::scope(|scope| {
        let ask = || packs.pack(&all).unwrap().digest;
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(ask)).collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect::<Vec<_>>()
    });
    assert!(again.iter().all(|digest| *digest == pack.digest));
    assert!(std::sync::Arc::ptr_eq(&pack, &packs.pack(&all).unwrap()));
    let one = packs.pack(&[Digest::of("second")].into()).unwrap();
    assert_eq!(unpacked(&one), [(Digest::of("second"), b"second".to_vec())]);
    let unknown = packs.pack(&[Digest::of("foreign")].into()).unwrap_err();
    assert!(matches!(unknown, ReleaseError::Unknown { .. }));
}

#[test]
fn a_file_that_changes_before_it_is_sent_stops_the_push_by_its_name() {
    let folder = Folder::new();
    let path = folder.file("app", "#!before");
    let payload = open(&path).unwrap();
    let all: BTreeSet<Digest> = payload.contents.keys().copied().collect();
    fs::write(&path, "#!afterw").unwrap();
    let changed = Packs::new([&payload]).pack(&all).unwrap_err();
    assert!(
        matches!(&changed, ReleaseError::Changed { path } if path.ends_with("app")),
        "{changed}"
    );
    // Even when size and time look the same, the content is compared.
    let payload = open(&path).unwrap();
    let all: BTreeSet<Digest> = payload.contents.keys().copied().collect();
    let time = fs::metadata(&path).unwrap().modified().unwrap();
    let mut file = fs::OpenOptions::new().write(true).open(&path).unwrap();
    file.write_all(b"#!hidden").unwrap();
    file.set_modified(time).unwrap();
    let changed = Packs::new([&payload]).pack(&all).unwrap_err();
    assert!(matches!(changed, ReleaseError::Changed { .. }), "{changed}");
    fs::remove_file(&path).unwrap();
    let gone = Packs::new([&payload]).pack(&all).unwrap_err();
    assert!(matches!(gone, ReleaseError::Changed { .. }), "{gone}");
}

#[test]
fn a_program_says_what_it_needs() {
    let folder = Folder::new();
    let script = open(&folder.file("x", "#!/bin/sh\n")).unwrap();
    assert_eq!(script.needs, push_wire::facts::Needs::default());
    let broken = open(&folder.file("y", "\x7fELF and nothing more")).unwrap();
    assert_eq!(broken.needs.machine, None);
    // This test is itself a program for the machine that it runs on.
    let payload = open(&std::env::current_exe().unwrap()).unwrap();
    assert_eq!(
        payload.needs.machine.as_deref(),
        Some(std::env::consts::ARCH)
    );
    if payload
        .needs
        .interpreter
        .as_ref()
        .is_some_and(|path| !path.contains("musl"))
    {
        assert!(payload.needs.glibc >= Some((2, 17)), "{:?}", payload.needs);
        assert!(payload.needs.libraries.contains("libc.so.6"));
    }
}

#[test]
fn a_library_that_the_release_brings_is_not_asked_of_the_host() {
    let folder = Folder::new();
    let program = fs::read(std::env::current_exe().unwrap()).unwrap();
    folder.file("app/run", program);
    folder.mode("app/run", 0o755);
    let before = open(&folder.path("app")).unwrap().needs.libraries;
    let Some(library) = before.first() else {
        return; // A static program asks for none.
    };
    folder.file(&format!("app/lib/{library}"), "not even ELF");
    let after = open(&folder.path("app")).unwrap().needs.libraries;
    assert_eq!(after.len() + 1, before.len());
}

#[test]
fn a_build_shows_its_output_and_its_failure() {
    let folder = Folder::new();
    let mut lines = Vec::new();
    let run = |command: &str, lines: &mut Vec<String>| {
        let command = Build(command.to_owned());
        build(&app(), &command, folder.0.path(), &mut |line| {
            lines.push(line.to_owned());
        })
    };
    run("echo one; echo two >&2; touch made", &mut lines).unwrap();
    assert_eq!(lines, ["one", "two"]);
    assert!(
        folder.path("made").exists(),
        "it runs in the project's folder"
    );
    let failed = run("echo cause; exit 3", &mut lines)
        .unwrap_err()
        .to_string();
    assert!(
        failed.contains("exit status: 3") && failed.ends_with("cause"),
        "{failed}"
    );
    let started = std::time::Instant::now();
    run("sleep 60 & echo done", &mut lines).unwrap();
    assert!(
        started.elapsed().as_secs() < 30,
        "a daemon left behind is not awaited"
    );
}

#[test]
fn a_release_is_named_by_its_time_and_its_commit() {
    let at: jiff::Timestamp = "2026-01-02T03:04:05.678Z".parse().unwrap();
    let checkout = |state| Checkout {
        commit: "abcdef0123456789abcdef0123456789abcdef01".into(),
        state,
    };
    let id = |checkout: Option<&Checkout>| release_id(at, checkout).unwrap().to_string();
    assert_eq!(id(None), "20260102T030405.678Z");
    assert_eq!(
        id(Some(&checkout(CheckoutState::Clean))),
        "20260102T030405.678Z-abcdef0"
    );
    assert_eq!(
        id(Some(&checkout(CheckoutState::Dirty))),
        "20260102T030405.678Z-abcdef0-dirty"
    );
    assert_eq!(Checkout::of(Folder::new().0.path()), None);
}
