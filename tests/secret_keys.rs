//! The operator's keys, from outside: where they are, who else gets them, and what is said of one that
//! does not fit. No host is reached.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "the panic of a test is its message"
)]

mod secret_desk;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use age::secrecy::ExposeSecret as _;
use age::x25519::Identity;
use secret_desk::{CANARY, Desk, Said, said};

#[test]
fn a_key_in_the_environment_opens_secrets_and_reaches_no_build_and_no_editor() {
    let desk = Desk::with_secrets();
    let key = desk.ann.to_string().expose_secret().to_owned();
    let inventory = desk.text("inventory/prod.toml");
    let build = "[apps.api]\nbuild = \"env > built; false\"\n";
    desk.write(
        "inventory/prod.toml",
        inventory.replace("[apps.api]\n", build),
    );
    for variable in ["PUSH_IDENTITY", "AGE_IDENTITY"] {
        let run = |args: &[&str]| {
            let mut command = desk.command(args);
            command.env_remove("PUSH_IDENTITY").env(variable, &key);
            command.env("EDITOR", "sh -c 'env > \"$HOME/edited\"' sh");
            said(command.stdin(Stdio::null()).output().unwrap())
        };
        let shown = run(&["secret", "show", "prod", "token"]).exits(0);
        assert_eq!(shown.stdout, CANARY);
        // The build fails, so no host is asked for anything.
        run(&["plan", "prod"])
            .exits(1)
            .says("the build of api ended");
        run(&["secret", "edit", "prod", "token"]).exits(0);
        for child in ["built", "edited"] {
            let told = desk.text(child);
            assert!(told.contains("HOME="), "{told}");
            assert!(!told.contains("AGE-SECRET-KEY-"), "{child}: {told}");
            assert!(!told.contains(variable), "{child}: {told}");
            fs::remove_file(desk.path(child)).unwrap();
        }
    }
}

fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

const SHOW: [&str; 4] = ["secret", "show", "prod", "token"];

#[test]
fn an_ssh_key_that_others_can_read_is_refused_as_ssh_does() {
    let desk = Desk::with_secrets();
    let key = desk.ssh_key("own", "ed25519", "");
    desk.push(&["secret", "grant", "prod", "own", "token", "--key", &key])
        .exits(0);
    desk.push_as("own", &SHOW).exits(0);
    fs::create_dir(desk.path(".ssh")).unwrap();
    fs::copy(desk.path("own"), desk.path(".ssh/id_ed25519")).unwrap();
    chmod(&desk.path(".ssh/id_ed25519"), 0o644);
    let mut command = desk.command(&SHOW);
    command.env_remove("PUSH_IDENTITY").stdin(Stdio::null());
    said(command.output().unwrap())
        .exits(8)
        .says(".ssh/id_ed25519 (mode 0644)");
    chmod(&desk.path("own"), 0o640);
    desk.push_as("own", &SHOW)
        .exits(8)
        .says("others can read the private key")
        .says("mode 0640")
        .says("chmod 600");
}

/// Runs git in the project.
fn git(desk: &Desk, args: &[&str]) {
    let status = Command::new("git")
        .arg("-C")
        .arg(desk.path("."))
        .args(args)
        .status()
        .unwrap();
    assert!(status.success(), "{args:?}");
}

#[test]
fn an_age_key_that_others_can_read_is_used_and_told_of_unless_it_is_committed() {
    let desk = Desk::with_secrets();
    let elsewhere = Desk::new();
    elsewhere.identity("key", &desk.ann);
    let show = |key: &Path| desk.push_as(key.to_str().unwrap(), &SHOW).exits(0);
    let warns = |said: Said| said.stderr.contains("others can read the key in");
    let key = elsewhere.path("key");
    for (mode, is_told) in [(0o644, true), (0o640, true), (0o600, false)] {
        chmod(&key, mode);
        assert_eq!(warns(show(&key)), is_told, "{mode:o}");
    }
    chmod(&desk.path("ann.key"), 0o644);
    git(&desk, &["init", "-q"]);
    assert!(warns(show(&desk.path("ann.key"))));
    git(&desk, &["add", "ann.key"]);
    assert!(!warns(show(&desk.path("ann.key"))));
}

/// `push` as somebody whom permissions bind: root is let past them by two capabilities.
fn bound(desk: &Desk, key: &str) -> Said {
    let push = desk.command(&SHOW);
    let mut command = if rustix::process::getuid().is_root() {
        let mut command = Command::new("setpriv");
        command
            .arg("--bounding-set=-dac_override,-dac_read_search")
            .arg(push.get_program())
            .args(push.get_args());
        command
    } else {
        push
    };
    desk.dress(&mut command);
    command.env("PUSH_IDENTITY", desk.path(key));
    said(command.stdin(Stdio::null()).output().unwrap())
}

#[test]
fn a_folder_and_a_file_without_permission_are_no_identities_and_are_named() {
    let desk = Desk::with_secrets();
    desk.identity("closed", &Identity::generate());
    chmod(&desk.path("closed"), 0);
    fs::create_dir(desk.path("folder")).unwrap();
    for (key, why) in [
        ("closed", "Permission denied"),
        ("folder", "it is not a file"),
    ] {
        bound(&desk, key)
            .exits(8)
            .says(&format!("{key} cannot be read: "))
            .says(why)
            .says("PUSH_IDENTITY");
    }
}

/// Runs push with this in the variable, telling all it can.
fn with_identity(desk: &Desk, variable: &str, value: &str, args: &[&str]) -> Said {
    let mut command = desk.command(args);
    command.arg("-vvv").env_remove("PUSH_IDENTITY");
    command.env(variable, value).stdin(Stdio::null());
    said(command.output().unwrap())
}

#[test]
fn a_key_given_as_text_opens_secrets_however_it_was_pasted() {
    let desk = Desk::with_secrets();
    let public = desk.ssh_key("own", "ed25519", "");
    desk.push(&["secret", "grant", "prod", "own", "token", "--key", &public])
        .exits(0);
    let age = desk.ann.to_string().expose_secret().to_owned();
    let ssh = desk.text("own");
    for given in [
        format!(" {age}"),
        format!("\"{age}\""),
        format!("'{age}\n'\n"),
        age.to_lowercase(),
        format!("# made by age-keygen\n# of ann\n\n{age}\n"),
        ssh.clone(),
        ssh.trim_end().to_owned(),
        format!("\n  {ssh}"),
        ssh.replace('\n', "\r\n"),
        format!("\"{}\"", desk.path("own").display()),
    ] {
        let shown = with_identity(&desk, "PUSH_IDENTITY", &given, &SHOW).exits(0);
        assert_eq!(shown.stdout, CANARY, "{given:?}");
    }
    // Its public half is inside, so nothing has to lie beside it.
    let fresh = Desk::new();
    with_identity(&fresh, "PUSH_IDENTITY", &ssh, &["secret", "init", "prod"]).exits(0);
    let blob = public.split(' ').nth(1).unwrap();
    assert!(fresh.text("inventory/prod.toml").contains(blob));
}

/// Whether some part of a key is in a text, in any case: eight letters of it in a row.
fn repeats(text: &str, key: &str) -> bool {
    let text = text.to_uppercase();
    let key: Vec<char> = key.to_uppercase().chars().collect();
    key.windows(8)
        .any(|part| text.contains(&part.iter().collect::<String>()))
}

#[test]
fn a_key_that_was_pasted_badly_is_refused_and_no_part_of_it_is_repeated() {
    let desk = Desk::with_secrets();
    desk.ssh_key("own", "ed25519", "");
    // Nothing listens there, and no name is looked up.
    let here = "[hosts.web1]\naddress = \"127.0.0.1\"\nport = 1\n";
    let inventory = desk.text("inventory/prod.toml");
    desk.write(
        "inventory/prod.toml",
        inventory.replace("[hosts.web1] # the only one\n", here),
    );
    let age = Identity::generate().to_string().expose_secret().to_owned();
    let ssh = desk.text("own");
    let inside: String = ssh.lines().filter(|line| !line.starts_with('-')).collect();
    let (cut, data) = (age.strip_prefix("AGE-").unwrap(), &age[16..]);
    for (given, canary) in [
        (cut.to_owned(), data),
        (cut.to_lowercase(), data),
        (data.to_owned(), data),
        (format!("1{}", data.to_lowercase()), data),
        (format!("IDENTITY={age}"), data),
        (format!("{data}:/no/such/file"), data),
        (format!("keys:{age}"), data),
        (format!("\u{feff}{age}\n{data}"), data),
        (age[..60].to_owned(), data),
        (ssh.replace('\n', " "), &*inside),
        (ssh.replace('\n', ""), &inside),
        (ssh.replace('\n', "\\n"), &inside),
        (ssh[..200].to_owned(), &inside),
        (inside.clone(), &inside),
        (inside[40..120].to_owned(), &inside),
        (ssh.lines().skip(1).collect::<Vec<_>>().join("\n"), &inside),
    ] {
        for variable in ["PUSH_IDENTITY", "AGE_IDENTITY"] {
            for args in [&SHOW[..], &["plan", "prod"], &["doctor", "prod"]] {
                let said = with_identity(&desk, variable, &given, args);
                let told = format!("{}{}", said.stdout, said.stderr);
                assert!(!repeats(&told, canary), "{args:?} {given:?}: {told}");
                assert_ne!(said.status, 0, "{args:?} {given:?}: {told}");
            }
            with_identity(&desk, variable, &given, &SHOW)
                .exits(8)
                .says(variable);
        }
    }
    with_identity(&desk, "AGE_IDENTITY", data, &SHOW)
        .exits(8)
        .says("AGE_IDENTITY holds something that is neither a key nor a file that can be read")
        .says("put into AGE_IDENTITY the path of a file of keys");
    with_identity(&desk, "PUSH_IDENTITY", "/no/such/id_ed25519", &SHOW)
        .exits(8)
        .says("the identity /no/such/id_ed25519 cannot be read");
}
