//! Groundwork on a simulated host: made once, nothing the second time, and whole after a cut at any call.

use push_wire::certificate::Certificate;
use push_wire::groundwork::{Groundwork, WelcomePage, Work};

use push_wire::manifest::{Manifest, Placed, Provenance, Slice};

use super::*;
use crate::machine::simulated::Simulated;
use crate::machine::simulated::pending::Survives;

fn layout() -> Layout {
    Layout::new("/")
}

fn certificate() -> Certificate {
    Certificate {
        app: "api".parse().unwrap(),
        names: ["api.example.com".parse().unwrap()].into(),
        endpoint: "https://acme.example.com/dir".parse().unwrap(),
        email: "ops@example.com".parse().unwrap(),
    }
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
        welcome_page: WelcomePage::Removed,
        certificates: [certificate()].into(),
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
    file(&mut host, "/etc/nginx/nginx.conf", "http {}");
    file(
        &mut host,
        "/etc/nginx/sites-available/default",
        welcome::STOCK,
    );
    file(&mut host, "/etc/nginx/sites-enabled/other", "");
    let link = layout().welcome_page();
    host.link(Path::new("/etc/nginx/sites-available/default"), &link)
        .unwrap();
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
    assert_eq!(lacking(&host).len(), 9);
    let told = make(&mut host, &everything()).unwrap();
    assert!(told.contains(&"login deploy".to_owned()), "{told:?}");
    assert_eq!(lacking(&host), [].into());
    let read = |path: &str| text(&host, Path::new(path)).unwrap();
    assert_eq!(read("/etc/hostname"), "web1\n");
    assert!(read("/etc/hosts").contains("127.0.1.1 web1.example.com web1\n"));
    assert_eq!(read("/etc/default/locale"), "LC_TIME=C\nLANG=de_DE.UTF-8\n");
    assert_eq!(read("/etc/locale.gen"), "de_DE.UTF-8 UTF-8\n");
    assert_eq!(read("/etc/fstab"), "/swapfile none swap sw 0 0\n");
    assert_eq!(host.read_link(&layout().welcome_page()).unwrap(), None);
    let calls = host.calls();
    assert!(make(&mut host, &everything()).unwrap().is_empty());
    assert!(host.calls() - calls < 16, "looking costs a few reads");
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

#[test]
fn the_welcome_page_of_an_nginx_that_is_still_to_come_goes_and_one_that_somebody_changed_stays() {
    let wanted = Groundwork {
        welcome_page: WelcomePage::Removed,
        ..Groundwork::default()
    };
    let mut host = fresh();
    host.remove(&layout().nginx_settings()).unwrap();
    host.remove(&layout().welcome_page()).unwrap();
    let lacking = survey(&host, &layout(), &wanted).unwrap();
    assert_eq!(lacking, [Work::WelcomePage].into());
    let mut host = fresh();
    let mine = Path::new("/etc/nginx/sites-available/default");
    write(&mut host, mine, "server { listen 80 default_server; }").unwrap();
    assert_eq!(survey(&host, &layout(), &wanted).unwrap(), [].into());
    let all = [Work::WelcomePage].into();
    carry_out(&mut host, &layout(), &all, &mut |_| {}).unwrap();
    assert!(
        host.read_link(&layout().welcome_page()).unwrap().is_some(),
        "what was changed meanwhile stays, too"
    );
}

#[test]
fn an_authority_that_refuses_is_quoted_without_the_command_and_nothing_else_is_asked_of_it() {
    let mut host = fresh();
    let said = "Type: dns\nDetail: no such name";
    host.services.uncertified = Some(said.to_owned());
    let refused = make(&mut host, &everything());
    let Err(Refusal::Certificate { what, output }) = refused else {
        panic!("{refused:?}");
    };
    assert_eq!(
        what,
        "certificate for api.example.com from acme.example.com"
    );
    assert_eq!(output, said);
    let orders = host.services.jobs.iter();
    let orders = orders.filter(|job| job.starts_with("certify"));
    assert_eq!(orders.count(), 1);
    host.services.uncertified = None;
    make(&mut host, &everything()).unwrap();
    assert_eq!(lacking(&host), [].into());
}

#[test]
fn a_certificate_that_no_kept_generation_declares_goes_and_one_that_is_not_pushs_stays() {
    let mut host = fresh();
    let other = Certificate {
        names: ["www.example.com".parse().unwrap()].into(),
        ..certificate()
    };
    for wanted in [certificate(), other.clone()] {
        let wanted = Groundwork {
            certificates: [wanted].into(),
            ..Groundwork::default()
        };
        make(&mut host, &wanted).unwrap();
    }
    let theirs = layout().renewal("example.org.conf");
    write(&mut host, &theirs, "[renewalparams]").unwrap();
    let mut kept = Manifest::empty();
    let mut slice = Slice::default();
    slice.groundwork.certificates.insert(other.clone());
    let placed = Placed {
        slice,
        provenance: Provenance::default(),
    };
    kept.slices.insert("shop".parse().unwrap(), placed);
    certificates::prune(&mut host, &layout(), [&kept].into_iter()).unwrap();
    let there = |wanted: &Certificate| certificates::is_there(&host, &layout(), wanted).unwrap();
    assert!(!there(&certificate()) && there(&other));
    let left = host.list(&layout().renewal("")).unwrap();
    assert_eq!(left.len(), 2, "{left:?}");
    assert_eq!(
        host.list(&layout().certbot().join("live")).unwrap().len(),
        1
    );
}
