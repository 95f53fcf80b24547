//! `push trust` and `push ssh`: who a host is, told by the program itself, against a real sshd on
//! loopback.

use push_tests::lab::program;
use push_tests::sshd::{Lab, Sshd, Wishes, account, host_key, public};
use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

/// A project beside a lab, and an operator's home.
struct Scene {
    lab: Lab,
    sshd: Sshd,
    user: PathBuf,
}

impl Scene {
    fn new() -> Option<Self> {
        let lab = Lab::new()?;
        let user = lab.key("user", &["ed25519"]);
        let wishes = Wishes {
            host_keys: vec![lab.key("host", &["ed25519"])],
            authorized: vec![public(&user)],
            ..Wishes::default()
        };
        let sshd = lab.sshd("sshd", &wishes);
        fs::create_dir_all(lab.path("inventory")).unwrap();
        fs::create_dir_all(lab.path("home/.ssh")).unwrap();
        let scene = Self { lab, sshd, user };
        scene.declares("");
        Some(scene)
    }

    /// Writes the environment `prod` with the host web1, whose table ends in `rest`.
    fn declares(&self, rest: &str) {
        let mut text = String::from("project = \"shop\" # ours\n\n# The one and only.\n");
        let _ = writeln!(
            text,
            "[hosts.web1]\naddress = \"127.0.0.1\"\nport = {}\nuser = \"{}\"\nidentity = \"{}\" # mine\n{rest}",
            self.sshd.port,
            account(),
            self.user.display()
        );
        fs::write(self.inventory(), text).unwrap();
    }

    /// Gives the operator an ssh_config. ssh looks for it in the account's home, whatever HOME says,
    /// so it is an `ssh` of the test's own that names it.
    fn configures_ssh(&self, text: &str) {
        let config = self.lab.write("ssh_config", text);
        fs::create_dir_all(self.lab.path("bin")).unwrap();
        let ssh = format!(
            "#!/bin/sh\nexec /usr/bin/ssh -F {} \"$@\"\n",
            config.display()
        );
        let file = self.lab.path("bin/ssh");
        fs::write(&file, ssh).unwrap();
        fs::set_permissions(file, fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn inventory(&self) -> PathBuf {
        self.lab.path("inventory/prod.toml")
    }

    fn text(&self) -> String {
        fs::read_to_string(self.inventory()).unwrap()
    }

    /// The fingerprint of a key of the lab.
    fn fingerprint(&self, key: &str) -> String {
        host_key(&self.lab.path(key)).fingerprint()
    }

    fn push(&self, args: &[&str]) -> Said {
        Said::of(&mut self.command(args))
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(program("push"));
        command
            .args(args)
            .current_dir(self.lab.path("."))
            .env("HOME", self.lab.path("home"))
            .env(
                "PATH",
                format!("{}:/usr/bin:/bin", self.lab.path("bin").display()),
            )
            .env_remove("XDG_CACHE_HOME")
            .env_remove("SSH_AUTH_SOCK");
        command
    }

    /// Runs push on a terminal, where it asks and `keys` are typed.
    fn typed(&self, args: &[&str], keys: &str) -> Said {
        let line = format!("\"$PUSH\" {}", args.join(" "));
        let mut command = Command::new("script");
        command
            .args(["-qfec", &line, "/dev/null"])
            .current_dir(self.lab.path("."))
            .env("PUSH", program("push"))
            .env("HOME", self.lab.path("home"))
            .env("TERM", "xterm")
            .env_remove("CI")
            .env_remove("SSH_AUTH_SOCK");
        Said::with(&mut command, keys)
    }
}

/// What a run said.
struct Said {
    code: i32,
    text: String,
}

impl Said {
    fn of(command: &mut Command) -> Self {
        Self::from(&command.stdin(Stdio::null()).output().unwrap())
    }

    /// Keys are typed once the question stands there.
    fn with(command: &mut Command, keys: &str) -> Self {
        use std::io::{Read as _, Write as _};
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let mut stdout = child.stdout.take().unwrap();
        let (mut text, mut byte) = (Vec::new(), [0; 256]);
        let mut is_asked = false;
        while let Ok(length @ 1..) = stdout.read(&mut byte) {
            text.extend_from_slice(&byte[..length]);
            let said = String::from_utf8_lossy(&text);
            if !is_asked && (said.contains("[y/N]") || said.contains("to go on")) {
                is_asked = true;
                stdin.write_all(keys.as_bytes()).unwrap();
                stdin.flush().unwrap();
            }
        }
        let status = child.wait().unwrap();
        Self {
            code: status.code().unwrap_or(-1),
            text: String::from_utf8_lossy(&text).into_owned(),
        }
    }

    fn exits(self, code: i32) -> Self {
        assert_eq!(self.code, code, "{}", self.text);
        self
    }

    fn says(self, text: &str) -> Self {
        assert!(
            self.text.contains(text),
            "{text:?} is not in\n{}",
            self.text
        );
        self
    }
}

impl From<&Output> for Said {
    fn from(output: &Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            text: String::from_utf8_lossy(&output.stdout).into_owned()
                + &String::from_utf8_lossy(&output.stderr),
        }
    }
}

#[test]
fn a_new_key_is_pinned_by_a_yes_and_nothing_else_in_the_file_changes() {
    let Some(scene) = Scene::new() else { return };
    let before = scene.text();
    let said = scene.typed(&["trust", "web1"], "n\r").exits(9);
    said.says(&scene.fingerprint("host")).says("was not pinned");
    assert_eq!(scene.text(), before);

    let said = scene.typed(&["trust", "web1"], "y\r").exits(0);
    said.says("is pinned in inventory/prod.toml");
    let line = format!("host_key = \"{}\"\n", host_key(&scene.lab.path("host")));
    assert_eq!(
        scene.text(),
        before.replace("# mine\n", &format!("# mine\n{line}"))
    );

    scene
        .push(&["trust", "prod", "web1"])
        .exits(0)
        .says("pinned already");
    assert!(
        !scene.sshd.logged().contains("Accepted"),
        "no login is tried"
    );
}

#[test]
fn a_script_pins_only_a_key_whose_fingerprint_it_brings() {
    let Some(scene) = Scene::new() else { return };
    let before = scene.text();
    let other = scene.lab.key("other", &["ed25519"]);
    scene
        .push(&["trust", "web1"])
        .exits(9)
        .says("no terminal")
        .says("push trust prod web1 --host-key SHA256:");
    let wrong = host_key(&other).fingerprint();
    scene
        .push(&["trust", "web1", "--host-key", &wrong])
        .exits(9)
        .says("not the one that was given")
        .says(&wrong)
        .says(&scene.fingerprint("host"));
    scene
        .push(&[
            "trust",
            "web1",
            "--host-key",
            "16:27:ac:a5:76:28:2d:36:63:1b:56:4d:eb:df:a6:48",
        ])
        .exits(2)
        .says("MD5");
    assert_eq!(scene.text(), before);
    let right = scene.fingerprint("host");
    scene
        .push(&["trust", "web1", "--host-key", &right])
        .exits(0);
    assert_ne!(scene.text(), before);
}

#[test]
fn a_changed_key_wants_more_than_a_yes_and_stops_everything_until_then() {
    let Some(scene) = Scene::new() else { return };
    let old = host_key(&scene.lab.key("old", &["ed25519"]));
    scene.declares(&format!("host_key = \"{old}\"\n"));
    let before = scene.text();
    scene
        .push(&["status", "prod"])
        .exits(4)
        .says("HAS CHANGED")
        .says(&old.fingerprint())
        .says(&scene.fingerprint("host"))
        .says("push trust web1");
    scene
        .push(&["trust", "web1"])
        .exits(9)
        .says(&old.fingerprint());
    scene.typed(&["trust", "web1"], "y\r").exits(9);
    assert_eq!(scene.text(), before);
    scene.typed(&["trust", "web1"], "web1\r").exits(0);
    let new = host_key(&scene.lab.path("host"));
    assert_eq!(
        scene.text(),
        before.replace(&old.to_string(), &new.to_string())
    );
    assert!(
        !scene.sshd.logged().contains("Accepted"),
        "no login is tried"
    );
}

#[test]
fn what_known_hosts_knows_is_pinned_without_a_question_and_what_it_revokes_is_not() {
    let Some(scene) = Scene::new() else { return };
    let key = host_key(&scene.lab.path("host"));
    let known = scene.lab.path("home/.ssh/known_hosts");
    scene.configures_ssh(&format!("UserKnownHostsFile {}\n", known.display()));
    let name = format!("[127.0.0.1]:{}", scene.sshd.port);
    fs::write(&known, format!("{name} {key}\n@revoked * {key}\n")).unwrap();
    let before = scene.text();
    let given = key.fingerprint();
    scene
        .push(&["trust", "web1", "--host-key", &given])
        .exits(9)
        .says("revoked");
    assert_eq!(scene.text(), before);
    fs::write(&known, format!("{name} {key}\n")).unwrap();
    scene
        .push(&["trust", "web1"])
        .exits(0)
        .says("known already");
    assert_ne!(scene.text(), before);
}

#[test]
fn the_environment_is_named_only_where_several_have_the_host() {
    let Some(scene) = Scene::new() else { return };
    fs::copy(scene.inventory(), scene.lab.path("inventory/staging.toml")).unwrap();
    scene
        .push(&["trust", "web1"])
        .exits(2)
        .says("several environments have a host web1");
    scene
        .push(&["trust", "web9"])
        .exits(2)
        .says("no environment has");
    let given = scene.fingerprint("host");
    scene
        .push(&["trust", "staging", "web1", "--host-key", &given])
        .exits(0)
        .says("inventory/staging.toml");
    assert!(!scene.text().contains("host_key"));
    scene
        .push(&["ssh", "prod", "web9", "--", "true"])
        .exits(2)
        .says("it has: web1");
}

#[test]
fn push_ssh_runs_a_command_word_for_word_as_ssh_does() {
    let Some(scene) = Scene::new() else { return };
    scene.declares(&format!(
        "host_key = \"{}\"\n",
        host_key(&scene.lab.path("host"))
    ));
    scene
        .push(&["ssh", "web1", "--", "echo", "one  two", "&&", "exit", "7"])
        .exits(7)
        .says("one two\n");
    let hostile = "$(touch /tmp/never); `x`";
    let quoted = format!("'{hostile}'");
    scene
        .push(&["ssh", "prod", "web1", "--", "printf", "%s", &quoted])
        .exits(0)
        .says(hostile);
}

#[test]
fn push_ssh_refuses_a_host_whose_key_is_not_the_pinned_one() {
    let Some(scene) = Scene::new() else { return };
    let old = host_key(&scene.lab.key("old", &["ed25519"]));
    scene.declares(&format!("host_key = \"{old}\"\n"));
    scene
        .push(&["ssh", "web1", "--", "true"])
        .exits(255)
        .says("Host key verification failed");
    assert!(!scene.sshd.logged().contains("Accepted"));
}

#[test]
fn a_pinned_key_that_known_hosts_revokes_is_used_by_no_command() {
    let Some(scene) = Scene::new() else { return };
    let key = host_key(&scene.lab.path("host"));
    let known = scene.lab.path("home/.ssh/known_hosts");
    scene.configures_ssh(&format!("UserKnownHostsFile {}\n", known.display()));
    scene.declares(&format!("host_key = \"{key}\"\n"));
    scene.push(&["ssh", "web1", "--", "true"]).exits(0);
    let logins = || scene.sshd.logged().matches("Accepted").count();
    let before = logins();
    fs::write(&known, format!("# stolen\n@revoked * {key}\n")).unwrap();
    let line = format!("{}:2", known.display());
    for verb in [&["ssh", "web1", "--", "true"][..], &["status", "prod"]] {
        scene.push(verb).exits(4).says("is revoked").says(&line);
    }
    assert_eq!(logins(), before);
}

#[test]
fn push_ssh_goes_through_the_inventory_s_jump_hosts_with_their_own_pins() {
    let Some(scene) = Scene::new() else { return };
    let wishes = Wishes {
        host_keys: vec![scene.lab.key("inner", &["ed25519"])],
        authorized: vec![public(&scene.user)],
        ..Wishes::default()
    };
    let inner = scene.lab.sshd("inner_sshd", &wishes);
    let table = |outer: &str| {
        scene.declares(&format!(
            "host_key = \"{outer}\"\n[hosts.db1]\naddress = \"127.0.0.1\"\nport = {}\nuser = \"{}\"\njump = \"web1\"\n\
             identity = \"{}\"\nhost_key = \"{}\"\n",
            inner.port,
            account(),
            scene.user.display(),
            host_key(&scene.lab.path("inner"))
        ));
    };
    table(&host_key(&scene.lab.path("host")).to_string());
    scene
        .push(&["ssh", "db1", "--", "echo", "there"])
        .exits(0)
        .says("there\n");
    assert!(scene.sshd.logged().contains("Accepted"), "by way of web1");
    assert!(inner.logged().contains("Accepted"));
    table(&host_key(&scene.lab.path("inner")).to_string());
    scene
        .push(&["ssh", "db1", "--", "echo", "there"])
        .exits(255);
}
