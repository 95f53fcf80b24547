//! `push trust`: the one way in which a host's changed key comes into the inventory. Shows the key that the
//! host offers, compares it with everything that is known, asks where nobody vouches for it, pins it.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use super::arguments::OneHost;
use super::environment::Environment;
use super::introduction::{Introduction, Record};
use super::{Stop, reach, runtime};
use crate::event::ExitCode;
use crate::report::{Complaint, Report};
use crate::transport::Fingerprint;

/// Show the key of a host, compare it with what is known, and pin it in the inventory
#[derive(Debug, clap::Args)]
#[command(override_usage = "push trust [OPTIONS] [ENVIRONMENT] HOST")]
pub struct Trust {
    #[command(flatten)]
    host: OneHost,

    /// The fingerprint that its key must have, so that nothing is asked
    #[arg(long, value_name = "SHA256:…")]
    host_key: Option<Fingerprint>,
}

/// Compares and pins.
pub fn run(arguments: &Trust, folder: &Path, report: &Report) -> Result<ExitCode, Stop> {
    let (environment, host) = Environment::of_one(&arguments.host, folder)?;
    runtime::run(async |_| {
        let mut targets = environment.targets().await?;
        let Some(target) = targets.remove(&host) else {
            return Err(Stop::not_started(Complaint::new(format!(
                "nobody has said where {host} is"
            ))));
        };
        let introduction = Introduction {
            environment: &environment,
            dialer: Arc::new(reach::dialer(&environment, report)),
            given: arguments.host_key.as_ref(),
            record: Record::Pin,
            command: format!("push trust {}", environment.fleet.environment),
        };
        introduction
            .make(BTreeMap::from([(host, target)]), report)
            .await?;
        Ok(ExitCode::Done)
    })
}
