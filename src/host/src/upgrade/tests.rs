//! An upgrade of a simulated host: what is done, what is refused, and what a cut at any call leaves.

use std::path::Path;

use push_wire::manifest::Provenance;
use push_wire::upgrade::{Change, Packages, Removal, Scope};

use super::*;
use crate::machine::simulated::Simulated;
use crate::machine::simulated::pending::Survives;
use crate::machine::{Disk as _, Owner, World as _};

const STATUS: &str = "/var/lib/dpkg/status";

fn layout() -> Layout {
    Layout::new("/")
}

fn id() -> TransactionId {
    "u1".parse().unwrap()
}

fn change(package: &str, to: &str) -> Change {
    Change {
        package: package.parse().unwrap(),
        from: Some("1".parse().unwrap()),
        to: to.parse().unwrap(),
        security: false,
    }
}

fn order(reboot: Reboot) -> Order {
    Order {
        id: id(),
        packages: Packages {
            changes: vec![change("libone", "2"), change("two", "2")],
            ..Packages::default()
        },
        scope: Scope::Safe,
        reboot,
        provenance: Provenance::default(),
    }
}

/// A host with two packages that have newer versions, and a service that runs from one of them.
fn host() -> Simulated {
    let mut host = Simulated::default();
    let stanza =
        |name: &str| format!("Package: {name}\nStatus: install ok installed\nVersion: 1\n\n");
    let text = ["libone", "two", "held"].map(stanza).concat();
    let folder = Path::new(STATUS).parent().unwrap();
    machine::folders(&mut host, folder, &Access::public_folder()).unwrap();
    machine::replace(
        &mut host,
        Path::new(STATUS),
        text.as_bytes(),
        &Access::public_file(),
    )
    .unwrap();
    host.sync(folder).unwrap();
    host.services.offer = order(Reboot::Never).packages;
    let owner = Owner::Service("api.service".parse().unwrap());
    host.services
        .outdated
        .insert(owner, "/usr/lib/libone.so".into());
    host
}

fn carried_out(host: &mut Simulated, reboot: Reboot) -> Record {
    begin(host, &layout(), &order(reboot)).unwrap();
    go_on(host)
}

fn go_on(host: &mut Simulated) -> Record {
    upgrade(host, &layout(), &id(), &mut |_| {}).unwrap()
}

fn has(host: &Simulated, package: &str, version: &str) -> bool {
    let text = String::from_utf8(host.read(Path::new(STATUS), 1 << 20).unwrap()).unwrap();
    let status = crate::dpkg::Status::parse(&text);
    status.has(&package.parse().unwrap(), &version.parse().unwrap())
}

fn why(record: &Record) -> (Stage, &str) {
    match &record.phase {
        Phase::Ended(End::Bad { at, why, .. }) => (*at, why),
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_was_ordered_is_installed_and_who_ran_from_it_is_restarted() {
    let mut host = host();
    let record = carried_out(&mut host, Reboot::Needed);
    assert_eq!(record.phase, Phase::Ended(End::Done));
    assert!(has(&host, "libone", "2") && has(&host, "two", "2") && has(&host, "held", "1"));
    assert_eq!(record.restarted, ["api.service".parse().unwrap()].into());
    assert!(host.services.outdated.is_empty() && host.services.reboots == 0 && !record.rebooted);
    assert_eq!(read(&host, &layout()).unwrap(), Some(record));
}

#[test]
fn an_upgrade_cut_at_any_call_says_the_truth_and_is_taken_up_to_its_end() {
    for cut in 1.. {
        let mut host = host();
        begin(&mut host, &layout(), &order(Reboot::Never)).unwrap();
        host = host.cut_at(cut);
        let ended = host.until_the_cut(|host| upgrade(host, &layout(), &id(), &mut |_| {}).is_ok());
        host.power_on(Survives::Nothing);
        let record = read(&host, &layout()).unwrap().unwrap();
        if record.phase == Phase::Ended(End::Done) {
            assert!(
                has(&host, "libone", "2") && has(&host, "two", "2"),
                "cut at {cut}"
            );
        }
        host.finish_boot();
        let record = go_on(&mut host);
        assert_eq!(record.phase, Phase::Ended(End::Done), "cut at {cut}");
        assert!(
            has(&host, "libone", "2") && has(&host, "two", "2"),
            "cut at {cut}"
        );
        if ended.is_some() {
            assert!(cut > 20, "{cut} calls are too few to have been an upgrade");
            break;
        }
    }
}

#[test]
fn a_package_whose_script_fails_is_named_and_nothing_is_restarted_after_it() {
    let mut host = host();
    host.services.broken.insert("two".to_owned());
    let record = carried_out(&mut host, Reboot::Always);
    assert_eq!(why(&record), (Stage::Packages, "left half done: two"));
    assert!(host.services.reboots == 0 && record.restarted.is_empty());
    // Mended, the next order finishes it first.
    host.services.broken.clear();
    let again = Order {
        id: "u2".parse().unwrap(),
        packages: Packages::default(),
        ..order(Reboot::Never)
    };
    begin(&mut host, &layout(), &again).unwrap();
    let record = upgrade(&mut host, &layout(), &again.id, &mut |_| {}).unwrap();
    assert_eq!(record.phase, Phase::Ended(End::Done));
    assert!(host.services.jobs.contains(&"finish".to_owned()));
}

#[test]
fn what_was_not_shown_is_not_installed() {
    let removal = Removal {
        package: "held".parse().unwrap(),
        version: "1".parse().unwrap(),
    };
    let offers = [
        Packages {
            changes: vec![change("libone", "3"), change("two", "2")],
            ..Packages::default()
        },
        Packages {
            changes: vec![change("libone", "2")],
            ..Packages::default()
        },
        Packages {
            removals: vec![removal],
            ..order(Reboot::Never).packages
        },
    ];
    for offer in offers {
        let mut host = host();
        host.services.offer = offer;
        let record = carried_out(&mut host, Reboot::Always);
        assert!(
            matches!(record.phase, Phase::Ended(End::Stale { .. })),
            "{record:?}"
        );
        assert!(has(&host, "libone", "1") && has(&host, "two", "1"));
        assert!(host.services.jobs.is_empty() && host.services.reboots == 0);
    }
}

#[test]
fn a_service_that_does_not_start_again_or_fails_later_is_named_and_an_older_failure_is_not() {
    let mut sick = host();
    let api = "api.service".parse().unwrap();
    sick.services
        .loaded
        .insert("api.service".into(), "app=api".into());
    sick.run(&Tool::Restart(api)).unwrap();
    sick.services
        .loaded
        .insert("api.service".into(), "fails".into());
    let record = carried_out(&mut sick, Reboot::Always);
    let (at, said) = why(&record);
    assert!(
        at == Stage::Restart && said.contains("api.service"),
        "{said}"
    );
    assert_eq!(sick.services.reboots, 0);

    let mut old = host();
    old.services.failed.insert("old.mount".to_owned());
    let record = carried_out(&mut old, Reboot::Never);
    assert_eq!(record.phase, Phase::Ended(End::Done));

    let mut later = host();
    begin(&mut later, &layout(), &order(Reboot::Never)).unwrap();
    let mut record = read(&later, &layout()).unwrap().unwrap();
    record::enter(&mut later, &layout(), (&mut record, Phase::Checking)).unwrap();
    later.services.failed.insert("new.service".to_owned());
    let record = go_on(&mut later);
    let (at, said) = why(&record);
    assert!(
        at == Stage::Health && said.ends_with("new.service"),
        "{said}"
    );
}

#[test]
fn a_reboot_that_is_needed_and_allowed_is_ordered_once_and_health_is_looked_at_after_it() {
    let mut host = host();
    let required = layout().reboot_required();
    machine::folders(
        &mut host,
        required.parent().unwrap(),
        &Access::public_folder(),
    )
    .unwrap();
    host.create(&required, b"", &Access::public_file()).unwrap();
    let record = carried_out(&mut host, Reboot::Needed);
    assert!(matches!(record.phase, Phase::Rebooting { .. }) && !record.rebooted);
    assert_eq!((host.services.reboots, record.reboot.len()), (1, 1));
    host.power_on(Survives::Nothing);
    host.finish_boot();
    host.remove(&required).unwrap();
    let record = go_on(&mut host);
    assert_eq!(record.phase, Phase::Ended(End::Done));
    assert!(record.rebooted && record.reboot.is_empty());

    let mut told = self::host();
    machine::folders(
        &mut told,
        required.parent().unwrap(),
        &Access::public_folder(),
    )
    .unwrap();
    told.create(&required, b"", &Access::public_file()).unwrap();
    let record = carried_out(&mut told, Reboot::Never);
    assert_eq!(record.phase, Phase::Ended(End::Done));
    assert_eq!(
        (told.services.reboots, record.reboot),
        (0, vec!["an installed package asks for it".to_owned()])
    );
}

#[test]
fn an_upgrade_that_nobody_has_begun_is_not_known() {
    let mut host = host();
    let unknown = upgrade(&mut host, &layout(), &id(), &mut |_| {});
    assert!(matches!(unknown, Err(UpgradeError::Unknown { .. })));
}
