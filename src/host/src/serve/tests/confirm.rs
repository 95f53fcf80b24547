//! Who is heard when a transaction is on trial, and what becomes of one that nobody carries on.

use push_wire::journal::{Cause, Probation};
use push_wire::message::Holder;

use super::*;
use crate::lock;
use crate::machine::{Clock, Disk};

/// A state of a trial that ends so many milliseconds from now.
fn trial(host: &Simulated, within_ms: u64) -> State {
    State::Probation(Probation {
        boot_id: host.boot_id().unwrap(),
        deadline_ms: Some(host.boottime_ms() + within_ms),
    })
}

/// Long enough for a session that first looks whether somebody carries the transaction on.
const LONG_MS: u64 = 60_000;

/// Comes in over a connection and confirms; returns what was refused.
fn confirm(host: &mut Simulated, over: Option<u32>, (name, nonce): (&str, &str)) -> String {
    let mut played = Played {
        connection: over.map(Connection::played),
        ..Played::default()
    };
    let request = Request::Confirm {
        transaction: name.parse().unwrap(),
        nonce: nonce.to_owned(),
    };
    let (replies, _) = converse_as(host, &mut played, said(&request));
    match replies.get(1) {
        Some(Reply::Refused(refusal)) => format!("{refusal:?}"),
        Some(_) | None => String::new(),
    }
}

fn is_confirmed(host: &Simulated) -> bool {
    let place = layout().transaction(&"t2".parse().unwrap());
    host.stat(&place.confirmed()).unwrap().is_some()
}

#[test]
fn only_the_operator_who_began_may_confirm() {
    let mut host = pushed();
    let state = trial(&host, LONG_MS);
    under_way(&mut host, state);
    assert!(confirm(&mut host, Some(2), ("t2", "guess")).contains("nonce"));
    assert!(confirm(&mut host, Some(2), ("t7", "nonce")).contains("knows no transaction t7"));
    assert!(!is_confirmed(&host));
    assert_eq!(confirm(&mut host, Some(2), ("t2", "nonce")), "");
    assert!(is_confirmed(&host));
}

#[test]
fn the_connection_that_ordered_a_switch_does_not_confirm_it() {
    let mut host = pushed();
    let state = trial(&host, LONG_MS);
    under_way(&mut host, state);
    let refused = confirm(&mut host, Some(1), ("t2", "nonce"));
    assert!(
        refused.contains("over the connection that ordered it"),
        "{refused}"
    );
    let refused = confirm(&mut host, None, ("t2", "nonce"));
    assert!(
        refused.contains("cannot tell one connection from another"),
        "{refused}"
    );
    assert!(!is_confirmed(&host));
}

#[test]
fn what_is_not_on_trial_yet_or_any_more_is_not_confirmed() {
    for state in [State::Prepared, State::Switching] {
        let mut host = pushed();
        under_way(&mut host, state);
        let refused = confirm(&mut host, Some(2), ("t2", "nonce"));
        assert!(refused.contains("not on trial yet"), "{refused}");
        assert!(!is_confirmed(&host));
    }
    let mut host = pushed();
    under_way(&mut host, State::TakingBack(Cause::Unconfirmed));
    assert_eq!(confirm(&mut host, Some(2), ("t2", "nonce")), "");
    assert!(!is_confirmed(&host));
}

#[test]
fn a_confirmation_after_the_deadline_or_after_a_boot_is_answered_by_the_verdict_alone() {
    let mut host = pushed();
    let state = trial(&host, 0);
    under_way(&mut host, state);
    assert_eq!(confirm(&mut host, Some(2), ("t2", "nonce")), "");
    assert!(!is_confirmed(&host));

    let mut host = pushed();
    let state = State::Probation(Probation {
        boot_id: "another".to_owned(),
        deadline_ms: Some(u64::MAX),
    });
    under_way(&mut host, state);
    assert_eq!(confirm(&mut host, Some(2), ("t2", "nonce")), "");
    assert!(!is_confirmed(&host));
}

#[test]
fn a_transaction_that_nobody_carries_on_is_recovered_before_the_first_word() {
    let mut host = pushed();
    under_way(&mut host, State::Switching);
    let mut played = Played::default();
    let (replies, _) = converse_as(&mut host, &mut played, vec![]);
    assert_eq!(played.recoveries, 1);
    let Reply::Hello(hello) = &replies[0] else {
        panic!("{replies:?}")
    };
    let recovered = hello.recovered.as_ref().unwrap();
    assert_eq!(
        (recovered.transaction.as_str(), &recovered.state),
        ("t2", &State::Switching)
    );
    assert!(hello.running.is_some());

    let mut played = Played::default();
    let (_, _) = converse_as(&mut pushed(), &mut played, vec![]);
    assert_eq!(played.recoveries, 0);
}

#[test]
fn whoever_only_tidies_up_after_what_has_ended_is_not_at_it_and_whoever_holds_the_lock_else_is() {
    for (transaction, is_at_it) in [(Some("t1"), false), (Some("t9"), true), (None, true)] {
        let mut host = pushed();
        let holder = Holder {
            operator: "anna".into(),
            since_unix_s: 0,
            step: "at something".into(),
            transaction: transaction.map(|name| name.parse().unwrap()),
            push: String::new(),
        };
        lock::take(&mut host, &layout(), &holder).unwrap();
        host.lock_is_held = true;
        let said = hello(&mut host).running;
        assert_eq!(said, is_at_it.then_some(holder), "{transaction:?}");
    }
}
