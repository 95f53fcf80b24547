//! Releases that are here and not as they were built.

use std::path::Path;

use super::*;
use crate::machine::{self, Access, Disk};
use push_wire::message::Restage;

/// Changes one thing in the release that generation 1 had, while generation 2 has another one.
fn with_damage(damaged: Option<(&str, &str)>) -> Simulated {
    let mut host = pushed();
    let mut next = stage(1);
    release(
        &mut next,
        "r2",
        &Tree {
            entries: [("x".parse().unwrap(), data(PAGE))].into(),
        },
    );
    converse(&mut host, staging(&next));
    assert_eq!(switch(&mut host, 2, "t2"), State::Committed);
    if let Some(damaged) = damaged {
        damage(&mut host, damaged);
    }
    host
}

/// What may have become of a release, and where it shows.
const DAMAGES: [(&str, &str); 9] = [
    // Of the same size, so that only reading tells.
    ("page", "A PAGE"),
    ("page", ""),
    ("bin/api", "removed"),
    ("bin/api", "writable"),
    ("copy", "given away"),
    ("bin", "given away"),
    ("link", "led elsewhere"),
    ("bin/evil", ""),
    ("evil", "led elsewhere"),
];

fn damage(host: &mut Simulated, (path, how): (&str, &str)) {
    let path = Path::new("/srv/api/releases/r1").join(path);
    match how {
        "removed" => host.remove(&path).unwrap(),
        "writable" => host.disk.give(&path, (0, 0o777)),
        "given away" => {
            let mode = host.stat(&path).unwrap().unwrap().mode;
            host.disk.give(&path, (1000, mode));
        }
        "led elsewhere" => {
            host.remove(&path).unwrap();
            host.link(Path::new("/etc"), &path).unwrap();
        }
        content => {
            machine::replace(host, &path, content.as_bytes(), &Access::public_file()).unwrap();
        }
    }
}

#[test]
fn a_release_that_changed_while_it_was_not_in_effect_is_not_gone_back_to_and_is_named() {
    let back = Restage {
        project: "shop".parse().unwrap(),
        base: GenerationId(2),
        to: GenerationId(1),
        provenance: Provenance::default(),
        way_in: 22,
    };
    let back = said(&Request::Restage(back));
    let replies = converse(&mut with_damage(None), back.clone());
    assert!(matches!(replies[..], [Reply::Staged { .. }]), "{replies:?}");
    for damaged in DAMAGES {
        let (mut host, path) = (with_damage(Some(damaged)), damaged.0);
        let replies = converse(&mut host, back.clone());
        let Reply::Refused(refusal) = &replies[0] else {
            panic!("{path}: {replies:?}")
        };
        let named = format!("/srv/api/releases/r1/{path},");
        assert!(
            matches!(&**refusal, Refusal::Corrupt { what } if what.starts_with(&named)),
            "{named} {refusal:?}"
        );
    }
}

#[test]
fn a_release_that_changed_while_it_was_not_in_effect_is_built_anew_when_it_is_pushed_again() {
    for damaged in DAMAGES {
        let (mut host, path) = (with_damage(Some(damaged)), damaged.0);
        let mut again = stage(2);
        // The host says that it has the listing, so none is sent.
        again.trees.clear();
        let mut replies = converse(&mut host, staging(&again));
        if let Reply::Missing { files, .. } = &replies[0] {
            let all = [BINARY, PAGE].into_iter();
            let lost: Vec<&[u8]> = all.filter(|it| files.contains(&Digest::of(it))).collect();
            assert_eq!(lost.len(), files.len(), "{path}");
            replies = converse(&mut host, [staging(&again), sent(&packed(&lost))].concat());
        }
        assert!(
            matches!(replies.last(), Some(Reply::Staged { .. })),
            "{path}: {replies:?}"
        );
        let release = Path::new("/srv/api/releases/r1");
        assert_eq!(host.read(&release.join("page"), 99).unwrap(), PAGE);
        assert_eq!(host.read(&release.join("bin/api"), 99).unwrap(), BINARY);
        assert_eq!(host.list(&release.join("bin")).unwrap(), ["api"]);
        assert!(host.stat(&release.join("evil")).unwrap().is_none());
        assert_eq!(switch(&mut host, 3, "t3"), State::Committed);
    }
}

#[test]
fn a_damaged_file_is_no_source_of_a_new_release_and_one_in_effect_is_told() {
    let mut host = pushed();
    let page = Path::new("/srv/api/releases/r1/page");
    let access = Access::public_file();
    machine::replace(&mut host, page, b"A PAGE", &access).unwrap();
    let other = Path::new("/srv/api/releases/r1/bin/other");
    host.create(other, b"", &access).unwrap();
    let mut next = stage(1);
    let mut changed = tree();
    changed
        .entries
        .insert("new".parse().unwrap(), data(b"another page"));
    release(&mut next, "r2", &changed);
    let pack = packed(&[b"another page", PAGE]);
    let replies = converse(&mut host, [staging(&next), sent(&pack)].concat());
    let Reply::Missing { files, .. } = &replies[0] else {
        panic!("{replies:?}")
    };
    assert_eq!(
        *files,
        [Digest::of("another page"), Digest::of(PAGE)].into()
    );
    let Reply::Staged { warnings, .. } = &replies[1] else {
        panic!("{replies:?}")
    };
    assert!(
        warnings[0].contains("r1/bin/other was changed"),
        "{warnings:?}"
    );
    let new = Path::new("/srv/api/releases/r2/page");
    assert_eq!(host.read(new, 99).unwrap(), PAGE);
}
