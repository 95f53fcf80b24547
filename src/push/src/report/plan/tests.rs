use std::collections::BTreeSet;

use push_wire::digest::Digest;
use push_wire::firewall::{Ports, Protocol, Rule};
use push_wire::manifest::{OnRelease, Runs};
use push_wire::risk::Risk;

use super::*;
use crate::plan::{Drift, FirewallChange, ForwardOnly, Refusal, Setting};

fn plain(text: &str) -> String {
    anstream::adapter::strip_str(text).to_string()
}

fn nothing(host: &str) -> HostPlan {
    HostPlan {
        host: host.parse().unwrap(),
        project: "shop".parse().unwrap(),
        base: GenerationId(11),
        releases: BTreeMap::new(),
        settings: BTreeMap::new(),
        units: BTreeMap::new(),
        sites: BTreeMap::new(),
        firewall: None,
        files: BTreeMap::new(),
        secrets: BTreeMap::new(),
        groundwork: BTreeSet::new(),
        ways_in: BTreeSet::new(),
        ways_closed: BTreeSet::new(),
        again: false,
        effects: Vec::new(),
        risks: BTreeSet::new(),
        forward_only: Vec::new(),
        bytes_max: 0,
        refusals: Vec::new(),
    }
}

fn note(id: &str) -> ReleaseNote {
    ReleaseNote {
        id: id.parse().unwrap(),
        tree: Digest::of(id),
        size: 12_000_000,
    }
}

fn a_unit(text: &str) -> Unit {
    Unit {
        digest: Digest::of(text),
        app: "api".parse().unwrap(),
        wanted_by: BTreeSet::new(),
        runs: Runs::Always,
        on_release: OnRelease::Restart,
    }
}

fn a_rule(port: u16) -> Rule {
    Rule {
        protocol: Protocol::Tcp,
        ports: Ports::one(port),
        from: BTreeSet::new(),
    }
}

fn change<T>(from: Option<T>, to: Option<T>) -> Change<T> {
    Change { from, to }
}

fn full(host: &str) -> HostPlan {
    let api = || "api".parse().unwrap();
    let unit = |name: &str| name.parse().unwrap();
    let declared = FirewallChange {
        declared: change(Some(1), Some(1)),
        added: BTreeSet::from([a_rule(443)]),
        removed: BTreeSet::from([a_rule(80)]),
        ping: None,
        logins: None,
    };
    HostPlan {
        releases: BTreeMap::from([(
            api(),
            change(
                Some(note("20261119T090000Z-0badcaf")),
                Some(note("20261120T101500Z-3f2a91c")),
            ),
        )]),
        settings: BTreeMap::from([(api(), vec![Setting::Health])]),
        units: BTreeMap::from([
            (
                unit("api.service"),
                change(Some(a_unit("a")), Some(a_unit("b"))),
            ),
            (unit("api-clean.timer"), change(None, Some(a_unit("c")))),
            (unit("old.service"), change(Some(a_unit("d")), None)),
        ]),
        firewall: Some(declared),
        ways_in: BTreeSet::from([2222]),
        ways_closed: BTreeSet::from([22]),
        effects: vec![
            Effect::Stop(unit("old.service")),
            Effect::DaemonReload,
            Effect::LoadFirewall,
            Effect::Restart(unit("api.service")),
        ],
        risks: BTreeSet::from([Risk::Firewall]),
        forward_only: vec![ForwardOnly::User("api".parse().unwrap())],
        bytes_max: 12_000_000,
        ..nothing(host)
    }
}

fn fleet(hosts: Vec<HostPlan>) -> FleetPlan {
    FleetPlan {
        environment: "prod".parse().unwrap(),
        hosts: hosts
            .into_iter()
            .map(|plan| (plan.host.clone(), plan))
            .collect(),
        drift: BTreeMap::new(),
    }
}

#[test]
fn a_plan_groups_hosts_and_says_what_is_run_what_is_risky_and_what_stays() {
    let text = plan(&fleet(vec![full("web1"), full("web2"), nothing("db1")]));
    insta::assert_snapshot!(plain(&text), @r#"
    web1, web2 (2 hosts)  at generation 11
      ~ release   api              20261119T090000Z-0badcaf → 20261120T101500Z-3f2a91c (11 MiB)
      ~ app       api              health check
      + unit      api-clean.timer
      ~ unit      api.service      text
      - unit      old.service
      ~ firewall                   -80/tcp  +443/tcp
      + way in    2222/tcp         stays open for the operator, whatever the rules say
      - way in    22/tcp           closes: sshd is not there, and this push came in by another
      then: stop old.service, reload systemd's units, load the firewall, restart api.service
      ! risky: the firewall changes
               stays only if push gets in again over a new connection
      not taken back: user api is created unless it exists
      to send: at most 11 MiB

    prod: 2 hosts to change, 1 unchanged, 2 restarts, 2 stops, at most 22 MiB to send, risky on 2 hosts
    "#);
}

#[test]
fn nothing_to_do_is_one_line() {
    assert_eq!(
        plain(&plan(&fleet(vec![nothing("web1"), nothing("web2")]))),
        "prod: nothing to do, 2 hosts as they should be\n"
    );
}

#[test]
fn what_is_not_as_it_was_pushed_is_told_where_nothing_changes_and_nothing_claimed_to_be_as_it_should()
 {
    let mut drifted = fleet(vec![nothing("web1"), nothing("web2")]);
    let drift = Drift {
        lines: vec!["api.service does not run: inactive\x1b[2J".into()],
        projects: [("shop".parse().unwrap(), "shop/prod".to_owned())].into(),
    };
    drifted.drift.insert("web2".parse().unwrap(), drift);
    insta::assert_snapshot!(plain(&plan(&drifted)), @r"
    web2  nothing to change, but not as it was pushed
      drift: api.service does not run: inactive\x1b[2J
        help: `push prod -l web2 --again` applies again what shop declares there

    prod: nothing to change, but 1 host is not as pushed
    ");
    let mut changing = drifted;
    changing.hosts = fleet(vec![nothing("web1"), full("web2")]).hosts;
    let text = plain(&plan(&changing));
    assert!(
        text.contains(
            "web2  not as it was pushed; this push puts right only what it changes\n  drift: api"
        ),
        "{text}"
    );
    let again = HostPlan {
        again: true,
        ..nothing("web1")
    };
    insta::assert_snapshot!(plain(&plan(&fleet(vec![again]))), @r"
    web1  at generation 11
      ~ all of it is applied again, changed or not

    prod: 1 host to change
    ");
}

#[test]
fn where_no_host_could_be_planned_for_nothing_is_claimed_about_any() {
    assert_eq!(
        plain(&plan(&fleet(vec![]))),
        "prod: no plan could be made for any host\n"
    );
}

#[test]
fn a_host_that_would_refuse_is_told_with_what_to_do() {
    let refused = HostPlan {
        refusals: vec![Refusal::Glibc {
            app: "api".parse().unwrap(),
            needed: "2.38".into(),
            found: "2.36".into(),
        }],
        base: GenerationId::NONE,
        ..full("web1")
    };
    let text = plain(&plan(&fleet(vec![refused])));
    assert!(text.starts_with("web1  first push\n"), "{text}");
    assert!(
        text.contains("✗ refused: api needs glibc 2.38, and this host has 2.36\n    help: "),
        "{text}"
    );
    assert!(text.ends_with("refused by 1 host\n"), "{text}");
}

#[test]
fn diffs_of_equal_hosts_are_shown_once_and_hold_no_escape_code() {
    let unified = "--- unit api.service\n+++ unit api.service\n@@ -1 +1 @@\n-a\x1b[2J\n+b\tc\n";
    let texts = || {
        vec![TextDiff {
            what: "unit api.service".into(),
            unified: unified.into(),
        }]
    };
    let diffs = ["web1", "web2"]
        .map(|host| (host.parse().unwrap(), texts()))
        .into();
    let text = diff(&fleet(vec![full("web1"), full("web2")]), &diffs);
    insta::assert_snapshot!(plain(&text), @r#"
    web1, web2 (2 hosts)  at generation 11
      ~ release   api              20261119T090000Z-0badcaf → 20261120T101500Z-3f2a91c (11 MiB)
      ~ app       api              health check
      + unit      api-clean.timer
      ~ unit      api.service      text
      - unit      old.service
      ~ firewall                   -80/tcp  +443/tcp
      + way in    2222/tcp         stays open for the operator, whatever the rules say
      - way in    22/tcp           closes: sshd is not there, and this push came in by another
      then: stop old.service, reload systemd's units, load the firewall, restart api.service
      ! risky: the firewall changes
               stays only if push gets in again over a new connection
      not taken back: user api is created unless it exists
      to send: at most 11 MiB
      --- unit api.service
      +++ unit api.service
      @@ -1 +1 @@
      -a\x1b[2J
      +b	c

    prod: 2 hosts to change, 2 restarts, 2 stops, at most 22 MiB to send, risky on 2 hosts
    "#);
}
