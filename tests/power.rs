//! Power cuts on real hosts: the host's disk is a file system of its own, nothing of it is written
//! any more from one moment on, every process is gone, and the host boots from what had really
//! reached the disk; now and then its power goes again while it boots. Then it is looked at from
//! outside, and every invariant is checked:
//!
//! | what must hold | looked at |
//! |---|---|
//! | wholly old or wholly new | the tag in everything declared, see `witness.rs` |
//! | it settles without the laptop | the journal, while nobody helps |
//! | the tool tells the truth | its words, exit code, `status` and `history`, see `verdict.rs` |
//! | a login that worked works | those questions are asked over SSH |
//! | only what push owns changes | every other path of the host, before the first push and after |
//! | the same push again does nothing | it is carried out |
//! | nothing current or previous is pruned | their generations and releases are there, no link of them dangles |
//!
//! `PUSH_TEST_CUTS` is how many cuts each file system gets (36, and half of them come right after
//! something was seen to happen), `PUSH_TEST_SEED` the seed of what is random (the clock),
//! `PUSH_TEST_ROLLBACKS` how many rollbacks are timed (3), `PUSH_TEST_COST` how many switches with the
//! syncs and without them (0).

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use push::rehearse::{Disk, Filesystem, HostSpec, RehearsalHost};
use push_tests::cuts::{Chance, Kind, Moment, Seen, Tally, Watch, draw};
use push_tests::hosts::{has_program, say};
use push_tests::lab::{Lab, Running, eventually};
use push_tests::verdict::Before;
use push_tests::witness::{self, Fate, foreign, generation, journal, tag, whole};
use push_wire::journal::State;

/// How large a host's disk is: XFS wants 300 MiB at least, and releases are kept.
const DISK_MIB: u32 = 1024;

/// How long a push may take until it comes to a marker.
const MARKER_WITHIN: Duration = Duration::from_secs(60);

/// How often it is looked for.
const MARKER_POLL: Duration = Duration::from_micros(300);

/// What a first push takes about, until one was timed.
const FIRST_SPAN: Duration = Duration::from_secs(4);

/// How often the power goes again in the recovery: once in so many cuts.
const AGAIN_ONCE_IN: u64 = 6;

/// How long after the power came back it goes again, at most, in milliseconds.
const AGAIN_WITHIN_MS: u64 = 900;

/// How long the old release may take to answer again.
const BACK_WITHIN: Duration = Duration::from_secs(30);

/// The file systems, and what makes them.
const FILESYSTEMS: [(Filesystem, &str); 3] = [
    (Filesystem::Ext4, "mkfs.ext4"),
    (Filesystem::Xfs, "mkfs.xfs"),
    (Filesystem::Btrfs, "mkfs.btrfs"),
];

#[test]
fn a_host_that_loses_power_at_any_moment_is_wholly_old_or_wholly_new_on_ext4() {
    cuts_on(0);
}

#[test]
fn a_host_that_loses_power_at_any_moment_is_wholly_old_or_wholly_new_on_xfs() {
    cuts_on(1);
}

#[test]
fn a_host_that_loses_power_at_any_moment_is_wholly_old_or_wholly_new_on_btrfs() {
    cuts_on(2);
}

fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).map_or(default, |text| text.parse().unwrap())
}

fn cuts_on(place: usize) {
    let (filesystem, program) = FILESYSTEMS[place];
    if !has_program(program) {
        return;
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let seed = number("PUSH_TEST_SEED", now.subsec_nanos().into());
    let cuts = number("PUSH_TEST_CUTS", 36);
    let Some(mut series) = Series::begin(filesystem, seed) else {
        return;
    };
    say(&format!(
        "{filesystem:?}: PUSH_TEST_SEED={seed} PUSH_TEST_CUTS={cuts}"
    ));
    let began = Instant::now();
    let own = (place as u64, FILESYSTEMS.len() as u64);
    for cut in 0..cuts {
        let (kind, moment) = draw(&mut series.chance, (cut, cuts), own);
        series.round(kind, moment);
    }
    let took = began.elapsed();
    say(&format!(
        "{filesystem:?}, PUSH_TEST_SEED={seed}, in {took:?}: {}",
        series.tally
    ));
}

/// Cut after cut on one host.
struct Series {
    lab: Lab,
    filesystem: Filesystem,
    chance: Chance,
    /// The latest tag that was given away.
    latest: u32,
    /// The tag in effect; `None` where nothing is.
    now: Option<u32>,
    /// The tag that a rollback leads to.
    previous: Option<u32>,
    /// How long an undisturbed push takes.
    span: Duration,
    /// What was on the host before it was pushed to.
    foreign: BTreeSet<String>,
    tally: Tally,
}

impl Series {
    fn begin(filesystem: Filesystem, seed: u64) -> Option<Self> {
        let lab = boot(filesystem)?;
        let foreign = foreign(lab.host("web1"));
        Some(Self {
            lab,
            filesystem,
            chance: Chance::of(seed),
            latest: 0,
            now: None,
            previous: None,
            span: FIRST_SPAN,
            foreign,
            tally: Tally::default(),
        })
    }

    fn host(&self) -> &RehearsalHost {
        self.lab.host("web1")
    }

    /// A push, a cut, a boot, a look.
    fn round(&mut self, kind: Kind, moment: Moment) {
        self.make_ready_for(kind);
        let (arguments, wanted) = self.declare(kind);
        let before = Before::of(&self.lab, (self.now, wanted));
        let mut running = self.lab.spawn(arguments);
        let seen = wait_for(moment, self.span, (&before, &mut running));
        before.host().power_cut().unwrap();
        let durable = before.state();
        self.tally.cut(kind, moment, seen);
        self.tally.durable(durable.as_ref());
        if self.chance.once_in(AGAIN_ONCE_IN) {
            let after = Duration::from_millis(self.chance.below(AGAIN_WITHIN_MS));
            cut_while_booting(before.host(), after);
            self.tally.cut_again();
        }
        let booted = before.host().boot_again();
        let said = running.end();
        let booted = booted.unwrap_or_else(|error| {
            panic!(
                "{kind:?} {moment:?}: {error}\n{}",
                witness::story(before.host())
            )
        });
        self.tally.booted(booted, recovery(before.host()));
        say(&format!(
            "{:?}: {kind:?} {moment:?}: {durable:?}",
            self.filesystem
        ));
        let found = before.ends(&said);
        let ended = before.state();
        self.tally.ended(said.code(), ended.as_ref());
        if ended.is_some_and(|state| state.is_committed()) {
            self.previous = self.now;
            self.now = found;
        }
        self.check_owned();
        self.check_kept();
        self.check_repeated();
    }

    /// Brings the host to where a push of a kind can begin.
    fn make_ready_for(&mut self, kind: Kind) {
        if kind.is_first() {
            if generation(self.host()) != 0 {
                // A fleet's name and its network are free only once the one before is gone.
                self.lab = boot(self.filesystem).unwrap();
                (self.now, self.previous) = (None, None);
                self.foreign = foreign(self.host());
            }
            return;
        }
        if self.now.is_none() {
            self.undisturbed();
        }
        if kind == Kind::Rollback && self.previous.is_none() {
            self.undisturbed();
        }
    }

    /// A push that nobody disturbs, of a tag of its own.
    fn undisturbed(&mut self) {
        let (arguments, wanted) = self.declare(Kind::Update);
        let said = self.lab.push(arguments).exits(0);
        self.span = said.took;
        self.previous = self.now;
        self.now = wanted;
    }

    /// Writes down what is to be pushed, and says how, and which tag is then in effect.
    fn declare(&mut self, kind: Kind) -> (&'static [&'static str], Option<u32>) {
        let fate = match kind {
            Kind::First | Kind::Update => Fate::Healthy,
            Kind::FirstBroken | Kind::Broken => Fate::Broken,
            Kind::Rollback => return (&["rollback", "prod", "--yes"], self.previous),
            Kind::Removal => {
                self.lab.environment("prod", HEAD, "");
                return (&["prod", "--yes"], None);
            }
        };
        self.latest += 1;
        self.environment(self.latest, fate);
        (&["prod", "--yes"], Some(self.latest))
    }

    fn environment(&self, number: u32, fate: Fate) {
        witness::environment(&self.lab, (number, fate), "");
        let file = self.lab.path("inventory/prod.toml");
        let text = std::fs::read_to_string(&file).unwrap();
        let text = text.replace("project = \"shop\"", HEAD);
        std::fs::write(file, text).unwrap();
    }

    /// Nothing that is not push's is new, gone or different.
    fn check_owned(&self) {
        let found = foreign(self.host());
        let changed: Vec<_> = found.symmetric_difference(&self.foreign).collect();
        assert!(changed.is_empty(), "not push's to change: {changed:#?}");
    }

    /// What is in effect and what was before it are there, with all that they lead to.
    fn check_kept(&self) {
        let records = journal(self.host());
        let Some(last) = records.iter().rfind(|record| record.state.is_committed()) else {
            return;
        };
        let about = witness::about(&records, &last.transaction);
        for id in [about.from, about.to].iter().filter(|id| !id.is_none()) {
            let folder = format!("/etc/push/generations/{id}");
            let dangling = self
                .host()
                .succeed(&["find", &folder, "-xtype", "l"])
                .unwrap();
            assert_eq!(dangling, "", "generation {id}");
        }
    }

    /// The same push again changes nothing.
    fn check_repeated(&self) {
        match self.now {
            Some(number) => self.environment(number, Fate::Healthy),
            None if generation(self.host()) == 0 => return,
            None => self.lab.environment("prod", HEAD, ""),
        }
        let said = self.lab.push(&["prod", "--yes"]).exits(0);
        said.says("othing to do");
    }
}

/// Few releases are kept, so that each commit has something to prune.
const HEAD: &str = "project = \"shop\"\nkeep_releases = 2";

fn boot(filesystem: Filesystem) -> Option<Lab> {
    let disk = Disk::Loop {
        filesystem,
        size_mib: DISK_MIB,
    };
    let lab = Lab::boot(&[HostSpec::named("web1").disk(disk)])?;
    // A host that was only just made has its own keys in memory; one that is pushed to has not.
    lab.host("web1").succeed(&["sync"]).unwrap();
    Some(lab)
}

/// Waits for the moment of the cut.
fn wait_for(
    moment: Moment,
    span: Duration,
    (before, running): (&Before<'_>, &mut Running),
) -> Seen {
    let (marker, delay) = match moment {
        Moment::After(marker, delay) => (marker, delay),
        Moment::Random(thousandths) => {
            std::thread::sleep(span * thousandths / 1000);
            return Seen::Came;
        }
    };
    let watch = Watch::begin(before);
    let began = Instant::now();
    while !watch.has_come(marker) {
        if running.has_ended() {
            return Seen::NeverCame;
        }
        assert!(began.elapsed() < MARKER_WITHIN, "{marker} never came");
        std::thread::sleep(MARKER_POLL);
    }
    std::thread::sleep(delay);
    Seen::Came
}

/// How long the recovery of this boot took, as systemd counts it; `None` where there was nothing to recover.
fn recovery(host: &RehearsalHost) -> Option<Duration> {
    let moment = |which: &str| {
        let property = format!("--property=ExecMain{which}TimestampMonotonic");
        let argv = [
            "systemctl",
            "show",
            "--value",
            &property,
            "push-recover.service",
        ];
        let said = host.succeed(&argv).unwrap();
        let us = said.trim().parse().unwrap_or(0);
        (us > 0).then(|| Duration::from_micros(us))
    };
    moment("Exit")?.checked_sub(moment("Start")?)
}

/// Boots a host and cuts its power a moment later.
fn cut_while_booting(host: &RehearsalHost, after: Duration) {
    std::thread::scope(|scope| {
        let boot = scope.spawn(|| host.boot_again());
        std::thread::sleep(after);
        host.power_cut().unwrap();
        // It was up already, or it never came up: both are a boot that was cut.
        let _ = boot.join().unwrap();
    });
}

#[test]
fn the_old_release_answers_again_soon_after_the_decision_to_take_back() {
    let Some(lab) = Lab::boot_plain(1) else {
        return;
    };
    witness::environment(&lab, (1, Fate::Healthy), "");
    lab.push(&["prod", "--yes"]).exits(0);
    let host = lab.host("web1");
    let (mut back, mut start) = (Vec::new(), Vec::new());
    for round in 0..number("PUSH_TEST_ROLLBACKS", 3) {
        witness::environment(&lab, (2 + u32::try_from(round).unwrap(), Fate::Broken), "");
        let known = journal(host).len();
        let running = lab.spawn(&["prod", "--yes"]);
        eventually("the decision", MARKER_WITHIN, || {
            let records = journal(host);
            let news = records.get(known..).unwrap_or_default();
            news.iter()
                .any(|record| matches!(record.state, State::TakingBack(_)))
        });
        back.push(until_answers(host, &tag(1)));
        running.end().exits(5);
        assert_eq!(whole(host), tag(1));
        host.succeed(&["systemctl", "stop", "api.service"]).unwrap();
        let began = Instant::now();
        host.succeed(&["systemctl", "start", "api.service"])
            .unwrap();
        until_answers(host, &tag(1));
        start.push(began.elapsed());
    }
    say(&format!(
        "from the decision until the old release answers: {}",
        spread(&mut back)
    ));
    say(&format!(
        "the app's own start until it answers: {}",
        spread(&mut start)
    ));
    assert!(back.iter().all(|took| *took < BACK_WITHIN), "{back:?}");
}

/// A transaction in which every sync does nothing, by the kernel's own filter.
const UNSYNCED: (&str, &[u8]) = (
    "/etc/systemd/system/push-transaction.service.d/unsynced.conf",
    b"[Service]\nSystemCallFilter=~fsync:0 fdatasync:0 syncfs:0 sync_file_range:0\n",
);

#[test]
fn what_the_syncs_of_a_switch_cost_is_told_beside_the_same_switch_without_them() {
    let rounds = u32::try_from(number("PUSH_TEST_COST", 0)).unwrap();
    for (filesystem, program) in FILESYSTEMS {
        if rounds == 0 || !has_program(program) {
            continue;
        }
        let Some(lab) = boot(filesystem) else { return };
        let host = lab.host("web1");
        witness::environment(&lab, (1, Fate::Healthy), "");
        lab.push(&["prod", "--yes"]).exits(0);
        let (mut synced, mut unsynced) = (Vec::new(), Vec::new());
        for round in 0..rounds {
            synced.push(activation(&lab, 2 * round + 2));
            let folder = "/etc/systemd/system/push-transaction.service.d";
            host.succeed(&["mkdir", "-p", folder]).unwrap();
            host.write(UNSYNCED.0, UNSYNCED.1, 0o644).unwrap();
            unsynced.push(activation(&lab, 2 * round + 3));
            host.succeed(&["rm", "-r", folder]).unwrap();
        }
        say(&format!(
            "{filesystem:?}, from PREPARED to PROBATION: with its syncs {}; without them {}",
            spread(&mut synced),
            spread(&mut unsynced)
        ));
    }
}

/// How long a switch to a new tag takes until it is on trial.
fn activation(lab: &Lab, number: u32) -> Duration {
    witness::environment(lab, (number, Fate::Healthy), "");
    let before = Before::of(lab, (Some(number - 1), Some(number)));
    let running = lab.spawn(&["prod", "--yes"]);
    let reached = |is: fn(&State) -> bool| {
        let deadline = Instant::now() + MARKER_WITHIN;
        while !before.state().as_ref().is_some_and(is) {
            assert!(
                Instant::now() < deadline,
                "{}",
                witness::story(before.host())
            );
            std::thread::sleep(MARKER_POLL);
        }
        Instant::now()
    };
    let began = reached(|_| true);
    let took = reached(|state| !matches!(state, State::Prepared | State::Switching)) - began;
    running.end().exits(0);
    took
}

/// How long it takes until the app of a tag answers through the site of the same tag.
fn until_answers(host: &RehearsalHost, tag: &str) -> Duration {
    let began = Instant::now();
    let address = SocketAddr::from((host.address(), 80));
    while began.elapsed() < BACK_WITHIN {
        let mut answer = String::new();
        let asked =
            TcpStream::connect_timeout(&address, Duration::from_secs(1)).and_then(|mut stream| {
                stream.set_read_timeout(Some(Duration::from_secs(1)))?;
                stream.write_all(b"GET /health HTTP/1.0\r\nHost: api.example.com\r\n\r\n")?;
                stream.read_to_string(&mut answer)
            });
        if asked.is_ok() && answer.matches(tag).count() == 2 {
            return began.elapsed();
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    panic!("{tag} does not answer again\n{}", witness::story(host));
}

fn spread(times: &mut [Duration]) -> String {
    times.sort();
    let Some((least, most)) = times.first().zip(times.last()) else {
        return "nothing was timed".to_owned();
    };
    let median = times[times.len() / 2];
    format!(
        "{} times, {least:?} to {most:?}, median {median:?}",
        times.len()
    )
}
