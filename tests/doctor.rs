//! `push doctor` on a real host: each finding is provoked once, is told with its cure, and is gone
//! once the cure was typed.

use push::rehearse::{Disk, Filesystem, HostSpec, RehearsalHost};
use push_tests::lab::{Lab, SHOP, Said, says};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;

const FIREWALL: &str = "\n[firewall]\nallow = [\"ssh\", \"http\"]\n";

fn doctor(lab: &Lab) -> Said {
    lab.push(&["doctor", "prod"])
}

/// Does something on the host, sees that doctor says it, and that `cure` is what it names.
fn provoked(lab: &Lab, argv: &[&str], (finding, cure): (&str, &str)) -> Said {
    says(lab.host("web1"), argv);
    let said = doctor(lab);
    let lines: Vec<&str> = said.stdout.lines().collect();
    let at = lines
        .iter()
        .position(|line| line.contains(finding))
        .unwrap_or_else(|| panic!("{finding:?} is not in\n{}\n{}", said.stdout, said.stderr));
    assert!(
        lines[at + 1].contains(cure),
        "{cure:?} is not below it:\n{}",
        said.stdout
    );
    said
}

#[test]
fn what_is_wrong_on_a_host_is_found_with_its_cure_and_nothing_is_changed() {
    let Some(lab) = Lab::boot(&[HostSpec::named("web1")]) else {
        return;
    };
    let host = lab.host("web1");
    lab.shop(FIREWALL);
    doctor(&lab)
        .exits(0)
        .says("push has not run there yet")
        .says("`push prod -l web1`");
    assert!(
        !exists(host, "/usr/local/lib/push/push-host"),
        "doctor installs nothing"
    );

    lab.push(&["prod", "--yes"]).exits(0);
    let before = listing(host);
    doctor(&lab)
        .exits(0)
        .says("its key is the pinned one")
        .says("is this build's")
        .says("everything is as it was pushed")
        .says("generation 1 is in effect")
        .says("its clock agrees")
        .says("1 secret can be opened here");
    assert_eq!(listing(host), before);

    provoked(
        &lab,
        &["touch", "/run/reboot-required"],
        (
            "wants a reboot",
            "push ssh prod web1 -- sudo systemctl reboot",
        ),
    )
    .exits(0);
    says(host, &["rm", "/run/reboot-required"]);
    let wants = "/etc/systemd/system/sysinit.target.wants/push-recover.service";
    let again = "`push prod -l web1 --again`";
    for (argv, finding) in [
        (
            &["systemctl", "stop", "api.service"][..],
            "api.service does not run",
        ),
        (&["rm", wants], "push-recover.service is not enabled"),
        (
            &["nft", "delete", "table", "inet", "push"],
            "the firewall is not loaded",
        ),
        (
            &["sh", "-c", "rm /run/push/secrets/api/*"],
            "of api is not opened",
        ),
        (
            &["rm", "/etc/nginx/conf.d/push.conf"],
            "nginx does not include push's sites",
        ),
    ] {
        provoked(&lab, argv, (finding, again)).exits(1);
    }
    lab.push(&["prod", "-l", "web1", "--again", "--yes"])
        .exits(0);
    doctor(&lab).exits(0).says("everything is as it was pushed");
}

/// What the demo's service does when it is started with this is fail, and stay so.
const FAILING: &str = "mkdir -p /run/systemd/system/api.service.d && printf \
    '[Service]\\nRestart=no\\nExecStartPre=/bin/false\\n' > /run/systemd/system/api.service.d/x.conf && \
    systemctl daemon-reload && ! systemctl restart api.service";

#[test]
fn a_failed_unit_a_missing_program_an_older_push_host_and_a_full_disk_are_found_with_their_cures() {
    let disk = Disk::Loop {
        filesystem: Filesystem::Ext4,
        size_mib: 1024,
    };
    let Some(lab) = Lab::boot(&[HostSpec::named("web1").disk(disk)]) else {
        return;
    };
    let host = lab.host("web1");
    lab.shop(FIREWALL);
    lab.push(&["prod", "--yes"]).exits(0);
    doctor(&lab).exits(0);
    for (argv, finding, cure) in [
        (
            &["sh", "-c", FAILING][..],
            "api.service: failed",
            "push logs prod -l web1 --unit api.service",
        ),
        (
            &["mv", "/usr/sbin/nginx", "/usr/sbin/nft", "/root/"],
            "nginx is not installed",
            "sudo apt-get install nginx",
        ),
        (
            &["true"],
            "nft is not installed",
            "sudo apt-get install nftables",
        ),
        (
            &["sh", "-c", "echo >> /usr/local/lib/push/push-host"],
            "is not this build's",
            "push deploy prod -l web1",
        ),
        (
            &["fallocate", "-l", "600M", "/srv/full"],
            "are free in /srv",
            "push ssh prod web1 -- df -h /srv",
        ),
    ] {
        provoked(&lab, argv, (finding, cure)).exits(1);
    }
    // The cures are typed, with what stands for an installation where there is no network.
    for argv in [
        &["rm", "-r", "/srv/full", "/run/systemd/system/api.service.d"][..],
        &["mv", "/root/nginx", "/root/nft", "/usr/sbin/"],
        &["systemctl", "daemon-reload"],
        &["systemctl", "restart", "api.service"],
    ] {
        says(host, argv);
    }
    lab.push(&["deploy", "prod", "-l", "web1", "--yes"])
        .exits(0);
    doctor(&lab).exits(0).says("is this build's");
}

#[test]
fn what_keeps_a_host_from_being_reached_is_found_with_its_cure() {
    let Some(lab) = Lab::boot(&[HostSpec::named("web1")]) else {
        return;
    };
    let host = lab.host("web1");
    lab.environment("prod", "project = \"shop\"", "");
    lab.push(&["prod", "--yes"]).exits(0);

    let rule = host.read("/etc/sudoers.d/rehearsal").unwrap();
    provoked(
        &lab,
        &["rm", "/etc/sudoers.d/rehearsal"],
        ("asks deploy for a password", "--password-from"),
    )
    .exits(1);
    host.write("/etc/sudoers.d/rehearsal", &rule, 0o440)
        .unwrap();

    let inventory = fs::read_to_string(lab.path("inventory/prod.toml")).unwrap();
    let open: Vec<&str> = inventory
        .lines()
        .filter(|line| !line.starts_with("host_key"))
        .collect();
    lab.write("inventory/prod.toml", open.join("\n"));
    doctor(&lab)
        .exits(4)
        .says("is not known")
        .says("`push trust web1`");
    lab.push(&["trust", "web1", "--host-key", host.host_key()])
        .exits(0);
    doctor(&lab).exits(0);

    let gone = format!(
        "{inventory}\n[hosts.web9]\naddress = \"{}\"\nport = 9\nidentity = \"absent\"\n",
        host.address()
    );
    lab.write("inventory/prod.toml", &gone);
    doctor(&lab)
        .exits(4)
        .says("web9 cannot be reached")
        .says("absent cannot be used: there is no such file")
        .says("nothing was pushed there yet");
}

#[test]
fn what_the_laptop_lacks_is_found_with_its_cure() {
    let Some(lab) = Lab::boot(&[HostSpec::named("web1")]) else {
        return;
    };
    lab.shop("");
    let built = SHOP.replace(
        "[apps.api]\n",
        "[apps.api]\nbuild = \"no-such-tool --release\"\n",
    );
    lab.environment("built", "project = \"shop\"", &built);
    lab.push(&["doctor", "built"])
        .exits(1)
        .says("no-such-tool is not installed");

    let other = lab.path("other");
    fs::write(&other, "AGE-SECRET-KEY-nonsense\n").unwrap();
    fs::set_permissions(&other, fs::Permissions::from_mode(0o600)).unwrap();
    let output = lab
        .command(&["doctor", "prod"])
        .env("PUSH_IDENTITY", &other)
        .stdin(std::process::Stdio::null())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(8), "{output:?}");
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(said.contains("cannot be opened here"), "{said}");
    lab.write("inventory/broken.toml", "nonsense = 1\n");
    lab.push(&["doctor"])
        .exits(2)
        .says("inventory/prod.toml has no mistakes (1 host)")
        .says("`push plan broken` shows the line");
    let mut command = lab.command(&["doctor", "prod", "--json"]);
    let output = command
        .env("SSH_AUTH_SOCK", lab.path("gone"))
        .stdin(std::process::Stdio::null())
        .output()
        .unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    let line = said
        .lines()
        .find(|line| line.contains("does not answer"))
        .unwrap();
    let value: serde_json::Value = serde_json::from_str(line).unwrap();
    assert_eq!(value["type"], "finding");
    assert!(
        value["finding"]["cure"]
            .as_str()
            .unwrap()
            .contains("ssh-agent")
    );
}

fn exists(host: &RehearsalHost, path: &str) -> bool {
    host.run(&["test", "-e", path]).unwrap().is_success()
}

/// Every file that push has anything to do with, with its content.
fn listing(host: &RehearsalHost) -> String {
    says(
        host,
        &[
            "sh",
            "-c",
            "find /etc /srv /var/lib/push /usr/local -type f -exec sha256sum {} + | sort",
        ],
    )
}
