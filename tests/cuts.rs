//! When the power goes in the midst of a push: at each state of the journal, as each effect begins, as
//! something is pruned, or at a random moment. Decides moments and counts what came of them; what
//! carries a push out and looks at the host afterwards is `power.rs`.
//!
//! To add a moment: a [`Marker`], how it is seen in [`Watch::has_come`], and its cells in [`cells`].

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use push::rehearse::RehearsalHost;
use push_wire::effect::Effect;
use push_wire::journal::{Progress, Record, State};

use crate::verdict::Before;

/// How long after its marker the power may go, in milliseconds.
const AFTER_MARKER_MS: u64 = 40;

/// What the push does that the power is lost in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// The first of a host, which nothing precedes.
    First,
    /// The first of a host, with an app that never becomes healthy.
    FirstBroken,
    /// A change of everything.
    Update,
    /// The same with an app that never becomes healthy.
    Broken,
    /// `push rollback`.
    Rollback,
    /// Everything declared goes.
    Removal,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::First,
        Self::FirstBroken,
        Self::Update,
        Self::Broken,
        Self::Rollback,
        Self::Removal,
    ];

    /// Whether it begins on a host that was never pushed to.
    pub fn is_first(self) -> bool {
        matches!(self, Self::First | Self::FirstBroken)
    }

    /// Whether nothing but taking back can come of it.
    pub fn is_broken(self) -> bool {
        matches!(self, Self::FirstBroken | Self::Broken)
    }
}

/// Something that is seen to happen on a host while a push is carried out there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Marker {
    /// The journal has this state.
    State(Name),
    /// The effect begins, on the way there.
    Effect(&'static str),
    /// The effect begins, on the way back.
    EffectBack(&'static str),
    /// Something that was there before is gone, or on its way out.
    Pruning,
}

impl fmt::Display for Marker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::State(name) => write!(f, "{name:?}"),
            Self::Effect(effect) => f.write_str(effect),
            Self::EffectBack(effect) => write!(f, "{effect} again"),
            Self::Pruning => f.write_str("pruning"),
        }
    }
}

/// A state of the journal, without what it carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[expect(missing_docs, reason = "they are the states of the journal")]
pub enum Name {
    Prepared,
    Switching,
    Probation,
    Committed,
    TakingBack,
    TakenBack,
}

impl Name {
    /// The name of a state.
    pub fn of(state: &State) -> Self {
        match state {
            State::Prepared => Self::Prepared,
            State::Switching => Self::Switching,
            State::Probation(_) => Self::Probation,
            State::Committed => Self::Committed,
            State::TakingBack(_) => Self::TakingBack,
            State::TakenBack(_) => Self::TakenBack,
        }
    }
}

/// One kind of effect, in a word.
fn word(effect: &Effect) -> &'static str {
    match effect {
        Effect::Stop(_) => "stop",
        Effect::OpenSecrets => "secrets",
        Effect::DaemonReload => "daemon-reload",
        Effect::Sysctl => "sysctl",
        Effect::LoadFirewall => "firewall",
        Effect::RemoveFirewall => "no firewall",
        Effect::RestartSocket(_) => "socket",
        Effect::Restart(_) | Effect::RestartForeign(_) => "restart",
        Effect::Reload(_) | Effect::ReloadForeign(_) => "reload",
        Effect::ReloadNginx => "nginx",
    }
}

/// The effects of a push that brings everything, of one that changes everything, and of one that
/// takes everything away.
const COMING: &[&str] = &["secrets", "daemon-reload", "firewall", "restart", "nginx"];
const GOING: &[&str] = &["stop", "secrets", "daemon-reload", "no firewall", "nginx"];

/// Every kind of push at every marker that it comes to. First pushes stand first, since only a host
/// that is still blank can have one.
pub fn cells() -> Vec<(Kind, Marker)> {
    use Name::{Committed, Prepared, Probation, Switching, TakenBack, TakingBack};
    let mut all = Vec::new();
    for kind in [
        Kind::FirstBroken,
        Kind::First,
        Kind::Update,
        Kind::Broken,
        Kind::Rollback,
        Kind::Removal,
    ] {
        let states = |names: &[Name]| names.iter().copied().map(Marker::State).collect::<Vec<_>>();
        let (there, back) = match kind {
            Kind::Removal => (GOING, COMING),
            Kind::First | Kind::FirstBroken => (COMING, GOING),
            Kind::Update | Kind::Broken | Kind::Rollback => (COMING, COMING),
        };
        let mut markers = if kind.is_broken() {
            states(&[TakingBack, TakenBack])
        } else {
            states(&[Prepared, Switching])
        };
        if kind.is_broken() {
            markers.extend(back.iter().map(|effect| Marker::EffectBack(effect)));
        } else {
            markers.extend(there.iter().map(|effect| Marker::Effect(effect)));
            markers.extend(states(&[Probation, Committed]));
        }
        if matches!(kind, Kind::Update | Kind::Rollback | Kind::Removal) {
            markers.push(Marker::Pruning);
        }
        all.extend(markers.into_iter().map(|marker| (kind, marker)));
    }
    all
}

/// When the power goes.
#[derive(Debug, Clone, Copy)]
pub enum Moment {
    /// So long after something is seen.
    After(Marker, Duration),
    /// So long after the start of the push, in thousandths of what such a push takes.
    Random(u32),
}

/// Whether the moment of a cut came. A push can end before it comes to a marker, and is cut then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seen {
    /// It did.
    Came,
    /// It did not.
    NeverCame,
}

/// Numbers that a seed repeats (xorshift64).
pub struct Chance(u64);

impl Chance {
    /// From a seed.
    pub fn of(seed: u64) -> Self {
        // Spread, since the first numbers of small seeds resemble one another; never 0.
        Self((seed ^ 0x9e37_79b9_7f4a_7c15).wrapping_mul(0xbf58_476d_1ce4_e5b9) | 1)
    }

    /// A number below a limit.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % limit.max(1)
    }

    /// Whether something that happens once in so many times happens.
    pub fn once_in(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }
}

/// The cuts of one file system of several, in their order: the first half at markers, shared out over
/// the file systems, the second half at random moments.
pub fn draw(
    chance: &mut Chance,
    (cut, cuts): (u64, u64),
    (own, all): (u64, u64),
) -> (Kind, Moment) {
    let at_markers = cuts / 2;
    if cut < at_markers {
        let cells = cells();
        let place = (cut * all + own) % cells.len() as u64;
        let (kind, marker) = cells[usize::try_from(place).unwrap()];
        // Every other time at once, since then most is under way.
        let is_at_once = chance.once_in(2);
        let after_ms = chance.below(if is_at_once { 1 } else { AFTER_MARKER_MS });
        return (kind, Moment::After(marker, Duration::from_millis(after_ms)));
    }
    let kind = Kind::ALL[usize::try_from((cut - at_markers) % Kind::ALL.len() as u64).unwrap()];
    let thousandths = u32::try_from(chance.below(1000)).unwrap();
    (kind, Moment::Random(thousandths))
}

/// What is looked at, again and again, until a marker comes.
pub struct Watch<'a> {
    before: &'a Before<'a>,
    /// What could be pruned.
    there: BTreeSet<PathBuf>,
}

impl<'a> Watch<'a> {
    /// From before the push.
    pub fn begin(before: &'a Before<'a>) -> Self {
        Self {
            before,
            there: prunable(before.host()),
        }
    }

    /// Whether a marker has come.
    pub fn has_come(&self, marker: Marker) -> bool {
        let news = self.before.news();
        match marker {
            Marker::State(name) => news.iter().any(|record| Name::of(&record.state) == name),
            Marker::Effect(effect) => self
                .told(&news)
                .iter()
                .any(|told| matches!(told, Told::There(there) if *there == effect)),
            Marker::EffectBack(effect) => self
                .told(&news)
                .iter()
                .any(|told| matches!(told, Told::Back(back) if *back == effect)),
            Marker::Pruning => {
                let is_committed = news
                    .last()
                    .is_some_and(|record| record.state.is_committed());
                is_committed && !prunable(self.before.host()).is_superset(&self.there)
            }
        }
    }

    /// The effects that the transaction told of. What it tells lies in memory and is gone with it.
    fn told(&self, news: &[Record]) -> Vec<Told> {
        let Some(record) = news.last() else {
            return Vec::new();
        };
        let path = format!("/run/push/transactions/{}/progress", record.transaction);
        let text = self.before.host().read(path).unwrap_or_default();
        let mut is_back = false;
        let mut told = Vec::new();
        for line in text.split(|byte| *byte == b'\n') {
            match serde_json::from_slice(line) {
                Ok(Progress::State(State::TakingBack(_))) => is_back = true,
                Ok(Progress::Effect(effect)) if is_back => told.push(Told::Back(word(&effect))),
                Ok(Progress::Effect(effect)) => told.push(Told::There(word(&effect))),
                Ok(
                    Progress::State(_)
                    | Progress::Confirmed
                    | Progress::Health { .. }
                    | Progress::Evidence(_)
                    | Progress::Working { .. },
                )
                | Err(_) => {}
            }
        }
        told
    }
}

enum Told {
    There(&'static str),
    Back(&'static str),
}

/// The generations and releases on a host's disk. Read from beside the host: asking it takes longer
/// than pruning does.
fn prunable(host: &RehearsalHost) -> BTreeSet<PathBuf> {
    let folders = ["etc/push/generations", "srv/api/releases"];
    folders
        .iter()
        .filter_map(|folder| fs::read_dir(host.root().join(folder)).ok())
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path()))
        .collect()
}

/// What the cuts hit and what came of them.
#[derive(Debug, Default)]
pub struct Tally {
    /// By marker: how many cuts came right after it.
    markers: BTreeMap<String, u32>,
    /// Markers that the push never came to, because it had ended otherwise.
    missed: BTreeMap<String, u32>,
    /// Cuts at random moments.
    random: u32,
    /// Cuts in the midst of the recovery from another one.
    twice: u32,
    kinds: BTreeMap<Kind, u32>,
    /// By the last state that had reached the disk; `None` before the first.
    durable: BTreeMap<Option<Name>, u32>,
    /// By the exit code of the push.
    codes: BTreeMap<i32, u32>,
    /// Hosts found at what the push wanted.
    new: u32,
    boots: Vec<Duration>,
    recoveries: Vec<Duration>,
}

impl Tally {
    /// A cut in a push of a kind, at a moment that came or did not.
    pub fn cut(&mut self, kind: Kind, moment: Moment, seen: Seen) {
        *self.kinds.entry(kind).or_default() += 1;
        let marker = match moment {
            Moment::After(marker, _) => marker.to_string(),
            Moment::Random(_) => return self.random += 1,
        };
        let slot = match seen {
            Seen::Came => &mut self.markers,
            Seen::NeverCame => &mut self.missed,
        };
        *slot.entry(marker).or_default() += 1;
    }

    /// What had reached the disk.
    pub fn durable(&mut self, state: Option<&State>) {
        *self.durable.entry(state.map(Name::of)).or_default() += 1;
    }

    /// A cut in the recovery.
    pub fn cut_again(&mut self) {
        self.twice += 1;
    }

    /// A boot, and what of it was the recovery.
    pub fn booted(&mut self, took: Duration, recovery: Option<Duration>) {
        self.boots.push(took);
        self.recoveries.extend(recovery);
    }

    /// How it ended.
    pub fn ended(&mut self, code: i32, state: Option<&State>) {
        *self.codes.entry(code).or_default() += 1;
        self.new += u32::from(state.is_some_and(State::is_committed));
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cuts: u32 = self.kinds.values().sum();
        let at_markers: u32 = self.markers.values().sum();
        writeln!(
            f,
            "{cuts} cuts: {at_markers} at markers, {} at random moments, and {} more in the recovery; {} ended new, {} old",
            self.random,
            self.twice,
            self.new,
            cuts - self.new
        )?;
        writeln!(f, "  in: {:?}", self.kinds)?;
        writeln!(f, "  at: {:?}", self.markers)?;
        writeln!(f, "  never came: {:?}", self.missed)?;
        writeln!(f, "  last state on the disk: {:?}", self.durable)?;
        writeln!(f, "  exit codes: {:?}", self.codes)?;
        let slowest = |of: &[Duration]| of.iter().max().copied().unwrap_or_default();
        write!(
            f,
            "  {} boots, the slowest {:?}; {} recoveries, the slowest {:?}",
            self.boots.len(),
            slowest(&self.boots),
            self.recoveries.len(),
            slowest(&self.recoveries)
        )
    }
}
