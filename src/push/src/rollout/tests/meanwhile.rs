//! Another push is at a host meanwhile: what it has on trial there is nothing to hold a plan against.

use std::time::Duration;

use push_wire::name::GenerationId;

use super::super::fake::Host;
use super::*;

/// A host at 3 where somebody has 4 on trial, which is what this push wants.
fn overtaken(ends: impl FnOnce(&mut Host) + Send + 'static) -> Scene {
    let scene = Scene::of(1).wanting(|wanted| wanted.content = Some(GenerationId(4)));
    scene.world.somebody_switches("h1", ends);
    scene
}

fn patient(scene: Scene) -> Scene {
    scene.policy(|policy| policy.patience = Duration::from_secs(60))
}

fn commits(_: &mut Host) {}

fn takes_back(host: &mut Host) {
    host.manifest.generation = GenerationId(3);
}

#[tokio::test(start_paused = true)]
async fn what_is_on_trial_is_never_taken_for_done_and_its_host_is_locked() {
    for verb in [Verb::Deploy, Verb::Plan, Verb::Rollback] {
        let shown = overtaken(takes_back)
            .policy(|policy| policy.verb = verb)
            .push()
            .await;
        assert_eq!((shown.words(), shown.exit), (vec!["locked".to_owned()], 7));
        assert_eq!(shown.asked("h1"), [""; 0], "{verb:?}");
        let Outcome::Locked { holder, .. } = shown.of("h1") else {
            panic!("{:?}", shown.of("h1"));
        };
        assert_eq!(holder.step, "on trial");
    }
}

#[tokio::test(start_paused = true)]
async fn whoever_waits_plans_against_what_is_in_effect_when_the_other_push_has_ended() {
    let shown = patient(overtaken(commits)).push().await;
    assert_eq!(
        (shown.words(), shown.exit),
        (vec!["unchanged".to_owned()], 0)
    );
    let shown = patient(overtaken(takes_back)).push().await;
    assert_eq!(
        (shown.words(), shown.exit),
        (vec!["committed".to_owned()], 0)
    );
    assert_eq!(shown.asked("h1"), ["Stage", "Switch"]);
}

#[tokio::test(start_paused = true)]
async fn who_is_waited_for_is_told_once_a_step() {
    let shown = patient(overtaken(commits)).push().await;
    assert_eq!(shown.count("waiting"), 1);

    let scene = patient(overtaken(commits));
    let world = scene.world.clone();
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_secs(9)).await;
        let other = |host: &mut Host| host.other.as_mut().unwrap().step = "taking back".into();
        world.host("h1", other);
    });
    assert_eq!(scene.push().await.count("waiting"), 2);

    let locked = patient(Scene::of(1)).fault("h1", Fault::Locked, 5);
    assert_eq!(locked.push().await.count("waiting"), 1);
}
