//! What a push makes of apps, builds and plans that are not good: refused before a byte is sent,
//! taken back with the reason, or shown for what it is.

use std::fs;
use std::process::Command;
use std::time::Duration;

use push::rehearse::HostSpec;
use push_tests::lab::{EVERYDAY, Lab, Said, eventually, get, says};
use push_tests::witness::generation;

const SHORT: Duration = Duration::from_secs(20);

/// An app on port 8080 whose environment and health keys a test gives.
fn judged(env: &str, health: &str) -> String {
    format!(
        r#"
[apps.api]
on = "web"
source = "bin/everyday"
env = {{ PORT = "8080", {env} }}
secrets = [{{ name = "probe-token", as = "env", variable = "BEARER" }}]

[apps.api.service]
exec = "{{{{ release.dir }}}}/everyday"
hardening = "off"

[apps.api.health]
interval = "100ms"
timeout = "8s"
quiet = "400ms"
{health}
"#
    )
}

fn lab_with_token() -> Option<Lab> {
    let lab = Lab::boot_plain(1)?;
    lab.secret("probe-token", "tok3n");
    Some(lab)
}

/// Pushes what is not good, and sees that the host stays as it was.
fn is_taken_back(lab: &Lab, rest: &str) -> Said {
    let before = generation(lab.host("web1"));
    lab.declares(rest);
    let said = lab.push(&["prod", "--yes"]).exits(5);
    assert_eq!(generation(lab.host("web1")), before);
    said
}

#[test]
fn every_kind_of_probe_passes_what_is_right_and_takes_back_what_is_wrong() {
    let Some(lab) = lab_with_token() else { return };
    let http = "http = \"http://127.0.0.1:8080/health\"\nbearer = \"probe-token\"\n";
    let right = format!(
        "{http}status = [202, \"210-219\"]\nbody = \"ready\"\njson = {{ \"db.up\" = true, n = 3 }}\nheaders = {{ X-Mark = \"m 1\" }}\nsend = {{ X-Extra = \"e\" }}\ntcp = \"127.0.0.1:8080\"\ncommand = [\"/usr/bin/test\", \"-e\", \"{{{{ release.dir }}}}/everyday\"]\npasses = 3\n"
    );
    let env =
        r#"STATUS = "213", MARK = "m 1", BODY = '{"say": "ready", "n": 3, "db": {"up": true}}'"#;
    lab.deploys(&judged(env, &right));
    let quick = right.replace("passes = 3", "");
    for (from, to, reason) in [
        ("[202, \"210-219\"]", "[202]", "213"),
        ("\"ready\"", "\"steady\"", "steady"),
        ("n = 3", "n = 4", "n"),
        ("\"m 1\"", "\"m 2\"", "X-Mark"),
        ("bearer = \"probe-token\"", "", "401"),
        (
            "tcp = \"127.0.0.1:8080\"",
            "tcp = \"127.0.0.1:8089\"",
            "8089",
        ),
        ("/everyday\"]", "/nothing\"]", "test"),
    ] {
        let wrong = quick.replace(from, to);
        assert_ne!(wrong, quick, "{from}");
        // A change of the app itself, so that there is something to take back.
        let env = format!("{env}, TRY = '{}'", to.replace('\'', ""));
        let said = is_taken_back(
            &lab,
            &judged(&env, &wrong).replace("timeout = \"8s\"", "timeout = \"1500ms\""),
        );
        let first = said
            .stderr
            .lines()
            .find(|line| line.contains("taken back:"))
            .unwrap_or_else(|| panic!("{}", said.stderr));
        assert!(
            first.to_lowercase().contains(&reason.to_lowercase()),
            "{reason}: {}",
            said.stderr
        );
        assert!(!said.stderr.contains("tok3n"));
    }
    assert!(get(lab.host("web1"), "http://127.0.0.1:8080/reloads").contains('0'));
}

#[test]
fn a_slow_start_within_the_timeout_passes() {
    let Some(lab) = lab_with_token() else { return };
    lab.deploys(&judged("DELAY = \"3\"", "tcp = \"127.0.0.1:8080\""));
}

#[test]
fn an_app_that_dies_after_its_first_pass_is_taken_back() {
    let Some(lab) = lab_with_token() else { return };
    lab.deploys(&judged("MARK = \"one\"", "tcp = \"127.0.0.1:8080\""));
    // It answers at once, and ends while it is watched.
    let said = is_taken_back(
        &lab,
        &judged("LIVES = \"1.5\"", "tcp = \"127.0.0.1:8080\"").replace("400ms", "4s"),
    );
    assert!(said.stderr.contains("api.service"), "{}", said.stderr);
    let host = lab.host("web1");
    let answers = || {
        host.run(&["curl", "-si", "http://127.0.0.1:8080/reloads"])
            .unwrap()
            .stdout
    };
    eventually("the release before answers", SHORT, || {
        answers().contains("X-Mark: one")
    });
}

#[test]
fn a_crash_looping_app_is_taken_back_and_its_hostile_last_words_are_shown_escaped() {
    let Some(lab) = lab_with_token() else { return };
    lab.deploys(&judged("MARK = \"one\"", "tcp = \"127.0.0.1:8080\""));
    // A title sequence, a clear screen, a bell, invalid UTF-8, and a carriage return that would hide the line.
    let words = "6c61737420776f7264733a1b5d303b70776e6564071b5b324aff c328 0d 68696464656e"
        .replace(' ', "");
    let said = is_taken_back(
        &lab,
        &judged(
            &format!("SAYS_HEX = \"{words}\", EXITS = \"7\""),
            "tcp = \"127.0.0.1:8080\"",
        )
        .replace("8s", "3s"),
    );
    assert!(said.stderr.contains("last words:"), "{}", said.stderr);
    let plain = |c: char| !c.is_control() || c == '\n';
    assert!(
        said.stderr.chars().all(plain) && said.stdout.chars().all(plain),
        "{:?}",
        said.stderr
    );
    assert!(said.stderr.contains("pwned"), "{}", said.stderr);
    assert!(said.stderr.contains("status 7"), "{}", said.stderr);
    let json = lab.push(&["prod", "--yes", "--json"]).exits(5);
    for line in json.stdout.lines() {
        serde_json::from_str::<serde_json::Value>(line)
            .unwrap_or_else(|error| panic!("{error}: {line}"));
    }
}

/// Replaces text in a program by text of the same length.
fn patched(program: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    assert_eq!(from.len(), to.len());
    let mut program = program.to_vec();
    let mut found = 0;
    for at in 0..=program.len() - from.len() {
        if program[at..].starts_with(from) {
            program[at..at + to.len()].copy_from_slice(to);
            found += 1;
        }
    }
    assert!(
        found > 0,
        "{} is not in the program",
        String::from_utf8_lossy(from)
    );
    program
}

#[test]
fn a_program_that_cannot_run_on_a_host_is_refused_before_a_byte_is_sent() {
    let Some(lab) = Lab::boot_plain(1) else {
        return;
    };
    let good = fs::read(lab.path("bin/api")).unwrap();
    let machine = {
        let mut program = good.clone();
        // `e_machine` of the ELF header, see elf(5): RISC-V.
        program[18..20].copy_from_slice(&243_u16.to_le_bytes());
        program
    };
    let cases = [
        (machine, "built for"),
        (patched(&good, b"GLIBC_2.34\0", b"GLIBC_2.99\0"), "2.99"),
        (patched(&good, b"libc.so.6\0", b"libq.so.6\0"), "libq.so.6"),
        (patched(&good, b"/ld-linux-", b"/ld-linuz-"), "ld-linuz"),
    ];
    for (program, reason) in cases {
        lab.app("api", &program);
        lab.declares("[apps.api]\non = \"web\"\nsource = \"bin/api\"\n");
        let said = lab.push(&["prod", "--yes"]).exits(9).says(reason);
        assert!(said.stderr.contains("help"), "{}", said.stderr);
    }
    for path in ["/srv/api", "/etc/push/generations", "/etc/push/current"] {
        assert!(
            !lab.host("web1")
                .run(&["test", "-e", path])
                .unwrap()
                .is_success(),
            "{path} is there"
        );
    }
}

fn git(lab: &Lab, arguments: &[&str]) -> String {
    let output = Command::new("git")
        .arg("-C")
        .arg(lab.path(""))
        .args([
            "-c",
            "user.name=ann",
            "-c",
            "user.email=ann@example.com",
            "-c",
            "commit.gpgsign=false",
        ])
        .args(arguments)
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

#[test]
fn a_build_runs_once_before_any_host_and_its_release_is_named_after_the_commit() {
    let Some(lab) = Lab::boot_plain(2) else {
        return;
    };
    let app = |build: &str| {
        format!("[apps.files]\non = \"web\"\nbuild = \"{build}\"\nsource = \"out\"\n")
    };
    lab.declares(&app("echo broken >&2; exit 3"));
    lab.push(&["prod", "--yes"])
        .exits(1)
        .says("broken")
        .says("files");
    assert_eq!(generation(lab.host("web1")), 0);
    lab.declares(&app(
        "mkdir -p out; echo built >> out/count; date +%s%N > out/when",
    ));
    lab.write(
        ".gitignore",
        "out\nidentity*\n.cache\n.local\n.config\nbin\n",
    );
    git(&lab, &["init", "-q"]);
    git(&lab, &["add", "."]);
    git(&lab, &["commit", "-qm", "first"]);
    let commit = git(&lab, &["rev-parse", "--short=7", "HEAD"]);
    lab.push(&["prod", "--yes"]).exits(0);
    lab.write("new-file", "");
    lab.push(&["prod", "--yes"]).exits(0);
    for host in lab.fleet.hosts() {
        assert_eq!(
            says(host, &["cat", "/srv/files/current/count"]),
            "built\nbuilt"
        );
        let mut releases: Vec<String> = says(host, &["ls", "-1", "/srv/files/releases"])
            .lines()
            .map(str::to_owned)
            .collect();
        releases.sort();
        assert_eq!(releases.len(), 2);
        assert!(
            releases[0].ends_with(&format!("Z-{commit}")),
            "{releases:?}"
        );
        assert!(
            releases[1].ends_with(&format!("Z-{commit}-dirty")),
            "{releases:?}"
        );
    }
    lab.push(&["history", "prod"]).exits(0).says(&commit);
}

#[test]
fn archives_are_shipped_as_the_trees_that_they_hold() {
    let Some(lab) = Lab::boot_plain(1) else {
        return;
    };
    lab.write("tree/everyday", EVERYDAY);
    lab.write("tree/sub/data", "data");
    let chmod = Command::new("chmod")
        .arg("755")
        .arg(lab.path("tree/everyday"))
        .status()
        .unwrap();
    assert!(chmod.success());
    std::os::unix::fs::symlink("sub/data", lab.path("tree/link")).unwrap();
    for (name, flag) in [
        ("app.tar", "-cf"),
        ("app.tar.gz", "-czf"),
        ("app.tar.zst", ""),
    ] {
        let (from, to) = (if flag.is_empty() { "app.tar" } else { name }, name);
        if flag.is_empty() {
            let packed = zstd::encode_all(fs::File::open(lab.path(from)).unwrap(), 3).unwrap();
            lab.write(to, packed);
        } else {
            let tar = Command::new("tar")
                .arg(flag)
                .arg(lab.path(from))
                .arg("-C")
                .arg(lab.path("tree"))
                .arg(".")
                .status()
                .unwrap();
            assert!(tar.success());
        }
    }
    let app = |source: &str| {
        judged("MARK = \"one\"", "tcp = \"127.0.0.1:8080\"").replace("bin/everyday", source)
    };
    lab.secret("probe-token", "tok3n");
    lab.deploys(&app("app.tar.gz"));
    let host = lab.host("web1");
    let listing = says(
        host,
        &[
            "find",
            "/srv/api/current/",
            "-mindepth",
            "1",
            "-printf",
            "%P %y %m\n",
        ],
    );
    let mut lines: Vec<&str> = listing.lines().collect();
    lines.sort_unstable();
    assert_eq!(
        lines,
        [
            "everyday f 755",
            "link l 777",
            "sub d 755",
            "sub/data f 644"
        ]
    );
    // The same tree, however it is packed, is the same release: nothing to do.
    for source in ["app.tar.zst", "app.tar", "tree"] {
        lab.declares(&app(source));
        lab.push(&["prod", "--yes"]).exits(0).says("othing to do");
    }
}

#[test]
fn old_releases_are_pruned_but_none_that_is_current_previous_or_runs() {
    let Some(lab) = Lab::boot_plain(1) else {
        return;
    };
    let host = lab.host("web1");
    let app = "[apps.files]\non = \"web\"\nsource = \"out\"\n";
    let release = |mark: &str| {
        lab.write("out/mark", mark);
        lab.environment("prod", "project = \"shop\"\nkeep_releases = 2", app);
        lab.push(&["prod", "--yes"]).exits(0);
        says(host, &["readlink", "-f", "/srv/files/current"])
    };
    let first = release("1");
    // Something still runs in the first one.
    let folder = format!("WorkingDirectory={first}");
    says(
        host,
        &[
            "systemd-run",
            "--unit=old",
            "--property",
            &folder,
            "/bin/sleep",
            "1000",
        ],
    );
    let releases: Vec<String> = ["2", "3", "4", "5"]
        .iter()
        .map(|mark| release(mark))
        .collect();
    let there = says(
        host,
        &[
            "find",
            "/srv/files/releases",
            "-mindepth",
            "1",
            "-maxdepth",
            "1",
        ],
    );
    let there: Vec<&str> = there.lines().collect();
    assert!(there.contains(&first.as_str()), "{there:?}");
    assert!(
        there.contains(&releases[2].as_str()) && there.contains(&releases[3].as_str()),
        "{there:?}"
    );
    assert!(!there.contains(&releases[0].as_str()), "{there:?}");
    lab.push(&["rollback", "prod", "--yes"]).exits(0);
    assert_eq!(says(host, &["cat", "/srv/files/current/mark"]), "4");
}

#[test]
fn a_push_can_be_limited_and_is_told_host_by_host_in_json() {
    let Some(lab) = Lab::boot(&[HostSpec::named("web1"), HostSpec::named("web2")]) else {
        return;
    };
    let file = |value: &str| {
        format!("[files.\"/etc/carried.conf\"]\ncontent = \"first\\n{value}\\nlast\\n\"\n")
    };
    lab.declares(&file("one"));
    lab.push(&["prod", "--yes", "-l", "web2"]).exits(0);
    assert_eq!(generation(lab.host("web1")), 0);
    assert_eq!(generation(lab.host("web2")), 1);
    lab.push(&["prod", "--yes"]).exits(0);
    lab.declares(&file("two"));
    let diff = lab.push(&["diff", "prod"]).exits(0);
    for line in ["-one", "+two", "/etc/carried.conf"] {
        assert!(diff.stdout.contains(line), "{line}: {}", diff.stdout);
    }
    lab.push(&["plan", "prod", "--exit-code"]).exits(3);
    for verb in ["status", "history", "plan", "diff"] {
        let said = lab.push(&[verb, "prod", "--json"]).exits(0);
        let lines: Vec<serde_json::Value> = said
            .stdout
            .lines()
            .map(|line| {
                serde_json::from_str(line).unwrap_or_else(|error| panic!("{verb}: {error}: {line}"))
            })
            .collect();
        for name in ["web1", "web2"] {
            assert!(
                lines.iter().any(|line| line.to_string().contains(name)),
                "{verb}: {}",
                said.stdout
            );
        }
    }
    for host in lab.fleet.hosts() {
        assert_eq!(
            says(host, &["cat", "/etc/carried.conf"]),
            "first\none\nlast",
            "nothing of this changed anything"
        );
    }
}

#[test]
fn a_host_that_changed_since_the_plan_is_refused_as_stale() {
    let Some(lab) = Lab::boot_plain(1) else {
        return;
    };
    let host = lab.host("web1");
    let file = |name: &str, value: &str| {
        format!("[files.\"/etc/{name}.conf\"]\ncontent = \"{value}\\n\"\n")
    };
    lab.deploys(&(file("shop", "one") + &file("gone", "one")));
    lab.environment("blog", "project = \"blog\"", &file("blog", "one"));
    // The first operator reads the plan; the other project pushes; the first one says yes.
    lab.declares(&file("shop", "two"));
    let asked = lab.ask(&["prod"]);
    asked.shows("takes something away");
    lab.push(&["blog", "--yes"]).exits(0);
    let said = asked
        .types("y\r")
        .exits(9)
        .says("generation 2")
        .says("push plan prod");
    assert!(!said.stdout.contains("committed"), "{}", said.stdout);
    assert_eq!(says(host, &["cat", "/etc/shop.conf"]), "one");
    lab.push(&["prod", "--yes"]).exits(0);
    assert_eq!(
        says(host, &["cat", "/etc/shop.conf", "/etc/blog.conf"]),
        "two\none"
    );
}
