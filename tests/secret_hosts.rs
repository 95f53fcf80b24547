//! Secrets on real hosts: pushed by somebody who can open none of them, changed, taken back, and refused
//! when a host's key is not the one that they were sealed to.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "the panic of a test is its message"
)]

use std::io::Write as _;
use std::process::{Command, Stdio};

use push::rehearse::RehearsalHost;
use push_tests::lab::{CANARY, Lab, Said};

/// An app that reads secrets in every way, and one that reads none.
const APPS: &str = r#"
[apps.reader]
secrets = [
    "token",
    { name = "smtp-password", as = "env" },
    { name = "reader.conf", as = "file", template = "reader.conf" },
]
[apps.reader.service]
exec = "/bin/sleep infinity"

[apps.other]
[apps.other.service]
exec = "/bin/sleep infinity"

[rollout]
waves = ["1", "100%"]
"#;

/// A fleet whose secrets are sealed to the operator and to the hosts.
fn lab(hosts: usize) -> Option<Lab> {
    let lab = Lab::boot_plain(hosts)?;
    lab.write(
        "templates/reader.conf",
        "[mail]\nhost = {{ host.name }}\npassword = {{ secret_value(\"smtp-password\") }}\n",
    );
    lab.declares(APPS);
    lab.push(&["secret", "init", "prod", "--as", "ann", "--hosts"])
        .exits(0);
    set(&lab, "token", CANARY);
    set(&lab, "smtp-password", "pass \"word\"");
    Some(lab)
}

fn set(lab: &Lab, name: &str, value: &str) {
    let mut child = lab
        .command(&["secret", "set", "prod", name])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(value.as_bytes())
        .unwrap();
    assert!(child.wait().unwrap().success());
}

/// `push` as a CI job runs it: without any key that opens secrets.
fn without_a_key(lab: &Lab, args: &[&str]) -> Said {
    let mut command: Command = lab.command(args);
    let output = command
        .env("PUSH_IDENTITY", lab.path("nowhere"))
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    Said {
        status: output.status,
        stdout: text(&output.stdout),
        stderr: text(&output.stderr),
        took: std::time::Duration::ZERO,
    }
}

fn opened(host: &RehearsalHost, name: &str) -> String {
    let path = format!("/run/push/secrets/reader/{name}");
    host.succeed(&["cat", &path]).unwrap()
}

fn invocation(host: &RehearsalHost, unit: &str) -> String {
    host.succeed(&["systemctl", "show", "-p", "InvocationID", "--value", unit])
        .unwrap()
}

/// Sees that every form of every secret is there, for its reader alone and on no disk.
fn arrived(host: &RehearsalHost) {
    assert_eq!(opened(host, "token"), CANARY);
    assert_eq!(
        opened(host, "environment"),
        "SMTP_PASSWORD=\"pass \\\"word\\\"\"\n"
    );
    let name = host.name();
    assert_eq!(
        opened(host, "reader.conf"),
        format!("[mail]\nhost = {name}\npassword = pass \"word\"\n")
    );
    let access = host
        .succeed(&[
            "stat",
            "-c",
            "%a %U",
            "/run/push/secrets/reader/reader.conf",
        ])
        .unwrap();
    assert_eq!(access.trim(), "400 reader");
    let places = host
        .succeed(&[
            "sh",
            "-c",
            "grep -rlsaF 'pass \"word\"' /etc /var /srv /usr/local || true",
        ])
        .unwrap();
    assert_eq!(places, "", "on a disk");
}

#[test]
fn a_job_that_opens_nothing_pushes_changes_and_takes_back_secrets_for_their_readers_alone() {
    let Some(lab) = lab(2) else { return };
    let hosts = [lab.host("web1"), lab.host("web2")];
    without_a_key(&lab, &["prod", "--yes"])
        .exits(0)
        .says("travels as it is");
    hosts.into_iter().for_each(arrived);
    // Whoever can open them plans the same, and sealing them anew is no change either.
    lab.push(&["prod", "--yes"]).exits(0).says("othing to do");
    lab.push(&["secret", "rekey", "prod"]).exits(0);
    without_a_key(&lab, &["prod", "--yes"])
        .exits(0)
        .says("othing to do");

    let before = hosts.map(|host| {
        (
            invocation(host, "reader.service"),
            invocation(host, "other.service"),
        )
    });
    set(&lab, "smtp-password", "another");
    let plan = without_a_key(&lab, &["plan", "prod"])
        .exits(0)
        .says("restart reader.service");
    assert!(
        !plan.stdout.contains("another") && !plan.stdout.contains("other.service"),
        "{}",
        plan.stdout
    );
    without_a_key(&lab, &["prod", "--yes"])
        .exits(0)
        .says("wave 2 of 2");
    for (host, (reader, other)) in hosts.into_iter().zip(&before) {
        assert!(opened(host, "reader.conf").ends_with("password = another\n"));
        assert_eq!(opened(host, "environment"), "SMTP_PASSWORD=\"another\"\n");
        assert_ne!(
            invocation(host, "reader.service"),
            *reader,
            "its reader restarts"
        );
        assert_eq!(
            invocation(host, "other.service"),
            *other,
            "nothing else does"
        );
    }
    without_a_key(&lab, &["rollback", "prod", "--yes"]).exits(0);
    for host in hosts {
        assert!(opened(host, "reader.conf").ends_with("password = pass \"word\"\n"));
        assert_eq!(opened(host, "token"), CANARY);
    }
}

#[test]
fn what_cannot_be_opened_on_the_host_or_was_sealed_to_another_key_changes_nothing() {
    let Some(lab) = lab(1) else { return };
    let host = lab.host("web1");
    // Sealed while the inventory pinned another key.
    let right = std::fs::read_to_string(lab.path("inventory/prod.toml")).unwrap();
    let made = Command::new("ssh-keygen")
        .args(["-q", "-t", "ed25519", "-N", "", "-C", "", "-f"])
        .arg(lab.path("other"))
        .status()
        .unwrap();
    assert!(made.success());
    let other = std::fs::read_to_string(lab.path("other.pub")).unwrap();
    lab.write(
        "inventory/prod.toml",
        right.replace(&host.host_key().to_string(), other.trim()),
    );
    lab.push(&["secret", "rekey", "prod"]).exits(0);
    lab.write("inventory/prod.toml", &right);
    for said in [
        without_a_key(&lab, &["prod", "--yes"]),
        lab.push(&["prod", "--yes"]),
    ] {
        said.exits(8)
            .says("is sealed to a key of web1 that the host no longer has")
            .says("push secret rekey prod");
    }
    assert!(
        !host
            .run(&["test", "-e", "/etc/push/current"])
            .unwrap()
            .is_success()
    );
    lab.push(&["secret", "rekey", "prod"]).exits(0);

    // A bit is flipped in its content: only the host can tell, and it does before anything is live.
    let file = lab.path("inventory/secrets/prod/token.age");
    let whole = std::fs::read(&file).unwrap();
    let mut flipped = whole.clone();
    *flipped.last_mut().unwrap() ^= 1;
    std::fs::write(&file, &flipped).unwrap();
    without_a_key(&lab, &["plan", "prod"]).says("token is not the file that secrets.lock tells of");
    without_a_key(&lab, &["prod", "--yes"])
        .exits(8)
        .says("token");
    assert!(
        !host
            .run(&["test", "-e", "/etc/push/current"])
            .unwrap()
            .is_success()
    );

    // Sealed to people alone, a job without a key is told whom to ask.
    std::fs::write(&file, &whole).unwrap();
    lab.push(&["secret", "revoke", "prod", "hosts", "--all"])
        .exits(0);
    without_a_key(&lab, &["prod", "--yes"])
        .exits(8)
        .says("PUSH_IDENTITY");
    lab.push(&["prod", "--yes"])
        .exits(0)
        .says("opened here and sealed anew");
    assert_eq!(opened(host, "token"), CANARY);
}
