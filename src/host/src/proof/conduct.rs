//! What a transaction decides when nothing is cut.

use push_wire::journal::{Cause, Progress, State};
use push_wire::manifest::{File, OnChange};
use push_wire::message::Holder;
use push_wire::name::GenerationId;

use super::scenario::{
    self, Slices, at_generation_1, request, rollback, scenario, stage, update, update_to,
};
use super::{Scenario, layout, service};
use crate::machine::simulated::Simulated;
use crate::machine::simulated::pending::Survives;
use crate::machine::simulated::trouble::{Fault, Trouble};
use crate::machine::{Clock as _, Disk as _, Node};
use crate::progress::{self, Wish};
use crate::recover::recover;
use crate::transaction::TransactionError;
use crate::{firewall, journal};

fn cause(scenario: &Scenario) -> (Cause, Simulated) {
    let mut world = scenario.world.clone();
    match scenario.transact(&mut world).unwrap() {
        State::TakenBack(cause) => {
            assert_eq!(world.generation_in_effect(), scenario.from());
            (cause, world)
        }
        other => panic!("it ended {other:?}"),
    }
}

#[test]
fn a_unit_that_does_not_start_takes_the_switch_back_and_names_the_effect() {
    let (cause, _) = cause(&update_to(Slices::Failing));
    assert!(
        matches!(&cause, Cause::Effect { effect, .. } if effect == "restart api.service"),
        "{cause}"
    );
}

#[test]
fn an_app_that_never_becomes_healthy_is_taken_back_with_its_last_answer() {
    let (cause, _) = cause(&update_to(Slices::Sick));
    assert!(
        matches!(&cause, Cause::Unhealthy { app, why } if app == "api" && why.contains("503")),
        "{cause}"
    );
}

#[test]
fn a_service_that_restarts_by_itself_is_taken_back() {
    let (cause, _) = cause(&update_to(Slices::Crashing));
    assert!(
        matches!(&cause, Cause::Unhealthy { why, .. } if why.contains("restarted by itself")),
        "{cause}"
    );
}

#[test]
fn an_nginx_that_keeps_its_old_configuration_is_found_out() {
    let (cause, _) = cause(&update_to(Slices::Refused));
    assert!(
        matches!(&cause, Cause::Effect { effect, why } if effect == "reload nginx" && why.contains("generation 1")),
        "{cause}"
    );
}

#[test]
fn evidence_is_told_before_anything_is_taken_back() {
    for flaw in [Slices::Failing, Slices::Sick] {
        let scenario = update_to(flaw);
        let (_, world) = cause(&scenario);
        let told = scenario.progress(&world);
        let evidence = told
            .iter()
            .position(|progress| matches!(progress, Progress::Evidence(_)));
        let back = told
            .iter()
            .position(|progress| matches!(progress, Progress::State(State::TakingBack(_))));
        assert!(evidence.unwrap() < back.unwrap(), "{told:?}");
        let Progress::Evidence(found) = &told[evidence.unwrap()] else {
            unreachable!()
        };
        assert!(
            found.answer.is_some() && !found.units.is_empty(),
            "{found:?}"
        );
        assert!(
            found
                .journal
                .iter()
                .any(|line| line.contains(service().as_str()))
        );
    }
}

/// The old release does not start any more: nobody is told that it was taken back before it was.
#[test]
fn a_way_back_that_does_not_hold_is_no_end_and_a_recovery_after_the_repair_is_one() {
    let sick = update_to(Slices::Sick);
    let mut decided = sick.world.clone();
    let _ = sick.transact(&mut decided);
    for call in 1..decided.calls() {
        let nothing_starts = Trouble::from(Fault::NothingStarts, call);
        let mut world = sick.world.clone().with(&[nothing_starts]);
        let ended = sick.transact(&mut world);
        let Err(TransactionError::Stuck { why, .. }) = ended else {
            continue;
        };
        assert!(why.contains("restart"), "{why}");
        let told = sick.told(&world);
        assert!(!told.iter().any(State::is_final), "{told:?}");
        let journal = journal::read(&world, &layout()).unwrap();
        assert!(matches!(
            journal.last().unwrap().state,
            State::TakingBack(_)
        ));
        world.repair();
        let recovered = recover(&mut world, &layout()).unwrap();
        assert!(
            matches!(recovered, Some(State::TakenBack(_))),
            "{recovered:?}"
        );
        assert_eq!(world.generation_in_effect(), 1);
        return;
    }
    panic!("nothing was ever stuck");
}

/// A host whose power goes while an update is on trial.
fn cut_on_trial(scenario: &Scenario) -> Simulated {
    for cut in 1.. {
        let mut world = scenario.world.clone().cut_at(cut);
        let _ = world.until_the_cut(|world| scenario.transact(world));
        let journal = journal::read(&world, &layout()).unwrap();
        if matches!(journal.last().unwrap().state, State::Probation(_)) {
            world.power_on(Survives::Everything);
            return world;
        }
    }
    unreachable!("every update comes on trial")
}

#[test]
fn a_secret_that_does_not_open_at_boot_leaves_nothing_of_what_is_gone_running() {
    let mut world = cut_on_trial(&update());
    let sealed = layout()
        .generation(GenerationId(1))
        .folder()
        .join("secrets/api/key-a.age");
    world.remove(&sealed).unwrap();
    scenario::put(&mut world, &sealed, b"damaged");
    let recovered = recover(&mut world, &layout());
    assert!(recovered.is_err(), "{recovered:?}");
    world.finish_boot();
    for unit in ["api.service", "same.service", "only-a.service"] {
        let text = &world.services.running[unit].text;
        assert!(!text.contains("text=b"), "{unit}: {text}");
    }
    assert!(!world.services.running.contains_key("only-b.service"));
    assert!(world.services.table.is_some(), "it has its firewall");
}

#[test]
fn sshd_and_the_firewall_come_back_before_anything_that_may_take_long() {
    let mut world = at_generation_1();
    let sshd = File {
        on_change: OnChange::Reload("ssh.service".parse().unwrap()),
        ..scenario::file("b")
    };
    let (mut slice, mut contents) = scenario::slice(Slices::Sick);
    slice.files.insert("/etc/sshd.conf".parse().unwrap(), sshd);
    contents.insert("files/etc/sshd.conf".to_owned(), b"b".to_vec());
    scenario::place(&mut world, 2, (slice, contents));
    let scenario = scenario("update of sshd", world, request(1, 2));
    let (_, world) = cause(&scenario);
    let told = scenario.progress(&world);
    let back = told
        .iter()
        .skip_while(|told| !matches!(told, Progress::State(State::TakingBack(_))))
        .filter_map(|told| match told {
            Progress::Effect(effect) => Some(effect.to_string()),
            _ => None,
        });
    let back: Vec<String> = back.take(2).collect();
    assert_eq!(back, ["load the firewall", "reload ssh.service"]);
}

fn risky() -> Scenario {
    let mut scenario = update();
    scenario.request.about.confirm_within_ms = Some(30_000);
    scenario
}

#[test]
fn a_risky_switch_that_nobody_confirms_is_taken_back_at_its_deadline() {
    let scenario = risky();
    let (cause, world) = cause(&scenario);
    assert_eq!(cause, Cause::Unconfirmed);
    let waited_ms = world.boottime_ms() - scenario.world.boottime_ms();
    assert!((30_000..31_000).contains(&waited_ms), "{waited_ms} ms");
}

#[test]
fn a_confirmation_commits_and_asking_again_gives_the_same_answer() {
    let scenario = risky();
    let mut world = scenario.world.clone();
    let id = &scenario.request.switch.transaction;
    progress::ask(&mut world, &layout(), (id, Wish::Confirmed)).unwrap();
    assert_eq!(scenario.transact(&mut world).unwrap(), State::Committed);
    progress::ask(&mut world, &layout(), (id, Wish::TakeBack)).unwrap();
    let processes = world.services.running.clone();
    assert_eq!(scenario.transact(&mut world).unwrap(), State::Committed);
    assert_eq!(world.services.running, processes);
    assert_eq!(world.generation_in_effect(), 2);
}

#[test]
fn an_operator_who_came_in_again_is_told_so_once_also_when_it_is_taken_back_in_the_end() {
    for mut scenario in [risky(), update_to(Slices::Sick)] {
        scenario.request.about.confirm_within_ms = Some(30_000);
        let mut world = scenario.world.clone();
        let id = &scenario.request.switch.transaction;
        progress::ask(&mut world, &layout(), (id, Wish::Confirmed)).unwrap();
        scenario.transact(&mut world).unwrap();
        let told = world.disk.read(&layout().transaction(id).progress());
        let told = String::from_utf8(told.unwrap().clone()).unwrap();
        let confirmed = told.lines().filter(|line| *line == "\"confirmed\"");
        assert_eq!(confirmed.count(), 1, "{told}");
    }
}

#[test]
fn an_operator_who_wants_it_taken_back_is_heard_even_after_a_confirmation() {
    let mut scenario = risky();
    let id = scenario.request.switch.transaction.clone();
    progress::ask(&mut scenario.world, &layout(), (&id, Wish::Confirmed)).unwrap();
    progress::ask(&mut scenario.world, &layout(), (&id, Wish::TakeBack)).unwrap();
    assert_eq!(cause(&scenario).0, Cause::Asked);
}

#[test]
fn a_switch_planned_against_another_generation_begins_nothing() {
    let mut scenario = update();
    scenario.request.about.from = push_wire::name::GenerationId(7);
    let mut world = scenario.world.clone();
    let before = world.disk.read(&layout().journal()).unwrap();
    let refused = scenario.transact(&mut world);
    assert!(
        matches!(refused, Err(TransactionError::Stale { .. })),
        "{refused:?}"
    );
    assert_eq!(world.disk.read(&layout().journal()).unwrap(), before);
    assert_eq!(world.generation_in_effect(), 1);
}

#[test]
fn an_update_restarts_only_what_changed() {
    let scenario = update();
    let mut world = scenario.world.clone();
    let before = world.services.running["same.service"].clone();
    assert_eq!(scenario.transact(&mut world).unwrap(), State::Committed);
    assert_eq!(world.services.running["same.service"], before);
    assert_ne!(
        world.services.running["api.service"],
        scenario.world.services.running["api.service"]
    );
}

#[test]
fn the_same_generation_again_touches_no_process() {
    let mut world = at_generation_1();
    stage(&mut world, 2, Some(Slices::A));
    let scenario = scenario("the same again", world, request(1, 2));
    let mut world = scenario.world.clone();
    assert_eq!(scenario.transact(&mut world).unwrap(), State::Committed);
    assert_eq!(world.services.running, scenario.world.services.running);
    assert_eq!(world.services.nginx, scenario.world.services.nginx);
}

#[test]
fn a_first_push_taken_back_leaves_the_host_as_it_was() {
    let mut world = scenario::host();
    scenario::put(&mut world, std::path::Path::new("/etc/shared.conf"), b"b");
    stage(&mut world, 1, Some(Slices::Sick));
    let scenario = scenario("first push", world, request(0, 1));
    let (_, world) = cause(&scenario);
    let shared = std::path::Path::new("/etc/shared.conf");
    assert_eq!(world.disk.stat(shared).unwrap().unwrap().node, Node::File);
    assert_eq!(world.disk.read(shared).unwrap(), b"b");
    assert!(world.disk.stat(&layout().current()).unwrap().is_none());
    assert!(world.services.running.is_empty() && world.services.table.is_none());
}

#[test]
fn pruning_keeps_what_is_current_what_was_before_and_what_still_runs() {
    let release = |letter: &str| layout().at(&format!("/srv/api/releases/r-{letter}"));
    let Scenario {
        mut world,
        request: back,
        ..
    } = rollback();
    assert_eq!(
        crate::transaction::transact(&mut world, &layout(), &back).unwrap(),
        State::Committed
    );
    // Generation 1, 2 and 3 hold the releases a, b and a: all of them fit two releases.
    assert!(world.disk.stat(&release("b")).unwrap().is_some());
    assert!(
        world
            .disk
            .stat(&layout().generation(back.about.from).manifest())
            .unwrap()
            .is_some()
    );
    for (name, used) in [("r-old", false), ("r-used", true)] {
        let folder = layout().at(&format!("/srv/api/releases/{name}"));
        scenario::put(&mut world, &folder.join("code"), b"old");
        if used {
            world.services.in_use.insert(folder.join("code"));
        }
    }
    stage(&mut world, 4, Some(Slices::B));
    assert_eq!(
        scenario::switch(&mut world, &request(3, 4)).unwrap(),
        State::Committed
    );
    let left = world.disk.list(&layout().at("/srv/api/releases")).unwrap();
    assert_eq!(left, ["r-a", "r-b", "r-used"]);
    assert_eq!(world.generation_in_effect(), 4);
}

#[test]
fn a_firewall_that_something_flushed_is_loaded_again_and_before_a_recovery_none_is() {
    let mut world = at_generation_1();
    let loaded = world.services.table.take();
    assert!(loaded.is_some());
    firewall::load_again(&mut world, &layout()).unwrap();
    assert_eq!(world.services.table, loaded);
    world.power_on(Survives::Everything);
    firewall::load_again(&mut world, &layout()).unwrap();
    assert_eq!(
        world.services.table, None,
        "the recovery decides what stays"
    );
    recover(&mut world, &layout()).unwrap();
    assert_eq!(world.services.table, loaded);
    let mut world = scenario::host();
    world.services.table = loaded;
    scenario::put(&mut world, &layout().lock(), b"");
    firewall::load_again(&mut world, &layout()).unwrap();
    assert_eq!(world.services.table, None, "nothing is in effect");
}

#[test]
fn a_failed_generation_is_pruned_after_the_next_commit_and_counts_for_nothing() {
    let (_, mut world) = cause(&update_to(Slices::Sick));
    stage(&mut world, 3, Some(Slices::B));
    assert_eq!(
        scenario::switch(&mut world, &request(1, 3)).unwrap(),
        State::Committed
    );
    let there = world.disk.list(&layout().generations()).unwrap();
    assert_eq!(there, ["1", "3"]);
}

#[test]
fn who_is_at_it_can_be_read_while_the_journal_is() {
    let scenario = update();
    let mut world = scenario.world.clone();
    scenario.transact(&mut world).unwrap();
    let text = world.disk.read(&layout().holder()).unwrap();
    let holder: Holder = serde_json::from_slice(&text).unwrap();
    assert_eq!(
        holder.transaction,
        Some(scenario.request.switch.transaction.clone())
    );
    let journal = journal::read_settled(&mut world, &layout()).unwrap();
    assert!(journal.knows(&scenario.request.switch.transaction));
    assert_eq!(journal.transactions().len(), 2);
}
