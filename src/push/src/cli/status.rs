//! `push status`.

use std::path::Path;

use super::arguments::{Pace, Target};
use super::environment::Environment;
use super::{Stop, reach, runtime, unanswered};
use crate::conversation::Presence;
use crate::event::{ExitCode, VERSION};
use crate::report::Report;
use crate::report::status::{self, Present};
use crate::rollout;

/// Show what runs where: generations, releases, units, running pushes, drift
#[derive(Debug, clap::Args)]
pub struct Status {
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    pace: Pace,
}

/// Shows it.
pub fn run(arguments: &Status, folder: &Path, report: &Report) -> Result<ExitCode, Stop> {
    let environment = Environment::read(&arguments.target, arguments.pace, folder)?;
    let answers = runtime::run(async |interrupt| {
        let access = reach::access(&environment, Presence::AsFound, report, interrupt).await?;
        Ok(rollout::statuses(access).await)
    })?;
    for (host, answer) in &answers {
        let Ok(present) = answer else { continue };
        let hello = &present.hello;
        report.answer(&status::status(&Present {
            project: environment.fleet.project.as_str(),
            environment: environment.fleet.environment.as_str(),
            host: host.as_str(),
            manifest: &hello.manifest,
            now_unix_s: hello.facts.clock_unix_s,
            running: hello.running.as_ref(),
            status: &present.answer,
        }));
        report.json(&serde_json::json!({
            "v": VERSION, "type": "status", "host": host, "manifest": hello.manifest,
            "running": hello.running, "status": present.answer,
        }));
    }
    Ok(unanswered::tell(&answers, &environment, report))
}
