//! What the operator is shown before anything happens, and what is asked. A plan that can lock
//! somebody out or takes something away needs a yes; in a protected environment it needs its name.

use std::collections::BTreeMap;

use push_wire::name::GenerationId;

use super::arguments::Asking;
use super::consent::{self, Question};
use crate::inventory::Protection;
use crate::name::{EnvironmentName, HostName};
use crate::plan::{self, FleetPlan, HostPlan, TextDiff};
use crate::report::{Report, rollback};
use crate::rollout::{Answer, DeployPlan, Gate, Plans, RollbackPlan};
use crate::transport::Pending;

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
        let plans: BTreeMap<HostName, RollbackPlan> = plans
            .iter()
            .map(|(host, planned)| (host.clone(), planned.proposal.plan.clone()))
            .collect();
        self.report.answer(&rollback::plan(&plans));
        self.report.json(&rollback::json(&plans));
        let prompt = format!(
            "Go back on {}?",
            crate::report::measure::count(plans.len(), "host")
        );
        let question = if self.protection.is_protected() {
            named(prompt, &self.environment)
        } else {
            Question::Yes { prompt }
        };
        Box::pin(self.answer(Some(question)))
    }
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
            Ok(Err(refused)) => Answer::No {
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
    FleetPlan {
        environment: environment.clone(),
        hosts: hosts.collect(),
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

/// What has to be agreed to; `None` when nothing is risky and nothing goes away.
fn question(
    plan: &FleetPlan,
    environment: &EnvironmentName,
    protection: Protection,
) -> Option<Question> {
    let removes = plan.hosts.values().any(removes);
    let why = match (plan.is_risky(), removes) {
        (false, false) => return None,
        (true, false) => "This can lock you out.",
        (false, true) => "This takes something away.",
        (true, true) => "This can lock you out, and takes something away.",
    };
    Some(if protection.is_protected() {
        named(why.to_owned(), environment)
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
