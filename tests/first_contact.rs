//! First contact of `push bootstrap` with hosts whose key nobody knows, on real hosts: what is shown, asked,
//! refused and written before anything is sent to them.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use push::rehearse::{HostSpec, ROOT_PASSWORD, RehearsalHost, Suite};
use push::transport::HostKey;
use push_tests::hosts::say;
use push_tests::lab::{Lab, SHOP, says};

/// Fresh hosts, root by password only, in a project that knows neither their keys nor a login of theirs.
fn strangers(specs: &[HostSpec]) -> Option<Lab> {
    let lab = Lab::boot(specs)?;
    lab.secret("api-token", "t0ken");
    lab.write("password", format!("{ROOT_PASSWORD}\n"));
    declare(&lab, "", SHOP);
    Some(lab)
}

/// The inventory of such hosts; `hosts_rest` ends each host's table.
fn declare(lab: &Lab, hosts_rest: &str, rest: &str) {
    let first = lab.fleet.hosts().first().unwrap();
    let key = fs::read_to_string(first.identity().with_extension("pub")).unwrap();
    let mut text = "project = \"shop\" # ours\n\n[ssh]\nuser = \"deploy\"\n".to_owned();
    for host in lab.fleet.hosts() {
        write!(
            text,
            "\n# {name} is by the window.\n[hosts.{name}]\naddress = \"{}\" # for now\nidentity = \"{}\"\n{hosts_rest}\
             tags = [\"web\"]\n",
            host.address(),
            host.identity().display(),
            name = host.name(),
        )
        .unwrap();
    }
    write!(text, "\n[bootstrap]\nkeys = [\"{}\"]\n{rest}", key.trim()).unwrap();
    lab.write("inventory/prod.toml", text);
}

fn inventory(lab: &Lab) -> String {
    fs::read_to_string(lab.path("inventory/prod.toml")).unwrap()
}

fn fingerprint(host: &RehearsalHost) -> String {
    HostKey::parse(host.host_key()).unwrap().fingerprint()
}

/// How often anybody tried to log in to a host.
fn logins(host: &RehearsalHost) -> String {
    let journal = says(
        host,
        &["journalctl", "-u", "ssh", "-o", "cat", "--no-pager"],
    );
    let tries = journal
        .lines()
        .filter(|line| line.contains("password") || line.contains("publickey"));
    tries.collect::<Vec<_>>().join("\n")
}

const BOOTSTRAP: [&str; 7] = [
    "bootstrap",
    "prod",
    "--as",
    "root",
    "--yes",
    "--password-from",
    "password",
];

#[test]
fn an_unknown_key_is_asked_about_and_then_pinned_before_anything_is_sent() {
    let specs = [
        HostSpec::fresh("web1"),
        HostSpec::fresh("web2").suite(Suite::Trixie),
    ];
    let Some(lab) = strangers(&specs) else { return };
    let before = inventory(&lab);

    // Nobody is there to ask: refused at once, with every key, and with what to pass for each.
    let said = lab.push(&BOOTSTRAP).exits(9).says("no terminal to ask on");
    for host in lab.fleet.hosts() {
        let command = format!("push bootstrap prod -l {} --host-key SHA256:", host.name());
        assert!(said.stderr.contains(&command), "{}", said.stderr);
        assert!(said.stdout.contains(&fingerprint(host)), "{}", said.stdout);
    }
    // One is not enough for two.
    let (web1, web2) = (lab.host("web1"), lab.host("web2"));
    let given = ["--host-key", &fingerprint(web1)];
    lab.push(&[&BOOTSTRAP[..], &given].concat())
        .exits(2)
        .says("the key of one host")
        .says("-l web1");
    // A no is a no for everything, also for the host that comes after it.
    let asked = lab.ask(&BOOTSTRAP);
    asked.shows(&fingerprint(web1));
    asked.shows("Is it the same there?");
    asked.types("n\r").exits(9).says("web1 was not pinned");
    assert_eq!(inventory(&lab), before);

    // Nor is Ctrl-C anything else than that.
    let asked = lab.ask(&BOOTSTRAP);
    asked.shows("Is it the same there?");
    asked.types("\x03").exits(130);
    assert_eq!(inventory(&lab), before);

    // A dry run asks, and writes nothing.
    let asked = lab.ask(&[&BOOTSTRAP[..], &["-l", "web1", "--dry-run"]].concat());
    asked.shows("Is it the same there?");
    let said = asked.types("y\r").exits(0).says("login deploy");
    said.says("it is not pinned");
    assert_eq!(inventory(&lab), before);

    // The password has only been sent where the answer was yes.
    assert_eq!(logins(web2), "");

    let asked = lab.ask(&BOOTSTRAP);
    asked.shows(&fingerprint(web1));
    asked.press("y\r");
    asked.shows(&fingerprint(web2));
    asked
        .types("y\r")
        .exits(0)
        .says("is pinned in inventory/prod.toml");
    let pinned = lab.fleet.hosts().iter().fold(before, |text, host| {
        let identity = format!("identity = \"{}\"\n", host.identity().display());
        let after = format!("tags = [\"web\"]\nhost_key = \"{}\"\n", host.host_key());
        let (head, table) = text
            .split_once(&format!("[hosts.{}]", host.name()))
            .unwrap();
        assert!(table.contains(&identity));
        let table = table.replacen("tags = [\"web\"]\n", &after, 1);
        format!("{head}[hosts.{}]{table}", host.name())
    });
    assert_eq!(inventory(&lab), pinned, "comments and order are kept");

    // Nobody is asked again.
    lab.push(&["bootstrap", "prod", "--yes"])
        .exits(0)
        .says("nothing to do");
}

#[test]
fn root_by_password_with_an_unknown_key_is_a_member_after_one_bootstrap_and_one_push() {
    let specs = [
        HostSpec::fresh("web1"),
        HostSpec::fresh("web2").suite(Suite::Trixie),
    ];
    let Some(lab) = strangers(&specs) else { return };
    for host in lab.fleet.hosts() {
        let began = Instant::now();
        let (limit, given) = (["-l", host.name()], fingerprint(host));
        let args = [&BOOTSTRAP[..], &limit, &["--host-key", &given]].concat();
        lab.push(&args)
            .exits(0)
            .says("is pinned in inventory/prod.toml");
        let bootstrapped = began.elapsed();
        lab.push(&["prod", "--yes", "-l", host.name()]).exits(0);
        say(&format!(
            "{}: root by password, unknown key, unattended: bootstrapped after {bootstrapped:.1?}, pushed to after {:.1?}",
            host.suite(),
            began.elapsed()
        ));
        let sshd = says(host, &["sshd", "-T"]);
        for line in ["passwordauthentication no", "permitrootlogin no"] {
            assert!(sshd.lines().any(|found| found == line), "{line}: {sshd}");
        }
        assert!(inventory(&lab).contains(host.host_key()));
    }
    lab.push(&["bootstrap", "prod", "--yes"])
        .exits(0)
        .says("nothing to do");
    lab.push(&["prod", "--yes"]).exits(0).says("nothing to do");
}

#[test]
fn another_key_than_the_one_that_was_given_is_sent_nothing() {
    let Some(lab) = strangers(&[HostSpec::fresh("web1")]) else {
        return;
    };
    let host = lab.host("web1");
    let before = inventory(&lab);
    let (right, wrong) = (fingerprint(host), format!("SHA256:{}", "A".repeat(43)));
    lab.push(&[&BOOTSTRAP[..], &["--host-key", &wrong]].concat())
        .exits(9)
        .says(&wrong)
        .says(&right);
    assert_eq!(inventory(&lab), before);
    // Also when it is pinned: who gives a fingerprint wants it compared.
    declare(&lab, &format!("host_key = \"{}\"\n", host.host_key()), "");
    lab.push(&[&BOOTSTRAP[..], &["--host-key", &wrong]].concat())
        .exits(9)
        .says(&wrong);
    assert_eq!(logins(host), "");
}

#[test]
fn a_key_that_a_known_authority_certifies_is_pinned_without_a_question() {
    let Some(lab) = strangers(&[HostSpec::fresh("web1")]) else {
        return;
    };
    let host = lab.host("web1");
    let address = host.address().to_string();
    let authority = lab.path("authority");
    certify(host, &authority, &lab.path("host.pub"));
    let public = fs::read_to_string(authority.with_extension("pub")).unwrap();
    // ssh looks for its files in the account's home, whatever HOME says, so it is told where they are.
    let known = lab.path("known_hosts");
    lab.write(
        "ssh_config",
        format!("UserKnownHostsFile {}\n", known.display()),
    );
    let ssh = format!(
        "#!/bin/sh\nexec /usr/bin/ssh -F {} \"$@\"\n",
        lab.path("ssh_config").display()
    );
    lab.app("ssh", ssh.as_bytes());
    let bootstrap = || {
        let path = format!("{}:/usr/bin:/bin", lab.path("bin").display());
        let mut command = lab.command(&BOOTSTRAP);
        command.env("PATH", path).output().unwrap()
    };
    // An authority for other names proves nothing.
    lab.write(
        "known_hosts",
        format!("@cert-authority *.example.com {public}"),
    );
    assert_eq!(bootstrap().status.code(), Some(9));
    lab.write("known_hosts", format!("@cert-authority {address} {public}"));
    let said = bootstrap();
    let text = String::from_utf8_lossy(&said.stdout).into_owned();
    assert_eq!(said.status.code(), Some(0), "{said:?}");
    assert!(text.contains("certifies it as web1"), "{text}");
    assert!(inventory(&lab).contains(host.host_key()));
    // From now on the pin alone is enough.
    lab.push(&["bootstrap", "prod", "--yes"])
        .exits(0)
        .says("nothing to do");
}

/// Gives a host a certificate for its address, of a new authority.
fn certify(host: &RehearsalHost, authority: &Path, public: &Path) {
    let keygen = |args: &[&str]| {
        let status = Command::new("ssh-keygen")
            .arg("-q")
            .args(args)
            .status()
            .unwrap();
        assert!(status.success());
    };
    let file = authority.to_str().unwrap();
    keygen(&["-t", "ed25519", "-N", "", "-f", file]);
    fs::write(public, format!("{}\n", host.host_key())).unwrap();
    let names = format!("{},web1", host.address());
    keygen(&[
        "-s",
        file,
        "-h",
        "-I",
        "web1",
        "-n",
        &names,
        public.to_str().unwrap(),
    ]);
    let certificate = fs::read(public.with_file_name("host-cert.pub")).unwrap();
    let place = "/etc/ssh/ssh_host_ed25519_key-cert.pub";
    host.write(place, &certificate, 0o644).unwrap();
    let config = format!("HostCertificate {place}\n");
    host.write(
        "/etc/ssh/sshd_config.d/10-certificate.conf",
        config.as_bytes(),
        0o644,
    )
    .unwrap();
    host.succeed(&["systemctl", "restart", "ssh"]).unwrap();
}
