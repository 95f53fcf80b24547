//! Who can open which secrets, from outside: what is declared, what is sealed, and what is said where the
//! two are not the same. No host is reached.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "the panic of a test is its message"
)]

mod secret_desk;

use std::fs;

use age::x25519::Identity;
use secret_desk::Desk;

/// A desk where prod and staging share `smtp`, and both let ann and bob open everything.
fn shared_with_bob() -> Desk {
    let desk = Desk::with_secrets();
    let bob = Identity::generate();
    desk.identity("bob.key", &bob);
    let inventory = desk.text("inventory/prod.toml");
    desk.write(
        "inventory/prod.toml",
        inventory.replace("\"url\"]", "\"url\", \"smtp\"]"),
    );
    let key = bob.to_public().to_string();
    desk.push(&["secret", "grant", "prod", "bob", "--all", "--key", &key])
        .exits(0);
    desk.write(
        "inventory/staging.toml",
        format!(
            "project = \"shop\"\n[secrets.people]\nann = \"{}\"\nbob = \"{key}\"\n[secrets.readers]\n\"*\" = [\"ann\", \"bob\"]\n[hosts.stage1]\n[apps.api]\nsecrets = [\"smtp\"]\n[apps.api.service]\nexec = \"/bin/api\"\n",
            desk.ann.to_public()
        ),
    );
    desk.push_with(&["secret", "set", "prod", "smtp", "--shared"], "shared")
        .exits(0);
    desk
}

#[test]
fn what_somebody_opens_still_by_another_environment_is_never_called_taken_away() {
    for chosen in ["smtp", "--all"] {
        let desk = shared_with_bob();
        let show = ["secret", "show", "staging", "smtp"];
        let said = desk
            .push(&["secret", "revoke", "prod", "bob", chosen])
            .exits(8)
            .says("bob still opens smtp: staging declares bob")
            .says("`push secret revoke staging bob smtp`");
        for untrue in [
            "no longer declared",
            "no longer open smtp",
            "rotate prod smtp",
        ] {
            assert!(!said.stdout.contains(untrue), "{untrue}: {}", said.stdout);
        }
        let url = "bob can no longer open token, url";
        assert_eq!(
            said.stdout.contains(url),
            chosen == "--all",
            "{}",
            said.stdout
        );
        desk.push_as("bob.key", &show).exits(0);

        desk.push(&["secret", "revoke", "staging", "bob", "smtp"])
            .exits(0)
            .says("bob can no longer open smtp")
            .says("Set new ones, for prod as well: `push secret rotate staging smtp --shared`");
        desk.push_as("bob.key", &show).exits(8);
    }
}

#[test]
fn who_is_let_out_of_everything_does_not_come_back_by_the_inventory_that_is_extended() {
    let desk = Desk::with_secrets();
    let bob = Identity::generate();
    desk.identity("bob.key", &bob);
    desk.write(
        "inventory/shared/base.toml",
        format!(
            "[secrets.people]\nbob = \"{}\"\n[secrets.readers]\n\"*\" = [\"bob\"]\n",
            bob.to_public()
        ),
    );
    // Without a line of its own, prod takes the one of base.
    let inventory = desk.text("inventory/prod.toml").replace(
        "project = \"shop\"",
        "extends = \"shared/base.toml\"\nproject = \"shop\"",
    );
    let own = "[secrets.readers]\n\"*\" = [\"ann\"]\n";
    assert!(inventory.contains(own), "{inventory}");
    let lines = "[secrets.readers]\ntoken = [\"ann\"]\nurl = [\"ann\"]\n";
    desk.write("inventory/prod.toml", inventory.replace(own, lines));
    desk.push(&["secret", "revoke", "prod", "bob", "--all"])
        .exits(0);
    assert!(desk.text("inventory/prod.toml").contains("\"*\" = []"));
    desk.push_with(&["secret", "set", "prod", "new"], "x")
        .exits(2)
        .says("nobody is declared to read new");
}

#[test]
fn a_list_tells_who_can_open_a_file_and_not_only_who_is_declared() {
    let desk = shared_with_bob();
    let list = ["secret", "list", "prod"];
    desk.push(&list).exits(0).says("ann, bob ");
    let carl = Identity::generate().to_public();
    let inventory = desk
        .text("inventory/prod.toml")
        .replace(
            "[secrets.people]\n",
            &format!("[secrets.people]\ncarl = \"{carl}\"\n"),
        )
        .replace("\"*\" = [\"ann\", \"bob\"]", "\"*\" = [\"ann\", \"carl\"]");
    desk.write("inventory/prod.toml", inventory);
    let differing = "ann, bob (until rekey), carl (after rekey)";
    let said = desk.push(&list).exits(0).says(differing);
    // Staging lets bob go on with what is shared.
    let shared = said.stdout.lines().find(|line| line.starts_with("smtp"));
    assert!(shared.unwrap().contains("ann, bob, carl (after rekey)"));
    let said = desk.push(&["secret", "list", "prod", "--json"]).exits(0);
    let first: serde_json::Value =
        serde_json::from_str(said.stdout.lines().nth(1).unwrap()).unwrap();
    assert_eq!(first["secret"]["until_rekey"], serde_json::json!(["bob"]));
    desk.push(&["secret", "rekey", "prod"]).exits(0);
    let said = desk.push(&list).exits(0).says("ann, carl ");
    assert!(!said.stdout.contains("rekey"), "{}", said.stdout);

    // Of a file that the lock does not tell of, nobody can be said to open it.
    let other = fs::read(desk.path("inventory/secrets/prod/url.age")).unwrap();
    desk.write("inventory/secrets/prod/token.age", other);
    desk.push(&list)
        .exits(0)
        .says("unknown to secrets.lock")
        .says("ann (after rekey), carl (after rekey)");
}

#[test]
fn what_other_environments_see_as_well_is_changed_only_when_that_was_asked_for() {
    let desk = Desk::with_secrets();
    let staging = desk
        .text("inventory/prod.toml")
        .replace("\"url\"]", "\"smtp\"]");
    desk.write("inventory/staging.toml", staging);
    desk.push_with(&["secret", "set", "prod", "smtp", "--shared"], "shared")
        .exits(0);
    let shared = || fs::read(desk.path("inventory/secrets/smtp.age")).unwrap();
    let before = shared();
    for verb in ["set", "rotate", "edit"] {
        desk.push_with(&["secret", verb, "prod", "smtp"], "unasked")
            .exits(2)
            .says("inventory/secrets/smtp.age is the secret of staging as well")
            .says(&format!("push secret {verb} prod smtp --shared"))
            .says("push secret set prod smtp --own");
        assert_eq!(shared(), before, "{verb}");
    }
    desk.push(&["secret", "set", "prod", "smtp", "--own", "--shared"])
        .exits(2);

    let said = |environment| desk.push(&["secret", "show", environment, "smtp"]).stdout;
    desk.push_with(&["secret", "set", "prod", "smtp", "--own"], "own")
        .exits(0)
        .says("made inventory/secrets/prod/smtp.age")
        .says("The shared smtp is left to staging");
    assert_eq!((shared(), said("staging")), (before, "shared".into()));
    assert_eq!(said("prod"), "own");
    // From now on each changes what is its own.
    desk.push_with(&["secret", "set", "prod", "smtp"], "mine")
        .exits(0);
    desk.push_with(&["secret", "rotate", "staging", "smtp"], "theirs")
        .exits(0);
    assert_eq!(
        (said("prod"), said("staging")),
        ("mine".into(), "theirs".into())
    );
    fs::remove_file(desk.path("inventory/secrets/prod/smtp.age")).unwrap();
    desk.push_with(&["secret", "rotate", "prod", "smtp", "--shared"], "ours")
        .exits(0);
    assert_eq!(said("staging"), "ours");
}
