//! Waves stop where the policy says, and take back what it says.

use push_wire::journal::Cause;

use super::super::fake::{ALWAYS, Fault, manifest};
use super::*;

fn in_waves(hosts: usize, waves: &[u32], undo: Undo) -> Scene {
    Scene::of(hosts).policy(|policy| {
        policy.waves = waves.iter().copied().map(Wave::Hosts).collect();
        policy.undo = undo;
    })
}

fn failing(scene: Scene, host: &str) -> Scene {
    scene.host(host, |host| host.taken_back(Cause::Unconfirmed))
}

#[tokio::test(start_paused = true)]
async fn a_failing_wave_is_the_last_and_undo_says_what_goes_back() {
    let golden: &[(Undo, [&str; 5])] = &[
        (
            Undo::Host,
            ["committed", "committed", "taken_back", "skipped", "skipped"],
        ),
        (
            Undo::Wave,
            ["committed", "restored", "taken_back", "skipped", "skipped"],
        ),
        (
            Undo::All,
            ["restored", "restored", "taken_back", "skipped", "skipped"],
        ),
    ];
    for (undo, words) in golden {
        let shown = failing(in_waves(5, &[1, 3], *undo), "h3").push().await;
        assert_eq!(shown.words(), *words, "{undo:?}");
        assert_eq!(shown.exit, 5);
        assert!(!shown.asked("h4").contains(&"Switch".to_owned()));
    }
}

#[tokio::test(start_paused = true)]
async fn as_many_hosts_may_fail_as_the_policy_says() {
    for (max, last) in [(0, "skipped"), (1, "committed")] {
        let scene = in_waves(3, &[1, 2], Undo::All).policy(|policy| policy.failures_max = max);
        let shown = failing(scene, "h1").push().await;
        assert_eq!(
            shown.words(),
            [
                "taken_back",
                if max == 0 { "skipped" } else { "committed" },
                last
            ]
        );
        assert_eq!(shown.exit, 5);
    }
}

#[tokio::test(start_paused = true)]
async fn one_dead_host_does_not_hide_what_became_of_the_others() {
    let scene = Scene::of(4).fault("h2", Fault::Vanishes, ALWAYS);
    let shown = failing(scene.fault("h2", Fault::LostAfterOrder, 1), "h4")
        .push()
        .await;
    assert_eq!(
        shown.words(),
        ["committed", "in_doubt", "committed", "taken_back"]
    );
    assert_eq!(shown.exit, 6);
}

#[tokio::test(start_paused = true)]
async fn the_first_push_of_a_project_is_undone_by_declaring_nothing() {
    let scene = failing(in_waves(2, &[2], Undo::Wave), "h2");
    let scene = scene.host("h1", |host| host.manifest = manifest(3, "blog"));
    let shown = scene.push().await;
    assert_eq!(shown.words(), ["restored", "taken_back"]);
    let stages = shown
        .asked("h1")
        .iter()
        .filter(|asked| *asked == "Stage")
        .count();
    assert_eq!(stages, 2);
}

#[tokio::test(start_paused = true)]
async fn a_project_that_was_there_before_goes_back_to_its_generation() {
    let shown = failing(in_waves(2, &[2], Undo::Wave), "h2").push().await;
    assert_eq!(
        shown.asked("h1"),
        ["Stage", "Switch", "Restage", "Switch", "Confirm"]
    );
    let restored = Outcome::Restored {
        content_of: GenerationId(3),
        now_at: GenerationId(5),
    };
    assert_eq!(*shown.of("h1"), restored);
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_undone_is_told_and_has_the_gravest_code() {
    for fault in [Fault::RefusesRestage, Fault::RestageTakenBack] {
        let scene = failing(in_waves(2, &[2], Undo::All), "h2");
        let shown = scene.fault("h1", fault, ALWAYS).push().await;
        assert_eq!(shown.words(), ["not_restored", "taken_back"], "{fault:?}");
        assert_eq!(shown.exit, 6);
    }
}

#[tokio::test(start_paused = true)]
async fn a_lost_connection_does_not_keep_a_host_from_being_undone() {
    let scene = failing(in_waves(3, &[1, 3], Undo::All), "h3");
    let shown = scene.fault("h1", Fault::VerdictLost, 1).push().await;
    assert_eq!(shown.words(), ["restored", "restored", "taken_back"]);
}

#[tokio::test(start_paused = true)]
async fn waves_are_in_the_order_of_names_and_told() {
    let shown = in_waves(5, &[1, 3], Undo::Host).push().await;
    let waves: Vec<usize> = shown
        .events
        .iter()
        .filter_map(|event| match event {
            Event::Push(crate::event::Milestone::Wave { hosts, of: 3, .. }) => Some(hosts.len()),
            _ => None,
        })
        .collect();
    assert_eq!(waves, [1, 2, 2]);
    assert_eq!(shown.exit, 0);
}
