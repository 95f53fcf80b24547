//! Pushes to hosts on which something is broken already: what did not run before does not stand in the way
//! of taking back, and what is put right by the next push is pushed.

use std::time::Duration;

use push::rehearse::RehearsalHost;
use push_tests::lab::{Lab, eventually, get, property, says};
use push_tests::witness::generation;

const SOON: Duration = Duration::from_secs(30);

/// An app that starts only while a file of the host is there.
fn fragile(mark: &str) -> String {
    format!(
        r#"
[apps.api]
on = "web"
source = "bin/everyday"
env = {{ PORT = "8080", MARK = "{mark}" }}

[apps.api.service]
exec = "{{{{ release.dir }}}}/everyday"
type = "notify"
exec_before = ["/usr/bin/test -e /opt/fine"]

[apps.api.health]
tcp = "127.0.0.1:8080"
interval = "100ms"
quiet = "300ms"
timeout = "8s"
"#
    )
}

fn touch(host: &RehearsalHost, path: &str) {
    host.succeed(&["touch", path]).unwrap();
}

#[test]
fn a_push_that_finds_the_app_dead_is_taken_back_and_the_next_one_puts_it_right() {
    let Some(lab) = Lab::boot_plain(1) else {
        return;
    };
    let host = lab.host("web1");
    touch(host, "/opt/fine");
    lab.deploys(&fragile("one"));
    let before = generation(host);
    host.succeed(&["rm", "/opt/fine"]).unwrap();
    assert!(
        host.succeed(&["systemctl", "restart", "api.service"])
            .is_err()
    );
    // Neither the new release nor the old one can start: that is the host's state of affairs, and told.
    lab.declares(&fragile("two"));
    lab.push(&["prod", "--yes"])
        .exits(5)
        .says("taken back")
        .says("api.service");
    assert_eq!(generation(host), before);
    lab.push(&["status", "prod"]).exits(0).says("generation 1");
    lab.deploys(&fragile("three").replace("exec_before = [\"/usr/bin/test -e /opt/fine\"]", ""));
    assert_eq!(property(host, "api.service", "ActiveState"), "active");
}

#[test]
fn an_nginx_that_could_never_start_does_not_keep_a_first_push_from_being_taken_back() {
    let Some(lab) = Lab::boot_plain(1) else {
        return;
    };
    let host = lab.host("web1");
    host.succeed(&["systemctl", "stop", "nginx.service"])
        .unwrap();
    let squatter = "import socket,time\ns=socket.socket();s.setsockopt(1,2,1);s.bind(('0.0.0.0',80));s.listen();time.sleep(600)";
    host.succeed(&["systemd-run", "--unit=squatter", "python3", "-c", squatter])
        .unwrap();
    eventually("the port is taken", SOON, || {
        says(host, &["ss", "-Hltn", "sport", "=", ":80"]).contains(":80")
    });
    touch(host, "/opt/fine");
    let site =
        "\n[apps.api.site]\nserver_name = \"a.example.com\"\nproxy = \"http://127.0.0.1:8080\"\n";
    lab.declares(&(fragile("one") + site));
    lab.push(&["prod", "--yes"]).exits(5).says("nginx");
    assert_eq!(generation(host), 0);
    lab.deploys(&fragile("two"));
    assert_ne!(get(host, "http://127.0.0.1:8080/"), "");
}

#[test]
fn a_unit_that_the_host_does_not_know_is_named_and_nothing_is_left() {
    let Some(lab) = Lab::boot_plain(1) else {
        return;
    };
    let file = "[files.\"/etc/carried\"]\ncontent = \"x\"\non_change = { restart = \"postgresl.service\" }\n";
    lab.declares(file);
    lab.push(&["prod", "--yes"])
        .exits(5)
        .says("postgresl.service");
    assert_eq!(generation(lab.host("web1")), 0);
}

/// What a power cut in the midst of useradd(8) leaves: the user without its group, and an empty lock.
const HALF_MADE: &str = "useradd --system --user-group --home-dir /nonexistent api && \
    sed -i '/^api:/d' /etc/group /etc/gshadow && : > /etc/passwd.lock && : > /etc/group.lock";

#[test]
fn an_account_that_a_cut_left_half_made_is_completed() {
    let Some(lab) = Lab::boot_plain(1) else {
        return;
    };
    let host = lab.host("web1");
    touch(host, "/opt/fine");
    host.succeed(&["sh", "-c", HALF_MADE]).unwrap();
    lab.deploys(&fragile("one"));
    let ids = says(host, &["id", "api"]);
    let group = says(host, &["getent", "group", "api"]);
    let number = group.split(':').nth(2).unwrap();
    assert!(ids.contains(&format!("gid={number}(api)")), "{ids} {group}");
    // Nor does a lock that a cut left empty keep a user from being made.
    touch(host, "/etc/passwd.lock");
    lab.deploys(&fragile("two").replace("source =", "user = \"other\"\nsource ="));
    assert!(says(host, &["id", "other"]).contains("(other)"));
}
