//! A real authority for certificates on the bridge of a fleet: pebble, which is Let's Encrypt's own ACME server
//! for tests, with a name server that leads every name to one host unless it is told otherwise.

use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use push::rehearse::RehearsalHost;

use crate::hosts::has_program;
use crate::lab::eventually;

/// How long it may take to start.
const START: Duration = Duration::from_secs(20);

/// How long its certificates are valid, in seconds: so short that certbot's timer renews them at once.
const VALID_S: u32 = 9 * 24 * 3600;

/// A name that it gives no certificate for, whoever asks.
pub const REFUSED: &str = "refused.example.com";

/// The port of its directory, and of what tells its root.
const DIRECTORY: u16 = 14000;
const MANAGEMENT: u16 = 15000;

/// The port of its name server, and of what that is told.
const NAMES: u16 = 14053;
const NAMES_MANAGEMENT: u16 = 14055;

/// An authority, as long as this value lives.
pub struct Authority {
    processes: Vec<Child>,
    folder: tempfile::TempDir,
    address: Ipv4Addr,
}

/// What a host shows to whoever connects with TLS.
#[derive(Debug, PartialEq, Eq)]
pub struct Shown {
    /// The serial number of its certificate.
    pub serial: String,
    /// The names of it.
    pub names: Vec<String>,
    /// Who gave it.
    pub issuer: String,
}

impl Authority {
    /// Starts one beside a host of a fleet; `None`, said loudly, where the programs are not there.
    ///
    /// # Panics
    /// When it does not start.
    pub fn beside(host: &RehearsalHost) -> Option<Self> {
        let programs = ["pebble", "pebble-challtestsrv", "openssl", "curl"];
        if !programs.into_iter().all(has_program) {
            return None;
        }
        let [a, b, c, _] = host.address().octets();
        let mut authority = Self {
            processes: Vec::new(),
            folder: tempfile::tempdir().unwrap(),
            address: Ipv4Addr::new(a, b, c, 1),
        };
        authority.start_names(host.address());
        authority.start_pebble();
        eventually("an authority", START, || {
            authority.tells(&authority.url(DIRECTORY, "dir")).is_some()
        });
        Some(authority)
    }

    /// The address of its directory.
    pub fn endpoint(&self) -> String {
        self.url(DIRECTORY, "dir")
    }

    /// The file by which clients believe that it is itself.
    pub fn vouchers(&self) -> PathBuf {
        self.file("cert.pem")
    }

    /// Lets a name lead to an address.
    ///
    /// # Panics
    /// When the name server does not take it.
    pub fn leads(&self, name: &str, address: Ipv4Addr) {
        let told = format!("{{\"host\":\"{name}.\",\"addresses\":[\"{address}\"]}}");
        for (path, told) in [
            ("clear-a", format!("{{\"host\":\"{name}.\"}}")),
            ("add-a", told),
        ] {
            let url = format!("http://{}:{NAMES_MANAGEMENT}/{path}", self.address);
            succeed(Command::new("curl").args(["-sSf", "-m", "5", "-d", &told, &url]));
        }
    }

    /// What a host shows for a name, verified against this authority and no other.
    pub fn shown(&self, host: &RehearsalHost, name: &str) -> Option<Shown> {
        let root = self.file("root.pem");
        let told = self.tells(&self.url(MANAGEMENT, "roots/0"))?;
        fs::write(&root, told).unwrap();
        let hello = Command::new("timeout")
            .args(["10", "openssl", "s_client", "-connect"])
            .arg(format!("{}:443", host.address()))
            .args(["-servername", name, "-verify_hostname", name])
            .args(["-verify_return_error", "-CAfile"])
            .arg(&root)
            .stdin(Stdio::null())
            .output()
            .unwrap();
        if !hello.status.success() {
            return None;
        }
        let leaf = self.file("leaf.pem");
        fs::write(&leaf, hello.stdout).unwrap();
        let said = succeed(
            Command::new("openssl")
                .args(["x509", "-noout", "-serial", "-issuer", "-ext"])
                .args(["subjectAltName", "-in"])
                .arg(&leaf),
        );
        let line = |start: &str| {
            said.lines()
                .find_map(|line| line.trim().strip_prefix(start))
        };
        let names = said.lines().find(|line| line.contains("DNS:"));
        let names = names.unwrap_or_default().split(", ");
        Some(Shown {
            serial: line("serial=")?.to_owned(),
            names: names
                .filter_map(|name| name.trim().strip_prefix("DNS:"))
                .map(str::to_owned)
                .collect(),
            issuer: line("issuer=")?.to_owned(),
        })
    }

    fn start_names(&mut self, default: Ipv4Addr) {
        let mut names = Command::new("pebble-challtestsrv");
        names
            .args(["-http01", "", "-https01", "", "-tlsalpn01", ""])
            .args(["-dns01", &format!("{}:{NAMES}", self.address)])
            .args([
                "-management",
                &format!("{}:{NAMES_MANAGEMENT}", self.address),
            ])
            .args(["-defaultIPv4", &default.to_string(), "-defaultIPv6", ""]);
        self.start(&mut names);
    }

    fn start_pebble(&mut self) {
        let (certificate, key) = (self.vouchers(), self.file("key.pem"));
        succeed(
            Command::new("openssl")
                .args(["req", "-x509", "-newkey", "ec", "-pkeyopt"])
                .args(["ec_paramgen_curve:P-256", "-nodes", "-days", "2"])
                .args(["-subj", "/CN=authority", "-addext"])
                .arg(format!("subjectAltName=IP:{}", self.address))
                .arg("-keyout")
                .arg(&key)
                .arg("-out")
                .arg(&certificate),
        );
        let listen = |port: u16| format!("{}:{port}", self.address);
        let settings = serde_json::json!({ "pebble": {
            "listenAddress": listen(DIRECTORY),
            "managementListenAddress": listen(MANAGEMENT),
            "certificate": certificate,
            "privateKey": key,
            "httpPort": 80,
            "tlsPort": 443,
            "certificateValidityPeriod": VALID_S,
            "domainBlocklist": [REFUSED],
        } });
        let file = self.file("pebble.json");
        fs::write(&file, settings.to_string()).unwrap();
        let mut pebble = Command::new("pebble");
        pebble
            .env("PEBBLE_VA_NOSLEEP", "1")
            // Clients must ask again when it refuses a nonce for practice; certbot's library does, but not
            // everywhere.
            .env("PEBBLE_WFE_NONCEREJECT", "0")
            .arg("-config")
            .arg(&file)
            .args(["-dnsserver", &listen(NAMES)]);
        self.start(&mut pebble);
    }

    fn start(&mut self, program: &mut Command) {
        let log = fs::File::create(self.file(&format!("log-{}", self.processes.len()))).unwrap();
        let child = program
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        self.processes.push(child);
    }

    fn tells(&self, url: &str) -> Option<Vec<u8>> {
        let said = Command::new("curl")
            .args(["-sSf", "-m", "5", "--cacert"])
            .arg(self.vouchers())
            .arg(url)
            .output()
            .unwrap();
        said.status.success().then_some(said.stdout)
    }

    fn url(&self, port: u16, path: &str) -> String {
        format!("https://{}:{port}/{path}", self.address)
    }

    fn file(&self, name: &str) -> PathBuf {
        Path::new(self.folder.path()).join(name)
    }
}

impl Drop for Authority {
    fn drop(&mut self) {
        for child in &mut self.processes {
            // One that ended by itself is as good as killed.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn succeed(command: &mut Command) -> String {
    let said = command.output().unwrap();
    let text = String::from_utf8_lossy(&said.stdout).into_owned();
    let error = String::from_utf8_lossy(&said.stderr);
    assert!(said.status.success(), "{command:?}: {text}{error}");
    text
}
