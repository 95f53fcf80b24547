//! Whatever goes wrong before the first switch changes nothing anywhere.

use std::time::Duration;

use push_wire::message::Refusal;
use push_wire::name::GenerationId;

use super::super::fake::{ALWAYS, Fault};
use super::*;

/// Every fault that shows before a switch, how its host ends, and the push's exit code.
const FAULTS: &[(Fault, &str, u8)] = &[
    (Fault::Unreachable, "unreachable", 4),
    (Fault::MissingForeign, "failed", 1),
    (Fault::Sudo, "failed", 1),
    (Fault::Noise, "failed", 1),
    (Fault::Garbage, "failed", 1),
    (Fault::Mute, "failed", 1),
    (Fault::EndsAtOnce, "failed", 1),
    (Fault::Newer, "failed", 1),
    (Fault::RefusesUpgrade, "failed", 1),
    (Fault::Refuses, "refused", 9),
    (Fault::Locked, "locked", 7),
    (Fault::MuteAtStage, "failed", 1),
    (Fault::GarbageAtStage, "failed", 1),
    (Fault::WrongAtStage, "failed", 1),
    (Fault::LostAtStage, "unreachable", 4),
    (Fault::LostMidPack, "unreachable", 4),
    (Fault::RefusedMidPack, "refused", 1),
    (Fault::Corrupt, "refused", 1),
];

fn lacking(scene: Scene) -> Scene {
    let hosts = scene.hosts.clone();
    hosts.iter().fold(scene, |scene, host| {
        scene.host(host.as_str(), |host| {
            host.lacks = vec![Digest::of("a file")];
        })
    })
}

#[tokio::test(start_paused = true)]
async fn a_fault_anywhere_before_the_switch_changes_nothing_anywhere() {
    for (fault, word, exit) in FAULTS {
        let shown = lacking(Scene::of(3))
            .fault("h2", *fault, ALWAYS)
            .push()
            .await;
        assert_eq!(shown.words(), ["skipped", word, "skipped"], "{fault:?}");
        assert_eq!(shown.exit, *exit, "{fault:?}");
        assert!(!shown.heard("switching"), "{fault:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_host_that_is_away_is_left_behind_when_the_policy_lets_hosts_fail() {
    for fault in [Fault::Unreachable, Fault::LostAtStage] {
        let scene = Scene::of(3).policy(|policy| policy.failures_max = 1);
        let shown = scene.fault("h2", fault, ALWAYS).push().await;
        assert_eq!(
            shown.words(),
            ["committed", "unreachable", "committed"],
            "{fault:?}"
        );
        assert_eq!(shown.exit, 4);
    }
}

#[tokio::test(start_paused = true)]
async fn a_refusal_stops_the_push_however_many_hosts_may_fail() {
    let scene = Scene::of(3).policy(|policy| policy.failures_max = 9);
    let shown = scene.fault("h2", Fault::Refuses, ALWAYS).push().await;
    assert_eq!(shown.words(), ["skipped", "refused", "skipped"]);
}

#[tokio::test(start_paused = true)]
async fn a_connection_lost_while_staging_is_made_again_and_the_pack_goes_on_where_it_was() {
    let scene = lacking(Scene::of(1)).fault("h1", Fault::LostMidPack, 1);
    let shown = scene.push().await;
    assert_eq!(shown.words(), ["committed"]);
    let received = shown.world.host("h1", |host| host.received);
    assert!(
        received <= 1 << 19,
        "only the other half was sent again, not {received} bytes"
    );
    assert_eq!(
        shown.asked("h1"),
        ["Stage", "Pack", "Stage", "Pack", "Switch"]
    );
}

#[tokio::test(start_paused = true)]
async fn a_lost_connection_that_still_holds_the_lock_is_waited_for_without_patience() {
    let scene = Scene::of(1).fault("h1", Fault::LostAtStage, 1);
    let shown = scene.fault("h1", Fault::Locked, 4).push().await;
    assert_eq!(shown.words(), ["committed"]);
}

#[tokio::test(start_paused = true)]
async fn what_a_lost_connection_means_is_told_by_how_far_its_host_was() {
    for fault in [Fault::LostAtStage, Fault::LostMidPack] {
        let shown = lacking(Scene::of(1)).fault("h1", fault, 1).push().await;
        assert_eq!(shown.lost_during(), [Phase::Staging], "{fault:?}");
    }
    for fault in [Fault::LostAfterOrder, Fault::LostInProgress] {
        let shown = lacking(Scene::of(1)).fault("h1", fault, 1).push().await;
        assert_eq!(shown.lost_during(), [Phase::Switching], "{fault:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_host_given_up_while_staging_is_told_to_be_as_it_was_and_that_the_upload_goes_on() {
    for fault in [Fault::LostMidPack, Fault::MuteAtStage] {
        let shown = lacking(Scene::of(1))
            .fault("h1", fault, ALWAYS)
            .push()
            .await;
        let (Outcome::Unreachable { obstacle } | Outcome::Failed { obstacle }) = shown.of("h1")
        else {
            panic!("{fault:?}: {:?}", shown.of("h1"));
        };
        let help = &obstacle.help;
        assert!(help.contains("nothing is switched there"), "{help}");
        assert!(help.contains("push again"), "{help}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_lock_that_is_held_by_this_very_push_is_not_called_somebody_elses() {
    for (push, expected) in [
        ("this-push", Whose::Ours),
        ("another-push", Whose::Others),
        ("", Whose::Others),
    ] {
        let scene = Scene::of(1).host("h1", |host| host.holder.push = push.into());
        let shown = scene.fault("h1", Fault::Locked, ALWAYS).push().await;
        let Outcome::Locked { whose, .. } = shown.of("h1") else {
            panic!("{push}: {:?}", shown.of("h1"));
        };
        assert_eq!(*whose, expected, "{push}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_pack_that_arrives_broken_is_sent_once_more() {
    let shown = lacking(Scene::of(1))
        .fault("h1", Fault::Corrupt, 1)
        .push()
        .await;
    assert_eq!(shown.words(), ["committed"]);
    assert_eq!(
        shown.asked("h1"),
        ["Stage", "Pack", "Stage", "Pack", "Switch"]
    );
}

#[tokio::test(start_paused = true)]
async fn a_host_that_claims_to_hold_more_than_there_is_gets_all_of_it() {
    let scene = lacking(Scene::of(1)).host("h1", |host| {
        host.partial = Some((Digest::of("zeros"), u64::MAX));
    });
    let shown = scene.push().await;
    assert_eq!(shown.world.host("h1", |host| host.received), 1 << 20);
}

#[tokio::test(start_paused = true)]
async fn a_missing_push_host_is_installed_and_an_old_one_replaced() {
    let shown = Scene::of(1).fault("h1", Fault::Missing, 1).push().await;
    assert_eq!(shown.asked("h1"), ["install", "Stage", "Switch"]);
    assert!(shown.heard("installing"));

    let shown = Scene::of(1).fault("h1", Fault::Outdated, 1).push().await;
    assert_eq!(shown.asked("h1"), ["Upgrade", "Stage", "Switch"]);
    assert!(shown.heard("upgrading"));
}

#[tokio::test(start_paused = true)]
async fn a_later_push_host_of_the_same_protocol_is_left_alone() {
    let shown = Scene::of(1)
        .fault("h1", Fault::LaterVersion, ALWAYS)
        .push()
        .await;
    assert_eq!(shown.asked("h1"), ["Stage", "Switch"]);
}

#[tokio::test(start_paused = true)]
async fn whoever_only_looks_installs_and_replaces_nothing() {
    for fault in [Fault::Missing, Fault::Outdated] {
        let mut scene = Scene::of(1).policy(|policy| policy.verb = Verb::Plan);
        scene.presence = Presence::AsFound;
        let shown = scene.fault("h1", fault, ALWAYS).push().await;
        assert_eq!(shown.asked("h1"), [""; 0], "{fault:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_plan_for_a_host_that_push_never_ran_on_looks_and_installs_nothing() {
    let mut scene = Scene::of(1).policy(|policy| policy.verb = Verb::Plan);
    scene.presence = Presence::Look;
    let shown = scene.fault("h1", Fault::Missing, ALWAYS).push().await;
    assert_eq!((shown.words(), shown.exit), (vec!["pending".to_owned()], 0));
    assert_eq!(shown.asked("h1"), ["look"]);
    assert!(shown.heard("looking") && !shown.heard("installing"));
}

#[tokio::test(start_paused = true)]
async fn a_secret_that_cannot_be_opened_is_told_before_push_host_is_installed_or_replaced() {
    for (fault, word, exit) in [
        (Fault::Missing, "failed", 8),
        // What is there speaks the same protocol, and this push may need no secret at all.
        (Fault::Outdated, "committed", 0),
    ] {
        let scene = Scene::of(1).wanting(|wanted| wanted.unready = Some(no_secret()));
        let shown = scene.fault("h1", fault, ALWAYS).push().await;
        assert_eq!((shown.words(), shown.exit), (vec![word.to_owned()], exit));
        let brought = ["install", "Upgrade"].map(|what| shown.asked("h1").contains(&what.into()));
        assert_eq!(brought, [false; 2], "{fault:?}: {:?}", shown.asked("h1"));
    }
}

#[tokio::test(start_paused = true)]
async fn an_error_names_what_to_type_next() {
    let golden = [
        (
            Fault::Sudo,
            "deploy ALL=(root) NOPASSWD: /usr/local/lib/push/push-host serve",
        ),
        (
            Fault::MissingForeign,
            "push-host is built for x86_64 and aarch64 only",
        ),
        (Fault::Noise, "print nothing"),
        (Fault::Newer, "upgrade push"),
    ];
    for (fault, help) in golden {
        let shown = Scene::of(1).fault("h1", fault, ALWAYS).push().await;
        let Outcome::Failed { obstacle } = shown.of("h1") else {
            panic!("{fault:?}: {:?}", shown.of("h1"));
        };
        assert!(obstacle.help.contains(help), "{fault:?}: {}", obstacle.help);
        assert!(
            !obstacle.why.contains('\u{1b}'),
            "{fault:?}: {}",
            obstacle.why
        );
        assert!(!obstacle.why.is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn an_installation_that_sudo_refuses_says_what_the_account_lacks() {
    let scene = Scene::of(1).fault("h1", Fault::Missing, 1);
    let shown = scene
        .fault("h1", Fault::InstallRefused, ALWAYS)
        .push()
        .await;
    let Outcome::Failed { obstacle } = shown.of("h1") else {
        panic!("{:?}", shown.of("h1"));
    };
    assert_eq!(obstacle.code, "push::conversation::install");
    assert!(
        obstacle.why.contains("is not allowed to execute"),
        "{}",
        obstacle.why
    );
}

#[tokio::test(start_paused = true)]
async fn a_locked_host_is_waited_for_as_long_as_was_said_and_no_longer() {
    let scene = Scene::of(1).policy(|policy| policy.patience = Duration::from_secs(60));
    let shown = scene.fault("h1", Fault::Locked, 5).push().await;
    assert_eq!(shown.words(), ["committed"]);
    assert!(shown.heard("waiting"));

    let scene = Scene::of(1).policy(|policy| policy.patience = Duration::from_secs(60));
    let began = tokio::time::Instant::now();
    let shown = scene.fault("h1", Fault::Locked, ALWAYS).push().await;
    assert_eq!(shown.exit, 7);
    assert!(began.elapsed() < Duration::from_secs(90));
}

#[tokio::test(start_paused = true)]
async fn a_host_that_changed_since_the_plan_is_refused_as_stale() {
    let scene = Scene::of(1).host("h1", |host| {
        host.refusal = Refusal::Stale {
            expected: GenerationId(3),
            found: GenerationId(4),
        };
    });
    let shown = scene.fault("h1", Fault::Refuses, 1).push().await;
    assert_eq!((shown.words(), shown.exit), (vec!["refused".to_owned()], 9));
}

#[tokio::test(start_paused = true)]
async fn a_secret_that_is_missing_for_one_host_stops_the_push_for_all() {
    let scene = Scene::of(2).wanting(|wanted| {
        wanted.obstacle = Some(("h2".parse().unwrap(), no_secret()));
    });
    let shown = scene.push().await;
    assert_eq!(
        (shown.words(), shown.exit),
        (vec!["skipped".to_owned(), "failed".to_owned()], 8)
    );
    assert_eq!(shown.asked("h1"), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_gate_that_says_no_changes_nothing() {
    let mut scene = Scene::of(2);
    scene.answer = Answer::No {
        why: "too risky".into(),
    };
    let shown = scene.push().await;
    assert_eq!(
        (shown.words(), shown.exit),
        (vec!["skipped".to_owned(); 2], 9)
    );
    assert_eq!(shown.asked("h1"), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn push_host_is_not_replaced_while_somebody_is_at_it_and_that_is_waited_for_when_asked() {
    let busy = |times| {
        Scene::of(1)
            .fault("h1", Fault::Outdated, ALWAYS)
            .fault("h1", Fault::Busy, times)
    };
    let shown = busy(ALWAYS).push().await;
    assert_eq!((shown.words(), shown.exit), (vec!["locked".to_owned()], 7));
    assert!(!shown.asked("h1").contains(&"Upgrade".to_owned()));

    let scene = busy(3).policy(|policy| policy.patience = Duration::from_secs(60));
    let shown = scene.push().await;
    assert_eq!(
        (shown.words(), shown.exit),
        (vec!["committed".to_owned()], 0)
    );
    assert!(shown.heard("waiting") && shown.heard("upgrading"));
}
