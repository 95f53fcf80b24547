//! Power cuts on real hosts: the host's disk is a file system of its own, nothing of it is written
//! any more from one moment on, every process is gone, and the host boots from what had really
//! reached the disk. Then it is looked at from outside.
//!
//! `PUSH_TEST_CUTS` is how many cuts each file system gets (12), `PUSH_TEST_SEED` the seed of the
//! random ones (the clock), `PUSH_TEST_ROLLBACKS` how many rollbacks are timed (3).

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use push::rehearse::{Disk, Filesystem, HostSpec, RehearsalHost};
use push_tests::hosts::{has_program, say};
use push_tests::lab::{Lab, Running, Said, eventually};
use push_tests::witness::{self, Fate, generation, in_effect, journal, tag, whole};
use push_wire::journal::{Record, State};

/// How large a host's disk is: XFS wants 300 MiB at least, and releases are kept.
const DISK_MIB: u32 = 1024;

/// How long after a state of the journal the power may go, in milliseconds.
const AFTER_STATE_MS: u64 = 80;

/// How long a push may take until it reaches a state.
const STATE_WITHIN: Duration = Duration::from_secs(60);

/// How long the old release may take to answer again.
const BACK_WITHIN: Duration = Duration::from_secs(30);

#[test]
fn a_host_that_loses_power_at_any_moment_is_wholly_old_or_wholly_new_on_ext4() {
    cuts_on(Filesystem::Ext4, "mkfs.ext4");
}

#[test]
fn a_host_that_loses_power_at_any_moment_is_wholly_old_or_wholly_new_on_xfs() {
    cuts_on(Filesystem::Xfs, "mkfs.xfs");
}

fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).map_or(default, |text| text.parse().unwrap())
}

fn cuts_on(filesystem: Filesystem, program: &str) {
    if !has_program(program) {
        return;
    }
    let disk = Disk::Loop {
        filesystem,
        size_mib: DISK_MIB,
    };
    let Some(lab) = Lab::boot(&[HostSpec::named("web1").disk(disk)]) else {
        return;
    };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let seed = number("PUSH_TEST_SEED", now.subsec_nanos().into());
    let cuts = number("PUSH_TEST_CUTS", 12);
    say(&format!(
        "{filesystem:?}: {cuts} cuts, PUSH_TEST_SEED={seed}"
    ));
    let mut series = Series::begin(&lab, seed);
    let began = Instant::now();
    for index in 0..cuts {
        let cut = series.draw(index);
        series.round(cut);
    }
    say(&format!(
        "{filesystem:?}: {cuts} cuts in {:?}: {:?}",
        began.elapsed(),
        series.seen
    ));
}

/// When the power goes.
#[derive(Debug, Clone, Copy)]
enum Cut {
    /// So long after the journal has a state.
    After(Marker, Duration),
    /// So long after the start of the push.
    Moment(Duration),
}

/// A state of the journal, without what it carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Marker {
    Prepared,
    Switching,
    Probation,
    Committed,
    TakingBack,
    TakenBack,
}

impl Marker {
    const ALL: [Self; 6] = [
        Self::Prepared,
        Self::Switching,
        Self::Probation,
        Self::Committed,
        Self::TakingBack,
        Self::TakenBack,
    ];

    fn of(state: &State) -> Self {
        match state {
            State::Prepared => Self::Prepared,
            State::Switching => Self::Switching,
            State::Probation(_) => Self::Probation,
            State::Committed => Self::Committed,
            State::TakingBack(_) => Self::TakingBack,
            State::TakenBack(_) => Self::TakenBack,
        }
    }

    /// What the app has to be for a push to come to this.
    fn fate(self) -> Fate {
        match self {
            Self::Prepared | Self::Switching | Self::Probation | Self::Committed => Fate::Healthy,
            Self::TakingBack | Self::TakenBack => Fate::Broken,
        }
    }
}

/// Numbers that a seed repeats (xorshift64).
struct Chance(u64);

impl Chance {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit.max(1)
    }
}

/// Cut after cut on one host.
struct Series<'a> {
    lab: &'a Lab,
    host: &'a RehearsalHost,
    chance: Chance,
    /// The tag in effect.
    number: u32,
    /// How long an undisturbed push takes.
    span: Duration,
    seen: Seen,
}

/// What the cuts hit and what came of them.
#[derive(Debug, Default)]
struct Seen {
    /// Cuts that found the last transaction in no state of its own: before the switch.
    before: u32,
    /// By the state that had reached the disk.
    prepared: u32,
    switching: u32,
    probation: u32,
    committed: u32,
    taking_back: u32,
    taken_back: u32,
    /// By the exit code of the push.
    codes: std::collections::BTreeMap<i32, u32>,
    /// Hosts found at the new generation.
    new: u32,
    slowest_boot: Duration,
}

impl<'a> Series<'a> {
    fn begin(lab: &'a Lab, seed: u64) -> Self {
        witness::environment(lab, (1, Fate::Healthy), "");
        lab.push(&["prod", "--yes"]).exits(0);
        let host = lab.host("web1");
        assert_eq!(whole(host), tag(1));
        let mut series = Self {
            lab,
            host,
            chance: Chance(seed | 1),
            number: 1,
            span: Duration::ZERO,
            seen: Seen::default(),
        };
        series.undisturbed();
        series
    }

    fn draw(&mut self, index: u64) -> Cut {
        if index.is_multiple_of(2) {
            let markers = Marker::ALL.len() as u64;
            let marker = Marker::ALL[usize::try_from(index / 2 % markers).unwrap()];
            let after_ms = self.chance.below(AFTER_STATE_MS);
            // Every other time around at once, since then most is under way.
            let is_at_once = (index / 2 / markers).is_multiple_of(2);
            let after_ms = if is_at_once { 0 } else { after_ms };
            return Cut::After(marker, Duration::from_millis(after_ms));
        }
        let span_us = u64::try_from(self.span.as_micros()).unwrap();
        Cut::Moment(Duration::from_micros(self.chance.below(span_us)))
    }

    /// A push that nobody disturbs, of a generation of its own.
    fn undisturbed(&mut self) {
        self.number += 1;
        witness::environment(self.lab, (self.number, Fate::Healthy), "");
        let said = self.lab.push(&["prod", "--yes"]).exits(0);
        assert_eq!(whole(self.host), tag(self.number));
        self.span = said.took;
    }

    /// A push, a cut, a boot, a look, and a push that must succeed.
    fn round(&mut self, cut: Cut) {
        let old = self.number;
        self.number += 1;
        let new = self.number;
        let fate = match cut {
            Cut::After(marker, _) => marker.fate(),
            Cut::Moment(_) => [Fate::Healthy, Fate::Healthy, Fate::Broken]
                [usize::try_from(self.chance.below(3)).unwrap()],
        };
        witness::environment(self.lab, (new, fate), "");
        let known = journal(self.host).len();
        let mut running = self.lab.spawn(&["prod", "--yes"]);
        self.wait_for(cut, known, &mut running);
        self.host.power_cut().unwrap();
        let durable = journal(self.host);
        let booted = self
            .host
            .boot_again()
            .unwrap_or_else(|error| panic!("{cut:?}: {error}"));
        self.seen.slowest_boot = self.seen.slowest_boot.max(booted);
        let said = running.end();
        self.count(durable.get(known..).unwrap_or_default(), said.code());
        let context = format!("{cut:?} {fate:?}, old {}, new {}", tag(old), tag(new));
        self.check((old, new), known, (&said, &context));
        self.undisturbed();
    }

    fn wait_for(&self, cut: Cut, known: usize, running: &mut Running) {
        let began = Instant::now();
        match cut {
            Cut::Moment(moment) => std::thread::sleep(moment),
            Cut::After(marker, delay) => {
                let is_there = || {
                    let records = journal(self.host);
                    let news = records.get(known..).unwrap_or_default();
                    news.iter()
                        .any(|record| Marker::of(&record.state) == marker)
                };
                while !is_there() && !running.has_ended() {
                    assert!(began.elapsed() < STATE_WITHIN, "{marker:?} never came");
                    std::thread::sleep(Duration::from_millis(1));
                }
                std::thread::sleep(delay);
            }
        }
    }

    fn count(&mut self, durable: &[Record], code: i32) {
        let seen = &mut self.seen;
        let slot = match durable.last().map(|record| Marker::of(&record.state)) {
            None => &mut seen.before,
            Some(Marker::Prepared) => &mut seen.prepared,
            Some(Marker::Switching) => &mut seen.switching,
            Some(Marker::Probation) => &mut seen.probation,
            Some(Marker::Committed) => &mut seen.committed,
            Some(Marker::TakingBack) => &mut seen.taking_back,
            Some(Marker::TakenBack) => &mut seen.taken_back,
        };
        *slot += 1;
        *seen.codes.entry(code).or_default() += 1;
    }

    /// The host is wholly old or wholly new, its journal says which, and so does everybody else.
    fn check(&mut self, (old, new): (u32, u32), known: usize, (said, context): (&Said, &str)) {
        let host = self.host;
        let told = format!(
            "{context}\ncode {}\n--- stdout\n{}\n--- stderr\n{}",
            said.code(),
            said.stdout,
            said.stderr
        );
        let records = journal(host);
        let news = records.get(known..).unwrap_or_default();
        let last = news.last().map(|record| &record.state);
        assert!(
            last.is_none_or(State::is_final),
            "{told}\n{}",
            witness::story(host)
        );
        let is_new = last.is_some_and(State::is_committed);
        let expected = if is_new { tag(new) } else { tag(old) };
        assert_eq!(whole(host), expected, "{told}\n{}", witness::story(host));
        assert_eq!(generation(host), in_effect(&records), "{told}");
        let marker = host
            .succeed(&["curl", "-s", "http://127.85.83.72:8583/generation"])
            .unwrap();
        assert_eq!(marker.trim(), generation(host).to_string(), "{told}");
        self.seen.new += u32::from(is_new);
        let agrees = match said.code() {
            0 => is_new && said.stderr.contains("committed"),
            5 => {
                last.is_some_and(|state| matches!(state, State::TakenBack(_)))
                    && says(said, "taken back")
            }
            6 => says(said, "in doubt"),
            // It was lost, or refused, before anything was ordered.
            1 | 4 | 7 | 9 => last.is_none() && says(said, "1 host not touched"),
            _ => false,
        };
        assert!(
            agrees,
            "the tool and the journal disagree: {last:?}\n{told}"
        );
        assert!(is_new || !says(said, "✓ committed"), "{told}");
        let failed = host
            .succeed(&["systemctl", "--failed", "--no-legend"])
            .unwrap();
        assert_eq!(failed, "", "{told}\n{}", witness::story(host));
        self.check_status(&records, &told);
    }

    /// `push status` and `push history` tell what the journal says.
    fn check_status(&self, records: &[Record], told: &str) {
        let status = self.lab.push(&["status", "prod"]).exits(0);
        let in_effect = format!("generation {}", in_effect(records));
        assert!(
            status.stdout.contains(&in_effect),
            "{}\n{told}",
            status.stdout
        );
        let history = self.lab.push(&["history", "prod"]).exits(0).stdout;
        let record = records.last().unwrap();
        let to = witness::about(records, &record.transaction).to.to_string();
        let line = history
            .lines()
            .find(|line| line.trim_start().starts_with(&format!("{to} ")));
        let words = if record.state.is_committed() {
            "committed"
        } else {
            "taken back"
        };
        assert!(
            line.is_some_and(|line| line.contains(words)),
            "{history}\n{told}"
        );
    }
}

fn says(said: &Said, words: &str) -> bool {
    said.stdout.contains(words) || said.stderr.contains(words)
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
        eventually("the decision", STATE_WITHIN, || {
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
