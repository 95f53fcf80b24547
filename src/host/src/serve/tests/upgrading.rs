//! An upgrade of the operating system, asked for, ordered and told.

use std::path::Path;

use push_wire::upgrade::{End as Ending, Order, Packages, Phase, Reboot, Scope};

use super::*;
use crate::machine::{self, Access, Clock as _, Disk as _, Tool, World as _};
use crate::upgrade::{begin, read, upgrade};

fn order() -> Order {
    Order {
        id: "u1".parse().unwrap(),
        packages: Packages::default(),
        scope: Scope::Safe,
        reboot: Reboot::Never,
        provenance: Provenance {
            operator: "ada".to_owned(),
            ..Provenance::default()
        },
    }
}

/// A host with a package.
fn host() -> Simulated {
    let mut host = Simulated::default();
    let status = layout().dpkg_status();
    let folder = status.parent().unwrap().to_owned();
    machine::folders(&mut host, &folder, &Access::public_folder()).unwrap();
    let text = b"Package: curl\nStatus: install ok installed\nVersion: 1\n\n";
    machine::replace(&mut host, &status, text, &Access::public_file()).unwrap();
    host.sync(Path::new(&folder)).unwrap();
    host
}

/// Lets the unit of transactions run.
fn run_the_unit(host: &mut Simulated) {
    let unit = "push-transaction.service";
    host.services.loaded.insert(unit.into(), String::new());
    host.run(&Tool::Restart(unit.parse().unwrap())).unwrap();
}

#[test]
fn an_upgrade_that_systemd_starts_after_it_was_called_off_installs_nothing() {
    let mut host = host();
    let mut played = Played {
        launch_refused: Some("systemd-run did not end within 30 s".to_owned()),
        ..Played::default()
    };
    let asked = said(&Request::UpgradeSystem(Box::new(order())));
    let (replies, _) = converse_as(&mut host, &mut played, asked);
    let Some(Reply::Upgrade(told)) = replies.last() else {
        panic!("{replies:?}");
    };
    let is_told =
        matches!(&told.phase, Phase::Ended(Ending::Bad { why, .. }) if why.contains("30 s"));
    assert!(is_told, "{told:?}");
    let late = upgrade(&mut host, &layout(), &order().id, &mut |_| {}).unwrap();
    assert_eq!(late.phase, told.phase);
    assert_eq!(host.services.jobs, [""; 0]);
}

#[test]
fn the_same_order_begins_one_upgrade_and_is_told_how_it_ended() {
    let (mut host, mut played) = (host(), Played::default());
    let asked = said(&Request::UpgradeSystem(Box::new(order())));
    converse_as(&mut host, &mut played, asked.clone());
    assert_eq!(played.launched, [order().id]);
    let begun = read(&host, &layout()).unwrap().unwrap();
    assert_eq!((begun.order, begun.phase), (order(), Phase::Ordered));

    upgrade(&mut host, &layout(), &order().id, &mut |_| {}).unwrap();
    let (replies, _) = converse_as(&mut host, &mut played, asked);
    let Some(Reply::Upgrade(record)) = replies.last() else {
        panic!("{replies:?}");
    };
    assert_eq!(record.phase, Phase::Ended(Ending::Done));
    assert_eq!(played.launched, [order().id], "it was begun again");
}

#[test]
fn whoever_comes_while_a_host_upgrades_is_told_at_once_and_by_whom() {
    let mut host = host();
    begin(&mut host, &layout(), &order()).unwrap();
    run_the_unit(&mut host);
    let before_ms = host.boottime_ms();
    let another = Order {
        id: "u2".parse().unwrap(),
        ..order()
    };
    let requests = [
        Request::Offer(Scope::Safe),
        Request::UpgradeSystem(Box::new(another)),
    ];
    for request in requests {
        let replies = converse(&mut host, said(&request));
        let Some(Reply::Refused(refusal)) = replies.last() else {
            panic!("{replies:?}");
        };
        let Refusal::Locked(holder) = refusal.as_ref() else {
            panic!("{refusal:?}");
        };
        assert_eq!(holder.operator, "ada");
        assert_eq!(holder.step, "upgrading the operating system");
    }
    assert!(host.boottime_ms() - before_ms < 5_000, "it was waited for");
    assert!(host.services.jobs.is_empty(), "{:?}", host.services.jobs);
}

#[test]
fn an_offer_fetches_the_lists_and_installs_nothing() {
    let mut host = host();
    let replies = converse(&mut host, said(&Request::Offer(Scope::Safe)));
    assert!(
        matches!(replies.last(), Some(Reply::Offer(_))),
        "{replies:?}"
    );
    assert_eq!(host.services.jobs, ["refresh"]);
}
