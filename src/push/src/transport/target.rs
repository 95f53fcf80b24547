//! Where a host is and how to get in: everything the dialer needs, decided before it starts.
//!
//! Plain data. [`super::resolve`] makes targets from the inventory and the operator's ssh_config;
//! tests make them by hand.

use super::host_key::HostKey;
use std::path::PathBuf;
use std::time::Duration;

/// How long one address may take to accept a TCP connection, when nothing else is configured.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// A host, ready to be connected to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The host's name in the inventory: what messages call it.
    pub host: String,
    /// Name or IP address to connect to.
    pub address: String,
    /// TCP port.
    pub port: u16,
    /// Account to log in as.
    pub user: String,
    /// The host's keys as the inventory pins them. When there is one, known_hosts can only revoke it.
    pub pinned: Vec<HostKey>,
    /// `HostKeyAlias`: the name under which known_hosts knows it.
    pub host_key_alias: Option<String>,
    /// known_hosts files, the operator's first. Missing ones are fine, unreadable ones are not.
    pub known_hosts: Vec<PathBuf>,
    /// Private (or public, for the agent) key files, the most wanted first.
    pub identities: Vec<Identity>,
    /// `CertificateFile`s beyond those next to the key files.
    pub certificates: Vec<PathBuf>,
    /// Which keys may be offered.
    pub offer: Offer,
    /// The agent's socket.
    pub agent: Option<PathBuf>,
    /// Who is asked for a password that the login wants.
    pub asking: Asking,
    /// The hosts on the way, in order. Their own `jumps` are empty.
    pub jumps: Vec<Target>,
    /// `ProxyCommand`, tokens expanded; used when there are no jumps.
    pub proxy_command: Option<String>,
    /// How long one address may take to accept a TCP connection.
    pub connect_timeout: Duration,
}

/// A key file that may be offered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The file.
    pub path: PathBuf,
    /// Who named it.
    pub named_by: NamedBy,
}

/// Who named a key file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum NamedBy {
    /// The operator; it is offered first and missed when it is not there.
    Operator,
    /// OpenSSH's list of usual names.
    Default,
}

/// `IdentitiesOnly`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Offer {
    /// Whatever the agent holds, too.
    Everything,
    /// Only the identities named.
    OnlyIdentities,
}

/// Who is asked for a password or a code that the login wants; passphrases of keys are another matter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asking {
    /// The operator, once for all hosts, unless the password was brought along.
    Fleet,
    /// The operator, for this one alone: a jump host is never given what is meant for the fleet.
    Apart,
    /// Nobody: the account comes in by key.
    Nobody,
}

impl Target {
    /// A target with nothing but an address: no agent, no identities, no known_hosts files.
    pub fn at(host: &str, address: &str, port: u16) -> Self {
        Self {
            host: host.to_owned(),
            address: address.to_owned(),
            port,
            user: String::new(),
            pinned: Vec::new(),
            host_key_alias: None,
            known_hosts: Vec::new(),
            identities: Vec::new(),
            certificates: Vec::new(),
            offer: Offer::Everything,
            agent: None,
            asking: Asking::Fleet,
            jumps: Vec::new(),
            proxy_command: None,
            connect_timeout: CONNECT_TIMEOUT,
        }
    }

    /// `address:port`, as messages show it.
    pub fn place(&self) -> String {
        if self.address.contains(':') {
            format!("[{}]:{}", self.address, self.port)
        } else {
            format!("{}:{}", self.address, self.port)
        }
    }
}

/// An address as a value of ssh's `HostName`, in which tokens are expanded (ssh_config(5), "TOKENS"):
/// the `%` before the zone of a link-local address is none.
pub fn host_name(address: &str) -> String {
    address.replace('%', "%%")
}
