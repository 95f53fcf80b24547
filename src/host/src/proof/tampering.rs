//! What is not as push left it is refused, and never guessed to be committed.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use push_wire::digest::Digest;
use push_wire::journal::State;
use push_wire::name::GenerationId;

use super::scenario::{
    Slices, at_generation_1, host, place, put, request, scenario, slice, stage, switch, update,
};
use super::{Scenario, layout};
use crate::journal::{self, JournalError};
use crate::machine::simulated::Simulated;
use crate::machine::simulated::pending::Survives;
use crate::machine::{self, Access, Disk as _};
use crate::recover::{RecoverError, recover};
use crate::store::StoreError;
use crate::transaction::TransactionError;

fn generation(id: u64, path: &str) -> PathBuf {
    layout().generation(GenerationId(id)).folder().join(path)
}

/// Nothing begins on a host that was changed like this.
fn refused(change: impl Fn(&mut Simulated)) -> TransactionError {
    let scenario = update();
    let mut world = scenario.world.clone();
    change(&mut world);
    let before = world.disk.read(&layout().journal()).unwrap();
    let error = scenario.transact(&mut world).unwrap_err();
    assert_eq!(
        world.disk.read(&layout().journal()).unwrap(),
        before,
        "{error}"
    );
    assert_eq!(
        world.services.running, scenario.world.services.running,
        "{error}"
    );
    assert!(!error.help().is_empty());
    error
}

/// Which check stopped it.
fn by(error: &TransactionError) -> &'static str {
    match error {
        TransactionError::Store(StoreError::Tampered { .. }) => "tampered",
        TransactionError::Store(StoreError::Edited { .. }) => "edited",
        TransactionError::Store(StoreError::Added { .. }) => "added",
        TransactionError::Store(StoreError::Irreplaceable { .. }) => "irreplaceable",
        TransactionError::Store(StoreError::Current { .. }) => "current",
        TransactionError::Stale { .. } => "stale",
        other => panic!("{other}"),
    }
}

/// What is staged, and what could not come back.
#[test]
fn a_generation_with_foreign_content_owner_mode_or_names_is_refused() {
    let other = |mode, owner: &str| Access {
        mode,
        owner: owner.parse().unwrap(),
        group: owner.parse().unwrap(),
    };
    // By file: which check finds another content, and which another access.
    for (id, path, content_by, access_by) in [
        (2, "systemd/api.service", "edited", "tampered"),
        (2, "manifest.json", "tampered", "tampered"),
        (2, "files/etc/shared.conf", "edited", "edited"),
        (2, "secrets/api/key-b.age", "irreplaceable", "tampered"),
        (2, "nftables/push.nft", "edited", "tampered"),
        (1, "secrets/api/key-a.age", "irreplaceable", "tampered"),
        (1, "manifest.json", "tampered", "tampered"),
    ] {
        let path = generation(id, path);
        let content = update().world.disk.read(&path).unwrap();
        let replaced = |content: &[u8], access: &Access| {
            refused(|world| machine::replace(world, &path, content, access).unwrap())
        };
        let removed = |then: &dyn Fn(&mut Simulated)| {
            refused(|world| {
                world.remove(&path).unwrap();
                then(world);
            })
        };
        for (error, expected) in [
            (replaced(b"{}", &Access::public_file()), content_by),
            (replaced(&content, &other(0o666, "root")), access_by),
            (replaced(&content, &other(0o644, "api")), access_by),
            (removed(&|_| {}), "tampered"),
            (
                removed(&|world| world.link(Path::new("/etc/passwd"), &path).unwrap()),
                "tampered",
            ),
            (
                refused(|world| world.hard_link(&path, Path::new("/etc/second")).unwrap()),
                "tampered",
            ),
        ] {
            assert_eq!(by(&error), expected, "{}: {error}", path.display());
        }
    }
}

#[test]
fn a_generation_whose_folders_are_not_roots_alone_is_refused() {
    let folders = [
        layout().push(),
        layout().generations(),
        generation(2, ""),
        generation(2, "systemd"),
        generation(2, "secrets/api"),
        generation(1, "secrets"),
    ];
    for folder in folders {
        for (uid, mode) in [(1000, 0o755), (0, 0o775), (0, 0o757)] {
            let error = refused(|world| world.disk.give(&folder, (uid, mode)));
            assert_eq!(by(&error), "tampered", "{}: {error}", folder.display());
        }
    }
}

#[test]
fn what_somebody_added_to_a_staged_generation_is_refused_and_stops_nothing_in_the_one_in_effect() {
    let add = |world: &mut Simulated, id, (path, target): (&str, &str)| match target {
        "" => put(world, &generation(id, path), b"server {}"),
        target => world
            .link(Path::new(target), &generation(id, path))
            .unwrap(),
    };
    let additions = [
        ("nginx/evil.conf", ""),
        ("systemd/api.service~", ""),
        ("more/x", ""),
        ("nginx/evil.conf", "/tmp/evil.conf"),
        ("apps/evil", "/tmp"),
        ("systemd/api.service.d", "/tmp"),
    ];
    for addition in additions {
        let error = refused(|world| add(world, 2, addition));
        assert_eq!(by(&error), "added", "{addition:?}: {error}");
        assert!(error.help().contains("move it away"));
        let scenario = update();
        let mut world = scenario.world.clone();
        add(&mut world, 1, addition);
        assert_eq!(scenario.transact(&mut world).unwrap(), State::Committed);
    }
}

#[test]
fn a_text_that_was_edited_while_in_effect_keeps_no_switch_from_beginning() {
    let scenario = update();
    for name in ["nginx/api.conf", "systemd/api.service"] {
        let mut world = scenario.world.clone();
        let path = generation(1, name);
        machine::replace(&mut world, &path, b"edited", &Access::public_file()).unwrap();
        assert_eq!(scenario.transact(&mut world).unwrap(), State::Committed);
    }
}

/// Its owner may be an app's user, who is to stop no push.
#[test]
fn what_the_owner_of_a_declared_file_does_with_it_keeps_no_switch_from_beginning() {
    let scenario = update();
    let path = generation(1, "files/etc/shared.conf");
    let changes: [&dyn Fn(&mut Simulated); 2] = [
        &|world| world.hard_link(&path, Path::new("/etc/second")).unwrap(),
        &|world| {
            let large = vec![0; usize::try_from(machine::TEXT_BYTES_MAX).unwrap() + 1];
            machine::replace(world, &path, &large, &Access::public_file()).unwrap();
        },
    ];
    for change in changes {
        let mut world = scenario.world.clone();
        change(&mut world);
        assert_eq!(scenario.transact(&mut world).unwrap(), State::Committed);
    }
}

#[test]
fn a_damaged_secret_that_another_generation_holds_too_opens_from_there() {
    let mut world = at_generation_1();
    stage(&mut world, 2, Some(Slices::A));
    let mut request = request(1, 2);
    request.about.confirm_within_ms = Some(1_000);
    let scenario = scenario("the same secret, risky", world, request);
    let mut world = scenario.world.clone();
    let damaged = generation(1, "secrets/api/key-a.age");
    machine::replace(&mut world, &damaged, b"", &Access::public_file()).unwrap();
    world.disk.sync_everything();
    // Nobody confirms, so generation 1 comes back; and once more at the next boot.
    assert!(matches!(
        scenario.transact(&mut world).unwrap(),
        State::TakenBack(_)
    ));
    let opened = Path::new("/run/push/secrets/api/key-a");
    assert_eq!(world.disk.read(opened).unwrap(), b"a");
    world.power_on(Survives::Everything);
    recover(&mut world, &layout()).unwrap();
    assert_eq!(world.disk.read(opened).unwrap(), b"a");
    // Without the other one it is said, and the firewall is up all the same.
    world.remove_folder(&generation(2, "")).unwrap();
    world.disk.sync_everything();
    world.power_on(Survives::Everything);
    let error = recover(&mut world, &layout()).unwrap_err();
    assert!(error.to_string().contains("key-a"), "{error}");
    assert!(world.services.table.is_some());
}

/// Each app at boot has what it can have; a switch wants all of it.
#[test]
fn a_secret_that_does_not_open_withholds_no_other_at_boot_and_fails_a_switch() {
    let with_another = |sealed: &[u8]| {
        let (mut both, mut contents) = slice(Slices::A);
        let (first, other) = ("secrets/api/key-a.age", "secrets/other/key-z.age");
        let api = both.secrets.values().next().unwrap();
        let another = BTreeMap::from([(
            "key-z".parse().unwrap(),
            api.values().next().unwrap().clone(),
        )]);
        both.secrets.insert("other".parse().unwrap(), another);
        contents.insert(other.to_owned(), contents[first].clone());
        for secret in both.secrets.get_mut("api").unwrap().values_mut() {
            secret.sealed = Digest::of(sealed);
        }
        contents.insert(first.to_owned(), sealed.to_vec());
        (both, contents)
    };
    let mut world = host();
    place(
        &mut world,
        1,
        with_another(&slice(Slices::A).1["secrets/api/key-a.age"]),
    );
    assert_eq!(
        switch(&mut world, &request(0, 1)).unwrap(),
        State::Committed
    );
    let damaged = generation(1, "secrets/api/key-a.age");
    machine::replace(&mut world, &damaged, b"", &Access::public_file()).unwrap();
    world.disk.sync_everything();
    world.power_on(Survives::Everything);
    let error = recover(&mut world, &layout()).unwrap_err();
    assert!(error.to_string().contains("key-a"), "{error}");
    let opened = Path::new("/run/push/secrets/other/key-z");
    assert_eq!(world.disk.read(opened).unwrap(), b"a");

    let mut world = host();
    place(&mut world, 1, with_another(b"sealed to somebody else"));
    let state = switch(&mut world, &request(0, 1)).unwrap();
    assert!(
        matches!(&state, State::TakenBack(cause) if cause.to_string().contains("key-a")),
        "{state:?}"
    );
    assert!(world.disk.stat(opened).unwrap().is_none());
}

#[test]
fn a_release_that_is_gone_or_led_elsewhere_is_refused() {
    let release = layout().at("/srv/api/releases/r-b");
    let link = generation(2, "apps/api");
    for error in [
        refused(|world| world.remove_folder(&release).unwrap()),
        refused(|world| world.disk.give(&release, (1000, 0o755))),
        refused(|world| world.disk.give(&release, (0, 0o777))),
        refused(|world| {
            world.remove(&link).unwrap();
            world.link(Path::new("/tmp"), &link).unwrap();
        }),
    ] {
        assert_eq!(by(&error), "tampered", "{error}");
    }
}

#[test]
fn a_switch_that_is_no_link_to_a_generation_is_refused() {
    for target in [
        "/tmp",
        "generations/../../x",
        "generations/0",
        "generations/01",
        "generations/x",
        "/etc/push/generations/1",
    ] {
        let error = refused(|world| {
            machine::replace_link(world, Path::new(target), &layout().current()).unwrap();
        });
        assert_eq!(by(&error), "current", "{error}");
    }
    let current = layout().current();
    let error = refused(|world| {
        machine::replace(world, &current, b"1", &Access::public_file()).unwrap();
    });
    assert_eq!(by(&error), "current", "{error}");
    let error = refused(|world| {
        world.remove(&current).unwrap();
        world.folder(&current, &Access::public_folder()).unwrap();
    });
    assert_eq!(by(&error), "current", "{error}");
    for missing in ["generations/9", "generations/2"] {
        let error = refused(|world| {
            machine::replace_link(world, Path::new(missing), &layout().current()).unwrap();
        });
        assert_eq!(by(&error), "stale", "{error}");
    }
}

/// The journal says what was committed, so the link is made anew; it is never believed instead.
#[test]
fn a_switch_that_was_led_elsewhere_is_made_anew_from_the_journal_at_boot() {
    let scenario = update();
    let mut committed = scenario.world.clone();
    scenario.transact(&mut committed).unwrap();
    let current = layout().current();
    for target in [
        Some("/tmp"),
        Some("generations/9"),
        Some("generations/1"),
        Some(""),
        None,
    ] {
        let mut world = committed.clone();
        world.remove(&current).unwrap();
        match target {
            Some("") => put(&mut world, &current, b"no link at all"),
            Some(target) => world.link(Path::new(target), &current).unwrap(),
            None => {}
        }
        world.disk.sync_everything();
        scenario.boots_wholly(&mut world, (Survives::Everything, &[State::Committed]));
        assert_eq!(world.generation_in_effect(), 2, "{target:?}");
    }
}

fn journal_of(world: &Simulated) -> Vec<u8> {
    world.disk.read(&layout().journal()).unwrap()
}

fn with_journal(world: &Simulated, bytes: &[u8]) -> Simulated {
    let mut world = world.clone();
    machine::replace(
        &mut world,
        &layout().journal(),
        bytes,
        &Access::private_file(),
    )
    .unwrap();
    world.disk.sync_everything();
    world
}

/// A host in the middle of an update, with the power gone.
fn in_probation() -> (Scenario, Simulated) {
    let scenario = update();
    for cut in 1.. {
        let mut world = scenario.world.clone().cut_at(cut);
        assert!(
            world
                .until_the_cut(|world| scenario.transact(world))
                .is_none()
        );
        let in_probation = |state: &State| matches!(state, State::Probation(_));
        if scenario.told(&world).last().is_some_and(in_probation) {
            world.power_on(Survives::Everything);
            return (scenario, world);
        }
    }
    unreachable!("every transaction comes to its probation")
}

#[test]
fn a_journal_cut_at_any_byte_of_its_last_record_takes_back() {
    let (scenario, world) = in_probation();
    let whole = journal_of(&world);
    let mut finished = world.clone();
    finished.repair();
    let records = journal::read(&world, &layout()).unwrap().records().len();
    let mut shorter = 0;
    for end in (0..whole.len()).rev() {
        let mut world = with_journal(&world, &whole[..end]);
        let Ok(journal) = journal::read(&world, &layout()) else {
            continue;
        };
        if journal.records().len() < records - 1 {
            break;
        }
        shorter += 1;
        scenario.boots_wholly(&mut world, (Survives::Everything, &[]));
        assert_eq!(world.generation_in_effect(), 1, "cut to {end} bytes");
    }
    assert!(shorter > 50, "only {shorter} tails were tried");
}

#[test]
fn a_commit_whose_record_is_torn_at_any_byte_is_no_commit() {
    let scenario = update();
    let mut world = scenario.world.clone();
    let before = journal_of(&world).len();
    assert_eq!(scenario.transact(&mut world).unwrap(), State::Committed);
    let whole = journal_of(&world);
    let committed = journal::read(&world, &layout()).unwrap().records().len();
    for end in (before..whole.len()).rev() {
        let torn = with_journal(&world, &whole[..end]);
        let journal = journal::read(&torn, &layout()).unwrap();
        assert!(!journal.last().is_some_and(|last| {
            last.transaction == scenario.request.switch.transaction && last.state.is_committed()
        }));
        assert!(journal.records().len() < committed);
    }
}

#[test]
fn a_record_of_a_commit_with_any_byte_flipped_is_no_commit() {
    let scenario = update();
    let mut world = scenario.world.clone();
    assert_eq!(scenario.transact(&mut world).unwrap(), State::Committed);
    let whole = journal_of(&world);
    let last_record = whole
        .windows(4)
        .rposition(|four| four[..2] == [0, 0] && four[2] < 2);
    let first = last_record.unwrap();
    assert!(whole.len() - first < 400, "that is the last record");
    for at in first..whole.len() {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x01;
        let mut world = with_journal(&world, &bytes);
        // The originals of adopted files went when it had committed, so they do not come back.
        scenario.boots(&mut world, Survives::Everything);
        assert_eq!(world.generation_in_effect(), 1, "byte {at}");
    }
}

#[test]
fn a_flipped_bit_in_the_middle_of_the_journal_is_refused_and_what_is_in_effect_stays() {
    let (_, world) = in_probation();
    let whole = journal_of(&world);
    let last_records_bytes = 200;
    for at in b"push journal 1\n".len()..whole.len() - last_records_bytes {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x10;
        let mut world = with_journal(&world, &bytes);
        let refused = recover(&mut world, &layout());
        assert!(
            matches!(
                refused,
                Err(RecoverError::Journal(JournalError::Damaged { .. }))
            ),
            "byte {at}: {refused:?}"
        );
        world.finish_boot();
        assert_eq!(
            world.disk.read_link(&layout().current()).unwrap(),
            Some("generations/2".into())
        );
        assert!(
            world.services.table.is_some(),
            "the firewall of what is in effect is up"
        );
    }
}

#[test]
fn a_foreign_or_later_journal_is_refused() {
    let (_, world) = in_probation();
    let refuse = |bytes: &[u8]| journal::read(&with_journal(&world, bytes), &layout()).unwrap_err();
    for foreign in [&b""[..], b"\0\0\0\0", b"[]", &[0xff; 4096]] {
        assert!(matches!(refuse(foreign), JournalError::Foreign { .. }));
    }
    for later in [&b"push journal 2\n"[..], b"push journal 12\nxyz"] {
        let error = refuse(later);
        assert!(matches!(&error, JournalError::Later { .. }), "{error}");
        assert!(error.help().contains("later"));
    }
}

#[test]
fn a_lost_journal_is_not_guessed_to_say_anything() {
    let (_, mut world) = in_probation();
    world.remove(&layout().journal()).unwrap();
    assert!(recover(&mut world, &layout()).unwrap().is_none());
    world.finish_boot();
    assert_eq!(
        world.disk.read_link(&layout().current()).unwrap(),
        Some("generations/2".into())
    );
    assert!(
        world.services.table.is_some(),
        "the firewall of what is in effect is up"
    );
}

/// The volume with the apps may be missing at a boot, or come later.
#[test]
fn a_host_that_boots_without_its_apps_takes_back_and_has_its_firewall_and_secrets() {
    let (_, mut world) = in_probation();
    world.remove_folder(&layout().apps()).unwrap();
    world.disk.sync_everything();
    let state = recover(&mut world, &layout()).unwrap();
    assert!(matches!(state, Some(State::TakenBack(_))), "{state:?}");
    let current = world.disk.read_link(&layout().current()).unwrap();
    assert_eq!(current, Some("generations/1".into()));
    assert!(world.services.table.is_some());
    let opened = Path::new("/run/push/secrets/api/key-a");
    assert_eq!(world.disk.read(opened).unwrap(), b"a");
    world.power_on(Survives::Everything);
    recover(&mut world, &layout()).unwrap();
    assert!(world.services.table.is_some());
    assert_eq!(world.disk.read(opened).unwrap(), b"a");
}

#[test]
fn a_hostile_name_in_the_folder_of_generations_is_no_generation() {
    let mut world = update().world;
    for name in ["x", "-1", "1.trash", "18446744073709551616"] {
        put(
            &mut world,
            &layout().generations().join(name).join("manifest.json"),
            b"{}",
        );
    }
    let there = crate::store::generations(&world, &layout()).unwrap();
    assert_eq!(there, [GenerationId(1), GenerationId(2)].into());
}

/// A user's folder with a link in it that leads to root's.
fn with_a_trap(world: &mut Simulated, owner: u32) {
    let home = Path::new("/etc/of-b");
    machine::folders(world, home, &Access::public_folder()).unwrap();
    world
        .folder(Path::new("/usr/target"), &Access::public_folder())
        .unwrap();
    world
        .link(Path::new("/usr/target"), &home.join("deep"))
        .unwrap();
    world.disk.give(home, (owner, 0o755));
    world.disk.sync_everything();
}

#[test]
fn no_link_of_a_users_is_followed_to_place_a_file_and_roots_own_is() {
    let target = Path::new("/usr/target/x.conf");
    let mut scenario = update();
    with_a_trap(&mut scenario.world, 1000);
    let mut world = scenario.world.clone();
    let state = scenario.transact(&mut world).unwrap();
    assert!(
        matches!(&state, State::TakenBack(cause) if cause.to_string().contains("/etc/of-b/deep")),
        "{state:?}"
    );
    assert!(world.disk.stat(target).unwrap().is_none());
    let mut scenario = update();
    with_a_trap(&mut scenario.world, 0);
    let mut world = scenario.world.clone();
    assert_eq!(scenario.transact(&mut world).unwrap(), State::Committed);
    assert!(world.disk.stat(target).unwrap().is_some());
}

/// It would be easy to keep a host from going back.
#[test]
fn a_user_who_leads_a_place_elsewhere_keeps_no_host_from_taking_back_or_booting() {
    for id in [1, 2] {
        let letter = if id == 1 { "a" } else { "b" };
        let (deep, aside) = (
            layout().at(&format!("/etc/of-{letter}/deep")),
            layout().at(&format!("/etc/of-{letter}/aside")),
        );
        let (scenario, mut world) = in_probation();
        world.rename(&deep, &aside).unwrap();
        world.link(Path::new("/usr"), &deep).unwrap();
        world.disk.give(deep.parent().unwrap(), (1000, 0o755));
        world.disk.sync_everything();
        world.power_on(Survives::Everything);
        let state = recover(&mut world, &layout()).unwrap();
        assert!(
            matches!(state, Some(State::TakenBack(_))),
            "{id}: {state:?}"
        );
        world.finish_boot();
        let current = world.disk.read_link(&layout().current()).unwrap();
        assert_eq!(current, Some("generations/1".into()));
        assert!(world.services.table.is_some());
        assert!(world.disk.stat(Path::new("/usr/x.conf")).unwrap().is_none());
        let _ = scenario;
    }
}
