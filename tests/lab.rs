//! A project folder beside a fleet of real hosts, and the program itself run in it: what an
//! operator has. Knows the program's words and exit codes, and nothing of its insides.

use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use push::rehearse::{Fleet, HostSpec, RehearsalHost};

use crate::hosts;

/// How long one run of the program may take, in all tests.
const RUN_WITHIN: Duration = Duration::from_secs(240);

/// A server that does what a test asks of it, see the head of the file.
pub const EVERYDAY: &str = include_str!("demo/everyday.py");

/// The secret that must be found nowhere but in its file.
pub const CANARY: &str = "canary-Zq7fT2-never-in-the-clear";

/// A fleet, a project folder with an inventory `prod`, and an operator's identity for secrets.
pub struct Lab {
    /// The hosts.
    pub fleet: Fleet,
    folder: tempfile::TempDir,
}

/// What a run of the program said.
#[derive(Debug)]
pub struct Said {
    /// Its exit status.
    pub status: ExitStatus,
    /// The answer.
    pub stdout: String,
    /// The progress, and errors.
    pub stderr: String,
    /// How long it took.
    pub took: Duration,
}

impl Said {
    /// The exit code; -1 when a signal ended it.
    pub fn code(&self) -> i32 {
        self.status.code().unwrap_or(-1)
    }

    /// Asserts the exit code, showing everything that was said when it is another.
    pub fn exits(self, code: i32) -> Self {
        assert_eq!(
            self.code(),
            code,
            "\n--- stdout\n{}\n--- stderr\n{}",
            self.stdout,
            self.stderr
        );
        self
    }

    /// Asserts that a text was said, on either stream.
    pub fn says(self, text: &str) -> Self {
        let found = self.stdout.contains(text) || self.stderr.contains(text);
        assert!(
            found,
            "{text:?} is not in\n--- stdout\n{}\n--- stderr\n{}",
            self.stdout, self.stderr
        );
        self
    }
}

impl Lab {
    /// Boots hosts and lays out a project for them; `None`, said loudly, where hosts cannot boot.
    pub fn boot(specs: &[HostSpec]) -> Option<Self> {
        let fleet = hosts::boot(specs)?;
        let folder = tempfile::tempdir().unwrap();
        let lab = Self { fleet, folder };
        for sub in ["inventory/secrets", "templates", "bin"] {
            fs::create_dir_all(lab.path(sub)).unwrap();
        }
        lab.make_identity();
        lab.app("api", &demo_api());
        lab.app("everyday", EVERYDAY.as_bytes());
        Some(lab)
    }

    /// Boots plain hosts called `web1`, `web2`, ….
    pub fn boot_plain(count: usize) -> Option<Self> {
        let specs: Vec<HostSpec> = (1..=count)
            .map(|n| HostSpec::named(format!("web{n}")))
            .collect();
        Self::boot(&specs)
    }

    /// The host of a name.
    pub fn host(&self, name: &str) -> &RehearsalHost {
        self.fleet.host(name).unwrap()
    }

    /// A path in the project.
    pub fn path(&self, relative: &str) -> PathBuf {
        self.folder.path().join(relative)
    }

    /// Writes a file of the project.
    pub fn write(&self, relative: &str, content: impl AsRef<[u8]>) {
        let path = self.path(relative);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    /// Puts a program into the project, as `bin/<name>`.
    pub fn app(&self, name: &str, program: &[u8]) {
        let file = format!("bin/{name}");
        self.write(&file, program);
        fs::set_permissions(self.path(&file), fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// The inventory's tables that name the fleet's hosts.
    pub fn hosts_toml(&self) -> String {
        let mut out = String::new();
        for host in self.fleet.hosts() {
            write!(
                out,
                "[hosts.{}]\naddress = \"{}\"\nport = {}\nuser = \"{}\"\nhost_key = \"{}\"\nidentity = \"{}\"\ntags = [\"web\"]\n\n",
                host.name(),
                host.address(),
                host.port(),
                host.user(),
                host.host_key(),
                host.identity().display()
            )
            .unwrap();
        }
        out
    }

    /// Writes an environment: `head` (top-level keys), the hosts, then `rest` (tables).
    pub fn environment(&self, name: &str, head: &str, rest: &str) {
        self.write(
            &format!("inventory/{name}.toml"),
            format!("{head}\n{}{rest}", self.hosts_toml()),
        );
    }

    /// The environment `prod` that most tests start from: one app with a service, a health check, a
    /// site and a secret. `extra` is appended.
    pub fn shop(&self, extra: &str) {
        self.secret("api-token", CANARY);
        self.environment("prod", "project = \"shop\"", &format!("{SHOP}{extra}"));
    }

    /// Seals a secret of the project to the operator.
    pub fn secret(&self, name: &str, value: &str) {
        let recipient = fs::read_to_string(self.path("identity.pub")).unwrap();
        let sealed =
            push::secret::seal(value.as_bytes(), &[recipient.trim().parse().unwrap()]).unwrap();
        self.write(&format!("inventory/secrets/{name}.age"), sealed);
    }

    /// Writes the environment `prod` of the project `shop` with these tables, pushes it, and sees
    /// that it is committed.
    pub fn deploys(&self, rest: &str) -> Said {
        self.declares(rest);
        self.push(&["prod", "--yes"]).exits(0)
    }

    /// Writes the environment `prod` of the project `shop` with these tables.
    pub fn declares(&self, rest: &str) {
        self.environment("prod", "project = \"shop\"", rest);
    }

    /// Runs `push` in the project to its end.
    pub fn push(&self, args: &[&str]) -> Said {
        self.spawn(args).end()
    }

    /// Starts `push` in the project.
    pub fn spawn(&self, args: &[&str]) -> Running {
        self.spawn_by("root", args)
    }

    /// Starts `push` in the project, as somebody whom the hosts will name.
    pub fn spawn_by(&self, operator: &str, args: &[&str]) -> Running {
        let child = self
            .command(args)
            .env("GITHUB_ACTOR", operator)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        Running::of(child)
    }

    /// `push` in the project, not started yet.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(program("push"));
        command
            .args(args)
            .current_dir(self.folder.path())
            .env("PUSH_IDENTITY", self.path("identity"))
            .env("HOME", self.folder.path())
            .env_remove("SSH_AUTH_SOCK");
        command
    }

    /// Starts `push` in the project on a terminal, where it may ask.
    pub fn ask(&self, args: &[&str]) -> Asked {
        let screen = self.path("screen");
        // What an earlier run showed is not waited for.
        let _ = fs::remove_file(&screen);
        let child = Command::new("script")
            .args(["-qfec", &format!("\"$PUSH\" {}", args.join(" "))])
            .arg(&screen)
            .current_dir(self.folder.path())
            .env("PUSH", program("push"))
            .env("PUSH_IDENTITY", self.path("identity"))
            .env("HOME", self.folder.path())
            .env("TERM", "xterm")
            .env_remove("SSH_AUTH_SOCK")
            .env_remove("CI")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        Asked {
            running: Running::of(child),
            screen,
        }
    }

    fn make_identity(&self) {
        let status = Command::new("ssh-keygen")
            .args(["-q", "-t", "ed25519", "-N", "", "-C", "operator", "-f"])
            .arg(self.path("identity"))
            .status()
            .unwrap();
        assert!(status.success());
    }
}

/// The app, site and secret of [`Lab::shop`].
pub const SHOP: &str = r#"
[apps.api]
on      = "web"
source  = "bin/api"
env     = { PORT = "8080", REGION = "{{ host.name }}" }
secrets = ["api-token"]
shared  = ["data"]

[apps.api.service]
exec = "{{ release.dir }}/api"

[apps.api.health]
http     = "http://127.0.0.1:8080/health"
json     = { status = "ok" }
timeout  = "10s"
interval = "200ms"
passes   = 2
quiet    = "500ms"

[apps.api.site]
server_name = ["api.example.com"]
proxy       = "http://127.0.0.1:8080"
"#;

/// A program of this workspace, as it was built beside the test.
pub fn program(name: &str) -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let built = test.parent().and_then(Path::parent).unwrap().join(name);
    assert!(
        built.exists(),
        "{} is not built: run `cargo build --workspace` first, or tests/run",
        built.display()
    );
    built
}

fn demo_api() -> Vec<u8> {
    fs::read(program("demo-api")).unwrap()
}

/// A run of the program that has not ended.
pub struct Running {
    child: Child,
    readers: [thread::JoinHandle<String>; 2],
    started: Instant,
}

impl Running {
    fn of(mut child: Child) -> Self {
        let stdout = read_all(child.stdout.take().unwrap());
        let stderr = read_all(child.stderr.take().unwrap());
        Self {
            child,
            readers: [stdout, stderr],
            started: Instant::now(),
        }
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends it a signal, by name: `INT`, `KILL`.
    pub fn signal(&self, name: &str) {
        let status = Command::new("kill")
            .args(["-s", name, &self.id().to_string()])
            .status()
            .unwrap();
        assert!(status.success());
    }

    /// Whether it has ended.
    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// Waits for its end, and kills it when that does not come.
    pub fn end(mut self) -> Said {
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            if self.started.elapsed() > RUN_WITHIN {
                self.child.kill().unwrap();
                let status = self.child.wait().unwrap();
                let [stdout, stderr] = self.readers.map(|reader| reader.join().unwrap());
                panic!("push did not end ({status})\n--- stdout\n{stdout}\n--- stderr\n{stderr}");
            }
            thread::sleep(Duration::from_millis(20));
        };
        let took = self.started.elapsed();
        let [stdout, stderr] = self.readers.map(|reader| reader.join().unwrap());
        Said {
            status,
            stdout,
            stderr,
            took,
        }
    }
}

/// A run of the program on a terminal.
pub struct Asked {
    running: Running,
    screen: PathBuf,
}

impl Asked {
    /// The process id of the terminal.
    pub fn id(&self) -> u32 {
        self.running.id()
    }

    /// Waits until a text stands on the terminal.
    pub fn shows(&self, text: &str) {
        let screen = || fs::read(&self.screen).unwrap_or_default();
        eventually(text, RUN_WITHIN, || {
            String::from_utf8_lossy(&screen()).contains(text)
        });
    }

    /// Types something.
    pub fn press(&self, text: &str) {
        let mut keys = self.running.child.stdin.as_ref().unwrap();
        keys.write_all(text.as_bytes()).unwrap();
        keys.flush().unwrap();
    }

    /// Types something, and waits for the end.
    pub fn types(mut self, text: &str) -> Said {
        self.press(text);
        let keys = self.running.child.stdin.take().unwrap();
        // The terminal's end of input would be a key of its own, so it stays open until the end.
        let said = self.running.end();
        drop(keys);
        said
    }
}

fn read_all(mut pipe: impl std::io::Read + Send + 'static) -> thread::JoinHandle<String> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        pipe.read_to_end(&mut bytes).unwrap();
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

/// Waits until something holds, and says what when it does not.
pub fn eventually(what: &str, within: Duration, mut holds: impl FnMut() -> bool) {
    let started = Instant::now();
    while !holds() {
        assert!(started.elapsed() < within, "{what}: not within {within:?}");
        thread::sleep(Duration::from_millis(50));
    }
}

/// What a host's own shell-less command says, without the white space around it.
pub fn says(host: &RehearsalHost, argv: &[&str]) -> String {
    host.succeed(argv)
        .unwrap_or_else(|error| panic!("{argv:?} on {}: {error}", host.name()))
        .trim()
        .to_owned()
}

/// A property of a unit, as systemd shows it.
pub fn property(host: &RehearsalHost, unit: &str, name: &str) -> String {
    says(host, &["systemctl", "show", "--value", "-p", name, unit])
}

/// The body of an answer on a host's own loopback; empty when there is none.
pub fn get(host: &RehearsalHost, url: &str) -> String {
    host.run(&["curl", "-sk", "-m", "5", url]).unwrap().stdout
}
