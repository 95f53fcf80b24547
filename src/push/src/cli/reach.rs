//! How a command reaches its hosts: one dialer, one listener, one interrupt for all of them.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Stop;
use super::environment::{Environment, listener};
use super::prompt::Terminal;
use crate::conversation::Presence;
use crate::embedded;
use crate::event::Listener;
use crate::report::Report;
use crate::rollout::{Access, Interrupt, Ledger};
use crate::transport::prompt::OnceAFleet;
use crate::transport::ssh::SshDialer;

/// Everything that the rollout needs to reach the selected hosts and to tell of it.
pub async fn access(
    environment: &Environment,
    presence: Presence,
    report: &Report,
    interrupt: Interrupt,
) -> Result<Arc<Access>, Stop> {
    let targets = environment.targets().await?;
    let listener: Arc<dyn Listener> = listener(report);
    Ok(Arc::new(Access {
        environment: environment.fleet.environment.clone(),
        dialer: Arc::new(dialer(environment, report)),
        targets,
        returns: BTreeMap::new(),
        programs: embedded::program,
        presence,
        listener,
        interrupt,
        parallel: environment.parallel,
        traffic: Ledger::default(),
    }))
}

/// Connects to the hosts of an environment. The password of an account is asked for once for all of them.
pub fn dialer(environment: &Environment, report: &Report) -> SshDialer {
    let terminal = Terminal(report.clone());
    SshDialer::new(Arc::new(OnceAFleet::new(
        terminal,
        environment.password.clone(),
    )))
}
