//! A project with secrets and an operator's key, and `push` run in it; no host is reached.

#![allow(dead_code, reason = "each test binary uses its own part of this")]

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use age::secrecy::ExposeSecret as _;
use age::x25519::Identity;

/// The value that must be found nowhere but where it belongs.
pub const CANARY: &str = "canary-5b1f0c9e";

/// A folder with an inventory `prod`, and a key for its operator `ann`.
pub struct Desk {
    folder: tempfile::TempDir,
    /// The operator's key.
    pub ann: Identity,
}

/// What one run of `push` said.
pub struct Said {
    pub status: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Said {
    /// Sees that it ended so.
    #[track_caller]
    pub fn exits(self, status: i32) -> Self {
        assert_eq!(
            self.status, status,
            "\n--- stdout\n{}\n--- stderr\n{}",
            self.stdout, self.stderr
        );
        self
    }

    /// Sees that it said so, on either stream.
    #[track_caller]
    pub fn says(self, text: &str) -> Self {
        assert!(
            self.stdout.contains(text) || self.stderr.contains(text),
            "{text:?} is not in\n--- stdout\n{}\n--- stderr\n{}",
            self.stdout,
            self.stderr
        );
        self
    }
}

impl Desk {
    /// An app `api` that reads `token` and `url`, and nobody declared yet.
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let desk = Self {
            folder,
            ann: Identity::generate(),
        };
        desk.write(
            "inventory/prod.toml",
            "# the shop\nproject = \"shop\"\n\n[hosts.web1] # the only one\nhost_key = \"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJLGgqmjsM0vvbVIgRVNDYHYEqFnVVqL2Ju46oDtJJ2f\"\n\n[apps.api]\nsecrets = [\"token\", \"url\"]\n[apps.api.service]\nexec = \"/bin/api\"\n",
        );
        desk.identity("ann.key", &desk.ann);
        desk
    }

    /// The same with `ann` declared, and both secrets sealed.
    pub fn with_secrets() -> Self {
        let desk = Self::new();
        desk.push(&["secret", "init", "prod", "--as", "ann"])
            .exits(0);
        desk.set("token", CANARY);
        desk.set("url", "postgres://db");
        desk
    }

    /// Gives a secret a value.
    #[track_caller]
    pub fn set(&self, name: &str, value: &str) {
        self.push_with(&["secret", "set", "prod", name], value)
            .exits(0);
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

    /// Reads a text of the project.
    pub fn text(&self, relative: &str) -> String {
        fs::read_to_string(self.path(relative)).unwrap()
    }

    /// Writes a key to a file.
    pub fn identity(&self, relative: &str, key: &Identity) {
        self.write(relative, format!("{}\n", key.to_string().expose_secret()));
    }

    /// The public half of a key that OpenSSH made into a file of the project.
    pub fn ssh_key(&self, relative: &str, kind: &str, passphrase: &str) -> String {
        let status = Command::new("ssh-keygen")
            .args(["-q", "-t", kind, "-N", passphrase, "-C", "", "-f"])
            .arg(self.path(relative))
            .status()
            .unwrap();
        assert!(status.success());
        self.text(&format!("{relative}.pub")).trim().to_owned()
    }

    /// `push` in the project, with the key of `ann`, not started yet.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_push"));
        self.dress(&mut command);
        command.args(args);
        command
    }

    /// Gives a command the folder and the environment of the operator.
    pub fn dress(&self, command: &mut Command) {
        command
            .current_dir(self.folder.path())
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("HOME", self.folder.path())
            .env("USER", "ann")
            .env("PUSH_IDENTITY", self.path("ann.key"));
    }

    /// Runs `push` with nothing on stdin.
    pub fn push(&self, args: &[&str]) -> Said {
        said(self.command(args).stdin(Stdio::null()).output().unwrap())
    }

    /// Runs `push` with the key in another file of the project.
    pub fn push_as(&self, key: &str, args: &[&str]) -> Said {
        let mut command = self.command(args);
        command.env("PUSH_IDENTITY", self.path(key));
        said(command.stdin(Stdio::null()).output().unwrap())
    }

    /// Runs `push` with a text on stdin.
    pub fn push_with(&self, args: &[&str], stdin: &str) -> Said {
        let mut child = self
            .command(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // Whoever refuses before reading closes it early.
        let _ = child.stdin.take().unwrap().write_all(stdin.as_bytes());
        said(child.wait_with_output().unwrap())
    }

    /// Every file of the inventory with its content.
    pub fn inventory(&self) -> Vec<(PathBuf, Vec<u8>)> {
        let mut found = Vec::new();
        let mut folders = vec![self.path("inventory")];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else {
                    let content = fs::read(&path).unwrap_or_default();
                    found.push((path, content));
                }
            }
        }
        found.sort();
        found
    }
}

/// What a run said, as text.
pub fn said(output: Output) -> Said {
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Said {
        status: output.status.code().unwrap_or(-1),
        stdout: text(output.stdout),
        stderr: text(output.stderr),
    }
}

/// Every file below a folder that holds a text.
pub fn holding(folder: &Path, needle: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_symlink() {
                continue;
            }
            if path.is_dir() {
                folders.push(path);
            } else if fs::read(&path).is_ok_and(|content| {
                content
                    .windows(needle.len())
                    .any(|part| part == needle.as_bytes())
            }) {
                found.push(path);
            }
        }
    }
    found
}
