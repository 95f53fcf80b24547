//! What the process exits with, computed from outcomes alone.

use push_wire::journal::Cause;
use push_wire::message::Refusal;
use serde::{Serialize, Serializer};

use super::{Counts, ObstacleKind, Outcome, Skip, Stop};

/// What the process exits with. The order of the variants is their precedence: when hosts end
/// differently, the code is the greatest of theirs, which is the one that most needs a person.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ExitCode {
    /// Done, or nothing to do.
    Done,
    /// Changes are pending; only with `--exit-code`.
    Pending,
    /// Could not start.
    NotStarted,
    /// A host is unreachable.
    Unreachable,
    /// Refused by a gate or by the operator.
    Refused,
    /// Locked by another push.
    Locked,
    /// Secrets are unavailable.
    Secrets,
    /// Interrupted.
    Interrupted,
    /// Failed, and taken back.
    TakenBack,
    /// Usage or inventory. Never made of outcomes: no host was touched.
    Usage,
    /// Failed and not restored, or in doubt.
    InDoubt,
}

impl ExitCode {
    /// Every code.
    pub const ALL: [Self; 11] = [
        Self::Done,
        Self::Pending,
        Self::NotStarted,
        Self::Unreachable,
        Self::Refused,
        Self::Locked,
        Self::Secrets,
        Self::Interrupted,
        Self::TakenBack,
        Self::Usage,
        Self::InDoubt,
    ];

    /// The number that the shell sees.
    pub fn number(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::NotStarted => 1,
            Self::Usage => 2,
            Self::Pending => 3,
            Self::Unreachable => 4,
            Self::TakenBack => 5,
            Self::InDoubt => 6,
            Self::Locked => 7,
            Self::Secrets => 8,
            Self::Refused => 9,
            Self::Interrupted => 130,
        }
    }

    /// What it means, in a few words.
    pub fn meaning(self) -> &'static str {
        match self {
            Self::Done => "done, or nothing to do",
            Self::NotStarted => "could not start",
            Self::Usage => "usage or inventory",
            Self::Pending => "changes pending",
            Self::Unreachable => "a host is unreachable",
            Self::TakenBack => "failed and taken back",
            Self::InDoubt => "failed and not restored, or in doubt",
            Self::Locked => "locked by another push",
            Self::Secrets => "secrets unavailable",
            Self::Refused => "refused by a gate or by the operator",
            Self::Interrupted => "interrupted",
        }
    }
}

impl From<ExitCode> for std::process::ExitCode {
    fn from(code: ExitCode) -> Self {
        Self::from(code.number())
    }
}

impl Serialize for ExitCode {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u8(self.number())
    }
}

/// The code of a push whose hosts ended so. Pending changes are not a failure of their own:
/// whoever was asked for `--exit-code` turns [`Outcome::Pending`] into [`ExitCode::Pending`].
pub fn exit_code<'a>(outcomes: impl IntoIterator<Item = &'a Outcome>) -> ExitCode {
    outcomes
        .into_iter()
        .map(of_outcome)
        .max()
        .unwrap_or(ExitCode::Done)
}

fn of_outcome(outcome: &Outcome) -> ExitCode {
    match outcome {
        Outcome::Unchanged { .. }
        | Outcome::Pending { .. }
        | Outcome::Committed { .. }
        | Outcome::Upgraded { .. } => ExitCode::Done,
        Outcome::Unreachable { .. } => ExitCode::Unreachable,
        Outcome::Failed { obstacle } => of_obstacle(obstacle.kind),
        Outcome::Refused { refusal } => of_refusal(refusal),
        Outcome::Locked { .. } => ExitCode::Locked,
        // Only a Ctrl-C of this operator makes a host take back because it was asked to.
        Outcome::TakenBack {
            cause: Cause::Asked,
            ..
        }
        | Outcome::Interrupted => ExitCode::Interrupted,
        Outcome::TakenBack { .. } | Outcome::Restored { .. } => ExitCode::TakenBack,
        Outcome::NotRestored { .. }
        | Outcome::InDoubt { .. }
        | Outcome::NotUpgraded { .. }
        | Outcome::UpgradeInDoubt { .. } => ExitCode::InDoubt,
        Outcome::Skipped {
            why: Skip::Stopped { stop },
        } => of_stop(stop),
    }
}

fn of_obstacle(kind: ObstacleKind) -> ExitCode {
    match kind {
        ObstacleKind::Reach => ExitCode::Unreachable,
        ObstacleKind::Secret => ExitCode::Secrets,
        ObstacleKind::Gate => ExitCode::Refused,
        ObstacleKind::Start => ExitCode::NotStarted,
    }
}

fn of_refusal(refusal: &Refusal) -> ExitCode {
    match refusal {
        Refusal::Locked(_) => ExitCode::Locked,
        Refusal::Secret { .. } => ExitCode::Secrets,
        Refusal::Protocol { .. }
        | Refusal::Host { .. }
        | Refusal::Groundwork { .. }
        | Refusal::Packages { .. }
        | Refusal::Corrupt { .. } => ExitCode::NotStarted,
        Refusal::Stale { .. }
        | Refusal::GoesDown { .. }
        | Refusal::Claimed(_)
        | Refusal::Occupied(_)
        | Refusal::Unsafe { .. }
        | Refusal::Room { .. }
        | Refusal::Needs { .. }
        | Refusal::NoUser { .. }
        | Refusal::NoGroup { .. }
        | Refusal::Tool { .. }
        | Refusal::Certificate { .. }
        | Refusal::Check { .. }
        | Refusal::NotIncluded { .. }
        | Refusal::NoGeneration { .. } => ExitCode::Refused,
    }
}

/// A skipped host says nothing that the host that stopped the push does not say better.
fn of_stop(stop: &Stop) -> ExitCode {
    match stop {
        Stop::Failures { .. } | Stop::Refused { .. } => ExitCode::Done,
        Stop::Declined { .. } => ExitCode::Refused,
        Stop::Interrupted => ExitCode::Interrupted,
    }
}

impl Counts {
    /// How many of these hosts ended how.
    pub fn of<'a>(outcomes: impl IntoIterator<Item = &'a Outcome>) -> Self {
        let mut counts = Self::default();
        for outcome in outcomes {
            *counts.slot(outcome) += 1;
        }
        counts
    }

    fn slot(&mut self, outcome: &Outcome) -> &mut usize {
        match outcome {
            Outcome::Unchanged { .. } => &mut self.unchanged,
            // A host that could not be brought back still has what this push committed there.
            Outcome::Committed { .. } => &mut self.committed,
            Outcome::Pending { .. }
            | Outcome::Unreachable { .. }
            | Outcome::Failed { .. }
            | Outcome::Refused { .. }
            | Outcome::Locked { .. }
            | Outcome::Skipped { .. }
            | Outcome::Interrupted => &mut self.untouched,
            Outcome::TakenBack { .. } | Outcome::Restored { .. } => &mut self.restored,
            Outcome::Upgraded { .. } => &mut self.upgraded,
            Outcome::NotUpgraded { .. } => &mut self.broken,
            Outcome::NotRestored { .. }
            | Outcome::InDoubt { .. }
            | Outcome::UpgradeInDoubt { .. } => &mut self.in_doubt,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use push_wire::message::Holder;
    use push_wire::name::GenerationId;

    use super::*;
    use crate::event::{Obstacle, Restoration, Whose};

    const AT: GenerationId = GenerationId(3);

    fn obstacle(kind: ObstacleKind) -> Obstacle {
        Obstacle {
            kind,
            code: String::new(),
            why: String::new(),
            help: String::new(),
        }
    }

    fn failed(kind: ObstacleKind) -> Outcome {
        Outcome::Failed {
            obstacle: obstacle(kind),
        }
    }

    fn refused(refusal: Refusal) -> Outcome {
        Outcome::Refused {
            refusal: Box::new(refusal),
        }
    }

    fn taken_back(cause: Cause) -> Outcome {
        Outcome::TakenBack {
            back_at: AT,
            cause,
            evidence: None,
        }
    }

    fn skipped(stop: Stop) -> Outcome {
        Outcome::Skipped {
            why: Skip::Stopped { stop },
        }
    }

    fn holder() -> Holder {
        Holder {
            operator: "ci".into(),
            since_unix_s: 0,
            step: String::new(),
            transaction: None,
            push: String::new(),
        }
    }

    /// The same for upgrades of the operating system.
    fn upgrades() -> Vec<(Outcome, u8)> {
        let why = String::new;
        vec![
            (
                Outcome::Upgraded {
                    packages: 2,
                    restarted: 1,
                    rebooted: crate::event::Rebooted::No,
                    reboot: vec![],
                },
                0,
            ),
            (
                Outcome::NotUpgraded {
                    at: push_wire::upgrade::Stage::Packages,
                    why: why(),
                    evidence: None,
                },
                6,
            ),
            (
                Outcome::UpgradeInDoubt {
                    transaction: "t2".parse().unwrap(),
                    why: why(),
                },
                6,
            ),
        ]
    }

    /// Every outcome with the code of a push in which nothing else happened.
    fn table() -> Vec<(Outcome, u8)> {
        let transaction: push_wire::name::TransactionId = "t1".parse().unwrap();
        let in_doubt = Outcome::InDoubt {
            transaction: transaction.clone(),
            last: None,
            why: String::new(),
            confirm_within_ms: None,
        };
        let not_restored = Outcome::NotRestored {
            committed: AT,
            restoration: Restoration::InDoubt { transaction },
        };
        let why = String::new;
        let mut table = vec![
            (Outcome::Unchanged { generation: AT }, 0),
            (Outcome::Pending { generation: AT }, 0),
            (Outcome::Committed { from: AT, to: AT }, 0),
            (
                Outcome::Unreachable {
                    obstacle: obstacle(ObstacleKind::Reach),
                },
                4,
            ),
            (failed(ObstacleKind::Reach), 4),
            (failed(ObstacleKind::Secret), 8),
            (failed(ObstacleKind::Gate), 9),
            (failed(ObstacleKind::Start), 1),
            (refused(Refusal::Locked(holder())), 7),
            (refused(Refusal::Claimed(vec![])), 9),
            (refused(Refusal::Host { why: why() }), 1),
            (
                Outcome::Locked {
                    holder: holder(),
                    whose: Whose::Others,
                },
                7,
            ),
            (taken_back(Cause::Unconfirmed), 5),
            (taken_back(Cause::Restarted), 5),
            (taken_back(Cause::Asked), 130),
            (
                Outcome::Restored {
                    content_of: AT,
                    now_at: AT,
                },
                5,
            ),
            (not_restored, 6),
            (in_doubt, 6),
            (
                skipped(Stop::Failures {
                    hosts: vec![],
                    max: 0,
                }),
                0,
            ),
            (skipped(Stop::Refused { hosts: vec![] }), 0),
            (skipped(Stop::Declined { why: why() }), 9),
            (skipped(Stop::Interrupted), 130),
            (Outcome::Interrupted, 130),
        ];
        table.extend(upgrades());
        table
    }

    #[test]
    fn each_outcome_alone_has_its_code() {
        for (outcome, code) in table() {
            assert_eq!(exit_code([&outcome]).number(), code, "{outcome:?}");
        }
    }

    #[test]
    fn of_two_outcomes_the_one_that_most_needs_a_person_gives_the_code() {
        let precedence = [6, 5, 130, 8, 7, 9, 4, 1, 0];
        let rank = |code: u8| precedence.iter().position(|known| *known == code).unwrap();
        for (one, first) in table() {
            for (other, second) in table() {
                let expected = if rank(first) < rank(second) {
                    first
                } else {
                    second
                };
                assert_eq!(exit_code([&one, &other]).number(), expected);
            }
        }
    }

    #[test]
    fn no_two_codes_share_a_number() {
        let numbers: BTreeSet<u8> = ExitCode::ALL.iter().map(|code| code.number()).collect();
        assert_eq!(numbers.len(), ExitCode::ALL.len());
        assert!(ExitCode::ALL.is_sorted());
    }

    #[test]
    fn every_host_is_counted_once_and_none_as_committed_without_a_commit() {
        let outcomes: Vec<Outcome> = table().into_iter().map(|(outcome, _)| outcome).collect();
        let counts = Counts::of(&outcomes);
        let all = [
            counts.unchanged,
            counts.committed,
            counts.untouched,
            counts.restored,
            counts.in_doubt,
            counts.upgraded,
            counts.broken,
        ];
        assert_eq!(all.iter().sum::<usize>(), outcomes.len());
        assert_eq!(counts.committed, 1);
    }
}
