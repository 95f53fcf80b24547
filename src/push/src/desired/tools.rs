//! What is rendered, as the real tools read it. A machine without a tool skips its tests, aloud.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::sample::{Sample, text};

/// How long nginx may take to listen.
const START_TIME_MAX: Duration = Duration::from_secs(10);

fn is_there(tool: &str) -> bool {
    let found = Command::new(tool)
        .arg("--version")
        .stderr(Stdio::null())
        .stdout(Stdio::null())
        .status()
        .or_else(|_| Command::new(tool).arg("-v").stderr(Stdio::null()).status())
        .is_ok();
    if !found {
        let _ = writeln!(std::io::stderr(), "skipped: {tool} is not installed");
    }
    found
}

const EVERYTHING: &str = r#"
[apps.api]
on = "web1"
source = "app"
env = { ODD = "100% $HOME \"q\" \\ ; é\n2" }
secrets = ["url", { name = "token", as = "env" }]
shared = ["data"]
[apps.api.service]
exec = ["/bin/true", "%d", "$HOME", "a b", "\"", "\\", ";", ""]
exec_before = ["/bin/true before"]
memory_max = "512M"
cpu_quota = "150%"
tasks_max = 10
open_files = 1000
state_dirs = ["api"]
writable = ["/var/cache"]
reload = "HUP"
low_ports = true
[apps.api.socket]
listen = [8080, "127.0.0.1:8081", "/run/api.sock"]
[apps.api.services.node]
exec = "/bin/true"
hardening = "node"
[apps.api.services.jvm]
exec = "/bin/true"
hardening = "jvm"
[apps.api.services.browser]
exec = "/bin/true"
hardening = "browser"
[apps.api.services.off]
exec = "/bin/true"
hardening = "off"
[apps.api.services.night]
exec = "/bin/true"
[apps.api.services.night.timer]
on_calendar = ["*-*-* 03:00:00", "Mon..Fri"]
randomized_delay = "5m"
"#;

#[test]
fn systemd_finds_nothing_wrong_with_what_is_rendered() {
    if !is_there("systemd-analyze") {
        return;
    }
    let desired = Sample::new(EVERYTHING).desired();
    let folder = tempfile::tempdir().unwrap();
    let mut files = Vec::new();
    for name in desired.slice.units.keys() {
        let path = folder.path().join(name.as_str());
        fs::write(&path, text(&desired, &format!("unit {name}"))).unwrap();
        files.push(path);
    }
    assert_eq!(files.len(), 8);
    let output = Command::new("systemd-analyze")
        .args(["verify", "--man=no"])
        .args(&files)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    let ours: Vec<&str> = said
        .lines()
        .filter(|line| line.contains("api") && !line.contains("push-recover"))
        .collect();
    assert!(ours.is_empty() && output.status.success(), "{said}");
}

#[test]
fn the_strict_profile_scores_what_it_promises() {
    if !is_there("systemd-analyze") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("api.service");
    let sample = Sample::new(
        "[apps.api]\non = \"web1\"\nsource = \"app\"\n[apps.api.service]\nexec = \"/bin/true\"\n",
    );
    fs::write(&path, sample.text("unit api.service")).unwrap();
    let output = Command::new("systemd-analyze")
        .args(["security", "--offline=yes", "--no-pager", "--threshold=15"])
        .arg(&path)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success(),
        "more exposed than 1.5: {}",
        said.lines().last().unwrap_or_default()
    );
}

/// nginx with a site and a server behind it, on ports of the loopback.
struct Nginx {
    child: Child,
    port: u16,
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // nginx's master stops its workers on SIGTERM; a kill would leave them.
        let id = rustix::process::Pid::from_child(&self.child);
        let _ = rustix::process::kill_process(id, rustix::process::Signal::TERM);
        let _ = self.child.wait();
    }
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
}

fn config(folder: &Path, site: &str, behind: u16) -> std::path::PathBuf {
    let dir = folder.display();
    let text = format!(
        "pid {dir}/nginx.pid; error_log stderr; worker_processes 1; user root;\n\
         events {{ worker_connections 64; }}\n\
         http {{ access_log off;\n\
         client_body_temp_path {dir}/body; proxy_temp_path {dir}/proxy; fastcgi_temp_path {dir}/f;\n\
         uwsgi_temp_path {dir}/u; scgi_temp_path {dir}/s;\n\
         server {{ listen 127.0.0.1:{behind}; location / {{ return 200 \"$request_uri $http_connection $http_x_forwarded_proto\"; }} }}\n\
         {site}\n}}\n"
    );
    let path = folder.join("nginx.conf");
    fs::write(&path, text).unwrap();
    path
}

impl Nginx {
    fn start(config: &Path, port: u16) -> Self {
        let child = Command::new("nginx")
            .arg("-c")
            .arg(config)
            .args(["-g", "daemon off;"])
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let nginx = Self { child, port };
        let deadline = Instant::now() + START_TIME_MAX;
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(Instant::now() < deadline, "nginx does not listen");
            std::thread::sleep(Duration::from_millis(20));
        }
        nginx
    }

    /// Status, location and body of an answer.
    fn get(&self, path: &str) -> String {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        write!(
            stream,
            "GET {path} HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n"
        )
        .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap();
        let leads = head
            .lines()
            .find_map(|line| line.strip_prefix("Location: "));
        let frame = head.lines().any(|line| line == "X-Frame-Options: DENY");
        assert!(frame, "every answer has the site's headers: {head}");
        format!("{status} {}", leads.unwrap_or(body))
    }
}

/// Every kind of location, with the folder of static files and the port behind.
fn locations(folder: &Path, port: u16, behind: u16) -> String {
    let root = folder.join("public");
    format!(
        r#"
        [apps.api]
        on = "web1"
        [apps.api.site]
        server_name = "a.example"
        http = "127.0.0.1:{port}"
        headers = {{ X-Frame-Options = "DENY" }}
        [[apps.api.site.locations]]
        path = "/"
        root = "{root}"
        fallback = "/index.html"
        [[apps.api.site.locations]]
        path = "/files"
        root = "{root}"
        [[apps.api.site.locations]]
        path = "/app/"
        root = "{root}"
        fallback = "/index.html"
        [[apps.api.site.locations]]
        path = "/keep"
        proxy = "http://127.0.0.1:{behind}"
        [[apps.api.site.locations]]
        path = "/strip"
        proxy = "http://127.0.0.1:{behind}"
        strip_prefix = true
        websockets = true
        [[apps.api.site.locations]]
        path = "/other/"
        proxy = "http://127.0.0.1:{behind}/v1"
        [[apps.api.site.locations]]
        path = "/old"
        redirect = "https://new.example/base/"
        keep_path = true
        [[apps.api.site.locations]]
        path = "/gone"
        redirect = "/files/"
        redirect_status = 301
        [[apps.api.site.locations]]
        path = "/ping"
        respond = 200
        respond_body = "pong; }}"
        "#,
        root = root.display()
    )
}

#[test]
fn nginx_serves_every_kind_of_location_as_it_is_declared() {
    if !is_there("nginx") || !rustix::process::geteuid().is_root() {
        return; // The workers of an nginx without root cannot change their user.
    }
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir_all(folder.path().join("public/sub")).unwrap();
    for (name, content) in [
        ("index.html", "front"),
        ("a.txt", "file"),
        ("sub/index.html", "sub"),
    ] {
        fs::write(folder.path().join("public").join(name), content).unwrap();
    }
    let (port, behind) = (free_port(), free_port());
    let site = Sample::new(&locations(folder.path(), port, behind)).text("site api");
    let nginx = Nginx::start(&config(folder.path(), &site, behind), port);
    for (path, expected) in [
        ("/", "200 front"),
        ("/a.txt", "200 file"),
        ("/nowhere", "200 front"),
        ("/sub/", "200 sub"),
        ("/files", "301 /files/"),
        ("/files/a.txt", "200 file"),
        ("/filesystem", "200 front"),
        ("/app/a.txt", "200 file"),
        ("/app/route/deep", "200 front"),
        ("/keep", "200 /keep  http"),
        ("/keep/x?y=z", "200 /keep/x?y=z  http"),
        ("/keeper", "200 front"),
        ("/strip", "200 /  http"),
        ("/strip/x?y=z", "200 /x?y=z  http"),
        ("/other/x", "200 /v1/x  http"),
        ("/old/page?q=1", "308 https://new.example/base/old/page?q=1"),
        ("/gone", "301 /files/"),
        ("/ping", "200 pong; }"),
    ] {
        assert_eq!(nginx.get(path), expected, "{path}");
    }
    let missing = nginx.get("/files/missing");
    assert!(missing.starts_with("404 "), "{missing}");
}
