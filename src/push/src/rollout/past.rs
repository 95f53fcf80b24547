//! What a host's past says of going back: where to, and what brought what is in effect. Pure.

use std::collections::BTreeMap;

use push_wire::journal::About;
use push_wire::message::Transaction;
use push_wire::name::{GenerationId, ProjectName};

use super::Known;

/// The generation that a rollback of `project` goes to when none is named: what its hosts held
/// before what is in effect now. What is in effect may itself be the content of an earlier
/// generation; then it is what preceded that one, so going back twice goes two steps, not to and
/// fro. A generation that an operator went back from is never gone back to by itself.
pub fn target(history: &[Transaction], project: &ProjectName) -> Option<GenerationId> {
    let committed = committed(history, project);
    let now = origin(&committed)?;
    committed
        .range(..now)
        .rev()
        .find(|(_, (_, transaction))| transaction.there)
        .map(|(to, _)| *to)
}

/// A run of push: when it was, and its name.
pub type Run = (u64, String);

/// The run of push that brought what `project` has in effect on a host. What somebody went back to was
/// brought by the push that had it first. `None` where nothing is in effect, and where that push lies
/// before what was told of the past.
pub fn brought_by(known: &Known, project: &ProjectName) -> Option<Run> {
    let placed = known.hello.manifest.slices.get(project)?;
    let committed = committed(&known.history, project);
    let provenance = match origin(&committed) {
        Some(origin) => &committed.get(&origin)?.0.provenance,
        None => &placed.provenance,
    };
    Some((provenance.at_unix_s, provenance.push.clone()))
}

/// The generations of a project that were committed, each with what is known of its transaction.
type Committed<'a> = BTreeMap<GenerationId, (&'a About, &'a Transaction)>;

fn committed<'a>(history: &'a [Transaction], project: &ProjectName) -> Committed<'a> {
    history
        .iter()
        .filter(|transaction| transaction.last.state.is_committed())
        .filter_map(|transaction| about(transaction).map(|about| (about, transaction)))
        .filter(|(about, _)| about.project == *project)
        .map(|(about, transaction)| (about.to, (about, transaction)))
        .collect()
}

/// The generation that first had the content in effect.
fn origin(committed: &Committed<'_>) -> Option<GenerationId> {
    let mut now = *committed.last_key_value()?.0;
    // A rollback restores a lower number, so this ends; what is not in the history ends it as well.
    while let Some(restored) = committed.get(&now).and_then(|(about, _)| about.restores)
        && restored < now
    {
        now = restored;
    }
    Some(now)
}

/// The generations that `project` can go back to, the latest first.
pub fn possible<'a>(
    history: &'a [Transaction],
    project: &'a ProjectName,
) -> impl Iterator<Item = GenerationId> + 'a {
    history
        .iter()
        .filter(|transaction| transaction.last.state.is_committed() && transaction.there)
        .filter_map(about)
        .filter(|about| about.project == *project)
        .map(|about| about.to)
}

/// What was to be done in a transaction.
pub fn about(transaction: &Transaction) -> Option<&About> {
    transaction
        .first
        .about
        .as_ref()
        .or(transaction.last.about.as_ref())
}

#[cfg(test)]
pub(super) mod tests {
    use push_wire::digest::Digest;
    use push_wire::journal::{Cause, Record, State};
    use push_wire::manifest::Provenance;

    use super::*;

    /// A committed generation of `shop`; `restores` makes it a rollback.
    pub fn shop(to: u64, restores: Option<u64>) -> Transaction {
        of("shop", to, restores)
    }

    pub fn of(project: &str, to: u64, restores: Option<u64>) -> Transaction {
        let about = About {
            from: GenerationId(to.saturating_sub(1)),
            to: GenerationId(to),
            project: project.parse().unwrap(),
            restores: restores.map(GenerationId),
            provenance: Provenance {
                operator: "anna\u{1b}[2J".into(),
                ..Provenance::default()
            },
            confirm_within_ms: None,
            nonce: Digest::of(""),
        };
        let record = |state, about| Record {
            sequence: to,
            transaction: format!("t{to}").parse().unwrap(),
            at_unix_s: 0,
            state,
            about,
        };
        Transaction {
            first: record(State::Prepared, Some(about)),
            last: record(State::Committed, None),
            releases: BTreeMap::new(),
            there: true,
        }
    }

    pub fn taken_back(mut transaction: Transaction) -> Transaction {
        transaction.last.state = State::TakenBack(Cause::Asked);
        transaction
    }

    pub fn pruned(mut transaction: Transaction) -> Transaction {
        transaction.there = false;
        transaction
    }

    /// What is known of a host with this past.
    pub fn known(history: Vec<Transaction>, at: u64) -> Known {
        let mut hello = crate::desired::sample::hello();
        hello.manifest.generation = GenerationId(at);
        Known {
            host: "web1".parse().unwrap(),
            way_in: 22,
            hello,
            history,
            lacking: std::collections::BTreeSet::new(),
            earlier: None,
        }
    }

    /// A past, told in words, and where it goes back to.
    type Golden = (&'static str, Vec<Transaction>, Option<u64>);

    fn of_one_project() -> Vec<Golden> {
        vec![
            ("no past at all", vec![], None),
            ("nothing before the first", vec![shop(1, None)], None),
            ("one step", vec![shop(2, None), shop(1, None)], Some(1)),
            (
                "not to what was taken back",
                vec![shop(3, None), taken_back(shop(2, None)), shop(1, None)],
                Some(1),
            ),
            (
                "what is in effect is not the failed latest",
                vec![taken_back(shop(3, None)), shop(2, None), shop(1, None)],
                Some(1),
            ),
            (
                "twice goes two steps",
                vec![
                    shop(4, Some(2)),
                    shop(3, None),
                    shop(2, None),
                    shop(1, None),
                ],
                Some(1),
            ),
            (
                "no further than the first",
                vec![shop(3, Some(1)), shop(2, None), shop(1, None)],
                None,
            ),
            (
                "after a new push over a rollback",
                vec![
                    shop(4, None),
                    shop(3, Some(1)),
                    shop(2, None),
                    shop(1, None),
                ],
                Some(3),
            ),
            (
                "back from a rollback of a rollback",
                vec![
                    shop(5, Some(4)),
                    shop(4, Some(2)),
                    shop(3, None),
                    shop(2, None),
                    shop(1, None),
                ],
                Some(1),
            ),
        ]
    }

    fn of_several() -> Vec<Golden> {
        vec![
            (
                "other projects' pushes do not count",
                vec![of("blog", 3, None), shop(2, None), shop(1, None)],
                Some(1),
            ),
            (
                "other projects' rollbacks do not count",
                vec![of("blog", 4, Some(1)), shop(3, None), shop(2, None)],
                Some(2),
            ),
            (
                "nor what only others had",
                vec![shop(2, None), of("blog", 1, None)],
                None,
            ),
            (
                "not to what is pruned",
                vec![shop(3, None), pruned(shop(2, None)), shop(1, None)],
                Some(1),
            ),
            (
                "the order told does not matter",
                vec![shop(1, None), shop(2, None)],
                Some(1),
            ),
        ]
    }

    #[test]
    fn going_back_finds_the_last_commit_before_what_is_in_effect() {
        for (what, history, expected) in of_one_project().into_iter().chain(of_several()) {
            let found = target(&history, &"shop".parse().unwrap());
            assert_eq!(found, expected.map(GenerationId), "{what}");
        }
    }
}
