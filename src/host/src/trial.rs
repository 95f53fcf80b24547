//! Whether a switched generation is healthy. Only what this switch touched is watched: the apps that
//! changed, and those whose units were restarted. An app passes when its units run, none of them has
//! restarted by itself, its probes passed as often in a row as declared, and the quiet period is
//! over. A risky switch also waits for its operator, until a deadline that setting the clock cannot
//! move.
//!
//! It decides from what the machine says, and undoes nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use push_wire::effect::{Effect, effects};
use push_wire::health::Health;
use push_wire::journal::{Cause, Event, Probation, Progress, UnitState};
use push_wire::manifest::{App, Manifest, Runs};
use push_wire::name::{AppName, TransactionId, UnitName};

use crate::before;
use crate::layout::Layout;
use crate::machine::{Machine, World};
use crate::progress::{self, Wish};

/// The pause between two looks at anything.
const TICK: Duration = Duration::from_millis(50);

/// The time between two looks at the units, in milliseconds.
const UNITS_LOOK_MS: u64 = 250;

/// How many looks in a row systemd may fail to answer.
const UNITS_FAILURES_MAX: u32 = 20;

/// What is asked of an app that declares nothing: that its units stay up for a moment.
static UNDECLARED: Health = Health {
    probes: Vec::new(),
    timeout_ms: 30_000,
    interval_ms: 250,
    passes: 1,
    quiet_ms: 1_000,
};

/// How long what runs beside push's own has to stay up after it was told something, in milliseconds.
const BESIDE_QUIET_MS: u64 = 1_000;

/// Nothing beside push's own.
static NOTHING: BTreeSet<UnitName> = BTreeSet::new();

/// What a trial is about.
#[derive(Debug, Clone, Copy)]
pub struct Setting<'a> {
    /// The transaction.
    pub transaction: &'a TransactionId,
    /// What was in effect.
    pub from: &'a Manifest,
    /// What is in effect.
    pub to: &'a Manifest,
    /// Units that push does not declare, that the switch tells something, and that ran before it.
    pub beside: &'a BTreeSet<UnitName>,
}

/// Watches until the verdict is in. It ends: every app has a timeout, and the operator a deadline.
pub fn run<M: Machine>(
    machine: &mut M,
    layout: &Layout,
    setting: Setting<'_>,
    probation: &Probation,
) -> Event {
    let run = effects(setting.from, setting.to);
    let touched = touched(setting, &run);
    let mut trial = Trial::new(machine, (setting, probation.deadline_ms), &touched);
    trial.restarted = run.iter().filter_map(restarts).cloned().collect();
    match trial.finish(machine, layout) {
        Ok(()) => Event::Passed,
        Err(cause) => Event::Failed(cause),
    }
}

/// Whether every app of what is in effect is well, by the checks that it has after a switch. It ends: every app
/// has a timeout.
pub fn all_well<M: Machine>(
    machine: &mut M,
    layout: &Layout,
    (id, manifest): (&TransactionId, &Manifest),
) -> Result<(), Cause> {
    let setting = Setting {
        transaction: id,
        from: manifest,
        to: manifest,
        beside: &NOTHING,
    };
    let all = manifest.apps().into_keys().collect();
    Trial::new(machine, (setting, None), &all).finish(machine, layout)
}

/// What the operator's wish and the deadline mean now. Asked by whoever runs something that lasts.
pub fn heed<M: Machine>(
    machine: &M,
    layout: &Layout,
    transaction: &TransactionId,
) -> Result<Option<Wish>, Cause> {
    match progress::wish(machine, layout, transaction) {
        Ok(Some(Wish::TakeBack)) => Err(Cause::Asked),
        Ok(wish) => Ok(wish),
        Err(error) => Err(Cause::Host {
            why: error.to_string(),
        }),
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Passed,
    Open,
}

struct Trial<'a> {
    setting: Setting<'a>,
    deadline_ms: Option<u64>,
    started_ms: u64,
    apps: Vec<Watched<'a>>,
    units: BTreeMap<UnitName, &'a AppName>,
    /// Units that this switch restarted: any restart counted since is the unit's own.
    restarted: BTreeSet<UnitName>,
    first: BTreeMap<String, UnitState>,
    latest: Vec<UnitState>,
    next_look_ms: u64,
    failures: u32,
    operator: Operator,
}

/// Whether the operator has come in again, as far as that was told.
#[derive(PartialEq, Eq)]
enum Operator {
    Awaited,
    Come,
}

struct Watched<'a> {
    name: &'a AppName,
    app: &'a App,
    health: &'a Health,
    passed: u32,
    next_probe_ms: u64,
    answer: Option<String>,
}

impl<'a> Trial<'a> {
    fn new<M: Machine>(
        machine: &M,
        (setting, deadline_ms): (Setting<'a>, Option<u64>),
        names: &BTreeSet<&AppName>,
    ) -> Self {
        let now_ms = machine.boottime_ms();
        let apps: Vec<Watched<'a>> = setting
            .to
            .apps()
            .into_iter()
            .filter(|(name, _)| names.contains(name))
            .map(|(name, app)| Watched::new(name, app, now_ms))
            .collect();
        let units = setting
            .to
            .units()
            .into_iter()
            .filter(|(name, unit)| unit.runs == Runs::Always && !name.is_template())
            .filter(|(_, unit)| names.contains(&unit.app))
            .map(|(name, unit)| (name.clone(), &unit.app))
            .collect();
        Self {
            setting,
            deadline_ms,
            started_ms: now_ms,
            apps,
            units,
            restarted: BTreeSet::new(),
            first: BTreeMap::new(),
            latest: Vec::new(),
            next_look_ms: now_ms,
            failures: 0,
            operator: Operator::Awaited,
        }
    }

    fn finish<M: Machine>(mut self, machine: &mut M, layout: &Layout) -> Result<(), Cause> {
        loop {
            match self.look(machine, layout)? {
                Verdict::Passed => return Ok(()),
                Verdict::Open => machine.sleep(TICK),
            }
        }
    }

    fn look<M: Machine>(&mut self, machine: &mut M, layout: &Layout) -> Result<Verdict, Cause> {
        let is_confirmed = self.is_confirmed(machine, layout)?;
        if machine.boottime_ms() >= self.next_look_ms {
            self.look_at_units(machine)?;
        }
        for at in 0..self.apps.len() {
            self.probe(machine, layout, at)?;
        }
        let now_ms = machine.boottime_ms();
        let age_ms = now_ms.saturating_sub(self.started_ms);
        let is_quiet = self.setting.beside.is_empty() || age_ms >= BESIDE_QUIET_MS;
        if !is_confirmed || !is_quiet || !self.apps.iter().all(|app| app.has_passed(age_ms)) {
            return Ok(Verdict::Open);
        }
        // The last probe may have taken a while, and a unit may have died meanwhile.
        self.look_at_units(machine)?;
        let settled =
            self.failures == 0 && self.apps.iter().all(|app| self.waits_for(app).is_none());
        Ok(if settled {
            Verdict::Passed
        } else {
            Verdict::Open
        })
    }

    /// Whether nobody has to come in any more. The one place where confirmation and deadline meet.
    fn is_confirmed<M: Machine>(
        &mut self,
        machine: &mut M,
        layout: &Layout,
    ) -> Result<bool, Cause> {
        let transaction = self.setting.transaction;
        let wish = heed(machine, layout, transaction)?;
        match (self.deadline_ms, wish) {
            (None, _) => Ok(true),
            (Some(_), Some(Wish::Confirmed)) => {
                if self.operator == Operator::Awaited {
                    self.operator = Operator::Come;
                    progress::tell(machine, layout, (transaction, &Progress::Confirmed));
                }
                Ok(true)
            }
            (Some(deadline_ms), None | Some(Wish::TakeBack)) => {
                if machine.boottime_ms() >= deadline_ms {
                    return Err(Cause::Unconfirmed);
                }
                Ok(false)
            }
        }
    }

    fn look_at_units<M: World + crate::machine::Clock>(
        &mut self,
        machine: &M,
    ) -> Result<(), Cause> {
        self.next_look_ms = machine.boottime_ms() + UNITS_LOOK_MS;
        let asked: BTreeSet<UnitName> = self
            .setting
            .beside
            .iter()
            .chain(self.units.keys())
            .cloned()
            .collect();
        if asked.is_empty() {
            return Ok(());
        }
        match machine.units(&asked) {
            Ok(states) => {
                self.failures = 0;
                self.latest = states;
            }
            Err(error) => {
                self.failures += 1;
                if self.failures > UNITS_FAILURES_MAX {
                    return Err(Cause::Host {
                        why: error.to_string(),
                    });
                }
                return Ok(());
            }
        }
        for state in self.latest.clone() {
            self.judge_beside(&state)?;
            self.judge(&state)?;
        }
        Ok(())
    }

    /// What ran before and was only told something must run on.
    fn judge_beside(&self, state: &UnitState) -> Result<(), Cause> {
        if !self.setting.beside.contains(state.unit.as_str()) || !before::has_died(state) {
            return Ok(());
        }
        let run = effects(self.setting.from, self.setting.to).into_iter();
        let mut told = run.filter(|effect| {
            let unit = effect.foreign();
            unit.is_some_and(|unit| unit.as_str() == state.unit)
        });
        Err(Cause::Effect {
            effect: told
                .next()
                .map_or(state.unit.clone(), |effect| effect.to_string()),
            why: format!(
                "{} did not stay up ({}, status {})",
                state.unit, state.result, state.exit_status
            ),
        })
    }

    /// What a unit must not do, however long the trial still lasts.
    fn judge(&mut self, state: &UnitState) -> Result<(), Cause> {
        let Some((name, app)) = self.units.get_key_value(state.unit.as_str()) else {
            return Ok(());
        };
        let wrong = |why: String| {
            Err(Cause::Unhealthy {
                app: app.to_string(),
                why: format!("{name} {why}"),
            })
        };
        let first = self
            .first
            .entry(state.unit.clone())
            .or_insert_with(|| state.clone());
        let allowed = if self.restarted.contains(name) {
            0
        } else {
            first.restarts
        };
        if state.restarts > allowed {
            return wrong(match state.restarts {
                1 => "restarted by itself once".to_owned(),
                often => format!("restarted by itself {often} times"),
            });
        }
        if state.active == "failed" {
            return wrong(format!(
                "failed ({}, status {})",
                state.result, state.exit_status
            ));
        }
        // A unit that was still starting has no invocation to compare with.
        if first.active == "active" && first.invocation != state.invocation {
            return wrong("was restarted during its trial".to_owned());
        }
        if first.active != "active" {
            *first = state.clone();
        }
        match state.active.as_str() {
            "inactive" | "deactivating" => wrong(format!("has ended ({})", state.result)),
            _ => Ok(()),
        }
    }

    /// The unit that an app still waits for.
    fn waits_for(&self, app: &Watched<'_>) -> Option<String> {
        let running = |unit: &UnitName| {
            self.latest.iter().any(|state| {
                state.unit == unit.as_str()
                    && matches!(state.active.as_str(), "active" | "reloading")
            })
        };
        self.units
            .iter()
            .find(|(unit, owner)| **owner == app.name && !running(unit))
            .map(|(unit, _)| format!("{unit} is not active yet"))
    }

    fn probe<M: Machine>(
        &mut self,
        machine: &mut M,
        layout: &Layout,
        at: usize,
    ) -> Result<(), Cause> {
        let (wait, now_ms) = (self.waits_for(&self.apps[at]), machine.boottime_ms());
        let age_ms = now_ms.saturating_sub(self.started_ms);
        let app = &mut self.apps[at];
        if now_ms >= app.next_probe_ms && !app.has_passed(age_ms) {
            let (passed_before, answer_before) = (app.passed, app.answer.clone());
            app.answer = wait.or_else(|| app.ask(machine).err());
            app.passed = if app.answer.is_none() {
                app.passed + 1
            } else {
                0
            };
            app.next_probe_ms = machine.boottime_ms() + app.health.interval_ms;
            if (passed_before, answer_before) != (app.passed, app.answer.clone()) {
                let progress = app.progress();
                progress::tell(machine, layout, (self.setting.transaction, &progress));
            }
        }
        let app = &self.apps[at];
        if age_ms >= app.health.timeout_ms && !app.has_passed(age_ms) {
            let why = app.answer.clone().unwrap_or_else(|| app.shortfall());
            return Err(Cause::Unhealthy {
                app: app.name.to_string(),
                why,
            });
        }
        Ok(())
    }
}

impl<'a> Watched<'a> {
    fn new(name: &'a AppName, app: &'a App, now_ms: u64) -> Self {
        let health = app.health.as_ref().unwrap_or(&UNDECLARED);
        Self {
            name,
            app,
            health,
            passed: 0,
            next_probe_ms: now_ms,
            answer: None,
        }
    }

    fn ask<M: World>(&self, machine: &mut M) -> Result<(), String> {
        self.health
            .probes
            .iter()
            .try_for_each(|probe| machine.probe(self.name, &self.app.user, probe))
    }

    fn has_passed(&self, age_ms: u64) -> bool {
        self.passed >= self.health.passes.max(1) && age_ms >= self.health.quiet_ms
    }

    fn shortfall(&self) -> String {
        format!(
            "{} of {} probes in a row had passed, and the quiet period is {} ms",
            self.passed, self.health.passes, self.health.quiet_ms
        )
    }

    fn progress(&self) -> Progress {
        Progress::Health {
            app: self.name.to_string(),
            passed: self.passed,
            wanted: self.health.passes.max(1),
            answer: self.answer.clone(),
        }
    }
}

fn restarts(effect: &Effect) -> Option<&UnitName> {
    effect
        .starts()
        .filter(|_| !matches!(effect, Effect::Reload(_)))
}

/// The apps that this switch changed, or whose units it restarted.
fn touched<'a>(setting: Setting<'a>, run: &[Effect]) -> BTreeSet<&'a AppName> {
    let old = setting.from.apps();
    let changed = setting
        .to
        .apps()
        .into_iter()
        .filter(|(name, app)| old.get(name) != Some(app));
    let units = setting.to.units();
    let owners = run
        .iter()
        .filter_map(Effect::starts)
        .filter_map(|unit| Some(&units.get(unit)?.app));
    changed.map(|(name, _)| name).chain(owners).collect()
}
