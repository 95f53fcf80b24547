//! push's own firewall beside the system's. Debian's `nftables.service` begins with `flush ruleset`,
//! which takes push's table with it, whoever starts, restarts or reloads it. So push gives that unit a
//! drop-in by which push's table is loaded again right afterwards, from what `/etc/push/current` names.
//!
//! ufw and netfilter-persistent replace the tables of `iptables` and no others, so they need none. Who
//! types `nft flush ruleset` is told by `push status` that the firewall is missing.

use crate::effects::{EffectError, carry_out};
use crate::layout::Layout;
use crate::machine::Machine;
use crate::store::{self, StoreError};
use push_wire::effect::Effect;

/// The drop-in. Its failure is no failure of the system's own firewall (the `-`).
pub const DROP_IN: &str = "\
# Written by push: `flush ruleset` took push's own table as well.
[Service]
ExecStartPost=-/usr/local/lib/push/push-host firewall
ExecReload=-/usr/local/lib/push/push-host firewall
";

/// How often it is loaded anew because the switch has moved meanwhile. A transaction moves it twice.
const TRIES_MAX: u32 = 4;

/// Why it was not loaded.
#[derive(Debug, thiserror::Error)]
pub enum FirewallError {
    /// What is in effect cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The tool failed.
    #[error(transparent)]
    Effect(#[from] EffectError),
}

impl FirewallError {
    /// What to do about it.
    pub fn help(&self) -> &'static str {
        match self {
            Self::Store(error) => error.help(),
            Self::Effect(error) => error.help(),
        }
    }
}

/// Loads the firewall of the generation that the switch names, or removes push's table where it has
/// none. Takes no lock, for a transaction that holds it may be what restarts `nftables.service`: who
/// moves the switch loads the firewall after that, so what is loaded last is of the generation that is
/// named last, as long as the switch still names here what was loaded.
pub fn load_again<M: Machine>(machine: &mut M, layout: &Layout) -> Result<(), FirewallError> {
    let lock = machine.stat(&layout.lock()).map_err(StoreError::from)?;
    if lock.is_none() {
        // Nobody was at it in this boot, so the recovery is still to come: it decides what stays.
        return Ok(());
    }
    for _ in 0..TRIES_MAX {
        let to = store::current_manifest(machine, layout)?;
        let effect = match to.nftables() {
            Some(_) => Effect::LoadFirewall,
            None => Effect::RemoveFirewall,
        };
        carry_out(machine, layout, &to, &effect)?;
        if store::current(machine, layout)? == to.generation {
            break;
        }
    }
    Ok(())
}
