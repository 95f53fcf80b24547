//! What a rollback would bring back, host by host.

use std::collections::BTreeMap;

use serde_json::json;

use super::foreign;
use super::style::{CHANGED, QUIET, TITLE, paint};
use super::text::Text;
use crate::event::VERSION;
use crate::name::HostName;
use crate::rollout::RollbackPlan;

/// The whole plan, hosts that go back to the same things together.
pub fn plan(plans: &BTreeMap<HostName, RollbackPlan>) -> String {
    let mut groups: Vec<(&RollbackPlan, Vec<String>)> = Vec::new();
    for (host, plan) in plans {
        let name = paint(TITLE, host);
        match groups.iter_mut().find(|(known, _)| *known == plan) {
            Some((_, hosts)) => hosts.push(name),
            None => groups.push((plan, vec![name])),
        }
    }
    let mut text = Text::new();
    for (plan, hosts) in groups {
        let hosts = hosts.join(", ");
        if plan.from == plan.to {
            text.line(format_args!(
                "{hosts}  {}",
                paint(QUIET, format!("nothing to do, at generation {}", plan.to))
            ));
            continue;
        }
        text.line(format_args!(
            "{hosts}  generation {} → what {} was",
            plan.from,
            paint(TITLE, plan.to)
        ));
        releases(&mut text, plan);
    }
    text.finish()
}

fn releases(text: &mut Text, plan: &RollbackPlan) {
    let absent = || "none".to_owned();
    let apps = plan.releases_now.keys().chain(
        plan.releases_then
            .keys()
            .filter(|app| !plan.releases_now.contains_key(*app)),
    );
    for app in apps {
        let [now, then] = [&plan.releases_now, &plan.releases_then]
            .map(|all| all.get(app).map_or_else(absent, |id| foreign::line(id)));
        if now == then {
            text.line(format_args!("  {} release {app}  {now}", paint(QUIET, "=")));
        } else {
            text.line(format_args!(
                "  {} release {app}  {now} → {then}",
                paint(CHANGED, "~")
            ));
        }
    }
}

/// The same for programs.
pub fn json(plans: &BTreeMap<HostName, RollbackPlan>) -> serde_json::Value {
    let hosts: BTreeMap<&HostName, serde_json::Value> = plans
        .iter()
        .map(|(host, plan)| {
            let value = json!({
                "from": plan.from, "to": plan.to,
                "releases_now": plan.releases_now, "releases_then": plan.releases_then,
            });
            (host, value)
        })
        .collect();
    json!({"v": VERSION, "type": "rollback_plan", "hosts": hosts})
}
