//! From what a provider hands over to a member of a fleet, on real hosts.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use push::rehearse::{Access, HostSpec, ROOT_PASSWORD, RehearsalHost, Suite};
use push_tests::hosts::say;
use push_tests::lab::{Lab, SHOP, Said, eventually, says};

const SHORT: Duration = Duration::from_secs(20);

/// The program that the login may run as root, with the one argument it may have.
const PUSH_HOST: &str = "/usr/local/lib/push/push-host";

/// An inventory whose login is not on its hosts yet; `extra` are more keys of `[bootstrap]`.
fn declare(lab: &Lab, extra: &str, rest: &str) {
    let mut out = "project = \"shop\"\n[ssh]\nuser = \"deploy\"\n".to_owned();
    for host in lab.fleet.hosts() {
        write!(
            out,
            "[hosts.{}]\naddress = \"{}\"\nport = {}\nhost_key = \"{}\"\nidentity = \"{}\"\ntags = [\"web\"]\n",
            host.name(),
            host.address(),
            host.port(),
            host.host_key(),
            host.identity().display()
        )
        .unwrap();
    }
    let key = public_key(lab);
    writeln!(out, "[bootstrap]\nkeys = [\"{key}\"]\n{extra}\n{rest}").unwrap();
    lab.write("inventory/prod.toml", out);
}

fn public_key(lab: &Lab) -> String {
    let host = lab.fleet.hosts().first().unwrap();
    let file = host.identity().with_extension("pub");
    fs::read_to_string(file).unwrap().trim().to_owned()
}

fn bootstrap(lab: &Lab) -> Said {
    lab.push(&["bootstrap", "prod", "--as", "root", "--yes"])
}

/// What the system's own ssh says, logged in as somebody with the operator's key.
fn ssh_as(host: &RehearsalHost, user: &str, remote: &[&str]) -> (Option<i32>, String) {
    let mut command = push_tests::hosts::ssh_command(host);
    let mut args: Vec<std::ffi::OsString> = command.get_args().map(Into::into).collect();
    let at = args.iter().position(|arg| arg == "-l").unwrap();
    args[at + 1] = user.into();
    let program = command.get_program().to_owned();
    command = std::process::Command::new(program);
    let said = command.args(args).args(remote).output().unwrap();
    let text = String::from_utf8_lossy(&said.stdout) + String::from_utf8_lossy(&said.stderr);
    (said.status.code(), text.into_owned())
}

#[test]
fn fresh_hosts_become_hardened_members_in_one_bootstrap_and_one_push() {
    let specs = [
        HostSpec::fresh("web1").access(Access::Root),
        HostSpec::fresh("web2")
            .access(Access::Root)
            .suite(Suite::Trixie),
    ];
    let Some(lab) = Lab::boot(&specs) else { return };
    lab.secret("api-token", "t0ken");
    declare(
        &lab,
        "packages = [\"curl\", \"sqlite3\"]\nlocale = \"de_DE.UTF-8\"",
        SHOP,
    );
    let began = Instant::now();
    bootstrap(&lab)
        .exits(0)
        .says("package")
        .says("login deploy");
    let bootstrapped = began.elapsed();
    lab.push(&["prod", "--yes"]).exits(0);
    say(&format!(
        "two fresh hosts: bootstrapped after {bootstrapped:.1?}, pushed to after {:.1?}",
        began.elapsed()
    ));
    for host in lab.fleet.hosts() {
        is_a_member(host);
    }
    // Again, as whoever the inventory names, and as it was the first time: nothing is done.
    let again = lab.push(&["bootstrap", "prod", "--yes"]).exits(0);
    again.says("nothing to do");
    bootstrap(&lab).exits(0).says("nothing to do");
    say("again: nothing to do");
}

/// What needs nothing that was built for one release: a secret, a service, and pages.
const PAGES: &str = r#"
[apps.pages]
source  = "pages"
secrets = ["api-token"]

[apps.pages.service]
exec = "/bin/sleep infinity"

[apps.pages.site]
server_name = ["pages.example.com"]
root        = "{{ release.current }}"
"#;

#[test]
fn other_releases_that_are_still_about_become_members_as_well() {
    let mut suites = vec![Suite::Bullseye];
    for suite in [Suite::Jammy, Suite::Noble] {
        let keyring = suite.distribution().keyring();
        if keyring.is_some_and(|keyring| !Path::new(keyring).exists()) {
            say(&format!(
                "{} is left out: the package ubuntu-keyring is not installed",
                suite.title()
            ));
            continue;
        }
        suites.push(suite);
    }
    let specs: Vec<HostSpec> = suites
        .iter()
        .map(|suite| HostSpec::fresh(suite.as_str()).suite(*suite))
        .map(|spec| spec.access(Access::Root))
        .collect();
    let Some(lab) = Lab::boot(&specs) else { return };
    lab.secret("api-token", "t0ken");
    lab.write("pages/index.html", "hello\n");
    declare(
        &lab,
        "packages = [\"curl\", \"sqlite3\"]\nlocale = \"de_DE.UTF-8\"",
        PAGES,
    );
    bootstrap(&lab).exits(0);
    lab.push(&["prod", "--yes"]).exits(0);
    lab.fleet.hosts().iter().for_each(is_a_member);
    bootstrap(&lab).exits(0).says("nothing to do");
    lab.push(&["prod", "--yes"]).exits(0).says("othing to do");
}

/// Everything that the defaults promise.
fn is_a_member(host: &RehearsalHost) {
    let sshd = says(host, &["sshd", "-T"]);
    for line in [
        "passwordauthentication no",
        "kbdinteractiveauthentication no",
        "permitrootlogin no",
        "maxauthtries 6",
    ] {
        assert!(sshd.lines().any(|found| found == line), "{line}: {sshd}");
    }
    let table = says(host, &["nft", "list", "table", "inet", "push"]);
    for part in [
        "policy drop",
        "update @logins4",
        "update @logins6",
        "tcp dport 80 accept",
    ] {
        assert!(table.contains(part), "{part}: {table}");
    }
    assert_eq!(says(host, &["hostname"]), host.name());
    assert_eq!(
        says(host, &["readlink", "/etc/localtime"]),
        "/usr/share/zoneinfo/Etc/UTC"
    );
    let language = says(
        host,
        &[
            "sh",
            "-c",
            ". /etc/default/locale && locale -a | grep -ix \"${LANG%.*}.utf8\"",
        ],
    );
    assert_eq!(language, "de_DE.utf8");
    assert_eq!(says(host, &["sqlite3", ":memory:", "select 6 * 7"]), "42");
    let upgrades = says(
        host,
        &["apt-config", "dump", "APT::Periodic::Unattended-Upgrade"],
    );
    assert!(upgrades.contains("\"1\""), "{upgrades}");
    let journal = says(
        host,
        &["systemd-analyze", "cat-config", "systemd/journald.conf"],
    );
    assert!(journal.contains("SystemMaxUse=1073741824"), "{journal}");
    assert_eq!(
        says(
            host,
            &["systemctl", "is-active", "systemd-journald.service"]
        ),
        "active"
    );
    assert_eq!(
        says(host, &["stat", "-L", "-c", "%a %U", "/etc/sudoers.d/push"]),
        "440 root"
    );
    the_login_may_run_push_host_and_nothing_else(host);
}

fn the_login_may_run_push_host_and_nothing_else(host: &RehearsalHost) {
    let (status, said) = ssh_as(host, "deploy", &["id", "-un"]);
    assert_eq!((status, said.trim()), (Some(0), "deploy"));
    let (_, said) = ssh_as(host, "deploy", &["sudo", "-n", "-l"]);
    let rights: Vec<&str> = said
        .lines()
        .filter(|line| line.contains("NOPASSWD"))
        .map(str::trim)
        .collect();
    assert_eq!(
        rights,
        [format!("(root) NOPASSWD: {PUSH_HOST} serve")],
        "{said}"
    );
    for refused in [
        &["id"][..],
        &["sh", "-c", "id"],
        &[PUSH_HOST],
        &[PUSH_HOST, "recover"],
        &[PUSH_HOST, "serve", "--anything"],
        &["-u", "deploy", PUSH_HOST, "serve"],
    ] {
        let argv = [&["sudo", "-n"][..], refused].concat();
        let (status, said) = ssh_as(host, "deploy", &argv);
        assert_ne!(status, Some(0), "{argv:?}: {said}");
        assert!(!said.contains("uid=0"), "{argv:?}: {said}");
    }
    let (status, said) = ssh_as(host, "root", &["id"]);
    assert_eq!(status, Some(255), "root is not let in: {said}");
}

#[test]
fn root_by_password_is_enough_for_a_bootstrap() {
    let Some(lab) = Lab::boot(&[HostSpec::fresh("web1")]) else {
        return;
    };
    declare(&lab, "", "");
    // The power went in the midst of an earlier run, which had made the login in one of its files alone.
    let half = "useradd --user-group deploy && sed -i '/^deploy:/d' /etc/group /etc/gshadow /etc/shadow \
        && : > /etc/shadow.lock";
    lab.host("web1").succeed(&["sh", "-c", half]).unwrap();
    let asked = lab.ask(&["bootstrap", "prod", "--as", "root", "--yes"]);
    asked.shows("Password of root");
    asked.types(&format!("{ROOT_PASSWORD}\r")).exits(0);
    let host = lab.host("web1");
    the_login_may_run_push_host_and_nothing_else(host);
    assert!(says(host, &["sshd", "-T"]).contains("passwordauthentication no"));
}

/// The password of the user that a cloud's image comes with.
const CLOUD_PASSWORD: &str = "from the console";

/// Makes a host what clouds hand over: no root, a user with a password that sudo wants as well.
fn as_clouds_hand_over(host: &RehearsalHost) {
    for argv in [
        &["apt-get", "-q", "update"][..],
        &["apt-get", "-q", "-y", "install", "sudo"],
        &["useradd", "--create-home", "--shell", "/bin/bash", "cloud"],
        &["usermod", "--lock", "root"],
    ] {
        host.succeed(argv).unwrap();
    }
    let words = format!("cloud:{CLOUD_PASSWORD}\n");
    host.write("/root/words", words.as_bytes(), 0o600).unwrap();
    host.succeed(&["sh", "-c", "chpasswd < /root/words && rm /root/words"])
        .unwrap();
    let rule = "cloud ALL=(ALL:ALL) ALL\n";
    host.write("/etc/sudoers.d/90-cloud", rule.as_bytes(), 0o440)
        .unwrap();
}

#[test]
fn one_password_for_login_and_sudo_is_typed_once_for_all_hosts() {
    let specs = [
        HostSpec::fresh("web1"),
        HostSpec::fresh("web2").suite(Suite::Trixie),
    ];
    let Some(lab) = Lab::boot(&specs) else { return };
    lab.fleet.hosts().iter().for_each(as_clouds_hand_over);
    declare(&lab, "", "");
    let asked = lab.ask(&["bootstrap", "prod", "--as", "cloud", "--yes"]);
    asked.shows("Password of cloud on");
    asked.types(&format!("{CLOUD_PASSWORD}\r")).exits(0);
    let screen = fs::read_to_string(lab.path("screen")).unwrap();
    assert_eq!(screen.matches("[hidden]").count(), 1, "{screen}");
    assert!(!screen.contains(CLOUD_PASSWORD), "it is not shown");
    for host in lab.fleet.hosts() {
        the_login_may_run_push_host_and_nothing_else(host);
    }
    lab.push(&["bootstrap", "prod", "--yes"])
        .exits(0)
        .says("nothing to do");
}

/// A bootstrap that is quick, with one thing in it that differs.
fn slim(connections: u32) -> String {
    format!(
        "firewall = false\nupgrades = false\nsysctl = {{ \"net.core.somaxconn\" = {connections} }}\n"
    )
}

#[test]
fn two_environments_do_not_undo_each_others_bootstrap_and_a_bootstrap_goes_back_by_itself() {
    let Some(lab) = Lab::boot(&[HostSpec::fresh("web1").access(Access::Root)]) else {
        return;
    };
    let host = lab.host("web1");
    let staging = |connections| {
        let before = fs::read(lab.path("inventory/prod.toml")).ok();
        declare(&lab, &slim(connections), "");
        fs::rename(
            lab.path("inventory/prod.toml"),
            lab.path("inventory/staging.toml"),
        )
        .unwrap();
        if let Some(text) = before {
            lab.write("inventory/prod.toml", text);
        }
    };
    let set = |connections: u32| {
        let line = format!("net.core.somaxconn = {connections}");
        let text = says(host, &["cat", "/etc/sysctl.d/60-push.conf"]);
        assert!(text.contains(&line), "{line}: {text}");
    };
    declare(&lab, &slim(1024), "");
    bootstrap(&lab).exits(0);
    staging(2048);
    lab.push(&["bootstrap", "staging", "--yes"])
        .exits(9)
        .says("shop/prod")
        .says("shop/staging")
        .says("--take-over");
    set(1024);
    // Where they say the same, there is nothing to argue about.
    staging(1024);
    lab.push(&["bootstrap", "staging", "--yes"])
        .exits(0)
        .says("nothing to do");

    // A change goes back as it came, and the slice of the project is not asked about.
    declare(&lab, &slim(4096), "");
    lab.push(&["bootstrap", "prod", "--yes"]).exits(0);
    set(4096);
    lab.push(&["rollback", "prod", "--yes"]).exits(9);
    set(4096);
    lab.push(&["rollback", "prod", "--slice", "host", "--yes"])
        .exits(0);
    set(1024);
    let first = lab.push(&["rollback", "prod", "--slice", "host", "--yes"]);
    first.exits(9);
    // What prod went back to is prod's still.
    lab.push(&["bootstrap", "prod", "--yes"]).exits(0);
    set(4096);

    staging(2048);
    lab.push(&["bootstrap", "staging", "--yes", "--take-over"])
        .exits(0);
    set(2048);
}

#[test]
fn an_sshd_that_would_not_read_what_is_declared_for_it_is_found_out_before_the_switch() {
    let Some(lab) = Lab::boot(&[HostSpec::fresh("web1").access(Access::Root)]) else {
        return;
    };
    let host = lab.host("web1");
    let include = "Include /etc/ssh/sshd_config.d/*.conf";
    declare(&lab, &slim(1024), "");
    let config = |text: &str| {
        host.write("/etc/ssh/sshd_config", text.as_bytes(), 0o644)
            .unwrap();
    };
    config("UsePAM yes\n");
    bootstrap(&lab)
        .exits(9)
        .says("would not read")
        .says(include);
    config(&format!(
        "UsePAM yes\nPasswordAuthentication yes\n{include}\n"
    ));
    bootstrap(&lab).exits(9).says("in line 2").says(include);
    let current = host.run(&["readlink", "/etc/push/current"]).unwrap();
    assert_eq!(current.stdout, "", "nothing became live");
    config(&format!(
        "{include}\nUsePAM yes\nPasswordAuthentication yes\n"
    ));
    let earlier = "/etc/ssh/sshd_config.d/00-custom.conf";
    host.write(earlier, b"PasswordAuthentication yes\n", 0o644)
        .unwrap();
    bootstrap(&lab).exits(9).says(earlier).says("in line 1");
    host.succeed(&["rm", earlier]).unwrap();
    // What somebody else lets the login do is told, and theirs to decide.
    host.succeed(&["mkdir", "-p", "/etc/sudoers.d"]).unwrap();
    host.write(
        "/etc/sudoers.d/90-cloud",
        b"deploy ALL=(ALL) NOPASSWD:ALL\n",
        0o440,
    )
    .unwrap();
    bootstrap(&lab)
        .exits(0)
        .says("deploy may also run as root: (ALL) NOPASSWD: ALL");
    assert!(says(host, &["sshd", "-T"]).contains("passwordauthentication no"));
}

#[test]
fn a_bootstrap_that_locks_its_own_login_out_is_taken_back_and_root_still_gets_in() {
    let Some(lab) = Lab::boot(&[HostSpec::fresh("web1").access(Access::Root)]) else {
        return;
    };
    // It is right by `sshd -t`, and lets in who came first and not whom every later push comes as.
    lab.write("templates/bootstrap/sshd", "AllowUsers root\n");
    let plan = ["bootstrap", "prod", "--as", "root", "--dry-run"];
    declare(&lab, "", "[rollout]\nconfirm_timeout = \"8s\"\n");
    lab.push(&plan).exits(0).says("login deploy").says("risky");
    bootstrap(&lab).exits(5);
    let host = lab.host("web1");
    let (status, said) = ssh_as(host, "root", &["id", "-un"]);
    assert_eq!((status, said.trim()), (Some(0), "root"));
    assert!(!says(host, &["sshd", "-T"]).contains("allowusers"));
    let table = host.run(&["nft", "list", "table", "inet", "push"]);
    assert!(!table.unwrap().is_success(), "the firewall is gone again");
    // What sshd itself refuses does not even become live.
    lab.write("templates/bootstrap/sshd", "PermitRootLogin perhaps\n");
    bootstrap(&lab).exits(9).says("sshd -t");
    fs::remove_file(lab.path("templates/bootstrap/sshd")).unwrap();
    bootstrap(&lab).exits(0);
    the_login_may_run_push_host_and_nothing_else(host);
}

#[test]
fn a_bootstrap_that_is_cut_short_ends_well_when_it_is_run_again() {
    let Some(lab) = Lab::boot(&[HostSpec::fresh("web1").access(Access::Root)]) else {
        return;
    };
    declare(&lab, "packages = [\"sqlite3\", \"curl\"]", "");
    let host = lab.host("web1");
    let job = ["systemctl", "is-active", "--quiet", "push-packages.service"];
    // The laptop goes while packages are being installed.
    let running = lab.spawn(&["bootstrap", "prod", "--as", "root", "--yes"]);
    eventually("packages", SHORT, || host.run(&job).unwrap().is_success());
    running.signal("KILL");
    running.end();
    // The host's end goes in the midst of the second try.
    let running = lab.spawn(&["bootstrap", "prod", "--as", "root", "--yes", "--wait"]);
    std::thread::sleep(Duration::from_secs(2));
    host.run(&["pkill", "-KILL", "-f", "push-host serve"])
        .unwrap();
    running.end();
    // The power goes in the midst of the third.
    let running = lab.spawn(&["bootstrap", "prod", "--as", "root", "--yes", "--wait"]);
    std::thread::sleep(Duration::from_secs(3));
    host.power_cut().unwrap();
    running.signal("KILL");
    running.end();
    host.boot_again().unwrap();
    lab.push(&["bootstrap", "prod", "--as", "root", "--yes", "--wait"])
        .exits(0);
    bootstrap(&lab).exits(0).says("nothing to do");
    let broken = says(host, &["dpkg", "--audit"]);
    assert_eq!(broken, "");
    the_login_may_run_push_host_and_nothing_else(host);
}

#[test]
fn a_package_that_went_is_brought_back_and_one_that_is_unknown_is_named_before_anything_is_live() {
    let Some(lab) = Lab::boot(&[HostSpec::fresh("web1").access(Access::Root)]) else {
        return;
    };
    declare(&lab, "packages = [\"sqlite3\", \"no-such-package\"]", "");
    bootstrap(&lab).exits(1).says("no-such-package");
    let host = lab.host("web1");
    assert!(
        host.run(&["readlink", "/etc/push/current"])
            .unwrap()
            .stdout
            .is_empty()
    );
    declare(&lab, "packages = [\"sqlite3\"]", "");
    bootstrap(&lab).exits(0);
    host.succeed(&["dpkg", "--purge", "sqlite3"]).unwrap();
    lab.push(&["bootstrap", "prod", "--dry-run"])
        .exits(0)
        .says("sqlite3 is installed");
    lab.push(&["bootstrap", "prod", "--yes"]).exits(0);
    assert_eq!(says(host, &["sqlite3", ":memory:", "select 1"]), "1");
}
