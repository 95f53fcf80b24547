//! What a push promises, against hosts that exist in memory.

mod before_switch;
mod flood;
mod interrupted;
mod meanwhile;
mod rollback;
mod switching;
mod truth;
mod upgrading;
mod waves;

use std::collections::BTreeSet;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use push_wire::digest::Digest;
use push_wire::firewall::Firewall;
use push_wire::journal::State;
use push_wire::manifest::{Provenance, Slice};
use push_wire::message::{Request, Stage};
use push_wire::name::GenerationId;

use super::fake::{Fault, Host, World};
use super::*;
use crate::conversation::{PackSource, Presence};
use crate::embedded::Program;
use crate::event::{Confirm, Event, Obstacle, Outcome, Phase, Step, Summary, Verb, Whose};
use crate::inventory::{Undo, Wave};
use crate::name::HostName;
use crate::transport::{Pending, Target};

/// What stands for push-host; it is its own gzip.
pub const PROGRAM: &[u8] = b"push-host of this build";

fn programs(machine: &str) -> Option<Program> {
    (machine == "x86_64").then(|| Program {
        digest: Digest::of(PROGRAM),
        gzip: PROGRAM,
    })
}

/// Wants something of every host, or of none.
struct Wanted {
    change: Change,
    confirm: Confirm,
    pack: Arc<dyn PackSource>,
    /// Why no plan can be made for a host.
    obstacle: Option<(HostName, Obstacle)>,
    /// The generation that is as it should be.
    content: Option<GenerationId>,
    /// What is missing on the laptop.
    unready: Option<Obstacle>,
}

/// A pack of zeros.
struct Zeros(u64);

impl PackSource for Zeros {
    fn digest(&self) -> Digest {
        Digest::of("zeros")
    }
    fn bytes(&self) -> u64 {
        self.0
    }
    fn read_at(&self, buffer: &mut [u8], _: u64) -> io::Result<usize> {
        Ok(buffer.len())
    }
}

impl Intent for Wanted {
    type Plan = ();

    fn ready(&self) -> Result<(), Obstacle> {
        self.unready.clone().map_or(Ok(()), Err)
    }

    fn plan(&self, known: &Known) -> Result<Proposal<()>, Obstacle> {
        if let Some((host, obstacle)) = &self.obstacle
            && *host == known.host
        {
            return Err(obstacle.clone());
        }
        Ok(Proposal {
            plan: (),
            summary: Summary {
                base: known.hello.manifest.generation,
                added: 0,
                changed: 0,
                removed: 0,
                effects: vec![],
                risks: BTreeSet::new(),
            },
            change: if self.content == Some(known.hello.manifest.generation) {
                Change::Nothing
            } else {
                self.change
            },
            confirm: self.confirm,
            refused: None,
            texts_wanted: BTreeSet::new(),
        })
    }

    fn request(&self, known: &Known, (): &()) -> Result<Request, Obstacle> {
        let slice = Slice {
            firewall: Some(Firewall::default()),
            ..Slice::default()
        };
        Ok(Request::Stage(Box::new(Stage {
            project: "shop".parse().unwrap(),
            base: known.hello.manifest.generation,
            slice,
            texts: [].into(),
            trees: [].into(),
            needs: [].into(),
            provenance: Provenance::default(),
            way_in: known.way_in,
        })))
    }

    fn pack(&self, _: &BTreeSet<Digest>) -> Result<Arc<dyn PackSource>, Obstacle> {
        Ok(Arc::clone(&self.pack))
    }
}

impl Gate<()> for Answer {
    fn decide<'a>(&'a self, _: &'a Plans<()>) -> Pending<'a, Answer> {
        Box::pin(async {
            tokio::time::sleep(Duration::from_millis(10)).await;
            self.clone()
        })
    }
}

/// A push that is about to happen.
struct Scene {
    world: World,
    hosts: Vec<HostName>,
    wanted: Wanted,
    policy: Policy,
    answer: Answer,
    presence: Presence,
    /// The kinds of event at which Ctrl-C is pressed, each once.
    presses: Vec<&'static str>,
}

/// What came of it.
struct Shown {
    world: World,
    outcomes: BTreeMap<HostName, Outcome>,
    exit: u8,
    events: Vec<Event>,
}

use std::collections::BTreeMap;

impl Scene {
    /// Hosts h1, h2, … at generation 3, which are to be at 4.
    fn of(hosts: usize) -> Self {
        let hosts: Vec<HostName> = (1..=hosts)
            .map(|number| format!("h{number}").parse().unwrap())
            .collect();
        let world = World::default();
        for host in &hosts {
            world.host(host.as_str(), |_| ());
        }
        Self {
            world,
            hosts,
            wanted: Wanted {
                change: Change::Something,
                confirm: Confirm::NotNeeded,
                pack: Arc::new(Zeros(1 << 20)),
                obstacle: None,
                content: None,
                unready: None,
            },
            policy: Policy {
                verb: Verb::Deploy,
                environment: "prod".parse().unwrap(),
                project: "shop".parse().unwrap(),
                provenance: Provenance {
                    push: "this-push".into(),
                    ..Provenance::default()
                },
                waves: vec![Wave::Percent(100)],
                failures_max: 0,
                undo: Undo::Host,
                confirm_within: Duration::from_secs(30),
                patience: Duration::ZERO,
            },
            answer: Answer::Go,
            presence: Presence::Install,
            presses: vec![],
        }
    }

    /// A fault of one host, so many times.
    fn fault(self, host: &str, fault: Fault, times: u32) -> Self {
        self.host(host, |host| {
            host.faults.insert(fault, times);
        })
    }

    fn host(self, name: &str, change: impl FnOnce(&mut Host)) -> Self {
        self.world.host(name, change);
        self
    }

    fn policy(mut self, change: impl FnOnce(&mut Policy)) -> Self {
        change(&mut self.policy);
        self
    }

    fn wanting(mut self, change: impl FnOnce(&mut Wanted)) -> Self {
        change(&mut self.wanted);
        self
    }

    fn risky(self) -> Self {
        self.wanting(|wanted| wanted.confirm = Confirm::Needed)
    }

    /// Presses Ctrl-C when something of this kind is told for the first time.
    fn press_at(mut self, kind: &'static str) -> Self {
        self.presses.push(kind);
        self
    }

    fn access(&self, heard: Arc<Mutex<Vec<Event>>>) -> Access {
        let (handle, interrupt) = Interrupt::new();
        let presses = Mutex::new(self.presses.clone());
        let listener = move |event: Event| {
            let kind = kind(&event);
            let mut presses = presses.lock().unwrap();
            if let Some(at) = presses.iter().position(|press| *press == kind) {
                presses.remove(at);
                handle.press();
            }
            heard.lock().unwrap().push(event);
        };
        let target = |host: &HostName| Target {
            user: "deploy".into(),
            ..Target::at(host.as_str(), "192.0.2.1", 22)
        };
        Access {
            environment: self.policy.environment.clone(),
            dialer: Arc::new(self.world.clone()),
            targets: self
                .hosts
                .iter()
                .map(|host| (host.clone(), target(host)))
                .collect(),
            returns: BTreeMap::new(),
            programs,
            presence: self.presence,
            listener: Arc::new(listener),
            interrupt,
            parallel: PARALLEL_MAX,
            traffic: Ledger::default(),
        }
    }

    /// Pushes, and holds what is told against what the hosts know.
    async fn push(self) -> Shown {
        let heard = Arc::new(Mutex::new(Vec::new()));
        let access = Arc::new(self.access(Arc::clone(&heard)));
        let pushed = push(access, Arc::new(self.wanted), self.policy, &self.answer).await;
        let events = std::mem::take(&mut *heard.lock().unwrap());
        let shown = Shown {
            world: self.world,
            outcomes: pushed.outcomes,
            exit: pushed.exit.number(),
            events,
        };
        shown.tells_the_truth();
        assert_eq!(
            shown.outcomes.len(),
            self.hosts.len(),
            "every host has an outcome"
        );
        shown
    }
}

/// Something on the laptop that secrets need is not there.
fn no_secret() -> Obstacle {
    Obstacle {
        kind: crate::event::ObstacleKind::Secret,
        code: String::new(),
        why: "missing".into(),
        help: String::new(),
    }
}

/// What an event is called in JSON.
fn kind(event: &Event) -> String {
    let value = serde_json::to_value(event).unwrap();
    value["type"].as_str().unwrap().to_owned()
}

impl Shown {
    fn of(&self, host: &str) -> &Outcome {
        &self.outcomes[host]
    }

    /// Each outcome in a word, in the order of the hosts.
    fn words(&self) -> Vec<String> {
        let word = |outcome: &Outcome| {
            let value = serde_json::to_value(outcome).unwrap();
            value["outcome"].as_str().unwrap().to_owned()
        };
        self.outcomes.values().map(word).collect()
    }

    fn kinds(&self) -> Vec<String> {
        self.events.iter().map(kind).collect()
    }

    /// How often something of this kind was told.
    fn count(&self, kind: &str) -> usize {
        self.kinds().iter().filter(|heard| *heard == kind).count()
    }

    /// How far hosts were when their connections were lost.
    fn lost_during(&self) -> Vec<Phase> {
        let phase = |event: &Event| match event {
            Event::Host {
                step: Step::Reconnecting { during, .. },
                ..
            } => Some(*during),
            _ => None,
        };
        self.events.iter().filter_map(phase).collect()
    }

    fn heard(&self, kind: &str) -> bool {
        self.kinds().iter().any(|heard| heard == kind)
    }

    /// What was asked of a host, in order.
    fn asked(&self, host: &str) -> Vec<String> {
        self.world.host(host, |host| host.asked.clone())
    }

    /// What no fault may change: an outcome claims what the host's journal says, and no more.
    fn tells_the_truth(&self) {
        for (name, outcome) in &self.outcomes {
            self.world.host(name.as_str(), |host| {
                let at = host.manifest.generation;
                let last = host.running.values().map(|running| &running.state);
                let states: Vec<&State> = last.collect();
                let committed = states.iter().filter(|state| state.is_committed()).count();
                let told = format!("{name}: {outcome:?} of {states:?} at {at}");
                match outcome {
                    Outcome::Committed { to, .. } => {
                        assert!(committed >= 1 && at == *to, "{told}");
                    }
                    Outcome::TakenBack { back_at, .. } => {
                        // Of two, the first was lost on its way or taken back as well.
                        let is_back = |state: &&State| matches!(state, State::TakenBack(_));
                        let all_are_back = !states.is_empty() && states.iter().all(is_back);
                        assert!(all_are_back && at == *back_at, "{told}");
                    }
                    Outcome::Restored { now_at, .. } => {
                        assert!(committed == 2 && at == *now_at, "{told}");
                    }
                    Outcome::Unchanged { generation } => {
                        assert!(states.is_empty() && at == *generation, "{told}");
                    }
                    Outcome::Locked { .. } if host.other.is_some() => {
                        assert!(states.is_empty(), "{told}");
                    }
                    Outcome::Pending { .. }
                    | Outcome::Unreachable { .. }
                    | Outcome::Failed { .. }
                    | Outcome::Refused { .. }
                    | Outcome::Locked { .. }
                    | Outcome::Skipped { .. }
                    | Outcome::Interrupted => {
                        assert!(states.is_empty() && at == GenerationId(3), "{told}");
                    }
                    Outcome::NotRestored { .. } => assert!(committed >= 1, "{told}"),
                    // It claims nothing; and an upgrade has no transaction.
                    Outcome::InDoubt { .. }
                    | Outcome::Upgraded { .. }
                    | Outcome::NotUpgraded { .. }
                    | Outcome::UpgradeInDoubt { .. } => {}
                }
            });
        }
        let exit = crate::event::exit_code(self.outcomes.values()).number();
        assert_eq!(self.exit, exit);
        assert!(matches!(
            self.events.last(),
            Some(Event::Push(crate::event::Milestone::Ended { .. }))
        ));
    }
}

#[tokio::test(start_paused = true)]
async fn a_host_as_it_should_be_is_greeted_and_nothing_else() {
    let scene = Scene::of(3).wanting(|wanted| wanted.change = Change::Nothing);
    let shown = scene.push().await;
    assert_eq!(shown.exit, 0);
    for host in ["h1", "h2", "h3"] {
        assert_eq!(shown.asked(host), [""; 0], "no request at all");
        assert_eq!(
            shown.world.host(host, |host| host.dials),
            1,
            "one connection"
        );
    }
    assert!(!shown.heard("agreed"), "nobody is asked about nothing");
}

#[tokio::test(start_paused = true)]
async fn a_push_stages_everywhere_before_it_switches_anywhere() {
    let shown = Scene::of(3).push().await;
    assert_eq!(shown.words(), ["committed"; 3]);
    let kinds = shown.kinds();
    let last_checked = kinds.iter().rposition(|kind| kind == "checked").unwrap();
    let first_switch = kinds.iter().position(|kind| kind == "switching").unwrap();
    assert!(last_checked < first_switch);
    assert_eq!(shown.asked("h1"), ["Stage", "Switch"]);
    assert_eq!(
        shown.world.host("h1", |host| host.dials),
        1,
        "one connection"
    );
}

#[tokio::test(start_paused = true)]
async fn a_plan_asks_and_changes_nothing() {
    let scene = Scene::of(2)
        .policy(|policy| policy.verb = Verb::Plan)
        .fault("h2", Fault::Unreachable, 1);
    let shown = scene.push().await;
    assert_eq!(shown.words(), ["pending", "unreachable"]);
    assert_eq!(shown.exit, 4);
    assert_eq!(shown.asked("h1"), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn each_host_is_finished_exactly_once_unless_it_is_restored() {
    let shown = Scene::of(4)
        .fault("h3", Fault::LostInProgress, 1)
        .push()
        .await;
    for host in shown.outcomes.keys() {
        let finished = |event: &&Event| matches!(event, Event::Host { host: of, step: Step::Finished { .. } } if of == host);
        assert_eq!(shown.events.iter().filter(finished).count(), 1, "{host}");
    }
}
