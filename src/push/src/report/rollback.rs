//! What a rollback would bring back, host by host.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::json;

use super::foreign;
use super::style::{CHANGED, QUIET, TITLE, paint};
use super::table::Table;
use super::text::Text;
use crate::event::VERSION;
use crate::name::{AppName, HostName};
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
    let apps: BTreeSet<&AppName> = plan
        .releases_now
        .keys()
        .chain(plan.releases_then.keys())
        .collect();
    let mut table = Table::new();
    for app in apps {
        let [now, then] = [&plan.releases_now, &plan.releases_then]
            .map(|all| all.get(app).map_or_else(absent, |id| foreign::line(id)));
        let (mark, words) = if now == then {
            (paint(QUIET, "="), now)
        } else {
            (
                paint(CHANGED, "~"),
                format!("{now} → {}", paint(TITLE, then)),
            )
        };
        table.row([format!("{mark} release"), app.to_string(), words]);
    }
    text.block(table.render("  "));
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

#[cfg(test)]
mod tests {
    use push_wire::name::GenerationId;

    use super::*;

    fn releases(all: &[(&str, &str)]) -> BTreeMap<AppName, String> {
        all.iter()
            .map(|(app, id)| (app.parse().unwrap(), (*id).to_owned()))
            .collect()
    }

    #[test]
    fn a_rollback_names_what_comes_back_and_lets_no_escape_code_through() {
        let back = RollbackPlan {
            from: GenerationId(12),
            to: GenerationId(10),
            releases_now: releases(&[
                ("api", "20261120T101500Z-3f2a91c"),
                ("web", "20261101T080000Z"),
            ]),
            releases_then: releases(&[("api", "evil\x1b[2J"), ("web", "20261101T080000Z")]),
        };
        let same = RollbackPlan {
            to: GenerationId(12),
            ..back.clone()
        };
        let plans = [("web1", &back), ("web2", &back), ("db1", &same)]
            .map(|(host, plan)| (host.parse().unwrap(), plan.clone()))
            .into();
        insta::assert_snapshot!(anstream::adapter::strip_str(&plan(&plans)).to_string(), @r#"
        db1  nothing to do, at generation 12
        web1, web2  generation 12 → what 10 was
          ~ release  api  20261120T101500Z-3f2a91c → evil\x1b[2J
          = release  web  20261101T080000Z
        "#);
    }
}
