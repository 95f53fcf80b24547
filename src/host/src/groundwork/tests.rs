//! Groundwork on a simulated host: made once, nothing the second time, and whole after a cut at any call.

use push_wire::groundwork::{Groundwork, Work};

use super::*;
use crate::machine::simulated::Simulated;
use crate::machine::simulated::pending::Survives;

fn layout() -> Layout {
    Layout::new("/")
}

fn everything() -> Groundwork {
    Groundwork {
        packages: ["nftables", "sudo"]
            .map(|name| name.parse().unwrap())
            .into(),
        logins: ["deploy".parse().unwrap()].into(),
        hostname: Some("web1.example.com".parse().unwrap()),
        time_zone: Some("Etc/UTC".parse().unwrap()),
        locale: Some("de_DE.UTF-8".parse().unwrap()),
        swap_bytes: Some(1 << 30),
    }
}

/// A fresh host: the files that every Debian has.
fn fresh() -> Simulated {
    let mut host = Simulated::default();
    let file = |host: &mut Simulated, path: &str, text: &str| {
        write(host, Path::new(path), text).unwrap();
    };
    file(
        &mut host,
        "/etc/passwd",
        "root:x:0:0:root:/root:/bin/bash\n",
    );
    file(&mut host, "/etc/hosts", "127.0.0.1 localhost\n");
    file(&mut host, "/etc/hostname", "vps-4711\n");
    file(&mut host, "/etc/default/locale", "LC_TIME=C\n");
    file(&mut host, "/usr/share/zoneinfo/Etc/UTC", "zone");
    file(
        &mut host,
        "/var/lib/dpkg/status",
        "Package: base-files\nStatus: install ok installed\n\n",
    );
    host
}

fn make(host: &mut Simulated, wanted: &Groundwork) -> Result<Vec<String>, Refusal> {
    let lacking = survey(host, &layout(), wanted).unwrap();
    let mut told = Vec::new();
    carry_out(host, &layout(), &lacking, &mut |what| {
        told.push(what.to_owned());
    })?;
    Ok(told)
}

fn lacking(host: &Simulated) -> BTreeSet<Work> {
    survey(host, &layout(), &everything()).unwrap()
}

#[test]
fn what_is_lacking_is_made_and_the_second_time_there_is_nothing_to_do() {
    let mut host = fresh();
    assert_eq!(lacking(&host).len(), 7);
    let told = make(&mut host, &everything()).unwrap();
    assert!(told.contains(&"login deploy".to_owned()), "{told:?}");
    assert_eq!(lacking(&host), [].into());
    let read = |path: &str| text(&host, Path::new(path)).unwrap();
    assert_eq!(read("/etc/hostname"), "web1\n");
    assert!(read("/etc/hosts").contains("127.0.1.1 web1.example.com web1\n"));
    assert_eq!(read("/etc/default/locale"), "LC_TIME=C\nLANG=de_DE.UTF-8\n");
    assert_eq!(read("/etc/locale.gen"), "de_DE.UTF-8 UTF-8\n");
    assert_eq!(read("/etc/fstab"), "/swapfile none swap sw 0 0\n");
    let calls = host.calls();
    assert!(make(&mut host, &everything()).unwrap().is_empty());
    assert!(host.calls() - calls < 12, "looking costs a few reads");
}

#[test]
fn lists_are_fetched_only_where_they_do_not_know_a_package() {
    let mut host = fresh();
    host.services.listed = Some(["sudo".to_owned()].into());
    let some = |name: &str| Groundwork {
        packages: [name.parse().unwrap()].into(),
        ..Groundwork::default()
    };
    make(&mut host, &some("sudo")).unwrap();
    assert_eq!(host.services.jobs, ["install sudo"]);
    make(&mut host, &some("nftables")).unwrap();
    assert_eq!(host.services.jobs[1..], ["refresh", "install nftables"]);
    let refused = make(&mut host, &some("no-such-package"));
    assert!(
        matches!(&refused, Err(Refusal::Groundwork { output, .. }) if output.contains("no-such-package")),
        "{refused:?}"
    );
    assert!(
        !host
            .services
            .jobs
            .iter()
            .any(|job| job.contains("install no-such"))
    );
}

#[test]
fn an_installation_that_was_cut_short_is_finished_first() {
    let mut host = fresh();
    let status = "Package: curl\nStatus: install ok half-configured\n\n";
    write(&mut host, &layout().dpkg_status(), status).unwrap();
    make(&mut host, &everything()).unwrap();
    assert_eq!(host.services.jobs[0], "finish");
}

#[test]
fn an_unknown_zone_is_named_and_nothing_is_linked_to_it() {
    let mut host = fresh();
    let wanted = Groundwork {
        time_zone: Some("Mars/Olympus".parse().unwrap()),
        ..Groundwork::default()
    };
    let refused = make(&mut host, &wanted);
    assert!(
        matches!(&refused, Err(Refusal::Groundwork { what, .. }) if what.contains("Mars/Olympus")),
        "{refused:?}"
    );
    assert_eq!(host.read_link(Path::new("/etc/localtime")).unwrap(), None);
}

#[test]
fn groundwork_cut_at_any_call_is_whole_after_it_is_done_again() {
    for cut in 1.. {
        let mut host = fresh();
        host.disk.sync_all(Path::new("/")).unwrap();
        let mut host = host.cut_at(cut);
        let done = host.until_the_cut(|host| make(host, &everything()));
        if done.is_some() {
            assert!(cut > 30, "the groundwork takes more calls than {cut}");
            return;
        }
        host.power_on(Survives::Nothing);
        make(&mut host, &everything())
            .unwrap_or_else(|error| panic!("cut at call {cut}: {error:?}"));
        assert_eq!(lacking(&host), [].into(), "cut at call {cut}");
        let table = text(&host, &layout().fstab()).unwrap();
        assert_eq!(
            table.matches("swap sw").count(),
            1,
            "cut at call {cut}: {table}"
        );
        let hosts = text(&host, Path::new("/etc/hosts")).unwrap();
        assert_eq!(
            hosts.matches("127.0.1.1").count(),
            1,
            "cut at call {cut}: {hosts}"
        );
    }
}
