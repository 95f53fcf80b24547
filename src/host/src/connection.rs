//! Which connection a session came in by. Two sessions over one connection have the same one, so that
//! a confirmation can be held to another connection than the one that ordered the switch: an
//! established one survives a firewall that lets nobody in any more. [`crate::facts::connection`]
//! finds out.

use serde::{Deserialize, Serialize};

/// The process that serves a connection. Ids come again, so it is told by its start, too.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Connection {
    /// Its id.
    pub process: u32,
    /// When it was started, in clock ticks since boot: proc_pid_stat(5).
    pub started: u64,
}

impl Connection {
    /// One of a process that nobody has.
    #[cfg(test)]
    pub fn played(process: u32) -> Self {
        Self {
            process,
            started: 1,
        }
    }
}
