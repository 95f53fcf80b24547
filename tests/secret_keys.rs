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
use std::process::Stdio;

use age::secrecy::ExposeSecret as _;
use secret_desk::{CANARY, Desk, said};

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
