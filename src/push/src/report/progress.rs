//! A push as it goes on: hears events, and shows each in the form that fits the stream. One live line
//! a host on a terminal, one line a thing that happened elsewhere, one line of JSON for a program.
//!
//! Knows what events say and nothing of how they come about.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use super::board::Board;
use super::screen::{Form, Motion, Report};
use super::style::{BAD, CHANGED, QUIET, TITLE, paint};
use super::table::Table;
use super::{foreign, measure, outcome, step};
use crate::event::{Counts, Event, ExitCode, Line, Listener, Milestone, Outcome, Step, Stop, Verb};
use crate::name::HostName;

/// What is said at the first Ctrl-C.
const INTERRUPTED: &str = "interrupted: hosts that are switching are asked to take back, and are waited for; \
    Ctrl-C again leaves them to themselves\n";

/// How many names a line lists before it counts.
const NAMES_MAX: usize = 8;

/// Shows a push to whoever is there.
#[derive(Debug)]
pub struct Progress {
    report: Report,
    began: Instant,
    /// How to ssh to each host, for the commands that look further.
    doors: BTreeMap<HostName, String>,
    seen: Mutex<Seen>,
}

#[derive(Debug)]
struct Seen {
    board: Board,
    environment: String,
    told: Told,
    outcomes: BTreeMap<HostName, (Outcome, u64)>,
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
    /// Shows through `report`. `doors` says how to ssh to each host: `deploy@192.0.2.7`.
    pub fn new(report: Report, doors: BTreeMap<HostName, String>) -> Self {
        let board = Board::new(report.live().clone());
        Self {
            report,
            began: Instant::now(),
            doors,
            seen: Mutex::new(Seen {
                board,
                environment: String::new(),
                told: Told::Everything,
                outcomes: BTreeMap::new(),
            }),
        }
    }

    fn at_ms(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn on_host(&self, seen: &mut Seen, host: &HostName, step: &Step) {
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
        match self.report.motion() {
            Motion::Live => seen.board.show(host, &step::doing(step)),
            Motion::Plain if step::is_news(step) => {
                self.report
                    .say(&format!("{}: {}\n", paint(TITLE, host), step::doing(step)));
            }
            Motion::Plain | Motion::Silent => {}
        }
    }

    fn finished(&self, seen: &Seen, host: &HostName, (outcome, took_ms): (&Outcome, u64)) {
        let at = format!("{} -l {host}", seen.environment);
        let door = self.doors.get(host).map_or(host.as_str(), String::as_str);
        match outcome::account(host, outcome, &at, door) {
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
                hosts,
                ..
            } => {
                seen.environment = environment.to_string();
                seen.board.expect(hosts.len());
                if *verb == Verb::Plan {
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
            Milestone::Interrupted => self.report.warn(INTERRUPTED),
            Milestone::Left { alone } => self.report.warn(&left(alone, &seen.environment)),
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
            self.report.json(&Line::new(&event, self.at_ms()));
            return;
        }
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        match &event {
            Event::Push(milestone) => self.on_push(&mut seen, milestone),
            Event::Host { host, step } => self.on_host(&mut seen, host, step),
        }
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

fn left(alone: &[HostName], environment: &str) -> String {
    match alone {
        [] => "left: no host was switching\n".to_owned(),
        hosts => format!(
            "left: {} go on alone; each commits when it is healthy and confirmed, and takes itself back if not\n  \
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
mod tests {
    use push_wire::effect::Effect;
    use push_wire::journal::{Cause, Evidence, State, UnitState};
    use push_wire::name::GenerationId;

    use super::*;
    use crate::event::{Confirm, Obstacle, ObstacleKind, exit_code};

    const OLD: GenerationId = GenerationId(11);
    const NEW: GenerationId = GenerationId(12);

    fn host(name: &str) -> HostName {
        name.parse().unwrap()
    }

    fn on(name: &str, step: Step) -> Event {
        Event::on(&host(name), step)
    }

    fn finished(name: &str, outcome: Outcome) -> Event {
        on(
            name,
            Step::Finished {
                outcome,
                took_ms: 4200,
            },
        )
    }

    fn started(hosts: &[&str]) -> Event {
        Event::Push(Milestone::Started {
            verb: Verb::Deploy,
            environment: "prod".parse().unwrap(),
            project: "shop".parse().unwrap(),
            hosts: hosts.iter().map(|name| host(name)).collect(),
        })
    }

    fn ended(outcomes: &[Outcome]) -> Event {
        Event::Push(Milestone::Ended {
            exit: exit_code(outcomes),
            counts: Counts::of(outcomes),
            took_ms: 65_300,
            sent: 12_400_000,
            received: 80_000,
        })
    }

    fn taken_back() -> Outcome {
        Outcome::TakenBack {
            back_at: OLD,
            cause: Cause::Unhealthy {
                app: "api".into(),
                why: "503 from http://127.0.0.1:8080/health\x1b[2J".into(),
            },
            evidence: Some(Box::new(Evidence {
                subject: "api".into(),
                units: vec![UnitState {
                    unit: "api.service".into(),
                    active: "active".into(),
                    sub: "running".into(),
                    restarts: 2,
                    ..UnitState::default()
                }],
                journal: vec!["cannot reach the database".into()],
                answer: Some("503 {\"status\":\"starting\"}".into()),
                ..Evidence::default()
            })),
        }
    }

    fn heard(motion: Motion, events: Vec<Event>) -> (String, String) {
        let form = if motion == Motion::Silent {
            Form::Json
        } else {
            Form::Text
        };
        let (report, out, err) = Report::for_test(form, motion);
        let progress = Progress::new(
            report,
            BTreeMap::from([(host("web1"), "deploy@192.0.2.7".into())]),
        );
        for event in events {
            progress.hear(event);
        }
        (out.plain(), err.plain())
    }

    fn staged(name: &str) -> Vec<Event> {
        let (generation, warnings) = (NEW, vec!["api.service: \x1b]0;x\x07".into()]);
        vec![
            on(name, Step::Connecting),
            on(
                name,
                Step::Staging {
                    bytes: 12_000_000,
                    held: 0,
                },
            ),
            on(
                name,
                Step::Sent {
                    sent: 6_000_000,
                    bytes: 12_000_000,
                },
            ),
            on(
                name,
                Step::Checked {
                    generation,
                    warnings,
                },
            ),
        ]
    }

    fn switched(name: &str) -> Vec<Event> {
        let transaction = "t1".parse().unwrap();
        let (app, answer) = ("api".to_owned(), None);
        vec![
            on(
                name,
                Step::Switching {
                    generation: NEW,
                    transaction,
                },
            ),
            on(
                name,
                Step::Running {
                    effect: Effect::DaemonReload,
                },
            ),
            on(
                name,
                Step::Probation {
                    confirm: Confirm::Needed,
                },
            ),
            on(
                name,
                Step::Health {
                    app,
                    passed: 3,
                    wanted: 3,
                    answer,
                },
            ),
            on(name, Step::Confirmed),
        ]
    }

    fn wave(number: usize, hosts: &[&str]) -> Event {
        let hosts = hosts.iter().map(|name| host(name)).collect();
        Event::Push(Milestone::Wave {
            number,
            of: 2,
            hosts,
        })
    }

    /// Two waves: web2 is committed, then web1 fails.
    fn a_push_that_fails_on_one_host() -> Vec<Event> {
        let outcomes = [taken_back(), Outcome::Committed { from: OLD, to: NEW }];
        let waves = vec![vec![host("web2")], vec![host("web1")]];
        [
            vec![started(&["web1", "web2"])],
            staged("web1"),
            vec![Event::Push(Milestone::Staged { waves }), wave(1, &["web2"])],
            switched("web2"),
            vec![finished("web2", outcomes[1].clone()), wave(2, &["web1"])],
            vec![finished("web1", outcomes[0].clone()), ended(&outcomes)],
        ]
        .concat()
    }

    #[test]
    fn without_a_terminal_every_thing_that_happened_is_a_line_and_the_cause_comes_first() {
        let (out, err) = heard(Motion::Plain, a_push_that_fails_on_one_host());
        assert_eq!(out, "", "stdout carries the answer, and progress is none");
        assert!(!err.chars().any(|c| c.is_control() && c != '\n'));
        insta::assert_snapshot!(err, @r#"
        web1: sending 11 MiB
        web1: warning: api.service: \x1b]0;x\x07
        web1: staged generation 12, nothing is live yet
        staged on 2 hosts; nothing is live yet
        wave 1 of 2: web2
        web2: switching to generation 12
        web2: reload systemd's units
        web2: on trial: stays only if a new connection gets in
        web2: api is healthy (3 of 3)
        web2: came in again
        web2: ✓ committed: generation 12, was 11, 4.2 s
        wave 2 of 2: web1
        ✗ web1: taken back: api did not become healthy: 503 from http://127.0.0.1:8080/health\x1b[2J
          generation 11 is in effect again
            units      api.service active (running), 2 restarts
            answer     503 {"status":"starting"}
            journal    cannot reach the database
          help: `ssh deploy@192.0.2.7 journalctl --unit=api.service --lines=200` shows more of its journal
          help: `push history prod -l web1` shows what happened there

        web1  ✗ taken back: generation 11 is in effect  4.2 s
        web2  ✓ committed: generation 12, was 11        4.2 s
        1 host committed, 1 host taken back in 1 min 5 s, 11 MiB sent, 78 KiB received (failed and taken back, exit 5)
        "#);
    }

    #[test]
    fn a_terminal_shows_the_same_failures_and_the_same_end() {
        let (_, err) = heard(Motion::Live, a_push_that_fails_on_one_host());
        assert!(
            err.contains("✗ web1: taken back: api did not become healthy: 503"),
            "{err}"
        );
        assert!(err.ends_with("(failed and taken back, exit 5)\n"), "{err}");
        assert!(
            !err.contains("web1: sending"),
            "live lines are not kept: {err}"
        );
    }

    #[test]
    fn a_program_gets_every_event_as_a_line_of_json_and_nothing_else() {
        let events = a_push_that_fails_on_one_host();
        let count = events.len();
        let (out, err) = heard(Motion::Silent, events);
        assert_eq!(err, "");
        assert_eq!(out.lines().count(), count);
        for line in out.lines() {
            let value: serde_json::Value = serde_json::from_str(line).unwrap();
            assert!(value["type"].is_string(), "{line}");
        }
    }

    #[test]
    fn nothing_to_do_is_one_line() {
        let outcomes = [
            Outcome::Unchanged { generation: OLD },
            Outcome::Unchanged { generation: OLD },
        ];
        let unchanged = vec![host("web1"), host("web2")];
        let planned = Milestone::Planned {
            changing: vec![],
            unchanged,
        };
        let (_, err) = heard(
            Motion::Plain,
            vec![
                started(&["web1", "web2"]),
                Event::Push(planned),
                finished("web1", outcomes[0].clone()),
                finished("web2", outcomes[1].clone()),
                ended(&outcomes),
            ],
        );
        assert_eq!(
            err,
            "prod: nothing to do, 2 hosts unchanged, 1 min 5 s, 11 MiB sent, 78 KiB received\n"
        );
    }

    #[test]
    fn a_host_in_doubt_says_so_and_how_to_ask_again() {
        let outcome = Outcome::InDoubt {
            transaction: "t1".parse().unwrap(),
            last: Some(State::Switching),
            why: "the connection was lost and could not be made again".into(),
        };
        let (_, err) = heard(
            Motion::Plain,
            vec![
                started(&["web1"]),
                finished("web1", outcome.clone()),
                ended(&[outcome]),
            ],
        );
        insta::assert_snapshot!(err, @r#"
        ✗ web1: in doubt: the connection was lost and could not be made again
          the last it said of t1: switching
          help: the host settles alone; `push status prod -l web1` asks it again
          help: `ssh deploy@192.0.2.7 journalctl --unit=push-transaction` shows what it is doing
        1 host in doubt in 1 min 5 s, 11 MiB sent, 78 KiB received (failed and not restored, or in doubt, exit 6)
        "#);
    }

    #[test]
    fn an_unreachable_host_does_not_hide_the_others() {
        let obstacle = Obstacle {
            kind: ObstacleKind::Reach,
            code: "push::transport::unreachable".into(),
            why: "web1 cannot be reached at 192.0.2.7:22: timed out".into(),
            help: "try `ssh deploy@192.0.2.7`".into(),
        };
        let outcomes = [
            Outcome::Unreachable { obstacle },
            Outcome::Unchanged { generation: OLD },
        ];
        let (_, err) = heard(
            Motion::Plain,
            vec![
                started(&["web1", "web2"]),
                finished("web1", outcomes[0].clone()),
                finished("web2", outcomes[1].clone()),
                ended(&outcomes),
            ],
        );
        insta::assert_snapshot!(err, @r#"
        ✗ web1: unreachable: web1 cannot be reached at 192.0.2.7:22: timed out
          help: try `ssh deploy@192.0.2.7`
        web2: = nothing to do, at generation 11, 4.2 s

        web1  ✗ unreachable                      4.2 s
        web2  = nothing to do, at generation 11  4.2 s
        1 host unchanged, 1 host not touched in 1 min 5 s, 11 MiB sent, 78 KiB received (a host is unreachable, exit 4)
        "#);
    }
}
