//! push-host's side of the conversation, spoken frame by frame over the system's own ssh with a real
//! Debian host: what it refuses, that nothing is live before the switch, and that the real tools see
//! what would be. Needs root; says so where it is not.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use push::rehearse::{Fleet, HostSpec, RehearsalHost, Suite};
use push_tests::speech::{self, PROGRAM, Session, refusal};
use push_tests::{hosts, lab};
use push_wire::digest::Digest;
use push_wire::frame::PackEntry;
use push_wire::journal::State;
use push_wire::manifest::{App, File, OnChange, OnRelease, Provenance, Runs, Slice, Text, Unit};
use push_wire::message::{Bytes, Refusal, Reply, Request, Restage, Stage};
use push_wire::name::{AppName, GenerationId, UserName};
use push_wire::tree::{Entry, Tree};

/// How long nginx may take to be rid of what it served before.
const SERVED_WITHIN: Duration = Duration::from_secs(10);

const APP: &[u8] = b"#!/bin/sh\nexec sleep 100000\n";

/// What is staged, and may be changed before it is.
struct Declared {
    slice: Slice,
    texts: BTreeMap<Digest, Bytes>,
    tree: Tree,
}

impl Declared {
    fn new() -> Self {
        let program = Entry::File {
            digest: Digest::of(APP),
            size: APP.len() as u64,
            executable: true,
        };
        let link = Entry::Link {
            target: "bin/api".to_owned(),
        };
        let tree = Tree {
            entries: [
                ("bin".parse().unwrap(), Entry::Folder),
                ("bin/api".parse().unwrap(), program),
                ("run".parse().unwrap(), link),
            ]
            .into(),
        };
        let mut declared = Self {
            slice: Slice::default(),
            texts: BTreeMap::new(),
            tree,
        };
        let app = App {
            release: "20261120T000000Z-abcdef0".parse().unwrap(),
            tree: declared.tree.digest(),
            size: declared.tree.size(),
            user: "api".parse().unwrap(),
            shared: ["data".parse().unwrap()].into(),
            ports: [8080].into(),
            keep_releases: 3,
            health: None,
        };
        declared.slice.apps.insert("api".parse().unwrap(), app);
        declared.unit("[Service]\nUser=api\nExecStart=/srv/api/releases/20261120T000000Z-abcdef0/run\n[Install]\nWantedBy=multi-user.target\n");
        declared.site("server { listen 8081; location / { return 200 ok; } }\n");
        declared
    }

    fn text(&mut self, text: &str) -> Digest {
        let digest = Digest::of(text);
        self.texts.insert(digest, Bytes(text.as_bytes().to_vec()));
        digest
    }

    fn unit(&mut self, text: &str) {
        let unit = Unit {
            digest: self.text(text),
            app: "api".parse().unwrap(),
            wanted_by: ["multi-user.target".parse().unwrap()].into(),
            runs: Runs::Always,
            on_release: OnRelease::Restart,
        };
        self.slice
            .units
            .insert("api.service".parse().unwrap(), unit);
    }

    fn site(&mut self, text: &str) {
        let digest = self.text(text);
        self.slice
            .sites
            .insert("api".parse().unwrap(), Text { digest });
    }

    fn file(&mut self, path: &str, text: &str) {
        let file = File {
            digest: self.text(text),
            owner: UserName::root(),
            group: UserName::root(),
            mode: 0o644,
            on_change: OnChange::Nothing,
        };
        self.slice.files.insert(path.parse().unwrap(), file);
    }

    fn stage(&self, base: u64) -> Stage {
        Stage {
            project: "shop".parse().unwrap(),
            base: GenerationId(base),
            slice: self.slice.clone(),
            texts: self.texts.clone(),
            trees: [(self.tree.digest(), self.tree.clone())].into(),
            needs: BTreeMap::new(),
            provenance: provenance(),
            way_in: 22,
        }
    }
}

fn provenance() -> Provenance {
    Provenance {
        operator: "mia".to_owned(),
        ..Provenance::default()
    }
}

fn boot() -> Option<Fleet> {
    speech::boot(&[HostSpec::named("web1")])
}

/// Everything that could show that something is live, or was left behind.
fn live(host: &RehearsalHost) -> String {
    let units =
        "find /etc/systemd/system /etc/nginx /etc/ssh /etc/cron.d -name '*' ! -name 'push*'";
    let all =
        format!("{units}; ls -la /etc/push/generations /srv/api/current; mount; ls /run/push");
    host.run(&["sh", "-c", &all]).unwrap().stdout
}

/// Waits until nginx serves this: a worker that is on its way out may take one more request.
fn serves(host: &RehearsalHost, text: &str) {
    lab::eventually(text, SERVED_WITHIN, || {
        lab::get(host, "http://127.0.0.1:8081/") == text
    });
}

fn staged(reply: Reply) -> GenerationId {
    match reply {
        Reply::Staged {
            generation,
            warnings,
        } => {
            assert_eq!(warnings, Vec::<String>::new());
            generation
        }
        other => panic!("not staged: {other:?}"),
    }
}

#[test]
fn a_generation_is_staged_checked_switched_and_gone_back_to() {
    let specs = [
        HostSpec::named("web1"),
        HostSpec::named("web2").suite(Suite::Trixie),
    ];
    let Some(fleet) = speech::boot(&specs) else {
        return;
    };
    for host in fleet.hosts() {
        push_and_go_back(host);
    }
}

fn push_and_go_back(host: &RehearsalHost) {
    let (session, hello) = Session::open(host);
    assert_eq!(hello.manifest.generation, GenerationId::NONE);
    assert_eq!(hello.facts.ssh_ports, [22].into());
    assert!(hello.facts.nginx.is_some() && hello.facts.nft);
    drop(session);

    let (mut session, _) = Session::open(host);
    let one = Declared::new();
    let first = staged(session.stage(&one.stage(0), &[APP]));
    assert_eq!(first, GenerationId(1));
    let unit = host.run(&["systemctl", "cat", "api.service"]).unwrap();
    assert!(!unit.is_success(), "nothing is live before the switch");
    assert_eq!(session.switch(first, "t1"), Some(State::Committed));
    host.succeed(&["systemctl", "is-active", "api.service"])
        .unwrap();
    serves(host, "ok");
    let shared = host
        .succeed(&["stat", "-Lc", "%U %a", "/srv/api/current/data"])
        .unwrap();
    assert_eq!(shared, "api 750\n");
    drop(session);

    let (mut session, hello) = Session::open(host);
    assert_eq!(hello.manifest.generation, first);
    let app: AppName = "api".parse().unwrap();
    assert_eq!(
        hello.releases[&app].keys().collect::<Vec<_>>(),
        [&one.tree.digest()]
    );
    let Reply::Status(status) = session.ask(&Request::Status) else {
        panic!()
    };
    assert_eq!(status.drift, Vec::<String>::new());
    let mut two = Declared::new();
    two.site("server { listen 8081; location / { return 200 two; } }\n");
    let second = staged(session.stage(&two.stage(1), &[]));
    assert_eq!(session.switch(second, "t2"), Some(State::Committed));
    serves(host, "two");

    let back = Restage {
        project: "shop".parse().unwrap(),
        base: second,
        to: first,
        provenance: provenance(),
        way_in: 22,
    };
    let third = staged(session.ask(&Request::Restage(back)));
    assert_eq!(session.switch(third, "t3"), Some(State::Committed));
    serves(host, "ok");
    let Reply::History(all) = session.ask(&Request::History { limit: 10 }) else {
        panic!()
    };
    let names: Vec<&str> = all
        .iter()
        .map(|one| one.first.transaction.as_str())
        .collect();
    assert_eq!(names, ["t3", "t2", "t1"]);
}

#[test]
fn what_the_real_tools_refuse_leaves_the_host_as_it_was() {
    let Some(fleet) = boot() else { return };
    let host = &fleet.hosts()[0];
    host.write("/etc/cron.d/mine", b"# mine\n", 0o644).unwrap();
    let (mut session, _) = Session::open(host);
    let good = staged(session.stage(&Declared::new().stage(0), &[APP]));
    assert_eq!(session.switch(good, "t1"), Some(State::Committed));
    let before = live(host);
    let refuse = |session: &mut Session, change: &dyn Fn(&mut Declared)| {
        let mut declared = Declared::new();
        change(&mut declared);
        let found = refusal(session.stage(&declared.stage(1), &[APP]));
        assert_eq!(live(host), before, "{found:?}");
        found
    };
    let check = |found: Refusal| match found {
        Refusal::Check { tool, output } => format!("{tool}: {output}"),
        other => panic!("{other:?}"),
    };

    let said = check(refuse(&mut session, &|it| {
        it.unit("[Service]\nExecStart=/srv/api/no/such\n");
    }));
    assert!(
        said.contains("systemd-analyze verify") && said.contains("/srv/api/no/such"),
        "{said}"
    );
    let said = check(refuse(&mut session, &|it| {
        it.unit("[Service]\nMemoryMax=lots\nExecStart=/bin/true\n");
    }));
    assert!(said.contains("lots"), "{said}");
    let said = check(refuse(&mut session, &|it| {
        it.site("server { listen 8081; no_such_thing on; }\n");
    }));
    assert!(
        said.contains("nginx -t") && said.contains("no_such_thing"),
        "{said}"
    );
    let said = check(refuse(&mut session, &|it| {
        it.file("/etc/ssh/sshd_config.d/push.conf", "NoSuchThing yes\n");
    }));
    assert!(
        said.contains("sshd -t") && said.contains("NoSuchThing"),
        "{said}"
    );
    let said = check(refuse(&mut session, &|it| {
        it.file("/etc/sudoers.d/it", "no such thing\n");
    }));
    assert!(said.contains("visudo -c"), "{said}");
    let found = refuse(&mut session, &|it| it.file("/etc/cron.d/mine", "# ours\n"));
    assert_eq!(
        found,
        Refusal::Occupied(vec!["/etc/cron.d/mine".parse().unwrap()])
    );
    let found = refuse(&mut session, &|it| {
        it.slice.units = [(
            "cron.service".parse().unwrap(),
            it.slice.units.values().next().unwrap().clone(),
        )]
        .into();
    });
    assert!(
        matches!(found, Refusal::Occupied(_) | Refusal::Protocol { .. }),
        "{found:?}"
    );
    drop(session);

    // The view is nobody's but push-host's own.
    let by_hand = host.run(&[PROGRAM, "view", "1", "nginx"]).unwrap();
    assert!(!by_hand.is_success() && by_hand.stderr.contains("namespace of its own"));
    assert_eq!(live(host), before);
}

#[test]
fn one_operator_at_a_time_and_an_upload_goes_on_where_it_was_cut() {
    let Some(fleet) = boot() else { return };
    let host = &fleet.hosts()[0];
    let declared = Declared::new();
    let stage = declared.stage(0);
    let (mut first, _) = Session::open(host);
    let reply = first.ask(&Request::Stage(Box::new(stage.clone())));
    assert!(
        matches!(&reply, Reply::Missing { files, .. } if files.len() == 1),
        "{reply:?}"
    );

    let (mut second, _) = Session::open(host);
    let Refusal::Locked(holder) = refusal(second.ask(&Request::Stage(Box::new(stage.clone()))))
    else {
        panic!("two at once")
    };
    assert_eq!(
        (holder.operator.as_str(), holder.step.as_str()),
        ("mia", "staging shop")
    );

    let entry = PackEntry {
        digest: Digest::of(APP),
        size: APP.len() as u64,
    };
    let plain = [entry.encode().as_slice(), APP].concat();
    let pack = zstd::encode_all(plain.as_slice(), 3).unwrap();
    let (digest, bytes) = (Digest::of(&pack), pack.len() as u64);
    first.say(&Request::Pack {
        digest,
        bytes,
        offset: 0,
    });
    first.contents(&pack[..20]);
    std::thread::sleep(std::time::Duration::from_millis(300));
    drop(first);

    let reply = loop {
        let reply = second.ask(&Request::Stage(Box::new(stage.clone())));
        if !matches!(&reply, Reply::Refused(_)) {
            break reply;
        }
    };
    let Reply::Missing { partial, .. } = reply else {
        panic!("{reply:?}")
    };
    assert_eq!(partial, [(digest, 20)].into());
    second.say(&Request::Pack {
        digest,
        bytes,
        offset: 20,
    });
    second.contents(&pack[20..]);
    assert_eq!(staged(second.hear()), GenerationId(1));
    let empty: BTreeSet<String> = BTreeSet::new();
    let left = host
        .run(&["find", "/var/lib/push/spool", "-type", "f"])
        .unwrap()
        .stdout;
    assert_eq!(
        left.lines().map(str::to_owned).collect::<BTreeSet<_>>(),
        empty
    );
}

#[test]
fn push_host_is_replaced_within_the_same_connection() {
    let Some(fleet) = boot() else { return };
    let host = &fleet.hosts()[0];
    let (mut session, hello) = Session::open(host);
    let program = push::embedded::program("x86_64").unwrap();
    assert_eq!(hello.program.digest, program.digest);
    let packed_bytes = program.gzip.len() as u64;
    session.say(&Request::Upgrade {
        digest: Digest::of("another"),
        packed_bytes,
    });
    session.contents(program.gzip);
    assert!(matches!(refusal(session.hear()), Refusal::Corrupt { .. }));
    session.say(&Request::Upgrade {
        digest: program.digest,
        packed_bytes,
    });
    session.contents(program.gzip);
    let Reply::Hello(again) = session.hear() else {
        panic!()
    };
    assert_eq!(again.program.digest, program.digest);
    assert!(matches!(session.ask(&Request::Status), Reply::Status(_)));
}

#[test]
fn who_is_not_root_is_told_so_in_words() {
    let Some(fleet) = boot() else { return };
    let host = &fleet.hosts()[0];
    let output = hosts::ssh_command(host)
        .arg(PROGRAM)
        .arg("serve")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(77));
    assert!(output.stdout.is_empty());
    assert!(String::from_utf8_lossy(&output.stderr).contains("sudo -n"));
}
