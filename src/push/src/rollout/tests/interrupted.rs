//! Ctrl-C: once stops safely, twice leaves, and both tell the truth.

use std::time::Duration;

use super::super::fake::{ALWAYS, Fault};
use super::*;

#[tokio::test(start_paused = true)]
async fn before_the_switch_nothing_is_changed() {
    for kind in [
        "started",
        "connecting",
        "connected",
        "greeted",
        "planned",
        "agreed",
        "checked",
    ] {
        let shown = Scene::of(3).press_at(kind).push().await;
        assert_eq!(shown.words(), ["interrupted"; 3], "{kind}");
        assert_eq!(shown.exit, 130, "{kind}");
        assert!(!shown.heard("switching"), "{kind}");
    }
}

#[tokio::test(start_paused = true)]
async fn while_a_pack_travels_nothing_is_changed() {
    let scene = Scene::of(1).host("h1", |host| host.lacks = vec![Digest::of("a file")]);
    let shown = scene.press_at("sent").push().await;
    assert_eq!(
        (shown.words(), shown.exit),
        (vec!["interrupted".to_owned()], 130)
    );
}

#[tokio::test(start_paused = true)]
async fn during_the_switch_hosts_are_asked_to_take_back_and_waited_for() {
    for kind in ["running", "probation"] {
        let scene =
            Scene::of(2)
                .fault("h1", Fault::Hangs, ALWAYS)
                .fault("h2", Fault::Hangs, ALWAYS);
        let shown = scene.press_at(kind).push().await;
        assert_eq!(shown.words(), ["taken_back"; 2], "{kind}");
        assert_eq!(shown.exit, 130, "{kind}");
        assert!(shown.asked("h1").contains(&"TakeBack".to_owned()), "{kind}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_host_of_the_wave_whose_turn_has_not_come_is_not_switched_any_more() {
    let scene = Scene::of(2).fault("h1", Fault::Hangs, ALWAYS);
    let shown = scene.press_at("switching").push().await;
    assert_eq!(shown.words(), ["taken_back", "interrupted"]);
    assert_eq!(shown.exit, 130);
}

#[tokio::test(start_paused = true)]
async fn a_host_that_had_committed_stays_committed_and_later_waves_do_not_begin() {
    let scene = Scene::of(3).policy(|policy| {
        policy.waves = vec![Wave::Hosts(1), Wave::Hosts(2)];
        policy.undo = Undo::All;
    });
    let shown = scene
        .fault("h2", Fault::Hangs, ALWAYS)
        .press_at("finished")
        .push()
        .await;
    assert_eq!(shown.words()[0], "committed");
    assert_eq!(shown.words()[2], "interrupted");
    assert_eq!(shown.exit, 130);
}

#[tokio::test(start_paused = true)]
async fn a_host_that_does_not_answer_is_in_doubt_within_the_bound() {
    let scene =
        Scene::of(1)
            .fault("h1", Fault::Hangs, ALWAYS)
            .fault("h1", Fault::DeafToTakeBack, ALWAYS);
    let began = tokio::time::Instant::now();
    let shown = scene.press_at("probation").push().await;
    assert_eq!(
        (shown.words(), shown.exit),
        (vec!["in_doubt".to_owned()], 6)
    );
    assert!(began.elapsed() < VERDICT_AFTER_INTERRUPT_MAX + Duration::from_secs(60));
}

#[tokio::test(start_paused = true)]
async fn twice_leaves_at_once_and_says_who_goes_on_alone() {
    let scene = Scene::of(2)
        .fault("h1", Fault::Hangs, ALWAYS)
        .fault("h1", Fault::DeafToTakeBack, ALWAYS)
        .fault("h2", Fault::Hangs, ALWAYS)
        .fault("h2", Fault::DeafToTakeBack, ALWAYS);
    let began = tokio::time::Instant::now();
    let shown = scene.press_at("running").press_at("health").push().await;
    assert_eq!(
        (shown.words(), shown.exit),
        (vec!["in_doubt".to_owned(); 2], 6)
    );
    assert!(began.elapsed() < Duration::from_secs(60));
    let left = shown.events.iter().find_map(|event| match event {
        Event::Push(crate::event::Milestone::Left { alone }) => Some(alone.len()),
        _ => None,
    });
    assert_eq!(left, Some(2));
}

#[tokio::test(start_paused = true)]
async fn a_lost_connection_and_ctrl_c_together_still_end_in_the_truth() {
    for fault in [Fault::LostAfterOrder, Fault::LostInProgress] {
        let scene = Scene::of(1).fault("h1", Fault::Hangs, ALWAYS);
        let shown = scene
            .fault("h1", fault, 1)
            .press_at("reconnecting")
            .push()
            .await;
        assert_eq!(
            (shown.words(), shown.exit),
            (vec!["taken_back".to_owned()], 130),
            "{fault:?}"
        );
    }
}
