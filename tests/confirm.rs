//! What decides whether a switch stays, on real hosts: the operator's return, the deadline, and who
//! carries the transaction on. Spoken frame by frame, so that what an honest laptop never says is said.
//!
//! | what happens | the test |
//! |---|---|
//! | a confirmation over the connection that ordered the switch, or a second channel of it | `a_confirmation_counts_only_with_its_nonce_and_over_another_connection` |
//! | a confirmation and the deadline at the same moment, from two processes | `a_confirmation_and_the_deadline_race_and_all_tell_what_the_journal_says` |
//! | another laptop would replace push-host during the switch | `push_host_is_replaced_only_while_nobody_is_at_it` |
//! | a transaction and its recovery are killed, and nobody boots the host | `a_transaction_that_nobody_carries_on_is_taken_back_by_whoever_comes_next` |

use std::collections::BTreeMap;
use std::io::Write as _;
use std::time::{Duration, Instant};

use push::rehearse::{Fleet, HostSpec, RehearsalHost};
use push_tests::hosts::say;
use push_tests::lab::{Lab, eventually};
use push_tests::speech::{self, PROGRAM, Session, refusal};
use push_tests::witness::{self, Fate, tag, whole};
use push_wire::digest::Digest;
use push_wire::journal::{Cause, State};
use push_wire::manifest::{File, OnChange, Provenance, Slice};
use push_wire::message::{Bytes, Refusal, Reply, Request, Stage};
use push_wire::name::{GenerationId, UserName};

/// How often the race is run, unless `PUSH_TEST_RACES` says otherwise.
const RACES: u32 = 30;

/// How long an operator has in a race, in milliseconds.
const RACE_MS: u64 = 400;

fn boot() -> Option<Fleet> {
    speech::boot(&[HostSpec::named("web1")])
}

/// A slice of one file with this text.
fn slice(base: u64, text: &str) -> Stage {
    let digest = Digest::of(text);
    let file = File {
        digest,
        owner: UserName::root(),
        group: UserName::root(),
        mode: 0o644,
        on_change: OnChange::Nothing,
    };
    let mut slice = Slice::default();
    slice.files.insert("/etc/variant".parse().unwrap(), file);
    Stage {
        project: "shop".parse().unwrap(),
        base: GenerationId(base),
        slice,
        texts: [(digest, Bytes(text.as_bytes().to_vec()))].into(),
        trees: BTreeMap::new(),
        needs: BTreeMap::new(),
        provenance: Provenance {
            operator: "mia".to_owned(),
            ..Provenance::default()
        },
        way_in: 22,
    }
}

fn staged(reply: Reply) -> GenerationId {
    match reply {
        Reply::Staged { generation, .. } => generation,
        other => panic!("not staged: {other:?}"),
    }
}

fn confirmation(name: &str, nonce: &str) -> Request {
    Request::Confirm {
        transaction: name.parse().unwrap(),
        nonce: nonce.to_owned(),
    }
}

fn variant(host: &RehearsalHost) -> String {
    host.run(&["cat", "/etc/variant"]).unwrap().stdout
}

fn last(host: &RehearsalHost) -> State {
    witness::last(&witness::journal(host)).unwrap().clone()
}

#[test]
fn a_confirmation_counts_only_with_its_nonce_and_over_another_connection() {
    let Some(fleet) = boot() else { return };
    let host = &fleet.hosts()[0];
    let sockets = tempfile::tempdir().unwrap();
    let control = sockets.path().join("c");
    let (mut first, _) = Session::open_shared(host, &control);
    let generation = staged(first.stage(&slice(0, "one"), &[]));
    first.order(generation, "t1", Some(30_000));
    first.until_trial();

    let why = |reply: Reply| format!("{:?}", refusal(reply));
    let own = "over the connection that ordered it";
    let found = why(first.ask(&confirmation("t1", "nonce")));
    assert!(found.contains(own), "{found}");
    let (mut channel, _) = Session::open_shared(host, &control);
    let found = why(channel.ask(&confirmation("t1", "nonce")));
    assert!(found.contains(own), "{found}");
    let (mut other, _) = Session::open(host);
    let found = why(other.ask(&confirmation("t1", "guess")));
    assert!(found.contains("nonce"), "{found}");
    assert!(
        matches!(last(host), State::Probation(_)),
        "{:?}",
        last(host)
    );

    other.say(&confirmation("t1", "nonce"));
    assert_eq!(other.verdict(), Some(State::Committed));
    assert_eq!(first.verdict(), Some(State::Committed));
    // Asked again, the answer is the same, whoever asks.
    for session in [&mut first, &mut channel, &mut other] {
        session.say(&confirmation("t1", "nonce"));
        assert_eq!(session.verdict(), Some(State::Committed));
    }
    assert_eq!(
        (last(host), variant(host)),
        (State::Committed, "one".to_owned())
    );
}

#[test]
fn a_confirmation_and_the_deadline_race_and_all_tell_what_the_journal_says() {
    let Some(fleet) = boot() else { return };
    let host = &fleet.hosts()[0];
    let races = std::env::var("PUSH_TEST_RACES").map_or(RACES, |races| races.parse().unwrap());
    let (mut watching, _) = Session::open(host);
    let mut rivals = [Session::open(host).0, Session::open(host).0];
    let (mut base, mut kept, mut text) = (0, 0, String::new());
    for race in 0..races {
        let (name, wanted) = (format!("race{race}"), format!("text {race}"));
        let generation = staged(watching.stage(&slice(base, &wanted), &[]));
        watching.order(generation, &name, Some(RACE_MS));
        watching.until_trial();
        let trial = Instant::now();
        // From well before the deadline to a little after it, nearest to it most often.
        let spread = i64::from(race % 15) - 10;
        let before_ms = RACE_MS.saturating_add_signed(spread * spread.abs());
        std::thread::scope(|scope| {
            for rival in &mut rivals {
                let name = &name;
                scope.spawn(move || {
                    let left = Duration::from_millis(before_ms).saturating_sub(trial.elapsed());
                    std::thread::sleep(left);
                    rival.say(&confirmation(name, "nonce"));
                });
            }
        });
        let told = [
            watching.verdict(),
            rivals[0].verdict(),
            rivals[1].verdict(),
            Some(last(host)),
        ];
        let ended = told[0].clone().unwrap();
        assert!(
            told.iter().all(|it| it.as_ref() == Some(&ended)),
            "{told:?}"
        );
        match ended {
            State::Committed => (base, text, kept) = (generation.0, wanted, kept + 1),
            State::TakenBack(Cause::Unconfirmed) => {}
            other => panic!("{other:?}"),
        }
        assert_eq!(variant(host), text, "race {race}");
    }
    say(&format!("{races} races: {kept} were confirmed in time"));
    assert!(0 < kept && kept < races, "{kept} of {races}");
}

#[test]
fn push_host_is_replaced_only_while_nobody_is_at_it() {
    let Some(fleet) = boot() else { return };
    let host = &fleet.hosts()[0];
    let mut program = speech::program();
    program.extend_from_slice(b"another build");
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&program).unwrap();
    let gzip = gzip.finish().unwrap();
    let upgrade = |session: &mut Session| {
        session.say(&Request::Upgrade {
            digest: Digest::of(&program),
            packed_bytes: gzip.len() as u64,
        });
        session.contents(&gzip);
        session.hear()
    };
    let is_replaced = || host.read(PROGRAM).unwrap() == program;

    let (mut first, _) = Session::open(host);
    let generation = staged(first.stage(&slice(0, "one"), &[]));
    let (mut later, hello) = Session::open(host);
    assert!(hello.running.is_some());
    assert!(
        matches!(refusal(upgrade(&mut later)), Refusal::Locked(holder) if holder.operator == "mia")
    );
    first.order(generation, "t1", Some(30_000));
    first.until_trial();
    assert!(
        matches!(refusal(upgrade(&mut later)), Refusal::Locked(holder) if holder.transaction.is_some())
    );
    assert!(!is_replaced());
    later.say(&confirmation("t1", "nonce"));
    assert_eq!(later.verdict(), Some(State::Committed));
    assert_eq!(first.verdict(), Some(State::Committed));
    // The transaction tidies up for a moment.
    let mut reply = upgrade(&mut later);
    let began = Instant::now();
    while matches!(&reply, Reply::Refused(_)) && began.elapsed() < Duration::from_secs(10) {
        reply = upgrade(&mut later);
    }
    let Reply::Hello(hello) = reply else {
        panic!("{reply:?}")
    };
    assert_eq!(hello.program.digest, Digest::of(&program));
    assert!(is_replaced());
}

#[test]
fn a_transaction_that_nobody_carries_on_is_taken_back_by_whoever_comes_next() {
    let Some(lab) = Lab::boot_plain(1) else {
        return;
    };
    let host = lab.host("web1");
    witness::environment(&lab, (1, Fate::Healthy), "");
    lab.push(&["prod", "--yes"]).exits(0);
    for (number, verb) in [(2, "status"), (3, "push")] {
        witness::environment(&lab, (number, Fate::Healthy), "");
        let file = lab.path("inventory/prod.toml");
        let text = std::fs::read_to_string(&file).unwrap();
        std::fs::write(&file, text.replace("passes   = 2", "passes   = 80")).unwrap();
        let running = lab.spawn(&["prod", "--yes"]);
        eventually("the trial", Duration::from_secs(60), || {
            matches!(last(host), State::Probation(_))
        });
        running.signal("KILL");
        running.end();
        // The recovery that follows a transaction cannot start, and is not tried again.
        host.succeed(&["chmod", "0", PROGRAM]).unwrap();
        let kill = [
            "systemctl",
            "kill",
            "--signal=KILL",
            "push-transaction.service",
        ];
        host.succeed(&kill).unwrap();
        let unit = ["systemctl", "is-active", "push-transaction.service"];
        eventually("the unit's end", Duration::from_secs(20), || {
            host.run(&unit).unwrap().stdout.trim() != "deactivating"
                && !host.run(&unit).unwrap().is_success()
        });
        host.succeed(&["chmod", "755", PROGRAM]).unwrap();
        assert!(
            matches!(last(host), State::Probation(_)),
            "{:?}",
            last(host)
        );
        let words = "was found cut short, and recovered";
        if verb == "status" {
            lab.push(&["status", "prod"])
                .exits(0)
                .says(words)
                .says("taken back");
            assert_eq!(whole(host), tag(1));
        } else {
            witness::environment(&lab, (number, Fate::Healthy), "");
            lab.push(&["prod", "--yes"]).exits(0).says(words);
            assert_eq!(whole(host), tag(number));
        }
    }
}
