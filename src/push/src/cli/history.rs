//! `push history`.

use std::path::Path;

use super::arguments::{Pace, Target};
use super::environment::Environment;
use super::{Stop, reach, runtime, unanswered};
use crate::conversation::Presence;
use crate::event::{ExitCode, VERSION};
use crate::report::Report;
use crate::report::history::{self, Past};
use crate::rollout;

/// Show what happened: who pushed what when, and how it ended
#[derive(Debug, clap::Args)]
pub struct History {
    #[command(flatten)]
    target: Target,
    /// At most so many pushes of each host, the latest first
    #[arg(long, value_name = "COUNT", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1000))]
    max: u32,
    #[command(flatten)]
    pace: Pace,
}

/// Shows it.
pub fn run(arguments: &History, folder: &Path, report: &Report) -> Result<ExitCode, Stop> {
    let environment = Environment::read(&arguments.target, arguments.pace, folder)?;
    let answers = runtime::run(async |interrupt| {
        let access = reach::access(&environment, Presence::AsFound, report, interrupt).await?;
        Ok(rollout::histories(access, arguments.max).await)
    })?;
    for (host, answer) in &answers {
        let Ok(present) = answer else { continue };
        report.answer(&history::history(&Past {
            host: host.as_str(),
            current: present.hello.manifest.generation,
            now_unix_s: present.hello.facts.clock_unix_s,
            transactions: &present.answer,
        }));
        report.json(&serde_json::json!({
            "v": VERSION, "type": "history", "host": host,
            "generation": present.hello.manifest.generation, "transactions": present.answer,
        }));
    }
    Ok(unanswered::tell(&answers, &environment, report))
}
