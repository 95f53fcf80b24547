//! The intent of `push rollback`: an earlier generation, as each host still has it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use push_wire::digest::Digest;
use push_wire::journal::State;
use push_wire::manifest::{HOST_SLICE, Manifest, Provenance};
use push_wire::message::{Request, Restage, Transaction};
use push_wire::name::{AppName, GenerationId, ProjectName};

use super::deploy::summary;
use super::past::{about, brought_by, possible, target};
use super::{Change, Intent, Known, Planned, Proposal};
use crate::conversation::PackSource;
use crate::event::{Confirm, Obstacle, ObstacleKind, Summary};
use crate::name::HostName;
use crate::plan::HostPlan;
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
    /// The selectors of hosts that the operator gave.
    pub limit: Vec<String>,
}

/// What a rollback does to one host.
#[derive(Debug, Clone, PartialEq)]
pub struct RollbackPlan {
    /// What is in effect.
    pub from: GenerationId,
    /// Where it goes.
    pub way: Way,
    /// What changes by that; `None` where nothing does, and where the host does not tell.
    pub changes: Option<Box<HostPlan>>,
    /// The releases in effect, by app.
    pub releases_now: BTreeMap<AppName, String>,
    /// The releases that come back, by app, as far as the host remembers. Untrusted text.
    pub releases_then: BTreeMap<AppName, String>,
}

/// Where a rollback leads a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// The content of this generation comes back.
    Back(GenerationId),
    /// It is at the generation that was named.
    There,
    /// It is before the push that the others go back from.
    Before,
    /// It holds nothing to go back to.
    Nowhere,
}

/// Sees that `to` is a generation of `project` that is still there. One that is older than what was
/// told of the past is left to the host to judge.
fn check(known: &Known, asked: &Rollback, to: GenerationId) -> Result<(), Obstacle> {
    let project = &asked.project;
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
    Err(not_possible(known, asked, (to, &what)))
}

fn not_possible(known: &Known, asked: &Rollback, (to, what): (GenerationId, &str)) -> Obstacle {
    let (host, project) = (&known.host, &asked.project);
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
        help: format!(
            "see what they are: `push history {} -l {host}`",
            asked.provenance.environment
        ),
    }
}

impl Intent for Rollback {
    type Plan = RollbackPlan;

    fn history_wanted(&self) -> u32 {
        HISTORY_MAX
    }

    fn earlier(&self, known: &Known) -> Option<(ProjectName, GenerationId)> {
        let to = self.goal(known)?;
        (to != known.hello.manifest.generation).then(|| (self.project.clone(), to))
    }

    fn plan(&self, known: &Known) -> Result<Proposal<RollbackPlan>, Obstacle> {
        if let Some(to) = self.to {
            check(known, self, to)?;
        }
        let from = known.hello.manifest.generation;
        let way = match self.goal(known) {
            None => Way::Nowhere,
            Some(to) if to == from => Way::There,
            Some(to) => Way::Back(to),
        };
        let changes = known.earlier.as_ref().map(|slice| {
            let slice = slice.as_ref().clone();
            let slice = slice.applied_as_in(&known.hello.manifest, &self.project);
            let to = (&self.project, &slice);
            HostPlan::between(&known.hello, (&known.host, known.way_in), to)
        });
        let (releases_now, releases_then) = self.releases(known);
        Ok(Proposal {
            summary: changes.as_ref().map_or_else(|| nothing(from), summary),
            change: match way {
                Way::Back(_) => Change::Something,
                Way::There | Way::Before | Way::Nowhere => Change::Nothing,
            },
            // It held once, but perhaps not for the way that the operator comes in by today.
            confirm: Confirm::Needed,
            refused: (way == Way::Nowhere).then(|| self.nothing_before(known)),
            texts_wanted: BTreeSet::new(),
            plan: RollbackPlan {
                from,
                way,
                changes: changes.map(Box::new),
                releases_now,
                releases_then,
            },
        })
    }

    /// After a push that came only to some hosts, only those go back from it: the others are where it
    /// found them.
    fn compare(&self, plans: &mut BTreeMap<HostName, &mut Planned<RollbackPlan>>) {
        if self.to.is_none() {
            let run = |planned: &Planned<_>| brought_by(&planned.known, &self.project);
            let newest = plans.values().map(|planned| run(planned)).max().flatten();
            for planned in plans.values_mut().filter(|planned| run(planned) != newest) {
                stay(&mut planned.proposal);
            }
        }
        let way = |host: &&HostName| plans[*host].proposal.plan.way;
        let stuck: Vec<&HostName> = plans
            .keys()
            .filter(|host| way(host) == Way::Nowhere)
            .collect();
        // Without them nobody would go back, either.
        if !plans.keys().any(|host| matches!(way(&host), Way::Back(_))) {
            return;
        }
        let help = self.without(&stuck);
        let refused = plans
            .values_mut()
            .filter(|planned| planned.proposal.plan.way == Way::Nowhere)
            .filter_map(|planned| planned.proposal.refused.as_mut());
        for obstacle in refused {
            obstacle.help.clone_from(&help);
        }
    }

    fn request(&self, known: &Known, plan: &RollbackPlan) -> Result<Request, Obstacle> {
        let Way::Back(to) = plan.way else {
            return Err(self.nothing_before(known));
        };
        Ok(Request::Restage(Restage {
            project: self.project.clone(),
            base: plan.from,
            to,
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

impl Rollback {
    /// The generation whose content comes back to a host.
    fn goal(&self, known: &Known) -> Option<GenerationId> {
        self.to.or_else(|| target(&known.history, &self.project))
    }

    /// The releases in effect, and those that come back as far as the host remembers.
    fn releases(&self, known: &Known) -> (BTreeMap<AppName, String>, BTreeMap<AppName, String>) {
        let manifest = &known.hello.manifest;
        let apps = manifest.slice(&self.project).into_iter();
        let now = apps
            .flat_map(|slice| &slice.apps)
            .map(|(app, declared)| (app.clone(), declared.release.to_string()));
        let to = self.goal(known);
        let then = known
            .history
            .iter()
            .find(|transaction| about(transaction).map(|about| about.to) == to)
            .map(|transaction| own(&transaction.releases, &self.project, manifest));
        (now.collect(), then.unwrap_or_default())
    }

    fn nothing_before(&self, known: &Known) -> Obstacle {
        let (host, project) = (&known.host, &self.project);
        let at = known.hello.manifest.generation;
        Obstacle {
            kind: ObstacleKind::Gate,
            code: "push::rollout::nothing_before".into(),
            why: format!(
                "{host} is at generation {at} and holds no committed generation of {project} before it"
            ),
            help: format!(
                "there is nothing to go back to: check out the commit of an earlier release and push that, or mend \
                 this one and push again; `push history {} -l {host}` shows what was there",
                self.provenance.environment
            ),
        }
    }

    /// The same rollback without some hosts, for typing.
    fn without(&self, hosts: &[&HostName]) -> String {
        let slice = if self.project.as_str() == HOST_SLICE {
            format!(" --slice {HOST_SLICE}")
        } else {
            String::new()
        };
        let limits = self.limit.iter().cloned();
        let limits = limits.chain(hosts.iter().map(|host| format!("!{host}")));
        // A shell would take `!`, `*` and the like for its own.
        let limits: Vec<String> = limits.collect();
        format!(
            "go back without it: `push rollback {}{slice} -l '{}'`",
            self.provenance.environment,
            limits.join("' -l '")
        )
    }
}

/// A host that is left as it is.
fn stay(proposal: &mut Proposal<RollbackPlan>) {
    let plan = &mut proposal.plan;
    plan.way = Way::Before;
    plan.changes = None;
    proposal.summary = nothing(plan.from);
    proposal.change = Change::Nothing;
    proposal.confirm = Confirm::NotNeeded;
    proposal.refused = None;
}

fn nothing(base: GenerationId) -> Summary {
    Summary {
        base,
        added: 0,
        changed: 0,
        removed: 0,
        effects: Vec::new(),
        risks: BTreeSet::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::past::tests::{known, of, pruned, shop, taken_back};
    use super::*;

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

    fn asked(to: Option<u64>) -> Rollback {
        Rollback {
            project: "shop".parse().unwrap(),
            to: to.map(GenerationId),
            provenance: Provenance {
                environment: "prod".into(),
                ..Provenance::default()
            },
            limit: vec![],
        }
    }

    fn refused(history: Vec<Transaction>, to: u64) -> Option<String> {
        let known = known(history, 4);
        let refused = check(&known, &asked(None), GenerationId(to)).err();
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
