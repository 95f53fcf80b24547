//! What a host does about a transaction that was cut short. One rule: what has no COMMITTED in the
//! journal is taken back; what has it is finished forward.
//!
//! It runs at boot, from `push-recover.service`, before the network, nginx and the apps; and after
//! every transaction, as `ExecStopPost=` of the transaction's own unit, so that a transaction whose
//! process was killed (by the kernel for want of memory, by its `RuntimeMaxSec=`) is ended by the same
//! unit, under the same name, before another one can begin. That it can be run at any time, any number
//! of times, is what makes both the same thing: with nothing to do it does nothing.
//!
//! A journal that cannot be trusted decides nothing: what `current` names stays in effect, its secrets
//! and firewall are derived, and the error is loud.

use push_wire::journal::{Progress, Record, State};
use push_wire::message::Holder;

use crate::effects::{EffectError, carry_out_at_boot};
use crate::journal::{self, Journal, JournalError};
use crate::layout::Layout;
use crate::lock::{self, LockError};
use crate::machine::Machine;
use crate::progress;
use crate::remains::{self, Since};
use crate::store::{self, StoreError, links};
use crate::transaction::{self, TransactionError};

/// The unit that runs [`recover`] at boot. Everything that could read what a generation declares
/// comes after it; it waits for nothing but the disk, `/run`, and the system's own firewall: Debian's
/// `nftables.service` begins with `flush ruleset`, and would take push's table with it.
///
/// Every start of any service wants `sysinit.target` and what that wants, and would run this again
/// in the midst of a transaction, before the service: so it stays active once it has run, and runs
/// only while `/run` does not hold the lock yet, which is before the first push-host of a boot.
///
/// It needs no `/srv`: where apps lie on a volume that is missing or comes over the network, which comes
/// after this, the host still gets its firewall and secrets. A journal that somebody set aside does not
/// keep it from running either: what is in effect is derived.
pub const UNIT: &str = "\
# Written by push-host.
[Unit]
Description=Take back or finish what push was doing when this host went down
Documentation=man:systemd.unit(5)
DefaultDependencies=no
RequiresMountsFor=/etc/push /var/lib/push /usr/local/lib/push /run
After=local-fs.target systemd-remount-fs.service nftables.service
Before=basic.target sysinit.target network-pre.target systemd-sysctl.service nginx.service ssh.service shutdown.target
Wants=network-pre.target
Conflicts=shutdown.target
ConditionPathExists=|/var/lib/push/journal
ConditionPathExists=|/etc/push/current
ConditionPathExists=!/run/push/lock

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/usr/local/lib/push/push-host recover
TimeoutStartSec=120

[Install]
WantedBy=sysinit.target
";

/// Why a recovery did not come to its end.
#[derive(Debug, thiserror::Error)]
pub enum RecoverError {
    /// A transaction runs; there is nothing to recover from.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// The journal cannot be trusted, so nothing was decided.
    #[error("what is in effect stays, because {0}")]
    Journal(#[from] JournalError),
    /// What is in effect cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The transaction could not be ended.
    #[error(transparent)]
    Transaction(#[from] TransactionError),
    /// The secrets or the firewall of what is in effect could not be derived.
    #[error(transparent)]
    Effect(#[from] EffectError),
}

impl RecoverError {
    /// What to do about it.
    pub fn help(&self) -> &'static str {
        match self {
            Self::Lock(error) => error.help(),
            Self::Journal(error) => error.help(),
            Self::Store(error) => error.help(),
            Self::Transaction(error) => error.help(),
            Self::Effect(error) => error.help(),
        }
    }
}

/// Applies the rule. Returns how the last transaction stands afterwards, if there ever was one.
pub fn recover<M: Machine>(
    machine: &mut M,
    layout: &Layout,
) -> Result<Option<State>, RecoverError> {
    let _lock = lock::take(machine, layout, &holder(machine))?;
    let mut journal = match journal::read(machine, layout) {
        Ok(journal) => journal,
        Err(error) => {
            derive(machine, layout)?;
            return Err(error.into());
        }
    };
    let Some(last) = journal.last().cloned() else {
        derive(machine, layout)?;
        return Ok(None);
    };
    let since = since(machine, layout, &last)?;
    if since == Since::SameBoot {
        rely(machine, layout, (&mut journal, &last));
    }
    let state = match &last.state {
        State::Prepared | State::Switching | State::Probation(_) | State::TakingBack(_) => {
            let resumed = transaction::resume(machine, layout, (journal, since));
            if resumed.is_err() && since == Since::Booted {
                // Whatever is in effect now needs its secrets and its firewall all the same.
                derive(machine, layout)?;
            }
            resumed?
        }
        State::Committed | State::TakenBack(_) => {
            finish(machine, layout, (&journal, &last, since))?;
            last.state
        }
    };
    Ok(Some(state))
}

/// Makes sure of a record that the transaction itself never said to be durable: its process may have
/// died right after a sync that failed. Where that is not possible, what can be read has to do.
fn rely<M: Machine>(machine: &mut M, layout: &Layout, (journal, last): (&mut Journal, &Record)) {
    let told = (&last.transaction, &last.state);
    if progress::has_told(machine, layout, told).unwrap_or(false) {
        return;
    }
    match journal.renew(machine, layout) {
        Ok(()) => {
            let state = Progress::State(last.state.clone());
            progress::tell(machine, layout, (&last.transaction, &state));
        }
        Err(error) => machine.warn(&format!(
            "the journal cannot be written anew, and may hold what is not on the disk: {error}"
        )),
    }
}

/// Whether the folder of a transaction is still there, which does not outlive a boot.
fn since<M: Machine>(machine: &M, layout: &Layout, last: &Record) -> Result<Since, StoreError> {
    let folder = layout.transaction(&last.transaction);
    Ok(match machine.stat(folder.folder())? {
        Some(_) => Since::SameBoot,
        None => Since::Booted,
    })
}

fn holder<M: Machine>(machine: &M) -> Holder {
    Holder {
        operator: "the host itself".to_owned(),
        since_unix_s: machine.unix_s(),
        step: "recovering".to_owned(),
        transaction: None,
        push: String::new(),
    }
}

/// Does again what may be left of a transaction that has ended.
fn finish<M: Machine>(
    machine: &mut M,
    layout: &Layout,
    (journal, last, since): (&Journal, &Record, Since),
) -> Result<(), RecoverError> {
    let Some(about) = journal.about(&last.transaction) else {
        return derive(machine, layout);
    };
    let (gone, kept) = match &last.state {
        State::Committed => (about.from, about.to),
        State::Prepared
        | State::Switching
        | State::Probation(_)
        | State::TakingBack(_)
        | State::TakenBack(_) => (about.to, about.from),
    };
    let kept = store::manifest(machine, layout, kept)?;
    let gone = remains::gone(machine, layout, (gone, since))?;
    let moved = !store::is_current(machine, layout, kept.generation)?;
    if moved || since == Since::Booted {
        // Whatever becomes of the links, what is in effect needs its secrets and its firewall.
        let settled = remains::settle(machine, layout, (&gone, &kept)).and_then(|moved| {
            links::withdraw(machine, layout, (&gone, &kept))?;
            Ok(moved)
        });
        let was = match settled {
            Ok(false) => &kept,
            Ok(true) | Err(_) => &gone,
        };
        carry_out_at_boot(machine, layout, (was, &kept))?;
        settled?;
    }
    remains::tidy(machine, layout, (&gone, &kept))?;
    Ok(())
}

/// Opens the secrets and loads the firewall of what is in effect.
fn derive<M: Machine>(machine: &mut M, layout: &Layout) -> Result<(), RecoverError> {
    let manifest = store::current_manifest(machine, layout)?;
    Ok(carry_out_at_boot(machine, layout, (&manifest, &manifest))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the unit says under a key, word by word.
    fn said(key: &str) -> Vec<&'static str> {
        UNIT.lines()
            .filter_map(|line| line.strip_prefix(key)?.strip_prefix('='))
            .flat_map(str::split_whitespace)
            .collect()
    }

    fn shown(path: &std::path::Path) -> String {
        path.display().to_string()
    }

    #[test]
    fn the_recovery_needs_no_volume_but_those_of_push_itself() {
        let layout = Layout::new("/");
        let program = layout.program();
        let needed = [
            &layout.push(),
            &layout.state(),
            program.parent().unwrap(),
            std::path::Path::new("/run"),
        ];
        assert_eq!(said("RequiresMountsFor"), needed.map(shown));
        assert!(
            needed
                .iter()
                .all(|path| !path.starts_with(layout.apps()) && !layout.apps().starts_with(path))
        );
        // A network comes after it, and so does what is mounted over one.
        for later in ["network", "remote-fs", "srv.mount"] {
            assert!(said("After").iter().all(|unit| !unit.contains(later)));
        }
    }

    #[test]
    fn the_recovery_runs_where_there_is_a_journal_or_something_in_effect() {
        let layout = Layout::new("/");
        let expected = [
            format!("|{}", shown(&layout.journal())),
            format!("|{}", shown(&layout.current())),
            format!("!{}", shown(&layout.lock())),
        ];
        assert_eq!(said("ConditionPathExists"), expected);
    }
}
