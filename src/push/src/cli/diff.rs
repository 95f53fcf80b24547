//! `push diff`.

use std::path::Path;

use super::Stop;
use super::arguments::{Pace, Target};
use super::environment::Environment;
use super::{gate, plan};
use crate::event::{ExitCode, VERSION};
use crate::report::Report;

/// Show what a deploy would change, line by line
#[derive(Debug, clap::Args)]
pub struct Diff {
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    pace: Pace,
    /// Exit with 3 when changes are pending
    #[arg(long)]
    exit_code: bool,
}

/// Shows the differences.
pub fn run(arguments: &Diff, folder: &Path, report: &Report) -> Result<ExitCode, Stop> {
    let environment = Environment::read(&arguments.target, arguments.pace, folder)?;
    let pushed = plan::find_out(&environment, report)?;
    let fleet = gate::fleet_plan(&environment.fleet.environment, &pushed.plans);
    let diffs = gate::diffs(&pushed.plans);
    report.answer(&crate::report::plan::diff(&fleet, &diffs));
    report.json(&serde_json::json!({"v": VERSION, "type": "diff", "plan": fleet, "diffs": diffs}));
    Ok(plan::exit(&pushed, arguments.exit_code.into()))
}
