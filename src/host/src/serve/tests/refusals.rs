//! Every reason for which a host changes nothing, and that it then has changed nothing.

use std::path::Path;

use super::*;
use crate::journal::{self, Entry};
use crate::machine::{Access, Disk};
use push_wire::facts::Needs;
use push_wire::manifest::Answer;
use push_wire::message::Restage;

/// Stages a change of the good push on a host that has it, and returns why not.
fn refused(change: impl FnOnce(&mut Simulated, &mut Played, &mut Stage)) -> Refusal {
    let mut host = pushed();
    let (mut played, mut asked) = (Played::default(), stage(1));
    // Something new, so that the generation is not the same as before.
    put(&mut asked, b"another file");
    asked
        .slice
        .files
        .insert("/etc/x/y".parse().unwrap(), file("another file"));
    change(&mut host, &mut played, &mut asked);
    let (replies, end) = converse_as(&mut host, &mut played, staging(&asked));
    assert_eq!(end, End::Gone);
    assert_eq!(generations(&host), [1].into(), "it left something behind");
    let leftovers = host.list(Path::new("/etc/push/generations")).unwrap();
    assert_eq!(leftovers, ["1"]);
    match replies.last() {
        Some(Reply::Refused(refusal)) => (**refusal).clone(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_change_that_is_fine_is_not_refused() {
    let mut host = pushed();
    let mut asked = stage(1);
    put(&mut asked, b"another file");
    asked
        .slice
        .files
        .insert("/etc/x/y".parse().unwrap(), file("another file"));
    let replies = converse(&mut host, staging(&asked));
    assert!(matches!(replies[..], [Reply::Staged { .. }]), "{replies:?}");
}

/// The reason for a file of this owner and group, on a host whose accounts are few.
fn refused_to_give(owner: &'static str, group: &'static str) -> Refusal {
    refused(|host, _, stage| {
        for accounts in ["/etc/passwd", "/etc/group"] {
            let text = b"root:x:0:0::/:/bin/sh\nalice:x:7:7::/:/bin/sh\nbroken\n";
            host.create(Path::new(accounts), text, &Access::public_file())
                .unwrap();
        }
        let path: push_wire::path::HostPath = "/etc/x/y".parse().unwrap();
        let file = stage.slice.files.get_mut(&path).unwrap();
        (file.owner, file.group) = (owner.parse().unwrap(), group.parse().unwrap());
    })
}

#[test]
fn a_file_of_a_user_or_a_group_that_the_host_does_not_have() {
    let path = || "/etc/x/y".parse().unwrap();
    assert_eq!(
        refused_to_give("nobody2", "root"),
        Refusal::NoUser {
            path: path(),
            owner: "nobody2".parse().unwrap()
        }
    );
    assert_eq!(
        refused_to_give("alice", "nobody3"),
        Refusal::NoGroup {
            path: path(),
            group: "nobody3".parse().unwrap()
        }
    );
}

#[test]
fn stale() {
    let found = refused(|_, _, stage| stage.base = GenerationId(7));
    assert_eq!(
        found,
        Refusal::Stale {
            expected: GenerationId(7),
            found: GenerationId(1)
        }
    );
}

#[test]
fn locked_by_a_transaction_that_has_not_ended() {
    let found = refused(|host, _, _| {
        let mut journal = journal::read(host, &layout()).unwrap();
        let about = journal.about(&"t1".parse().unwrap()).cloned();
        let entry = Entry {
            transaction: "t9".parse().unwrap(),
            state: State::Prepared,
            about,
        };
        journal.begin(host, &layout(), entry).unwrap();
    });
    let Refusal::Locked(holder) = found else {
        panic!("{found:?}")
    };
    assert_eq!(holder.transaction, Some("t9".parse().unwrap()));
}

#[test]
fn claimed_by_another_slice() {
    let found = refused(|_, _, stage| stage.project = "blog".parse().unwrap());
    assert!(
        matches!(&found, Refusal::Claimed(claims) if claims.len() == 4),
        "{found:?}"
    );
}

#[test]
fn a_server_name_that_another_projects_site_answers_to() {
    let answers = |stage: &mut Stage, app: &str| {
        let answer = Answer {
            name: "a.example".into(),
            at: "80".into(),
        };
        stage.slice.answers = [(app.parse().unwrap(), [answer].into())].into();
    };
    let (mut host, mut first) = (pushed(), stage(1));
    answers(&mut first, "api");
    converse(&mut host, staging(&first));
    assert_eq!(switch(&mut host, 2, "t2"), State::Committed);
    // Nothing but the name is the same.
    let mut asked = stage(2);
    let mut app = first.slice.apps.into_values().next().unwrap();
    app.ports.clear();
    asked.project = "blog".parse().unwrap();
    asked.slice = Slice::default();
    asked.slice.apps.insert("blog".parse().unwrap(), app);
    answers(&mut asked, "blog");
    let replies = converse(&mut host, staging(&asked));
    let [Reply::Refused(refusal)] = replies.as_slice() else {
        panic!("{replies:?}")
    };
    let Refusal::Claimed(claims) = &**refusal else {
        panic!("{refusal:?}")
    };
    assert_eq!(claims.len(), 1, "{claims:?}");
    assert_eq!(claims[0].what, "server name a.example at 80");
    assert_eq!(claims[0].holder.as_str(), "shop");
}

#[test]
fn occupied_by_what_is_not_ours_and_all_of_it_is_named() {
    let found = refused(|host, _, stage| {
        for (path, text) in [
            ("/etc/a", "theirs"),
            ("/etc/b", "theirs"),
            ("/etc/c", "ours"),
        ] {
            host.create(Path::new(path), text.as_bytes(), &Access::public_file())
                .unwrap();
            put(stage, b"ours");
            stage
                .slice
                .files
                .insert(path.parse().unwrap(), file("ours"));
        }
        host.link(Path::new("/etc/a"), Path::new("/etc/d")).unwrap();
        stage
            .slice
            .files
            .insert("/etc/d".parse().unwrap(), file("ours"));
    });
    // `/etc/c` is what is declared already, so it is adopted.
    let names = ["/etc/a", "/etc/b", "/etc/d"].map(|path| path.parse().unwrap());
    assert_eq!(found, Refusal::Occupied(names.into()));
}

#[test]
fn occupied_by_a_package_s_unit_or_a_foreign_include() {
    let found = refused(|host, _, stage| {
        let folder = Path::new("/usr/lib/systemd/system");
        crate::machine::folders(host, folder, &Access::public_folder()).unwrap();
        host.create(&folder.join("other.service"), b"", &Access::public_file())
            .unwrap();
        stage
            .slice
            .units
            .insert("other.service".parse().unwrap(), unit("app=api"));
    });
    let path = "/usr/lib/systemd/system/other.service".parse().unwrap();
    assert_eq!(found, Refusal::Occupied(vec![path]));
    let found = refused(|host, _, _| {
        let path = Path::new("/etc/nginx/conf.d/push.conf");
        host.remove(path).unwrap();
        host.create(path, b"theirs", &Access::public_file())
            .unwrap();
    });
    assert_eq!(
        found,
        Refusal::Occupied(vec!["/etc/nginx/conf.d/push.conf".parse().unwrap()])
    );
}

#[test]
fn no_room_in_bytes_or_inodes() {
    let found = refused(|_, played, _| {
        played.facts.room.get_mut("/srv").unwrap().bytes = 1000;
    });
    assert!(
        matches!(&found, Refusal::Room { folder, .. } if folder == "/srv"),
        "{found:?}"
    );
    let found = refused(|_, played, _| {
        played.facts.room.get_mut("/etc/push").unwrap().inodes = 10;
    });
    assert!(
        matches!(&found, Refusal::Room { why, .. } if why.contains("inodes")),
        "{found:?}"
    );
}

#[test]
fn needs_and_tools_that_are_not_here() {
    let found = refused(|_, _, stage| {
        let needs = Needs {
            machine: Some("riscv64".to_owned()),
            ..Needs::default()
        };
        stage.needs.insert("api".parse().unwrap(), needs);
    });
    assert!(matches!(found, Refusal::Needs { .. }));
    let found = refused(|_, played, _| played.facts.nginx = None);
    assert!(matches!(found, Refusal::Tool { tool, .. } if tool == "nginx"));
}

#[test]
fn refused_by_a_real_tool_and_then_nothing_is_left() {
    let check = Refusal::Check {
        tool: "nginx -t".to_owned(),
        output: "no".to_owned(),
    };
    let expected = check.clone();
    assert_eq!(refused(|_, played, _| played.check = Err(check)), expected);
}

#[test]
fn a_secret_that_does_not_open_is_named_without_its_content() {
    let found = refused(|_, _, stage| {
        let sealed = put(stage, b"sealed to another host: s3cret");
        let secrets = stage.slice.secrets.values_mut().next().unwrap();
        secrets.values_mut().next().unwrap().sealed = sealed;
    });
    let Refusal::Secret { app, name, why } = found else {
        panic!("{found:?}")
    };
    assert_eq!((app.as_str(), name.as_str()), ("api", "key"));
    assert!(!why.contains("s3cret"));
}

#[test]
fn a_text_that_is_wrong_or_nowhere_is_corrupt() {
    let found = refused(|_, _, stage| {
        stage
            .texts
            .insert(Digest::of("one"), Bytes(b"another".to_vec()));
    });
    assert!(matches!(found, Refusal::Corrupt { .. }));
    let found = refused(|_, _, stage| stage.texts.clear());
    assert!(matches!(found, Refusal::Corrupt { what } if what.contains("/etc/x/y")));
}

#[test]
fn a_release_s_id_that_is_another_tree_s_is_refused() {
    let mut other = tree();
    other
        .entries
        .remove(&"page".parse::<push_wire::path::TreePath>().unwrap());
    let found = refused(|_, _, stage| release(stage, "r1", &other));
    assert!(
        matches!(&found, Refusal::Host { why } if why.contains("another content")),
        "{found:?}"
    );
}

#[test]
fn a_folder_that_others_can_write_is_not_written_below() {
    for access in [
        Access {
            mode: 0o777,
            ..Access::public_folder()
        },
        Access {
            owner: "api".parse().unwrap(),
            ..Access::public_folder()
        },
    ] {
        let mut host = Simulated::default();
        host.folder(Path::new("/srv/api"), &access).unwrap();
        let input = [staging(&stage(0)), sent(&packed(&[BINARY, b"", PAGE]))].concat();
        let replies = converse(&mut host, input);
        let Some(Reply::Refused(refusal)) = replies.last() else {
            panic!("{replies:?}")
        };
        assert!(matches!(&**refusal, Refusal::Unsafe { path, .. } if path == "/srv/api"));
        assert!(host.list(Path::new("/srv/api")).unwrap().is_empty());
    }
}

#[test]
fn a_host_that_is_about_to_go_down() {
    let found = refused(|_, played, _| played.facts.shutdown_at_unix_s = Some(60));
    assert_eq!(found, Refusal::GoesDown { at_unix_s: 60 });
}

#[test]
fn a_host_whose_disk_cannot_be_written_before_anything_is_sent() {
    for folder in ["/etc/push", "/srv", "/var/lib/push", "/run/push"] {
        let found = refused(|host, _, _| {
            // A folder in the way of the file by which the disk is tried.
            let probe = Path::new(folder).join(".push-probe");
            crate::machine::folders(host, &probe.join("x"), &Access::public_folder()).unwrap();
        });
        assert!(
            matches!(&found, Refusal::Host { why } if why.contains(folder)),
            "{found:?}"
        );
    }
}

#[test]
fn a_generation_that_was_never_committed_or_lost_its_release_is_none_to_go_back_to() {
    let back = |to| {
        said(&Request::Restage(Restage {
            project: "shop".parse().unwrap(),
            base: GenerationId(1),
            to: GenerationId(to),
            provenance: Provenance::default(),
            way_in: 22,
        }))
    };
    let mut host = pushed();
    let none = |there: &[u64], wanted| {
        Reply::Refused(Box::new(Refusal::NoGeneration {
            wanted: GenerationId(wanted),
            there: there.iter().copied().map(GenerationId).collect(),
        }))
    };
    assert_eq!(converse(&mut host, back(9)), [none(&[1], 9)]);
    let mut next = stage(1);
    put(&mut next, b"another file");
    next.slice
        .files
        .insert("/etc/x/y".parse().unwrap(), file("another file"));
    converse(&mut host, staging(&next));
    assert_eq!(generations(&host), [1, 2].into());
    assert_eq!(
        converse(&mut host, back(2)),
        [none(&[1], 2)],
        "it was only staged"
    );
    let mut failing = stage(1);
    put(&mut failing, b"app=api\nfails");
    failing
        .slice
        .units
        .insert("api.service".parse().unwrap(), unit("app=api\nfails"));
    converse(&mut host, staging(&failing));
    assert!(matches!(switch(&mut host, 3, "t3"), State::TakenBack(_)));
    assert_eq!(
        converse(&mut host, back(3)),
        [none(&[1], 3)],
        "it was taken back"
    );
    host.remove_folder(Path::new("/srv/api/releases/r1"))
        .unwrap();
    assert_eq!(converse(&mut host, back(1)), [none(&[], 1)]);
}

#[test]
fn a_switch_that_names_another_generation_than_the_journal_is_refused_and_told() {
    for moved in [None, Some("generations/7")] {
        let mut host = pushed();
        let current = Path::new("/etc/push/current");
        host.remove(current).unwrap();
        if let Some(target) = moved {
            let was = Path::new("/etc/push/generations/1");
            let seventh = Path::new("/etc/push/generations/7");
            host.rename(was, seventh).unwrap();
            let manifest = seventh.join("manifest.json");
            let text = host.read(&manifest, 1 << 20).unwrap();
            let text = String::from_utf8(text).unwrap();
            let text = text.replace("\"generation\": 1", "\"generation\": 7");
            host.remove(&manifest).unwrap();
            host.create(&manifest, text.as_bytes(), &Access::public_file())
                .unwrap();
            host.link(Path::new(target), current).unwrap();
        }
        let mut asked = stage(if moved.is_some() { 7 } else { 0 });
        put(&mut asked, b"another file");
        let (replies, _) = converse_as(&mut host, &mut Played::default(), staging(&asked));
        let refused = matches!(replies.last(), Some(Reply::Refused(refusal)) if matches!(&**refusal, Refusal::Host { why } if why.contains("the journal says that generation 1 is in effect")));
        assert!(refused, "{moved:?} {replies:?}");
    }
}
