//! What a push carries to a host arrives there and works: units, environments, secrets, files.

use std::fmt::Write as _;
use std::time::Duration;

use push::rehearse::{HostSpec, RehearsalHost, Suite};
use push_tests::lab::{CANARY, Lab, eventually, get, property, says};

const SHORT: Duration = Duration::from_secs(20);

/// An app with one notifying service on a port.
fn everyday(app: &str, port: u16, mark: &str) -> String {
    format!(
        r#"
[apps.{app}]
on = "web"
source = "bin/everyday"
env = {{ PORT = "{port}", MARK = "{mark}", SHARED = "/srv/{app}/shared/data" }}
shared = ["data"]

[apps.{app}.service]
exec = "{{{{ release.dir }}}}/everyday"
type = "notify"

[apps.{app}.health]
tcp = "127.0.0.1:{port}"
interval = "100ms"
quiet = "300ms"
timeout = "15s"
"#
    )
}

fn invocation(host: &RehearsalHost, unit: &str) -> String {
    property(host, unit, "InvocationID")
}

/// The environment of a unit's main process, as the kernel has it.
fn environ(host: &RehearsalHost, unit: &str) -> Vec<String> {
    let pid = property(host, unit, "MainPID");
    let whole = says(host, &["cat", &format!("/proc/{pid}/environ")]);
    whole.split('\0').map(str::to_owned).collect()
}

#[test]
fn only_what_changed_is_restarted() {
    let Some(lab) = Lab::boot(&[HostSpec::named("web1").suite(Suite::Trixie)]) else {
        return;
    };
    let host = lab.host("web1");
    let worker = "\n[apps.api.services.worker]\nexec = \"{{ release.dir }}/everyday\"\nenvironment = { PORT = \"8082\" }\n";
    let api = everyday("api", 8080, "one") + worker;
    lab.deploys(&(api.clone() + &everyday("blog", 8081, "one")));
    let units = ["api.service", "api-worker.service", "blog.service"];
    let before = units.map(|unit| invocation(host, unit));
    let nginx = property(host, "nginx.service", "InvocationID");
    lab.deploys(&(api.clone() + &everyday("blog", 8081, "two")));
    let after = units.map(|unit| invocation(host, unit));
    assert_eq!(after[..2], before[..2]);
    assert_ne!(after[2], before[2]);
    assert_eq!(property(host, "nginx.service", "InvocationID"), nginx);
    assert!(environ(host, "blog.service").contains(&"MARK=two".to_owned()));
    // A service that is gone from the inventory is gone from the host, and nothing else is.
    lab.deploys(&(api.replace(worker, "") + &everyday("blog", 8081, "two")));
    assert_eq!(
        property(host, "api-worker.service", "LoadState"),
        "not-found"
    );
    assert_eq!(get(host, "http://127.0.0.1:8082/reloads"), "");
    assert_eq!(invocation(host, "api.service"), after[0]);
    assert_eq!(invocation(host, "blog.service"), after[2]);
}

#[test]
fn a_push_that_changes_no_unit_has_systemd_warn_of_none() {
    let Some(lab) = Lab::boot_plain(1) else {
        return;
    };
    let host = lab.host("web1");
    lab.write("templates/systemd/own", "[Service]\nNice=7\n");
    let own = "type = \"notify\"\ndrop_ins = { \"50-own.conf\" = \"systemd/own\" }";
    let api = everyday("api", 8080, "one").replace("type = \"notify\"", own);
    let carried = |note: &str| {
        format!(
            r#"{api}
[files."/etc/systemd/system/nginx.service.d/nice.conf"]
content = "[Service]\nNice=5\n"

[files."/etc/carried"]
content = "{note}"
"#
        )
    };
    lab.deploys(&carried("one"));
    lab.deploys(&carried("two"));
    assert_eq!(says(host, &["cat", "/etc/carried"]), "two");
    for unit in ["api.service", "nginx.service"] {
        assert_eq!(property(host, unit, "NeedDaemonReload"), "no", "{unit}");
    }
}

#[test]
fn a_service_that_can_reload_is_reloaded_by_its_file_and_not_restarted() {
    let Some(lab) = Lab::boot_plain(1) else {
        return;
    };
    let host = lab.host("web1");
    let api = everyday("api", 8080, "one")
        .replace("type = \"notify\"", "type = \"notify\"\nreload = \"HUP\"");
    let file = |content: &str| {
        format!(
            "{api}\n[files.\"/etc/everyday.conf\"]\ncontent = \"{content}\\n\"\non_change = {{ reload = \"api.service\" }}\n"
        )
    };
    lab.deploys(&file("one"));
    let before = invocation(host, "api.service");
    assert_eq!(get(host, "http://127.0.0.1:8080/reloads"), "0");
    lab.deploys(&file("two"));
    assert_eq!(invocation(host, "api.service"), before);
    eventually("the reload", SHORT, || {
        get(host, "http://127.0.0.1:8080/reloads") == "1"
    });
}

#[test]
fn hostile_values_arrive_in_the_process_exactly() {
    let Some(lab) = Lab::boot_plain(1) else {
        return;
    };
    let values = [
        ("PERCENT", "100% %d %% %n %H %"),
        ("DOLLAR", "$HOME ${PATH} $$ $(id) `id`"),
        ("QUOTES", "'a' \"b\" \\ \\\\ \\n \\x41 '"),
        ("UNICODE", "日本 €\u{1f980}\u{301}ü"),
        ("BLANKS", "  two  words\t and a tab "),
        ("MARKS", ";#}{[]=!|&<>*?~"),
        ("EQUALS", "A=B PORT=1"),
        ("EMPTY", ""),
        ("TEMPLATE", "{% raw %}{{ host.name }}{% endraw %}"),
    ];
    let mut table = String::from("\n[apps.api.service.environment]\n");
    for (name, value) in values {
        let quoted = value
            .replace('\\', "\\\\")
            .replace('"', "\\\"")
            .replace('\t', "\\t");
        writeln!(table, "{name} = \"{quoted}\"").unwrap();
    }
    table += "LINES = \"one\\ntwo\\n\"\n";
    let api = everyday("api", 8080, "one");
    lab.deploys(&api.replace("\n[apps.api.health]", &(table + "\n[apps.api.health]")));
    let found = environ(lab.host("web1"), "api.service");
    for (name, value) in values {
        let value = if name == "TEMPLATE" {
            "{{ host.name }}"
        } else {
            value
        };
        assert!(
            found.contains(&format!("{name}={value}")),
            "{name}={value:?} is not in {found:#?}"
        );
    }
    assert!(found.contains(&"LINES=one\ntwo\n".to_owned()), "{found:#?}");
}

#[test]
fn limits_drop_ins_and_own_units_hold_on_the_host() {
    let Some(lab) = Lab::boot_plain(1) else {
        return;
    };
    let host = lab.host("web1");
    let keys = "type = \"notify\"\nmemory_max = \"64M\"\nmemory_high = \"48M\"\ncpu_quota = \"150%\"\ntasks_max = 17\nopen_files = 1234\nstop_timeout = \"7s\"\nstate_dirs = [\"api-state\"]\nwritable = [\"/var/tmp\"]\ndrop_ins = { \"50-own.conf\" = \"systemd/own\" }\ndescription = \"50% of $HOME\"";
    lab.write("templates/systemd/own", "[Service]\nNice=7\n");
    lab.write("templates/systemd/watch", "[Unit]\nDescription=Own on {{ host.name }}\n[Path]\nPathChanged=/var/tmp/watched\nUnit=api.service\n[Install]\nWantedBy=multi-user.target\n");
    let api = everyday("api", 8080, "one").replace("type = \"notify\"", keys);
    lab.deploys(&(api.clone() + "\n[apps.api.units.\"api-watch.path\"]\ntemplate = \"systemd/watch\"\nstart = true\n"));
    let expected = [
        ("MemoryMax", "67108864"),
        ("MemoryHigh", "50331648"),
        ("CPUQuotaPerSecUSec", "1.500000s"),
        ("TasksMax", "17"),
        ("LimitNOFILE", "1234"),
        ("TimeoutStopUSec", "7s"),
        ("Nice", "7"),
        ("User", "api"),
        ("Type", "notify"),
        ("Description", "50% of $HOME"),
        ("ActiveState", "active"),
    ];
    for (name, value) in expected {
        assert_eq!(property(host, "api.service", name), value, "{name}");
    }
    assert_eq!(
        property(host, "api-watch.path", "Description"),
        "Own on web1"
    );
    assert_eq!(property(host, "api-watch.path", "ActiveState"), "active");
    lab.deploys(&api);
    assert_eq!(property(host, "api-watch.path", "LoadState"), "not-found");
    assert_eq!(property(host, "api.service", "Nice"), "7");
}

#[test]
fn a_template_that_goes_takes_its_instances_along() {
    let Some(lab) = Lab::boot_plain(1) else {
        return;
    };
    let host = lab.host("web1");
    lab.write(
        "templates/systemd/worker",
        "[Service]\nExecStart=/bin/sleep 1000\n",
    );
    let api = everyday("api", 8080, "one");
    lab.deploys(
        &(api.clone() + "\n[apps.api.units.\"worker@.service\"]\ntemplate = \"systemd/worker\"\n"),
    );
    host.succeed(&["systemctl", "start", "worker@1.service"])
        .unwrap();
    lab.deploys(&api);
    assert_ne!(property(host, "worker@1.service", "ActiveState"), "active");
    assert_eq!(property(host, "worker@1.service", "LoadState"), "not-found");
}

#[test]
fn a_service_that_becomes_a_job_does_not_run_on() {
    let Some(lab) = Lab::boot_plain(1) else {
        return;
    };
    let host = lab.host("web1");
    let tick = |keys: &str| {
        everyday("api", 8080, "one")
            + "\n[apps.api.services.tick]\nexec = \"/bin/sleep 1000\"\n"
            + keys
    };
    lab.deploys(&tick(""));
    assert_eq!(property(host, "api-tick.service", "ActiveState"), "active");
    lab.deploys(&tick(
        "type = \"oneshot\"\ntimer = { on_calendar = [\"Mon *-*-* 03:00:00\"] }\n",
    ));
    assert_eq!(
        property(host, "api-tick.service", "ActiveState"),
        "inactive"
    );
    assert_eq!(property(host, "api-tick.timer", "ActiveState"), "active");
}

#[test]
fn what_is_shared_outlives_releases_and_a_release_is_not_the_apps_to_write() {
    let Some(lab) = Lab::boot_plain(1) else {
        return;
    };
    let host = lab.host("web1");
    let api = everyday("api", 8080, "one");
    lab.deploys(&api);
    let user = says(host, &["getent", "passwd", "api"]);
    assert!(user.ends_with("/usr/sbin/nologin"), "{user}");
    let data = says(host, &["stat", "-c", "%U:%G", "/srv/api/shared/data"]);
    assert_eq!(data, "api:api");
    // What is shared outlives a release; the release itself is not the app's to write.
    assert_eq!(get(host, "http://127.0.0.1:8080/write/kept"), "written");
    lab.app(
        "everyday",
        (push_tests::lab::EVERYDAY.to_owned() + "# another release\n").as_bytes(),
    );
    lab.deploys(&api);
    assert_eq!(
        get(host, "http://127.0.0.1:8080/read/srv/api/shared/data/kept"),
        "one\n"
    );
    let releases = says(
        host,
        &[
            "find",
            "/srv/api/releases",
            "/srv/api/current/",
            "(",
            "!",
            "-user",
            "root",
            "-o",
            "-perm",
            "/022",
            ")",
            "!",
            "-type",
            "l",
        ],
    );
    assert_eq!(releases, "", "not root's alone to write");
}

#[test]
fn a_service_is_hardened_unless_told_otherwise() {
    let Some(lab) = Lab::boot(&[
        HostSpec::named("web1"),
        HostSpec::named("web2").suite(Suite::Trixie),
    ]) else {
        return;
    };
    lab.deploys(&everyday("api", 8080, "one"));
    for host in lab.fleet.hosts() {
        let report = says(
            host,
            &["systemd-analyze", "security", "--no-pager", "api.service"],
        );
        let overall = report
            .lines()
            .find(|line| line.contains("Overall exposure level"))
            .unwrap();
        let score: f64 = overall
            .split(':')
            .nth(1)
            .unwrap()
            .split_whitespace()
            .next()
            .unwrap()
            .parse()
            .unwrap();
        assert!(score <= 2.0, "{}: {overall}", host.name());
    }
}

#[test]
fn a_timer_fires_its_job_and_a_socket_stays_open_over_a_restart() {
    let Some(lab) = Lab::boot_plain(1) else {
        return;
    };
    let host = lab.host("web1");
    let tick = r#"
[apps.tick]
on = "web"
shared = ["data"]

[apps.tick.service]
exec = ["/bin/sh", "-c", "echo tick >> /srv/tick/shared/data/ticks"]

[apps.tick.timer]
on_calendar = ["*-*-* *:*:*"]
"#;
    let sock = |mark: &str| {
        everyday("sock", 9000, mark).replace(
            "[apps.sock.health]",
            "[apps.sock.socket]\nlisten = [9000]\n\n[apps.sock.health]",
        )
    };
    lab.deploys(&(sock("one") + tick));
    eventually("the timer's job", SHORT, || {
        host.run(&["cat", "/srv/tick/shared/data/ticks"])
            .unwrap()
            .stdout
            .lines()
            .count()
            >= 2
    });
    // It is a job: a push runs it at no other time, and does not wait for it.
    assert_eq!(property(host, "tick.timer", "ActiveState"), "active");
    assert_eq!(property(host, "tick.service", "Type"), "oneshot");
    let inode = || {
        says(host, &["ss", "-Hlnte", "sport", "=", ":9000"])
            .split_whitespace()
            .find(|word| word.starts_with("ino:"))
            .unwrap()
            .to_owned()
    };
    let (before, began) = (inode(), invocation(host, "sock.service"));
    assert!(get(host, "http://127.0.0.1:9000/").starts_with("GET / "));
    lab.deploys(&(sock("two") + tick));
    assert_eq!(inode(), before, "the listening socket is another one");
    assert!(says(host, &["curl", "-si", "http://127.0.0.1:9000/"]).contains("X-Mark: two"));
    assert_ne!(invocation(host, "sock.service"), began);
}

#[test]
fn secrets_reach_the_app_each_way_and_nobody_else() {
    let Some(lab) = Lab::boot_plain(1) else {
        return;
    };
    let host = lab.host("web1");
    let odd = "p%d $HOME \"q\" 'a' \\ #;=x ü";
    lab.secret("credential", CANARY);
    lab.secret("in-a-file", "line one\nline two\n");
    lab.secret("variable", odd);
    let api = everyday("api", 8080, "one").replace(
        "shared = ",
        "secrets = [\"credential\", { name = \"in-a-file\", as = \"file\" }, { name = \"variable\", as = \"env\", variable = \"ODD_TOKEN\" }]\nshared = ",
    );
    lab.deploys(&api);
    assert_eq!(
        get(
            host,
            "http://127.0.0.1:8080/read/run/credentials/api.service/credential"
        ),
        CANARY
    );
    assert_eq!(
        get(
            host,
            "http://127.0.0.1:8080/read/run/push/secrets/api/in-a-file"
        ),
        "line one\nline two\n"
    );
    let found = environ(host, "api.service");
    assert!(found.contains(&format!("ODD_TOKEN={odd}")), "{found:#?}");
    let files = says(
        host,
        &[
            "find",
            "/run/push/secrets",
            "-type",
            "f",
            "-printf",
            "%P %U:%m\n",
        ],
    );
    assert!(files.lines().count() >= 2, "{files}");
    for file in files.lines() {
        assert!(file.ends_with(":400"), "{file}");
        let path = format!("/run/push/secrets/{}", file.split(' ').next().unwrap());
        assert!(
            !host
                .run(&["setpriv", "--reuid=nobody", "--clear-groups", "cat", &path])
                .unwrap()
                .is_success(),
            "{file}"
        );
    }
    let type_ = says(host, &["stat", "-f", "-c", "%T", "/run/push/secrets/api"]);
    assert_eq!(type_, "tmpfs");
    // A secret that is no longer declared is no longer there.
    lab.deploys(&everyday("api", 8080, "one"));
    assert!(
        !host
            .run(&["test", "-e", "/run/push/secrets/api/in-a-file"])
            .unwrap()
            .is_success()
    );
}

#[test]
fn files_have_owner_mode_and_content_and_their_changes_have_effects() {
    let Some(lab) = Lab::boot_plain(1) else {
        return;
    };
    let host = lab.host("web1");
    has_foreign_units(host);
    lab.write("templates/conf", "host = {{ host.name }}\n");
    lab.write(
        "etc/verbatim",
        b"\x00\xff {{ not.rendered }}\r\n".as_slice(),
    );
    lab.deploys(&files("one"));
    let before = ["restarted", "reloaded", "left"].map(|unit| invocation(host, unit));
    let reloads = || {
        host.run(&["cat", "/run/reloads"])
            .unwrap()
            .stdout
            .lines()
            .count()
    };
    let reloaded = reloads();
    assert_eq!(
        says(host, &["cat", "/etc/carried/restarted.conf"]),
        "one web1"
    );
    assert_eq!(
        says(host, &["cat", "/etc/carried/template.conf"]),
        "host = web1"
    );
    assert_eq!(
        says(
            host,
            &["stat", "-L", "-c", "%U:%G:%a", "/etc/carried/left.conf"]
        ),
        "www-data:adm:640"
    );
    let verbatim = says(host, &["od", "-An", "-tx1", "-N2", "/etc/carried/verbatim"]);
    assert_eq!(verbatim, "00 ff");
    assert_eq!(
        says(host, &["cat", "/run/applied"]),
        "net.ipv4.tcp_fin_timeout = 23"
    );
    lab.deploys(&files("three"));
    let after = ["restarted", "reloaded", "left"].map(|unit| invocation(host, unit));
    assert_ne!(after[0], before[0]);
    assert_eq!(after[1..], before[1..]);
    assert_eq!(reloads(), reloaded + 1);
    assert_eq!(
        says(host, &["cat", "/run/applied"]),
        "net.ipv4.tcp_fin_timeout = 25"
    );
    lab.push(&["rollback", "prod", "--yes"]).exits(0);
    assert_eq!(
        says(host, &["cat", "/run/applied"]),
        "net.ipv4.tcp_fin_timeout = 23"
    );
    assert_eq!(says(host, &["cat", "/etc/carried/left.conf"]), "one");
}

/// Units that are not push's, and one way to see what is applied: the kernel of a rehearsal host is
/// not its own to set.
fn has_foreign_units(host: &RehearsalHost) {
    for (unit, extra) in [
        ("restarted", ""),
        (
            "reloaded",
            "ExecReload=/bin/sh -c 'echo reload >> /run/reloads'\n",
        ),
        ("left", ""),
    ] {
        let text = format!("[Service]\nExecStart=/bin/sleep 1000\n{extra}");
        host.write(
            format!("/etc/systemd/system/{unit}.service"),
            text.as_bytes(),
            0o644,
        )
        .unwrap();
    }
    says(host, &["systemctl", "daemon-reload"]);
    says(
        host,
        &["systemctl", "start", "restarted", "reloaded", "left"],
    );
    let sysctl = "[Unit]\nConditionPathIsReadWrite=\n[Service]\nExecStart=\nExecStart=/bin/cp /etc/sysctl.d/60-carried.conf /run/applied\n";
    says(
        host,
        &["mkdir", "/etc/systemd/system/systemd-sysctl.service.d"],
    );
    host.write(
        "/etc/systemd/system/systemd-sysctl.service.d/50-test.conf",
        sysctl.as_bytes(),
        0o644,
    )
    .unwrap();
    says(host, &["systemctl", "daemon-reload"]);
}

/// Files of every kind, whose content follows from a value.
fn files(value: &str) -> String {
    format!(
        r#"
[files."/etc/carried/restarted.conf"]
content = "{value} {{{{ host.name }}}}\n"
on_change = {{ restart = "restarted.service" }}

[files."/etc/carried/reloaded.conf"]
content = "{value}\n"
on_change = {{ reload = "reloaded.service" }}

[files."/etc/carried/left.conf"]
content = "{value}\n"
owner = "www-data"
group = "adm"
mode = "0640"

[files."/etc/carried/template.conf"]
template = "conf"

[files."/etc/carried/verbatim"]
source = "etc/verbatim"

[files."/etc/sysctl.d/60-carried.conf"]
content = "net.ipv4.tcp_fin_timeout = {}\n"
on_change = "sysctl"
"#,
        value.len() + 20
    )
}
