//! Passwords and second factors against real hosts with PAM and sudo: asked for once however many
//! hosts want them, brought along in a file where there is no terminal, and never tried for ever.

use push::rehearse::{HostSpec, ROOT_PASSWORD, RehearsalHost};
use push_tests::lab::{Lab, says};
use std::fmt::Write as _;

const PASSWORD: &str = "correct horse; 'battery' \"staple\"";

/// Gives an account its password, and sshd these lines.
fn prepare(host: &RehearsalHost, user: &str, sshd: &str) {
    host.write(
        "/root/passwords",
        format!("{user}:{PASSWORD}\n").as_bytes(),
        0o600,
    )
    .unwrap();
    says(
        host,
        &[
            "sh",
            "-c",
            "chpasswd </root/passwords && rm /root/passwords",
        ],
    );
    host.write(
        "/etc/ssh/sshd_config.d/00-test.conf",
        sshd.as_bytes(),
        0o644,
    )
    .unwrap();
    says(host, &["systemctl", "reload", "ssh"]);
}

/// The environment `prod` with these hosts, each with `lines` in its table.
fn declare(lab: &Lab, lines: &dyn Fn(&RehearsalHost) -> String) {
    let mut text = String::from("project = \"shop\"\n");
    for host in lab.fleet.hosts() {
        let _ = writeln!(
            text,
            "[hosts.{}]\naddress = \"{}\"\nhost_key = \"{}\"\n{}",
            host.name(),
            host.address(),
            host.host_key(),
            lines(host)
        );
    }
    text.push_str("[files.\"/etc/pushed\"]\ncontent = \"pushed\"\n");
    lab.write("inventory/prod.toml", text);
    lab.write("password", format!("{PASSWORD}\nnot this line\n"));
    lab.write("wrong", "certainly not\n");
}

/// The environment `prod` of a machine that has nothing but root by password, and a key that is not let in.
fn declare_fresh(lab: &Lab) {
    let host = lab.host("web1");
    let identity = host.identity().display();
    let key = std::fs::read_to_string(format!("{identity}.pub")).unwrap();
    let text = format!(
        "project = \"shop\"\n[ssh]\nuser = \"deploy\"\n[hosts.web1]\naddress = \"{}\"\nhost_key = \"{}\"\n\
         identity = \"{identity}\"\n[bootstrap]\nkeys = [\"{}\"]\n",
        host.address(),
        host.host_key(),
        key.trim()
    );
    lab.write("inventory/prod.toml", text);
    lab.write("mail", format!("{ROOT_PASSWORD}\n"));
    lab.write("wrong", "certainly not\n");
}

fn pushed(host: &RehearsalHost) -> String {
    says(host, &["cat", "/etc/pushed"])
}

fn journal(host: &RehearsalHost, unit: &str) -> String {
    says(host, &["journalctl", "-q", "-b", "-o", "cat", "-t", unit])
}

#[test]
fn root_by_password_is_asked_for_once_for_all_hosts_and_never_without_a_terminal() {
    let Some(lab) = Lab::boot_plain(2) else {
        return;
    };
    for host in lab.fleet.hosts() {
        prepare(
            host,
            "root",
            "PermitRootLogin yes\nPasswordAuthentication yes\n",
        );
    }
    declare(&lab, &|_| "user = \"root\"\n".to_owned());

    lab.push(&["prod", "--yes"])
        .exits(4)
        .says("there is no terminal to ask for it")
        .says("--password-from FILE");
    let said = lab
        .push(&["prod", "--yes", "--password-from", "wrong"])
        .exits(4);
    said.says("offered a password").says("does not let root in");
    for host in lab.fleet.hosts() {
        let tries = journal(host, "sshd").matches("Failed password").count();
        assert_eq!(tries, 1, "what was brought along is tried once");
    }

    // One answer for both hosts: nothing more can be typed.
    let asked = lab.ask(&["prod", "--yes"]);
    asked.shows("Password of root on web");
    let said = asked.types(&format!("{PASSWORD}\r")).exits(0);
    let named = |host: &str| said.stdout.contains(&format!("Password of root on {host}"));
    assert!(named("web1") != named("web2"), "{said:?}");
    assert!(!said.stdout.contains("battery"), "{said:?}");
    for host in lab.fleet.hosts() {
        assert_eq!(pushed(host), "pushed");
    }
    lab.push(&["status", "prod", "--password-from", "password"])
        .exits(0);
}

#[test]
fn a_bootstrap_without_the_right_password_tells_of_root_and_tries_nothing_as_the_login_to_come() {
    const BOOTSTRAP: [&str; 5] = ["bootstrap", "prod", "--as", "root", "--yes"];
    let Some(lab) = Lab::boot(&[HostSpec::fresh("web1")]) else {
        return;
    };
    declare_fresh(&lab);
    lab.push(&BOOTSTRAP)
        .exits(4)
        .says("does not let root in")
        .says("--password-from FILE");
    let wrong = [&BOOTSTRAP[..], &["--password-from", "wrong"]].concat();
    lab.push(&wrong)
        .exits(4)
        .says("does not let root in")
        .says("the right password of root");

    let asked = lab.ask(&BOOTSTRAP);
    asked.shows("Password of root on web1");
    asked.press("mistyped\r");
    asked.shows("That was not it.");
    let said = asked.types("mistyped again\r").exits(4);
    assert!(!said.stdout.contains("Password of deploy"), "{said:?}");

    let log = journal(lab.host("web1"), "sshd");
    assert_eq!(log.matches("Failed password for root").count(), 3, "{log}");
    assert_eq!(log.matches("Failed password").count(), 3, "{log}");
}

#[test]
fn a_password_that_the_provider_lets_expire_is_named_and_what_to_do_about_it() {
    let Some(lab) = Lab::boot(&[HostSpec::fresh("web1")]) else {
        return;
    };
    declare_fresh(&lab);
    says(lab.host("web1"), &["chage", "-d", "0", "root"]);
    lab.push(&[
        "bootstrap",
        "prod",
        "--as",
        "root",
        "--yes",
        "--password-from",
        "mail",
    ])
    .exits(1)
    .says("the password has expired")
    .says("ssh root@web1");
}

#[test]
fn a_sudo_that_wants_a_password_gets_it_on_stdin_for_the_installation_and_every_push() {
    let Some(lab) = Lab::boot_plain(2) else {
        return;
    };
    for host in lab.fleet.hosts() {
        prepare(host, "deploy", "");
        let rule = b"deploy ALL=(ALL:ALL) ALL\nDefaults timestamp_timeout=0\n";
        host.write("/etc/sudoers.d/rehearsal", rule, 0o440).unwrap();
    }
    declare(&lab, &|host| {
        format!(
            "user = \"deploy\"\nidentity = \"{}\"\n",
            host.identity().display()
        )
    });

    lab.push(&["prod", "--yes"])
        .exits(1)
        .says("asks deploy for a password, and there is no terminal")
        .says("--password-from FILE");
    lab.push(&["prod", "--yes", "--password-from", "wrong"])
        .exits(1)
        .says("does not take the password of deploy (1 tried)");
    assert!(
        !lab.host("web1")
            .run(&["test", "-e", "/etc/pushed"])
            .unwrap()
            .status
            .success()
    );

    // A mistyped one is asked for again, once for both.
    let asked = lab.ask(&["prod", "--yes"]);
    asked.shows("Password of deploy for sudo on web");
    asked.press("mistyped\r");
    asked.shows("That was not it.");
    let said = asked.types(&format!("{PASSWORD}\r")).exits(0);
    assert!(!said.stdout.contains("battery"), "{said:?}");
    for host in lab.fleet.hosts() {
        assert_eq!(pushed(host), "pushed");
        let log = journal(host, "sudo");
        assert!(!log.contains("battery"), "{log}");
    }
    // With push-host installed, the password goes to another sudo.
    lab.push(&["prod", "--yes", "--password-from", "password"])
        .exits(0);
    lab.push(&["status", "prod"])
        .exits(1)
        .says("asks deploy for a password");
    let from_stdin = "exec \"$0\" status prod --password-from - <password";
    let program = push_tests::lab::program("push");
    let status = std::process::Command::new("sh")
        .args(["-c", from_stdin])
        .arg(program)
        .current_dir(lab.path("."))
        .env("HOME", lab.path("."))
        .status()
        .unwrap();
    assert!(status.success());
}

#[test]
fn a_key_and_then_a_password_or_the_other_way_round() {
    let Some(lab) = Lab::boot(&[HostSpec::named("web1")]) else {
        return;
    };
    let host = lab.host("web1");
    declare(&lab, &|host| {
        format!(
            "user = \"deploy\"\nidentity = \"{}\"\n",
            host.identity().display()
        )
    });
    let way = |methods: &str| {
        let sshd = format!(
            "PasswordAuthentication yes\nKbdInteractiveAuthentication yes\nAuthenticationMethods {methods}\n"
        );
        prepare(host, "deploy", &sshd);
        lab.push(&["prod", "--yes", "--password-from", "password"])
            .exits(0);
        lab.push(&["status", "prod"])
            .exits(4)
            .says("asks deploy for a password");
    };
    way("publickey,keyboard-interactive:pam");
    way("publickey,password");
    let sshd = "PasswordAuthentication yes\nAuthenticationMethods password,publickey\n";
    prepare(host, "deploy", sshd);
    lab.push(&["prod", "--yes", "--password-from", "password"])
        .exits(0);
}
