//! Golden cases: inventory text and facts in, texts of the host out.

use super::sample::{CERTIFIED, Sample, text};
use push_wire::manifest::Runs;

const API: &str = r#"
[apps.api]
on = "web1"
source = "app"
env = { REGION = "{{ host.vars.region }}", ODD = "100% $HOME \"q\" \\ x" }
secrets = ["url", { name = "token", as = "env" }]
shared = ["data"]
[apps.api.service]
exec = "{{ release.dir }}/app --port 8080"
memory_max = "512M"
stop_timeout = "30s"
[apps.api.health]
http = "http://127.0.0.1:8080/health"
"#;

#[test]
fn a_service_is_rendered_with_everything_that_surrounds_it() {
    insta::assert_snapshot!(Sample::new(API).text("unit api.service"));
}

#[test]
fn a_job_has_a_timer_and_is_not_started_by_a_push() {
    let sample = Sample::new(
        r#"
        [apps.clean]
        on = "web1"
        source = "app"
        [apps.clean.service]
        exec = "{{ release.dir }}/app"
        [apps.clean.timer]
        on_calendar = "daily"
        "#,
    );
    let desired = sample.desired();
    insta::assert_snapshot!(text(&desired, "unit clean.timer"));
    let job = &desired.slice.units["clean.service"];
    assert_eq!(job.runs, Runs::OnDemand);
    assert!(job.wanted_by.is_empty());
    assert_eq!(desired.slice.units["clean.timer"].runs, Runs::Always);
    assert!(text(&desired, "unit clean.service").contains("Type=oneshot\n"));
}

#[test]
fn a_program_that_ends_may_take_as_long_as_it_takes_unless_a_bound_is_written() {
    let bound = |service: &str| {
        let service =
            format!("[apps.api.service]\nexec = \"{{{{ release.dir }}}}/app\"\n{service}");
        let text = api(&service).text("unit api.service");
        let mut bounds = text
            .lines()
            .filter_map(|line| line.strip_prefix("TimeoutStartSec="));
        bounds.next().unwrap().to_owned()
    };
    let timer = "\n[apps.api.timer]\non_calendar = \"daily\"\n";
    assert_eq!(bound(timer), "infinity");
    assert_eq!(bound("type = \"oneshot\"\n"), "infinity");
    assert_eq!(bound(&format!("start_timeout = \"2h\"\n{timer}")), "7200s");
    assert_eq!(bound(""), "60s");
    assert_eq!(bound(&format!("type = \"exec\"\n{timer}")), "60s");
}

#[test]
fn a_socket_stays_open_across_releases() {
    let sample = api(r#"
        [apps.api.service]
        exec = "{{ release.dir }}/app"
        type = "notify"
        [apps.api.socket]
        listen = [8080, "/run/api.sock"]
        "#);
    let desired = sample.desired();
    insta::assert_snapshot!(text(&desired, "unit api.socket"));
    let socket = &desired.slice.units["api.socket"];
    assert_eq!(socket.on_release, push_wire::manifest::OnRelease::Nothing);
    assert!(text(&desired, "unit api.service").contains("Requires=api.socket\n"));
}

const SITE: &str = r#"
[apps.api]
on = "web1"
source = "app"
[apps.api.service]
exec = "{{ release.dir }}/app"
[apps.api.site]
server_name = ["api.example.com", "www.example.com"]
tls = { certificate = "tls", key = "tls" }
headers = { X-Frame-Options = "DENY" }
body_max = "10M"
[[apps.api.site.locations]]
path = "/"
proxy = "http://127.0.0.1:8080"
websockets = true
[[apps.api.site.locations]]
path = "/static"
root = "public"
[[apps.api.site.locations]]
path = "/v1"
proxy = "http://127.0.0.1:8081"
strip_prefix = true
basic_auth = "htpasswd"
[[apps.api.site.locations]]
path = "/old/"
redirect = "https://new.example.com"
keep_path = true
[[apps.api.site.locations]]
path = "/ping"
exact = true
respond = 200
respond_body = "pong; }"
"#;

#[test]
fn a_site_tells_every_name_in_every_place_that_nginx_answers_to() {
    let site = "[apps.api]\non = \"web1\"\nsource = \"app\"\n[apps.api.site]\n\
                server_name = [\"A.example\", \"*.b.example\"]\nhttp = [80, \"10.0.0.1:8080\"]\n\
                proxy = \"http://127.0.0.1:1\"\n";
    let desired = Sample::new(site).desired();
    let told: Vec<String> = desired.slice.answers["api"]
        .iter()
        .map(|answer| format!("{} at {}", answer.name, answer.at))
        .collect();
    assert_eq!(
        told,
        [
            "*.b.example at 10.0.0.1:8080",
            "*.b.example at 80",
            "a.example at 10.0.0.1:8080",
            "a.example at 80"
        ]
    );
}

#[test]
fn a_site_is_rendered_with_every_kind_of_location() {
    insta::assert_snapshot!(Sample::new(SITE).text("site api"));
}

#[test]
fn an_exact_location_takes_the_place_that_a_prefix_of_the_same_path_would_have() {
    let site = "[apps.api]\non = \"web1\"\n[apps.api.site]\nserver_name = \"api.example.com\"\n";
    let prefix = "[[apps.api.site.locations]]\npath = \"/api\"\nproxy = \"http://127.0.0.1:1\"\n";
    let exact = "[[apps.api.site.locations]]\npath = \"/api\"\nexact = true\nrespond = 204\n";
    for listed in [[prefix, exact], [exact, prefix]] {
        let text = Sample::new(&format!("{site}{}", listed.concat())).text("site api");
        assert_eq!(text.matches("location = \"/api\" {").count(), 1, "{text}");
        assert_eq!(text.matches("location \"/api/\" {").count(), 1, "{text}");
        let (_, own) = text.split_once("location = \"/api\" {").unwrap();
        let (own, _) = own.split_once('}').unwrap();
        assert!(own.contains("return 204;"), "{text}");
    }
}

#[test]
fn a_header_of_a_location_wins_over_the_site_s_however_its_name_is_spelled() {
    let site = "[apps.api]\non = \"web1\"\n[apps.api.site]\nserver_name = \"api.example.com\"\n\
                headers = { Cache-Control = \"no-store\", X-Frame-Options = \"DENY\" }\n\
                [[apps.api.site.locations]]\npath = \"/\"\nrespond = 204\n\
                headers = { cache-control = \"public\" }\n";
    let text = Sample::new(site).text("site api");
    let (_, location) = text.split_once("location \"/\" {").unwrap();
    assert!(!location.contains("Cache-Control"), "{text}");
    assert!(location.contains("cache-control \"public\""), "{text}");
    assert!(location.contains("X-Frame-Options"), "{text}");
}

#[test]
fn a_redirect_to_https_leads_to_a_place_that_others_reach() {
    for (https, led) in [
        ("[443, \"[::1]:8443\"]", "https://$host$request_uri"),
        ("[\"[::1]:8443\", 443]", "https://$host$request_uri"),
        ("[8443, 443]", "https://$host$request_uri"),
        (
            "[\"127.0.0.1:443\", 8443]",
            "https://$host:8443$request_uri",
        ),
        ("[\"127.0.0.1:8443\"]", "https://$host:8443$request_uri"),
    ] {
        let site = SITE.replace("tls = {", &format!("https = {https}\ntls = {{"));
        let text = Sample::new(&site).text("site api");
        assert!(text.contains(led), "{https}: {text}");
    }
}

#[test]
fn http2_is_written_as_each_nginx_reads_it() {
    let mut sample = Sample::new(SITE);
    assert!(sample.text("site api").contains("listen 443 ssl http2;"));
    sample.hello.facts.nginx = Some("1.26.3".into());
    let text = sample.text("site api");
    assert!(text.contains("listen 443 ssl;") && text.contains("http2 on;"));
}

#[test]
fn a_site_with_an_authority_names_its_certificate_and_answers_challenges_without_tls_only() {
    let certified = |more: &str| Sample::new(&format!("{CERTIFIED}{more}"));
    let sample = certified("server_name = [\"api.example.com\", \"{{ host.name }}.example.com\"]");
    let desired = sample.desired();
    let certificate = desired.slice.groundwork.certificates.first().unwrap();
    assert_eq!(
        certificate.to_string(),
        "certificate for api.example.com, web1.example.com from acme-staging-v02.api.letsencrypt.org"
    );
    let text = sample.text("site api");
    let chain = format!("ssl_certificate \"{}\";", certificate.chain());
    assert!(text.contains(&chain), "{text}");
    let folder = push_wire::certificate::CHALLENGES
        .rsplit_once('/')
        .unwrap()
        .0;
    let include = format!("include {folder}/*.conf;");
    let servers: Vec<&str> = text.split("server {").skip(1).collect();
    let answers: Vec<bool> = servers.iter().map(|it| it.contains(&include)).collect();
    assert_eq!(answers, [true, false], "{text}");
    // Other names are another certificate, so that what is taken back still has its own.
    let other = certified("server_name = \"api.example.com\"").desired();
    let other = other.slice.groundwork.certificates.first().unwrap();
    assert_ne!(other.chain(), certificate.chain());
    // A site without TLS answers as well: its first certificate comes while it is still that.
    let plain = Sample::new(&SITE.replace("tls = {", "#")).text("site api");
    assert!(plain.contains(&include), "{plain}");
}

/// What must arrive as it is, or be refused: never be read as anything else.
const HOSTILE: &[&str] = &[
    "plain",
    "",
    " ",
    " lead and trail ",
    "a\tb",
    "a\nExecStartPre=/bin/sh -c id",
    "a\r\nX: y",
    "%d %h %% %",
    "$HOME ${HOME} $$ $",
    "\\",
    "ends in \\",
    "\\n \\x41 \\101",
    "'",
    "\"",
    "a' 'b",
    "a\" \"b",
    "; reboot",
    ";",
    "}",
    "} server { listen 81; }",
    "# no comment",
    "include /etc/passwd;",
    "-",
    "-rf",
    "@x",
    "+x",
    "!!x",
    "é ü \u{202e} \u{2028} 漢字 🦀",
    "\u{1b}[31m",
    "\u{7f}",
    "\u{85}",
    "\u{0}",
    "\u{feff}",
    "`id`",
    "$(id)",
    "&&",
    "|",
    "<x>",
    "~",
    "*",
    "?",
    "[a]",
    "\\\"; proxy_pass http://evil; \\\"",
];

fn toml(value: &str) -> String {
    ::toml::Value::String(value.to_owned()).to_string()
}

/// A unit as systemd reads it: the assignments of each section, in order.
fn unit(text: &str) -> Vec<(String, String)> {
    let mut section = String::new();
    let mut found = Vec::new();
    for line in text.split('\n') {
        assert!(!line.ends_with('\\'), "a continued line: {line:?}");
        let line = line.trim_matches([' ', '\t', '\r']);
        if line.is_empty() || line.starts_with(['#', ';']) {
            continue;
        }
        if line.starts_with('[') {
            line.clone_into(&mut section);
            continue;
        }
        let (key, value) = line.split_once('=').unwrap();
        found.push((format!("{section}{key}"), value.to_owned()));
    }
    found
}

/// `extract_first_word` with EXTRACT_UNQUOTE and EXTRACT_CUNESCAPE, over a whole value.
fn words(value: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<Vec<u8>> = None;
    let mut quote = None;
    let mut rest = value.chars();
    while let Some(c) = rest.next() {
        match (c, quote) {
            ('\\', _) => {
                let bytes = word.get_or_insert_default();
                match rest.next().unwrap() {
                    'n' => bytes.push(b'\n'),
                    't' => bytes.push(b'\t'),
                    'r' => bytes.push(b'\r'),
                    'x' => {
                        let hex: String = [rest.next().unwrap(), rest.next().unwrap()]
                            .iter()
                            .collect();
                        bytes.push(u8::from_str_radix(&hex, 16).unwrap());
                    }
                    same @ ('"' | '\\' | '\'') => bytes.push(same as u8),
                    other => panic!("an escape that systemd does not know: {other:?}"),
                }
            }
            (c, Some(open)) if c == open => quote = None,
            ('"' | '\'', None) => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (' ' | '\t', None) => words.extend(word.take()),
            (c, _) => word
                .get_or_insert_default()
                .extend(c.encode_utf8(&mut [0; 4]).bytes()),
        }
    }
    assert_eq!(quote, None, "a quote that is not closed: {value}");
    words.extend(word);
    words
        .into_iter()
        .map(|bytes| String::from_utf8(bytes).unwrap())
        .collect()
}

/// What doubled specifiers (and variables) come to; a single one would be expanded.
fn literal(text: &str, doubled: &[char]) -> String {
    let mut out = String::new();
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        if doubled.contains(&c) {
            assert_eq!(rest.next(), Some(c), "expanded by systemd: {text:?}");
        }
        out.push(c);
    }
    out
}

/// The sample with one app on web1 that declares `rest` as well.
fn api(rest: &str) -> Sample {
    let head = "[apps.api]\non = \"web1\"\nsource = \"app\"\n";
    Sample::new(&format!("{head}{rest}"))
}

/// The sample with `value` in every place of a service that takes a free text.
fn service_with(value: &str) -> Sample {
    let value = toml(value);
    api(&format!(
        r#"
        env = {{ HOSTILE = {value} }}
        [apps.api.service]
        exec = ["{{{{ release.dir }}}}/app", {value}, "last"]
        "#
    ))
}

fn assert_service_carries(value: &str) {
    let sample = service_with(value);
    let Some(desired) = sample.accepted() else {
        return; // Refused by the inventory, with its place.
    };
    let text = text(&desired, "unit api.service");
    let keys =
        |unit: &[(String, String)]| unit.iter().map(|(key, _)| key.clone()).collect::<Vec<_>>();
    let found = unit(&text);
    let plain = unit(&service_with("plain").text("unit api.service"));
    assert_eq!(
        keys(&found),
        keys(&plain),
        "{value:?} adds or removes a directive"
    );
    for (key, rest) in &found {
        match key.as_str() {
            "[Service]Environment" => {
                let expected = format!("HOSTILE={value}");
                let read: Vec<_> = words(rest)
                    .iter()
                    .map(|word| literal(word, &['%']))
                    .collect();
                assert_eq!(read, [expected]);
            }
            "[Service]ExecStart" => {
                let read: Vec<_> = words(rest)
                    .iter()
                    .map(|word| literal(word, &['%', '$']))
                    .collect();
                assert_eq!(read[1..], [value, "last"]);
            }
            _ => {}
        }
    }
}

#[test]
fn a_hostile_value_reaches_the_service_exactly_or_is_refused() {
    for value in HOSTILE {
        assert_service_carries(value);
    }
    let carried = HOSTILE
        .iter()
        .filter(|value| service_with(value).accepted().is_some());
    assert!(
        carried.count() > HOSTILE.len() / 2,
        "most of it can be carried"
    );
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(60))]

    #[test]
    fn any_value_reaches_the_service_exactly_or_is_refused(value in "\\PC{0,12}[%$\\\\\"'; {}#=]{0,4}\\PC{0,6}") {
        assert_service_carries(&value);
    }
}

/// nginx's tokens: words, and the characters that structure them.
fn tokens(text: &str) -> Vec<String> {
    let mut all = Vec::new();
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            ' ' | '\t' | '\n' | '\r' => {}
            '#' => while rest.next_if(|c| *c != '\n').is_some() {},
            ';' | '{' | '}' => all.push(c.to_string()),
            '"' | '\'' => {
                let mut word = String::from("=");
                loop {
                    match rest.next().unwrap() {
                        '\\' => word.push(rest.next().unwrap()),
                        end if end == c => break,
                        inside => word.push(inside),
                    }
                }
                all.push(word);
            }
            first => {
                let mut word = String::from(first);
                while let Some(next) = rest.next_if(|c| !" \t\n\r;{}".contains(*c)) {
                    word.push(next);
                }
                all.push(word);
            }
        }
    }
    all
}

fn site_with(value: &str) -> Sample {
    let value = toml(value);
    api(&format!(
        r#"
        [apps.api.site]
        server_name = "a.example"
        headers = {{ X-Hostile = {value} }}
        [[apps.api.site.locations]]
        path = "/"
        respond = 200
        respond_body = {value}
        "#
    ))
}

#[test]
fn a_hostile_value_reaches_nginx_exactly_or_is_refused() {
    let plain = tokens(&site_with("plain").text("site api"));
    for value in HOSTILE {
        let sample = site_with(value);
        let Some(desired) = sample.accepted() else {
            continue;
        };
        let found = tokens(&text(&desired, "site api"));
        let expected: Vec<String> = plain
            .iter()
            .map(|token| token.replace("=plain", &format!("={value}")))
            .collect();
        assert_eq!(found, expected, "{value:?}");
        assert!(
            !value.contains('$'),
            "nginx would read a variable in {value:?}"
        );
    }
}

#[test]
fn a_hostile_name_of_a_server_or_path_of_a_location_is_refused_or_literal() {
    for value in HOSTILE {
        for place in ["server_name", "proxy", "root"] {
            let sample = Sample::new(&format!(
                "[apps.api]\non = \"web1\"\nsource = \"app\"\n[apps.api.site]\n{}{place} = {}\n",
                if place == "server_name" {
                    "proxy = \"http://127.0.0.1:1\"\n"
                } else {
                    "server_name = \"a.example\"\n"
                },
                toml(value)
            ));
            let Some(desired) = sample.accepted() else {
                continue;
            };
            // A token that starts with '=' was quoted, and is one word whatever it holds.
            for token in tokens(&text(&desired, "site api")) {
                let broken_out = token == "81" || token.contains("$HOME");
                assert!(!broken_out, "{value:?}: {token}");
            }
        }
    }
}

#[test]
fn a_program_cannot_be_a_prefix_of_systemd() {
    for program in [
        "-/bin/x", "@/bin/x", "+/bin/x", "!/bin/x", ":/bin/x", "|x", "bin/x", "./x", "$X", "/a/$X",
        "/a/../b",
    ] {
        let sample = Sample::new(&format!(
            "[apps.api]\non = \"web1\"\nsource = \"app\"\n[apps.api.service]\nexec = [{}]\n",
            toml(program)
        ));
        assert!(sample.accepted().is_none(), "{program}");
    }
}

#[test]
fn a_fixed_answer_cannot_pretend_to_be_behind_a_password() {
    let sample = Sample::new(
        r#"
        [apps.api]
        on = "web1"
        [apps.api.site]
        server_name = "a.example"
        [[apps.api.site.locations]]
        path = "/"
        respond = 200
        basic_auth = "htpasswd"
        "#,
    );
    assert!(sample.accepted().is_none());
}
