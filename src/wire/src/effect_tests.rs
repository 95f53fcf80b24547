use super::*;
use crate::digest::Digest;
use crate::firewall::{Firewall, Ping};
use crate::manifest::{App, File, Placed, Provenance, Secret, Slice, Text};
use crate::name::{ProjectName, UserName};

fn app(release: &str) -> App {
    App {
        release: release.parse().unwrap(),
        tree: Digest::of(release),
        size: 1,
        user: "api".parse().unwrap(),
        shared: BTreeSet::new(),
        ports: BTreeSet::new(),
        keep_releases: 5,
        health: None,
    }
}

fn unit(text: &str, runs: Runs, on_release: OnRelease) -> Unit {
    Unit {
        digest: Digest::of(text),
        app: "api".parse().unwrap(),
        wanted_by: BTreeSet::new(),
        runs,
        on_release,
    }
}

fn secret(content: &str, reader: Reader) -> Secret {
    let digest = Digest::of(content);
    Secret {
        sealed: digest,
        source: digest,
        fingerprint: digest,
        recipient: digest,
        owner: UserName::root(),
        reader,
    }
}

fn slice() -> Slice {
    let mut slice = Slice::default();
    slice.apps.insert("api".parse().unwrap(), app("r1"));
    slice.units.insert(
        "api.service".parse().unwrap(),
        unit("s", Runs::Always, OnRelease::Restart),
    );
    slice.units.insert(
        "api.socket".parse().unwrap(),
        unit("k", Runs::Always, OnRelease::Nothing),
    );
    slice.units.insert(
        "api-job.service".parse().unwrap(),
        unit("j", Runs::OnDemand, OnRelease::Nothing),
    );
    slice.sites.insert(
        "api".parse().unwrap(),
        Text {
            digest: Digest::of("site"),
        },
    );
    slice
}

fn manifest(slice: Slice) -> Manifest {
    let mut manifest = Manifest::empty();
    let project: ProjectName = "shop".parse().unwrap();
    manifest.slices.insert(
        project,
        Placed {
            slice,
            provenance: Provenance::default(),
        },
    );
    manifest
}

fn shown(from: Slice, to: Slice) -> Vec<String> {
    effects(&manifest(from), &manifest(to))
        .iter()
        .map(ToString::to_string)
        .collect()
}

#[test]
fn nothing_changed_runs_nothing() {
    assert_eq!(shown(slice(), slice()), [""; 0]);
}

#[test]
fn a_new_release_restarts_its_service_and_nothing_else() {
    let mut to = slice();
    to.apps.insert("api".parse().unwrap(), app("r2"));
    assert_eq!(shown(slice(), to), ["restart api.service"]);
}

#[test]
fn a_changed_socket_brings_its_service_back_up() {
    let mut to = slice();
    to.units.insert(
        "api.socket".parse().unwrap(),
        unit("k2", Runs::Always, OnRelease::Nothing),
    );
    assert_eq!(
        shown(slice(), to),
        [
            "reload systemd's units",
            "restart api.socket",
            "restart api.service"
        ]
    );
}

#[test]
fn what_is_applied_again_takes_hold_as_at_first_and_so_it_is_taken_back() {
    let mut again = slice();
    again.again = 1;
    assert_eq!(
        shown(slice(), again.clone()),
        shown(Slice::default(), slice())
    );
    assert_eq!(
        shown(again.clone(), slice()),
        shown(Slice::default(), slice())
    );
    // What goes with it goes.
    let mut less = again;
    less.units.remove("api.service");
    assert_eq!(
        shown(slice(), less),
        [
            "stop api.service",
            "reload systemd's units",
            "restart api.socket",
            "reload nginx"
        ]
    );
}

#[test]
fn what_another_project_declares_is_not_applied_again() {
    let of = |project: &str, again: u32| {
        let mut slice = Slice::default();
        let name = format!("{project}.service");
        let unit = unit("u", Runs::Always, OnRelease::Restart);
        slice.units.insert(name.parse().unwrap(), unit);
        slice.firewall = Some(Firewall::default());
        slice.again = again;
        let provenance = Provenance::default();
        (project.parse().unwrap(), Placed { slice, provenance })
    };
    let of_both = |again: u32| Manifest {
        slices: [of("shop", again), of("blog", 3)].into(),
        ..Manifest::empty()
    };
    assert_eq!(
        effects(&of_both(0), &of_both(1))
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>(),
        [
            "reload systemd's units",
            "load the firewall",
            "restart shop.service"
        ]
    );
}

#[test]
fn a_first_push_starts_everything_and_a_removal_stops_it() {
    assert_eq!(
        shown(Slice::default(), slice()),
        [
            "reload systemd's units",
            "restart api.socket",
            "restart api.service",
            "reload nginx"
        ]
    );
    assert_eq!(
        shown(slice(), Slice::default()),
        [
            "stop api.socket",
            "stop api-job.service",
            "stop api.service",
            "reload systemd's units",
            "reload nginx"
        ]
    );
}

#[test]
fn a_secret_tells_its_reader_and_nobody_else() {
    for (reader, told) in [
        (Reader::App, vec!["open secrets", "restart api.service"]),
        (
            Reader::AppStart,
            vec!["open secrets", "restart api.service"],
        ),
        (Reader::Nginx, vec!["open secrets", "reload nginx"]),
        (Reader::Nobody, vec!["open secrets"]),
    ] {
        let with = |content| {
            let mut slice = slice();
            let files = [("key".parse().unwrap(), secret(content, reader))].into();
            slice.secrets.insert("api".parse().unwrap(), files);
            slice
        };
        assert_eq!(shown(with("a"), with("b")), told);
        assert_eq!(shown(with("a"), with("a")), [""; 0]);
    }
}

#[test]
fn what_a_process_was_given_as_it_started_takes_a_restart_and_what_it_read_a_reload() {
    let with = |content, reader| {
        let mut slice = slice();
        let service = unit("s", Runs::Always, OnRelease::Reload);
        slice.units.insert("api.service".parse().unwrap(), service);
        let files = [("key".parse().unwrap(), secret(content, reader))].into();
        slice.secrets.insert("api".parse().unwrap(), files);
        slice
    };
    for (reader, told) in [
        (Reader::App, "reload api.service"),
        (Reader::AppStart, "restart api.service"),
    ] {
        assert_eq!(
            shown(with("a", reader), with("b", reader)),
            ["open secrets", told]
        );
    }
    let mut both = with("b", Reader::AppStart);
    both.apps.insert("api".parse().unwrap(), app("r2"));
    assert_eq!(
        shown(with("a", Reader::AppStart), both),
        ["open secrets", "restart api.service"]
    );
}

#[test]
fn what_runs_only_on_demand_from_now_on_is_stopped() {
    let mut to = slice();
    let job = unit("job", Runs::OnDemand, OnRelease::Nothing);
    to.units.insert("api.service".parse().unwrap(), job);
    assert_eq!(
        shown(slice(), to.clone()),
        ["stop api.service", "reload systemd's units"]
    );
    assert_eq!(
        shown(to, slice()),
        ["reload systemd's units", "restart api.service"]
    );
}

#[test]
fn a_file_that_goes_with_its_unit_tells_it_nothing() {
    for on_change in [OnChange::Restart, OnChange::Reload] {
        let mut from = slice();
        let file = File {
            digest: Digest::of("drop-in"),
            owner: UserName::root(),
            group: UserName::root(),
            mode: 0o644,
            on_change: on_change("api.service".parse().unwrap()),
        };
        from.files.insert("/etc/x".parse().unwrap(), file);
        let mut to = slice();
        to.units.remove("api.service");
        assert_eq!(
            shown(from, to),
            ["stop api.service", "reload systemd's units"]
        );
    }
}

#[test]
fn a_secret_sealed_anew_with_the_same_content_runs_nothing() {
    let (mut from, mut to) = (slice(), slice());
    let mut resealed = secret("a", Reader::App);
    resealed.sealed = Digest::of("another sealing");
    from.secrets.insert(
        "api".parse().unwrap(),
        [("key".parse().unwrap(), secret("a", Reader::App))].into(),
    );
    to.secrets.insert(
        "api".parse().unwrap(),
        [("key".parse().unwrap(), resealed)].into(),
    );
    assert_eq!(shown(from, to), [""; 0]);
}

#[test]
fn a_file_tells_who_reads_it_and_a_restart_covers_a_reload() {
    let with = |content: &str, on_change| {
        let mut slice = slice();
        let file = File {
            digest: Digest::of(content),
            owner: UserName::root(),
            group: UserName::root(),
            mode: 0o644,
            on_change,
        };
        slice.files.insert("/etc/x".parse().unwrap(), file);
        slice
    };
    let reload = OnChange::Reload("api.service".parse().unwrap());
    assert_eq!(
        shown(with("a", reload.clone()), with("b", reload.clone())),
        ["reload api.service"]
    );
    let mut to = with("b", reload.clone());
    to.apps.insert("api".parse().unwrap(), app("r2"));
    assert_eq!(shown(with("a", reload), to), ["restart api.service"]);
    assert_eq!(
        shown(slice(), with("a", OnChange::Sysctl)),
        ["set kernel parameters"]
    );
}

#[test]
fn the_system_s_own_firewall_is_loaded_before_push_s_which_it_flushes() {
    let mut from = slice();
    from.firewall = Some(Firewall {
        allow: BTreeSet::new(),
        ping: Ping::Answered,
        logins: crate::firewall::Logins::Unlimited,
    });
    let rules = File {
        digest: Digest::of("rules"),
        owner: UserName::root(),
        group: UserName::root(),
        mode: 0o644,
        on_change: OnChange::Reload("nftables.service".parse().unwrap()),
    };
    let mut to = from.clone();
    to.files
        .insert("/etc/nftables.d/x.nft".parse().unwrap(), rules);
    let reload = Effect::ReloadForeign("nftables.service".parse().unwrap());
    let expected = [reload, Effect::LoadFirewall];
    assert_eq!(
        effects(&manifest(from.clone()), &manifest(to.clone())),
        expected
    );
    assert_eq!(effects(&manifest(to), &manifest(from)), expected);
}
