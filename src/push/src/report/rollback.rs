//! What a rollback would bring back, host by host.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::json;

use super::foreign;
use super::style::{BAD, CHANGED, QUIET, TITLE, paint};
use super::table::Table;
use super::text::Text;
use crate::event::VERSION;
use crate::name::{AppName, GenerationId, HostName};
use crate::rollout::{RollbackPlan, Way};

/// The whole plan, hosts that go back to the same things together.
pub fn plan(plans: &BTreeMap<HostName, RollbackPlan>) -> String {
    let mut groups: Vec<(String, Vec<String>)> = Vec::new();
    for (host, plan) in plans {
        let (name, words) = (paint(TITLE, host), words(plan));
        match groups.iter_mut().find(|(known, _)| *known == words) {
            Some((_, hosts)) => hosts.push(name),
            None => groups.push((words, vec![name])),
        }
    }
    let mut text = Text::new();
    for (words, hosts) in groups {
        text.block(format!("{}  {words}", hosts.join(", ")));
    }
    text.finish()
}

/// What is said of one host, after its name.
fn words(plan: &RollbackPlan) -> String {
    let mut text = Text::new();
    let from = plan.from;
    match plan.way {
        Way::Back(to) => {
            text.line(format_args!(
                "generation {from} → what {} was",
                paint(TITLE, to)
            ));
            changes(&mut text, plan);
        }
        Way::There => text.line(paint(QUIET, format!("nothing to do, at generation {from}"))),
        Way::Before => text.line(paint(
            QUIET,
            format!("stays at generation {from}: it is before that push already"),
        )),
        Way::Nowhere => text.line(paint(
            BAD,
            format!("holds nothing before generation {from} to go back to"),
        )),
    }
    text.finish()
}

/// What comes, changes and goes, what is run for it, what is risky.
fn changes(text: &mut Text, plan: &RollbackPlan) {
    let Some(changes) = &plan.changes else {
        releases(text, plan);
        text.line(paint(
            QUIET,
            "  whatever else changes is not known: its push-host is older than this push",
        ));
        return;
    };
    if changes.is_empty() {
        text.line(paint(QUIET, "  declares the same as what is in effect"));
    }
    text.block(super::plan::body(changes));
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
                "from": plan.from, "to": to(plan), "way": way(plan),
                "releases_now": plan.releases_now, "releases_then": plan.releases_then,
                "changes": plan.changes,
            });
            (host, value)
        })
        .collect();
    json!({"v": VERSION, "type": "rollback_plan", "hosts": hosts})
}

/// The generation whose content a host has in the end.
fn to(plan: &RollbackPlan) -> GenerationId {
    match plan.way {
        Way::Back(to) => to,
        Way::There | Way::Before | Way::Nowhere => plan.from,
    }
}

fn way(plan: &RollbackPlan) -> &'static str {
    match plan.way {
        Way::Back(_) => "back",
        Way::There => "there",
        Way::Before => "before",
        Way::Nowhere => "nowhere",
    }
}

#[cfg(test)]
mod tests {
    use crate::desired::sample::Sample;
    use crate::plan::HostPlan;

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
            way: Way::Back(GenerationId(10)),
            changes: None,
            releases_now: releases(&[
                ("api", "20261120T101500Z-3f2a91c"),
                ("web", "20261101T080000Z"),
            ]),
            releases_then: releases(&[("api", "evil\x1b[2J"), ("web", "20261101T080000Z")]),
        };
        let going = |way| RollbackPlan {
            way,
            ..back.clone()
        };
        let plans = [
            ("web1", going(back.way)),
            ("web2", going(back.way)),
            ("web3", going(Way::Before)),
            ("web4", going(Way::Nowhere)),
            ("db1", going(Way::There)),
        ]
        .map(|(host, plan)| (host.parse().unwrap(), plan))
        .into();
        insta::assert_snapshot!(anstream::adapter::strip_str(&plan(&plans)).to_string(), @r#"
        db1  nothing to do, at generation 12
        web1, web2  generation 12 → what 10 was
          ~ release  api  20261120T101500Z-3f2a91c → evil\x1b[2J
          = release  web  20261101T080000Z
          whatever else changes is not known: its push-host is older than this push
        web3  stays at generation 12: it is before that push already
        web4  holds nothing before generation 12 to go back to
        "#);
    }

    #[test]
    fn a_rollback_says_all_that_changes_what_is_run_for_it_and_what_is_risky() {
        const EARLIER: &str =
            "[apps.api]\non = \"web1\"\nsource = \"app\"\n[firewall]\nallow = [\"http\"]\n";
        const LATER: &str = "[apps.api]\non = \"web1\"\nsource = \"app\"\n[apps.api.service]\nexec = \"{{ release.dir }}/api\"\n[firewall]\nallow = [\"http\", \"https\"]\n[files.\"/etc/motd\"]\ncontent = \"hello\"\n";
        let mut sample = Sample::new(EARLIER);
        let earlier = sample.desired();
        sample.declare(LATER);
        let later = sample.desired();
        sample.settle(&later);
        let to = (&earlier.project, &earlier.slice);
        let changes = HostPlan::between(&sample.hello, (&earlier.host, 22), to);
        let back = RollbackPlan {
            from: GenerationId(12),
            way: Way::Back(GenerationId(10)),
            changes: Some(Box::new(changes)),
            releases_now: BTreeMap::new(),
            releases_then: BTreeMap::new(),
        };
        let plans = [("web1".parse().unwrap(), back)].into();
        insta::assert_snapshot!(anstream::adapter::strip_str(&plan(&plans)).to_string(), @r#"
        web1  generation 12 → what 10 was
          - unit      api.service
          ~ firewall               -443/tcp
          - file      /etc/motd
          then: stop api.service, reload systemd's units, load the firewall
          ! risky: the firewall changes
                   stays only if push gets in again over a new connection
        "#);
    }
}
