//! What an upgrade of the operating system promises over many hosts.

use push_wire::message::Refusal;
use push_wire::upgrade::{Change, End, Offer, Packages, Reboot, Scope, Stage};

use super::super::fake::{ALWAYS, Fault};
use super::*;
use crate::rollout::{Consent, Offers, Upgrade};

impl Consent for Answer {
    fn decide<'a>(&'a self, _: &'a Offers) -> Pending<'a, Answer> {
        Box::pin(async { self.clone() })
    }
}

fn offer() -> Offer {
    Offer {
        packages: Packages {
            changes: vec![Change {
                package: "curl".parse().unwrap(),
                from: Some("1".parse().unwrap()),
                to: "2".parse().unwrap(),
                security: true,
            }],
            ..Packages::default()
        },
        ..Offer::default()
    }
}

fn bad() -> End {
    End::Bad {
        at: Stage::Packages,
        why: "left half done: curl".into(),
        evidence: None,
    }
}

impl Scene {
    /// Hosts that all have something newer.
    fn to_upgrade(hosts: usize) -> Self {
        let scene = Self::of(hosts);
        for host in &scene.hosts {
            scene
                .world
                .host(host.as_str(), |host| host.offer = Ok(offer()));
        }
        scene
    }

    async fn upgrade(self, change: impl FnOnce(&mut Upgrade)) -> Shown {
        let heard = Arc::new(Mutex::new(Vec::new()));
        let access = Arc::new(self.access(Arc::clone(&heard)));
        let mut wanted = Upgrade {
            verb: Verb::Upgrade,
            environment: self.policy.environment,
            project: self.policy.project,
            provenance: self.policy.provenance,
            waves: vec![Wave::Percent(100)],
            failures_max: 0,
            scope: Scope::Safe,
            reboot: Reboot::Never,
            patience: Duration::ZERO,
        };
        change(&mut wanted);
        let upgraded = crate::rollout::upgrade(access, wanted, &self.answer).await;
        let events = std::mem::take(&mut *heard.lock().unwrap());
        assert_eq!(upgraded.outcomes.len(), self.hosts.len());
        Shown {
            world: self.world,
            outcomes: upgraded.outcomes,
            exit: upgraded.exit.number(),
            events,
        }
    }
}

impl Shown {
    /// How often each host began to upgrade.
    fn upgrades(&self) -> Vec<u32> {
        let hosts = self.outcomes.keys();
        hosts
            .map(|host| self.world.host(host.as_str(), |host| host.upgrades))
            .collect()
    }
}

#[tokio::test(start_paused = true)]
async fn hosts_upgrade_wave_by_wave_and_those_with_nothing_to_do_are_let_go() {
    let scene = Scene::to_upgrade(3).host("h2", |host| host.offer = Ok(Offer::default()));
    let shown = scene.upgrade(|_| {}).await;
    assert_eq!(shown.words(), ["upgraded", "unchanged", "upgraded"]);
    assert_eq!((shown.exit, shown.upgrades()), (0, vec![1, 0, 1]));
    assert_eq!(shown.count("wave"), 2);

    let idle = Scene::to_upgrade(1).host("h1", |host| host.offer = Ok(Offer::default()));
    let shown = idle.upgrade(|_| {}).await;
    assert_eq!((shown.words(), shown.exit), (vec!["unchanged".into()], 0));
    assert!(!shown.heard("agreed"));
}

#[tokio::test(start_paused = true)]
async fn the_first_host_that_is_not_well_is_the_last_that_is_begun_with() {
    let sick = |scene: Scene| scene.host("h1", |host| host.upgrade_ends(bad()));
    let shown = sick(Scene::to_upgrade(3)).upgrade(|_| {}).await;
    assert_eq!(shown.words(), ["not_upgraded", "skipped", "skipped"]);
    assert_eq!((shown.exit, shown.upgrades()), (6, vec![1, 0, 0]));

    let shown = sick(Scene::to_upgrade(3))
        .upgrade(|wanted| wanted.failures_max = 1)
        .await;
    assert_eq!(shown.words(), ["not_upgraded", "upgraded", "upgraded"]);
    assert_eq!(shown.exit, 6);
}

#[tokio::test(start_paused = true)]
async fn a_host_that_cannot_be_asked_stops_all_before_anything_is_installed() {
    let refusal = Refusal::Packages {
        what: "the lists of packages could not be fetched".into(),
        output: String::new(),
    };
    let refusing = Scene::to_upgrade(2).host("h2", |host| host.offer = Err(refusal));
    let shown = refusing.upgrade(|_| {}).await;
    assert_eq!(shown.words(), ["skipped", "refused"]);
    assert_eq!((shown.exit, shown.upgrades()), (1, vec![0, 0]));

    let locked = Scene::to_upgrade(2).fault("h2", Fault::Locked, ALWAYS);
    let shown = locked.upgrade(|_| {}).await;
    assert_eq!(shown.words(), ["skipped", "locked"]);
    assert_eq!((shown.exit, shown.upgrades()), (7, vec![0, 0]));

    let away = Scene::to_upgrade(2).fault("h2", Fault::Unreachable, ALWAYS);
    let shown = away.upgrade(|_| {}).await;
    assert_eq!((shown.exit, shown.upgrades()), (4, vec![0, 0]));
}

#[tokio::test(start_paused = true)]
async fn nothing_is_installed_without_a_yes_or_for_a_mere_look() {
    let mut declined = Scene::to_upgrade(2);
    declined.answer = Answer::No { why: "no".into() };
    let shown = declined.upgrade(|_| {}).await;
    assert_eq!((shown.exit, shown.upgrades()), (9, vec![0, 0]));

    let shown = Scene::to_upgrade(2)
        .upgrade(|wanted| wanted.verb = Verb::Offer)
        .await;
    assert_eq!(shown.words(), ["pending", "pending"]);
    assert_eq!((shown.exit, shown.upgrades()), (0, vec![0, 0]));
}

#[tokio::test(start_paused = true)]
async fn what_has_changed_since_it_was_shown_is_not_installed() {
    let stale = |host: &mut Host| {
        host.upgrade_ends(End::Stale {
            why: "curl 3".into(),
        });
    };
    let shown = Scene::to_upgrade(2).host("h1", stale).upgrade(|_| {}).await;
    assert_eq!(shown.words(), ["failed", "skipped"]);
    assert_eq!(shown.exit, 9);
}

#[tokio::test(start_paused = true)]
async fn a_lost_line_is_taken_up_again_and_an_upgrade_is_begun_once() {
    for fault in [Fault::OrderLost, Fault::LostAfterOrder] {
        let scene = Scene::to_upgrade(1).fault("h1", fault, 1);
        let shown = scene.upgrade(|_| {}).await;
        assert_eq!(shown.words(), ["upgraded"], "{fault:?}");
        assert_eq!(shown.upgrades(), [1], "{fault:?}");
        assert_eq!(shown.lost_during(), [Phase::Upgrading], "{fault:?}");
    }
    let gone = Scene::to_upgrade(1)
        .fault("h1", Fault::LostAfterOrder, 1)
        .fault("h1", Fault::Vanishes, ALWAYS);
    let shown = gone.upgrade(|_| {}).await;
    assert_eq!(
        (shown.words(), shown.exit),
        (vec!["upgrade_in_doubt".into()], 6)
    );
}

#[tokio::test(start_paused = true)]
async fn a_reboot_is_waited_for_until_the_same_host_answers_from_another_boot() {
    let shown = Scene::to_upgrade(1)
        .upgrade(|wanted| wanted.reboot = Reboot::Always)
        .await;
    assert!(matches!(
        shown.of("h1"),
        Outcome::Upgraded {
            rebooted: crate::event::Rebooted::Yes,
            ..
        }
    ));
    assert!(shown.heard("rebooting"));

    let another = Scene::to_upgrade(1).fault("h1", Fault::Impostor, ALWAYS);
    let shown = another
        .upgrade(|wanted| wanted.reboot = Reboot::Always)
        .await;
    assert_eq!(
        (shown.words(), shown.exit),
        (vec!["upgrade_in_doubt".into()], 6)
    );
}

#[tokio::test(start_paused = true)]
async fn ctrl_c_begins_no_further_host_and_waits_and_a_second_one_leaves_it_in_doubt() {
    let shown = Scene::to_upgrade(2)
        .press_at("system_upgrade")
        .upgrade(|_| {})
        .await;
    assert_eq!(shown.words(), ["upgraded", "interrupted"]);
    assert_eq!((shown.exit, shown.upgrades()), (130, vec![1, 0]));

    let left = Scene::to_upgrade(1)
        .fault("h1", Fault::Hangs, ALWAYS)
        .press_at("system_upgrade")
        .press_at("upgrade_runs");
    let shown = left.upgrade(|_| {}).await;
    assert_eq!(
        (shown.words(), shown.exit),
        (vec!["upgrade_in_doubt".into()], 6)
    );
    assert!(shown.heard("left"));
}
