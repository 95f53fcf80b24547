//! Conversations that go well, or are cut and taken up again.

use std::path::Path;

use super::*;
use crate::machine::Disk;
use push_wire::message::Restage;

fn modes(host: &Simulated, paths: &[&str]) -> Vec<u32> {
    paths
        .iter()
        .map(|path| host.stat(Path::new(path)).unwrap().unwrap().mode)
        .collect()
}

#[test]
fn a_host_that_was_never_pushed_to_says_so_and_keeps_one_key() {
    let mut host = Simulated::default();
    let first = hello(&mut host);
    assert_eq!(
        (first.highest, &first.manifest),
        (GenerationId::NONE, &Manifest::empty())
    );
    assert_eq!(first.fingerprint_key.len(), 64);
    assert_eq!(hello(&mut host).fingerprint_key, first.fingerprint_key);
    assert_ne!(
        hello(&mut Simulated::default()).fingerprint_key,
        first.fingerprint_key
    );
    assert_eq!(modes(&host, &["/var/lib/push/fingerprint.key"]), [0o600]);
}

#[test]
fn whoever_only_looks_gets_the_same_first_word_and_writes_nothing() {
    for mut host in [Simulated::default(), pushed()] {
        let before = format!("{:?}", host.disk);
        let output = Output::default();
        let line = line(said(&Request::Stage(Box::new(stage(0)))), &output);
        let end = look(&mut host, &layout(), &Played::default(), line).unwrap();
        assert_eq!(end, End::Gone);
        assert_eq!(format!("{:?}", host.disk), before, "nothing is written");
        let told = replies(&output);
        let [Reply::Hello(looked), Reply::Refused(refusal)] = told.as_slice() else {
            panic!("{told:?}");
        };
        assert!(matches!(**refusal, Refusal::Protocol { .. }), "{refusal:?}");
        let said = hello(&mut host);
        assert_eq!(
            (&looked.manifest, &looked.facts),
            (&said.manifest, &said.facts)
        );
    }
}

#[test]
fn what_a_project_had_is_told_as_long_as_its_generation_is_there_as_push_left_it() {
    let mut host = pushed();
    let mut next = stage(1);
    put(&mut next, b"another file");
    let path = "/etc/x/y".parse().unwrap();
    next.slice.files.insert(path, file("another file"));
    converse(&mut host, staging(&next));
    assert_eq!(switch(&mut host, 2, "t2"), State::Committed);
    let earlier = |host: &mut Simulated, project: &str, generation: u64| {
        let request = Request::Earlier {
            project: project.parse().unwrap(),
            generation: GenerationId(generation),
        };
        match converse(host, said(&request)).pop() {
            Some(Reply::Earlier(slice)) => slice.map(|slice| *slice),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(earlier(&mut host, "shop", 1), Some(stage(0).slice));
    assert_eq!(earlier(&mut host, "blog", 1), None);
    assert_eq!(earlier(&mut host, "shop", 3), None);
    let manifest = Path::new("/etc/push/generations/1/manifest.json");
    let access = crate::machine::Access::public_file();
    crate::machine::replace(&mut host, manifest, b"{}", &access).unwrap();
    assert_eq!(earlier(&mut host, "shop", 1), None);
}

#[test]
fn a_staged_release_has_its_content_modes_links_and_shared_folder() {
    let host = pushed();
    let release = "/srv/api/releases/r1";
    let at = |path: &str| format!("{release}/{path}");
    let found = modes(
        &host,
        &[
            release,
            &at("bin"),
            &at("bin/api"),
            &at("copy"),
            &at("page"),
        ],
    );
    assert_eq!(found, [0o755, 0o755, 0o755, 0o644, 0o644]);
    assert_eq!(host.read(Path::new(&at("copy")), 99).unwrap(), BINARY);
    assert_eq!(host.read(Path::new(&at("empty")), 99).unwrap(), b"");
    let link = |path: &str| host.read_link(Path::new(path)).unwrap().unwrap();
    assert_eq!(link(&at("link")), Path::new("bin/api"));
    assert_eq!(link(&at("var/data")), Path::new("../../../shared/var/data"));
    let shared = host
        .stat(Path::new("/srv/api/shared/var/data"))
        .unwrap()
        .unwrap();
    assert_eq!((shared.mode, shared.uid), (0o750, 999));
    let above = host
        .stat(Path::new("/srv/api/shared/var"))
        .unwrap()
        .unwrap();
    assert_eq!((above.mode, above.uid), (0o755, 0));
    assert_eq!(link("/etc/push/generations/1/apps/api"), Path::new(release));
    let marker = host.read(
        Path::new("/etc/push/generations/1/nginx/00-generation.conf"),
        999,
    );
    assert!(
        String::from_utf8(marker.unwrap())
            .unwrap()
            .contains("return 200 \"1\"")
    );
    assert_eq!(generations(&host), [1].into());
    assert!(
        host.list(Path::new("/var/lib/push/spool"))
            .unwrap()
            .is_empty()
    );
}

#[test]
fn what_a_build_left_at_a_shared_path_gives_way_to_the_shared_folder() {
    let mut host = pushed();
    let mut littered = tree();
    littered
        .entries
        .insert("var".parse().unwrap(), Entry::Folder);
    littered
        .entries
        .insert("var/data".parse().unwrap(), Entry::Folder);
    littered
        .entries
        .insert("var/data/x".parse().unwrap(), data(PAGE));
    let mut next = stage(1);
    release(&mut next, "r2", &littered);
    let replies = converse(&mut host, staging(&next));
    assert!(matches!(replies[..], [Reply::Staged { .. }]), "{replies:?}");
    let link = host
        .read_link(Path::new("/srv/api/releases/r2/var/data"))
        .unwrap();
    assert_eq!(link.as_deref(), Some(Path::new("../../../shared/var/data")));
}

#[test]
fn a_shared_folder_that_is_declared_later_is_linked_to_from_the_release_that_is_there() {
    let mut host = pushed();
    let mut next = stage(1);
    let app = next.slice.apps.values_mut().next().unwrap();
    app.shared.insert("uploads".parse().unwrap());
    let replies = converse(&mut host, staging(&next));
    assert!(matches!(replies[..], [Reply::Staged { .. }]), "{replies:?}");
    let link = host
        .read_link(Path::new("/srv/api/releases/r1/uploads"))
        .unwrap();
    assert_eq!(link.as_deref(), Some(Path::new("../../shared/uploads")));
    assert!(
        host.stat(Path::new("/srv/api/shared/uploads"))
            .unwrap()
            .is_some()
    );
}

#[test]
fn the_next_push_sends_only_what_is_new_and_the_rest_gets_a_second_name() {
    let mut host = pushed();
    let first = hello(&mut host);
    assert_eq!(first.manifest.ways_in, [22, 2222].into());
    let known = &first.releases[&"api".parse::<push_wire::name::AppName>().unwrap()];
    assert_eq!(known[&tree().digest()], "r1");

    let mut changed = tree();
    changed
        .entries
        .insert("page".parse().unwrap(), data(b"another page"));
    let mut next = stage(1);
    release(&mut next, "r2", &changed);
    // Texts that the generation in effect holds need not be sent again.
    next.texts.clear();
    let replies = converse(
        &mut host,
        [staging(&next), sent(&packed(&[b"another page"]))].concat(),
    );
    let Reply::Missing { files, .. } = &replies[0] else {
        panic!("{replies:?}")
    };
    assert_eq!(*files, [Digest::of("another page")].into());
    assert_eq!(
        replies[1],
        Reply::Staged {
            generation: GenerationId(2),
            warnings: vec![]
        }
    );
    let stat = host
        .stat(Path::new("/srv/api/releases/r2/bin/api"))
        .unwrap()
        .unwrap();
    assert_eq!((stat.names, stat.mode), (2, 0o755));
    let data = host
        .stat(Path::new("/srv/api/releases/r2/copy"))
        .unwrap()
        .unwrap();
    assert_eq!(
        (data.names, data.mode),
        (2, 0o644),
        "a name never changes the mode of another"
    );
}

#[test]
fn the_same_staged_again_is_the_same_generation_and_another_takes_its_place() {
    let mut host = pushed();
    let mut next = stage(1);
    put(&mut next, b"another file");
    next.slice
        .files
        .insert("/etc/x/y".parse().unwrap(), file("another file"));
    let staged = |generation| Reply::Staged {
        generation: GenerationId(generation),
        warnings: vec![],
    };
    assert_eq!(converse(&mut host, staging(&next)), [staged(2)]);
    next.provenance.at_unix_s += 60;
    assert_eq!(
        converse(&mut host, staging(&next)),
        [staged(2)],
        "it was cut, and came again"
    );
    assert_eq!(generations(&host), [1, 2].into());
    put(&mut next, b"a third file");
    next.slice
        .files
        .insert("/etc/x/y".parse().unwrap(), file("a third file"));
    assert_eq!(
        converse(&mut host, staging(&next)),
        [staged(3)],
        "no number is used twice"
    );
    assert_eq!(generations(&host), [1, 3].into());
}

#[test]
fn a_slice_goes_back_to_what_it_was_under_a_new_number() {
    let mut host = pushed();
    let mut next = stage(1);
    let text = "app=api\nnew";
    put(&mut next, text.as_bytes());
    next.slice
        .units
        .insert("api.service".parse().unwrap(), unit(text));
    converse(&mut host, staging(&next));
    assert_eq!(switch(&mut host, 2, "t2"), State::Committed);
    let back = |base, to| {
        said(&Request::Restage(Restage {
            project: "shop".parse().unwrap(),
            base: GenerationId(base),
            to: GenerationId(to),
            provenance: Provenance::default(),
            way_in: 22,
        }))
    };
    let replies = converse(&mut host, back(2, 1));
    assert_eq!(
        replies,
        [Reply::Staged {
            generation: GenerationId(3),
            warnings: vec![]
        }]
    );
    assert_eq!(switch(&mut host, 3, "t3"), State::Committed);
    let manifest = hello(&mut host).manifest;
    assert_eq!(manifest.restores, Some(GenerationId(1)));
    assert_eq!(
        manifest.slice(&"shop".parse().unwrap()),
        Some(&stage(0).slice)
    );
}

#[test]
fn an_operator_who_goes_at_any_byte_leaves_what_can_be_taken_up() {
    let pack = packed(&[BINARY, b"", PAGE]);
    let input = [staging(&stage(0)), sent(&pack)].concat();
    let mut host = Simulated::default();
    for cut in (0..input.len()).step_by(13) {
        let (_, end) = converse_as(&mut host, &mut Played::default(), input[..cut].to_vec());
        assert_eq!(end, End::Gone, "cut at {cut}");
    }
    let replies = converse(&mut host, staging(&stage(0)));
    let Reply::Missing { partial, .. } = &replies[0] else {
        panic!("{replies:?}")
    };
    let have = partial[&Digest::of(&pack)];
    assert!(have > 0 && have < pack.len() as u64);
    let at = usize::try_from(have).unwrap();
    let rest = Request::Pack {
        digest: Digest::of(&pack),
        bytes: pack.len() as u64,
        offset: have,
    };
    let input = [staging(&stage(0)), said(&rest), contents(&pack[at..])].concat();
    let replies = converse(&mut host, input);
    assert!(
        matches!(replies[..], [Reply::Missing { .. }, Reply::Staged { .. }]),
        "{replies:?}"
    );
}

#[test]
fn an_upload_that_nobody_goes_on_with_is_forgotten() {
    let pack = packed(&[BINARY, b"", PAGE]);
    let mut host = Simulated::default();
    let part = said(&Request::Pack {
        digest: Digest::of(&pack),
        bytes: pack.len() as u64,
        offset: 0,
    });
    let piece = frame::encode(Kind::Content, &pack[..9]).unwrap();
    converse(&mut host, [staging(&stage(0)), part, piece].concat());
    let partial = |host: &mut Simulated| match &converse(host, staging(&stage(0)))[0] {
        Reply::Missing { partial, .. } => partial.len(),
        other => panic!("{other:?}"),
    };
    assert_eq!(partial(&mut host), 1);
    let note = Path::new("/var/lib/push/spool/last-used");
    host.remove(note).unwrap();
    let access = crate::machine::Access::private_file();
    host.create(note, b"1799000000", &access).unwrap();
    assert_eq!(partial(&mut host), 0);
}

#[test]
fn a_switch_that_systemd_starts_after_it_was_refused_begins_nothing() {
    let mut host = Simulated::default();
    let order = said(&Request::Switch(Switch {
        generation: GenerationId(1),
        transaction: "t1".parse().unwrap(),
        nonce: Digest::of("nonce"),
        confirm_within_ms: None,
    }));
    let staged = [staging(&stage(0)), sent(&packed(&[BINARY, b"", PAGE]))].concat();
    let mut played = Played {
        launch_refused: Some("systemd-run did not end within 30 s".to_owned()),
        ..Played::default()
    };
    let (replies, _) = converse_as(&mut host, &mut played, [staged, order].concat());
    let refused = matches!(replies.last(), Some(Reply::Refused(why)) if matches!(**why, Refusal::Host { .. }));
    assert!(refused, "{replies:?}");
    // Its program had read what it was to do, and waited for the lock.
    let left = left(&host, 1, "t1");
    let begun = transact(&mut host, &layout(), &left);
    assert!(
        matches!(begun, Err(crate::transaction::TransactionError::Withdrawn)),
        "{begun:?}"
    );
    assert!(
        journal::read(&host, &layout())
            .unwrap()
            .records()
            .is_empty()
    );
    assert_eq!(
        store::current(&host, &layout()).unwrap(),
        GenerationId::NONE
    );
}

#[test]
fn a_switch_leaves_its_request_and_is_told_to_its_verdict() {
    let mut host = Simulated::default();
    let name: TransactionId = "t1".parse().unwrap();
    let switch = |generation| {
        said(&Request::Switch(Switch {
            generation: GenerationId(generation),
            transaction: "t1".parse().unwrap(),
            nonce: Digest::of("nonce"),
            confirm_within_ms: Some(30_000),
        }))
    };
    let staged = [staging(&stage(0)), sent(&packed(&[BINARY, b"", PAGE]))].concat();
    let mut played = Played::default();
    let input = [staged, switch(1)].concat();
    let (_, end) = converse_as(&mut host, &mut played, input);
    assert_eq!(
        (end, played.launched.as_slice()),
        (End::Gone, &[name.clone()][..])
    );
    let left = progress::request(&host, &layout(), &name).unwrap();
    assert_eq!(
        (left.about.to, left.about.nonce),
        (GenerationId(1), Digest::of("nonce"))
    );
    assert_eq!(left.about.provenance.operator, "mia");

    assert_eq!(super::switch(&mut host, 1, "t1"), State::Committed);
    let replies = converse(
        &mut host,
        said(&Request::Watch {
            transaction: name.clone(),
        }),
    );
    let verdict = Reply::Verdict {
        transaction: name.clone(),
        state: Some(State::Committed),
    };
    assert_eq!(replies.last(), Some(&verdict));
    assert!(
        replies.contains(&Reply::Progress(push_wire::journal::Progress::State(
            State::Switching
        )))
    );
    // Asked again, it gives the same answer; whoever confirms late gets it, too.
    let confirm = Request::Confirm {
        transaction: name.clone(),
        nonce: "nonce".to_owned(),
    };
    assert_eq!(
        converse(&mut host, said(&confirm)),
        std::slice::from_ref(&verdict)
    );
    let take_back = Request::TakeBack { transaction: name };
    assert_eq!(converse(&mut host, said(&take_back)), [verdict]);
}

/// It is kept in memory, megabytes of it, on a host that stays up for a year.
#[test]
fn what_transactions_told_goes_with_the_pushes_after_them_and_their_verdict_stays() {
    let mut host = pushed();
    let names = |host: &Simulated| host.list(&layout().transactions()).unwrap();
    let mut most = 0;
    for round in 2..20 {
        let mut next = stage(round - 1);
        next.provenance.operator = format!("mia {round}");
        release(&mut next, &format!("r{round}"), &tree());
        let name: TransactionId = format!("t{round}").parse().unwrap();
        let order = said(&Request::Switch(Switch {
            generation: GenerationId(round),
            transaction: name.clone(),
            nonce: Digest::of("nonce"),
            confirm_within_ms: None,
        }));
        let input = [staging(&next), order].concat();
        let (replies, _) = converse_as(&mut host, &mut Played::default(), input);
        assert!(matches!(replies[1], Reply::Staged { .. }), "{replies:?}");
        assert_eq!(
            super::switch(&mut host, round, name.as_str()),
            State::Committed
        );
        let there = names(&host);
        for kept in [round, round - 1] {
            assert!(there.contains(&format!("t{kept}")), "{there:?}");
        }
        most = most.max(there.len());
    }
    assert!(most < 12, "{most}");
    let transaction: TransactionId = "t2".parse().unwrap();
    assert!(!names(&host).contains(&"t2".to_owned()));
    let asked = said(&Request::Watch {
        transaction: transaction.clone(),
    });
    let state = Some(State::Committed);
    assert_eq!(
        converse(&mut host, asked),
        [Reply::Verdict { transaction, state }]
    );
}

/// Both may carry the same number of their version.
#[test]
fn a_program_that_is_older_than_what_is_here_says_that_it_cannot_read_it() {
    let (now, layout) = (pushed(), layout());
    for host in [&Simulated::default(), &now] {
        crate::serve::reads(host, &layout).unwrap();
    }
    let manifest = Path::new("/etc/push/generations/1/manifest.json");
    let journal = layout.journal();
    let text = String::from_utf8(now.read(manifest, 1 << 20).unwrap()).unwrap();
    let later = text.replacen('{', "{\"of_later\":1,", 1);
    let access = crate::machine::Access::public_file();
    for (path, content) in [(manifest, later.as_str()), (&journal, "push journal 2\n")] {
        let mut host = now.clone();
        crate::machine::replace(&mut host, path, content.as_bytes(), &access).unwrap();
        assert!(
            crate::serve::reads(&host, &layout).is_err(),
            "{}",
            path.display()
        );
    }
}

#[test]
fn status_names_what_is_not_as_declared_and_texts_hold_no_secret() {
    let mut host = pushed();
    let status = |host: &mut Simulated| match &converse(host, said(&Request::Status))[..] {
        [Reply::Status(status)] => (**status).clone(),
        other => panic!("{other:?}"),
    };
    let before = status(&mut host);
    assert_eq!(before.drift, Vec::<String>::new());
    assert_eq!(before.last.unwrap().releases.len(), 1);
    host.remove(Path::new("/etc/x/y")).unwrap();
    assert_eq!(status(&mut host).drift, ["/etc/x/y is missing"]);
    host.create(
        Path::new("/etc/x/y"),
        b"theirs",
        &crate::machine::Access::public_file(),
    )
    .unwrap();
    assert_eq!(
        status(&mut host).drift,
        ["/etc/x/y does not lead to what is declared"]
    );
    host.remove(Path::new("/etc/x/y")).unwrap();
    host.remove(Path::new("/etc/push/generations/1/nginx/api.conf"))
        .unwrap();
    assert!(
        status(&mut host)
            .drift
            .iter()
            .any(|line| line.contains("nginx/api.conf"))
    );

    let digests = [Digest::of("a file"), Digest::of([SEAL, b"s3cret"].concat())].into();
    let replies = converse(&mut host, said(&Request::Texts { digests }));
    let Reply::Texts(texts) = &replies[0] else {
        panic!("{replies:?}")
    };
    assert_eq!(texts.keys().collect::<Vec<_>>(), [&Digest::of("a file")]);
}

/// Edits, at generation 1, what generation 2 would take from there.
#[test]
fn a_text_that_was_edited_and_is_held_nowhere_else_is_asked_for_and_taken() {
    let sealed = [SEAL, b"s3cret"].concat();
    for (path, text) in [
        ("files/etc/x/y", b"a file".as_slice()),
        ("systemd/api.service", b"app=api"),
        ("secrets/api/key.age", &sealed),
    ] {
        let mut host = pushed();
        assert_eq!(hello(&mut host).lost, [].into());
        let path = Path::new("/etc/push/generations/1").join(path);
        let access = crate::machine::Access::public_file();
        crate::machine::replace(&mut host, &path, b"edited", &access).unwrap();
        assert_eq!(hello(&mut host).lost, [Digest::of(text)].into());
        let mut next = stage(1);
        put(&mut next, b"another file");
        next.slice
            .files
            .insert("/etc/another".parse().unwrap(), file("another file"));
        let mut without = next.clone();
        without.texts.remove(&Digest::of(text));
        let replies = converse(&mut host, staging(&without));
        assert!(
            matches!(&replies[0], Reply::Refused(refusal) if matches!(&**refusal, Refusal::Corrupt { .. })),
            "{replies:?}"
        );
        let replies = converse(&mut host, staging(&next));
        assert!(matches!(replies[..], [Reply::Staged { .. }]), "{replies:?}");
        // Now another generation holds it.
        assert_eq!(hello(&mut host).lost, [].into());
        assert_eq!(switch(&mut host, 2, "t2"), State::Committed);
    }
}
