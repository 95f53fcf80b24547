//! What other programs on a host, and a hard day, do to push: its folders, its memory, its disk.

use std::time::Duration;

use push::rehearse::{Disk, Filesystem, HostSpec, RehearsalHost, Suite};
use push_tests::lab::{CANARY, Lab, SHOP, eventually};

const SHORT: Duration = Duration::from_secs(30);

fn said(host: &RehearsalHost, argv: &[&str]) -> String {
    host.succeed(argv).unwrap().trim().to_owned()
}

#[test]
fn push_host_leaves_no_core_dump_and_gives_nobody_files_to_write_to() {
    let Some(lab) = Lab::boot_plain(1) else {
        return;
    };
    lab.environment("prod", "project = \"shop\"", SHOP_BARE);
    lab.push(&["prod", "--yes"]).exits(0);
    let script = "sleep 5 | /usr/local/lib/push/push-host serve >/dev/null & sleep 2; \
                  cd /proc/$(pgrep -x push-host) && cat status limits; wait";
    let found = said(lab.host("web1"), &["sh", "-c", script]);
    let line = |start: &str| {
        let mut lines = found.lines().filter(|line| line.starts_with(start));
        let words = lines.next().unwrap_or_default().split_whitespace();
        words.map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(line("Umask:"), ["Umask:", "0022"]);
    assert_eq!(line("Max core file size")[4..6], ["0", "0"]);
}

/// As little as there is to push.
const SHOP_BARE: &str = "[apps.api]\non = \"web\"\nsource = \"bin/api\"\n";

#[test]
fn a_spool_that_has_no_room_is_told_and_left_empty() {
    let Some(lab) = Lab::boot_plain(1) else {
        return;
    };
    lab.environment("prod", "project = \"shop\"", SHOP_BARE);
    lab.push(&["prod", "--yes"]).exits(0);
    let host = lab.host("web1");
    // Smaller than what comes, on a disk of its own, so that no look beforehand can tell.
    let spool = "/var/lib/push/spool";
    host.succeed(&["mkdir", "-p", spool]).unwrap();
    host.succeed(&["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", spool])
        .unwrap();
    let mut program = std::fs::read(lab.path("bin/api")).unwrap();
    program.extend(b"another build");
    lab.app("api", &program);
    let refused = lab.push(&["prod", "--yes"]);
    assert_ne!(refused.code(), 0);
    refused.says("No space left");
    assert_eq!(said(host, &["find", spool, "-type", "f"]), "");
    let link = said(host, &["readlink", "/etc/push/current"]);
    assert_eq!(link, "generations/1");
    host.succeed(&["umount", spool]).unwrap();
    lab.push(&["prod", "--yes"]).exits(0);
}

#[test]
fn the_firewall_outlives_a_boot_at_which_the_system_loads_its_own() {
    let specs = [
        HostSpec::named("web1"),
        HostSpec::named("web2").suite(Suite::Trixie),
    ];
    let Some(lab) = Lab::boot(&specs) else {
        return;
    };
    lab.shop("[firewall]\nallow = [\"http\"]\n");
    lab.push(&["prod", "--yes"]).exits(0);
    for host in lab.fleet.hosts() {
        // Debian's own begins with `flush ruleset`.
        let own = said(host, &["cat", "/etc/nftables.conf"]);
        assert!(own.contains("flush ruleset"), "{own}");
        host.succeed(&["systemctl", "enable", "nftables.service"])
            .unwrap();
        host.reboot().unwrap();
        eventually("the boot", SHORT, || {
            let ended = ["systemctl", "is-system-running"];
            host.run(&ended).unwrap().stdout.trim() == "running"
        });
        let table = said(host, &["nft", "list", "table", "inet", "push"]);
        assert!(table.contains("tcp dport 80 accept"), "{table}");
        let log = said(host, &["journalctl", "-b", "--no-pager", "-o", "cat"]);
        assert!(!log.contains("ordering cycle"), "{}", host.name());
    }
}

#[test]
fn the_firewall_outlives_an_administrator_who_restarts_the_systems_own() {
    let specs = [
        HostSpec::named("web1"),
        HostSpec::named("web2").suite(Suite::Trixie),
    ];
    let Some(lab) = Lab::boot(&specs) else {
        return;
    };
    lab.environment("prod", "project = \"shop\"", FIREWALL);
    lab.push(&["prod", "--yes"]).exits(0);
    for host in lab.fleet.hosts() {
        for verb in ["start", "restart", "reload", "stop", "start"] {
            host.succeed(&["systemctl", verb, "nftables.service"])
                .unwrap();
            let listed = said(host, &["nft", "list", "ruleset"]);
            let is_there = listed.contains("tcp dport 80 accept");
            assert_eq!(is_there, verb != "stop", "{verb}: {listed}");
        }
    }
    // Where push has no firewall any more, none comes back.
    lab.environment("prod", "project = \"shop\"", "");
    lab.push(&["prod", "--yes"]).exits(0);
    for host in lab.fleet.hosts() {
        host.succeed(&["systemctl", "restart", "nftables.service"])
            .unwrap();
        let listed = said(host, &["nft", "list", "ruleset"]);
        assert!(!listed.contains("inet push"), "{listed}");
    }
}

/// A firewall and nothing else.
const FIREWALL: &str = "[firewall]\nallow = [\"http\"]\n";

#[test]
fn an_nginx_that_does_not_read_what_push_puts_there_is_told_before_the_switch() {
    let Some(lab) = Lab::boot_plain(1) else {
        return;
    };
    let host = lab.host("web1");
    let own = "cp /etc/nginx/nginx.conf /root/ && sed -i '/conf.d/d' /etc/nginx/nginx.conf";
    host.succeed(&["sh", "-c", own]).unwrap();
    lab.shop("");
    lab.push(&["prod", "--yes"])
        .exits(9)
        .says("reads no /etc/nginx/conf.d/push.conf")
        .says("include /etc/nginx/conf.d/*.conf;");
    host.succeed(&["test", "!", "-e", "/var/lib/push/journal"])
        .unwrap();
    host.succeed(&["cp", "/root/nginx.conf", "/etc/nginx/nginx.conf"])
        .unwrap();
    lab.push(&["prod", "--yes"]).exits(0);
}

#[test]
fn tools_look_at_what_is_staged_where_no_layer_can_cover_etc() {
    let Some(lab) = Lab::boot_plain(1) else {
        return;
    };
    let host = lab.host("web1");
    // The kernel stacks two layers and no more; the root is one already.
    let layer = "mkdir -p /run/layer/upper /run/layer/work && mount -t overlay overlay -o \
                 lowerdir=/etc,upperdir=/run/layer/upper,workdir=/run/layer/work /etc";
    host.succeed(&["sh", "-c", layer]).unwrap();
    lab.shop("");
    let first = lab.push(&["prod", "--yes"]).exits(0);
    assert!(!first.stderr.contains("was not asked"), "{first:?}");
    let owner = said(host, &["stat", "-c", "%U %G %a", "/etc/shadow"]);
    assert_eq!(owner, "root shadow 640");
    lab.shop("[files.\"/etc/nginx/conf.d/broken.conf\"]\ncontent = \"no_such_thing;\"\n");
    lab.push(&["prod", "--yes"])
        .exits(9)
        .says("nginx -t")
        .says("no_such_thing");
    let mounted = said(host, &["findmnt", "-n", "-o", "FSTYPE", "/etc"]);
    assert_eq!(mounted, "overlay", "the view was its own process's alone");
}

#[test]
fn a_disk_that_fills_up_is_told_and_what_was_uploaded_in_vain_goes() {
    let disk = Disk::Loop {
        filesystem: Filesystem::Ext4,
        size_mib: 400,
    };
    let Some(lab) = Lab::boot(&[HostSpec::named("web1").disk(disk)]) else {
        return;
    };
    lab.shop("");
    lab.push(&["prod", "--yes"]).exits(0);
    let host = lab.host("web1");
    let free = ["sh", "-c", "df --output=avail -k / | tail -n 1"];
    let before: u64 = said(host, &free).parse().unwrap();
    // All but 8 MiB: less than what is kept in reserve.
    let fill = format!("dd if=/dev/zero of=/filled bs=1024 count={}", before - 8192);
    host.succeed(&["sh", "-c", &fill]).unwrap();
    lab.environment(
        "prod",
        "project = \"shop\"",
        &SHOP.replace("{{ host.name }}", "second"),
    );
    assert_ne!(lab.push(&["prod", "--yes"]).code(), 0);
    let link = said(host, &["readlink", "/etc/push/current"]);
    assert_eq!(link, "generations/1");
    host.succeed(&["systemctl", "is-active", "api.service"])
        .unwrap();
    host.succeed(&["rm", "/filled"]).unwrap();
    lab.push(&["prod", "--yes"]).exits(0);
}

#[test]
fn somebody_who_edits_a_pushed_file_in_place_does_not_stop_the_next_push() {
    let Some(lab) = Lab::boot_plain(1) else {
        return;
    };
    let file = |text: &str| format!("\n[files.\"/etc/shop.conf\"]\ncontent = \"{text}\\n\"\n");
    lab.shop(&file("one"));
    lab.push(&["prod", "--yes"]).exits(0);
    let code = |region: &str| SHOP.replace("{{ host.name }}", region);
    let push = |region: &str, text: &str| {
        let rest = format!("{}{}", code(region), file(text));
        lab.environment("prod", "project = \"shop\"", &rest);
        lab.push(&["prod", "--yes"]).exits(0);
    };
    push("second", "one");
    let host = lab.host("web1");
    let edit = [
        "sh",
        "-c",
        "echo edited >> /etc/shop.conf; chmod g+w /etc/shop.conf",
    ];
    // Where it stays as declared, it is declared anew; where another is declared, that is.
    for text in ["one", "two"] {
        host.succeed(&edit).unwrap();
        push(&format!("with-{text}"), text);
        assert_eq!(said(host, &["cat", "/etc/shop.conf"]), text);
    }
}

#[test]
fn what_was_edited_or_damaged_and_is_held_nowhere_else_is_brought_by_the_next_push() {
    let Some(lab) = Lab::boot_plain(1) else {
        return;
    };
    let file = "\n[files.\"/etc/shop.conf\"]\ncontent = \"one\\n\"\n";
    lab.shop(file);
    lab.push(&["prod", "--yes"]).exits(0);
    let host = lab.host("web1");
    let sealed = "/etc/push/current/secrets/api/api-token.age";
    let spoil = format!(": > {sealed}; echo edited >> /etc/shop.conf");
    host.succeed(&["sh", "-c", &spoil]).unwrap();
    lab.push(&["status", "prod"])
        .says("api-token.age is damaged");
    // Everything that was declared stays so, but for the app's environment.
    let rest = SHOP.replace("{{ host.name }}", "second") + file;
    lab.environment("prod", "project = \"shop\"", &rest);
    lab.push(&["prod", "--yes"]).exits(0);
    assert_eq!(said(host, &["cat", "/etc/shop.conf"]), "one");
    assert_eq!(
        said(host, &["cat", "/run/push/secrets/api/api-token"]),
        CANARY
    );
    lab.push(&["rollback", "prod", "--yes"]);
    assert_eq!(
        said(host, &["systemctl", "is-active", "api.service"]),
        "active"
    );
}

#[test]
fn root_writes_nothing_where_a_user_leads_it() {
    let Some(lab) = Lab::boot_plain(1) else {
        return;
    };
    let host = lab.host("web1");
    let home = "useradd -m alice && ln -s /etc /home/alice/x && chown -h alice /home/alice/x";
    host.succeed(&["sh", "-c", home]).unwrap();
    let file = "\n[files.\"/home/alice/x/y.conf\"]\ncontent = \"one\"\n";
    lab.shop(file);
    lab.push(&["prod", "--yes"])
        .exits(9)
        .says("/home/alice/x")
        .says("chown root");
    host.succeed(&["test", "!", "-e", "/etc/y.conf"]).unwrap();
    // A real folder of hers is where it was declared to be.
    host.succeed(&["rm", "/home/alice/x"]).unwrap();
    lab.push(&["prod", "--yes"]).exits(0);
    assert_eq!(said(host, &["cat", "/home/alice/x/y.conf"]), "one");
    // While it is in effect, she leads it elsewhere: that keeps nobody from pushing, nor the host from
    // booting.
    let lead = "mv /home/alice/x /home/alice/old && ln -s /etc /home/alice/x";
    host.succeed(&["sh", "-c", lead]).unwrap();
    host.reboot().unwrap();
    eventually("the boot", SHORT, || {
        let ended = ["systemctl", "is-system-running"];
        host.run(&ended).unwrap().stdout.trim() == "running"
    });
    assert_eq!(
        said(host, &["cat", "/run/push/secrets/api/api-token"]),
        CANARY
    );
    lab.shop("");
    lab.push(&["prod", "--yes"]).exits(0);
    host.succeed(&["test", "!", "-e", "/etc/y.conf"]).unwrap();
}

/// A folder that a program can have for its root: `sleep` with its libraries.
fn jail(lab: &Lab, text: &str) {
    let listed = std::process::Command::new("ldd")
        .arg("/bin/sleep")
        .output()
        .unwrap();
    let listed = String::from_utf8(listed.stdout).unwrap();
    let libraries = listed
        .split_whitespace()
        .filter(|word| word.starts_with('/'));
    for path in libraries.chain(["/bin/sleep"]) {
        let place = format!("jail/{}", path.trim_start_matches('/'));
        lab.write(&place, std::fs::read(path).unwrap());
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(lab.path(&place), mode).unwrap();
    }
    lab.write("jail/text", text);
}

#[test]
fn a_release_that_a_process_sees_by_any_name_is_not_pruned() {
    let Some(lab) = Lab::boot_plain(1) else {
        return;
    };
    let host = lab.host("web1");
    let app = "[apps.jail]\non = \"web\"\nsource = \"jail\"\n";
    lab.environment("prod", "project = \"shop\"\nkeep_releases = 2", app);
    let push = |text: &str| {
        jail(&lab, text);
        lab.push(&["prod", "--yes"]).exits(0);
        said(host, &["readlink", "-f", "/srv/jail/current"])
    };
    let run = |options: &[&str], program: &[&str]| {
        let argv = [&["systemd-run", "-q"], options, &["--"], program].concat();
        host.succeed(&argv).unwrap();
    };
    // One has it for its root, one has it mounted elsewhere, one works in it.
    let rooted = push("one");
    run(&[], &["chroot", &rooted, "/bin/sleep", "600"]);
    let mounted = push("two");
    let bind = format!("BindReadOnlyPaths={mounted}:/opt");
    run(&["-p", &bind], &["sleep", "600"]);
    let worked_in = push("three");
    run(
        &["-p", &format!("WorkingDirectory={worked_in}")],
        &["sleep", "600"],
    );
    let forgotten = push("four");
    let (before, last) = (push("five"), push("six"));
    let found = "find /srv/jail/releases -mindepth 1 -maxdepth 1 | sort";
    let stays = [rooted, mounted, worked_in, before, last].join("\n");
    eventually("the rest is pruned", SHORT, || {
        said(host, &["sh", "-c", found]) == stays
    });
    assert!(!stays.contains(&forgotten));
}
