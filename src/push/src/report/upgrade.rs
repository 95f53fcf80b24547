//! What an upgrade of the operating system would do, host by host, and what the latest one was.

use std::collections::BTreeMap;

use push_wire::name::UnitName;
use push_wire::upgrade::{Change, End, Hold, Offer, Package, Phase, Record};
use serde_json::json;

use super::style::{BAD, CHANGED, GOOD, QUIET, RISKY, TITLE, paint};
use super::table::Table;
use super::text::Text;
use super::{foreign, measure};
use crate::event::VERSION;
use crate::name::HostName;

/// How many packages of a host are listed, security updates first.
const PACKAGES_MAX: usize = 60;

/// What each host would do, hosts that would do the same together.
pub fn offers(offers: &BTreeMap<HostName, Offer>) -> String {
    let mut groups: Vec<(&Offer, Vec<String>)> = Vec::new();
    for (host, offer) in offers {
        let name = paint(TITLE, host);
        match groups.iter_mut().find(|(known, _)| *known == offer) {
            Some((_, hosts)) => hosts.push(name),
            None => groups.push((offer, vec![name])),
        }
    }
    let mut text = Text::new();
    for (offer, hosts) in groups {
        text.line(format_args!("{}  {}", hosts.join(", "), heading(offer)));
        text.block(details(offer));
    }
    text.finish()
}

fn heading(offer: &Offer) -> String {
    let packages = &offer.packages;
    if packages.is_empty() && offer.half_done.is_empty() {
        return paint(QUIET, "every package is as new as it may be");
    }
    let security = packages.changes.iter().filter(|change| change.security);
    let mut said = vec![match security.count() {
        0 => measure::count(packages.changes.len(), "package"),
        some => format!(
            "{}, {some} of them for security",
            measure::count(packages.changes.len(), "package")
        ),
    }];
    if !packages.removals.is_empty() {
        let count = measure::count(packages.removals.len(), "package");
        said.push(paint(RISKY, format!("removes {count}")));
    }
    said.join("; ")
}

fn details(offer: &Offer) -> String {
    let mut table = Table::new();
    if !offer.half_done.is_empty() {
        let names: Vec<&str> = offer.half_done.iter().map(Package::as_str).collect();
        table.note(format!(
            "{} left half done by an earlier installation, finished first: {}",
            paint(CHANGED, "!"),
            names.join(", ")
        ));
    }
    for removal in &offer.packages.removals {
        table.row([
            paint(BAD, "-"),
            removal.package.to_string(),
            format!("{} is {}", removal.version, paint(RISKY, "removed")),
        ]);
    }
    let mut changes: Vec<&Change> = offer.packages.changes.iter().collect();
    changes.sort_by_key(|change| !change.security);
    for change in changes.iter().take(PACKAGES_MAX) {
        table.row(change_cells(change));
    }
    if let Some(more @ 1..) = changes.len().checked_sub(PACKAGES_MAX) {
        table.note(format!(
            "… {}; `--json` has all of them",
            measure::count(more, "more package")
        ));
    }
    for held in &offer.packages.held {
        let why = match held.why {
            Hold::Marked => "held by `apt-mark hold`",
            Hold::KeptBack => {
                "kept back by apt: it would remove something, or its turn has not come"
            }
        };
        table.row([
            paint(QUIET, "="),
            held.package.to_string(),
            paint(
                QUIET,
                format!("{} stays, {} is there: {why}", held.from, held.to),
            ),
        ]);
    }
    if !offer.restarts.is_empty() {
        let names: Vec<&str> = offer.restarts.iter().map(UnitName::as_str).collect();
        table.note(format!(
            "{} restarts, for running from files that were replaced before: {}",
            paint(CHANGED, "~"),
            names.join(", ")
        ));
    }
    for reason in &offer.reboot {
        table.note(format!(
            "{} needs a reboot already: {}",
            paint(CHANGED, "!"),
            foreign::line(reason)
        ));
    }
    table.render("  ")
}

fn change_cells(change: &Change) -> [String; 3] {
    let to = paint(TITLE, &change.to);
    let (mark, versions) = match &change.from {
        Some(from) => (paint(CHANGED, "~"), format!("{from} → {to}")),
        None => (paint(GOOD, "+"), format!("{to}, new on the host")),
    };
    let security = if change.security {
        format!("  {}", paint(GOOD, "security"))
    } else {
        String::new()
    };
    [
        mark,
        change.package.to_string(),
        format!("{versions}{security}"),
    ]
}

/// The same for programs.
pub fn json(offers: &BTreeMap<HostName, Offer>) -> serde_json::Value {
    json!({"v": VERSION, "type": "upgrade_plan", "hosts": offers})
}

/// How the latest upgrade of a host stands, in one line.
pub fn latest(record: &Record, now_unix_s: u64) -> String {
    let stands = match &record.phase {
        Phase::Ordered => "about to begin".to_owned(),
        Phase::Packages => "installing packages".to_owned(),
        Phase::Restarting => "restarting services".to_owned(),
        Phase::Rebooting { .. } => "rebooting".to_owned(),
        Phase::Checking => "looking whether everything is well".to_owned(),
        Phase::Ended(End::Done) => paint(GOOD, "done"),
        Phase::Ended(End::Stale { .. }) => "nothing done, the offer had changed".to_owned(),
        Phase::Ended(End::Bad { why, .. }) => {
            format!("{}: {}", paint(BAD, "not well"), foreign::line(why))
        }
    };
    let since = if record.is_final() {
        String::new()
    } else {
        format!(", since {}", measure::ago(record.at_unix_s, now_unix_s))
    };
    let reboot = record.reboot.first().filter(|_| record.is_final());
    let reboot = reboot.map(|reason| format!("; needed a reboot ({})", foreign::line(reason)));
    let reboot = reboot.unwrap_or_default();
    format!(
        "{} by {}: {stands}{since}{reboot}",
        measure::ago(record.begun_unix_s, now_unix_s),
        foreign::line(&record.order.provenance.operator)
    )
}

#[cfg(test)]
mod tests {
    use push_wire::upgrade::{Held, Packages, Removal};

    use super::*;

    fn change(package: &str, from: Option<&str>, to: &str) -> Change {
        Change {
            package: package.parse().unwrap(),
            from: from.map(|from| from.parse().unwrap()),
            to: to.parse().unwrap(),
            security: package == "openssl",
        }
    }

    #[test]
    fn hosts_that_agree_share_a_list_and_what_is_removed_held_or_pending_is_said() {
        let offer = Offer {
            packages: Packages {
                changes: vec![
                    change("curl", Some("7.88.1-10"), "7.88.1-10+deb12u5"),
                    change("linux-image-6.1.0-40-amd64", None, "6.1.148-1"),
                    change("openssl", Some("3.0.11-1"), "3.0.17-1~deb12u2"),
                ],
                removals: vec![Removal {
                    package: "old-tool".parse().unwrap(),
                    version: "0.9".parse().unwrap(),
                }],
                held: vec![Held {
                    package: "nginx".parse().unwrap(),
                    from: "1.22.1-9".parse().unwrap(),
                    to: "1.24.0-1".parse().unwrap(),
                    why: Hold::Marked,
                }],
            },
            half_done: [].into(),
            restarts: ["api.service".parse().unwrap()].into(),
            reboot: vec!["asked for by dbus\x1b[2J".into()],
        };
        let nothing = Offer::default();
        let hosts = [("web1", &offer), ("web2", &offer), ("db1", &nothing)];
        let hosts = hosts
            .map(|(host, offer)| (host.parse().unwrap(), offer.clone()))
            .into();
        insta::assert_snapshot!(anstream::adapter::strip_str(&offers(&hosts)).to_string(), @r"
        db1  every package is as new as it may be
        web1, web2  3 packages, 1 of them for security; removes 1 package
          -  old-tool                    0.9 is removed
          ~  openssl                     3.0.11-1 → 3.0.17-1~deb12u2  security
          ~  curl                        7.88.1-10 → 7.88.1-10+deb12u5
          +  linux-image-6.1.0-40-amd64  6.1.148-1, new on the host
          =  nginx                       1.22.1-9 stays, 1.24.0-1 is there: held by `apt-mark hold`
          ~ restarts, for running from files that were replaced before: api.service
          ! needs a reboot already: asked for by dbus\x1b[2J
        ");
    }

    fn record(phase: Phase, reboot: &[&str]) -> Record {
        Record {
            order: push_wire::upgrade::Order {
                id: "u1".parse().unwrap(),
                packages: Packages::default(),
                scope: push_wire::upgrade::Scope::Safe,
                reboot: push_wire::upgrade::Reboot::Never,
                provenance: push_wire::manifest::Provenance {
                    operator: "ada".into(),
                    ..push_wire::manifest::Provenance::default()
                },
            },
            begun_unix_s: 1000,
            at_unix_s: 1060,
            phase,
            failed_before: [].into(),
            restarted: [].into(),
            rebooted: false,
            reboot: reboot.iter().map(|&reason| reason.into()).collect(),
        }
    }

    #[test]
    fn the_latest_upgrade_is_told_in_one_line_whether_it_goes_on_ended_or_went_wrong() {
        let said = |phase, reboot| {
            let line = latest(&record(phase, reboot), 1120);
            anstream::adapter::strip_str(&line).to_string()
        };
        assert_eq!(
            said(Phase::Packages, &[]),
            "2 min ago by ada: installing packages, since 1 min ago"
        );
        assert_eq!(
            said(
                Phase::Ended(End::Done),
                &["vmlinuz-6.1 came since the boot"]
            ),
            "2 min ago by ada: done; needed a reboot (vmlinuz-6.1 came since the boot)"
        );
        let end = End::Bad {
            at: push_wire::upgrade::Stage::Packages,
            why: "left half done: curl\x1b[2J".into(),
            evidence: None,
        };
        assert_eq!(
            said(Phase::Ended(end), &[]),
            "2 min ago by ada: not well: left half done: curl\\x1b[2J"
        );
    }

    #[test]
    fn a_host_that_is_not_well_says_what_stays_and_what_to_type() {
        let outcome = crate::event::Outcome::NotUpgraded {
            at: push_wire::upgrade::Stage::Packages,
            why: "left half done: curl".into(),
            evidence: None,
        };
        let host: HostName = "web1".parse().unwrap();
        let told = super::super::outcome::account(&host, &outcome, "prod -l web1");
        let told = anstream::adapter::strip_str(&told.unwrap()).to_string();
        assert_eq!(
            told,
            "✗ web1: packages failed: left half done: curl\n  \
             what was installed stays; nothing was restarted or rebooted after it\n  \
             help: `dpkg --configure -a` on web1, as root, tries again what is half done\n  \
             help: `push upgrade prod -l web1` goes on with this host once it is mended\n"
        );
    }
}
