//! What a host is found to be, looked at from outside: its journal as bytes, and every kind of thing
//! that a generation declares, each asked for where it takes effect. Nothing here asks push-host.
//!
//! An environment of [`environment`] carries one tag in everything that it declares, so that a host
//! which is partly one generation and partly another is seen as such. To hold another kind of thing
//! to it: write the tag into the environment, and add a line to `LOOK`.

use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind::NotFound;
use std::time::{Duration, Instant};

use push::rehearse::RehearsalHost;
use push_wire::journal::{About, Record, State};
use push_wire::name::TransactionId;

use crate::lab::Lab;

/// What a journal begins with.
const HEAD: &[u8] = b"push journal 1\n";

/// The bytes before each record: its length and its checksum.
const RECORD_HEAD_BYTES: usize = 12;

/// The port that the firewall of tag 0 opens.
const FIRST_PORT: u32 = 20_000;

/// How long a host that is up may take until everything that it declares is in effect.
const SETTLED_WITHIN: Duration = Duration::from_secs(20);

/// What is in effect, one line each: a name, then the tag found.
const LOOK: &str = r#"
tag() { grep -ao 'v[0-9]\{6\}' | head -n 1; }
say() { printf '%s %s\n' "$1" "$(tag)"; }
pid=$(systemctl show -p MainPID --value api.service)
tail -c 7 /srv/api/current/api | say release
tail -c 7 "/proc/$pid/exe" | say process
curl -s -m 5 http://127.0.0.1:8080/health | say answer
cat /etc/systemd/system/api.service | say unit
systemctl show -p Environment --value api.service | say systemd
curl -s -m 5 -o /dev/null -D - -H 'Host: api.example.com' http://127.0.0.1/health | say nginx
cat /etc/push/current/nginx/api.conf | say site
printf 'v%06d' "$(($(nft list table inet push | grep -o 'dport 2[0-9]\{4\}' | cut -c 7-) - 20000))" | say firewall
cat /etc/variant | say file
cat /run/push/secrets/api/api-token | say secret
cat /run/credentials/api.service/api-token | say credential
"#;

/// How many lines [`LOOK`] says.
const LOOKS: usize = 11;

/// What is on a host: path, kind, mode, owner, size and where a link leads.
const FOREIGN: &str = "find /etc /srv /opt /usr/local /usr/lib/systemd /root -xdev ! -type d -printf '%p %y %m %U %G %s %l\\n'";

/// What is push's own, or declared by an [`environment`], or kept by the host's accounts and boot.
const OWN: &[&str] = &[
    "/etc/push/",
    "/etc/systemd/system/api.service ",
    "/etc/systemd/system/multi-user.target.wants/api.service ",
    "/etc/systemd/system/push-recover.service ",
    "/etc/systemd/system/sysinit.target.wants/push-recover.service ",
    "/etc/systemd/system/nftables.service.d/push.conf ",
    "/etc/nginx/conf.d/push.conf ",
    "/etc/variant ",
    "/srv/api/",
    "/usr/local/lib/push/",
    // The user that an app runs as is made before the switch, and stays.
    "/etc/passwd",
    "/etc/group",
    "/etc/shadow",
    "/etc/gshadow",
    "/etc/subuid",
    "/etc/subgid",
    "/etc/.pwd.lock ",
    // By these a push tries a disk; one that the power was cut at is removed by the next push that tries there.
    "/etc/.push-probe ",
    "/etc/..push-probe.push-new ",
    "/srv/.push-probe ",
    "/srv/..push-probe.push-new ",
    // What a first push was writing when the power went; the next one writes it anew.
    "/etc/systemd/system/.push-recover.service.push-new ",
    "/etc/systemd/system/sysinit.target.wants/.push-recover.service.push-new ",
    "/etc/systemd/system/nftables.service.d/.push.conf.push-new ",
    "/etc/nginx/conf.d/.push.conf.push-new ",
];

/// The tag of a number.
pub fn tag(number: u32) -> String {
    format!("v{number:06}")
}

/// How an environment's app fares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It becomes healthy.
    Healthy,
    /// It never does.
    Broken,
}

/// Writes the environment `prod` with a tag in the app's code, its unit, its site, the firewall, a
/// file and a secret. `extra` is appended.
pub fn environment(lab: &Lab, (number, fate): (u32, Fate), extra: &str) {
    let tag = tag(number);
    let mut program = std::fs::read(crate::lab::program("demo-api")).unwrap();
    program.extend_from_slice(tag.as_bytes());
    lab.app("api", &program);
    lab.secret("api-token", &format!("secret of {tag}"));
    let (status, timeout) = match fate {
        Fate::Healthy => ("ok", "20s"),
        Fate::Broken => ("never", "1s"),
    };
    let port = FIRST_PORT + number;
    let rest = format!(
        r#"
[apps.api]
on      = "web"
source  = "bin/api"
env     = {{ PORT = "8080", REGION = "{tag}" }}
secrets = ["api-token"]

[apps.api.service]
exec = "{{{{ release.dir }}}}/api"

[apps.api.health]
http     = "http://127.0.0.1:8080/health"
json     = {{ status = "{status}" }}
timeout  = "{timeout}"
interval = "100ms"
passes   = 2
quiet    = "300ms"

[apps.api.site]
server_name = ["api.example.com"]
proxy       = "http://127.0.0.1:8080"
headers     = {{ X-Variant = "{tag}" }}

[firewall]
allow = ["ssh", "http", {{ port = {port} }}]

[files."/etc/variant"]
content = "{tag}\n"
{extra}"#
    );
    lab.environment("prod", "project = \"shop\"", &rest);
}

/// Every record of a host's journal, read from its disk; also while the host is off. A torn tail
/// ends it.
pub fn journal(host: &RehearsalHost) -> Vec<Record> {
    let bytes = match host.read("/var/lib/push/journal") {
        Ok(bytes) => bytes,
        Err(push::rehearse::Error::Io { source, .. }) if source.kind() == NotFound => return vec![],
        Err(error) => panic!("the journal cannot be read: {error}"),
    };
    let mut rest = bytes.strip_prefix(HEAD).unwrap_or_default();
    let mut records = Vec::new();
    while let Some((length, _)) = rest.split_first_chunk::<4>() {
        let end = RECORD_HEAD_BYTES + u32::from_be_bytes(*length) as usize;
        let Some(body) = rest.get(RECORD_HEAD_BYTES..end) else {
            break;
        };
        let Ok(record) = serde_json::from_slice(body) else {
            break;
        };
        records.push(record);
        rest = &rest[end..];
    }
    records
}

/// How the last transaction stands.
pub fn last(records: &[Record]) -> Option<&State> {
    records.last().map(|record| &record.state)
}

/// What a transaction is about.
pub fn about<'a>(records: &'a [Record], transaction: &TransactionId) -> &'a About {
    records
        .iter()
        .filter(|record| record.transaction == *transaction)
        .find_map(|record| record.about.as_ref())
        .expect("the first record of a transaction says what it is about")
}

/// The generation that a journal says is in effect.
pub fn in_effect(records: &[Record]) -> u64 {
    let Some(record) = records.last() else {
        return 0;
    };
    let about = about(records, &record.transaction);
    match &record.state {
        State::Committed => about.to.0,
        State::TakenBack(_) => about.from.0,
        State::Prepared | State::Switching | State::Probation(_) | State::TakingBack(_) => {
            panic!("the journal does not end: {record:?}")
        }
    }
}

/// The generation that the host's own link names; 0 without one.
pub fn generation(host: &RehearsalHost) -> u64 {
    let link = host.run(&["readlink", "/etc/push/current"]).unwrap().stdout;
    let number = link.trim().strip_prefix("generations/");
    number.map_or(0, |number| number.parse().unwrap())
}

/// The tag in each kind of thing, as it is in effect now.
pub fn look(host: &RehearsalHost) -> BTreeMap<String, String> {
    let said = host.run(&["sh", "-c", LOOK]).unwrap().stdout;
    said.lines()
        .map(|line| line.split_once(' ').unwrap_or((line, "")))
        .map(|(name, tag)| (name.to_owned(), tag.to_owned()))
        .collect()
}

/// The one tag that everything on the host has; waits for a host that has just booted.
///
/// # Panics
/// When the host is partly one generation and partly another.
pub fn whole(host: &RehearsalHost) -> String {
    let found = found(host);
    tag(found.unwrap_or_else(|| panic!("nothing is there\n{}", story(host))))
}

/// The number whose tag everything on the host has, or `None` where there is nothing of any; waits
/// for a host that has just booted.
///
/// # Panics
/// When the host is partly one generation and partly another, or partly none.
pub fn found(host: &RehearsalHost) -> Option<u32> {
    let began = Instant::now();
    loop {
        let seen = look(host);
        let tags: BTreeSet<&String> = seen.values().collect();
        if let (LOOKS, [tag]) = (seen.len(), Vec::from_iter(tags).as_slice()) {
            return tag.strip_prefix('v').map(|number| number.parse().unwrap());
        }
        assert!(
            began.elapsed() < SETTLED_WITHIN,
            "partly one, partly another: {seen:#?}\n{}",
            story(host)
        );
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// The generation that nginx's workers serve, as they say themselves; empty without an answer.
pub fn nginx_serves(host: &RehearsalHost) -> String {
    let marker = "http://127.85.83.72:8583/generation";
    crate::lab::get(host, marker).trim().to_owned()
}

/// Everything below the folders that hold what an administrator puts on a host, one line a path,
/// without what is declared and what push itself has there: none of it may change, whatever happens
/// to a push.
pub fn foreign(host: &RehearsalHost) -> BTreeSet<String> {
    let listed = host.succeed(&["sh", "-c", FOREIGN]).unwrap();
    let own = |line: &str| OWN.iter().any(|start| line.starts_with(start));
    listed
        .lines()
        .filter(|line| !own(line))
        .map(str::to_owned)
        .collect()
}

/// What a host can tell of what happened, for a test that failed.
pub fn story(host: &RehearsalHost) -> String {
    let run = |argv: &[&str]| host.run(argv).map(|found| found.stdout).unwrap_or_default();
    let states: Vec<String> = journal(host)
        .iter()
        .rev()
        .take(8)
        .map(|record| {
            format!(
                "{} {} {:?}",
                record.sequence, record.transaction, record.state
            )
        })
        .collect();
    format!(
        "the journal, latest first:\n{}\nfailed units:\n{}\nthe host's log:\n{}",
        states.join("\n"),
        run(&["systemctl", "--failed", "--no-legend"]),
        run(&[
            "journalctl",
            "-b",
            "--no-pager",
            "-n",
            "60",
            "-o",
            "short-precise"
        ])
    )
}
