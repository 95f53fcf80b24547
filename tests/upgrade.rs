//! The operating system of real hosts, upgraded from a package source that the test makes on each of them: tiny
//! packages with a library, a daemon that runs from it, and scripts that fail when they are told to.

use std::path::Path;
use std::time::{Duration, Instant};

use push::rehearse::{Access, HostSpec, RehearsalHost, Suite};
use push_tests::hosts::say;
use push_tests::lab::{Lab, eventually, property, says};

const SHORT: Duration = Duration::from_secs(20);

/// How long an upgrade may take that somebody left.
const ENDED_WITHIN: Duration = Duration::from_secs(120);

/// How long a host may take to go down.
const DOWN_WITHIN: Duration = Duration::from_secs(60);

/// Builds a package: name, version, script after installation, daemon. The library is one of the host's own, put
/// in front of a program that sleeps; a new version is a new file, as with any library.
const BUILD: &str = r#"
set -e
name=$1 version=$2 postinst=$3 daemon=$4
work=$(mktemp -d)
mkdir -p "$work/DEBIAN" "$work/usr/lib/push-probe"
printf 'Package: %s\nVersion: %s\nArchitecture: all\nMaintainer: a test <test@example.com>\nDescription: a probe\n' \
    "$name" "$version" > "$work/DEBIAN/control"
printf '#!/bin/sh\n%s\n' "$postinst" > "$work/DEBIAN/postinst"
chmod 0755 "$work/DEBIAN/postinst"
printf '#!/bin/sh\n%s\n' "$daemon" > "$work/usr/lib/push-probe/$name"
chmod 0755 "$work/usr/lib/push-probe/$name"
library=$(ls /lib/*/libz.so.1 /usr/lib/*/libz.so.1 2>/dev/null | head -n 1)
cp -L "$library" "$work/usr/lib/push-probe/$name.so"
mkdir -p /opt/source
dpkg-deb --build --root-owner-group "$work" "/opt/source/${name}_$version.deb" >/dev/null
cd /opt/source
rm -f Packages
for deb in *.deb; do
    dpkg-deb --field "$deb" >> Packages
    printf 'Filename: ./%s\nSize: %s\nSHA256: %s\n\n' "$deb" "$(stat -c %s "$deb")" \
        "$(sha256sum "$deb" | cut -d ' ' -f 1)" >> Packages
done
printf 'Origin: Debian\nLabel: Debian-Security\nSuite: stable-security\nVersion: 12\nSHA256:\n %s %s Packages\n' \
    "$(sha256sum Packages | cut -d ' ' -f 1)" "$(stat -c %s Packages)" > Release
chmod -R a+rX /opt/source
"#;

/// The only package source of a host.
const SOURCES: &str = "deb [trusted=yes] file:/opt/source ./\n";

/// What the daemon of every good version does.
const DAEMON: &str = "exec env LD_PRELOAD=/usr/lib/push-probe/probe.so sleep infinity";

const UNIT: &str = "[Unit]\nDescription=a probe\n[Service]\nExecStart=/usr/lib/push-probe/probe\nRestart=on-failure\n\
                    [Install]\nWantedBy=multi-user.target\n";

fn build(host: &RehearsalHost, (name, version): (&str, &str), (script, daemon): (&str, &str)) {
    says(
        host,
        &["sh", "-c", BUILD, "build", name, version, script, daemon],
    );
}

/// A good version of the daemon and its library.
fn publish(host: &RehearsalHost, version: &str) {
    build(host, ("probe", version), ("true", DAEMON));
}

/// Version 1 of everything is installed, a daemon runs, and one package is held.
fn prepare(host: &RehearsalHost) {
    says(
        host,
        &[
            "sh",
            "-c",
            "rm -rf /etc/apt/sources.list /etc/apt/sources.list.d/*",
        ],
    );
    host.write("/etc/apt/sources.list", SOURCES.as_bytes(), 0o644)
        .unwrap();
    host.write("/etc/systemd/system/probe.service", UNIT.as_bytes(), 0o644)
        .unwrap();
    publish(host, "1");
    build(host, ("held", "1"), ("true", "true"));
    says(host, &["apt-get", "-qq", "update"]);
    says(host, &["apt-get", "-qq", "-y", "install", "probe", "held"]);
    says(host, &["apt-mark", "hold", "held"]);
    says(
        host,
        &["systemctl", "enable", "--now", "--quiet", "probe.service"],
    );
}

fn version(host: &RehearsalHost, package: &str) -> String {
    says(
        host,
        &[
            "dpkg-query",
            "-W",
            "-f",
            "${Version} ${db:Status-Status}",
            package,
        ],
    )
}

fn boot_id(host: &RehearsalHost) -> String {
    says(host, &["cat", "/proc/sys/kernel/random/boot_id"])
}

/// Whether the daemon runs from a file that is gone.
fn is_outdated(host: &RehearsalHost) -> bool {
    let pid = property(host, "probe.service", "MainPID");
    let maps = says(host, &["cat", &format!("/proc/{pid}/maps")]);
    assert!(maps.contains("/usr/lib/push-probe/probe.so"), "{maps}");
    maps.contains("probe.so (deleted)")
}

fn lab(count: usize) -> Option<Lab> {
    let specs: Vec<HostSpec> = (1..=count)
        .map(|number| {
            let spec = HostSpec::named(format!("web{number}"));
            if number == 2 {
                spec.suite(Suite::Trixie)
            } else {
                spec
            }
        })
        .collect();
    let lab = Lab::boot(&specs)?;
    for host in lab.fleet.hosts() {
        prepare(host);
    }
    Some(lab)
}

#[test]
fn a_fleet_is_upgraded_wave_by_wave_and_stops_at_the_first_host_that_is_not_well() {
    let Some(lab) = lab(2) else { return };
    lab.shop("");
    lab.push(&["prod", "--yes"]).exits(0);
    let hosts = [lab.host("web1"), lab.host("web2")];
    lab.push(&["upgrade", "prod", "--yes"])
        .exits(0)
        .says("nothing to do");

    for host in hosts {
        publish(host, "2");
        build(host, ("held", "2"), ("true", "true"));
    }
    let looked = lab.push(&["upgrade", "prod", "-n"]).exits(0);
    looked
        .says("1 → 2")
        .says("security")
        .says("held by `apt-mark hold`");
    assert_eq!(version(hosts[0], "probe"), "1 installed");

    let began = Instant::now();
    let upgraded = lab.push(&["upgrade", "prod", "--yes"]).exits(0);
    say(&format!("two hosts upgraded after {:.1?}", began.elapsed()));
    upgraded
        .says("wave 2 of 2")
        .says("upgraded: 1 package, 1 service restarted");
    for host in hosts {
        assert_eq!(version(host, "probe"), "2 installed", "{}", host.name());
        assert_eq!(version(host, "held"), "1 installed", "{}", host.name());
        assert!(!is_outdated(host), "{}", host.name());
    }
    lab.push(&["upgrade", "prod", "--yes"])
        .exits(0)
        .says("nothing to do");
    lab.push(&["status", "prod"])
        .exits(0)
        .says("upgrade:")
        .says("done");

    a_script_that_fails_stops_it(&lab, hosts);
    a_mended_host_is_gone_on_with(&lab, hosts);
    a_daemon_that_does_not_start_stops_it(&lab, hosts);
}

fn a_script_that_fails_stops_it(lab: &Lab, hosts: [&RehearsalHost; 2]) {
    for host in hosts {
        build(
            host,
            ("probe", "3"),
            ("echo the probe is broken >&2; exit 1", DAEMON),
        );
    }
    let stopped = lab.push(&["upgrade", "prod", "--yes"]).exits(6);
    stopped
        .says("left half done: probe")
        .says("the probe is broken")
        .says("dpkg --configure -a")
        .says("web1 failed, and none may");
    assert_eq!(version(hosts[0], "probe"), "3 half-configured");
    assert_eq!(version(hosts[1], "probe"), "2 installed");
    lab.push(&["status", "prod", "-l", "web1"])
        .exits(0)
        .says("not well");
}

fn a_mended_host_is_gone_on_with(lab: &Lab, hosts: [&RehearsalHost; 2]) {
    for host in hosts {
        publish(host, "4");
    }
    // What the broken version left behind is put right by whoever looks after the host.
    says(
        hosts[0],
        &[
            "sh",
            "-c",
            "printf '#!/bin/sh\\ntrue\\n' > /var/lib/dpkg/info/probe.postinst",
        ],
    );
    lab.push(&["upgrade", "prod", "--yes"]).exits(0);
    for host in hosts {
        assert_eq!(version(host, "probe"), "4 installed", "{}", host.name());
    }
}

/// It is restarted by its own package.
fn a_daemon_that_does_not_start_stops_it(lab: &Lab, hosts: [&RehearsalHost; 2]) {
    for host in hosts {
        let restart = "systemctl restart probe.service || true";
        build(host, ("probe", "5"), (restart, "echo no probe >&2; exit 1"));
    }
    let stopped = lab.push(&["upgrade", "prod", "--yes"]).exits(6);
    stopped
        .says("failed since the upgrade began: probe.service")
        .says("no probe")
        .says("its packages are upgraded and stay so");
    assert_eq!(version(hosts[0], "probe"), "5 installed");
    assert_eq!(version(hosts[1], "probe"), "4 installed");
    assert!(!is_outdated(hosts[1]));
}

#[test]
fn each_release_of_debian_and_ubuntu_is_understood() {
    let mut suites = vec![Suite::Bullseye];
    for suite in [Suite::Jammy, Suite::Noble] {
        let keyring = suite.distribution().keyring();
        if keyring.is_none_or(|keyring| Path::new(keyring).exists()) {
            suites.push(suite);
        } else {
            say(&format!(
                "{} is left out: the package ubuntu-keyring is not installed",
                suite.title()
            ));
        }
    }
    let specs: Vec<HostSpec> = suites
        .iter()
        .map(|suite| HostSpec::fresh(suite.as_str()).suite(*suite))
        .map(|spec| spec.access(Access::Root))
        .collect();
    let Some(lab) = Lab::boot(&specs) else { return };
    lab.declares("");
    for host in lab.fleet.hosts() {
        prepare(host);
        publish(host, "2");
        build(host, ("held", "2"), ("true", "true"));
    }
    let upgraded = lab.push(&["upgrade", "prod", "--yes"]).exits(0);
    upgraded
        .says("1 → 2")
        .says("security")
        .says("held by `apt-mark hold`");
    for host in lab.fleet.hosts() {
        assert_eq!(version(host, "probe"), "2 installed", "{}", host.name());
        assert_eq!(version(host, "held"), "1 installed", "{}", host.name());
        assert!(!is_outdated(host), "{}", host.name());
    }
    lab.push(&["upgrade", "prod", "--yes"])
        .exits(0)
        .says("nothing to do");
}

#[test]
fn a_host_is_rebooted_only_where_that_is_needed_and_allowed_and_looked_at_afterwards() {
    let Some(lab) = lab(1) else { return };
    lab.declares("");
    let host = lab.host("web1");
    let boot = boot_id(host);
    publish(host, "2");
    host.write("/run/reboot-required", b"", 0o644).unwrap();
    host.write("/run/reboot-required.pkgs", b"linux-image-amd64\n", 0o644)
        .unwrap();
    let told = lab.push(&["upgrade", "prod", "--yes"]).exits(0);
    told.says("needs a reboot already: asked for by linux-image-amd64")
        .says("still needs a reboot");
    assert_eq!(boot_id(host), boot);
    lab.push(&["upgrade", "prod", "--yes"])
        .exits(0)
        .says("nothing to do");

    let running = lab.spawn(&["upgrade", "prod", "--yes", "--reboot", "needed"]);
    assert!(
        host.wait_until_down(DOWN_WITHIN).unwrap(),
        "it was not rebooted"
    );
    host.boot_again().unwrap();
    running.end().exits(0).says("rebooting").says("rebooted");
    assert_ne!(boot_id(host), boot);
    assert_eq!(version(host, "probe"), "2 installed");
    lab.push(&["upgrade", "prod", "--yes", "--reboot", "needed"])
        .exits(0)
        .says("nothing to do");
}

#[test]
fn a_laptop_that_goes_in_the_midst_leaves_the_upgrade_to_the_host() {
    let Some(lab) = lab(1) else { return };
    lab.declares("");
    let host = lab.host("web1");
    build(
        host,
        ("probe", "2"),
        ("touch /run/probe-at-it; sleep 6", DAEMON),
    );
    let is_at_it = || {
        host.run(&["test", "-e", "/run/probe-at-it"])
            .unwrap()
            .is_success()
    };
    let running = lab.spawn(&["upgrade", "prod", "--yes"]);
    eventually("dpkg is at it", SHORT, is_at_it);
    running.signal("KILL");
    let _ = running.end();
    lab.push(&["upgrade", "prod", "--yes"])
        .exits(7)
        .says("upgrading the operating system");
    eventually("the upgrade has ended", ENDED_WITHIN, || {
        let status = lab.push(&["status", "prod"]).exits(0);
        status.stdout.contains("upgrade:") && status.stdout.contains("done")
    });
    assert_eq!(version(host, "probe"), "2 installed");
    assert!(!is_outdated(host));

    // Pressed once, Ctrl-C waits for the end of what cannot be stopped.
    says(host, &["rm", "/run/probe-at-it"]);
    build(
        host,
        ("probe", "3"),
        ("touch /run/probe-at-it; sleep 4", DAEMON),
    );
    let running = lab.spawn(&["upgrade", "prod", "--yes"]);
    eventually("dpkg is at it again", SHORT, is_at_it);
    running.signal("INT");
    running
        .end()
        .exits(0)
        .says("cannot be stopped in the midst of its packages");
    assert_eq!(version(host, "probe"), "3 installed");
}
