//! One systemd container: started, waited for, entered. Knows systemd-nspawn and nsenter; knows
//! neither disks nor networks, which are there before and remain after.

use std::fs::File;
use std::io::Read;
use std::net::{SocketAddr, TcpStream};
use std::os::unix::process::CommandExt;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use super::cgroup::Cgroup;
use super::error::{Error, IoExt};
use super::record::{HostFolder, HostRecord};
use super::tool::{self, Finished, Tool};
use crate::child;

/// How long a host may take until it is up. It takes 1–3 s; more under load.
pub(super) const BOOT_WITHIN: Duration = Duration::from_secs(90);

/// How often is looked whether it is.
pub(super) const BOOT_POLL: Duration = Duration::from_millis(40);

/// How long one question to a host's systemd or sshd may take while it boots.
const ASK_WITHIN: Duration = Duration::from_secs(5);

/// Joins the cgroups whose doors precede `--`, then becomes the program after it. The text is
/// constant; what varies comes as arguments. Before the program starts is the only time at which
/// joining is not a race, and Rust has no safe way to do something between fork and exec.
const JOIN: &str = r#"
    while ((my $door = shift) ne "--") {
        open(my $group, ">", $door) or die "cannot open $door: $!\n";
        print $group $$;
        close($group) or die "cannot join by $door: $!\n";
    }
    exec { $ARGV[0] } @ARGV or die "cannot run $ARGV[0]: $!\n";
"#;

/// A container that was started, and perhaps has ended since.
#[derive(Debug)]
pub(super) struct Container {
    nspawn: Child,
}

/// A host that is up.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Booted {
    pub took: Duration,
    /// The units that failed; none, when systemd calls the host `running`.
    pub failed_units: Vec<String>,
}

/// Starts a host's container.
pub(super) fn start(
    machine: &str,
    host: &HostRecord,
    parts: Parts<'_>,
) -> Result<Container, Error> {
    let console = parts.folder.console();
    let log = File::options()
        .create(true)
        .append(true)
        .open(&console)
        .doing("opening", &console)?;
    let log_too = log.try_clone().doing("opening", &console)?;
    let nspawn = child::command("perl")
        .args(["-e", JOIN, "--"])
        .args(parts.cgroup.doors())
        .args(["--", "systemd-nspawn", "--quiet", "--boot", "--settings=no"])
        .args(["--register=no", "--keep-unit", "--link-journal=no"])
        .args(["--resolv-conf=off", "--timezone=off", "--console=pipe"])
        .arg("--capability=CAP_NET_ADMIN")
        .arg(format!("--network-namespace-path=/run/netns/{machine}"))
        .arg(format!("--machine={machine}"))
        .arg(format!("--hostname={}", host.name))
        .arg("--directory")
        .arg(parts.folder.root())
        // What Debian 12 and 13 have on real machines, whatever the laptop has.
        .env("SYSTEMD_NSPAWN_UNIFIED_HIERARCHY", "1")
        .stdin(Stdio::null())
        .stdout(log)
        .stderr(log_too)
        // Away from the terminal's Ctrl-C, which is for the process that cleans up.
        .process_group(0)
        .spawn()
        .doing("starting systemd-nspawn for", &console)?;
    Ok(Container { nspawn })
}

/// What a container is started with.
#[derive(Clone, Copy)]
pub(super) struct Parts<'a> {
    pub folder: &'a HostFolder,
    pub cgroup: &'a Cgroup,
}

/// How far a host has come.
#[derive(Debug)]
pub(super) enum Look {
    /// systemd has done booting, and sshd answers.
    Up {
        /// The units that failed.
        failed_units: Vec<String>,
    },
    /// What systemd says of itself.
    Booting(String),
}

impl Container {
    /// Looks once whether the host's systemd has done booting and its sshd answers.
    pub fn look(&mut self, host: &HostRecord, parts: Parts<'_>) -> Result<Look, Error> {
        if let Some(status) = self.ended()? {
            return Err(Error::Ended {
                host: host.name.clone(),
                status,
                console: console_end(parts.folder),
            });
        }
        let Some(init) = parts.cgroup.init() else {
            return Ok(Look::Booting("systemd has not started".to_owned()));
        };
        let state = system_state(init)?;
        if !matches!(state.as_str(), "running" | "degraded") || !answers(host) {
            return Ok(Look::Booting(state));
        }
        let failed_units = failed_units(init, &state)?;
        Ok(Look::Up { failed_units })
    }

    /// Ends its first process; one that has ended is ended already.
    pub fn kill(&mut self) -> Result<(), Error> {
        let nspawn = std::path::Path::new("systemd-nspawn");
        self.nspawn.kill().doing("ending", nspawn)
    }

    /// How it ended, when it has.
    pub fn ended(&mut self) -> Result<Option<String>, Error> {
        self.ended_within(Duration::ZERO)
    }

    /// Waits for its end. None: it has not come in time.
    pub fn ended_within(&mut self, limit: Duration) -> Result<Option<String>, Error> {
        let ended = tool::wait(&mut self.nspawn, Instant::now() + limit);
        let nspawn = std::path::Path::new("systemd-nspawn");
        Ok(ended.doing("waiting for", nspawn)?.map(tool::describe))
    }
}

/// Runs a program inside a host as root, in all its namespaces, with an environment of its own.
pub(super) fn run_inside(init: u32, argv: &[&str], within: Duration) -> Result<Finished, Error> {
    Tool::named("nsenter")
        .args(["--target", &init.to_string(), "--all", "--"])
        .args(["env", "-i", "HOME=/root", "USER=root", "LANG=C.UTF-8"])
        .arg("PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
        .args(argv)
        .within(within)
        .run()
}

fn system_state(init: u32) -> Result<String, Error> {
    // Its status says the same as its word, and is not 0 while it boots.
    let said = run_inside(init, &["systemctl", "is-system-running"], ASK_WITHIN);
    match said {
        Ok(said) => Ok(said.stdout.trim().to_owned()),
        // Under load, or before D-Bus listens, no answer comes; the caller asks again.
        Err(Error::ToolTimedOut { .. }) => Ok("not answering".to_owned()),
        Err(other) => Err(other),
    }
}

fn failed_units(init: u32, state: &str) -> Result<Vec<String>, Error> {
    if state == "running" {
        return Ok(Vec::new());
    }
    let listed = run_inside(
        init,
        &[
            "systemctl",
            "list-units",
            "--failed",
            "--plain",
            "--no-legend",
        ],
        ASK_WITHIN,
    )?;
    let first_word = |line: &str| line.split_whitespace().next().map(str::to_owned);
    Ok(listed.stdout.lines().filter_map(first_word).collect())
}

/// Whether sshd greets. Asked only once systemd is up, since OpenSSH 9.8 and later remember who
/// connects without logging in.
fn answers(host: &HostRecord) -> bool {
    let address = SocketAddr::from((host.address, host.port));
    let greeting = || -> std::io::Result<[u8; 4]> {
        let mut stream = TcpStream::connect_timeout(&address, ASK_WITHIN)?;
        stream.set_read_timeout(Some(ASK_WITHIN))?;
        let mut start = [0; 4];
        stream.read_exact(&mut start)?;
        Ok(start)
    };
    greeting().is_ok_and(|start| &start == b"SSH-")
}

pub(super) fn console_end(folder: &HostFolder) -> String {
    match std::fs::read(folder.console()) {
        Ok(bytes) => tool::last_lines(&String::from_utf8_lossy(&bytes)),
        Err(error) => format!("(its console cannot be read: {error})"),
    }
}
