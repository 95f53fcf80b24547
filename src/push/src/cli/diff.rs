//! `push diff`.

use std::path::Path;

use super::Stop;
use super::{gate, plan};
use crate::event::{ExitCode, VERSION};
use crate::report::Report;

/// Show what a deploy would change, line by line
///
/// Nothing is compared on a host where another push has not ended, since what is there may not stay: it is locked,
/// and the exit code is 7.
#[derive(Debug, clap::Args)]
pub struct Diff {
    #[command(flatten)]
    look: plan::Look,
}

/// Shows the differences.
pub fn run(arguments: &Diff, folder: &Path, report: &Report) -> Result<ExitCode, Stop> {
    let environment = arguments.look.environment(folder)?;
    let pushed = plan::find_out(&environment, arguments.look.applying(), report)?;
    let fleet = gate::fleet_plan(&environment.fleet.environment, &pushed.plans);
    let diffs = gate::diffs(&pushed.plans);
    report.answer(&crate::report::plan::diff(&fleet, &diffs));
    report.json(&serde_json::json!({"v": VERSION, "type": "diff", "plan": fleet, "diffs": diffs}));
    Ok(plan::exit(&pushed, arguments.look.pending()))
}
