//! Certificates from a real authority on real hosts: given, served, renewed, refused.

use std::fmt::Write as _;
use std::fs;
use std::net::Ipv4Addr;
use std::process::Command;
use std::time::Duration;

use push::rehearse::{Access, HostSpec, RehearsalHost};
use push_tests::authority::{Authority, REFUSED, Shown};
use push_tests::lab::{Lab, Said, eventually, says};

const SHORT: Duration = Duration::from_secs(20);

/// A site that wants a certificate for these names.
fn site(names: &str) -> String {
    format!(
        "[apps.shop.site]\nserver_name = [{names}]\nrespond = 200\nrespond_body = \"the shop\"\ntls = \"auto\"\n"
    )
}

/// A site of its own, which is served as the second line says.
fn blog(tls: &str) -> String {
    format!(
        "[apps.blog.site]\nserver_name = \"blog.example.com\"\nrespond = 200\nrespond_body = \"the blog\"\n{tls}\n"
    )
}

/// Fresh hosts with an authority beside them.
fn boot(hosts: usize) -> Option<(Lab, Authority)> {
    let specs: Vec<HostSpec> = (1..=hosts)
        .map(|n| HostSpec::fresh(format!("web{n}")).access(Access::Root))
        .collect();
    let lab = Lab::boot(&specs)?;
    let authority = Authority::beside(lab.host("web1"))?;
    lab.write("etc/authority.pem", fs::read(authority.vouchers()).unwrap());
    Some((lab, authority))
}

fn declare(lab: &Lab, authority: &Authority, sites: &str) {
    let mut out = "project = \"shop\"\n[ssh]\nuser = \"deploy\"\n".to_owned();
    for host in lab.fleet.hosts() {
        write!(
            out,
            "[hosts.{}]\naddress = \"{}\"\nport = {}\nhost_key = \"{}\"\nidentity = \"{}\"\n",
            host.name(),
            host.address(),
            host.port(),
            host.host_key(),
            host.identity().display()
        )
        .unwrap();
    }
    let identity = lab.fleet.hosts().first().unwrap().identity();
    let key = fs::read_to_string(identity.with_extension("pub")).unwrap();
    write!(
        out,
        "[bootstrap]\nkeys = [\"{}\"]\n[bootstrap.tls]\nemail = \"ops@example.com\"\nterms = \"agreed\"\n\
         endpoint = \"{}\"\nendpoint_ca = \"etc/authority.pem\"\n{sites}",
        key.trim(),
        authority.endpoint()
    )
    .unwrap();
    lab.write("inventory/prod.toml", out);
}

fn bootstrap(lab: &Lab) -> Said {
    lab.push(&["bootstrap", "prod", "--as", "root", "--yes"])
}

fn deploy(lab: &Lab) -> Said {
    lab.push(&["prod", "--yes"])
}

/// What a host answers without TLS, seen from outside.
fn plain(host: &RehearsalHost, name: &str) -> String {
    let said = Command::new("curl")
        .args(["-si", "-m", "5", "-H", &format!("Host: {name}")])
        .arg(format!("http://{}/x", host.address()))
        .output()
        .unwrap();
    String::from_utf8_lossy(&said.stdout).into_owned()
}

/// What a host shows for a name from now on: nginx has had a moment for its workers.
fn shows(seen: (&Authority, &RehearsalHost), name: &str, fits: impl Fn(&Shown) -> bool) -> Shown {
    let (authority, host) = seen;
    let mut last = None;
    eventually(&format!("a certificate for {name}"), SHORT, || {
        last = authority.shown(host, name);
        last.as_ref().is_some_and(&fits)
    });
    last.unwrap()
}

#[test]
fn a_site_is_given_a_certificate_by_a_real_authority_and_serves_each_renewal() {
    let Some((lab, authority)) = boot(1) else {
        return;
    };
    let host = lab.host("web1");
    let seen = (&authority, host);
    declare(&lab, &authority, &site("\"www.example.com\""));
    bootstrap(&lab).exits(0).says("certbot");
    deploy(&lab)
        .exits(0)
        .says("certificate for www.example.com");
    let first = shows(seen, "www.example.com", |_| true);
    assert_eq!(first.names, ["www.example.com"]);
    assert!(first.issuer.contains("Pebble Intermediate"), "{first:?}");
    let moved = plain(host, "www.example.com");
    assert!(moved.contains("https://www.example.com/x"), "{moved}");
    // Again: nothing is asked of anybody.
    deploy(&lab).exits(0).says("nothing to do");
    lab.push(&["bootstrap", "prod", "--yes"])
        .exits(0)
        .says("nothing to do");
    assert_eq!(shows(seen, "www.example.com", |_| true), first);

    // What the timer starts renews it, for it is valid for days only; nginx serves the new one by itself.
    assert_eq!(
        says(host, &["systemctl", "is-active", "certbot.timer"]),
        "active"
    );
    host.succeed(&["systemctl", "start", "certbot.service"])
        .unwrap();
    let renewed = shows(seen, "www.example.com", |shown| {
        shown.serial != first.serial
    });
    assert_eq!(renewed.names, first.names);
    deploy(&lab).exits(0).says("nothing to do");

    // A name more is another certificate, and going back is going back to the one that is still there.
    declare(
        &lab,
        &authority,
        &site("\"www.example.com\", \"shop.example.com\""),
    );
    deploy(&lab).exits(0).says("shop.example.com");
    let both = shows(seen, "shop.example.com", |_| true);
    assert_eq!(both.names, ["shop.example.com", "www.example.com"]);
    lab.push(&["rollback", "prod", "--yes"]).exits(0);
    let back = shows(seen, "www.example.com", |shown| {
        shown.serial == renewed.serial
    });
    assert_eq!(back, renewed);
}

#[test]
fn a_site_that_is_served_already_keeps_being_served_while_it_gets_its_first_certificate() {
    let Some((lab, authority)) = boot(1) else {
        return;
    };
    let host = lab.host("web1");
    let both = |tls: &str| site("\"www.example.com\"") + &blog(tls);
    declare(&lab, &authority, &both("default = true"));
    bootstrap(&lab).exits(0);
    deploy(&lab).exits(0);
    assert!(plain(host, "blog.example.com").ends_with("the blog"));
    let other = plain(host, "else.example.com");
    assert!(
        other.ends_with("the blog"),
        "it is the default site: {other}"
    );
    declare(&lab, &authority, &both("default = true\ntls = \"auto\""));
    deploy(&lab)
        .exits(0)
        .says("certificate for blog.example.com");
    shows((&authority, host), "blog.example.com", |_| true);
    shows((&authority, host), "www.example.com", |_| true);
    // The host keeps one for each, and renews both.
    let kept = says(host, &["ls", "/etc/letsencrypt/renewal"]);
    assert_eq!(kept.lines().count(), 2, "{kept}");
}

#[test]
fn an_authority_that_refuses_stops_the_push_on_every_host_before_anything_is_switched() {
    let Some((lab, authority)) = boot(2) else {
        return;
    };
    for host in lab.fleet.hosts() {
        authority.leads(&format!("{}.example.com", host.name()), host.address());
    }
    let sites = site("\"{{ host.name }}.example.com\"");
    declare(&lab, &authority, &sites);
    bootstrap(&lab).exits(0);
    let places = || -> Vec<String> {
        let hosts = lab.fleet.hosts().iter();
        hosts
            .map(|host| says(host, &["readlink", "/etc/push/current"]))
            .collect()
    };
    let before = places();
    // This name leads to where nothing answers.
    let [a, b, c, _] = lab.host("web2").address().octets();
    authority.leads("web2.example.com", Ipv4Addr::new(a, b, c, 1));
    deploy(&lab)
        .exits(9)
        .says("no certificate for web2.example.com")
        .says("connection refused")
        .says("DNS");
    assert_eq!(places(), before, "nothing is switched anywhere");
    assert!(
        authority
            .shown(lab.host("web1"), "web1.example.com")
            .is_none()
    );
    // Put right, the same push goes on where it stopped.
    authority.leads("web2.example.com", lab.host("web2").address());
    deploy(&lab).exits(0);
    for host in lab.fleet.hosts() {
        let name = format!("{}.example.com", host.name());
        let shown = shows((&authority, host), &name, |_| true);
        assert_eq!(shown.names, [name]);
    }
    deploy(&lab).exits(0).says("nothing to do");
    // What the authority will not have at all is told in its words, too.
    let before = places();
    declare(&lab, &authority, &site(&format!("\"{REFUSED}\"")));
    deploy(&lab).exits(9).says("rejectedIdentifier");
    assert_eq!(places(), before);
}
