//! Rehearsal hosts are what they promise: real Debian machines that come, can be broken, and go
//! without a trace. Needs root; says so where it is not.

use std::io::{BufRead, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use push::rehearse::{Access, Blackhole, Disk, Filesystem, Fleet, HostSpec, Suite, take_down};
use push_tests::hosts;

/// What of a fleet the machine would show: links, namespaces, mounts, cgroups.
fn traces(fleet: u16) -> Vec<String> {
    let shown = |program: &str, args: &[&str]| {
        let output = Command::new(program).args(args).output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let prefix = format!("pr{fleet}");
    let folder = format!("/var/lib/push-rehearsal/{fleet}");
    let cgroup = format!("/push-rehearsal/{fleet}");
    let everything = shown("ip", &["-o", "link"])
        + &shown("ip", &["netns", "list"])
        + &shown("nft", &["list", "tables"])
        + &shown(
            "find",
            &["/sys/fs/cgroup", "-type", "d", "-path", "*push-rehearsal*"],
        )
        + &std::fs::read_to_string("/proc/self/mounts").unwrap();
    let mine = |line: &&str| {
        let is_name = |word: &str| {
            let name = word.trim_end_matches(':').split('@').next().unwrap_or(word);
            name == prefix || name.starts_with(&format!("{prefix}h"))
        };
        line.split_whitespace().any(is_name)
            || line.contains(&format!("{folder}/"))
            || line.ends_with(&cgroup)
            || line.contains(&format!("{cgroup}/"))
    };
    let mut traces: Vec<String> = everything.lines().filter(mine).map(str::to_owned).collect();
    traces.extend(Path::new(&folder).exists().then_some(folder));
    traces
}

fn number(fleet: &Fleet) -> u16 {
    fleet.number().to_string().parse().unwrap()
}

#[test]
fn hosts_of_both_suites_boot_at_once_and_are_real_machines() {
    let specs = [
        HostSpec::named("web1"),
        HostSpec::named("web2").access(Access::Root),
        HostSpec::named("db.example"),
        HostSpec::named("edge").suite(Suite::Trixie),
    ];
    let Some(fleet) = hosts::boot(&specs) else {
        return;
    };
    for host in fleet.hosts() {
        assert_eq!(host.failed_units(), Vec::<String>::new(), "{}", host.name());
        let release = host.succeed(&["cat", "/etc/os-release"]).unwrap();
        assert!(release.contains(&format!("VERSION_ID=\"{}\"", host.suite().number())));

        let login = hosts::ssh(host, "id -un; hostname; sudo -n id -u");
        let said = String::from_utf8_lossy(&login.stdout).into_owned();
        let expected = format!("{}\n{}\n0\n", host.user(), host.name());
        assert_eq!(said, expected, "{}", String::from_utf8_lossy(&login.stderr));

        host.succeed(&["systemctl", "restart", "nginx"]).unwrap();
        host.succeed(&["curl", "-sf", "-o", "/dev/null", "http://127.0.0.1/"])
            .unwrap();
        host.write("/run/rules.nft", RULES, 0o600).unwrap();
        host.succeed(&["nft", "-f", "/run/rules.nft"]).unwrap();
        let sandboxed = host.succeed(&SANDBOXED).unwrap();
        assert_ne!(sandboxed.trim(), "0", "DynamicUser has a user of its own");
    }
    let number = number(&fleet);
    assert_ne!(traces(number), Vec::<String>::new());
    fleet.take_down().unwrap();
    assert_eq!(traces(number), Vec::<String>::new());
}

const RULES: &[u8] = b"table inet x {
    chain input {
        type filter hook input priority 0; policy accept;
        ct state established,related accept
        tcp dport 22 accept
    }
}
";

const SANDBOXED: [&str; 13] = [
    "systemd-run",
    "--wait",
    "--quiet",
    "--pipe",
    "-p",
    "MemoryMax=50M",
    "-p",
    "ProtectSystem=strict",
    "-p",
    "DynamicUser=yes",
    "--",
    "id",
    "-u",
];

#[test]
fn hosts_do_not_meet_in_one_another() {
    let specs = [HostSpec::named("one"), HostSpec::named("two")];
    let Some(fleet) = hosts::boot(&specs) else {
        return;
    };
    let [one, two] = fleet.hosts() else {
        panic!("two hosts")
    };
    assert_ne!(one.host_key(), two.host_key());
    assert_ne!(
        one.read("/etc/machine-id").unwrap(),
        two.read("/etc/machine-id").unwrap()
    );
    // Stopping a service ends every process of its cgroup: it must end nobody else's.
    one.succeed(&["systemctl", "stop", "nginx"]).unwrap();
    two.succeed(&["systemctl", "is-active", "nginx"]).unwrap();
    // A host's links lead inside the host, even when its files are read from the laptop.
    one.succeed(&["ln", "-s", "/etc/hostname", "/root/link"])
        .unwrap();
    assert_eq!(one.read("/root/link").unwrap(), b"one\n");
}

#[test]
fn a_host_comes_back_from_a_reboot_and_from_a_power_cut_with_its_disk_and_without_its_memory() {
    let Some(fleet) = hosts::boot(&[HostSpec::named("web1")]) else {
        return;
    };
    let host = fleet.host("web1").unwrap();
    host.write("/var/lib/kept", b"on disk", 0o644).unwrap();
    for come_back in [reboot, cut_and_boot, reboot_by_itself] {
        host.succeed(&["nft", "add", "table", "inet", "x"]).unwrap();
        host.write("/run/lost", b"in memory", 0o644).unwrap();
        let boot_id = host.read("/proc/sys/kernel/random/boot_id").unwrap();

        come_back(host);

        assert_eq!(host.read("/var/lib/kept").unwrap(), b"on disk");
        assert!(host.read("/run/lost").is_err());
        assert_eq!(host.succeed(&["nft", "list", "tables"]).unwrap(), "");
        assert_ne!(
            host.read("/proc/sys/kernel/random/boot_id").unwrap(),
            boot_id
        );
        assert!(hosts::ssh(host, "true").status.success());
    }
}

fn reboot(host: &push::rehearse::RehearsalHost) {
    host.reboot().unwrap();
}

fn cut_and_boot(host: &push::rehearse::RehearsalHost) {
    host.power_cut().unwrap();
    assert!(host.run(&["true"]).is_err());
    assert_eq!(host.read("/var/lib/kept").unwrap(), b"on disk");
    host.boot_again().unwrap();
    assert!(host.boot_again().is_err(), "it is up already");
}

fn reboot_by_itself(host: &push::rehearse::RehearsalHost) {
    hosts::ssh(host, "sudo systemctl reboot");
    assert!(host.wait_until_down(Duration::from_secs(20)).unwrap());
    host.boot_again().unwrap();
}

#[test]
fn a_power_cut_loses_what_was_not_synced_and_nothing_that_was() {
    cut_between_synced_and_unsynced(Filesystem::Ext4);
}

#[test]
fn a_power_cut_on_xfs_loses_what_was_not_synced_and_nothing_that_was() {
    if hosts::has_program("mkfs.xfs") {
        cut_between_synced_and_unsynced(Filesystem::Xfs);
    }
}

#[test]
fn a_power_cut_on_btrfs_loses_what_was_not_synced_and_nothing_that_was() {
    if hosts::has_program("mkfs.btrfs") {
        cut_between_synced_and_unsynced(Filesystem::Btrfs);
    }
}

fn cut_between_synced_and_unsynced(filesystem: Filesystem) {
    let disk = Disk::Loop {
        filesystem,
        size_mib: 384,
    };
    let Some(fleet) = hosts::boot(&[HostSpec::named("web1").disk(disk)]) else {
        return;
    };
    let host = fleet.host("web1").unwrap();
    host.succeed(&["sync"]).unwrap();
    host.write("/srv/synced", b"synced", 0o644).unwrap();
    host.succeed(&["sync", "/srv/synced", "/srv"]).unwrap();
    host.write("/srv/unsynced", b"unsynced", 0o644).unwrap();

    host.power_cut().unwrap();

    for moment in ["while it is off", "after it has booted"] {
        assert_eq!(host.read("/srv/synced").unwrap(), b"synced", "{moment}");
        let unsynced = host.read("/srv/unsynced").unwrap_or_default();
        assert_eq!(unsynced, b"", "{moment}");
        if moment == "while it is off" {
            host.boot_again().unwrap();
        }
    }
}

#[test]
fn a_host_whose_power_is_cut_at_any_moment_of_its_boot_boots_afterwards() {
    let Some(fleet) = hosts::boot(&[HostSpec::named("web1")]) else {
        return;
    };
    let host = fleet.host("web1").unwrap();
    host.power_cut().unwrap();
    for after_ms in [0, 1, 3, 10, 50, 300] {
        std::thread::scope(|scope| {
            let boot = scope.spawn(|| host.boot_again());
            std::thread::sleep(Duration::from_millis(after_ms));
            host.power_cut().unwrap();
            // It was not up yet, or had not even begun: both are a boot that was cut.
            if boot.join().unwrap().is_ok() {
                host.power_cut().unwrap();
            }
        });
    }
    host.boot_again().unwrap();
}

#[test]
fn a_blocked_host_is_silent_until_it_is_unblocked() {
    let Some(fleet) = hosts::boot(&[HostSpec::named("web1")]) else {
        return;
    };
    let host = fleet.host("web1").unwrap();
    let address = std::net::SocketAddr::from((host.address(), host.port()));
    let knock = || std::net::TcpStream::connect_timeout(&address, Duration::from_secs(5));
    for way in [Blackhole::FromHost, Blackhole::ToHost, Blackhole::Both] {
        host.block(way).unwrap();
        // Whatever the laptop had learned by asking, it forgets: the host cannot answer now.
        Command::new("ip")
            .args(["neigh", "flush", "to", &host.address().to_string()])
            .status()
            .unwrap();
        let refusal = knock().unwrap_err();
        assert_eq!(
            refusal.kind(),
            std::io::ErrorKind::TimedOut,
            "{way:?}: silence, not a refusal"
        );
        host.unblock().unwrap();
        knock().unwrap();
    }
}

#[test]
fn nothing_is_left_of_a_fleet_whose_test_panics() {
    let Some(fleet) = hosts::boot(&[HostSpec::named("web1"), HostSpec::named("web2")]) else {
        return;
    };
    let number = number(&fleet);
    fleet.hosts()[0].block(Blackhole::Both).unwrap();
    let panicked = std::thread::spawn(move || {
        let _fleet = fleet;
        panic!("on purpose, with a fleet in hand");
    });
    assert!(panicked.join().is_err());
    assert_eq!(traces(number), Vec::<String>::new());
}

#[test]
fn a_kept_fleet_stays_until_it_is_taken_down_by_somebody_who_knows_only_its_folder() {
    let specs = [HostSpec::named("web1"), HostSpec::named("web2")];
    let (Some(kept), Some(held)) = (hosts::boot(&specs), hosts::boot(&specs)) else {
        return;
    };
    let kept_number = number(&kept);
    let record = kept.keep().unwrap();
    let ssh_port = std::net::SocketAddr::from((record.hosts[0].address, record.hosts[0].port));
    std::net::TcpStream::connect(ssh_port).unwrap();
    assert!(record.hosts[0].host_key.starts_with("ssh-ed25519 "));
    std::fs::write(
        format!("/var/lib/push-rehearsal/{kept_number}/fleet.json"),
        "{",
    )
    .unwrap();

    // Not `take_down_all`: an operator may keep a fleet on the machine that runs the tests.
    let place = hosts::place().unwrap();
    let of_kept = take_down(&place, record.number).unwrap();
    let of_held = take_down(&place, held.number()).unwrap();

    assert_eq!(of_kept.removed, [record.number]);
    assert_eq!(of_held.removed, []);
    assert_eq!(
        of_held.in_use,
        [held.number()],
        "a fleet in use is left alone"
    );
    assert_eq!(traces(kept_number), Vec::<String>::new());
    assert!(hosts::ssh(&held.hosts()[1], "true").status.success());
}

/// What the next test runs in a process of its own, to kill it.
#[test]
#[ignore = "only a_fleet_whose_process_was_killed_is_swept_by_the_next runs it"]
fn boot_and_wait_to_be_killed() {
    let fleet = hosts::boot(&[HostSpec::named("web1")]).unwrap();
    writeln!(std::io::stdout(), "\nbooted {}", fleet.folder().display()).unwrap();
    std::thread::sleep(Duration::from_secs(60));
}

#[test]
fn a_fleet_whose_process_was_killed_is_swept_by_the_next() {
    if hosts::place().is_none() {
        return;
    }
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "boot_and_wait_to_be_killed",
            "--ignored",
            "--nocapture",
        ])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let stdout = std::io::BufReader::new(child.stdout.take().unwrap());
    let folder = stdout
        .lines()
        .map_while(Result::ok)
        .find_map(|line| line.strip_prefix("booted ").map(PathBuf::from))
        .expect("the child's fleet");
    child.kill().unwrap();
    child.wait().unwrap();
    // Another test may take the number at once, so the fleet is known by a mark in its folder,
    // which is the last thing of it to go.
    let mark = folder.join("mark");
    std::fs::write(&mark, "").unwrap();

    let next = hosts::boot(&[HostSpec::named("web1")]);

    assert!(next.is_some());
    assert!(!mark.exists(), "{} is still there", folder.display());
}

#[test]
fn a_command_that_hangs_on_a_host_does_not_hang_us() {
    let Some(fleet) = hosts::boot(&[HostSpec::named("web1")]) else {
        return;
    };
    let begun = Instant::now();
    let host = &fleet.hosts()[0];
    let hung = host.run_within(Duration::from_millis(500), &["sleep", "60"]);
    assert!(matches!(
        hung,
        Err(push::rehearse::Error::ToolTimedOut { .. })
    ));
    assert!(begun.elapsed() < Duration::from_secs(10));
}
