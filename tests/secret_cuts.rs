//! `push secret rekey` killed at every call that changes a file, and `push secret edit` watched for where
//! it writes: the real program under strace.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "the panic of a test is its message"
)]

mod secret_desk;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use secret_desk::{CANARY, Desk};

/// Every call by which a file or a folder changes.
const CALLS: &[&str] = &[
    "mkdir",
    "mkdirat",
    "write",
    "fsync",
    "rename",
    "renameat",
    "renameat2",
    "unlink",
    "unlinkat",
    "rmdir",
    "chmod",
    "fchmod",
    "fchmodat",
];

/// More often than any of them is called in one rekey.
const TIMES_MAX: usize = 60;

/// `strace`, where there is one and it may trace.
fn strace(desk: &Desk) -> Option<Command> {
    let traced = Command::new("strace")
        .args(["-o", "/dev/null", "true"])
        .output();
    if !traced.is_ok_and(|output| output.status.success()) {
        println!("SKIPPED: strace cannot trace here");
        return None;
    }
    let mut command = Command::new("strace");
    desk.dress(&mut command);
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    Some(command)
}

/// The inventory without what was never decided: nobody reads that, and the next change takes it away.
fn files(desk: &Desk) -> Vec<(PathBuf, Vec<u8>)> {
    let new = desk.path("inventory/secrets/.change.new");
    let mut all = desk.inventory();
    all.retain(|(path, _)| !path.starts_with(&new));
    all
}

#[test]
fn a_rekey_killed_at_any_call_leaves_every_file_old_or_new_and_is_finished_or_forgotten() {
    let desk = Desk::with_secrets();
    let (mut kills, mut finished) = (0, 0);
    for call in CALLS {
        for time in 1..=TIMES_MAX {
            let before = files(&desk);
            let Some(mut command) = strace(&desk) else {
                return;
            };
            let status = command
                .args([
                    "-f",
                    "-qq",
                    "-o",
                    "/dev/null",
                    "-e",
                    &format!("trace={call}"),
                    "-e",
                ])
                .arg(format!("inject={call}:signal=SIGKILL:when={time}"))
                .arg(env!("CARGO_BIN_EXE_push"))
                .args(["secret", "rekey", "prod"])
                .status()
                .unwrap();
            let killed = status.signal().is_some() || status.code().is_none_or(|code| code >= 128);
            if !killed {
                assert_eq!(status.code(), Some(0), "{call} {time}");
                break;
            }
            kills += 1;
            // Whatever looks next finds all files of one side: both values open, and the lock agrees.
            desk.push(&["secret", "verify", "prod"]).exits(0);
            let after = files(&desk);
            let names = |files: &[(PathBuf, Vec<u8>)]| -> Vec<PathBuf> {
                files.iter().map(|(path, _)| path.clone()).collect()
            };
            assert_eq!(
                names(&after),
                names(&before),
                "{call} {time}: files came or went"
            );
            let changed = before
                .iter()
                .zip(&after)
                .filter(|(old, new)| old != new)
                .count();
            assert!(
                changed == 0 || changed == 3,
                "{call} {time}: {changed} of 3 files changed"
            );
            finished += usize::from(changed == 3);
            assert_eq!(
                desk.push(&["secret", "show", "prod", "token"])
                    .exits(0)
                    .stdout,
                CANARY
            );
        }
    }
    assert!(
        kills > 20 && finished > 5,
        "{kills} kills, {finished} of them after the decision"
    );
    println!("{kills} kills, {finished} of them after the decision");
    desk.push(&["secret", "rekey", "prod"]).exits(0);
    assert!(!desk.path("inventory/secrets/.change.new").exists());
}

#[test]
fn an_edit_writes_the_value_to_memory_alone() {
    let desk = Desk::with_secrets();
    let script = desk.path("editor");
    fs::write(
        &script,
        format!("#!/bin/sh\nprintf -- '-{CANARY}' >> \"$1\"\n"),
    )
    .unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    let vim = format!("vim -es -c 's/$/-{CANARY}/' -c wq");
    for editor in [script.to_str().unwrap(), vim.as_str()] {
        if editor == vim && !fs::exists("/usr/bin/vim").unwrap() {
            println!("SKIPPED: there is no vim");
            continue;
        }
        let Some(mut command) = strace(&desk) else {
            return;
        };
        let trace = desk.path("trace");
        let status = command
            .env("EDITOR", editor)
            .env("TERM", "dumb")
            .args([
                "-f",
                "-y",
                "-s",
                "100000",
                "-e",
                "trace=write,writev,pwrite64,pwritev,sendto,rename,renameat,renameat2,link,linkat",
                "-o",
            ])
            .arg(&trace)
            .arg(env!("CARGO_BIN_EXE_push"))
            .args(["secret", "edit", "prod", "token"])
            .status()
            .unwrap();
        assert!(status.success(), "{editor}: {status}");
        let traced = fs::read_to_string(&trace).unwrap();
        fs::remove_file(&trace).unwrap();
        let writes: Vec<&str> = traced
            .lines()
            .filter(|line| line.contains(CANARY))
            .collect();
        assert!(writes.len() >= 2, "{editor}: {traced}");
        for line in writes {
            assert!(line.contains("</dev/shm/push-secret."), "{editor}: {line}");
        }
        assert!(fs::read_dir("/dev/shm").unwrap().flatten().all(|entry| {
            !secret_desk::holding(&entry.path(), CANARY)
                .iter()
                .any(|path| path.is_file())
        }));
        let value = desk
            .push(&["secret", "show", "prod", "token"])
            .exits(0)
            .stdout;
        assert!(
            value.starts_with(CANARY) && value.trim_end().ends_with(&format!("-{CANARY}")),
            "{value}"
        );
    }
    let left: Vec<_> = secret_desk::holding(&desk.path("."), CANARY);
    assert_eq!(left, [script], "the editor of this test alone holds it");
}
