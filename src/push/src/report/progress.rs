//! A push as it goes on: hears events, and shows each in the form that fits the stream. One live line
//! a host on a terminal, one line a thing that happened elsewhere, one line of JSON for a program.
//!
//! Knows what events say and nothing of how they come about.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use super::board::Board;
use super::echo::Hushed;
use super::screen::{Form, Motion, Report};
use super::style::{BAD, CHANGED, QUIET, TITLE, paint};
use super::table::Table;
use super::{foreign, measure, outcome, step};
use crate::event::{Counts, Event, ExitCode, Line, Listener, Milestone, Outcome, Step, Stop, Verb};
use crate::name::HostName;
use crate::rollout::VERDICT_AFTER_INTERRUPT_MAX;

/// How many names a line lists before it counts.
const NAMES_MAX: usize = 8;

/// Shows a push to whoever is there.
#[derive(Debug)]
pub struct Progress {
    report: Report,
    /// As long as lines may move in place.
    _hushed: Option<Hushed>,
    seen: Mutex<Seen>,
}

#[derive(Debug)]
struct Seen {
    board: Board,
    environment: String,
    project: String,
    verb: Option<Verb>,
    told: Told,
    /// The hosts that have been told to switch and have not ended.
    switching: BTreeMap<HostName, Direction>,
    outcomes: BTreeMap<HostName, (Outcome, u64)>,
}

/// Where a host that switches goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Direction {
    /// To what this push wants.
    Forward,
    /// Back to what it was before this push, because others failed.
    Back,
    /// To newer packages, and never back.
    Ahead,
}

/// How much of an end is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Told {
    /// Each host's, and the total.
    Everything,
    /// Failures only: the plan that follows says the rest.
    Plan,
    /// Failures, and one line for all others: nothing is to be done anywhere.
    Idle,
}

impl Progress {
    /// Shows through `report`.
    pub fn new(report: Report) -> Self {
        let board = Board::new(report.live().clone());
        let hushed = match report.motion() {
            Motion::Live => Hushed::terminal(),
            Motion::Plain | Motion::Silent => None,
        };
        Self {
            report,
            _hushed: hushed,
            seen: Mutex::new(Seen {
                board,
                project: String::new(),
                environment: String::new(),
                verb: None,
                told: Told::Everything,
                switching: BTreeMap::new(),
                outcomes: BTreeMap::new(),
            }),
        }
    }

    fn on_host(&self, seen: &mut Seen, host: &HostName, step: &Step) {
        seen.note(host, step);
        if let Some(words) = step::detail(step) {
            self.report.detail(&format!("{host}: {words}"));
        }
        if let Step::Finished { outcome, took_ms } = step {
            seen.board.release(host);
            self.finished(seen, host, (outcome, *took_ms));
            seen.outcomes
                .insert(host.clone(), (outcome.clone(), *took_ms));
            return;
        }
        for warning in warnings(step) {
            self.report.say(&format!(
                "{}: {} {warning}\n",
                paint(TITLE, host),
                paint(CHANGED, "warning:")
            ));
        }
        if let Step::Drifted { drift } = step {
            let at = (seen.environment.as_str(), host.as_str());
            let what = paint(CHANGED, "not as it was pushed");
            let (lines, cure) = (
                super::drift::lines(drift),
                super::drift::cure(drift, &seen.project, at),
            );
            let told = format!("{}: {what}\n{lines}{cure}", paint(TITLE, host));
            self.report.say(&told);
        }
        match self.report.motion() {
            Motion::Live => seen.board.show(host, &step::doing(step)),
            // Then every step is a line already, with its time.
            Motion::Plain if self.report.tells_details() => {}
            Motion::Plain if step::is_news(step) => {
                self.report
                    .say(&format!("{}: {}\n", paint(TITLE, host), step::doing(step)));
            }
            Motion::Plain | Motion::Silent => {}
        }
    }

    fn finished(&self, seen: &Seen, host: &HostName, (outcome, took_ms): (&Outcome, u64)) {
        let at = format!("{} -l {host}", seen.environment);
        match outcome::account(host, outcome, &at) {
            // Even `--quiet` is told of a failure.
            Some(account) => self.report.warn(&account),
            // Whatever stopped the push has been told, and the table at the end names the others.
            None if matches!(outcome, Outcome::Skipped { .. }) => {}
            None if seen.told == Told::Everything => {
                let words = step::finished(outcome, took_ms);
                self.line(&format!("{}: {words}", paint(TITLE, host)));
            }
            None => {}
        }
    }

    fn on_push(&self, seen: &mut Seen, milestone: &Milestone) {
        match milestone {
            Milestone::Started {
                verb,
                environment,
                project,
                hosts,
            } => {
                seen.environment = environment.to_string();
                seen.project = project.to_string();
                seen.board.expect(hosts.len());
                seen.verb = Some(*verb);
                if matches!(verb, Verb::Plan | Verb::Offer) {
                    seen.told = Told::Plan;
                }
            }
            Milestone::Planned {
                changing,
                unchanged,
            } => {
                if seen.told == Told::Everything && changing.is_empty() && !unchanged.is_empty() {
                    seen.told = Told::Idle;
                }
            }
            Milestone::Staged { waves } => {
                let hosts = waves.iter().map(Vec::len).sum();
                self.line(&format!(
                    "staged on {}; nothing is live yet",
                    measure::count(hosts, "host")
                ));
            }
            Milestone::Wave { number, of, hosts } if *of > 1 => {
                self.line(&format!("wave {number} of {of}: {}", names(hosts)));
            }
            // The plan itself has been shown by then, and a single wave is the push itself.
            Milestone::Agreed | Milestone::Wave { .. } => {}
            Milestone::Stopped { why } => {
                self.report
                    .warn(&format!("{} {}\n", paint(BAD, "stopped:"), stopped(why)));
            }
            Milestone::Undoing { hosts } => {
                self.line(&format!(
                    "bringing back {}, because others failed",
                    names(hosts)
                ));
            }
            Milestone::Interrupted => self.report.warn(&interrupted(seen)),
            Milestone::Left { alone } => self.report.warn(&left(alone, seen)),
            Milestone::Ended {
                exit,
                counts,
                took_ms,
                sent,
                received,
            } => {
                seen.board.clear();
                let traffic = format!(
                    "{} sent, {} received",
                    measure::bytes(*sent),
                    measure::bytes(*received)
                );
                let beside = format!("{}, {traffic}", milliseconds(*took_ms));
                self.ended(seen, *exit, (counts, &beside));
            }
        }
    }

    fn ended(&self, seen: &Seen, exit: ExitCode, (counts, beside): (&Counts, &str)) {
        if seen.told == Told::Plan {
            return;
        }
        if seen.told == Told::Idle && counts.unchanged == seen.outcomes.len() {
            let hosts = measure::count(counts.unchanged, "host");
            self.line(&format!(
                "{}: nothing to do, {hosts} unchanged, {beside}",
                seen.environment
            ));
            return;
        }
        if seen.outcomes.len() > 1 {
            self.report.say(&table(&seen.outcomes));
        }
        self.report.say(&total(exit, counts, beside));
    }

    fn line(&self, words: &str) {
        self.report.say(&format!("{words}\n"));
    }
}

impl Listener for Progress {
    fn hear(&self, event: Event) {
        if self.report.form() == Form::Json {
            self.report
                .json(&Line::new(&event, self.report.elapsed_ms()));
            return;
        }
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        match &event {
            Event::Push(milestone) => self.on_push(&mut seen, milestone),
            Event::Host { host, step } => self.on_host(&mut seen, host, step),
        }
    }
}

impl Seen {
    fn note(&mut self, host: &HostName, step: &Step) {
        if let Step::Restoring { .. } = step {
            self.switching.insert(host.clone(), Direction::Back);
        } else if let Step::SystemUpgrade { .. } = step {
            self.switching.insert(host.clone(), Direction::Ahead);
        } else if let Step::Switching { .. } = step {
            let going = self.switching.entry(host.clone());
            going.or_insert(Direction::Forward);
        } else if let Step::Finished { .. } = step {
            self.switching.remove(host);
        }
    }

    fn going(&self, to: Direction) -> Vec<HostName> {
        let going = self.switching.iter().filter(|(_, going)| **going == to);
        going.map(|(host, _)| host.clone()).collect()
    }
}

/// What is said at the first Ctrl-C: what it means depends on how far the hosts are.
fn interrupted(seen: &Seen) -> String {
    let (forward, back) = (seen.going(Direction::Forward), seen.going(Direction::Back));
    let mut said = Vec::new();
    if !forward.is_empty() {
        said.push(format!(
            "asked to take back what has been switched: {}",
            names(&forward)
        ));
    }
    if !back.is_empty() {
        said.push(format!(
            "asked to stay at their new generation instead of going back: {}",
            names(&back)
        ));
    }
    let ahead = seen.going(Direction::Ahead);
    if !ahead.is_empty() {
        return format!(
            "interrupted: no further host is begun with; {} cannot be stopped in the midst of its packages\n  \
             waiting for them to end; Ctrl-C again leaves them to themselves\n",
            names(&ahead)
        );
    }
    if !said.is_empty() {
        return format!(
            "interrupted: {}\n  waiting for their answers, at most {}; Ctrl-C again leaves them to themselves\n",
            said.join("; "),
            measure::took(VERDICT_AFTER_INTERRUPT_MAX)
        );
    }
    let is_committed = |(outcome, _): &(Outcome, u64)| matches!(outcome, Outcome::Committed { .. });
    if matches!(seen.verb, Some(Verb::Upgrade | Verb::Offer)) {
        "interrupted: stopping; no further host is upgraded\n".to_owned()
    } else if seen.told == Told::Plan {
        "interrupted: stopping; a plan changes nothing\n".to_owned()
    } else if seen.outcomes.values().any(is_committed) {
        "interrupted: no further host is switched; what is committed stays\n".to_owned()
    } else {
        "interrupted: stopping; no host has been switched, so nothing is changed\n".to_owned()
    }
}

fn warnings(step: &Step) -> Vec<String> {
    match step {
        Step::Checked { warnings, .. } => foreign::last(warnings.iter().map(String::as_str)),
        _ => Vec::new(),
    }
}

fn stopped(why: &Stop) -> String {
    match why {
        Stop::Failures { hosts, max: 0 } => {
            format!("{} failed, and none may (`max_failures`)", names(hosts))
        }
        Stop::Failures { hosts, max } => format!(
            "{} failed, and at most {max} may (`max_failures`)",
            names(hosts)
        ),
        Stop::Refused { hosts } => {
            format!("{} cannot take it, so no host is switched", names(hosts))
        }
        Stop::Declined { why } => foreign::line(why),
        Stop::Interrupted => "the operator asked to".to_owned(),
    }
}

fn left(alone: &[HostName], seen: &Seen) -> String {
    let environment = &seen.environment;
    match alone {
        hosts if !hosts.is_empty() && seen.verb == Some(Verb::Upgrade) => format!(
            "left: {} go on with their upgrade alone\n  {} `push status {environment}` tells how it ended\n",
            names(hosts),
            paint(super::style::HELP, "help:"),
        ),
        [] => "left: no host was switching\n".to_owned(),
        hosts => format!(
            "left: {} settle alone. They were asked to take back; one that has not heard of it commits if \
             it is healthy and nobody has to come in again, and else takes itself back\n  \
             {} `push status {environment}` asks what became of them\n",
            names(hosts),
            paint(super::style::HELP, "help:"),
        ),
    }
}

fn names(hosts: &[HostName]) -> String {
    let shown: Vec<&str> = hosts.iter().take(NAMES_MAX).map(HostName::as_str).collect();
    match hosts.len().saturating_sub(NAMES_MAX) {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

/// Every host with how it ended.
fn table(outcomes: &BTreeMap<HostName, (Outcome, u64)>) -> String {
    let mut table = Table::new();
    for (host, (outcome, took_ms)) in outcomes {
        table.row([
            paint(TITLE, host),
            outcome::verdict(outcome),
            paint(QUIET, milliseconds(*took_ms)),
        ]);
    }
    format!("\n{}\n", table.render("").trim_end())
}

/// The last line of all.
fn total(exit: ExitCode, counts: &Counts, beside: &str) -> String {
    let parts = [
        (counts.committed, "committed"),
        (counts.unchanged, "unchanged"),
        (counts.restored, "taken back"),
        (counts.untouched, "not touched"),
        (counts.upgraded, "upgraded"),
        (counts.broken, "not well, and not taken back"),
        (counts.in_doubt, "in doubt"),
    ];
    let said: Vec<String> = parts
        .into_iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, words)| format!("{} {words}", measure::count(count, "host")))
        .collect();
    let ending = match exit {
        ExitCode::Done | ExitCode::Pending => String::new(),
        other => format!(" ({}, exit {})", other.meaning(), other.number()),
    };
    format!("{} in {beside}{ending}\n", said.join(", "))
}

fn milliseconds(ms: u64) -> String {
    measure::took(std::time::Duration::from_millis(ms))
}

#[cfg(test)]
mod tests;
