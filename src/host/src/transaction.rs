//! The switch from one generation to another: the one place where a host changes what is in effect.
//! It needs neither the laptop nor the network, and is cut short by nothing but the end of its process;
//! then [`crate::recover`] takes it up where the journal says it stands.
//!
//! ```text
//! Prepared    links of both generations, the links to rename: made and synced, nothing live changes
//! Switching   the rename of /etc/push/current, synced; then the effects
//! Probation   health, and where asked for the operator's return
//! Committed   synced before anybody is told; then what only the old generation had goes
//! TakingBack  the same rename the other way, the effects the other way, until they hold
//! TakenBack   synced before anybody is told; then what only the new generation had goes
//! ```
//!
//! What is legal in which state is decided by [`State::after`] alone; each state has one action here,
//! whose result is the next event. A new state does not compile until it has one. Every action can be
//! run again after a cut at any of its calls.

use std::collections::BTreeSet;
use std::io;

use push_wire::effect::{Effect, effects};
use push_wire::journal::{About, Cause, Event, Illegal, Probation, Progress, State};
use push_wire::manifest::Manifest;
use push_wire::message::Holder;
use push_wire::name::{GenerationId, TransactionId, UnitName};

use crate::before::{self, Before};
use crate::effects::{EffectError, carry_out, carry_out_at_boot, revive};
use crate::evidence;
use crate::journal::{self, Entry, Journal, JournalError};
use crate::layout::Layout;
use crate::lock::{self, LockError};
use crate::machine::{Course, Disk, Machine, World};
use crate::progress::{self, Request};
use crate::remains::{RETRY_FIRST, RETRY_LATEST, Since, gone, settle, tidy};
use crate::store::{self, StoreError, links, prune, switch};
use crate::trial::{self, Setting};

/// How often the record that ends a transaction is tried to be written.
const LAST_RECORD_TRIES: u32 = 5;

/// Why a transaction did not begin, or did not end.
#[derive(Debug, thiserror::Error)]
pub enum TransactionError {
    /// Nothing began: somebody else is at it.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// The journal cannot be used.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// A generation cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Nothing began: the host is not where the plan saw it.
    #[error("generation {found} is in effect, and this switch was planned at {expected}")]
    Stale {
        /// What the plan saw.
        expected: GenerationId,
        /// What is there.
        found: GenerationId,
    },
    /// Nothing began: an earlier transaction has not ended.
    #[error("transaction {transaction} has not ended")]
    Unfinished {
        /// Which.
        transaction: TransactionId,
    },
    /// Nothing began: whoever asked for it was told that it would not.
    #[error("the transaction was withdrawn before it began")]
    Withdrawn,
    /// A step that the states do not allow: a fault of push.
    #[error(transparent)]
    Illegal(#[from] Illegal),
    /// The old generation's link is in place or is not, and something of it does not hold.
    #[error("generation {generation} cannot be brought back completely: {why}")]
    Stuck {
        /// The generation that is to come back.
        generation: GenerationId,
        /// What does not hold.
        why: String,
    },
    /// The transaction has ended on the host, and the journal cannot be made to say so.
    #[error("the end of the transaction cannot be recorded: {0}")]
    Unrecorded(JournalError),
}

impl TransactionError {
    /// What to do about it.
    pub fn help(&self) -> &'static str {
        match self {
            Self::Lock(error) => error.help(),
            Self::Journal(error) => error.help(),
            Self::Store(error) => error.help(),
            Self::Stale { .. } => "plan again: `push plan`",
            Self::Withdrawn => "push again",
            Self::Unfinished { .. } => "run `push-host recover` on the host, or push again",
            Self::Illegal(_) => "this is a fault of push; please report it",
            Self::Stuck { .. } => {
                "repair what is named, then run `push-host recover` on the host; a reboot tries it again too"
            }
            Self::Unrecorded(_) => {
                "repair the disk of the host, then run `push-host recover` on it"
            }
        }
    }
}

/// Carries out a request from its first record to its last. `Ok` is what the journal says in the end;
/// an error before the first record means that nothing began, one after it that nobody knows.
pub fn transact<M: Machine>(
    machine: &mut M,
    layout: &Layout,
    request: &Request,
) -> Result<State, TransactionError> {
    let id = &request.switch.transaction;
    let _lock = lock::take_over(machine, layout, &holder(machine, request))?;
    let mut journal = journal::read(machine, layout)?;
    if let Some(record) = journal.latest(id).filter(|record| record.state.is_final()) {
        // Asked again, it gives the same answer.
        return Ok(record.state.clone());
    }
    if !progress::is_requested(machine, layout, id).map_err(StoreError::from)? {
        return Err(TransactionError::Withdrawn);
    }
    if let Some(record) = journal.unfinished() {
        return Err(TransactionError::Unfinished {
            transaction: record.transaction.clone(),
        });
    }
    let (from, to) = sides(machine, layout, &request.about)?;
    begin(machine, layout, (&mut journal, request))?;
    let mut run = Run {
        machine,
        layout,
        id: id.clone(),
        about: request.about.clone(),
        from,
        to,
        journal,
        since: Since::SameBoot,
        has_switched: false,
        started_ms: 0,
        before: None,
        is_last_round: false,
    };
    run.started_ms = run.machine.boottime_ms();
    run.tell(&Progress::State(State::Prepared));
    run.drive(State::Prepared)
}

/// Writes the first record. One that may stand there although it failed is removed, so that nothing
/// seems to have begun; if that fails too, a recovery takes back what did not happen.
fn begin<M: Machine>(
    machine: &mut M,
    layout: &Layout,
    (journal, request): (&mut Journal, &Request),
) -> Result<(), TransactionError> {
    let entry = Entry {
        transaction: request.switch.transaction.clone(),
        state: State::Prepared,
        about: Some(request.about.clone()),
    };
    let begun = journal.begin(machine, layout, entry);
    if begun.is_err()
        && let Err(error) = journal.cut_torn_tail(machine, layout)
    {
        machine.warn(&error.to_string());
    }
    Ok(begun.map(drop)?)
}

/// Takes up a transaction that was cut short: whatever had not been committed is taken back.
pub fn resume<M: Machine>(
    machine: &mut M,
    layout: &Layout,
    (journal, since): (Journal, Since),
) -> Result<State, TransactionError> {
    let Some(last) = journal.unfinished().cloned() else {
        // Callers ask first; without an unfinished one there is nothing to take up.
        return Err(StoreError::from(io::Error::other("no transaction is unfinished")).into());
    };
    let about =
        journal
            .about(&last.transaction)
            .cloned()
            .ok_or_else(|| TransactionError::Stuck {
                generation: GenerationId::NONE,
                why: "the journal does not say what the transaction is about".to_owned(),
            })?;
    let from = store::manifest(machine, layout, about.from)?;
    let to = gone(machine, layout, (about.to, since))?;
    let has_switched = journal
        .records()
        .iter()
        .any(|record| record.transaction == last.transaction && record.state == State::Switching);
    let started_ms = machine.boottime_ms();
    let id = last.transaction.clone();
    let mut run = Run {
        machine,
        layout,
        id,
        about,
        from,
        to,
        journal,
        since,
        has_switched,
        started_ms,
        before: None,
        is_last_round: false,
    };
    let state = match &last.state {
        State::Prepared | State::Switching | State::Probation(_) => {
            run.enter(last.state, Event::Failed(Cause::Restarted))?
        }
        State::TakingBack(_) | State::Committed | State::TakenBack(_) => last.state,
    };
    run.drive(state)
}

fn holder<M: Machine>(machine: &M, request: &Request) -> Holder {
    Holder {
        operator: request.about.provenance.operator.clone(),
        since_unix_s: machine.unix_s(),
        step: format!("switching to generation {}", request.about.to),
        transaction: Some(request.switch.transaction.clone()),
        push: request.about.provenance.push.clone(),
    }
}

/// Both manifests, checked: what is not as push left it is neither switched to nor relied on for
/// taking back. A text of the generation in effect that somebody edited in place is said in the log and
/// stops nothing: taking back brings back what was in effect, and else no later push could ever begin.
fn sides<M: Disk + World>(
    machine: &mut M,
    layout: &Layout,
    about: &About,
) -> Result<(Manifest, Manifest), TransactionError> {
    let found = store::current(machine, layout)?;
    if found != about.from {
        return Err(TransactionError::Stale {
            expected: about.from,
            found,
        });
    }
    let from = store::manifest(machine, layout, about.from)?;
    let to = store::manifest(machine, layout, about.to)?;
    for difference in store::differences(machine, layout, &from)? {
        machine.warn(&difference.to_string());
    }
    store::verify(machine, layout, &to)?;
    Ok((from, to))
}

struct Run<'a, M> {
    machine: &'a mut M,
    layout: &'a Layout,
    id: TransactionId,
    about: About,
    from: Manifest,
    to: Manifest,
    journal: Journal,
    since: Since,
    /// Whether the rename may have happened, and effects may have run.
    has_switched: bool,
    started_ms: u64,
    /// How the units stood before; `None` where a transaction is taken up, and nobody knows any more.
    before: Option<Before>,
    /// Whether taking back is not tried again after this.
    is_last_round: bool,
}

impl<M: Machine> Run<'_, M> {
    fn drive(&mut self, mut state: State) -> Result<State, TransactionError> {
        loop {
            let event = match &state {
                State::Prepared => self.prepare(),
                State::Switching => self.switch(),
                State::Probation(probation) => self.on_trial(probation),
                State::TakingBack(_) => self.take_back()?,
                State::Committed | State::TakenBack(_) => {
                    self.tidy(&state);
                    return Ok(state);
                }
            };
            if let Event::Failed(cause) = &event {
                self.tell_evidence(cause);
            }
            state = self.enter(state, event)?;
        }
    }

    /// Records the next state and then tells it. A state that cannot be recorded is not entered,
    /// except that of taking back: what is not committed comes back whether the journal knows or not.
    fn enter(&mut self, state: State, event: Event) -> Result<State, TransactionError> {
        let next = state.clone().after(event)?;
        let Err(error) = self.record(&next) else {
            self.tell(&Progress::State(next.clone()));
            return Ok(next);
        };
        let why = error.to_string();
        self.machine
            .warn(&format!("{next:?} cannot be recorded: {why}"));
        match &next {
            State::TakingBack(_) => Ok(next),
            State::TakenBack(_) => self.insist(next),
            State::Prepared | State::Switching | State::Probation(_) | State::Committed => {
                if let Err(error) = self.journal.cut_torn_tail(self.machine, self.layout) {
                    self.machine.warn(&error.to_string());
                }
                self.enter(state, Event::Failed(Cause::Host { why }))
            }
        }
    }

    fn insist(&mut self, state: State) -> Result<State, TransactionError> {
        let mut pause = RETRY_FIRST;
        for _ in 1..LAST_RECORD_TRIES {
            self.machine.sleep(pause);
            pause = (pause * 2).min(RETRY_LATEST);
            if self.record(&state).is_ok() {
                self.tell(&Progress::State(state.clone()));
                return Ok(state);
            }
        }
        self.record(&state).map_err(TransactionError::Unrecorded)?;
        self.tell(&Progress::State(state.clone()));
        Ok(state)
    }

    fn record(&mut self, state: &State) -> Result<(), JournalError> {
        let entry = Entry {
            transaction: self.id.clone(),
            state: state.clone(),
            about: None,
        };
        self.journal
            .append(self.machine, self.layout, entry)
            .map(drop)
    }

    fn tell(&mut self, progress: &Progress) {
        // After a boot nobody follows any more: the journal tells.
        if self.since == Since::SameBoot {
            progress::tell(self.machine, self.layout, (&self.id, progress));
        }
    }

    fn tell_evidence(&mut self, cause: &Cause) {
        let run = effects(&self.from, &self.to);
        let found = evidence::collect(self.machine, (&self.to, &run), (cause, self.started_ms));
        if let Some(evidence) = found {
            self.tell(&Progress::Evidence(Box::new(evidence)));
        }
    }

    /// Makes everything that the switch, and its way back, will need: a full disk cannot hinder them
    /// afterwards.
    fn prepare(&mut self) -> Event {
        let made = links::lay(self.machine, self.layout, &self.to).and_then(|()| {
            Ok(switch::make_ready(
                self.machine,
                self.layout,
                (self.about.from, self.about.to),
            )?)
        });
        match made {
            Ok(()) => Event::Begin,
            Err(error) => Event::Failed(Cause::Host {
                why: error.to_string(),
            }),
        }
    }

    fn switch(&mut self) -> Event {
        let ahead = effects(&self.from, &self.to);
        self.before = before::look(self.machine, &ahead, &self.way_back());
        self.has_switched = true;
        let switched = switch::carry_out(self.machine, self.layout)
            .map_err(StoreError::from)
            .and_then(|()| links::follow(self.machine, self.layout, (&self.from, &self.to)));
        if let Err(error) = switched {
            return Event::Failed(Cause::Host {
                why: error.to_string(),
            });
        }
        for effect in ahead {
            if let Err(cause) = trial::heed(self.machine, self.layout, &self.id) {
                return Event::Failed(cause);
            }
            self.tell(&Progress::Effect(effect.clone()));
            if let Err(error) = carry_out(self.machine, self.layout, &self.to, &effect) {
                let (effect, why) = (effect.to_string(), error.to_string());
                return Event::Failed(Cause::Effect { effect, why });
            }
        }
        match self.machine.boot_id() {
            Ok(boot_id) => Event::Switched(Probation {
                boot_id,
                deadline_ms: self.deadline_ms(),
            }),
            Err(error) => Event::Failed(Cause::Host {
                why: error.to_string(),
            }),
        }
    }

    fn deadline_ms(&self) -> Option<u64> {
        let within_ms = self.about.confirm_within_ms?;
        Some(self.machine.boottime_ms().saturating_add(within_ms))
    }

    fn on_trial(&mut self, probation: &Probation) -> Event {
        let nothing = BTreeSet::new();
        let setting = Setting {
            transaction: &self.id,
            from: &self.from,
            to: &self.to,
            beside: self
                .before
                .as_ref()
                .map_or(&nothing, |before| &before.beside),
        };
        trial::run(self.machine, self.layout, setting, probation)
    }

    /// Brings the old generation back, and tries again what does not hold.
    fn take_back(&mut self) -> Result<Event, TransactionError> {
        let rounds = self.since.rounds();
        let (mut open, mut pause) = (self.way_back(), RETRY_FIRST);
        let mut why = String::new();
        for round in 0..rounds {
            self.is_last_round = round + 1 == rounds;
            if round > 0 {
                if self.is_going_down() {
                    break;
                }
                self.machine.warn(&format!(
                    "generation {} is not back yet: {why}",
                    self.about.from
                ));
                self.machine.sleep(pause);
                pause = (pause * 2).min(RETRY_LATEST);
            }
            if let Err(error) = self.point_back() {
                why = error.to_string();
                continue;
            }
            match self.run_back(&open) {
                None => return Ok(Event::Restored),
                Some((rest, error)) => (open, why) = (rest, error),
            }
        }
        Err(TransactionError::Stuck {
            generation: self.about.from,
            why,
        })
    }

    /// Whether systemd starts nothing any more, because the host goes down: what is still open then would
    /// only hold that up, and the next boot ends it.
    fn is_going_down(&self) -> bool {
        let standing = self.machine.standing();
        standing.is_ok_and(|standing| standing.course == Course::GoingDown)
    }

    /// The effects of taking back. The firewall and sshd come first: they may be what keeps the operator
    /// out, and what comes after them may take minutes. An sshd whose unit changed is restarted once more
    /// when systemd has read its units.
    fn way_back(&self) -> Vec<Effect> {
        let all = effects(&self.to, &self.from);
        let first = all.iter().filter(|effect| effect.opens_the_way_in());
        let then = all
            .iter()
            .filter(|effect| !effect.opens_the_way_in() || effect.restarts_sshd());
        first.chain(then).cloned().collect()
    }

    /// Links that the old generation lacks are made again: a journal whose COMMITTED was damaged on the
    /// disk takes back what had tidied up already.
    fn point_back(&mut self) -> Result<(), TransactionError> {
        let sides = (&self.to, &self.from);
        settle(self.machine, self.layout, sides)?;
        Ok(links::withdraw(self.machine, self.layout, sides)?)
    }

    /// Runs the effects and returns those that still do not hold, with the last reason. One that
    /// fails does not keep the others from running.
    fn run_back(&mut self, open: &[Effect]) -> Option<(Vec<Effect>, String)> {
        if self.since == Since::Booted {
            let sides = (&self.to, &self.from);
            let failed = carry_out_at_boot(self.machine, self.layout, sides).err();
            return failed.map(|error| (open.to_vec(), error.to_string()));
        }
        if !self.has_switched {
            return None;
        }
        let mut failed: Vec<(Effect, EffectError)> = Vec::new();
        for effect in open {
            self.tell(&Progress::Effect(effect.clone()));
            if let Err(error) = self.carry_back(effect) {
                failed.push((effect.clone(), error));
            }
        }
        let (last, error) = failed.last()?;
        let why = format!("could not {last}: {error}");
        let again = |effect: &&Effect| {
            failed
                .iter()
                .any(|(failed, _)| failed == *effect || feeds(failed, effect))
        };
        Some((open.iter().filter(again).cloned().collect(), why))
    }

    /// Runs one effect of the way back. A unit that did not run before keeps nobody waiting, and one beside
    /// push's own that ran does so again.
    fn carry_back(&mut self, effect: &Effect) -> Result<(), EffectError> {
        let done = carry_out(self.machine, self.layout, &self.from, effect);
        let Some(before) = &self.before else {
            return match effect.foreign() {
                Some(unit) => self.carry_back_beside(done, unit),
                None => done,
            };
        };
        let was_down = effect.starts().map(|unit| before.down.contains(unit));
        let ran = effect.foreign().map(|unit| before.beside.contains(unit));
        match (was_down, ran, effect.foreign()) {
            (_, Some(true), Some(unit)) => done.and_then(|()| revive(self.machine, unit)),
            (Some(true), _, _) | (_, Some(false), _) => {
                self.excuse(done, "it did not run before the switch, either");
                Ok(())
            }
            (Some(false) | None, _, _) => done,
        }
    }

    /// The same for a unit beside push's own of which nobody knows any more whether it ran. One that stays
    /// down in spite of all may have been down before.
    fn carry_back_beside(
        &mut self,
        done: Result<(), EffectError>,
        unit: &UnitName,
    ) -> Result<(), EffectError> {
        let tried = done.and_then(|()| revive(self.machine, unit));
        if !self.is_last_round {
            return tried;
        }
        let states = self.machine.units(&[unit.clone()].into());
        if tried.is_err() && states.is_ok_and(|states| states.iter().any(before::is_down)) {
            self.excuse(tried, "nobody knows whether it ran before the switch");
            return Ok(());
        }
        tried
    }

    fn excuse(&mut self, done: Result<(), EffectError>, why: &str) {
        if let Err(error) = done {
            self.machine.warn(&format!("{why}: {error}"));
        }
    }

    /// Removes what only the side that lost had. The transaction has ended; what cannot be removed
    /// now is harmless, and tried again at the next boot.
    fn tidy(&mut self, state: &State) {
        let (gone, kept) = if state.is_committed() {
            (&self.from, &self.to)
        } else {
            (&self.to, &self.from)
        };
        let tidied = tidy(self.machine, self.layout, (gone, kept)).and_then(|()| {
            if state.is_committed() && self.since == Since::SameBoot {
                prune::prune(self.machine, self.layout, &self.journal)?;
            }
            Ok(())
        });
        if let Err(error) = tidied {
            self.machine.warn(&format!(
                "what is not needed any more stays for now: {error}"
            ));
        }
    }
}

/// Whether `then` reads what `first` writes, so that it has to run again after it.
fn feeds(first: &Effect, then: &Effect) -> bool {
    matches!(first, Effect::OpenSecrets | Effect::DaemonReload) && first < then
        || first.loads_own_firewall() && matches!(then, Effect::LoadFirewall)
}
