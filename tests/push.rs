//! A push on real hosts, from inventory to committed generation, and back.

use std::time::Duration;

use push::rehearse::{Access, HostSpec, RehearsalHost, Suite};
use push_tests::lab::{CANARY, Lab, SHOP, eventually};

const SHORT: Duration = Duration::from_secs(20);

/// The generation that is in effect, as the host's own link says.
fn generation(host: &RehearsalHost) -> Option<u64> {
    let link = host.run(&["readlink", "/etc/push/current"]).unwrap();
    link.stdout
        .trim()
        .strip_prefix("generations/")
        .and_then(|number| number.parse().ok())
}

/// What the app answers through nginx, on the host itself.
fn served(host: &RehearsalHost) -> String {
    host.run(&[
        "curl",
        "-s",
        "-m",
        "5",
        "-H",
        "Host: api.example.com",
        "http://127.0.0.1/health",
    ])
    .unwrap()
    .stdout
}

/// How many logins sshd has accepted since the host booted.
fn logins(host: &RehearsalHost) -> usize {
    let log = host
        .succeed(&[
            "journalctl",
            "-b",
            "-q",
            "--no-pager",
            "-o",
            "cat",
            "-t",
            "sshd",
            "-t",
            "sshd-session",
        ])
        .unwrap();
    log.lines()
        .filter(|line| line.starts_with("Accepted "))
        .count()
}

#[test]
fn a_first_push_commits_and_a_second_writes_nothing() {
    let specs = [
        HostSpec::named("web1"),
        HostSpec::named("web2").suite(Suite::Trixie),
        HostSpec::named("web3").access(Access::Root),
    ];
    let Some(lab) = Lab::boot(&specs) else { return };
    lab.shop("[firewall]\nallow = [\"ssh\", \"http\"]\n");
    lab.push(&["prod", "--yes"]).exits(0);
    for host in lab.fleet.hosts() {
        assert_eq!(generation(host), Some(1), "{}", host.name());
        assert!(
            served(host).contains(&format!("\"region\":\"{}\"", host.name())),
            "{}",
            served(host)
        );
        let table = host
            .succeed(&["nft", "list", "table", "inet", "push"])
            .unwrap();
        assert!(
            table.contains("policy drop") && table.contains("tcp dport 80 accept"),
            "{table}"
        );
        host.succeed(&["touch", "/root/stamp"]).unwrap();
    }
    let before: Vec<usize> = lab.fleet.hosts().iter().map(logins).collect();
    lab.push(&["prod", "--yes"]).exits(0).says("othing to do");
    for (host, before) in lab.fleet.hosts().iter().zip(before) {
        assert_eq!(
            logins(host) - before,
            1,
            "one connection to {}",
            host.name()
        );
        let written = host
            .succeed(&[
                "find",
                "/etc",
                "/srv",
                "/usr",
                "/var/lib/push",
                "-xdev",
                "-newer",
                "/root/stamp",
                "-type",
                "f",
            ])
            .unwrap();
        assert_eq!(written, "", "{} was written to", host.name());
    }
}

#[test]
fn a_release_that_never_becomes_healthy_is_taken_back_and_said_so() {
    let Some(lab) = Lab::boot_plain(1) else {
        return;
    };
    lab.shop("");
    let host = lab.host("web1");
    lab.push(&["prod", "--yes"]).exits(0);
    let good = served(host);
    lab.environment(
        "prod",
        "project = \"shop\"",
        &SHOP
            .replace("PORT = \"8080\"", "PORT = \"9999\"")
            .replace("timeout  = \"10s\"", "timeout = \"3s\""),
    );
    let said = lab.push(&["prod", "--yes"]).exits(5);
    assert!(
        said.stderr.contains("did not become healthy"),
        "{}",
        said.stderr
    );
    assert_eq!(generation(host), Some(1));
    assert_eq!(served(host), good);
    lab.push(&["status", "prod"]).exits(0).says("generation 1");
    lab.push(&["history", "prod"]).exits(0).says("taken back");
    // The next push goes on from there.
    lab.environment(
        "prod",
        "project = \"shop\"",
        &SHOP.replace("{{ host.name }}", "elsewhere"),
    );
    lab.push(&["prod", "--yes"]).exits(0);
    assert!(served(host).contains("elsewhere"));
}

#[test]
fn a_failed_first_push_leaves_the_host_as_it_was() {
    let Some(lab) = Lab::boot_plain(1) else {
        return;
    };
    lab.secret("api-token", CANARY);
    let broken = SHOP
        .replace("PORT = \"8080\"", "PORT = \"9999\"")
        .replace("timeout  = \"10s\"", "timeout = \"3s\"");
    lab.environment(
        "prod",
        "project = \"shop\"",
        &(broken + "[firewall]\nallow = [\"http\"]\n"),
    );
    lab.push(&["prod", "--yes"]).exits(5);
    let host = lab.host("web1");
    assert_eq!(generation(host), None);
    assert!(
        !host
            .run(&["nft", "list", "table", "inet", "push"])
            .unwrap()
            .is_success()
    );
    assert!(
        !host
            .run(&["test", "-e", "/etc/systemd/system/api.service"])
            .unwrap()
            .is_success()
    );
    assert!(
        !host
            .run(&["systemctl", "is-active", "api.service"])
            .unwrap()
            .is_success()
    );
    assert!(
        !host
            .run(&["test", "-e", "/run/push/secrets/api/api-token"])
            .unwrap()
            .is_success()
    );
}

#[test]
fn a_rollback_goes_back_and_forward_with_code_and_configuration() {
    let Some(lab) = Lab::boot_plain(2) else {
        return;
    };
    lab.shop("");
    lab.push(&["prod", "--yes"]).exits(0);
    lab.environment(
        "prod",
        "project = \"shop\"",
        &SHOP.replace("{{ host.name }}", "second"),
    );
    lab.push(&["prod", "--yes"]).exits(0);
    let host = lab.host("web1");
    assert!(served(host).contains("second"));
    lab.push(&["rollback", "prod", "--yes"]).exits(0);
    assert!(served(host).contains("web1"));
    // Forward again, by name.
    lab.push(&["rollback", "prod", "--yes", "--to", "2"])
        .exits(0);
    assert!(served(host).contains("second"));
    assert_eq!(generation(host), Some(4));
    lab.push(&["rollback", "prod", "--yes", "--to", "77"])
        .says("77");
    assert_eq!(generation(host), Some(4));
}

#[test]
fn a_secret_is_found_in_its_own_file_and_nowhere_else() {
    let Some(lab) = Lab::boot_plain(1) else {
        return;
    };
    lab.shop("");
    let host = lab.host("web1");
    // While the push runs, its arguments and environment, and the host's, are read again and again.
    let mut running = lab.spawn(&["prod", "--yes", "-vvv"]);
    let mut looks = 0;
    while !running.has_ended() {
        for file in ["cmdline", "environ"] {
            let own = std::fs::read(format!("/proc/{}/{file}", running.id())).unwrap_or_default();
            assert!(!String::from_utf8_lossy(&own).contains(CANARY));
        }
        let arguments = host.run(&["sh", "-c", "cat /proc/[0-9]*/cmdline"]).unwrap();
        assert!(!arguments.stdout.contains(CANARY));
        looks += 1;
    }
    assert!(looks > 0);
    let said = running.end().exits(0);
    assert!(!said.stdout.contains(CANARY) && !said.stderr.contains(CANARY));

    let opened = host
        .succeed(&["cat", "/run/push/secrets/api/api-token"])
        .unwrap();
    assert_eq!(opened, CANARY);
    let access = host
        .succeed(&["stat", "-c", "%a %U", "/run/push/secrets/api/api-token"])
        .unwrap();
    assert_eq!(access.trim(), "400 api");
    let reachable = host
        .run(&[
            "setpriv",
            "--reuid=nobody",
            "--clear-groups",
            "cat",
            "/run/push/secrets/api/api-token",
        ])
        .unwrap();
    assert!(!reachable.is_success());

    let show = host.succeed(&["systemctl", "show", "api.service"]).unwrap();
    let journal = host
        .succeed(&["journalctl", "-b", "--no-pager", "-o", "export"])
        .unwrap();
    let cmdlines = host
        .succeed(&["sh", "-c", "cat /proc/[0-9]*/cmdline"])
        .unwrap();
    for text in [show, journal, cmdlines] {
        assert!(!text.contains(CANARY));
    }
    let places = host
        .succeed(&[
            "sh",
            "-c",
            &format!("grep -rlsa --exclude-dir=proc --exclude-dir=sys -- {CANARY} / | sort"),
        ])
        .unwrap();
    for place in places.lines() {
        // systemd hands the app its own copy of a credential, also in memory and for it alone.
        assert!(
            place == "/run/push/secrets/api/api-token"
                || place.starts_with("/run/credentials/api.service/"),
            "{place}"
        );
    }
    assert!(places.contains("/run/push/secrets/api/api-token"));
}

#[test]
fn a_secret_is_as_old_as_its_value_and_comes_back_with_its_release() {
    let Some(lab) = Lab::boot_plain(1) else {
        return;
    };
    lab.shop("");
    lab.push(&["prod", "--yes"]).exits(0);
    let host = lab.host("web1");
    let opened = || {
        host.succeed(&["cat", "/run/push/secrets/api/api-token"])
            .unwrap()
    };
    assert_eq!(opened(), CANARY);
    lab.secret("api-token", "another value");
    lab.push(&["prod", "--yes"]).exits(0);
    assert_eq!(opened(), "another value");
    // The same value sealed anew is no change, although its sealed file is another one.
    lab.secret("api-token", "another value");
    lab.push(&["prod", "--yes"]).exits(0).says("othing to do");
    lab.push(&["rollback", "prod", "--yes"]).exits(0);
    assert_eq!(opened(), CANARY);
    // An environment's own secret wins over the shared one.
    lab.secret("prod/api-token", "prod's own");
    lab.push(&["prod", "--yes"]).exits(0);
    assert_eq!(opened(), "prod's own");
}

#[test]
fn a_missing_or_foreign_secret_stops_the_push_before_any_host_is_touched() {
    let Some(lab) = Lab::boot_plain(1) else {
        return;
    };
    lab.environment("prod", "project = \"shop\"", SHOP);
    lab.push(&["prod", "--yes"]).exits(2).says("api-token");
    lab.write("inventory/secrets/api-token.age", "not sealed at all");
    lab.push(&["prod", "--yes"]).exits(8).says("api-token");
    assert_eq!(generation(lab.host("web1")), None);
}

/// Everything on a host that push could have left there.
fn traces(host: &RehearsalHost) -> String {
    let places = "/usr/local /etc/push /var/lib/push /run/push /srv /etc/systemd/system /tmp";
    let find = format!("find {places} -not -path '/tmp/systemd-private-*' 2>/dev/null | sort");
    host.run(&["sh", "-c", &find]).unwrap().stdout
}

#[test]
fn a_host_that_push_never_ran_on_shows_its_plan_and_is_asked_about_before_it_changes() {
    let specs = [
        HostSpec::named("web1"),
        HostSpec::named("web2").access(Access::Root),
    ];
    let Some(lab) = Lab::boot(&specs) else { return };
    lab.shop("");
    let before: Vec<String> = lab.fleet.hosts().iter().map(traces).collect();
    for arguments in [
        &["plan", "prod"] as &[&str],
        &["-n", "prod"],
        &["diff", "prod"],
    ] {
        lab.push(arguments)
            .exits(0)
            .says("push-host is not there: running it once, not installed")
            .says("first push")
            .says("+ release  api");
    }
    lab.push(&["plan", "prod", "-v"])
        .exits(0)
        .says("known by `host_key` of the inventory")
        .says("let in as deploy with")
        .says("web2: push-host answers after");
    let after: Vec<String> = lab.fleet.hosts().iter().map(traces).collect();
    assert_eq!(before, after, "looking leaves nothing");
    lab.push(&["status", "prod"])
        .exits(1)
        .says("`push plan prod -l web1`");

    lab.push(&["prod"])
        .exits(9)
        .says("This is the first push to web1, web2");
    for host in lab.fleet.hosts() {
        assert_eq!(generation(host), None, "{}", host.name());
    }
}

#[test]
fn after_a_reboot_everything_is_there_without_a_laptop() {
    let Some(lab) = Lab::boot_plain(1) else {
        return;
    };
    lab.shop("[firewall]\nallow = [\"http\"]\n");
    lab.push(&["prod", "--yes"]).exits(0);
    let host = lab.host("web1");
    host.reboot().unwrap();
    eventually(
        "the app answers through nginx after the reboot",
        SHORT,
        || served(host).contains("\"ok\""),
    );
    let table = host
        .succeed(&["nft", "list", "table", "inet", "push"])
        .unwrap();
    assert!(table.contains("tcp dport 80 accept"));
    assert_eq!(
        host.succeed(&["cat", "/run/push/secrets/api/api-token"])
            .unwrap(),
        CANARY
    );
    lab.push(&["prod", "--yes"]).exits(0).says("othing to do");
}

#[test]
fn two_projects_share_a_host_and_neither_touches_the_other() {
    let Some(lab) = Lab::boot_plain(1) else {
        return;
    };
    lab.shop("");
    lab.push(&["prod", "--yes"]).exits(0);
    let other = SHOP
        .replace("apps.api", "apps.blog")
        .replace("8080", "8081")
        .replace("api.example.com", "blog.example.com");
    lab.environment("blog", "project = \"blog\"", &other);
    lab.push(&["blog", "--yes"]).exits(0);
    let host = lab.host("web1");
    assert!(served(host).contains("ok"));
    assert!(
        host.succeed(&["systemctl", "is-active", "blog.service"])
            .unwrap()
            .contains("active")
    );
    let began = host
        .succeed(&["systemctl", "show", "-p", "InvocationID", "api.service"])
        .unwrap();
    lab.environment(
        "blog",
        "project = \"blog\"",
        &other.replace("{{ host.name }}", "again"),
    );
    lab.push(&["blog", "--yes"]).exits(0);
    assert_eq!(
        host.succeed(&["systemctl", "show", "-p", "InvocationID", "api.service"])
            .unwrap(),
        began
    );
    // A rollback of one leaves the other's later push alone.
    lab.push(&["rollback", "blog", "--yes"]).exits(0);
    lab.push(&["prod", "--yes"]).exits(0).says("othing to do");
    // Two slices that claim one port: an error that names both.
    lab.environment("blog", "project = \"blog\"", &other.replace("8081", "8080"));
    let said = lab.push(&["blog", "--yes"]);
    assert_ne!(said.code(), 0);
    said.says("shop").says("8080");
    assert!(served(host).contains("ok"));
}

#[test]
fn who_answers_a_question_with_ctrl_c_has_changed_nothing_and_is_told_so() {
    let Some(lab) = Lab::boot_plain(1) else {
        return;
    };
    lab.shop("");
    let asked = lab.ask(&["prod"]);
    asked.shows("This is the first push to web1. Go on?");
    asked.types("\x03").exits(130).says("interrupted");
    assert_eq!(generation(lab.host("web1")), None);
}
