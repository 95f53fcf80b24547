//! A switch ends as the host's journal says, whatever happens to the connection.

use push_wire::journal::Cause;

use super::super::fake::{ALWAYS, Fault};
use super::super::switching::NEWS_MAX;
use super::*;
use crate::conversation::SILENCE_MAX;

fn unhealthy() -> Cause {
    Cause::Unhealthy {
        app: "api".into(),
        why: "503".into(),
    }
}

#[tokio::test(start_paused = true)]
async fn a_lost_connection_is_made_again_and_the_verdict_asked_for() {
    for fault in [
        Fault::LostAfterOrder,
        Fault::LostInProgress,
        Fault::VerdictLost,
    ] {
        for times in [1, 2] {
            let shown = Scene::of(1).fault("h1", fault, times).push().await;
            assert_eq!(shown.words(), ["committed"], "{fault:?}");
            assert!(shown.heard("reconnecting"), "{fault:?}");

            let scene = Scene::of(1).host("h1", |host| host.taken_back(unhealthy()));
            let shown = scene.fault("h1", fault, times).push().await;
            assert_eq!(
                (shown.words(), shown.exit),
                (vec!["taken_back".to_owned()], 5)
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_host_told_before_the_connection_was_lost_is_not_told_twice() {
    let shown = Scene::of(1)
        .fault("h1", Fault::LostInProgress, 1)
        .push()
        .await;
    let counts = ["running", "probation", "health"].map(|kind| shown.count(kind));
    assert_eq!(counts, [1, 1, 1]);
}

#[tokio::test(start_paused = true)]
async fn a_host_that_never_comes_back_is_in_doubt_whatever_it_claimed() {
    for fault in [
        Fault::LostAfterOrder,
        Fault::LostInProgress,
        Fault::VerdictLost,
        Fault::ClaimsOnly,
        Fault::OrderLost,
    ] {
        let scene = Scene::of(1).fault("h1", Fault::Vanishes, ALWAYS);
        let began = tokio::time::Instant::now();
        let shown = scene.fault("h1", fault, 1).push().await;
        assert_eq!(
            (shown.words(), shown.exit),
            (vec!["in_doubt".to_owned()], 6),
            "{fault:?}"
        );
        assert!(began.elapsed() < 2 * REATTACH_MAX, "{fault:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_transaction_that_the_journal_does_not_know_is_in_doubt_once_it_was_heard_of() {
    let shown = Scene::of(1).fault("h1", Fault::ClaimsOnly, 1).push().await;
    assert_eq!(
        (shown.words(), shown.exit),
        (vec!["in_doubt".to_owned()], 6)
    );
}

#[tokio::test(start_paused = true)]
async fn an_order_that_was_lost_on_its_way_is_given_again_and_again_lost_changed_nothing() {
    let shown = Scene::of(1).fault("h1", Fault::OrderLost, 1).push().await;
    assert_eq!(
        (shown.words(), shown.exit),
        (vec!["committed".to_owned()], 0)
    );
    let asked = |what: &str| shown.asked("h1").iter().filter(|it| *it == what).count();
    assert_eq!((asked("Stage"), asked("Switch")), (2, 2));

    let scene = Scene::of(1).fault("h1", Fault::OrderLost, ALWAYS);
    let shown = scene.push().await;
    assert_eq!((shown.words(), shown.exit), (vec!["failed".to_owned()], 1));
}

#[tokio::test(start_paused = true)]
async fn an_order_is_not_called_lost_while_somebody_still_has_the_lock() {
    let scene = Scene::of(1).fault("h1", Fault::OrderLost, 1);
    let shown = scene.fault("h1", Fault::Busy, ALWAYS).push().await;
    assert_eq!(
        (shown.words(), shown.exit),
        (vec!["in_doubt".to_owned()], 6)
    );
}

#[tokio::test(start_paused = true)]
async fn a_verdict_about_something_else_or_none_at_all_is_not_believed() {
    for fault in [Fault::ForeignVerdict, Fault::OpenVerdict] {
        let scene = Scene::of(1).host("h1", |host| host.taken_back(unhealthy()));
        let shown = scene.fault("h1", fault, 1).push().await;
        assert_eq!(shown.words(), ["taken_back"], "{fault:?}");

        let shown = Scene::of(1).fault("h1", fault, ALWAYS).push().await;
        assert_eq!(shown.words(), ["in_doubt"], "{fault:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn another_host_at_the_same_address_is_not_asked() {
    let scene = Scene::of(1).fault("h1", Fault::Impostor, ALWAYS);
    let shown = scene.fault("h1", Fault::LostAfterOrder, 1).push().await;
    assert_eq!(shown.words(), ["in_doubt"]);
    assert!(!shown.asked("h1").contains(&"Watch".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn evidence_and_cause_come_with_what_was_taken_back() {
    let scene = Scene::of(1).host("h1", |host| host.taken_back(unhealthy()));
    let shown = scene.push().await;
    let Outcome::TakenBack {
        cause,
        evidence,
        back_at,
    } = shown.of("h1")
    else {
        panic!("{:?}", shown.of("h1"));
    };
    assert_eq!((cause, *back_at), (&unhealthy(), GenerationId(3)));
    assert_eq!(evidence.as_ref().unwrap().subject, "api");
    assert!(shown.heard("evidence") && shown.heard("taking_back"));
}

#[tokio::test(start_paused = true)]
async fn a_refused_switch_has_changed_nothing() {
    let shown = Scene::of(1)
        .fault("h1", Fault::RefusesSwitch, 1)
        .push()
        .await;
    assert_eq!((shown.words(), shown.exit), (vec!["refused".to_owned()], 9));
}

#[tokio::test(start_paused = true)]
async fn a_risky_plan_is_confirmed_over_a_new_connection() {
    let shown = Scene::of(1).risky().push().await;
    assert_eq!(shown.words(), ["committed"]);
    assert_eq!(shown.asked("h1"), ["Stage", "Switch", "Confirm"]);
    assert_eq!(shown.world.host("h1", |host| host.dials), 2);
    assert!(shown.heard("confirming") && shown.heard("confirmed"));
}

#[tokio::test(start_paused = true)]
async fn that_the_operator_came_in_again_is_told_once_whatever_the_connection_does_then() {
    for fault in [
        Fault::LostAfterOrder,
        Fault::LostInProgress,
        Fault::VerdictLost,
    ] {
        let shown = Scene::of(1).risky().fault("h1", fault, 1).push().await;
        assert_eq!(shown.words(), ["committed"], "{fault:?}");
        assert_eq!(shown.count("confirmed"), 1, "{fault:?}");
    }
    // Hangs: the trial goes on after the operator has come in, and is taken back in the end.
    let scene = Scene::of(1).risky().fault("h1", Fault::Hangs, ALWAYS);
    let shown = scene.press_at("confirmed").push().await;
    assert_eq!(
        (shown.words(), shown.count("confirmed")),
        (vec!["taken_back".to_owned()], 1)
    );
}

#[tokio::test(start_paused = true)]
async fn a_plan_without_risk_is_not_confirmed() {
    let shown = Scene::of(1).push().await;
    assert!(!shown.heard("confirming"));
}

#[tokio::test(start_paused = true)]
async fn who_cannot_come_in_again_gets_the_old_generation_back() {
    for fault in [Fault::FreshUnreachable, Fault::Impostor] {
        let shown = Scene::of(1).risky().fault("h1", fault, ALWAYS).push().await;
        let Outcome::TakenBack { cause, .. } = shown.of("h1") else {
            panic!("{fault:?}: {:?}", shown.of("h1"));
        };
        assert_eq!(*cause, Cause::Unconfirmed);
        assert!(shown.heard("not_confirmed"));
    }
}

#[tokio::test(start_paused = true)]
async fn coming_in_again_is_tried_until_the_deadline() {
    let shown = Scene::of(1)
        .risky()
        .fault("h1", Fault::FreshUnreachable, 5)
        .push()
        .await;
    assert_eq!(shown.words(), ["committed"]);
}

#[tokio::test(start_paused = true)]
async fn a_confirmation_outlives_the_connection_that_ordered_the_switch() {
    for fault in [Fault::LostAfterOrder, Fault::VerdictLost] {
        let shown = Scene::of(1).risky().fault("h1", fault, 1).push().await;
        assert_eq!(shown.words(), ["committed"], "{fault:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_is_refused_is_not_a_refused_switch() {
    let scene = Scene::of(1).fault("h1", Fault::LostAfterOrder, 1);
    let shown = scene.fault("h1", Fault::RefusesWatch, 2).push().await;
    assert_eq!(shown.words(), ["committed"]);
}

#[tokio::test(start_paused = true)]
async fn a_host_that_hangs_is_given_up_within_the_bound_of_silence() {
    let began = tokio::time::Instant::now();
    let shown = Scene::of(1).fault("h1", Fault::Hangs, ALWAYS).push().await;
    assert_eq!(shown.words(), ["in_doubt"]);
    assert!(began.elapsed() < NEWS_MAX + SILENCE_MAX);
}
