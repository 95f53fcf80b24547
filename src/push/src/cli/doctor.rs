//! `push doctor`: looks at the laptop and at hosts, changes nothing, and says for each thing that is
//! not as it should be what to type.
//!
//! `laptop` asks the laptop, `host` judges what a host said. Both return findings and print nothing.

mod host;
mod laptop;

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use super::arguments::{Pace, Target};
use super::environment::Environment;
use super::project::Project;
use super::{Stop, reach, runtime};
use crate::conversation::Presence;
use crate::event::{ExitCode, Finding, VERSION};
use crate::report::{Report, doctor};
use crate::rollout;

/// Look at this machine, and at the hosts of an environment: what is wrong, and what to type
#[derive(Debug, clap::Args)]
pub struct Doctor {
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    pace: Pace,
}

/// Looks.
pub fn run(arguments: &Doctor, folder: &Path, report: &Report) -> Result<ExitCode, Stop> {
    let mut findings = laptop::tools();
    if arguments.target.environment.is_none() {
        let project = Project::find(folder).map_err(Stop::usage)?;
        findings.extend(laptop::inventories(&project));
        return Ok(tell(&findings, report));
    }
    let environment = Environment::read(&arguments.target, arguments.pace, folder)?;
    findings.push(Finding::fine(format!(
        "inventory/{}.toml has no mistakes",
        environment.fleet.environment
    )));
    findings.extend(laptop::programs(&environment));
    findings.extend(laptop::secrets(&environment, report));
    let asked = runtime::run(async |interrupt| {
        let targets = environment.targets().await?;
        let mut found = laptop::identities(targets.values()).await;
        let began = now_unix_s();
        let access = reach::access(&environment, Presence::AsFound, report, interrupt).await?;
        let answers = rollout::statuses(access).await;
        let asked = host::Asked {
            environment: &environment,
            clock: began..=now_unix_s(),
        };
        found.extend(asked.clock_of_the_laptop(&answers));
        for (name, answer) in &answers {
            found.extend(asked.findings(name, answer));
        }
        Ok(found)
    })?;
    findings.extend(asked);
    Ok(tell(&findings, report))
}

/// Shows everything, and returns the code of what is worst.
fn tell(findings: &[Finding], report: &Report) -> ExitCode {
    let mut subjects: Vec<_> = findings.iter().map(|finding| &finding.host).collect();
    subjects.dedup();
    for subject in subjects {
        let about: Vec<&Finding> = findings
            .iter()
            .filter(|finding| finding.host == *subject)
            .collect();
        let name = subject
            .as_ref()
            .map_or("this machine", |host| host.as_str());
        report.answer(&doctor::about(name, &about));
    }
    report.answer(&doctor::summary(findings));
    for finding in findings {
        report.json(&serde_json::json!({"v": VERSION, "type": "finding", "finding": finding}));
    }
    findings
        .iter()
        .map(Finding::exit)
        .max()
        .unwrap_or(ExitCode::Done)
}

fn now_unix_s() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}
