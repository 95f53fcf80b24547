//! What a session lets other processes do. Behind a trait, so that conversations can be tested
//! without a host.

use std::io::Read;
use std::path::Path;
use std::time::Duration;

use push_wire::digest::{Digest, Hasher};
use push_wire::facts::Facts;
use push_wire::manifest::Manifest;
use push_wire::message::Refusal;
use push_wire::name::TransactionId;

use crate::connection::Connection;
use crate::layout::Layout;
use crate::machine::real::process::{Ended, Program};
use crate::stage::Checks;
use crate::status::Firewall;
use crate::{facts, launch, view};

/// How long nft has to list a table.
const LIST_WITHIN: Duration = Duration::from_secs(10);

/// How long a push-host has to say which version it is, and whether it reads what is here.
const START_WITHIN: Duration = Duration::from_secs(10);

/// The status by which a push-host says that it does not know what it was told to do.
pub const USED_WRONGLY: u8 = 2;

/// The session's other processes.
pub trait Outside: Checks {
    /// What this host is.
    fn facts(&self) -> Facts;
    /// When a scheduled shutdown comes, seconds since 1970; asked again right before a switch.
    fn shutdown_at_unix_s(&self) -> Option<u64>;
    /// What this program is.
    fn program(&self) -> push_wire::facts::Program;
    /// Whether the kernel has push's firewall.
    fn firewall(&self) -> Firewall;
    /// Whether a push-host that was sent runs on this host and reads what is on it; the error says why not.
    fn starts(&self, program: &Path) -> Result<(), String>;
    /// Starts the transaction whose request has been written; it outlives this process.
    fn launch(&mut self, transaction: &TransactionId) -> Result<(), String>;
    /// Starts the recovery of one that nobody carries on; it outlives this process, too.
    fn recover(&mut self) -> Result<(), String>;
    /// Starts an upgrade of the operating system whose record has been begun, or takes it up; it outlives this
    /// process, too.
    fn upgrade(&mut self, id: &TransactionId) -> Result<(), String>;
    /// The connection over which this session came in; `None` when that cannot be told.
    fn connection(&self) -> Option<Connection>;
}

/// The real ones.
#[derive(Debug)]
pub struct OnHost {
    layout: Layout,
}

impl OnHost {
    /// On the host whose paths `layout` names.
    pub fn new(layout: Layout) -> Self {
        Self { layout }
    }
}

impl Checks for OnHost {
    fn check(&mut self, from: &Manifest, to: &Manifest) -> Result<Vec<String>, Refusal> {
        view::check(&self.layout, from, to)
    }
}

impl Outside for OnHost {
    fn facts(&self) -> Facts {
        facts::gather()
    }

    fn shutdown_at_unix_s(&self) -> Option<u64> {
        facts::shutdown_at().or_else(facts::shutdown_now)
    }

    fn program(&self) -> push_wire::facts::Program {
        push_wire::facts::Program {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            // A program whose file cannot be read is unlike every other, and so gets replaced.
            digest: own_digest().unwrap_or_else(|_| Digest::of("")),
        }
    }

    fn firewall(&self) -> Firewall {
        match Program::new(&["nft", "list", "table", "inet", "push"], LIST_WITHIN).run() {
            Ok(ended) if ended.status.success() => Firewall::Loaded,
            Ok(_) => Firewall::Missing,
            Err(_) => Firewall::Unknown,
        }
    }

    fn starts(&self, program: &Path) -> Result<(), String> {
        let told = |what: &str| Program::new(&[&program.display().to_string(), what], START_WITHIN);
        let started = told("version").succeed().and_then(|_| told("reads").run());
        reads(&started.map_err(|error| format!("it does not start: {error}"))?)
    }

    fn launch(&mut self, transaction: &TransactionId) -> Result<(), String> {
        launch::launch(&self.layout, transaction).map_err(|error| error.to_string())
    }

    fn recover(&mut self) -> Result<(), String> {
        launch::recover(&self.layout).map_err(|error| error.to_string())
    }

    fn upgrade(&mut self, id: &TransactionId) -> Result<(), String> {
        launch::upgrade(&self.layout, id).map_err(|error| error.to_string())
    }

    fn connection(&self) -> Option<Connection> {
        facts::connection()
    }
}

/// What another push-host has found when it was told to read what is on this host.
fn reads(ended: &Ended) -> Result<(), String> {
    if ended.status.success() {
        return Ok(());
    }
    if ended.status.code() == Some(USED_WRONGLY.into()) {
        return Err(
            "it is older than the one that is here, and cannot show that it reads what that wrote; \
             bring the source of this push up to date and build it again"
                .to_owned(),
        );
    }
    Err(format!(
        "it cannot read what is on this host: {}",
        ended.said().trim()
    ))
}

/// The digest of the file that this process runs, even where it has been replaced meanwhile.
fn own_digest() -> std::io::Result<Digest> {
    const PIECE_BYTES: usize = 256 << 10;
    let mut file = std::fs::File::open("/proc/self/exe")?;
    let mut hasher = Hasher::new();
    let mut piece = vec![0; PIECE_BYTES];
    loop {
        match file.read(&mut piece)? {
            0 => return Ok(hasher.finish()),
            read => hasher.update(&piece[..read]),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt as _;
    use std::process::ExitStatus;

    use super::*;

    #[test]
    fn a_push_host_takes_over_only_where_it_starts_and_reads_what_is_there() {
        let starts = |program: &str| OnHost::new(Layout::new("/")).starts(Path::new(program));
        assert_eq!(starts("/usr/bin/true"), Ok(()));
        for unfit in ["/usr/bin/false", "/no/such/push-host"] {
            let why = starts(unfit).unwrap_err();
            assert!(why.contains("does not start"), "{why}");
        }
        let ended = |status: i32, said: &str| Ended {
            status: ExitStatus::from_raw(status << 8),
            stdout: String::new(),
            stderr: said.to_owned(),
        };
        assert_eq!(reads(&ended(0, "")), Ok(()));
        let older = reads(&ended(2, "usage: push-host serve\n")).unwrap_err();
        assert!(
            older.contains("older") && older.contains("up to date"),
            "{older}"
        );
        let other = reads(&ended(1, "push-host: unknown field `answers`\n")).unwrap_err();
        assert!(other.ends_with("unknown field `answers`"), "{other}");
    }
}
