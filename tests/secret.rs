//! `push secret`, from outside: the whole life of a secret, and everything that can be wrong with one.
//! No host is reached.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "the panic of a test is its message"
)]

mod secret_desk;

use std::fs;
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use age::x25519::Identity;
use secret_desk::{CANARY, Desk, Said, holding, said};

const TOKEN: &str = "inventory/secrets/prod/token.age";

#[test]
fn a_value_is_shown_although_another_environment_that_shares_secrets_has_a_mistake() {
    let desk = Desk::with_secrets();
    desk.write("inventory/secrets/shared.age", "");
    desk.write("inventory/staging.toml", "projekt = 1\n");
    desk.push(&["secret", "list", "prod"]).exits(2);
    let shown = desk.push(&["secret", "show", "prod", "token"]).exits(0);
    assert_eq!(shown.stdout, CANARY);
}

#[test]
fn a_secret_lives_from_init_to_rotate_and_verify_agrees_at_every_step() {
    let desk = Desk::with_secrets();
    let verified = || desk.push(&["secret", "verify", "prod"]).exits(0);
    verified().says("2 secrets, all as declared");
    assert_eq!(
        desk.push(&["secret", "show", "prod", "token"])
            .exits(0)
            .stdout,
        CANARY
    );
    desk.push(&["secret", "list", "prod"])
        .exits(0)
        .says("ann")
        .says("api")
        .says("web1");

    let bob = Identity::generate();
    desk.identity("bob.key", &bob);
    let show = ["secret", "show", "prod", "token"];
    desk.push_as("bob.key", &show)
        .exits(8)
        .says("push secret grant")
        .says("token.age");
    let key = bob.to_public().to_string();
    desk.push(&["secret", "grant", "prod", "bob", "token", "--key", &key])
        .exits(0)
        .says("bob can open token now");
    verified();
    assert_eq!(desk.push_as("bob.key", &show).exits(0).stdout, CANARY);
    desk.push_as("bob.key", &["secret", "show", "prod", "url"])
        .exits(8);

    desk.push(&["secret", "revoke", "prod", "bob", "token"])
        .exits(0)
        .says("bob knows the values")
        .says("push secret rotate prod token");
    verified();
    desk.push_as("bob.key", &show).exits(8);
    desk.push_with(&["secret", "rotate", "prod", "token"], CANARY)
        .exits(9)
        .says("already");
    desk.push_with(&["secret", "rotate", "prod", "token"], "another")
        .exits(0);
    assert_eq!(desk.push(&show).exits(0).stdout, "another");
    desk.push(&["secret", "rotate", "prod", "token", "url", "--generate"])
        .exits(0);
    let made = desk.push(&show).exits(0).stdout;
    assert_eq!(made.len(), 43, "{made}");
    verified();
    let inventory = desk.text("inventory/prod.toml");
    assert!(inventory.starts_with("# the shop\n") && inventory.contains("# the only one"));
}

#[test]
fn a_sealed_file_is_plain_age_and_no_value_is_in_the_project() {
    let desk = Desk::with_secrets();
    let sealed = fs::read(desk.path(TOKEN)).unwrap();
    let opened = age::Decryptor::new(sealed.as_slice()).unwrap();
    let mut value = String::new();
    opened
        .decrypt(std::iter::once(&desk.ann as &dyn age::Identity))
        .unwrap()
        .read_to_string(&mut value)
        .unwrap();
    assert_eq!(value, CANARY);
    assert!(holding(&desk.path("."), CANARY).is_empty());
}

#[test]
fn with_hosts_a_file_is_sealed_to_their_pinned_keys_and_a_changed_key_is_found() {
    let desk = Desk::with_secrets();
    desk.push(&["secret", "grant", "prod", "hosts", "--all"])
        .exits(0)
        .says("hosts can open");
    assert!(
        desk.text("inventory/secrets/secrets.lock")
            .contains("host web1")
    );
    assert!(
        String::from_utf8_lossy(&fs::read(desk.path(TOKEN)).unwrap()).contains("-> ssh-ed25519 ")
    );
    desk.push(&["secret", "verify", "prod"]).exits(0);

    let inventory = desk.text("inventory/prod.toml");
    let other = desk.ssh_key("other", "ed25519", "");
    let changed = inventory.replace(
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJLGgqmjsM0vvbVIgRVNDYHYEqFnVVqL2Ju46oDtJJ2f",
        &other,
    );
    desk.write("inventory/prod.toml", changed);
    desk.push(&["secret", "verify", "prod"])
        .exits(8)
        .says("host web1 may open it and cannot")
        .says("host web1 can open it and may not");
    desk.push(&["secret", "rekey", "prod"]).exits(0);
    desk.push(&["secret", "verify", "prod"]).exits(0);

    desk.write(
        "inventory/prod.toml",
        inventory
            .lines()
            .filter(|line| !line.starts_with("host_key"))
            .collect::<Vec<_>>()
            .join("\n"),
    );
    let before = desk.inventory();
    desk.push(&["secret", "verify", "prod"])
        .exits(8)
        .says("web1, which has no host_key")
        .says("push trust ENVIRONMENT web1");
    desk.push(&["secret", "rekey", "prod"])
        .exits(8)
        .says("web1, which has no host_key");
    assert_eq!(desk.inventory(), before);

    // Trusting the host once more would change nothing: it is known, by a key that opens nothing.
    let other = desk.ssh_key("another", "ecdsa", "");
    let pinned = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJLGgqmjsM0vvbVIgRVNDYHYEqFnVVqL2Ju46oDtJJ2f";
    desk.write("inventory/prod.toml", inventory.replace(pinned, &other));
    desk.push(&["secret", "rekey", "prod"])
        .exits(8)
        .says("nothing can be sealed to ecdsa-sha2-nistp256")
        .says("ssh_host_ed25519_key.pub");
}

/// Each kind of damage, what verify says of it, and whether a key that fits still opens it.
#[test]
fn every_damaged_or_foreign_file_is_named_with_the_reason_and_nothing_is_touched() {
    let desk = Desk::with_secrets();
    let whole = fs::read(desk.path(TOKEN)).unwrap();
    let flipped = |at: usize| {
        let mut bytes = whole.clone();
        bytes[at] ^= 1;
        bytes
    };
    let stranger = push::secret::seal(
        b"x",
        &[Identity::generate()
            .to_public()
            .to_string()
            .parse()
            .unwrap()],
    )
    .unwrap();
    let cases: Vec<(&str, Vec<u8>, &str)> = vec![
        ("truncated in its header", whole[..60].to_vec(), "cut short"),
        (
            "truncated in its content",
            whole[..whole.len() - 3].to_vec(),
            "secrets.lock",
        ),
        ("a bit flipped in its header", flipped(30), "secrets.lock"),
        (
            "a bit flipped in its content",
            flipped(whole.len() - 1),
            "secrets.lock",
        ),
        (
            "over-long",
            vec![b'x'; 3 << 20],
            "larger than a secret can be",
        ),
        ("plaintext", CANARY.as_bytes().to_vec(), "not sealed"),
        ("zero bytes", Vec::new(), "is empty"),
        ("sealed to a stranger", stranger, "secrets.lock"),
    ];
    for (what, content, reason) in cases {
        desk.write(TOKEN, &content);
        let before = desk.inventory();
        let said = desk
            .push(&["secret", "verify", "prod"])
            .exits(8)
            .says(TOKEN)
            .says(reason);
        assert!(!said.stdout.contains(CANARY), "{what}");
        for verb in [
            ["secret", "show", "prod", "token"].as_slice(),
            &["secret", "edit", "prod", "token"],
            &["secret", "rekey", "prod"],
            &["secret", "grant", "prod", "hosts", "token"],
        ] {
            let said = desk.push(verb).exits(8).says(TOKEN);
            assert!(!said.stderr.contains(CANARY), "{what}");
        }
        assert_eq!(desk.inventory(), before, "{what}: something was touched");
    }
}

#[test]
fn a_file_changed_without_the_lock_or_sealed_to_others_than_declared_is_found() {
    let desk = Desk::with_secrets();
    let own = desk.ann.to_public().to_string().parse().unwrap();
    let resealed = push::secret::seal(b"a silent change", &[own]).unwrap();
    desk.write(TOKEN, &resealed);
    desk.push(&["secret", "verify", "prod"])
        .exits(8)
        .says("not the file that secrets.lock tells of");
    // A lock that goes along with it does not hide other recipients.
    let stranger = Identity::generate().to_public().to_string();
    let two = [own_recipient(&desk), stranger.parse().unwrap()];
    let resealed = push::secret::seal(b"for one more", &two).unwrap();
    desk.write(TOKEN, &resealed);
    let lock = desk.text("inventory/secrets/secrets.lock");
    let digest = |text: &str| text.split('"').nth(1).unwrap().to_owned();
    let at = lock.find("[secrets.\"prod/token\"]").unwrap();
    let old = digest(lock[at..].lines().nth(1).unwrap());
    let new = push_wire::digest::Digest::of(&resealed).to_string();
    desk.write("inventory/secrets/secrets.lock", lock.replace(&old, &new));
    desk.push(&["secret", "verify", "prod"])
        .exits(8)
        .says("it is sealed to 2 age keys, and should be to 1 age key");

    desk.push(&["secret", "rekey", "prod"]).exits(0);
    desk.push(&["secret", "verify", "prod"]).exits(0);
    fs::remove_file(desk.path("inventory/secrets/secrets.lock")).unwrap();
    desk.push(&["secret", "verify", "prod"])
        .exits(8)
        .says("secrets.lock says nothing of it");
}

fn own_recipient(desk: &Desk) -> push::secret::Recipient {
    desk.ann.to_public().to_string().parse().unwrap()
}

#[test]
fn missing_unused_and_misnamed_files_are_found() {
    let desk = Desk::with_secrets();
    desk.set("unused", "x");
    desk.write("inventory/secrets/prod/-rf.age", "x");
    desk.write("inventory/secrets/prdo/url.age", "x");
    std::os::unix::fs::symlink("/etc/passwd", desk.path("inventory/secrets/prod/link.age"))
        .unwrap();
    fs::remove_file(desk.path("inventory/secrets/prod/url.age")).unwrap();
    desk.push(&["secret", "verify", "prod"])
        .exits(8)
        .says("unused.age: nothing in prod uses it")
        .says("-rf.age: it cannot be the name of a secret")
        .says("prdo: no environment is called so")
        .says("link.age: it is a link that leads out")
        .says("api uses url, and inventory/secrets/url.age does not exist")
        .says("url.age: secrets.lock tells of it, and it is not there");
}

#[test]
fn a_name_that_escapes_its_folder_and_a_key_that_is_none_are_refused() {
    let desk = Desk::with_secrets();
    let before = desk.inventory();
    for name in ["../x", "/etc/x", "a/b", "..", ".x", "a b", "$(id)"] {
        desk.push_with(&["secret", "set", "prod", name], "x")
            .exits(2)
            .says("file name");
    }
    for key in [
        "ssh-dss AAAA",
        "age1x",
        "me@example.com",
        "ssh-ed25519 AAAA",
        "ecdsa-sha2-nistp256 AAAA",
    ] {
        desk.push(&["secret", "grant", "prod", "bob", "token", "--key", key])
            .exits(2)
            .says("is not a key that secrets can be sealed to");
    }
    let private =
        "AGE-SECRET-KEY-1QQPZRY9X8GF2TVDW0S3JN54KHCE6MUA7LQPZRY9X8GF2TVDW0S3JN54KHCE6MUA7L";
    let said = desk
        .push(&["secret", "grant", "prod", "bob", "token", "--key", private])
        .exits(2);
    assert!(!said.stderr.contains("QPZRY"), "{}", said.stderr);
    desk.push(&["secret", "grant", "prod", "anne", "token"])
        .exits(2)
        .says("did you mean \"ann\"?");
    assert_eq!(desk.inventory(), before);
    // The same in the inventory; the line with the key is not drawn.
    desk.write(
        "inventory/prod.toml",
        format!(
            "{}\n",
            desk.text("inventory/prod.toml").replace(
                "ann = \"age1",
                &format!("eve = \"{private}\"\nann = \"age1")
            )
        ),
    );
    let said = desk
        .push(&["secret", "list", "prod"])
        .exits(2)
        .says("secrets.people.eve")
        .says("secret key");
    assert!(!said.stderr.contains("QPZRY"), "{}", said.stderr);
}

#[test]
fn nobody_is_asked_without_a_terminal_and_what_to_pass_is_said() {
    let desk = Desk::with_secrets();
    let before = desk.inventory();
    desk.push(&["secret", "set", "prod", "token"])
        .exits(2)
        .says("nothing came in on stdin")
        .says("pipe it in");
    desk.push(&["secret", "rotate", "prod", "token", "url"])
        .exits(2)
        .says("--generate");
    assert_eq!(desk.inventory(), before);
    let key = desk.ssh_key("locked", "ed25519", "correct horse");
    // Its public half tells that its passphrase would help nobody.
    let said = desk
        .push_as("locked", &["secret", "show", "prod", "token"])
        .exits(8)
        .says("inventory/secrets/prod/token.age is sealed to none of your keys");
    assert!(!said.stderr.contains("passphrase"), "{}", said.stderr);
    desk.push(&["secret", "grant", "prod", "locked", "token", "--key", &key])
        .exits(0);
    let begun = Instant::now();
    desk.push_as("locked", &["secret", "show", "prod", "token"])
        .exits(8)
        .says("inventory/secrets/prod/token.age is sealed to the identity ")
        .says("stays locked: it needs a passphrase")
        .says("PUSH_IDENTITY");
    assert!(begun.elapsed() < Duration::from_secs(20));
    desk.push(&["secret", "revoke", "prod", "locked", "--all"])
        .exits(0);
    // A key of a kind that age does not have, and one that may not be read.
    desk.ssh_key("ecdsa", "ecdsa", "");
    desk.push_as("ecdsa", &["secret", "show", "prod", "token"])
        .exits(8)
        .says("cannot open secrets");
    desk.push_as("nowhere", &["secret", "show", "prod", "token"])
        .exits(8)
        .says("cannot be read");
}

#[test]
fn a_rekey_names_what_cannot_be_opened_before_anything_is_touched() {
    let desk = Desk::with_secrets();
    let stranger = push::secret::seal(
        b"x",
        &[Identity::generate()
            .to_public()
            .to_string()
            .parse()
            .unwrap()],
    )
    .unwrap();
    desk.write("inventory/secrets/prod/url.age", &stranger);
    desk.write("inventory/secrets/prod/other.age", "not sealed");
    let before = desk.inventory();
    desk.push(&["secret", "rekey", "prod"])
        .exits(8)
        .says("url.age is sealed to none of your keys")
        .says("other.age is not an age file")
        .says("nothing was touched");
    assert_eq!(desk.inventory(), before);
}

#[test]
fn an_editor_changes_a_value_and_no_disk_sees_it() {
    let desk = Desk::with_secrets();
    let editor = desk.path("editor");
    fs::write(&editor, "#!/bin/sh\nstat -f -c %T \"$1\" > \"$HOME/kind\"\nstat -c %a \"$1\" >> \"$HOME/kind\"\nprintf -- -edited >> \"$1\"\n").unwrap();
    fs::set_permissions(&editor, fs::Permissions::from_mode(0o755)).unwrap();
    let edit = |editor: &str, args: &[&str]| {
        let mut command = desk.command(args);
        said(
            command
                .env("EDITOR", editor)
                .stdin(Stdio::null())
                .output()
                .unwrap(),
        )
    };
    let token = ["secret", "edit", "prod", "token"];
    edit(editor.to_str().unwrap(), &token)
        .exits(0)
        .says("push does not know editor");
    assert_eq!(desk.text("kind"), "tmpfs\n600\n");
    let show = || {
        desk.push(&["secret", "show", "prod", "token"])
            .exits(0)
            .stdout
    };
    assert_eq!(show(), format!("{CANARY}-edited"));
    assert!(holding(&desk.path("."), CANARY).is_empty());
    let before = desk.inventory();
    edit("true", &token).exits(0).says("as it was");
    edit("false", &token).exits(9).says("nothing was changed");
    edit("/no/such/editor", &token)
        .exits(9)
        .says("cannot be started");
    edit("sh -c ': > \"$1\"' sh", &token)
        .exits(9)
        .says("left empty");
    assert_eq!(desk.inventory(), before);
    desk.push(&["secret", "verify", "prod"]).exits(0);
}

#[test]
fn a_signal_while_editing_removes_the_file_and_changes_nothing() {
    let desk = Desk::with_secrets();
    let before = desk.inventory();
    let mut child = desk
        .command(&["secret", "edit", "prod", "token"])
        .env(
            "EDITOR",
            "sh -c 'echo \"$1\" > \"$HOME/where\"; exec sleep 60' sh",
        )
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let begun = Instant::now();
    let file = loop {
        let told = fs::read_to_string(desk.path("where")).unwrap_or_default();
        if told.ends_with('\n') {
            break told.trim().to_owned();
        }
        assert!(
            begun.elapsed() < Duration::from_secs(30),
            "the editor never started"
        );
        std::thread::sleep(Duration::from_millis(20));
    };
    assert!(fs::metadata(&file).is_ok());
    // Meanwhile nobody else changes secrets.
    desk.push(&["secret", "rekey", "prod"])
        .exits(7)
        .says("at work");
    let signalled = Command::new("kill")
        .args(["-TERM", &child.id().to_string()])
        .status()
        .unwrap();
    assert!(signalled.success());
    let status = child.wait().unwrap();
    assert_eq!(status.code(), Some(130));
    assert!(fs::metadata(&file).is_err(), "{file} is still there");
    assert_eq!(desk.inventory(), before);
}

#[test]
fn a_secret_that_environments_share_is_sealed_to_the_readers_of_all_that_use_it() {
    let desk = Desk::with_secrets();
    let carl = Identity::generate();
    desk.identity("carl.key", &carl);
    desk.write(
        "inventory/staging.toml",
        format!(
            "project = \"shop\"\n[secrets.people]\ncarl = \"{}\"\n[secrets.readers]\n\"*\" = [\"carl\"]\n[hosts.stage1]\n[apps.api]\nsecrets = [\"smtp\"]\n[apps.api.service]\nexec = \"/bin/api\"\n",
            carl.to_public()
        ),
    );
    let inventory = desk
        .text("inventory/prod.toml")
        .replace("\"url\"]", "\"url\", \"smtp\"]");
    desk.write("inventory/prod.toml", inventory);
    desk.push_with(&["secret", "set", "prod", "smtp", "--shared"], "shared")
        .exits(0)
        .says("inventory/secrets/smtp.age");
    for (key, environment) in [("ann.key", "prod"), ("carl.key", "staging")] {
        let said = desk
            .push_as(key, &["secret", "show", environment, "smtp"])
            .exits(0);
        assert_eq!(said.stdout, "shared");
        desk.push(&["secret", "verify", environment]).exits(0);
    }
    // What only prod has is none of carl's business.
    desk.push_as("carl.key", &["secret", "show", "prod", "token"])
        .exits(8);
}

#[test]
fn programs_get_json_and_the_value_only_when_they_ask_for_it() {
    let desk = Desk::with_secrets();
    for verb in ["list", "verify", "rekey"] {
        let said = desk.push(&["secret", verb, "prod", "--json"]).exits(0);
        for line in said.stdout.lines() {
            let value: serde_json::Value = serde_json::from_str(line).unwrap();
            assert_eq!(value["v"], 1, "{line}");
        }
        assert!(!said.stdout.is_empty() && !said.stdout.contains(CANARY));
    }
    let said = desk
        .push(&["secret", "show", "prod", "token", "--json"])
        .exits(0);
    let value: serde_json::Value = serde_json::from_str(&said.stdout).unwrap();
    assert_eq!(
        (&value["encoding"], &value["value"]),
        (&"text".into(), &CANARY.into())
    );
}

/// Runs push with its answer going there.
fn answering(desk: &Desk, args: &[&str], stdout: Stdio) -> Said {
    let mut command = desk.command(args);
    let child = command.stdin(Stdio::null()).stdout(stdout);
    said(
        child
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
            .wait_with_output()
            .unwrap(),
    )
}

#[test]
fn an_answer_that_cannot_be_written_is_an_error_and_one_that_nobody_reads_on_is_none() {
    let desk = Desk::with_secrets();
    for args in [
        &["secret", "show", "prod", "token"][..],
        &["secret", "list", "prod"],
        &["--json", "secret", "list", "prod"],
        &["completion", "bash"],
        &["--help"],
    ] {
        let full = fs::File::options().write(true).open("/dev/full").unwrap();
        answering(&desk, args, full.into())
            .exits(1)
            .says("the answer cannot be written to stdout: No space left on device");
        let (reader, gone) = std::io::pipe().unwrap();
        drop(reader);
        let said = answering(&desk, args, gone.into()).exits(0);
        assert_eq!(said.stderr, "", "{args:?}");
    }
}
