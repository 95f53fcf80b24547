//! A real sshd on a loopback port, with keys, configuration and log of its own in a temporary
//! directory, and the OpenSSH tools that tests make their keys with.
//!
//! Nothing of the machine's own sshd, agent or `~/.ssh` is read or changed. A server ends with its
//! value. Where the tools are missing, [`Lab::new`] says what is skipped and why.

use push::transport::target::{Identity, NamedBy};
use push::transport::{HostKey, Target};
use std::fmt::Write as _;
use std::io::{ErrorKind, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long a server may take to listen.
const START_MAX: Duration = Duration::from_secs(10);
const SSHD: &str = "/usr/sbin/sshd";

/// A directory with keys and servers.
pub struct Lab {
    dir: tempfile::TempDir,
}

/// A running server.
pub struct Sshd {
    /// Its port on 127.0.0.1.
    pub port: u16,
    /// Its log.
    pub log: PathBuf,
    child: Child,
}

/// What a test wants different about a server.
#[derive(Default)]
pub struct Wishes {
    /// Files of private host keys.
    pub host_keys: Vec<PathBuf>,
    /// Lines of authorized_keys.
    pub authorized: Vec<String>,
    /// More lines of sshd_config; they come first and therefore win.
    pub config: String,
}

impl Lab {
    /// A lab, or `None` with a word about it where there is no sshd.
    pub fn new() -> Option<Self> {
        if !Path::new(SSHD).exists() {
            let _ = writeln!(
                std::io::stderr(),
                "skipped: {SSHD} is not installed (openssh-server)"
            );
            return None;
        }
        // The directory that sshd chroots its unprivileged part to; distributions make it at boot.
        if is_root() {
            std::fs::create_dir_all("/run/sshd").unwrap();
        }
        Some(Self {
            dir: tempfile::tempdir().unwrap(),
        })
    }

    /// A path in the lab.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Makes a key pair; `arguments` go to ssh-keygen, type first. No passphrase unless `-N` is among them.
    pub fn key(&self, name: &str, arguments: &[&str]) -> PathBuf {
        let path = self.path(name);
        let mut command = Command::new("ssh-keygen");
        command
            .args(["-q", "-C", name, "-f"])
            .arg(&path)
            .arg("-t")
            .args(arguments);
        if !arguments.contains(&"-N") {
            command.args(["-N", ""]);
        }
        run(&mut command);
        path
    }

    /// Signs `key` with the authority `ca`; `arguments` say for whom.
    pub fn certify(&self, ca: &Path, key: &Path, arguments: &[&str]) {
        let public = public_path(key);
        run(Command::new("ssh-keygen")
            .arg("-q")
            .arg("-s")
            .arg(ca)
            .args(arguments)
            .arg(public));
    }

    /// Writes a file that only its owner can read.
    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, text).unwrap();
        run(Command::new("chmod").arg("600").arg(&path));
        path
    }

    /// Starts a server.
    pub fn sshd(&self, name: &str, wishes: &Wishes) -> Sshd {
        let port = free_port();
        let authorized = self.write(
            &format!("{name}.authorized"),
            &(wishes.authorized.join("\n") + "\n"),
        );
        let mut config = wishes.config.clone();
        let _ = writeln!(config, "ListenAddress 127.0.0.1:{port}");
        for key in &wishes.host_keys {
            let _ = writeln!(config, "HostKey {}", key.display());
        }
        let _ = writeln!(
            config,
            "AuthorizedKeysFile {}\nPidFile none\nUsePAM no\nStrictModes no\nPermitRootLogin yes\n\
             PasswordAuthentication no\nKbdInteractiveAuthentication no\nLogLevel VERBOSE",
            authorized.display()
        );
        let config = self.write(&format!("{name}.config"), &config);
        let log = self.path(&format!("{name}.log"));
        let child = Command::new(SSHD)
            .args(["-D", "-e", "-f"])
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(&log).unwrap())
            .spawn()
            .unwrap();
        let mut server = Sshd { port, log, child };
        server.await_start();
        server
    }
}

impl Sshd {
    /// A target for this server: the account that runs the test, no identities, no known hosts.
    pub fn target(&self, host: &str) -> Target {
        Target {
            user: account(),
            ..Target::at(host, "127.0.0.1", self.port)
        }
    }

    /// What the server logged.
    pub fn logged(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }

    fn await_start(&mut self) {
        let deadline = Instant::now() + START_MAX;
        while !self.logged().contains("Server listening") {
            let status = self.child.try_wait().unwrap();
            assert!(
                status.is_none() && Instant::now() < deadline,
                "sshd did not start: {}",
                self.logged()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        // Its sessions are other processes, in which commands end when their input does.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The host key line of a key pair.
pub fn public(key: &Path) -> String {
    std::fs::read_to_string(public_path(key))
        .unwrap()
        .trim()
        .to_owned()
}

/// The key of a key pair.
pub fn host_key(key: &Path) -> HostKey {
    HostKey::parse(&public(key)).unwrap()
}

/// An identity that the operator named.
pub fn identity(key: &Path) -> Identity {
    Identity {
        path: key.to_owned(),
        named_by: NamedBy::Operator,
    }
}

/// The account that runs the test.
pub fn account() -> String {
    let output = Command::new("id").arg("-un").output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// A port that nothing listens on.
pub fn free_port() -> u16 {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
}

/// Runs a tool that must succeed.
pub fn run(command: &mut Command) -> String {
    let output = command
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(
        output.status.success(),
        "{command:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

/// Waits until something listens.
pub fn await_port(port: u16) {
    let deadline = Instant::now() + START_MAX;
    loop {
        match TcpStream::connect((Ipv4Addr::LOCALHOST, port)) {
            Ok(_) => return,
            Err(error)
                if error.kind() == ErrorKind::ConnectionRefused && Instant::now() < deadline =>
            {
                std::thread::sleep(Duration::from_millis(20));
            }
            Err(error) => panic!("port {port}: {error}"),
        }
    }
}

fn public_path(key: &Path) -> PathBuf {
    PathBuf::from(format!("{}.pub", key.display()))
}

fn is_root() -> bool {
    account() == "root"
}
