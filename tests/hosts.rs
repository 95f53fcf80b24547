//! Rehearsal hosts for tests: a fleet where this machine can have one, a loud word where it cannot,
//! and the system's own ssh to look at hosts with. Knows nothing of push itself.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use push::rehearse::{Fleet, HostSpec, Place, Prerequisites, RehearsalHost};

/// How long the system's ssh may take to connect, in seconds.
const CONNECT_WITHIN_S: u32 = 10;

/// Boots hosts for a test. None where this machine cannot carry any: then the test has said that
/// it is skipped, past the harness, which shows nothing of a test that passes.
///
/// # Panics
/// When the hosts do not boot although this machine can carry them.
pub fn boot(specs: &[HostSpec]) -> Option<Fleet> {
    place().map(|place| {
        Fleet::boot(&place, specs, &|milestone| {
            say(&format!("{milestone:?}"));
        })
        .unwrap_or_else(|error| panic!("{error}\n{}", error.help()))
    })
}

/// Where fleets are, when this machine can carry any.
///
/// # Panics
/// When there is no home folder.
pub fn place() -> Option<Place> {
    let able = Prerequisites::check().and_then(|found| found.require());
    match able {
        Ok(()) => Some(Place::of_this_machine().unwrap()),
        Err(error) => {
            let test = test_name();
            let why = match &error {
                push::rehearse::Error::NotRoot => "not root".to_owned(),
                other => other.to_string(),
            };
            say(&format!("skipped: {why}: {test} ({})", error.help()));
            None
        }
    }
}

/// Whether a program that only some tests need is there; says so when it is not.
pub fn has_program(program: &str) -> bool {
    let folders = ["/usr/sbin", "/sbin", "/usr/bin", "/bin"];
    let is_there = folders
        .iter()
        .any(|folder| Path::new(folder).join(program).exists());
    if !is_there {
        say(&format!(
            "skipped: {program} is not installed: {}",
            test_name()
        ));
    }
    is_there
}

/// The system's ssh to a host, as its operator, with strict host key checking.
///
/// # Panics
/// When ssh cannot be run.
pub fn ssh(host: &RehearsalHost, remote: &str) -> Output {
    ssh_command(host).arg(remote).output().unwrap()
}

/// The same, up to what is to be run on the host.
///
/// # Panics
/// When the host's key cannot be written down.
pub fn ssh_command(host: &RehearsalHost) -> Command {
    ssh_command_with(host, &[])
}

/// The same, with more options of ssh.
///
/// # Panics
/// When the host's key cannot be written down.
pub fn ssh_command_with(host: &RehearsalHost, options: &[&str]) -> Command {
    let known_hosts = known_hosts(host);
    let mut ssh = Command::new("ssh");
    ssh.args(["-F", "none", "-T", "-o", "BatchMode=yes"])
        .args([
            "-o",
            "StrictHostKeyChecking=yes",
            "-o",
            "IdentitiesOnly=yes",
        ])
        .args(["-o", &format!("ConnectTimeout={CONNECT_WITHIN_S}")])
        .args([
            "-o",
            &format!("UserKnownHostsFile={}", known_hosts.display()),
        ])
        .args(["-o", "GlobalKnownHostsFile=/dev/null", "-i"])
        .arg(host.identity())
        .args(options)
        .args(["-p", &host.port().to_string(), "-l", host.user()])
        .args([&host.address().to_string(), "--"]);
    ssh
}

/// A `known_hosts` file with this host alone, beside the fleet's key.
fn known_hosts(host: &RehearsalHost) -> PathBuf {
    let file = host
        .identity()
        .with_extension(format!("known_hosts_{}", host.name()));
    std::fs::write(&file, host.known_hosts_line() + "\n").unwrap();
    file
}

fn test_name() -> String {
    std::thread::current().name().unwrap_or("a test").to_owned()
}

/// Says something past the harness, which shows nothing of a test that passes.
///
/// # Panics
/// When standard error is closed.
pub fn say(line: &str) {
    // Not `eprintln!`: the harness swallows that of tests that pass.
    let mut stderr = std::io::stderr();
    writeln!(stderr, "{line}").unwrap();
}
