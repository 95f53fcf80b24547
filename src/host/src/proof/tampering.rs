//! What is not as push left it is refused, and never guessed to be committed.

use std::path::{Path, PathBuf};

use push_wire::journal::State;
use push_wire::name::GenerationId;

use super::{Scenario, layout, put, update};
use crate::journal::{self, JournalError};
use crate::machine::simulated::Simulated;
use crate::machine::simulated::disk::Survives;
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

fn is_tampered(error: &TransactionError) -> bool {
    let by_us = |error: &StoreError| {
        matches!(
            error,
            StoreError::Tampered { .. } | StoreError::Edited { .. }
        )
    };
    matches!(error, TransactionError::Store(error) if by_us(error))
}

#[test]
fn a_generation_with_foreign_content_owner_mode_or_names_is_refused() {
    let other = |mode, owner: &str| Access {
        mode,
        owner: owner.parse().unwrap(),
        group: owner.parse().unwrap(),
    };
    for (id, path) in [
        (2, "systemd/api.service"),
        (2, "manifest.json"),
        (1, "secrets/api/key-a.age"),
        (2, "files/etc/shared.conf"),
        (2, "secrets/api/key-b.age"),
        (2, "nftables/push.nft"),
    ] {
        let path = generation(id, path);
        let content = update().world.disk.read(&path).unwrap();
        let replaced = |content: &[u8], access: &Access| {
            refused(|world| machine::replace(world, &path, content, access).unwrap())
        };
        for error in [
            replaced(b"{}", &Access::public_file()),
            replaced(&content, &other(0o666, "root")),
            replaced(&content, &other(0o644, "api")),
            refused(|world| {
                world
                    .hard_link(&path, &generation(9, "").with_file_name("x"))
                    .unwrap();
            }),
            refused(|world| world.remove(&path).unwrap()),
            refused(|world| {
                world.remove(&path).unwrap();
                world.link(Path::new("/etc/passwd"), &path).unwrap();
            }),
        ] {
            assert!(is_tampered(&error), "{}: {error}", path.display());
        }
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

#[test]
fn a_release_that_is_gone_or_led_elsewhere_is_refused() {
    let release = layout().at("/srv/api/releases/r-b");
    assert!(is_tampered(&refused(|world| world
        .remove_folder(&release)
        .unwrap())));
    let link = generation(2, "apps/api");
    assert!(is_tampered(&refused(|world| {
        world.remove(&link).unwrap();
        world.link(Path::new("/tmp"), &link).unwrap();
    })));
}

#[test]
fn a_switch_that_is_no_link_to_a_generation_is_refused() {
    for target in [
        "/tmp",
        "generations/../../x",
        "generations/0",
        "generations/01",
        "generations/x",
    ] {
        let error = refused(|world| {
            machine::replace_link(world, Path::new(target), &layout().current()).unwrap();
        });
        assert!(
            matches!(error, TransactionError::Store(StoreError::Current { .. })),
            "{error}"
        );
    }
}

#[test]
fn a_path_in_the_way_is_named_and_left_alone() {
    let scenario = update();
    let mut world = scenario.world.clone();
    let place = Path::new("/etc/only-b.conf");
    machine::replace(&mut world, place, b"mine", &Access::public_file()).unwrap();
    let state = scenario.transact(&mut world).unwrap();
    assert!(
        matches!(&state, State::TakenBack(cause) if cause.to_string().contains("/etc/only-b.conf"))
    );
    assert_eq!(world.disk.read(place).unwrap(), b"mine");
    assert_eq!(world.generation_in_effect(), 1);
    assert_eq!(
        world.services.running, scenario.world.services.running,
        "nothing was restarted"
    );
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
fn a_flipped_bit_in_the_middle_of_the_journal_is_refused_and_what_is_in_effect_stays() {
    let (_, world) = in_probation();
    let whole = journal_of(&world);
    let last_records_bytes = 200;
    for at in (b"push journal 1\n".len()..whole.len() - last_records_bytes).step_by(3) {
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
