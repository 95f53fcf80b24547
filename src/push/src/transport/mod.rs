//! The one door from the laptop to a host.
//!
//! A [`Target`] says where a host is and how to get in; [`resolve`] makes it from the inventory and
//! the operator's ssh_config. A [`Dialer`] turns it into a [`Connection`], whose host key has been
//! verified, and a connection runs commands, each of them a [`Session`]: bytes in, bytes out, exit
//! status. Only the files below [`ssh`] know the SSH library.
//!
//! ```text
//! host_key     a public key and why it is believed      target   where a host is, how to get in
//! known_hosts  known_hosts files → verdict; pure         resolve  inventory + `ssh -G` → Target
//! error        what can go wrong, what to do next        prompt   asking the operator
//! advice       the same for a refused login, in full
//! session      a running command as two byte queues      local    the same over a child process
//! ssh          the dialer: TCP, jump hosts, keys, agent, channels
//! openssh      Target → what the operator's own ssh needs to get there
//! ```
//!
//! Must not know: plans, frames, what is run and why, how anything is reported. Invariants: no byte
//! of authentication is sent to a host whose key is not verified; a failed login is never tried
//! again; every wait has a named bound; nothing a host says reaches an error without
//! [`crate::visible::escape`].
//!
//! To add another way to reach a host, implement [`Dialer`] and carry a [`session::FarEnd`].

mod advice;
pub mod error;
pub mod host_key;
pub mod known_hosts;
pub mod local;
pub mod openssh;
pub mod prompt;
pub mod resolve;
pub mod session;
pub mod ssh;
pub mod target;

pub use error::Error;
pub use host_key::{Fingerprint, FingerprintError, HostKey, ServerKey, VerifiedBy};
pub use prompt::{NoPrompt, Prompt};
pub use session::{Exit, Session, Status};
pub use target::Target;

use std::future::Future;
use std::pin::Pin;

/// A future behind a pointer, so that traits with it can be used as `dyn`.
pub type Pending<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Connects to hosts.
pub trait Dialer: Send + Sync {
    /// Opens a connection of its own to `target`. Each failure is final: what may be tried again
    /// has been tried again.
    fn dial<'a>(
        &'a self,
        target: &'a Target,
        route: Route,
    ) -> Pending<'a, Result<Box<dyn Connection>, Error>>;

    /// Who is asked for what only a person knows, also once the connection stands.
    fn prompt(&self) -> &dyn Prompt {
        &NoPrompt
    }
}

/// Which way a new connection goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Route {
    /// Over jump hosts that are connected already, where there are some.
    Shared,
    /// Over new connections all the way: it proves that the operator could come in from nothing.
    Fresh,
}

/// An open connection to one host. Its sessions end with it: keep it for as long as they run.
pub trait Connection: Send + Sync {
    /// Starts a command. There is no shell quoting to get wrong: commands are constants of this
    /// program, and what varies is sent as input.
    fn exec(&self, command: &'static str) -> Pending<'_, Result<Session, Error>>;

    /// The key that the host proved to hold.
    fn server_key(&self) -> &ServerKey;

    /// The bytes that went over the connection so far, encryption included.
    fn traffic(&self) -> Traffic;

    /// Says goodbye and closes, within a bound.
    fn disconnect(self: Box<Self>) -> Pending<'static, ()>;
}

/// Bytes on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Traffic {
    /// Laptop to host, in bytes.
    pub sent: u64,
    /// Host to laptop, in bytes.
    pub received: u64,
}
