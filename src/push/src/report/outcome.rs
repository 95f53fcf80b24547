//! What became of a host, in words: one line for a table, and the whole account of a failure.
//! A new kind of [`Outcome`] does not compile until its words exist here.

use push_wire::journal::{Evidence, State};
use push_wire::message::Refusal;
use push_wire::name::{GenerationId, TransactionId};
use push_wire::upgrade::Stage;

use super::failure::{self, Failure};
use super::style::{BAD, CHANGED, GOOD, QUIET, paint};
use super::{foreign, measure, refusal};
use crate::event::{Obstacle, Outcome, Rebooted, Restoration, Skip, Stop};
use crate::name::HostName;

/// How a host ended, as a mark and a few words without any cause: for tables.
pub fn verdict(outcome: &Outcome) -> String {
    let (mark, style, words) = match outcome {
        Outcome::Unchanged { generation } => (
            "=",
            QUIET,
            format!("nothing to do, at generation {generation}"),
        ),
        Outcome::Pending { generation } => (
            "~",
            CHANGED,
            format!("changes pending, at generation {generation}"),
        ),
        Outcome::Committed { from, to } if from.is_none() => {
            ("✓", GOOD, format!("committed: generation {to}, its first"))
        }
        Outcome::Committed { from, to } => {
            ("✓", GOOD, format!("committed: generation {to}, was {from}"))
        }
        Outcome::Upgraded {
            packages,
            restarted,
            rebooted,
            reboot,
        } => (
            "✓",
            GOOD,
            upgraded((*packages, *restarted), *rebooted, reboot),
        ),
        Outcome::NotUpgraded { .. } => (
            "✗",
            BAD,
            "not well after its upgrade, which stays".to_owned(),
        ),
        Outcome::UpgradeInDoubt { .. } => (
            "?",
            BAD,
            "in doubt: it goes on with its upgrade alone".to_owned(),
        ),
        Outcome::Unreachable { .. } => ("✗", BAD, "unreachable, nothing was changed".to_owned()),
        Outcome::Failed { .. } => ("✗", BAD, "failed, nothing was changed".to_owned()),
        Outcome::Refused { refusal } => ("✗", BAD, refused_with(refusal).to_owned()),
        Outcome::Locked { .. } => ("✗", BAD, "locked, nothing was changed".to_owned()),
        Outcome::TakenBack { back_at, .. } if back_at.is_none() => {
            ("✗", BAD, "taken back: nothing is pushed there".to_owned())
        }
        Outcome::TakenBack { back_at, .. } => (
            "✗",
            BAD,
            format!("taken back: generation {back_at} is in effect"),
        ),
        Outcome::Restored { content_of, now_at } => (
            "↶",
            CHANGED,
            format!("brought back: generation {now_at} is what {content_of} was"),
        ),
        Outcome::NotRestored { committed, .. } => (
            "!",
            BAD,
            format!("not brought back: still at generation {committed}"),
        ),
        Outcome::InDoubt { .. } => ("?", BAD, "in doubt".to_owned()),
        Outcome::Skipped { .. } => ("-", QUIET, "not its turn, nothing was changed".to_owned()),
        Outcome::Interrupted => ("-", QUIET, "interrupted, nothing was changed".to_owned()),
    };
    format!("{} {words}", paint(style, mark))
}

/// The account of a host that did not end as it should; `None` for one that did.
///
/// `at` is how the operator names it to push: `prod -l web1`.
pub fn account(host: &HostName, outcome: &Outcome, at: &str) -> Option<String> {
    let told = match outcome {
        Outcome::Unchanged { .. }
        | Outcome::Pending { .. }
        | Outcome::Committed { .. }
        | Outcome::Restored { .. }
        | Outcome::Upgraded { .. }
        | Outcome::Interrupted => return None,
        Outcome::Unreachable { obstacle } => obstructed("unreachable", obstacle),
        Outcome::Failed { obstacle } => obstructed("failed, nothing was changed", obstacle),
        Outcome::Refused { refusal } => refused(refused_with(refusal), refusal::words(refusal, at)),
        Outcome::Locked { holder, whose } => refused(
            "locked, nothing was changed",
            refusal::locked(holder, *whose, at),
        ),
        Outcome::TakenBack {
            back_at,
            cause,
            evidence,
        } => Told {
            now: Some(back(*back_at)),
            found: evidence
                .as_deref()
                .map(failure::evidence)
                .unwrap_or_default(),
            next: look_further(evidence.as_deref(), at),
            ..Told::new("taken back", cause.to_string())
        },
        Outcome::NotRestored {
            committed,
            restoration,
        } => not_restored(*committed, restoration, at),
        Outcome::InDoubt {
            transaction,
            last,
            why,
            confirm_within_ms,
        } => {
            let said = last_word(transaction, last.as_ref());
            let settles = settles(last.as_ref(), *confirm_within_ms);
            in_doubt((why, format!("{said}; {settles}")), at)
        }
        Outcome::UpgradeInDoubt { transaction, why } => {
            let goes_on = format!(
                "the host goes on with upgrade {transaction} alone, and records how it ends"
            );
            in_doubt((why, goes_on), at)
        }
        Outcome::Skipped {
            why: Skip::Stopped { stop },
        } => return skipped(stop),
        Outcome::NotUpgraded {
            at: stage,
            why,
            evidence,
        } => not_upgraded((*stage, why), evidence.as_deref(), (at, host)),
    };
    Some(failure::failure(&Failure {
        host: host.as_str(),
        verdict: told.verdict,
        cause: told.cause,
        now: told.now,
        found: told.found,
        next: told.next,
    }))
}

/// What a refusal left. Groundwork goes on where it stopped, so what is made of it stays.
fn refused_with(refusal: &Refusal) -> &'static str {
    match refusal {
        Refusal::Groundwork { .. } | Refusal::Certificate { .. } => "refused, nothing was switched",
        Refusal::Locked(_)
        | Refusal::Protocol { .. }
        | Refusal::Host { .. }
        | Refusal::Packages { .. }
        | Refusal::Corrupt { .. }
        | Refusal::Stale { .. }
        | Refusal::GoesDown { .. }
        | Refusal::Claimed(_)
        | Refusal::Occupied(_)
        | Refusal::Unsafe { .. }
        | Refusal::Room { .. }
        | Refusal::Needs { .. }
        | Refusal::NoUser { .. }
        | Refusal::NoGroup { .. }
        | Refusal::Tool { .. }
        | Refusal::Check { .. }
        | Refusal::NotIncluded { .. }
        | Refusal::Secret { .. }
        | Refusal::NoGeneration { .. } => "refused, nothing was changed",
    }
}

/// A host of which nobody knows how it ends.
fn in_doubt((why, now): (&str, String), at: &str) -> Told {
    Told {
        now: Some(now),
        next: vec![
            format!("`push status {at}` asks it again"),
            format!("`push logs {at} --push` shows what it is doing"),
        ],
        ..Told::new("in doubt", why.to_owned())
    }
}

/// What an upgrade did, and what it left to be done.
fn upgraded(
    (packages, restarted): (usize, usize),
    rebooted: Rebooted,
    reboot: &[String],
) -> String {
    let mut said = vec![format!("upgraded: {}", measure::count(packages, "package"))];
    if restarted > 0 {
        said.push(format!(
            "{} restarted",
            measure::count(restarted, "service")
        ));
    }
    if rebooted == Rebooted::Yes {
        said.push("rebooted".to_owned());
    }
    if let Some(reason) = reboot.first() {
        let reason = foreign::line(reason);
        said.push(format!(
            "still needs a reboot: {reason} (`--reboot needed` does it)"
        ));
    }
    said.join(", ")
}

/// What a host is like that has taken itself back.
fn back(at: GenerationId) -> String {
    if at.is_none() {
        "the host is as it was before its first push".to_owned()
    } else {
        format!("generation {at} is in effect again")
    }
}

/// What a host in doubt has said.
fn last_word(transaction: &TransactionId, last: Option<&State>) -> String {
    match last {
        Some(state) => format!(
            "the last it said of {transaction}: {}",
            super::history::plain_verdict(state)
        ),
        None => format!("it never said anything of {transaction}, and may not have heard of it"),
    }
}

/// What a host in doubt does, and by when.
fn settles(last: Option<&State>, confirm_within_ms: Option<u64>) -> String {
    match (last, confirm_within_ms) {
        (Some(State::TakingBack(_) | State::TakenBack(_)), _) => {
            "the host goes on alone: it is taking itself back".to_owned()
        }
        (_, Some(within_ms)) => format!(
            "the host settles alone: unless push came in again within {} of the switch, it takes itself back then",
            measure::took(std::time::Duration::from_millis(within_ms))
        ),
        (_, None) => {
            "the host settles alone: it commits once its apps are healthy, and takes itself back \
                      if they are not within their `timeout`"
                .to_owned()
        }
    }
}

struct Told {
    verdict: &'static str,
    cause: String,
    now: Option<String>,
    found: Vec<(&'static str, Vec<String>)>,
    next: Vec<String>,
}

impl Told {
    fn new(verdict: &'static str, cause: String) -> Self {
        Self {
            verdict,
            cause,
            now: None,
            found: Vec::new(),
            next: Vec::new(),
        }
    }
}

fn obstructed(verdict: &'static str, obstacle: &Obstacle) -> Told {
    let next = (!obstacle.help.is_empty()).then(|| obstacle.help.clone());
    Told {
        next: next.into_iter().collect(),
        ..Told::new(verdict, obstacle.why.clone())
    }
}

/// A host whose upgrade went wrong: what stays is said, since nothing is taken back.
fn not_upgraded(
    (stage, why): (Stage, &str),
    evidence: Option<&Evidence>,
    (at, host): (&str, &HostName),
) -> Told {
    let failed = || {
        let place = at.replace(" -l ", " ");
        format!("`push ssh {place} -- systemctl --failed` shows what does not run")
    };
    let (verdict, now, repair) = match stage {
        Stage::Packages => (
            "packages failed",
            "what was installed stays; nothing was restarted or rebooted after it",
            format!("`dpkg --configure -a` on {host}, as root, tries again what is half done"),
        ),
        Stage::Restart => (
            "a service does not start again",
            "its packages are upgraded and stay so",
            failed(),
        ),
        Stage::Reboot => (
            "not rebooted",
            "its packages are upgraded and stay so",
            format!("`systemctl reboot` on {host}, as root, reboots it"),
        ),
        Stage::Health => (
            "not well after its upgrade",
            "its packages are upgraded and stay so",
            failed(),
        ),
    };
    Told {
        now: Some(now.to_owned()),
        found: evidence.map(failure::evidence).unwrap_or_default(),
        next: vec![
            repair,
            format!("`push upgrade {at}` goes on with this host once it is mended"),
        ],
        ..Told::new(verdict, why.to_owned())
    }
}

fn refused(verdict: &'static str, words: refusal::Words) -> Told {
    Told {
        found: words.found,
        next: vec![words.help],
        ..Told::new(verdict, words.cause)
    }
}

fn not_restored(committed: GenerationId, restoration: &Restoration, at: &str) -> Told {
    let verdict = "not brought back";
    let again = format!("`push rollback {at}` tries again");
    let told = match restoration {
        Restoration::Failed { obstacle } => {
            let mut told = obstructed(verdict, obstacle);
            told.next.push(again);
            told
        }
        Restoration::Refused { refusal } => {
            let mut told = refused(verdict, refusal::words(refusal, at));
            told.next.push(again);
            told
        }
        Restoration::TakenBack { cause } => Told {
            next: vec![again],
            ..Told::new(
                verdict,
                format!("its former generation did not hold: {cause}"),
            )
        },
        Restoration::InDoubt { transaction } => Told {
            now: Some("the host settles alone".to_owned()),
            next: vec![format!("`push status {at}` asks it again")],
            ..Told::new(
                verdict,
                format!("it is not known what became of {transaction}"),
            )
        },
    };
    let stays = format!("generation {committed}, this push's, is in effect");
    Told {
        now: told.now.or(Some(stays)),
        ..told
    }
}

/// Skipped hosts need no account: the host that stopped the push has one.
fn skipped(stop: &Stop) -> Option<String> {
    match stop {
        Stop::Failures { .. }
        | Stop::Refused { .. }
        | Stop::Declined { .. }
        | Stop::Interrupted => None,
    }
}

/// The commands that look further into a failure.
fn look_further(evidence: Option<&Evidence>, at: &str) -> Vec<String> {
    // An app's jobs and sockets stand beside the unit that failed.
    let units = || evidence.into_iter().flat_map(|evidence| &evidence.units);
    let is_up = |active: &str| matches!(active, "active" | "inactive");
    let unit = units().find(|unit| unit.active == "failed");
    let unit = unit.or_else(|| units().find(|unit| !is_up(&unit.active)));
    let unit = unit.or_else(|| units().next());
    let journal = unit
        .and_then(|unit| unit.unit.parse::<push_wire::name::UnitName>().ok())
        .map(|unit| format!("`push logs {at} --unit {unit} -n 200` shows more"));
    let history = format!("`push history {at}` shows what happened there");
    journal.into_iter().chain([history]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_that_left_groundwork_behind_does_not_say_that_nothing_was_changed() {
        let told = |refusal: Refusal| {
            let outcome = Outcome::Refused {
                refusal: Box::new(refusal),
            };
            let host = "web1".parse().unwrap();
            let text = account(&host, &outcome, "prod -l web1").unwrap() + &verdict(&outcome);
            anstream::adapter::strip_str(&text).to_string()
        };
        let half = told(Refusal::Groundwork {
            what: "the packages".to_owned(),
            output: String::new(),
        });
        assert!(!half.contains("nothing was changed"), "{half}");
        assert_eq!(half.matches("nothing was switched").count(), 2, "{half}");
        let whole = told(Refusal::Occupied(vec![]));
        assert_eq!(whole.matches("nothing was changed").count(), 2, "{whole}");
    }
}
