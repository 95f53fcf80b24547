//! What goes wrong on real hosts, and what a push makes of it.

use std::fs;
use std::time::Duration;

use push::rehearse::RehearsalHost;
use push_tests::lab::{Lab, SHOP, eventually};

const SHORT: Duration = Duration::from_secs(30);

fn generation(host: &RehearsalHost) -> String {
    host.run(&["readlink", "/etc/push/current"])
        .unwrap()
        .stdout
        .trim()
        .to_owned()
}

fn region(host: &RehearsalHost) -> String {
    host.run(&["curl", "-s", "-m", "5", "http://127.0.0.1:8080/health"])
        .unwrap()
        .stdout
}

fn second() -> String {
    SHOP.replace("{{ host.name }}", "second")
}

/// An app that takes some seconds before it answers, so that a test can step in.
fn slow() -> String {
    second().replace("passes   = 2", "passes   = 20")
}

#[test]
fn an_operator_who_locked_himself_out_gets_back_in() {
    let Some(lab) = Lab::boot_plain(1) else {
        return;
    };
    lab.shop("");
    lab.push(&["prod", "--yes"]).exits(0);
    let lockout = "\n[files.\"/etc/ssh/sshd_config.d/50-lockout.conf\"]\ncontent = \"AllowUsers nobody\\n\"\non_change = { reload = \"ssh.service\" }\n\n[rollout]\nconfirm_timeout = \"5s\"\n";
    lab.environment(
        "prod",
        "project = \"shop\"",
        &format!("{}{lockout}", second()),
    );
    lab.push(&["prod", "--yes"]).exits(5).says("new connection");
    let host = lab.host("web1");
    assert_eq!(generation(host), "generations/1");
    assert!(
        !host
            .run(&["test", "-e", "/etc/ssh/sshd_config.d/50-lockout.conf"])
            .unwrap()
            .is_success()
    );
    assert!(region(host).contains("web1"));
    // The login works again, so the next push does.
    lab.shop("");
    lab.push(&["prod", "--yes"]).exits(0);
}

#[test]
fn what_nginx_sshd_or_systemd_refuse_changes_nothing_anywhere() {
    let Some(lab) = Lab::boot_plain(2) else {
        return;
    };
    lab.shop("");
    lab.push(&["prod", "--yes"]).exits(0);
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
    for host in lab.fleet.hosts() {
        assert_eq!(generation(host), "generations/1");
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
    let Some(lab) = Lab::boot_plain(3) else {
        return;
    };
    lab.shop("");
    lab.push(&["prod", "--yes"]).exits(0);
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
    assert_eq!(generation(lab.host("web3")), "generations/1");
}

#[test]
fn a_laptop_that_dies_during_the_switch_is_not_needed() {
    let Some(lab) = Lab::boot_plain(1) else {
        return;
    };
    lab.shop("");
    lab.push(&["prod", "--yes"]).exits(0);
    let host = lab.host("web1");
    lab.environment("prod", "project = \"shop\"", &slow());
    let running = lab.spawn(&["prod", "--yes"]);
    eventually("the switch", SHORT, || generation(host) == "generations/2");
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
    let Some(lab) = Lab::boot_plain(1) else {
        return;
    };
    lab.shop("");
    lab.push(&["prod", "--yes"]).exits(0);
    let host = lab.host("web1");
    lab.environment("prod", "project = \"shop\"", &slow());
    let running = lab.spawn(&["prod", "--yes"]);
    eventually("the switch", SHORT, || generation(host) == "generations/2");
    running.signal("INT");
    running.end().exits(130).says("taken back");
    assert_eq!(generation(host), "generations/1");
    assert!(region(host).contains("web1"));
}

#[test]
fn a_second_operator_sees_who_is_at_it() {
    let Some(lab) = Lab::boot_plain(1) else {
        return;
    };
    lab.shop("");
    lab.push(&["prod", "--yes"]).exits(0);
    let host = lab.host("web1");
    lab.environment("prod", "project = \"shop\"", &slow());
    let first = lab.spawn(&["prod", "--yes"]);
    eventually("the switch", SHORT, || generation(host) == "generations/2");
    lab.environment(
        "prod",
        "project = \"shop\"",
        &SHOP.replace("{{ host.name }}", "third"),
    );
    lab.push(&["prod", "--yes"]).exits(7);
    first.end().exits(0);
    lab.push(&["prod", "--yes"]).exits(0);
    assert!(region(host).contains("third"));
}

#[test]
fn power_lost_during_probation_brings_the_old_generation_back() {
    let Some(lab) = Lab::boot_plain(1) else {
        return;
    };
    lab.shop("");
    lab.push(&["prod", "--yes"]).exits(0);
    let host = lab.host("web1");
    lab.environment("prod", "project = \"shop\"", &slow());
    let running = lab.spawn(&["prod", "--yes"]);
    eventually("the switch", SHORT, || generation(host) == "generations/2");
    host.power_cut().unwrap();
    host.boot_again().unwrap();
    let said = running.end();
    assert!([5, 6].contains(&said.code()), "{said:?}");
    eventually("the old release", SHORT, || region(host).contains("web1"));
    assert_eq!(generation(host), "generations/1");
    lab.push(&["history", "prod"]).exits(0).says("taken back");
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
    assert_eq!(generation(host), "");
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
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let noise: Vec<u8> = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    })
    .take((mib << 20) / 8)
    .flatten()
    .collect();
    lab.write("big/noise", noise);
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
