//! Which generation to go back to, and the push that goes there.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use push_wire::digest::Digest;
use push_wire::journal::{About, State};
use push_wire::manifest::{Manifest, Provenance};
use push_wire::message::{Request, Restage, Transaction};
use push_wire::name::{AppName, GenerationId, ProjectName};

use super::{Change, Intent, Known, Proposal};
use crate::conversation::PackSource;
use crate::event::{Confirm, Obstacle, ObstacleKind, Summary};
use crate::visible::escape;

/// How many transactions of a host's past are looked at.
pub const HISTORY_MAX: u32 = 200;

/// How many generations a message lists.
const POSSIBLE_MAX: usize = 20;

/// How much of what a host says a message shows, in bytes.
const SHOWN_BYTES_MAX: usize = 200;

/// Goes back to an earlier generation of one project's slice.
#[derive(Debug, Clone)]
pub struct Rollback {
    /// The project.
    pub project: ProjectName,
    /// The generation wanted; `None` for the last committed one before the current one.
    pub to: Option<GenerationId>,
    /// Who asks.
    pub provenance: Provenance,
}

/// What a rollback does to one host. What it will run is the host's to find out: only it still has
/// the old generation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RollbackPlan {
    /// What is in effect.
    pub from: GenerationId,
    /// The generation whose content comes back.
    pub to: GenerationId,
    /// The releases in effect, by app.
    pub releases_now: BTreeMap<AppName, String>,
    /// The releases that come back, by app, as far as the host remembers. Untrusted text.
    pub releases_then: BTreeMap<AppName, String>,
}

/// The generation that a rollback of `project` goes to when none is named: what its hosts held
/// before what is in effect now. What is in effect may itself be the content of an earlier
/// generation; then it is what preceded that one, so going back twice goes two steps, not to and
/// fro. A generation that an operator went back from is never gone back to by itself.
pub fn target(history: &[Transaction], project: &ProjectName) -> Option<GenerationId> {
    let committed: BTreeMap<GenerationId, (&About, &Transaction)> = history
        .iter()
        .filter(|transaction| transaction.last.state.is_committed())
        .filter_map(|transaction| about(transaction).map(|about| (about, transaction)))
        .filter(|(about, _)| about.project == *project)
        .map(|(about, transaction)| (about.to, (about, transaction)))
        .collect();
    let mut now = *committed.last_key_value()?.0;
    // A rollback restores a lower number, so this ends; what is not in the history ends it as well.
    while let Some(restored) = committed.get(&now).and_then(|(about, _)| about.restores)
        && restored < now
    {
        now = restored;
    }
    committed
        .range(..now)
        .rev()
        .find(|(_, (_, transaction))| transaction.there)
        .map(|(to, _)| *to)
}

/// The generations that `project` can go back to, the latest first.
fn possible<'a>(
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

/// Sees that `to` is a generation of `project` that is still there. One that is older than what was
/// told of the past is left to the host to judge.
fn check(known: &Known, project: &ProjectName, to: GenerationId) -> Result<(), Obstacle> {
    if possible(&known.history, project).any(|there| there == to) {
        return Ok(());
    }
    let of = |transaction: &&Transaction| about(transaction).is_some_and(|about| about.to == to);
    let found = known.history.iter().find(of);
    let is_told_whole = known.history.len() < usize::try_from(HISTORY_MAX).unwrap_or(usize::MAX);
    let what = match found.map(|transaction| (transaction, about(transaction))) {
        None if is_told_whole => "was never made there".to_owned(),
        None => return Ok(()),
        Some((_, Some(about))) if about.project != *project => format!(
            "is a push of another project, {}, by {}",
            about.project,
            escape(about.provenance.operator.as_bytes(), SHOWN_BYTES_MAX)
        ),
        Some((transaction, _)) => match &transaction.last.state {
            State::Committed => "has been pruned since (`keep_releases`)".to_owned(),
            State::TakenBack(cause) => format!(
                "never held: it was taken back, {}",
                escape(cause.to_string().as_bytes(), SHOWN_BYTES_MAX)
            ),
            State::Prepared | State::Switching | State::Probation(_) | State::TakingBack(_) => {
                "has not ended yet".to_owned()
            }
        },
    };
    Err(not_possible(known, project, (to, &what)))
}

fn not_possible(
    known: &Known,
    project: &ProjectName,
    (to, what): (GenerationId, &str),
) -> Obstacle {
    let host = &known.host;
    let possible: Vec<String> = possible(&known.history, project)
        .filter(|there| *there != known.hello.manifest.generation)
        .take(POSSIBLE_MAX)
        .map(|there| there.to_string())
        .collect();
    let possible = if possible.is_empty() {
        format!("{host} holds no other generation of {project}")
    } else {
        format!("{project} can go back to: {}", possible.join(", "))
    };
    Obstacle {
        kind: ObstacleKind::Gate,
        code: "push::rollout::not_its_generation".into(),
        why: format!("generation {to} of {host} {what}; {possible}"),
        help: format!("see what they are: `push history ENV -l {host}`"),
    }
}

fn about(transaction: &Transaction) -> Option<&About> {
    transaction
        .first
        .about
        .as_ref()
        .or(transaction.last.about.as_ref())
}

impl Intent for Rollback {
    type Plan = RollbackPlan;

    fn history_wanted(&self) -> u32 {
        HISTORY_MAX
    }

    fn plan(&self, known: &Known) -> Result<Proposal<RollbackPlan>, Obstacle> {
        let wanted = self.to.or_else(|| target(&known.history, &self.project));
        let to = wanted.ok_or_else(|| nothing_before(known, &self.project))?;
        if self.to.is_some() {
            check(known, &self.project, to)?;
        }
        let manifest = &known.hello.manifest;
        let slice = manifest.slice(&self.project);
        let releases_now = slice
            .map(|slice| {
                let releases = slice.apps.iter();
                releases.map(|(app, declared)| (app.clone(), declared.release.to_string()))
            })
            .into_iter()
            .flatten()
            .collect();
        let releases_then = known
            .history
            .iter()
            .find(|transaction| about(transaction).is_some_and(|about| about.to == to))
            .map(|transaction| own(&transaction.releases, &self.project, manifest))
            .unwrap_or_default();
        let change = if to == manifest.generation {
            Change::Nothing
        } else {
            Change::Something
        };
        Ok(Proposal {
            plan: RollbackPlan {
                from: manifest.generation,
                to,
                releases_now,
                releases_then,
            },
            summary: Summary {
                base: manifest.generation,
                added: 0,
                changed: 0,
                removed: 0,
                effects: Vec::new(),
                risks: BTreeSet::new(),
            },
            change,
            // What comes back may close the way in, and only the host could tell.
            confirm: Confirm::Needed,
            refused: None,
            texts_wanted: BTreeSet::new(),
        })
    }

    fn request(&self, known: &Known, plan: &RollbackPlan) -> Result<Request, Obstacle> {
        Ok(Request::Restage(Restage {
            project: self.project.clone(),
            base: plan.from,
            to: plan.to,
            provenance: self.provenance.clone(),
            way_in: known.way_in,
        }))
    }

    fn pack(&self, _: &BTreeSet<Digest>) -> Result<Arc<dyn PackSource>, Obstacle> {
        Err(Obstacle {
            kind: ObstacleKind::Gate,
            code: "push::rollout::release_gone".into(),
            why: "the host no longer holds all files of the generation to go back to".into(),
            help: "check out the commit that it was pushed from and run `push deploy`".into(),
        })
    }
}

/// Of the releases of a generation, which the host tells for all projects, those that going back
/// brings back: what the other projects have stays as it is.
fn own(
    releases: &BTreeMap<AppName, String>,
    project: &ProjectName,
    manifest: &Manifest,
) -> BTreeMap<AppName, String> {
    let others: BTreeSet<&AppName> = manifest
        .all()
        .filter(|(holder, _)| *holder != project)
        .flat_map(|(_, slice)| slice.apps.keys())
        .collect();
    let own = releases.iter().filter(|(app, _)| !others.contains(app));
    own.map(|(app, release)| (app.clone(), release.clone()))
        .collect()
}

fn nothing_before(known: &Known, project: &ProjectName) -> Obstacle {
    let (host, at) = (&known.host, known.hello.manifest.generation);
    Obstacle {
        kind: ObstacleKind::Gate,
        code: "push::rollout::nothing_before".into(),
        why: format!(
            "{host} is at generation {at} and holds no committed generation of {project} before it"
        ),
        help: format!("see what is there: `push history ENV -l {host}`"),
    }
}

#[cfg(test)]
mod tests {
    use push_wire::journal::{Cause, Record};

    use super::*;

    /// A committed generation of `shop`; `restores` makes it a rollback.
    fn shop(to: u64, restores: Option<u64>) -> Transaction {
        of("shop", to, restores)
    }

    fn of(project: &str, to: u64, restores: Option<u64>) -> Transaction {
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

    fn taken_back(mut transaction: Transaction) -> Transaction {
        transaction.last.state = State::TakenBack(Cause::Asked);
        transaction
    }

    fn pruned(mut transaction: Transaction) -> Transaction {
        transaction.there = false;
        transaction
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
    fn a_rollback_speaks_of_its_own_project_alone() {
        let app = push_wire::manifest::App {
            release: "20260101T000000Z".parse().unwrap(),
            tree: Digest::of(""),
            size: 1,
            user: "blog".parse().unwrap(),
            shared: BTreeSet::new(),
            ports: BTreeSet::new(),
            keep_releases: 5,
            health: None,
        };
        let slice = push_wire::manifest::Slice {
            apps: BTreeMap::from([("blog".parse().unwrap(), app)]),
            ..Default::default()
        };
        let mut manifest = Manifest::empty();
        manifest.slices.insert(
            "blog".parse().unwrap(),
            push_wire::manifest::Placed {
                slice,
                provenance: Provenance::default(),
            },
        );
        let told: BTreeMap<AppName, String> = ["api", "blog"]
            .map(|app| (app.parse().unwrap(), "then".to_owned()))
            .into();
        let own = own(&told, &"shop".parse().unwrap(), &manifest);
        let apps: Vec<&str> = own.keys().map(AppName::as_str).collect();
        assert_eq!(apps, ["api"]);
    }

    #[test]
    fn going_back_finds_the_last_commit_before_what_is_in_effect() {
        for (what, history, expected) in of_one_project().into_iter().chain(of_several()) {
            let found = target(&history, &"shop".parse().unwrap());
            assert_eq!(found, expected.map(GenerationId), "{what}");
        }
    }

    fn known(history: Vec<Transaction>, at: u64) -> Known {
        let mut hello = crate::desired::sample::hello();
        hello.manifest.generation = GenerationId(at);
        Known {
            host: "web1".parse().unwrap(),
            way_in: 22,
            hello,
            history,
            lacking: std::collections::BTreeSet::new(),
        }
    }

    fn refused(history: Vec<Transaction>, to: u64) -> Option<String> {
        let known = known(history, 4);
        let shop = "shop".parse().unwrap();
        let refused = check(&known, &shop, GenerationId(to)).err();
        refused.map(|obstacle| obstacle.why)
    }

    #[test]
    fn a_named_generation_that_is_not_the_projects_to_go_back_to_is_refused_by_what_it_is() {
        let past = || {
            vec![
                shop(4, None),
                of("blog", 3, None),
                taken_back(shop(2, None)),
                shop(1, None),
                pruned(shop(0, None)),
            ]
        };
        assert_eq!(refused(past(), 1), None);
        assert_eq!(refused(past(), 4), None, "nothing to do is no mistake");
        let why: Vec<String> = [3, 2, 0, 9]
            .into_iter()
            .map(|to| refused(past(), to).unwrap())
            .collect();
        insta::assert_snapshot!(why.join("\n"), @r#"
        generation 3 of web1 is a push of another project, blog, by anna\x1b[2J; shop can go back to: 1
        generation 2 of web1 never held: it was taken back, the operator asked for it; shop can go back to: 1
        generation 0 of web1 has been pruned since (`keep_releases`); shop can go back to: 1
        generation 9 of web1 was never made there; shop can go back to: 1
        "#);
        let only = refused(vec![shop(4, None)], 3).unwrap();
        assert!(
            only.ends_with("web1 holds no other generation of shop"),
            "{only}"
        );
    }
}
