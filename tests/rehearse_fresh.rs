//! `push rehearse` of an environment that says what a fresh machine is to be made into: the hosts are as a
//! provider hands them over, the bootstrap is the real one, and what apps run on comes with it as packages.

use std::fs;
use std::path::Path;
use std::process::Command;

use push_tests::hosts::{place, say};
use push_tests::lab::program;

/// A server that needs what only the bootstrap's packages bring: node runs it, and it asks sqlite3.
const SERVER: &str = r#"
const { execFileSync } = require("node:child_process");
const answer = () => execFileSync("sqlite3", [":memory:", "select 6 * 7"]).toString().trim();
require("node:http")
  .createServer((_, out) => out.end(JSON.stringify({ status: "ok", answer: answer() })))
  .listen(8080, "127.0.0.1");
"#;

/// Two hosts, of which one is to be bootstrapped. The key is nobody's: the rehearsal brings its own.
const INVENTORY: &str = r#"
project = "shop"

[ssh]
user = "ada"

[hosts.web1]
address = "192.0.2.1"
tags = ["web"]

[hosts.db1]
address = "192.0.2.2"

[bootstrap]
on = "web"
keys = ["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ nobody"]
packages = ["nodejs", "sqlite3"]

[apps.web]
on = "web"
source = "server.js"

[apps.web.service]
hardening = "node"
exec = "/usr/bin/node {{ release.dir }}/server.js"

[apps.web.health]
http = "http://127.0.0.1:8080/"
json = { status = "ok", answer = "42" }
timeout = "20s"
"#;

fn write(folder: &Path, file: &str, text: &str) {
    let path = folder.join(file);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

#[test]
fn a_rehearsal_bootstraps_fresh_hosts_for_real_and_pushes_to_what_came_of_them() {
    if place().is_none() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "inventory/prod.toml", INVENTORY);
    write(folder.path(), "server.js", SERVER);
    let said = Command::new(program("push"))
        .args(["rehearse", "prod", "--yes"])
        .current_dir(folder.path())
        .output()
        .unwrap();
    let (out, err) = (
        String::from_utf8_lossy(&said.stdout),
        String::from_utf8_lossy(&said.stderr),
    );
    let text = format!("--- stdout\n{out}\n--- stderr\n{err}");
    assert_eq!(said.status.code(), Some(0), "{text}");
    for told in [
        "bootstrap fresh hosts",
        "package",
        "nodejs",
        "login ada",
        "bootstrap again",
        "everything went as it should",
    ] {
        assert!(text.contains(told), "{told:?} is not in\n{text}");
    }
    // The host that has no bootstrap is furnished as ever, and no bootstrap touches it.
    let bootstrap = err.split('▶').nth(1).unwrap_or_default();
    assert!(
        bootstrap.contains("web1") && !bootstrap.contains("db1"),
        "{bootstrap}"
    );
    // What the inventory says of its own hosts is not what was rehearsed on, and stays as it was.
    let after = fs::read_to_string(folder.path().join("inventory/prod.toml")).unwrap();
    assert_eq!(after, INVENTORY);
    let timings = out.split("Timings").nth(1).unwrap_or_default();
    say(timings.trim_end());
}
