//! The command line, from outside: each file of `tests/cli` is one run of the program, with what it
//! must say and how it must end. No case reaches a host.
//!
//! To add a case, write a file that ends in `status = 0`, run this test with `ACCEPT=1` and read
//! what it wrote. `{DIR}` stands for the folder that the case runs in.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "the panic of a test is its message"
)]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde::Deserialize;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    /// What the operator types behind `push`.
    args: Vec<String>,
    /// The files that are there, by path.
    #[serde(default)]
    files: BTreeMap<String, String>,
    /// The environment beside a bare PATH and HOME.
    #[serde(default)]
    env: BTreeMap<String, String>,
    status: i32,
    #[serde(default)]
    stdout: String,
    #[serde(default)]
    stderr: String,
}

#[test]
fn every_case_says_what_it_is_written_to_say() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/cli");
    let mut cases: Vec<PathBuf> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "toml")
        })
        .collect();
    cases.sort();
    assert!(!cases.is_empty());
    let wrong: Vec<String> = cases.iter().filter_map(|case| check(case)).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Runs one case; what is wrong with it, if anything.
fn check(path: &Path) -> Option<String> {
    let text = fs::read_to_string(path).unwrap();
    let case: Case = toml::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let (status, stdout, stderr) = run(&case);
    if (status, &stdout, &stderr) == (case.status, &case.stdout, &case.stderr) {
        return None;
    }
    let found = expectation(status, &stdout, &stderr);
    if std::env::var_os("ACCEPT").is_some() {
        let given = text.split("\nstatus = ").next().unwrap();
        fs::write(path, format!("{given}\n{found}")).unwrap();
        return None;
    }
    let wanted = expectation(case.status, &case.stdout, &case.stderr);
    Some(format!(
        "{}: wanted\n{wanted}found\n{found}",
        path.display()
    ))
}

fn run(case: &Case) -> (i32, String, String) {
    let folder = tempfile::tempdir().unwrap();
    for (path, content) in &case.files {
        let path = folder.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
    let output = Command::new(env!("CARGO_BIN_EXE_push"))
        .args(&case.args)
        .current_dir(&folder)
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .env("HOME", folder.path())
        .envs(&case.env)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = |bytes: Vec<u8>| {
        let folder = fs::canonicalize(folder.path()).unwrap();
        String::from_utf8(bytes)
            .unwrap()
            .replace(folder.to_str().unwrap(), "{DIR}")
    };
    (
        output.status.code().unwrap_or(-1),
        said(output.stdout),
        said(output.stderr),
    )
}

/// The end of a case's file.
fn expectation(status: i32, stdout: &str, stderr: &str) -> String {
    let mut text = format!("status = {status}\n");
    for (name, said) in [("stdout", stdout), ("stderr", stderr)] {
        let plain = |c: char| c == '\n' || !c.is_control();
        if said.chars().all(plain) && !said.contains("'''") {
            let _ = writeln!(text, "{name} = '''\n{said}'''");
        } else {
            let _ = writeln!(text, "{name} = {}", toml::Value::String(said.to_owned()));
        }
    }
    text
}
