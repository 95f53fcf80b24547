//! What the operator is shown before anything happens, and what is asked. A plan that can lock
//! somebody out, takes something away or is the first one on a host needs a yes; in a protected
//! environment it needs its name.

use std::collections::BTreeMap;

use push_wire::name::GenerationId;

use super::arguments::Asking;
use super::consent::{self, Question, Refused};
use crate::inventory::Protection;
use crate::name::{EnvironmentName, HostName};
use crate::plan::{self, FleetPlan, HostPlan, TextDiff};
use crate::report::{Report, rollback};
use crate::rollout::{Answer, Change, Consent, DeployPlan, Gate, Offers, Plans, RollbackPlan};
use crate::transport::Pending;

/// How many hosts a question names.
const NAMES_MAX: usize = 8;

/// Shows a plan and asks for what it needs.
#[derive(Debug, Clone)]
pub struct Shown {
    /// Where it is shown.
    pub report: Report,
    /// The environment.
    pub environment: EnvironmentName,
    /// Whether its name is asked for.
    pub protection: Protection,
    /// Whether anything is asked.
    pub asking: Asking,
}

impl Gate<DeployPlan> for Shown {
    fn decide<'a>(&'a self, plans: &'a Plans<DeployPlan>) -> Pending<'a, Answer> {
        let plan = fleet_plan(&self.environment, plans);
        show(&self.report, &plan);
        let question = question(&plan, &self.environment, self.protection);
        Box::pin(self.answer(question))
    }
}

impl Gate<RollbackPlan> for Shown {
    fn decide<'a>(&'a self, plans: &'a Plans<RollbackPlan>) -> Pending<'a, Answer> {
        show_rollback(&self.report, plans);
        let prompt = going_back(plans);
        let question = if self.protection.is_protected() {
            named(prompt, &self.environment)
        } else {
            Question::Yes { prompt }
        };
        Box::pin(self.answer(Some(question)))
    }
}

impl Consent for Shown {
    fn decide<'a>(&'a self, offers: &'a Offers) -> Pending<'a, Answer> {
        show_offers(&self.report, offers);
        let removes = offers
            .values()
            .any(|offer| !offer.packages.removals.is_empty());
        let hosts = crate::report::measure::count(offers.len(), "host");
        let prompt = if removes {
            format!("Upgrade {hosts}, removing what is named above? Packages are not taken back.")
        } else {
            format!("Upgrade {hosts}? Packages are not taken back.")
        };
        let question = if self.protection.is_protected() {
            named(prompt, &self.environment)
        } else {
            Question::Yes { prompt }
        };
        Box::pin(self.answer(Some(question)))
    }
}

/// Shows what a rollback would do in the form that is wanted.
pub fn show_rollback(report: &Report, plans: &Plans<RollbackPlan>) {
    let plans: BTreeMap<HostName, RollbackPlan> = plans
        .iter()
        .map(|(host, planned)| (host.clone(), planned.proposal.plan.clone()))
        .collect();
    report.answer(&rollback::plan(&plans));
    report.json(&rollback::json(&plans));
}

/// What is asked before a rollback. Hosts that stay as they are do not count.
fn going_back(plans: &Plans<RollbackPlan>) -> String {
    let going: Vec<&RollbackPlan> = plans
        .values()
        .map(|planned| &planned.proposal)
        .filter(|proposal| proposal.change == Change::Something)
        .map(|proposal| &proposal.plan)
        .collect();
    let changes = || going.iter().filter_map(|plan| plan.changes.as_deref());
    let mut why = Vec::new();
    if changes().any(HostPlan::is_risky) {
        why.push("can lock you out");
    }
    if changes().any(removes) {
        why.push("takes something away");
    }
    let hosts = crate::report::measure::count(going.len(), "host");
    if why.is_empty() {
        return format!("Go back on {hosts}?");
    }
    format!("This {}. Go back on {hosts}?", why.join(", and "))
}

/// Shows what an upgrade would do in the form that is wanted.
pub fn show_offers(report: &Report, offers: &Offers) {
    report.answer(&crate::report::upgrade::offers(offers));
    report.json(&crate::report::upgrade::json(offers));
}

impl Shown {
    /// Asks off the threads that keep the connections alive, since people take their time.
    async fn answer(&self, question: Option<Question>) -> Answer {
        let Some(question) = question else {
            return Answer::Go;
        };
        let (report, asking) = (self.report.clone(), self.asking);
        let asked = tokio::task::spawn_blocking(move || consent::ask(&question, asking, &report));
        match asked.await {
            Ok(Ok(())) => Answer::Go,
            Ok(Err(Refused::Interrupted)) => Answer::Interrupted,
            Ok(Err(refused @ (Refused::Declined | Refused::NoTerminal { .. }))) => Answer::No {
                why: refused.to_string(),
            },
            Err(_) => Answer::No {
                why: "the question could not be asked".to_owned(),
            },
        }
    }
}

/// The plans of all hosts as one value.
pub fn fleet_plan(environment: &EnvironmentName, plans: &Plans<DeployPlan>) -> FleetPlan {
    let hosts = plans
        .iter()
        .map(|(host, planned)| (host.clone(), planned.proposal.plan.host.clone()));
    let drifted = plans.iter().filter(|(_, planned)| !planned.drift.is_none());
    let drift = drifted.map(|(host, planned)| (host.clone(), planned.drift.clone()));
    FleetPlan {
        environment: environment.clone(),
        hosts: hosts.collect(),
        drift: drift.collect(),
    }
}

/// The texts that change, by host.
pub fn diffs(plans: &Plans<DeployPlan>) -> BTreeMap<HostName, Vec<TextDiff>> {
    let texts = plans.iter().map(|(host, planned)| {
        let DeployPlan {
            host: plan,
            desired,
        } = &planned.proposal.plan;
        (host.clone(), plan::diffs(plan, &planned.texts, desired))
    });
    texts.collect()
}

/// Shows a plan in the form that is wanted.
pub fn show(report: &Report, plan: &FleetPlan) {
    report.answer(&crate::report::plan::plan(plan));
    report.json(&serde_json::json!({"v": crate::event::VERSION, "type": "plan", "plan": plan}));
}

/// What has to be agreed to; `None` when nothing is risky, nothing goes away, and no host is new.
fn question(
    plan: &FleetPlan,
    environment: &EnvironmentName,
    protection: Protection,
) -> Option<Question> {
    let changing = || plan.hosts.values().filter(|host| !host.is_empty());
    let new: Vec<&str> = changing()
        .filter(|host| host.base.is_none())
        .map(|host| host.host.as_str())
        .take(NAMES_MAX)
        .collect();
    let mut why = Vec::new();
    if !new.is_empty() {
        why.push(format!("is the first push to {}", new.join(", ")));
    }
    if plan.is_risky() {
        why.push("can lock you out".to_owned());
    }
    if changing().any(removes) {
        why.push("takes something away".to_owned());
    }
    if why.is_empty() {
        return None;
    }
    let why = format!("This {}.", why.join(", and "));
    Some(if protection.is_protected() {
        named(why, environment)
    } else {
        Question::Yes {
            prompt: format!("{why} Go on?"),
        }
    })
}

fn named(prompt: String, environment: &EnvironmentName) -> Question {
    Question::Word {
        prompt,
        word: environment.to_string(),
    }
}

/// Whether something that is there goes out of service.
fn removes(plan: &HostPlan) -> bool {
    plan.base != GenerationId::NONE
        && (plan.releases.values().any(plan::Change::is_removed)
            || plan.units.values().any(plan::Change::is_removed)
            || plan.sites.values().any(plan::Change::is_removed)
            || plan.files.values().any(plan::Change::is_removed)
            || plan
                .secrets
                .values()
                .flat_map(BTreeMap::values)
                .any(plan::Change::is_removed)
            || plan
                .firewall
                .iter()
                .any(|firewall| firewall.declared.is_removed()))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use push_wire::risk::Risk;

    use super::*;
    use crate::desired::sample::Sample;

    const API: &str = "[apps.api]\non = \"web1\"\nsource = \"app\"\n";

    fn asked(base: u64, risks: &[Risk], protection: Protection) -> Option<Question> {
        let sample = Sample::new(API);
        let mut plan = HostPlan::new(&sample.hello, &sample.desired(), 22);
        plan.base = GenerationId(base);
        plan.risks = risks.iter().cloned().collect::<BTreeSet<_>>();
        let hosts = [("web1".parse().unwrap(), plan)].into();
        let environment: EnvironmentName = "prod".parse().unwrap();
        let plan = FleetPlan {
            environment: environment.clone(),
            hosts,
            drift: BTreeMap::new(),
        };
        question(&plan, &environment, protection)
    }

    #[test]
    fn the_first_push_to_a_host_is_asked_about_whatever_it_brings() {
        let Some(Question::Yes { prompt }) = asked(0, &[], Protection::Plain) else {
            panic!("not asked");
        };
        assert_eq!(prompt, "This is the first push to web1. Go on?");
        let Some(Question::Yes { prompt }) = asked(0, &[Risk::Firewall], Protection::Plain) else {
            panic!("not asked");
        };
        assert_eq!(
            prompt,
            "This is the first push to web1, and can lock you out. Go on?"
        );
        let protected = asked(0, &[], Protection::Protected);
        assert!(matches!(protected, Some(Question::Word { word, .. }) if word == "prod"));
    }

    #[test]
    fn a_later_push_that_is_not_risky_and_takes_nothing_away_is_not_asked_about() {
        assert_eq!(asked(3, &[], Protection::Plain), None);
        assert!(asked(3, &[Risk::Firewall], Protection::Plain).is_some());
    }
}
