//! What a push lets in and serves: nginx on both suites of Debian, and the firewall as it is from outside.

use std::net::{IpAddr, SocketAddr, TcpStream};
use std::process::Command;
use std::time::Duration;

use push::rehearse::{HostSpec, RehearsalHost, Suite};
use push_tests::lab::{Lab, property, says};

/// How long a connection that is let in may take; one that is dropped takes longer than any.
const CONNECT_WITHIN: Duration = Duration::from_millis(1500);

/// A server on a port, and a site of the same app from its keys.
fn site(app: &str, port: u16, keys: &str) -> String {
    format!(
        r#"
[apps.{app}]
on = "web"
source = "tree"
env = {{ PORT = "{port}" }}


[apps.{app}.service]
exec = "{{{{ release.dir }}}}/everyday"
type = "notify"

[apps.{app}.health]
tcp = "127.0.0.1:{port}"
interval = "100ms"
quiet = "200ms"

[apps.{app}.site]
server_name = ["{app}.example.com"]
{keys}
"#
    )
}

/// A project whose one source is a program with pages beside it.
fn with_tree(lab: &Lab) {
    lab.write("tree/public/index.html", "the index");
    lab.write("tree/public/a b.txt", "two words");
    std::fs::copy(lab.path("bin/everyday"), lab.path("tree/everyday")).unwrap();
}

/// What curl on the host is answered for a URL whose name is the host's own.
fn curl(host: &RehearsalHost, arguments: &[&str]) -> String {
    let mut argv = vec![
        "curl",
        "-sk",
        "-i",
        "-m",
        "5",
        "--connect-to",
        "::127.0.0.1:",
    ];
    argv.extend(arguments);
    host.run(&argv).unwrap().stdout
}

fn openssl(arguments: &[&str]) -> String {
    let output = Command::new("openssl").args(arguments).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

fn both_suites() -> Option<Lab> {
    let lab = Lab::boot(&[
        HostSpec::named("web1"),
        HostSpec::named("web2").suite(Suite::Trixie),
    ])?;
    with_tree(&lab);
    Some(lab)
}

/// A site with every kind of location.
const LOCATIONS: &str = r#"
proxy = "http://127.0.0.1:8080"
websockets = true
headers = { X-Frame-Options = "DENY; \"q\" }" }
body_max = "10k"

[[apps.api.site.locations]]
path = "/files/"
root = "public"
headers = { X-Of = "files" }

[[apps.api.site.locations]]
path = "/v1"
proxy = "http://127.0.0.1:8080"
strip_prefix = true
body_max = "100k"

[[apps.api.site.locations]]
path = "/old/"
redirect = "https://new.example.com"
keep_path = true

[[apps.api.site.locations]]
path = "/ping"
exact = true
respond = 203
respond_body = "pong; } é"
"#;

#[test]
fn a_site_proxies_serves_files_and_redirects_as_declared() {
    let Some(lab) = both_suites() else { return };
    lab.deploys(&site("api", 8080, LOCATIONS));
    lab.write("body", vec![b'x'; 20 << 10]);
    let body = std::fs::read(lab.path("body")).unwrap();
    for host in lab.fleet.hosts() {
        proxies(host);
        serves_files(host);
        answers(host);
        host.write("/tmp/body", &body, 0o644).unwrap();
        says(host, &["chmod", "644", "/tmp/body"]);
        assert!(
            curl(
                host,
                &["--data-binary", "@/tmp/body", "http://api.example.com/"]
            )
            .contains(" 413 ")
        );
        assert!(
            !curl(
                host,
                &["--data-binary", "@/tmp/body", "http://api.example.com/v1/"]
            )
            .contains(" 413 ")
        );
    }
}

/// What is passed on carries who asked, for what, and how.
fn proxies(host: &RehearsalHost) {
    let root = curl(
        host,
        &[
            "-H",
            "X-Forwarded-For: 192.0.2.7",
            "-H",
            "Upgrade: websocket",
            "-H",
            "Connection: upgrade",
            "http://api.example.com/deep/path?q=1&r=%20",
        ],
    );
    for line in [
        "GET /deep/path?q=1&r=%20 HTTP/1.1",
        "Host: api.example.com",
        "X-Real-IP: 127.0.0.1",
        "X-Forwarded-For: 192.0.2.7, 127.0.0.1",
        "X-Forwarded-Proto: http",
        "Upgrade: websocket",
        "Connection: upgrade",
        "X-Frame-Options: DENY; \"q\" }",
    ] {
        assert!(
            root.contains(line),
            "{}: {line} is not in {root}",
            host.name()
        );
    }
}

/// Files come from the release, and nothing beside their folder does.
fn serves_files(host: &RehearsalHost) {
    let files = curl(host, &["http://api.example.com/files/a%20b.txt"]);
    assert!(
        files.contains("200 OK") && files.ends_with("two words"),
        "{files}"
    );
    assert!(
        files.contains("X-Of: files") && files.contains("X-Frame-Options: DENY"),
        "{files}"
    );
    assert!(curl(host, &["http://api.example.com/files/"]).ends_with("the index"));
    assert!(
        curl(
            host,
            &["--path-as-is", "http://api.example.com/files../everyday"]
        )
        .contains("GET /files../everyday")
    );
    assert!(curl(host, &["http://api.example.com/files/none"]).contains(" 404 "));
}

/// Prefixes, redirects and fixed answers.
fn answers(host: &RehearsalHost) {
    assert!(curl(host, &["http://api.example.com/v1/users?x"]).contains("GET /users?x HTTP/1.1"));
    assert!(curl(host, &["http://api.example.com/v1"]).contains("GET / HTTP/1.1"));
    assert!(curl(host, &["http://api.example.com/v10"]).contains("GET /v10 HTTP/1.1"));
    let old = curl(host, &["http://api.example.com/old/page?x=1"]);
    assert!(
        old.contains(" 308 ") && old.contains("Location: https://new.example.com/old/page?x=1"),
        "{old}"
    );
    let ping = curl(host, &["http://api.example.com/ping"]);
    assert!(
        ping.contains(" 203 ") && ping.ends_with("pong; } é"),
        "{ping}"
    );
}

#[test]
fn passwords_and_tls_come_from_secrets() {
    let Some(lab) = both_suites() else { return };
    seal_certificate(&lab);
    seal_password(&lab, "open sesame");
    let keys = r#"
proxy = "http://127.0.0.1:8080"
tls = { certificate = "tls-cert", key = "tls-key" }

[[apps.api.site.locations]]
path = "/private"
proxy = "http://127.0.0.1:8080"
basic_auth = "htpasswd"
"#;
    lab.deploys(&site("api", 8080, keys));
    for host in lab.fleet.hosts() {
        let plain = curl(host, &["http://api.example.com/x"]);
        assert!(
            plain.contains(" 301 ") && plain.contains("Location: https://api.example.com/x"),
            "{plain}"
        );
        let secure = curl(host, &["https://api.example.com/x"]);
        assert!(
            secure.contains("X-Forwarded-Proto: https"),
            "{}: {secure}",
            host.name()
        );
        assert!(
            secure.starts_with("HTTP/2 200"),
            "{}: {secure}",
            host.name()
        );
        let shown = host
            .run(&[
                "curl",
                "-vsk",
                "-o",
                "/dev/null",
                "--connect-to",
                "::127.0.0.1:",
                "https://api.example.com/",
            ])
            .unwrap();
        assert!(
            shown.stderr.contains("CN=api.example.com"),
            "{}",
            shown.stderr
        );
        assert!(curl(host, &["https://api.example.com/private/x"]).contains(" 401"));
        assert!(private(host, "ann:wrong").contains(" 401"));
        let known = private(host, "ann:open sesame");
        assert!(known.contains(" 200"), "{known}");
    }
    // Another password is a change that is in effect after the push, without a word about the old one.
    seal_password(&lab, "another");
    lab.push(&["prod", "--yes"]).exits(0);
    for host in lab.fleet.hosts() {
        assert!(private(host, "ann:open sesame").contains(" 401"));
        assert!(private(host, "ann:another").contains(" 200"));
    }
}

/// A self-signed certificate and its key, as secrets of the project.
fn seal_certificate(lab: &Lab) {
    let (key, certificate) = (lab.path("key.pem"), lab.path("certificate.pem"));
    openssl(&[
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-nodes",
        "-days",
        "2",
        "-subj",
        "/CN=api.example.com",
        "-keyout",
        key.to_str().unwrap(),
        "-out",
        certificate.to_str().unwrap(),
    ]);
    lab.secret("tls-key", &std::fs::read_to_string(key).unwrap());
    lab.secret("tls-cert", &std::fs::read_to_string(certificate).unwrap());
}

/// The password of the user `ann`, as a secret of the project.
fn seal_password(lab: &Lab, password: &str) {
    let hash = openssl(&["passwd", "-apr1", password]);
    lab.secret("htpasswd", &format!("ann:{hash}\n"));
}

/// What the private part of the site says to who comes with these credentials.
fn private(host: &RehearsalHost, credentials: &str) -> String {
    curl(
        host,
        &["-u", credentials, "https://api.example.com/private/x"],
    )
}

#[test]
fn nginx_is_reloaded_when_a_site_changed_and_only_then() {
    let Some(lab) = Lab::boot_plain(1) else {
        return;
    };
    with_tree(&lab);
    let host = lab.host("web1");
    let two = |mark: &str| {
        site("api", 8080, "proxy = \"http://127.0.0.1:8080\"")
            + &site(
                "blog",
                8081,
                &format!("root = \"public\"\nheaders = {{ X-Mark = \"{mark}\" }}"),
            )
    };
    lab.deploys(&two("one"));
    let workers = || says(host, &["pgrep", "-f", "nginx: worker process"]);
    let before = workers();
    // Another release of what is served from files, and of the program behind the proxy.
    lab.write("tree/public/index.html", "another index");
    lab.push(&["prod", "--yes"]).exits(0);
    assert_eq!(workers(), before, "nginx was reloaded for nothing");
    assert!(curl(host, &["http://blog.example.com/"]).ends_with("another index"));
    let started = property(host, "nginx.service", "InvocationID");
    lab.deploys(&two("two"));
    assert_ne!(workers(), before);
    assert_eq!(
        property(host, "nginx.service", "InvocationID"),
        started,
        "reloaded, not restarted"
    );
    assert!(curl(host, &["http://blog.example.com/"]).contains("X-Mark: two"));
    assert!(curl(host, &["http://api.example.com/x"]).contains("GET /x "));
    // A site that is gone from the inventory is served no more.
    lab.deploys(&site("api", 8080, "proxy = \"http://127.0.0.1:8080\""));
    assert!(!curl(host, &["http://blog.example.com/"]).contains("another index"));
}

#[test]
fn an_own_template_replaces_the_built_in_site() {
    let Some(lab) = both_suites() else { return };
    lab.write("templates/nginx/own", "server {\n    listen 80;\n    server_name{% for name in site.server_names %} {{ name }}{% endfor %};\n    return 200 \"own on {{ host.name }}\";\n}\n");
    lab.deploys(&site(
        "api",
        8080,
        "proxy = \"http://127.0.0.1:8080\"\ntemplate = \"nginx/own\"",
    ));
    for host in lab.fleet.hosts() {
        assert!(
            curl(host, &["http://api.example.com/"]).ends_with(&format!("own on {}", host.name()))
        );
    }
}

/// Whether a port of a host is open from the laptop. What is refused was let in.
fn lets_in(host: &RehearsalHost, port: u16) -> bool {
    let place = SocketAddr::new(IpAddr::V4(host.address()), port);
    match TcpStream::connect_timeout(&place, CONNECT_WITHIN) {
        Ok(_) => true,
        Err(error) => error.kind() == std::io::ErrorKind::ConnectionRefused,
    }
}

/// The address that a host sees the laptop come from.
fn laptop(host: &RehearsalHost) -> IpAddr {
    let socket = std::net::UdpSocket::bind("0.0.0.0:0").unwrap();
    socket.connect((host.address(), 9)).unwrap();
    socket.local_addr().unwrap().ip()
}

#[test]
fn the_firewall_lets_in_what_is_declared_and_nothing_else() {
    let Some(lab) = Lab::boot(&[
        HostSpec::named("web1"),
        HostSpec::named("web2").suite(Suite::Trixie),
    ]) else {
        return;
    };
    for host in lab.fleet.hosts() {
        for rule in [
            "add table inet other",
            "add chain inet other c",
            "add rule inet other c tcp dport 4444 counter accept",
        ] {
            says(host, &["nft", rule]);
        }
        assert!(lets_in(host, 9100), "without a firewall every port answers");
    }
    let laptop = laptop(lab.host("web1"));
    let firewall = |more: &str| {
        format!(
            "[firewall]\nallow = [\"ssh\", 8080, \"8100-8110\", \"5353/udp\", {{ port = 9100, from = \"{laptop}/32\" }}, {{ port = 9200, from = \"192.0.2.0/24\" }}, {{ port = 9300, from = \"2001:db8::/32\" }}{more}]\n"
        )
    };
    lab.deploys(&firewall(", 9400, { port = 9500, on = \"web2\" }"));
    for host in lab.fleet.hosts() {
        let second = host.name() == "web2";
        let expected = [
            (22, true),
            (8080, true),
            (8099, false),
            (8100, true),
            (8110, true),
            (8111, false),
            (9100, true),
            (9200, false),
            (9300, false),
            (9400, true),
            (9500, second),
            (80, false),
        ];
        for (port, open) in expected {
            assert_eq!(lets_in(host, port), open, "{} port {port}", host.name());
        }
        let table = says(host, &["nft", "list", "table", "inet", "push"]);
        assert!(
            table.contains("ip6 saddr 2001:db8::/32") && table.contains("icmpv6"),
            "{table}"
        );
        assert!(says(host, &["nft", "list", "table", "inet", "other"]).contains("tcp dport 4444"));
    }
    // A rule that is gone from the inventory is gone from the host.
    lab.deploys(&firewall(""));
    for host in lab.fleet.hosts() {
        assert!(
            !lets_in(host, 9400) && !lets_in(host, 9500) && lets_in(host, 8080),
            "{}",
            host.name()
        );
        assert!(says(host, &["nft", "list", "table", "inet", "other"]).contains("tcp dport 4444"));
    }
    // The operator's own way in stays open although no rule says so, and so does an empty set.
    lab.deploys("[firewall]\nallow = []\n");
    for host in lab.fleet.hosts() {
        assert!(lets_in(host, 22) && !lets_in(host, 8080), "{}", host.name());
    }
    lab.push(&["status", "prod"]).exits(0);
    // Without a firewall in the inventory there is none of push's on the host.
    lab.declares("");
    lab.push(&["prod", "--yes"]).exits(0);
    for host in lab.fleet.hosts() {
        assert!(lets_in(host, 8080), "{}", host.name());
        assert!(says(host, &["nft", "list", "table", "inet", "other"]).contains("tcp dport 4444"));
    }
}
