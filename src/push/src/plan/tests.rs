//! Golden cases: inventory text and facts in, plans out.

use std::fmt::Write as _;

use push_wire::bundle::{Bundle, Form, Piece};
use push_wire::manifest::{Manifest, Slice};

use super::*;
use crate::desired::sample::{CANARY, CERTIFIED, Sample};

const API: &str = r#"
[apps.api]
on = "web1"
source = "app"
env = { PORT = "8080" }
secrets = ["url"]
shared = ["data"]
[apps.api.service]
exec = "{{ release.current }}/app"
"#;

fn plan(sample: &Sample) -> HostPlan {
    HostPlan::new(&sample.hello, &sample.desired(), 22)
}

fn settled(toml: &str) -> Sample {
    let mut sample = Sample::new(toml);
    let desired = sample.desired();
    sample.settle(&desired);
    sample
}

/// The plan in short, for golden cases: what changes, then what runs.
fn short(plan: &HostPlan) -> String {
    fn sign<T>(change: &Change<T>) -> char {
        match (change.is_added(), change.is_removed()) {
            (true, _) => '+',
            (_, true) => '-',
            (false, false) => '~',
        }
    }
    let mut out = String::new();
    for (app, change) in &plan.releases {
        let id = change.to.as_ref().or(change.from.as_ref()).unwrap();
        let _ = writeln!(out, "{} release {app} {}", sign(change), id.id);
    }
    for (app, settings) in &plan.settings {
        for setting in settings {
            let _ = writeln!(out, "~ {app} {setting}");
        }
    }
    for (unit, change) in &plan.units {
        let _ = writeln!(out, "{} unit {unit}", sign(change));
    }
    for (site, change) in &plan.sites {
        let _ = writeln!(out, "{} site {site}", sign(change));
    }
    if let Some(firewall) = &plan.firewall {
        for rule in &firewall.added {
            let _ = writeln!(out, "+ rule {rule}");
        }
        for rule in &firewall.removed {
            let _ = writeln!(out, "- rule {rule}");
        }
    }
    for (path, change) in &plan.files {
        let _ = writeln!(out, "{} file {path}", sign(change));
    }
    for (app, files) in &plan.secrets {
        for (file, change) in files {
            let _ = writeln!(out, "{} secret {app}/{file}", sign(change));
        }
    }
    for effect in &plan.effects {
        let _ = writeln!(out, "! {effect}");
    }
    for risk in &plan.risks {
        let _ = writeln!(out, "risk: {risk}");
    }
    for stays in &plan.forward_only {
        let _ = writeln!(out, "stays: {stays}");
    }
    for refusal in &plan.refusals {
        let _ = writeln!(out, "refused: {refusal}");
    }
    out
}

#[test]
fn a_first_push_adds_everything() {
    insta::assert_snapshot!(short(&plan(&Sample::new(API))));
}

#[test]
fn planning_against_a_plans_own_result_is_empty() {
    let sample = settled(API);
    let again = plan(&sample);
    assert!(again.is_empty(), "{}", short(&again));
    assert!(again.effects.is_empty());
    let opened = sample.vault.opened.lock().unwrap().len();
    assert_eq!(opened, 1, "the second plan opens no secret");
}

#[test]
fn a_later_push_of_the_same_content_keeps_the_release_that_is_there() {
    let mut sample = settled(API);
    sample.release = "20270101T000000Z-fffffff".into();
    assert!(plan(&sample).is_empty());
}

#[test]
fn a_new_release_restarts_its_service_and_nothing_else() {
    let mut sample = settled(API);
    sample.write("app", "#!/bin/sh\nexit\n");
    sample.release = "20270101T000000Z-fffffff".into();
    insta::assert_snapshot!(short(&plan(&sample)));
}

#[test]
fn a_release_that_the_host_still_has_travels_no_more() {
    let mut sample = settled(API);
    sample.write("app", "#!/bin/sh\nexit\n");
    sample.release = "20270101T000000Z-fffffff".into();
    let desired = sample.desired();
    sample.settle(&desired);
    sample.write("app", "#!/bin/sh\n");
    sample.release = "20280101T000000Z-eeeeeee".into();
    let back = plan(&sample);
    let to = back.releases["api"].to.as_ref().unwrap();
    assert_eq!(to.id.as_str(), "20260102T030405Z-abcdef0");
    assert_eq!(
        back.bytes_max,
        sample
            .desired()
            .stage(&sample.hello, Provenance::default(), 22)
            .texts
            .values()
            .map(|text| text.0.len() as u64)
            .sum::<u64>()
    );
}

#[test]
fn a_variable_changes_the_unit_alone() {
    let sample = settled(API);
    sample.declare(&API.replace("8080", "9090"));
    let changed = plan(&sample);
    insta::assert_snapshot!(short(&changed));
    let old = settled(API).desired().texts;
    let shown = diffs(&changed, &old, &sample.desired());
    insta::assert_snapshot!(shown[0].unified);
}

#[test]
fn shared_folders_that_stay_another_users_are_told() {
    let of = |user: &str, shared: &str| {
        let settings = format!("user = \"{user}\"\nshared = [{shared}]");
        API.replace("shared = [\"data\"]", &settings)
    };
    let sample = settled(&of("old", "\"data\", \"log\""));
    sample.declare(&of("new", "\"data\", \"log\""));
    let told = short(&plan(&sample));
    assert!(
        told.contains("~ api shared data, log stays old's until root hands it over (chown -R)"),
        "{told}"
    );
    sample.declare(&of("new", "\"other\""));
    let told = short(&plan(&sample));
    assert!(!told.contains("old's"), "{told}");
}

#[test]
fn what_leaves_the_inventory_leaves_the_host() {
    let sample = settled(&format!(
        "{API}\n[firewall]\nallow = [\"http\", \"https\"]\n[files.\"/etc/motd\"]\ncontent = \"hello\"\n"
    ));
    sample.declare("[firewall]\nallow = [\"https\"]\n");
    insta::assert_snapshot!(short(&plan(&sample)));
}

#[test]
fn a_secret_that_is_sealed_anew_with_the_same_content_changes_nothing() {
    let mut sample = settled(API);
    sample.vault.sealing = 1;
    assert!(plan(&sample).is_empty());
    assert_eq!(
        sample.vault.opened.lock().unwrap().len(),
        2,
        "it had to be compared"
    );
}

#[test]
fn what_somebody_changed_on_the_host_and_it_holds_nowhere_else_is_brought_again() {
    let mut sample = settled(API);
    let old = sample.desired();
    let unit = old.slice.units["api.service"].digest;
    let secret = old.slice.secrets.values().next().unwrap();
    let (name, secret) = secret.iter().next().unwrap();
    let brought = |sample: &Sample| {
        let desired = sample.desired();
        let texts = desired.lacking_texts(&sample.hello);
        (
            texts.map(|(digest, _)| digest).collect::<Vec<_>>(),
            desired.slice.secrets.values().next().unwrap()[name].clone(),
        )
    };
    assert_eq!(brought(&sample).0, []);
    sample.hello.lost = [unit].into();
    assert_eq!(brought(&sample).0, [unit]);
    assert!(
        plan(&sample).is_empty(),
        "what is declared is what is in effect"
    );
    // A sealed secret cannot be made again as it was.
    sample.hello.lost = [secret.sealed].into();
    sample.vault.sealing = 1;
    let (texts, anew) = brought(&sample);
    assert_eq!(texts, [anew.sealed]);
    assert_ne!(anew.sealed, secret.sealed);
    assert_eq!(anew.fingerprint, secret.fingerprint);
}

#[test]
fn a_secret_that_is_missing_stops_the_push_by_its_name() {
    let mut sample = Sample::new(API);
    sample.vault.missing = Some("url".parse().unwrap());
    let error = sample.try_desired().unwrap_err();
    assert!(error.is_about_secrets());
    assert_eq!(error.to_string(), "the secret url: there is no such file");
}

#[test]
fn a_new_host_key_has_its_secrets_sealed_again() {
    let mut sample = settled(API);
    let secrets = &mut sample
        .hello
        .manifest
        .slices
        .values_mut()
        .next()
        .unwrap()
        .slice
        .secrets;
    let secret = secrets
        .values_mut()
        .next()
        .unwrap()
        .values_mut()
        .next()
        .unwrap();
    secret.recipient = Digest::of("another key");
    let changed = plan(&sample);
    assert!(!changed.secrets.is_empty());
    assert!(
        changed.effects.is_empty(),
        "nobody is told: {}",
        short(&changed)
    );
}

#[test]
fn a_firewall_is_a_risk_and_names_its_rules() {
    let sample = Sample::new(
        "[firewall]\nallow = [\"http\", { port = 9100, from = [\"10.0.0.0/8\", \"2001:db8::/32\"] }]\n",
    );
    insta::assert_snapshot!(short(&plan(&sample)));
}

#[test]
fn what_a_host_lacks_is_known_before_anything_is_sent() {
    let mut sample = Sample::new(&format!(
        "{API}[apps.api.site]\nserver_name = \"a.example\"\nproxy = \"http://127.0.0.1:1\"\n[firewall]\nallow = []\n"
    ));
    let facts = &mut sample.hello.facts;
    facts.nginx = None;
    facts.nft = false;
    facts.systemd = Some(245);
    facts.shutdown_at_unix_s = Some(60);
    facts.room.values_mut().for_each(|room| {
        room.bytes = 1000;
        room.inodes = 1;
    });
    insta::assert_snapshot!(short(&plan(&sample)));
    for refusal in plan(&sample).refusals {
        assert!(!refusal.help().is_empty());
    }
}

#[test]
fn an_app_that_the_host_has_already_is_not_refused_for_room_it_may_not_need() {
    let mut sample = settled(API);
    sample.write("app", "#!/bin/sh\nexit\n");
    sample.release = "20270101T000000Z-fffffff".into();
    if let Some(room) = sample.hello.facts.room.get_mut("/srv") {
        room.bytes = 1000;
    }
    let changed = plan(&sample);
    assert!(
        !changed.is_empty() && !changed.is_refused(),
        "{}",
        short(&changed)
    );
}

#[test]
fn a_program_for_another_host_is_refused() {
    let sample = Sample::new(API);
    let mut desired = sample.desired();
    let needs = desired.needs.values_mut().next().unwrap();
    needs.machine = Some("x86_64".into());
    needs.interpreter = Some("/lib64/ld-linux-x86-64.so.2".into());
    needs.glibc = Some((2, 36));
    needs.libraries = ["libc.so.6".to_owned()].into();
    let refusals = |desired: &Desired| HostPlan::new(&sample.hello, desired, 22).refusals;
    assert_eq!(refusals(&desired), []);
    let with = |change: &dyn Fn(&mut push_wire::facts::Needs)| {
        let mut desired = desired.clone();
        change(desired.needs.values_mut().next().unwrap());
        refusals(&desired)
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
    };
    assert_eq!(
        with(&|needs| needs.machine = Some("aarch64".into())),
        ["api is built for aarch64, and this host is x86_64"]
    );
    assert_eq!(
        with(&|needs| needs.interpreter = Some("/lib/ld-musl-x86_64.so.1".into())),
        ["api needs the loader /lib/ld-musl-x86_64.so.1, which this host does not have"]
    );
    assert_eq!(
        with(&|needs| needs.glibc = Some((2, 38))),
        ["api needs glibc 2.38, and this host has 2.36"]
    );
    assert_eq!(
        with(&|needs| needs.libraries.extend(["libpq.so.5".to_owned()])),
        ["api needs shared libraries that this host does not have: libpq.so.5"]
    );
    assert_eq!(with(&|needs| needs.machine = Some("i686".into())), [""; 0]);
}

/// A host on which another project has all that [`API`] declares.
fn held_by_another() -> Sample {
    let mut sample = settled(API);
    let slices = std::mem::replace(&mut sample.hello.manifest, Manifest::empty()).slices;
    let slice = slices.into_values().next().unwrap();
    let other = "other".parse().unwrap();
    sample.hello.manifest.slices.insert(other, slice);
    sample
}

#[test]
fn what_another_project_has_is_refused_naming_it() {
    let sample = held_by_another();
    let refused = plan(&sample).refusals;
    assert!(
        refused
            .iter()
            .any(|refusal| refusal.to_string()
                == "app api belongs to the project other on this host"),
        "{refused:?}"
    );
}

#[test]
fn another_projects_slice_is_never_touched() {
    let sample = held_by_another();
    sample.declare("");
    let nothing = plan(&sample);
    assert!(
        nothing.is_empty() && nothing.effects.is_empty(),
        "{}",
        short(&nothing)
    );
}

#[test]
fn a_secret_that_is_sealed_to_its_host_travels_unopened_and_sealed_anew_restarts_nobody() {
    let mut sample = Sample::new(API);
    sample.vault.travels = true;
    sample.vault.revision = Some("r1".into());
    let desired = sample.desired();
    assert!(!desired.slice.secrets.is_empty());
    sample.settle(&desired);
    // Sealed anew, to others maybe: the file is another one, its content is not.
    sample.vault.sealing += 1;
    assert!(plan(&sample).is_empty(), "{}", short(&plan(&sample)));
    // Whoever can open it sees the same.
    sample.vault.travels = false;
    assert!(plan(&sample).is_empty(), "{}", short(&plan(&sample)));
    // The value is another one.
    sample.vault.travels = true;
    sample.vault.sealing += 1;
    sample.vault.revision = Some("r2".into());
    let changed = plan(&sample);
    let restart = Effect::Restart("api.service".parse().unwrap());
    assert!(changed.effects.contains(&restart), "{}", short(&changed));
    let opened = sample.vault.opened.lock().unwrap().len();
    assert_eq!(
        opened, 1,
        "only the plan of one who could not send it as it is"
    );
    // Where nobody keeps account, another file is another content.
    sample.settle(&sample.desired());
    sample.vault.revision = None;
    sample.vault.sealing += 1;
    assert!(plan(&sample).effects.contains(&restart));
}

#[test]
fn what_is_composed_of_travelling_secrets_is_composed_on_the_host() {
    let mut sample = Sample::new(&API.replace(
        r#"secrets = ["url"]"#,
        r#"secrets = [{ name = "token", as = "env" }, { name = "api.conf", as = "file", template = "api.conf" }]"#,
    ));
    sample.write(
        "templates/api.conf",
        "host = {{ host.name }}\npassword = {{ secret_value('url') }}\n",
    );
    let composed = |sample: &Sample| {
        let desired = sample.desired();
        let secrets = desired.slice.secrets.values().next().unwrap().clone();
        let text = |name: &str| desired.texts[&secrets[name].sealed].0.clone();
        (text("api.conf"), text("environment"))
    };
    sample.vault.travels = true;
    let (file, environment) = composed(&sample);
    let pieces = Bundle::decode(&file).unwrap().unwrap().pieces;
    assert_eq!(pieces[0], Piece::Text("host = web1\npassword = ".into()));
    assert!(matches!(
        &pieces[1],
        Piece::Sealed {
            form: Form::Inline,
            ..
        }
    ));
    let pieces = Bundle::decode(&environment).unwrap().unwrap().pieces;
    assert!(
        matches!(&pieces[..], [Piece::Sealed { form: Form::Variable(name), .. }] if name == "TOKEN")
    );
    assert!(sample.vault.opened.lock().unwrap().is_empty());

    // Opened here, the same is composed here and sealed.
    sample.vault.travels = false;
    let (file, _) = composed(&sample);
    let whole = format!("host = web1\npassword = {CANARY}url\n");
    let sealed = format!("sealed {} 0", Digest::of(whole));
    assert_eq!(String::from_utf8(file).unwrap(), sealed);
    // A template that changes is a change of the file.
    let settled = sample.desired();
    sample.settle(&settled);
    assert!(plan(&sample).is_empty());
    sample.write(
        "templates/api.conf",
        "password = {{ secret_value('url') }}\n",
    );
    assert!(!plan(&sample).secrets.is_empty());
}

#[test]
fn no_secret_is_in_anything_that_can_be_shown() {
    let sample = Sample::new(&API.replace(
        r#"secrets = ["url"]"#,
        r#"secrets = ["url", { name = "token", as = "env" }, { name = "tls", as = "file" }]"#,
    ));
    let desired = sample.desired();
    let plan = HostPlan::new(&sample.hello, &desired, 22);
    assert_eq!(
        sample.vault.opened.lock().unwrap().len(),
        3,
        "all were opened"
    );
    let stage = desired.stage(&sample.hello, Provenance::default(), 22);
    let texts = desired
        .texts
        .values()
        .map(|text| String::from_utf8_lossy(&text.0).into_owned());
    let shown = [
        format!("{desired:?}"),
        format!("{plan:?}"),
        serde_json::to_string(&plan).unwrap(),
        format!("{stage:?}"),
        serde_json::to_string(&stage.slice).unwrap(),
    ];
    for text in texts.chain(shown) {
        assert!(!text.contains(CANARY), "{text}");
    }
}

#[test]
fn a_port_of_sshd_that_the_firewall_does_not_know_yet_is_let_in() {
    let mut sample = settled("[firewall]\nallow = [\"http\"]\n");
    assert!(plan(&sample).is_empty());
    sample.hello.facts.ssh_ports.insert(2222);
    let changed = plan(&sample);
    assert_eq!(changed.ways_in, [2222].into());
    assert!(changed.is_risky() && changed.effects == [Effect::LoadFirewall]);
}

#[test]
fn the_port_that_a_push_comes_in_by_changes_whosever_firewall_it_is_and_the_plan_says_so() {
    let mut sample = settled("[firewall]\nallow = [\"http\"]\n");
    let placed = sample.hello.manifest.slices.pop_first().unwrap().1;
    let host = push_wire::manifest::HOST_SLICE.parse().unwrap();
    sample.hello.manifest.slices.insert(host, placed);
    let mut desired = sample.desired();
    desired.slice.firewall = None;
    sample.settle(&desired);
    let through = |sample: &Sample, port| HostPlan::new(&sample.hello, &desired, port);
    assert!(through(&sample, 22).is_empty());
    let opened = through(&sample, 2222);
    assert_eq!(opened.ways_in, [2222].into());
    assert!(opened.is_risky() && opened.effects == [Effect::LoadFirewall]);
    // And the host closes what nobody comes in by any more.
    sample.hello.manifest.ways_in.insert(2222);
    let closed = through(&sample, 22);
    assert_eq!(closed.ways_closed, [2222].into());
    assert!(closed.is_risky() && closed.effects == [Effect::LoadFirewall]);
    // Where no slice declares a firewall, there is none to change.
    sample.hello.manifest.slices.clear();
    sample.settle(&desired);
    assert!(through(&sample, 2222).is_empty());
}

#[test]
fn a_kernel_parameter_is_told_to_outlast_the_file_that_set_it() {
    let declared = "[files.\"/etc/sysctl.d/60-net.conf\"]\ncontent = \"net.ipv4.ip_forward = 1\\n\"\non_change = \"sysctl\"\n";
    let mut sample = Sample::new(declared);
    let told = |plan: &HostPlan| -> Vec<String> {
        plan.forward_only.iter().map(ToString::to_string).collect()
    };
    let desired = sample.desired();
    let plan = HostPlan::new(&sample.hello, &desired, 22);
    assert_eq!(
        told(&plan),
        ["kernel parameters of /etc/sysctl.d/60-net.conf stay set until a boot"]
    );
    sample.settle(&desired);
    assert!(told(&HostPlan::new(&sample.hello, &desired, 22)).is_empty());
}

#[test]
fn a_certificate_is_not_taken_back_and_needs_a_host_that_bootstrap_has_prepared() {
    let mut sample = Sample::new(&format!("{CERTIFIED}server_name = \"api.example.com\""));
    sample.hello.facts.nginx = Some("1.22.1".into());
    let refusals = plan(&sample).refusals;
    let [refusal @ Refusal::Unprepared(_)] = refusals.as_slice() else {
        panic!("{refusals:?}");
    };
    assert!(refusal.help().contains("push bootstrap"));
    let fleet = sample.fleet();
    let prepared = crate::desired::member(&crate::desired::MemberInput {
        bootstrap: fleet.bootstrap.as_ref().unwrap(),
        engine: &crate::template::Engine::built_in(),
        fleet: &fleet,
        host: fleet.hosts.values().next().unwrap(),
        verbatim: &BTreeMap::new(),
    });
    sample.settle(&prepared.unwrap());
    let wanted = sample.desired().slice.groundwork.certificates;
    let lacking = wanted.into_iter().map(Work::Certificate).collect();
    let plan = plan(&sample).on_groundwork(&lacking);
    assert!(!plan.is_refused(), "{:?}", plan.refusals);
    let kept: Vec<String> = plan.forward_only.iter().map(ToString::to_string).collect();
    let certificate = "certificate for api.example.com from acme-staging-v02.api.letsencrypt.org";
    assert!(kept.contains(&certificate.to_owned()), "{kept:?}");
}

#[test]
fn an_empty_slice_removes_the_project() {
    let sample = settled(API);
    let mut desired = sample.desired();
    desired.slice = Slice::default();
    let plan = HostPlan::new(&sample.hello, &desired, 22);
    assert!(plan.releases["api"].is_removed());
    assert!(
        plan.effects
            .contains(&Effect::Stop("api.service".parse().unwrap()))
    );
}
