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
use crate::machine::real::process::Program;
use crate::stage::Checks;
use crate::status::Firewall;
use crate::{facts, launch, view};

/// How long nft has to list a table.
const LIST_WITHIN: Duration = Duration::from_secs(10);

/// How long a push-host has to say which version it is.
const START_WITHIN: Duration = Duration::from_secs(10);

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
    /// Whether a push-host that was sent runs on this host; the error says why not.
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
        let argv = [program.display().to_string(), "version".to_owned()];
        let ended = Program::new(&argv, START_WITHIN).succeed();
        ended.map(drop).map_err(|error| error.to_string())
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
