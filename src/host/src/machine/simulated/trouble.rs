//! What goes wrong on a simulated host, and when.

use std::io::{self, ErrorKind};

use crate::machine::Tool;

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fault {
    /// A call fails and has done nothing: EIO, a unit that does not start, a tool that refuses. A sync
    /// that fails may have reached the disk.
    Fails,
    /// A call fails although it has done its work: a tool that is killed for being late, EIO on the
    /// way back.
    Misreports,
    /// A call is interrupted by a signal and has done nothing (EINTR).
    Interrupted,
    /// No disk but that in memory has room (ENOSPC); a write that finds it so is short.
    Full,
    /// No disk but that in memory can be written (EROFS).
    ReadOnly,
    /// The wall clock is ten years behind, while this lasts.
    ClockBehind,
    /// The wall clock is ten years ahead, while this lasts.
    ClockAhead,
    /// CLOCK_BOOTTIME is a day ahead, while this lasts: the host was suspended. When it ends, the clock
    /// goes back, which no kernel does and push-host survives all the same.
    Suspended,
    /// systemd starts nothing.
    NothingStarts,
    /// nft refuses whatever it is given.
    FirewallRefuses,
    /// nginx takes every order, says nothing, and goes on as it was.
    NginxDeaf,
}

impl Fault {
    /// Every fault.
    pub const ALL: [Self; 11] = [
        Self::Fails,
        Self::Misreports,
        Self::Interrupted,
        Self::Full,
        Self::ReadOnly,
        Self::ClockBehind,
        Self::ClockAhead,
        Self::Suspended,
        Self::NothingStarts,
        Self::FirewallRefuses,
        Self::NginxDeaf,
    ];
}

/// A fault, with the calls between which it lasts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trouble {
    /// What.
    pub fault: Fault,
    /// The first call that meets it.
    pub from: u64,
    /// The first call that does not any more.
    pub until: u64,
}

impl Trouble {
    /// One call meets it.
    pub fn once(fault: Fault, call: u64) -> Self {
        Self {
            fault,
            from: call,
            until: call + 1,
        }
    }

    /// Every call from this one on meets it.
    pub fn from(fault: Fault, call: u64) -> Self {
        Self {
            fault,
            from: call,
            until: u64::MAX,
        }
    }
}

/// Everything that goes wrong on one host.
#[derive(Debug, Clone, Default)]
pub struct Troubles(pub Vec<Trouble>);

impl Troubles {
    /// Whether a call meets a fault.
    pub fn has(&self, fault: Fault, call: u64) -> bool {
        self.0
            .iter()
            .any(|trouble| trouble.fault == fault && (trouble.from..trouble.until).contains(&call))
    }

    /// Why a call fails that has done nothing.
    pub fn refusal(&self, call: u64) -> Option<io::Error> {
        if self.has(Fault::Fails, call) {
            return Some(io::Error::other("simulated EIO"));
        }
        self.has(Fault::Interrupted, call)
            .then(|| io::Error::new(ErrorKind::Interrupted, "simulated EINTR"))
    }

    /// What is wrong with one kind of tool only.
    pub fn refusal_of(&self, tool: &Tool, call: u64) -> Option<Fault> {
        let fault = match tool {
            Tool::Restart(_)
            | Tool::TryRestart(_)
            | Tool::Reload(_)
            | Tool::TryReload(_)
            | Tool::RestartLater(_) => Fault::NothingStarts,
            Tool::LoadFirewall(_) | Tool::RemoveFirewall => Fault::FirewallRefuses,
            Tool::ReloadNginx => Fault::NginxDeaf,
            Tool::DaemonReload
            | Tool::Stop(_)
            | Tool::StopLater(_)
            | Tool::ResetFailed(_)
            | Tool::Sysctl
            | Tool::CreateUser(_)
            | Tool::CreateLogin(_)
            | Tool::SetHostname(_)
            | Tool::MakeLocales
            | Tool::MakeSwap(_, _)
            | Tool::SwapOn(_)
            | Tool::Reboot => return None,
        };
        self.has(fault, call).then_some(fault)
    }
}
