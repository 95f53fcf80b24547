//! What goes wrong on real hosts, and what a push makes of it.

use std::fs;
use std::time::Duration;

use push::rehearse::RehearsalHost;
use push_tests::lab::{Lab, SHOP, eventually, get};
use push_tests::scene::{noise, pushed, shop, slow};
use push_tests::verdict::{self, Before};
use push_tests::witness::{self, Fate, generation, journal};
use push_wire::journal::State;

const SHORT: Duration = Duration::from_secs(30);

fn region(host: &RehearsalHost) -> String {
    get(host, "http://127.0.0.1:8080/health")
}

fn second() -> String {
    SHOP.replace("{{ host.name }}", "second")
}

/// An app that takes some seconds before it answers, so that a test can step in.
fn slow_shop() -> String {
    second().replace("passes   = 2", "passes   = 20")
}

#[test]
fn what_nginx_sshd_or_systemd_refuse_changes_nothing_anywhere() {
    let Some(lab) = shop(2) else { return };
    let own_site = second().replace(
        "server_name = [\"api.example.com\"]\nproxy       = \"http://127.0.0.1:8080\"",
        "server_name = [\"api.example.com\"]\ntemplate = \"site\"",
    );
    assert_ne!(own_site, second());
    lab.write("templates/site", "server { listen 80; nonsense on; }\n");
    lab.environment("prod", "project = \"shop\"", &own_site);
    let said = lab.push(&["prod", "--yes"]).says("nonsense");
    assert_ne!(said.code(), 0);
    let sshd = "\n[files.\"/etc/ssh/sshd_config.d/50-bad.conf\"]\ncontent = \"Nonsense yes\\n\"\n";
    lab.environment("prod", "project = \"shop\"", &format!("{}{sshd}", second()));
    let said = lab.push(&["prod", "--yes"]).says("Nonsense");
    assert_ne!(said.code(), 0);
    lab.write("templates/bad-unit", "[Path]\nPathExists=no/such\n");
    let unit = "\n[apps.api.units.\"api-watch.path\"]\ntemplate = \"bad-unit\"\n";
    lab.environment("prod", "project = \"shop\"", &format!("{}{unit}", second()));
    let said = lab
        .push(&["prod", "--yes"])
        .says("systemd-analyze verify")
        .says("api-watch.path");
    assert_ne!(said.code(), 0);
    for host in lab.fleet.hosts() {
        assert_eq!(generation(host), 1);
        assert!(region(host).contains(host.name()), "{}", region(host));
        host.succeed(&["nginx", "-t"]).unwrap();
        host.succeed(&["sshd", "-t"]).unwrap();
    }
}

#[test]
fn a_dead_host_is_told_and_the_others_truth_is_told_too() {
    let Some(lab) = Lab::boot_plain(3) else {
        return;
    };
    lab.shop("[rollout]\nmax_failures = 1\n");
    lab.host("web2").power_cut().unwrap();
    let said = lab.push(&["prod", "--yes"]).exits(4);
    assert!(said.stderr.contains("web2"), "{}", said.stderr);
    for name in ["web1", "web3"] {
        assert!(region(lab.host(name)).contains(name));
    }
}

#[test]
fn a_wave_that_fails_stops_the_next_ones_and_is_undone_as_asked() {
    let Some(lab) = shop(3) else { return };
    // Only the second host cannot start it: somebody else has the port there.
    let moved = second()
        .replace("8080", "8082")
        .replace("passes   = 2", "passes   = 1");
    lab.host("web2").succeed(&["systemd-run", "--unit=squatter", "python3", "-c", "import socket,time\ns=socket.socket();s.bind(('127.0.0.1',8082));s.listen();time.sleep(600)"]).unwrap();
    let rollout = "\n[rollout]\nwaves = [\"1\", \"2\", \"100%\"]\nundo = \"all\"\n";
    lab.environment("prod", "project = \"shop\"", &format!("{moved}{rollout}"));
    let said = lab.push(&["prod", "--yes"]).exits(5);
    assert!(
        said.stderr.contains("web2") && said.stderr.contains("web3"),
        "{}",
        said.stderr
    );
    for host in lab.fleet.hosts() {
        assert!(
            region(host).contains(host.name()),
            "{}: {}",
            host.name(),
            region(host)
        );
    }
    assert_eq!(generation(lab.host("web3")), 1);
}

#[test]
fn a_laptop_that_dies_during_the_switch_is_not_needed() {
    let Some(lab) = shop(1) else { return };
    let host = lab.host("web1");
    lab.environment("prod", "project = \"shop\"", &slow_shop());
    let running = lab.spawn(&["prod", "--yes"]);
    eventually("the switch", SHORT, || generation(host) == 2);
    running.signal("KILL");
    assert_eq!(running.end().code(), -1);
    eventually("the commit without a laptop", SHORT, || {
        let history = lab.push(&["history", "prod"]).stdout;
        history
            .lines()
            .any(|line| line.split_whitespace().next() == Some("2") && line.contains("committed"))
    });
    assert!(region(host).contains("second"));
    // The lock died with its holder.
    lab.push(&["prod", "--yes"]).exits(0).says("othing to do");
}

#[test]
fn an_interrupt_during_the_switch_takes_it_back_and_waits_for_the_answer() {
    let Some(lab) = shop(1) else { return };
    let host = lab.host("web1");
    lab.environment("prod", "project = \"shop\"", &slow_shop());
    let running = lab.spawn(&["prod", "--yes"]);
    eventually("the switch", SHORT, || generation(host) == 2);
    running.signal("INT");
    running.end().exits(130).says("taken back");
    assert_eq!(generation(host), 1);
    assert!(region(host).contains("web1"));
}

#[test]
fn ctrl_c_on_a_terminal_says_what_it_means_and_leaves_no_line_of_its_own() {
    let Some(lab) = pushed() else { return };
    slow(&lab, 2);
    let before = Before::of(&lab, (Some(1), Some(2)));
    let asked = lab.ask(&["prod", "--yes"]);
    before.until("the trial", |state| matches!(state, State::Probation(_)));
    asked.types("\x03").exits(130);
    let screen = std::fs::read(lab.path("screen")).unwrap();
    let screen = String::from_utf8_lossy(&screen);
    assert!(
        screen.contains("asked to take back what has been switched: web1"),
        "{screen}"
    );
    // What the terminal itself writes at the end of a live line moves all that is drawn after it.
    assert!(!screen.contains("^C"), "{screen}");
}

#[test]
fn of_two_who_push_at_once_one_is_told_who_is_at_it_and_one_who_waits_has_his_turn() {
    let Some(lab) = pushed() else { return };
    slow(&lab, 2);
    let before = Before::of(&lab, (Some(1), Some(2)));
    let ann = lab.spawn_by("ann", &["prod", "--yes"]);
    before.until("the trial", |state| matches!(state, State::Probation(_)));
    witness::environment(&lab, (3, Fate::Healthy), "");
    let ben = lab.spawn_by("ben", &["prod", "--yes"]).end().exits(7);
    assert!(ben.stderr.contains("ann is at it"), "{}", ben.stderr);
    assert!(verdict::is_true(&ben, None), "{ben:?}");
    let cleo = lab.spawn_by("cleo", &["prod", "--yes", "--wait=120"]);
    let said = [ann.end().exits(0), cleo.end().exits(0)];
    let ends: Vec<_> = before
        .news()
        .into_iter()
        .filter(|record| record.state.is_final())
        .collect();
    let records = journal(before.host());
    let operators: Vec<_> = ends
        .iter()
        .map(|record| witness::about(&records, &record.transaction))
        .map(|about| about.provenance.operator.as_str())
        .collect();
    assert_eq!(operators, ["ann", "cleo"]);
    for (said, end) in said.iter().zip(&ends) {
        assert!(verdict::is_true(said, Some(&end.state)), "{said:?}");
    }
    assert_eq!(witness::found(before.host()), Some(3));
}

#[test]
fn a_file_that_is_not_ours_is_refused_by_name_and_an_identical_one_is_adopted() {
    let Some(lab) = Lab::boot_plain(1) else {
        return;
    };
    let host = lab.host("web1");
    host.write("/etc/motd-extra", b"somebody else's\n", 0o644)
        .unwrap();
    let file = "\n[files.\"/etc/motd-extra\"]\ncontent = \"ours\\n\"\n";
    lab.shop(file);
    let said = lab.push(&["prod", "--yes"]).says("/etc/motd-extra");
    assert_ne!(said.code(), 0);
    assert_eq!(generation(host), 0);
    assert_eq!(host.read("/etc/motd-extra").unwrap(), b"somebody else's\n");
    host.write("/etc/motd-extra", b"ours\n", 0o644).unwrap();
    lab.push(&["prod", "--yes"]).exits(0);
    assert_eq!(host.read("/etc/motd-extra").unwrap(), b"ours\n");
    lab.shop("");
    lab.push(&["prod", "--yes"]).exits(0);
    assert!(
        !host
            .run(&["test", "-e", "/etc/motd-extra"])
            .unwrap()
            .is_success()
    );
}

#[test]
fn a_tree_of_thousands_of_files_travels_whole_and_shares_what_did_not_change() {
    let Some(lab) = Lab::boot_plain(1) else {
        return;
    };
    for n in 0..3000 {
        lab.write(
            &format!("pages/{}/{n}.html", n % 50),
            format!("<p>page {n}</p>"),
        );
    }
    lab.write("pages/odd names/-rf \n$x;'\".html", "odd");
    std::os::unix::fs::symlink("0/0.html", lab.path("pages/first.html")).unwrap();
    fs::create_dir(lab.path("pages/empty")).unwrap();
    let pages = "[apps.pages]\non = \"web\"\nsource = \"pages\"\n\n[apps.pages.site]\nserver_name = [\"pages.example.com\"]\nroot = \"{{ release.current }}\"\n";
    lab.environment("prod", "project = \"shop\"", pages);
    lab.push(&["prod", "--yes"]).exits(0);
    let host = lab.host("web1");
    let listing = |host: &RehearsalHost| {
        host.succeed(&["find", "-L", "/srv/pages/current/", "-printf", "%P\\n"])
            .unwrap()
    };
    assert_eq!(
        listing(host)
            .lines()
            .filter(|line| line.contains(".html"))
            .count(),
        3002
    );
    assert_eq!(
        host.read("/srv/pages/current/odd names/-rf \n$x;'\".html")
            .unwrap(),
        b"odd"
    );
    assert_eq!(
        host.succeed(&["readlink", "/srv/pages/current/first.html"])
            .unwrap()
            .trim(),
        "0/0.html"
    );
    host.succeed(&["test", "-d", "/srv/pages/current/empty"])
        .unwrap();
    let fetched = host
        .succeed(&[
            "curl",
            "-s",
            "-H",
            "Host: pages.example.com",
            "http://127.0.0.1/7/7.html",
        ])
        .unwrap();
    assert_eq!(fetched, "<p>page 7</p>");
    lab.write("pages/7/7.html", "<p>changed</p>");
    lab.push(&["prod", "--yes"]).exits(0);
    let fetched = host
        .succeed(&[
            "curl",
            "-s",
            "-H",
            "Host: pages.example.com",
            "http://127.0.0.1/7/7.html",
        ])
        .unwrap();
    assert_eq!(fetched, "<p>changed</p>");
    let links = host
        .succeed(&["stat", "-L", "-c", "%h", "/srv/pages/current/8/8.html"])
        .unwrap();
    assert_eq!(
        links.trim(),
        "2",
        "an unchanged file is shared by both releases"
    );
}

/// A number that a longer run sets in the environment.
fn number(variable: &str, otherwise: usize) -> usize {
    std::env::var(variable).map_or(otherwise, |text| text.parse().unwrap())
}

/// A longer run: `PUSH_TEST_HOSTS=10 PUSH_TEST_APP_MIB=100 cargo test --test push_faults memory -- --nocapture`.
#[test]
fn memory_does_not_grow_with_the_app_or_the_fleet() {
    let (hosts, mib) = (
        number("PUSH_TEST_HOSTS", 3),
        number("PUSH_TEST_APP_MIB", 64),
    );
    let Some(lab) = Lab::boot_plain(hosts) else {
        return;
    };
    lab.write("big/noise", noise(0, mib << 20));
    lab.environment(
        "prod",
        "project = \"shop\"",
        "[apps.big]\non = \"web\"\nsource = \"big\"\n",
    );
    let mut running = lab.spawn(&["prod", "--yes"]);
    let mut peak_kib = 0;
    while !running.has_ended() {
        let status =
            fs::read_to_string(format!("/proc/{}/status", running.id())).unwrap_or_default();
        let peak = status
            .lines()
            .find_map(|line| line.strip_prefix("VmHWM:"))
            .and_then(|rest| rest.trim().split(' ').next()?.parse().ok());
        peak_kib = peak_kib.max(peak.unwrap_or(0));
        std::thread::sleep(Duration::from_millis(20));
    }
    let took = running.end().exits(0).took;
    eprintln!("{mib} MiB to {hosts} hosts: at most {peak_kib} KiB in memory, in {took:?}");
    assert!(peak_kib > 0);
    // What each connection holds in flight, and no copy of the app for anybody.
    let allowed_kib = (48 + 4 * hosts) << 10;
    assert!(peak_kib < allowed_kib, "{peak_kib} KiB of {allowed_kib}");
}
