//! What no honest laptop sends.

use std::path::Path;

use super::*;
use crate::machine::Disk;

/// What a pack comes to, and that nothing of it stays but what can be taken up.
fn pack_refused(input: Vec<u8>) -> Refusal {
    let mut host = Simulated::default();
    let (replies, _) = converse_as(
        &mut host,
        &mut Played::default(),
        [staging(&stage(0)), input].concat(),
    );
    assert!(
        host.list(Path::new("/srv")).unwrap().is_empty(),
        "a release was begun"
    );
    assert_eq!(generations(&host), [].into());
    match replies.last() {
        Some(Reply::Refused(refusal)) => {
            // An honest laptop that comes next is served.
            push(&mut host);
            (**refusal).clone()
        }
        other => panic!("{other:?}"),
    }
}

fn entry(digest: Digest, size: u64, content: &[u8]) -> Vec<u8> {
    [PackEntry { digest, size }.encode().as_slice(), content].concat()
}

#[test]
fn a_pack_that_is_not_what_its_digest_says_is_removed() {
    let pack = packed(&[BINARY, b"", PAGE]);
    let mut wrong = pack.clone();
    wrong[20] ^= 1;
    let request = Request::Pack {
        digest: Digest::of(&pack),
        bytes: pack.len() as u64,
        offset: 0,
    };
    let found = pack_refused([said(&request), contents(&wrong)].concat());
    assert!(
        matches!(found, Refusal::Corrupt { what } if what == format!("the pack {}", Digest::of(&pack)))
    );
}

#[test]
fn a_file_that_is_not_what_its_digest_says_is_named() {
    let wrong = entry(Digest::of(PAGE), PAGE.len() as u64, b"b page");
    let found = pack_refused(sent(&compress(&wrong)));
    assert!(
        matches!(&found, Refusal::Corrupt { what } if what.contains("page of api")),
        "{found:?}"
    );
}

#[test]
fn a_size_that_is_not_the_listing_s_is_refused_before_anything_is_written() {
    let huge = entry(Digest::of(PAGE), u64::MAX, &[b'x'; 9000]);
    let found = pack_refused(sent(&compress(&huge)));
    assert!(matches!(found, Refusal::Corrupt { what } if what.contains("bytes, not 6")));
}

#[test]
fn what_was_not_asked_for_or_comes_twice_is_refused() {
    let found = pack_refused(sent(&packed(&[b"something else"])));
    assert!(matches!(found, Refusal::Protocol { why } if why.contains("not asked for")));
    let found = pack_refused(sent(&packed(&[PAGE, PAGE])));
    assert!(matches!(found, Refusal::Protocol { why } if why.contains("not asked for")));
}

#[test]
fn a_pack_that_lacks_something_or_ends_too_early_is_refused() {
    let found = pack_refused(sent(&packed(&[PAGE])));
    assert!(matches!(found, Refusal::Protocol { why } if why.contains("lacks 2 files")));
    for plain in [
        entry(Digest::of(PAGE), PAGE.len() as u64, b"a p"),
        entry(Digest::of(PAGE), PAGE.len() as u64, PAGE)[..10].to_vec(),
    ] {
        assert!(matches!(
            pack_refused(sent(&compress(&plain))),
            Refusal::Corrupt { .. }
        ));
    }
    let whole = packed(&[BINARY, b"", PAGE]);
    let found = pack_refused(sent(&whole[..whole.len() - 5]));
    assert!(matches!(found, Refusal::Corrupt { .. }), "{found:?}");
    assert!(matches!(
        pack_refused(sent(b"not zstd at all")),
        Refusal::Corrupt { .. }
    ));
}

#[test]
fn a_pack_larger_than_what_is_missing_or_from_beyond_its_part_is_refused_unread() {
    let request = |bytes, offset| {
        said(&Request::Pack {
            digest: Digest::of("x"),
            bytes,
            offset,
        })
    };
    for (bytes, offset) in [(u64::MAX, 0), (1 << 40, 0), (100, 50), (100, 101)] {
        let found = pack_refused(request(bytes, offset));
        assert!(matches!(found, Refusal::Protocol { .. }), "{found:?}");
    }
    let pack = packed(&[BINARY, b"", PAGE]);
    let long = [sent(&pack[..30]), contents(b"and more")].concat();
    let found = pack_refused(long);
    assert!(
        matches!(found, Refusal::Corrupt { .. } | Refusal::Protocol { .. }),
        "{found:?}"
    );
}

#[test]
fn a_listing_that_leaves_its_release_or_lies_is_refused() {
    let with = |path: &str, entry| {
        let mut tree = tree();
        tree.entries.insert(path.parse().unwrap(), entry);
        let mut stage = stage(0);
        release(&mut stage, "r1", &tree);
        stage
    };
    let link = |target: &str| Entry::Link {
        target: target.to_owned(),
    };
    let mut lies = stage(0);
    lies.trees = [(tree().digest(), Tree::default())].into();
    let mut size = stage(0);
    size.slice.apps.values_mut().next().unwrap().size += 1;
    for stage in [
        with("out", link("../../../../etc")),
        with("abs", link("/etc/passwd")),
        with("link/below", data(PAGE)),
        with("nowhere/below", data(PAGE)),
        lies,
        size,
    ] {
        let mut host = Simulated::default();
        let replies = converse(&mut host, staging(&stage));
        let refusal = match &replies[..] {
            [Reply::Refused(refusal)] => refusal,
            other => panic!("{other:?}"),
        };
        assert!(matches!(**refusal, Refusal::Protocol { .. }), "{refusal:?}");
        assert!(host.list(Path::new("/srv")).unwrap().is_empty());
    }
}

#[test]
fn names_that_are_paths_do_not_even_parse() {
    let text = serde_json::to_string(&Request::Stage(Box::new(stage(0)))).unwrap();
    for (good, bad) in [
        ("\"api\":{\"release\"", "\"../etc\":{\"release\""),
        ("\"release\":\"r1\"", "\"release\":\"../r1\""),
        ("\"bin/api\"", "\"../bin/api\""),
        ("\"/etc/x/y\"", "\"/etc/../x\""),
        ("\"api.service\"", "\"../api.service\""),
        ("\"var/data\"", "\"/var/data\""),
    ] {
        assert!(text.contains(good), "{good}");
        let body = text.replace(good, bad);
        let input = frame::encode(Kind::Message, body.as_bytes()).unwrap();
        let mut host = Simulated::default();
        let (replies, end) = converse_as(&mut host, &mut Played::default(), input);
        assert!(matches!(end, End::Broken(_)), "{bad}");
        assert!(
            matches!(replies.last(), Some(Reply::Refused(refusal)) if matches!(**refusal, Refusal::Protocol { .. }))
        );
        assert!(host.list(Path::new("/srv")).unwrap().is_empty());
    }
}

#[test]
fn requests_out_of_their_order_are_refused_and_the_conversation_goes_on_or_ends() {
    let mut host = Simulated::default();
    let switch = Request::Switch(Switch {
        generation: GenerationId(1),
        transaction: "t".parse().unwrap(),
        nonce: Digest::of(""),
        confirm_within_ms: None,
    });
    let pack = Request::Pack {
        digest: Digest::of(""),
        bytes: 0,
        offset: 0,
    };
    let watch = Request::Confirm {
        transaction: "t".parse().unwrap(),
        nonce: String::new(),
    };
    let input = [
        said(&switch),
        said(&pack),
        said(&watch),
        said(&Request::Status),
    ]
    .concat();
    let replies = converse(&mut host, input);
    assert_eq!(replies.len(), 4);
    assert!(
        replies[..3]
            .iter()
            .all(|reply| matches!(reply, Reply::Refused(_))),
        "{replies:?}"
    );
    assert!(matches!(replies[3], Reply::Status(_)));

    let (replies, end) = converse_as(&mut host, &mut Played::default(), contents(b"x"));
    assert!(matches!(end, End::Broken(_)));
    assert_eq!(replies.len(), 2);
}

#[test]
fn a_push_host_that_is_not_what_was_announced_or_comes_in_the_midst_of_a_switch_is_not_installed() {
    use std::io::Write;
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(b"a push-host").unwrap();
    let gzip = gzip.finish().unwrap();
    let program = Path::new("/usr/local/lib/push/push-host");
    let upgrade = |digest, packed_bytes| {
        said(&Request::Upgrade {
            digest,
            packed_bytes,
        })
    };
    let mut host = Simulated::default();
    for input in [
        [
            upgrade(Digest::of("another"), gzip.len() as u64),
            contents(&gzip),
        ]
        .concat(),
        [upgrade(Digest::of("a push-host"), 5), contents(&gzip[..7])].concat(),
        [upgrade(Digest::of("a push-host"), 3), contents(b"abc")].concat(),
        upgrade(Digest::of("a push-host"), u64::MAX),
    ] {
        let (replies, end) = converse_as(&mut host, &mut Played::default(), input);
        assert_eq!(end, End::Gone);
        assert!(
            matches!(replies.last(), Some(Reply::Refused(_))),
            "{replies:?}"
        );
        assert_eq!(host.stat(program).unwrap(), None);
    }
    let good = [
        upgrade(Digest::of("a push-host"), gzip.len() as u64),
        contents(&gzip),
    ]
    .concat();
    let mut other = pushed();
    under_way(&mut other, State::Switching);
    let (replies, end) = converse_as(&mut other, &mut Played::default(), good.clone());
    assert_eq!(end, End::Gone);
    assert!(
        matches!(replies.last(), Some(Reply::Refused(refusal)) if matches!(**refusal, Refusal::Locked(_))),
        "{replies:?}"
    );
    assert_eq!(other.stat(program).unwrap(), None);
    let mut unfit = Played {
        program_refused: Some("Exec format error".to_owned()),
        ..Played::default()
    };
    let (replies, end) = converse_as(&mut host, &mut unfit, good.clone());
    assert_eq!(end, End::Gone);
    let is_told = matches!(replies.last(), Some(Reply::Refused(refusal)) if matches!(&**refusal, Refusal::Host { why } if why.contains("Exec format error")));
    assert!(is_told, "{replies:?}");
    let folder = host.list(program.parent().unwrap()).unwrap();
    assert_eq!(folder, [""; 0], "nothing of it stays");
    let (_, end) = converse_as(&mut host, &mut Played::default(), good);
    assert_eq!(end, End::Replaced);
    assert_eq!(host.read(program, 99).unwrap(), b"a push-host");
    assert_eq!(host.stat(program).unwrap().unwrap().mode, 0o755);
}
