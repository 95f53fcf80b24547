//! What a push looks like, event by event, on each kind of stream.

use push_wire::effect::Effect;
use push_wire::journal::{Cause, Evidence, State, UnitState};
use push_wire::name::GenerationId;

use super::*;
use crate::event::{Confirm, Obstacle, ObstacleKind, Phase, exit_code};
use crate::report::Verbosity;

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
    let progress = Progress::new(report);
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
      help: `push logs prod -l web1 --unit api.service -n 200` shows more
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
        confirm_within_ms: None,
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
      the last it said of t1: switching; the host settles alone: it commits once its apps are healthy, and takes itself back if they are not within their `timeout`
      help: `push status prod -l web1` asks it again
      help: `push logs prod -l web1 --push` shows what it is doing
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

    web1  ✗ unreachable, nothing was changed  4.2 s
    web2  = nothing to do, at generation 11   4.2 s
    1 host unchanged, 1 host not touched in 1 min 5 s, 11 MiB sent, 78 KiB received (a host is unreachable, exit 4)
    "#);
}

fn interrupted_after(events: Vec<Event>) -> String {
    let before = heard(Motion::Plain, events.clone()).1;
    let after = [events, vec![Event::Push(Milestone::Interrupted)]].concat();
    let (_, err) = heard(Motion::Plain, after);
    err[before.len()..].to_owned()
}

#[test]
fn what_ctrl_c_means_is_told_by_how_far_the_hosts_are() {
    let committed = Outcome::Committed { from: OLD, to: NEW };
    let switching = switched("web1").drain(..1).collect::<Vec<_>>();
    let restoring = vec![
        finished("web1", committed.clone()),
        on("web1", Step::Restoring { to: OLD }),
    ];
    let plan = Event::Push(Milestone::Started {
        verb: Verb::Plan,
        environment: "prod".parse().unwrap(),
        project: "shop".parse().unwrap(),
        hosts: vec![host("web1")],
    });
    let said = [
        interrupted_after(vec![plan]),
        interrupted_after([vec![started(&["web1"])], staged("web1")].concat()),
        interrupted_after(switching.clone()),
        interrupted_after([switching.clone(), vec![finished("web1", committed)]].concat()),
        interrupted_after([switching.clone(), restoring, switching].concat()),
    ];
    insta::assert_snapshot!(said.concat(), @r#"
    interrupted: stopping; a plan changes nothing
    interrupted: stopping; no host has been switched, so nothing is changed
    interrupted: asked to take back what has been switched: web1
      waiting for their answers, at most 3 min 0 s; Ctrl-C again leaves them to themselves
    interrupted: no further host is switched; what is committed stays
    interrupted: asked to stay at their new generation instead of going back: web1
      waiting for their answers, at most 3 min 0 s; Ctrl-C again leaves them to themselves
    "#);
}

#[test]
fn whoever_is_left_alone_is_named_with_what_it_does() {
    let left = |alone| {
        heard(
            Motion::Plain,
            vec![started(&[]), Event::Push(Milestone::Left { alone })],
        )
        .1
    };
    insta::assert_snapshot!(left(vec![]) + &left(vec![host("web1"), host("web2")]), @r#"
    left: no host was switching
    left: web1, web2 settle alone. They were asked to take back; one that has not heard of it commits if it is healthy and nobody has to come in again, and else takes itself back
      help: `push status prod` asks what became of them
    "#);
}

#[test]
fn a_lost_connection_is_told_by_what_it_means_for_its_host() {
    let lost = |during| {
        let why = "web1 closed the connection".to_owned();
        let attempt = 1;
        on(
            "web1",
            Step::Reconnecting {
                during,
                attempt,
                why,
            },
        )
    };
    let (_, err) = heard(
        Motion::Plain,
        vec![lost(Phase::Staging), lost(Phase::Switching)],
    );
    insta::assert_snapshot!(err, @r#"
    web1: connection lost while staging, nothing is switched there; calling it again (1): web1 closed the connection
    web1: connection lost, the host goes on alone; calling it again (1): web1 closed the connection
    "#);
}

#[test]
fn a_host_in_doubt_says_what_it_will_do_by_when() {
    let accounts = [
        (None, Some(60_000)),
        (None, None),
        (Some(State::TakingBack(Cause::Asked)), Some(60_000)),
    ]
    .map(|(last, confirm_within_ms)| {
        let outcome = Outcome::InDoubt {
            transaction: "t1".parse().unwrap(),
            last,
            why: "the operator left before the host had ended".into(),
            confirm_within_ms,
        };
        heard(
            Motion::Plain,
            vec![started(&["web1"]), finished("web1", outcome)],
        )
        .1
    });
    insta::assert_snapshot!(accounts.concat(), @r#"
    ✗ web1: in doubt: the operator left before the host had ended
      it never said anything of t1, and may not have heard of it; the host settles alone: unless push came in again within 1 min 0 s of the switch, it takes itself back then
      help: `push status prod -l web1` asks it again
      help: `push logs prod -l web1 --push` shows what it is doing
    ✗ web1: in doubt: the operator left before the host had ended
      it never said anything of t1, and may not have heard of it; the host settles alone: it commits once its apps are healthy, and takes itself back if they are not within their `timeout`
      help: `push status prod -l web1` asks it again
      help: `push logs prod -l web1 --push` shows what it is doing
    ✗ web1: in doubt: the operator left before the host had ended
      the last it said of t1: taking back: the operator asked for it; the host goes on alone: it is taking itself back
      help: `push status prod -l web1` asks it again
      help: `push logs prod -l web1 --push` shows what it is doing
    "#);
}

#[test]
fn with_more_told_every_step_is_a_line_with_its_time() {
    let (report, _, err) = Report::for_test(Form::Text, Motion::Plain);
    let report = report.telling(Verbosity::Info);
    let progress = Progress::new(report);
    for event in a_push_that_fails_on_one_host() {
        progress.hear(event);
    }
    let err = err.plain();
    for words in [
        "web1: connecting",
        "web2: told to switch to generation 12, transaction t1",
    ] {
        let line = err.lines().find(|line| line.ends_with(words));
        let time = line
            .unwrap_or_else(|| panic!("{words}: {err}"))
            .trim()
            .split(' ')
            .next();
        assert!(time.unwrap().parse::<f64>().is_ok(), "{line:?}");
    }
    assert_eq!(err.matches("web2: came in again").count(), 1, "{err}");
}
