//! Going back on many hosts that do not all hold the same.

use push_wire::manifest::Placed;
use push_wire::message::Transaction;

use super::super::past::tests::shop;
use super::*;

/// A host's past of `shop`, the oldest first: its generations, each with the run of push that made it,
/// and the generation that it went back to.
type Past = &'static [(u64, u64, Option<u64>)];

fn history(past: Past) -> Vec<Transaction> {
    let one = |(to, run, restores): &(u64, u64, Option<u64>)| {
        let mut transaction = shop(*to, *restores);
        transaction.first.about.as_mut().unwrap().provenance = provenance(*run);
        transaction
    };
    past.iter().rev().map(one).collect()
}

fn provenance(run: u64) -> Provenance {
    Provenance {
        at_unix_s: run * 60,
        push: format!("run {run}"),
        environment: "prod".into(),
        ..Provenance::default()
    }
}

fn with(scene: Scene, name: &str, past: Past) -> Scene {
    scene.host(name, |host| {
        host.history = history(past);
        for (to, ..) in past {
            host.earlier.insert(GenerationId(*to), Slice::default());
        }
        let (now, run, _) = *past.last().unwrap();
        host.manifest.generation = GenerationId(now);
        let placed = Placed {
            slice: Slice::default(),
            provenance: provenance(run),
        };
        host.manifest.slices.insert("shop".parse().unwrap(), placed);
    })
}

impl Gate<RollbackPlan> for Answer {
    fn decide<'a>(&'a self, _: &'a Plans<RollbackPlan>) -> Pending<'a, Answer> {
        Box::pin(async { self.clone() })
    }
}

/// Where each host was led, and what became of it.
async fn gone_back(scene: Scene, limit: &[&str]) -> (Vec<Way>, Vec<Outcome>) {
    let intent = Rollback {
        project: "shop".parse().unwrap(),
        to: None,
        provenance: provenance(9),
        limit: limit.iter().map(ToString::to_string).collect(),
    };
    let access = Arc::new(scene.access(Arc::default()));
    let pushed = push(access, Arc::new(intent), scene.policy, &scene.answer).await;
    let way = |host: &HostName| pushed.plans[host].proposal.plan.way;
    let ways = scene.hosts.iter().map(way).collect();
    (ways, pushed.outcomes.into_values().collect())
}

fn back(to: u64) -> Way {
    Way::Back(GenerationId(to))
}

#[tokio::test(start_paused = true)]
async fn after_a_push_that_came_to_some_hosts_only_those_go_back() {
    let scene = with(
        Scene::of(3),
        "h1",
        &[(1, 1, None), (2, 2, None), (3, 3, None)],
    );
    let scene = with(scene, "h2", &[(1, 1, None), (2, 2, None)]);
    // Its operator took this one back from the same push by hand.
    let scene = with(
        scene,
        "h3",
        &[(1, 1, None), (2, 2, None), (3, 3, None), (4, 4, Some(2))],
    );
    let (ways, outcomes) = gone_back(scene, &[]).await;
    assert_eq!(ways, [back(2), Way::Before, Way::Before]);
    assert!(
        matches!(outcomes[0], Outcome::Committed { .. }),
        "{outcomes:?}"
    );
    assert!(
        matches!(outcomes[1], Outcome::Unchanged { .. }),
        "{outcomes:?}"
    );
    assert!(
        matches!(outcomes[2], Outcome::Unchanged { .. }),
        "{outcomes:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn hosts_that_hold_what_one_push_brought_go_back_together_however_they_came_to_it() {
    let scene = with(
        Scene::of(2),
        "h1",
        &[(1, 1, None), (2, 2, None), (3, 3, None), (4, 3, Some(2))],
    );
    let scene = with(scene, "h2", &[(1, 1, None), (2, 2, None)]);
    assert_eq!(gone_back(scene, &[]).await.0, [back(1), back(1)]);
}

#[tokio::test(start_paused = true)]
async fn a_host_with_nothing_to_go_back_to_says_how_the_others_go_on() {
    let scene = || {
        let scene = with(Scene::of(3), "h1", &[(1, 1, None), (2, 2, None)]);
        let scene = with(scene, "h2", &[(1, 2, None)]);
        with(scene, "h3", &[(7, 2, None)])
    };
    let (ways, outcomes) = gone_back(scene(), &[]).await;
    assert_eq!(ways, [back(1), Way::Nowhere, Way::Nowhere]);
    let help = |outcome: &Outcome| match outcome {
        Outcome::Failed { obstacle } => obstacle.help.clone(),
        other => panic!("{other:?}"),
    };
    assert!(
        matches!(outcomes[0], Outcome::Skipped { .. }),
        "{outcomes:?}"
    );
    assert_eq!(
        help(&outcomes[1]),
        "go back without it: `push rollback prod -l '!h2' -l '!h3'`"
    );
    let (_, outcomes) = gone_back(scene(), &["h*"]).await;
    assert_eq!(
        help(&outcomes[2]),
        "go back without it: `push rollback prod -l 'h*' -l '!h2' -l '!h3'`"
    );
    // Where nobody can, there is nothing to leave out.
    let alone = with(Scene::of(1), "h1", &[(1, 1, None)]);
    let (_, outcomes) = gone_back(alone, &[]).await;
    assert_eq!(
        help(&outcomes[0]),
        "there is nothing to go back to: check out the commit of an earlier release and push that, or mend this one \
         and push again; `push history prod -l h1` shows what was there"
    );
    // Neither is there where the others have nothing of what is to go back.
    let stays = || {
        let scene = with(Scene::of(2), "h1", &[(1, 2, None)]);
        with(scene, "h2", &[(1, 1, None)])
    };
    let (ways, outcomes) = gone_back(stays(), &[]).await;
    assert_eq!(ways, [Way::Nowhere, Way::Before]);
    assert!(
        help(&outcomes[0]).starts_with("there is nothing to go back to"),
        "{outcomes:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn whoever_waits_for_a_push_goes_back_from_what_that_push_committed() {
    const NOW: Past = &[(1, 1, None), (2, 2, None)];
    const THEN: Past = &[(1, 1, None), (2, 2, None), (3, 3, None)];
    let scene = || {
        let scene = with(Scene::of(1), "h1", NOW);
        scene
            .world
            .somebody_switches("h1", |host| host.history = history(THEN));
        scene
    };
    let waiting = scene().policy(|policy| policy.patience = Duration::from_secs(60));
    let (ways, outcomes) = gone_back(waiting, &[]).await;
    assert_eq!(ways, [back(2)]);
    assert!(
        matches!(outcomes[0], Outcome::Committed { .. }),
        "{outcomes:?}"
    );
}
