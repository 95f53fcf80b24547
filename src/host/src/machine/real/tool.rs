//! The command of each tool. Every command has its own limit of time.

use std::fs;
use std::io;
use std::path::Path;
use std::time::Duration;

use push_wire::name::{UnitName, UserName};

use super::process::Program;
use super::units::{JOB_LEAST, job_limit};
use super::{accounts, swap};
use crate::accounts::Account;
use crate::machine::{Tool, ToolError};

/// How long systemd has to read its units again, or to take an order that it carries out later.
const SYSTEMD_LIMIT: Duration = Duration::from_secs(90);

/// How long nft has; a set of thousands of addresses takes seconds.
const FIREWALL_LIMIT: Duration = Duration::from_secs(30);

/// How long creating a user may take: the account files may be locked by somebody else for a while.
const ACCOUNT_LIMIT: Duration = Duration::from_secs(30);

/// How long making locales may take; a large one takes ten seconds on a small host.
const LOCALES_LIMIT: Duration = Duration::from_secs(300);

/// The status by which systemctl says that a unit is not loaded: nothing is there to be stopped.
/// Source: systemctl(1), "EXIT STATUS".
const NOT_LOADED: i32 = 5;

/// Runs a tool to its end.
pub(super) fn run(tool: &Tool) -> Result<(), ToolError> {
    match tool {
        Tool::DaemonReload => systemctl(&["daemon-reload"], SYSTEMD_LIMIT),
        Tool::Restart(unit) => order("restart", unit),
        Tool::TryRestart(unit) => order("try-restart", unit),
        Tool::Reload(unit) => order("reload-or-restart", unit),
        Tool::TryReload(unit) => order("try-reload-or-restart", unit),
        Tool::Stop(unit) => forgiving(&["stop", "--", &all_of(unit)], job_limit(unit)),
        Tool::StopLater(unit) => {
            forgiving(&["stop", "--no-block", "--", &all_of(unit)], SYSTEMD_LIMIT)
        }
        Tool::RestartLater(unit) => systemctl(
            &["restart", "--no-block", "--", unit.as_str()],
            SYSTEMD_LIMIT,
        ),
        Tool::ResetFailed(unit) => reset_failed(unit),
        Tool::LoadFirewall(file) => load_firewall(file),
        Tool::RemoveFirewall => Program::new(&["nft", "-f", "-"], FIREWALL_LIMIT)
            .input(push_wire::firewall::REMOVE)
            .succeed()
            .map(drop),
        Tool::ReloadNginx => systemctl(&["reload-or-restart", "--", "nginx.service"], JOB_LEAST),
        Tool::Sysctl => systemctl(&["restart", "--", "systemd-sysctl.service"], JOB_LEAST),
        Tool::CreateUser(user) => create_user(user),
        Tool::CreateLogin(user) => create_login(user),
        Tool::SetHostname(name) => quick(&["hostname", "--", name.as_str()]),
        Tool::MakeLocales => Program::new(&["locale-gen"], LOCALES_LIMIT)
            .succeed()
            .map(drop),
        Tool::MakeSwap(file, bytes) => swap::make(file, *bytes),
        Tool::SwapOn(file) => quick(&["swapon", "--", &file.to_string_lossy()]),
        Tool::Reboot => systemctl(&["reboot", "--no-block"], SYSTEMD_LIMIT),
    }
}

fn systemctl(arguments: &[&str], limit: Duration) -> Result<(), ToolError> {
    command(arguments, limit).succeed().map(drop)
}

fn command(arguments: &[&str], limit: Duration) -> Program {
    let mut argv = vec!["systemctl", "--no-ask-password"];
    argv.extend(arguments);
    Program::new(&argv, limit)
}

/// Units have limits of their own, which systemd applies; ours is for a systemd that does not answer.
fn order(verb: &str, unit: &UnitName) -> Result<(), ToolError> {
    systemctl(&[verb, "--", unit.as_str()], job_limit(unit))
}

/// What to stop for a unit to run no more. A template does not run itself, but its instances do, which
/// systemctl(1) takes as a pattern: `worker@*.service`.
fn all_of(unit: &UnitName) -> String {
    if unit.is_template() {
        format!("{}*.{}", unit.stem(), unit.suffix())
    } else {
        unit.to_string()
    }
}

/// A unit that systemd does not know is as good as stopped.
fn forgiving(arguments: &[&str], limit: Duration) -> Result<(), ToolError> {
    let program = command(arguments, limit);
    let ended = program.run()?;
    if ended.status.success() || ended.status.code() == Some(NOT_LOADED) {
        return Ok(());
    }
    Err(ToolError::Failed {
        tool: program.shown(),
        output: ended.said(),
    })
}

/// systemd answers with status 1 when the unit is not loaded: then nothing is to be reset.
fn reset_failed(unit: &UnitName) -> Result<(), ToolError> {
    command(&["reset-failed", "--", unit.as_str()], SYSTEMD_LIMIT)
        .run()
        .map(drop)
}

fn load_firewall(file: &Path) -> Result<(), ToolError> {
    let path = file.to_string_lossy();
    Program::new(&["nft", "-f", &path], FIREWALL_LIMIT)
        .succeed()
        .map(drop)
}

const PASSWD: &str = "/etc/passwd";
const GROUP: &str = "/etc/group";

/// The locks of useradd(8) and its like.
const ACCOUNT_LOCKS: &[&str] = &[
    "/etc/passwd.lock",
    "/etc/shadow.lock",
    "/etc/group.lock",
    "/etc/gshadow.lock",
    "/etc/subuid.lock",
    "/etc/subgid.lock",
];

fn create_user(user: &UserName) -> Result<(), ToolError> {
    match account(user)? {
        Account::Whole => Ok(()),
        Account::Missing => add_user(&[
            "--system",
            "--user-group",
            "--no-create-home",
            "--home-dir",
            "/nonexistent",
            "--shell",
            "/usr/sbin/nologin",
            "--",
            user.as_str(),
        ]),
        Account::Groupless { gid } => add_group(user, gid),
    }
}

/// A password that nothing matches, instead of a locked account: sshd refuses the latter even by key
/// where PAM is not asked (sshd_config(5), UsePAM).
fn create_login(user: &UserName) -> Result<(), ToolError> {
    match account(user)? {
        Account::Whole => Ok(()),
        Account::Missing => add_user(&[
            "--user-group",
            "--create-home",
            "--shell",
            "/bin/bash",
            "--password",
            "*",
            "--",
            user.as_str(),
        ]),
        Account::Groupless { gid } => {
            add_group(user, gid)?;
            // Nor has it a line in /etc/shadow then, without which nobody comes in, and no home: pwconv(8),
            // mkhomedir_helper(8).
            quick(&["pwconv"])?;
            quick(&["mkhomedir_helper", user.as_str()])
        }
    }
}

fn account(user: &UserName) -> Result<Account, ToolError> {
    accounts::account(Path::new(PASSWD), Path::new(GROUP), user)
        .map_err(|error| unreadable("reading the accounts", &error))
}

fn add_user(arguments: &[&str]) -> Result<(), ToolError> {
    forget_stale_locks()?;
    quick(&[&["useradd"], arguments].concat())
}

fn add_group(user: &UserName, gid: u32) -> Result<(), ToolError> {
    forget_stale_locks()?;
    quick(&["groupadd", "--gid", &gid.to_string(), "--", user.as_str()])
}

/// A lock holds the number of its process before it gets its name, so an empty one is of a host that lost
/// power, and no tool would ever get past it. One with a number is looked at by the tools themselves.
fn forget_stale_locks() -> Result<(), ToolError> {
    for lock in ACCOUNT_LOCKS {
        let is_empty =
            fs::symlink_metadata(lock).is_ok_and(|lock| lock.is_file() && lock.len() == 0);
        if is_empty {
            fs::remove_file(lock).map_err(|error| unreadable("removing a stale lock", &error))?;
        }
    }
    Ok(())
}

fn unreadable(doing: &str, error: &io::Error) -> ToolError {
    ToolError::Failed {
        tool: doing.to_owned(),
        output: error.to_string(),
    }
}

fn quick(argv: &[&str]) -> Result<(), ToolError> {
    Program::new(argv, ACCOUNT_LIMIT).succeed().map(drop)
}
