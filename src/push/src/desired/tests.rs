//! Golden cases: inventory text and facts in, texts of the host out.

use super::sample::{Sample, text};
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
fn a_socket_stays_open_across_releases() {
    let sample = Sample::new(
        r#"
        [apps.api]
        on = "web1"
        source = "app"
        [apps.api.service]
        exec = "{{ release.dir }}/app"
        type = "notify"
        [apps.api.socket]
        listen = [8080, "/run/api.sock"]
        "#,
    );
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
fn a_site_is_rendered_with_every_kind_of_location() {
    insta::assert_snapshot!(Sample::new(SITE).text("site api"));
}

#[test]
fn http2_is_written_as_each_nginx_reads_it() {
    let mut sample = Sample::new(SITE);
    assert!(sample.text("site api").contains("listen 443 ssl http2;"));
    sample.hello.facts.nginx = Some("1.26.3".into());
    let text = sample.text("site api");
    assert!(text.contains("listen 443 ssl;") && text.contains("http2 on;"));
}
