//! `push logs`: what apps say, read and followed by the login that pushes, which may read no log itself.

use std::io::{BufRead as _, BufReader};
use std::process::Stdio;
use std::time::Duration;

use push::rehearse::{Blackhole, HostSpec, Suite};
use push_tests::lab::{Lab, eventually};

/// An app that greets in colour and with an odd byte, and then counts for ever.
const TALKER: &str = "#!/bin/sh\nprintf 'begun \\033[31mred\\377\\n'\nn=0\nwhile :; do n=$((n+1)); echo \"tick $n\"; sleep 0.2; done\n";

const APPS: &str = r#"
[apps.talker]
on = "web"
source = "bin/talker"

[apps.talker.service]
exec = "{{ release.dir }}/talker"

[apps.mute]
on = "web1"
source = "bin/everyday"
env = { PORT = "8080" }

[apps.mute.service]
exec = "{{ release.dir }}/everyday"
"#;

/// How long a line, or the loss of a host, may take to be told.
const SOON: Duration = Duration::from_secs(30);

fn talking(count: usize) -> Option<Lab> {
    let lab = Lab::boot_plain(count)?;
    lab.app("talker", TALKER.as_bytes());
    lab.deploys(APPS);
    Some(lab)
}

/// The numbers that the talker of a host said, in the order in which they are told.
fn ticks(told: &str, host: &str) -> Vec<u64> {
    let lines = told.lines().filter(|line| line.starts_with(host));
    let ticks = lines.filter_map(|line| line.split_once("talker[")?.1.split_once("tick "));
    ticks.map(|(_, number)| number.parse().unwrap()).collect()
}

fn are_in_a_row(ticks: &[u64]) -> bool {
    ticks.windows(2).all(|two| two[1] == two[0] + 1)
}

#[test]
fn the_latest_lines_of_an_app_are_shown_escaped_and_bounded() {
    let Some(lab) = talking(2) else { return };
    let said = lab.push(&["logs", "prod", "talker", "-n", "7"]).exits(0);
    for host in ["web1  ", "web2  "] {
        let ticks = ticks(&said.stdout, host);
        assert!((6..=7).contains(&ticks.len()), "{}", said.stdout);
        assert!(are_in_a_row(&ticks), "{ticks:?}");
    }
    let said = lab
        .push(&["logs", "prod", "talker", "-l", "web1", "-n", "1000"])
        .exits(0)
        .says("begun \\x1b[31mred");
    assert!(!said.stdout.contains('\u{1b}'), "{}", said.stdout);
    assert!(!said.stdout.contains("everyday"), "{}", said.stdout);
    // Without a name: all that the project has there, and nothing else.
    let said = lab.push(&["logs", "prod", "-l", "web2"]).exits(0);
    assert!(!ticks(&said.stdout, "").is_empty(), "{}", said.stdout);
    assert!(!said.stdout.contains("sshd"), "{}", said.stdout);
    // An app that is not on a host is not mistaken for all that is.
    let said = lab
        .push(&["logs", "prod", "mute", "-l", "web2"])
        .exits(0)
        .says("web2: nothing that was asked for has a unit there");
    assert_eq!(said.stdout, "");
    let json = lab.push(&["logs", "prod", "talker", "-l", "web1", "-n", "3", "--json"]);
    let json = json.exits(0).stdout;
    let values = json.lines().map(|line| serde_json::from_str(line).unwrap());
    let values: Vec<serde_json::Value> = values.collect();
    let lines = values.iter().filter(|value| value["type"] == "log");
    let lines = lines.filter_map(|value| value["line"].as_str());
    assert!(
        (2..=3).contains(&ticks(&lines.collect::<Vec<_>>().join("\n"), "").len()),
        "{json}"
    );
}

#[test]
fn any_unit_and_what_push_did_can_be_read_and_what_there_is_not_is_named() {
    // What journalctl does when it finds nothing depends on its version.
    let suites = [Suite::Bullseye, Suite::Bookworm, Suite::Trixie];
    let specs = [1, 2, 3].map(|n| HostSpec::named(format!("web{n}")).suite(suites[n - 1]));
    let Some(lab) = Lab::boot(&specs) else { return };
    lab.app("talker", TALKER.as_bytes());
    lab.deploys(APPS);
    lab.push(&["logs", "prod", "--unit", "systemd-journald"])
        .exits(0)
        .says("systemd-journald[");
    lab.push(&["logs", "prod", "--push"])
        .exits(0)
        .says("push-transaction.service");
    lab.push(&["logs", "prod", "--unit", "nothing.service"])
        .exits(0)
        .says("web1: the log holds nothing of nothing.service")
        .says("web3: the log holds nothing of nothing.service");
    for (word, told) in [("talkr", "did you mean `talker`?"), ("--unit=-f", "unit")] {
        lab.push(&["logs", "prod", word]).exits(2).says(told);
    }
}

#[test]
fn a_log_is_followed_line_by_line_until_the_operator_has_enough() {
    let Some(lab) = talking(2) else { return };
    let mut command = lab.command(&["logs", "prod", "talker", "-f", "-n", "2"]);
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdout = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut told = String::new();
    let mut hear_until = |told: &mut String, enough: &dyn Fn(&str) -> bool| {
        while !enough(told) {
            let line = stdout.next().expect("it ended").unwrap();
            told.push_str(&(line + "\n"));
        }
    };
    hear_until(&mut told, &|told| {
        ["web1  ", "web2  "]
            .iter()
            .all(|host| ticks(told, host).len() > 20)
    });
    // A host that is lost is told of while the other one goes on.
    lab.host("web2").block(Blackhole::Both).unwrap();
    let stderr = BufReader::new(child.stderr.take().unwrap()).lines();
    let mut lost = stderr.map_while(Result::ok);
    assert!(
        lost.any(|line| line.contains("web2")),
        "web2 was never told of"
    );
    let before = ticks(&told, "web1  ").len();
    hear_until(&mut told, &|told| ticks(told, "web1  ").len() > before + 10);
    lab.host("web2").unblock().unwrap();
    for host in ["web1  ", "web2  "] {
        let ticks = ticks(&told, host);
        assert!(are_in_a_row(&ticks), "{host}: {ticks:?}");
    }
    let pid = child.id().to_string();
    let sent = std::process::Command::new("kill")
        .args(["-s", "INT", &pid])
        .status();
    assert!(sent.unwrap().success());
    assert_eq!(child.wait().unwrap().code(), Some(130));
}

#[test]
fn whoever_has_read_enough_of_a_log_ends_it() {
    let Some(lab) = talking(1) else { return };
    let mut command = lab.command(&["logs", "prod", "talker", "-f"]);
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut first = String::new();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    stdout.read_line(&mut first).unwrap();
    assert!(first.contains("talker"), "{first}");
    drop(stdout);
    eventually("its end", SOON, || child.try_wait().unwrap().is_some());
    assert_eq!(child.wait().unwrap().code(), Some(0));
}
